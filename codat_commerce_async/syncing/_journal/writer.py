"""The journal as a fan-out writes it: one thread owns the file and commits together what arrived meanwhile."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from attrs import define, evolve, field, frozen

from codat_commerce_async.errors import JournalError
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.syncing._aio import wait_uncancelled
from codat_commerce_async.syncing._journal import rows
from codat_commerce_async.syncing._journal.entry import JournalEntry, with_outcome
from codat_commerce_async.syncing._journal.file import JournalFile
from codat_commerce_async.syncing._journal.rows import SyncKey
from codat_commerce_async.syncing.outcome import SyncOutcome
from codat_commerce_async.syncing.request import SyncRequest

__all__ = ["JournalWriter", "Resume", "RunOptions"]

T = TypeVar("T")
Work = Callable[[JournalFile], T]
Resume = Literal["unfinished", "never"]
"""How to handle unfinished syncs of earlier runs: finish them, or leave them as they are."""

_MAX_BATCH = 500
# The number of unfinished entries that are read at once. The thread serves other callers between two reads.
_SLICE = 200
# Counts are written with the first commit at least this many seconds after they were last written.
_COUNTS_INTERVAL = 1.0
_MINUTE = 60


@frozen(kw_only=True)
class RunOptions:
    """Which run of a journal to begin or to continue, and which others to keep. None stands for the default."""

    run_id: str | None = None
    """The run to continue or to begin."""

    resume: Resume = "unfinished"
    """How to handle unfinished syncs of earlier runs."""

    keep_runs: int | None = None
    """How many runs to keep; None for all."""

    companies: int | None = None
    """The length of the input, None if it has none."""


class JournalWriter:
    """The journal of a fan-out in a file: a coroutine that writes returns once the entry is on the disk.

    One thread owns the file. It commits together all writes that arrived during the last commit. Other processes can
    read the file at the same time, but not write it. Raises JournalError if the file or the disk fails.
    """

    is_persistent = True

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()
        self.run = 1
        self.session = 1
        self.run_id: str | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="codat-journal")
        self._file: JournalFile | None = None
        self._pending: list[_Write] = []
        self._commit: asyncio.Future[None] | None = None
        # Starts and polls by minute since the epoch.
        self._counts: dict[int, list[int]] = {}
        self._counts_due = 0.0

    @classmethod
    async def open(cls, path: str | Path, options: RunOptions | None = None, *, now: float | None = None) -> Self:
        """Open the journal in this file, creating the file if necessary, and begin or continue a run.

        `now` is epoch seconds of the local clock, by default the present time.
        """
        journal = cls(Path(path))
        moment = time.time() if now is None else now
        try:
            await wait_uncancelled(journal._run_in_thread(partial(journal._open, options or RunOptions(), moment)))
        except BaseException:
            await journal.close()
            raise
        return journal

    async def close(self) -> None:
        """Commit what is pending and release the file, even if the caller is cancelled."""
        await wait_uncancelled(asyncio.ensure_future(self._close()))

    async def get(self, request: SyncRequest) -> JournalEntry | None:
        """Return the entry of this sync in this run, or None."""
        key = SyncKey.of(self.run, request)
        return await self._submit(lambda file: file.get(key))

    async def of_company(self, company_id: str) -> list[JournalEntry]:
        """Return the entries of all syncs of a company, in all runs."""
        return await self._submit(lambda file: file.of_company(company_id))

    async def unfinished(self) -> AsyncIterator[list[JournalEntry]]:
        """Yield the syncs that had not ended at the first step, in slices, the earliest start first."""
        keys = await self._submit(lambda file: file.read(rows.unfinished))
        for first in range(0, len(keys), _SLICE):
            entries = await self._submit(partial(_get_all, keys[first : first + _SLICE]))
            yield [entry for entry in entries if entry is not None]

    async def durations(self) -> list[float]:
        """Return the durations of the last thousand completed syncs, in seconds."""
        return await self._submit(lambda file: file.read(rows.durations))

    def count_poll(self, now: float) -> None:
        """Count a poll at `now` (epoch seconds); the count is written with a later commit."""
        self._count(now, 1)

    async def record_start(
        self,
        request: SyncRequest,
        key: str,
        sent_at: float,
        server_offset: float | None = None,
        position: int | None = None,
    ) -> None:
        """Record that the start request is about to be sent with this idempotency key.

        `sent_at` is epoch seconds of the local clock. `server_offset` is the server's time minus the local time in
        seconds, or None if it is not known. `position` is the place of the request in the input, from 1.
        """
        self._count(sent_at, 0)
        entry = JournalEntry(
            request,
            "starting",
            idempotency_key=key,
            sent_at=sent_at,
            server_offset=server_offset,
            position=position,
            run=self.run,
        )
        await self._submit(lambda file: file.write(entry))

    async def record_not_started(self, request: SyncRequest, key: str) -> None:
        """Delete the entry of a start that was not sent or was refused, so that the next call starts the sync again."""
        sync = SyncKey.of(self.run, request)

        def work(file: JournalFile) -> None:
            entry = file.get(sync)
            if entry is not None and entry.state == "starting" and entry.idempotency_key == key:
                file.delete(sync)

        await self._submit(work)

    async def record_running(self, request: SyncRequest, handle: SyncHandle, run: int | None = None) -> None:
        """Record that the sync was started, or that more of its ids are known."""
        key = SyncKey.of(run or self.run, request)

        def work(file: JournalFile) -> None:
            entry = file.get(key) or JournalEntry(request, "running", run=key.run)
            cleared = evolve(entry, outcome=None, message=None, status=None, error=None, diagnosis=None)
            file.write(evolve(cleared, state="running", handle=handle))

        await self._submit(work)

    async def record_outcome(
        self, outcome: SyncOutcome, now: float, *, run: int | None = None, position: int | None = None
    ) -> None:
        """Record how the sync ended; `now` is epoch seconds of the local clock, `run` its run if it is not this one."""
        key = SyncKey.of(run or self.run, outcome.request)

        def work(file: JournalFile) -> None:
            entry = file.get(key) or JournalEntry(outcome.request, "error", run=key.run, position=position)
            # A diagnosis belongs to an outcome that is recorded, maybe by an earlier process.
            session = entry.session if outcome.diagnosis is not None and entry.has_ended else self.session
            file.write(evolve(with_outcome(entry, outcome, now), session=session))

        await self._submit(work)

    async def record_end(self, now: float) -> None:
        """Record that all syncs of this run have ended; `now` is epoch seconds of the local clock."""
        await self._submit(lambda file: file.end_run(self.run, now))

    def _count(self, now: float, kind: int) -> None:
        """Count a start (0) or a poll (1)."""
        self._counts.setdefault(int(now // _MINUTE), [0, 0])[kind] += 1

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
        self._commit = self._run_in_thread(partial(self._write_batch, batch, self._take_counts()))
        self._commit.add_done_callback(partial(self._committed, batch))

    def _take_counts(self) -> dict[int, list[int]]:
        """Return the counts to write with the next commit."""
        now = time.monotonic()
        if not self._counts or now < self._counts_due:
            return {}
        self._counts_due = now + _COUNTS_INTERVAL
        counts, self._counts = self._counts, {}
        return counts

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
            await self._run_in_thread(partial(self._close_file, self._file))
        self._thread.shutdown()

    def _close_file(self, file: JournalFile) -> None:
        """Write the remaining counts and close the file. Runs in the thread."""
        try:
            if self._counts:
                with file.transaction():
                    self._write_counts(file, self._counts)
        except (JournalError, sqlite3.Error, ValueError, OSError):
            # They are for a chart; the entries are on the disk.
            pass
        finally:
            file.close()

    def _run_in_thread(self, work: Callable[[], T]) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _open(self, options: RunOptions, now: float) -> None:
        """Open the file, choose the run and delete old ones. Runs in the thread."""
        file = self._file = JournalFile.open(self._path)
        try:
            with file.transaction():
                self.run = file.begin_run(options.run_id, now, options.companies)
                self.run_id = next(run.run_id for run in file.runs if run.number == self.run)
                self.session = file.read(lambda connection: rows.last_session(connection, self.run)) + 1
                for number in self._outdated(file, options):
                    file.delete_run(number)
        except (sqlite3.Error, ValueError, TypeError, OverflowError) as error:
            raise JournalError(f"the journal {self._path} could not be written: {error}") from None

    def _outdated(self, file: JournalFile, options: RunOptions) -> list[int]:
        """Return the runs to delete; not those whose unfinished syncs are to be finished."""
        if options.keep_runs is None:
            return []
        kept = {self.run}
        if options.resume == "unfinished":
            kept |= {key.run for key in file.read(rows.unfinished)}
        return [run.number for run in file.runs[: -options.keep_runs] if run.number not in kept]

    def _write_counts(self, file: JournalFile, counts: dict[int, list[int]]) -> None:
        for minute, (starts, polls) in counts.items():
            file.add_counts(self.run, minute, starts, polls)

    def _write_batch(self, batch: "list[_Write]", counts: dict[int, list[int]]) -> None:
        """Commit all writes together; if one fails, none is written. Runs in the thread."""
        file = self._file
        if file is None:
            raise JournalError(f"the journal {self._path} is not open")
        try:
            with file.transaction():
                for write in batch:
                    write.result = write.work(file)
                self._write_counts(file, counts)
        except (sqlite3.Error, ValueError, TypeError, OverflowError) as error:
            raise JournalError(f"the journal {self._path} could not be written: {error}") from None


@define(eq=False)
class _Write:
    """Work for the thread, and the future of the coroutine that waits for it."""

    work: Work[object]
    _done: "asyncio.Future[Any]"
    result: object = field(default=None, init=False)

    def finish(self, error: BaseException | None) -> None:
        """Set the result or the error, unless the waiting task was cancelled. Runs on the event loop."""
        if self._done.done():
            return
        if error is None:
            self._done.set_result(self.result)
        else:
            # Each caller adds a traceback to an error of its own.
            self._done.set_exception(copy(error))


def _get_all(keys: list[SyncKey], file: JournalFile) -> list[JournalEntry | None]:
    return [file.get(key) for key in keys]
