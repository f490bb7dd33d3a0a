"""What a fan-out needs of a journal, and the journal of a run without a file."""

# ruff: noqa: ARG002 - the arguments are for implementations

import inspect
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Protocol, cast, runtime_checkable

from codat_commerce_async._core.callbacks import is_coroutine_function
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.syncing._journal.entry import JournalEntry
from codat_commerce_async.syncing.outcome import SyncOutcome
from codat_commerce_async.syncing.request import SyncRequest

__all__ = ["JournalStore", "NullJournal", "check_journal_store"]


@runtime_checkable
class JournalStore(Protocol):
    """What a fan-out needs of a journal; `JournalWriter` implements it in a file.

    A store has to define every member: what is passed as `journal` is refused otherwise. The bodies are those of a run
    without a file, `NullJournal`: they record nothing, and there are no entries.
    """

    @property
    def run(self) -> int:
        """The number of this run in the journal, from 1."""
        return 1

    @property
    def run_id(self) -> str | None:
        """The id of this run, or None without a file."""
        return None

    @property
    def session(self) -> int:
        """The number of this process among those of the run, from 1."""
        return 1

    @property
    def is_persistent(self) -> bool:
        """Whether another process can read the entries later."""
        return False

    async def get(self, request: SyncRequest) -> JournalEntry | None:
        """Return the entry of this sync in this run, or None.

        Args:
            request: The request for the sync.
        """
        return None

    async def of_company(self, company_id: str) -> list[JournalEntry]:
        """Return the entries of all syncs of a company, in all runs.

        Args:
            company_id: The id of the company.
        """
        return []

    async def unfinished(self) -> AsyncIterator[list[JournalEntry]]:
        """Yield the syncs of all runs that have not ended, in slices, the earliest start first."""
        for entries in list[list[JournalEntry]]():
            yield entries

    async def durations(self) -> list[float]:
        """Return the durations of the last thousand completed syncs, in seconds."""
        return []

    def count_poll(self, now: float) -> None:
        """Count a poll; the count is written with a later commit.

        Args:
            now: The time in epoch seconds.
        """
        return

    async def record_start(
        self,
        request: SyncRequest,
        key: str,
        sent_at: float,
        server_offset: float | None = None,
        position: int | None = None,
    ) -> None:
        """Record that the start request is about to be sent with this idempotency key.

        Args:
            request: The request for the sync.
            key: The idempotency key.
            sent_at: When the key is first sent, in epoch seconds.
            server_offset: The server's time minus the local time, in seconds.
            position: The place of the company in the input, from 1.
        """
        return

    async def record_not_started(self, request: SyncRequest, key: str) -> None:
        """Delete the entry of a start that certainly started nothing, so that the next call starts the sync again.

        The request was not sent, or Codat refused it for a reason that concerns every company.

        Args:
            request: The request for the sync.
            key: The idempotency key of the recorded start.
        """
        return

    async def record_running(self, request: SyncRequest, handle: SyncHandle, run: int | None = None) -> None:
        """Record that the sync was started, or that more of its ids are known.

        Args:
            request: The request for the sync.
            handle: The handle of the sync.
            run: The number of the run; None for this one.
        """
        return

    async def record_outcome(
        self, outcome: SyncOutcome, now: float, *, run: int | None = None, position: int | None = None
    ) -> None:
        """Record how the sync ended.

        An outcome with a diagnosis is that of an entry which has ended, maybe in an earlier session: only its diagnosis
        is new.

        Args:
            outcome: The outcome.
            now: The time in epoch seconds.
            run: The number of the run; None for this one.
            position: The place of the company in the input, from 1.
        """
        return

    async def record_end(self, now: float) -> None:
        """Record that all syncs of this run have ended.

        Args:
            now: The time in epoch seconds.
        """
        return

    async def close(self) -> None:
        """Commit what is pending and release the file."""
        return


class NullJournal(JournalStore):
    """The journal of a run without a file: it records nothing and has no entries."""


def check_journal_store(journal: object) -> JournalStore:
    """Return the journal if it has all members of `JournalStore`, else raise TypeError that names the first wrong one.

    A member that is only inherited from the protocol counts as missing: it would record nothing.
    """
    if isinstance(journal, type):
        raise TypeError(f"journal must be a path or a JournalStore (got the class {journal.__name__})")
    message = f"journal must be a path or a JournalStore (got {type(journal).__name__})"
    if not any(hasattr(journal, name) for name in _MEMBERS):
        raise TypeError(message)
    for name, member in _MEMBERS.items():
        if not _has(journal, name, member):
            raise TypeError(f"{message}: {name} must be {_expected(member)}")
    return cast("JournalStore", journal)


_MEMBERS: Mapping[str, object] = {name: value for name, value in vars(JournalStore).items() if not name.startswith("_")}


def _has(journal: object, name: str, member: object) -> bool:
    owner = next((cls for cls in type(journal).__mro__ if name in vars(cls)), None)
    if not hasattr(journal, name) or (owner is JournalStore and not isinstance(journal, NullJournal)):
        return False
    if not inspect.isfunction(member):
        return True
    method = getattr(journal, name)
    # An async generator function is none of these: calling it returns what `async for` takes.
    return is_coroutine_function(method) == is_coroutine_function(member) and _accepts(method, member)


def _accepts(method: object, member: Callable[..., object]) -> bool:
    """Return whether the method can be called as the member, with all arguments and with only the required ones."""
    if not callable(method):
        return False
    parameters = _parameters(member)
    required = [each for each in parameters if each.default is each.empty]
    try:
        signature = inspect.signature(method)
        for given in (parameters, required):
            keywords = {each.name: None for each in given if each.kind is each.KEYWORD_ONLY}
            signature.bind(*[None] * (len(given) - len(keywords)), **keywords)
    except TypeError:
        return False
    except ValueError:  # a method in C may have no signature
        return True
    return True


def _expected(member: object) -> str:
    if not inspect.isfunction(member):
        return "an attribute or a property"
    kind = "a coroutine method" if is_coroutine_function(member) else "a plain method"
    kind = "an async generator method" if inspect.isasyncgenfunction(member) else kind
    bare = [each.replace(annotation=each.empty) for each in _parameters(member)]
    return f"{kind} {inspect.Signature(bare)}"


def _parameters(member: Callable[..., object]) -> list[inspect.Parameter]:
    """Return the parameters of a method without `self`."""
    return list(inspect.signature(member).parameters.values())[1:]
