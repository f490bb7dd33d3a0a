"""Fan-outs at a simulated Codat: one sync and one outcome per company, whatever happens, and nothing left behind."""

import asyncio
import gc
import logging
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from random import Random
from uuid import UUID

import pytest

from codat_commerce_async import CodatCommerce, LocalRateLimiter
from codat_commerce_async._core.transport import Request, Response
from codat_commerce_async.errors import (
    AuthenticationError,
    ClientClosedError,
    CodatError,
    JournalError,
    NotFoundError,
    OutcomeUnknownError,
    PermissionDeniedError,
    SharedQuotaError,
    SyncWaitTimeoutError,
)
from codat_commerce_async.policies import Quota, Timeouts
from codat_commerce_async.simulator import Fault, FaultKind, FaultPlan, ScriptedSync
from codat_commerce_async.simulator.in_memory import InMemoryTransport
from codat_commerce_async.simulator.virtual_time import loop_wall_clock, run_in_virtual_time
from codat_commerce_async.syncing._journal.writer import JournalWriter
from codat_commerce_async.syncing._queue import SyncJob
from codat_commerce_async.syncing.journal import read_journal
from codat_commerce_async.syncing.outcome import (
    RunProgress,
    RunReport,
    SyncOutcome,
    stop_at_failure_rate,
    stop_at_first_failure,
)
from codat_commerce_async.syncing.request import SyncRequest
from codat_commerce_async.syncing.run import CompanySource, SyncRun
from tests.benchmarks.fanout import measure
from tests.simulations.fanout_killed import fanout_killed
from tests.simulations.storm import STORM
from tests.support.fans import MORNING, Codat, own_tasks, own_threads

pytestmark = pytest.mark.virtual_time

DAY = datetime(2024, 1, 10, tzinfo=UTC)


REFUSED_KEY = Fault(FaultKind.ERROR_BEFORE, status=401)


class UnusableLimiter(LocalRateLimiter):
    """A limiter whose shared store can never work."""

    async def acquire(
        self, company_id: str | None = None, *, background: bool = False, starts_work: bool = False
    ) -> None:
        raise SharedQuotaError("the folder does not exist")


class RevokedKeyTransport(InMemoryTransport):
    """A transport whose API key is refused once a start was sent."""

    async def send(self, request: Request, timeouts: Timeouts) -> Response:
        try:
            return await super().send(request, timeouts)
        finally:
            if request.method == "POST":
                self._api_key = "revoked"


async def starts_at_once(codat: Codat, path: Path) -> None:
    """Continue the run two hours later, when Codat has forgotten all keys, and check that no sync is searched for."""
    await asyncio.sleep(2 * 3600.0)
    codat.simulator.set_faults(FaultPlan())
    before = len(codat.simulator.requests)
    async with codat.client() as client, client.sync.run_many(codat.ids, journal=path) as run:
        outcomes = await run.results()
    assert all(outcome.ok for outcome in outcomes)
    assert (codat.started, codat.started_twice) == (set(codat.ids), [])
    assert "list-syncs" not in {request.operation for request in codat.simulator.requests[before:]}


def period(company_id: str, day: int) -> SyncRequest:
    start = DAY - timedelta(days=day)
    return SyncRequest(company_id=company_id, start=start, finish=start + timedelta(days=1))


async def slowly(ids: Iterable[str], seconds: float) -> AsyncGenerator[str, None]:
    for company_id in ids:
        await asyncio.sleep(seconds)
        yield company_id


async def collect(run: SyncRun, outcomes: list[SyncOutcome]) -> None:
    async for outcome in run:
        outcomes.append(outcome)  # noqa: PERF401 - what precedes an error counts


@pytest.mark.parametrize("companies", [0, 1, 2, 33, 80])
async def test_every_company_is_started_once_and_has_one_outcome(companies: int) -> None:
    codat = Codat(companies)
    async with codat.client() as client, client.sync.run_many(codat.ids) as run:
        outcomes = await run.results()
    assert sorted(outcome.company_id for outcome in outcomes) == sorted(codat.ids)
    assert all(outcome.ok and outcome.handle and outcome.polls for outcome in outcomes)
    assert (codat.started, codat.started_twice) == (set(codat.ids), [])
    assert (run.running, run.unconfirmed, own_tasks()) == ((), (), set())


@pytest.mark.parametrize("kind", ["list", "set", "iterator", "generator", "async generator", "requests"])
async def test_companies_come_from_any_iterable(kind: str) -> None:
    codat = Codat(5)
    sources: dict[str, CompanySource] = {
        "list": codat.ids,
        "set": set(codat.ids),
        "iterator": iter(codat.ids),
        "generator": (company_id for company_id in codat.ids),
        "async generator": slowly(codat.ids, 3.0),
        "requests": [SyncRequest(company_id=company_id, sync_to=DAY) for company_id in codat.ids],
    }
    async with codat.client() as client, client.sync.run_many(sources[kind]) as run:
        outcomes = await run.results()
    assert {outcome.company_id for outcome in outcomes} == set(codat.ids)
    for source in sources.values():
        if isinstance(source, AsyncGenerator):
            await source.aclose()


async def test_an_outcome_reports_how_it_went() -> None:
    codat = Codat(3)
    good, bad, gone = codat.ids
    codat.simulator.script_sync(good, ScriptedSync(2000, duration=30.0))
    codat.simulator.script_sync(bad, ScriptedSync(5130, duration=10.0))
    codat.simulator.delete_company(gone)
    async with codat.client() as client, client.sync.run_many(codat.ids) as run:
        by_company = {outcome.company_id: outcome for outcome in await run.results()}
    assert by_company[good].ok
    assert 30.0 < by_company[good].elapsed < 35.0
    failed = by_company[bad].status
    assert failed is not None
    assert failed.failed
    assert not by_company[bad].ok
    assert isinstance(by_company[gone].error, NotFoundError)
    assert by_company[gone].handle is None
    report = run.report
    assert (report.started, report.succeeded, report.failed, report.errors) == (2, 1, 1, 1)


async def test_invalid_ids_are_outcomes_like_any_other() -> None:
    codat = Codat(2)
    odd = ["", " ", "..", "\ud800"]
    async with codat.client() as client, client.sync.run_many([codat.ids[0], *odd, codat.ids[1]]) as run:
        outcomes = await run.results()
    assert {outcome.company_id for outcome in outcomes if outcome.error} == set(odd)
    assert {outcome.company_id for outcome in outcomes if outcome.ok} == set(codat.ids)


