"""Record which webhook deliveries are handled in a SQLite file: for all processes of one machine."""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import TypeVar

from codat_commerce_async._core.callbacks import check_function
from codat_commerce_async.distributed._deliveries import CLAIM_FOR, REMEMBER_FOR, Claim, ClaimStore
from codat_commerce_async.distributed._paths import mistake_of
from codat_commerce_async.distributed._stores import StoreUnavailableError
from codat_commerce_async.errors import DeliveryStoreError

__all__ = ["FileDeliveryStore"]

T = TypeVar("T")

# Seconds between two attempts to lock the file, and until it counts as unavailable.
_RETRY = 0.01
_UNAVAILABLE = 5.0

# A row without a claim is an event that was handled.
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS codat_deliveries (webhook_id TEXT PRIMARY KEY, claim TEXT, expires REAL NOT NULL)",
    "CREATE INDEX IF NOT EXISTS codat_deliveries_expires ON codat_deliveries (expires)",
)


class FileDeliveryStore(ClaimStore):
    """Record which deliveries are handled in a file, so that each event is handled by one process of this machine.

    The file must be on a local disk. A transaction takes less than a millisecond and runs in the event loop.

    Args:
        path: The file; it is created on first use. Endpoints need a file each.
        claim_for: Seconds after which the claim of a process that was killed expires; must be longer than your handlers
            take.
        remember_for: Seconds for which a handled event is remembered; Codat repeats deliveries for 28 hours.
        wall_clock: Returns the time in epoch seconds, for simulations.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        claim_for: float = CLAIM_FOR,
        remember_for: float = REMEMBER_FOR,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(claim_for, remember_for)
        check_function("wall_clock", wall_clock)
        self._path = Path(path)
        self._wall_clock = wall_clock

    async def check(self) -> None:
        """Open the file, and create it if necessary; a file that is locked or a full disk is no error.

        Raises:
            DeliveryStoreError: The folder is missing or not writable, or the file is no database or not writable.
        """
        try:
            self._run(lambda _: None)
        except sqlite3.Error as error:
            failure = self._failure(error)
            if isinstance(failure, DeliveryStoreError):
                raise failure from None

    async def aclose(self) -> None:
        """Do nothing; no file is open between two transactions."""

    def __repr__(self) -> str:
        return f"FileDeliveryStore({str(self._path)!r})"

    async def _claim(self, webhook_id: str, token: str) -> Claim:
        return await self._locked(lambda file: self._claim_in(file, webhook_id, token))

    async def _remember(self, webhook_id: str) -> None:
        row = webhook_id, self._wall_clock() + self._remember_for
        await self._locked(
            lambda file: file.execute("INSERT OR REPLACE INTO codat_deliveries VALUES (?, NULL, ?)", row)
        )

    async def _give_up(self, webhook_id: str, token: str) -> None:
        delete = "DELETE FROM codat_deliveries WHERE webhook_id = ? AND claim = ?"
        await self._locked(lambda file: file.execute(delete, (webhook_id, token)))

    def _claim_in(self, file: sqlite3.Connection, webhook_id: str, token: str) -> Claim:
        now = self._wall_clock()
        file.execute("DELETE FROM codat_deliveries WHERE expires <= ?", (now,))
        found = file.execute("SELECT claim FROM codat_deliveries WHERE webhook_id = ?", (webhook_id,)).fetchone()
        if found is not None:
            return "handled" if found[0] is None else "in_progress"
        file.execute("INSERT INTO codat_deliveries VALUES (?, ?, ?)", (webhook_id, token, now + self._claim_for))
        return "claimed"

    async def _locked(self, transaction: Callable[[sqlite3.Connection], T]) -> T:
        """Run a transaction; wait without blocking the event loop while another process has the lock."""
        deadline = time.monotonic() + _UNAVAILABLE
        while True:
            try:
                return self._run(transaction)
            except sqlite3.Error as error:
                busy = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
                if not busy or time.monotonic() > deadline:
                    raise self._failure(error) from None
            await asyncio.sleep(_RETRY)

    def _failure(self, error: sqlite3.Error) -> StoreUnavailableError | DeliveryStoreError:
        mistake = mistake_of(self._path, error)
        if mistake is None:
            return StoreUnavailableError(f"{self._path}: {error}")
        return DeliveryStoreError(f"deliveries cannot be recorded in {self._path}: {mistake}")

    def _run(self, transaction: Callable[[sqlite3.Connection], T]) -> T:
        # Deliveries are rare: a connection for each leaves no file open, in no thread and no forked process.
        file = sqlite3.connect(self._path, timeout=0, isolation_level=None)
        try:
            # Survives the process being killed; after a power failure, an event may be handled again.
            file.execute("PRAGMA synchronous = OFF")
            file.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA:
                file.execute(statement)
            result = transaction(file)
            file.execute("COMMIT")
        finally:
            file.close()
        return result
