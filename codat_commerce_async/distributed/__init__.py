"""One quota, and one memory of handled webhooks, for several processes.

    async with CodatCommerce(api_key, shared_quota="codat-quota.db") as codat: ...

is all that the processes of one machine need; `SharedRateLimiter` with a store of your choice does the same for several
machines. The delivery stores let several processes receive webhooks: `WebhookEndpoint(..., deduplicate=store)`.
A store is imported when it is first used, as it may need an extra.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from codat_commerce_async.distributed._limiter import QuotaStatus, SharedRateLimiter
from codat_commerce_async.distributed._state import QuotaReport, QuotaResult
from codat_commerce_async.distributed._stores import QuotaStore, StoreUnavailableError
from codat_commerce_async.syncing.stepper import SyncStepper
from codat_commerce_async.syncing.ticket import Reschedule, SyncTicket

if TYPE_CHECKING:
    from codat_commerce_async.distributed.file import FileQuotaStore as FileQuotaStore
    from codat_commerce_async.distributed.file_deliveries import FileDeliveryStore as FileDeliveryStore
    from codat_commerce_async.distributed.memory import MemoryQuotaStore as MemoryQuotaStore
    from codat_commerce_async.distributed.postgres import PostgresQuotaStore as PostgresQuotaStore
    from codat_commerce_async.distributed.postgres_deliveries import PostgresDeliveryStore as PostgresDeliveryStore
    from codat_commerce_async.distributed.redis import RedisQuotaStore as RedisQuotaStore
    from codat_commerce_async.distributed.redis_deliveries import RedisDeliveryStore as RedisDeliveryStore

__all__ = [
    "FileDeliveryStore",
    "FileQuotaStore",
    "MemoryQuotaStore",
    "PostgresDeliveryStore",
    "PostgresQuotaStore",
    "QuotaReport",
    "QuotaResult",
    "QuotaStatus",
    "QuotaStore",
    "RedisDeliveryStore",
    "RedisQuotaStore",
    "Reschedule",
    "SharedRateLimiter",
    "StoreUnavailableError",
    "SyncStepper",
    "SyncTicket",
]

_STORES = {
    "FileDeliveryStore": "file_deliveries",
    "FileQuotaStore": "file",
    "MemoryQuotaStore": "memory",
    "PostgresDeliveryStore": "postgres_deliveries",
    "PostgresQuotaStore": "postgres",
    "RedisDeliveryStore": "redis_deliveries",
    "RedisQuotaStore": "redis",
}

# With a `__getattr__`, type checkers would accept any name.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _STORES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value: object = getattr(import_module(f"{__name__}.{_STORES[name]}"), name)
        globals()[name] = value
        return value