async def test_invalid_ids_do_not_stop_a_journal(tmp_path: Path) -> None:
    codat = Codat(1)
    source = ["\ud800", "..", *codat.ids]
    async with codat.client() as client, client.sync.run_many(source, journal=tmp_path / "journal") as run:
        outcomes = await run.results()
    assert [outcome.ok for outcome in outcomes] == [False, False, True]


async def test_invalid_items_are_diagnosed_but_not_recorded(tmp_path: Path) -> None:
    codat = Codat(1)
    path = tmp_path / "journal"
    source: list[str] = ["\ud800", ".", 5, *codat.ids]  # type: ignore[list-item]
    async with codat.client() as client, client.sync.run_many(source, journal=path, diagnose=True) as run:
        outcomes = await run.results()
    assert [(outcome.ok, outcome.diagnosis is None) for outcome in outcomes] == [(False, False)] * 3 + [(True, True)]
    assert [entry.request.company_id for entry in read_journal(path)] == codat.ids


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "fast"}, "objective must be"),
        ({"max_running": 0}, "max_running must be"),
        ({"timeout": -1}, "timeout"),
    ],
)
def test_wrong_settings_are_refused_at_once(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CodatCommerce("key").sync.run_many(["a"], **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2.5, True, "3"])
def test_a_bound_that_is_no_whole_number_is_refused_at_once(value: object) -> None:
    with pytest.raises(TypeError, match="max_running must be an integer "):
        CodatCommerce("key").sync.run_many(["a"], max_running=value)  # type: ignore[arg-type]


def test_a_bound_beyond_all_counts_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="max_running must be an integer between 1 and "):
        CodatCommerce("key").sync.run_many(["a"], max_running=10**20)


def test_one_string_is_no_list_of_companies() -> None:
    with pytest.raises(TypeError, match=r"must be an iterable of company ids \(got one string\)"):
        CodatCommerce("key").sync.run_many("a")


async def test_a_run_is_used_once_and_inside_its_block() -> None:
    codat = Codat(1)
    async with codat.client() as client:
        run = client.sync.run_many(codat.ids)
        with pytest.raises(RuntimeError, match="async with"):
            await anext(run)
        assert run.report == RunReport()
        async with run:
            await run.results()
        with pytest.raises(RuntimeError, match="only once"):
            await run.__aenter__()


async def test_a_company_given_twice_is_synced_once(caplog: pytest.LogCaptureFixture) -> None:
    codat = Codat(3)
    first = codat.ids[0]
    async with codat.client() as client, client.sync.run_many([*codat.ids, first, first]) as run:
        outcomes = await run.results()
    assert len(outcomes) == 3
    assert run.report.duplicates == 2
    assert codat.started_twice == []
    assert f"company {first} was given twice" in caplog.text


async def test_periods_of_one_company_follow_one_another() -> None:
    codat = Codat(3)
    given_requests = [period(company_id, day) for day in range(4) for company_id in codat.ids]
    async with codat.client() as client, client.sync.run_many([*given_requests, given_requests[5]]) as run:
        outcomes = await run.results()
    assert {outcome.request for outcome in outcomes} == set(given_requests)
    assert (len(outcomes), run.report.duplicates) == (len(given_requests), 1)
    for company_id in codat.ids:
        syncs = codat.simulator.syncs(company_id)
        assert all(sooner.ends <= later.started for sooner, later in pairwise(syncs))


async def test_a_period_that_was_deferred_is_synced_again_when_it_is_given_after_its_end() -> None:
    codat = Codat(1)
    first, second = (period(codat.ids[0], day) for day in range(2))

    async def companies() -> AsyncIterator[SyncRequest]:
        yield first
        yield second
        while len(ended) < 2:  # noqa: ASYNC110 - outcomes are collected in a list
            await asyncio.sleep(1.0)
        yield second

    ended: list[SyncOutcome] = []
    async with codat.client() as client, client.sync.run_many(companies()) as run:
        await collect(run, ended)
    assert [outcome.request for outcome in ended] == [first, second, second]
    assert run.report.duplicates == 0


async def test_the_input_is_read_one_ahead_of_need() -> None:
    codat, read = Codat(25), 0

    def ids() -> Iterator[str]:
        nonlocal read
        for company_id in codat.ids:
            read += 1
            yield company_id

    async with codat.client() as client, client.sync.run_many(ids(), max_running=5) as run:
        async for _ in run:
            # One to come, and one that had no room beside it.
            assert read <= len(codat.started) + len(run.unconfirmed) + 2


async def test_no_more_run_at_once_than_is_allowed() -> None:
    codat, most = Codat(40), 0
    async with codat.client() as client, client.sync.run_many(codat.ids, max_running=7) as run:
        async for _ in run:
            now = codat.simulator.now()
            most = max(most, sum(sync.ends > now for one in codat.ids for sync in codat.simulator.syncs(one)))
    assert 3 <= most <= 7


async def test_deferred_periods_are_read_up_to_a_limit() -> None:
    codat, read = Codat(1, durations=lambda rng: 5.0), 0

    def periods() -> Iterator[SyncRequest]:
        nonlocal read
        for day in range(5000):
            read += 1
            yield period(codat.ids[0], day)

    async with codat.client() as client, client.sync.run_many(periods()) as run:
        for _ in range(3):
            assert (await anext(run)).ok
        assert read < 1100


async def test_an_outcome_comes_as_soon_as_it_is_known() -> None:
    codat = Codat(2)
    for company_id, seconds in zip(codat.ids, (5.0, 500.0), strict=True):
        codat.simulator.script_sync(company_id, ScriptedSync(2000, duration=seconds))
    async with codat.client() as client, client.sync.run_many(codat.ids) as run:
        assert (await anext(run)).company_id == codat.ids[0]
        assert asyncio.get_running_loop().time() < 10.0


async def test_outcomes_that_are_not_consumed_pause_the_run() -> None:
    codat = Codat(40)
    # An invalid id is an outcome without a request.
    invalid = [f"{number}\n" for number in range(1100)]
    async with codat.client() as client, client.sync.run_many([*invalid, *codat.ids]) as run:
        await asyncio.sleep(3600.0)
        # Those that may wait, and one of every task.
        assert 1000 <= run.report.completed <= 1032
        assert codat.started == set()
        outcomes = await run.results()
    assert (len(outcomes), sum(outcome.ok for outcome in outcomes)) == (1140, 40)


