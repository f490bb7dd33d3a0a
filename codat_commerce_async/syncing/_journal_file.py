"""A journal's SQLite file: opened only if it is complete, owned by one process, committed whoever reads it."""

import contextlib
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final, Self, TypeVar
from uuid import uuid4

from codat_commerce_async._core.log import logger_of
from codat_commerce_async.errors import JournalError
from codat_commerce_async.syncing import _journal_rows as rows
from codat_commerce_async.syncing._journal_lock import Ownership, file_system, is_at
from codat_commerce_async.syncing._journal_rows import JournalEntry, Summary
from codat_commerce_async.syncing.request import SyncRequest

__all__ = ["JournalFile", "describe_open_error", "snapshot"]

_logger = logger_of("sync")

T = TypeVar("T")

_VERSION: Final = 3
_APPLICATION_ID: Final = 0x434F4441  # "CODA", so that no other program's database is taken for a journal
_CACHE_KIB = 256
# A shorter file is as good as empty to SQLite, which would begin it anew.
_SHORTEST_FILE = 512
_PRIVATE = 0o600
# For how long a reader may keep the file locked before a commit, or an opening, fails; and the pauses meanwhile.
_PATIENCE = 30.0
_PAUSE = 0.002
# How often a reader takes a snapshot until one is of one moment.
_SNAPSHOTS = 3
_FAILURES = {
    "busy": "the journal {path} is in use by another process; wait for it to end, or give the name of another file",
    "forbidden": (
        "the journal {path} cannot be opened for writing: {text}; see to its permissions and its directory's"
    ),
    "disk": "the journal {path} cannot be opened: {text}",
    "alien": "{path} is no journal, or a damaged one ({text}); keep it, and give the name of a new file",
    "damaged": (
        "the journal {path} is damaged or incomplete ({text}); keep it, with the files beside it, and give the name of "
        "a new file"
    ),
}
_DAMAGES = (sqlite3.Error, ValueError, TypeError, LookupError, OverflowError, RecursionError)
# Their locks may be released early, or be unknown to other machines.
_REMOTE = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "fuse.sshfs", "fuse.s3fs", "virtiofs"})


class JournalFile:
    """A journal's file that this process writes, used by one thread.

    A commit leaves everything in the file itself and on the disk: between commits there is no companion file that
    holds entries. Raises JournalError, and sqlite3.Error or ValueError for what fails within a transaction.
    """

    def __init__(self, path: Path, file: sqlite3.Connection, ownership: Ownership, summary: Summary) -> None:
        self._path = path
        self._file = file
        self._ownership = ownership
        self._summary = summary
        self._identity = path.stat()

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the file, or create it, with this process as its only writer. Raises JournalError."""
        path = _real(path)
        try:
            ownership = _own(path)
            try:
                return cls._opened(path, ownership)
            except BaseException:
                ownership.release()
                raise
        except (*_DAMAGES, OSError) as error:
            raise JournalError(describe_open_error(path, error)) from None

    @classmethod
    def _opened(cls, path: Path, ownership: Ownership) -> Self:
        _check_recovery(path)
        file = _connect(path, "rw")
        try:
            _patiently(lambda: _check_settings(file, path))
            _patiently(lambda: file.execute("PRAGMA journal_mode = TRUNCATE").fetchone())
            for setting in ("synchronous = FULL", f"cache_size = -{_CACHE_KIB}", "cache_spill = OFF"):
                file.execute(f"PRAGMA {setting}")
            _begin(file)
            summary = _laid_out(file) if _is_empty(file) else _verified(file, path)
            summary = replace(summary, writer=uuid4().hex, commits=summary.commits + 1)
            rows.write_summary(file, summary)
            _commit(file)
            ownership.leave(summary.journal.encode())
            return cls(path, file, ownership, summary)
        except BaseException:
            file.close()
            raise

    def close(self) -> None:
        """Close the file, without a companion but for its lock file, and let others write it."""
        with contextlib.suppress(sqlite3.Error):
            self._file.execute("PRAGMA journal_mode = DELETE")
        self._file.close()
        self._ownership.release()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit together, when the block ends, what it writes; if it fails, nothing of it is written."""
        file, before = self._file, self._summary
        _begin(file)
        try:
            self._check_unchanged()
            yield
            if self._summary != before:
                self._summary = replace(self._summary, commits=before.commits + 1)
                rows.write_summary(file, self._summary)
            _commit(file)
        except BaseException as error:
            self._summary = before
            _roll_back(file)
            if isinstance(error, sqlite3.Error):
                # It may have failed for that.
                self._check_in_place()
            raise
        self._check_in_place()

    def _check_unchanged(self) -> None:
        if rows.read_summary(self._file) != self._summary:
            raise JournalError(f"the journal {self._path} was changed by another process while it was in use")

    def _check_in_place(self) -> None:
        """Raise JournalError unless what was committed is in the file of the journal's name, and only we write it."""
        if not is_at(self._path, self._identity):
            raise JournalError(f"the journal {self._path} was deleted, moved or replaced while it was in use")
        if not self._ownership.is_held:
            raise JournalError(f"the lock file of the journal {self._path} was deleted while it was in use")

    def get(self, key: SyncRequest | tuple[str, str]) -> JournalEntry | None:
        """Return the entry of this sync, or None."""
        return rows.get(self._file, key)

    def write(self, entry: JournalEntry) -> None:
        """Write the entry, in place of an older one of the same sync."""
        self._summary = rows.write(self._file, entry, self._summary)

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return the result of a query."""
        return work(self._file)


def snapshot(path: Path) -> sqlite3.Connection:
    """Return a copy of the journal in memory, as of one moment, and found to be complete; the file may be in use.

    The file is locked only while it is copied. Raises JournalError.
    """
    path = _real(path)
    attempt = 1
    while True:
        try:
            return _copied(path)
        except (*_DAMAGES, OSError) as error:
            # While it is being written, a program that does not know of the locks may have released them.
            if attempt == _SNAPSHOTS:
                raise JournalError(describe_open_error(path, error)) from None
        attempt += 1
        time.sleep(_PAUSE)


def _copied(path: Path) -> sqlite3.Connection:
    _check_companions(path)
    memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    try:
        _patiently(lambda: _copy(path, memory))
        _verified(memory, path)
    except BaseException:
        memory.close()
        raise
    return memory


def _copy(path: Path, memory: sqlite3.Connection) -> None:
    with contextlib.closing(_connect(path, "ro")) as file:
        try:
            # Holds a lock for the copy, which would not fail but repeat itself without end when there is none.
            file.execute("BEGIN")
            _check_kind(file, path)
        except sqlite3.OperationalError as error:
            if _code(error) != sqlite3.SQLITE_READONLY_ROLLBACK:
                raise
        else:
            file.backup(memory)
            return
    # Its writer was killed while it committed.
    with _recovered(path) as file:
        file.backup(memory)


def _own(path: Path) -> Ownership:
    """Lock the file's lock file, and create the file if there is none."""
    if path.is_dir():
        raise IsADirectoryError
    exists = path.exists()
    mode = path.stat().st_mode & 0o777 if exists else _PRIVATE
    ownership = Ownership.acquire(path.with_name(f"{path.name}.lock"), mode)
    try:
        _check_companions(path)
        if not path.exists():
            _create(path, ownership)
        _check_place(path, ownership)
    except BaseException:
        ownership.release()
        raise
    return ownership


