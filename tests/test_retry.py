import asyncio
import math
import sys
from collections.abc import Awaitable, Callable
from random import Random
from types import FrameType
from typing import NamedTuple

import pytest
import tenacity
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from codat_commerce_async._core.idempotency import KEY_LIFETIME
from codat_commerce_async._core.lifecycle import Clock, Lifecycle
from codat_commerce_async._core.operation import Operation
from codat_commerce_async._core.retry import MAX_IN_PROGRESS, RetryState, repeat, retrying
from codat_commerce_async.errors import (
    ClientClosedError,
    CodatError,
    DecodeError,
    QuotaExhaustedError,
    StatusError,
    TransportError,
    status_error_class,
)
from codat_commerce_async.models.error_message import ErrorMessage
from codat_commerce_async.policies import RetryPolicy
from tests.support.cases import all_cases


class FakeClock(Clock):
    """The clocks of the event loop and of the machine, which tests set apart from each other."""

    def __init__(self) -> None:
        super().__init__(Lifecycle(), lambda: self.wall)
        self.loop = 1000.0
        self.wall = 0.0

    def time(self) -> float:
        return self.loop


class Highest(Random):
    """Randomness at its worst: each jitter is as large as it can be."""

    def uniform(self, a: float, b: float) -> float:
        return b


def state_of(
    method: str,
    policy: RetryPolicy | None = None,
    *,
    clock: Clock | None = None,
    random: Random | None = None,
    until: float | None = None,
    key_valid_for: float | None = None,
) -> RetryState:
    return RetryState(
        Operation("an-operation", method, "/x", object),
        policy or RetryPolicy(),
        clock or FakeClock(),
        random or Highest(),
        until,
        key_valid_for=key_valid_for,
    )


def status(code: int, retry_after: float | None = None, *, has_error_body: bool = True) -> StatusError:
    words = ErrorMessage(status_code=code, error="refused") if has_error_body else None
    return status_error_class(code)(str(code), None, code, words, retry_after)


def lost() -> TransportError:
    return TransportError("lost")


def unreached() -> TransportError:
    return TransportError("unreached", None, False)


def invalid_response() -> TransportError:
    return TransportError("invalid_response", None, True, False)


def untrusted() -> TransportError:
    return TransportError("no valid certificate", None, False, False)


class Next(NamedTuple):
    """What the strategies decide after a failure: the delay before the next attempt, or None if there is none."""

    delay: float | None

    def __bool__(self) -> bool:
        return self.delay is not None


def decide(state: RetryState, error: BaseException) -> Next:
    """Evaluate the strategies for a failure, in tenacity's order."""
    loop = retrying(state, ignore)
    call = tenacity.RetryCallState(loop, None, (), {})
    call.set_exception((type(error), error, None))
    if not loop.retry(call):
        return Next(None)
    call.upcoming_sleep = loop.wait(call)
    return Next(None if loop.stop(call) else call.upcoming_sleep)


def fails(state: RetryState, error: CodatError, *, limiter_waits: bool = False) -> Next:
    """Let an attempt fail, and return what follows."""
    state.record_start_now()
    requested_delay = error.retry_after if isinstance(error, StatusError) and not limiter_waits else None
    state.fail(error, requested_delay)
    return decide(state, error)


# By method: whether it is retried after the first failure, and whether a write is ambiguous if it is not.
FIRST_FAILURES: list[tuple[Callable[[], CodatError], dict[str, tuple[bool, bool]]]] = [
    (lost, {"GET": (True, False), "PUT": (True, False), "POST": (True, True), "DELETE": (False, True)}),
    (unreached, {"GET": (True, False), "PUT": (True, False), "POST": (True, False), "DELETE": (True, False)}),
    (invalid_response, {"GET": (False, False), "PUT": (False, False), "POST": (False, True), "DELETE": (False, True)}),
    (untrusted, {"GET": (False, False), "PUT": (False, False), "POST": (False, False), "DELETE": (False, False)}),
    (lambda: status(429), {"GET": (True, False), "PUT": (True, False), "POST": (True, False), "DELETE": (True, False)}),
    *(
        (
            lambda code=code: status(code, has_error_body=False),
            dict.fromkeys(("GET", "PUT", "POST", "DELETE"), (True, False)),
        )
        for code in (408, 421, 425)
    ),
    (lambda: status(500), {"GET": (True, False), "PUT": (True, False), "POST": (False, True), "DELETE": (False, True)}),
    (lambda: status(503), {"GET": (True, False), "PUT": (True, False), "POST": (False, True), "DELETE": (False, True)}),
    *(
        (lambda code=code: status(code), dict.fromkeys(("GET", "PUT", "POST", "DELETE"), (False, False)))
        for code in (301, 400, 401, 402, 403, 404, 409, 418, 422)
    ),
    (lambda: ClientClosedError("closed"), dict.fromkeys(("GET", "POST"), (False, False))),
    (lambda: QuotaExhaustedError("spent"), dict.fromkeys(("GET", "POST"), (False, False))),
]


