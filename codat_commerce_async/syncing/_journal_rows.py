"""The rows of a journal: one per sync, with a checksum, and a summary of all rows."""

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Final, Self

from codat_commerce_async._core.text import one_line
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.syncing.outcome import SyncOutcome
from codat_commerce_async.syncing.request import SyncRequest

__all__ = [
    "SCHEMA",
    "JournalEntry",
    "Summary",
    "compute_totals",
    "durations",
    "entries",
    "get",
    "last_run",
    "of_company",
    "read_summary",
    "unfinished",
    "with_outcome",
    "write",
    "write_summary",
]

# SQLite does not detect a byte that changed on the disk, and a changed key or state could start a sync twice. So each
# row has a checksum of its other columns. A copy of a file in use, or a file without its rollback journal, can combine
# valid rows of different commits. So every commit writes the one row of `summary`: the number of rows and the sum of
# their checksums.
SCHEMA: Final = (
    """CREATE TABLE syncs (
    company_id TEXT NOT NULL,
    period TEXT NOT NULL,
    state TEXT NOT NULL,
    idempotency_key TEXT,
    sent_at REAL,
    handle TEXT,
    ended_at REAL,
    polls INTEGER,
    elapsed REAL,
    code INTEGER,
    outcome TEXT,
    message TEXT,
    run INTEGER,
    server_offset REAL,
    checksum INTEGER NOT NULL,
    PRIMARY KEY (company_id, period)
) WITHOUT ROWID""",
    """CREATE TABLE summary (
    journal TEXT NOT NULL,
    writer TEXT NOT NULL,
    commits INTEGER NOT NULL,
    entries INTEGER NOT NULL,
    total INTEGER NOT NULL,
    checksum INTEGER NOT NULL
)""",
)
_COLUMNS = (
    "company_id, period, state, idempotency_key, sent_at, handle, "
    "ended_at, polls, elapsed, code, outcome, message, run, server_offset, checksum"
)
_UPSERT = f"INSERT OR REPLACE INTO syncs ({_COLUMNS}) VALUES ({', '.join('?' * len(_COLUMNS.split(', ')))})"  # noqa: S608
_BY_KEY = "WHERE company_id = ? AND period = ?"
# SQLite integers are signed and have 64 bits.
_HALF = 1 << 63

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """The entry of one sync. `state` is `starting`, `running`, `succeeded`, `failed` or `error`.

    `sent_at`, when the start was first sent with this key, and `ended_at` are epoch seconds of the local clock.
    `elapsed` is in seconds. `server_offset` is the server's time minus the local time in seconds at `sent_at`, or None
    if it was not known. `code`, `outcome` and `message` describe how the sync ended, `run` is the number of the run in
    which it ended, from 1.
    """

    request: SyncRequest
    state: str
    idempotency_key: str | None = None
    sent_at: float | None = None
    handle: SyncHandle | None = None
    ended_at: float | None = None
    polls: int | None = None
    elapsed: float | None = None
    code: int | None = None
    outcome: str | None = None
    message: str | None = None
    run: int | None = None
    server_offset: float | None = None

    @property
    def is_finished(self) -> bool:
        """Return whether the sync ended with a status; the next run repeats a sync that ended with an error."""
        return self.state in {"succeeded", "failed"}


@dataclass(frozen=True, slots=True)
class Summary:
    """A summary of all entries: their number, the sum of their checksums (`total`), and the number of commits.

    `journal` is the id of the file. `writer` is the id of the last opening that wrote it.
    """

    journal: str
    writer: str
    commits: int = 0
    entries: int = 0
    total: int = 0

    def replaced(self, old: int | None, new: int) -> Self:
        """Return the summary after a write; `old` and `new` are the checksums of the replaced and the new row."""
        total = self.total + new - (old or 0)
        return replace(self, entries=self.entries + (old is None), total=_wrap_int64(total))


def read_summary(file: sqlite3.Connection) -> Summary:
    """Return the summary of the last commit. Raises ValueError if it is damaged."""
    rows = file.execute("SELECT journal, writer, commits, entries, total, checksum FROM summary").fetchall()
    if len(rows) != 1 or not _checksum_ok(rows[0]):
        raise ValueError("the summary has changed")
    return Summary(*rows[0][:-1])


def write_summary(file: sqlite3.Connection, summary: Summary) -> None:
    """Replace the summary."""
    row = (summary.journal, summary.writer, summary.commits, summary.entries, summary.total)
    file.execute("DELETE FROM summary")
    file.execute("INSERT INTO summary VALUES (?, ?, ?, ?, ?, ?)", (*row, _checksum(row)))


def compute_totals(file: sqlite3.Connection) -> tuple[int, int]:
    """Return the number of rows and the sum of their checksums. Raises ValueError if one is damaged or out of order."""
    count, total, last = 0, 0, (b"", b"")
    for row in file.execute(f"SELECT {_COLUMNS} FROM syncs"):  # noqa: S608
        key = (str(row[0]).encode(), str(row[1]).encode())
        if not _checksum_ok(row) or (count and key <= last):
            raise ValueError("an entry has changed")
        count, total, last = count + 1, total + row[-1], key
    return count, _wrap_int64(total)


