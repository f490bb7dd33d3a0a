"""The order of polls: learned from durations, consistent, and without starvation; and what a poll costs."""

import math
from collections.abc import Callable
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from codat_commerce_async.syncing._durations import DurationModel
from codat_commerce_async.syncing._scheduler import (
    Objective,
    PollScheduler,
    Schedulable,
    due_age_of_next_poll,
    min_poll_interval,
    poll_cost_when_idle,
    poll_cost_while_starting,
)

INTERVAL = 2.0
# The time between two requests at 900 requests a minute.
SPACING = 60.0 / 900


def new_scheduler(min_interval: float = INTERVAL) -> PollScheduler[Schedulable]:
    return PollScheduler(min_interval=min_interval, random=Random(1))


def jobs(number: int) -> list[Schedulable]:
    return [Schedulable() for _ in range(number)]


def polls_until(end: float, scheduler: PollScheduler[Schedulable]) -> list[float]:
    """Return when a sync that starts at 0 and ends at `end` is polled, if no other sync is in the way."""
    job = Schedulable()
    scheduler.add(job, 0.0, 0.0)
    polls = []
    while True:
        now = scheduler.next_time()
        assert scheduler.pop_due(now) is job
        polls.append(now)
        if now >= end:
            scheduler.ended(job, now)
            return polls
        scheduler.still_running(job, now)


def poll_times(scheduler: PollScheduler[Schedulable], until: float, step: float = 0.5) -> list[float]:
    """Return when the waiting syncs are popped, each once, by a caller that comes every `step` seconds."""
    times, now = [], 0.0
    while now < until:
        while scheduler.pop_due(now) is not None:
            times.append(now)
        now += step
    return times


def learned(duration: Callable[[Random], float], syncs: int = 2000) -> DurationModel:
    """Return a model of this many syncs, polled about five times each."""
    durations, rng = DurationModel(), Random(3)
    for _ in range(syncs):
        end, age = duration(rng), 0.0
        while True:
            later = age + max(1.0, age * rng.uniform(0.1, 0.6))
            if later >= end:
                durations.ended(age, later)
                break
            durations.still_running(age, later)
            age = later
    return durations


@pytest.mark.parametrize(
    ("duration", "median", "most"),
    [
        (lambda rng: rng.expovariate(1 / 100.0), 69.3, 300.0),
        (lambda rng: rng.uniform(60.0, 600.0), 330.0, 573.0),
        (lambda rng: rng.lognormvariate(math.log(45.0), 0.9), 45.0, 197.0),
    ],
)
def test_the_model_learns_how_long_syncs_take(duration: Callable[[Random], float], median: float, most: float) -> None:
    durations = learned(duration)
    assert durations.seconds_left(0.0, 0.5) == pytest.approx(median, rel=0.15)
    assert durations.seconds_left(0.0, 0.05) == pytest.approx(most, rel=0.2)


def test_running_syncs_count_in_the_estimate() -> None:
    durations = DurationModel()
    for _ in range(100):
        durations.ended(0.0, 10.0)
    quick = durations.seconds_left(0.0, 0.4)
    for _ in range(100):
        durations.still_running(0.0, 500.0)
    assert durations.seconds_left(0.0, 0.4) > 10 * quick


def test_polls_come_where_ends_are_likely() -> None:
    durations = learned(lambda rng: rng.gauss(100.0, 5.0))
    early = durations.next_poll_age(20.0, 1.0) - 20.0
    likely = durations.next_poll_age(95.0, 1.0) - 95.0
    assert likely < early / 3


def test_a_poll_is_worth_more_the_longer_it_waits() -> None:
    durations = learned(lambda rng: rng.expovariate(1 / 60.0))
    ages = [durations.next_poll_age(30.0, cost) for cost in (0.01, 0.1, 1.0, 10.0, 100.0)]
    assert ages == sorted(ages)
    # The square root of twice the cost by the hazard.
    assert ages[2] - 30.0 == pytest.approx(math.sqrt(2 * 1.0 * 60.0), rel=0.2)


