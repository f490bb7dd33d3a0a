"""The file of a journal that this process writes: opened only if it is complete, and by one process at a time."""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self, TypeVar
from uuid import uuid4

from attrs import evolve

from codat_commerce_async._core.log import extra_fields, logger_of
from codat_commerce_async.errors import JournalError
from codat_commerce_async.syncing._journal import rows
from codat_commerce_async.syncing._journal.checks import (
    DAMAGE_ERRORS,
    check_companions,
    check_empty,
    check_settings,
    create_schema,
    is_empty,
    verified_summary,
)
from codat_commerce_async.syncing._journal.database import begin, commit, connect, retry_while_locked, roll_back
from codat_commerce_async.syncing._journal.entry import JournalEntry
from codat_commerce_async.syncing._journal.failures import open_error
from codat_commerce_async.syncing._journal.lock import Ownership, file_system, is_at
from codat_commerce_async.syncing._journal.paths import lock_file, resolve, rollback_journal, size_of
from codat_commerce_async.syncing._journal.recovery import check_recovery
from codat_commerce_async.syncing._journal.rows import RunRow, Summary, SyncKey

__all__ = ["JournalFile"]

_logger = logger_of("sync")

T = TypeVar("T")

_CACHE_KIB = 256
# SQLite treats a shorter file as empty and would overwrite it.
_SHORTEST_FILE = 512
_PRIVATE: Final = 0o600
# An unfinished run that began earlier than these seconds before is not continued by default.
_MAX_RUN_AGE = 24 * 3600.0
# On these, a lock may be released early or be invisible to other machines.
_NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "fuse.sshfs", "fuse.s3fs", "virtiofs"}
)


class JournalFile:
    """The file of a journal that this process writes. Use it from one thread.

    A commit puts everything into the file itself and onto the disk: between commits no other file holds entries.
    Raises JournalError; a transaction also raises sqlite3.Error or ValueError.
    """

    def __init__(self, path: Path, file: sqlite3.Connection, ownership: Ownership, summary: Summary) -> None:
        self._path = path
        self._file = file
        self._ownership = ownership
        self._summary = summary
        # By number, the oldest first.
        self._runs = {run.number: run for run in rows.read_runs(file, summary)}
        self._identity = path.stat()

    @classmethod
    def open(cls, path: Path, *, file_system_of: Callable[[int], str | None] = file_system) -> Self:
        """Open the file, or create it, with this process as its only writer.

        `file_system_of` returns the type of the file system with a device number, None if it is not known.

        Raises JournalError.
        """
        try:
            path = resolve(path)
            ownership = _acquire(path)
            try:
                _warn_of_network(path, file_system_of(path.stat().st_dev))
                return cls._open_owned(path, ownership)
            except BaseException:
                ownership.release()
                raise
        except (*DAMAGE_ERRORS, OSError) as error:
            raise open_error(path, error) from None

    @classmethod
    def _open_owned(cls, path: Path, ownership: Ownership) -> Self:
        check_recovery(path)
        file = connect(path, "rw")
        try:
            retry_while_locked(lambda: check_settings(file, path))
            retry_while_locked(lambda: file.execute("PRAGMA journal_mode = TRUNCATE").fetchone())
            for setting in ("synchronous = FULL", f"cache_size = -{_CACHE_KIB}", "cache_spill = OFF"):
                file.execute(f"PRAGMA {setting}")
            begin(file)
            summary = create_schema(file) if is_empty(file) else verified_summary(file, path)
            summary = evolve(summary, writer=uuid4().hex, commits=summary.commits + 1)
            rows.write_summary(file, summary)
            commit(file)
            ownership.write_note(summary.journal.encode())
            return cls(path, file, ownership, summary)
        except BaseException:
            file.close()
            raise

    def close(self) -> None:
        """Close the file and release the lock; only the lock file is left next to it."""
        with contextlib.suppress(sqlite3.Error):
            self._file.execute("PRAGMA journal_mode = DELETE")
        self._file.close()
        self._ownership.release()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all writes of the block at its end; if the block fails, write nothing."""
        file, before, runs_before = self._file, self._summary, dict(self._runs)
        begin(file)
        try:
            self._check_unchanged()
            yield
            if self._runs != runs_before:
                self._summary = _next_summary(before, runs_before, self._runs)
                for number, run in self._runs.items():
                    if runs_before.get(number) != run:
                        rows.write_run(file, run)
                rows.write_summary(file, self._summary)
            commit(file)
        except BaseException as error:
            self._summary, self._runs = before, runs_before
            roll_back(file)
            if isinstance(error, sqlite3.Error):
                # This may be the cause of the error.
                self._check_in_place()
            raise
        self._check_in_place()

    def _check_unchanged(self) -> None:
        if rows.read_summary(self._file) != self._summary:
            raise JournalError(f"the journal {self._path} was changed by another process while it was in use")

    def _check_in_place(self) -> None:
        """Raise JournalError if the file was moved or replaced, or the lock file deleted."""
        if not is_at(self._path, self._identity):
            raise JournalError(f"the journal {self._path} was deleted, moved or replaced while it was in use")
        if not self._ownership.is_held:
            raise JournalError(f"the lock file of the journal {self._path} was deleted while it was in use")

    @property
    def runs(self) -> tuple[RunRow, ...]:
        """All runs, the oldest first."""
        return tuple(self._runs.values())

    def begin_run(self, run_id: str | None, now: float, companies: int | None = None) -> int:
        """Return the number of the run with this id, creating it if necessary; use it inside of a transaction.

        Without an id, this is the newest run if it has not ended and began less than 24 hours before `now` (epoch
        seconds), else the run of the present UTC date. `companies` is the length of the input, if it has one.
        """
        run = self._find_run(run_id, now)
        if run is None:
            number = max(self._runs, default=0) + 1
            run = RunRow(number, run_id or _run_id_of(now), now, companies=companies)
        elif companies is not None:
            run = evolve(run, companies=companies)
        self._runs[run.number] = run
        return run.number

    def _find_run(self, run_id: str | None, now: float) -> RunRow | None:
        newest = next(reversed(self._runs.values()), None)
        if run_id is None and newest is not None and newest.ended_at is None and now - newest.began_at < _MAX_RUN_AGE:
            return newest
        return next((run for run in self._runs.values() if run.run_id == (run_id or _run_id_of(now))), None)

    def end_run(self, number: int, now: float) -> None:
        """Record that the run has ended now (epoch seconds), unless it had ended before and nothing was started."""
        if self._runs[number].ended_at is None:
            self._runs[number] = evolve(self._runs[number], ended_at=now)

    def delete_run(self, number: int) -> None:
        """Delete the run with all of its entries."""
        rows.delete_run(self._file, number)
        del self._runs[number]

    def get(self, key: SyncKey) -> JournalEntry | None:
        """Return the entry of this sync, or None."""
        return rows.get(self._file, key)

    def of_company(self, company_id: str) -> list[JournalEntry]:
        """Return the entries of one company in all runs."""
        return rows.of_company(self._file, self._runs, company_id)

    def write(self, entry: JournalEntry) -> None:
        """Write the entry, replacing an older entry of the same sync in the same run."""
        run = self._runs[entry.run]
        if entry.state == "starting" and run.ended_at is not None:
            run = evolve(run, ended_at=None)
        self._runs[entry.run] = rows.write(self._file, entry, run)

    def delete(self, key: SyncKey) -> None:
        """Delete the entry of this sync, if there is one."""
        self._runs[key.run] = rows.delete(self._file, key, self._runs[key.run])

    def add_counts(self, number: int, minute: int, starts: int, polls: int) -> None:
        """Add to the counts of a minute (since the epoch) of the run."""
        self._runs[number] = rows.add_counts(self._file, self._runs[number], minute, starts, polls)

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return the result of a query."""
        return work(self._file)


