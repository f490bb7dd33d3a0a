"""Feeding a run into a task queue, and running its tickets in slices."""

import asyncio
import tracemalloc
from collections.abc import Iterator, Sequence

import pytest

from codat_commerce_async import SyncOutcome, SyncTicket
from codat_commerce_async.syncing._feeder import MAX_QUEUED, Slices, feed
from tests.support.fans import Codat

pytestmark = pytest.mark.virtual_time


class Queue:
    """A queue that only counts; its workers take so many tickets a second."""

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


async def test_of_many_tickets_at_most_ten_thousand_are_queued_in_flat_memory() -> None:
    queue = Queue(per_second=50.0)
    companies = (f"company {number}" for number in range(30_000))
    tracemalloc.start()
    fed = await feed(SyncTicket.for_run("a run", companies, size=30_000), queue.enqueue, queue.count)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert fed == queue.total == 30_000
    assert MAX_QUEUED * 0.9 < queue.most <= MAX_QUEUED
    assert peak < 2_000_000


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


async def run_slices(slices: Slices, ticket: SyncTicket) -> tuple[SyncOutcome, int]:
    count = 1
    while isinstance(result := await slices.run(ticket), SyncTicket):
        ticket, count = result, count + 1
    return result, count


async def test_slices_of_a_ticket_start_one_sync_and_end_with_its_outcome() -> None:
    codat = Codat(20)
    async with codat.client() as client:
        slices = Slices(client.sync.stepper(), seconds=20.0)
        tickets = SyncTicket.for_run("a run", codat.ids, wall_clock=codat.clock)
        results = await asyncio.gather(*(run_slices(slices, one) for one in tickets))
    assert all(outcome.ok for outcome, _ in results)
    assert max(count for _, count in results) > 1
    assert codat.started == set(codat.ids)
    assert codat.started_twice == []


@pytest.mark.parametrize("after", [0.1, 1.0, 30.0])
async def test_stopped_slices_return_all_their_tickets_at_once(after: float) -> None:
    codat = Codat(20, durations=lambda _: 60.0)
    tickets = list(SyncTicket.for_run("a run", codat.ids, wall_clock=codat.clock))
    async with codat.client() as client:
        slices, loop = Slices(client.sync.stepper(), seconds=100.0), asyncio.get_running_loop()
        running = [asyncio.ensure_future(slices.run(one)) for one in tickets]
        await asyncio.sleep(after)
        slices.stop()
        stopped = loop.time()
        returned = await asyncio.gather(*running)
        assert loop.time() - stopped < 1.0
    assert [one.id for one in returned if isinstance(one, SyncTicket)] == [one.id for one in tickets]
    async with codat.client() as client:
        slices = Slices(client.sync.stepper(), seconds=600.0)
        results = await asyncio.gather(*(run_slices(slices, one) for one in returned if isinstance(one, SyncTicket)))
    assert all(outcome.ok for outcome, _ in results)
    assert codat.started_twice == []
