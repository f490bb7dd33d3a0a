"""Keep the shared quota in PostgreSQL: for several machines. Needs the extra `postgres`."""

import asyncio
import json
from collections.abc import Callable, Mapping
from importlib.resources import files

from codat_commerce_async._core.callbacks import check_function
from codat_commerce_async._core.secrecy import hides_arguments
from codat_commerce_async._core.validation import check_str
from codat_commerce_async.distributed._state import QuotaReport, QuotaResult
from codat_commerce_async.distributed._stores import StoreUnavailableError

try:
    from psycopg import AsyncConnection, Error, ProgrammingError
    from psycopg.conninfo import conninfo_to_dict
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "PostgreSQL needs an extra: pip install 'codat-commerce-async[postgres]'", name=error.name
    ) from error

__all__ = ["PostgresQuotaStore"]

_CALL = "SELECT codat_quota_exchange_1(%s::jsonb, %s)"
# Arbitrary, and the same in all processes: only one creates the table and the function at a time.
_SCHEMA_LOCK = 7305428151104672
_EXISTS = "SELECT to_regclass('codat_quota') IS NOT NULL AND to_regproc('codat_quota_exchange_1') IS NOT NULL"
_OPTIONS = "-c statement_timeout=1000 -c synchronous_commit=off"


class PostgresQuotaStore:
    """A store in PostgreSQL 13 or newer, shared by all processes that use the same database and schema.

    Each round trip is one call of a function; the server's clock counts. The function and the unlogged table
    `codat_quota` are created on first use, in the first schema of the search path. The table holds counts, company ids
    and names of processes. Each process uses one connection; through a pooler it needs session or transaction pooling.

    Args:
        dsn: The connection string or URL, such as `postgresql://user@host/database`; it may contain a password.
        clock: Returns the time in seconds, for simulations; by default the server's clock counts.
    """

    @hides_arguments
    def __init__(self, dsn: str, *, clock: Callable[[], float] | None = None) -> None:
        if clock is not None:
            check_function("clock", clock)
        self._dsn = dsn
        self._options = f"{check_dsn(dsn).get('options') or ''} {_OPTIONS}".strip()
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connection: AsyncConnection[tuple[object, ...]] | None = None

    async def exchange(self, report: QuotaReport) -> QuotaResult:
        """Apply a report and return the result."""
        now = None if self._clock is None else self._clock()
        try:
            connection = await self._open()
            cursor = await connection.execute(_CALL, (json.dumps(report), now), prepare=True)
            row = await cursor.fetchone()
        except (Error, OSError) as error:
            failure = StoreUnavailableError(failure_of(error))
        except BaseException:
            # The connection may be in the middle of a response.
            await self.aclose()
            raise
        else:
            result: QuotaResult = row[0]  # type: ignore[index,assignment]
            return result
        await self.aclose()
        raise failure

    async def aclose(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None and self._loop is asyncio.get_running_loop():
            await connection.close()

    def __repr__(self) -> str:
        return "PostgresQuotaStore()"

    async def _open(self) -> AsyncConnection[tuple[object, ...]]:
        loop = asyncio.get_running_loop()
        if self._connection is None or self._loop is not loop:
            connection = await AsyncConnection.connect(
                self._dsn, autocommit=True, connect_timeout=2, options=self._options
            )
            try:
                await create_schema(connection, _EXISTS, _SCHEMA_LOCK, _statements)
            except BaseException:
                await connection.close()
                raise
            self._connection, self._loop = connection, loop
        return self._connection


async def create_schema(
    connection: AsyncConnection[tuple[object, ...]], exists: str, lock: int, statements: Callable[[], str]
) -> None:
    """Run the statements, one process at a time, unless the query `exists` returns true."""
    found = await (await connection.execute(exists.encode())).fetchone()
    if found is not None and found[0]:
        return
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (lock,))
        await connection.execute(statements().encode())


def _statements() -> str:
    return files("codat_commerce_async.distributed").joinpath("_postgres.sql").read_text(encoding="utf-8")


@hides_arguments
def check_dsn(dsn: str) -> Mapping[str, object]:
    """Return the settings of a connection string or URL; raise ValueError if it is none."""
    try:
        return conninfo_to_dict(check_str("dsn", dsn))
    except ProgrammingError:
        raise ValueError("dsn must be a connection string or URL of PostgreSQL") from None


def failure_of(error: Exception) -> str:
    """Return the type and the SQLSTATE of an error; its text may quote the connection string."""
    code = getattr(error, "sqlstate", None)
    return f"{type(error).__name__}: SQLSTATE {code}" if code else type(error).__name__
