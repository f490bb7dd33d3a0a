"""Convert the journals of earlier versions, which had one run per file, to the present tables."""

import json
import sqlite3
import time
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from attrs import evolve

from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.syncing._journal import rows
from codat_commerce_async.syncing._journal.entry import JournalEntry
from codat_commerce_async.syncing._journal.rows import RunRow, Summary

__all__ = ["OLD_VERSIONS", "migrate", "read_old_summary", "run_id_of"]

# The number of columns of the entries by version, of which the last one is a checksum. Version 1 has no summary, so it
# detects a changed row but not a missing one; version 2 has other names for two columns and one state.
_STATES = frozenset({"starting", "running", "succeeded", "failed", "error"})
OLD_VERSIONS: Final = {1: 14, 2: 15, 3: 15}


def migrate(file: sqlite3.Connection, version: int) -> Summary:
    """Verify the old tables, replace them by the present ones with all syncs in one run, and return the summary.

    Runs inside of a transaction of the caller. Raises ValueError or sqlite3.Error for a damaged file.
    """
    old = _verify(file, version)
    file.execute("ALTER TABLE syncs RENAME TO old_syncs")
    if version > 1:
        file.execute("DROP TABLE summary")
    for table in rows.SCHEMA:
        file.execute(table)
    run = RunRow(1, "", 0.0)
    for entry in _old_entries(file, version):
        run = rows.write(file, entry, run)
    file.execute("DROP TABLE old_syncs")
    if run.entries:
        began_at, ended_at = _times(file)
        run = evolve(run, run_id=run_id_of(began_at), began_at=began_at, ended_at=ended_at)
        rows.write_run(file, run)
    # The same id, so that the check of a rollback journal accepts a migration that was killed.
    summary = Summary(old.journal, "", old.commits).of_runs([run] if run.entries else [])
    rows.write_summary(file, summary)
    return summary


def read_old_summary(file: sqlite3.Connection) -> Summary:
    """Return the summary of version 2 or 3, whose `runs` is the number of entries. Raises ValueError if damaged."""
    found = file.execute("SELECT journal, writer, commits, entries, total, checksum FROM summary").fetchall()
    if len(found) != 1 or rows.checksum(found[0][:-1]) != found[0][-1]:
        raise ValueError("the summary has changed")
    return Summary(*found[0][:-1])


def run_id_of(moment: float) -> str:
    """Return the UTC date of a moment (epoch seconds), which is the default id of a run."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d")


def _verify(file: sqlite3.Connection, version: int) -> Summary:
    if len(file.execute("PRAGMA table_info(syncs)").fetchall()) != OLD_VERSIONS[version]:
        raise ValueError("its tables are not those of a journal")
    if file.execute("PRAGMA quick_check").fetchall() != [("ok",)]:
        raise ValueError("its pages have changed")
    checksum = _crc if version == 1 else rows.checksum
    count, total = 0, 0
    for row in file.execute("SELECT * FROM syncs"):
        if checksum(row[:-1]) != row[-1]:
            raise ValueError("an entry has changed")
        count, total = count + 1, total + row[-1]
    if version == 1:
        return Summary(f"{total:032x}", "", 0, count, total)
    summary = read_old_summary(file)
    if (summary.runs, summary.total) != (count, rows.wrap_int64(total)):
        raise ValueError("its entries are not those of one commit")
    return summary


def _crc(row: tuple[Any, ...]) -> int:
    return zlib.crc32(json.dumps(row, default=repr).encode())


def _old_entries(file: sqlite3.Connection, version: int) -> Iterator[JournalEntry]:
    for row in file.execute("SELECT * FROM old_syncs"):
        company_id, period, state, key, sent_at, handle, ended_at, polls, elapsed = row[:9]
        code, outcome, message, session = row[9:13]
        yield JournalEntry(
            rows.request_from_key(company_id, period),
            state if state in _STATES else "starting",
            key,
            sent_at,
            SyncHandle.from_json(handle) if handle else None,
            ended_at,
            polls,
            elapsed,
            code,
            outcome,
            message,
            server_offset=None if version == 1 else row[13],
            session=session,
        )


def _times(file: sqlite3.Connection) -> tuple[float, float | None]:
    """Return when the run began, and when it ended, or None if a sync has not ended."""
    first, last, running = file.execute(
        "SELECT min(sent_at), max(ended_at), count(*) FILTER (WHERE state IN ('starting', 'running')) FROM syncs"
    ).fetchone()
    began = next((moment for moment in (first, last) if moment is not None), time.time())
    return began, None if running else last
