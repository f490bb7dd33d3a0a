"""The limiter: never more than allowed in any window, no waiter lost, and exact counts after any cancellation."""

import asyncio
import itertools
from collections.abc import Coroutine
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from codat_commerce_async._core.local_rate_limiter import LocalRateLimiter
from codat_commerce_async.errors import QuotaExhaustedError
from codat_commerce_async.policies import Quota
from codat_commerce_async.simulator.virtual_time import VirtualTimeLoop, run_in_virtual_time
from tests.support.reachable import reachable
from tests.support.scripted import client_of, respond

pytestmark = pytest.mark.virtual_time

TOMORROW = datetime(2024, 1, 16, tzinfo=UTC)
OPEN = Quota(per_minute=None, concurrent=None, per_company=None)


def now() -> float:
    return asyncio.get_running_loop().time()


def companies_kept_by(limiter: LocalRateLimiter) -> set[str]:
    return {each for each in reachable(limiter) if isinstance(each, str) and each.startswith("company-")}


def peak_per_minute(times: list[float]) -> int:
    """The most that any window of 60 seconds holds; the busiest windows begin at one of the times."""
    times, most, end = sorted(times), 0, 0
    for start, first in enumerate(times):
        while end < len(times) and times[end] < first + 60.0:
            end += 1
        most = max(most, end - start)
    return most


