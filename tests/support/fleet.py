"""One process of a fleet that shares a quota: it sends as much as it may, until it is ended.

python -m tests.support.fleet STORE BASE_URL NAME PER_MINUTE

Without a BASE_URL (""), it only acquires permits, in the background, in 100 tasks. The environment variable FLEET_CLOCK
may name a file with the seconds by which the clock of a file store is wrong.
"""

import asyncio
import os
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path

from codat_commerce_async import CodatCommerce, Quota
from codat_commerce_async.distributed import FileQuotaStore, QuotaStore, SharedRateLimiter
from codat_commerce_async.distributed._open import _store

__all__ = ["main"]

_TASKS = 12
_BACKGROUND_TASKS = 100


async def main(store: str, base_url: str, name: str, per_minute: int) -> None:
    """Send requests as fast as the shared quota allows."""
    async with AsyncExitStack() as stack:
        limiter = await stack.enter_async_context(SharedRateLimiter(_opened(store), Quota(per_minute=per_minute)))
        if base_url:
            agent = f"process/{name}"
            client = CodatCommerce("key", base_url=base_url, rate_limiter=limiter, user_agent=agent)
            codat = await stack.enter_async_context(client)
            senders = [_send(codat, f"company-{name}-{number}") for number in range(_TASKS)]
        else:
            senders = [_acquire(limiter) for _ in range(_BACKGROUND_TASKS)]
        await limiter.refresh()
        print("ready", flush=True)  # noqa: T201 - for the test
        await asyncio.to_thread(sys.stdin.readline)
        async with asyncio.TaskGroup() as tasks:
            for sender in senders:
                tasks.create_task(sender)


def _opened(store: str) -> QuotaStore:
    if "FLEET_CLOCK" not in os.environ:
        return _store(store)
    offset = Path(os.environ["FLEET_CLOCK"])
    return FileQuotaStore(store, clock=lambda: time.time() + float(offset.read_text(encoding="ascii")))


async def _acquire(limiter: SharedRateLimiter) -> None:
    while True:
        await limiter.acquire(None, background=True)
        await asyncio.sleep(0.05)
        limiter.release(None)


async def _send(codat: CodatCommerce, company_id: str) -> None:
    while True:
        await codat.connections.list(company_id)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
