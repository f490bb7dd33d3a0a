"""The simulations at a size that fits into a test run; by hand they run at their own."""

import asyncio
import contextlib
from random import Random

import pytest

from codat_commerce_async import CodatCommerce
from codat_commerce_async._core.transport import Request, Response
from codat_commerce_async.errors import QuotaExhaustedError, RateLimitError
from codat_commerce_async.policies import Quota, Timeouts
from codat_commerce_async.simulator import Fault, FaultKind, RequestQuota, ScriptedSync, Simulator
from codat_commerce_async.simulator.in_memory import InMemoryTransport
from codat_commerce_async.simulator.virtual_time import loop_wall_clock
from tests.simulations.arrivals import call_server, pass_limiter
from tests.simulations.clocks import killed_and_set, suspended
from tests.simulations.killed import killed, worker
from tests.simulations.ours import ours
from tests.simulations.quota import rush
from tests.simulations.storm import storm
from tests.support.cases import all_cases


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_in_a_storm_each_company_is_started_exactly_once(seed: int) -> None:
    totals = storm(seed, 250)
    assert (totals.wrong, totals.doubled) == ([], 0), totals
    assert totals.succeeded >= 247, totals


def test_a_storm_in_which_nearly_everything_goes_wrong_starts_nothing_twice() -> None:
    totals = storm(4, 100, rate=0.8)
    assert (totals.wrong, totals.doubled) == ([], 0), totals
    assert totals.unknown > 0, totals


def test_the_same_seed_gives_the_same_storm() -> None:
    assert storm(5, 60) == storm(5, 60)


@all_cases(("seed", "at_once"), [(0, False), (0, True), (1, False), (1, True)])
def test_every_reported_success_is_ours_or_reports_that_it_was_adopted(seed: int, at_once: bool) -> None:  # noqa: FBT001
    summary = ours(seed, 25, at_once=at_once)
    assert summary.wrong == [], summary
    assert summary.ok > 0, summary


def test_a_machine_that_is_suspended_at_any_await_of_a_start_starts_nothing_twice() -> None:
    counts = suspended(0)
    assert counts.wrong == [], counts
    assert counts.started > 0, counts


def test_a_clock_that_is_set_across_a_crash_starts_nothing_twice() -> None:
    counts = killed_and_set(0, every=7)
    assert counts.wrong == [], counts
    assert counts.started > 0, counts


def test_many_callers_use_the_quota_up_and_never_exceed_it() -> None:
    usage = rush(1, minutes=2.0)
    assert usage.peak_per_minute == 900, usage
    assert usage.share >= 0.97, usage
    assert usage.longest_wait <= 1.1 * usage.fair_wait, usage
    assert usage.most_per_company <= 10, usage
    assert usage.repeats > 0, usage


def test_many_callers_of_one_company_are_never_more_than_ten_at_once() -> None:
    usage = rush(2, minutes=0.5, callers=60, companies=1)
    assert usage.most_per_company == 10, usage


async def each_status(codat: CodatCommerce, company_ids: list[str]) -> list[object]:
    return await asyncio.gather(*(codat.sync.get_status(one) for one in company_ids), return_exceptions=True)


@pytest.mark.parametrize(("concurrent", "companies"), [(100, 20), (300, 60)])
def test_the_server_never_counts_more_than_the_quota_however_long_requests_take(
    concurrent: int, companies: int
) -> None:
    # Nine seconds each way at most, so that what was sent in more than a minute could arrive within one.
    usage = rush(3, minutes=3.0, companies=companies, slowest=18.0, quota=Quota(concurrent=concurrent))
    assert usage.busiest_minute_there <= 900, usage
    assert usage.most_in_flight >= min(concurrent, 150), usage


def test_a_rate_that_uses_the_ceiling_up_stays_below_it_at_the_server() -> None:
    usage = rush(4, minutes=2.0, companies=60, slowest=18.0, quota=Quota(per_minute=1000, concurrent=300))
    assert usage.busiest_minute_there <= 1000, usage
    assert "RateLimitError" not in usage.errors, usage


