"""`sync.diagnose` at a simulated Codat: few background requests, and an error of one of them is stated."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from codat_commerce_async import CodatCommerce, Diagnosis, FailureCause, Resolver, Retry
from codat_commerce_async.errors import CodatError, SyncFailedError
from codat_commerce_async.models.sync import SyncStatus
from codat_commerce_async.simulator import Fault, FaultKind
from codat_commerce_async.simulator._state.records import CODES
from codat_commerce_async.syncing._diagnose import DiagnosisQueue
from codat_commerce_async.syncing.journal import Journal
from codat_commerce_async.syncing.outcome import SyncOutcome
from codat_commerce_async.syncing.request import SyncRequest
from tests.support.fans import Codat, own_tasks

pytestmark = pytest.mark.virtual_time

COMPANY = "/companies/{}"


async def a_failure(codat: Codat, client: CodatCommerce, code: int) -> SyncFailedError:
    codat.simulator.script_sync(codat.ids[0], code)
    with pytest.raises(SyncFailedError) as failed:
        await client.sync.run(codat.ids[0])
    return failed.value


async def test_a_status_a_handle_and_an_outcome_have_the_same_diagnosis() -> None:
    codat = Codat(1)
    async with codat.client() as client:
        failed = await a_failure(codat, client, 4260)
        before = codat.requests
        of_status = await client.sync.diagnose(failed.status)
        assert codat.requests - before == of_status.requests == 1
        of_handle = await client.sync.diagnose(failed.handle)
        outcome = SyncOutcome(
            request=SyncRequest(company_id=codat.ids[0]),
            handle=failed.handle,
            status=failed.status,
            error=None,
            polls=1,
            elapsed=1.0,
        )
        assert of_status == of_handle == await client.sync.diagnose(outcome)
    assert (of_status.cause, of_status.resolver) == (FailureCause.SUBSCRIPTION_LAPSED, Resolver.MERCHANT)
    assert own_tasks() == set()


@pytest.mark.parametrize("code", sorted(code for code in CODES if code >= 4000))
async def test_no_code_takes_more_than_five_requests(code: int) -> None:
    codat = Codat(1)
    async with codat.client() as client:
        failed = await a_failure(codat, client, code)
        before = codat.requests
        found = await client.sync.diagnose(failed.status)
    assert found.requests == codat.requests - before <= 5
    assert (found.company_id, found.code, found.sync_id) == (codat.ids[0], code, failed.status.sync_id)


async def test_a_request_that_fails_is_stated_and_not_repeated() -> None:
    codat = Codat(1)
    async with codat.client() as client:
        failed = await a_failure(codat, client, 4000)
        codat.simulator.set_configuration(codat.ids[0], {"enable": False})
        codat.simulator.set_fault("list-connections", Fault(FaultKind.UNAVAILABLE))
        before = codat.requests
        found = await client.sync.diagnose(failed.status)
        assert (found.cause, codat.requests - before) == (FailureCause.SYNC_DISABLED, found.requests)
    assert found.requests <= 5
    assert found.unchecked[0].startswith("connections: ")


async def test_a_duplicate_names_the_sync_of_the_period() -> None:
    codat = Codat(1)
    async with codat.client() as client:
        first = await client.sync.run(codat.ids[0])
        failed = await a_failure(codat, client, 5080)
        found = await client.sync.diagnose(failed.status)
    assert [each.id for each in found.evidence if each.kind == "sync"] == [first.sync_id]
    assert (found.retry, found.resolvers) == (Retry.NEVER, (Resolver.NOBODY,))


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (SyncStatus(company_id="c", sync_status_code=2000), ValueError, "must be that of a failed sync"),
        (SyncStatus(company_id="c", sync_status_code=1000), ValueError, "got in_progress"),
        (SyncStatus(sync_status_code=5000), ValueError, "status must have a company_id"),
        ("c", TypeError, "failed must be a status, a handle or an outcome"),
    ],
)
async def test_only_failed_syncs_have_a_diagnosis(value: SyncStatus, error: type[Exception], message: str) -> None:
    codat = Codat(1)
    async with codat.client() as client:
        with pytest.raises(error, match=message):
            await client.sync.diagnose(value)
    assert codat.requests == 0


async def test_a_run_diagnoses_each_failure_and_no_success() -> None:
    codat = Codat(30)
    for number, company_id in enumerate(codat.ids[:20]):
        codat.simulator.script_sync(company_id, (4260, 5000, 5080, 5120)[number % 4])
    async with codat.client() as client, client.sync.run_many([*codat.ids, ""], diagnose=True) as run:
        outcomes = await run.results()
    causes = [outcome.diagnosis.cause for outcome in outcomes if outcome.diagnosis]
    assert sorted(set(causes)) == ["data_processing_error", "overlapping_period", "server_error", "subscription_lapsed",
                                   "unknown"]  # fmt: skip
    assert len(causes) == 21
    assert all((outcome.diagnosis is None) == outcome.ok for outcome in outcomes)
    assert (len(outcomes), run.report.failed, run.report.errors) == (31, 20, 1)
    assert own_tasks() == set()


async def test_failures_that_a_journal_has_without_a_diagnosis_get_one_when_the_run_is_resumed(tmp_path: Path) -> None:
    codat, journal = Codat(12), tmp_path / "night.db"
    lapsed, broken, last = codat.ids[0], codat.ids[1], codat.ids[-1]
    for company_id, code in ((lapsed, 4260), (broken, 5000), (last, 5080)):
        codat.simulator.script_sync(company_id, code)

    async def call(*companies: str, diagnose: bool = True) -> dict[str, SyncOutcome]:
        async with (
            codat.client() as client,
            client.sync.run_many(companies, journal=journal, run_id="night", diagnose=diagnose) as run,
        ):
            return {outcome.company_id: outcome for outcome in await run.results(include_finished=True)}

    first = codat.ids[:-1]
    await call(*first, diagnose=False)
    before, requests = await Journal.open(journal).entries(), codat.requests
    # Requests for the diagnoses only, also for a company that is given twice.
    found = {each.company_id: each.diagnosis for each in (await call(*first, *first)).values() if each.diagnosis}
    assert {company_id: each.cause for company_id, each in found.items()} == {
        lapsed: FailureCause.SUBSCRIPTION_LAPSED,
        broken: FailureCause.SERVER_ERROR,
    }
    assert codat.requests - requests == sum(each.requests for each in found.values())
    assert [evolve(entry, diagnosis=None) for entry in await Journal.open(journal).entries()] == before
    # What has a diagnosis by now gets no second one, and a new failure is diagnosed as ever.
    requests = codat.requests
    assert len(await call(*first)) == len(first)
    assert codat.requests == requests
    outcomes = await call(*codat.ids)
    assert len(outcomes) == len(codat.ids)
    assert outcomes[last].diagnosis is not None


async def test_without_diagnose_no_outcome_has_one() -> None:
    codat = Codat(1)
    codat.simulator.script_sync(codat.ids[0], 5000)
    async with codat.client() as client, client.sync.run_many(codat.ids) as run:
        assert [outcome.diagnosis for outcome in await run.results()] == [None]


def stop(run: object) -> None:
    run.stop()  # type: ignore[attr-defined]


@pytest.mark.parametrize("leave", [stop, lambda run: None])
async def test_a_run_that_ends_early_loses_no_outcome(leave: Callable[[object], None]) -> None:
    codat = Codat(40)
    for company_id in codat.ids:
        codat.simulator.script_sync(company_id, 5130)
    async with codat.client() as client:
        outcomes: list[SyncOutcome] = []
        async with client.sync.run_many(codat.ids, diagnose=True) as run:
            outcomes.append(await anext(run))
            leave(run)
        outcomes += await run.results()
    assert len(outcomes) == run.report.failed + run.report.errors
    assert codat.unaccounted(run, outcomes) == set()
    assert own_tasks() == set()


@pytest.mark.parametrize("leave", [stop, lambda run: None])
async def test_a_resumed_run_that_ends_early_reports_no_outcome_of_an_earlier_call(
    tmp_path: Path, leave: Callable[[object], None]
) -> None:
    codat, journal = Codat(12), tmp_path / "night.db"
    for company_id in codat.ids:
        codat.simulator.script_sync(company_id, 5130)
    async with codat.client() as client, client.sync.run_many(codat.ids, journal=journal, run_id="night") as run:
        await run.results()
    async with codat.client() as client:
        async with client.sync.run_many(codat.ids, journal=journal, run_id="night", diagnose=True) as run:
            await asyncio.sleep(0.5)
            leave(run)
        assert await run.results() == []
    entries = await Journal.open(journal).entries()
    assert any(entry.diagnosis is None for entry in entries)
    assert own_tasks() == set()


async def test_an_outcome_with_its_diagnosis_survives_json() -> None:
    codat = Codat(1)
    codat.simulator.script_sync(codat.ids[0], 5130)
    async with codat.client() as client, client.sync.run_many(codat.ids, diagnose=True) as run:
        (outcome,) = await run.results()
    assert isinstance(outcome.diagnosis, Diagnosis)
    assert SyncOutcome.from_json(outcome.to_json()).diagnosis == outcome.diagnosis


async def test_an_error_outcome_needs_no_requests() -> None:
    codat = Codat(1)
    error = CodatError("could not be started")
    request = SyncRequest(company_id=codat.ids[0])
    outcome = SyncOutcome(request=request, handle=None, status=None, error=error, polls=0, elapsed=0.0)
    async with codat.client() as client:
        found = await client.sync.diagnose(outcome)
    assert (found.cause, found.requests, codat.requests) == (FailureCause.UNKNOWN, 0, 0)


class Broken:
    """Calls of which each raises an error that is no CodatError."""

    def __getattr__(self, name: str) -> object:
        raise RuntimeError(f"no {name}")


async def test_a_diagnosis_that_raises_leaves_the_outcome_and_the_others_alone() -> None:
    passed_on: list[SyncOutcome] = []

    async def pass_on(outcome: SyncOutcome) -> None:
        passed_on.append(outcome)

    broken: Any = Broken()
    queue = DiagnosisQueue(broken, {}, pass_on, pass_on)
    outcomes = [failed_outcome(code) for code in (4260, 5000)]
    async with asyncio.TaskGroup() as tasks:
        for outcome in outcomes:
            queue.add(outcome, tasks)
    assert [each.diagnosis is None for each in passed_on] == [True, False]
    assert [each.status for each in passed_on] == [each.status for each in outcomes]


def failed_outcome(code: int) -> SyncOutcome:
    status = SyncStatus(company_id="c", sync_status_code=code)
    return SyncOutcome(
        request=SyncRequest(company_id="c"), handle=None, status=status, error=None, polls=1, elapsed=1.0
    )
