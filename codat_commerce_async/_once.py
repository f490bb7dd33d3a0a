"""A write that must happen exactly once: asked for under one key, looked for in doubt, asked anew if need be."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime, timedelta
from enum import Enum
from typing import Generic, Protocol, TypeVar

from codat_commerce_async._retry import KEY_LIFETIME
from codat_commerce_async.errors import (
    BadRequestError,
    CodatError,
    ConflictError,
    DecodeError,
    IdempotencyMismatchError,
    NotFoundError,
    OutcomeUnknownError,
    ServerError,
    StatusError,
    TransportError,
)

__all__ = ["Doubt", "Found", "Surroundings", "once"]

AnswerT = TypeVar("AnswerT")
FoundT = TypeVar("FoundT")

# A write that happened may take a moment to be seen; nothing seen after the last look is taken for nothing done.
_PAUSES = (1.0, 4.0, 10.0)
# How often a new key is taken before the write is given up as unknown.
_NEW_KEYS = 3
# How long a 409 is taken for our own first request being worked on, and how often it is asked whether it still is.
_PATIENCE = 180.0
_IN_PROGRESS_PAUSE = 5.0
# `Date` counts whole seconds. What began later than this before our request is surely not older than it ...
_SKEW = timedelta(seconds=2)
# ... and what began earlier than this surely is: Codat's machines, and what stands between, may differ by as much.
_DRIFT = timedelta(seconds=60)
# A key that was given to us may have been used before, as long ago as Codat remembers it.
# https://docs.codat.io/using-the-api/idempotency
_KEY_MEMORY = timedelta(minutes=90)


class Doubt(Enum):
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
    its answer is surely ours. What a look finds is adopted only if it began after our request for sure.
    Source: https://docs.codat.io/using-the-api/idempotency
    """

    REFUSED = "refused"
    UNANSWERED = "unanswered"
    STALE = "stale"
    ANSWERED = "answered"


class Found(Generic[FoundT]):
    """What a look found: `value`, by the name it goes by, and when it began as far as Codat says."""

    __slots__ = ("began", "name", "value")

    def __init__(self, value: FoundT, name: str, began: datetime | None) -> None:
        self.value = value
        self.name = name
        self.began = began


class Surroundings(Protocol):
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

    async def sleep(self, seconds: float) -> None:
        """Let time pass; raises ClientClosedError when the client is closed meanwhile."""
        ...


async def once(
    ask: Callable[[str, float | None], Awaitable[AnswerT]],
    look: Callable[[], Awaitable[Iterable[Found[FoundT]]]],
    *,
    key: str | None,
    first_asked: float | None = None,
    new_key: Callable[[str | None], Awaitable[str]],
    where: Surroundings,
    until: float | None = None,
) -> AnswerT | Found[FoundT]:
    """The answer to `ask`, or what `look` found to have come of it.

    `ask` takes the key, and the seconds after which it must not be sent any more (None: any time). `key` may have been
    used before, since `first_asked` (epoch seconds) if that is known. `new_key` takes the last key and gives the next,
    when that is safely noted. No pause is begun that would end after `until`, on the clock of `where`.

    Raises what `ask` raises when that says for sure that nothing was done, and else, when it cannot be settled, an
    OutcomeUnknownError with the names of what it may be.
    """
    write = _Write(look, where, until, given=key is not None and first_asked is None)
    if first_asked is not None:
        write.was_asked_at(first_asked)
    new_keys_left = _NEW_KEYS
    while True:
        key = key if key is not None else await new_key(None)
        try:
            return await ask(key, write.key_left())
        except CodatError as error:
            doubt = write.doubt(error)
            if doubt is None:
                raise
        if await write.same_key_again(doubt):
            continue
        found = await write.look_around(doubt)
        if found is not None:
            return found
        if not new_keys_left:
            raise write.unknown()
        new_keys_left -= 1
        key = await new_key(key)
        write.take_new_key()


