"""Read a journal, which another process may be writing."""

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from codat_commerce_async.errors import JournalError
from codat_commerce_async.syncing._journal import rows
from codat_commerce_async.syncing._journal.checks import (
    DAMAGE_ERRORS,
    check_companions,
    check_empty,
    check_kind,
    check_tables,
    create_schema,
)
from codat_commerce_async.syncing._journal.database import (
    LOCK_POLL_INTERVAL,
    connect,
    error_code,
    retry_while_locked,
    roll_back,
)
from codat_commerce_async.syncing._journal.failures import open_error
from codat_commerce_async.syncing._journal.paths import lock_file, resolve
from codat_commerce_async.syncing._journal.recovery import recovered_copy

__all__ = ["JournalReader", "read"]

T = TypeVar("T")

# A journal is read at most this many times until it is found complete.
_READ_ATTEMPTS = 3


class JournalReader:
    """A journal that this process only reads: every read is a short transaction, repeated while the file is locked."""

    def __init__(self, file: sqlite3.Connection) -> None:
        self._file = file

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return the result of a query as of one commit; the file is locked while it runs."""
        return retry_while_locked(lambda: self._read_once(work))

    def _read_once(self, work: Callable[[sqlite3.Connection], T]) -> T:
        self._file.execute("BEGIN")
        try:
            return work(self._file)
        finally:
            roll_back(self._file)


def read(path: Path, work: Callable[[JournalReader], T]) -> T:
    """Return the result of reading the journal, which may be in use.

    Raises JournalError.
    """
    try:
        path = resolve(path)
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
        except (*DAMAGE_ERRORS, OSError) as error:
            # Another program in this process may have released the locks during a commit by closing the file, or the
            # journal of a killed writer was taken over while it was copied.
            if attempt == _READ_ATTEMPTS:
                raise open_error(path, error) from None
        attempt += 1
        time.sleep(LOCK_POLL_INTERVAL)


@contextmanager
def _reader(path: Path) -> Iterator[JournalReader]:
    check_companions(path)
    if path.stat().st_size == 0:
        # Such as a file of mktemp, or one that its writer has just created.
        check_empty(path, _note(path))
        with contextlib.closing(_new_journal()) as file:
            yield JournalReader(file)
        return
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(contextlib.closing(connect(path, _read_mode(path))))
        try:
            JournalReader(file).read(lambda file: check_kind(file, path))
        except sqlite3.OperationalError as error:
            if error_code(error) != sqlite3.SQLITE_READONLY_ROLLBACK:
                raise
            # The writer was killed during a commit.
            file = stack.enter_context(recovered_copy(path))
            check_kind(file, path)
        reader = JournalReader(file)
        reader.read(lambda file: check_tables(file, path))
        yield reader


def _new_journal() -> sqlite3.Connection:
    """Return a journal in memory, without runs."""
    file = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    rows.write_summary(file, create_schema(file))
    return file


def _note(path: Path) -> bytes:
    """Return what the last writer wrote into the lock file."""
    try:
        return lock_file(path).read_bytes()
    except FileNotFoundError:
        return b""


def _read_mode(path: Path) -> str:
    if lock_file(path).exists():
        # Closing the file would release the locks of a writer in this process.
        return "ro"
    # Another program may have set a write-ahead log. Such a file, which is refused, can be opened for reading only if
    # it is assumed that there is no writer.
    # https://www.sqlite.org/fileformat.html#file_format_version_numbers
    with path.open("rb") as file:
        is_wal = file.read(20)[18:] == b"\x02\x02"
    return "ro&immutable=1" if is_wal else "ro"
