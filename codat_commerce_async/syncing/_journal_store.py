"""What a fan-out needs of a journal, and the journal of a run without a file."""

# ruff: noqa: ARG002 - the arguments are for implementations

from collections.abc import AsyncIterator
from typing import Protocol, runtime_checkable

from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.syncing._journal_rows import JournalEntry
from codat_commerce_async.syncing.outcome import SyncOutcome
from codat_commerce_async.syncing.request import SyncRequest

__all__ = ["JournalStore", "NullJournal"]


@runtime_checkable
class JournalStore(Protocol):
    """What a fan-out needs of a journal; `JournalWriter` implements it in a file.

    The bodies are those of a run without a file, `NullJournal`: they record nothing, and there are no entries.
    """

    @property
    def run(self) -> int:
        """Return the number of this run in the journal, from 1."""
        return 1

    @property
    def run_id(self) -> str | None:
        """Return the id of this run, or None without a file."""
        return None

    @property
    def session(self) -> int:
        """Return the number of this process among those of the run, from 1."""
        return 1

    @property
    def is_persistent(self) -> bool:
        """Return whether another process can read the entries later."""
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
