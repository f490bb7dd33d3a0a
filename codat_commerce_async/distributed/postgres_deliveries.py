"""Record which webhook deliveries are handled in PostgreSQL: for several machines. Needs the extra `postgres`."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from codat_commerce_async._core.secrecy import hides_arguments
from codat_commerce_async._core.validation import check_str
from codat_commerce_async.distributed._deliveries import CLAIM_FOR, REMEMBER_FOR, Claim, ClaimStore
from codat_commerce_async.distributed._stores import StoreUnavailableError
from codat_commerce_async.distributed.postgres import check_dsn, create_schema, failure_of

try:
    from psycopg import AsyncConnection, Error, OperationalError
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "PostgreSQL needs an extra: pip install 'codat-commerce-async[postgres]'", name=error.name
    ) from error

__all__ = ["PostgresDeliveryStore"]

_Connection: TypeAlias = AsyncConnection[tuple[object, ...]]

_SECONDS = 2.0
# Arbitrary, and the same in all processes: only one creates the table at a time.
_SCHEMA_LOCK = 7305428151104673
_EXISTS = "SELECT to_regclass('codat_deliveries') IS NOT NULL"
# A row without a claim is an event that was handled.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS codat_deliveries (id text PRIMARY KEY, claim text, expires timestamptz NOT NULL);
CREATE INDEX IF NOT EXISTS codat_deliveries_expires ON codat_deliveries (expires);
"""
_CLAIM = """
INSERT INTO codat_deliveries AS known VALUES (%s, %s, clock_timestamp() + %s * interval '1 second')
ON CONFLICT (id) DO UPDATE SET claim = excluded.claim, expires = excluded.expires
WHERE known.expires <= clock_timestamp() OR known.claim = excluded.claim
RETURNING 'claimed'
"""
_FOUND = "SELECT CASE WHEN claim IS NULL THEN 'handled' ELSE 'in_progress' END FROM codat_deliveries WHERE id = %s"
_REMEMBER = """
INSERT INTO codat_deliveries VALUES (%s, NULL, clock_timestamp() + %s * interval '1 second')
ON CONFLICT (id) DO UPDATE SET claim = NULL, expires = excluded.expires
"""
_GIVE_UP = "DELETE FROM codat_deliveries WHERE id = %s AND claim = %s"
# Each event adds one row; processes that delete at the same time do not wait for each other.
_DELETE_EXPIRED = """
DELETE FROM codat_deliveries WHERE id IN (
    SELECT id FROM codat_deliveries WHERE expires <= clock_timestamp() LIMIT 100 FOR UPDATE SKIP LOCKED
)
"""


class PostgresDeliveryStore(ClaimStore):
    """Record which deliveries are handled in PostgreSQL 13 or newer, for all processes that use the same database.

    Each step is one statement; the server's clock counts. The table `codat_deliveries` is created on first use, in the
    first schema of the search path; it holds no payload, and old rows are deleted. Each process uses one connection.

    Args:
        dsn: The connection string or URL, such as `postgresql://user@host/database`; it may contain a password.
        prefix: The first part of the stored ids. Endpoints need a prefix each.
        claim_for: Seconds after which the claim of a process that was killed expires; must be longer than your handlers
            take.
        remember_for: Seconds for which a handled event is remembered; Codat repeats deliveries for 28 hours.

    """

    @hides_arguments
    def __init__(
        self,
        dsn: str,
        *,
        prefix: str = "codat-delivery",
        claim_for: float = CLAIM_FOR,
        remember_for: float = REMEMBER_FOR,
    ) -> None:
        super().__init__(claim_for, remember_for)
        check_dsn(dsn)
        self._dsn = dsn
        self._prefix = check_str("prefix", prefix)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = asyncio.Lock()
        self._connection: _Connection | None = None

    async def aclose(self) -> None:
        """Close the connection; the next claim opens a new one."""
        connection, self._connection = self._connection, None
        if connection is not None and self._loop is asyncio.get_running_loop():
            await connection.close()

    def __repr__(self) -> str:
        return f"PostgresDeliveryStore(prefix={self._prefix!r})"

    async def _claim(self, webhook_id: str, token: str) -> Claim:
        key = self._key(webhook_id)
        claimed = await self._run(_CLAIM, (key, token, self._claim_for))
        found = claimed or await self._run(_FOUND, (key,))
        return "claimed" if found == "claimed" else "handled" if found == "handled" else "in_progress"

    async def _remember(self, webhook_id: str) -> None:
        await self._run(_REMEMBER, (self._key(webhook_id), self._remember_for))
        # What cannot be deleted now is deleted after a later event.
        with contextlib.suppress(StoreUnavailableError):
            await self._run(_DELETE_EXPIRED, ())

    async def _give_up(self, webhook_id: str, token: str) -> None:
        await self._run(_GIVE_UP, (self._key(webhook_id), token))

    def _key(self, webhook_id: str) -> str:
        return f"{self._prefix}:{webhook_id}"

    async def _run(self, statement: str, parameters: Sequence[object]) -> object:
        """Run a statement and return the first value of its result; all have the same effect when they are repeated."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._lock, self._connection = loop, asyncio.Lock(), None
        try:
            async with asyncio.timeout(_SECONDS):
                await self._lock.acquire()
            try:
                was_open = self._connection is not None
                try:
                    return await self._execute(statement, parameters)
                except OperationalError:
                    # A connection that was open before may be one to a server that has been restarted.
                    if not was_open:
                        raise
                return await self._execute(statement, parameters)
            finally:
                self._lock.release()
        except (Error, OSError) as error:
            failure = StoreUnavailableError(failure_of(error))
        raise failure

    async def _execute(self, statement: str, parameters: Sequence[object]) -> object:
        connection = await self._open()
        try:
            with _time_limit(connection):
                cursor = await connection.execute(statement.encode(), parameters)
                row = await cursor.fetchone() if cursor.description else None
        except BaseException:
            # The connection may be lost, or in the middle of a response.
            await self.aclose()
            raise
        return row[0] if row else None

    async def _open(self) -> _Connection:
        if self._connection is None:
            # Poolers that change the server's process between statements do not support prepared statements.
            connection = await AsyncConnection.connect(
                self._dsn, autocommit=True, connect_timeout=2, prepare_threshold=None
            )
            try:
                with _time_limit(connection):
                    await create_schema(connection, _EXISTS, _SCHEMA_LOCK, lambda: _SCHEMA)
            except BaseException:
                await connection.close()
                raise
            self._connection = connection
        return self._connection


@contextlib.contextmanager
def _time_limit(connection: _Connection) -> Iterator[None]:
    """Break the connection after some seconds.

    A cancellation would not do: psycopg then sends one to the server, and waits for the response.
    """

    def shut_down() -> None:
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(connection.pgconn.socket)) as one:
            one.shutdown(socket.SHUT_RDWR)

    timer = asyncio.get_running_loop().call_later(_SECONDS, shut_down)
    try:
        yield
    finally:
        timer.cancel()
