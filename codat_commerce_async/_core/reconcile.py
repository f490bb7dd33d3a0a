"""Perform a write exactly once: resend the same key, search for the result, use a new key, or report it as unknown."""

import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from enum import Enum
from typing import Generic, Protocol, TypeVar

from attrs import field, frozen

from codat_commerce_async._core.claims import Claim, Claims
from codat_commerce_async._core.idempotency import FirstUse, KeyAge, KeyHistory, RequestWindow, key_expired
from codat_commerce_async._core.lifecycle import Clock
from codat_commerce_async._core.retry import MAX_IN_PROGRESS
from codat_commerce_async.errors import (
    CodatError,
    ConflictError,
    DecodeError,
    OutcomeUnknownError,
    QuotaExhaustedError,
    ServerError,
    StatusError,
)

__all__ = ["Ambiguity", "Candidate", "LookupPolicy", "Write", "write_exactly_once"]

ResponseT = TypeVar("ResponseT")
ResponseT_co = TypeVar("ResponseT_co", covariant=True)
FoundT = TypeVar("FoundT")

# The delay before each request that resends the same key.
_RESEND_DELAYS = (1.0, 4.0, 10.0)
# How many new keys are used before the outcome is reported as unknown.
_MAX_NEW_KEYS = 3
# The delay between requests while Codat returns a 409 because our own earlier request is in progress.
_IN_PROGRESS_DELAY = 5.0
# The delay before each lookup; further delays double. `LookupPolicy.delays` limits their sum.
_LOOKUP_DELAYS = (1.0, 4.0, 10.0, 15.0)
# The sum of these delays in seconds if `max_visibility_delay` is infinite.
_LOOKUP_SECONDS_IF_INFINITE = 60.0


class Ambiguity(Enum):
    """The reason why it is not known whether a write happened. It decides the next step, and a lookup the one after it.

    | result of the request                          | first           | then: one found | several | none      |
    |------------------------------------------------|-----------------|-----------------|---------|-----------|
    | STORED_ERROR: a 5xx by Codat itself            | -               | adopt           | unknown | a new key |
    | UNSETTLED: no response, a gateway's error,     | resend the key  | adopt           | unknown | unknown   |
    |   a 409 because the first request is in        |                 |                 |         |           |
    |   progress, or, after the key was sent, any    |                 |                 |         |           |
    |   error that is not `conclusive`, such as 401  |                 |                 |         |           |
    | KEY_EXPIRED: UNSETTLED, but the key is too old | -               | adopt           | unknown | a new key |
    | UNPARSED_RESPONSE: a 2xx that cannot be parsed | resend the key  | adopt           | unknown | unknown   |

    Instead of a new key, the outcome is unknown if the last lookup failed, an earlier response was a 2xx that cannot be
    parsed, `max_visibility_delay` is infinite, or `_MAX_NEW_KEYS` new keys were used.

    Codat stores its own 5xx under the key, so resending the key would only replay it. If a request did not reach
    Codat, is in progress, or lost its response, the same key is resent: it never performs the work twice, and its
    response is ours. If no lookup finds a result of such a request, it is still unknown: the request may be processed
    later, and a new key would then do the work twice.

    A lookup adopts a candidate only if it was created after our request, matches the request, and cannot belong to
    another request of this client. A candidate that belongs to another request is ignored.

    Whether a start is repeated after a crash depends on more places: `SyncJob.from_entry` in `syncing/_queue.py` and
    `_resume_earlier` in `syncing/_runner.py`, and for a ticket `SyncStepper._start` in `syncing/stepper.py`.
    `FirstUse.age` and `KEY_LIFETIME` in `idempotency.py` decide whether the key is too old.
    Source: https://docs.codat.io/using-the-api/idempotency
    """

    STORED_ERROR = "stored_error"
    UNSETTLED = "unsettled"
    KEY_EXPIRED = "key_expired"
    UNPARSED_RESPONSE = "unparsed_response"


@frozen
class _Step:
    """What an ambiguity allows: `resend` the same key first, `rotate` to a new key if a lookup finds nothing."""

    resend: bool
    rotate: bool


