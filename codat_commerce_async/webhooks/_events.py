"""Parse the body of a delivery into a typed event, and read the company and the quota from it."""

from collections.abc import Mapping
from datetime import timedelta

from codat_commerce_async._core.codec import decode, structure
from codat_commerce_async._core.headers import MAX_RESET_DISTANCE
from codat_commerce_async._core.log import extra_fields, logger_of, named
from codat_commerce_async._core.validation import as_utc
from codat_commerce_async.errors import DecodeError
from codat_commerce_async.models.call import RateLimit
from codat_commerce_async.models.companies import Company
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

__all__ = ["company_id_of", "description_of", "log_fields", "parse_event", "rate_limit_from_event"]

_logger = logger_of("webhooks")

_REACHED = "client.rateLimit.reached"


def parse_event(body: bytes) -> WebhookEvent[object]:
    """Return the body of a delivery as the class of its event type. Accept every body.

    The type is in `eventType`, in `type` (some of Codat's examples), or in `RuleType` (the older rule events). An event
    of a type without a model, or with a payload that does not fit its model (which is logged), is an `UnknownEvent`.
    So is an unknown envelope: its payload is then the whole body as parsed JSON, or as text if it is not JSON.

    Args:
        body: The raw body of the delivery.
    """
    data = _parsed(body)
    envelope = _envelope(data if isinstance(data, dict) else {}, data)
    kind = event_class(str(envelope["eventType"])) if envelope["payload"] is not data else UnknownEvent
    try:
        return structure(envelope, kind)
    except DecodeError as error:
        event = structure(envelope, UnknownEvent)
        _logger.warning(
            "webhook %s does not fit %s at %s",
            named(repr(envelope["eventType"]), company_id_of(event)),
            kind.__name__,
            error.path,
            extra=log_fields(event),
        )
        return event


def _parsed(body: bytes) -> object:
    try:
        return decode(body, object)
    except DecodeError:
        return body.decode(errors="backslashreplace")


def _envelope(fields: Mapping[str, object], data: object) -> dict[str, object]:
    """Return the documented envelope, filled from whatever envelope was received."""
    return {
        "id": _first_text(fields, "id", "AlertId"),
        "eventType": _first_text(fields, "eventType", "type", "RuleType") or "",
        "generatedDate": _first_text(fields, "generatedDate"),
        "payload": fields.get("payload", data),
    }


def _first_text(fields: Mapping[str, object], *keys: str) -> str | None:
    return next((value for key in keys if isinstance(value := fields.get(key), str) and value), None)


def company_id_of(event: WebhookEvent[object]) -> str | None:
    """Return the id of the company that an event is about; None if it is about no company.

    Args:
        event: The event.
    """
    match event.payload:
        case Company(id=company_id) | CompanyProductPayload(id=company_id):
            return company_id
        case ConnectionPayload() | ReadCompletedPayload() | WritePayload() as payload:
            return payload.reference_company.id if payload.reference_company else None
        case {"referenceCompany": {"id": str(company_id)}} | {"CompanyId": str(company_id)}:
            return company_id
    return None


def description_of(event: WebhookEvent[object]) -> str:
    """Return the type of an event, with its company if it has one, for the text of a log record."""
    return named(event.event_type, company_id_of(event))


def log_fields(event: WebhookEvent[object]) -> dict[str, object]:
    """Return the `extra` fields of a log record about an event."""
    return extra_fields(company_id_of(event))


def rate_limit_from_event(event: RateLimitEvent) -> RateLimit | None:
    """Return the daily quota that an event reports; None for an event without a date.

    Codat's own example has a reset that is not a time; midnight (UTC) is assumed then.
    """
    if event.generated_date is None:
        return None
    observed_at, reset = as_utc(event.generated_date), event.payload.expiry_date
    if reset is None or not observed_at < as_utc(reset) <= observed_at + MAX_RESET_DISTANCE:
        reset = observed_at.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    return RateLimit(
        limit=event.payload.daily_quota,
        remaining=0 if event.event_type == _REACHED else event.payload.quota_remaining,
        reset=as_utc(reset),
        observed_at=observed_at,
    )