@all_cases(
    ("method", "make", "expected"),
    [(method, make, expected) for make, table in FIRST_FAILURES for method, expected in table.items()],
)
def test_a_first_failure_goes_by_the_table(
    method: str, make: Callable[[], CodatError], expected: tuple[bool, bool]
) -> None:
    state = state_of(method)
    assert (bool(fails(state, make())), state.outcome_unknown) == expected


@all_cases("method", ["POST", "PATCH"])
@all_cases(
    ("second", "retries", "unknown"),
    [
        (lost(), True, True),
        (unreached(), True, True),
        (untrusted(), False, True),
        (invalid_response(), False, True),
        (status(409), True, True),
        (status(429), True, True),
        (status(408, has_error_body=False), True, True),
        (status(425), True, True),
        (status(500), False, True),
        (status(400), False, False),
        (status(404), False, False),
        (status(422), False, False),
        (status(401), False, True),
        (status(403), False, True),
        (status(302, has_error_body=False), False, True),
        (status(404, has_error_body=False), False, True),
        (QuotaExhaustedError("spent"), False, True),
        (ClientClosedError("closed"), False, True),
    ],
)
def test_after_a_lost_response_only_codats_own_word_settles_a_write(
    method: str, second: CodatError, *, retries: bool, unknown: bool
) -> None:
    state = state_of(method)
    assert fails(state, lost())
    assert (bool(fails(state, second)), state.outcome_unknown) == (retries, unknown)


def test_a_write_in_flight_is_ambiguous_and_a_read_is_not() -> None:
    for method, unknown in (("POST", True), ("DELETE", True), ("GET", False), ("PUT", False)):
        state = state_of(method)
        assert not state.outcome_unknown
        state.record_start_now()
        assert state.outcome_unknown is unknown


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_error_of_the_rate_limiter_between_attempts_is_not_taken_for_the_last_failure(method: str) -> None:
    state = state_of(method)
    assert fails(state, lost())
    # No request began since.
    assert not decide(state, QuotaExhaustedError("spent"))
    assert state.outcome_unknown is (method == "POST")


@all_cases("error", [asyncio.CancelledError(), KeyboardInterrupt(), ValueError(), DecodeError("no")])
def test_an_exception_that_is_no_failure_of_a_request_is_not_retried(error: BaseException) -> None:
    state = state_of("GET")
    state.record_start_now()
    state.fail(lost())
    assert not decide(state, error)


def test_the_first_attempt_counts_too() -> None:
    state = state_of("GET", RetryPolicy(attempts=3))
    assert [bool(fails(state, lost())) for _ in range(3)] == [True, True, False]
    assert not fails(state_of("GET", RetryPolicy.none()), lost())


def test_pauses_double_up_to_the_ceiling_when_random_is_at_its_maximum() -> None:
    state = state_of("GET", RetryPolicy(attempts=8, initial_backoff=0.5, max_backoff=5.0))
    pauses: list[float | None] = []
    while following := fails(state, lost()):
        pauses.append(following.delay)
    assert pauses == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0, 5.0]


def test_pauses_are_spread_over_their_whole_width() -> None:
    state = state_of("GET", RetryPolicy(attempts=2001, max_backoff=1.0, deadline=math.inf), random=Random(7))
    pauses: list[float | None] = []
    while following := fails(state, lost()):
        pauses.append(following.delay)
    later_pauses = [pause for pause in pauses[10:] if pause is not None]
    assert 0.0 <= min(later_pauses) < 0.01
    assert 0.99 < max(later_pauses) <= 1.0
    assert 0.45 < sum(later_pauses) / len(later_pauses) < 0.55


@given(
    policy=st.builds(
        RetryPolicy,
        attempts=st.integers(1, 10**6),
        initial_backoff=st.floats(0, 1e300),
        max_backoff=st.floats(0, 1e300),
        deadline=st.just(math.inf),
    ),
    number=st.integers(1, 10**6),
    seed=st.integers(),
)
def test_no_policy_overflows_a_pause(policy: RetryPolicy, number: int, seed: int) -> None:
    state = state_of("GET", evolve(policy, attempts=10**6 + 1), random=Random(seed))
    state.attempt_count = number - 1
    [delay] = fails(state, lost())
    assert delay is not None
    assert 0.0 <= delay <= policy.max_backoff