_NEXT = {
    Ambiguity.STORED_ERROR: _Step(resend=False, rotate=True),
    Ambiguity.UNSETTLED: _Step(resend=True, rotate=False),
    Ambiguity.KEY_EXPIRED: _Step(resend=False, rotate=True),
    Ambiguity.UNPARSED_RESPONSE: _Step(resend=True, rotate=False),
}


@frozen
class Candidate(Generic[FoundT]):
    """A resource that a lookup found: `value`, its `id`, and when it was created as far as Codat reports that.

    `matches` is False if Codat does not report enough to conclude that it is what was requested.
    """

    value: FoundT
    id: str
    created_at: datetime | None
    matches: bool = field(default=True, kw_only=True)


@frozen
class LookupPolicy:
    """The settings of lookups: whether a match is adopted, and how long a created resource may stay invisible."""

    adopt: bool = True
    max_visibility_delay: float = 60.0

    def delays(self) -> Iterator[float]:
        """Yield the delay before each lookup.

        The last lookup is made when the visibility delay has passed, or after 60 seconds if that is infinite.
        """
        passed, delay = 0.0, 0.0
        schedule = iter(_LOOKUP_DELAYS)
        bound = _LOOKUP_SECONDS_IF_INFINITE if math.isinf(self.max_visibility_delay) else self.max_visibility_delay
        while True:
            delay = min(next(schedule, 2 * delay), bound - passed)
            passed += delay
            yield delay
            if passed >= bound:
                return


class Write(Protocol[ResponseT_co, FoundT]):
    """A write: its key and deadline, how it is sent, and how its result is found."""

    @property
    def key(self) -> str | None:
        """Before the first `send`, the key that the caller passed, which may have been sent; None for a new write."""
        ...

    @property
    def claim(self) -> Claim:
        """The claim of this request among those of its client."""
        ...

    @property
    def deadline(self) -> float | None:
        """The time of the event loop after which no delay may end; None for no limit."""
        ...

    async def next_key(self, last: str | None) -> str:
        """Persist and return the key that follows `last`, or the first key for None."""
        ...

    async def send(self, key: str, key_valid_for: float | None) -> ResponseT_co:
        """Send the request; after `key_valid_for` seconds (None: no limit), the key must not be sent any more."""
        ...

    async def find_candidates(self) -> Iterable[Candidate[FoundT]]:
        """Return what the request may have created."""
        ...


async def write_exactly_once(
    write: Write[ResponseT, FoundT],
    *,
    clock: Clock,
    claims: Claims,
    lookups: LookupPolicy,
    first_use: FirstUse | None = None,
) -> ResponseT | Candidate[FoundT]:
    """Return the response to the write, or the candidate that a lookup identified as its result.

    `first_use` is when the key of the write may first have been sent before this call, by this process or another.

    Raises the error of `send` if the error shows that nothing was written. Otherwise, raises OutcomeUnknownError with
    the ids of the candidates.
    """
    state = _WriteState(write, clock, claims, lookups)
    if first_use is not None:
        await state.resume(first_use)
    try:
        return await _send_until_settled(write, state)
    finally:
        state.close()


async def _send_until_settled(
    write: Write[ResponseT, FoundT], state: "_WriteState[FoundT]"
) -> ResponseT | Candidate[FoundT]:
    key = write.key or await write.next_key(None)
    new_keys_left = _MAX_NEW_KEYS
    while True:
        state.mark_sent(key)
        try:
            return await write.send(key, state.key_age.remaining)
        except CodatError as error:
            ambiguity = state.record_failure(error)
            if ambiguity is None:
                state.remove_claim()
                raise
            if isinstance(error, QuotaExhaustedError):
                # Until the reset, neither the request nor a lookup can be sent.
                raise state.unknown_error() from error
        if await state.wait_to_resend(ambiguity):
            continue
        candidate = await state.reconcile(ambiguity)
        if candidate is not None:
            return candidate
        if not new_keys_left:
            raise state.unknown_error()
        new_keys_left -= 1
        key = await write.next_key(key)
        state.rotate_key()


