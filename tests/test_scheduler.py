"""The order of looks: learned, never starving anybody, consistent, and cheap."""

import math
from collections.abc import Callable
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from codat_commerce_async.syncing._scheduler import DurationModel, PollScheduler

GAP = 2.0


def cadence(gap: float = GAP) -> PollScheduler[int]:
    return PollScheduler(gap=gap, random=Random(1))


def looks_until(end: float, cadence: PollScheduler[int], item: int = 0) -> list[float]:
    """When a sync that starts now and ends then is looked at, by nobody being in the way."""
    cadence.add(item, 0.0, 0.0)
    looks = []
    while True:
        now = cadence.next_time()
        assert cadence.pop_due(now) == item
        looks.append(now)
        if now >= end:
            cadence.ended(item, now)
            return looks
        cadence.still_running(item, now)


def learned(duration: Callable[[Random], float], syncs: int = 2000) -> DurationModel:
    """What is known after looking at that many, some five times each."""
    durations, chance = DurationModel(), Random(3)
    for _ in range(syncs):
        end, age = duration(chance), 0.0
        while True:
            later = age + max(1.0, age * chance.uniform(0.1, 0.6))
            if later >= end:
                durations.ended(age, later)
                break
            durations.still_running(age, later)
            age = later
    return durations


@pytest.mark.parametrize(
    ("duration", "median", "most"),
    [
        (lambda chance: chance.expovariate(1 / 100.0), 69.3, 300.0),
        (lambda chance: chance.uniform(60.0, 600.0), 330.0, 573.0),
        (lambda chance: chance.lognormvariate(math.log(45.0), 0.9), 45.0, 197.0),
    ],
)
def test_it_learns_how_long_syncs_take(duration: Callable[[Random], float], median: float, most: float) -> None:
    durations = learned(duration)
    assert durations.seconds_left(0.0, 0.5) == pytest.approx(median, rel=0.15)
    assert durations.seconds_left(0.0, 0.05) == pytest.approx(most, rel=0.2)


def test_those_that_still_run_are_not_forgotten_in_what_it_learns() -> None:
    durations = DurationModel()
    for _ in range(100):
        durations.ended(0.0, 10.0)
    quick = durations.seconds_left(0.0, 0.4)
    for _ in range(100):
        durations.still_running(0.0, 500.0)
    assert durations.seconds_left(0.0, 0.4) > 10 * quick


def test_looks_come_where_ends_are_likely() -> None:
    durations = learned(lambda chance: chance.gauss(100.0, 5.0))
    early = durations.next_poll_age(20.0, 1.0) - 20.0
    likely = durations.next_poll_age(95.0, 1.0) - 95.0
    assert likely < early / 3


def test_a_look_is_worth_more_the_longer_one_waits() -> None:
    durations = learned(lambda chance: chance.expovariate(1 / 60.0))
    ages = [durations.next_poll_age(30.0, worth) for worth in (0.01, 0.1, 1.0, 10.0, 100.0)]
    assert ages == sorted(ages)
    # The square root of twice the price by the hazard.
    assert ages[2] - 30.0 == pytest.approx(math.sqrt(2 * 1.0 * 60.0), rel=0.2)


@given(
    last=st.floats(0.0, 1e6),
    worth=st.floats(0.01, 1e4),
    looks=st.lists(st.tuples(st.floats(0.0, 1e4), st.floats(0.0, 1e4), st.booleans()), max_size=30),
)
def test_whatever_was_seen_every_look_is_worth_it_at_last(
    last: float, worth: float, looks: list[tuple[float, float, bool]]
) -> None:
    durations = DurationModel()
    for before, seconds, has_ended in looks:
        (durations.ended if has_ended else durations.still_running)(before, before + seconds)
    age = durations.next_poll_age(last, worth)
    assert last <= age < math.inf
    assert 0.0 <= durations.seconds_left(last, 0.1) < math.inf


@given(end=st.floats(0.0, 1e6), price=st.floats(0.0, 1e3) | st.floats(1e5, 1e9))
@settings(max_examples=50, deadline=None)
def test_an_end_is_seen_before_the_age_has_doubled(end: float, price: float) -> None:
    order = cadence()
    order.set_poll_cost(price, 0.0)
    looks = looks_until(end, order)
    assert looks[-1] <= max(2 * end, 600.0) * 1.03 + 2 * GAP
    assert all(later - sooner >= GAP for sooner, later in pairwise(looks))