@pytest.mark.parametrize("code", [429, 503])
def test_retry_after_is_a_floor_and_spread_a_little(code: int) -> None:
    state = state_of("GET", RetryPolicy(initial_backoff=0.5), random=Random(1))
    pauses: list[float | None] = []
    while following := fails(state, status(code, retry_after=7.0)):
        pauses.append(following.delay)
    assert len(pauses) == 3
    assert all(pause is not None and 7.0 <= pause <= 7.5 for pause in pauses)
    assert len(set(pauses)) == 3


def test_a_retry_after_of_zero_is_no_backoff() -> None:
    state = state_of("GET", RetryPolicy(initial_backoff=0.25, max_backoff=20.0))
    for _ in range(3):
        assert fails(state, status(429, retry_after=0.0)) == (0.25,)


@pytest.mark.parametrize("code", [429, 503])
def test_a_retry_after_beyond_the_ceiling_is_raised(code: int) -> None:
    policy = RetryPolicy(max_retry_after=120.0, deadline=math.inf)
    assert fails(state_of("GET", policy), status(code, retry_after=120.0))
    assert not fails(state_of("GET", policy), status(code, retry_after=120.001))


def test_a_wait_of_the_rate_limiter_is_not_added_to_the_delay() -> None:
    state = state_of("GET", RetryPolicy(initial_backoff=0.5, deadline=10.0))
    assert fails(state, status(429, retry_after=7200.0), limiter_waits=True) == (0.5,)


def test_a_pause_that_would_outlast_the_deadline_is_not_started() -> None:
    clock = FakeClock()
    policy = RetryPolicy(attempts=99, initial_backoff=4.0, max_backoff=4.0, deadline=10.0)
    state = state_of("GET", policy, clock=clock)
    assert fails(state, lost())
    clock.loop += 6.0
    assert fails(state, lost())
    clock.loop += 0.5
    assert not fails(state, lost())


def test_a_pause_that_would_outlast_the_calls_time_is_not_started() -> None:
    clock = FakeClock()
    policy = RetryPolicy(initial_backoff=2.0)
    assert not fails(state_of("GET", policy, clock=clock, until=clock.loop + 2.0), lost())
    assert fails(state_of("GET", policy, clock=clock, until=clock.loop + 2.1), lost())
    assert not fails(state_of("GET", policy, clock=clock, until=clock.loop + 5.0), status(429, retry_after=5.0))


def test_the_deadline_counts_from_the_first_attempt_also_after_a_429() -> None:
    clock = FakeClock()
    state = state_of("POST", RetryPolicy(attempts=9, deadline=180.0), clock=clock)
    assert fails(state, status(429, retry_after=100.0))
    clock.loop += 100.0
    assert not fails(state, status(429, retry_after=100.0))
    assert fails(state, status(429, retry_after=79.0))


def test_a_requested_wait_for_the_daily_quota_is_no_part_of_the_deadline() -> None:
    clock = FakeClock()
    state = state_of("POST", RetryPolicy(attempts=9, deadline=10.0), clock=clock)
    assert fails(state, status(429, retry_after=3600.0), limiter_waits=True)
    clock.loop += 3605.0
    state.exclude_from_deadline(3600.0)
    state.check_deadline()
    assert fails(state, lost())
    clock.loop += 5.0
    assert not fails(state, lost())


@pytest.mark.parametrize(("passed", "raises"), [(9.9, False), (10.1, True)])
def test_an_attempt_that_the_rate_limiter_delays_beyond_the_deadline_is_not_made(
    passed: float, *, raises: bool
) -> None:
    clock = FakeClock()
    state = state_of("GET", RetryPolicy(deadline=10.0), clock=clock)
    state.check_deadline()
    error = lost()
    assert fails(state, error)
    clock.loop += passed
    if not raises:
        state.check_deadline()
        return
    with pytest.raises(TransportError) as caught:
        state.check_deadline()
    assert caught.value is error
    assert not decide(state, error)


@pytest.mark.parametrize(("deadline", "bound"), [(60.0, 60.0), (math.inf, MAX_IN_PROGRESS)])
def test_a_request_in_progress_is_polled_for_by_time_and_not_by_attempts(deadline: float, bound: float) -> None:
    clock = FakeClock()
    state = state_of(
        "POST", RetryPolicy(attempts=2, initial_backoff=0.5, max_backoff=5.0, deadline=deadline), clock=clock
    )
    assert fails(state, lost())
    polls = 0
    while following := fails(state, status(409)):
        assert following.delay is not None
        polls += 1
        clock.loop += following.delay
    assert bound / 6 < polls < bound / 3
    assert bound - 5.0 < clock.loop - 1000.0 <= bound
    assert state.outcome_unknown