def _period(request: SyncRequest) -> str:
    """Return the requested period as text; together with the company id it is the primary key."""
    if request.date_range is not None:
        return "/".join(moment.astimezone(UTC).isoformat() for moment in request.date_range)
    return request.sync_to.astimezone(UTC).isoformat() if request.sync_to is not None else ""


def _request(company_id: str, period: str) -> SyncRequest:
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


def last_run(file: sqlite3.Connection) -> int:
    """Return the number of the last run that recorded an outcome; 0 if there is none."""
    return int(file.execute("SELECT max(run) FROM syncs").fetchone()[0] or 0)


def unfinished(file: sqlite3.Connection) -> list[tuple[str, str]]:
    """Return the keys of all syncs that have not ended, for `get`; the earliest start first."""
    return file.execute(
        "SELECT company_id, period FROM syncs WHERE state IN ('starting', 'running') ORDER BY sent_at"
    ).fetchall()


def get(file: sqlite3.Connection, key: SyncRequest | tuple[str, str]) -> JournalEntry | None:
    """Return the entry of this sync, or None."""
    row = _get_row(file, (key.company_id, _period(key)) if isinstance(key, SyncRequest) else key)
    return _entry(row) if row is not None else None


def _get_row(file: sqlite3.Connection, key: tuple[str, str]) -> Row | None:
    row: Row | None = file.execute(f"SELECT {_COLUMNS} FROM syncs {_BY_KEY}", key).fetchone()  # noqa: S608
    if row is not None and not _checksum_ok(row):
        raise ValueError("an entry has changed")
    return row


def of_company(file: sqlite3.Connection, company_id: str) -> list[JournalEntry]:
    """Return the entries of one company."""
    rows = file.execute(f"SELECT {_COLUMNS} FROM syncs WHERE company_id = ?", (company_id,)).fetchall()  # noqa: S608
    if not all(_checksum_ok(row) for row in rows):
        raise ValueError("an entry has changed")
    return [_entry(row) for row in rows]


def entries(file: sqlite3.Connection) -> Iterator[JournalEntry]:
    """Return all entries, ordered by company and period."""
    return (_entry(row) for row in file.execute(f"SELECT {_COLUMNS} FROM syncs ORDER BY company_id, period"))  # noqa: S608


def _entry(row: Row) -> JournalEntry:
    company_id, period, state, key, sent_at, handle, *details = row[:-1]
    request = _request(company_id, period)
    return JournalEntry(request, state, key, sent_at, SyncHandle.from_json(handle) if handle else None, *details)


def write(file: sqlite3.Connection, entry: JournalEntry, summary: Summary) -> Summary:
    """Write the entry, replacing an older entry of the same sync, and return the new summary."""
    row = _row(entry)
    old = _get_row(file, row[:2])
    file.execute(_UPSERT, row)
    return summary.replaced(old[-1] if old is not None else None, row[-1])


def _row(entry: JournalEntry) -> Row:
    request, handle = entry.request, entry.handle
    row = (
        request.company_id,
        _period(request),
        entry.state,
        entry.idempotency_key,
        _seconds(entry.sent_at),
        handle.to_json() if handle else None,
        _seconds(entry.ended_at),
        entry.polls,
        _seconds(entry.elapsed),
        entry.code,
        entry.outcome,
        entry.message,
        entry.run,
        _seconds(entry.server_offset),
    )
    return (*row, _checksum(row))


def with_outcome(entry: JournalEntry, outcome: SyncOutcome, now: float) -> JournalEntry:
    """Return the entry of a sync that has this outcome now."""
    status, error = outcome.status, outcome.error
    message = (status.error_message or None) if status is not None else str(error)
    return replace(
        entry,
        state="error" if status is None else "failed" if status.failed else "succeeded",
        handle=outcome.handle or entry.handle,
        ended_at=now,
        polls=outcome.polls,
        elapsed=outcome.elapsed,
        code=_clamp_int64(status.sync_status_code) if status is not None else None,
        outcome=status.state.name if status is not None else type(error).__name__,
        # Also makes text of what SQLite cannot store, such as half of a surrogate pair.
        message=one_line(message) if message else None,
    )


def _clamp_int64(code: int | None) -> int | None:
    """Return the code, or None if it is outside the 64-bit range of SQLite."""
    return code if code is not None and abs(code) < _HALF else None


def _seconds(value: float | None) -> float | None:
    """Return the number as SQLite returns it: without -0.0, so that the checksum matches."""
    return None if value is None else float(value) + 0.0


def _checksum(row: Row) -> int:
    # A damaged column may have any type; `default` handles the types that JSON lacks.
    text = json.dumps(row, default=repr).encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big", signed=True)


def _checksum_ok(row: Row) -> bool:
    return bool(_checksum(row[:-1]) == row[-1])


def _wrap_int64(number: int) -> int:
    return (number + _HALF) % (2 * _HALF) - _HALF
