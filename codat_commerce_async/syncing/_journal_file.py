"""The SQLite file of a journal: opened only if it is complete, written by one process, readable by others."""

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
# SQLite treats a shorter file as empty and would overwrite it.
_SHORTEST_FILE = 512
_PRIVATE = 0o600
# A commit or an opening waits so many seconds for a reader to unlock the file, and tries again at this interval.
_LOCK_TIMEOUT = 30.0
_LOCK_POLL_INTERVAL = 0.002
# A snapshot is taken so many times until one is complete.
_SNAPSHOT_ATTEMPTS = 3
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
_DAMAGE_ERRORS = (sqlite3.Error, ValueError, TypeError, LookupError, OverflowError, RecursionError)
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
        self._identity = path.stat()

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the file, or create it, with this process as its only writer. Raises JournalError."""
        path = _resolve(path)
        try:
            ownership = _acquire(path)
            try:
                return cls._open_owned(path, ownership)
            except BaseException:
                ownership.release()
                raise
        except (*_DAMAGE_ERRORS, OSError) as error:
            raise JournalError(describe_open_error(path, error)) from None

    @classmethod
    def _open_owned(cls, path: Path, ownership: Ownership) -> Self:
        _check_recovery(path)
        file = _connect(path, "rw")
        try:
            _retry_while_locked(lambda: _check_settings(file, path))
            _retry_while_locked(lambda: file.execute("PRAGMA journal_mode = TRUNCATE").fetchone())
            for setting in ("synchronous = FULL", f"cache_size = -{_CACHE_KIB}", "cache_spill = OFF"):
                file.execute(f"PRAGMA {setting}")
            _begin(file)
            summary = _create_schema(file) if _is_empty(file) else _verify(file, path)
            summary = replace(summary, writer=uuid4().hex, commits=summary.commits + 1)
            rows.write_summary(file, summary)
            _commit(file)
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

    def get(self, key: SyncRequest | tuple[str, str]) -> JournalEntry | None:
        """Return the entry of this sync, or None."""
        return rows.get(self._file, key)

    def write(self, entry: JournalEntry) -> None:
        """Write the entry, replacing an older entry of the same sync."""
        self._summary = rows.write(self._file, entry, self._summary)

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return the result of a query."""
        return work(self._file)


def snapshot(path: Path) -> sqlite3.Connection:
    """Return a verified copy of the journal in memory, as of one moment; the file may be in use.

    The file is locked only while it is copied. Raises JournalError.
    """
    path = _resolve(path)
    attempt = 1
    while True:
        try:
            return _copy_to_memory(path)
        except (*_DAMAGE_ERRORS, OSError) as error:
            # Another program in this process may have released the locks during a commit by closing the file.
            if attempt == _SNAPSHOT_ATTEMPTS:
                raise JournalError(describe_open_error(path, error)) from None
        attempt += 1
        time.sleep(_LOCK_POLL_INTERVAL)


def _copy_to_memory(path: Path) -> sqlite3.Connection:
    _check_companions(path)
    memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    try:
        _retry_while_locked(lambda: _copy(path, memory))
        _verify(memory, path)
    except BaseException:
        memory.close()
        raise
    return memory


def _copy(path: Path, memory: sqlite3.Connection) -> None:
    with contextlib.closing(_connect(path, "ro")) as file:
        try:
            # Lock the file for the copy: without a lock, `backup` restarts without end while the file is written.
            file.execute("BEGIN")
            _check_kind(file, path)
        except sqlite3.OperationalError as error:
            if _code(error) != sqlite3.SQLITE_READONLY_ROLLBACK:
                raise
        else:
            file.backup(memory)
            return
    # The writer was killed during a commit.
    with _recovered_copy(path) as file:
        file.backup(memory)


def _acquire(path: Path) -> Ownership:
    """Lock the lock file of the journal, and create the journal if it does not exist."""
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
            f"{path} does not exist, but {_rollback_journal(path)} does; its journal was deleted or "
            "moved without it; move or delete it too"
        )
    # The journal that the note names was deleted.
    ownership.write_note(b"")
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, _PRIVATE))


def _check_place(path: Path, ownership: Ownership) -> None:
    """Raise JournalError or ValueError for a file that SQLite would open but that is not one complete journal."""
    status = path.stat()
    if status.st_size == 0 and ownership.note:
        raise JournalError(f"{path} is empty, but was a journal before; delete it to start a new journal")
    if 0 < status.st_size < _SHORTEST_FILE:
        raise ValueError("the file is truncated")
    if status.st_nlink > 1:
        raise JournalError(f"the journal {path} has a second name (a hard link); delete one of the names")
    system = file_system(status.st_dev)
    if system in _NETWORK_FILE_SYSTEMS:
        _logger.warning(
            "the journal %s is on a network file system (%s), whose locks may not exclude a second process; "
            "use a local disk",
            path,
            system,
        )


def _check_companions(path: Path) -> None:
    log = path.with_name(f"{path.name}-wal")
    if _size(log):
        raise JournalError(
            f"next to the journal {path} is {log}, written by an older version of this library or by another program; "
            "finish the run with the program that wrote it, or use a new file"
        )


