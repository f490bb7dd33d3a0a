"""Explain why a file cannot be used as a journal, and what to do."""

import sqlite3
from pathlib import Path

from codat_commerce_async.errors import JournalError, JournalInUseError
from codat_commerce_async.syncing._journal.database import error_code

__all__ = ["open_error"]

_MESSAGES = {
    "busy": "the journal {path} is in use by another process; wait for that process to end, or use another file",
    "forbidden": (
        "the journal {path} cannot be opened for writing: {text}; check its permissions and those of its directory"
    ),
    "disk": "the journal {path} cannot be opened: {text}",
    "foreign": "{path} is not a journal, or it is damaged ({text}); keep it, and use a new file",
    "damaged": (
        "the journal {path} is damaged or incomplete ({text}); keep it and the files next to it, and use a new file"
    ),
}


def open_error(path: Path, error: Exception) -> JournalError:
    """Return the error that states why the file cannot be used and what to do."""
    if "\0" in str(path):
        return JournalError(f"the journal must be a path without null characters (got {str(path)!r})")
    if isinstance(error, IsADirectoryError) or _is_dir(path):
        kind = "directory" if _is_dir(path) else "device"
        return JournalError(f"the journal must be a file (got the {kind} {path})")
    if not _is_dir(path.parent):
        return JournalError(f"the directory {path.parent} of the journal {path.name} does not exist")
    # SQLite appends the whole schema if it cannot read it.
    text = (error.strerror if isinstance(error, OSError) else str(error).partition("\n")[0]) or type(error).__name__
    kind = _failure_kind(error)
    message = _MESSAGES[kind].format(path=path, text=text)
    return JournalInUseError(message) if kind == "busy" else JournalError(message)


def _failure_kind(error: Exception) -> str:
    code = error_code(error) & 0xFF
    if isinstance(error, BlockingIOError) or code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return "busy"
    if isinstance(error, PermissionError) or code in {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}:
        return "forbidden"
    if isinstance(error, OSError) or code in {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL}:
        return "disk"
    return "foreign" if isinstance(error, sqlite3.DatabaseError) else "damaged"


def _is_dir(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False