@pytest.mark.parametrize("taken", [0, 1, 7, 19])
async def test_leaving_early_leaves_nothing_behind_and_everything_reported(taken: int, tmp_path: Path) -> None:
    codat = Codat(40)
    outcomes: list[SyncOutcome] = []
    async with codat.client() as client:
        async with client.sync.run_many(codat.ids, journal=tmp_path / "journal") as run:
            while len(outcomes) < taken:
                outcomes.append(await anext(run))
        assert (own_tasks(), own_threads()) == (set(), [])
        # What was known, but not taken in time.
        outcomes += await run.results()
    assert codat.unaccounted(run, outcomes) == set()
    assert run.report.completed == len(outcomes)
    assert len(codat.started) < 40 or len(outcomes) < 40


async def interrupted(codat: Codat, journal: Path, rng: Random, outcomes: list[SyncOutcome]) -> bool:
    """Whether a fan-out was cancelled before its end: by time and by turns of the loop, so also within a commit."""
    async with codat.client() as client:
        run = client.sync.run_many(codat.ids, journal=journal)

        async def work() -> None:
            async with run:
                await collect(run, outcomes)

        task = asyncio.create_task(work())
        await asyncio.sleep(rng.choice((0.0, rng.uniform(0.0, 12.0))))
        for _ in range(rng.randrange(30)):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait((task,))
        if run.report.started:
            outcomes += await run.results()
        return task.cancelled()


@pytest.mark.parametrize("seed", range(4))
async def test_cancelled_at_any_moment_and_continued_each_company_ends_once(seed: int, tmp_path: Path) -> None:
    codat, rng, journal = Codat(12, seed=seed), Random(seed), tmp_path / "journal"
    outcomes: list[SyncOutcome] = []
    while await interrupted(codat, journal, rng, outcomes):
        assert (own_tasks(), own_threads()) == (set(), [])
    async with codat.client() as client, client.sync.run_many(codat.ids, journal=journal) as run:
        await collect(run, outcomes)
    entries = list(read_journal(journal))
    assert (codat.started, codat.started_twice) == (set(codat.ids), [])
    assert {entry.request.company_id for entry in entries if entry.has_status} == set(codat.ids)
    reported = [outcome.company_id for outcome in outcomes]
    assert len(reported) == len(set(reported))


async def test_a_cancellation_while_leaving_is_not_lost(tmp_path: Path) -> None:
    codat, left = Codat(10), asyncio.Event()

    async def work() -> None:
        async with codat.client() as client:
            async with client.sync.run_many(codat.ids, journal=tmp_path / "journal") as run:
                await anext(run)
                left.set()
            raise AssertionError("the cancellation was swallowed")

    task = asyncio.create_task(work())
    await left.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (own_tasks(), own_threads()) == (set(), [])


async def test_closing_the_client_ends_the_run_at_once() -> None:
    codat = Codat(5, durations=lambda rng: 500.0)
    async with codat.client() as client, client.sync.run_many(codat.ids) as run:
        await asyncio.sleep(100.0)
        asyncio.get_running_loop().call_later(0.5, lambda: closing.append(asyncio.ensure_future(client.aclose())))
        closing: list[asyncio.Future[None]] = []
        with pytest.raises(ClientClosedError):
            await run.results()
        assert asyncio.get_running_loop().time() < 101.0
    assert len(run.running) == 5
    assert run.report.running == 5
    assert own_tasks() == set()


async def test_closing_the_client_is_noticed_while_nothing_is_sent() -> None:
    codat = Codat(5, per_day=1000)
    codat.simulator.set_remaining_quota(0)
    client = codat.client()
    async with client.sync.run_many(codat.ids) as run:
        await asyncio.sleep(100.0)
        await client.aclose()
        with pytest.raises(ClientClosedError):
            await run.results()
        assert asyncio.get_running_loop().time() == pytest.approx(100.0)


async def test_closing_the_client_in_the_middle_of_starts_leaves_them_unsettled(tmp_path: Path) -> None:
    codat = Codat(20)
    client = codat.client()
    async with client.sync.run_many(codat.ids, journal=tmp_path / "journal") as run:
        # The server's time is learned first, the starts come then.
        await asyncio.sleep(0.4)
        await client.aclose()
        with pytest.raises(ClientClosedError):
            await run.results()
    assert run.unconfirmed
    assert codat.unaccounted(run, []) == set()
    async with codat.client() as client, client.sync.run_many(codat.ids, journal=tmp_path / "journal") as run:
        assert len(await run.results()) == 20
    assert codat.started_twice == []


async def test_a_source_that_raises_ends_the_run_and_reports_what_runs() -> None:
    codat = Codat(10, durations=lambda rng: 300.0)

    async def ids() -> AsyncIterator[str]:
        for company_id in codat.ids[:6]:
            yield company_id
        await asyncio.sleep(20.0)
        raise LookupError("the database is gone")

    async with codat.client() as client, client.sync.run_many(ids()) as run:
        with pytest.raises(LookupError, match="the database is gone"):
            await run.results()
    assert {handle.company_id for handle in run.running} == set(codat.ids[:6])
    assert own_tasks() == set()


async def test_a_failure_that_was_not_awaited_is_raised_on_leaving() -> None:
    codat = Codat(1)

    def ids() -> Iterator[str]:
        yield codat.ids[0]
        raise LookupError("the file is cut off")

    async with codat.client() as client:
        with pytest.raises(LookupError, match="the file is cut off"):
            async with client.sync.run_many(ids()):
                await asyncio.sleep(100.0)


async def test_a_slow_source_delays_no_poll() -> None:
    codat = Codat(20, durations=lambda rng: rng.uniform(2.0, 20.0))
    async with codat.client() as client, client.sync.run_many(slowly(codat.ids, 60.0)) as run:
        delays = [codat.delay(outcome) async for outcome in run]
    assert max(delays) < 10.0
    assert run.report.elapsed > 20 * 60.0


async def test_an_async_generator_is_closed_on_leaving() -> None:
    codat, closed = Codat(20), []

    async def ids() -> AsyncIterator[str]:
        try:
            for company_id in codat.ids:
                yield company_id
        finally:
            await asyncio.sleep(0)
            closed.append(True)

    async with codat.client() as client:
        async with client.sync.run_many(ids(), max_running=3) as run:
            await anext(run)
        assert closed == [True]


