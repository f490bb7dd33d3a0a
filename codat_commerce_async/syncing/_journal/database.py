"""Open, begin, commit and roll back: SQLite's transactions as a journal needs them."""

import contextlib
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

__all__ = [
    "LOCK_POLL_INTERVAL",
    "begin",
    "commit",
    "connect",
    "error_code",
    "read_number",
    "retry_while_locked",
    "roll_back",
]

T = TypeVar("T")

LOCK_POLL_INTERVAL = 0.002
"""Seconds after which a locked file is tried again."""

# A commit or an opening waits this many seconds for a reader to unlock the file.
_LOCK_TIMEOUT = 30.0


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """Open the file in a mode of SQLite, such as `ro`; nothing waits for a lock."""
    uri = f"{path.as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=0.0, check_same_thread=False)


def begin(file: sqlite3.Connection) -> None:
    """Begin to write."""
    retry_while_locked(lambda: file.execute("BEGIN IMMEDIATE"))


def commit(file: sqlite3.Connection) -> None:
    """Commit, which waits for readers."""
    # While a commit waits for readers, SQLite admits no new ones.
    retry_while_locked(lambda: file.execute("COMMIT"))


def roll_back(file: sqlite3.Connection) -> None:
    """Roll back an open transaction; if even that fails, its writes never reach the file."""
    if file.in_transaction:
        with contextlib.suppress(sqlite3.Error):
            file.execute("ROLLBACK")


def retry_while_locked(work: Callable[[], T]) -> T:
    """Return the result of the work, repeating it while another connection has locked the file."""
    for _ in range(round(_LOCK_TIMEOUT / LOCK_POLL_INTERVAL)):
        try:
            return work()
        except sqlite3.OperationalError as error:
            if error_code(error) & 0xFF not in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
                raise
        time.sleep(LOCK_POLL_INTERVAL)
    return work()


def read_number(file: sqlite3.Connection, query: str) -> int:
    """Return the number that a query has as its result."""
    return int(file.execute(query).fetchone()[0])


def error_code(error: Exception) -> int:
    """Return the SQLite error code, or 0 if the `sqlite3` module raised the error itself."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code
