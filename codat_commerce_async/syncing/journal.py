"""The journal of a fan-out: an SQLite file that records each sync, so that another process can resume the run."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar, runtime_checkable

from codat_commerce_async.errors import JournalError
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.syncing import _journal_rows as rows
from codat_commerce_async.syncing._aio import wait_uncancelled
from codat_commerce_async.syncing._journal_file import JournalFile, describe_open_error, snapshot
from codat_commerce_async.syncing._journal_rows import JournalEntry
from codat_commerce_async.syncing.outcome import SyncOutcome
from codat_commerce_async.syncing.request import SyncRequest

__all__ = ["Journal", "JournalEntry", "JournalStore", "NullJournal", "read_journal"]

T = TypeVar("T")
Work = Callable[[JournalFile], T]

_MAX_BATCH = 500
# The number of unfinished entries that are read at once. The thread serves other callers between two reads.
_SLICE = 200


@runtime_checkable
class JournalStore(Protocol):
    """What a fan-out needs of a journal: implemented by `Journal`, and by `NullJournal` for a run without a file."""

    @property
    def run(self) -> int:
        """Return the number of this run, from 1."""
        ...

    @property
    def is_persistent(self) -> bool:
        """Return whether another process can read the entries later."""
        ...

    async def get(self, request: SyncRequest) -> JournalEntry | None:
        """Return the entry of this sync, or None."""
        ...

    async def of_company(self, company_id: str) -> list[JournalEntry]:
        """Return the entries of all syncs of a company."""
        ...

    def unfinished(self) -> AsyncIterator[list[JournalEntry]]:
        """Yield the syncs that have not ended, in slices, the earliest start first."""
        ...

    async def durations(self) -> list[float]:
        """Return the durations of the last thousand completed syncs, in seconds."""
        ...

    async def record_start(
        self, request: SyncRequest, key: str, sent_at: float, server_offset: float | None = None
    ) -> None:
        """Record that the start request is about to be sent with this idempotency key."""
        ...

    async def record_running(self, request: SyncRequest, handle: SyncHandle) -> None:
        """Record that the sync was started, or that more of its ids are known."""
        ...

    async def record_outcome(self, outcome: SyncOutcome, now: float) -> None:
        """Record how the sync ended."""
        ...

    async def close(self) -> None:
        """Commit what is pending and release the file."""
        ...


class NullJournal:
    """The journal of a run without a file: it records nothing and has no entries."""

    run = 1
    is_persistent = False

    async def get(self, request: SyncRequest) -> JournalEntry | None:  # noqa: ARG002 - as JournalStore names it
        """Return None."""
        return None

    async def of_company(self, company_id: str) -> list[JournalEntry]:  # noqa: ARG002 - as JournalStore names it
        """Return an empty list."""
        return []

    async def unfinished(self) -> AsyncIterator[list[JournalEntry]]:
        """Yield nothing."""
        for entries in list[list[JournalEntry]]():
            yield entries

    async def durations(self) -> list[float]:
        """Return an empty list."""
        return []

    async def record_start(
        self, request: SyncRequest, key: str, sent_at: float, server_offset: float | None = None
    ) -> None:
        """Record nothing."""

    async def record_running(self, request: SyncRequest, handle: SyncHandle) -> None:
        """Record nothing."""

    async def record_outcome(self, outcome: SyncOutcome, now: float) -> None:
        """Record nothing."""

    async def close(self) -> None:
        """Return at once: there is no file."""


class Journal:
    """The journal of a fan-out in a file: a coroutine that writes returns once the entry is on the disk.

    One thread owns the file. It commits together all writes that arrived during the last commit. Other processes can
    read the file at the same time, but not write it. `run` is the number of this run. Raises JournalError if the file
    or the disk fails.
    """

    is_persistent = True

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()
        self.run = 1
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="codat-journal")
        self._file: JournalFile | None = None
        self._pending: list[_Write] = []
        self._commit: asyncio.Future[None] | None = None

    @classmethod
    async def open(cls, path: str | Path) -> Self:
        """Open the journal in this file, creating the file if necessary."""
        journal = cls(Path(path))
        try:
            await wait_uncancelled(journal._run_in_thread(journal._open))
        except BaseException:
            await journal.close()
            raise
        return journal

    async def close(self) -> None:
        """Commit what is pending and release the file, even if the caller is cancelled."""
        await wait_uncancelled(asyncio.ensure_future(self._close()))

    async def get(self, request: SyncRequest) -> JournalEntry | None:
        """Return the entry of this sync, or None."""
        return await self._submit(lambda file: file.get(request))

    async def of_company(self, company_id: str) -> list[JournalEntry]:
        """Return the entries of all syncs of a company."""
        return await self._submit(lambda file: file.read(lambda connection: rows.of_company(connection, company_id)))

    async def unfinished(self) -> AsyncIterator[list[JournalEntry]]:
        """Yield the syncs that had not ended at the first step, in slices, the earliest start first."""
        keys = await self._submit(lambda file: file.read(rows.unfinished))
        for first in range(0, len(keys), _SLICE):
            entries = await self._submit(partial(_get_all, keys[first : first + _SLICE]))
            yield [entry for entry in entries if entry is not None]

    async def durations(self) -> list[float]:
        """Return the durations of the last thousand completed syncs, in seconds."""
        return await self._submit(lambda file: file.read(rows.durations))

    async def record_start(
        self, request: SyncRequest, key: str, sent_at: float, server_offset: float | None = None
    ) -> None:
        """Record that the start request is about to be sent with this idempotency key.

        `sent_at` is epoch seconds of the local clock. `server_offset` is the server's time minus the local time in
        seconds, or None if it is not known.
        """
        entry = JournalEntry(request, "starting", idempotency_key=key, sent_at=sent_at, server_offset=server_offset)
        await self._submit(lambda file: file.write(entry))

    async def record_running(self, request: SyncRequest, handle: SyncHandle) -> None:
        """Record that the sync was started, or that more of its ids are known."""

        def work(file: JournalFile) -> None:
            entry = file.get(request) or JournalEntry(request, "running")
            file.write(replace(entry, state="running", handle=handle, outcome=None, message=None))

        await self._submit(work)

    async def record_outcome(self, outcome: SyncOutcome, now: float) -> None:
        """Record how the sync ended; `now` is epoch seconds of the local clock."""

        def work(file: JournalFile) -> None:
            entry = file.get(outcome.request) or JournalEntry(outcome.request, "error")
            file.write(replace(rows.with_outcome(entry, outcome, now), run=self.run))

        await self._submit(work)

    async def _submit(self, work: Work[T]) -> T:
        """Run the work in the thread, and return its result once it is committed."""
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._pending.append(_Write(work, done))
        if self._commit is None:
            self._commit_batch()
        return await done

    def _commit_batch(self) -> None:
        """Start the commit of what is pending."""
        batch, self._pending = self._pending[:_MAX_BATCH], self._pending[_MAX_BATCH:]
        self._commit = self._run_in_thread(partial(self._write_batch, batch))
        self._commit.add_done_callback(partial(self._committed, batch))

    def _committed(self, batch: "list[_Write]", commit: asyncio.Future[None]) -> None:
        """Start the next commit if writes are pending, and wake the callers of this one."""
        self._commit = None
        if self._pending:
            self._commit_batch()
        error = commit.exception()
        for write in batch:
            write.finish(error)

    async def _close(self) -> None:
        while self._commit is not None:
            await asyncio.wait((self._commit,))
        if self._file is not None:
            await self._run_in_thread(self._file.close)
        self._thread.shutdown()

    def _run_in_thread(self, work: Callable[[], T]) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _open(self) -> None:
        self._file = JournalFile.open(self._path)
        self.run = self._file.read(rows.last_run) + 1

    def _write_batch(self, batch: "list[_Write]") -> None:
        """Commit all writes together; if one fails, none is written. Runs in the thread."""
        file = self._file
        if file is None:
            raise JournalError(f"the journal {self._path} is not open")
        try:
            with file.transaction():
                for write in batch:
                    write.result = write.work(file)
        except (sqlite3.Error, ValueError, TypeError, OverflowError) as error:
            raise JournalError(f"the journal {self._path} could not be written: {error}") from None


class _Write:
    """Work for the thread, and the future of the coroutine that waits for it."""

    __slots__ = ("_done", "result", "work")

    def __init__(self, work: Work[object], done: "asyncio.Future[Any]") -> None:
        self.work = work
        self.result: object = None
        self._done = done

    def finish(self, error: BaseException | None) -> None:
        """Set the result or the error, unless the waiting task was cancelled. Runs on the event loop."""
        if self._done.done():
            return
        if error is None:
            self._done.set_result(self.result)
        else:
            self._done.set_exception(error)


def _get_all(keys: list[tuple[str, str]], file: JournalFile) -> list[JournalEntry | None]:
    return [file.get(key) for key in keys]


def read_journal(path: str | Path) -> Iterator[JournalEntry]:
    """Yield all entries of a journal as of one moment, ordered by company; the journal may be in use.

    Raises JournalError.
    """
    path = Path(path).absolute()
    if not path.exists():
        raise JournalError(f"there is no journal {path}")
    file = snapshot(path)
    try:
        yield from rows.entries(file)
    except (sqlite3.Error, ValueError) as error:
        raise JournalError(describe_open_error(path, error)) from None
    finally:
        file.close()
