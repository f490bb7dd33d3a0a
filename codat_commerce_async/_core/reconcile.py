"""A write that must happen exactly once: asked for under one key, looked for in doubt, asked anew if need be."""

import contextlib
import math
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Generic, Protocol, TypeVar

from codat_commerce_async._core.claims import DRIFT, KEY_MEMORY, Claim, Claims, FirstUse
from codat_commerce_async._core.retry import KEY_LIFETIME
from codat_commerce_async.errors import (
    CodatError,
    ConflictError,
    DecodeError,
    OutcomeUnknownError,
    ServerError,
    StatusError,
    TransportError,
)

__all__ = ["Ambiguity", "Candidate", "Clock", "Lookups", "write_exactly_once"]

AnswerT = TypeVar("AnswerT")
FoundT = TypeVar("FoundT")

# Before each repetition under the same key.
_RESEND_DELAYS = (1.0, 4.0, 10.0)
# How often a new key is taken before the write is given up as unknown.
_NEW_KEYS = 3
# How long a 409 is taken for our own first request being worked on, and how often it is asked whether it still is.
_MAX_IN_PROGRESS = 180.0
_IN_PROGRESS_PAUSE = 5.0
# Before each lookup; further ones double, up to the bound.
_LOOKUP_DELAYS = (1.0, 4.0, 10.0, 15.0)
_UNBOUNDED_LOOKUPS = 60.0
# By how much the server's `Date` and the local clock may differ before one of them is taken for wrong: `Date` counts
# whole seconds, and a response takes its time.
_TOLERANCE = 5.0
_ROUNDING = timedelta(milliseconds=1)


class Ambiguity(Enum):
    """Why it is not known whether a write happened, and so what to do: first this, then a look, and by what it finds.

    | what came back                            | first              | one   | several | none      |
    |-------------------------------------------|--------------------|-------|---------|-----------|
    | REFUSED: 5xx in Codat's own words         | -                  | adopt | unknown | a new key |
    | UNANSWERED: nothing, a gateway's error,   | the same key again | adopt | unknown | unknown   |
    |   a 409 as the first is being worked on   |                    |       |         |           |
    | STALE: likewise, but the key is too old   | -                  | adopt | unknown | a new key |
    | ANSWERED: a 2xx that cannot be read       | the same key again | adopt | unknown | unknown   |

    Codat remembers its own 5xx for the key, so the same key could only replay it. What never reached Codat, or is still
    being worked on, or was done and only its answer lost, the same key settles best: it never does the work twice, and
    its answer is surely ours. What a look finds is adopted only if it began after our request for sure, matches it, and
    no other request of this client may have created it; what belongs to another request is no candidate.
    Source: https://docs.codat.io/using-the-api/idempotency
    """

    SERVER_ERROR = "refused"
    NO_RESPONSE = "unanswered"
    KEY_EXPIRED = "stale"
    UNREADABLE_RESPONSE = "answered"


class Candidate(Generic[FoundT]):
    """What a look found: `value`, by the name it goes by, and when it began as far as Codat says.

    `matches` is False when Codat does not report what it would take to know that this is what was requested.
    """

    __slots__ = ("began", "matches", "name", "value")

    def __init__(self, value: FoundT, name: str, began: datetime | None, *, matches: bool = True) -> None:
        self.value = value
        self.name = name
        self.began = began
        self.matches = matches


@dataclass(frozen=True, slots=True)
class Lookups:
    """How the outcome of a write is looked up: whether a match is adopted, and how long one may stay invisible."""

    adopt: bool = True
    max_visibility_delay: float = 60.0

    def delays(self) -> Iterator[float]:
        """Yield the pause before each lookup; the last lookup comes when the visibility delay is over."""
        passed, delay = 0.0, 0.0
        schedule = iter(_LOOKUP_DELAYS)
        bound = _UNBOUNDED_LOOKUPS if math.isinf(self.max_visibility_delay) else self.max_visibility_delay
        while True:
            delay = min(next(schedule, 2 * delay), bound - passed)
            passed += delay
            yield delay
            if passed >= bound:
                return


