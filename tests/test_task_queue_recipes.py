"""The recipes of the guide to task queues run where their engine does, and are printed in the guide."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from codat_commerce_async import CodatCommerce, SyncOutcome, SyncTicket
from codat_commerce_async.simulator import RequestQuota, Simulator

ROOT = Path(__file__).parents[1]
GUIDE = ROOT / "docs" / "task-queues.md"
RECIPES = sorted(ROOT.glob("examples/syncs_*.py"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_the_guide_shows_the_recipe(recipe: Path) -> None:
    assert f"```py\n{recipe.read_text(encoding='utf-8')}```\n" in GUIDE.read_text(encoding="utf-8")


@pytest.fixture
async def simulator(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Simulator]:
    simulator = Simulator(quota=RequestQuota(per_minute=None), durations=lambda _: 0.5, outcomes={2000: 1.0})
    async with simulator:
        monkeypatch.setenv("CODAT_API_KEY", simulator.api_key)
        monkeypatch.setenv("CODAT_BASE_URL", simulator.url)
        yield simulator


def check(outcomes: list[SyncOutcome], simulator: Simulator, ids: list[str]) -> None:
    assert {outcome.company_id for outcome in outcomes if outcome.ok} == set(ids)
    assert [simulator.syncs_started(one) for one in ids] == [1] * len(ids)


@pytest.mark.real
async def test_syncs_run_on_celery(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    testing = pytest.importorskip("celery.contrib.testing.worker", reason="Celery is not installed: pip install celery")
    monkeypatch.setenv("CELERY_BROKER", "memory://")
    from examples import syncs_on_celery as recipe  # noqa: PLC0415 - needs the engine

    outcomes: list[SyncOutcome] = []
    monkeypatch.setattr(recipe, "save", outcomes.append)
    ids = [simulator.add_linked_company() for _ in range(5)]

    def work() -> None:
        with testing.start_worker(recipe.app, pool="threads", concurrency=3, perform_ping_check=False):
            recipe.feed("a run", ids)
            recipe.feed("a run", ids)
            end = time.monotonic() + 30
            while len(outcomes) < 10 and time.monotonic() < end:
                time.sleep(0.05)
        recipe.steps().close()

    await asyncio.to_thread(work)
    check(outcomes, simulator, ids)
    assert len({outcome.ticket_id for outcome in outcomes}) == 5


@pytest.mark.real
async def test_syncs_run_on_dbos(simulator: Simulator, tmp_path: Path) -> None:
    dbos = pytest.importorskip("dbos", reason="DBOS is not installed: pip install dbos")
    recipe: Any = __import__("examples.syncs_on_dbos", fromlist=["start"])
    settings = {"name": "syncs", "system_database_url": f"sqlite:///{tmp_path}/dbos.db", "run_admin_server": False}
    dbos.DBOS(config=settings)
    dbos.DBOS.launch()
    try:
        ids = [simulator.add_linked_company() for _ in range(3)]
        await recipe.start("a run", ids)
        await recipe.start("a run", ids)
        handles = [await dbos.DBOS.retrieve_workflow_async(one.id) for one in SyncTicket.for_run("a run", ids)]
        outcomes = [SyncOutcome.from_json(await handle.get_result()) for handle in handles]
    finally:
        dbos.DBOS.destroy()
        await recipe.close()
    check(outcomes, simulator, ids)


@pytest.mark.real
async def test_a_step_runs_as_an_activity_of_temporal(simulator: Simulator) -> None:
    testing = pytest.importorskip("temporalio.testing", reason="Temporal is not installed: pip install temporalio")
    from examples import syncs_on_temporal as recipe  # noqa: PLC0415 - needs the engine

    [ticket] = SyncTicket.for_run("a run", [simulator.add_linked_company()])
    async with CodatCommerce.from_env() as codat:
        steps, text, outcome = recipe.Activities(codat.sync.stepper()), ticket.to_json(), ""
        while not outcome:
            text, seconds, outcome = await testing.ActivityEnvironment().run(steps.step, text)
            await asyncio.sleep(seconds)
    check([SyncOutcome.from_json(outcome)], simulator, [ticket.company_id])
