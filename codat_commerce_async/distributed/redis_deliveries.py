"""Record which webhook deliveries are handled in Redis or Valkey: for several machines. Needs the extra `redis`."""

import asyncio

from codat_commerce_async._core.secrecy import hides_arguments
from codat_commerce_async._core.validation import check_str
from codat_commerce_async.distributed._deliveries import CLAIM_FOR, REMEMBER_FOR, Claim, ClaimStore
from codat_commerce_async.distributed._stores import StoreUnavailableError
from codat_commerce_async.distributed.redis import check_url, failure_of

try:
    from redis.asyncio import BlockingConnectionPool, Redis
    from redis.exceptions import ConnectionError as RedisConnectionError
    from redis.exceptions import RedisError
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "Redis needs an extra: pip install 'codat-commerce-async[redis]'", name=error.name
    ) from error

__all__ = ["RedisDeliveryStore"]

_SECONDS = 2.0
_CONNECTIONS = 8

# The value of a key is the token of a claim, or empty once the event is handled.
_CLAIM = """
local found = redis.call('GET', KEYS[1])
if found == '' then return 'handled' end
if found and found ~= ARGV[1] then return 'in_progress' end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 'claimed'
"""
_REMEMBER = "redis.call('SET', KEYS[1], '', 'PX', ARGV[1])"
_GIVE_UP = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"


class RedisDeliveryStore(ClaimStore):
    """Record which deliveries are handled in Redis 6.2 or newer, or in Valkey, for all processes that use it.

    Each step is one call of a short script; the server's clock counts. The keys hold no payload, and expire. If the
    server loses its data, an event that Codat delivers again is handled again.

    Args:
        url: The URL of the server, such as `redis://127.0.0.1:6379/0`; it may contain a password.
        prefix: The first part of the keys. Endpoints need a prefix each.
        claim_for: Seconds after which the claim of a process that was killed expires; must be longer than your handlers
            take.
        remember_for: Seconds for which a handled event is remembered; Codat repeats deliveries for 28 hours.

    """

    @hides_arguments
    def __init__(
        self,
        url: str,
        *,
        prefix: str = "codat-delivery",
        claim_for: float = CLAIM_FOR,
        remember_for: float = REMEMBER_FOR,
    ) -> None:
        super().__init__(claim_for, remember_for)
        self._url = check_url(url)
        self._prefix = check_str("prefix", prefix)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._redis: Redis | None = None

    async def aclose(self) -> None:
        """Close the connections; the next claim opens new ones."""
        redis, self._redis = self._redis, None
        if redis is not None and self._loop is asyncio.get_running_loop():
            await redis.aclose(close_connection_pool=True)

    def __repr__(self) -> str:
        return f"RedisDeliveryStore(prefix={self._prefix!r})"

    async def _claim(self, webhook_id: str, token: str) -> Claim:
        found = await self._run(_CLAIM, webhook_id, token, _milliseconds(self._claim_for))
        return "claimed" if found == b"claimed" else "handled" if found == b"handled" else "in_progress"

    async def _remember(self, webhook_id: str) -> None:
        await self._run(_REMEMBER, webhook_id, _milliseconds(self._remember_for))

    async def _give_up(self, webhook_id: str, token: str) -> None:
        await self._run(_GIVE_UP, webhook_id, token)

    async def _run(self, script: str, webhook_id: str, *arguments: str) -> object:
        redis, key = self._open(), f"{self._prefix}:{webhook_id}"
        try:
            try:
                return await redis.eval(script, 1, key, *arguments)
            except RedisConnectionError:
                # A connection that was open before may be one to a server that has been restarted.
                return await redis.eval(script, 1, key, *arguments)
        except (RedisError, OSError) as error:
            failure = StoreUnavailableError(failure_of(error))
        raise failure

    def _open(self) -> Redis:
        loop = asyncio.get_running_loop()
        if self._redis is None or self._loop is not loop:
            pool = BlockingConnectionPool.from_url(
                self._url,
                max_connections=_CONNECTIONS,
                timeout=_SECONDS,
                socket_timeout=_SECONDS,
                socket_connect_timeout=_SECONDS,
            )
            self._redis, self._loop = Redis.from_pool(pool), loop
        return self._redis


def _milliseconds(seconds: float) -> str:
    return str(max(1, round(seconds * 1000)))