def test_polls_of_a_request_in_progress_leave_the_other_attempts_bounded() -> None:
    state = state_of("POST", RetryPolicy(attempts=3))
    assert fails(state, lost())
    for _ in range(4):
        assert fails(state, status(409))
    assert fails(state, lost())
    assert fails(state, status(409))
    assert not fails(state, lost())


def test_waiting_for_a_request_in_progress_is_no_flood_even_without_backoff() -> None:
    state = state_of("POST", RetryPolicy(initial_backoff=0.0, max_backoff=0.0), random=Random(1))
    assert fails(state, lost())
    for requested_delay in (None, 0.0):
        [delay] = fails(state, status(409, retry_after=requested_delay))
        assert delay is not None
        assert delay >= 0.05


def test_a_key_goes_stale_only_when_its_write_may_have_happened() -> None:
    for error, stale in ((lost(), True), (unreached(), False), (status(429), False)):
        clock = FakeClock()
        state = state_of("POST", RetryPolicy(deadline=math.inf), clock=clock)
        assert fails(state, error)
        clock.loop += KEY_LIFETIME
        assert not state.key_is_stale
        clock.loop += 1.0
        assert state.key_is_stale is stale
    reading = state_of("GET", clock=(clock := FakeClock()))
    fails(reading, lost())
    clock.loop += 2 * KEY_LIFETIME
    assert not reading.key_is_stale


@all_cases(
    ("loop_passes", "wall_passes", "stale"),
    [
        (1.0, KEY_LIFETIME + 1.0, True),  # suspended: the loop's clock stood still
        (KEY_LIFETIME + 1.0, -3600.0, True),  # the wall clock was set back
        (KEY_LIFETIME - 1.0, KEY_LIFETIME - 1.0, False),
    ],
)
@all_cases("used_before", [False, True])
def test_the_clock_by_which_more_time_has_passed_decides_how_old_a_key_is(
    loop_passes: float, wall_passes: float, *, stale: bool, used_before: bool
) -> None:
    clock = FakeClock()
    state = state_of(
        "POST",
        RetryPolicy(deadline=math.inf),
        clock=clock,
        key_valid_for=KEY_LIFETIME if used_before else None,
    )
    if not used_before:
        assert fails(state, lost())
    clock.loop += loop_passes
    clock.wall += wall_passes
    assert state.key_is_stale is stale


def test_a_429_makes_no_used_key_young_again() -> None:
    clock = FakeClock()
    state = state_of("POST", RetryPolicy(deadline=math.inf), clock=clock, key_valid_for=10.0)
    assert fails(state, status(429))
    clock.loop += 11.0
    assert state.key_is_stale


def attempts_at(*outcomes: object, state: RetryState) -> Callable[[], Awaitable[str]]:
    """The results of consecutive attempts."""
    left = list(outcomes)

    async def attempt() -> str:
        outcome = left.pop(0)
        state.record_start_now()
        if isinstance(outcome, CodatError):
            state.fail(outcome)
        if isinstance(outcome, BaseException):
            raise outcome
        state.succeed()
        return str(outcome)

    return attempt


def ignore(error: CodatError, seconds: float) -> None: ...


async def call_with_retries(
    attempt: Callable[[], Awaitable[str]], state: RetryState, *, before_sleep: Callable[[CodatError, float], None]
) -> str:
    """Make the first attempt as a call does, and repeat it."""
    try:
        return await attempt()
    except CodatError as error:
        first = error
    return await repeat(first, attempt, state, before_sleep=before_sleep)


@pytest.mark.virtual_time
async def test_the_loop_sleeps_for_the_delay_and_reports_the_error() -> None:
    loop = asyncio.get_running_loop()
    state = state_of("GET", RetryPolicy(initial_backoff=1.0), clock=Clock(Lifecycle(), loop.time))
    announced: list[tuple[CodatError, float]] = []
    first, second = lost(), status(503)
    assert (
        await call_with_retries(
            attempts_at(first, second, "done", state=state), state, before_sleep=lambda *event: announced.append(event)
        )
        == "done"
    )
    assert loop.time() == pytest.approx(1.0 + 2.0)
    assert announced == [(first, 1.0), (second, 2.0)]


@pytest.mark.virtual_time
async def test_the_last_failure_comes_out_itself() -> None:
    state = state_of("GET", RetryPolicy(attempts=3))
    last = status(503)
    with pytest.raises(StatusError) as caught:
        await call_with_retries(attempts_at(lost(), lost(), last, state=state), state, before_sleep=ignore)
    assert caught.value is last
    assert caught.value.__cause__ is None


