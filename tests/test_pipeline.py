import asyncio
import math
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from random import Random
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codat_commerce_async import (
    BadRequestError,
    CodatCommerce,
    CodatError,
    DecodeError,
    Operation,
    OutcomeUnknownError,
    Quota,
    QuotaExhaustedError,
    RateLimitError,
    RequestTimeoutError,
    RetryPolicy,
    ServerError,
    StatusError,
    TransportError,
)
from codat_commerce_async._core.idempotency import KEY_LIFETIME
from codat_commerce_async._core.local_rate_limiter import LocalRateLimiter
from codat_commerce_async._core.transport import Request, Response
from codat_commerce_async.errors import status_error_class
from codat_commerce_async.models.sync import CompanySyncStatus
from codat_commerce_async.simulator.virtual_time import loop_wall_clock, run_in_virtual_time
from tests.benchmarks.structure import files, traced
from tests.support.scripted import KEY, Step, client_of, failing, forever, respond
from tests.support.wire import Response as WireResponse
from tests.support.wire import WireServer

GET = Operation("a-read", "GET", "/companies/{companyId}/things", object)
POST = Operation("a-write", "POST", "/companies/{companyId}/things", object)
DELETE = Operation("a-removal", "DELETE", "/companies/{companyId}", object)
LOST = failing(lambda: TransportError("lost"))
GUID = "0b0f3b6e-7a38-4b7c-9b0e-6d1f2c3a4b5d"


class Longest(Random):
    """A random source that makes every delay as long as possible."""

    def uniform(self, a: float, b: float) -> float:
        return b


def slow(seconds: float, step: Step) -> Step:
    async def play(request: Request) -> object:
        await asyncio.sleep(seconds)
        return step if not callable(step) else await step(request)

    return play  # type: ignore[return-value]  # a step returns a response


class RecordingRateLimiter(LocalRateLimiter):
    """A rate limiter that records its calls."""

    def __init__(self, quota: Quota | None = None) -> None:
        super().__init__(quota or Quota.unlimited())
        self.acquired: list[tuple[str | None, bool, bool]] = []
        self.reported: list[tuple[str, float]] = []

    @property
    def needs_quota_update(self) -> bool:
        """Return True: it always uses the daily quota that responses report."""
        return True

    async def acquire(self, company_id: str | None, *, background: bool = False, starts_work: bool = False) -> None:
        self.acquired.append((company_id, background, starts_work))
        await super().acquire(company_id, background=background, starts_work=starts_work)

    def pause(self, seconds: float, company_id: str | None = None) -> None:
        self.reported.append(("pause" if company_id is None else f"pause {company_id}", seconds))
        super().pause(seconds, company_id)

    def mark_exhausted(self, seconds: float, reset_at: datetime | None) -> bool:
        self.reported.append(("exhaust", seconds))
        return super().mark_exhausted(seconds, reset_at)

    def update_remaining(self, remaining: int, seconds_to_reset: float, age: float = 0.0) -> None:
        self.reported.append((f"observe {remaining}", seconds_to_reset))
        super().update_remaining(remaining, seconds_to_reset, age)


async def test_a_response_comes_with_what_was_around_it() -> None:
    headers = {
        "Date": "Wed, 01 Jul 2026 12:00:00 GMT",
        "X-Correlation-Id": "c0ffee",
        "X-Rate-Limit-Limit": "1000",
        "X-Rate-Limit-Remaining": "12",
    }
    codat, transport = client_of(respond(201, {"a": 1}, headers))
    response = await codat.send(POST, "c", body={"b": 2})
    assert (response.value, response.status, response.correlation_id) == ({"a": 1}, 201, "c0ffee")
    assert response.headers["x-rate-limit-limit"] == "1000"
    assert response.server_time == datetime(2026, 7, 1, 12, tzinfo=UTC)
    assert response.rate_limit is not None
    assert (response.rate_limit.limit, response.rate_limit.remaining) == (1000, 12)
    assert codat.rate_limit is not None
    assert codat.rate_limit.remaining == 12
    assert response.idempotency_key == transport.sent[0].key
    [attempt] = response.attempts
    assert (attempt.number, attempt.status, attempt.result) == (1, 201, "ok")


async def test_without_a_response_there_is_no_quota_to_report() -> None:
    codat, _ = client_of(LOST, retry=RetryPolicy.none())
    with pytest.raises(TransportError):
        await codat.call(GET, "c")
    assert codat.rate_limit is None


async def test_the_query_leaves_out_what_is_none_and_quotes_the_rest() -> None:
    codat, transport = client_of(respond())
    await codat.call(GET, "c", query={"page": 2, "query": "name=a&b > c", "orderBy": None, "x": ""})
    assert transport.sent[0].target == "/companies/c/things?page=2&query=name%3Da%26b%20%3E%20c&x="


