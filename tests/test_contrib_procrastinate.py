"""Syncs as jobs of procrastinate: no ticket and no outcome is lost, whatever fails in between."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from codat_commerce_async import CodatCommerce, OutcomeUnknownError, SyncOutcome, SyncTicket
from codat_commerce_async.simulator import RequestQuota, Simulator
from tests.support.servers import postgres

procrastinate = pytest.importorskip("procrastinate", reason="procrastinate is not installed: pip install '.[test]'")
from procrastinate.testing import InMemoryConnector  # noqa: E402 - after the check that it is installed

from codat_commerce_async.contrib.procrastinate import SyncTasks  # noqa: E402

ROOT = Path(__file__).parents[1]
STEP = "codat_sync_step"


class Queue:
    """An app on a connector, its tasks, the outcomes, and a simulated Codat whose syncs end at once."""

    def __init__(self, simulator: Simulator, connector: Any, *, failures: tuple[BaseException, ...] = ()) -> None:
        self.simulator = simulator
        self.app = procrastinate.App(connector=connector)
        self.tasks = SyncTasks(self.app, on_outcome=self.save)
        self.outcomes: list[SyncOutcome] = []
        self.failures = list(failures)

    def save(self, outcome: SyncOutcome) -> None:
        if self.failures:
            raise self.failures.pop()
        self.outcomes.append(outcome)

    async def work(self) -> None:
        """Run a worker until no job is due."""
        async with (
            CodatCommerce("simulator-key", base_url=self.simulator.url) as codat,
            self.tasks.working(codat),
        ):
            await self.app.run_worker_async(
                queues=["codat"], wait=False, listen_notify=False, delete_jobs="successful", concurrency=5
            )

    def ticket(self) -> SyncTicket:
        [ticket] = SyncTicket.for_run("a run", [self.simulator.add_linked_company()])
        return ticket


class Memory(Queue):
    """The same on a connector in memory, whose jobs are all due at once."""

    def __init__(self, simulator: Simulator, *, failures: tuple[BaseException, ...] = ()) -> None:
        self.connector = InMemoryConnector()
        super().__init__(simulator, self.connector, failures=failures)

    async def drain(self) -> None:
        """Run workers until the queue is empty, or nothing but failed jobs is left."""
        async with self.app.open_async():
            while self.jobs("todo"):
                for job in self.connector.jobs.values():
                    job["scheduled_at"] = None
                await self.work()

    def jobs(self, status: str) -> list[dict[str, Any]]:
        return [job for job in self.connector.jobs.values() if job["task_name"] == STEP and job["status"] == status]


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(
        quota=RequestQuota(per_minute=None), durations=lambda _: 0.0, outcomes={2000: 1.0}
    ) as simulator:
        yield simulator


@pytest.mark.virtual_time
async def test_an_outcome_is_not_lost_when_its_callback_raises(simulator: Simulator) -> None:
    queue = Memory(simulator, failures=(ValueError("no such table"), OSError("no connection")))
    ticket = queue.ticket()
    await queue.tasks.enqueue(ticket)
    await queue.drain()
    assert [(outcome.ok, outcome.ticket_id) for outcome in queue.outcomes] == [(True, ticket.id)]
    assert simulator.syncs_started(ticket.company_id) == 1
    assert not queue.jobs("failed")


@pytest.mark.virtual_time
@pytest.mark.parametrize("error", [asyncio.CancelledError(), SystemExit(1)], ids=repr)
async def test_whatever_the_callback_raises_the_outcome_is_reported_again_later(
    simulator: Simulator, error: BaseException
) -> None:
    queue = Memory(simulator, failures=(error,))
    await queue.tasks.enqueue(queue.ticket())
    async with queue.app.open_async():
        while queue.failures:
            for job in queue.jobs("todo"):
                job["scheduled_at"] = None
            await queue.work()
    [job] = queue.jobs("todo")
    assert job["scheduled_at"] - datetime.now(UTC) > timedelta(seconds=5)
    await queue.drain()
    assert [outcome.ok for outcome in queue.outcomes] == [True]


@pytest.mark.virtual_time
async def test_a_ticket_is_queued_once(simulator: Simulator) -> None:
    queue = Memory(simulator)
    ticket = queue.ticket()
    assert [await queue.tasks.enqueue(ticket) for _ in range(3)] == [True, False, False]


@pytest.mark.virtual_time
async def test_a_text_that_is_no_ticket_fails_and_does_not_stop_the_others(simulator: Simulator) -> None:
    queue = Memory(simulator)
    await queue.app.configure_task(STEP, queue="codat").defer_async(ticket="no ticket")
    await queue.tasks.enqueue(queue.ticket())
    await queue.drain()
    assert [job["args"] for job in queue.jobs("failed")] == [{"ticket": "no ticket"}]
    assert [outcome.ok for outcome in queue.outcomes] == [True]


@pytest.mark.virtual_time
async def test_a_ticket_of_a_later_version_stays_queued_as_it_is_and_is_offered_again(simulator: Simulator) -> None:
    queue = Memory(simulator)
    older, newer = queue.ticket(), queue.ticket()
    text = json.dumps({**json.loads(newer.to_json()), "version": 2, "a new field": 1})
    await queue.app.configure_task(STEP, queue="codat").defer_async(ticket=text)
    await queue.tasks.enqueue(older)
    async with queue.app.open_async():
        for _ in range(5):
            for job in queue.jobs("todo"):
                job["scheduled_at"] = None
            await queue.work()
    assert [outcome.ticket_id for outcome in queue.outcomes] == [older.id]
    assert [(job["args"]["ticket"], job["attempts"]) for job in queue.jobs("todo")] == [(text, 5)]


@pytest.mark.virtual_time
async def test_recovery_does_not_wait_behind_a_queue_of_starts(simulator: Simulator) -> None:
    queue = Memory(simulator)
    for _ in range(30):
        await queue.tasks.enqueue(queue.ticket())
    dead = queue.jobs("todo")[0]
    dead["status"] = "doing"
    await queue.app.tasks["codat_sync_recover"].defer_async(timestamp=0)
    async with queue.app.open_async():
        worker = await queue.app.job_manager.register_worker()
        first = await queue.app.job_manager.fetch_job(queues=["codat"], worker_id=worker)
    assert first is not None
    assert first.task_name == "codat_sync_recover"


@pytest.mark.virtual_time
@pytest.mark.parametrize("is_taken", [True, False])
async def test_a_worker_that_lost_its_job_does_not_report_an_error(simulator: Simulator, *, is_taken: bool) -> None:
    queue = Memory(simulator)
    ticket = queue.ticket()
    simulator.start_external_sync(ticket.company_id)
    old = SyncTicket.from_json(
        json.dumps({**json.loads(ticket.to_json()), "created_at": str(ticket.created_at - timedelta(hours=3))})
    )
    await queue.tasks.enqueue(old)
    async with queue.app.open_async(), CodatCommerce("simulator-key", base_url=simulator.url) as codat:
        worker = await queue.app.job_manager.register_worker()
        job = await queue.app.job_manager.fetch_job(queues=["codat"], worker_id=worker)
        assert job is not None
        if is_taken:  # by the recovery, while this worker was suspended
            await queue.app.job_manager.retry_job(job)
        context = procrastinate.JobContext(
            app=queue.app, job=job, start_timestamp=0.0, abort_reason=lambda: None, worker_name="suspended"
        )
        async with queue.tasks.working(codat):
            await queue.app.tasks[STEP](context, **job.task_kwargs)
    errors = [type(outcome.error) for outcome in queue.outcomes]
    assert errors == ([] if is_taken else [OutcomeUnknownError])


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with postgres() as server:
        app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=server.url))

        async def create() -> None:
            async with app.open_async():
                await app.schema_manager.apply_schema_async()

        asyncio.run(create())
        yield server.url


@pytest.fixture
async def queue(database: str, simulator: Simulator) -> AsyncIterator[Queue]:
    queue = Queue(simulator, procrastinate.PsycopgConnector(conninfo=database))
    async with queue.app.open_async():
        await queue.app.connector.execute_query_async("DELETE FROM procrastinate_jobs")
        yield queue


@pytest.mark.real
async def test_a_ticket_is_queued_in_the_transaction_of_the_user(database: str, queue: Queue) -> None:
    psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed: pip install '.[test]'")
    ticket, other = queue.ticket(), queue.ticket()
    async with await psycopg.AsyncConnection.connect(database) as connection:
        await connection.execute("CREATE TABLE orders (id text)")
        await connection.commit()
        await connection.execute("INSERT INTO orders VALUES ('rolled back')")
        assert await queue.tasks.enqueue(ticket, connection=connection)
        await connection.rollback()
        assert await queue.tasks.count_queued() == 0
        await connection.execute("INSERT INTO orders VALUES ('committed')")
        assert await queue.tasks.enqueue(ticket, connection=connection)
        assert await queue.tasks.enqueue(other, connection=connection)
        assert await queue.tasks.count_queued() == 0
        await connection.commit()
        assert await queue.tasks.count_queued() == 2
        cursor = await connection.execute("SELECT id FROM orders")
        assert await cursor.fetchall() == [("committed",)]


@pytest.mark.real
async def test_a_job_that_its_living_worker_could_not_return_to_the_queue_is_recovered(queue: Queue) -> None:
    manager, execute = queue.app.job_manager, queue.app.connector.execute_query_all_async
    await queue.tasks.feed([queue.ticket(), queue.ticket()])
    worker = await manager.register_worker()
    lost, running = [await manager.fetch_job(queues=["codat"], worker_id=worker) for _ in range(2)]
    assert lost is not None
    assert running is not None
    started = "UPDATE procrastinate_events SET at = now() - interval '16 minutes' WHERE job_id = %(job)s RETURNING id"
    await execute(started, job=lost.id)
    await queue.app.tasks["codat_sync_recover"](timestamp=0)
    jobs = {row["id"]: row["status"] for row in await execute("SELECT id, status FROM procrastinate_jobs")}
    assert jobs == {lost.id: "todo", running.id: "doing"}


@pytest.mark.real
async def test_a_worker_continues_after_its_database_was_restarted(tmp_path: Path) -> None:
    simulator = Simulator(quota=RequestQuota(per_minute=None), durations=lambda _: 2.0, outcomes={2000: 1.0})
    with postgres() as server:
        app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=server.url))
        tasks = SyncTasks(app, on_outcome=print)
        async with simulator:
            tickets = list(SyncTicket.for_run("a run", [simulator.add_linked_company() for _ in range(30)]))
            async with app.open_async():
                await app.schema_manager.apply_schema_async()
                await tasks.feed(tickets)
            outcomes = tmp_path / "outcomes"
            outcomes.touch()
            arguments = ("worker", server.url, simulator.url, str(tmp_path / "quota.db"), str(outcomes))
            worker = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "examples.night_on_procrastinate", *arguments, cwd=ROOT
            )
            while len(simulator.requests) < 10:  # noqa: ASYNC110 - another process sends them
                await asyncio.sleep(0.05)
            server.kill()
            await asyncio.sleep(0.3)
            server.start()
            reported = list[str | None]()
            async with asyncio.timeout(60):
                while len(set(reported)) < 30:
                    await asyncio.sleep(0.1)
                    reported = [SyncOutcome.from_json(line).ticket_id for line in outcomes.read_text().splitlines()]
            assert set(reported) == {ticket.id for ticket in tickets}
            assert worker.returncode is None
            worker.send_signal(signal.SIGTERM)
            async with asyncio.timeout(2):
                await worker.wait()
            assert [simulator.syncs_started(ticket.company_id) for ticket in tickets] == [1] * 30


@pytest.mark.real
async def test_a_worker_killed_between_queueing_and_acknowledging_starts_nothing_twice(
    database: str, queue: Queue
) -> None:
    tickets = [queue.ticket() for _ in range(3)]
    await queue.tasks.feed(tickets)
    arguments = ("-m", "tests.support.killed_worker", "procrastinate", database, queue.simulator.url)
    killed = await asyncio.create_subprocess_exec(sys.executable, *arguments, cwd=ROOT)
    assert await killed.wait() == -signal.SIGKILL
    execute = queue.app.connector.execute_query_all_async
    jobs = "SELECT queueing_lock, status FROM procrastinate_jobs WHERE task_name = 'codat_sync_step'"
    rows = [(row["queueing_lock"], row["status"]) for row in await execute(jobs)]
    # The successor of the killed job is queued beside it, so that it cannot be returned to the queue.
    assert [ticket.id for ticket in tickets if {(ticket.id, "doing"), (ticket.id, "todo")} <= set(rows)]
    await execute("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 minute' RETURNING id")
    # Before a worker takes a successor; after that, the recovered job would be a second delivery.
    await queue.app.tasks["codat_sync_recover"](timestamp=0)
    rows = [(row["queueing_lock"], row["status"]) for row in await execute(jobs)]
    assert sorted(rows) == sorted((ticket.id, "todo") for ticket in tickets)
    while await execute(jobs):
        await execute("UPDATE procrastinate_jobs SET scheduled_at = now() RETURNING id")
        await queue.work()
    assert {outcome.ticket_id for outcome in queue.outcomes if outcome.ok} == {ticket.id for ticket in tickets}
    assert len(queue.outcomes) == 3
    assert [queue.simulator.syncs_started(ticket.company_id) for ticket in tickets] == [1, 1, 1]
