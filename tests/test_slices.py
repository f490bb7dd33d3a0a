"""Running the tickets of a task queue in slices, and consuming its broker."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from typing import cast

import pytest
from attrs import evolve

from codat_commerce_async import Reschedule, SyncHandle, SyncOutcome, SyncRequest, SyncStepper, SyncTicket
from codat_commerce_async.syncing._slices import Slices
from tests.support.fans import Codat

pytestmark = pytest.mark.virtual_time


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


class Stepper:
    """A stepper whose starts wait for the event, and whose polls end the sync at once."""

    def __init__(self) -> None:
        self.may_start = asyncio.Event()
        self.started: list[str] = []

    def seconds_until_due(self, ticket: SyncTicket) -> float:
        return 0.0

    async def step(self, ticket: SyncTicket) -> Reschedule | SyncOutcome:
        if ticket.handle is None:
            await self.may_start.wait()
            self.started.append(ticket.company_id)
        return SyncOutcome(request=ticket.request, handle=None, status=None, error=None, polls=0, elapsed=0.0)


class Messages:
    """A broker whose messages are tickets; those of slices that ended are queued again."""

    def __init__(self, slices: Slices, tickets: Iterable[SyncTicket]) -> None:
        self.slices = slices
        self.queue: asyncio.Queue[SyncTicket] = asyncio.Queue()
        self.held = self.most_held = self.taken = 0
        self.ended: list[str] = []
        for ticket in tickets:
            self.queue.put_nowait(ticket)

    async def listen(self) -> AsyncGenerator[SyncTicket, None]:
        while self.taken < 10_000:
            self.taken += 1
            yield await self.queue.get()
        raise AssertionError("the messages are taken in a loop without a wait")

    async def process(self, ticket: SyncTicket) -> None:
        self.held += 1
        self.most_held = max(self.most_held, self.held)
        result = await self.slices.run(ticket)
        self.held -= 1
        if isinstance(result, SyncOutcome):
            self.ended.append(result.company_id)
        else:
            self.queue.put_nowait(result)


async def test_a_process_takes_no_more_starts_than_it_can_make_at_once() -> None:
    stepper = Stepper()
    slices = Slices(cast("SyncStepper", stepper))
    broker = Messages(slices, SyncTicket.for_run("a run", [f"company {number}" for number in range(100)]))
    consuming = asyncio.create_task(slices.consume(broker.listen, broker.process, limit=1000))
    await asyncio.sleep(1.0)
    assert 6 <= broker.held <= 7
    stepper.may_start.set()
    await asyncio.sleep(0.1)
    assert len(broker.ended) == 100
    assert broker.most_held <= 7
    slices.stop()
    await consuming


async def test_running_syncs_are_polled_while_no_start_is_possible() -> None:
    stepper = Stepper()
    slices = Slices(cast("SyncStepper", stepper))
    waiting = list(SyncTicket.for_run("a run", [f"company {number}" for number in range(100)]))
    handle = SyncHandle(company_id="running", commerce_sync_id="1", requested_at=waiting[0].created_at)
    running = evolve(waiting[0], request=SyncRequest(company_id="running"), handle=handle)
    broker = Messages(slices, [*waiting, running])
    consuming = asyncio.create_task(slices.consume(broker.listen, broker.process, limit=1000))
    await asyncio.sleep(30.0)
    assert broker.ended == ["running"]
    assert stepper.started == []
    slices.stop()
    await consuming
    assert broker.queue.qsize() == 100
    assert broker.taken < 10_000


async def test_no_more_messages_than_the_limit_are_held() -> None:
    stepper = Stepper()
    slices = Slices(cast("SyncStepper", stepper))
    broker = Messages(slices, SyncTicket.for_run("a run", [f"company {number}" for number in range(100)]))
    consuming = asyncio.create_task(slices.consume(broker.listen, broker.process, limit=20))
    await asyncio.sleep(60.0)
    assert broker.most_held == 20
    slices.stop()
    await consuming
    assert broker.queue.qsize() == 100
    assert broker.taken < 10_000


async def test_polls_that_are_due_stay_with_the_broker_until_it_is_their_turn() -> None:
    class Slow(Stepper):
        async def step(self, ticket: SyncTicket) -> Reschedule | SyncOutcome:
            await asyncio.sleep(3.0)
            return await super().step(ticket)

    slices = Slices(cast("SyncStepper", Slow()), seconds=10.0)
    [first] = SyncTicket.for_run("a run", ["company"])
    handle = SyncHandle(company_id="company", commerce_sync_id="1", requested_at=first.created_at)
    broker = Messages(slices, [evolve(first, handle=handle) for _ in range(200)])
    consuming = asyncio.create_task(slices.consume(broker.listen, broker.process, limit=1000))
    await asyncio.sleep(60.0)
    assert len(broker.ended) == 200
    assert broker.most_held <= 13
    slices.stop()
    await consuming


async def test_a_listener_that_ends_is_called_again_without_an_error(caplog: pytest.LogCaptureFixture) -> None:
    slices = Slices(cast("SyncStepper", Stepper()))
    broker, calls = Messages(slices, []), 0

    async def listen() -> AsyncGenerator[SyncTicket, None]:
        nonlocal calls
        calls += 1
        for ticket in SyncTicket.for_run("a run", []):
            yield ticket

    consuming = asyncio.create_task(slices.consume(listen, broker.process, limit=1))
    await asyncio.sleep(9.5)
    assert calls == 10
    slices.stop()
    await consuming
    assert caplog.records == []
