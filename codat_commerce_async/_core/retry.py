"""Decide whether and when a failed request is sent again.

A failed attempt is repeated if its error is `retryable` and a table allows it for the kind of failure and the
idempotency of the operation. tenacity strategies limit the number of attempts, the delay that the server requests, and
the time. `reconcile.py` repeats starts of syncs, and creations of companies and connections, beyond one call;
`syncing/_poller.py` repeats polls.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from enum import Enum
from random import Random
from typing import TYPE_CHECKING, TypeVar, cast

from codat_commerce_async._core.idempotency import KEY_LIFETIME, FirstUse, key_expired
from codat_commerce_async._core.lazy import LazyModule
from codat_commerce_async._core.lifecycle import Clock
from codat_commerce_async._core.operation import Idempotency, Operation
from codat_commerce_async.errors import (
    NOT_PROCESSED,
    ClientClosedError,
    CodatError,
    ConflictError,
    QuotaExhaustedError,
    RateLimitError,
    ServerError,
    StatusError,
    TransportError,
)
from codat_commerce_async.policies import RetryPolicy

if TYPE_CHECKING:
    import tenacity
else:  # loaded by the first failure, not by the import
    tenacity = LazyModule("tenacity")

__all__ = [
    "MAX_IN_PROGRESS",
    "FailureKind",
    "RetryState",
    "classify",
    "is_safe",
    "repeat",
    "retrying",
]

T = TypeVar("T")

# Seconds for which a 409 is treated as our own first request being processed. `attempts` does not count these polls.
MAX_IN_PROGRESS = 180.0
# The minimum delay between two of these polls in seconds, as `attempts` does not bound them.
_MIN_IN_PROGRESS_DELAY = 0.05


class FailureKind(Enum):
    """What a failed attempt shows about the request, as far as it matters for another attempt."""

    NOT_SENT = "not_sent"
    """The server was not reached."""
    NO_RESPONSE = "no_response"
    """There was no complete response."""
    RATE_LIMITED = "rate_limited"
    """429."""
    NOT_PROCESSED = "not_processed"
    """408, 421 or 425."""
    IN_PROGRESS = "in_progress"
    """409 after a lost response: our own request is being processed."""
    SERVER_ERROR = "server_error"
    """5xx."""
    INVALID_RESPONSE = "invalid_response"
    """A response that another attempt would not make readable."""
    INCONCLUSIVE_REJECTION = "inconclusive_rejection"
    """A refusal that does not show whether an earlier attempt was processed."""
    FINAL = "final"
    """Any other error."""


# The idempotencies with which the same request (the same key and the same bytes) may be sent again, by kind of failure.
_SAFE_AFTER: Mapping[FailureKind, frozenset[Idempotency]] = {
    FailureKind.NOT_SENT: frozenset(Idempotency),
    # The key makes it safe: Codat replays its response, or does the work for the first time.
    FailureKind.NO_RESPONSE: frozenset({Idempotency.NATIVE, Idempotency.KEYED}),
    # The one response that Codat does not remember for a key: nothing was done.
    FailureKind.RATE_LIMITED: frozenset(Idempotency),
    FailureKind.NOT_PROCESSED: frozenset(Idempotency),
    # Our own first request is still being processed.
    FailureKind.IN_PROGRESS: frozenset({Idempotency.KEYED}),
    # The same key would only replay Codat's own 5xx for 90 minutes, and a new one may do the work twice. A gateway's
    # 5xx is not stored; `reconcile.py` resends the key of a start or creation after it.
    FailureKind.SERVER_ERROR: frozenset({Idempotency.NATIVE}),
    FailureKind.INVALID_RESPONSE: frozenset(),
    FailureKind.INCONCLUSIVE_REJECTION: frozenset(),
    FailureKind.FINAL: frozenset(),
}
# The failures after which a write may have happened. NO_RESPONSE is not among them: `RetryState._lost` records it, so
# that the write stays ambiguous when a later attempt fails in another way.
_AMBIGUOUS = frozenset({FailureKind.SERVER_ERROR, FailureKind.IN_PROGRESS, FailureKind.INVALID_RESPONSE})


def is_safe(kind: FailureKind, idempotency: Idempotency) -> bool:
    """Return whether a request of this idempotency may be sent again after such a failure."""
    return idempotency in _SAFE_AFTER[kind]


def classify(error: CodatError, *, lost_before: bool) -> FailureKind:
    """Return the kind of a failed attempt; `lost_before` if the response to an earlier attempt was lost."""
    match error:
        case ClientClosedError() | TransportError(sent=False):
            return FailureKind.NOT_SENT
        case TransportError():
            return FailureKind.NO_RESPONSE if error.retryable else FailureKind.INVALID_RESPONSE
        case QuotaExhaustedError():
            return FailureKind.INCONCLUSIVE_REJECTION
        case StatusError():
            return _classify_status(error, lost_before=lost_before)
        case _:
            return FailureKind.FINAL


def _classify_status(error: StatusError, *, lost_before: bool) -> FailureKind:
    match error:
        case RateLimitError():
            return FailureKind.RATE_LIMITED
        case StatusError(status=status) if status in NOT_PROCESSED:
            return FailureKind.NOT_PROCESSED
        case ConflictError() if lost_before:
            return FailureKind.IN_PROGRESS
        case ServerError():
            return FailureKind.SERVER_ERROR
        case StatusError() if lost_before and not error.conclusive:
            return FailureKind.INCONCLUSIVE_REJECTION
        case _:
            return FailureKind.FINAL


class RetryState:
    """The attempts of one call: what is known of them, and what follows for the next.

    It is created by the first failure, or for a key that was sent before the call. `retrying` passes some of its
    methods to tenacity as strategies.
    """

    __slots__ = (
        "_call_deadline",
        "_clock",
        "_first_attempt_at",
        "_first_use",
        "_idempotency",
        "_in_flight",
        "_in_progress_since",
        "_key_used_before",
        "_lost",
        "_not_counted",
        "_policy",
        "_random",
        "_reached",
        "_reset_wait",
        "attempt_count",
        "error",
        "kind",
        "requested_delay",
    )

    def __init__(
        self,
        operation: Operation[object],
        policy: RetryPolicy,
        clock: Clock,
        random: Random,
        call_deadline: float | None = None,
        *,
        key_valid_for: float | None = None,
    ) -> None:
        self._idempotency = operation.idempotency
        self._policy = policy
        self._clock = clock
        self._random = random
        self._call_deadline = call_deadline
        # When the key was first sent; nothing can have happened under it before.
        self._first_use: FirstUse | None = None
        if key_valid_for is not None:
            # `key_valid_for` accounts for the server's clock too; from here on, the local clocks count.
            age = KEY_LIFETIME - key_valid_for
            self._first_use = FirstUse(clock.now() - age, clock.time() - age, None)
        self._key_used_before = key_valid_for is not None
        # The response to an attempt was lost, so the write may have happened, whatever later attempts return.
        self._lost = False
        # An attempt that has ended may have reached the server.
        self._reached = False
        # The attempt under way has not ended; one that was cancelled never does.
        self._in_flight = False
        self._first_attempt_at = 0.0
        self._in_progress_since = 0.0
        self._reset_wait = 0.0
        self._not_counted = 0
        self.attempt_count = 0
        """How many attempts have started."""
        self.error: CodatError | None = None
        """The error of the last attempt, if it failed."""
        self.kind = FailureKind.FINAL
        """The kind of that error."""
        self.requested_delay: float | None = None
        """The delay in seconds that the server requests before the next attempt, if it does."""

    def record_start_now(self) -> float:
        """Record that an attempt starts now, and return the time of the event loop."""
        now = self._clock.time()
        self.record_start(now, self._clock.now())
        return now

    def record_start(self, loop_time: float, wall_time: float) -> None:
        """Record that an attempt started, at these times of the two clocks."""
        self.attempt_count += 1
        self._in_flight = True
        if self.attempt_count == 1:
            self._first_attempt_at = loop_time
        # Every attempt so far was refused, so the key is as good as new: its lifetime begins with this attempt.
        if self._idempotency is Idempotency.KEYED and not self.repeats_key:
            self._first_use = FirstUse(wall_time, loop_time, None)

    def succeed(self) -> None:
        """Record that the attempt received a response of success."""
        self._in_flight = False
        self._reached = True
        self.error = None
        self.kind = FailureKind.FINAL

    def fail(self, error: CodatError, requested_delay: float | None = None) -> None:
        """Record that the attempt failed."""
        self._in_flight = False
        self.error = error
        self.kind = kind = classify(error, lost_before=self._lost)
        self.requested_delay = requested_delay
        self._lost = self._lost or kind is FailureKind.NO_RESPONSE
        self._reached = self._reached or kind is not FailureKind.NOT_SENT
        if kind is FailureKind.IN_PROGRESS:
            self._not_counted += 1
            if self._not_counted == 1:
                self._in_progress_since = self._clock.time()

    def never_sent(self) -> None:
        """Record that the attempt was interrupted before its first byte was written."""
        self._in_flight = False
        self.kind = FailureKind.NOT_SENT

    def exclude_from_deadline(self, seconds: float) -> None:
        """Record a wait for the daily quota that the user requested; `RetryPolicy.deadline` does not include it."""
        self._reset_wait += seconds

    def is_retryable(self, error: BaseException) -> bool:
        """Return whether this error of the last attempt may pass, and the request may be sent again.

        An error that is not of an attempt, such as one of the rate limiter, is never retryable.
        """
        failure = self.error
        return failure is error and failure is not None and failure.retryable and is_safe(self.kind, self._idempotency)

    def delay(self, _: "tenacity.RetryCallState | None" = None) -> float:
        """Return the seconds until the next attempt: what the server requests, or else exponential backoff.

        Full jitter spreads the backoff from 0 to `initial_backoff * 2 ** (attempt_count - 1)`, at most `max_backoff`;
        for IN_PROGRESS, from half of that. A requested delay is a lower bound, and spread by up to `initial_backoff`.
        Source: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
        """
        if self.requested_delay is not None:
            delay = self.requested_delay + self._random.uniform(0.0, self._policy.initial_backoff)
        else:
            growth = 2.0 ** min(self.attempt_count - 1, 60)
            ceiling = min(self._policy.max_backoff, self._policy.initial_backoff * growth)
            # Waits at least half of the backoff, as `attempts` does not bound these polls.
            floor = ceiling / 2 if self.kind is FailureKind.IN_PROGRESS else 0.0
            delay = self._random.uniform(floor, ceiling)
        return max(delay, _MIN_IN_PROGRESS_DELAY) if self.kind is FailureKind.IN_PROGRESS else delay

    def is_out_of_attempts(self, _: "tenacity.RetryCallState | None" = None) -> bool:
        """Return whether the policy allows no further attempt; polls of our own request in progress do not count."""
        if self.kind is FailureKind.IN_PROGRESS:
            return False
        return self.attempt_count - self._not_counted >= self._policy.attempts

    def must_wait_too_long(self, _: "tenacity.RetryCallState | None" = None) -> bool:
        """Return whether the server requests a longer delay than the policy allows."""
        return self.requested_delay is not None and self.requested_delay > self._policy.max_retry_after

    def is_out_of_time(self, state: "tenacity.RetryCallState") -> bool:
        """Return whether the next attempt would start too late; tenacity runs its `wait` before it."""
        return not self._may_start(self._clock.time() + state.upcoming_sleep)

    def _may_start(self, moment: float) -> bool:
        if self._call_deadline is not None and moment >= self._call_deadline:
            return False
        if self.kind is FailureKind.IN_PROGRESS and moment - self._in_progress_since > MAX_IN_PROGRESS:
            return False
        return moment - self._first_attempt_at - self._reset_wait <= self._policy.deadline

    @property
    def repeats_key(self) -> bool:
        """Whether the next request carries a key under which the write may have happened already."""
        return self._key_used_before or (self._lost and self._idempotency is Idempotency.KEYED)

    @property
    def key_is_stale(self) -> bool:
        """Whether Codat may have forgotten the key of a write that may have happened."""
        if self._first_use is None or not self.repeats_key:
            return False
        return self._first_use.age(self._clock.now(), self._clock.time(), None) > KEY_LIFETIME

    def check_key(self) -> None:
        """Raise TransportError if the request must not be sent, because Codat may have forgotten its key."""
        if self.key_is_stale:
            raise key_expired()

    def check_deadline(self) -> None:
        """Raise the error of the last attempt if the rate limiter has delayed the next one for too long.

        The bounds are `RetryPolicy.deadline`, the timeout of the call and `MAX_IN_PROGRESS`.
        """
        if self.error is not None and not self._may_start(self._clock.time()):
            raise self.error

    @property
    def reached(self) -> bool:
        """Whether any of the requests may have reached the server."""
        return self._in_flight or self._reached

    @property
    def outcome_unknown(self) -> bool:
        """Whether a write may have happened, though no response confirms it."""
        if self._idempotency is Idempotency.NATIVE:
            return False
        if self._in_flight or self.kind in _AMBIGUOUS:
            return True
        # After a lost response only a final refusal settles the write.
        return self._lost and self.kind is not FailureKind.FINAL


def retrying(state: RetryState, before_sleep: Callable[[CodatError, float], None]) -> "tenacity.AsyncRetrying":
    """Return the retries of one call as tenacity runs them.

    tenacity evaluates `retry`, `wait` and `stop` once for each failure, in this order. They do not change the state,
    but `wait` draws from its `Random`. `repeat` evaluates `retry` for the first failure too.
    """

    def call_before_sleep(call: tenacity.RetryCallState) -> None:
        error = call.outcome.exception() if call.outcome else None
        if isinstance(error, CodatError):
            before_sleep(error, call.upcoming_sleep)

    # tenacity's own stops use time.monotonic. `stop_any` accepts any callable, but is typed for tenacity's classes.
    stops = cast(
        "tuple[tenacity.stop.stop_base, ...]",
        (state.is_out_of_attempts, state.must_wait_too_long, state.is_out_of_time),
    )
    return tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception(state.is_retryable),
        wait=state.delay,
        stop=tenacity.stop_any(*stops),
        sleep=asyncio.sleep,
        before_sleep=call_before_sleep,
        reraise=True,
    )


async def repeat(
    first: CodatError,
    attempt: Callable[[], Awaitable[T]],
    state: RetryState,
    *,
    before_sleep: Callable[[CodatError, float], None],
) -> T:
    """Return the result of `attempt` after a first one that failed, repeated as the policy allows.

    Raises the error of the last attempt. The first one runs without tenacity, whose loop takes about 40 us; tenacity
    starts from its failure. `before_sleep` is called with each error that is retried, and the seconds until then.
    """
    if not state.is_retryable(first):
        raise first
    failed: list[CodatError] = [first]

    async def attempt_again() -> T:
        if failed:
            raise failed.pop()
        return await attempt()

    return await retrying(state, before_sleep)(attempt_again)