class Clock(Protocol):
    """The time, here and at the server, and its passing."""

    def time(self) -> float:
        """Seconds on a clock that only goes forward."""
        ...

    def now(self) -> float:
        """The local wall clock, in epoch seconds."""
        ...

    def server_time(self, local: float) -> datetime:
        """What the server's clock showed at a moment of the local one."""
        ...

    @property
    def server_offset(self) -> float | None:
        """Seconds by which the server's clock is ahead of the local one; None while no response had a `Date`."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Let time pass; raises ClientClosedError when the client is closed meanwhile."""
        ...


async def write_exactly_once(
    send: Callable[[str, float | None], Awaitable[AnswerT]],
    find_candidates: Callable[[], Awaitable[Iterable[Candidate[FoundT]]]],
    *,
    key: str | None,
    first_sent_at: float | None = None,
    server_offset: float | None = None,
    new_key: Callable[[str | None], Awaitable[str]],
    clock: Clock,
    deadline: float | None = None,
    claims: Claims | None = None,
    claim: Claim | None = None,
    lookups: Lookups | None = None,
) -> AnswerT | Candidate[FoundT]:
    """The answer to `send`, or what `find_candidates` found to have come of it.

    `send` takes the key, and the seconds after which it must not be sent any more (None: any time). `key` may have been
    used before, since `first_sent_at` (epoch seconds) if that is known, when the server's clock was `server_offset`
    seconds ahead of the local one (None: not known, so that no clock can confirm the key's age). `new_key` takes the
    last key and gives the next, when that is safely noted. No pause is begun that would end after `deadline`, on the clock
    of `clock`. `claim` is this request's among the `claims` of its client.

    Raises what `send` raises when that says for sure that nothing was done, and else, when it cannot be settled, an
    OutcomeUnknownError with the names of what it may be.
    """
    claims = claims or Claims()
    claim = claim or claims.claim("", key)
    write = _Write(find_candidates, clock, deadline, claims, claim, lookups or Lookups(), given=key is not None)
    if first_sent_at is not None:
        await write.resume(first_sent_at, server_offset)
    try:
        return await _settled(send, new_key, key, write)
    finally:
        write.leave()


async def _settled(
    send: Callable[[str, float | None], Awaitable[AnswerT]],
    new_key: Callable[[str | None], Awaitable[str]],
    key: str | None,
    write: "_Write[FoundT]",
) -> AnswerT | Candidate[FoundT]:
    new_keys_left = _NEW_KEYS
    while True:
        key = key if key is not None else await new_key(None)
        write.sends(key)
        try:
            return await send(key, write.key_remaining())
        except CodatError as error:
            doubt = write.doubt(error)
            if doubt is None:
                write.nothing_done()
                raise
        if await write.should_resend(doubt):
            continue
        found = await write.reconcile(doubt)
        if found is not None:
            return found
        if not new_keys_left:
            raise write.unknown()
        new_keys_left -= 1
        key = await new_key(key)
        write.rotate_key()


