"""Keep the shared quota in a file: for all processes of one machine, without a server."""

import asyncio
import json
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from codat_commerce_async._core.callbacks import check_function
from codat_commerce_async.distributed._state import Report, Result
from codat_commerce_async.distributed._stores import StoreUnavailableError, apply

__all__ = ["FileQuotaStore"]

_SCHEMA = "CREATE TABLE IF NOT EXISTS codat_quota (name TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID"
_READ = "SELECT name, state FROM codat_quota WHERE name IN (?, ?)"
_WRITE = "REPLACE INTO codat_quota (name, state) VALUES (?, ?), (?, ?)"
# A process that was stopped within a transaction must not stop the others for longer.
_LOCKED_FOR = 1.0
_FIRST_RETRY, _LAST_RETRY = 0.0002, 0.005
_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


class FileQuotaStore:
    """A store in an SQLite file, shared by all processes of one machine that use the same path.

    The file must be on a local disk: SQLite's locks do not work on network file systems
    (https://www.sqlite.org/wal.html). A round trip takes tens of microseconds and runs in the event loop; no thread is
    used. The file survives a crash of the processes, and may have to be deleted after a crash of the machine.

    Args:
        path: The file; it is created on first use.
        clock: Returns the time in epoch seconds, for simulations.

    """

    def __init__(self, path: str | os.PathLike[str], *, clock: Callable[[], float] = time.time) -> None:
        check_function("clock", clock)
        self._path = Path(path)
        self._clock = clock
        self._connection: sqlite3.Connection | None = None
        self._pid = 0

    async def exchange(self, report: Report) -> Result:
        """Apply a report and return the result; another process' lock is awaited for a second at most."""
        deadline, pause = 0.0, _FIRST_RETRY
        while True:
            try:
                return self._exchange(report)
            except sqlite3.OperationalError as error:
                self._roll_back()
                if not _is_busy(error):
                    raise self._unavailable(error) from None
            except (sqlite3.Error, OSError, ValueError, KeyError, TypeError) as error:
                self._roll_back()
                raise self._unavailable(error) from None
            now = time.monotonic()
            deadline = deadline or now + _LOCKED_FOR
            if now >= deadline:
                raise StoreUnavailableError(f"{self._path} is locked by another process")
            await asyncio.sleep(pause)
            pause = min(_LAST_RETRY, pause * 2)

    async def aclose(self) -> None:
        """Close the file."""
        self._close()

    def __repr__(self) -> str:
        return f"FileQuotaStore({str(self._path)!r})"

    def _exchange(self, report: Report) -> Result:
        execute = self._open().execute
        address_name, client_name = f"address {report['address']}", f"client {report['client']}"
        execute("BEGIN IMMEDIATE")
        states = dict(execute(_READ, (address_name, client_name)).fetchall())
        address, client = (json.loads(states[name]) if name in states else None for name in (address_name, client_name))
        address, client, result = apply(address, client, report, self._clock())
        execute(_WRITE, (address_name, _encode(address), client_name, _encode(client)))
        execute("COMMIT")
        return result

    def _open(self) -> sqlite3.Connection:
        # A connection must not be used in a process that was forked: https://www.sqlite.org/howtocorrupt.html
        if self._connection is None or self._pid != os.getpid():
            connection = sqlite3.connect(self._path, timeout=0, isolation_level=None, check_same_thread=False)
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=OFF")
                connection.execute(_SCHEMA)
            except sqlite3.Error:
                connection.close()
                raise
            self._connection, self._pid = connection, os.getpid()
        return self._connection

    def _roll_back(self) -> None:
        """End a transaction that failed; if that fails too, close the file."""
        if self._connection is not None and self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except sqlite3.Error:
                self._close()

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and self._pid == os.getpid():
            connection.close()

    def _unavailable(self, error: Exception) -> StoreUnavailableError:
        self._close()
        return StoreUnavailableError(f"{self._path}: {error}")


def _is_busy(error: sqlite3.OperationalError) -> bool:
    # The extended codes have the primary one in their lowest byte: https://www.sqlite.org/rescode.html
    return error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
