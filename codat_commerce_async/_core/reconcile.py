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

__all__ = ["Ambiguity", "Candidate", "Lookups", "Write", "write_exactly_once"]

ResponseT = TypeVar("ResponseT")
ResponseT_co = TypeVar("ResponseT_co", covariant=True)
FoundT = TypeVar("FoundT")

# The delay before each request that resends the same key.
_RESEND_DELAYS = (1.0, 4.0, 10.0)
# How many new keys are used before the outcome is reported as unknown.
_MAX_NEW_KEYS = 3
# The delay between requests until our own earlier request, for which a 409 is returned, is not in progress any more.
_IN_PROGRESS_DELAY = 5.0
# The delay before each lookup; further delays double, up to the bound.
_LOOKUP_DELAYS = (1.0, 4.0, 10.0, 15.0)
_UNBOUNDED_LOOKUPS = 60.0


class Ambiguity(Enum):
    """The reason why it is not known whether a write happened. It decides the next step, and a lookup the one after it.

    | result of the request                          | first           | then: one found | several | none      |
    |------------------------------------------------|-----------------|-----------------|---------|-----------|
    | SERVER_ERROR: a 5xx by Codat itself            | -               | adopt           | unknown | a new key |
    | NO_RESPONSE: none, a gateway's error, or a 409 | resend the key  | adopt           | unknown | unknown   |
    |   because the first request is in progress     |                 |                 |         |           |
    | KEY_EXPIRED: likewise, but the key is too old  | -               | adopt           | unknown | a new key |
    | UNPARSED_RESPONSE: a 2xx that cannot be parsed | resend the key  | adopt           | unknown | unknown   |

    Codat stores its own 5xx under the key, so resending the key would only replay it. A request that did not reach
    Codat, is in progress, or lost its response, is settled best by the same key: it never performs the work twice, and
    its response is ours. A lookup adopts a candidate only if it was created after our request, matches the request, and
    cannot belong to another request of this client. A candidate that belongs to another request is ignored.
    Source: https://docs.codat.io/using-the-api/idempotency
    """

    SERVER_ERROR = "server_error"
    NO_RESPONSE = "no_response"
    KEY_EXPIRED = "key_expired"
    UNPARSED_RESPONSE = "unparsed_response"


@frozen
class _Step:
    """What an ambiguity allows: `resend` the same key first, `rotate` to a new key if a lookup finds nothing."""

    resend: bool
    rotate: bool


