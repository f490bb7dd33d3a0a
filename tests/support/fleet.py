"""One process of a fleet that shares a quota: it sends as much as it may, until it is ended.

python -m tests.support.fleet STORE BASE_URL NAME PER_MINUTE
"""

import asyncio
import sys

from codat_commerce_async import CodatCommerce, Quota
from codat_commerce_async.distributed import SharedRateLimiter
from codat_commerce_async.distributed._open import _store

__all__ = ["main"]

_TASKS = 12


async def main(store: str, base_url: str, name: str, per_minute: int) -> None:
    """Send requests as fast as the shared quota allows."""
    limiter = SharedRateLimiter(_store(store), Quota(per_minute=per_minute))
    agent = f"process/{name}"
    async with limiter, CodatCommerce("key", base_url=base_url, rate_limiter=limiter, user_agent=agent) as codat:
        await limiter.refresh()
        print("ready", flush=True)  # noqa: T201 - for the test
        await asyncio.to_thread(sys.stdin.readline)
        async with asyncio.TaskGroup() as tasks:
            for number in range(_TASKS):
                tasks.create_task(_send(codat, f"company-{name}-{number}"))


async def _send(codat: CodatCommerce, company_id: str) -> None:
    while True:
        await codat.connections.list(company_id)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
