"""The SQLite file of a journal: opened only if it is complete, written by one process, readable by others."""

import contextlib
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self, TypeVar
from uuid import uuid4

from attrs import evolve

from codat_commerce_async._core.log import extra_fields, logger_of
from codat_commerce_async.errors import JournalError, JournalInUseError
from codat_commerce_async.syncing import _journal_rows as rows
from codat_commerce_async.syncing._journal_lock import Ownership, file_system, is_at
from codat_commerce_async.syncing._journal_migration import OLD_VERSIONS, migrate, read_old_summary, run_id_of
from codat_commerce_async.syncing._journal_rows import JournalEntry, RunRow, Summary, SyncKey

__all__ = ["JournalFile", "JournalReader", "open_error", "read"]

_logger = logger_of("sync")

T = TypeVar("T")

_VERSION: Final = 4
_APPLICATION_ID: Final = 0x434F4441  # "CODA", so that no other program's database is taken for a journal
_CACHE_KIB = 256
# SQLite treats a shorter file as empty and would overwrite it.
_SHORTEST_FILE = 512
_PRIVATE = 0o600
# A commit or an opening waits so many seconds for a reader to unlock the file, and tries again at this interval.
_LOCK_TIMEOUT = 30.0
_LOCK_POLL_INTERVAL = 0.002
# A journal is read so many times until it is found complete.
_READ_ATTEMPTS = 3
# An unfinished run that began earlier than these seconds before is not continued by default.
_MAX_RUN_AGE = 24 * 3600.0
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
        # By number, the oldest first.
        self._runs = {run.number: run for run in rows.read_runs(file, summary)}
        self._identity = path.stat()

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the file, or create it, with this process as its only writer. Raises JournalError."""
        try:
            path = _resolve(path)
            ownership = _acquire(path)
            try:
                return cls._open_owned(path, ownership)
            except BaseException:
                ownership.release()
                raise
        except (*_DAMAGE_ERRORS, OSError) as error:
            raise open_error(path, error) from None

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
            summary = _create_schema(file) if _is_empty(file) else _verified_or_migrated(file, path)
            summary = evolve(summary, writer=uuid4().hex, commits=summary.commits + 1)
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
        file, before, runs_before = self._file, self._summary, dict(self._runs)
        _begin(file)
        try:
            self._check_unchanged()
            yield
            if self._runs != runs_before:
                self._summary = _next_summary(before, runs_before, self._runs)
                for number, run in self._runs.items():
                    if runs_before.get(number) != run:
                        rows.write_run(file, run)
                rows.write_summary(file, self._summary)
            _commit(file)
        except BaseException as error:
            self._summary, self._runs = before, runs_before
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

    @property
    def runs(self) -> tuple[RunRow, ...]:
        """Return all runs, the oldest first."""
        return tuple(self._runs.values())

    def begin_run(self, run_id: str | None, now: float, companies: int | None = None) -> int:
        """Return the number of the run with this id, creating it if necessary; use it inside of a transaction.

        Without an id, this is the newest run if it has not ended and began less than 24 hours before `now` (epoch
        seconds), else the run of the present UTC date. `companies` is the length of the input, if it has one.
        """
        run = self._find_run(run_id, now)
        if run is None:
            number = max(self._runs, default=0) + 1
            run = RunRow(number, run_id or run_id_of(now), now, companies=companies)
        elif companies is not None:
            run = evolve(run, companies=companies)
        self._runs[run.number] = run
        return run.number

    def _find_run(self, run_id: str | None, now: float) -> RunRow | None:
        newest = next(reversed(self._runs.values()), None)
        if run_id is None and newest is not None and newest.ended_at is None and now - newest.began_at < _MAX_RUN_AGE:
            return newest
        return next((run for run in self._runs.values() if run.run_id == (run_id or run_id_of(now))), None)

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

    def add_counts(self, number: int, minute: int, starts: int, polls: int) -> None:
        """Add to the counts of a minute (since the epoch) of the run."""
        self._runs[number] = rows.add_counts(self._file, self._runs[number], minute, starts, polls)

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return the result of a query."""
        return work(self._file)