def _run_id_of(moment: float) -> str:
    """Return the UTC date of a moment (epoch seconds), which is the default id of a run."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d")


def _next_summary(summary: Summary, before: dict[int, RunRow], now: dict[int, RunRow]) -> Summary:
    """Return the summary after a commit; only the runs that changed are computed."""
    total = summary.total
    for number in before.keys() | now.keys():
        old, new = before.get(number), now.get(number)
        if old is not new:
            total += (new.row[-1] if new is not None else 0) - (old.row[-1] if old is not None else 0)
    return evolve(summary, commits=summary.commits + 1, runs=len(now), total=rows.wrap_int64(total))


def _acquire(path: Path) -> Ownership:
    """Lock the lock file of the journal, and create the journal if it does not exist."""
    exists = path.exists()
    if exists and not path.is_file():
        # SQLite would write files next to a device.
        raise IsADirectoryError
    mode = path.stat().st_mode & 0o777 if exists else _PRIVATE
    ownership = Ownership.acquire(lock_file(path), mode)
    try:
        check_companions(path)
        if not path.exists():
            _create(path, ownership)
        _check_place(path, ownership)
    except BaseException:
        ownership.release()
        raise
    return ownership


def _create(path: Path, ownership: Ownership) -> None:
    if size_of(rollback_journal(path)):
        raise JournalError(
            f"{path} does not exist, but {rollback_journal(path)} does; its journal was deleted or "
            "moved without it; move or delete it too"
        )
    # The journal that the note names was deleted.
    ownership.write_note(b"")
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, _PRIVATE))


def _check_place(path: Path, ownership: Ownership) -> None:
    """Raise JournalError or ValueError for a file that SQLite would open but that is not one complete journal."""
    status = path.stat()
    if status.st_size == 0:
        check_empty(path, ownership.note)
    if 0 < status.st_size < _SHORTEST_FILE:
        raise ValueError("the file is truncated")
    if status.st_nlink > 1:
        raise JournalError(f"the journal {path} has a second name (a hard link); delete one of the names")


def _warn_of_network(path: Path, system: str | None) -> None:
    """Log a warning if this type of file system is that of a network."""
    if system in _NETWORK_FILE_SYSTEMS:
        _logger.warning(
            "the journal %s is on a network file system (%s), whose locks may not exclude a second process; "
            "use a local disk",
            path,
            system,
            extra=extra_fields(),
        )
