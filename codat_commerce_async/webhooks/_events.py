"""The body of a delivery as a typed event, and what the event is about."""

import logging
from datetime import UTC, datetime, timedelta

from codat_commerce_async._codec import decode
from codat_commerce_async.errors import DecodeError
from codat_commerce_async.models.companies import Company
from codat_commerce_async.models.exchange import RateLimit
from codat_commerce_async.models.webhook_events import (
    CompanyProductPayload,
    ConnectionPayload,
    RateLimitEvent,
    ReadCompletedPayload,
    UnknownEvent,
    WebhookEvent,
    WritePayload,
    event_class,
)

__all__ = ["company_id_of", "parse_event", "quota_told"]

_logger = logging.getLogger("codat_commerce_async")

_REACHED = "client.rateLimit.reached"
# The daily quota starts anew within a day; leave room for skewed clocks.
_SANE = timedelta(hours=48)


def parse_event(body: bytes) -> WebhookEvent[object]:
    """The event that a body tells of, as the class of its type.

    A type that is not known comes as an `UnknownEvent`, and so does one whose payload is not what it should be (which
    is logged), so that no event is lost by a change at Codat. Raises DecodeError for a body that is no event at all.
    """
    raw = _raw_event(body)
    kind = event_class(raw.event_type)
    if kind is UnknownEvent:
        return raw
    try:
        return decode(body, kind)
    except DecodeError as error:
        _logger.warning("a webhook's %s is not as it should be at %s", kind.__name__, error.path)
    return raw


def _raw_event(body: bytes) -> UnknownEvent:
    try:
        return decode(body, UnknownEvent)
    except DecodeError as error:
        raise DecodeError("the webhook's body is no event", None, error.path) from None


def company_id_of(event: WebhookEvent[object]) -> str | None:
    """The id of the company that an event is about, if it is about one."""
    match event.payload:
        case Company(id=company_id) | CompanyProductPayload(id=company_id):
            return company_id
        case ConnectionPayload() | ReadCompletedPayload() | WritePayload() as payload:
            return payload.reference_company.id if payload.reference_company else None
        case {"referenceCompany": {"id": str(company_id)}}:
            return company_id
    return None


def quota_told(event: RateLimitEvent) -> RateLimit | None:
    """The day's quota as an event tells of it; None for an event that does not say when it was.

    Codat's own example has a reset that is no time; it is at midnight then.
    """
    if event.generated_date is None:
        return None
    told_at, reset = _in_utc(event.generated_date), event.payload.expiry_date
    if reset is None or not told_at < _in_utc(reset) <= told_at + _SANE:
        reset = told_at.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    return RateLimit(
        limit=event.payload.daily_quota,
        remaining=0 if event.event_type == _REACHED else event.payload.quota_remaining,
        reset=_in_utc(reset),
        observed_at=told_at,
    )


def _in_utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
