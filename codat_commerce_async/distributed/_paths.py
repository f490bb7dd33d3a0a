"""Find out why SQLite cannot use a path, and whether that can change by itself."""

import os
import sqlite3
from pathlib import Path

__all__ = ["mistake_of"]

# SQLite's errors for a path that may be wrong, and those for a file that stays unusable: https://www.sqlite.org/rescode.html
_NOT_OPENED = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM}
_NO_DATABASE = {
    sqlite3.SQLITE_NOTADB: "the file is not an SQLite database; use another path",
    sqlite3.SQLITE_CORRUPT: "the file is damaged; delete it while no process uses it",
}


def mistake_of(path: Path, error: Exception) -> str | None:
    """Return what has to be corrected before SQLite can use the file; None if it may succeed later."""
    path = path.absolute()
    # The extended codes have the primary one in their lowest byte.
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _NO_DATABASE:
        return _NO_DATABASE[code]
    if code not in _NOT_OPENED:
        return None
    folder = path.parent
    checks = (
        (not os.path.lexists(folder), f"the folder {folder} does not exist; create it, or use another path"),
        (not folder.is_dir(), f"{folder} is not a folder; use a path in a folder"),
        (path.is_dir(), "it is a folder, not a file; use the path of a file"),
        (not _may(folder, os.W_OK | os.X_OK), f"the folder {folder} is not writable; allow it, or use another path"),
        (
            path.exists() and not _may(path, os.R_OK | os.W_OK),
            "the file is not readable and writable; allow it, or use another path",
        ),
    )
    return next((text for is_wrong, text in checks if is_wrong), None)


def _may(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)