async def test_only_writes_carry_a_key_and_only_bodies_a_type() -> None:
    codat, transport = client_of(respond())
    await codat.call(GET, "c")
    await codat.call(POST, "c")
    await codat.call(POST, "c", body=[])
    get, post, post_body = transport.sent
    assert get.key is None
    assert UUID(post.key).version == 4
    assert [sent.headers.get("Content-Type") for sent in transport.sent] == [None, None, "application/json"]
    assert [sent.body for sent in (get, post, post_body)] == [None, None, b"[]"]


async def test_keys_come_from_the_clients_own_random_source() -> None:
    keys = []
    for _ in range(2):
        codat, transport = client_of(respond(), random=Random(7))
        await codat.call(POST, "c")
        keys.append(transport.sent[0].key)
    assert keys[0] == keys[1]


async def test_headers_of_ones_own_are_sent_with_every_attempt() -> None:
    codat, transport = client_of(LOST, respond(), retry=RetryPolicy(initial_backoff=0.0))
    await codat.call(GET, "c", headers={"traceparent": "00-1"})
    assert [sent.headers["traceparent"] for sent in transport.sent] == ["00-1"] * 2


async def test_the_rate_limiter_is_reported_whose_request_it_is_and_how_urgent() -> None:
    limiter = RecordingRateLimiter()
    codat, _ = client_of(respond(), rate_limiter=limiter)
    await codat.call(GET, "c")
    await codat.call(GET, "c", background=True)
    await codat.call(Operation("x", "GET", "/config/integrations", object))
    await codat.sync.request("c")
    assert limiter.acquired == [("c", False, False), ("c", True, False), (None, False, False), ("c", False, True)]
    assert limiter.in_flight == 0


@pytest.mark.virtual_time
async def test_no_place_at_the_rate_limiter_is_held_while_waiting_for_the_next_attempt() -> None:
    limiter = RecordingRateLimiter(Quota(concurrent=1))
    codat, transport = client_of(
        LOST, respond(), respond(), rate_limiter=limiter, retry=RetryPolicy(initial_backoff=100.0)
    )
    patient = asyncio.ensure_future(codat.call(GET, "patient"))
    await asyncio.sleep(0)
    assert limiter.in_flight == 0
    await codat.call(GET, "other")
    await patient
    assert [sent.target for sent in transport.sent] == [
        "/companies/patient/things",
        "/companies/other/things",
        "/companies/patient/things",
    ]


@pytest.mark.virtual_time
async def test_a_calls_policy_replaces_the_clients() -> None:
    codat, transport = client_of(LOST, retry=RetryPolicy(attempts=2))
    with pytest.raises(TransportError):
        await codat.call(GET, "c", retry=RetryPolicy(attempts=5))
    with pytest.raises(TransportError):
        await codat.call(GET, "c")
    assert len(transport.sent) == 5 + 2


@pytest.mark.virtual_time
async def test_attempts_report_when_how_long_and_their_results() -> None:
    wall = loop_wall_clock()
    start = wall()
    codat, _ = client_of(
        slow(2.0, LOST),
        slow(3.0, respond(503, {"error": "tired"}, {"Retry-After": "60"})),
        slow(4.0, respond(500)),
        retry=RetryPolicy(attempts=3, initial_backoff=10.0, max_backoff=10.0),
        random=Random(3),
        wall_clock=wall,
    )
    with pytest.raises(ServerError) as caught:
        await codat.call(GET, "c")
    attempts = caught.value.attempts
    assert [(each.number, each.status, each.elapsed) for each in attempts] == [
        (1, None, 2.0),
        (2, 503, 3.0),
        (3, 500, 4.0),
    ]
    assert attempts[0].result == "lost"
    assert "tired" in attempts[1].result
    first, second, third = (each.started_at.timestamp() - start for each in attempts)
    assert first == 0.0
    assert 2.0 <= second <= 12.0
    assert second + 3.0 + 60.0 <= third <= second + 3.0 + 70.0


@pytest.mark.virtual_time
async def test_the_time_spent_waiting_for_the_quota_is_reported() -> None:
    codat, _ = client_of(respond(), quota=Quota(per_minute=1, concurrent=None, per_company=None))
    await codat.call(GET, "c")
    response = await codat.send(GET, "c")
    assert response.attempts[0].quota_wait == pytest.approx(60.0, abs=0.01)
    assert response.attempts[0].elapsed == 0.0


@pytest.mark.parametrize("operation", [GET, POST])
@pytest.mark.virtual_time
async def test_a_calls_timeout_bounds_an_exchange(operation: Operation[object]) -> None:
    codat, _ = client_of(forever)
    kind = RequestTimeoutError if operation is GET else OutcomeUnknownError
    with pytest.raises(kind) as caught:
        await codat.call(operation, "c", timeout=7.0)
    assert asyncio.get_running_loop().time() == 7.0
    cause = caught.value if operation is GET else caught.value.__cause__
    assert isinstance(cause, RequestTimeoutError)
    assert cause.call == caught.value.call
    assert cause.operation == operation.name