@pytest.mark.virtual_time
async def test_an_exception_that_is_no_failure_ends_a_later_attempt_at_once() -> None:
    state = state_of("GET")
    with pytest.raises(ValueError, match="a fault"):
        await call_with_retries(
            attempts_at(lost(), ValueError("a fault"), "done", state=state), state, before_sleep=ignore
        )
    assert state.attempt_count == 2


@pytest.mark.parametrize("failures", [0, 1, 2])
@pytest.mark.virtual_time
async def test_a_cancellation_in_any_attempt_is_not_retried(failures: int) -> None:
    state = state_of("GET")
    outcomes = [*[lost() for _ in range(failures)], asyncio.CancelledError("stop"), "done"]
    with pytest.raises(asyncio.CancelledError) as caught:
        await call_with_retries(attempts_at(*outcomes, state=state), state, before_sleep=ignore)
    assert caught.value.args == ("stop",)
    assert state.attempt_count == failures + 1


@pytest.mark.virtual_time
async def test_a_cancellation_in_a_pause_ends_it_at_once() -> None:
    loop = asyncio.get_running_loop()
    state = state_of("GET", RetryPolicy(initial_backoff=10.0))
    task = asyncio.create_task(repeat_always_lost(state))
    await asyncio.sleep(5.0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert loop.time() == pytest.approx(5.0)
    assert state.attempt_count == 1


async def repeat_always_lost(state: RetryState) -> str:
    return await call_with_retries(attempts_at(*(lost() for _ in range(9)), state=state), state, before_sleep=ignore)


@pytest.mark.virtual_time
async def test_the_states_of_two_concurrent_calls_do_not_mix() -> None:
    states = [state_of("GET", RetryPolicy(attempts=number, max_backoff=0.1)) for number in (2, 5)]
    ends = await asyncio.gather(*(repeat_always_lost(state) for state in states), return_exceptions=True)
    assert [type(end) for end in ends] == [TransportError, TransportError]
    assert [state.attempt_count for state in states] == [2, 5]


@pytest.mark.parametrize(("outcomes", "driven"), [(["done"], False), ([lost(), "done"], True)])
@pytest.mark.virtual_time
async def test_tenacity_drives_the_retries_and_not_the_first_attempt(outcomes: list[object], *, driven: bool) -> None:
    state = state_of("GET")
    seen: set[tuple[str, str]] = set()

    def note(frame: FrameType, event: str, argument: object) -> None:
        module = str(frame.f_globals.get("__name__", ""))
        seen.add((module.partition(".")[0], frame.f_code.co_qualname))

    attempt = attempts_at(*outcomes, state=state)
    sys.setprofile(note)
    try:
        await call_with_retries(attempt, state, before_sleep=ignore)
    finally:
        sys.setprofile(None)
    assert any(module == "codat_commerce_async" for module, _ in seen)
    decisions = {"AsyncRetrying.__call__", "retry_if_exception.__call__", "stop_any.__call__"}
    assert ({name for module, name in seen if module == "tenacity"} >= decisions) is driven


def test_the_strategies_are_values_of_tenacity_and_can_be_combined_with_its_own() -> None:
    state = state_of("GET", RetryPolicy(attempts=2))
    loop = retrying(state, ignore)
    assert isinstance(loop, tenacity.AsyncRetrying)
    assert isinstance(loop.retry, tenacity.retry_if_exception)
    assert isinstance(loop.stop, tenacity.stop_any)
    stop = loop.stop | tenacity.stop_after_attempt(1)
    error = lost()
    state.record_start_now()
    state.fail(error)
    call = tenacity.RetryCallState(loop, None, (), {})
    call.set_exception((TransportError, error, None))
    call.upcoming_sleep = loop.wait(call)
    assert (loop.retry(call), loop.wait(call), loop.stop(call), stop(call)) == (True, 0.5, False, True)


def test_the_strategies_change_nothing() -> None:
    state = state_of("GET", RetryPolicy(attempts=2))
    assert [fails(state, error := lost()), decide(state, error), decide(state, error)] == [(0.5,)] * 3


@pytest.mark.virtual_time
async def test_a_failure_draws_one_random_number() -> None:
    class Counting(Random):
        draws = 0

        def uniform(self, a: float, b: float) -> float:
            self.draws += 1
            return b

    random = Counting()
    state = state_of("GET", random=random)
    with pytest.raises(TransportError):
        await repeat_always_lost(state)
    assert random.draws == 4
