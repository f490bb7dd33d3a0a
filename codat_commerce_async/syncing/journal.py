"""Read the journal of a fan-out: its runs, their outcomes and what is running, also while another process writes it."""

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from attrs import evolve, frozen

from codat_commerce_async.errors import JournalError
from codat_commerce_async.syncing._journal import rows
from codat_commerce_async.syncing._journal.entry import JournalEntry
from codat_commerce_async.syncing._journal.reader import JournalReader, read
from codat_commerce_async.syncing._journal.rows import RunRow, Summary, SyncKey
from codat_commerce_async.syncing._journal.store import JournalStore, NullJournal
from codat_commerce_async.syncing.outcome import RunReport, SyncOutcome

__all__ = ["Journal", "JournalEntry", "JournalRun", "JournalStore", "MinuteCounts", "NullJournal", "read_journal"]

T = TypeVar("T")

# This many entries are read at once. The file is locked meanwhile, for some ten milliseconds.
_SLICE = 5000


@frozen(kw_only=True)
class JournalRun:
    """One run of a journal, such as a night.

    Times are in UTC, by the clock of the machine that wrote them.
    """

    run_id: str
    """The id of the run."""

    number: int
    """The number of the run, from 1."""

    began_at: datetime
    """When the run began."""

    ended_at: datetime | None
    """When the last company got its outcome; None unless all have one."""

    companies: int | None
    """The length of the input, None if it had none."""

    @property
    def has_ended(self) -> bool:
        """Whether every company of the run has an outcome."""
        return self.ended_at is not None


@frozen(kw_only=True)
class MinuteCounts:
    """The start requests and the polls of a run in one minute.

    The polls of the last second before a process was killed are missing.
    """

    minute: datetime
    """The start of the minute, in UTC."""

    starts: int
    """Start requests in the minute."""

    polls: int
    """Polls in the minute."""


class Journal:
    """A journal for reading, while a run writes it too: `async with Journal.open(path) as journal`.

    Nothing is read before a method is called, and each method reads the newest state. The file is locked only for some
    milliseconds at a time, in a thread, so neither the event loop nor a run that writes the journal waits longer. In a
    run of more than 5,000 syncs that is written meanwhile, entries may be of different commits. Every method takes the
    `run_id`, by default that of the newest run, and raises JournalError if the file cannot be read or is damaged, or
    has no such run.

    Example:
        ```python
        async with codat.sync.run_many(company_ids, journal="nightly.db") as run:
            await run.results()
        async with Journal.open("nightly.db") as journal:
            print(await journal.report())
        ```
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Return the journal in this file for reading; `async with` raises JournalError if there is none.

        Args:
            path: The path of the file.
        """
        return cls(Path(path).absolute())

    async def __aenter__(self) -> Self:
        await self.runs()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Every read opens the file and closes it.
        return

    async def runs(self) -> list[JournalRun]:
        """Return all runs, the oldest first."""
        return await self._read(lambda reader: [_journal_run(run) for run in reader.read(_read_state)[1]])

    async def entries(self, run_id: str | None = None) -> list[JournalEntry]:
        """Return the entries of all syncs of the run in the order of its input, whatever their state.

        Args:
            run_id: The id of the run; None for the newest.
        """
        found = await self._read(lambda reader: _read_run(reader, run_id))
        return sorted(found, key=_input_order)

    async def outcomes(self, run_id: str | None = None) -> list[SyncOutcome]:
        """Return all outcomes of the run in the order of its input, those of earlier processes too.

        Args:
            run_id: The id of the run; None for the newest.
        """
        return [entry.to_outcome() for entry in await self.entries(run_id) if entry.has_ended]

    async def running(self, run_id: str | None = None) -> list[JournalEntry]:
        """Return the entries of the syncs that were requested and have no outcome, the earliest start first.

        Args:
            run_id: The id of the run; None for the newest.
        """
        found = [entry for entry in await self.entries(run_id) if not entry.has_ended]
        return sorted(found, key=lambda entry: entry.sent_at or 0.0)

    async def durations(self, run_id: str | None = None) -> list[float]:
        """Return the seconds from start to end of the syncs that ended with a status, in the order of the input.

        Args:
            run_id: The id of the run; None for the newest.
        """
        return [entry.elapsed for entry in await self.entries(run_id) if entry.has_status and entry.elapsed is not None]

    async def per_minute(self, run_id: str | None = None) -> list[MinuteCounts]:
        """Return the start requests and polls of each minute in which there were any, in order of time.

        Args:
            run_id: The id of the run; None for the newest.
        """
        return await self._read(lambda reader: _read_minutes(reader, run_id))

    async def report(self, run_id: str | None = None) -> RunReport:
        """Return the counts of the run over all of its processes; `elapsed` is the time from its begin to its end.

        Duplicates are not recorded. While the run has not ended, `elapsed` reaches up to the last outcome.

        Args:
            run_id: The id of the run; None for the newest.
        """
        run, found = await self._read(lambda reader: (_read_one(reader, run_id), _read_run(reader, run_id)))
        return _report(run, found)

    async def _read(self, work: Callable[[JournalReader], T]) -> T:
        return await asyncio.to_thread(read, self._path, work)


