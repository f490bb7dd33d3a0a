"""Recover a journal whose writer was killed during a commit: SQLite restores the last commit when it opens the file.

How the run itself continues is decided elsewhere: `SyncJob.from_entry` in `syncing/_queue.py`.
"""

import contextlib
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from codat_commerce_async.syncing._journal import rows
from codat_commerce_async.syncing._journal.checks import DAMAGE_ERRORS, is_empty, verified_summary
from codat_commerce_async.syncing._journal.database import connect
from codat_commerce_async.syncing._journal.paths import rollback_journal, size_of

__all__ = ["check_recovery", "recovered_copy"]


def check_recovery(path: Path) -> None:
    """Raise JournalError or ValueError unless the rollback journal of a killed writer restores the last commit.

    This recovers a copy, because SQLite deletes a rollback journal even if it is damaged or belongs to another commit.
    """
    if not size_of(rollback_journal(path)):
        return
    before = _summary_unrecovered(path)
    with recovered_copy(path) as file:
        if before is None and is_empty(file):
            # The writer was killed while it created the tables.
            return
        file.execute("BEGIN")
        after = verified_summary(file, path)
    if before is not None and (after.journal != before[0] or before[1] - after.commits not in {0, 1}):
        raise ValueError("the rollback journal next to it belongs to another commit")


def _summary_unrecovered(path: Path) -> tuple[str, int] | None:
    """Return the id and the commits in the file itself, possibly of an unfinished commit, or None if it is unusable."""
    try:
        with contextlib.closing(connect(path, "ro&immutable=1")) as file:
            summary = rows.read_summary(file)
    except DAMAGE_ERRORS:
        return None
    return summary.journal, summary.commits


@contextmanager
def recovered_copy(path: Path) -> Iterator[sqlite3.Connection]:
    """Yield a copy of the file to which its rollback journal was applied."""
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory) / "journal"
        shutil.copyfile(path, copy)
        shutil.copyfile(rollback_journal(path), rollback_journal(copy))
        with contextlib.closing(connect(copy, "rw")) as file:
            file.execute("PRAGMA schema_version").fetchone()
            yield file
