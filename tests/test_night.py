"""Nights on real task queues: workers are killed, and each company is started once and has one outcome."""

import asyncio
import signal
import sys
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from codat_commerce_async import SyncTicket
from codat_commerce_async.simulator import RequestQuota, Simulator
from examples.night import Counts, Night
from tests.support.servers import postgres

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[1]
needs_procrastinate = pytest.mark.skipif(
    find_spec("procrastinate") is None, reason="procrastinate is not installed: pip install '.[test]'"
)


def check(counts: Counts, size: Night) -> None:
    assert counts.started == counts.outcomes == size.companies, counts
    assert counts.started_twice == 0, counts
    assert counts.peak_per_minute <= 1000, counts
    assert counts.last_outcome_delay <= 90, counts
    assert counts.quota_used >= 0.9 or counts.busy_seconds < 10, counts
    assert counts.unknown <= size.companies * 0.02, counts


# At full size, by hand: python -m examples.night_on_procrastinate --companies 400 --kills 12 --fault-rate 0.25
SIZE = Night(companies=200, kills=4, fault_rate=0.25)


@needs_procrastinate
def test_a_night_on_procrastinate_survives_kills() -> None:
    check(import_module("examples.night_on_procrastinate").main(SIZE), SIZE)


@pytest.mark.skipif(find_spec("taskiq_redis") is None, reason="taskiq-redis is not installed: pip install '.[test]'")
def test_a_night_on_taskiq_survives_kills() -> None:
    check(import_module("examples.night_on_taskiq").main(SIZE), SIZE)


@needs_procrastinate
def test_a_procrastinate_worker_with_a_hundred_running_tasks_ends_within_two_seconds(tmp_path: Path) -> None:
    with postgres() as server:
        asyncio.run(_end_procrastinate(server.url, tmp_path))


async def _end_procrastinate(database: str, directory: Path) -> None:
    example = import_module("examples.night_on_procrastinate")
    app = example.new_app(database)
    tasks = example.SyncTasks(app, on_outcome=print)
    # Each response takes so long that all tasks are running, most of them waiting for a slot of the limiter.
    simulator = Simulator(quota=RequestQuota(per_minute=None), durations=lambda _: 600.0)
    tickets = list(SyncTicket.for_run("a run", [simulator.add_linked_company() for _ in range(300)]))
    async with app.open_async(), simulator:
        await app.schema_manager.apply_schema_async()
        await tasks.feed(tickets)
        arguments = (simulator.url, str(directory / "quota.db"), str(directory / "outcomes"), "100")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "examples.night_on_procrastinate", "worker", database, *arguments, cwd=ROOT
        )
        while await _count(app, "doing") < 90:  # noqa: ASYNC110 - another process changes it
            await asyncio.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        await process.wait()
        assert time.monotonic() - began < 2.0
        rows = await app.connector.execute_query_all_async(
            "SELECT args, status FROM procrastinate_jobs WHERE queue_name = 'codat' AND task_name = 'codat_sync_step'"
        )
    assert {row["status"] for row in rows} == {"todo"}
    queued = [SyncTicket.from_json(row["args"]["ticket"]).id for row in rows]
    assert sorted(queued) == sorted(ticket.id for ticket in tickets)


async def _count(app: object, status: str) -> int:
    row = await app.connector.execute_query_one_async(  # type: ignore[attr-defined]
        "SELECT count(*) AS jobs FROM procrastinate_jobs WHERE status = %(status)s", status=status
    )
    return int(row["jobs"])
