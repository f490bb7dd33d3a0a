"""The rows of a journal: runs, their syncs and their counts per minute, each with a checksum, and a summary of all."""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Final, Self

from attrs import evolve, frozen

from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.syncing._journal.entry import JournalEntry
from codat_commerce_async.syncing.request import SyncRequest

__all__ = [
    "SCHEMA",
    "RunRow",
    "Summary",
    "SyncKey",
    "add_counts",
    "check_totals",
    "checksum",
    "delete",
    "delete_run",
    "durations",
    "entry_of",
    "get",
    "last_session",
    "of_company",
    "read_minutes",
    "read_runs",
    "read_slice",
    "read_summary",
    "unfinished",
    "wrap_int64",
    "write",
    "write_run",
    "write_summary",
]

# SQLite does not detect a byte that changed on the disk, and a changed key or state could start a sync twice. So each
# row has a checksum of its other columns. A copy of a file in use, or a file without its rollback journal, can combine
# valid rows of different commits. So each row of `runs` has the number of the run's rows in `syncs` and `minutes`, and
# the sum of their checksums; and every commit writes the one row of `summary`, which has the same of `runs`.
SCHEMA: Final = (
    """CREATE TABLE syncs (
    run INTEGER NOT NULL,
    company_id TEXT NOT NULL,
    period TEXT NOT NULL,
    state TEXT NOT NULL,
    position INTEGER,
    idempotency_key TEXT,
    sent_at REAL,
    server_offset REAL,
    handle TEXT,
    ended_at REAL,
    polls INTEGER,
    elapsed REAL,
    code INTEGER,
    outcome TEXT,
    message TEXT,
    status TEXT,
    error TEXT,
    diagnosis TEXT,
    session INTEGER,
    checksum INTEGER NOT NULL,
    PRIMARY KEY (run, company_id, period)
) WITHOUT ROWID""",
    """CREATE TABLE minutes (
    run INTEGER NOT NULL,
    minute INTEGER NOT NULL,
    starts INTEGER NOT NULL,
    polls INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    PRIMARY KEY (run, minute)
) WITHOUT ROWID""",
    """CREATE TABLE runs (
    run INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL,
    began_at REAL NOT NULL,
    ended_at REAL,
    companies INTEGER,
    entries INTEGER NOT NULL,
    total INTEGER NOT NULL,
    checksum INTEGER NOT NULL
)""",
    """CREATE TABLE summary (
    journal TEXT NOT NULL,
    writer TEXT NOT NULL,
    commits INTEGER NOT NULL,
    runs INTEGER NOT NULL,
    total INTEGER NOT NULL,
    checksum INTEGER NOT NULL
)""",
)
_COLUMNS = (
    "run, company_id, period, state, position, idempotency_key, sent_at, server_offset, handle, "
    "ended_at, polls, elapsed, code, outcome, message, status, error, diagnosis, session, checksum"
)
_SELECT = f"SELECT {_COLUMNS} FROM syncs"  # noqa: S608 - constants
_UPSERT = f"INSERT OR REPLACE INTO syncs VALUES ({', '.join('?' * len(_COLUMNS.split(', ')))})"  # noqa: S608
_BY_KEY = "WHERE run = ? AND company_id = ? AND period = ?"
# SQLite integers are signed and have 64 bits.
_HALF = 1 << 63
_CHANGED = "an entry has changed"

Row = tuple[Any, ...]


@frozen
class SyncKey:
    """The primary key of a sync; `period` is the requested period as text."""

    run: int
    company_id: str
    period: str

    @classmethod
    def of(cls, run: int, request: SyncRequest) -> Self:
        """Return the key of this request in this run."""
        return cls(run, request.company_id, _period(request))


@frozen
class RunRow:
    """One run. `entries` and `total` are the number and the sum of the checksums of its rows in `syncs` and `minutes`.

    `began_at` and `ended_at` are epoch seconds; `companies` is the length of its input, if it has one.
    """

    number: int
    run_id: str
    began_at: float
    ended_at: float | None = None
    companies: int | None = None
    entries: int = 0
    total: int = 0

    def replaced(self, old: int | None, new: int) -> Self:
        """Return the row after a write; `old` and `new` are the checksums of the replaced and the new row."""
        return evolve(self, entries=self.entries + (old is None), total=wrap_int64(self.total + new - (old or 0)))

    @property
    def row(self) -> Row:
        """The columns, with the checksum."""
        began_at, ended_at = _seconds(self.began_at), _seconds(self.ended_at)
        row = (self.number, self.run_id, began_at, ended_at, self.companies, self.entries, self.total)
        return (*row, checksum(row))


@frozen
class Summary:
    """A summary of all runs: their number, the sum of their checksums (`total`), and the number of commits.

    `journal` is the id of the file. `writer` is the id of the last opening that wrote it.
    """

    journal: str
    writer: str
    commits: int = 0
    runs: int = 0
    total: int = 0

    def of_runs(self, runs: Iterable[RunRow]) -> Self:
        """Return the summary of these runs."""
        checksums = [run.row[-1] for run in runs]
        return evolve(self, runs=len(checksums), total=wrap_int64(sum(checksums)))


