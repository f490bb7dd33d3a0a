"""What a fan-out has done so far, kept in an SQLite file that survives the process."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

from codat_commerce_async.errors import JournalError
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.syncing import entries
from codat_commerce_async.syncing.ending import undisturbed
from codat_commerce_async.syncing.entries import Entry
from codat_commerce_async.syncing.outcome import SyncOutcome
from codat_commerce_async.syncing.request import SyncRequest

__all__ = ["Entry", "Journal", "read_journal"]

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

_LARGEST_BATCH = 500


class Journal:
    """A fan-out's journal: everything is written, and on the disk, before the coroutine that wrote it goes on.

    One thread owns the file, and commits at once what has come together since its last commit. The file is locked: a
    second process is told so. `run` is this run's number. Raises JournalError for whatever is wrong with the file or
    the disk.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()
        self.run = 1
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="codat-journal")
        self._file: sqlite3.Connection | None = None
        self._orders: list[_Order] = []
        self._commit: asyncio.Future[None] | None = None

    @classmethod
    async def open(cls, path: str | Path) -> Self:
        """The journal in this file, which is made if there is none."""
        journal = cls(Path(path))
        try:
            await undisturbed(journal._run(journal._open))
        except BaseException:
            await journal.close()
            raise
        return journal

    async def close(self) -> None:
        """Write what is left and let go of the file."""
        await undisturbed(asyncio.ensure_future(self._close()))

    async def find(self, request: SyncRequest) -> Entry | None:
        """What is known of this sync, or None."""
        return await self._order(lambda file: entries.find(file, request))

    async def unfinished(self) -> list[Entry]:
        """The syncs that were asked for, or running, when the journal was written last; the first one first."""
        return await self._order(
            lambda file: list(entries.entries(file, "WHERE state IN ('asking', 'running') ORDER BY asked_at"))
        )

    async def durations(self) -> list[float]:
        """How long the syncs took that ended, in seconds, the latest thousand."""
        return await self._order(entries.durations)

    async def asking(self, request: SyncRequest, key: str, asked_at: float) -> None:
        """Note that the sync is about to be asked for, under this key."""
        entry = Entry(request, "asking", idempotency_key=key, asked_at=asked_at)
        await self._order(lambda file: entries.write(file, entry))

    async def running(self, request: SyncRequest, handle: SyncHandle) -> None:
        """Note that the sync was started, or that more is known of its ids."""

        def work(file: sqlite3.Connection) -> None:
            entry = entries.find(file, request) or Entry(request, "running")
            entries.write(file, replace(entry, state="running", handle=handle, outcome=None, message=None))

        await self._order(work)

    async def ended(self, outcome: SyncOutcome, now: float) -> None:
        """Note how the sync ended."""

        def work(file: sqlite3.Connection) -> None:
            entry = entries.find(file, outcome.request) or Entry(outcome.request, "error")
            entries.write(file, replace(entries.ended(entry, outcome, now), run=self.run))

        await self._order(work)

    async def _order(self, work: Work[T]) -> T:
        """What the thread makes of this piece of work, once it is on the disk."""
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._orders.append(_Order(work, done))
        if self._commit is None:
            self._commit_next()
        return await done

    def _commit_next(self) -> None:
        orders, self._orders = self._orders[:_LARGEST_BATCH], self._orders[_LARGEST_BATCH:]
        self._commit = self._run(partial(self._carry_out, orders))
        self._commit.add_done_callback(partial(self._committed, orders))

    def _committed(self, orders: "list[_Order]", commit: asyncio.Future[None]) -> None:
        """Tell everybody what came of it, and go on with what has come together meanwhile."""
        self._commit = None
        if self._orders:
            self._commit_next()
        error = commit.exception()
        for order in orders:
            order.settle(error)

    async def _close(self) -> None:
        while self._commit is not None:
            await asyncio.wait((self._commit,))
        if self._file is not None:
            await self._run(partial(entries.close, self._file))
        self._thread.shutdown()

    def _run(self, work: Callable[[], T]) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _open(self) -> None:
        self._file = entries.open_to_write(self._path)
        self.run = entries.last_run(self._file) + 1

    def _carry_out(self, orders: "list[_Order]") -> None:
        """Do all of it and commit it together; when that fails nothing of it is done. Runs in the thread."""
        file = self._file
        if file is None:
            raise JournalError(f"the journal {self._path} is not open")
        try:
            file.execute("BEGIN IMMEDIATE")
            for order in orders:
                order.result = order.work(file)
            file.execute("COMMIT")
        except (sqlite3.Error, ValueError, OverflowError) as error:
            raise JournalError(f"the journal {self._path} could not be written: {error}") from None
        finally:
            _roll_back(file)


class _Order:
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


def read_journal(path: str | Path) -> Iterator[Entry]:
    """Every entry of a finished or interrupted journal, by company. Raises JournalError."""
    path = Path(path).absolute()
    if not path.exists():
        raise JournalError(f"there is no journal {path}")
    file = entries.open_to_read(path)
    try:
        yield from entries.entries(file, "ORDER BY company_id, period")
    except (sqlite3.Error, ValueError) as error:
        raise JournalError(entries.opening_failed(path, error)) from None
    finally:
        file.close()


def _roll_back(file: sqlite3.Connection) -> None:
    """Undo what was begun and not committed; what cannot even be undone never reaches the disk."""
    if file.in_transaction:
        with contextlib.suppress(sqlite3.Error):
            file.execute("ROLLBACK")
