import asyncio
import math
import sys
from collections.abc import Awaitable, Callable
from random import Random

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from codat_commerce_async._core.operation import Operation
from codat_commerce_async._core.retry import KEY_LIFETIME, CallState, call_with_retries
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


class FakeClock:
    def __init__(self) -> None:
        self.now = 1000.0

    def time(self) -> float:
        return self.now


class Highest(Random):
    """Chance at its worst: every spread is as wide as it can be."""

    def uniform(self, a: float, b: float) -> float:
        return b


def course_of(
    method: str,
    policy: RetryPolicy | None = None,
    *,
    clock: FakeClock | None = None,
    random: Random | None = None,
    until: float | None = None,
    wall_clock: Callable[[], float] = lambda: 0.0,
    key_left: float | None = None,
) -> CallState:
    return CallState(
        Operation("an-operation", method, "/x", object),
        policy or RetryPolicy(),
        clock or FakeClock(),
        random or Highest(),
        until,
        wall_clock=wall_clock,
        key_left=key_left,
    )


def status(code: int, retry_after: float | None = None, *, worded: bool = True) -> StatusError:
    words = ErrorMessage(status_code=code, error="said") if worded else None
    return status_error_class(code)(str(code), None, code, words, retry_after)


def lost() -> TransportError:
    return TransportError("lost")


def unreached() -> TransportError:
    return TransportError("unreached", None, False)


def garbled() -> TransportError:
    return TransportError("garbled", None, True, False)


def untrusted() -> TransportError:
    return TransportError("no valid certificate", None, False, False)


def fails(course: CallState, error: CodatError, *, gate_waits: bool = False) -> bool:
    """Let a request of the course end so; tell whether it goes on."""
    course.began()
    course.ended(error, gate_waits=gate_waits)
    return course.goes_on(error)