@given(
    last=st.floats(0.0, 1e6),
    cost=st.floats(0.01, 1e4),
    polls=st.lists(st.tuples(st.floats(0.0, 1e4), st.floats(0.0, 1e4), st.booleans()), max_size=30),
)
def test_for_any_observations_a_poll_is_worth_its_cost_eventually(
    last: float, cost: float, polls: list[tuple[float, float, bool]]
) -> None:
    durations = DurationModel()
    for before, seconds, has_ended in polls:
        (durations.ended if has_ended else durations.still_running)(before, before + seconds)
    age = durations.next_poll_age(last, cost)
    assert last <= age < math.inf
    assert 0.0 <= durations.seconds_left(last, 0.1) < math.inf


@given(end=st.floats(0.0, 1e6), cost=st.floats(0.0, 1e3) | st.floats(1e5, 1e9))
@settings(max_examples=50, deadline=None)
def test_an_end_is_seen_before_the_age_has_doubled(end: float, cost: float) -> None:
    scheduler = new_scheduler()
    scheduler.set_poll_cost(cost, 0.0)
    polls = polls_until(end, scheduler)
    assert polls[-1] <= max(2 * end, 600.0) * 1.03 + 2 * INTERVAL
    assert all(later - sooner >= INTERVAL for sooner, later in pairwise(polls))


def test_an_old_sync_is_polled_rarely() -> None:
    scheduler = new_scheduler()
    scheduler.set_poll_cost(0.0, 0.0)
    polls = polls_until(100_000.0, scheduler)
    assert sum(poll > 600.0 for poll in polls) < 1000
    assert max(later - sooner for sooner, later in pairwise(polls)) > 400.0


def test_a_sync_is_polled_at_its_deadline_whatever_a_poll_costs() -> None:
    scheduler = new_scheduler()
    scheduler.set_poll_cost(1e6, 0.0)
    scheduler.add(Schedulable(), 0.0, 0.0, deadline=100.0)
    assert poll_times(scheduler, 1000.0) == [100.0]


def test_a_notification_puts_a_sync_first() -> None:
    scheduler, added = new_scheduler(), jobs(100)
    for job in added:
        scheduler.add(job, 0.0, 0.0)
    scheduler.poll_now(added[77], 0.5)
    scheduler.poll_now(added[77], 0.6)
    scheduler.poll_now(Schedulable(), 0.6)
    assert scheduler.pop_due(0.5) is added[77]
    scheduler.still_running(added[77], 0.5)
    assert scheduler.pop_due(0.5) is None


def test_a_notified_sync_is_polled_before_those_that_have_been_due_for_longer() -> None:
    scheduler, added = new_scheduler(), jobs(100)
    for job in added:
        scheduler.add(job, 0.0, 0.0)
    now = 1000.0
    # The other cost reschedules all that wait.
    scheduler.poll_now(added[77], now)
    scheduler.set_poll_cost(1e6, now)
    scheduler.poll_now(added[33], now + 1.0)
    assert [scheduler.pop_due(now + 1.0) for _ in range(2)] == [added[77], added[33]]
    others = [scheduler.pop_due(now + 1.0) for _ in range(98)]
    assert set(others) == set(added) - {added[77], added[33]}


def test_a_notification_during_a_poll_causes_one_more_after_it() -> None:
    scheduler, job = new_scheduler(), Schedulable()
    scheduler.add(job, 0.0, 0.0)
    now = scheduler.next_time()
    assert scheduler.pop_due(now) is job
    scheduler.poll_now(job, now)
    assert scheduler.pop_due(now + 100.0) is None
    scheduler.still_running(job, now + 0.5)
    assert scheduler.pop_due(now + 0.5 + 0.99 * INTERVAL) is None
    assert scheduler.pop_due(now + 0.5 + INTERVAL) is job


def test_notifications_keep_the_interval_between_two_polls() -> None:
    scheduler, job = new_scheduler(), Schedulable()
    scheduler.set_poll_cost(1e6, 0.0)
    scheduler.add(job, 0.0, 0.0)
    now, polls = 0.0, []
    while now < 20.0:
        scheduler.poll_now(job, now)
        if scheduler.pop_due(now) is job:
            polls.append(now)
            scheduler.still_running(job, now)
        now += 0.02
    assert 9 <= len(polls) <= 11
    assert all(later - sooner >= INTERVAL for sooner, later in pairwise(polls))
    # The last notification is followed by a poll.
    assert scheduler.pop_due(now + INTERVAL) is job