@pytest.mark.parametrize(
    ("stop_when", "least", "most"),
    [
        (stop_at_first_failure, 1, 8),
        (stop_at_failure_rate(0.2, after=20), 4, 14),
        (lambda report: report.completed >= 30, 0, 60),
    ],
)
async def test_a_run_stops_when_its_condition_is_met(stop_when: object, least: int, most: int) -> None:
    codat = Codat(120)
    for company_id in codat.ids[::3]:
        codat.simulator.script_sync(company_id, ScriptedSync(5000, duration=10.0))
    async with codat.client() as client:
        run = client.sync.run_many(codat.ids, max_running=8, stop_when=stop_when)  # type: ignore[arg-type]
        async with run:
            outcomes = await run.results()
    assert least <= run.report.failed <= most
    assert len(codat.started) < 60
    assert codat.unaccounted(run, outcomes) == set()


async def test_a_run_can_be_stopped() -> None:
    codat = Codat(50)
    async with codat.client() as client, client.sync.run_many(codat.ids, max_running=5) as run:
        outcomes = [await anext(run)]
        run.stop()
        outcomes += await run.results()
    assert 1 <= len(outcomes) <= 5
    assert codat.unaccounted(run, outcomes) == set()


def test_a_rate_is_a_share() -> None:
    with pytest.raises(ValueError, match="share must be"):
        stop_at_failure_rate(20.0)


async def test_a_notification_is_polled_first() -> None:
    # All syncs end at the same time: when the notification arrives, polls are due that take 10 s to send.
    codat = Codat(150, durations=lambda rng: 40.0)
    async with codat.client() as client, client.sync.run_many(codat.ids) as run:
        outcomes: list[SyncOutcome] = []
        reading = asyncio.create_task(collect(run, outcomes))
        await asyncio.sleep(40.5)
        notified = codat.ids[0]
        client.sync.poll_now(notified)
        # Its last poll was 1.2 s before, so it waits for the minimum interval of 2 s, and then for the 32 polls that
        # the rate limiter has already: 2 s.
        await asyncio.sleep(3.5)
        assert notified in {outcome.company_id for outcome in outcomes}
        await reading


async def test_fifty_notifications_a_second_keep_the_poll_interval() -> None:
    codat = Codat(1, durations=lambda rng: 20.0)

    async def notify() -> None:
        while True:
            await asyncio.sleep(0.02)
            client.sync.poll_now(codat.ids[0])

    async with codat.client() as client, client.sync.run_many(codat.ids) as run:
        notifying = asyncio.create_task(notify())
        (outcome,) = await run.results()
        notifying.cancel()
    assert outcome.ok
    assert outcome.polls <= 11
    assert codat.requests <= 12


async def test_the_last_notification_reaches_a_sync_that_is_being_started() -> None:
    # Its webhook is here before the response to its start.
    codat = Codat(1, durations=lambda rng: 0.05)
    async with codat.client() as client, client.sync.run_many(codat.ids) as run:
        await asyncio.sleep(0.15)
        client.sync.poll_now(codat.ids[0])
        (outcome,) = await run.results()
    assert (outcome.ok, outcome.polls) == (True, 1)
    assert outcome.elapsed < 3 * 0.3


async def test_notifications_at_any_time_do_no_harm() -> None:
    codat, rng = Codat(30), Random(5)

    async def notify_at_random() -> None:
        while True:
            await asyncio.sleep(rng.uniform(0.0, 0.3))
            client.sync.poll_now(rng.choice([*codat.ids, "of another"]))

    async with codat.client() as client, client.sync.run_many(codat.ids) as run:
        notifying = asyncio.create_task(notify_at_random())
        outcomes = await run.results()
        notifying.cancel()
    assert sorted(outcome.company_id for outcome in outcomes) == sorted(codat.ids)
    assert max(outcome.polls for outcome in outcomes) < 60


async def test_a_sync_that_takes_too_long_is_an_outcome_at_its_time() -> None:
    codat = Codat(4)
    for company_id in codat.ids[2:]:
        codat.simulator.script_sync(company_id, ScriptedSync(2000, duration=50_000.0))
    async with codat.client() as client, client.sync.run_many(codat.ids, timeout=600.0) as run:
        outcomes = await run.results()
    late = [outcome for outcome in outcomes if not outcome.ok]
    assert {outcome.company_id for outcome in late} == set(codat.ids[2:])
    for outcome in late:
        assert isinstance(outcome.error, SyncWaitTimeoutError)
        assert outcome.handle is not None
        assert 600.0 <= outcome.elapsed < 602.0


async def test_a_sync_that_timed_out_is_resumed_and_not_started_again(tmp_path: Path) -> None:
    codat, journal = Codat(1), tmp_path / "journal"
    codat.simulator.script_sync(codat.ids[0], ScriptedSync(2000, duration=5000.0))
    async with codat.client() as client:
        async with client.sync.run_many(codat.ids, journal=journal, timeout=60.0) as run:
            assert isinstance((await run.results())[0].error, SyncWaitTimeoutError)
        async with client.sync.run_many(codat.ids, journal=journal, timeout=None) as run:
            (outcome,) = await run.results()
    assert outcome.ok
    assert codat.started_twice == []
    assert run.report.resumed == 1


async def test_a_sync_that_runs_for_hours_is_polled_rarely_and_never_forgotten() -> None:
    codat = Codat(50, durations=lambda rng: rng.uniform(5.0, 40.0))
    codat.simulator.script_sync(codat.ids[0], ScriptedSync(2000, duration=20_000.0))
    async with codat.client() as client, client.sync.run_many(codat.ids, timeout=None) as run:
        outcomes = await run.results()
    assert outcomes[-1].company_id == codat.ids[0]
    assert outcomes[-1].ok
    # The longest interval between two polls is the age at that time.
    assert 20_000.0 <= outcomes[-1].elapsed < 40_100.0
    assert outcomes[-1].polls < 1000


async def test_the_quota_of_the_day_may_be_spent_in_the_middle() -> None:
    # 30 companies allow 31 requests of 1 each: spent long before all are started, and new at midnight.
    codat = Codat(30, per_day=3, start=1_705_362_000.0)  # 2024-01-15T23:40:00Z
    async with codat.client() as client, client.sync.run_many(codat.ids) as run:
        outcomes: list[SyncOutcome] = []
        reading = asyncio.create_task(collect(run, outcomes))
        await asyncio.sleep(1000.0)
        before = len(outcomes)
        await reading
    assert before < 30
    assert sorted(outcome.company_id for outcome in outcomes) == sorted(codat.ids)
    assert all(outcome.ok for outcome in outcomes)
    assert codat.started_twice == []
    assert run.report.elapsed > 1200.0


