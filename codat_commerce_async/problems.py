"""Errors as responses of your own HTTP API: problem details by RFC 9457."""

import math
from collections.abc import Mapping
from datetime import datetime

from attrs import field, frozen

from codat_commerce_async._core.log import extra_fields, logger_of
from codat_commerce_async._core.validation import check_instance
from codat_commerce_async.errors import (
    AuthenticationError,
    BadRequestError,
    ClientClosedError,
    CodatError,
    ConflictError,
    DecodeError,
    DeliveryStoreError,
    IdempotencyMismatchError,
    JournalError,
    JournalInUseError,
    NotFoundError,
    OutcomeUnknownError,
    PaymentRequiredError,
    PermissionDeniedError,
    QuotaExhaustedError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
    SharedQuotaError,
    StatusError,
    SyncFailedError,
    SyncWaitTimeoutError,
    TransportError,
    WebhookVerificationError,
    WrongEventLoopError,
)
from codat_commerce_async.models.error_message import ErrorValidationItem
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.models.sync import SyncStatus

__all__ = ["NO_SUCH_SYNC", "PROBLEM_MEDIA_TYPE", "Problem", "problem"]

PROBLEM_MEDIA_TYPE = "application/problem+json"

_TYPE = "urn:codat-commerce-async:problem:"
_MISCONFIGURED = 500

_NOT_SENT = "Codat could not be reached, so the request was not sent."

_logger = logger_of("calls")


@frozen
class _Row:
    """The response for a class of errors; without a `detail`, the error's own message is sent.

    The message is kept back where it is about this service and its key, which is no concern of its callers.
    """

    status: int
    name: str
    title: str
    detail: str | None = None
    retry_after: float | None = None


_ROWS: Mapping[type[CodatError], _Row] = {
    CodatError: _Row(500, "internal-error", "The request failed", "An error occurred in this service."),
    BadRequestError: _Row(422, "invalid-request", "Codat rejected the request"),
    NotFoundError: _Row(404, "not-found", "Not found at Codat"),
    ConflictError: _Row(409, "conflict", "Codat is not ready for the request"),
    IdempotencyMismatchError: _Row(409, "idempotency-mismatch", "The idempotency key belongs to another request"),
    SyncFailedError: _Row(409, "sync-failed", "The sync failed"),
    AuthenticationError: _Row(
        500, "authentication", "This service is misconfigured", "Codat does not accept the credentials of this service."
    ),
    PermissionDeniedError: _Row(
        500, "permission-denied", "This service is misconfigured", "This service may not access the resource at Codat."
    ),
    JournalError: _Row(500, "journal", "This service cannot store its progress", "The journal is not available."),
    SharedQuotaError: _Row(
        500, "shared-quota", "This service is misconfigured", "The store of the request quota cannot be used."
    ),
    DeliveryStoreError: _Row(
        500, "delivery-store", "This service is misconfigured", "The store of webhook deliveries cannot be used."
    ),
    JournalInUseError: _Row(
        503, "journal-in-use", "This service is busy", "Another process is writing the journal.", 60.0
    ),
    WrongEventLoopError: _Row(
        500, "wrong-event-loop", "This service is misconfigured", "The client belongs to another event loop."
    ),
    TransportError: _Row(502, "no-response", "No response from Codat", "Codat sent no complete response."),
    StatusError: _Row(502, "unexpected-status", "Codat failed", "Codat responded with an error."),
    ServerError: _Row(502, "server-error", "Codat failed", "Codat responded with an error."),
    DecodeError: _Row(502, "invalid-response", "Codat failed", "Codat sent a response that cannot be processed."),
    OutcomeUnknownError: _Row(
        502,
        "outcome-unknown",
        "It is not known whether the request was carried out",
        "Codat may have carried the request out. Check its result before you repeat it.",
    ),
    PaymentRequiredError: _Row(
        503, "account-limit", "The service is limited at Codat", "A limit of the Codat account is reached.", 3600.0
    ),
    RateLimitError: _Row(503, "rate-limit", "Too many requests", "The request rate at Codat is exceeded.", 60.0),
    QuotaExhaustedError: _Row(
        503, "quota-exhausted", "The daily quota is exhausted", "The daily request quota at Codat is exhausted.", 3600.0
    ),
    ClientClosedError: _Row(503, "shutting-down", "The service is shutting down", "Send the request again.", 1.0),
    RequestTimeoutError: _Row(504, "timeout", "Codat did not respond in time", "Codat sent no response in time."),
    SyncWaitTimeoutError: _Row(504, "sync-not-ended", "The sync has not ended yet"),
    WebhookVerificationError: _Row(401, "webhook-not-verified", "The webhook cannot be verified"),
}


