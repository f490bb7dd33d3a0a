"""A journal's file: its layout, and each sync in it as a row that shows when it was damaged."""

import contextlib
import json
import sqlite3
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from codat_commerce_async._text import one_line
from codat_commerce_async.errors import JournalError
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.syncing.outcome import SyncOutcome
from codat_commerce_async.syncing.request import SyncRequest

__all__ = [
    "Entry",
    "close",
    "durations",
    "ended",
    "entries",
    "find",
    "last_run",
    "open_to_read",
    "open_to_write",
    "opening_failed",
    "write",
]

_VERSION: Final = 1
_APPLICATION_ID: Final = 0x434F4441  # "CODA", so that no other program's database is taken for a journal
# `crc` is of all that stands before it: SQLite itself does not notice a byte that has changed on the disk, and a key
# or a state that has could make a sync start twice.
_SCHEMA = """
CREATE TABLE syncs (
    company_id TEXT NOT NULL,
    period TEXT NOT NULL,
    state TEXT NOT NULL,
    idempotency_key TEXT,
    asked_at REAL,
    handle TEXT,
    ended_at REAL,
    looks INTEGER,
    elapsed REAL,
    code INTEGER,
    outcome TEXT,
    message TEXT,
    run INTEGER,
    crc INTEGER NOT NULL,
    PRIMARY KEY (company_id, period)
) WITHOUT ROWID
"""
_COLUMNS = (
    "company_id, period, state, idempotency_key, asked_at, handle, "
    "ended_at, looks, elapsed, code, outcome, message, run, crc"
)
_CACHE_KIB = 256
# SQLite's integers, as read back, have 64 bits.
_BEYOND_CODES = 1 << 63
# A shorter file is as good as empty to SQLite, which would begin it anew.
_SHORTEST_FILE = 512


@dataclass(frozen=True, slots=True)
class Entry:
    """What the journal knows of one sync; `state` is `asking`, `running`, `succeeded`, `failed` or `error`.

    Times are epoch seconds, `elapsed` is seconds. `code`, `outcome` and `message` say how it ended, and `run` in which
    of the runs that this journal has seen, from 1.
    """

    request: SyncRequest
    state: str
    idempotency_key: str | None = None
    asked_at: float | None = None
    handle: SyncHandle | None = None
    ended_at: float | None = None
    looks: int | None = None
    elapsed: float | None = None
    code: int | None = None
    outcome: str | None = None
    message: str | None = None
    run: int | None = None

    @property
    def is_finished(self) -> bool:
        """Whether it ended with a status; what ended with an error is tried again."""
        return self.state in {"succeeded", "failed"}


def open_to_write(path: Path) -> sqlite3.Connection:
    """The file, locked for us, of our version and sound. Raises JournalError."""
    file = _connect(path, "rwc")
    try:
        _check_length(path)
        file.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        file.execute("PRAGMA locking_mode = EXCLUSIVE")
        file.execute("BEGIN EXCLUSIVE")
        if _is_empty(file):
            _lay_out(file)
        else:
            _check(file, path)
        file.execute("COMMIT")
        file.execute("PRAGMA journal_mode = WAL")
        file.execute("PRAGMA synchronous = FULL")
    except (sqlite3.Error, ValueError) as error:
        file.close()
        raise JournalError(opening_failed(path, error)) from None
    except JournalError:
        file.close()
        raise
    return file


def close(file: sqlite3.Connection) -> None:
    """Let go of the file, and leave it as one that can be copied, and read where nothing can be written."""
    with contextlib.suppress(sqlite3.Error):
        file.execute("PRAGMA journal_mode = DELETE")
    file.close()


def open_to_read(path: Path) -> sqlite3.Connection:
    """The file, of our version, for reading only. Raises JournalError."""
    file = _connect(path, "ro")
    try:
        _check_kind(file, path)
    except (sqlite3.Error, ValueError) as error:
        file.close()
        raise JournalError(opening_failed(path, error)) from None
    except JournalError:
        file.close()
        raise
    return file


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    try:
        return sqlite3.connect(f"{path.as_uri()}?mode={mode}", uri=True, isolation_level=None, timeout=0.0)
    except sqlite3.Error as error:
        raise JournalError(opening_failed(path, error)) from None


def _check_length(path: Path) -> None:
    if path.is_file() and 0 < path.stat().st_size < _SHORTEST_FILE:
        raise ValueError("it was cut off")


def _is_empty(file: sqlite3.Connection) -> bool:
    return not (
        file.execute("PRAGMA application_id").fetchone()[0]
        or file.execute("PRAGMA user_version").fetchone()[0]
        or file.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    )


def _lay_out(file: sqlite3.Connection) -> None:
    file.execute(_SCHEMA)
    file.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    file.execute(f"PRAGMA user_version = {_VERSION}")


def _check(file: sqlite3.Connection, path: Path) -> None:
    """Raise JournalError unless all of it is as it was written."""
    _check_kind(file, path)
    sound = file.execute("PRAGMA quick_check").fetchone()[0] == "ok"
    if not sound or any(not _is_sound(row) for row in file.execute(f"SELECT {_COLUMNS} FROM syncs")):  # noqa: S608
        raise JournalError(f"the journal {path} is damaged; keep it, and give the name of a new file")


