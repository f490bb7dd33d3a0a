"""Check that a file is a journal, complete and unchanged."""

import sqlite3
from pathlib import Path
from typing import Final
from uuid import uuid4

from codat_commerce_async.errors import JournalError
from codat_commerce_async.syncing._journal import rows
from codat_commerce_async.syncing._journal.database import read_number
from codat_commerce_async.syncing._journal.paths import size_of
from codat_commerce_async.syncing._journal.rows import Summary

__all__ = [
    "DAMAGE_ERRORS",
    "check_companions",
    "check_empty",
    "check_kind",
    "check_settings",
    "check_tables",
    "create_schema",
    "is_empty",
    "verified_summary",
]

# The version of the tables.
_VERSION: Final = 1

DAMAGE_ERRORS = (sqlite3.Error, ValueError, TypeError, LookupError, OverflowError, RecursionError)
"""The errors that a damaged file may cause."""

_APPLICATION_ID: Final = 0x434F4441  # "CODA", so that no other program's database is treated as a journal


def is_empty(file: sqlite3.Connection) -> bool:
    """Return whether the database has no tables, and belongs to no program."""
    return not (
        read_number(file, "PRAGMA application_id")
        or read_number(file, "PRAGMA user_version")
        or read_number(file, "SELECT count(*) FROM sqlite_master")
    )


def create_schema(file: sqlite3.Connection) -> Summary:
    """Create the tables, and return the summary of an empty journal."""
    for table in rows.SCHEMA:
        file.execute(table)
    file.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    file.execute(f"PRAGMA user_version = {_VERSION}")
    return Summary(journal=uuid4().hex, writer="")


def verified_summary(file: sqlite3.Connection, path: Path) -> Summary:
    """Return the summary after checking the whole file. Raises JournalError or ValueError if anything has changed."""
    check_kind(file, path)
    check_tables(file, path)
    if file.execute("PRAGMA quick_check").fetchall() != [("ok",)]:
        raise ValueError("its pages have changed")
    summary = rows.read_summary(file)
    rows.check_totals(file, rows.read_runs(file, summary))
    return summary


def check_tables(file: sqlite3.Connection, path: Path) -> None:
    """Raise JournalError or ValueError unless the tables are those of a journal of this version."""
    check_settings(file, path)
    if tuple(sql for (sql,) in file.execute("SELECT sql FROM sqlite_master ORDER BY rowid")) != rows.SCHEMA:
        raise ValueError("its tables are not those of a journal")


def check_settings(file: sqlite3.Connection, path: Path) -> None:
    """Raise JournalError or ValueError for a file that is neither empty nor a journal."""
    if is_empty(file):
        return
    is_wal = file.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    check_kind(file, path)
    if is_wal or read_number(file, "PRAGMA auto_vacuum"):
        raise ValueError("its settings are not those of a journal")


def check_kind(file: sqlite3.Connection, path: Path) -> None:
    """Raise JournalError for a file that is not a journal of this version."""
    application, version = read_number(file, "PRAGMA application_id"), read_number(file, "PRAGMA user_version")
    if application != _APPLICATION_ID:
        raise JournalError(f"{path} is a database, but not a journal; use another file")
    if version != _VERSION:
        raise JournalError(
            f"the journal {path} must be of version {_VERSION} (got {version}); "
            "finish the run with the version of this library that wrote it, or use a new file"
        )


def check_companions(path: Path) -> None:
    """Raise JournalError if a write-ahead log is next to the journal, which SQLite would apply."""
    log = path.with_name(f"{path.name}-wal")
    if size_of(log):
        raise JournalError(
            f"next to the journal {path} is {log}, written by another program; "
            "finish the run with the program that wrote it, or use a new file"
        )


def check_empty(path: Path, note: bytes) -> None:
    """Raise JournalError if an empty file was a journal before."""
    if note:
        raise JournalError(f"{path} is empty, but was a journal before; delete it to start a new journal")