@pytest.mark.parametrize("operation", [GET, POST])
@pytest.mark.virtual_time
async def test_a_calls_timeout_bounds_the_wait_at_the_rate_limiter(operation: Operation[object]) -> None:
    codat, transport = client_of(forever, quota=Quota(concurrent=1))
    holding = asyncio.ensure_future(codat.call(GET, "c"))
    await asyncio.sleep(1.0)
    with pytest.raises(RequestTimeoutError) as caught:
        await codat.call(operation, "c", timeout=7.0)
    assert asyncio.get_running_loop().time() == 8.0
    assert len(transport.sent) == 1
    assert caught.value.attempts == ()
    holding.cancel()
    await asyncio.gather(holding, return_exceptions=True)


@pytest.mark.virtual_time
async def test_a_calls_timeout_bounds_all_attempts_together() -> None:
    codat, transport = client_of(slow(3.0, LOST), retry=RetryPolicy(attempts=99, initial_backoff=0.1, max_backoff=0.1))
    with pytest.raises(RequestTimeoutError) as caught:
        await codat.call(GET, "c", timeout=10.0)
    assert asyncio.get_running_loop().time() == 10.0
    assert len(transport.sent) == 4
    assert [each.result for each in caught.value.attempts] == ["lost"] * 3


@pytest.mark.parametrize(
    ("options", "policy"),
    [({"timeout": 10.0}, RetryPolicy()), ({}, RetryPolicy(deadline=10.0))],
)
@pytest.mark.virtual_time
async def test_a_pause_that_would_outlast_the_time_is_not_started(
    options: dict[str, float], policy: RetryPolicy
) -> None:
    codat, _ = client_of(slow(1.0, respond(503, {"error": "tired"}, {"Retry-After": "10"})), retry=policy)
    with pytest.raises(ServerError, match="tired") as caught:
        await codat.call(GET, "c", **options)  # type: ignore[arg-type]  # the options are floats here
    assert asyncio.get_running_loop().time() == 1.0
    assert len(caught.value.attempts) == 1


@pytest.mark.parametrize("policy", [RetryPolicy(deadline=180.0), RetryPolicy(attempts=99, deadline=180.0)])
@pytest.mark.parametrize("operation", [GET, POST])
@pytest.mark.virtual_time
async def test_the_deadline_bounds_a_call_also_after_a_429(operation: Operation[object], policy: RetryPolicy) -> None:
    codat, transport = client_of(respond(429, None, {"Retry-After": "100"}), retry=policy, random=Longest())
    with pytest.raises(RateLimitError) as caught:
        await codat.call(operation, "c")
    assert [round(sent.at) for sent in transport.sent] == [0, 100]
    assert len(caught.value.attempts) == 2


@pytest.mark.virtual_time
async def test_the_deadline_bounds_a_call_that_the_429s_of_others_delay() -> None:
    refused = respond(429, None, {"Retry-After": "100", **SPENT})
    codat, transport = client_of(LOST, refused, respond(), retry=RetryPolicy(initial_backoff=10.0, deadline=60.0))
    delayed = asyncio.ensure_future(codat.call(GET, "c"))
    await asyncio.sleep(0)
    with pytest.raises(RateLimitError):
        await codat.call(GET, "other")
    with pytest.raises(TransportError, match="lost"):
        await delayed
    assert len(transport.sent) == 2


@pytest.mark.virtual_time
async def test_the_deadline_bounds_the_wait_for_a_reset_that_only_a_header_reports() -> None:
    wall = loop_wall_clock()
    reset = datetime.fromtimestamp(wall() + 60, UTC).isoformat()
    codat, transport = client_of(
        respond(429, None, {**SPENT, "X-Rate-Limit-Reset": reset}), wall_clock=wall, retry=RetryPolicy(deadline=10.0)
    )
    with pytest.raises(RateLimitError):
        await codat.call(GET, "c")
    assert len(transport.sent) == 1
    assert asyncio.get_running_loop().time() == 0.0


@pytest.mark.virtual_time
async def test_a_requested_wait_for_the_daily_quota_may_pass_the_deadline_of_every_call() -> None:
    wall = loop_wall_clock()
    reset = datetime.fromtimestamp(wall() + 7200, UTC).isoformat()
    codat, transport = client_of(
        LOST,
        respond(429, None, {**SPENT, "X-Rate-Limit-Reset": reset}),
        respond(),
        quota=Quota(per_minute=None, concurrent=None, per_company=None, wait_for_reset=True),
        retry=RetryPolicy(initial_backoff=10.0, deadline=60.0),
        random=Longest(),
        wall_clock=wall,
    )
    delayed = asyncio.ensure_future(codat.call(GET, "c"))
    await asyncio.sleep(0)
    await codat.call(GET, "other")
    await delayed
    assert [round(sent.at) for sent in transport.sent] == [0, 0, 7200, 7200]