def test_a_poll_for_a_notification_that_got_no_status_is_repeated() -> None:
    scheduler, job = new_scheduler(), Schedulable()
    scheduler.set_poll_cost(1e6, 0.0)
    scheduler.add(job, 0.0, 0.0)
    scheduler.poll_now(job, 0.0)
    for now in (0.0, INTERVAL, 2 * INTERVAL):
        assert scheduler.pop_due(now - 0.01) is None
        assert scheduler.pop_due(now) is job
        scheduler.defer(job, now)
    assert scheduler.pop_due(3 * INTERVAL) is job
    scheduler.still_running(job, 3 * INTERVAL)
    assert scheduler.pop_due(100.0) is None


def test_a_notification_causes_no_poll_before_the_time_that_the_server_requires() -> None:
    scheduler, job = new_scheduler(), Schedulable()
    scheduler.add(job, 0.0, 0.0)
    now = scheduler.next_time()
    assert scheduler.pop_due(now) is job
    scheduler.defer(job, now, not_before=now + 30.0)
    scheduler.poll_now(job, now + 1.0)
    assert scheduler.pop_due(now + 29.9) is None
    assert scheduler.pop_due(now + 30.0) is job


def first_poll(change_at: float | None, costs: tuple[float, float], syncs: int) -> float:
    """Return when the first of some syncs is polled, by a caller that sets the cost again as `next_time` requires."""
    scheduler = new_scheduler()
    scheduler.set_poll_cost(costs[0], 0.0)
    for job in jobs(syncs):
        scheduler.add(job, 0.0, 0.0)
    now = 0.0
    while scheduler.pop_due(now) is None:
        has_changed = change_at is not None and now >= change_at
        scheduler.set_poll_cost(costs[1] if has_changed else costs[0], now)
        wake_at = scheduler.next_time()
        now = wake_at if change_at is None or has_changed or wake_at < change_at else change_at
    return now


def test_a_cost_that_falls_brings_polls_forward() -> None:
    assert first_poll(1.0, (100.0, 0.1), 50) < first_poll(None, (100.0, 0.1), 50) / 5


def test_a_cost_that_changes_too_soon_takes_effect_later() -> None:
    scheduler = new_scheduler()
    for job in jobs(1000):
        scheduler.add(job, 0.0, 0.0)
    scheduler.set_poll_cost(100.0, 10.0)
    scheduler.set_poll_cost(0.1, 10.1)
    assert scheduler.pop_due(10.9) is None
    assert scheduler.next_time() == pytest.approx(11.0)
    scheduler.set_poll_cost(0.1, 11.0)
    assert scheduler.pop_due(11.0) is not None
    # A cost that has changed back by then needs no second change.
    scheduler.set_poll_cost(100.0, 11.5)
    scheduler.set_poll_cost(0.1, 11.6)
    assert scheduler.pop_due(scheduler.next_time()) is not None