def read_summary(file: sqlite3.Connection) -> Summary:
    """Return the summary of the last commit. Raises ValueError if it is damaged."""
    rows = file.execute("SELECT journal, writer, commits, runs, total, checksum FROM summary").fetchall()
    if len(rows) != 1 or not _checksum_ok(rows[0]):
        raise ValueError("the summary has changed")
    return Summary(*rows[0][:-1])


def write_summary(file: sqlite3.Connection, summary: Summary) -> None:
    """Replace the summary."""
    row = (summary.journal, summary.writer, summary.commits, summary.runs, summary.total)
    file.execute("DELETE FROM summary")
    file.execute("INSERT INTO summary VALUES (?, ?, ?, ?, ?, ?)", (*row, checksum(row)))


def read_runs(file: sqlite3.Connection, summary: Summary) -> list[RunRow]:
    """Return all runs, the oldest first. Raises ValueError if they are not those of the summary."""
    rows = file.execute("SELECT * FROM runs ORDER BY run").fetchall()
    if not all(map(_checksum_ok, rows)):
        raise ValueError("a run has changed")
    runs = [RunRow(*row[:-1]) for row in rows]
    if summary.of_runs(runs) != summary:
        raise ValueError("its entries are not those of one commit")
    return runs


def write_run(file: sqlite3.Connection, run: RunRow) -> None:
    """Write the row of the run."""
    file.execute("INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?)", run.row)


def delete_run(file: sqlite3.Connection, run: int) -> None:
    """Delete the run and all of its rows."""
    for table in ("syncs", "minutes", "runs"):
        file.execute(f"DELETE FROM {table} WHERE run = ?", (run,))  # noqa: S608 - constants


def check_totals(file: sqlite3.Connection, runs: Iterable[RunRow]) -> None:
    """Raise ValueError if a row is damaged or out of order, or the rows are not those of the runs."""
    found = {run.number: (0, 0) for run in runs}
    for row in _verified(file):
        if row[0] not in found:
            raise ValueError(_CHANGED)
        count, total = found[row[0]]
        found[row[0]] = (count + 1, total + row[-1])
    if any((run.entries, run.total) != (found[run.number][0], wrap_int64(found[run.number][1])) for run in runs):
        raise ValueError("its entries are not those of one commit")


def _verified(file: sqlite3.Connection) -> Iterator[Row]:
    last: tuple[int, bytes, bytes] | None = None
    for row in file.execute(_SELECT):
        _checked(row)
        key = (int(row[0]), str(row[1]).encode(), str(row[2]).encode())
        if last is not None and key <= last:
            raise ValueError(_CHANGED)
        last = key
        yield row
    before = (-1, -1)
    for row in file.execute("SELECT run, minute, starts, polls, checksum FROM minutes"):
        if not _checksum_ok(row) or row[:2] <= before:
            raise ValueError(_CHANGED)
        before = row[:2]
        yield row


def _period(request: SyncRequest) -> str:
    """Return the requested period as text."""
    if request.date_range is not None:
        return "/".join(moment.astimezone(UTC).isoformat() for moment in request.date_range)
    return request.sync_to.astimezone(UTC).isoformat() if request.sync_to is not None else ""


def _request_from_key(company_id: str, period: str) -> SyncRequest:
    """Return the request of the company and the period as text."""
    if not period:
        return SyncRequest(company_id=company_id)
    moments = [datetime.fromisoformat(text) for text in period.split("/")]
    if len(moments) == 1:
        return SyncRequest(company_id=company_id, sync_to=moments[0])
    return SyncRequest(company_id=company_id, start=moments[0], finish=moments[1])


def durations(file: sqlite3.Connection) -> list[float]:
    """Return the durations of the last thousand completed syncs, in seconds."""
    rows = file.execute(
        "SELECT elapsed FROM syncs WHERE state IN ('succeeded', 'failed') AND elapsed IS NOT NULL "
        "ORDER BY ended_at DESC LIMIT 1000"
    )
    return [seconds for (seconds,) in rows]


def last_session(file: sqlite3.Connection, run: int) -> int:
    """Return the number of the run's last session that recorded an outcome; 0 if there is none."""
    return int(file.execute("SELECT max(session) FROM syncs WHERE run = ?", (run,)).fetchone()[0] or 0)


def unfinished(file: sqlite3.Connection) -> list[SyncKey]:
    """Return the keys of all syncs that have not ended, in any run, for `get`; the earliest start first."""
    rows = file.execute(
        "SELECT run, company_id, period FROM syncs WHERE state IN ('starting', 'running') ORDER BY sent_at"
    )
    return [SyncKey(*row) for row in rows]


def get(file: sqlite3.Connection, key: SyncKey) -> JournalEntry | None:
    """Return the entry of this sync, or None."""
    row = _get_row(file, (key.run, key.company_id, key.period))
    return _entry(row) if row is not None else None