class _Write(Generic[FoundT]):
    """What is known of one write: since when it may have happened, and under which kind of key."""

    def __init__(
        self,
        find_candidates: Callable[[], Awaitable[Iterable[Candidate[FoundT]]]],
        clock: Clock,
        deadline: float | None,
        claims: Claims,
        claim: Claim,
        lookups: Lookups,
        *,
        given: bool,
    ) -> None:
        self._find_candidates = find_candidates
        self._clock = clock
        self._deadline = deadline
        self._claims = claims
        self._claim = claim
        self._lookups = lookups
        self._given = given
        self._first: FirstUse | None = None
        self._key_use: FirstUse | None = None
        self._requested_at: datetime | None = None
        self._used = given
        self._answered = False
        self._settled = False
        self._pauses = iter(_RESEND_DELAYS)
        self._in_progress_since: float | None = None
        self._failure: CodatError = TransportError("Codat may have forgotten the idempotency key by now")

    async def resume(self, local: float, offset: float | None) -> None:
        """Record that an earlier process may have sent the key since then, and learn the server's time if need be."""
        self._given = False
        # In this process, all clocks were read at the first use.
        self._first = self._key_use = self._claim.first_use or FirstUse(local, None, offset)
        if self._clock.server_offset is None and offset is not None:
            with contextlib.suppress(CodatError):
                await self._find_candidates()

    def sends(self, key: str) -> None:
        """Record that the key is about to be sent."""
        clock, claim = self._clock, self._claim
        if claim.first_use is None and self._first is None:
            claim.first_use = FirstUse(clock.now(), clock.time(), clock.server_offset)
        at = clock.now() if self._first is None else self._first.local
        self._claims.sent(claim, key, clock.server_time(at))

    def mark_sent(self, local: float) -> None:
        """Note that the write may have happened since then; a later moment than one noted before changes nothing."""
        clock = self._clock
        use = FirstUse(local, clock.time() - max(0.0, clock.now() - local), clock.server_offset)
        self._first = self._first or use
        self._key_use = self._key_use or use
        self._used = True

    def rotate_key(self) -> None:
        """Note that nothing came of the last key, and that there is another."""
        self._used = False
        self._key_use = None
        self._pauses = iter(_RESEND_DELAYS)
        self._in_progress_since = None

    def nothing_done(self) -> None:
        """Note that nothing came of the write for sure."""
        if self._claim.alias is None and self._claim.id is None:
            self._claims.withdraw(self._claim)

    def leave(self) -> None:
        """Note that it is not sent any more, whatever came of it."""
        self._claims.left_open(self._claim, self._clock.server_time(self._clock.now()))

    def key_remaining(self) -> float | None:
        """Seconds for which the key is sure to be remembered; None for one that was not used yet, as far as known."""
        return None if self._key_use is None else KEY_LIFETIME - self._age(self._key_use)

    def _age(self, use: FirstUse) -> float:
        return use.age(self._clock.now(), self._clock.time(), self._clock.server_offset)

    def doubt(self, error: CodatError) -> Ambiguity | None:
        """Why it is not known now whether the write happened; None when the error says that it did not."""
        doubt = _doubt(error, used=self._used, surely=self._key_use is not None)
        if doubt is None:
            return None
        self._failure = error
        self._answered = self._answered or doubt is Ambiguity.UNREADABLE_RESPONSE
        if self._requested_at is None and self._first is None and isinstance(error, OutcomeUnknownError):
            self._requested_at = error.requested_at
        self.mark_sent(error.attempts[0].started_at.timestamp() if error.attempts else self._clock.now())
        left = self.key_remaining()
        return Ambiguity.KEY_EXPIRED if doubt is Ambiguity.NO_RESPONSE and left is not None and left <= 0 else doubt

    async def should_resend(self, doubt: Ambiguity) -> bool:
        """Whether the same key is to be tried once more; returns when it is time to."""
        if doubt not in {Ambiguity.NO_RESPONSE, Ambiguity.UNREADABLE_RESPONSE}:
            return False
        pause = _IN_PROGRESS_PAUSE if self._is_in_progress() else next(self._pauses, None)
        if pause is None:
            return False
        await self._sleep(pause)
        return True

    async def reconcile(self, doubt: Ambiguity) -> Candidate[FoundT] | None:
        """What the write became; None when it is certain that nothing did, so that a new key does it once."""
        seen, trouble = None, None
        possible: list[Candidate[FoundT]] = []
        for pause in self._lookups.delays():
            await self._sleep(pause)
            try:
                seen = tuple(await self._find_candidates())
            except CodatError as error:
                seen, trouble = None, error
                continue
            possible, rivals = self._candidates(seen)
            if len(possible) == 1 and self._is_ours(possible[0], rivals):
                self._claims.assign(self._claim, possible[0].name)
                return possible[0]
            # What another request of ours may have created, that request may soon be known to own.
            if possible and not rivals:
                break
        if seen is None:
            raise self.unknown() from trouble
        if possible or self._answered or doubt not in {Ambiguity.SERVER_ERROR, Ambiguity.KEY_EXPIRED}:
            raise self.unknown(possible)
        if math.isinf(self._lookups.max_visibility_delay):
            raise self.unknown()
        return None

    def unknown(self, found: Sequence[Candidate[FoundT]] = ()) -> OutcomeUnknownError:
        """The error that says that it cannot be told, with the names of what may have come of it."""
        error = self._failure
        correlation_id = error.correlation_id if isinstance(error, OutcomeUnknownError | StatusError) else None
        seen = f"; it may be one of {len(found)} begun since" if found else ""
        names = tuple(one.name for one in found)
        unknown = OutcomeUnknownError(
            f"{error.message}{seen}", error.call, self._asked_at(), correlation_id, None, names
        )
        unknown.__cause__ = (error.__cause__ if isinstance(error, OutcomeUnknownError) else None) or error
        return unknown

    async def _sleep(self, seconds: float) -> None:
        if self._deadline is not None and self._clock.time() + seconds >= self._deadline:
            raise self.unknown()
        try:
            await self._clock.sleep(seconds)
        except CodatError as error:
            raise self.unknown() from error

    def _is_in_progress(self) -> bool:
        if not isinstance(self._failure, ConflictError):
            return False
        now = self._clock.time()
        if self._in_progress_since is None:
            self._in_progress_since = now
        return now - self._in_progress_since < _MAX_IN_PROGRESS

    def _asked_at(self) -> datetime:
        """The server's time of the first request, the earliest that it can have been."""
        window = self._window()
        if window is not None:
            return window[0]
        return self._clock.server_time(self._clock.now() if self._first is None else self._first.local)

    def _window(self) -> tuple[datetime, datetime] | None:
        """Return the server times between which the first request was sent; None if no clock can be relied on.

        All estimates agree unless a clock was set or a response had a wrong `Date`; then the truth is among them.
        """
        offset, first = self._clock.server_offset, self._first
        if offset is None or first is None or first.is_unconfirmed:
            return None
        moments = [first.local + offset]
        if first.server is not None:
            moments.append(first.server)
        if self._requested_at is not None:
            moments.append(self._requested_at.timestamp())
        if abs(offset) > _TOLERANCE:
            moments.append(first.local)
        try:
            return datetime.fromtimestamp(min(moments), UTC), datetime.fromtimestamp(max(moments), UTC)
        except (OverflowError, ValueError, OSError):  # a `Date` at the end of the calendar
            return None

    def _candidates(self, seen: Sequence[Candidate[FoundT]]) -> tuple[list[Candidate[FoundT]], list[Claim]]:
        """What may have come of the write, and the other requests of ours whose resource may be among it."""
        rivals: list[Claim] = []
        free = {id(one): one for one in seen if not self._claims.is_others(self._claim, one.name)}
        for other in self._claims.others(self._claim):
            theirs = [one for one in free.values() if one.began is not None and one.began == other.created_at]
            if len(theirs) == 1:
                del free[id(theirs[0])]
            else:
                rivals.append(other)
        possible = [one for one in free.values() if self._may_be_ours(one)]
        if self._window() is not None:
            rivals = [other for other in rivals if any(other.may_have_created(one.began) for one in possible)]
        return possible, rivals

    def _may_be_ours(self, found: Candidate[FoundT]) -> bool:
        """Whether it may have come of the write; what does not say when it began may have."""
        window = self._window()
        if window is None or found.began is None:
            return True
        return found.began >= window[0] - (KEY_MEMORY if self._given else DRIFT)

    def _is_ours(self, found: Candidate[FoundT], rivals: Sequence[Claim]) -> bool:
        window = self._window()
        if window is None or found.began is None or rivals or not (found.matches and self._lookups.adopt):
            return False
        return found.began >= window[1] - _ROUNDING


def _doubt(error: CodatError, *, used: bool, surely: bool) -> Ambiguity | None:
    """Why it is not known whether the write happened; the key may have been `used` before, or `surely` was."""
    match error:
        case OutcomeUnknownError():
            return Ambiguity.SERVER_ERROR if _is_codats_own(error.__cause__) else Ambiguity.NO_RESPONSE
        case DecodeError():
            return Ambiguity.UNREADABLE_RESPONSE
        case ConflictError() if used:
            return Ambiguity.NO_RESPONSE
        case StatusError(conclusive=True):
            return None
        case _:
            # What could not be sent, or was turned away before its key was looked at, says nothing of what was sent
            # before it.
            return Ambiguity.NO_RESPONSE if surely else None


def _is_codats_own(cause: BaseException | None) -> bool:
    """Whether it is a 5xx by Codat, which is remembered for the key, and not by a gateway, which may give up early."""
    return isinstance(cause, ServerError) and cause.error is not None and cause.error.correlation_id is not None
