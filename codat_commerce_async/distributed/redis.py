"""Keep the shared quota in Redis or Valkey: for several machines. Needs the extra `redis`."""

import asyncio
import json
from collections.abc import Callable
from importlib.resources import files

from codat_commerce_async._core.callbacks import check_function
from codat_commerce_async._core.secrecy import hides_arguments
from codat_commerce_async._core.validation import check_str
from codat_commerce_async.distributed._state import QuotaReport, QuotaResult
from codat_commerce_async.distributed._stores import StoreUnavailableError

try:
    from redis.asyncio import Redis
    from redis.commands.core import AsyncScript
    from redis.exceptions import RedisError
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "Redis needs an extra: pip install 'codat-commerce-async[redis]'", name=error.name
    ) from error

__all__ = ["RedisQuotaStore"]

_SECONDS = 1.0


class RedisQuotaStore:
    """A store in Redis 6.2 or newer, or in Valkey, shared by all processes that use the same server and `prefix`.

    Each round trip is one call of one script; the server's clock counts. All keys have the same hash tag, so that the
    store works in a cluster too. They hold counts, company ids and names of processes, and expire after two days.

    Args:
        url: The URL of the server, such as `redis://127.0.0.1:6379/0`; it may contain a password.
        prefix: The first part of the keys.
        clock: Returns the time in seconds, for simulations; by default the server's clock counts.
    """

    @hides_arguments
    def __init__(self, url: str, *, prefix: str = "codat-quota", clock: Callable[[], float] | None = None) -> None:
        if clock is not None:
            check_function("clock", clock)
        self._url = check_url(url)
        self._prefix = check_str("prefix", prefix)
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._redis: Redis | None = None
        self._script: AsyncScript | None = None

    async def exchange(self, report: QuotaReport) -> QuotaResult:
        """Apply a report and return the result."""
        script = self._open()
        keys = [f"{{{self._prefix}}}:address:{report['address']}", f"{{{self._prefix}}}:client:{report['client']}"]
        now = "" if self._clock is None else repr(self._clock())
        try:
            text = await script(keys=keys, args=[json.dumps(report), now])
        except (RedisError, OSError) as error:
            failure = StoreUnavailableError(failure_of(error))
        else:
            result: QuotaResult = json.loads(text)
            # In Lua, an empty list and an empty object are the same.
            result["permits"] = result["permits"] or []
            return result
        raise failure

    async def aclose(self) -> None:
        """Close the connections."""
        redis, self._redis, self._script = self._redis, None, None
        if redis is not None and self._loop is asyncio.get_running_loop():
            await redis.aclose()

    def __repr__(self) -> str:
        return f"RedisQuotaStore(prefix={self._prefix!r})"

    def _open(self) -> AsyncScript:
        loop = asyncio.get_running_loop()
        if self._script is None or self._loop is not loop:
            # The rate limiter decides when to try again.
            self._redis = Redis.from_url(
                self._url, socket_timeout=_SECONDS, socket_connect_timeout=_SECONDS, max_connections=2
            )
            self._loop = loop
            source = files("codat_commerce_async.distributed").joinpath("_redis.lua").read_text(encoding="utf-8")
            self._script = self._redis.register_script(source)
        return self._script


@hides_arguments
def check_url(url: str) -> str:
    """Return the URL; raise ValueError if it is not one of a Redis server."""
    if not check_str("url", url).startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("url must be a redis://, rediss:// or unix:// URL")
    return url


def failure_of(error: Exception) -> str:
    """Return the type and the first word of the server's error, such as NOAUTH; the whole text may quote a URL."""
    code = str(error).partition(" ")[0]
    return f"{type(error).__name__}: {code}" if code.isupper() and code.isalpha() else type(error).__name__
