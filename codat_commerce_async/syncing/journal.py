"""What a fan-out has done so far, kept in an SQLite file that survives the process."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

from codat_commerce_async.errors import JournalError
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.syncing import _journal_rows as entries
from codat_commerce_async.syncing._aio import wait_uncancelled
from codat_commerce_async.syncing._journal_file import JournalFile, describe_open_error, snapshot
from codat_commerce_async.syncing._journal_rows import Entry
from codat_commerce_async.syncing.outcome import SyncOutcome
from codat_commerce_async.syncing.request import SyncRequest

__all__ = ["Entry", "Journal", "read_journal"]

T = TypeVar("T")
Work = Callable[[JournalFile], T]

_LARGEST_BATCH = 500
# How many unfinished entries are read at once; others have their turn in between.
_SLICE = 200


class Journal:
    """A fan-out's journal: everything is written, and on the disk, before the coroutine that wrote it goes on.

    One thread owns the file, and commits at once what has come together since its last commit. Other processes can read
    the file meanwhile, but not write it. `run` is this run's number. Raises JournalError for whatever is wrong with the
    file or the disk.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()
        self.run = 1
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="codat-journal")
        self._file: JournalFile | None = None
        self._pending: list[_Write] = []
        self._commit: asyncio.Future[None] | None = None

    @classmethod
    async def open(cls, path: str | Path) -> Self:
        """The journal in this file, which is made if there is none."""
        journal = cls(Path(path))
        try:
            await wait_uncancelled(journal._run(journal._open))
        except BaseException:
            await journal.close()
            raise
        return journal

    async def close(self) -> None:
        """Write what is left and let go of the file."""
        await wait_uncancelled(asyncio.ensure_future(self._close()))

    async def find(self, request: SyncRequest) -> Entry | None:
        """Return what is known of this sync, or None."""
        return await self._submit(lambda file: file.find(request))

    async def of_company(self, company_id: str) -> list[Entry]:
        """Return what is known of all syncs of a company."""
        return await self._submit(lambda file: file.read(lambda rows: entries.of_company(rows, company_id)))

    async def unfinished(self) -> AsyncIterator[list[Entry]]:
        """Yield the syncs that had not ended when the journal was opened, the first one first, some at a time."""
        keys = await self._submit(lambda file: file.read(entries.unfinished))
        for start in range(0, len(keys), _SLICE):
            found = await self._submit(partial(_found, keys[start : start + _SLICE]))
            yield [entry for entry in found if entry is not None]

    async def durations(self) -> list[float]:
        """How long the syncs took that ended, in seconds, the latest thousand."""
        return await self._submit(lambda file: file.read(entries.durations))

    async def asking(self, request: SyncRequest, key: str, asked_at: float, server_offset: float | None = None) -> None:
        """Write that the sync is about to be requested with this key, at this time of the local clock.

        `server_offset` is the server's time minus the local time in seconds, or None if it is not known.
        """
        entry = Entry(request, "asking", idempotency_key=key, asked_at=asked_at, server_offset=server_offset)
        await self._submit(lambda file: file.write(entry))

    async def running(self, request: SyncRequest, handle: SyncHandle) -> None:
        """Note that the sync was started, or that more is known of its ids."""

        def work(file: JournalFile) -> None:
            entry = file.find(request) or Entry(request, "running")
            file.write(replace(entry, state="running", handle=handle, outcome=None, message=None))

        await self._submit(work)

    async def ended(self, outcome: SyncOutcome, now: float) -> None:
        """Note how the sync ended."""

        def work(file: JournalFile) -> None:
            entry = file.find(outcome.request) or Entry(outcome.request, "error")
            file.write(replace(entries.ended(entry, outcome, now), run=self.run))

        await self._submit(work)

    async def _submit(self, work: Work[T]) -> T:
        """What the thread makes of this piece of work, once it is on the disk."""
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._pending.append(_Write(work, done))
        if self._commit is None:
            self._commit_batch()
        return await done

    def _commit_batch(self) -> None:
        orders, self._pending = self._pending[:_LARGEST_BATCH], self._pending[_LARGEST_BATCH:]
        self._commit = self._run(partial(self._carry_out, orders))
        self._commit.add_done_callback(partial(self._committed, orders))

    def _committed(self, orders: "list[_Write]", commit: asyncio.Future[None]) -> None:
        """Tell everybody what came of it, and go on with what has come together meanwhile."""
        self._commit = None
        if self._pending:
            self._commit_batch()
        error = commit.exception()
        for order in orders:
            order.settle(error)

    async def _close(self) -> None:
        while self._commit is not None:
            await asyncio.wait((self._commit,))
        if self._file is not None:
            await self._run(self._file.close)
        self._thread.shutdown()

    def _run(self, work: Callable[[], T]) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _open(self) -> None:
        self._file = JournalFile.open(self._path)
        self.run = self._file.read(entries.last_run) + 1

    def _carry_out(self, orders: "list[_Write]") -> None:
        """Do all of it and commit it together; when that fails nothing of it is done. Runs in the thread."""
        file = self._file
        if file is None:
            raise JournalError(f"the journal {self._path} is not open")
        try:
            with file.transaction():
                for order in orders:
                    order.result = order.work(file)
        except (sqlite3.Error, ValueError, TypeError, OverflowError) as error:
            raise JournalError(f"the journal {self._path} could not be written: {error}") from None


class _Write:
    """A piece of work for the thread, and who waits for it."""

    __slots__ = ("_done", "result", "work")

    def __init__(self, work: Work[object], done: "asyncio.Future[Any]") -> None:
        self.work = work
        self.result: object = None
        self._done = done

    def settle(self, error: BaseException | None) -> None:
        """Tell who waits, if anybody still does, what came of it. Runs on the event loop."""
        if self._done.done():
            return
        if error is None:
            self._done.set_result(self.result)
        else:
            self._done.set_exception(error)


def _found(keys: list[tuple[str, str]], file: JournalFile) -> list[Entry | None]:
    return [file.find(key) for key in keys]


def read_journal(path: str | Path) -> Iterator[Entry]:
    """Yield every entry of a journal as of one moment, by company; it may be in use. Raises JournalError."""
    path = Path(path).absolute()
    if not path.exists():
        raise JournalError(f"there is no journal {path}")
    file = snapshot(path)
    try:
        yield from entries.entries(file)
    except (sqlite3.Error, ValueError) as error:
        raise JournalError(describe_open_error(path, error)) from None
    finally:
        file.close()