class _OneIsThrottled(InMemoryTransport):
    """The platform behind one company rejects each of its requests with 429."""

    def __init__(self, simulator: Simulator, company_id: str) -> None:
        super().__init__(simulator, latency=lambda: 0.2)
        self.company_id = company_id
        self.refused = 0

    async def send(self, request: Request, timeouts: Timeouts) -> Response:
        response = await super().send(request, timeouts)
        if self.company_id not in request.target:
            return response
        self.refused += 1
        return Response(429, {**response.headers, "Retry-After": "60"}, b"{}")


@pytest.mark.virtual_time
async def test_a_429_on_every_poll_of_one_company_does_not_delay_the_others() -> None:
    clock, loop = loop_wall_clock(), asyncio.get_running_loop()
    simulator = Simulator(now=clock)
    throttled, *others = [simulator.add_linked_company() for _ in range(40)]
    for company_id in (throttled, *others):
        simulator.start_external_sync(company_id)
    transport, took = _OneIsThrottled(simulator, throttled), []
    async with CodatCommerce("key", transport=transport, wall_clock=clock, random=Random(1)) as codat:

        async def poll(company_id: str, polls: int) -> None:
            for _ in range(polls):
                began = loop.time()
                with contextlib.suppress(RateLimitError):
                    await codat.sync.get_latest_sync(company_id)
                if company_id != throttled:
                    took.append(loop.time() - began)
                await asyncio.sleep(5.0)

        await asyncio.gather(poll(throttled, 4), *(poll(company_id, 40) for company_id in others))
    assert transport.refused >= 5
    assert max(took) < 5.0


@pytest.mark.virtual_time
async def test_429s_of_several_companies_stop_all_companies_until_their_time_is_over() -> None:
    clock = loop_wall_clock()
    simulator = Simulator(now=clock)
    ids = [simulator.add_linked_company() for _ in range(300)]
    for company_id in ids:
        simulator.start_external_sync(company_id)
    transport = InMemoryTransport(simulator, latency=lambda: 0.23)
    async with CodatCommerce("key", transport=transport, wall_clock=clock, random=Random(1)) as codat:
        await asyncio.sleep(10.0)
        simulator.set_fault("get-sync-status", *[None] * 40, *[Fault(FaultKind.RATE_LIMITED, seconds=30.0)] * 3)
        responses = await each_status(codat, ids)
    assert [response for response in responses if isinstance(response, Exception)] == []
    times = [seen.time for seen in simulator.requests]
    refused = max(seen.time for seen in simulator.requests if seen.fault is FaultKind.RATE_LIMITED)
    one_way = 0.23 / 2
    limited = refused + one_way
    # Requests sent before the response arrived were in flight; after it there is a pause, and no burst after the pause.
    assert [time for time in times if limited + one_way < time < limited + 30.0] == []
    later = [time for time in times if time >= limited + 30.0]
    assert len(later) + len([time for time in times if time <= limited + one_way]) == 303
    assert sum(time < later[0] + 1.0 for time in later) <= 16


@pytest.mark.virtual_time
async def test_a_day_that_runs_out_in_the_middle_loses_nothing_and_continues_after_the_reset() -> None:
    clock = loop_wall_clock()
    simulator = Simulator(now=clock, quota=RequestQuota(per_day=2))
    ids = [simulator.add_linked_company() for _ in range(150)]
    simulator.set_remaining_quota(100)
    quota = Quota(wait_for_reset=True)
    async with CodatCommerce(
        "key", transport=InMemoryTransport(simulator, latency=lambda: 0.2), wall_clock=clock, quota=quota
    ) as codat:
        handles = await asyncio.gather(*(codat.sync.start(company_id) for company_id in ids))
    assert [simulator.syncs_started(company_id) for company_id in ids] == [1] * 150
    assert len({handle.commerce_sync_id for handle in handles}) == 150
    started = sorted(simulator.syncs(company_id)[0].started for company_id in ids)
    midnight = 1_705_363_200.0
    assert sum(time < midnight for time in started) == 100
    assert midnight <= started[100] < midnight + 2.0
    assert started[-1] < midnight + 10.0


