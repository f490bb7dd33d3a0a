"""What a fan-out has done so far, kept in an SQLite file that survives the process."""

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self, TypeVar, TypeVarTuple

from codat_commerce_async.errors import JournalError
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.syncing.outcome import SyncOutcome
from codat_commerce_async.syncing.request import SyncRequest

__all__ = ["Entry", "Journal", "read_journal"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_VERSION: Final = 1
_APPLICATION_ID: Final = 0x434F4441  # "CODA", so that no other program's database is taken for a journal
_SCHEMA = """
CREATE TABLE syncs (
    company_id TEXT NOT NULL,
    period TEXT NOT NULL,
    state TEXT NOT NULL,
    idempotency_key TEXT,
    asked_at REAL,
    handle TEXT,
    ended_at REAL,
    looks INTEGER,
    elapsed REAL,
    code INTEGER,
    outcome TEXT,
    message TEXT,
    PRIMARY KEY (company_id, period)
) WITHOUT ROWID
"""
_COLUMNS = (
    "company_id, period, state, idempotency_key, asked_at, handle, ended_at, looks, elapsed, code, outcome, message"
)
_LARGEST_BATCH = 500


@dataclass(frozen=True, slots=True)
class Entry:
    """What the journal knows of one sync; `state` is `asking`, `running`, `succeeded`, `failed` or `error`.

    Times are epoch seconds, `elapsed` is seconds. `code`, `outcome` and `message` say how it ended.
    """

    request: SyncRequest
    state: str
    idempotency_key: str | None
    asked_at: float | None
    handle: SyncHandle | None
    ended_at: float | None
    looks: int | None
    elapsed: float | None
    code: int | None
    outcome: str | None
    message: str | None

    @property
    def is_finished(self) -> bool:
        """Whether it ended with a status; what ended with an error is tried again."""
        return self.state in {"succeeded", "failed"}


class Journal:
    """A fan-out's journal: everything is written, and on the disk, before the coroutine that wrote it goes on.

    One thread owns the file and commits what has come together since its last commit at once. The file is locked: a
    second process is told so. Raises JournalError for whatever is wrong with the file or the disk.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._orders: queue.SimpleQueue[_Order | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="codat-journal", daemon=True)
        self._opened: asyncio.Future[None]
        self._closed: asyncio.Future[None]
        self._loop: asyncio.AbstractEventLoop

    @classmethod
    async def open(cls, path: str | Path) -> Self:
        """The journal in this file, which is made if there is none."""
        journal = cls(Path(path))
        journal._loop = asyncio.get_running_loop()
        journal._opened = journal._loop.create_future()
        journal._closed = journal._loop.create_future()
        journal._thread.start()
        await journal._opened
        return journal

    async def close(self) -> None:
        """Write what is left and let go of the file."""
        if self._thread.is_alive():
            self._orders.put(None)
            await asyncio.shield(self._closed)
        self._thread.join()

    async def find(self, request: SyncRequest) -> Entry | None:
        """What is known of this sync, or None."""
        return await self._order(lambda file: _select(file, request))

    async def unfinished(self) -> list[Entry]:
        """The syncs that were asked for, or running, when the journal was written last."""
        return await self._order(lambda file: _entries(file, "WHERE state IN ('asking', 'running') ORDER BY asked_at"))

    async def durations(self) -> list[float]:
        """How long the syncs took that ended, in seconds, the latest thousand."""
        return await self._order(
            lambda file: [
                row[0]
                for row in file.execute(
                    "SELECT elapsed FROM syncs WHERE state IN ('succeeded', 'failed') AND elapsed IS NOT NULL "
                    "ORDER BY ended_at DESC LIMIT 1000"
                )
            ]
        )

    async def asking(self, request: SyncRequest, key: str, asked_at: float) -> None:
        """Note that the sync is about to be asked for, under this key."""
        row = (request.company_id, _period(request), "asking", key, asked_at)
        await self._order(
            lambda file: file.execute(
                "INSERT OR REPLACE INTO syncs (company_id, period, state, idempotency_key, asked_at) "
                "VALUES (?, ?, ?, ?, ?)",
                row,
            )
        )

    async def running(self, request: SyncRequest, handle: SyncHandle) -> None:
        """Note that the sync was started, or that more is known of its ids."""
        row = (handle.to_json(), request.company_id, _period(request))
        await self._order(
            lambda file: file.execute(
                "UPDATE syncs SET state = 'running', handle = ? WHERE company_id = ? AND period = ?", row
            )
        )

    async def ended(self, outcome: SyncOutcome, now: float) -> None:
        """Note how the sync ended."""
        status, error = outcome.status, outcome.error
        state = "error" if status is None else "failed" if status.failed else "succeeded"
        row = (
            outcome.company_id,
            _period(outcome.request),
            state,
            outcome.handle.to_json() if outcome.handle else None,
            now,
            outcome.looks,
            outcome.elapsed,
            status.sync_status_code if status else None,
            status.outcome.name if status else type(error).__name__,
            (status.error_message or None) if status else str(error),
        )
        await self._order(
            lambda file: file.execute(
                "INSERT INTO syncs "
                "(company_id, period, state, handle, ended_at, looks, elapsed, code, outcome, message) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET state = excluded.state, "
                "handle = excluded.handle, ended_at = excluded.ended_at, looks = excluded.looks, "
                "elapsed = excluded.elapsed, code = excluded.code, outcome = excluded.outcome, "
                "message = excluded.message",
                row,
            )
        )

    async def _order(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What the thread makes of this piece of work, once it is on the disk."""
        done: asyncio.Future[T] = self._loop.create_future()
        self._orders.put(_Order(work, done))
        return await done

    def _serve(self) -> None:
        """Own the file: take what has come together, do it, commit it, tell everybody. Runs in the thread."""
        try:
            file = _open(self._path)
        except JournalError as error:
            self._tell(_settle, self._opened, None, error)
            return
        self._tell(_settle, self._opened, None, None)
        try:
            while True:
                orders, last = self._next_orders()
                if orders:
                    _carry_out(file, orders, self._path)
                    self._tell(_settle_all, orders)
                if last:
                    return
        finally:
            file.close()
            self._tell(_settle, self._closed, None, None)

    def _next_orders(self) -> "tuple[list[_Order], bool]":
        orders: list[_Order] = []
        order = self._orders.get()
        while order is not None:
            orders.append(order)
            if len(orders) == _LARGEST_BATCH:
                return orders, False
            try:
                order = self._orders.get_nowait()
            except queue.Empty:
                return orders, False
        return orders, True

    def _tell(self, what: Callable[[*Ts], object], *arguments: *Ts) -> None:
        # A loop that was closed has nobody waiting on it.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(what, *arguments)


class _Order:
    """A piece of work for the thread, and who waits for it."""

    __slots__ = ("done", "error", "result", "work")

    def __init__(self, work: Callable[[sqlite3.Connection], object], done: "asyncio.Future[Any]") -> None:
        self.work = work
        self.done = done
        self.result: object = None
        self.error: JournalError | None = None

    def settle(self) -> None:
        """Tell who waits what came of it. Runs on the event loop."""
        _settle(self.done, self.result, self.error)


def _settle(future: "asyncio.Future[Any]", result: object, error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def _settle_all(orders: "list[_Order]") -> None:
    for order in orders:
        order.settle()


def _carry_out(file: sqlite3.Connection, orders: "list[_Order]", path: Path) -> None:
    """Do all of it and commit it together; when that fails nothing of it is done."""
    try:
        file.execute("BEGIN IMMEDIATE")
        for order in orders:
            order.result = order.work(file)
        file.execute("COMMIT")
    except (sqlite3.Error, ValueError) as error:
        if file.in_transaction:
            file.execute("ROLLBACK")
        failure = JournalError(f"the journal {path} could not be written: {error}")
        for order in orders:
            order.error = failure


def _open(path: Path) -> sqlite3.Connection:
    """The file, locked for us and of our version. Raises JournalError."""
    try:
        file = sqlite3.connect(path, isolation_level=None, timeout=0.0)
    except sqlite3.Error as error:
        raise JournalError(f"the journal {path} cannot be opened: {error}") from None
    try:
        file.execute("PRAGMA locking_mode = EXCLUSIVE")
        file.execute("PRAGMA journal_mode = WAL")
        file.execute("PRAGMA synchronous = FULL")
        file.execute("BEGIN EXCLUSIVE")
        _check_version(file, path)
        file.execute("COMMIT")
    except sqlite3.Error as error:
        file.close()
        raise JournalError(_opening_failed(path, error)) from None
    except JournalError:
        file.close()
        raise
    return file


def _check_version(file: sqlite3.Connection, path: Path) -> None:
    application: int = file.execute("PRAGMA application_id").fetchone()[0]
    version: int = file.execute("PRAGMA user_version").fetchone()[0]
    if not application and not version and not file.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        file.execute(_SCHEMA)
        file.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        file.execute(f"PRAGMA user_version = {_VERSION}")
    elif application != _APPLICATION_ID:
        raise JournalError(f"{path} is a database, but no journal; give the name of a new file")
    elif version != _VERSION:
        raise JournalError(
            f"the journal {path} is of version {version}, this library reads version {_VERSION}; "
            "finish it with the library that wrote it, or give the name of a new file"
        )
    elif file.execute("PRAGMA quick_check").fetchone()[0] != "ok":
        raise JournalError(f"the journal {path} is damaged; keep it, and give the name of a new file")


def _opening_failed(path: Path, error: sqlite3.Error) -> str:
    text = str(error)
    if "locked" in text or "busy" in text:
        return f"the journal {path} is in use by another process; wait for it to end, or give the name of another file"
    if "not a database" in text or "malformed" in text or "corrupt" in text:
        return f"{path} is no journal, or a damaged one; keep it, and give the name of a new file"
    return f"the journal {path} cannot be opened: {text}"


def _period(request: SyncRequest) -> str:
    """What of a company is synced, as text: one row each."""
    if request.date_range is not None:
        return "/".join(moment.astimezone(UTC).isoformat() for moment in request.date_range)
    return request.sync_to.astimezone(UTC).isoformat() if request.sync_to is not None else ""


def _request(company_id: str, period: str) -> SyncRequest:
    if not period:
        return SyncRequest(company_id=company_id)
    moments = [datetime.fromisoformat(text) for text in period.split("/")]
    if len(moments) == 1:
        return SyncRequest(company_id=company_id, sync_to=moments[0])
    return SyncRequest(company_id=company_id, start=moments[0], finish=moments[1])


def _select(file: sqlite3.Connection, request: SyncRequest) -> Entry | None:
    found = _entries(file, "WHERE company_id = ? AND period = ?", (request.company_id, _period(request)))
    return found[0] if found else None


def _entries(file: sqlite3.Connection, which: str, values: tuple[str, ...] = ()) -> list[Entry]:
    rows = file.execute(f"SELECT {_COLUMNS} FROM syncs {which}", values)  # noqa: S608 - constants of this module
    return [_entry(row) for row in rows]


def _entry(row: tuple[Any, ...]) -> Entry:
    company_id, period, state, key, asked_at, handle, ended_at, looks, elapsed, code, outcome, message = row
    return Entry(
        request=_request(company_id, period),
        state=state,
        idempotency_key=key,
        asked_at=asked_at,
        handle=SyncHandle.from_json(handle) if handle else None,
        ended_at=ended_at,
        looks=looks,
        elapsed=elapsed,
        code=code,
        outcome=outcome,
        message=message,
    )


def read_journal(path: str | Path) -> Iterator[Entry]:
    """Every entry of a finished or interrupted journal, by company. Raises JournalError."""
    path = Path(path)
    if not path.is_file():
        raise JournalError(f"there is no journal {path}")
    try:
        file = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=0.0)
    except sqlite3.Error as error:
        raise JournalError(_opening_failed(path, error)) from None
    try:
        if file.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
            raise JournalError(f"{path} is a database, but no journal")
        for (company_id,) in file.execute("SELECT DISTINCT company_id FROM syncs ORDER BY company_id").fetchall():
            yield from _entries(file, "WHERE company_id = ? ORDER BY period", (company_id,))
    except sqlite3.Error as error:
        raise JournalError(_opening_failed(path, error)) from None
    finally:
        file.close()