def test_an_old_sync_is_looked_at_rarely() -> None:
    order = cadence()
    order.set_poll_cost(0.0, 0.0)
    looks = looks_until(100_000.0, order)
    assert sum(look > 600.0 for look in looks) < 1000
    assert max(later - sooner for sooner, later in pairwise(looks)) > 400.0


def test_a_deadline_is_kept_whatever_a_look_costs() -> None:
    order = cadence()
    order.set_poll_cost(1e6, 0.0)
    order.add(0, 0.0, 0.0, deadline=100.0)
    assert order.next_time() == 100.0


def test_a_hint_puts_a_sync_first() -> None:
    order = cadence()
    for item in range(100):
        order.add(item, 0.0, 0.0)
    order.hint(77, 0.5)
    order.hint(77, 0.6)
    order.hint(1000, 0.6)
    assert order.pop_due(0.5) == 77
    order.still_running(77, 0.5)
    assert order.pop_due(0.5) is None


def test_a_hint_during_a_look_makes_one_more_and_no_second_beside_it() -> None:
    order = cadence()
    order.add(0, 0.0, 0.0)
    now = order.next_time()
    assert order.pop_due(now) == 0
    order.hint(0, now)
    assert order.pop_due(now + 100.0) is None
    order.still_running(0, now + 0.5)
    assert order.pop_due(now + 0.5) is None
    assert order.next_time() == now + 0.5 + GAP
    assert order.pop_due(now + 0.5 + GAP) == 0


def test_hints_keep_the_gap_between_two_looks() -> None:
    order = cadence()
    order.set_poll_cost(1e6, 0.0)
    order.add(0, 0.0, 0.0)
    now, looks = 0.0, []
    while now < 20.0:
        order.hint(0, now)
        if order.pop_due(now) == 0:
            looks.append(now)
            order.still_running(0, now)
        now += 0.02
    assert 9 <= len(looks) <= 11
    assert all(later - sooner >= GAP for sooner, later in pairwise(looks))
    # The last hint of them all is followed by a look.
    assert order.next_time() <= now + GAP


def test_a_hinted_look_that_found_out_nothing_is_made_again() -> None:
    order = cadence()
    order.set_poll_cost(1e6, 0.0)
    order.add(0, 0.0, 0.0)
    order.hint(0, 0.0)
    for now in (0.0, GAP, 2 * GAP):
        assert order.next_time() == now
        assert order.pop_due(now) == 0
        order.defer(0, now)
    assert order.pop_due(3 * GAP) == 0
    order.still_running(0, 3 * GAP)
    assert order.next_time() > 100.0


def test_a_hint_is_no_reason_to_come_earlier_than_the_server_asked() -> None:
    order = cadence()
    order.add(0, 0.0, 0.0)
    now = order.next_time()
    assert order.pop_due(now) == 0
    order.defer(0, now, not_before=now + 30.0)
    order.hint(0, now + 1.0)
    assert order.next_time() == now + 30.0


def test_a_price_that_falls_brings_looks_forward() -> None:
    order = cadence()
    order.set_poll_cost(100.0, 0.0)
    for item in range(50):
        order.add(item, 0.0, 0.0)
    before = order.next_time()
    order.set_poll_cost(0.1, 1.0)
    assert order.next_time() < before / 5


def test_a_price_that_comes_too_soon_is_asked_for_again() -> None:
    order = cadence()
    for item in range(1000):
        order.add(item, 0.0, 0.0)
    order.set_poll_cost(100.0, 10.0)
    before = order._first_due()
    order.set_poll_cost(0.1, 10.1)
    assert order._first_due() == before
    assert order.next_time() == pytest.approx(11.0)
    order.set_poll_cost(0.1, 11.0)
    assert order._first_due() < before
    # Had it changed back by then, there would be nothing to come for.
    order.set_poll_cost(100.0, 11.5)
    order.set_poll_cost(0.1, 11.6)
    assert order.next_time() == order._first_due()


