"""Record the attempts of one call, and emit its events; the final error and the response are made from the record."""

from asyncio import AbstractEventLoop
from datetime import UTC, datetime
from random import Random

from codat_commerce_async._core.instrumentation import Instrumentation
from codat_commerce_async._core.lifecycle import Clock
from codat_commerce_async._core.operation import Operation
from codat_commerce_async._core.retry import CallState
from codat_commerce_async._core.transport import Response
from codat_commerce_async.errors import CodatError, OutcomeUnknownError, RequestTimeoutError, StatusError
from codat_commerce_async.hooks import RequestEnded
from codat_commerce_async.models.call import Attempt, Call
from codat_commerce_async.policies import RetryPolicy

__all__ = ["CallRecord"]

# An Attempt's fields, as most calls never need the object: number, start (epoch), quota wait, elapsed, status, result.
_AttemptFields = tuple[int, float, float, float, int | None, str]


class CallRecord:
    """What is known of one call and its attempts."""

    __slots__ = (
        "_attempts",
        "_call_started_at",
        "_clock",
        "_first_attempt_at",
        "_id",
        "_instrumentation",
        "_key_left",
        "_loop",
        "_quota_wait",
        "_random",
        "_sent_at",
        "_started_at",
        "_timeout",
        "attempt_count",
        "company_id",
        "key",
        "operation",
        "policy",
        "requested_delay",
        "state",
    )

    def __init__(
        self,
        operation: Operation[object],
        company_id: str | None,
        key: str | None,
        *,
        policy: RetryPolicy,
        timeout: float | None,
        key_left: float | None,
        instrumentation: Instrumentation,
        clock: Clock,
        random: Random,
    ) -> None:
        self.operation = operation
        self.company_id = company_id
        self.key = key
        """The idempotency key; one for all attempts."""
        self.policy = policy
        self._timeout = timeout
        self._key_left = key_left
        self._instrumentation = instrumentation
        self._clock = clock
        self._random = random
        self._attempts: tuple[_AttemptFields, ...] = ()
        self._first_attempt_at = 0.0
        self.attempt_count = 0
        """How many attempts have started."""
        self.requested_delay: float | None = None
        """The seconds that the response to the last attempt requires to wait, if it does."""

    def start(self, loop: AbstractEventLoop) -> None:
        """Record that the call starts."""
        self._loop = loop
        self._call_started_at = loop.time()
        self.state = None if self._key_left is None else self._new_state()
        """What retries know of the attempts; None while none has failed and the key is new."""
        instrumentation = self._instrumentation
        self._id = next(instrumentation.call_ids)
        if instrumentation.has_start_listener:
            instrumentation.call_started(self._id, self.operation, self.company_id)

    def known_state(self) -> CallState:
        """Return the state that retries need; the first failure of the call creates it."""
        if self.state is None:
            self.state = self._new_state()
            if self.attempt_count:
                self.state.record_start(self._sent_at, self._started_at)
        return self.state

    def _new_state(self) -> CallState:
        deadline = None if self._timeout is None else self._call_started_at + self._timeout
        return CallState(self.operation, self.policy, self._clock, self._random, deadline, key_left=self._key_left)

    def start_attempt(self, arrived: float) -> None:
        """Record that an attempt starts, which has waited for the rate limiter since `arrived`."""
        began = self._loop.time() if self.state is None else self.state.start()
        self._started_at = self._clock.now()
        self._first_attempt_at = self._first_attempt_at or self._started_at
        self._quota_wait, self._sent_at = began - arrived, began
        self.attempt_count += 1
        self.requested_delay = None

    def emit_request_started(self, headers: dict[str, str]) -> None:
        """Pass the headers of an attempt to the hook, which may change them."""
        since_call_start = self._sent_at - self._call_started_at
        self._instrumentation.request_started(
            self._id, self.operation.name, self.attempt_count, self._quota_wait, headers, since_call_start
        )

    def finish_attempt(self, response: Response | None, error: BaseException | None, *, sent: bool) -> None:
        """Record the attempt's result, and emit it.

        A cancelled attempt that was `sent` stays marked in flight, because the server may have received it.
        """
        elapsed = self._loop.time() - self._sent_at
        status = response.status if response is not None else None
        result = "ok" if error is None else _describe(error)
        if error is None:
            if self.state is not None:
                self.state.succeed()
        elif isinstance(error, CodatError):
            self.known_state().fail(error, self.requested_delay)
        elif not sent:
            self.known_state().never_sent()
        if error is None or isinstance(error, CodatError):
            self._attempts += ((self.attempt_count, self._started_at, self._quota_wait, elapsed, status, result),)
        instrumentation = self._instrumentation
        if instrumentation.has_response_listener or instrumentation.logs_responses():
            event = RequestEnded(
                self._id,
                self.operation.name,
                self.attempt_count,
                elapsed,
                status,
                len(response.body) if response is not None else 0,
                result if status is None else None,
                error.correlation_id if isinstance(error, StatusError) else None,
                type(error).__name__ if error is not None else None,
            )
            instrumentation.request_ended(event, self._quota_wait, result, self.operation, self.company_id)

    def emit_retry(self, error: CodatError, seconds: float) -> None:
        """Emit that the request will be sent again after so many seconds."""
        waited, elapsed = self._attempts[-1][2:4]
        self._instrumentation.retried(
            self._id, self.operation, self.company_id, self.attempt_count, waited, elapsed, seconds, error
        )

    def emit_call_ended(self, response: Response | None, error: BaseException | None) -> None:
        """Emit that the call has ended."""
        if self._instrumentation.has_call_listener:
            self._instrumentation.call_ended(
                self._id,
                self.operation.name,
                self._loop.time() - self._call_started_at,
                self.attempt_count,
                response.status if response else None,
                type(error).__name__ if error else None,
            )

    def timeout_error(self) -> RequestTimeoutError:
        """Return the error of a call that took longer than its timeout."""
        waiting = "" if self.attempt_count else ", and was still waiting for its turn at the quota"
        return RequestTimeoutError(f"the call took longer than its timeout{waiting}", None, self.known_state().reached)

    def final_error(self, error: CodatError) -> CodatError:
        """Return the error to raise: OutcomeUnknownError if a write may have happened."""
        call = self.to_call()
        error.with_call(call)
        # Closing interrupts with a CancelledError, whose frames hold the request and its headers.
        error.__context__ = None
        if not self.known_state().outcome_unknown:
            return error
        unknown = OutcomeUnknownError(
            f"it may or may not have happened: {error.message}",
            call,
            self._clock.server_time(self._first_attempt_at),
            error.correlation_id if isinstance(error, StatusError) else None,
        )
        unknown.__cause__ = error
        status = error.status if isinstance(error, StatusError) else None
        self._instrumentation.outcome_unknown(unknown, self.company_id, status)
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
            for number, started_at, quota_wait, elapsed, status, result in self._attempts
        )


def _describe(error: BaseException) -> str:
    return error.message if isinstance(error, CodatError) else "interrupted"
