"""Syncs as slices of taskiq: no ticket and no outcome is lost, whatever fails in between."""

import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from codat_commerce_async import SyncOutcome, SyncTicket
from codat_commerce_async.simulator import Fault, FaultKind, FaultPlan, RequestQuota, Simulator
from tests.support.fans import Codat
from tests.support.servers import valkey

pytest.importorskip("taskiq", reason="taskiq is not installed: pip install '.[test]'")
from taskiq import AckableMessage, AsyncBroker, BrokerMessage

from codat_commerce_async.contrib.taskiq import SyncTasks

ROOT = Path(__file__).parents[1]
needs_redis = pytest.mark.skipif(
    find_spec("taskiq_redis") is None, reason="taskiq-redis is not installed: pip install '.[test]'"
)


class Broker(AsyncBroker):
    """A broker in memory that acknowledges messages; `failures` are raised instead of the next ones."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: asyncio.Queue[bytes] = asyncio.Queue()
        self.pending: list[bytes] = []
        self.offered: list[str] = []
        self.failures: list[Exception] = []

    async def kick(self, message: BrokerMessage) -> None:
        self.queue.put_nowait(message.message)

    async def listen(self) -> AsyncGenerator[AckableMessage, None]:
        while True:
            data = await self.queue.get()
            if self.failures:
                self.queue.put_nowait(data)
                raise self.failures.pop()
            self.pending.append(data)
            self.offered += self._tickets(data)

            async def acknowledge(data: bytes = data) -> None:
                self.pending.remove(data)

            yield AckableMessage(data=data, ack=acknowledge)

    def _tickets(self, data: bytes) -> list[str]:
        return [text for text in self.formatter.loads(data).args if isinstance(text, str)]

    def offers_of(self, ticket: str) -> int:
        """Return how often a worker received this ticket."""
        return self.offered.count(ticket)

    def drain(self) -> list[str]:
        """Return the tickets that wait for a worker, or that a worker has not acknowledged; empty the queue."""
        waiting = [self.queue.get_nowait() for _ in range(self.queue.qsize())]
        return [text for data in (*waiting, *self.pending) for text in self._tickets(data)]


class Fleet:
    """A broker, a simulated Codat, and the outcomes; `failures` are raised by the callback."""

    def __init__(self, companies: int, *, failures: Sequence[Exception] = ()) -> None:
        self.codat = Codat(companies)
        self.broker = Broker()
        self.tasks = SyncTasks(self.broker, on_outcome=self.save)
        self.failures = list(failures)
        self.outcomes: list[SyncOutcome] = []

    def save(self, outcome: SyncOutcome) -> None:
        if self.failures:
            raise self.failures.pop()
        self.outcomes.append(outcome)

    async def enqueue(self, text: str) -> None:
        task = self.broker.find_task("codat_sync_slice")
        assert task is not None
        await task.kiq(text)

    @property
    def tickets(self) -> list[SyncTicket]:
        return list(SyncTicket.for_run("a run", self.codat.ids, wall_clock=self.codat.clock))

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        async with self.codat.client() as client:
            worker = asyncio.create_task(self.tasks.run_worker(client))
            yield
            self.tasks.stop()
            await worker

    async def until(self, outcomes: int) -> None:
        async with asyncio.timeout(3600):
            while len(self.outcomes) < outcomes:  # noqa: ASYNC110 - in virtual time
                await asyncio.sleep(1)


@pytest.mark.virtual_time
async def test_an_outcome_is_not_lost_when_its_callback_raises() -> None:
    fleet = Fleet(3, failures=[ValueError("no such table"), OSError("no connection")])
    for ticket in fleet.tickets:
        await fleet.tasks.enqueue(ticket)
    async with fleet.working():
        await fleet.until(3)
    assert {outcome.ticket_id for outcome in fleet.outcomes if outcome.ok} == {each.id for each in fleet.tickets}
    assert fleet.codat.started_twice == []
    assert not fleet.broker.pending


@pytest.mark.virtual_time
async def test_a_broker_that_fails_is_read_again() -> None:
    fleet = Fleet(3)
    fleet.broker.failures += [ConnectionError("restarted"), ConnectionError("restarted")]
    for ticket in fleet.tickets:
        await fleet.tasks.enqueue(ticket)
    async with fleet.working():
        await fleet.until(3)
    assert not fleet.broker.failures
    assert fleet.codat.started_twice == []


@pytest.mark.virtual_time
async def test_a_text_that_is_no_ticket_is_removed_and_does_not_stop_the_others() -> None:
    fleet = Fleet(1)
    await fleet.enqueue("no ticket")
    await fleet.tasks.enqueue(fleet.tickets[0])
    async with fleet.working():
        await fleet.until(1)
    assert not fleet.broker.pending


@pytest.mark.virtual_time
async def test_a_ticket_of_a_later_version_stays_queued_as_it_is_and_is_offered_again() -> None:
    fleet = Fleet(2)
    older, newer = fleet.tickets
    text = json.dumps({**json.loads(newer.to_json()), "version": 2, "a new field": 1})
    await fleet.enqueue(text)
    await fleet.tasks.enqueue(older)
    async with fleet.working():
        await fleet.until(1)
        before = fleet.broker.offers_of(text)
        await asyncio.sleep(300)
        assert fleet.broker.offers_of(text) > before
    assert [outcome.ticket_id for outcome in fleet.outcomes] == [older.id]
    assert text in fleet.broker.drain()


@pytest.mark.virtual_time
async def test_the_heartbeat_goes_on_while_the_worker_runs_even_if_one_fails() -> None:
    fleet = Fleet(1)
    fleet.codat = Codat(1, durations=lambda _: 60.0)
    beats: list[tuple[float, bool]] = []

    async def heartbeat(messages: Sequence[AckableMessage]) -> None:
        in_work = [message.data for message in messages]
        beats.append((asyncio.get_running_loop().time(), in_work == fleet.broker.pending))
        if len(beats) == 2:
            raise ConnectionError("the broker is restarted")

    tasks = SyncTasks(fleet.broker, on_outcome=fleet.save, slice_seconds=10.0, heartbeat=heartbeat)
    await tasks.enqueue(fleet.tickets[0])
    async with fleet.codat.client() as client:
        worker = asyncio.create_task(tasks.run_worker(client))
        await fleet.until(1)
        count = len(beats)
        await asyncio.sleep(60)
        tasks.stop()
        await worker
    assert len(beats) == count > 10
    assert all(complete for _, complete in beats)
    assert {round(after - before) for (before, _), (after, _) in pairwise(beats)} == {5}


@pytest.mark.real
@needs_redis
async def test_a_ticket_whose_step_takes_many_slices_stays_with_its_worker(tmp_path: Path) -> None:
    late = FaultPlan(script={"request-sync": [Fault(FaultKind.LATE, seconds=4.0)] * 4})
    simulator = Simulator(
        quota=RequestQuota(per_minute=None), durations=lambda _: 1.0, outcomes={2000: 1.0}, faults=late
    )
    with valkey() as server:
        async with simulator:
            stream = await Stream.fed(server.url, [simulator.add_linked_company() for _ in range(4)])
            outcomes = tmp_path / "outcomes"
            outcomes.touch()
            # A message without a heartbeat is delivered again after 0.66 seconds.
            arguments = (simulator.url, str(tmp_path / "quota.db"), str(outcomes), "0.3")
            workers = [
                await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "examples.night_on_taskiq", "worker", server.url, *arguments, cwd=ROOT
                )
                for _ in range(3)
            ]
            while await stream.unfinished():  # noqa: ASYNC110 - other processes change it
                await asyncio.sleep(0.1)
            for process in workers:
                process.send_signal(signal.SIGTERM)
                await process.wait()
            reported = [SyncOutcome.from_json(line).ticket_id for line in outcomes.read_text().splitlines()]
            assert sorted(filter(None, reported)) == sorted(ticket.id for ticket in stream.tickets)
            assert [simulator.syncs_started(ticket.company_id) for ticket in stream.tickets] == [1, 1, 1, 1]
        await stream.close()


@pytest.mark.real
@needs_redis
async def test_a_broker_that_is_killed_and_restarted_costs_no_outcome(tmp_path: Path) -> None:
    simulator = Simulator(quota=RequestQuota(per_minute=None), durations=lambda _: 4.0, outcomes={2000: 1.0})
    with valkey(persistent=True) as server:
        async with simulator:
            stream = await Stream.fed(server.url, [simulator.add_linked_company() for _ in range(20)])
            outcomes = tmp_path / "outcomes"
            outcomes.touch()
            arguments = (simulator.url, str(tmp_path / "quota.db"), str(outcomes), "0.5")
            workers = [
                await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "examples.night_on_taskiq", "worker", server.url, *arguments, cwd=ROOT
                )
                for _ in range(2)
            ]
            expected = {ticket.id for ticket in stream.tickets}
            for _ in range(2):
                await asyncio.sleep(2.5)
                server.kill()
                await asyncio.sleep(1.0)
                server.start()
            reported = list[str | None]()
            async with asyncio.timeout(60):
                while set(reported) < expected:
                    await asyncio.sleep(0.2)
                    lines = outcomes.read_text().splitlines()
                    reported = [SyncOutcome.from_json(line).ticket_id for line in lines]
            for process in workers:
                process.send_signal(signal.SIGTERM)
                await process.wait()
            assert set(reported) == expected
            assert [simulator.syncs_started(ticket.company_id) for ticket in stream.tickets] == [1] * 20
        await stream.close()


@pytest.mark.real
@needs_redis
async def test_the_messages_of_a_stream_are_counted_until_they_are_acknowledged() -> None:
    with valkey() as server:
        stream = await Stream.fed(server.url, ["a", "b", "c"])
        from examples.night_on_taskiq import new_broker  # noqa: PLC0415 - may not be installed

        broker = new_broker(server.url)
        await broker.startup()
        assert await broker.count_queued() == 3
        messages = broker.listen()
        taken = await anext(messages)
        assert isinstance(taken, AckableMessage)
        assert await broker.count_queued() == 3
        acknowledged = taken.ack()
        assert acknowledged is not None
        await acknowledged
        assert await broker.count_queued() == 2
        # Redis does not know the number of new messages any more when one of them was deleted.
        await stream.delete_last()
        assert await broker.count_queued() == 1
        await messages.aclose()
        await broker.shutdown()
        await stream.close()


@pytest.mark.real
@needs_redis
async def test_a_message_that_is_lost_on_its_way_to_a_living_worker_is_delivered_again() -> None:
    with valkey() as server:
        stream = await Stream.fed(server.url, [str(number) for number in range(30)])
        from examples.night_on_taskiq import new_broker  # noqa: PLC0415 - may not be installed

        broker = new_broker(server.url, slice_seconds=0.5)
        broker.block = 20  # shorter than the time between two searches for the messages of dead workers
        messages, taken = broker.listen(), list[AckableMessage]()
        async with asyncio.timeout(30):
            while len(taken) < 29:
                if len(taken) == 25:
                    await stream.lose_one(broker.consumer_name)
                taken.append(await anext(messages))
            task = asyncio.ensure_future(anext(messages))
            while not task.done():
                await broker.heartbeat(taken)
                await asyncio.sleep(0.1)
        companies = [SyncTicket.from_json(json.loads(one.data)["args"][0]).company_id for one in (*taken, await task)]
        assert companies == [str(number) for number in (*range(25), *range(26, 30), 25)]
        await messages.aclose()
        await broker.shutdown()
        await stream.close()


@pytest.mark.real
@needs_redis
async def test_a_worker_with_a_hundred_running_tasks_ends_within_two_seconds(tmp_path: Path) -> None:
    simulator = Simulator(quota=RequestQuota(per_minute=None), durations=lambda _: 600.0)
    with valkey() as server:
        async with simulator:
            stream = await Stream.fed(server.url, [simulator.add_linked_company() for _ in range(300)])
            arguments = (simulator.url, str(tmp_path / "quota.db"), str(tmp_path / "outcomes"))
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "examples.night_on_taskiq", "worker", server.url, *arguments, cwd=ROOT
            )
            while await stream.count_pending() < 100:  # noqa: ASYNC110 - another process changes it
                await asyncio.sleep(0.1)
            process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            await process.wait()
            assert time.monotonic() - began < 2.0
            assert sorted(await stream.unfinished()) == sorted(ticket.id for ticket in stream.tickets)
        await stream.close()


@pytest.mark.real
@needs_redis
async def test_a_worker_killed_between_queueing_and_acknowledging_starts_nothing_twice(tmp_path: Path) -> None:
    simulator = Simulator(quota=RequestQuota(per_minute=None), durations=lambda _: 1.0, outcomes={2000: 1.0})
    with valkey() as server:
        async with simulator:
            stream = await Stream.fed(server.url, [simulator.add_linked_company() for _ in range(3)])
            killed = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.support.killed_worker", "taskiq", server.url, simulator.url, cwd=ROOT
            )
            assert await killed.wait() == -signal.SIGKILL
            found = await stream.unfinished()
            assert sorted(set(found)) == sorted(ticket.id for ticket in stream.tickets)
            assert len(found) == 4  # one of them is there twice
            outcomes = tmp_path / "outcomes"
            outcomes.touch()
            arguments = (simulator.url, str(tmp_path / "quota.db"), str(outcomes), "0.3")
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "examples.night_on_taskiq", "worker", server.url, *arguments, cwd=ROOT
            )
            while await stream.unfinished():  # noqa: ASYNC110 - another process changes it
                await asyncio.sleep(0.1)
            process.send_signal(signal.SIGTERM)
            await process.wait()
            reported = [SyncOutcome.from_json(line) for line in outcomes.read_text().splitlines()]
            assert all(outcome.ok for outcome in reported)
            assert {outcome.ticket_id for outcome in reported} == {ticket.id for ticket in stream.tickets}
            assert [simulator.syncs_started(ticket.company_id) for ticket in stream.tickets] == [1, 1, 1]
        await stream.close()


class Stream:
    """What the stream of the example's broker contains."""

    def __init__(self, redis: Any, tickets: list[SyncTicket]) -> None:
        self._redis = redis
        self.tickets = tickets

    @classmethod
    async def fed(cls, url: str, companies: list[str]) -> "Stream":
        from redis.asyncio import Redis  # noqa: PLC0415 - may not be installed

        from examples.night_on_taskiq import new_broker  # noqa: PLC0415 - likewise

        broker, tickets = new_broker(url), list(SyncTicket.for_run("a run", companies))
        await broker.startup()
        tasks = SyncTasks(broker, on_outcome=print)
        for ticket in tickets:
            await tasks.enqueue(ticket)
        await broker.shutdown()
        return cls(Redis.from_url(url), tickets)

    async def count_pending(self) -> int:
        [group] = await self._redis.xinfo_groups("codat")
        return int(group["pending"])

    async def unfinished(self) -> list[str]:
        """Return the ids of the tickets in messages that were not acknowledged."""
        [group] = await self._redis.xinfo_groups("codat")
        pending = {each["message_id"] for each in await self._redis.xpending_range("codat", "codat", "-", "+", 10_000)}
        undelivered = {key for key, _ in await self._redis.xrange("codat", b"(" + group["last-delivered-id"], "+")}
        messages = [
            json.loads(fields[b"data"])
            for key, fields in await self._redis.xrange("codat", "-", "+")
            if key in pending | undelivered
        ]
        return [
            SyncTicket.from_json(each["args"][0]).id for each in messages if each["task_name"] == "codat_sync_slice"
        ]

    async def lose_one(self, consumer: str) -> None:
        """Deliver a message to a consumer that does not receive it."""
        await self._redis.xreadgroup("codat", consumer, {"codat": ">"}, count=1)

    async def delete_last(self) -> None:
        [(key, _)] = await self._redis.xrevrange("codat", count=1)
        await self._redis.xdel("codat", key)

    async def close(self) -> None:
        await self._redis.aclose()