class _Write(Generic[FoundT]):
    """What is known of one write: since when it may have happened, and under which kind of key."""

    def __init__(
        self,
        look: Callable[[], Awaitable[Iterable[Found[FoundT]]]],
        where: Surroundings,
        until: float | None,
        *,
        given: bool,
    ) -> None:
        self._look = look
        self._where = where
        self._until = until
        self._given = given
        self._first_sent: float | None = None
        self._requested_at: datetime | None = None
        self._key_since: tuple[float, float] | None = None
        self._used = given
        self._answered = False
        self._pauses = iter(_PAUSES)
        self._in_progress_since: float | None = None
        self._failure: CodatError = TransportError("Codat may have forgotten the idempotency key by now")

    def was_asked_at(self, local: float) -> None:
        """Note that the write may have happened since then; a later moment than one noted before changes nothing."""
        if self._first_sent is None:
            self._first_sent = local
        if self._key_since is None:
            self._key_since = self._where.time() - max(0.0, self._where.now() - local), local
        self._used = True

    def take_new_key(self) -> None:
        """Note that nothing came of the last key, and that there is another."""
        self._used = False
        self._key_since = None
        self._pauses = iter(_PAUSES)
        self._in_progress_since = None

    def key_left(self) -> float | None:
        """Seconds for which the key is sure to be remembered; None for one that was not used yet, as far as known."""
        if self._key_since is None:
            return None
        # The one clock stands still while the machine is suspended, the other may be set back.
        passed, local = self._key_since
        return KEY_LIFETIME - max(self._where.time() - passed, self._where.now() - local)

    def doubt(self, error: CodatError) -> Doubt | None:
        """Why it is not known now whether the write happened; None when the error says that it did not."""
        doubt = _doubt(error, used=self._used, surely=self._key_since is not None)
        if doubt is None:
            return None
        self._failure = error
        self._answered = self._answered or doubt is Doubt.ANSWERED
        if self._requested_at is None and self._first_sent is None and isinstance(error, OutcomeUnknownError):
            self._requested_at = error.requested_at
        self.was_asked_at(error.attempts[0].started_at.timestamp() if error.attempts else self._where.now())
        left = self.key_left()
        return Doubt.STALE if doubt is Doubt.UNANSWERED and left is not None and left <= 0 else doubt

    async def same_key_again(self, doubt: Doubt) -> bool:
        """Whether the same key is to be tried once more; returns when it is time to."""
        if doubt not in {Doubt.UNANSWERED, Doubt.ANSWERED}:
            return False
        pause = _IN_PROGRESS_PAUSE if self._is_in_progress() else next(self._pauses, None)
        if pause is None:
            return False
        await self._rest(pause)
        return True

    async def look_around(self, doubt: Doubt) -> Found[FoundT] | None:
        """What the write became; None when it is certain that nothing did, so that a new key does it once."""
        seen, trouble = None, None
        possible: list[Found[FoundT]] = []
        for pause in _PAUSES:
            await self._rest(pause)
            try:
                seen = tuple(await self._look())
            except CodatError as error:
                seen, trouble = None, error
                continue
            if possible := self._possible(seen):
                break
        if seen is None:
            raise self.unknown() from trouble
        if len(possible) == 1 and self._is_ours(possible[0]):
            return possible[0]
        if possible or self._answered or doubt not in {Doubt.REFUSED, Doubt.STALE}:
            raise self.unknown(possible)
        return None

    def unknown(self, found: Sequence[Found[FoundT]] = ()) -> OutcomeUnknownError:
        """The error that says that it cannot be told, with the names of what may have come of it."""
        error = self._failure
        correlation_id = error.correlation_id if isinstance(error, OutcomeUnknownError | StatusError) else None
        seen = f"; it may be one of {len(found)} begun since" if found else ""
        names = tuple(one.name for one in found)
        unknown = OutcomeUnknownError(
            f"{error.message}{seen}", error.call, self._asked()[0], correlation_id, None, names
        )
        unknown.__cause__ = (error.__cause__ if isinstance(error, OutcomeUnknownError) else None) or error
        return unknown

    async def _rest(self, seconds: float) -> None:
        if self._until is not None and self._where.time() + seconds >= self._until:
            raise self.unknown()
        try:
            await self._where.sleep(seconds)
        except CodatError as error:
            raise self.unknown() from error

    def _is_in_progress(self) -> bool:
        if not isinstance(self._failure, ConflictError):
            return False
        now = self._where.time()
        if self._in_progress_since is None:
            self._in_progress_since = now
        return now - self._in_progress_since < _PATIENCE

    def _asked(self) -> tuple[datetime, datetime]:
        """Between which moments of the server's clock the first request went out.

        What it was thought to be then and what it is now are the same, unless a clock was set or an answer had a wrong
        `Date`.
        """
        now = self._where.server_time(self._where.now() if self._first_sent is None else self._first_sent)
        then = self._requested_at or now
        return min(then, now), max(then, now)

    def _possible(self, seen: Sequence[Found[FoundT]]) -> list[Found[FoundT]]:
        """What may have come of the write; what does not say when it began may have."""
        since = self._asked()[0] - (_KEY_MEMORY if self._given else _DRIFT)
        return [one for one in seen if one.began is None or one.began >= since]

    def _is_ours(self, found: Found[FoundT]) -> bool:
        return found.began is not None and found.began >= self._asked()[1] - _SKEW


def _doubt(error: CodatError, *, used: bool, surely: bool) -> Doubt | None:
    """Why it is not known whether the write happened; the key may have been `used` before, or `surely` was."""
    match error:
        case OutcomeUnknownError():
            return Doubt.REFUSED if _is_codats_own(error.__cause__) else Doubt.UNANSWERED
        case DecodeError():
            return Doubt.ANSWERED
        case ConflictError() if used:
            return Doubt.UNANSWERED
        case BadRequestError() | NotFoundError() | IdempotencyMismatchError() if error.error is not None:
            # Had the write happened under this key, its answer would have been replayed.
            return None
        case _:
            # What could not be sent, or was turned away before its key was looked at, says nothing of what was sent
            # before it.
            return Doubt.UNANSWERED if surely else None


def _is_codats_own(cause: BaseException | None) -> bool:
    """Whether it is a 5xx by Codat, which is remembered for the key, and not by a gateway, which may give up early."""
    return isinstance(cause, ServerError) and cause.error is not None and cause.error.correlation_id is not None
