"""Everything that this library raises, as one tree.

CodatError
├── TransportError                 no complete response
│   └── RequestTimeoutError        ... in the time allowed (also a TimeoutError)
├── StatusError                    Codat responded with an error status
│   ├── BadRequestError            400
│   ├── AuthenticationError        401
│   ├── PaymentRequiredError       402
│   ├── PermissionDeniedError      403
│   ├── NotFoundError              404
│   ├── ConflictError              409
│   ├── IdempotencyMismatchError   422
│   ├── RateLimitError             429
│   └── ServerError                5xx
├── DecodeError                    the response is not what the API promises
├── OutcomeUnknownError            a write may or may not have happened
├── QuotaExhaustedError            the day's requests are spent
├── SyncFailedError                the sync failed
├── SyncWaitTimeoutError           polling stopped, the sync continues (also a TimeoutError)
├── JournalError                   a fan-out's journal cannot be opened, read or written
│   └── JournalInUseError          ... because another process is writing it
├── SharedQuotaError               the store of a shared quota cannot work as it is configured
├── DeliveryStoreError             the store of webhook deliveries cannot work as it is configured
├── ClientClosedError              the client was closed
├── WrongEventLoopError            the client belongs to another event loop
└── WebhookVerificationError       a webhook does not come from Codat, or not just now

Bad arguments raise ValueError or TypeError before anything is sent. Every error pickles, keeps its message through
JSON, and holds no credentials, no header and no unparsed body.

Each class declares its nature as `retryable`, `ambiguous` and `fatal_for_run` (see `CodatError`). Retries,
reconciliation, polling, fan-outs and the command line read these attributes instead of keeping lists of classes.
"""

from datetime import datetime
from typing import TYPE_CHECKING, ClassVar, Self

from codat_commerce_async._core.lazy import LazyModule
from codat_commerce_async._core.text import shown

if TYPE_CHECKING:
    from codat_commerce_async.models import call as _exchange
    from codat_commerce_async.models import error_message as _error_message
    from codat_commerce_async.models import handle as _handle
    from codat_commerce_async.models import sync as _sync
else:
    # The models import this module, and take longer to load than all the rest of it.
    _error_message = LazyModule("codat_commerce_async.models.error_message")
    _exchange = LazyModule("codat_commerce_async.models.call")
    _handle = LazyModule("codat_commerce_async.models.handle")
    _sync = LazyModule("codat_commerce_async.models.sync")

__all__ = [
    "AuthenticationError",
    "BadRequestError",
    "ClientClosedError",
    "CodatError",
    "ConflictError",
    "DecodeError",
    "DeliveryStoreError",
    "IdempotencyMismatchError",
    "JournalError",
    "JournalInUseError",
    "NotFoundError",
    "OutcomeUnknownError",
    "PaymentRequiredError",
    "PermissionDeniedError",
    "QuotaExhaustedError",
    "RateLimitError",
    "RequestTimeoutError",
    "ServerError",
    "SharedQuotaError",
    "StatusError",
    "SyncFailedError",
    "SyncWaitTimeoutError",
    "TransportError",
    "WebhookVerificationError",
    "WrongEventLoopError",
    "status_error_class",
]


class CodatError(Exception):
    """The base of everything that this library raises on purpose.

    `args` are the arguments of the class, so an error can be rebuilt from them: also by a task queue that has made JSON
    of them, whatever types they then are. The message survives that, the rest as far as JSON can hold it.

    Args:
        message: What happened, in one line without control characters.
        call: The call that the error is about, where there was one.
        *more: Further arguments of a subclass, kept in `args`.
    """

    # Not all of them are ClassVars: where it depends on facts, the instance has a value of its own.
    retryable: bool = False
    """Whether the same request may succeed if it is sent again later. Whether that is safe is another question."""

    ambiguous: bool = False
    """Whether the request may have been processed, so that a write may have happened."""

    fatal_for_run: ClassVar[bool] = False
    """Whether the error concerns every company: it ends a fan-out. Any other error is one company's outcome."""

    _call_in_args: ClassVar[bool] = True

    def __init__(self, message: str, call: "_exchange.Call | None" = None, *more: object) -> None:
        self.message = shown(message)
        self.call = call
        # Not by way of OSError's constructor, which stands behind TimeoutError and would take these for its own.
        self.args = (self.message, call, *more)

    def __str__(self) -> str:
        operation = self.operation
        return f"{operation}: {self.message}" if operation else self.message

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def with_call(self, call: "_exchange.Call") -> Self:
        """Set the call that the error is about, and return the error.

        Args:
            call: The call that the error is about.
        """
        self.call = call
        if self._call_in_args:
            self.args = (self.args[0], call, *self.args[2:])
        return self

    @property
    def operation(self) -> str | None:
        """The operation's name in Codat's reference, e.g. `request-sync`."""
        operation = getattr(self.call, "operation", None)
        return operation if isinstance(operation, str) else None

    @property
    def idempotency_key(self) -> str | None:
        """The key under which a write was sent; the same key never does the work twice for 90 minutes."""
        return getattr(self.call, "idempotency_key", None)

    @property
    def attempts(self) -> "tuple[_exchange.Attempt, ...]":
        """What was tried, in order."""
        return getattr(self.call, "attempts", ())