@pytest.mark.virtual_time
async def test_attempts_do_not_bound_the_polls_of_our_own_request_in_progress() -> None:
    in_progress = respond(409, {"error": "in progress"})
    policy = RetryPolicy(attempts=2, max_backoff=10.0, deadline=math.inf)
    codat, transport = client_of(LOST, *[in_progress] * 5, LOST, retry=policy)
    with pytest.raises(OutcomeUnknownError):
        await codat.call(POST, "c")
    # The two that were lost are the attempts.
    assert len(transport.sent) == 7
    codat, transport = client_of(LOST, in_progress, retry=policy, random=Longest())
    began = asyncio.get_running_loop().time()
    with pytest.raises(OutcomeUnknownError):
        await codat.call(POST, "c")
    assert 170.0 < transport.sent[-1].at - began <= 181.0
    assert len({sent.key for sent in transport.sent}) == 1


LEFT = {"X-Rate-Limit-Remaining": "900", "X-Rate-Limit-Limit": "1000"}


@pytest.mark.parametrize("headers", [{}, LEFT], ids=["no quota headers", "requests left"])
@pytest.mark.virtual_time
async def test_a_429_of_one_company_pauses_that_company_only(headers: dict[str, str]) -> None:
    codat, transport = client_of(respond(429, None, {"Retry-After": "30", **headers}), respond())
    first = asyncio.ensure_future(codat.call(GET, "c"))
    await asyncio.sleep(1.0)
    same = asyncio.ensure_future(codat.call(POST, "c"))
    await codat.call(GET, "other")
    await asyncio.gather(first, same)
    assert [(sent.target.split("/")[2], sent.at >= 30.0) for sent in transport.sent] == [
        ("c", False),
        ("other", False),
        ("c", True),
        ("c", True),
    ]


@pytest.mark.virtual_time
async def test_a_429_of_several_companies_at_about_the_same_time_pauses_all_companies() -> None:
    refused = respond(429, None, {"Retry-After": "30", **LEFT})
    codat, transport = client_of(refused, refused, refused, respond())
    calls = [asyncio.ensure_future(codat.call(GET, company_id)) for company_id in ("a", "b", "c")]
    await asyncio.sleep(1.0)
    await codat.call(GET, "other")
    await asyncio.gather(*calls)
    assert [sent.at >= 30.0 for sent in transport.sent] == [False] * 3 + [True] * 4


@pytest.mark.virtual_time
async def test_a_request_that_succeeds_after_a_429_shows_that_not_all_are_throttled() -> None:
    refused = respond(429, None, {"Retry-After": "30"})
    codat, transport = client_of(refused, refused, respond(), refused, respond())
    calls = [asyncio.ensure_future(codat.call(GET, company_id)) for company_id in ("a", "b")]
    await asyncio.sleep(0.1)
    await codat.call(GET, "good")
    calls.append(asyncio.ensure_future(codat.call(GET, "c")))
    await asyncio.sleep(0.1)
    await codat.call(GET, "good")
    assert (len(transport.sent), transport.sent[-1].at) == (5, 0.2)
    await asyncio.gather(*calls)


@pytest.mark.virtual_time
async def test_429s_of_several_companies_that_are_far_apart_pause_no_other_company() -> None:
    refused = respond(429, None, {"Retry-After": "30"})
    codat, transport = client_of(refused, refused, refused, respond())
    calls = []
    for company_id in ("a", "b", "c"):
        calls.append(asyncio.ensure_future(codat.call(GET, company_id)))
        await asyncio.sleep(6.0)
    await codat.call(GET, "other")
    assert transport.sent[3].at == 18.0
    await asyncio.gather(*calls)


@pytest.mark.virtual_time
async def test_a_429_of_a_call_without_a_company_pauses_all_companies() -> None:
    codat, transport = client_of(respond(429, None, {"Retry-After": "30"}), respond())
    first = asyncio.ensure_future(codat.call(Operation("of-no-company", "GET", "/companies", object)))
    await asyncio.sleep(1.0)
    await codat.call(GET, "other")
    await first
    assert [sent.at >= 30.0 for sent in transport.sent] == [False, True, True]


@pytest.mark.virtual_time
async def test_a_429_with_nothing_left_of_the_day_pauses_all_companies() -> None:
    codat, transport = client_of(respond(429, None, {"Retry-After": "30", **SPENT}), respond())
    first = asyncio.ensure_future(codat.call(GET, "c"))
    await asyncio.sleep(1.0)
    await codat.call(GET, "other")
    await first
    assert [sent.at >= 30.0 for sent in transport.sent] == [False, True, True]