def read_journal(path: str | Path, run_id: str | None = None) -> Iterator[JournalEntry]:
    """Yield the entries of a run, or with None of all runs, ordered by run, company and period. Blocks the thread.

    Args:
        path: The path of the file.
        run_id: The id of the run; None for all runs.

    Raises:
        JournalError: The file cannot be read or is damaged, or has no such run.
    """

    def work(reader: JournalReader) -> list[JournalEntry]:
        if run_id is not None:
            return _read_run(reader, run_id)
        return [entry for run in reader.read(_read_state)[1] for entry in _read_run(reader, run.run_id)]

    yield from read(Path(path).absolute(), work)


def _read_state(file: sqlite3.Connection) -> tuple[Summary, list[RunRow]]:
    summary = rows.read_summary(file)
    return summary, rows.read_runs(file, summary)


def _find(runs: list[RunRow], run_id: str | None) -> RunRow:
    found = [run for run in runs if run_id in {None, run.run_id}]
    if not found:
        known = ", ".join(run.run_id for run in runs) or "none"
        raise JournalError(f"the journal has no run {run_id or ''}; its runs are: {known}")
    return found[-1]


def _read_one(reader: JournalReader, run_id: str | None) -> RunRow:
    return _find(reader.read(_read_state)[1], run_id)


@frozen
class _Slice:
    """Some rows of a run, and the state of the run at that moment."""

    commits: int
    run: RunRow
    syncs: list[rows.Row]
    minutes: list[rows.Row]


def _read_run(reader: JournalReader, run_id: str | None) -> list[JournalEntry]:
    """Return the entries of the run, verified: each by its checksum, and all if no commit happened meanwhile."""
    slices = list(_read_slices(reader, run_id))
    found = [row for each in slices for row in each.syncs]
    entries = [rows.entry_of(row) for row in found]
    first, last = slices[0], slices[-1]
    if first.commits == last.commits:
        checksums = [row[-1] for row in (*found, *last.minutes)]
        if (last.run.entries, last.run.total) != (len(checksums), rows.wrap_int64(sum(checksums))):
            raise ValueError("its entries are not those of one commit")
    return entries


def _read_slices(reader: JournalReader, run_id: str | None) -> Iterator[_Slice]:
    key = SyncKey(0, "", "")
    while True:
        some = reader.read(partial(_read_slice, run_id, key))
        yield some
        if len(some.syncs) < _SLICE:
            return
        key = SyncKey(some.run.number, *some.syncs[-1][1:3])


def _read_slice(run_id: str | None, after: SyncKey, file: sqlite3.Connection) -> _Slice:
    summary, runs = _read_state(file)
    run = _find(runs, run_id)
    some = rows.read_slice(file, evolve(after, run=run.number), _SLICE)
    return _Slice(summary.commits, run, some, rows.read_minutes(file, run.number))


def _read_minutes(reader: JournalReader, run_id: str | None) -> list[MinuteCounts]:
    run = _read_one(reader, run_id)
    found = reader.read(lambda file: rows.read_minutes(file, run.number))
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return [
        MinuteCounts(minute=epoch + timedelta(minutes=minute), starts=starts, polls=polls)
        for minute, starts, polls, _ in found
    ]


def _journal_run(run: RunRow) -> JournalRun:
    return JournalRun(
        run_id=run.run_id,
        number=run.number,
        began_at=datetime.fromtimestamp(run.began_at, UTC),
        ended_at=datetime.fromtimestamp(run.ended_at, UTC) if run.ended_at is not None else None,
        companies=run.companies,
    )


def _input_order(entry: JournalEntry) -> tuple[float, float]:
    # A store of one's own may record no position.
    return (float("inf") if entry.position is None else entry.position, entry.sent_at or 0.0)


def _report(run: RunRow, found: list[JournalEntry]) -> RunReport:
    states = Counter(entry.state for entry in found)
    last = max((entry.ended_at for entry in found if entry.ended_at is not None), default=run.began_at)
    return RunReport(
        run_id=run.run_id,
        started=sum(entry.handle is not None and not entry.handle.adopted for entry in found),
        running=states["starting"] + states["running"],
        succeeded=states["succeeded"],
        failed=states["failed"],
        errors=states["error"],
        adopted=sum(entry.has_ended and entry.handle is not None and entry.handle.adopted for entry in found),
        polls=sum(entry.polls or 0 for entry in found),
        elapsed=max(0.0, (run.ended_at or last) - run.began_at),
    )