async def test_a_start_that_was_refused_for_the_quota_is_sent_again_without_a_search() -> None:
    codat = Codat(1, per_day=1000)
    codat.simulator.set_remaining_quota(0)
    async with codat.client() as client, client.sync.run_many(codat.ids) as run:
        (outcome,) = await run.results()
    assert outcome.ok
    refused, accepted, *polls = codat.simulator.requests
    assert (refused.status, accepted.status) == (429, 200)
    assert refused.idempotency_key != accepted.idempotency_key
    assert "list-syncs" not in {request.operation for request in polls}


@pytest.mark.parametrize("hours_to_midnight", [0.2, 8.0])
@pytest.mark.parametrize("happened", [True, False])
async def test_the_quota_of_the_day_may_be_spent_while_a_start_is_ambiguous(
    hours_to_midnight: float,
    happened: bool,  # noqa: FBT001 - a case's value
) -> None:
    # Codat remembers the key for 90 minutes; after that the sync is searched for.
    codat = Codat(1, per_day=1000, start=1_705_363_200.0 - 3600.0 * hours_to_midnight)
    codat.simulator.set_fault("request-sync", FaultKind.LOST_AFTER if happened else FaultKind.LOST_BEFORE)
    # What is lost on its way there does not count.
    codat.simulator.set_remaining_quota(int(happened))
    async with codat.client() as client, client.sync.run_many(codat.ids) as run:
        await asyncio.sleep(300.0)
        assert (len(codat.started), len(run.running), len(run.unconfirmed)) == (int(happened), 0, 1)
        (outcome,) = await run.results()
    assert outcome.ok
    assert codat.started_twice == []


async def test_polls_have_the_remaining_quota_of_the_day_before_starts() -> None:
    codat = Codat(100, per_day=1000, durations=lambda rng: 6.0)
    codat.simulator.set_remaining_quota(200)
    async with codat.client() as client, client.sync.run_many(codat.ids) as run:
        outcomes: list[SyncOutcome] = []
        reading = asyncio.create_task(collect(run, outcomes))
        await asyncio.sleep(3600.0)
        assert 50 < len(codat.started) < 100
        assert len(outcomes) > 20
        await reading
    assert len(outcomes) == 100
    assert codat.started_twice == []


async def test_a_key_that_is_refused_ends_the_run() -> None:
    codat = Codat(40)
    async with codat.client() as client, client.sync.run_many(codat.ids) as run:
        outcomes = [await anext(run)]
        codat.simulator.set_faults(FaultPlan(rate=1.0, kinds=(Fault(FaultKind.ERROR_BEFORE, status=401),)))
        with pytest.raises(AuthenticationError):
            await collect(run, outcomes)
    assert codat.unaccounted(run, outcomes) == set()
    assert own_tasks() == set()


async def test_a_key_that_is_refused_while_a_start_is_ambiguous_leaves_it_unconfirmed() -> None:
    refused = Fault(FaultKind.ERROR_BEFORE, status=401)
    script = {"request-sync": [FaultKind.LOST_BEFORE]}
    codat = Codat(1, faults=FaultPlan(rate=1.0, kinds=(refused,), script=script))
    async with codat.client() as client, client.sync.run_many(codat.ids) as run:
        with pytest.raises(AuthenticationError):
            await run.results()
    assert [company_id for company_id, _ in run.unconfirmed] == codat.ids


async def test_after_a_wrong_key_the_next_call_starts_at_once(tmp_path: Path) -> None:
    codat, path = Codat(40), tmp_path / "journal"
    codat.simulator.set_faults(FaultPlan(rate=1.0, kinds=(REFUSED_KEY,)))
    client = codat.client()
    # The second call knows the server's time already, and sends starts.
    for _ in range(2):
        async with client.sync.run_many(codat.ids, journal=path) as run:
            with pytest.raises(AuthenticationError):
                await run.results()
        assert (run.unconfirmed, list(read_journal(path))) == ((), [])
    await starts_at_once(codat, path)


async def test_a_key_that_is_refused_in_the_middle_leaves_no_start_unconfirmed(tmp_path: Path) -> None:
    codat, path = Codat(60), tmp_path / "journal"
    async with codat.client() as client, client.sync.run_many(codat.ids, journal=path) as run:
        await asyncio.sleep(2.0)
        codat.simulator.set_faults(FaultPlan(rate=1.0, kinds=(REFUSED_KEY,)))
        with pytest.raises(AuthenticationError):
            await run.results()
    assert run.unconfirmed == ()
    assert "starting" not in {entry.state for entry in read_journal(path)}
    await starts_at_once(codat, path)


async def test_after_a_quota_that_cannot_work_the_next_call_starts_at_once(tmp_path: Path) -> None:
    codat, path = Codat(3), tmp_path / "journal"
    client = codat.client(rate_limiter=UnusableLimiter())
    async with client, client.sync.run_many(codat.ids, journal=path) as run:
        with pytest.raises(SharedQuotaError):
            await run.results()
    assert list(read_journal(path)) == []
    await starts_at_once(codat, path)


async def test_a_start_that_waits_for_the_next_day_is_not_ambiguous_after_a_kill(tmp_path: Path) -> None:
    codat, path = Codat(1, per_day=1000), tmp_path / "journal"
    codat.simulator.set_remaining_quota(1)
    async with codat.client() as client, client.sync.run_many(codat.ids, journal=path) as run:
        await asyncio.sleep(60.0)
        assert list(read_journal(path)) == []
        assert run.unconfirmed == ()
    codat.simulator.set_remaining_quota(1000)
    await starts_at_once(codat, path)


async def test_an_outdated_key_stops_a_run_by_its_condition_and_the_next_call_starts_at_once(tmp_path: Path) -> None:
    codat, path = Codat(120), tmp_path / "journal"
    transport = InMemoryTransport(codat.simulator, latency=lambda: 0.2, api_key=codat.simulator.api_key)
    client = CodatCommerce("key", transport=transport, wall_clock=codat.clock)
    stop = stop_at_failure_rate(0.5, after=20)
    async with client, client.sync.run_many(codat.ids, journal=path, stop_when=stop) as run:
        await asyncio.sleep(2.0)
        codat.simulator.rotate_api_key("a new key")
        outcomes = await run.results()
    # A 403 alone ends no run: it may be about one company.
    assert {type(outcome.error) for outcome in outcomes} == {PermissionDeniedError}
    assert 20 <= len(outcomes) < 100
    assert codat.started
    await starts_at_once(codat, path)