def _check_recovery(path: Path) -> None:
    """Raise JournalError or ValueError unless the rollback journal of a killed writer restores the last commit.

    This recovers a copy, because SQLite deletes a rollback journal even if it is damaged or belongs to another commit.
    """
    if not _size(_rollback_journal(path)):
        return
    before = _summary_unrecovered(path)
    with _recovered_copy(path) as file:
        if before is None and _is_empty(file):
            # The writer was killed while it created the tables.
            return
        after = _verify(file, path)
    if before is not None and (after.journal != before.journal or before.commits - after.commits not in {0, 1}):
        raise ValueError("the rollback journal next to it belongs to another commit")


def _summary_unrecovered(path: Path) -> Summary | None:
    """Return the summary in the file itself, possibly that of an unfinished commit, or None if it is unusable."""
    try:
        with contextlib.closing(_connect(path, "ro&immutable=1")) as file:
            return rows.read_summary(file)
    except _DAMAGE_ERRORS:
        return None


@contextmanager
def _recovered_copy(path: Path) -> Iterator[sqlite3.Connection]:
    """Yield a copy of the file to which its rollback journal was applied."""
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


def _resolve(path: Path) -> Path:
    """Return the path without symbolic links: SQLite derives the name of the rollback journal from it."""
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


def _create_schema(file: sqlite3.Connection) -> Summary:
    """Create the tables, and return the summary of an empty journal."""
    for table in rows.SCHEMA:
        file.execute(table)
    file.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    file.execute(f"PRAGMA user_version = {_VERSION}")
    return Summary(journal=uuid4().hex, writer="")


def _verify(file: sqlite3.Connection, path: Path) -> Summary:
    """Return the summary after checking the whole file. Raises JournalError or ValueError if anything has changed."""
    _check_settings(file, path)
    if tuple(sql for (sql,) in file.execute("SELECT sql FROM sqlite_master ORDER BY rowid")) != rows.SCHEMA:
        raise ValueError("its tables are not those of a journal")
    if file.execute("PRAGMA quick_check").fetchall() != [("ok",)]:
        raise ValueError("its pages have changed")
    summary = rows.read_summary(file)
    if rows.compute_totals(file) != (summary.entries, summary.total):
        raise ValueError("its entries are not those of one commit")
    return summary


def _check_settings(file: sqlite3.Connection, path: Path) -> None:
    """Raise JournalError or ValueError for a file that is neither empty nor a journal of this version."""
    if _is_empty(file):
        return
    _check_kind(file, path)
    if file.execute("PRAGMA journal_mode").fetchone() == ("wal",) or _number(file, "PRAGMA auto_vacuum"):
        raise ValueError("its settings are not those of a journal")


def _check_kind(file: sqlite3.Connection, path: Path) -> None:
    application, version = _number(file, "PRAGMA application_id"), _number(file, "PRAGMA user_version")
    if application != _APPLICATION_ID:
        raise JournalError(f"{path} is a database, but not a journal; use another file")
    if version != _VERSION:
        raise JournalError(
            f"the journal {path} must be of version {_VERSION} (got {version}); "
            "finish the run with the version of this library that wrote it, or use a new file"
        )


def _number(file: sqlite3.Connection, query: str) -> int:
    return int(file.execute(query).fetchone()[0])


def _begin(file: sqlite3.Connection) -> None:
    _retry_while_locked(lambda: file.execute("BEGIN IMMEDIATE"))


def _commit(file: sqlite3.Connection) -> None:
    # While a commit waits for readers, SQLite admits no new ones.
    _retry_while_locked(lambda: file.execute("COMMIT"))


def _roll_back(file: sqlite3.Connection) -> None:
    """Roll back an open transaction; if even that fails, its writes never reach the file."""
    if file.in_transaction:
        with contextlib.suppress(sqlite3.Error):
            file.execute("ROLLBACK")


def _retry_while_locked(work: Callable[[], T]) -> T:
    """Return the result of the work, repeating it while another connection has locked the file."""
    for _ in range(round(_LOCK_TIMEOUT / _LOCK_POLL_INTERVAL)):
        try:
            return work()
        except sqlite3.OperationalError as error:
            if _code(error) & 0xFF not in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
                raise
        time.sleep(_LOCK_POLL_INTERVAL)
    return work()


def describe_open_error(path: Path, error: Exception) -> str:
    """Return a message that states why the file cannot be used and what to do."""
    if _is_dir(path):
        return f"the journal must be a file (got the directory {path})"
    if not _is_dir(path.parent):
        return f"the directory {path.parent} of the journal {path.name} does not exist"
    # SQLite appends the whole schema if it cannot read it.
    text = (error.strerror if isinstance(error, OSError) else str(error).partition("\n")[0]) or type(error).__name__
    return _MESSAGES[_failure_kind(error)].format(path=path, text=text)


def _failure_kind(error: Exception) -> str:
    code = _code(error) & 0xFF
    if isinstance(error, BlockingIOError) or code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return "busy"
    if isinstance(error, PermissionError) or code in {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}:
        return "forbidden"
    if isinstance(error, OSError) or code in {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL}:
        return "disk"
    return "foreign" if isinstance(error, sqlite3.DatabaseError) else "damaged"


def _code(error: Exception) -> int:
    """Return the SQLite error code, or 0 if the `sqlite3` module raised the error itself."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code


def _is_dir(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False
