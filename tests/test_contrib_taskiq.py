"""Syncs as slices of taskiq: no ticket and no outcome is lost, whatever fails in between."""

import asyncio
import json
import logging
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
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

    def __init__(self, companies: int, *, failures: Sequence[BaseException] = ()) -> None:
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
    failures = [ValueError("no such table"), OSError("no connection"), asyncio.CancelledError(), SystemExit(1)]
    fleet = Fleet(3, failures=failures)
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
@pytest.mark.parametrize("slice_seconds", [10.0, 600.0])
async def test_the_heartbeat_continues_while_the_worker_runs_even_if_one_fails(slice_seconds: float) -> None:
    fleet = Fleet(1)
    fleet.codat = Codat(1, durations=lambda _: 60.0)
    beats: list[tuple[float, bool]] = []

    async def heartbeat(messages: Sequence[AckableMessage]) -> None:
        in_work = [message.data for message in messages]
        beats.append((asyncio.get_running_loop().time(), in_work == fleet.broker.pending))
        if len(beats) == 2:
            raise ConnectionError("the broker is restarted")

    tasks = SyncTasks(fleet.broker, on_outcome=fleet.save, slice_seconds=slice_seconds, heartbeat=heartbeat)
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


@pytest.mark.virtual_time
@pytest.mark.parametrize("is_late", [False, True])
async def test_a_ticket_that_the_broker_gave_to_another_worker_is_given_up(*, is_late: bool) -> None:
    fleet = Fleet(3)
    fleet.codat = Codat(3, durations=lambda _: 50.0)
    first, *others = fleet.tickets
    beats = 0

    async def heartbeat(messages: Sequence[AckableMessage]) -> Sequence[AckableMessage]:
        nonlocal beats
        beats += 1
        if is_late and beats == 2:
            await asyncio.sleep(1e6)  # slices end before the next heartbeat, as after a suspension
        return [one for one in messages if beats > 2 and first.id in str(one.data)]

    tasks = SyncTasks(fleet.broker, on_outcome=fleet.save, slice_seconds=10.0, heartbeat=heartbeat)
    for ticket in fleet.tickets:
        await tasks.enqueue(ticket)
    async with fleet.codat.client() as client:
        worker = asyncio.create_task(tasks.run_worker(client))
        await fleet.until(2)
        await asyncio.sleep(100)
        tasks.stop()
        await worker
    assert {outcome.ticket_id for outcome in fleet.outcomes} == {ticket.id for ticket in others}
    # The message is the other worker's.
    assert [SyncTicket.from_json(text).id for text in fleet.broker.drain()] == [first.id]
    assert len(fleet.broker.pending) == 1


class Stuck(Broker):
    """A broker that does not respond any more once it is stuck, and whose client ignores cancellations at first."""

    def __init__(self) -> None:
        super().__init__()
        self.is_stuck = False
        self.is_stuck_at_startup = False

    async def _respond(self) -> None:
        for _ in range(3 if self.is_stuck else 0):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(1e6)

    async def startup(self) -> None:
        if self.is_stuck_at_startup:
            await asyncio.sleep(1e6)

    async def kick(self, message: BrokerMessage) -> None:
        await self._respond()
        await super().kick(message)

    async def listen(self) -> AsyncGenerator[AckableMessage, None]:
        async for message in super().listen():
            yield message
            await self._respond()

    async def shutdown(self) -> None:
        await self._respond()


@pytest.mark.virtual_time
@pytest.mark.parametrize("cause", ["broker", "startup", "callback"])
async def test_a_worker_ends_within_two_seconds_whatever_does_not_respond(cause: str) -> None:
    fleet, broker = Fleet(20), Stuck()
    fleet.broker = broker
    broker.is_stuck_at_startup = cause == "startup"

    async def save(_: SyncOutcome) -> None:
        await asyncio.sleep(1e6)

    tasks = SyncTasks(broker, on_outcome=save if cause == "callback" else fleet.save)
    for ticket in fleet.tickets:
        await tasks.enqueue(ticket)
    async with fleet.codat.client() as client:
        worker = asyncio.create_task(tasks.run_worker(client))
        await asyncio.sleep(60.0 if cause == "callback" else 9.0)
        broker.is_stuck = cause == "broker"
        async with asyncio.timeout(2.0):
            tasks.stop()
            await worker
    tickets = {SyncTicket.from_json(text).id for text in broker.drain()} | {each.ticket_id for each in fleet.outcomes}
    assert tickets == {ticket.id for ticket in fleet.tickets}


@pytest.mark.virtual_time
async def test_a_broker_that_stays_down_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    class Down(Broker):
        async def listen(self) -> AsyncGenerator[AckableMessage, None]:
            raise ConnectionError("down")
            yield

        async def kick(self, message: BrokerMessage) -> None:
            raise ConnectionError("down")

    fleet = Fleet(1)
    tasks = SyncTasks(Down(), on_outcome=fleet.save)
    async with fleet.codat.client() as client:
        worker = asyncio.create_task(tasks.run_worker(client))
        await asyncio.sleep(600)
        tasks.stop()
        await worker
    counts = Counter(record.message.partition(" (")[0] for record in caplog.records if record.levelno >= logging.ERROR)
    assert set(counts.values()) <= {9, 10, 11}
    assert len(counts) == 2
    assert "(59 more times since the last record)" in caplog.text


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
            # A worker ends if its broker cannot be reached at its start.
            while await stream.count_workers() < 2:  # noqa: ASYNC110 - other processes change it
                await asyncio.sleep(0.1)
            for _ in range(2):
                await asyncio.sleep(1.0)
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
            assert len(found) > 3  # at least one of them is there twice
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

    async def count_workers(self) -> int:
        """Return the number of workers that have received a message."""
        return len(await self._redis.xinfo_consumers("codat", "codat"))

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

    async def close(self) -> None:
        await self._redis.aclose()
