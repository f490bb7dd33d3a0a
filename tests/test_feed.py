"""Feeding a run into a task queue."""

import asyncio
import tracemalloc
from collections.abc import Iterator, Sequence

import pytest

from codat_commerce_async import SyncTicket
from codat_commerce_async.syncing._feed import MAX_QUEUED, feed

pytestmark = pytest.mark.virtual_time


class Queue:
    """A queue that only counts; its workers take that many tickets a second."""

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._taken = 0.0
        self.total = self.most = 0

    async def count(self) -> int:
        loop = asyncio.get_running_loop()
        self._taken = min(self.total, self._per_second * loop.time())
        return self.total - int(self._taken)

    async def enqueue(self, tickets: Sequence[SyncTicket]) -> None:
        self.total += len(tickets)
        self.most = max(self.most, await self.count())


async def check_feeding(companies: int, max_queued: int) -> None:
    queue = Queue(per_second=50.0)
    ids = (f"company {number}" for number in range(companies))
    tracemalloc.start()
    fed = await feed(
        SyncTicket.for_run("a run", ids, size=companies), queue.enqueue, queue.count, max_queued=max_queued
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert fed == queue.total == companies
    assert max_queued * 0.9 < queue.most <= max_queued
    assert peak < 2_000_000


async def test_of_many_tickets_at_most_max_queued_are_queued_in_flat_memory() -> None:
    await check_feeding(5_000, 1_000)


@pytest.mark.real
async def test_of_a_hundred_thousand_tickets_at_most_ten_thousand_are_queued_in_flat_memory() -> None:
    await check_feeding(100_000, MAX_QUEUED)


async def test_the_input_is_read_only_as_there_is_room() -> None:
    queue, read = Queue(per_second=0.0), 0

    def companies() -> Iterator[str]:
        nonlocal read
        for read in range(1, 1000):
            yield f"company {read}"

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(60):
            await feed(SyncTicket.for_run("a run", companies()), queue.enqueue, queue.count, max_queued=7)
    assert (read, queue.total) == (7, 7)