@pytest.mark.virtual_time
async def test_a_429_that_does_not_report_how_long_pauses_its_company_for_a_moment() -> None:
    limiter = RecordingRateLimiter()
    codat, transport = client_of(respond(429), respond(), rate_limiter=limiter, random=Random(1))
    await codat.call(GET, "c")
    assert limiter.reported == [("pause c", 1.0)]
    assert transport.pauses[0] >= 1.0


@pytest.mark.virtual_time
async def test_a_429_beyond_the_ceiling_pauses_no_longer_than_the_ceiling() -> None:
    limiter = RecordingRateLimiter()
    codat, _ = client_of(respond(429, None, {"Retry-After": "7200"}), rate_limiter=limiter)
    with pytest.raises(RateLimitError):
        await codat.call(GET, "c")
    assert limiter.reported == [("pause c", 120.0)]


SPENT = {"X-Rate-Limit-Remaining": "0", "X-Rate-Limit-Limit": "1000"}


@pytest.mark.virtual_time
async def test_a_spent_day_is_waited_out_when_that_was_requested() -> None:
    wall = loop_wall_clock()
    reset = datetime.fromtimestamp(wall() + 7200, UTC).isoformat()
    codat, transport = client_of(
        respond(429, None, {**SPENT, "X-Rate-Limit-Reset": reset}),
        respond(),
        quota=Quota(per_minute=None, concurrent=None, per_company=None, wait_for_reset=True),
        wall_clock=wall,
    )
    await codat.call(POST, "c")
    assert transport.pauses[0] == pytest.approx(7200.0, abs=2.0)
    assert transport.sent[0].key == transport.sent[1].key


@pytest.mark.virtual_time
async def test_a_day_that_is_nearly_over_is_waited_out() -> None:
    wall = loop_wall_clock()
    reset = datetime.fromtimestamp(wall() + 60, UTC).isoformat()
    codat, transport = client_of(respond(429, None, {**SPENT, "X-Rate-Limit-Reset": reset}), respond(), wall_clock=wall)
    await codat.call(POST, "c")
    assert transport.pauses[0] == pytest.approx(60.0, abs=2.0)


async def test_no_content_is_none_where_anything_may_come() -> None:
    codat, _ = client_of(respond(204, b""), respond(204, b""))
    assert await codat.call(Operation("a-removal", "DELETE", "/companies/{companyId}", object), "c") is None
    with pytest.raises(DecodeError):
        await codat.call(Operation("a-reading", "GET", "/companies/{companyId}", CompanySyncStatus), "c")


@pytest.mark.virtual_time
async def test_a_spent_day_reports_when_there_are_new_requests() -> None:
    wall = loop_wall_clock()
    reset = datetime.fromtimestamp(wall() + 7200, UTC)
    codat, transport = client_of(
        respond(429, None, {**SPENT, "X-Rate-Limit-Reset": reset.isoformat()}), wall_clock=wall
    )
    with pytest.raises(QuotaExhaustedError) as caught:
        await codat.call(POST, "c")
    assert caught.value.reset_at == reset
    assert caught.value.retry_after == 7200.0
    assert [each.status for each in caught.value.attempts] == [429]
    with pytest.raises(QuotaExhaustedError) as caught:
        await codat.call(GET, "c")
    assert caught.value.operation == "a-read"
    assert len(transport.sent) == 1


@pytest.mark.virtual_time
@pytest.mark.parametrize("ahead", [-900 * 86_400, 1800, 900 * 86_400])
async def test_the_reset_is_reached_in_time_whatever_the_local_clock_is(ahead: int) -> None:
    server = loop_wall_clock()
    reset = datetime.fromtimestamp(server() + 7200, UTC)
    headers = {"Date": formatdate(server(), usegmt=True), "X-Rate-Limit-Reset": reset.isoformat()}
    limiter = RecordingRateLimiter()
    codat, _ = client_of(
        respond(200, 1, {**headers, "X-Rate-Limit-Remaining": "41"}),
        respond(429, None, {**SPENT, **headers}),
        rate_limiter=limiter,
        wall_clock=loop_wall_clock(server() + ahead),
    )
    await codat.call(GET, "c")
    assert limiter.reported == [("observe 41", 7200.0)]
    with pytest.raises(QuotaExhaustedError) as caught:
        await codat.call(POST, "c")
    assert (caught.value.reset_at, caught.value.retry_after) == (reset, 7200.0)


@pytest.mark.virtual_time
async def test_a_spent_day_after_a_lost_write_leaves_the_write_ambiguous() -> None:
    codat, _ = client_of(LOST, respond(429, None, {**SPENT, "Retry-After": "7200"}))
    with pytest.raises(OutcomeUnknownError) as caught:
        await codat.call(POST, "c")
    assert isinstance(caught.value.__cause__, QuotaExhaustedError)
    assert caught.value.idempotency_key is not None