# By method: whether it goes on after the first failure, and whether a write is in doubt if it ended there.
FIRST_FAILURES: list[tuple[Callable[[], CodatError], dict[str, tuple[bool, bool]]]] = [
    (lost, {"GET": (True, False), "PUT": (True, False), "POST": (True, True), "DELETE": (False, True)}),
    (unreached, {"GET": (True, False), "PUT": (True, False), "POST": (True, False), "DELETE": (True, False)}),
    (garbled, {"GET": (False, False), "PUT": (False, False), "POST": (False, True), "DELETE": (False, True)}),
    (untrusted, {"GET": (False, False), "PUT": (False, False), "POST": (False, False), "DELETE": (False, False)}),
    (lambda: status(429), {"GET": (True, False), "PUT": (True, False), "POST": (True, False), "DELETE": (True, False)}),
    *(
        (lambda code=code: status(code, worded=False), dict.fromkeys(("GET", "PUT", "POST", "DELETE"), (True, False)))
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


@pytest.mark.parametrize(
    ("method", "make", "expected"),
    [
        pytest.param(method, make, expected, id=f"{method}-{make()}")
        for make, table in FIRST_FAILURES
        for method, expected in table.items()
    ],
)
def test_a_first_failure_goes_by_the_table(
    method: str, make: Callable[[], CodatError], expected: tuple[bool, bool]
) -> None:
    course = course_of(method)
    assert (fails(course, make()), course.outcome_unknown) == expected


@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize(
    ("second", "goes_on", "unknown"),
    [
        (lost(), True, True),
        (unreached(), True, True),
        (untrusted(), False, True),
        (garbled(), False, True),
        (status(409), True, True),
        (status(429), True, True),
        (status(408, worded=False), True, True),
        (status(425), True, True),
        (status(500), False, True),
        (status(400), False, False),
        (status(404), False, False),
        (status(422), False, False),
        (status(401), False, True),
        (status(403), False, True),
        (status(302, worded=False), False, True),
        (status(404, worded=False), False, True),
        (QuotaExhaustedError("spent"), False, True),
        (ClientClosedError("closed"), False, True),
    ],
    ids=str,
)
def test_after_a_lost_answer_only_codats_own_word_settles_a_write(
    method: str, second: CodatError, *, goes_on: bool, unknown: bool
) -> None:
    course = course_of(method)
    assert fails(course, lost())
    assert (fails(course, second), course.outcome_unknown) == (goes_on, unknown)


def test_a_write_in_flight_is_in_doubt_and_a_read_is_not() -> None:
    for method, unknown in (("POST", True), ("DELETE", True), ("GET", False), ("PUT", False)):
        course = course_of(method)
        assert not course.outcome_unknown
        course.began()
        assert course.outcome_unknown is unknown


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_the_gate_raises_between_two_tries_is_not_the_last_failure_again(method: str) -> None:
    course = course_of(method)
    assert fails(course, lost())
    # No request began since.
    assert not course.goes_on(QuotaExhaustedError("spent"))
    assert course.outcome_unknown is (method == "POST")


@pytest.mark.parametrize("error", [asyncio.CancelledError(), KeyboardInterrupt(), ValueError(), DecodeError("no")])
def test_nothing_goes_on_after_what_is_no_failure_of_an_exchange(error: BaseException) -> None:
    course = course_of("GET")
    course.began()
    course.ended(lost())
    assert not course.goes_on(error)


def test_the_first_try_counts_too() -> None:
    course = course_of("GET", RetryPolicy(attempts=3))
    assert [fails(course, lost()) for _ in range(3)] == [True, True, False]
    assert not fails(course_of("GET", RetryPolicy.none()), lost())


def test_pauses_double_up_to_the_ceiling_when_chance_is_at_its_worst() -> None:
    course = course_of("GET", RetryPolicy(attempts=8, initial_backoff=0.5, max_backoff=5.0))
    pauses = []
    while fails(course, lost()):
        pauses.append(course.pause)
    assert pauses == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0, 5.0]


def test_pauses_are_spread_over_their_whole_width() -> None:
    course = course_of("GET", RetryPolicy(attempts=2001, max_backoff=1.0, deadline=math.inf), random=Random(7))
    pauses = []
    while fails(course, lost()):
        pauses.append(course.pause)
    settled = pauses[10:]
    assert 0.0 <= min(settled) < 0.01
    assert 0.99 < max(settled) <= 1.0
    assert 0.45 < sum(settled) / len(settled) < 0.55


@given(
    policy=st.builds(
        RetryPolicy,
        attempts=st.integers(1, 10**6),
        initial_backoff=st.floats(0, 1e300),
        max_backoff=st.floats(0, 1e300),
        deadline=st.just(math.inf),
    ),
    tries=st.integers(1, 10**6),
    seed=st.integers(),
)
def test_no_policy_overflows_a_pause(policy: RetryPolicy, tries: int, seed: int) -> None:
    course = course_of("GET", evolve(policy, attempts=10**6 + 1), random=Random(seed))
    course.tries = tries - 1
    assert fails(course, lost())
    assert 0.0 <= course.pause <= policy.max_backoff


@pytest.mark.parametrize("code", [429, 503])
def test_retry_after_is_a_floor_and_spread_a_little(code: int) -> None:
    course = course_of("GET", RetryPolicy(initial_backoff=0.5), random=Random(1))
    pauses = []
    while fails(course, status(code, retry_after=7.0)):
        pauses.append(course.pause)
    assert len(pauses) == 3
    assert all(7.0 <= pause <= 7.5 for pause in pauses)
    assert len(set(pauses)) == 3


def test_a_retry_after_of_zero_is_no_backoff() -> None:
    course = course_of("GET", RetryPolicy(initial_backoff=0.25, max_backoff=20.0))
    for _ in range(3):
        assert fails(course, status(429, retry_after=0.0))
        assert course.pause == 0.25


@pytest.mark.parametrize("code", [429, 503])
def test_a_retry_after_beyond_the_ceiling_is_raised(code: int) -> None:
    policy = RetryPolicy(max_retry_after=120.0, deadline=math.inf)
    assert fails(course_of("GET", policy), status(code, retry_after=120.0))
    assert not fails(course_of("GET", policy), status(code, retry_after=120.001))


def test_what_the_gate_waits_for_is_not_waited_for_twice() -> None:
    course = course_of("GET", RetryPolicy(initial_backoff=0.5, deadline=10.0))
    assert fails(course, status(429, retry_after=7200.0), gate_waits=True)
    assert course.pause == 0.5


def test_a_pause_that_would_outlast_the_deadline_is_not_begun() -> None:
    clock = FakeClock()
    policy = RetryPolicy(attempts=99, initial_backoff=4.0, max_backoff=4.0, deadline=10.0)
    course = course_of("GET", policy, clock=clock)
    assert fails(course, lost())
    clock.now += 6.0
    assert fails(course, lost())
    clock.now += 0.5
    assert not fails(course, lost())


def test_a_pause_that_would_outlast_the_calls_time_is_not_begun() -> None:
    clock = FakeClock()
    policy = RetryPolicy(initial_backoff=2.0)
    assert not fails(course_of("GET", policy, clock=clock, until=clock.now + 2.0), lost())
    assert fails(course_of("GET", policy, clock=clock, until=clock.now + 2.1), lost())
    assert not fails(course_of("GET", policy, clock=clock, until=clock.now + 5.0), status(429, retry_after=5.0))


def test_the_deadline_begins_anew_when_a_429_says_that_nothing_happened() -> None:
    clock = FakeClock()
    course = course_of("POST", RetryPolicy(attempts=9, deadline=10.0), clock=clock)
    assert fails(course, status(429))
    clock.now += 3600.0
    assert fails(course, lost())
    assert course.first_sent_at == clock.now


def test_a_429_after_a_lost_answer_leaves_the_deadline_where_it_was() -> None:
    clock = FakeClock()
    began = clock.now
    course = course_of("POST", RetryPolicy(attempts=9, deadline=10.0), clock=clock)
    assert fails(course, lost())
    assert fails(course, status(429))
    clock.now += 11.0
    assert not fails(course, lost())
    assert course.first_sent_at == began


def test_a_request_in_progress_is_waited_for_by_time_and_not_by_tries() -> None:
    clock = FakeClock()
    course = course_of(
        "POST", RetryPolicy(attempts=2, initial_backoff=0.5, max_backoff=5.0, deadline=60.0), clock=clock
    )
    assert fails(course, lost())
    tries = 0
    while fails(course, status(409)):
        tries += 1
        clock.now += course.pause
    assert 10 < tries < 20
    assert 55.0 < clock.now - 1000.0 <= 60.0
    assert course.outcome_unknown


def test_waiting_for_a_request_in_progress_is_no_flood_even_without_backoff() -> None:
    course = course_of("POST", RetryPolicy(initial_backoff=0.0, max_backoff=0.0), random=Random(1))
    assert fails(course, lost())
    for asked in (None, 0.0):
        assert fails(course, status(409, retry_after=asked))
        assert course.pause >= 0.05


def test_a_key_goes_stale_only_when_its_write_may_have_happened() -> None:
    for error, stale in ((lost(), True), (unreached(), False), (status(429), False)):
        clock = FakeClock()
        course = course_of("POST", RetryPolicy(deadline=math.inf), clock=clock)
        assert fails(course, error)
        clock.now += KEY_LIFETIME
        assert not course.key_is_stale
        clock.now += 1.0
        assert course.key_is_stale is stale
    reading = course_of("GET", clock=(clock := FakeClock()))
    fails(reading, lost())
    clock.now += 2 * KEY_LIFETIME
    assert not reading.key_is_stale


@pytest.mark.parametrize(
    ("loop_passes", "wall_passes", "stale"),
    [
        (1.0, KEY_LIFETIME + 1.0, True),  # suspended: the loop's clock stood still
        (KEY_LIFETIME + 1.0, -3600.0, True),  # the wall clock was set back
        (KEY_LIFETIME - 1.0, KEY_LIFETIME - 1.0, False),
    ],
)
@pytest.mark.parametrize("used_before", [False, True])
def test_the_clock_by_which_more_time_has_passed_decides_how_old_a_key_is(
    loop_passes: float, wall_passes: float, *, stale: bool, used_before: bool
) -> None:
    clock, wall = FakeClock(), FakeClock()
    course = course_of(
        "POST",
        RetryPolicy(deadline=math.inf),
        clock=clock,
        wall_clock=wall.time,
        key_left=KEY_LIFETIME if used_before else None,
    )
    if not used_before:
        assert fails(course, lost())
    clock.now += loop_passes
    wall.now += wall_passes
    assert course.key_is_stale is stale


def test_a_429_makes_no_used_key_young_again() -> None:
    clock = FakeClock()
    course = course_of("POST", RetryPolicy(deadline=math.inf), clock=clock, key_left=10.0)
    assert fails(course, status(429))
    clock.now += 11.0
    assert course.key_is_stale


def attempts_at(*outcomes: object, course: CallState) -> Callable[[], Awaitable[str]]:
    """What comes of one try after another."""
    left = list(outcomes)

    async def attempt() -> str:
        outcome = left.pop(0)
        course.began()
        if isinstance(outcome, CodatError):
            course.ended(outcome)
        if isinstance(outcome, BaseException):
            raise outcome
        course.ended(None)
        return str(outcome)

    return attempt


def ignore(error: CodatError) -> None: ...


@pytest.mark.virtual_time
async def test_the_loop_sleeps_as_long_as_the_course_says_and_tells_why() -> None:
    loop = asyncio.get_running_loop()
    course = course_of("GET", RetryPolicy(initial_backoff=1.0), clock=loop)  # type: ignore[arg-type]
    told: list[CodatError] = []
    first, second = lost(), status(503)
    assert (
        await call_with_retries(attempts_at(first, second, "done", course=course), course, before_pause=told.append)
        == "done"
    )
    assert loop.time() == pytest.approx(1.0 + 2.0)
    assert told == [first, second]


@pytest.mark.virtual_time
async def test_the_last_failure_comes_out_itself() -> None:
    course = course_of("GET", RetryPolicy(attempts=3))
    last = status(503)
    with pytest.raises(StatusError) as caught:
        await call_with_retries(attempts_at(lost(), lost(), last, course=course), course, before_pause=ignore)
    assert caught.value is last
    assert caught.value.__cause__ is None


@pytest.mark.virtual_time
async def test_what_is_no_failure_comes_out_of_a_later_try_at_once() -> None:
    course = course_of("GET")
    with pytest.raises(ValueError, match="a fault"):
        await call_with_retries(
            attempts_at(lost(), ValueError("a fault"), "done", course=course), course, before_pause=ignore
        )
    assert course.tries == 2


@pytest.mark.parametrize("failures", [0, 1, 2])
@pytest.mark.virtual_time
async def test_a_cancellation_in_any_try_is_not_tried_again(failures: int) -> None:
    course = course_of("GET")
    outcomes = [*[lost() for _ in range(failures)], asyncio.CancelledError("stop"), "done"]
    with pytest.raises(asyncio.CancelledError) as caught:
        await call_with_retries(attempts_at(*outcomes, course=course), course, before_pause=ignore)
    assert caught.value.args == ("stop",)
    assert course.tries == failures + 1


@pytest.mark.virtual_time
async def test_a_cancellation_in_a_pause_ends_it_at_once() -> None:
    loop = asyncio.get_running_loop()
    course = course_of("GET", RetryPolicy(initial_backoff=10.0))
    task = asyncio.create_task(repeat_always_lost(course))
    await asyncio.sleep(5.0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert loop.time() == pytest.approx(5.0)
    assert course.tries == 1


async def repeat_always_lost(course: CallState) -> str:
    return await call_with_retries(attempts_at(*(lost() for _ in range(9)), course=course), course, before_pause=ignore)


@pytest.mark.virtual_time
async def test_two_courses_side_by_side_do_not_mix() -> None:
    courses = [course_of("GET", RetryPolicy(attempts=tries, max_backoff=0.1)) for tries in (2, 5)]
    ends = await asyncio.gather(*(repeat_always_lost(course) for course in courses), return_exceptions=True)
    assert [type(end) for end in ends] == [TransportError, TransportError]
    assert [course.tries for course in courses] == [2, 5]


async def test_a_call_that_goes_well_builds_no_loop() -> None:
    course = course_of("GET")
    seen: list[str] = []

    def note(frame: object, event: str, argument: object) -> None:
        module = getattr(frame, "f_globals", {}).get("__name__", "")
        seen.append(str(module).partition(".")[0])

    attempt = attempts_at("done", course=course)
    sys.setprofile(note)
    try:
        await call_with_retries(attempt, course, before_pause=ignore)
    finally:
        sys.setprofile(None)
    assert "codat_commerce_async" in seen
    assert "tenacity" not in seen
