"""The bounds of a rate limiter without waiting: counted beside a plain record of all that happened."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from codat_commerce_async._core.quota_monitor import ThrottledCompanies
from codat_commerce_async._core.rate_window import DailyQuota, RateWindow, Slots


class AnyRequests(RuleBasedStateMachine):
    """However requests start, end and are taken back, the server counts no more than the quota in any 60 seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.taken: list[float] = []  # starts of those in flight
        self.spans: list[tuple[float, float]] = []

    @initialize(per_minute=st.sampled_from([1, 2, 6, 60]))
    def begin(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self.window = RateWindow(per_minute)

    @rule(at_most=st.integers(1, 80))
    def start(self, at_most: int) -> None:
        for _ in range(at_most):
            if self.window.delay(self.now):
                return
            self.window.take(self.now)
            self.taken.append(self.now)

    @precondition(lambda self: self.taken)
    @rule(which=st.integers(0, 99))
    def end(self, which: int) -> None:
        self.window.end(self.now)
        self.spans.append((self.taken.pop(which % len(self.taken)), self.now))

    @precondition(lambda self: self.taken)
    @rule()
    def take_back(self) -> None:
        self.window.undo()
        self.taken.pop()

    @rule(seconds=st.sampled_from([1e-7, 0.3, 0.999999999, 1.0, 7.1, 30.0, 59.9, 60.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def wait_for_delay(self) -> None:
        delay = self.window.delay(self.now)
        if delay < 1e9:
            self.now += delay
            assert self.window.delay(self.now) == 0.0

    @rule(seconds=st.sampled_from([0.0, 5.0, 100.0]))
    def space(self, seconds: float) -> None:
        self.window.space_from(self.now + seconds)

    @invariant()
    def no_minute_holds_more_at_the_server(self) -> None:
        # Each request may arrive at any moment of its span: the worst is that all that can fall into one minute do.
        spans = [*self.spans, *((start, self.now) for start in self.taken)]
        for _, end in spans:
            assert sum(start < end + 60.0 and end <= other_end for start, other_end in spans) <= self.per_minute


TestAnyRequests = AnyRequests.TestCase
TestAnyRequests.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)


def test_a_delay_that_rounding_cut_short_lets_one_request_pass_and_not_several() -> None:
    window = RateWindow(100)
    for number in range(100):
        window.take(0.0)
        window.end(0.5 if number == 0 else 30.0)
    # Less than a microsecond before the minute is over for the first.
    passed = 0
    while not window.delay(60.501 - 1e-9) and passed < 10:
        window.take(60.501 - 1e-9)
        passed += 1
    assert passed == 1


def test_slots_are_counted_in_total_and_per_company() -> None:
    slots = Slots(concurrent=3, per_company=2)
    assert [slots.try_take(company_id) for company_id in ("a", "a", "a", "b", None)] == [True, True, False, True, False]
    assert (slots.in_flight, slots.full, slots.company_full("a"), slots.company_full("b")) == (3, True, True, False)
    slots.release("a")
    assert (slots.in_flight, slots.of_company("a"), slots.try_take(None)) == (2, 1, True)


def test_the_reported_quota_does_not_include_concurrent_requests() -> None:
    quota = DailyQuota()
    for _ in range(5):
        quota.take()
    quota.update(0.0, 14, 3600.0)
    quota.reserve(10)
    assert quota.shortage_ends(1.0) == 3600.0
    quota.undo()
    assert quota.shortage_ends(1.0) == 0.0


def test_a_shortage_ends_with_the_day() -> None:
    quota = DailyQuota()
    quota.reserve(10)
    quota.update(0.0, 3, 100.0)
    assert (quota.shortage_ends(99.0), quota.shortage_ends(100.0)) == (100.0, 0.0)


def test_an_exhaustion_ends_when_a_response_reports_requests() -> None:
    quota = DailyQuota()
    assert quota.exhaust(100.0, None)
    assert not quota.exhaust(50.0, None)
    assert not quota.update(1.0, 0, 100.0)
    assert quota.update(2.0, 5, 100.0)
    assert quota.exhausted_until == 2.0


def test_one_company_alone_is_no_common_cause_however_often_it_is_throttled() -> None:
    throttled = ThrottledCompanies()
    assert [throttled.add("a", second / 10) for second in range(10)] == [False] * 10


def test_several_companies_at_about_the_same_time_are_a_common_cause() -> None:
    throttled = ThrottledCompanies()
    assert [throttled.add(company_id, 0.1) for company_id in "abc"] == [False, False, True]


def test_a_success_of_a_request_from_before_the_429s_reports_nothing() -> None:
    throttled = ThrottledCompanies()
    throttled.add("a", 1.0)
    throttled.add("b", 1.0)
    throttled.note_success(0.5)
    assert throttled.add("c", 1.5)
    throttled.note_success(1.6)
    assert not throttled.since