@frozen(kw_only=True)
class Problem:
    """The response to send for an error.

    The members of `extensions` are `correlation_id` for Codat's support, `validation_errors`, `reset_at`,
    `sync_status_code`, `sync_state`, and `company_id` with `sync_token`, from which `SyncHandle.from_token` returns the
    handle of the sync.
    """

    status: int
    """The HTTP status."""

    type: str
    """A URI that identifies the kind of problem."""

    title: str
    """The kind of problem in a few words."""

    detail: str
    """What happened this time."""

    headers: Mapping[str, str] = field(factory=dict[str, str])
    """Headers to send with the response, such as `Retry-After`."""

    extensions: Mapping[str, object] = field(factory=dict[str, object])
    """Further members of the body."""

    def to_dict(self) -> dict[str, object]:
        """Return the body, to be sent as JSON with the content type `PROBLEM_MEDIA_TYPE`."""
        members = {"type": self.type, "title": self.title, "status": self.status, "detail": self.detail}
        return {**self.extensions, **members}


NO_SUCH_SYNC = Problem(
    status=404,
    type=_TYPE + "no-such-sync",
    title="There is no such sync",
    detail="The token in the URL is not the token of a sync.",
)
"""The response to a URL whose token `SyncHandle.from_token` refuses."""


def problem(error: CodatError) -> Problem:
    """Return the response for an error; it contains no credentials, no idempotency key and nothing about this service.

    A problem of the caller gets a 4xx status, one of this service's configuration 500, one of Codat 502 or 504, and
    what passes with time 503 with `Retry-After`. As the body of a 500 leaves out what to correct, it is logged at
    ERROR with the message of the error.

    https://www.rfc-editor.org/rfc/rfc9457

    Args:
        error: The error to respond with.

    Example:
        ```python
        try:
            await codat.sync.run("unknown")
        except CodatError as error:
            response = problem(error)
            print(response.status, response.to_dict())
        ```
    """
    check_instance("error", error, CodatError)
    row = next(_ROWS[cls] for cls in type(error).__mro__ if cls in _ROWS)
    if row.status == _MISCONFIGURED:
        _logger.error("%s: %s", row.title, error.message, extra=extra_fields(error=error))
    return Problem(
        status=row.status,
        type=_TYPE + row.name,
        title=row.title,
        detail=_detail(error, row),
        headers=_headers(error, row),
        extensions={name: value for name, value in _extensions(error).items() if value is not None},
    )


def _detail(error: CodatError, row: _Row) -> str:
    if type(error) is TransportError and not error.sent:
        return _NOT_SENT
    return error.message if row.detail is None else row.detail


def _headers(error: CodatError, row: _Row) -> dict[str, str]:
    given = getattr(error, "retry_after", None)
    seconds = given if isinstance(given, int | float) and math.isfinite(given) and given >= 0 else row.retry_after
    return {} if seconds is None else {"Retry-After": str(math.ceil(seconds))}


def _extensions(error: CodatError) -> dict[str, object]:
    # An error that was rebuilt from JSON may hold values of other types.
    correlation_id, reset_at = getattr(error, "correlation_id", None), getattr(error, "reset_at", None)
    return {
        "correlation_id": correlation_id if isinstance(correlation_id, str) else None,
        "reset_at": reset_at.isoformat() if isinstance(reset_at, datetime) else None,
        "validation_errors": _validation_errors(error),
        **_sync(getattr(error, "handle", None)),
        **_status(getattr(error, "status", None)),
        **_status(getattr(error, "last_status", None)),
    }


def _validation_errors(error: CodatError) -> list[dict[str, object]] | None:
    items = error.validation_errors if isinstance(error, BadRequestError | NotFoundError | ConflictError) else ()
    return [item.to_dict() for item in items if isinstance(item, ErrorValidationItem)] or None


def _sync(handle: object) -> dict[str, object]:
    if not isinstance(handle, SyncHandle):
        return {}
    return {"company_id": handle.company_id, "sync_token": handle.to_token()}


def _status(status: object) -> dict[str, object]:
    if not isinstance(status, SyncStatus):
        return {}
    return {"sync_status_code": status.sync_status_code, "sync_state": status.state.value}