@pytest.mark.parametrize("operation", [GET, POST])
@pytest.mark.virtual_time
async def test_a_day_that_another_call_spends_meanwhile_is_reported_once(operation: Operation[object]) -> None:
    codat, transport = client_of(
        LOST, respond(429, None, {**SPENT, "Retry-After": "7200"}), retry=RetryPolicy(initial_backoff=10.0)
    )
    pausing = asyncio.ensure_future(codat.call(operation, "c"))
    await asyncio.sleep(0)
    with pytest.raises(QuotaExhaustedError):
        await codat.call(GET, "other")
    with pytest.raises(QuotaExhaustedError if operation is GET else OutcomeUnknownError):
        await pausing
    assert asyncio.get_running_loop().time() <= 10.0
    assert len(transport.sent) == 2


@pytest.mark.virtual_time
async def test_a_write_is_not_repeated_when_its_key_may_be_forgotten() -> None:
    limiter = RecordingRateLimiter(Quota(per_minute=None, concurrent=1, per_company=None))
    codat, transport = client_of(
        LOST,
        slow(KEY_LIFETIME + 1, respond()),
        rate_limiter=limiter,
        retry=RetryPolicy(initial_backoff=10.0, deadline=math.inf),
    )
    writing = asyncio.ensure_future(codat.call(POST, "c"))
    await asyncio.sleep(0)
    await codat.call(GET, "other")
    with pytest.raises(OutcomeUnknownError, match="forgotten the idempotency key"):
        await writing
    assert len(transport.sent) == 2
    assert limiter.in_flight == 0


class Suspension:
    """A machine's wall clock: it continues while the machine is suspended, which the loop's clock does not."""

    def __init__(self) -> None:
        self.wall = 1_700_000_000.0

    def __call__(self) -> float:
        return self.wall

    def suspend(self) -> None:
        self.wall += 91 * 60.0


@pytest.mark.virtual_time
async def test_a_write_in_flight_during_a_suspension_is_not_repeated_under_a_forgotten_key() -> None:
    machine = Suspension()

    async def suspended(request: Request) -> Response:
        machine.suspend()
        raise TransportError("lost")

    codat, transport = client_of(suspended, respond(), wall_clock=machine)
    with pytest.raises(OutcomeUnknownError, match="forgotten the idempotency key"):
        await codat.call(POST, "c")
    assert len(transport.sent) == 1


@pytest.mark.parametrize("failure", [LOST, respond(409, {"error": "in progress"})], ids=["lost", "in progress"])
@pytest.mark.virtual_time
async def test_a_write_suspended_between_two_attempts_is_not_repeated_under_a_forgotten_key(failure: Step) -> None:
    machine = Suspension()
    codat, transport = client_of(
        LOST, failure, respond(), wall_clock=machine, retry=RetryPolicy(initial_backoff=10.0), random=Longest()
    )
    writing = asyncio.ensure_future(codat.call(POST, "c"))
    await asyncio.sleep(15.0)
    assert len(transport.sent) == 2
    machine.suspend()
    with pytest.raises(OutcomeUnknownError, match="forgotten the idempotency key"):
        await writing
    assert len(transport.sent) == 2


@pytest.mark.virtual_time
async def test_a_write_suspended_in_its_wait_for_the_quota_is_not_repeated_under_a_forgotten_key() -> None:
    machine = Suspension()
    limiter = RecordingRateLimiter(Quota(per_minute=None, concurrent=1, per_company=None))
    codat, transport = client_of(
        LOST, slow(30.0, respond()), rate_limiter=limiter, wall_clock=machine, retry=RetryPolicy(initial_backoff=1.0)
    )
    writing = asyncio.ensure_future(codat.call(POST, "c"))
    await asyncio.sleep(0)
    other = asyncio.ensure_future(codat.call(GET, "other"))
    await asyncio.sleep(20.0)
    machine.suspend()
    await other
    with pytest.raises(OutcomeUnknownError, match="forgotten the idempotency key"):
        await writing
    assert len(transport.sent) == 2
    assert limiter.in_flight == 0


@pytest.mark.virtual_time
async def test_a_key_of_an_earlier_call_is_as_old_as_its_first_use() -> None:
    machine = Suspension()
    limiter = RecordingRateLimiter(Quota(per_minute=None, concurrent=1, per_company=None))
    codat, transport = client_of(
        LOST,
        slow(30.0, respond()),
        respond(200, []),
        rate_limiter=limiter,
        wall_clock=machine,
        retry=RetryPolicy.none(),
    )
    starting = asyncio.ensure_future(codat.sync.start("c"))
    await asyncio.sleep(0.5)
    other = asyncio.ensure_future(codat.call(GET, "other"))
    await asyncio.sleep(20.0)  # the start has come back with its key, and waits for its turn
    machine.suspend()
    await other
    await asyncio.sleep(30.0)
    starting.cancel()
    keys = [sent.key for sent in transport.sent if sent.key is not None]
    assert keys.count(keys[0]) == 1