def _next_summary(summary: Summary, before: dict[int, RunRow], now: dict[int, RunRow]) -> Summary:
    """Return the summary after a commit; only the runs that changed are computed."""
    total = summary.total
    for number in before.keys() | now.keys():
        old, new = before.get(number), now.get(number)
        if old is not new:
            total += (new.row[-1] if new is not None else 0) - (old.row[-1] if old is not None else 0)
    return evolve(summary, commits=summary.commits + 1, runs=len(now), total=rows.wrap_int64(total))


class JournalReader:
    """A journal that this process only reads: every read is a short transaction, repeated while the file is locked."""

    def __init__(self, file: sqlite3.Connection) -> None:
        self._file = file

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return the result of a query as of one commit; the file is locked while it runs."""
        return _retry_while_locked(lambda: self._read_once(work))

    def _read_once(self, work: Callable[[sqlite3.Connection], T]) -> T:
        self._file.execute("BEGIN")
        try:
            return work(self._file)
        finally:
            _roll_back(self._file)


def read(path: Path, work: Callable[[JournalReader], T]) -> T:
    """Return the result of reading the journal, which may be in use; old versions are converted in memory.

    Raises JournalError.
    """
    try:
        path = _resolve(path)
        if not path.exists():
            raise JournalError(f"there is no journal {path}")
        if not path.is_file():
            raise IsADirectoryError
    except (OSError, ValueError) as error:
        raise open_error(path, error) from None
    attempt = 1
    while True:
        try:
            with _reader(path) as reader:
                return work(reader)
        except (*_DAMAGE_ERRORS, OSError) as error:
            # Another program in this process may have released the locks during a commit by closing the file, or the
            # journal of a killed writer was taken over while it was copied.
            if attempt == _READ_ATTEMPTS:
                raise open_error(path, error) from None
        attempt += 1
        time.sleep(_LOCK_POLL_INTERVAL)


@contextmanager
def _reader(path: Path) -> Iterator[JournalReader]:
    _check_companions(path)
    if path.stat().st_size == 0:
        # Such as a file of mktemp, or one that its writer has just created.
        _check_empty(path, _note(path))
        with contextlib.closing(_new_journal()) as file:
            yield JournalReader(file)
        return
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(contextlib.closing(_connect(path, _read_mode(path))))
        try:
            version = JournalReader(file).read(lambda file: _check_kind(file, path))
        except sqlite3.OperationalError as error:
            if _code(error) != sqlite3.SQLITE_READONLY_ROLLBACK:
                raise
            # The writer was killed during a commit.
            file = stack.enter_context(_recovered_copy(path))
            version = _check_kind(file, path)
        if version != _VERSION:
            file = stack.enter_context(contextlib.closing(_migrated_copy(file, path)))
        reader = JournalReader(file)
        reader.read(lambda file: _check_tables(file, path))
        yield reader


def _new_journal() -> sqlite3.Connection:
    """Return a journal in memory, without runs."""
    file = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    rows.write_summary(file, _create_schema(file))
    return file


def _note(path: Path) -> bytes:
    """Return what the last writer wrote into the lock file."""
    try:
        return _lock_file(path).read_bytes()
    except FileNotFoundError:
        return b""


def _check_empty(path: Path, note: bytes) -> None:
    """Raise JournalError if an empty file was a journal before."""
    if note:
        raise JournalError(f"{path} is empty, but was a journal before; delete it to start a new journal")


def _read_mode(path: Path) -> str:
    if _lock_file(path).exists():
        # Closing the file would release the locks of a writer in this process.
        return "ro"
    # A reader cannot open a file of version 1, which used a write-ahead log, unless it assumes that there is no writer.
    # https://www.sqlite.org/fileformat.html#file_format_version_numbers
    with path.open("rb") as file:
        is_wal = file.read(20)[18:] == b"\x02\x02"
    return "ro&immutable=1" if is_wal else "ro"


def _migrated_copy(file: sqlite3.Connection, path: Path) -> sqlite3.Connection:
    memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    try:
        file.backup(memory)
        memory.execute("BEGIN")
        _verified_or_migrated(memory, path)
        memory.execute("COMMIT")
    except BaseException:
        memory.close()
        raise
    return memory


def _acquire(path: Path) -> Ownership:
    """Lock the lock file of the journal, and create the journal if it does not exist."""
    exists = path.exists()
    if exists and not path.is_file():
        # SQLite would write files next to a device.
        raise IsADirectoryError
    mode = path.stat().st_mode & 0o777 if exists else _PRIVATE
    ownership = Ownership.acquire(_lock_file(path), mode)
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
    if status.st_size == 0:
        _check_empty(path, ownership.note)
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
            extra=extra_fields(),
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
        file.execute("BEGIN")
        after = _verified_or_migrated(file, path)
    if before is not None and (after.journal != before[0] or before[1] - after.commits not in {0, 1}):
        raise ValueError("the rollback journal next to it belongs to another commit")


def _summary_unrecovered(path: Path) -> tuple[str, int] | None:
    """Return the id and the commits in the file itself, possibly of an unfinished commit, or None if it is unusable."""
    for read_summary in (rows.read_summary, read_old_summary):
        try:
            with contextlib.closing(_connect(path, "ro&immutable=1")) as file:
                summary = read_summary(file)
        except _DAMAGE_ERRORS:
            continue
        return summary.journal, summary.commits
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


def _lock_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")


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


def _verified_or_migrated(file: sqlite3.Connection, path: Path) -> Summary:
    """Return the summary of a journal of any version. Raises JournalError or ValueError if anything has changed."""
    version = _check_kind(file, path)
    if version == _VERSION:
        return _verify(file, path)
    summary = migrate(file, version)
    file.execute(f"PRAGMA user_version = {_VERSION}")
    return summary


def _verify(file: sqlite3.Connection, path: Path) -> Summary:
    """Return the summary after checking the whole file. Raises JournalError or ValueError if anything has changed."""
    _check_tables(file, path)
    if file.execute("PRAGMA quick_check").fetchall() != [("ok",)]:
        raise ValueError("its pages have changed")
    summary = rows.read_summary(file)
    rows.check_totals(file, rows.read_runs(file, summary))
    return summary


def _check_tables(file: sqlite3.Connection, path: Path) -> None:
    _check_settings(file, path)
    if tuple(sql for (sql,) in file.execute("SELECT sql FROM sqlite_master ORDER BY rowid")) != rows.SCHEMA:
        raise ValueError("its tables are not those of a journal")


def _check_settings(file: sqlite3.Connection, path: Path) -> None:
    """Raise JournalError or ValueError for a file that is neither empty nor a journal."""
    if _is_empty(file):
        return
    is_wal = file.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    if (is_wal and _check_kind(file, path) == _VERSION) or _number(file, "PRAGMA auto_vacuum"):
        raise ValueError("its settings are not those of a journal")


def _check_kind(file: sqlite3.Connection, path: Path) -> int:
    """Return the version. Raises JournalError for a file that is not a journal of this or an older version."""
    application, version = _number(file, "PRAGMA application_id"), _number(file, "PRAGMA user_version")
    if application != _APPLICATION_ID:
        raise JournalError(f"{path} is a database, but not a journal; use another file")
    if version != _VERSION and version not in OLD_VERSIONS:
        raise JournalError(
            f"the journal {path} must be of version {_VERSION} or older (got {version}); "
            "finish the run with the version of this library that wrote it, or use a new file"
        )
    return version


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