@pytest.mark.virtual_time
async def test_a_day_that_runs_out_is_reported_to_all_with_its_reset() -> None:
    clock = loop_wall_clock()
    simulator = Simulator(now=clock)
    ids = [simulator.add_linked_company() for _ in range(80)]
    simulator.set_remaining_quota(50)
    async with CodatCommerce(
        "key", transport=InMemoryTransport(simulator, latency=lambda: 0.2), wall_clock=clock
    ) as codat:
        results = await asyncio.gather(*(codat.sync.start(one) for one in ids), return_exceptions=True)
    limited = [result for result in results if isinstance(result, QuotaExhaustedError)]
    assert len(limited) == 30
    assert {each.reset_at.isoformat() for each in limited if each.reset_at} == {"2024-01-16T00:00:00+00:00"}
    assert sum(simulator.syncs_started(company_id) for company_id in ids) == 50
    # Few were sent without effect: those that were under way when the first was refused.
    assert len(simulator.requests) <= 50 + 5


@pytest.mark.real
async def test_killed_processes_that_start_again_start_nothing_twice() -> None:
    counts = await killed(1, companies=15, kills=3)
    assert (counts.wrong, counts.doubled) == ([], 0), counts
    assert counts.kills >= 1, counts
    assert counts.started + counts.unknown == 15, counts
    assert counts.unknown <= 3, counts


@pytest.mark.real
async def test_a_wait_continues_in_another_process() -> None:
    simulator = Simulator(speed=40.0)
    company_id = simulator.add_linked_company()
    # Ten hours that the test lets pass.
    simulator.script_sync(company_id, ScriptedSync(5130, duration=36_000.0))
    async with simulator, CodatCommerce(simulator.api_key, base_url=simulator.url) as codat:
        handle = await codat.sync.start(company_id)
        first = await worker("wait", simulator, handle.to_json())
        assert first.stdout is not None
        running = await first.stdout.readline()
        first.kill()
        await first.wait()
        simulator.start_external_sync(company_id, ScriptedSync(2000, duration=0.0))
        simulator.advance(36_000.0)
        second = await worker("wait", simulator, handle.to_json())
        output, _ = await second.communicate()
    ours = next(sync for sync in simulator.syncs(company_id) if sync.source == "api").sync_id.encode()
    assert (first.returncode, second.returncode) == (-9, 0)
    assert running.split() == [b"1000", ours]
    # The handle had no sync id, and another sync has started since; ours is found anyway.
    assert output.split() == [b"5130", ours]


@pytest.mark.parametrize("seed", [1, 2])
def test_requests_that_arrive_at_random_all_pass_and_leave_no_count_behind(seed: int) -> None:
    arrivals = pass_limiter(seed, 3_000, per_minute=900)
    assert (arrivals.passed, arrivals.in_flight, arrivals.waiting) == (3_000, 0, 0), arrivals
    assert arrivals.most_in_a_minute <= 900, arrivals


@pytest.mark.real
def test_a_hundred_thousand_requests_that_arrive_at_random_all_pass() -> None:
    arrivals = pass_limiter(4, 100_000, per_minute=7_000, debug=False)
    assert (arrivals.passed, arrivals.in_flight, arrivals.waiting) == (100_000, 0, 0), arrivals
    assert arrivals.most_in_a_minute <= 7_000, arrivals


@pytest.mark.real
def test_two_thousand_calls_that_arrive_at_random_under_uvloop_are_all_responded() -> None:
    uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed: pip install '.[test]'")
    arrivals = uvloop.run(call_server(5, 2_000, per_minute=7_000))
    assert (arrivals.passed, arrivals.seen, arrivals.in_flight, arrivals.waiting) == (2_000, 2_000, 0, 0), arrivals