class Polling(RuleBasedStateMachine):
    """Every operation of the scheduler in any order, as time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = new_scheduler()
        self.now = 0.0
        # In the order of their starts, so that the examples are reproducible.
        self.added: list[Schedulable] = []
        self.waiting: list[Schedulable] = []
        self.polled: list[Schedulable] = []

    @rule(age=st.floats(0.0, 5000.0), left=st.none() | st.floats(0.0, 5000.0))
    def add(self, age: float, left: float | None) -> None:
        job = Schedulable()
        deadline = math.inf if left is None else self.now + left
        self.scheduler.add(job, self.now - age, self.now, deadline=deadline)
        self.added.append(job)
        self.waiting.append(job)

    @rule(seconds=st.floats(0.0, 1000.0))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def wait_for_the_next(self) -> None:
        self.now = max(self.now, min(self.scheduler.next_time(), self.now + 1e9))

    @rule()
    def pop(self) -> None:
        next_time = self.scheduler.next_time()
        job = self.scheduler.pop_due(self.now)
        if job is not None:
            assert next_time <= self.now
            self.waiting.remove(job)
            self.polled.append(job)

    @precondition(lambda self: self.polled)
    @rule(data=st.data(), found=st.sampled_from(["running", "nothing", "ended", "error"]), later=st.floats(0.0, 100.0))
    def report(self, data: st.DataObject, found: str, later: float) -> None:
        job = self.polled.pop(data.draw(st.integers(0, len(self.polled) - 1)))
        if found == "ended":
            self.scheduler.ended(job, self.now)
        elif found == "error":
            self.scheduler.forget(job)
        else:
            report = self.scheduler.still_running if found == "running" else self.scheduler.defer
            not_before = self.now + later - 50.0
            report(job, self.now, not_before=not_before)
            self.waiting.append(job)

    @precondition(lambda self: self.added)
    @rule(data=st.data())
    def notify(self, data: st.DataObject) -> None:
        self.scheduler.poll_now(data.draw(st.sampled_from([*self.added, Schedulable()])), self.now)

    @rule(cost=st.floats(0.0, 1000.0))
    def set_poll_cost(self, cost: float) -> None:
        self.scheduler.set_poll_cost(cost, self.now)

    @invariant()
    def no_sync_is_lost(self) -> None:
        assert len(self.scheduler) == len(self.waiting) + len(self.polled)
        assert not (self.waiting and math.isinf(self.scheduler.next_time()))
        assert 0.0 <= self.scheduler.seconds_left(self.now) < math.inf

    def teardown(self) -> None:
        """Whatever happened, every waiting sync is polled in the end."""
        for _ in range(2 * len(self.waiting) + 2):
            self.now = max(self.now, min(self.scheduler.next_time(), self.now + 1e9))
            job = self.scheduler.pop_due(self.now)
            if job is not None:
                self.waiting.remove(job)
            elif self.waiting:
                # It was time for another cost, and the present one is kept.
                self.scheduler.set_poll_cost(1.0, self.now)
        assert not self.waiting


Polling.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
test_whatever_happens_no_sync_is_lost = Polling.TestCase


def test_no_sync_starves_if_more_polls_are_due_than_can_be_made() -> None:
    # Two polls a second for a thousand syncs, one in ten of which never ends.
    scheduler, now, longest = new_scheduler(), 0.0, 0.0
    scheduler.set_poll_cost(1.0, 0.0)
    added = jobs(1000)
    never_end = set(added[::10])
    last_poll = dict.fromkeys(added, 0.0)
    for job in added:
        scheduler.add(job, 0.0, 0.0)
    while now < 6000.0:
        now += 0.5
        popped = scheduler.pop_due(now)
        if popped is None:
            continue
        longest = max(longest, now - last_poll[popped])
        last_poll[popped] = now
        if popped not in never_end and now > 60.0:
            scheduler.ended(popped, now)
        else:
            scheduler.still_running(popped, now)
    assert len(scheduler) == 100
    assert longest < 1000.0


def test_polls_that_find_syncs_running_teach_that_syncs_take_long() -> None:
    def expected(polls: int) -> float:
        """Return the expected duration of a sync after this many polls of syncs that all still run."""
        scheduler = new_scheduler()
        for job in jobs(100):
            scheduler.add(job, 0.0, 0.0)
        for number in range(polls):
            now = scheduler.next_time()
            popped = scheduler.pop_due(now)
            assert popped is not None, number
            scheduler.still_running(popped, now)
        return scheduler.durations.seconds_left(0.0, 0.5)

    assert expected(2000) > 10 * expected(0)


def test_polls_that_find_syncs_ended_teach_how_long_syncs_take() -> None:
    scheduler = new_scheduler()
    before = scheduler.durations.mean
    for job in jobs(100):
        scheduler.add(job, 0.0, 0.0)
    while (now := scheduler.next_time()) < math.inf:
        popped = scheduler.pop_due(now)
        assert popped is not None
        if now < 600.0:
            scheduler.still_running(popped, now)
        else:
            scheduler.ended(popped, now)
    assert before == 60.0
    assert scheduler.durations.mean == pytest.approx(600.0, rel=0.1)


def test_a_poll_without_a_cost_is_not_made_at_once() -> None:
    scheduler = new_scheduler()
    scheduler.set_poll_cost(0.0, 0.0)
    assert due_age_of_next_poll(scheduler.durations, 0.0, 0.01) == pytest.approx(1.1, rel=0.1)
    for job in jobs(10):
        scheduler.add(job, 0.0, 0.0)
    assert scheduler.next_time() >= 1.0


@pytest.mark.parametrize("costs", [(100.0, 0.1), (0.1, 100.0)])
def test_polls_come_in_the_order_of_their_times_after_the_cost_has_changed(costs: tuple[float, float]) -> None:
    scheduler, rng, ends = new_scheduler(), Random(7), 3000.0
    scheduler.set_poll_cost(costs[0], 0.0)
    for job in jobs(500):
        scheduler.add(job, -rng.uniform(0.0, 2000.0), 0.0)
    for number in range(200):
        now = scheduler.next_time()
        assert scheduler.pop_due(now) is not None, number
    scheduler.set_poll_cost(costs[1], 10.0)
    times = []
    while (now := scheduler.next_time()) < ends:
        assert scheduler.pop_due(now) is not None
        times.append(now)
    assert len(times) > 100
    assert times == sorted(times)


def test_a_removed_sync_is_not_in_the_estimate() -> None:
    scheduler, job = new_scheduler(), Schedulable()
    scheduler.add(job, 0.0, 0.0)
    assert scheduler.seconds_left(10.0) > 0.0
    scheduler.forget(job)
    assert (scheduler.seconds_left(10.0), scheduler.next_time()) == (0.0, math.inf)


def costs_of(objective: Objective) -> list[float]:
    return [poll_cost_while_starting(objective, started, 1000 - started, SPACING) for started in (1, 300, 600, 999)]


def test_for_throughput_a_poll_costs_the_same_whenever_it_is_made() -> None:
    costs = costs_of("throughput")
    assert costs == [pytest.approx(costs[0])] * 4


def test_for_latency_a_poll_costs_less_the_fewer_starts_are_left() -> None:
    costs = costs_of("latency")
    assert costs == sorted(costs, reverse=True)
    assert costs[0] > 3 * costs[-1]


@pytest.mark.parametrize("left", [1, 100, 10_000])
def test_a_poll_costs_less_for_latency_than_for_throughput(left: int) -> None:
    latency = poll_cost_while_starting("latency", 0, left, SPACING)
    assert latency < poll_cost_while_starting("throughput", 0, left, SPACING)
    # It delays that many starts by one request each, and costs a few hundredths of that.
    assert 0.01 * left * SPACING < latency < 0.1 * left * SPACING


def test_a_poll_costs_more_where_requests_are_rarer() -> None:
    rare = poll_cost_while_starting("throughput", 500, 500, 1.0)
    assert rare == pytest.approx(poll_cost_while_starting("throughput", 500, 500, 0.1) * 10)
    assert poll_cost_while_starting("throughput", 500, 500, 0.0) == poll_cost_when_idle(500)


def test_an_input_of_unknown_length_is_assumed_to_be_at_its_half() -> None:
    known = poll_cost_while_starting("throughput", 500, 500, SPACING)
    assert poll_cost_while_starting("throughput", 500, None, SPACING) == known


@given(st.sampled_from(["latency", "throughput"]), st.integers(0, 10**7), st.integers(0, 10**7), st.floats(0.0, 10.0))
def test_a_cost_is_bounded_however_long_the_input(
    objective: Objective, started: int, left: int, spacing: float
) -> None:
    cost = poll_cost_while_starting(objective, started, left, spacing)
    least = poll_cost_when_idle(started)
    assert least <= cost <= max(100.0, least)


def test_the_next_poll_is_bounded_by_the_age_whatever_it_costs() -> None:
    durations = DurationModel()
    assert [due_age_of_next_poll(durations, age, 1e9) for age in (0.0, 100.0, 1000.0)] == [600.0, 600.0, 2000.0]
    assert [min_poll_interval(age, 2.0) for age in (0.0, 100.0, 1000.0)] == [2.0, 2.0, 5.0]
