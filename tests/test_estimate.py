"""The estimated end of a fan-out: close to the real end, and never much later than before in the last fifth."""

import asyncio
import math
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codat_commerce_async import LocalRateLimiter, RateLimiter
from codat_commerce_async.policies import Quota
from codat_commerce_async.simulator import FaultPlan
from codat_commerce_async.syncing._durations import DurationModel
from codat_commerce_async.syncing._estimate import EndEstimate, Workload
from tests.support.fans import Codat

# During the last fifth of a run, the estimated end may move later by this share of the run's length, or these seconds.
MAX_DELAY, MAX_SECONDS = 0.05, 15.0


class Silent(LocalRateLimiter):
    """A rate limiter that does not report its pauses, as one's own may be."""

    add_pause_listener = remove_pause_listener = None  # type: ignore[assignment]


class Sample(NamedTuple):
    at: float
    end: float | None


async def estimates(
    codat: Codat,
    max_running: int | None = None,
    quota: Quota | None = None,
    interval: float = 1.0,
    rate_limiter: RateLimiter | None = None,
) -> list[Sample]:
    """Run a fan-out, and return the estimated end at every interval; the last sample is the real end."""
    samples = list[Sample]()
    time = asyncio.get_running_loop().time

    async def sample() -> None:
        while True:
            left = run.progress.seconds_left
            samples.append(Sample(time() - began, None if left is None else time() - began + left))
            await asyncio.sleep(interval)

    client = codat.client(quota, rate_limiter)
    async with client, client.sync.run_many(codat.ids, max_running=max_running) as run:
        began = time()
        sampling = asyncio.create_task(sample())
        await run.results()
        sampling.cancel()
    return [*samples, Sample(time() - began, time() - began)]


def known_ends(samples: list[Sample], first: float) -> list[float]:
    """Return the estimates in the rest of the run, from this share of its length on."""
    return [end for at, end in samples if end is not None and at >= first * samples[-1].at]


def delay(ends: list[float]) -> float:
    """Return by how much the estimate exceeded an earlier one."""
    earliest = math.inf
    return max((end - (earliest := min(earliest, end)) for end in ends), default=0.0)


def stragglers(share: float, longest: float) -> Callable[[Random], float]:
    return lambda rng: rng.uniform(longest / 2, longest) if rng.random() < share else rng.uniform(20.0, 60.0)


USUAL = {
    "uniform": lambda rng: rng.uniform(5.0, 60.0),
    "equal": lambda rng: 60.0,
    "exponential": lambda rng: rng.expovariate(1 / 60.0),
    "many stragglers": stragglers(0.2, 600.0),
}
UNUSUAL = {
    "lognormal": lambda rng: rng.lognormvariate(math.log(40.0), 0.8),
    "heavy tail": lambda rng: rng.lognormvariate(math.log(40.0), 1.5),
    "few stragglers": stragglers(0.01, 900.0),
}


def check_late_estimates(samples: list[Sample]) -> None:
    allowed = max(MAX_SECONDS, MAX_DELAY * samples[-1].at)
    assert delay(known_ends(samples[:-1], 0.8)) <= allowed


@pytest.mark.virtual_time
@pytest.mark.parametrize("durations", [USUAL["equal"], UNUSUAL["lognormal"]], ids=["equal", "lognormal"])
async def test_late_in_a_run_its_estimated_end_does_not_move_later(durations: Callable[[Random], float]) -> None:
    check_late_estimates(await estimates(Codat(60, durations=durations)))


@pytest.mark.real
@pytest.mark.virtual_time
@pytest.mark.parametrize("max_running", [None, 12])
@pytest.mark.parametrize("durations", [*USUAL.values(), *UNUSUAL.values()], ids=[*USUAL, *UNUSUAL])
async def test_late_in_a_longer_run_it_does_not_either(
    durations: Callable[[Random], float], max_running: int | None
) -> None:
    check_late_estimates(await estimates(Codat(200, durations=durations), max_running))


@pytest.mark.virtual_time
async def test_faults_do_not_move_the_end_later() -> None:
    check_late_estimates(await estimates(Codat(60, faults=FaultPlan(rate=0.2, seed=3)), max_running=12))


@pytest.mark.virtual_time
@pytest.mark.parametrize("durations", ["uniform", "exponential"])
async def test_the_estimate_is_known_and_close_to_the_end_when_durations_are_as_before(durations: str) -> None:
    samples = await estimates(Codat(60, durations=USUAL[durations]), max_running=12)
    late = known_ends(samples, 0.5)
    assert len(late) >= 0.8 * 0.5 * len(samples)
    assert all(0.8 * samples[-1].at < end < 1.3 * samples[-1].at for end in late)


@pytest.mark.virtual_time
@pytest.mark.parametrize(
    "settings",
    [{"quota": Quota()}, {"quota": Quota(wait_for_reset=True)}, {"rate_limiter": Silent()}],
    ids=["raised", "waited for", "of a limiter without listeners"],
)
async def test_a_pause_for_the_daily_quota_is_in_the_estimate_from_its_begin(settings: Any) -> None:
    codat = Codat(40, per_day=2)  # 82 requests: a second day is needed
    samples = await estimates(codat, interval=30.0, **settings)
    end = samples[-1].at
    assert end > 15 * 3600.0, "the quota was not used up before the evening"
    paused = [sample.end for sample in samples if 300.0 < sample.at < end - 300.0]
    assert all(estimate is not None and abs(estimate - end) < 600.0 for estimate in paused)


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(st.floats(0.0, 60.0), st.integers(0, 9), st.floats(0.0, 1e5), st.none() | st.floats(0.0, 1e5)),
        min_size=2,
        max_size=20,
    )
)
def test_with_few_companies_left_the_end_moves_only_for_a_pause(
    steps: list[tuple[float, int, float, float | None]],
) -> None:
    durations = DurationModel()
    durations.observe_duration(50_000.0)
    estimate, now, latest = EndEstimate(durations), 1000.0, math.inf
    for passed, running, running_left, pause in steps:
        now += passed
        latest += 0.2 * passed
        if pause is not None:
            estimate.pause(now, pause)
            latest += pause
        work = Workload(left=0, running=running + 1, completed=991, polls=2000, interval=0.06, max_running=None)
        left = estimate.seconds_left(work, 0.0, now, running_left)
        if left is not None:
            assert 0.0 < left <= latest - now + 1e-6
            latest = now + left


def test_a_pause_late_in_a_run_moves_its_end_by_as_much() -> None:
    durations = DurationModel()
    durations.observe_duration(100.0)
    estimate = EndEstimate(durations)
    work = Workload(left=0, running=2, completed=998, polls=2000, interval=0.06, max_running=None)
    before = estimate.seconds_left(work, 0.0, 1000.0, 30.0)
    assert before == pytest.approx(30.0)
    estimate.pause(1000.0, 500.0)
    after = estimate.seconds_left(work, 0.0, 1000.0, 30.0)
    assert after == pytest.approx(500.0, abs=1.0)