class TransportError(CodatError):
    """There was no complete response.

    Args:
        message: What happened, in one line.
        call: The call that the error is about.
        sent: False if the request certainly never reached the server.
        retryable: False if trying again cannot help: a certificate that does not match, an invalid URL.
        host: The server or proxy that was to be reached, where known.
        errno: The operating system's number of the failure, where known.
        reason: The words of the operating system or of OpenSSL, where known.
    """

    def __init__(
        self,
        message: str,
        call: "_exchange.Call | None" = None,
        sent: bool = True,  # noqa: FBT001, FBT002 - exceptions pickle by positional arguments
        retryable: bool = True,  # noqa: FBT001, FBT002 - likewise
        host: str | None = None,
        errno: int | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(message, call, sent, retryable, host, errno, reason)
        self.sent = self.ambiguous = sent
        self.retryable = retryable
        self.host = host
        self.errno = errno
        self.reason = reason


class RequestTimeoutError(TransportError, TimeoutError):
    """There was no complete response in the time allowed."""


class StatusError(CodatError):
    """Codat, or a gateway before it, responded with an error status.

    Args:
        message: What happened, in one line.
        call: The call that the error is about.
        status: The HTTP status.
        error: Codat's error message, None if the body is none.
        retry_after: Seconds that the server requires to wait.
        rate_limit: The daily quota that the response reports.
    """

    _follows_key: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        call: "_exchange.Call | None",
        status: int,
        error: "_error_message.ErrorMessage | None" = None,
        retry_after: float | None = None,
        rate_limit: "_exchange.RateLimit | None" = None,
    ) -> None:
        super().__init__(message, call, status, error, retry_after, rate_limit)
        if status in NOT_PROCESSED:
            self.retryable = True
        self.status = status
        self.error = error
        self.retry_after = retry_after
        self.rate_limit = rate_limit

    @property
    def conclusive(self) -> bool:
        """Whether no write has happened under the same idempotency key, by an earlier attempt either.

        Had it happened, Codat would have replayed its response. Gateways and the check of credentials respond before
        the key is checked.
        """
        return self._follows_key and self.error is not None

    @property
    def correlation_id(self) -> str | None:
        """The correlation id of the response, which Codat's support needs."""
        return getattr(self.error, "correlation_id", None)

    @property
    def validation_errors(self) -> "tuple[_error_message.ErrorValidationItem, ...]":
        """What the validation of the request found wrong."""
        return getattr(getattr(self.error, "validation", None), "errors", ())


class BadRequestError(StatusError):
    """400: the request is not valid."""

    _follows_key = True


class AuthenticationError(StatusError):
    """401: the API key is wrong."""

    fatal_for_run = True


class PaymentRequiredError(StatusError):
    """402: a limit of the account is reached, or the account has expired.

    It ends no run, because a limit of the account may concern some companies only.
    """


class PermissionDeniedError(StatusError):
    """403: the API key is outdated, or not for this resource.

    It ends no run, because the response does not show which of both it is: a company that belongs to another key must
    not stop the others. Pass `stop_when=stop_at_failure_rate(...)` to `run_many` to stop when most companies get it.
    """


class NotFoundError(StatusError):
    """404: unknown, already deleted, or a data type that is not supported."""

    _follows_key = True


class ConflictError(StatusError):
    """409: not ready yet, or the first request with this idempotency key is still being worked on."""

    retryable = True


class IdempotencyMismatchError(StatusError):
    """422: the idempotency key was used before with another body."""

    _follows_key = True


class RateLimitError(StatusError):
    """429: too many requests.

    Raised when the wait that the server requests is longer than `RetryPolicy` allows, or its attempts or time run out.
    """

    retryable = True


class ServerError(StatusError):
    """5xx: something is broken at the server, or under maintenance."""

    retryable = True
    ambiguous = True


class DecodeError(CodatError):
    """The response is not what the API promises.

    The value itself is not included, because it may be private.

    Args:
        message: What happened, in one line.
        call: The call that the error is about.
        path: Where the bad value is, such as `$.results[3].status`.
        status: The HTTP status of the response.
    """

    ambiguous = True

    def __init__(
        self, message: str, call: "_exchange.Call | None" = None, path: str | None = None, status: int | None = None
    ) -> None:
        super().__init__(message, call, path, status)
        self.path = path
        self.status = status


