"""Record which deliveries are handled in a SQLite file, for all processes of one machine."""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

from codat_commerce_async._core.validation import check_seconds

__all__ = ["FileDeliveryStore"]

T = TypeVar("T")

# Seconds between two attempts to lock the file, and until it counts as unavailable.
_RETRY = 0.01
_UNAVAILABLE = 5.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS deliveries (
    webhook_id TEXT PRIMARY KEY, handled INTEGER NOT NULL, expires REAL NOT NULL
) WITHOUT ROWID
"""


class FileDeliveryStore:
    """Record which deliveries are handled in a file, so that each event is handled by one process of this machine.

    The file must be on a local disk. A claim of a process that was killed expires after `claim_for` seconds, which must
    be longer than your handlers take; a handled event is remembered for `remember_for` seconds, by default for the 28
    hours in which Codat repeats deliveries, and one more.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        claim_for: float = 300.0,
        remember_for: float = 29 * 3600.0,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = Path(path)
        self._claim_for = check_seconds("claim_for", claim_for, positive=True, finite=True)
        self._remember_for = check_seconds("remember_for", remember_for, positive=True, finite=True)
        self._wall_clock = wall_clock

    async def claim(self, webhook_id: str) -> Literal["claimed", "in_progress", "handled"]:
        """Claim an event for this process, unless another one has handled it or is handling it."""
        return await self._locked(lambda file: self._claim(file, webhook_id))

    async def finish(self, webhook_id: str, *, handled: bool) -> None:
        """Record that a claimed event was handled; otherwise give up the claim."""
        until = self._wall_clock() + (self._remember_for if handled else 0.0)
        await self._locked(
            lambda file: file.execute(
                "UPDATE deliveries SET handled = ?, expires = ? WHERE webhook_id = ?", (handled, until, webhook_id)
            )
        )

    def _claim(self, file: sqlite3.Connection, webhook_id: str) -> Literal["claimed", "in_progress", "handled"]:
        now = self._wall_clock()
        file.execute("DELETE FROM deliveries WHERE expires <= ?", (now,))
        found = file.execute("SELECT handled FROM deliveries WHERE webhook_id = ?", (webhook_id,)).fetchone()
        if found is not None:
            return "handled" if found[0] else "in_progress"
        file.execute("INSERT INTO deliveries VALUES (?, 0, ?)", (webhook_id, now + self._claim_for))
        return "claimed"

    async def _locked(self, transaction: Callable[[sqlite3.Connection], T]) -> T:
        """Run a transaction; wait without blocking the event loop while another process has the lock."""
        deadline = time.monotonic() + _UNAVAILABLE
        while True:
            try:
                return self._run(transaction)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(_RETRY)

    def _run(self, transaction: Callable[[sqlite3.Connection], T]) -> T:
        # Deliveries are rare: a connection for each leaves no file open, in no thread and no forked process.
        file = sqlite3.connect(self._path, timeout=0, isolation_level=None)
        try:
            # Survives the process being killed; after a power failure, an event may be handled again.
            file.execute("PRAGMA synchronous = OFF")
            file.execute("BEGIN IMMEDIATE")
            file.execute(_SCHEMA)
            result = transaction(file)
            file.execute("COMMIT")
        finally:
            file.close()
        return result
