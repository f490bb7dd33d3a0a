"""A write that must happen exactly once: asked for under one key, looked for in doubt, asked anew if need be."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime, timedelta
from enum import Enum
from typing import Generic, Protocol, TypeVar

from codat_commerce_async._retry import KEY_LIFETIME
from codat_commerce_async.errors import CodatError, DecodeError, OutcomeUnknownError, ServerError

__all__ = ["Doubt", "Found", "Surroundings", "once"]

AnswerT = TypeVar("AnswerT")
FoundT = TypeVar("FoundT")

# A write that happened may take a moment to be seen; nothing seen after the last look is taken for nothing done.
_LOOKS_AFTER = (1.0, 4.0, 10.0)
# How often a write is asked for anew, or again, before it is given up as unknown.
_ROUNDS = 3
# `Date` counts whole seconds, and Codat's machines need not agree to the millisecond.
_SKEW = timedelta(seconds=1)


class Doubt(Enum):
    """Why it is not known whether a write happened, and so what to do when none is seen.

    | what came back                          | a look finds one | several     | none                            |
    |-----------------------------------------|------------------|-------------|---------------------------------|
    | REFUSED: 5xx in Codat's own words       | adopt it         | unknown     | ask under a new key             |
    | UNANSWERED: nothing, a gateway's 5xx,   | adopt it         | unknown     | ask again under the same key    |
    |   or a 409 that did not pass            |                  |             |                                 |
    | STALE: as before, the key too old       | adopt it         | unknown     | ask under a new key             |
    | ANSWERED: a 2xx that cannot be read     | adopt it         | unknown     | unknown                         |

    Codat remembers its own 5xx for the key, so the same key could only replay it; what never reached Codat, or is
    still being worked on, is safe under the same key and no other.
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
    ask: Callable[[str], Awaitable[AnswerT]],
    look: Callable[[], Awaitable[Iterable[Found[FoundT]]]],
    *,
    key: str | None,
    new_key: Callable[[], Awaitable[str]],
    where: Surroundings,
    asked_at: float | None = None,
) -> AnswerT | Found[FoundT]:
    """The answer to `ask`, or what `look` found to have come of it.

    `new_key` gives the key to ask under, and returns when it is safely noted. `asked_at` (epoch seconds) is when the
    given `key` may have been used before, by a process that did not live to see the answer. Raises what `ask` raises,
    except that an OutcomeUnknownError is tried to be settled first, and carries the names of what was found if it
    cannot be.
    """
    first_sent = key_used_at = asked_at
    rounds_left = _ROUNDS
    while True:
        if key is None:
            key, key_used_at = await new_key(), None
        failure: OutcomeUnknownError | DecodeError
        if key_used_at is not None and where.now() - key_used_at > KEY_LIFETIME:
            failure = OutcomeUnknownError("Codat may have forgotten the idempotency key by now")
        else:
            key_used_at = where.now() if key_used_at is None else key_used_at
            try:
                return await ask(key)
            except (OutcomeUnknownError, DecodeError) as error:
                failure = error
        if first_sent is None:
            first_sent = failure.attempts[0].started_at.timestamp() if failure.attempts else key_used_at
        doubt = _doubt(failure, where.now() - key_used_at)
        try:
            found = await _begun_since(first_sent, look, doubt, where)
        except CodatError as error:
            raise _unknown(failure, where.server_time(first_sent), ()) from error
        if len(found) == 1 and found[0].began is not None:
            return found[0]
        if found or doubt is Doubt.ANSWERED or not rounds_left:
            raise _unknown(failure, where.server_time(first_sent), found) from failure
        rounds_left -= 1
        if doubt is not Doubt.UNANSWERED:
            key = None


def _doubt(error: OutcomeUnknownError | DecodeError, age: float) -> Doubt:
    if isinstance(error, DecodeError):
        return Doubt.ANSWERED
    cause = error.__cause__
    if isinstance(cause, ServerError) and cause.error is not None:
        return Doubt.REFUSED
    return Doubt.STALE if age > KEY_LIFETIME else Doubt.UNANSWERED


async def _begun_since(
    first_sent: float,
    look: Callable[[], Awaitable[Iterable[Found[FoundT]]]],
    doubt: Doubt,
    where: Surroundings,
) -> Sequence[Found[FoundT]]:
    """What has begun since the first request; what does not say when it began may have."""
    pauses = _LOOKS_AFTER[:1] if doubt is Doubt.UNANSWERED else _LOOKS_AFTER
    for pause in pauses:
        await where.sleep(pause)
        seen = tuple(await look())
        since = where.server_time(first_sent) - _SKEW
        found = [one for one in seen if one.began is None or one.began >= since]
        if found:
            return found
    return ()


def _unknown(
    error: OutcomeUnknownError | DecodeError, requested_at: datetime, found: Sequence[Found[FoundT]]
) -> OutcomeUnknownError:
    correlation_id = error.correlation_id if isinstance(error, OutcomeUnknownError) else None
    seen = f"; it may be one of {len(found)} begun since" if found else ""
    names = tuple(one.name for one in found)
    return OutcomeUnknownError(f"{error.message}{seen}", error.call, requested_at, correlation_id, None, names)
