"""Keep the shared quota in a file: for all processes of one machine, without a server."""

import asyncio
import json
import os
import sqlite3
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from codat_commerce_async._core.callbacks import check_function
from codat_commerce_async.distributed._state import (
    AddressState,
    ClientState,
    Member,
    QuotaReport,
    QuotaResult,
    exchange,
    new_address,
    new_client,
)
from codat_commerce_async.distributed._stores import StoreUnavailableError

__all__ = ["FileQuotaStore"]

# One row, which one statement reads and writes: it is a transaction by itself, and takes half as long as several. The
# number in the name is that of the layout of `state`.
_SCHEMA = "CREATE TABLE IF NOT EXISTS codat_quota_2 (id INTEGER PRIMARY KEY CHECK (id = 1), state BLOB NOT NULL)"
_CREATE = "INSERT OR IGNORE INTO codat_quota_2 VALUES (1, x'')"
_EXCHANGE = "UPDATE codat_quota_2 SET state = codat_exchange(state) WHERE id = 1"
# A process that was stopped within a transaction must not stop the others for longer.
_LOCKED_FOR = 1.0
_FIRST_RETRY, _LAST_RETRY = 0.0002, 0.005
_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode

_Record: TypeAlias = tuple[bytes, bytes]
"""Numbers and text."""
_Known: TypeAlias = tuple[bytes, tuple[bytes, bytes], dict[bytes, _Record], AddressState, ClientState]
"""The whole state, the names of two records, all records, and the two decoded."""

# A state is a sequence of records, one per address and one per client: the sizes of name, numbers and text, and these.
_SIZES = struct.Struct("<HII")


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
        self._known: _Known | None = None
        # The members of the last round trip, by process and by line.
        self._encoded: dict[str, tuple[Member, str]] = {}
        self._decoded: dict[str, tuple[str, Member]] = {}

    async def exchange(self, report: QuotaReport) -> QuotaResult:
        """Apply a report and return the result; another process' lock is awaited for a second at most."""
        deadline, pause = 0.0, _FIRST_RETRY
        while True:
            try:
                return self._exchange(report)
            except sqlite3.OperationalError as error:
                if not _is_busy(error):
                    raise self._unavailable(error) from None
            except (sqlite3.Error, struct.error, OSError, ValueError, KeyError, TypeError) as error:
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

    def _applied(self, state: bytes, report: QuotaReport) -> bytes:
        names = b"a" + report["address"].encode(), b"c" + report["client"].encode()
        now = self._clock()
        if self._known is not None and self._known[:2] == (state, names):
            _, _, records, address, client = self._known
        else:
            records = _split(state)
            address_record, client_record = map(records.get, names)
            address = new_address(now, report["tolerance"]) if address_record is None else _address(*address_record)
            client = new_client(now) if client_record is None else self._client(*client_record)
        self._known = None
        self._result = exchange(address, client, report, now)
        records[names[0]] = _address_record(address)
        records[names[1]] = self._client_record(client)
        state = _join(records)
        self._known = state, names, records, address, client
        return state

    def _client(self, numbers: bytes, text: bytes) -> ClientState:
        """Decode a client. Processes that did not report since the last round trip are known already."""
        rest, *lines = text.decode().split("\n")
        known = self._decoded
        members = dict([known.get(line) or _process(line) for line in lines])
        last, *remaining = struct.unpack(f"<{len(numbers) // 8}d", numbers)
        pauses, runs, exhausted = json.loads(rest) if rest else ({}, {}, [])
        return {
            "last": last,
            "members": members,
            "pauses": pauses,
            "runs": runs,
            "remaining": remaining,
            "exhausted": exhausted,
        }

    def _client_record(self, client: ClientState) -> _Record:
        """Encode a client. Processes that were not replaced keep their line."""
        known, self._encoded, self._decoded = self._encoded, {}, {}
        for process, member in client["members"].items():
            old = known.get(process)
            line = old[1] if old is not None and old[0] is member else _line(process, member)
            self._encoded[process] = member, line
            self._decoded[line] = process, member
        pauses, runs, exhausted = client["pauses"], client["runs"], client["exhausted"]
        rest = _encode((pauses, runs, exhausted)) if pauses or runs or exhausted else ""
        remaining = client["remaining"]
        numbers = struct.pack(f"<{1 + len(remaining)}d", client["last"], *remaining)
        return numbers, "\n".join([rest, *self._decoded]).encode()

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

    def _unavailable(self, error: Exception) -> StoreUnavailableError:
        self._close()
        return StoreUnavailableError(f"{self._path}: {error}")


def _split(state: bytes) -> dict[bytes, _Record]:
    records, at = {}, 0
    while at < len(state):
        name_size, numbers_size, text_size = _SIZES.unpack_from(state, at)
        at += _SIZES.size
        name, numbers_at, text_at = state[at : at + name_size], at + name_size, at + name_size + numbers_size
        at = text_at + text_size
        records[name] = state[numbers_at:text_at], state[text_at:at]
    return records


def _join(records: dict[bytes, _Record]) -> bytes:
    return b"".join(
        [
            part
            for name, (numbers, text) in records.items()
            for part in (_SIZES.pack(len(name), len(numbers), len(text)), name, numbers, text)
        ]
    )


def _address(numbers: bytes, text: bytes) -> AddressState:
    last, tat, pause, start, current, before, *seen = struct.unpack(f"<{len(numbers) // 8}d", numbers)
    return {
        "last": last,
        "tat": tat,
        "pause": pause,
        "seen": dict(zip(text.decode().split("\n"), seen, strict=True)) if seen else {},
        "minute": [start, current, before],
    }


def _address_record(address: AddressState) -> _Record:
    seen = address["seen"]
    values = address["last"], address["tat"], address["pause"], *address["minute"], *seen.values()
    return struct.pack(f"<{len(values)}d", *values), "\n".join(seen).encode()


def _process(line: str) -> tuple[str, Member]:
    process, seen, reserved, sequence, held = line.split("\t")
    return process, {
        "seen": float(seen),
        "held": json.loads(held) if held else {},
        "reserved": int(reserved),
        "sequence": int(sequence),
    }


def _line(process: str, member: Member) -> str:
    held = member["held"]
    return f"{process}\t{member['seen']!r}\t{member['reserved']}\t{member['sequence']}\t{_encode(held) if held else ''}"


def _is_busy(error: sqlite3.OperationalError) -> bool:
    # The extended codes have the primary one in their lowest byte: https://www.sqlite.org/rescode.html
    return error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
