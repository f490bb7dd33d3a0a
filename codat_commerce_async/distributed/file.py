"""Keep the shared quota in a file: for all processes of one machine, without a server."""

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

import orjson

from codat_commerce_async._core.callbacks import check_function
from codat_commerce_async.distributed._paths import mistake_of
from codat_commerce_async.distributed._state import (
    AddressState,
    ClientState,
    QuotaReport,
    QuotaResult,
    exchange,
    new_address,
    new_client,
)
from codat_commerce_async.distributed._stores import StoreUnavailableError
from codat_commerce_async.errors import SharedQuotaError

__all__ = ["FileQuotaStore"]

# One row, which one statement reads and writes: it is a transaction by itself, and takes half as long as several. The
# number in the name is that of the layout of `state`.
_SCHEMA = "CREATE TABLE IF NOT EXISTS codat_quota_1 (id INTEGER PRIMARY KEY CHECK (id = 1), state BLOB NOT NULL)"
_CREATE = """INSERT OR IGNORE INTO codat_quota_1 VALUES (1, CAST('{"addresses":{},"clients":{}}' AS BLOB))"""
_EXCHANGE = "UPDATE codat_quota_1 SET state = codat_exchange(state) WHERE id = 1"
# A process that was stopped within a transaction must not stop the others for longer.
_LOCKED_FOR = 1.0
_FIRST_RETRY, _LAST_RETRY = 0.0002, 0.005


class _State(TypedDict):
    """What the row holds, as JSON."""

    addresses: dict[str, AddressState]
    clients: dict[str, ClientState]


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
        self._execute: Callable[..., sqlite3.Cursor] | None = None
        self._pid = 0
        # What the function of the statement takes and returns.
        self._report: QuotaReport
        self._result: QuotaResult | None = None
        self._error: BaseException | None = None
        # The last round trip; its state needs no decoding if no other process has replaced it.
        self._known: tuple[bytes, _State] | None = None

    async def exchange(self, report: QuotaReport) -> QuotaResult:
        """Apply a report and return the result; another process' lock is awaited for a second at most.

        Raises:
            SharedQuotaError: The folder is missing or not writable, or the file is no database or not writable.
        """
        deadline, pause = 0.0, _FIRST_RETRY
        while True:
            try:
                return self._exchange(report)
            except sqlite3.OperationalError as error:
                if not _is_busy(error):
                    raise self._unavailable(error) from None
            except (sqlite3.Error, OSError, ValueError, LookupError, TypeError, AttributeError) as error:
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

    def _exchange(self, report: QuotaReport) -> QuotaResult:
        execute = self._open()
        self._report = report
        self._result = self._error = None
        try:
            execute(_EXCHANGE)
        except sqlite3.OperationalError:
            # SQLite hides what its function raised.
            if self._error is not None:
                raise self._error from None
            raise
        if self._result is None:
            raise ValueError("the row of the state is missing")
        return self._result

    def _apply(self, state: bytes) -> bytes | None:
        """Return the state after the report: the function `codat_exchange` of the statement."""
        try:
            return self._applied(state, self._report)
        except BaseException as error:
            self._error = error
            raise

    def _applied(self, row: bytes, report: QuotaReport) -> bytes:
        now = self._clock()
        state: _State = self._known[1] if self._known is not None and self._known[0] == row else orjson.loads(row)
        # A state that is changed only in part must not be treated as that of the row.
        self._known = None
        addresses, clients = state["addresses"], state["clients"]
        address, client = addresses.get(report["address"]), clients.get(report["client"])
        if address is None:
            address = addresses[report["address"]] = new_address(now, report["tolerance"])
        if client is None:
            client = clients[report["client"]] = new_client(now)
        self._result = exchange(address, client, report, now)
        row = orjson.dumps(state)
        self._known = row, state
        return row

    def _open(self) -> Callable[[str], sqlite3.Cursor]:
        """Return the function that executes a statement."""
        # A connection must not be used in a process that was forked: https://www.sqlite.org/howtocorrupt.html
        if self._execute is None or self._pid != os.getpid():
            connection = sqlite3.connect(self._path, timeout=0, isolation_level=None, check_same_thread=False)
            try:
                # Each commit writes whole pages, and the state is small.
                for statement in ("PRAGMA page_size=1024", "PRAGMA journal_mode=WAL", "PRAGMA synchronous=OFF"):
                    connection.execute(statement)
                connection.execute(_SCHEMA)
                connection.execute(_CREATE)
                connection.create_function("codat_exchange", 1, self._apply)
            except sqlite3.Error:
                connection.close()
                raise
            self._connection, self._execute, self._pid = connection, connection.cursor().execute, os.getpid()
        return self._execute

    def _close(self) -> None:
        connection, self._connection, self._execute = self._connection, None, None
        if connection is not None and self._pid == os.getpid():
            connection.close()

    def _unavailable(self, error: Exception) -> StoreUnavailableError | SharedQuotaError:
        self._close()
        mistake = mistake_of(self._path, error)
        if mistake is None:
            return StoreUnavailableError(f"{self._path}: {error}")
        return SharedQuotaError(f"the shared quota cannot be kept in {self._path}: {mistake}")


def _is_busy(error: sqlite3.OperationalError) -> bool:
    # The extended codes have the primary one in their lowest byte: https://www.sqlite.org/rescode.html
    return error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