@pytest.mark.virtual_time
async def test_a_read_continues_after_a_suspension() -> None:
    machine = Suspension()

    async def suspended(request: Request) -> Response:
        machine.suspend()
        raise TransportError("lost")

    codat, transport = client_of(suspended, respond(), wall_clock=machine)
    await codat.call(GET, "c")
    assert len(transport.sent) == 2


@pytest.mark.parametrize(("status", "kind"), [(500, OutcomeUnknownError), (404, StatusError), (429, RateLimitError)])
async def test_a_removal_is_not_repeated_once_it_has_a_response(status: int, kind: type[CodatError]) -> None:
    codat, transport = client_of(respond(status, None, {"Retry-After": "999"}))
    with pytest.raises(kind):
        await codat.call(DELETE, "c")
    assert len(transport.sent) == 1
    assert transport.sent[0].key is None


async def test_the_servers_clock_is_reported_by_its_responses() -> None:
    codat, _ = client_of(respond(500, None, {"Date": "Wed, 01 Jul 2026 12:00:00 GMT"}), wall_clock=lambda: 1000.0)
    with pytest.raises(OutcomeUnknownError) as caught:
        await codat.call(POST, "c")
    assert caught.value.requested_at == datetime(2026, 7, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("date", ["Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 0001 00:00:00 GMT", "soon"])
async def test_a_server_at_the_end_of_the_calendar_breaks_nothing(date: str) -> None:
    moments = iter(range(1000, 2000))
    codat, _ = client_of(LOST, respond(500, None, {"Date": date}), wall_clock=lambda: float(next(moments)))
    with pytest.raises(OutcomeUnknownError) as caught:
        await codat.call(POST, "c", retry=RetryPolicy(initial_backoff=0.0))
    assert caught.value.requested_at is not None
    assert codat.sync.context.clock.server_time(5000.0).tzinfo is UTC


@pytest.mark.parametrize("kind", [ValueError, RuntimeError, asyncio.CancelledError, KeyboardInterrupt])
async def test_a_fault_in_a_transport_comes_out_as_it_is_and_frees_the_rate_limiter(kind: type[BaseException]) -> None:
    limiter = RecordingRateLimiter()

    async def fault(request: Request) -> object:
        raise kind

    codat, transport = client_of(fault, rate_limiter=limiter)  # type: ignore[arg-type]  # it never returns
    with pytest.raises(kind):
        await codat.call(GET, "c")
    assert len(transport.sent) == 1
    assert limiter.in_flight == 0


async def test_an_error_reports_which_call_it_is_about() -> None:
    codat, _ = client_of(respond(400, {"error": "no such field"}))
    with pytest.raises(BadRequestError) as caught:
        await codat.call(POST, "c", idempotency_key=GUID)
    error = caught.value
    assert str(error) == "a-write: 400 Bad Request: no such field"
    assert error.call is not None
    assert (error.operation, error.call.method, error.call.path) == ("a-write", "POST", "/companies/{companyId}/things")
    assert error.idempotency_key == GUID
    assert error.__context__ is error.__cause__ is None


async def test_a_long_word_from_the_server_is_cut_short() -> None:
    codat, _ = client_of(respond(400, {"error": "x" * 100_000}))
    with pytest.raises(BadRequestError) as caught:
        await codat.call(GET, "c")
    assert len(str(caught.value)) < 500


def failure_of(step: Step, operation: Operation[object] = GET) -> CodatError | None:
    async def call() -> None:
        codat, _ = client_of(step, retry=RetryPolicy.none())
        async with codat:
            await codat.call(operation, "c")

    try:
        run_in_virtual_time(call())
    except CodatError as error:
        return error
    return None


bodies = st.binary(max_size=200) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(["error", "correlationId", "statusCode", "validation", "errors", "message", "service"])
            | st.text(),
            inner,
        )
    ),
    max_leaves=8,
)
SLOW_TO_DRAW = settings(suppress_health_check=[HealthCheck.too_slow])


@SLOW_TO_DRAW
@given(status=st.integers(100, 999).filter(lambda status: not 200 <= status < 300), body=bodies)
def test_any_body_with_any_status_is_the_class_of_the_status(status: int, body: object) -> None:
    error = failure_of(respond(status, body))
    assert type(error) is status_error_class(status)
    assert isinstance(error, StatusError)
    assert error.status == status
    assert [attempt.status for attempt in error.attempts] == [status]


@SLOW_TO_DRAW
@given(body=st.binary(max_size=200))
def test_any_bytes_in_a_success_are_a_value_or_a_decode_error(body: bytes) -> None:
    for operation in (GET, Operation("a-sync", "POST", "/companies/{companyId}", CodatShape)):
        error = failure_of(respond(200, body), operation)
        assert error is None or type(error) is DecodeError


CodatShape = tuple[dict[str, int], ...]
headers = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.integers().map(str) | st.just("0")