async def ticks(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


class Callers:
    """Callers of a limiter, and the order and times of their grants."""

    def __init__(self, limiter: LocalRateLimiter) -> None:
        self.limiter = limiter
        self.order: list[str] = []
        self.times: list[float] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def add(self, name: str, company_id: str | None = None, *, takes: float = 0.0, **kind: bool) -> None:
        """Add a caller that holds its slot for so long."""
        self.tasks[name] = asyncio.create_task(self._pass(name, company_id, takes, kind))
        await ticks(1)

    async def _pass(self, name: str, company_id: str | None, takes: float, kind: dict[str, bool]) -> None:
        await self.limiter.acquire(company_id, **kind)
        self.order.append(name)
        self.times.append(now())
        try:
            await asyncio.sleep(takes)
        finally:
            self.limiter.release(company_id)

    async def all_through(self) -> None:
        await asyncio.gather(*self.tasks.values())
        assert (self.limiter.in_flight, self.limiter.waiting) == (0, 0)


@pytest.mark.parametrize("per_minute", [1, 2, 7, 60, 900])
async def test_no_window_of_60_seconds_holds_more_than_the_quota(per_minute: int) -> None:
    limiter = LocalRateLimiter(Quota(per_minute=per_minute))
    times: list[float] = []
    # Bursts after pauses of all lengths, which is where an average would let too many through.
    for pause in (0.0, 0.3, 1.0, 59.0, 61.0, 0.0, 200.0):
        await asyncio.sleep(pause)
        for _ in range(per_minute + 3):
            await limiter.acquire(None)
            times.append(now())
            limiter.release(None)
    assert peak_per_minute(times) == per_minute


async def test_the_full_rate_is_used_while_there_is_work() -> None:
    limiter = LocalRateLimiter(Quota(per_minute=900))
    for _ in range(9000):
        await limiter.acquire(None)
        limiter.release(None)
    assert now() == pytest.approx(600.0, rel=0.01)


async def test_a_full_bucket_is_never_let_out_at_once() -> None:
    limiter = LocalRateLimiter(Quota(per_minute=900))
    await asyncio.sleep(3600.0)
    times = []
    for _ in range(300):
        await limiter.acquire(None)
        times.append(now())
        limiter.release(None)
    in_a_second = max(sum(first <= time < first + 1.0 for time in times) for first in times)
    assert in_a_second <= 2 * 900 / 60 + 1


async def test_a_few_quick_calls_are_not_slowed_down() -> None:
    limiter = LocalRateLimiter(Quota(per_minute=900))
    for _ in range(15):
        await limiter.acquire("a")
        limiter.release("a")
    assert now() == 0.0


async def test_no_more_are_in_flight_than_allowed_overall_and_per_company() -> None:
    callers = Callers(LocalRateLimiter(Quota(per_minute=None, concurrent=7, per_company=3)))
    most: dict[str, int] = {}

    async def watch() -> None:
        while True:
            seen = {"all": callers.limiter.in_flight, **{one: callers.limiter.in_flight_of(one) for one in "abc"}}
            most.update({name: max(count, most.get(name, 0)) for name, count in seen.items()})
            await asyncio.sleep(0.25)

    sampler = asyncio.create_task(watch())
    for number in range(60):
        await callers.add(f"{number}", "abc"[number % 3], takes=1.0 + number % 4)
    await callers.all_through()
    sampler.cancel()
    assert most == {"all": 7, "a": 3, "b": 3, "c": 3}


async def test_waiters_are_served_in_the_order_of_their_arrival() -> None:
    callers = Callers(LocalRateLimiter(Quota(per_minute=60)))
    for number in range(100):
        await callers.add(f"{number:03}", "abc"[number % 3])
    await callers.all_through()
    assert callers.order == sorted(callers.order)


async def test_a_new_request_is_sent_after_those_that_wait() -> None:
    callers = Callers(LocalRateLimiter(Quota(per_minute=None, concurrent=1)))
    await callers.add("first", takes=10.0)
    await callers.add("second")
    await asyncio.sleep(10.0)
    await callers.add("third")
    await callers.all_through()
    assert callers.order == ["first", "second", "third"]


async def test_a_late_timer_in_a_busy_loop_does_not_change_the_order() -> None:
    callers = Callers(LocalRateLimiter(Quota(per_minute=60)))
    for _ in range(2):
        await callers.limiter.acquire(None)
        callers.limiter.release(None)
    await callers.add("first")
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    # The loop was held up, and the timer that would have served the first is late.
    loop.advance(1.0)
    await callers.add("second")
    await callers.all_through()
    assert callers.order == ["first", "second"]


async def test_a_request_that_waits_for_its_company_does_not_delay_the_others() -> None:
    callers = Callers(LocalRateLimiter(Quota(per_minute=None, per_company=1)))
    await callers.add("a1", "a", takes=10.0)
    await callers.add("a2", "a")
    await callers.add("a3", "a")
    await callers.add("b1", "b")
    await ticks()
    assert callers.order == ["a1", "b1"]
    await callers.all_through()
    assert callers.order == ["a1", "b1", "a2", "a3"]


async def test_a_request_that_waited_for_its_company_keeps_its_position() -> None:
    callers = Callers(LocalRateLimiter(Quota(per_minute=60, per_company=1)))
    for _ in range(60):
        await callers.limiter.acquire(None)
        callers.limiter.release(None)
    await callers.add("a1", "a", takes=10.0)
    await callers.add("a2", "a")
    for number in range(30):
        await callers.add(f"b{number:02}", "b")
    await callers.all_through()
    # a2 arrived before all of b, and so is next as soon as a1 is through.
    after_a1 = next(time for name, time in zip(callers.order, callers.times, strict=True) if name == "a1") + 10.0
    assert callers.times[callers.order.index("a2")] <= after_a1 + 1.0


async def test_a_request_cancelled_while_it_is_requeued_lets_the_next_of_its_company_start() -> None:
    callers = Callers(LocalRateLimiter(Quota(per_minute=60, per_company=1)))
    await callers.limiter.acquire("a")
    await callers.add("a1", "a")
    await callers.add("a2", "a")
    for _ in range(2):
        await callers.limiter.acquire(None)
        callers.limiter.release(None)
    # There is a place at the company now, but not yet in the minute.
    callers.limiter.release("a")
    callers.tasks.pop("a1").cancel()
    await callers.all_through()
    assert callers.order == ["a2"]


async def test_background_work_lets_others_go_first_but_not_for_ever() -> None:
    callers = Callers(LocalRateLimiter(Quota(per_minute=60)))
    for _ in range(3):
        await callers.limiter.acquire(None)
        callers.limiter.release(None)
    await callers.add("background", background=True)
    for number in range(300):
        await callers.add(f"{number}")
        await asyncio.sleep(0.5)
    await callers.all_through()
    # It grants 120 within a minute, in the order of arrival, and no more.
    assert callers.order.index("background") == pytest.approx(120, abs=5)


async def test_a_cancelled_waiter_leaves_its_place_to_the_next() -> None:
    callers = Callers(LocalRateLimiter(Quota(per_minute=None, concurrent=1)))
    await callers.add("first", takes=5.0)
    await callers.add("second")
    await callers.add("third")
    callers.tasks.pop("second").cancel()
    await callers.all_through()
    assert (callers.order, now()) == (["first", "third"], 5.0)


async def test_a_request_cancelled_as_it_is_admitted_releases_its_slot() -> None:
    limiter = LocalRateLimiter(Quota(per_minute=2, concurrent=1, per_company=1))
    await limiter.acquire("a")
    waiting = asyncio.create_task(limiter.acquire("a"))
    await asyncio.sleep(30.0)
    limiter.release("a")
    # Admitted by now, but it has not run since.
    assert limiter.in_flight == 1
    waiting.cancel()
    await ticks()
    assert (limiter.in_flight, limiter.in_flight_of("a"), limiter.waiting) == (0, 0, 0)
    # Nor is its request counted: there is one left of two.
    await limiter.acquire("a")
    assert now() == 30.0


QUOTAS = {
    "rate": Quota(per_minute=3, concurrent=None, per_company=None),
    "in flight": Quota(per_minute=None, concurrent=2, per_company=None),
    "company": Quota(per_minute=None, concurrent=None, per_company=1),
    "all": Quota(per_minute=4, concurrent=3, per_company=1),
}


@pytest.mark.parametrize("quota", QUOTAS.values(), ids=QUOTAS.keys())
async def test_a_cancellation_at_any_step_keeps_the_counts_exact(quota: Quota) -> None:
    names = [f"{number}" for number in range(6)]
    for victim, steps in itertools.product(names, range(14)):
        callers = Callers(LocalRateLimiter(quota))
        for name in names:
            await callers.add(name, "ab"[int(name) % 2], takes=1.0)
        for step in range(steps):
            # Every second step lets time pass, so that timers and releases fall on both sides of the cancellation.
            await asyncio.sleep(step % 2)
        cancelled = callers.tasks.pop(victim)
        cancelled.cancel()
        await asyncio.wait([cancelled])
        await callers.all_through()
        assert set(names) - set(callers.order) <= {victim}
        assert peak_per_minute(callers.times) <= (quota.per_minute or 6)


class AnyUse(RuleBasedStateMachine):
    """Whatever is done to a limiter in whatever order, its counts are exact and its bounds hold."""

    QUOTA = Quota(per_minute=6, concurrent=4, per_company=2)
    waiting = Bundle("waiting")

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualTimeLoop()
        self.limiter = LocalRateLimiter(self.QUOTA)
        self.tasks: list[asyncio.Task[None]] = []
        self.granted: list[str | None] = []
        self.times: list[float] = []
        self.reserved = 0

    def run(self, steps: Coroutine[Any, Any, None]) -> None:
        async def run_ready() -> None:
            await steps
            await ticks()

        self.loop.run_until_complete(run_ready())

    @rule(
        target=waiting,
        company_id=st.sampled_from([None, "a", "b"]),
        background=st.booleans(),
        starts_work=st.booleans(),
    )
    def arrive(self, company_id: str | None, *, background: bool, starts_work: bool) -> asyncio.Task[None]:
        async def enter() -> None:
            await self.limiter.acquire(company_id, background=background, starts_work=starts_work)
            self.granted.append(company_id)
            self.times.append(self.loop.time())

        async def arrive() -> None:
            self.tasks.append(self.loop.create_task(enter()))

        self.run(arrive())
        return self.tasks[-1]

    @rule(task=consumes(waiting))
    def cancel(self, task: asyncio.Task[None]) -> None:
        async def cancel() -> None:
            task.cancel()

        self.run(cancel())

    @rule(task=consumes(waiting), which=st.integers(0, 9))
    def cancel_as_a_place_gets_free(self, task: asyncio.Task[None], which: int) -> None:
        async def both() -> None:
            if self.granted:
                self.limiter.release(self.granted.pop(which % len(self.granted)))
            task.cancel()

        self.run(both())

    @rule(task=consumes(waiting), seconds=st.sampled_from([0.001, 10.0, 60.001]))
    def cancel_as_time_passes(self, task: asyncio.Task[None], seconds: float) -> None:
        async def cancel() -> None:
            self.loop.call_later(seconds, task.cancel)
            await asyncio.sleep(seconds)

        self.run(cancel())

    @rule(which=st.integers(0, 9))
    def end(self, which: int) -> None:
        async def end() -> None:
            if self.granted:
                self.limiter.release(self.granted.pop(which % len(self.granted)))

        self.run(end())

    @rule(seconds=st.sampled_from([0.1, 1.0, 9.999, 30.0, 60.0, 61.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    @rule(seconds=st.sampled_from([0.5, 20.0, 90.0]), company_id=st.sampled_from([None, "a", "b"]))
    def pause(self, seconds: float, company_id: str | None) -> None:
        async def pause() -> None:
            self.limiter.pause(seconds, company_id)

        self.run(pause())

    @rule(remaining=st.integers(0, 5), seconds=st.sampled_from([5.0, 100.0]))
    def observe(self, remaining: int, seconds: float) -> None:
        async def observe() -> None:
            self.limiter.update_remaining(remaining, seconds)

        self.run(observe())

    @rule(seconds=st.sampled_from([5.0, 100.0]))
    def exhaust(self, seconds: float) -> None:
        async def exhaust() -> None:
            assert self.limiter.mark_exhausted(seconds, None) is self.QUOTA.wait_for_reset

        self.run(exhaust())

    @rule(requests=st.integers(1, 4))
    def reserve(self, requests: int) -> None:
        async def reserve() -> None:
            self.limiter.reserve(requests)

        self.reserved += requests
        self.run(reserve())

    @rule()
    def give_back(self) -> None:
        async def give_back() -> None:
            self.limiter.reserve(-self.reserved)

        self.run(give_back())
        self.reserved = 0

    @invariant()
    def counts_are_exact(self) -> None:
        assert self.limiter.in_flight == len(self.granted)
        for company_id in ("a", "b"):
            assert self.limiter.in_flight_of(company_id) == self.granted.count(company_id)
        assert self.limiter.waiting == sum(not task.done() for task in self.tasks)

    @invariant()
    def bounds_hold(self) -> None:
        assert self.limiter.in_flight <= 4
        assert max(map(self.limiter.in_flight_of, "ab")) <= 2
        assert peak_per_minute(self.times) <= 6

    def teardown(self) -> None:
        """Each waiter is granted a slot in the end, or gets an error that the day's quota is spent."""
        self.run(self.drain())
        pending = [task for task in self.tasks if not task.done()]
        for task in self.tasks:
            if task.done() and not task.cancelled() and task.exception() is not None:
                assert isinstance(task.exception(), QuotaExhaustedError)
        self.loop.close()
        assert pending == []

    async def drain(self) -> None:
        self.limiter.reserve(-self.reserved)
        for _ in range(100):
            while self.granted:
                self.limiter.release(self.granted.pop())
                await ticks()
            if not self.limiter.waiting:
                return
            await asyncio.sleep(10.0)


class AnyUseThroughTheNight(AnyUse):
    """Likewise where a spent day is waited out."""

    QUOTA = Quota(per_minute=6, concurrent=4, per_company=2, wait_for_reset=True)


TestAnyUse = AnyUse.TestCase
TestAnyUseThroughTheNight = AnyUseThroughTheNight.TestCase
TestAnyUse.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
TestAnyUseThroughTheNight.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)


async def test_a_pause_stops_all_calls_and_then_releases_them_one_by_one() -> None:
    callers = Callers(LocalRateLimiter(Quota(per_minute=900)))
    callers.limiter.pause(20.0)
    for number in range(60):
        await callers.add(f"{number}")
    await callers.all_through()
    assert min(callers.times) == pytest.approx(20.0)
    gaps = [later - sooner for sooner, later in itertools.pairwise(callers.times)]
    assert gaps == pytest.approx([60 / 900] * 59)


async def test_a_shorter_pause_does_not_cut_a_longer_one_short() -> None:
    limiter = LocalRateLimiter(OPEN)
    limiter.pause(20.0)
    limiter.pause(5.0)
    await limiter.acquire(None)
    assert now() == 20.0


async def test_a_pause_holds_without_a_rate_too() -> None:
    callers = Callers(LocalRateLimiter(OPEN))
    callers.limiter.pause(3.0)
    await callers.add("one")
    await callers.all_through()
    assert callers.times == [3.0]


async def test_a_spent_day_is_reported_to_all_who_wait_and_all_who_come() -> None:
    limiter = LocalRateLimiter(Quota(per_minute=None, concurrent=1, per_company=1))
    await limiter.acquire("a")
    waiting = [asyncio.create_task(limiter.acquire(company_id)) for company_id in ("a", "b", None)]
    await ticks()
    assert not limiter.mark_exhausted(3600.0, TOMORROW)
    results = [*await asyncio.gather(*waiting, return_exceptions=True), *await asyncio.gather(late(limiter))]
    assert [type(each) for each in results] == [QuotaExhaustedError] * 4
    assert {(each.reset_at, each.retry_after) for each in results if isinstance(each, QuotaExhaustedError)} == {
        (TOMORROW, 3600.0)
    }
    assert (limiter.in_flight, limiter.waiting) == (1, 0)


async def late(limiter: LocalRateLimiter) -> BaseException | None:
    try:
        await limiter.acquire(None)
    except QuotaExhaustedError as error:
        return error
    return None


async def test_the_day_after_a_spent_one_is_open() -> None:
    limiter = LocalRateLimiter(OPEN)
    limiter.mark_exhausted(100.0, None)
    await asyncio.sleep(99.0)
    with pytest.raises(QuotaExhaustedError) as raised:
        await limiter.acquire(None)
    assert raised.value.retry_after == 1.0
    await asyncio.sleep(1.0)
    await limiter.acquire(None)


async def test_a_response_that_reports_requests_opens_a_spent_day_again() -> None:
    limiter = LocalRateLimiter(OPEN)
    limiter.mark_exhausted(100.0, None)
    limiter.update_remaining(500, 100.0)
    await limiter.acquire(None)
    assert now() == 0.0


@pytest.mark.parametrize("wait_for_reset", [False, True])
async def test_a_response_from_before_the_day_was_spent_does_not_open_it(*, wait_for_reset: bool) -> None:
    limiter = LocalRateLimiter(Quota(per_minute=None, wait_for_reset=wait_for_reset))
    for _ in range(5):
        await limiter.acquire(None)
    limiter.mark_exhausted(100.0, None)
    # Three were left when it was given, and four more requests were under way.
    limiter.update_remaining(3, 100.0)
    task = asyncio.create_task(late(limiter))
    await ticks()
    assert limiter.waiting == wait_for_reset
    assert isinstance(await task, QuotaExhaustedError) is not wait_for_reset
    assert now() == (100.0 if wait_for_reset else 0.0)


async def test_a_wait_for_the_next_day_ends_when_quota_is_available_before_it() -> None:
    callers = Callers(LocalRateLimiter(Quota(per_minute=60, wait_for_reset=True)))
    callers.limiter.mark_exhausted(7200.0, TOMORROW)
    for number in range(5):
        await callers.add(f"{number}")
    await asyncio.sleep(50.0)
    callers.limiter.update_remaining(500, 7150.0)
    await callers.all_through()
    assert callers.times == pytest.approx([50.0, 51.0, 52.0, 53.0, 54.0])


async def test_calls_that_requested_it_wait_for_the_next_day_and_none_is_lost() -> None:
    callers = Callers(LocalRateLimiter(Quota(per_minute=600, wait_for_reset=True)))
    assert callers.limiter.mark_exhausted(7200.0, TOMORROW)
    for number in range(50):
        await callers.add(f"{number:02}")
    await callers.all_through()
    assert callers.order == sorted(callers.order)
    assert callers.times[0] == pytest.approx(7200.0)
    assert callers.times[-1] == pytest.approx(7200.0 + 49 * 0.1)


async def test_new_work_waits_while_the_rest_of_the_day_is_needed_for_running_work() -> None:
    callers = Callers(LocalRateLimiter(OPEN))
    callers.limiter.reserve(10)
    callers.limiter.update_remaining(10, 3600.0)
    await callers.add("new", starts_work=True)
    await callers.add("running")
    await ticks()
    assert (callers.order, callers.limiter.waiting) == (["running"], 1)
    callers.limiter.reserve(-4)
    await callers.all_through()
    assert (callers.order, now()) == (["running", "new"], 0.0)


async def test_new_work_continues_when_a_response_reports_more() -> None:
    callers = Callers(LocalRateLimiter(OPEN))
    callers.limiter.reserve(10)
    callers.limiter.update_remaining(5, 3600.0)
    await callers.add("new", starts_work=True)
    callers.limiter.update_remaining(50, 3600.0)
    await callers.all_through()
    assert now() == 0.0


async def test_new_work_continues_after_the_reset_whatever_is_reserved() -> None:
    callers = Callers(LocalRateLimiter(OPEN))
    callers.limiter.reserve(10)
    callers.limiter.update_remaining(5, 3600.0)
    await callers.add("new", starts_work=True)
    await callers.all_through()
    assert callers.times == [3600.0]


async def test_new_work_does_not_wait_where_nothing_else_runs() -> None:
    limiter = LocalRateLimiter(OPEN)
    limiter.update_remaining(1, 3600.0)
    await limiter.acquire(None, starts_work=True)
    assert now() == 0.0


async def test_requests_in_flight_are_subtracted_from_the_reported_quota() -> None:
    limiter = LocalRateLimiter(OPEN)
    limiter.reserve(10)
    for _ in range(5):
        await limiter.acquire(None)
    limiter.update_remaining(14, 3600.0)
    deferred = asyncio.create_task(limiter.acquire(None, starts_work=True))
    await ticks()
    # Of 14 the four others may take four: ten are left, and ten are reserved.
    assert limiter.waiting == 1
    deferred.cancel()


async def test_a_request_cancelled_as_it_is_admitted_does_not_count_against_the_daily_quota() -> None:
    limiter = LocalRateLimiter(Quota(per_minute=None, concurrent=1))
    limiter.reserve(3)
    await limiter.acquire(None)
    limiter.update_remaining(4, 3600.0)
    waiting = asyncio.create_task(limiter.acquire(None))
    await ticks()
    limiter.release(None)
    waiting.cancel()
    await ticks()
    # Four are left, and three of them are reserved.
    await limiter.acquire(None, starts_work=True)
    assert now() == 0.0


async def test_work_that_is_deferred_for_hours_does_not_delay_the_rest() -> None:
    callers = Callers(LocalRateLimiter(Quota(per_minute=60)))
    callers.limiter.reserve(10)
    callers.limiter.update_remaining(5, 3600.0)
    await callers.add("new", starts_work=True)
    for number in range(4):
        await callers.add(f"{number}")
    await callers.all_through()
    assert callers.order == ["0", "1", "2", "3", "new"]
    assert callers.times[3] < 5.0


@pytest.mark.parametrize("wait_for_reset", [False, True])
async def test_each_stop_is_announced_once(*, wait_for_reset: bool) -> None:
    announced: list[tuple[float, str]] = []
    limiter = LocalRateLimiter(
        Quota(wait_for_reset=wait_for_reset), on_pause=lambda *event: announced.append(event[:2])
    )
    for _ in range(3):
        limiter.pause(20.0)
        assert limiter.mark_exhausted(3600.0, TOMORROW) is wait_for_reset
    assert announced == [(20.0, "429 Too Many Requests"), (3600.0, "the daily quota is exhausted")]


async def test_a_pause_between_two_attempts_holds_no_place() -> None:
    quota = Quota(per_minute=None, concurrent=1, per_company=1)
    client, wire = client_of(respond(503, {}, {"Retry-After": "20"}), respond(), random=Random(1), quota=quota)
    first = asyncio.create_task(client.sync.get_latest_sync("company"))
    await asyncio.sleep(1.0)
    await client.sync.get_latest_sync("company")
    assert (len(wire.sent), now()) == (2, 1.0)
    await first
    assert len(wire.sent) == 3


def test_a_rate_limiter_outlives_the_loop_that_it_was_used_in() -> None:
    limiter = LocalRateLimiter(Quota(per_minute=60))

    async def use(requests: int) -> None:
        for _ in range(requests):
            await limiter.acquire(None)
            limiter.release(None)

    async def leave() -> None:
        await use(2)
        waiting = asyncio.create_task(limiter.acquire(None))
        await ticks()
        waiting.cancel()

    run_in_virtual_time(leave())
    run_in_virtual_time(use(3), limit=10.0)
    assert (limiter.in_flight, limiter.waiting) == (0, 0)


def test_every_request_passes_on_a_loop_whose_short_timers_have_no_time() -> None:
    uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed: pip install '.[test]'")
    with pytest.warns(UserWarning, match="ceiling"):
        quota = Quota(per_minute=60_000, concurrent=None, per_company=None)
    limiter, random, passed = LocalRateLimiter(quota), Random(1), []

    async def one(arrives: float) -> None:
        await asyncio.sleep(arrives)
        await limiter.acquire(None)
        limiter.release(None)
        passed.append(arrives)

    async def rush() -> None:
        await asyncio.gather(*(one(random.uniform(0.0, 0.3)) for _ in range(1800)))

    uvloop.run(rush())
    assert (len(passed), limiter.in_flight, limiter.waiting) == (1800, 0, 0)


async def test_a_company_that_is_done_with_is_forgotten() -> None:
    callers = Callers(LocalRateLimiter(Quota(per_minute=None, per_company=1)))
    for number in range(200):
        await callers.add(f"{number}", f"company-{number % 50}", takes=1.0)
    await callers.all_through()
    assert companies_kept_by(callers.limiter) == set()


async def test_a_pause_of_one_company_stops_that_company_only() -> None:
    callers = Callers(LocalRateLimiter(OPEN))
    callers.limiter.pause(20.0, "a")
    for name in ("a1", "b1", "a2"):
        await callers.add(name, name[0])
    await callers.add("none")
    assert callers.order == ["b1", "none"]
    await callers.all_through()
    assert (callers.order[2:], callers.times[2:]) == (["a1", "a2"], [20.0, 20.0])


async def test_a_shorter_pause_of_a_company_does_not_cut_a_longer_one_short() -> None:
    limiter = LocalRateLimiter(OPEN)
    limiter.pause(20.0, "a")
    limiter.pause(5.0, "a")
    limiter.pause(3.0, "b")
    await limiter.acquire("b")
    assert now() == 3.0
    await limiter.acquire("a")
    assert now() == 20.0


async def test_pauses_of_many_companies_end_each_at_its_time() -> None:
    callers = Callers(LocalRateLimiter(Quota(per_minute=None, per_company=1)))
    for number in range(20):
        callers.limiter.pause(20.0 - number, f"company-{number}")
        await callers.add(f"{number}", f"company-{number}", takes=2.0)
        await callers.add(f"{number} again", f"company-{number}")
    await callers.all_through()
    started = dict(zip(callers.order, callers.times, strict=True))
    assert all(started[f"{number}"] == 20.0 - number for number in range(20))
    assert all(started[f"{number} again"] == 22.0 - number for number in range(20))
    assert companies_kept_by(callers.limiter) == set()


async def test_a_pause_listener_that_raises_is_logged_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: object) -> None:
        raise ValueError("no such dashboard")

    limiter, received = LocalRateLimiter(OPEN, on_pause=fail), list[float]()
    limiter.add_pause_listener(lambda seconds, reason, company_id: received.append(seconds))
    limiter.pause(5.0)
    assert received == [5.0]
    assert "a pause listener raised" in caplog.messages


async def test_a_company_whose_pause_is_over_is_forgotten() -> None:
    limiter = LocalRateLimiter(OPEN)
    for number in range(100):
        limiter.pause(1.0, f"company-{number}")
        await asyncio.sleep(2.0)
    assert companies_kept_by(limiter) == {"company-99"}


async def test_a_request_that_ended_counts_for_a_minute_more() -> None:
    limiter = LocalRateLimiter(Quota(per_minute=2))
    await limiter.acquire(None)
    await limiter.acquire(None)
    await asyncio.sleep(50.0)
    limiter.release(None)
    limiter.release(None)
    ended = now()
    # Either of them may have arrived just before it ended.
    await limiter.acquire(None)
    assert now() == pytest.approx(ended + 60.0, abs=0.01)


async def test_requests_in_flight_that_fill_the_minute_hold_the_next_until_a_minute_after_their_end() -> None:
    callers = Callers(LocalRateLimiter(Quota(per_minute=1)))
    await callers.add("first", takes=500.0)
    await callers.add("second")
    await callers.all_through()
    assert callers.times == [0.0, pytest.approx(560.0, abs=0.01)]


def test_a_request_that_ends_after_its_loop_is_released() -> None:
    limiter = LocalRateLimiter(Quota(per_minute=60))

    async def begin() -> None:
        await limiter.acquire("a")

    run_in_virtual_time(begin())
    limiter.release("a")
    assert limiter.in_flight == 0
