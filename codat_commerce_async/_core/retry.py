"""When a request is sent again: a policy and an operation's nature, turned into a loop."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from enum import Enum
from random import Random
from typing import Protocol, TypeVar

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

__all__ = ["KEY_LIFETIME", "CallState", "FailureKind", "call_with_retries"]

T = TypeVar("T")

# Codat forgets a key after 90 minutes, and would then do the work again; the margin is for a request on its way.
# https://docs.codat.io/using-the-api/idempotency
KEY_LIFETIME = 85 * 60.0
# Between questions whether the first request is through; as no number of tries bounds them, they must not be a flood.
_SHORTEST_WAIT = 0.05


class FailureKind(Enum):
    """What one try came to, as far as it matters for another."""

    NOT_SENT = "the server was not reached"
    NO_RESPONSE = "no whole answer"
    RATE_LIMITED = "429"
    NOT_PROCESSED = "408, 421, 425"
    IN_PROGRESS = "409 after a lost answer"
    SERVER_ERROR = "5xx"
    INVALID_RESPONSE = "an answer that no repeat makes readable"
    REJECTED_UPSTREAM = "an answer that says nothing of the lost one before it"
    FINAL = "an answer that stands"


# After which of them the same request, with the same key and the same bytes, may be sent again.
_RETRYABLE: Mapping[FailureKind, frozenset[Idempotency]] = {
    FailureKind.NOT_SENT: frozenset(Idempotency),
    # The key makes it safe: Codat replays its answer, or does the work for the first time.
    FailureKind.NO_RESPONSE: frozenset({Idempotency.NATIVE, Idempotency.KEYED}),
    # The one answer that Codat does not remember for a key: nothing was done.
    FailureKind.RATE_LIMITED: frozenset(Idempotency),
    FailureKind.NOT_PROCESSED: frozenset(Idempotency),
    # Our own first request is still being worked on.
    FailureKind.IN_PROGRESS: frozenset({Idempotency.KEYED}),
    # The same key would only replay the failure for 90 minutes, and a new one may do the work twice.
    FailureKind.SERVER_ERROR: frozenset({Idempotency.NATIVE}),
    FailureKind.INVALID_RESPONSE: frozenset(),
    FailureKind.REJECTED_UPSTREAM: frozenset(),
    FailureKind.FINAL: frozenset(),
}


class KeyMemory:
    """Until when Codat is sure to remember an idempotency key, on two clocks; the earlier one decides.

    The event loop's clock stands still while the machine is suspended, and the wall clock may be set back.
    """

    __slots__ = ("_clock", "_loop_until", "_wall_clock", "_wall_until")

    def __init__(self, clock: "Clock", wall_clock: Callable[[], float], seconds: float = KEY_LIFETIME) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._loop_until = clock.time() + seconds
        self._wall_until = wall_clock() + seconds

    @property
    def is_over(self) -> bool:
        """Whether Codat may have forgotten the key by now."""
        return self._clock.time() > self._loop_until or self._wall_clock() > self._wall_until


class Clock(Protocol):
    """The passing of time, as the event loop has it."""

    def time(self) -> float:
        """Seconds on a clock that only goes forward."""
        ...


class CallState:
    """What one call has been through so far, and so whether it goes on."""

    __slots__ = (
        "_clock",
        "_gate_waits",
        "_key_memory",
        "_key_used_before",
        "_last",
        "_lost",
        "_operation",
        "_policy",
        "_random",
        "_reached",
        "_until",
        "_wall_clock",
        "first_sent_at",
        "in_flight",
        "pause",
        "tries",
    )

    def __init__(
        self,
        operation: Operation[object],
        policy: RetryPolicy,
        clock: Clock,
        random: Random,
        deadline: float | None,
        *,
        wall_clock: Callable[[], float],
        key_left: float | None = None,
    ) -> None:
        self._operation = operation
        self._policy = policy
        self._clock = clock
        self._random = random
        self._until = deadline
        self._wall_clock = wall_clock
        self._key_memory = None if key_left is None else KeyMemory(clock, wall_clock, key_left)
        self._key_used_before = key_left is not None
        self._last = FailureKind.FINAL
        self._lost = False
        self._reached = False
        self._gate_waits = False
        self.first_sent_at: float | None = None
        self.in_flight = False
        self.tries = 0
        self.pause = 0.0

    @property
    def repeats_key(self) -> bool:
        """Whether the next request carries a key under which the write may have happened already."""
        return self._key_used_before or (self._lost and self._operation.idempotency is Idempotency.KEYED)

    @property
    def key_is_stale(self) -> bool:
        """Whether Codat may have forgotten the key of a write that may have happened."""
        return self.repeats_key and self._key_memory is not None and self._key_memory.is_over

    def check_key(self) -> None:
        """Raise TransportError if the request must not be sent, because Codat may have forgotten its key."""
        if self.key_is_stale:
            raise TransportError(
                "Codat may have forgotten the idempotency key by now", None, sent=False, retryable=False
            )

    def began(self) -> float:
        """Note that a request goes out now; gives the time."""
        now = self._clock.time()
        self.tries += 1
        self.in_flight = True
        # After a 429 nothing has happened yet, and the wait for a day's quota is no part of the deadline.
        if self.first_sent_at is None or (self._last is FailureKind.RATE_LIMITED and not self._lost):
            self.first_sent_at = now
            if self._operation.idempotency is Idempotency.KEYED and not self._key_used_before:
                self._key_memory = KeyMemory(self._clock, self._wall_clock)
        return now

    def ended(self, error: CodatError | None, *, gate_waits: bool = False) -> None:
        """Note what became of it; `gate_waits` when the gate itself will hold the next request as long as asked."""
        self.in_flight = False
        self._gate_waits = gate_waits
        if error is not None:
            self._last = classify(error, lost_before=self._lost)
            self._lost = self._lost or self._last is FailureKind.NO_RESPONSE
        self._reached = self._reached or self._last is not FailureKind.NOT_SENT

    def never_sent(self) -> None:
        """Record that the attempt was interrupted before its first byte was written."""
        self.in_flight = False
        self._last = FailureKind.NOT_SENT

    @property
    def reached(self) -> bool:
        """Whether any of the requests may have reached the server."""
        return self.in_flight or self._reached

    @property
    def outcome_unknown(self) -> bool:
        """Whether a write may have happened, though no answer says so."""
        if self._operation.idempotency is Idempotency.NATIVE:
            return False
        if self.in_flight or self._last in {
            FailureKind.SERVER_ERROR,
            FailureKind.IN_PROGRESS,
            FailureKind.INVALID_RESPONSE,
        }:
            return True
        return self._lost and self._last is not FailureKind.FINAL

    def goes_on(self, error: BaseException) -> bool:
        """Whether the policy and the operation's nature allow another try; sets the pause before it.

        A wait that would not end in time is not begun: the cause is raised at once instead.
        """
        if not _may_pass(error) or self._operation.idempotency not in _RETRYABLE[self._last]:
            return False
        # The first request of ours is being worked on: only time bounds the wait for it.
        if self.tries >= self._policy.attempts and self._last is not FailureKind.IN_PROGRESS:
            return False
        asked = error.retry_after if isinstance(error, StatusError) and not self._gate_waits else None
        if asked is not None and asked > self._policy.max_retry_after:
            return False
        pause = self._backoff() if asked is None else asked + self._spread(self._policy.initial_backoff)
        self.pause = max(pause, _SHORTEST_WAIT) if self._last is FailureKind.IN_PROGRESS else pause
        return self._in_time(self._clock.time() + self.pause)

    def _backoff(self) -> float:
        ceiling = min(self._policy.max_backoff, self._policy.initial_backoff * 2.0 ** min(self.tries - 1, 60))
        if self._last is FailureKind.IN_PROGRESS:
            return ceiling / 2 + self._spread(ceiling / 2)
        return self._spread(ceiling)

    def _spread(self, seconds: float) -> float:
        return self._random.uniform(0.0, seconds)

    def _in_time(self, begins: float) -> bool:
        if self._until is not None and begins >= self._until:
            return False
        if self.first_sent_at is None:
            return True
        return begins - self.first_sent_at <= self._policy.deadline


def _may_pass(error: BaseException) -> bool:
    """Whether trying again can help at all. What the gate raises says nothing of the last try, and never does."""
    return error.retryable if isinstance(error, TransportError) else isinstance(error, StatusError)


def classify(error: CodatError, *, lost_before: bool) -> FailureKind:
    match error:
        case TransportError() | ClientClosedError():
            return _unanswered(error)
        case RateLimitError() | QuotaExhaustedError():
            return FailureKind.RATE_LIMITED
        case StatusError():
            return _answered(error, lost_before=lost_before)
        case _:
            return FailureKind.FINAL


def _answered(error: StatusError, *, lost_before: bool) -> FailureKind:
    match error:
        case StatusError(status=status) if status in NOT_PROCESSED:
            return FailureKind.NOT_PROCESSED
        case ConflictError() if lost_before:
            return FailureKind.IN_PROGRESS
        case ServerError():
            return FailureKind.SERVER_ERROR
        case StatusError() if lost_before and not error.conclusive:
            return FailureKind.REJECTED_UPSTREAM
        case _:
            return FailureKind.FINAL


def _unanswered(error: TransportError | ClientClosedError) -> FailureKind:
    if isinstance(error, ClientClosedError) or not error.sent:
        return FailureKind.NOT_SENT
    return FailureKind.NO_RESPONSE if error.retryable else FailureKind.INVALID_RESPONSE


async def call_with_retries(
    attempt: Callable[[], Awaitable[T]],
    course: CallState,
    *,
    before_pause: Callable[[CodatError], None],
) -> T:
    """What `attempt` gives, tried as often as the course goes on; raises what the last try raised.

    A call that goes well at once never builds a loop. One that does not enters it with its first failure in hand.
    """
    try:
        return await attempt()
    except CodatError as error:
        if not course.goes_on(error):
            raise
        first = error
    return await _repeat_after(first, attempt, course, before_pause)


async def _repeat_after(
    failure: CodatError,
    attempt: Callable[[], Awaitable[T]],
    course: CallState,
    before_pause: Callable[[CodatError], None],
) -> T:
    import tenacity  # noqa: PLC0415 - loaded by the first failure, not the import

    first: CodatError | None = failure

    async def again() -> T:
        nonlocal first
        if first is not None:
            error, first = first, None
            raise error
        return await attempt()

    def announce(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, CodatError):
            before_pause(error)

    # tenacity's own stops go by time.monotonic and overshoot by one pause, so whether the time suffices is
    # decided where the pause is: https://github.com/jd/tenacity/blob/main/tenacity/stop.py
    loop = tenacity.AsyncRetrying(
        sleep=asyncio.sleep,
        stop=tenacity.stop_never,
        wait=lambda _: course.pause,
        retry=tenacity.retry_if_exception(course.goes_on),
        before_sleep=announce,
        reraise=True,
    )
    return await loop(again)
