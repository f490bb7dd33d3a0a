"""Create the rate limiter of a client from its setting `shared_quota`."""

import os
from collections.abc import Callable, Mapping

from codat_commerce_async._core.rate_limiter import OnPause
from codat_commerce_async.distributed._limiter import SharedRateLimiter
from codat_commerce_async.distributed._stores import QuotaStore
from codat_commerce_async.policies import Quota

__all__ = ["shared_limiter"]


def shared_limiter(shared_quota: str | os.PathLike[str], quota: Quota, on_pause: OnPause) -> SharedRateLimiter:
    """Return a limiter with the store that a path or URL names."""
    return SharedRateLimiter(_store(shared_quota), quota, on_pause=on_pause)


def _store(shared_quota: str | os.PathLike[str]) -> QuotaStore:
    if not isinstance(shared_quota, str | os.PathLike):
        raise TypeError(f"shared_quota must be a path or URL (got {type(shared_quota).__name__})")
    text = os.fspath(shared_quota)
    if not text:
        raise ValueError("shared_quota must be a path or URL (got an empty one)")
    scheme, separator, _ = text.partition("://")
    if not separator:
        return _file_store(text)
    if scheme not in _STORES:
        schemes = ", ".join(f"{each}://" for each in _STORES)
        raise ValueError(f"shared_quota must be a path, or a URL that starts with one of {schemes}")
    return _STORES[scheme](text)


# A store is imported when it is used, as it may need an extra.


def _file_store(path: str) -> QuotaStore:
    from codat_commerce_async.distributed.file import FileQuotaStore  # noqa: PLC0415

    return FileQuotaStore(path)


def _redis_store(url: str) -> QuotaStore:
    from codat_commerce_async.distributed.redis import RedisQuotaStore  # noqa: PLC0415

    return RedisQuotaStore(url)


def _postgres_store(url: str) -> QuotaStore:
    from codat_commerce_async.distributed.postgres import PostgresQuotaStore  # noqa: PLC0415

    return PostgresQuotaStore(url)


_STORES: Mapping[str, Callable[[str], QuotaStore]] = {
    "redis": _redis_store,
    "rediss": _redis_store,
    "unix": _redis_store,
    "postgres": _postgres_store,
    "postgresql": _postgres_store,
}