class _WriteState(Generic[FoundT]):
    """The state of one write, over all its requests and keys."""

    def __init__(self, write: Write[object, FoundT], clock: Clock, claims: Claims, lookups: LookupPolicy) -> None:
        self._write = write
        self._clock = clock
        self._claims = claims
        self._claim = write.claim
        self._lookups = lookups
        is_key_given = write.key is not None
        self.key_age = KeyAge(clock, is_given=is_key_given)
        self._window = RequestWindow(clock, is_key_given=is_key_given)
        # A response was a 2xx that could not be parsed, so the write has happened.
        self._was_accepted = False
        self._resend_delays = iter(_RESEND_DELAYS)
        self._in_progress_since: float | None = None
        # A placeholder: nothing reads it before the first failure.
        self._failure: CodatError = key_expired()

    async def resume(self, first_use: FirstUse) -> None:
        """Record that the key may have been sent then; request the server's time if it is not known.

        If this process sent the key, such as before a wait for the daily quota, its own readings of all clocks are
        used instead.
        """
        use = self._claim.first_use or first_use
        self._window.resume(use)
        self.key_age.record_sent(use)
        if self._clock.server_offset is None and first_use.server is not None:
            # Only the server's time in the response matters here. It shows how old the key is.
            with contextlib.suppress(CodatError):
                await self._write.find_candidates()

    def mark_sent(self, key: str) -> None:
        """Record that the key is about to be sent."""
        clock, claim = self._clock, self._claim
        if claim.first_use is None and self._window.first_use is None:
            claim.first_use = FirstUse(clock.now(), clock.time(), clock.server_offset)
        self._claims.mark_sent(claim, key, clock.server_time(self._window.first_sent_at))

    def record_failure(self, error: CodatError) -> Ambiguity | None:
        """Return why it is not known now whether the write happened; None if the error shows that it did not."""
        ambiguity = _ambiguity(error, self.key_age.history)
        if ambiguity is None:
            return None
        self._failure = error
        self._was_accepted = self._was_accepted or ambiguity is Ambiguity.UNPARSED_RESPONSE
        if self._in_progress_since is None and isinstance(error, ConflictError):
            self._in_progress_since = self._clock.time()
        self._record_first_use(error)
        is_expired = ambiguity is Ambiguity.UNSETTLED and self.key_age.is_expired
        return Ambiguity.KEY_EXPIRED if is_expired else ambiguity

    def _record_first_use(self, error: CodatError) -> None:
        """Record when the failed request was sent, if it was the first one, or the first with this key."""
        window, clock = self._window, self._clock
        if window.requested_at is None and window.first_use is None and isinstance(error, OutcomeUnknownError):
            # The estimate for the first request; later errors are about later requests.
            window.requested_at = error.requested_at
        sent_at = error.attempts[0].started_at.timestamp() if error.attempts else clock.now()
        use = FirstUse(sent_at, clock.time() - max(0.0, clock.now() - sent_at), clock.server_offset)
        window.record_sent(use)
        self.key_age.record_sent(use)

    def rotate_key(self) -> None:
        """Record that the last key created nothing, and that a new one replaces it."""
        self.key_age.rotate()
        self._resend_delays = iter(_RESEND_DELAYS)
        self._in_progress_since = None

    def remove_claim(self) -> None:
        """Record that the write certainly created nothing."""
        if self._claim.alias is None and self._claim.id is None:
            self._claims.remove(self._claim)

    def close(self) -> None:
        """Record that the write is not sent any more, whatever its outcome."""
        self._claims.sending_ended(self._claim, self._clock.server_time(self._clock.now()))

    async def wait_to_resend(self, ambiguity: Ambiguity) -> bool:
        """Sleep and return True if the request should be sent again under the same key; return False otherwise."""
        if not _NEXT[ambiguity].resend:
            return False
        delay = _IN_PROGRESS_DELAY if self._is_in_progress() else next(self._resend_delays, None)
        if delay is None:
            return False
        await self._sleep(delay)
        return True

    async def reconcile(self, ambiguity: Ambiguity) -> Candidate[FoundT] | None:
        """Return the candidate that is the result of the write; None if the write may be sent under a new key."""
        seen: tuple[Candidate[FoundT], ...] | None = None
        lookup_error: CodatError | None = None
        possible: list[Candidate[FoundT]] = []
        for delay in self._lookups.delays():
            await self._sleep(delay)
            try:
                seen = tuple(await self._write.find_candidates())
            except CodatError as error:
                # Only a lookup at the end shows that nothing was created, so an earlier one does not replace it.
                seen, lookup_error = None, error
                continue
            possible, others = self._candidates(seen)
            if len(possible) == 1 and self._is_ours(possible[0], others):
                self._claims.assign(self._claim, possible[0].id)
                return possible[0]
            # A later lookup settles more only if a candidate may turn out to belong to another request.
            if possible and not others:
                break
        if seen is None:
            raise self.unknown_error() from lookup_error
        # Something that may be ours exists, or must exist, or may still be created.
        if possible or self._was_accepted or not _NEXT[ambiguity].rotate:
            raise self.unknown_error(possible)
        # What was created may stay invisible for any time, so nothing found proves nothing.
        if math.isinf(self._lookups.max_visibility_delay):
            raise self.unknown_error()
        return None

    def unknown_error(self, possible: Sequence[Candidate[FoundT]] = ()) -> OutcomeUnknownError:
        """Return the error for a write whose outcome stays unknown, with the ids of the candidates."""
        error = self._failure
        correlation_id = error.correlation_id if isinstance(error, OutcomeUnknownError | StatusError) else None
        seen = f"; it may be one of {len(possible)} started since" if possible else ""
        ids = tuple(candidate.id for candidate in possible)
        unknown = OutcomeUnknownError(
            f"{error.message}{seen}", error.call, self._window.earliest(), correlation_id, None, ids
        )
        unknown.__cause__ = (error.__cause__ if isinstance(error, OutcomeUnknownError) else None) or error
        return unknown

    async def _sleep(self, seconds: float) -> None:
        deadline = self._write.deadline
        if deadline is not None and self._clock.time() + seconds >= deadline:
            raise self.unknown_error()
        try:
            await self._clock.sleep(seconds)
        except CodatError as error:
            raise self.unknown_error() from error

    def _is_in_progress(self) -> bool:
        """Return whether the last error was a 409 within the time that a request may be in progress."""
        since = self._in_progress_since
        if since is None or not isinstance(self._failure, ConflictError):
            return False
        return self._clock.time() - since < MAX_IN_PROGRESS

    def _candidates(self, seen: Sequence[Candidate[FoundT]]) -> tuple[list[Candidate[FoundT]], list[Claim]]:
        """Return what the write may have created, and the client's other requests that may have created part of it."""
        others: list[Claim] = []
        unassigned = [found for found in seen if not self._claims.is_others(self._claim, found.id)]
        for other in self._claims.others(self._claim):
            same_time = [found for found in unassigned if found.created_at and found.created_at == other.created_at]
            if len(same_time) == 1:
                unassigned.remove(same_time[0])
            else:
                others.append(other)
        possible = [found for found in unassigned if self._window.may_follow(found.created_at)]
        # Without a reliable clock, no other request can be excluded by its time.
        if self._window.bounds() is not None:
            others = [other for other in others if any(other.may_have_created(found.created_at) for found in possible)]
        return possible, others

    def _is_ours(self, found: Candidate[FoundT], others: Sequence[Claim]) -> bool:
        may_adopt = found.matches and self._lookups.adopt and not others
        return may_adopt and self._window.follows(found.created_at)


def _ambiguity(error: CodatError, history: KeyHistory) -> Ambiguity | None:
    """Return why it is not known whether the write happened; None if the error shows that it did not."""
    match error:
        case OutcomeUnknownError():
            return Ambiguity.STORED_ERROR if _is_stored(error.__cause__) else Ambiguity.UNSETTLED
        case DecodeError():
            return Ambiguity.UNPARSED_RESPONSE
        case ConflictError() if history is not KeyHistory.UNUSED:
            return Ambiguity.UNSETTLED
        case StatusError(conclusive=True):
            return None
        case _:
            # A request that was not sent, or was rejected before its key was checked, does not settle an earlier one.
            return Ambiguity.UNSETTLED if history is KeyHistory.SENT else None


def _is_stored(cause: BaseException | None) -> bool:
    """Return True for a 5xx by Codat itself, which is stored under the key; False for one by a gateway."""
    return isinstance(cause, ServerError) and cause.error is not None and cause.error.correlation_id is not None