class Looking(RuleBasedStateMachine):
    """Anything that may happen, in any order, as time goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.cadence = cadence()
        self.now = 0.0
        self.waiting: set[int] = set()
        self.looked_at: set[int] = set()
        self.numbers = 0

    @rule(age=st.floats(0.0, 5000.0), left=st.none() | st.floats(0.0, 5000.0))
    def add(self, age: float, left: float | None) -> None:
        deadline = math.inf if left is None else self.now + left
        self.cadence.add(self.numbers, self.now - age, self.now, deadline=deadline)
        self.waiting.add(self.numbers)
        self.numbers += 1

    @rule(seconds=st.floats(0.0, 1000.0))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def wait_for_the_next(self) -> None:
        self.now = max(self.now, min(self.cadence.next_time(), self.now + 1e9))

    @rule()
    def take(self) -> None:
        is_due = self.cadence._first_due() <= self.now
        item = self.cadence.pop_due(self.now)
        assert (item is not None) == is_due
        if item is not None:
            self.waiting.remove(item)
            self.looked_at.add(item)

    @precondition(lambda self: self.looked_at)
    @rule(data=st.data(), found=st.sampled_from(["running", "nothing", "ended", "error"]), later=st.floats(0.0, 100.0))
    def look(self, data: st.DataObject, found: str, later: float) -> None:
        item = data.draw(st.sampled_from(sorted(self.looked_at)))
        self.looked_at.remove(item)
        if found == "ended":
            self.cadence.ended(item, self.now)
        elif found == "error":
            self.cadence.forget(item)
        else:
            note = self.cadence.still_running if found == "running" else self.cadence.defer
            note(item, self.now, not_before=self.now + later - 50.0)
            self.waiting.add(item)

    @precondition(lambda self: self.numbers)
    @rule(data=st.data())
    def hint(self, data: st.DataObject) -> None:
        self.cadence.hint(data.draw(st.integers(0, self.numbers)), self.now)

    @rule(price=st.floats(0.0, 1000.0))
    def set_poll_cost(self, price: float) -> None:
        self.cadence.set_poll_cost(price, self.now)

    @invariant()
    def nobody_is_lost(self) -> None:
        assert len(self.cadence) == len(self.waiting) + len(self.looked_at)
        assert math.isinf(self.cadence._first_due()) == (not self.waiting)
        assert 0.0 <= self.cadence.seconds_left(self.now) < math.inf

    def teardown(self) -> None:
        """Whatever happened, everybody who waits is looked at in the end."""
        for _ in range(len(self.waiting)):
            self.now = max(self.now, self.cadence._first_due())
            item = self.cadence.pop_due(self.now)
            assert item is not None
            self.waiting.remove(item)
        assert not self.waiting


Looking.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
test_whatever_happens_nobody_is_lost = Looking.TestCase


def test_nobody_starves_where_there_are_more_looks_due_than_can_be_made() -> None:
    # Two looks a second for a thousand syncs, one in ten of which never ends.
    order, now, last_look, longest = cadence(), 0.0, {}, 0.0
    order.set_poll_cost(1.0, 0.0)
    for item in range(1000):
        order.add(item, 0.0, 0.0)
        last_look[item] = 0.0
    while now < 6000.0:
        now += 0.5
        taken = order.pop_due(now)
        if taken is None:
            continue
        longest = max(longest, now - last_look[taken])
        last_look[taken] = now
        if taken % 10 and now > 60.0:
            order.ended(taken, now)
        else:
            order.still_running(taken, now)
    assert len(order) == 100
    assert longest < 1000.0


def test_polls_that_find_syncs_running_teach_that_syncs_take_long() -> None:
    def expected(polls: int) -> float:
        """How long a sync that starts now is expected to take, after polls of syncs that all still run."""
        order = cadence()
        for item in range(100):
            order.add(item, 0.0, 0.0)
        for number in range(polls):
            now = order.next_time()
            taken = order.pop_due(now)
            assert taken is not None, number
            order.still_running(taken, now)
        return order.durations.seconds_left(0.0, 0.5)

    assert expected(2000) > 10 * expected(0)


@pytest.mark.parametrize("prices", [(100.0, 0.1), (0.1, 100.0)])
def test_polls_come_in_the_order_of_their_times_after_the_price_has_changed(prices: tuple[float, float]) -> None:
    order, chance, ends = cadence(), Random(7), 3000.0
    order.set_poll_cost(prices[0], 0.0)
    for item in range(500):
        order.add(item, -chance.uniform(0.0, 2000.0), 0.0)
    for item in range(200):
        now = order.next_time()
        assert order.pop_due(now) is not None, item
    order.set_poll_cost(prices[1], 10.0)
    times = []
    while (now := order.next_time()) < ends:
        assert order.pop_due(now) is not None
        times.append(now)
    assert len(times) > 100
    assert times == sorted(times)


def test_a_sync_that_is_followed_no_longer_is_not_expected_to_end() -> None:
    order = cadence()
    order.add(0, 0.0, 0.0)
    assert order.seconds_left(10.0) > 0.0
    order.forget(0)
    assert (order.seconds_left(10.0), order.next_time()) == (0.0, math.inf)
