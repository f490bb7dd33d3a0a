"""Create the rate limiter of a client from its setting `shared_quota`."""

import os

from codat_commerce_async._core.rate_limiter import OnPause
from codat_commerce_async.distributed._limiter import SharedRateLimiter
from codat_commerce_async.distributed._stores import QuotaStore
from codat_commerce_async.policies import Quota

__all__ = ["shared_limiter"]

_SERVERS = {"redis": "redis", "rediss": "redis", "unix": "redis", "postgres": "postgres", "postgresql": "postgres"}


def shared_limiter(shared_quota: str | os.PathLike[str], quota: Quota, on_pause: OnPause) -> SharedRateLimiter:
    """Return a limiter with the store that a path or URL names."""
    return SharedRateLimiter(_store(shared_quota), quota, on_pause=on_pause)


def _store(shared_quota: str | os.PathLike[str]) -> QuotaStore:
    if not isinstance(shared_quota, str | os.PathLike):
        raise TypeError(f"shared_quota must be a path or URL (got {type(shared_quota).__name__})")
    text = os.fspath(shared_quota)
    if not text:
        raise ValueError("shared_quota must be a path or URL (got an empty one)")
    # A store is imported when it is used, as it may need an extra.
    scheme, separator, _ = text.partition("://")
    if not separator:
        from codat_commerce_async.distributed.file import FileQuotaStore  # noqa: PLC0415

        return FileQuotaStore(text)
    if _SERVERS.get(scheme) == "redis":
        from codat_commerce_async.distributed.redis import RedisQuotaStore  # noqa: PLC0415

        return RedisQuotaStore(text)
    if _SERVERS.get(scheme) == "postgres":
        from codat_commerce_async.distributed.postgres import PostgresQuotaStore  # noqa: PLC0415

        return PostgresQuotaStore(text)
    raise ValueError("shared_quota must be a path, or a URL that starts with redis:// or postgresql://")