class OutcomeUnknownError(CodatError):
    """A write may or may not have happened: it was sent, but no response confirms or excludes it.

    If the write was a start, wait for `handle` to find the sync, also later and in another process.

    Args:
        message: What happened, in one line.
        call: The call that the error is about.
        requested_at: When the write was sent, by the server's clock where that is known.
        correlation_id: Codat's correlation id, if it responded.
        handle: What a start is waited for with.
        candidates: The ids of the syncs that may be the one.
    """

    ambiguous = True

    def __init__(
        self,
        message: str,
        call: "_exchange.Call | None" = None,
        requested_at: datetime | None = None,
        correlation_id: str | None = None,
        handle: "_handle.SyncHandle | None" = None,
        candidates: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message, call, requested_at, correlation_id, handle, candidates)
        self.requested_at = requested_at
        self.correlation_id = correlation_id
        self.handle = handle
        self.candidates = candidates

    @property
    def idempotency_key(self) -> str | None:
        """The key that it was sent with, possibly by an earlier process."""
        return super().idempotency_key or getattr(self.handle, "idempotency_key", None)


class QuotaExhaustedError(CodatError):
    """The day's requests are spent.

    Args:
        message: What happened, in one line.
        call: The call that the error is about.
        reset_at: When the quota resets, in UTC.
        retry_after: Seconds until then.
    """

    retryable = True

    def __init__(
        self,
        message: str,
        call: "_exchange.Call | None" = None,
        reset_at: datetime | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, call, reset_at, retry_after)
        self.reset_at = reset_at
        self.retry_after = retry_after


class SyncFailedError(CodatError):
    """The sync failed; `status` has the code and the message.

    Args:
        message: What happened, in one line.
        handle: The identity of the sync.
        status: Its terminal status.
    """

    _call_in_args = False

    def __init__(self, message: str, handle: "_handle.SyncHandle", status: "_sync.SyncStatus") -> None:
        super().__init__(message)
        self.args = (self.message, handle, status)
        self.handle = handle
        self.status = status


class SyncWaitTimeoutError(CodatError, TimeoutError):
    """The wait timed out; the sync continues at Codat, and `handle` can be waited for again.

    Args:
        message: What happened, in one line.
        handle: The identity of the sync, to wait for it again.
        last_status: The newest status; None if there was none.
        elapsed: Seconds waited.
        polls: How often the sync was polled.
    """

    _call_in_args = False

    def __init__(
        self,
        message: str,
        handle: "_handle.SyncHandle",
        last_status: "_sync.SyncStatus | None",
        elapsed: float,
        polls: int,
    ) -> None:
        super().__init__(message)
        self.args = (self.message, handle, last_status, elapsed, polls)
        self.handle = handle
        self.last_status = last_status
        self.elapsed = elapsed
        self.polls = polls


class JournalError(CodatError):
    """A fan-out's journal cannot be opened, read or written; what was written before is safe."""

    fatal_for_run = True


class JournalInUseError(JournalError):
    """Another process is writing the journal; open it again when that process has ended."""


class SharedQuotaError(CodatError):
    """The store of a shared quota cannot work as it is configured, so nothing is sent; correct its path."""

    fatal_for_run = True


class DeliveryStoreError(CodatError):
    """The store of webhook deliveries cannot work as it is configured, so no event is handled; correct its path."""


class ClientClosedError(CodatError):
    """The client was closed, before or during the call."""

    fatal_for_run = True


class WrongEventLoopError(CodatError, RuntimeError):
    """The client belongs to the event loop that used it first; make one client per loop."""

    fatal_for_run = True


class WebhookVerificationError(CodatError):
    """A webhook's headers and body are not what Codat has signed just now; nothing in it can be trusted."""


_CLASSES: dict[int, type[StatusError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    402: PaymentRequiredError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    422: IdempotencyMismatchError,
    429: RateLimitError,
}


# The request was not processed, and may be sent again: 408 closes a connection that was idle for too long, 421 was sent
# over a connection that is not for this host, 425 must wait for a TLS handshake.
# https://www.rfc-editor.org/rfc/rfc9110#section-15.5.9, -15.5.20, https://www.rfc-editor.org/rfc/rfc8470#section-5.2
NOT_PROCESSED = (408, 421, 425)


def is_retryable_status(status: int) -> bool:
    """Return whether the same request may receive another status if it is sent again later."""
    return status in NOT_PROCESSED or status_error_class(status).retryable


def status_error_class(status: int) -> type[StatusError]:
    """Return the class for an HTTP status; plain `StatusError` for one that Codat does not document.

    Args:
        status: The HTTP status.
    """
    return _CLASSES.get(status, ServerError if status >= 500 else StatusError)  # noqa: PLR2004 - HTTP's own line


def error_class(name: str) -> type[CodatError]:
    """Return the error class of that name; CodatError if there is none."""
    named = globals().get(name)
    return named if isinstance(named, type) and issubclass(named, CodatError) else CodatError