def _get_row(file: sqlite3.Connection, key: Row) -> Row | None:
    row: Row | None = file.execute(f"{_SELECT} {_BY_KEY}", key).fetchone()
    return None if row is None else _checked(row)


def _checked(row: Row) -> Row:
    """Return the row; raise ValueError if it is damaged."""
    if not _checksum_ok(row):
        raise ValueError(_CHANGED)
    return row


def of_company(file: sqlite3.Connection, runs: Iterable[int], company_id: str) -> list[JournalEntry]:
    """Return the entries of one company in these runs."""
    query = f"{_SELECT} WHERE run = ? AND company_id = ?"
    return [entry_of(row) for run in runs for row in file.execute(query, (run, company_id))]


def read_slice(file: sqlite3.Connection, after: SyncKey, size: int) -> list[Row]:
    """Return the given number of rows of a run, ordered by company and period, from the first one after this key."""
    query = f"{_SELECT} WHERE run = ? AND (company_id, period) > (?, ?) ORDER BY company_id, period LIMIT ?"
    return file.execute(query, (after.run, after.company_id, after.period, size)).fetchall()


def read_minutes(file: sqlite3.Connection, run: int) -> list[Row]:
    """Return minute (since the epoch), starts, polls and checksum of each minute of the run."""
    rows = file.execute("SELECT run, minute, starts, polls, checksum FROM minutes WHERE run = ?", (run,)).fetchall()
    return [_checked(row)[1:] for row in rows]


def entry_of(row: Row) -> JournalEntry:
    """Return the entry of a row of `read_slice`. Raises ValueError if it is damaged."""
    return _entry(_checked(row))


def _entry(row: Row) -> JournalEntry:
    run, company_id, period, state, position, key, sent_at, offset, handle, ended_at, polls, *rest = row[:-1]
    elapsed, code, outcome, message, status, error, diagnosis, session = rest
    return JournalEntry(
        _request_from_key(company_id, period),
        state,
        key,
        sent_at,
        SyncHandle.from_json(handle) if handle else None,
        ended_at,
        polls,
        elapsed,
        code,
        outcome,
        message,
        run,
        offset,
        position,
        status,
        error,
        diagnosis,
        session,
    )


def write(file: sqlite3.Connection, entry: JournalEntry, run: RunRow) -> RunRow:
    """Write the entry, replacing an older entry of the same sync, and return the new row of its run."""
    row = _row(entry)
    old = _get_row(file, row[:3])
    file.execute(_UPSERT, row)
    return run.replaced(old[-1] if old is not None else None, row[-1])


def delete(file: sqlite3.Connection, key: SyncKey, run: RunRow) -> RunRow:
    """Delete the entry of this sync, if there is one, and return the new row of its run."""
    columns = (key.run, key.company_id, key.period)
    old = _get_row(file, columns)
    if old is None:
        return run
    file.execute(f"DELETE FROM syncs {_BY_KEY}", columns)  # noqa: S608 - constants
    return evolve(run, entries=run.entries - 1, total=wrap_int64(run.total - old[-1]))


def _row(entry: JournalEntry) -> Row:
    request, handle = entry.request, entry.handle
    row = (
        entry.run,
        request.company_id,
        _period(request),
        entry.state,
        entry.position,
        entry.idempotency_key,
        _seconds(entry.sent_at),
        _seconds(entry.server_offset),
        handle.to_json() if handle else None,
        _seconds(entry.ended_at),
        entry.polls,
        _seconds(entry.elapsed),
        entry.code,
        entry.outcome,
        entry.message,
        entry.status,
        entry.error,
        entry.diagnosis,
        entry.session,
    )
    return (*row, checksum(row))


def add_counts(file: sqlite3.Connection, run: RunRow, minute: int, starts: int, polls: int) -> RunRow:
    """Add to the counts of a minute (since the epoch), and return the new row of the run."""
    old: Row | None = file.execute(
        "SELECT run, minute, starts, polls, checksum FROM minutes WHERE run = ? AND minute = ?", (run.number, minute)
    ).fetchone()
    before = (0, 0) if old is None else _checked(old)[2:4]
    row = (run.number, minute, before[0] + starts, before[1] + polls)
    new = checksum(row)
    file.execute("INSERT OR REPLACE INTO minutes VALUES (?, ?, ?, ?, ?)", (*row, new))
    return run.replaced(old[-1] if old is not None else None, new)


def _seconds(value: float | None) -> float | None:
    """Return the number as SQLite returns it: without -0.0, so that the checksum matches."""
    return None if value is None else float(value) + 0.0


# A damaged column may have any type; `default` handles the types that JSON lacks.
_encode = json.JSONEncoder(default=repr).encode


def checksum(row: Row) -> int:
    """Return the checksum of these columns."""
    text = _encode(row).encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big", signed=True)


def _checksum_ok(row: Row) -> bool:
    return bool(checksum(row[:-1]) == row[-1])


def wrap_int64(number: int) -> int:
    """Return the sum as a signed integer of 64 bits."""
    return (number + _HALF) % (2 * _HALF) - _HALF
