"""Record what is known of one call and its attempts; retries, events and errors are made from the record."""

from asyncio import AbstractEventLoop
from datetime import UTC, datetime
from random import Random
from typing import Generic, TypeVar

from attrs import define, field

from codat_commerce_async._core import headers as _headers
from codat_commerce_async._core.credentials import Credentials
from codat_commerce_async._core.instrumentation import Instrumentation
from codat_commerce_async._core.lifecycle import Clock
from codat_commerce_async._core.operation import Operation
from codat_commerce_async._core.request import merge_headers
from codat_commerce_async._core.retry import RetryState
from codat_commerce_async._core.transport import Request, Response
from codat_commerce_async.errors import CodatError, OutcomeUnknownError, RequestTimeoutError, StatusError
from codat_commerce_async.hooks import CallEnded, RequestEnded, RequestStarted, Retried
from codat_commerce_async.models.call import ApiResponse, Attempt, Call
from codat_commerce_async.policies import RetryPolicy

__all__ = ["CallRecord", "EndedAttempt"]

T = TypeVar("T")

EndedAttempt = tuple[int, float, float, float, int | None, str]
"""The fields of an `Attempt`, as most calls never need the object: number, start (epoch seconds), quota wait, elapsed,
status, result."""


@define(eq=False, repr=False)
class CallRecord(Generic[T]):
    """One call: what it is, and its attempts so far.

    The pipeline keeps the fields up to date. No method runs for a call that succeeds at once and has no listeners.
    """

    operation: Operation[T]
    company_id: str | None
    key: str | None
    """The idempotency key; one for all attempts."""
    request: Request
    policy: RetryPolicy
    timeout: float | None
    key_valid_for: float | None
    instrumentation: Instrumentation
    clock: Clock
    random: Random
    loop: AbstractEventLoop = field(init=False)
    id: int = field(init=False)
    """The id of the call in events."""
    started_at: float = field(init=False)
    """When the call started, on the event loop's clock."""
    attempt_count: int = field(default=0, init=False)
    """How many attempts have started."""
    attempt_wall_time: float = field(init=False)
    """When the last of them started, in epoch seconds."""
    attempt_loop_time: float = field(init=False)
    """The same on the event loop's clock."""
    quota_wait: float = field(init=False)
    """For how many seconds it had waited for the rate limiter."""
    requested_delay: float | None = field(default=None, init=False)
    """For how many seconds its response requires to wait, if it does."""
    ended: tuple[EndedAttempt, ...] = field(default=(), init=False)
    """The attempts that have ended."""
    state: RetryState | None = field(default=None, init=False)
    """What retries need of the attempts; None while none has failed and the key is new."""

    def ensure_state(self) -> RetryState:
        """Return what retries need of the attempts; create it if there is none yet."""
        if self.state is None:
            deadline = None if self.timeout is None else self.started_at + self.timeout
            key_valid_for = self.key_valid_for
            self.state = RetryState(
                self.operation, self.policy, self.clock, self.random, deadline, key_valid_for=key_valid_for
            )
            if self.attempt_count:
                self.state.record_start(self.attempt_loop_time, self.attempt_wall_time)
        return self.state

    def fail_attempt(self, response: Response | None, error: BaseException, *, maybe_sent: bool) -> None:
        """Record that the attempt failed, and emit it.

        A cancelled attempt that is `maybe_sent` stays marked in flight, because the server may have received it.
        """
        result, elapsed = "interrupted", self.loop.time() - self.attempt_loop_time
        status = response.status if response is not None else None
        if isinstance(error, CodatError):
            result = error.message
            self.ensure_state().fail(error, self.requested_delay)
            self.ended += ((self.attempt_count, self.attempt_wall_time, self.quota_wait, elapsed, status, result),)
        elif not maybe_sent:
            self.ensure_state().never_sent()
        if self.instrumentation.observes_responses():
            self.emit_request_ended(elapsed, response, result, error)

    def hooked_request(self) -> Request:
        """Emit that the attempt starts, and return its request with the headers that a hook adds.

        Headers that are the client's own to set are kept as they were.
        """
        request, instrumentation = self.request, self.instrumentation
        headers = request.headers.copy()
        since_call_start = self.attempt_loop_time - self.started_at
        instrumentation.request_started(
            RequestStarted(self.id, self.operation.name, self.attempt_count, self.quota_wait, headers, since_call_start)
        )
        merged = merge_headers(request.headers, headers, instrumentation.header_refused)
        return Request(request.method, request.target, merged, request.body)

    def emit_call_started(self) -> None:
        """Emit that the call starts."""
        self.instrumentation.call_started(self)

    def emit_request_ended(
        self, elapsed: float, response: Response | None, result: str, error: BaseException | None
    ) -> None:
        """Emit the result of an attempt."""
        status = response.status if response is not None else None
        event = RequestEnded(
            self.id,
            self.operation.name,
            self.attempt_count,
            elapsed,
            status,
            len(response.body) if response is not None else 0,
            result if status is None else None,
            error.correlation_id if isinstance(error, StatusError) else None,
            type(error).__name__ if error is not None else None,
        )
        self.instrumentation.request_ended(self, event, result, self.quota_wait)

    def emit_retry(self, error: CodatError, seconds: float) -> None:
        """Emit that the request will be sent again after the given seconds."""
        quota_wait, elapsed = self.ended[-1][2:4]
        event = Retried(self.id, self.operation.name, self.attempt_count, seconds, error.message, type(error).__name__)
        self.instrumentation.retried(self, event, error, quota_wait, elapsed)

    def emit_call_ended(self, response: Response | None, error: BaseException | None) -> None:
        """Emit that the call has ended."""
        if self.instrumentation.has_call_listener:
            event = CallEnded(
                self.id,
                self.operation.name,
                self.loop.time() - self.started_at,
                self.attempt_count,
                response.status if response else None,
                type(error).__name__ if error else None,
            )
            self.instrumentation.call_ended(event)

    def timeout_error(self) -> RequestTimeoutError:
        """Return the error of a call that took longer than its timeout."""
        waiting = "" if self.attempt_count else ", and was still waiting for its turn at the quota"
        return RequestTimeoutError(f"the call took longer than its timeout{waiting}", None, self.ensure_state().reached)

    def final_error(self, error: CodatError) -> CodatError:
        """Return the error to raise: OutcomeUnknownError if a write may have happened."""
        call = self.to_call()
        error.with_call(call)
        # Closing interrupts with a CancelledError, whose frames hold the request and its headers.
        error.__context__ = None
        if not self.ensure_state().outcome_unknown:
            return error
        # An interrupted attempt is not among those that have ended; it is the first one then.
        first_started_at = self.ended[0][1] if self.ended else self.attempt_wall_time
        unknown = OutcomeUnknownError(
            f"the write may or may not have happened: {error.message}",
            call,
            self.clock.server_time(first_started_at),
            error.correlation_id if isinstance(error, StatusError) else None,
        )
        unknown.__cause__ = error
        status = error.status if isinstance(error, StatusError) else None
        self.instrumentation.outcome_unknown(unknown, self.company_id, status)
        return unknown

    def to_call(self) -> Call:
        """Return the call with its attempts, as errors contain it."""
        operation = self.operation
        return Call(
            operation=operation.name,
            method=operation.method,
            path=operation.path,
            idempotency_key=self.key,
            attempts=self.attempts(),
        )

    def to_response(self, value: T, response: Response, credentials: Credentials) -> ApiResponse[T]:
        """Return the value together with what is known of its response."""
        correlation_id = _headers.correlation_id(response.headers)
        return ApiResponse(
            value=value,
            status=response.status,
            headers={name.lower(): credentials.redact_text(value) for name, value in response.headers.items()},
            rate_limit=_headers.rate_limit(response.headers, self.clock.now()),
            server_time=_headers.server_time(response.headers),
            correlation_id=credentials.redact_text(correlation_id) if correlation_id else None,
            idempotency_key=self.key,
            attempts=self.attempts(),
        )

    def attempts(self) -> tuple[Attempt, ...]:
        """Return the attempts that have ended."""
        return tuple(
            Attempt(
                number=number,
                started_at=datetime.fromtimestamp(started_at, UTC),
                quota_wait=quota_wait,
                elapsed=elapsed,
                status=status,
                result=result,
            )
            for number, started_at, quota_wait, elapsed, status, result in self.ended
        )
