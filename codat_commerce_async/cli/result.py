"""How a sync ended, in the words that are shown."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from codat_commerce_async.errors import CodatError
from codat_commerce_async.models.sync import Outcome, SyncState
from codat_commerce_async.syncing.journal import Entry
from codat_commerce_async.syncing.outcome import SyncOutcome

__all__ = ["Result"]

_ERRORS: Mapping[str, str] = {
    "SyncWaitTimeoutError": "still running",
    "OutcomeUnknownError": "unknown",
    "RequestTimeoutError": "no answer in time",
    "TransportError": "no answer",
    "DecodeError": "answer unreadable",
}
_BETWEEN_WORDS = re.compile("(?<=[a-z])(?=[A-Z])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One sync's end: whether it was good, in a word or three, and why not.

    `code` is Codat's status code. `seen` is false where the end was not seen, so that the sync may go on.
    """

    good: bool
    word: str
    why: str | None = None
    code: int | None = None
    seen: bool = True

    @classmethod
    def of_outcome(cls, outcome: SyncOutcome) -> Self:
        """What came of a sync in a fan-out."""
        if outcome.status is not None:
            return cls.of_status(outcome.status)
        return cls._of_error(type(outcome.error).__name__, str(outcome.error))

    @classmethod
    def of_status(cls, status: SyncState) -> Self:
        """A terminal status."""
        return cls._of_end(status.outcome.name, status.sync_status_code, status.error_message, good=status.succeeded)

    @classmethod
    def of_error(cls, error: CodatError) -> Self:
        """An error that kept a sync from being started or followed."""
        return cls._of_error(type(error).__name__, str(error))

    @classmethod
    def of_entry(cls, entry: Entry) -> Self | None:
        """What a journal says of a sync's end, if it has ended."""
        if entry.state == "error":
            return cls._of_error(entry.outcome or "", entry.message or "")
        if not entry.is_finished:
            return None
        return cls._of_end(entry.outcome or "", entry.code, entry.message, good=entry.state == "succeeded")

    @classmethod
    def _of_end(cls, name: str, code: int | None, message: str | None, *, good: bool) -> Self:
        outcome = Outcome.__members__.get(name)
        means = outcome.value if outcome is not None else name
        why = None if good else f"{code}, {means}" + (f": {message}" if message else "")
        return cls(good=good, word=name.replace("_", " ").lower(), why=why, code=code)

    @classmethod
    def _of_error(cls, name: str, message: str) -> Self:
        word = _ERRORS.get(name) or _BETWEEN_WORDS.sub(" ", name.removesuffix("Error")).lower()
        return cls(good=False, word=word, why=message, seen=False)