def _create(path: Path, ownership: Ownership) -> None:
    if _size(_rollback_journal(path)):
        raise JournalError(
            f"there is no {path}, but {_rollback_journal(path)}, which belongs to a journal that was deleted or moved "
            "without it; move or delete it too"
        )
    # What the note speaks of was deleted.
    ownership.leave(b"")
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, _PRIVATE))


def _check_place(path: Path, ownership: Ownership) -> None:
    """Raise JournalError for a file that SQLite would open, but not as the one complete journal that was meant."""
    status = path.stat()
    if status.st_size == 0 and ownership.note:
        raise JournalError(f"{path} is empty, but was a journal before; delete it if it is to be begun anew")
    if 0 < status.st_size < _SHORTEST_FILE:
        raise ValueError("it was cut off")
    if status.st_nlink > 1:
        raise JournalError(f"the journal {path} has a further name (a hard link); give it only one")
    system = file_system(status.st_dev)
    if system in _REMOTE:
        _logger.warning(
            "the journal %s is on a network file system (%s), whose locks may not keep a second process away; "
            "keep journals on a local disk",
            path,
            system,
        )


def _check_companions(path: Path) -> None:
    log = path.with_name(f"{path.name}-wal")
    if _size(log):
        raise JournalError(
            f"beside the journal {path} is {log}, of an older version of this library or of another program; finish it "
            "with the one that wrote it, or give the name of a new file"
        )


def _check_recovery(path: Path) -> None:
    """Raise JournalError unless the rollback journal of a killed writer leads to the last state that was committed.

    Only a copy is recovered: SQLite would delete a rollback journal that is damaged, or of another time.
    """
    if not _size(_rollback_journal(path)):
        return
    before = _summary_unrecovered(path)
    with _recovered(path) as file:
        if before is None and _is_empty(file):
            # Killed while the tables were made.
            return
        after = _verified(file, path)
    if before is not None and (after.journal != before.journal or before.commits - after.commits not in {0, 1}):
        raise ValueError("the rollback journal beside it is of another time")


def _summary_unrecovered(path: Path) -> Summary | None:
    """Return the summary in the file itself, which may be of the commit that was under way."""
    try:
        with contextlib.closing(_connect(path, "ro&immutable=1")) as file:
            return rows.read_summary(file)
    except _DAMAGES:
        return None