_NEXT = {
    Ambiguity.SERVER_ERROR: _Step(resend=False, rotate=True),
    Ambiguity.NO_RESPONSE: _Step(resend=True, rotate=False),
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
class Lookups:
    """The settings of lookups: whether a match is adopted, and how long a created resource may stay invisible."""

    adopt: bool = True
    max_visibility_delay: float = 60.0

    def delays(self) -> Iterator[float]:
        """Yield the delay before each lookup; the last lookup is made when the visibility delay has passed."""
        passed, delay = 0.0, 0.0
        schedule = iter(_LOOKUP_DELAYS)
        bound = _UNBOUNDED_LOOKUPS if math.isinf(self.max_visibility_delay) else self.max_visibility_delay
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
        """The idempotency key that the caller passed, which may have been sent before; None for a new write."""
        ...

    @property
    def claim(self) -> Claim:
        """The claim of this request among those of its client."""
        ...

    @property
    def deadline(self) -> float | None:
        """The time of the event loop after which no delay may end; None for no limit."""
        ...

    async def new_key(self, last: str | None) -> str:
        """Return the key after the last one, when it is persisted."""
        ...

    async def send(self, key: str, valid_for: float | None) -> ResponseT_co:
        """Send the request; after `valid_for` seconds (None: no limit), the key must not be sent any more."""
        ...

    async def find_candidates(self) -> Iterable[Candidate[FoundT]]:
        """Return what the request may have created."""
        ...


async def write_exactly_once(
    write: Write[ResponseT, FoundT],
    *,
    clock: Clock,
    claims: Claims,
    lookups: Lookups,
    first_use: FirstUse | None = None,
) -> ResponseT | Candidate[FoundT]:
    """Return the response to the write, or the candidate that a lookup identified as its result.

    `first_use` is when another process may first have sent the key of the write.

    Raises the error of `send` if that is conclusive. Otherwise, raises OutcomeUnknownError with the ids of the
    candidates.
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
    key, new_keys_left = write.key or await write.new_key(None), _MAX_NEW_KEYS
    while True:
        state.register_key(key)
        try:
            return await write.send(key, state.key_age.remaining)
        except CodatError as error:
            ambiguity = state.record_failure(error)
            if ambiguity is None:
                state.withdraw()
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
        key = await write.new_key(key)
        state.rotate_key()


class _WriteState(Generic[FoundT]):
    """The state of one write, over all its requests and keys."""

    def __init__(self, write: Write[object, FoundT], clock: Clock, claims: Claims, lookups: Lookups) -> None:
        self._write = write
        self._clock = clock
        self._claims = claims
        self._claim = write.claim
        self._lookups = lookups
        is_key_given = write.key is not None
        self.key_age = KeyAge(clock, is_given=is_key_given)
        self._window = RequestWindow(clock, is_key_given=is_key_given)
        self._has_response = False
        self._resend_delays = iter(_RESEND_DELAYS)
        self._in_progress_since: float | None = None
        self._failure: CodatError = key_expired()

    async def resume(self, first_use: FirstUse) -> None:
        """Record that an earlier process sent the key then; request the server's time if it is not known.

        A key that this process sent itself has readings of all clocks.
        """
        use = self._claim.first_use or first_use
        self._window.resume(use)
        self.key_age.mark_sent(use)
        if self._clock.server_offset is None and first_use.server is not None:
            with contextlib.suppress(CodatError):
                await self._write.find_candidates()

    def register_key(self, key: str) -> None:
        """Record that the key is about to be sent."""
        clock, claim = self._clock, self._claim
        if claim.first_use is None and self._window.first_use is None:
            claim.first_use = FirstUse(clock.now(), clock.time(), clock.server_offset)
        self._claims.sent(claim, key, clock.server_time(self._window.first_sent_at))

    def record_failure(self, error: CodatError) -> Ambiguity | None:
        """Return why it is not known now whether the write happened; None if the error is conclusive."""
        ambiguity = _ambiguity(error, self.key_age.history)
        if ambiguity is None:
            return None
        self._failure = error
        self._has_response = self._has_response or ambiguity is Ambiguity.UNPARSED_RESPONSE
        if self._in_progress_since is None and isinstance(error, ConflictError):
            self._in_progress_since = self._clock.time()
        window = self._window
        if window.requested_at is None and window.first_use is None and isinstance(error, OutcomeUnknownError):
            window.requested_at = error.requested_at
        self._mark_sent(error.attempts[0].started_at.timestamp() if error.attempts else self._clock.now())
        is_expired = ambiguity is Ambiguity.NO_RESPONSE and self.key_age.is_expired
        return Ambiguity.KEY_EXPIRED if is_expired else ambiguity

    def _mark_sent(self, local: float) -> None:
        clock = self._clock
        use = FirstUse(local, clock.time() - max(0.0, clock.now() - local), clock.server_offset)
        self._window.mark_sent(use)
        self.key_age.mark_sent(use)

    def rotate_key(self) -> None:
        """Record that the last key created nothing, and that a new one replaces it."""
        self.key_age.rotate()
        self._resend_delays = iter(_RESEND_DELAYS)
        self._in_progress_since = None

    def withdraw(self) -> None:
        """Record that the write certainly created nothing."""
        if self._claim.alias is None and self._claim.id is None:
            self._claims.withdraw(self._claim)

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
        """Return the candidate that is the result of the write; None if a new key performs the write exactly once."""
        seen, lookup_error = None, None
        possible: list[Candidate[FoundT]] = []
        for delay in self._lookups.delays():
            await self._sleep(delay)
            try:
                seen = tuple(await self._write.find_candidates())
            except CodatError as error:
                seen, lookup_error = None, error
                continue
            possible, rivals = self._candidates(seen)
            if len(possible) == 1 and self._is_ours(possible[0], rivals):
                self._claims.assign(self._claim, possible[0].id)
                return possible[0]
            # A later lookup shows more only if there are rivals, to which a candidate may turn out to belong.
            if possible and not rivals:
                break
        if seen is None:
            raise self.unknown_error() from lookup_error
        if possible or self._has_response or not _NEXT[ambiguity].rotate:
            raise self.unknown_error(possible)
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
        rivals: list[Claim] = []
        free = {id(found): found for found in seen if not self._claims.is_others(self._claim, found.id)}
        for other in self._claims.others(self._claim):
            theirs = [found for found in free.values() if found.created_at and found.created_at == other.created_at]
            if len(theirs) == 1:
                del free[id(theirs[0])]
            else:
                rivals.append(other)
        possible = [found for found in free.values() if self._window.may_follow(found.created_at)]
        if self._window.bounds() is not None:
            rivals = [rival for rival in rivals if any(rival.may_have_created(found.created_at) for found in possible)]
        return possible, rivals

    def _is_ours(self, found: Candidate[FoundT], rivals: Sequence[Claim]) -> bool:
        may_adopt = found.matches and self._lookups.adopt and not rivals
        return may_adopt and self._window.follows(found.created_at)


def _ambiguity(error: CodatError, history: KeyHistory) -> Ambiguity | None:
    """Return why it is not known whether the write happened; None if the error is conclusive."""
    match error:
        case OutcomeUnknownError():
            return Ambiguity.SERVER_ERROR if _is_stored(error.__cause__) else Ambiguity.NO_RESPONSE
        case DecodeError():
            return Ambiguity.UNPARSED_RESPONSE
        case ConflictError() if history is not KeyHistory.UNUSED:
            return Ambiguity.NO_RESPONSE
        case StatusError(conclusive=True):
            return None
        case _:
            # A request that was not sent, or was rejected before its key was checked, does not settle an earlier one.
            return Ambiguity.NO_RESPONSE if history is KeyHistory.SENT else None


def _is_stored(cause: BaseException | None) -> bool:
    """Return True for a 5xx by Codat itself, which is stored under the key; False for one by a gateway."""
    return isinstance(cause, ServerError) and cause.error is not None and cause.error.correlation_id is not None