@SLOW_TO_DRAW
@given(
    status=st.sampled_from([200, 400, 409, 429, 500, 503]),
    values=st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(
            ("Retry-After", "Date", "X-Rate-Limit-Limit", "X-Rate-Limit-Remaining", "X-Rate-Limit-Reset"), headers
        ),
    ),
)
def test_no_header_turns_a_response_into_another_failure(status: int, values: dict[str, str]) -> None:
    error = failure_of(respond(status, None, values))
    if status == 200:
        assert error is None
    elif status != 429:
        assert type(error) is status_error_class(status)
    else:
        assert type(error) in {RateLimitError, QuotaExhaustedError}


@pytest.mark.parametrize("remaining", ["9" * 5000, "-1", "٣", "1e3", ""])
async def test_an_absurd_count_is_no_count(remaining: str) -> None:
    limiter = RecordingRateLimiter()
    reset = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    codat, _ = client_of(
        respond(200, 1, {"X-Rate-Limit-Remaining": remaining, "X-Rate-Limit-Reset": reset}), rate_limiter=limiter
    )
    assert await codat.call(GET, "c") == 1
    assert limiter.reported == []


@pytest.mark.parametrize("reset", [None, "soon", "999", "900000"])
async def test_a_remaining_quota_without_a_reset_time_is_not_reported(reset: str | None) -> None:
    limiter = RecordingRateLimiter()
    headers = {"X-Rate-Limit-Remaining": "41"} | ({"X-Rate-Limit-Reset": reset} if reset else {})
    codat, _ = client_of(respond(200, 1, headers), rate_limiter=limiter, wall_clock=lambda: 1000.0)
    await codat.call(GET, "c")
    assert limiter.reported == []


async def test_the_remaining_daily_quota_is_reported_to_the_rate_limiter() -> None:
    limiter = RecordingRateLimiter()
    headers = {"X-Rate-Limit-Remaining": "41", "X-Rate-Limit-Reset": "4600"}
    codat, _ = client_of(respond(200, 1, headers), rate_limiter=limiter, wall_clock=lambda: 1000.0)
    await codat.call(GET, "c")
    await codat.call(GET, "c")
    assert limiter.reported == [("observe 41", 3600.0)] * 2


@pytest.mark.parametrize("acquired", ["999999999999", "172801"])
async def test_a_wait_of_years_is_no_spent_day(acquired: str) -> None:
    codat, _ = client_of(respond(429, None, {**SPENT, "Retry-After": acquired}))
    with pytest.raises(RateLimitError):
        await codat.call(GET, "c")


def test_a_client_takes_a_quota_or_a_rate_limiter() -> None:
    with pytest.raises(ValueError, match="must not be combined"):
        CodatCommerce(KEY, quota=Quota(), rate_limiter=RecordingRateLimiter())


async def test_closing_a_client_closes_its_transport() -> None:
    codat, transport = client_of(respond())
    async with codat:
        await codat.call(GET, "c")
    assert transport.closed == 1


@pytest.mark.virtual_time
async def test_a_timeout_at_the_rate_limiter_reports_what_was_waited_for() -> None:
    codat, _ = client_of(respond(), respond(), quota=Quota(per_minute=1))
    await codat.call(GET, "c")
    with pytest.raises(RequestTimeoutError, match="still waiting for its turn at the quota"):
        await codat.call(GET, "c", timeout=1.0)


def test_the_repr_of_an_error_is_its_message() -> None:
    assert repr(CodatError("nothing went right")) == "CodatError('nothing went right')"


async def test_a_get_enters_at_most_eight_files_of_the_package() -> None:
    status = WireResponse.json({"companyId": "c", "syncStatusCode": 2000, "syncUtc": "2026-10-27T10:22:43Z"})
    async with WireServer([status, status]) as server, CodatCommerce(KEY, base_url=server.url) as codat:
        entered = files(await traced(lambda: codat.sync.get("c", "s")))
    assert {"resources/sync.py", "_core/pipeline.py", "_core/transport.py", "_core/codec.py"} <= set(entered)
    assert len(entered) <= 8, entered


@pytest.mark.virtual_time
@pytest.mark.parametrize(("reset", "seconds"), [(None, 1.0), (30, 30.0), (-30, 1.0)])
async def test_a_429_without_requests_left_pauses_all_companies_until_the_reset(
    reset: int | None, seconds: float
) -> None:
    clock = loop_wall_clock()
    headers = {"X-Rate-Limit-Remaining": "0"} | ({} if reset is None else {"X-Rate-Limit-Reset": f"{clock() + reset}"})
    codat, _ = client_of(respond(429, None, headers), respond(), wall_clock=clock)
    with pytest.raises(RateLimitError):
        await codat.call(GET, "one", retry=RetryPolicy(attempts=1))
    await codat.call(GET, "another")
    assert asyncio.get_running_loop().time() == pytest.approx(seconds, abs=0.1)
