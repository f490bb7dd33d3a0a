"""Webhook consumers: the addresses that Codat sends events to."""

from attrs import field, frozen

from codat_commerce_async.models.base import UNSET, Model, Unset
from codat_commerce_async.models.enums import WebhookEventType

__all__ = ["CreateWebhookConsumer", "WebhookConsumer", "WebhookConsumers"]


@frozen(kw_only=True, slots=False)
class WebhookConsumer(Model):
    """An address that Codat sends events to; without event types it receives all, without tags those of all companies.

    The repr does not contain the URL, which may hold a token of yours.
    Source: https://docs.codat.io/platform-api#/schemas/WebhookConsumer
    """

    id: str | None = None
    """The id of the consumer."""

    url: str | None = field(default=None, repr=False)
    """The URL that receives the events."""

    disabled: bool | None = None
    """Whether no events are sent."""

    event_types: tuple[WebhookEventType, ...] = ()
    """The events that are sent; all if empty."""

    company_tags: tuple[str, ...] = ()
    """The tags of the companies whose events are sent; all companies if empty."""


@frozen(kw_only=True, slots=False)
class WebhookConsumers(Model):
    """All webhook consumers of the client, at most 50."""

    results: tuple[WebhookConsumer, ...] = ()
    """All consumers."""


@frozen(kw_only=True, slots=False)
class CreateWebhookConsumer(Model):
    """A webhook consumer to create."""

    url: str = field(repr=False)
    """The URL that receives the events."""

    disabled: bool | Unset | None = UNSET
    """Whether no events are sent."""

    event_types: tuple[WebhookEventType, ...] | Unset | None = UNSET
    """The events to send."""

    company_tags: tuple[str, ...] | Unset | None = UNSET
    """The tags of the companies whose events are sent."""