def _check_kind(file: sqlite3.Connection, path: Path) -> None:
    application: int = file.execute("PRAGMA application_id").fetchone()[0]
    version: int = file.execute("PRAGMA user_version").fetchone()[0]
    if application != _APPLICATION_ID:
        raise JournalError(f"{path} is a database, but no journal; give the name of another file")
    if version != _VERSION:
        raise JournalError(
            f"the journal {path} is of version {version}, this library reads version {_VERSION}; "
            "finish it with the library that wrote it, or give the name of a new file"
        )


def opening_failed(path: Path, error: Exception) -> str:
    """What to tell of a file that cannot be used, and what to do about it."""
    # Of a schema that it cannot read, SQLite shows all lines.
    text = str(error).partition("\n")[0]
    if path.is_dir():
        return f"{path} is a directory; give the name of a file"
    if not path.parent.is_dir():
        return f"there is no directory {path.parent} for the journal {path.name}"
    if "locked" in text or "busy" in text:
        return f"the journal {path} is in use by another process; wait for it to end, or give the name of another file"
    if "unable to open" in text or "readonly" in text:
        return f"the journal {path} cannot be opened for writing: {text}; see to its permissions and its directory's"
    if "disk" in text and "malformed" not in text:
        return f"the journal {path} cannot be opened: {text}"
    return f"{path} is no journal, or a damaged one ({text}); keep it, and give the name of a new file"


def _period(request: SyncRequest) -> str:
    """What of a company is synced, as text: one row each."""
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
    """How long the syncs took that ended, in seconds, the latest thousand."""
    rows = file.execute(
        "SELECT elapsed FROM syncs WHERE state IN ('succeeded', 'failed') AND elapsed IS NOT NULL "
        "ORDER BY ended_at DESC LIMIT 1000"
    )
    return [seconds for (seconds,) in rows]


def last_run(file: sqlite3.Connection) -> int:
    """The number of the last run that ended something; 0 for none."""
    return int(file.execute("SELECT max(run) FROM syncs").fetchone()[0] or 0)


def find(file: sqlite3.Connection, request: SyncRequest) -> Entry | None:
    """What the journal knows of this sync, or None."""
    values = (request.company_id, _period(request))
    return next(entries(file, "WHERE company_id = ? AND period = ?", values), None)


def entries(file: sqlite3.Connection, which: str, values: tuple[str, ...] = ()) -> Iterator[Entry]:
    """The entries that a condition picks."""
    rows = file.execute(f"SELECT {_COLUMNS} FROM syncs {which}", values)  # noqa: S608 - constants of this module
    return (_entry(row) for row in rows)


def _entry(row: tuple[Any, ...]) -> Entry:
    if not _is_sound(row):
        raise ValueError("an entry is not as it was written")
    company_id, period, state, key, asked_at, handle, *how = row[:-1]
    return Entry(
        _request(company_id, period), state, key, asked_at, SyncHandle.from_json(handle) if handle else None, *how
    )


def write(file: sqlite3.Connection, entry: Entry) -> None:
    """Put the entry where there may be an older one of the same sync."""
    request, handle = entry.request, entry.handle
    row = (
        request.company_id,
        _period(request),
        entry.state,
        entry.idempotency_key,
        _seconds(entry.asked_at),
        handle.to_json() if handle else None,
        _seconds(entry.ended_at),
        entry.looks,
        _seconds(entry.elapsed),
        entry.code,
        entry.outcome,
        entry.message,
        entry.run,
    )
    places = ", ".join("?" * (len(row) + 1))
    file.execute(f"INSERT OR REPLACE INTO syncs ({_COLUMNS}) VALUES ({places})", (*row, _crc(row)))  # noqa: S608


def ended(entry: Entry, outcome: SyncOutcome, now: float) -> Entry:
    """The entry of a sync that has this outcome now."""
    status, error = outcome.status, outcome.error
    said = (status.error_message or None) if status is not None else str(error)
    return replace(
        entry,
        state="error" if status is None else "failed" if status.failed else "succeeded",
        handle=outcome.handle or entry.handle,
        ended_at=now,
        looks=outcome.looks,
        elapsed=outcome.elapsed,
        code=_storable(status.sync_status_code) if status is not None else None,
        outcome=status.outcome.name if status is not None else type(error).__name__,
        # Whatever Codat says can be kept, also what is no text.
        message=one_line(said) if said else None,
    )


def _storable(code: int | None) -> int | None:
    """A code that no sync can have need not be kept."""
    return code if code is not None and abs(code) < _BEYOND_CODES else None


def _seconds(value: float | None) -> float | None:
    """As SQLite will give it back, whatever number it was."""
    return None if value is None else float(value)


def _crc(row: tuple[Any, ...]) -> int:
    return zlib.crc32(json.dumps(row).encode())


def _is_sound(row: tuple[Any, ...]) -> bool:
    return bool(_crc(row[:-1]) == row[-1])
