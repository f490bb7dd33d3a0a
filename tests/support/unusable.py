"""Paths at which no file of SQLite can work, with what is wrong with each, and a full disk."""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["MISTAKES", "fill_disk", "unusable_paths"]

MISTAKES = [
    ("missing/quota.db", "the folder .*/missing does not exist"),
    ("text/quota.db", ".*/text is not a folder"),
    ("open", "it is a folder, not a file"),
    ("closed/quota.db", "the folder .*/closed is not writable"),
    ("open/read_only", "the file is not readable and writable"),
    ("text", "the file is not an SQLite database"),
]
"""Paths below the folder of `unusable_paths`, and the mistake that an error has to name."""


@contextmanager
def unusable_paths() -> Iterator[Path]:
    """Make a folder with a file that is no database, and a folder and a file that this process may not write."""
    root = Path(tempfile.mkdtemp())  # the folders of pytest are closed to other users
    (root / "text").write_bytes(b"no database at all, but long enough to be read as one" * 3)
    for folder in ("closed", "open"):
        (root / folder).mkdir()
        (root / folder).chmod(0o777)
    (root / "open" / "read_only").touch()
    (root / "open" / "read_only").chmod(0o444)
    (root / "closed").chmod(0o555)
    root.chmod(0o755)
    user = os.geteuid()
    if user == 0:  # whom no permissions stop
        (root / "text").chmod(0o666)
        os.seteuid(65534)
    try:
        yield root
    finally:
        os.seteuid(user)
        (root / "closed").chmod(0o755)
        shutil.rmtree(root)


def fill_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let SQLite find the disk full whenever it opens a file."""

    def full(*_args: object, **_settings: object) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    monkeypatch.setattr(sqlite3, "connect", full)