@contextmanager
def _recovered(path: Path) -> Iterator[sqlite3.Connection]:
    """A copy of the file, with its rollback journal applied."""
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory) / "journal"
        shutil.copyfile(path, copy)
        shutil.copyfile(_rollback_journal(path), _rollback_journal(copy))
        with contextlib.closing(_connect(copy, "rw")) as file:
            file.execute("PRAGMA schema_version").fetchone()
            yield file


def _rollback_journal(path: Path) -> Path:
    return path.with_name(f"{path.name}-journal")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _real(path: Path) -> Path:
    """The path that SQLite names the companion of the file by."""
    return Path(os.path.realpath(path))


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"{path.as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=0.0, check_same_thread=False)


def _is_empty(file: sqlite3.Connection) -> bool:
    return not (
        _number(file, "PRAGMA application_id")
        or _number(file, "PRAGMA user_version")
        or _number(file, "SELECT count(*) FROM sqlite_master")
    )


def _laid_out(file: sqlite3.Connection) -> Summary:
    """Make the tables, and return the summary of no entries."""
    for table in rows.SCHEMA:
        file.execute(table)
    file.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    file.execute(f"PRAGMA user_version = {_VERSION}")
    return Summary(journal=uuid4().hex, writer="")


def _verified(file: sqlite3.Connection, path: Path) -> Summary:
    """Return the summary of a file that is as it was written. Raises JournalError or ValueError for any other."""
    _check_settings(file, path)
    if tuple(sql for (sql,) in file.execute("SELECT sql FROM sqlite_master ORDER BY rowid")) != rows.SCHEMA:
        raise ValueError("its tables are not those of a journal")
    if file.execute("PRAGMA quick_check").fetchall() != [("ok",)]:
        raise ValueError("its pages are not as they were written")
    summary = rows.read_summary(file)
    if rows.summed_up(file) != (summary.entries, summary.total):
        raise ValueError("its entries are not of one moment")
    return summary


def _check_settings(file: sqlite3.Connection, path: Path) -> None:
    """Raise JournalError or ValueError for a file that is no journal of this version, but let an empty one pass."""
    if _is_empty(file):
        return
    _check_kind(file, path)
    if file.execute("PRAGMA journal_mode").fetchone() == ("wal",) or _number(file, "PRAGMA auto_vacuum"):
        raise ValueError("its settings are not those of a journal")


def _check_kind(file: sqlite3.Connection, path: Path) -> None:
    application, version = _number(file, "PRAGMA application_id"), _number(file, "PRAGMA user_version")
    if application != _APPLICATION_ID:
        raise JournalError(f"{path} is a database, but no journal; give the name of another file")
    if version != _VERSION:
        raise JournalError(
            f"the journal {path} is of version {version}, this library reads version {_VERSION}; "
            "finish it with the library that wrote it, or give the name of a new file"
        )


def _number(file: sqlite3.Connection, query: str) -> int:
    return int(file.execute(query).fetchone()[0])


def _begin(file: sqlite3.Connection) -> None:
    _patiently(lambda: file.execute("BEGIN IMMEDIATE"))


def _commit(file: sqlite3.Connection) -> None:
    # While it waits for the readers that are there, SQLite admits no new ones.
    _patiently(lambda: file.execute("COMMIT"))


def _roll_back(file: sqlite3.Connection) -> None:
    """Undo what was begun and not committed; what cannot even be undone never reaches the disk."""
    if file.in_transaction:
        with contextlib.suppress(sqlite3.Error):
            file.execute("ROLLBACK")


def _patiently(work: Callable[[], T]) -> T:
    """Return what comes of the work, which is repeated while another connection has the file locked."""
    for _ in range(round(_PATIENCE / _PAUSE)):
        try:
            return work()
        except sqlite3.OperationalError as error:
            if _code(error) & 0xFF not in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
                raise
        time.sleep(_PAUSE)
    return work()


def describe_open_error(path: Path, error: Exception) -> str:
    """Return what is wrong with a file that cannot be used, and what to do about it."""
    if _is_dir(path):
        return f"{path} is a directory; give the name of a file"
    if not _is_dir(path.parent):
        return f"there is no directory {path.parent} for the journal {path.name}"
    # Of a schema that it cannot read, SQLite shows all lines.
    text = (error.strerror if isinstance(error, OSError) else str(error).partition("\n")[0]) or type(error).__name__
    return _FAILURES[_kind_of_failure(error)].format(path=path, text=text)


def _kind_of_failure(error: Exception) -> str:
    code = _code(error) & 0xFF
    if isinstance(error, BlockingIOError) or code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return "busy"
    if isinstance(error, PermissionError) or code in {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}:
        return "forbidden"
    if isinstance(error, OSError) or code in {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL}:
        return "disk"
    return "alien" if isinstance(error, sqlite3.DatabaseError) else "damaged"


def _code(error: Exception) -> int:
    """Return SQLite's code of the error; those that the `sqlite3` module raises itself have none."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code


def _is_dir(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False
