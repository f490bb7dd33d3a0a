"""The path of a journal, and the files next to it."""

import os
from pathlib import Path

__all__ = ["lock_file", "resolve", "rollback_journal", "size_of"]


def resolve(path: Path) -> Path:
    """Return the path without symbolic links: SQLite derives the name of the rollback journal from it."""
    return Path(os.path.realpath(path))


def lock_file(path: Path) -> Path:
    """Return the path of the lock file of a journal."""
    return path.with_name(f"{path.name}.lock")


def rollback_journal(path: Path) -> Path:
    """Return the path of the file from which SQLite rolls back a commit that was killed."""
    return path.with_name(f"{path.name}-journal")


def size_of(path: Path) -> int:
    """Return the size of a file in bytes; 0 if it does not exist."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