@pytest.mark.parametrize("kind", [FaultKind.LOST_BEFORE, FaultKind.LOST_AFTER])
async def test_a_start_that_may_have_been_sent_stays_unconfirmed_after_a_wrong_key(
    kind: FaultKind, tmp_path: Path
) -> None:
    codat, path = Codat(1, faults=FaultPlan(script={"request-sync": [kind]})), tmp_path / "journal"
    # The second call cannot find out either.
    for transport in (RevokedKeyTransport(codat.simulator), InMemoryTransport(codat.simulator, api_key="revoked")):
        client = CodatCommerce("key", transport=transport, wall_clock=codat.clock)
        async with client, client.sync.run_many(codat.ids, journal=path) as run:
            with pytest.raises(AuthenticationError):
                await run.results()
        assert [entry.state for entry in read_journal(path)] == ["starting"]
        assert len(run.unconfirmed) == 1
    async with codat.client() as client, client.sync.run_many(codat.ids, journal=path) as run:
        assert [outcome.ok for outcome in await run.results()] == [True]
    assert codat.started_twice == []


@pytest.mark.parametrize("happened", [True, False])
async def test_an_ambiguous_start_is_an_outcome_with_its_key_and_settled_by_it(
    happened: bool,  # noqa: FBT001 - a case's value
    tmp_path: Path,
) -> None:
    codat, journal = Codat(2), tmp_path / "journal"
    kind = FaultKind.LOST_AFTER if happened else FaultKind.LOST_BEFORE
    async with codat.client() as client:
        codat.simulator.set_faults(FaultPlan(rate=1.0, kinds=(kind,)))
        async with client.sync.run_many(codat.ids, journal=journal) as run:
            outcomes = await run.results()
        for outcome in outcomes:
            assert isinstance(outcome.error, OutcomeUnknownError)
            assert outcome.handle is not None
            assert outcome.handle.idempotency_key == outcome.error.idempotency_key
        assert codat.started == (set(codat.ids) if happened else set())
        codat.simulator.set_faults(FaultPlan())
        async with client.sync.run_many(codat.ids, journal=journal) as run:
            outcomes = await run.results()
    assert all(outcome.ok for outcome in outcomes)
    assert (codat.started, codat.started_twice) == (set(codat.ids), [])


@pytest.mark.parametrize("seed", range(3))
async def test_a_storm_starts_no_company_twice_and_accounts_for_all(seed: int, tmp_path: Path) -> None:
    faults = FaultPlan(rate=0.25, kinds=STORM, seed=seed)
    codat = Codat(30, seed=seed, faults=faults, visibility_delay=(0.0, 0.5, 3.0)[seed % 3])
    journal = tmp_path / "journal"
    async with codat.client() as client, client.sync.run_many(codat.ids, journal=journal) as run:
        outcomes = await run.results()
    assert codat.started_twice == []
    assert sorted(outcome.company_id for outcome in outcomes) == sorted(codat.ids)
    assert {type(outcome.error) for outcome in outcomes} <= {type(None), OutcomeUnknownError}
    assert sum(outcome.ok for outcome in outcomes) >= 25
    for outcome in outcomes:
        if outcome.error is not None:
            assert outcome.error.idempotency_key
            assert outcome.handle is not None
    # The calm after it settles what was left open.
    codat.simulator.set_faults(FaultPlan())
    async with codat.client() as client, client.sync.run_many(codat.ids, journal=journal) as run:
        outcomes += await run.results()
    assert codat.started_twice == []
    assert {entry.state for entry in read_journal(journal)} <= {"succeeded", "error"}


async def test_starts_that_need_reconciling_delay_no_poll() -> None:
    codat = Codat(150, durations=lambda rng: 30.0)
    faults = FaultPlan(rate=1.0, kinds=(FaultKind.LOST_BEFORE,), operations=("request-sync",))
    async with codat.client() as client, client.sync.run_many(codat.ids) as run:
        await asyncio.sleep(4.0)
        codat.simulator.set_faults(faults)
        started = len(codat.started)
        delays = [codat.delay(await anext(run)) for _ in range(started)]
    assert 20 < started < 150
    assert max(delays) < 30.0


async def test_progress_reports_where_it_has_got_to_and_how_long_it_takes() -> None:
    codat, seen = Codat(200, durations=lambda rng: rng.uniform(20.0, 60.0)), []

    def record(progress: RunProgress) -> None:
        seen.append((asyncio.get_running_loop().time(), progress))

    async with codat.client() as client, client.sync.run_many(codat.ids, on_progress=record) as run:
        assert run.progress.total == 200
        await run.results()
    end = asyncio.get_running_loop().time()
    assert [progress.report.completed for _, progress in seen] == list(range(1, 201))
    for at, progress in seen[100:]:
        assert progress.seconds_left is not None
        assert (end - at) / 3 - 10 < progress.seconds_left < (end - at) * 3 + 60
    assert run.progress.seconds_left == 0.0
    assert run.progress.per_minute == pytest.approx(200 / (run.report.elapsed / 60))


async def test_without_a_known_end_of_the_input_there_is_no_estimate() -> None:
    codat = Codat(3)
    async with codat.client() as client, client.sync.run_many(slowly(codat.ids, 90.0)) as run:
        await anext(run)
        assert run.progress.total is None
        assert run.progress.seconds_left is None
        await run.results()


async def test_an_error_of_a_callback_is_raised() -> None:
    codat = Codat(5)

    def fail(progress: RunProgress) -> None:
        raise LookupError("no such gauge")

    async with codat.client() as client, client.sync.run_many(codat.ids, on_progress=fail) as run:
        with pytest.raises(LookupError, match="no such gauge"):
            await run.results()


async def test_the_report_stays_when_all_is_over() -> None:
    codat = Codat(5)
    async with codat.client() as client, client.sync.run_many(codat.ids) as run:
        await run.results()
        at_the_end = run.report
    await asyncio.sleep(100.0)
    assert run.report == at_the_end
    assert run.report.elapsed == at_the_end.elapsed
    assert str(run.report).startswith("5 ended (5 succeeded, 0 failed, 0 errors), 0 running")


async def test_two_runs_of_one_client_do_not_disturb_each_other() -> None:
    codat = Codat(20)
    async with (
        codat.client() as client,
        client.sync.run_many(codat.ids[:10]) as one,
        client.sync.run_many(codat.ids[10:]) as other,
    ):
        first, second = await asyncio.gather(one.results(), other.results())
    assert (len(first), len(second)) == (10, 10)


def test_the_same_seed_gives_the_same_run() -> None:
    def once() -> tuple[list[str], RunReport]:
        async def work() -> tuple[list[str], RunReport]:
            codat = Codat(25, seed=3)
            async with codat.client() as client, client.sync.run_many(codat.ids) as run:
                return [outcome.company_id for outcome in await run.results()], run.report

        return run_in_virtual_time(work())

    assert once() == once()


