"""Webhook consumers: the addresses that Codat sends events to."""

from attrs import field, frozen

from codat_commerce_async.models.base import UNSET, Model, Unset
from codat_commerce_async.models.enums import WebhookEventType

__all__ = ["CreateWebhookConsumer", "WebhookConsumer", "WebhookConsumers"]


@frozen(kw_only=True)
class WebhookConsumer(Model):
    """An address that Codat sends events to; without event types it receives all, without tags those of all companies.

    The repr does not contain the URL, which may hold a token of yours.
    Source: https://docs.codat.io/platform-api#/schemas/WebhookConsumer
    """

    id: str | None = None
    url: str | None = field(default=None, repr=False)
    disabled: bool | None = None
    event_types: tuple[WebhookEventType, ...] = ()
    company_tags: tuple[str, ...] = ()


@frozen(kw_only=True)
class WebhookConsumers(Model):
    """All webhook consumers of the client, at most 50."""

    results: tuple[WebhookConsumer, ...] = ()


@frozen(kw_only=True)
class CreateWebhookConsumer(Model):
    """A webhook consumer to create."""

    url: str = field(repr=False)
    disabled: bool | Unset | None = UNSET
    event_types: tuple[WebhookEventType, ...] | Unset | None = UNSET
    company_tags: tuple[str, ...] | Unset | None = UNSET