@pytest.mark.parametrize(("companies", "delay"), [(50, 2.0), (150, 15.0)])
def test_ends_are_known_as_early_as_is_promised(companies: int, delay: float) -> None:
    figures = measure("run_many, throughput", "log-normal", companies, seed=11)
    assert figures.mean_delay < delay


@pytest.mark.real
def test_a_process_that_is_killed_and_started_again_syncs_each_company_once() -> None:
    counts = asyncio.run(
        fanout_killed(1, companies=40, kills=2, rate=0.1, longest=0.3, durations=lambda rng: rng.uniform(2, 30))
    )
    assert counts.wrong == [], counts
    assert counts.kills >= 1, counts
    assert counts.resumed + counts.starting > 0, counts


async def test_a_finished_journal_sends_no_request(tmp_path: Path) -> None:
    codat, journal = Codat(8), tmp_path / "journal"
    async with codat.client() as client:
        async with client.sync.run_many(codat.ids, journal=journal) as run:
            await run.results()
        before = codat.requests
        async with client.sync.run_many(codat.ids, journal=journal) as run:
            assert await run.results() == []
    assert codat.requests == before
    assert (run.report.already_finished, run.report.duplicates) == (8, 0)


async def test_a_company_given_again_after_its_end_is_a_duplicate_to_a_journal(tmp_path: Path) -> None:
    codat = Codat(1)
    twice = slowly([codat.ids[0], codat.ids[0]], 200.0)
    async with codat.client() as client, client.sync.run_many(twice, journal=tmp_path / "journal") as run:
        assert len(await run.results()) == 1
    assert (run.report.already_finished, run.report.duplicates) == (0, 1)
    assert codat.started_twice == []


async def test_an_interrupted_start_is_settled_by_its_key(tmp_path: Path) -> None:
    codat, path = Codat(2), tmp_path / "journal"
    keys = ["6d3f4b0e-5a3c-4a52-8f0c-0b1f3a1c0001", "6d3f4b0e-5a3c-4a52-8f0c-0b1f3a1c0002"]
    # One was sent by a process that was killed before the response, the other was never sent.
    async with codat.client() as client:
        await client.sync.start(codat.ids[0], idempotency_key=keys[0])
    journal = await JournalWriter.open(path)
    for company_id, key in zip(codat.ids, keys, strict=True):
        await journal.record_start(SyncRequest(company_id=company_id), key, codat.clock() - 0.5, 0.0)
    await journal.close()
    async with codat.client() as client, client.sync.run_many(codat.ids, journal=path) as run:
        outcomes = await run.results()
    assert all(outcome.ok for outcome in outcomes)
    assert (codat.started, codat.started_twice) == (set(codat.ids), [])


async def test_a_key_that_is_too_old_is_not_used_again(tmp_path: Path) -> None:
    codat, path = Codat(1), tmp_path / "journal"
    key = "6d3f4b0e-5a3c-4a52-8f0c-0b1f3a1c0001"
    async with codat.client() as client:
        journal = await JournalWriter.open(path)
        await journal.record_start(SyncRequest(company_id=codat.ids[0]), key, codat.clock(), 0.0)
        await journal.close()
        await client.sync.start(codat.ids[0], idempotency_key=key)
        await asyncio.sleep(2 * 3600.0)
        async with client.sync.run_many(codat.ids, journal=path) as run:
            (outcome,) = await run.results()
    assert outcome.ok
    assert codat.started_twice == []


async def test_a_journal_has_the_servers_offset_of_each_request_from_the_first_on(tmp_path: Path) -> None:
    codat, path = Codat(15), tmp_path / "journal"
    here = codat.clock
    # Ours is an hour behind.
    codat.clock = lambda: here() - 3600.0
    async with codat.client() as client, client.sync.run_many(codat.ids, journal=path) as run:
        await run.results()
    offsets = [entry.server_offset for entry in read_journal(path)]
    known = [offset for offset in offsets if offset is not None]
    assert len(known) == 15
    assert all(abs(offset - 3600.0) < 2.0 for offset in known)


async def test_a_start_is_settled_and_not_repeated_when_the_clock_was_set_back(tmp_path: Path) -> None:
    codat, path, here = Codat(5), tmp_path / "journal", loop_wall_clock(MORNING)
    codat.clock = lambda: here() + 7200.0
    client = codat.client()
    async with client.sync.run_many(codat.ids, journal=path) as run:
        # The server's time is learned first; then all starts are sent, and the process ends before the responses.
        await asyncio.sleep(0.4)
        await client.aclose()
    assert run.unconfirmed
    offsets = [entry.server_offset for entry in read_journal(path) if entry.state == "starting"]
    assert offsets == [pytest.approx(-7200.0, abs=2.0)] * len(run.unconfirmed)
    codat.clock = here
    async with codat.client() as client, client.sync.run_many(codat.ids, journal=path) as run:
        outcomes = await run.results()
    assert all(outcome.ok for outcome in outcomes)
    assert (codat.started, codat.started_twice) == (set(codat.ids), [])


async def test_a_resolved_sync_id_is_in_the_journal_at_once(tmp_path: Path) -> None:
    codat, path = Codat(1, durations=lambda rng: 500.0), tmp_path / "journal"
    async with codat.client() as client, client.sync.run_many(codat.ids, journal=path) as run:
        await asyncio.sleep(100.0)
    (entry,) = read_journal(path)
    (sync,) = codat.simulator.syncs(codat.ids[0])
    assert entry.state == "running"
    assert entry.handle is not None
    assert entry.handle.sync_id == sync.sync_id
    assert run.running == (entry.handle,)


async def test_a_journal_teaches_how_long_syncs_take(tmp_path: Path) -> None:
    async def expected(seed: int) -> float | None:
        """How long it is expected to take when nothing has ended yet."""
        codat = Codat(8, seed=seed, durations=lambda rng: 120.0)
        async with codat.client() as client, client.sync.run_many(codat.ids, journal=tmp_path / "journal") as run:
            await asyncio.sleep(10.0)
            seconds_left = run.progress.seconds_left
            await run.results()
            return seconds_left

    untaught, taught = await expected(5), await expected(6)
    assert untaught is None
    assert taught is not None
    assert 80.0 < taught < 200.0


async def test_with_few_slots_ends_are_detected_early() -> None:
    codat = Codat(100, durations=lambda rng: 20.0)
    async with codat.client() as client, client.sync.run_many(codat.ids, max_running=10) as run:
        await run.results()
    assert run.report.elapsed < 100 / 10 * 20.0 * 1.12


async def test_a_second_run_on_one_journal_reports_it_and_stops(tmp_path: Path) -> None:
    codat, path = Codat(5), tmp_path / "journal"
    async with codat.client() as client, client.sync.run_many(codat.ids, journal=path) as run:
        with pytest.raises(JournalError, match="in use"):
            async with client.sync.run_many(codat.ids, journal=path):
                raise AssertionError("two runs write one journal")
        assert len(await run.results()) == 5
    assert own_threads() == []


async def test_a_journal_that_cannot_be_opened_starts_nothing(tmp_path: Path) -> None:
    codat = Codat(5)
    async with codat.client() as client:
        with pytest.raises(JournalError, match="directory"):
            async with client.sync.run_many(codat.ids, journal=tmp_path):
                raise AssertionError("a directory is no journal")
    assert codat.requests == 0
    assert (own_tasks(), own_threads()) == (set(), [])


async def test_errors_are_codat_errors(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    codat = Codat(6, faults=FaultPlan(rate=1.0, kinds=(Fault(FaultKind.ERROR_BEFORE, status=402),)))
    async with codat.client() as client, client.sync.run_many(codat.ids) as run:
        outcomes = await run.results()
    assert all(isinstance(outcome.error, CodatError) for outcome in outcomes)
    assert run.report.errors == 6


async def test_a_resumed_request_is_not_a_duplicate_of_the_input(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    codat, path = Codat(20), tmp_path / "journal"
    async with codat.client() as client:
        async with client.sync.run_many(codat.ids, journal=path) as run:
            await anext(run)
        await asyncio.sleep(100.0)
        # By the time that the input comes to it, one has ended.
        async with client.sync.run_many(slowly(codat.ids, 10.0), journal=path) as run:
            await run.results()
    assert run.report.duplicates == 0
    assert "twice" not in caplog.text
    assert codat.started_twice == []


async def test_a_finished_run_is_not_kept_by_its_client() -> None:
    codat = Codat(3)
    async with codat.client() as client:
        runs = []
        for stop in (False, True):
            async with client.sync.run_many(codat.ids) as run:
                await anext(run)
                if stop:
                    run.stop()
                await run.results()
            runs.append(weakref.ref(run))
            del run
        gc.collect()
        assert [run() for run in runs] == [None, None]


async def test_syncs_that_ended_by_an_error_are_neither_expected_to_end_nor_kept() -> None:
    codat = Codat(5, durations=lambda rng: 500.0)
    async with codat.client() as client, client.sync.run_many(codat.ids, timeout=5.0) as run:
        outcomes = await run.results()
        assert [type(outcome.error) for outcome in outcomes] == [SyncWaitTimeoutError] * 5
        assert run.progress.seconds_left == 0.0
        # Their tracebacks have frames of the run.
        del outcomes
        gc.collect()
        assert [job for job in gc.get_objects() if isinstance(job, SyncJob) and job.company_id in codat.ids] == []


async def test_a_run_that_is_left_early_releases_its_reserved_polls() -> None:
    limiter, codat = LocalRateLimiter(), Codat(5)
    async with codat.client(rate_limiter=limiter) as client, client.sync.run_many(codat.ids) as run:
        await asyncio.sleep(3.0)
        assert limiter.reserved == 2 * len(run.running) == 10
    assert limiter.reserved == 0


async def test_a_sync_that_has_ended_releases_its_reserved_polls() -> None:
    limiter, codat = LocalRateLimiter(), Codat(5)
    async with codat.client(rate_limiter=limiter) as client, client.sync.run_many(codat.ids) as run:
        await asyncio.sleep(3.0)
        async for _ in run:
            assert limiter.reserved == 2 * len(run.running)


async def test_a_resumed_sync_is_polled_as_rarely_as_its_age_allows(tmp_path: Path) -> None:
    codat = Codat(1, durations=lambda rng: 50_000.0)
    async with codat.client() as client:
        async with client.sync.run_many(codat.ids, journal=tmp_path / "journal"):
            await asyncio.sleep(20_000.0)
        before = codat.requests
        async with client.sync.run_many(codat.ids, journal=tmp_path / "journal"):
            await asyncio.sleep(600.0)
    assert 1 < codat.requests - before < 10


async def test_the_elapsed_time_of_a_resumed_sync_begins_with_its_start(tmp_path: Path) -> None:
    codat = Codat(1, durations=lambda rng: 300.0)
    await asyncio.sleep(7.5)
    async with codat.client() as client:
        async with client.sync.run_many(codat.ids, journal=tmp_path / "journal"):
            await asyncio.sleep(100.0)
        await asyncio.sleep(50.0)
        async with client.sync.run_many(codat.ids, journal=tmp_path / "journal") as run:
            (outcome,) = await run.results()
    assert run.report.resumed == 1
    assert 300.0 < outcome.elapsed < 330.0


@pytest.mark.parametrize("states", ["starting starting", "running starting", "starting running"])
async def test_every_unfinished_period_of_a_company_is_resumed_one_after_the_other(states: str, tmp_path: Path) -> None:
    codat, path = Codat(2), tmp_path / "journal"
    requests = [period(codat.ids[0], day) for day in range(2)]
    async with codat.client() as client:
        journal = await JournalWriter.open(path)
        for request, state in zip(requests, states.split(), strict=True):
            key = str(UUID(int=codat.random.getrandbits(128), version=4))
            await journal.record_start(request, key, codat.clock())
            if state == "running":
                handle = await client.sync.start(codat.ids[0], date_range=request.date_range, idempotency_key=key)
                await journal.record_running(request, handle)
        await journal.close()
        given_requests = [*requests, SyncRequest(company_id=codat.ids[1])]
        async with client.sync.run_many(given_requests, journal=path) as run:
            outcomes = await run.results()
    assert {outcome.request for outcome in outcomes if outcome.ok} == set(given_requests)
    assert (len(outcomes), run.report.duplicates) == (3, 0)
    first, second = codat.simulator.syncs(codat.ids[0])
    assert first.ends <= second.started


async def test_reading_ahead_continues_when_a_deferred_period_is_started() -> None:
    codat = Codat(2, durations=lambda rng: 2.0)
    held = [period(codat.ids[0], day) for day in range(1003)]
    async with codat.client(Quota.unlimited()) as client, client.sync.run_many([*held, codat.ids[1]]) as run:
        async for outcome in run:
            if outcome.company_id == codat.ids[1]:
                break
        assert run.report.completed < 10
