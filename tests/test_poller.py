"""Waiting for the end of a sync: when it polls, which errors it retries, what ends it, and what it raises then."""

import asyncio
import itertools
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest

from codat_commerce_async import CodatCommerce
from codat_commerce_async._core.local_rate_limiter import LocalRateLimiter
from codat_commerce_async._core.transport import Request, Response
from codat_commerce_async.errors import (
    AuthenticationError,
    ClientClosedError,
    CodatError,
    NotFoundError,
    OutcomeUnknownError,
    PermissionDeniedError,
    QuotaExhaustedError,
    SyncFailedError,
    SyncWaitTimeoutError,
    TransportError,
)
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.models.sync import SyncState
from codat_commerce_async.policies import PollPolicy, Quota, RetryPolicy
from codat_commerce_async.simulator import FaultPlan, ScriptedSync, Simulator
from codat_commerce_async.simulator.in_memory import InMemoryTransport
from codat_commerce_async.simulator.virtual_time import loop_wall_clock
from tests.support.scripted import ScriptedTransport, Step, client_of, failing, respond

pytestmark = pytest.mark.virtual_time

# Every 1,000 s, after two polls that are 2 s apart.
RARELY = PollPolicy(initial_delay=1.0, interval=2.0, factor=500.0, max_interval=1000.0, jitter=0.0)
STEADY = PollPolicy(initial_delay=1.0, interval=2.0, factor=2.0, max_interval=20.0, jitter=0.0)
FAILURES = {
    4000: SyncState.CONFIGURATION_ERROR,
    4040: SyncState.COMPANY_UNAVAILABLE,
    4220: SyncState.COMPANY_UNAVAILABLE,
    4260: SyncState.SUBSCRIPTION_LAPSED,
    5000: SyncState.SERVER_ERROR,
    5080: SyncState.DUPLICATE,
    5120: SyncState.DATA_PROCESSING_ERROR,
    5130: SyncState.DATA_WRITE_ERROR,
    4200: SyncState.OTHER_FAILURE,
    5999: SyncState.OTHER_FAILURE,
}


def now() -> float:
    return asyncio.get_running_loop().time()


class Codat:
    """A simulated Codat with one company, and a client of it."""

    def __init__(self, *, poll: PollPolicy = STEADY, quota: Quota | None = None, **options: Any) -> None:
        self.clock = loop_wall_clock()
        self.simulator = Simulator(now=self.clock, **options)
        self.company_id = self.simulator.add_linked_company()
        self.client = CodatCommerce(
            "key",
            transport=InMemoryTransport(self.simulator, latency=lambda: 0.1),
            wall_clock=self.clock,
            random=Random(1),
            poll=poll,
            quota=quota,
        )
        self.sync = self.client.sync

    async def start(self, code: int = 2000, duration: float | None = 30.0) -> SyncHandle:
        self.simulator.script_sync(
            self.company_id, ScriptedSync.never_ends() if duration is None else ScriptedSync(code, duration=duration)
        )
        return await self.sync.start(self.company_id)

    @property
    def sync_id(self) -> str:
        (sync,) = [sync for sync in self.simulator.syncs(self.company_id) if sync.source == "api"]
        return sync.sync_id

    @property
    def polls(self) -> int:
        return sum(seen.method == "GET" for seen in self.simulator.requests)


def status(code: int | None = 1000, text: str = "Started") -> Response:
    return respond(200, {"companyId": "c", "syncId": "s", "syncStatusCode": code, "syncStatus": text})


def young() -> SyncHandle:
    """A sync that was requested just now."""
    return SyncHandle(company_id="c", sync_id="s", requested_at=datetime.fromtimestamp(loop_wall_clock()(), UTC))


def old() -> SyncHandle:
    """A sync that was requested an hour ago."""
    handle = young()
    assert handle.requested_at is not None
    return SyncHandle(company_id="c", sync_id="s", requested_at=handle.requested_at - timedelta(hours=1))


def scripted(*script: Step, poll: PollPolicy = STEADY, seed: int = 1) -> tuple[CodatCommerce, ScriptedTransport]:
    return client_of(*script, poll=poll, wall_clock=loop_wall_clock(), random=Random(seed))


async def polls(
    poll: PollPolicy, *, seconds: float = 100.0, handle: SyncHandle | None = None, seed: int = 1
) -> list[float]:
    """Return when a sync that never ends is polled, in a wait of that many seconds."""
    client, wire = scripted(status(), poll=poll, seed=seed)
    began = now()
    with pytest.raises(SyncWaitTimeoutError):
        await client.sync.wait(handle or young(), timeout=seconds)
    return [sent.at - began for sent in wire.sent]


async def test_the_first_poll_comes_soon_and_the_pauses_grow_up_to_a_cap() -> None:
    assert await polls(STEADY) == [1.0, 3.0, 7.0, 15.0, 31.0, 51.0, 71.0, 91.0, 100.0]


@pytest.mark.parametrize(
    ("poll", "expected"),
    [
        (PollPolicy(initial_delay=5.0, interval=10.0, factor=1.0, jitter=0.0), [5.0, 15.0, 25.0, 30.0]),
        (PollPolicy(initial_delay=0.0, interval=10.0, factor=1.0, jitter=0.0), [0.0, 10.0, 20.0, 30.0]),
        (PollPolicy(initial_delay=0.0, interval=5.0, factor=1.0, jitter=0.0), [0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0]),
        (PollPolicy(initial_delay=0.0, interval=5.0, factor=3.0, jitter=0.0), [0.0, 5.0, 20.0, 30.0]),
        (
            PollPolicy(initial_delay=0.0, interval=5.0, factor=3.0, max_interval=6.0, jitter=0.0),
            [0.0, 5.0, 11.0, 17.0, 23.0, 29.0, 30.0],
        ),
    ],
    ids=["initial_delay", "no initial_delay", "interval", "factor", "max_interval"],
)
async def test_every_knob_of_the_policy_changes_when_it_polls(poll: PollPolicy, expected: list[float]) -> None:
    assert await polls(poll, seconds=30.0) == expected


async def test_jitter_spreads_every_pause_by_its_share() -> None:
    poll = PollPolicy(initial_delay=10.0, interval=10.0, factor=1.0, jitter=0.3)
    firsts, pauses = [], []
    for seed in range(40):
        times = await polls(poll, seconds=100.0, seed=seed)
        firsts.append(times[0])
        pauses += [later - sooner for sooner, later in itertools.pairwise(times[:-1])]
    assert (min(firsts), max(firsts)) == pytest.approx((10.0, 13.0), abs=0.4)
    assert (min(pauses), max(pauses)) == pytest.approx((7.0, 13.0), abs=0.4)
    assert (min(firsts) >= 10.0, min(pauses) >= 7.0, max(*firsts, *pauses) <= 13.0) == (True, True, True)


async def test_the_time_since_the_start_counts_for_the_first_poll() -> None:
    handle = young()
    await asyncio.sleep(4.0)
    poll = PollPolicy(initial_delay=10.0, interval=50.0, max_interval=50.0, jitter=0.0)
    assert (await polls(poll, handle=handle, seconds=10.0))[0] == pytest.approx(6.0)


async def test_many_old_syncs_are_polled_soon_but_not_in_step() -> None:
    poll = PollPolicy(initial_delay=2.0, interval=50.0, max_interval=50.0, jitter=0.2)
    firsts = [(await polls(poll, handle=old(), seconds=3.0, seed=seed))[0] for seed in range(20)]
    assert max(firsts) <= 2.0
    assert len(set(firsts)) == 20


async def test_the_last_poll_comes_at_the_deadline_and_may_still_find_the_end() -> None:
    codat = Codat()
    handle = await codat.start(duration=19.0)
    assert (await codat.sync.wait(handle, timeout=20.0)).succeeded
    assert now() == pytest.approx(20.2, abs=0.1)


async def test_a_wait_without_time_polls_once() -> None:
    assert await polls(STEADY, seconds=0.0) == [0.0]


@pytest.mark.parametrize(("status_code", "retry_after"), [(503, "40"), (429, "40"), (500, "40")])
async def test_retry_after_is_a_floor_for_the_next_poll_and_only_for_that(status_code: int, retry_after: str) -> None:
    client, wire = scripted(status(), respond(status_code, {}, {"Retry-After": retry_after}), status())
    with pytest.raises(SyncWaitTimeoutError):
        await client.sync.wait(young(), timeout=60.0)
    # After the refusal at 3 not before 43; the pauses after that are those of the policy.
    assert [round(sent.at, 1) for sent in wire.sent] == [1.0, 3.0, 43.0, 51.0, 60.0]


async def test_a_short_retry_after_does_not_shorten_a_pause() -> None:
    client, wire = scripted(status(), status(), respond(503, {}, {"Retry-After": "1"}), status())
    with pytest.raises(SyncWaitTimeoutError):
        await client.sync.wait(young(), timeout=20.0)
    assert [sent.at for sent in wire.sent] == [1.0, 3.0, 7.0, 15.0, 20.0]


async def test_there_is_no_last_poll_if_retry_after_exceeds_the_deadline() -> None:
    client, wire = scripted(status(), respond(503, {}, {"Retry-After": "300"}), status(2000))
    with pytest.raises(SyncWaitTimeoutError):
        await client.sync.wait(young(), timeout=60.0)
    assert ([sent.at for sent in wire.sent], now()) == ([1.0, 3.0], 60.0)


def lost() -> CodatError:
    return TransportError("the connection was lost before the response")


TRANSIENT: dict[str, Step] = {
    "lost": failing(lost),
    "not reached": failing(lambda: TransportError("the server cannot be reached", None, sent=False)),
    "500": respond(500),
    "502 in HTML": respond(502, b"<html>"),
    "503": respond(503),
    "429": respond(429),
    "409": respond(409),
    "408": respond(408, b""),
    "421": respond(421),
    "425": respond(425),
    "no JSON": respond(200, b"<html>"),
    "another shape": respond(200, []),
}


@pytest.mark.parametrize("step", TRANSIENT.values(), ids=TRANSIENT.keys())
async def test_retryable_poll_errors_are_retried_until_the_timeout(step: Step) -> None:
    client, wire = scripted(status(), *[step] * 30, status(2000, "Complete"))
    # As often as it takes: the time alone is the limit.
    assert (await client.sync.wait(young(), timeout=3600.0)).succeeded
    assert len(wire.sent) == 32


@pytest.mark.parametrize("step", TRANSIENT.values(), ids=TRANSIENT.keys())
async def test_lasting_poll_errors_end_with_the_timeout_and_not_as_a_failed_sync(step: Step) -> None:
    client, _ = scripted(status(), step)
    with pytest.raises(SyncWaitTimeoutError) as raised:
        await client.sync.wait(young(), timeout=300.0)
    assert raised.value.last_status is not None
    assert raised.value.last_status.sync_status_code == 1000
    assert now() == pytest.approx(300.0, abs=16.0)


LASTING: dict[str, tuple[Step, type[CodatError]]] = {
    "401": (respond(401), AuthenticationError),
    "403": (respond(403), PermissionDeniedError),
    "bad certificate": (
        failing(lambda: TransportError("the certificate is not valid", None, sent=False, retryable=False)),
        TransportError,
    ),
}


@pytest.mark.parametrize(("step", "error"), LASTING.values(), ids=LASTING.keys())
async def test_an_error_that_is_not_retryable_ends_the_wait_at_once(step: Step, error: type[CodatError]) -> None:
    client, wire = scripted(status(), step)
    with pytest.raises(error):
        await client.sync.wait(young())
    assert (len(wire.sent), now()) == (2, 3.0)


async def test_a_404_right_after_the_start_is_waited_out() -> None:
    codat = Codat(visibility_delay=20.0)
    handle = await codat.start()
    assert (await codat.sync.wait(handle)).succeeded


async def test_a_404_that_lasts_ends_the_wait() -> None:
    client, wire = scripted(respond(404))
    with pytest.raises(NotFoundError):
        await client.sync.wait(young())
    assert 60.0 < now() < 100.0
    assert len(wire.sent) > 3


async def test_an_old_sync_that_is_not_there_is_not_waited_for() -> None:
    client, wire = scripted(respond(404))
    with pytest.raises(NotFoundError):
        await client.sync.wait("company", "unknown")
    assert len(wire.sent) == 1


async def test_a_sync_that_is_out_of_sight_for_a_moment_is_waited_for() -> None:
    client, _ = scripted(status(), *[respond(404)] * 3, status(2000))
    assert (await client.sync.wait(old())).succeeded


async def test_a_spent_day_ends_a_wait_that_would_not_see_the_next_one() -> None:
    codat = Codat()
    handle = await codat.start(duration=60.0)
    codat.simulator.set_remaining_quota(0)
    with pytest.raises(QuotaExhaustedError) as raised:
        await codat.sync.wait(handle)
    assert raised.value.reset_at == datetime(2024, 1, 16, tzinfo=UTC)
    assert now() < 5.0


async def test_a_spent_day_is_slept_through_by_a_wait_that_has_the_time() -> None:
    codat = Codat()
    handle = await codat.start(duration=60.0)
    codat.simulator.set_remaining_quota(0)
    assert (await codat.sync.wait(handle, timeout=None)).succeeded
    assert now() == pytest.approx(16 * 3600.0, abs=60.0)
    # Nothing was requested without effect meanwhile.
    assert codat.polls < 5


async def test_watch_gives_every_change_once_and_ends_with_the_end() -> None:
    client, wire = scripted(
        status(1000, "NotStarted"),
        status(1000, "Started"),
        status(1000, "Started"),
        respond(503),
        status(1000, "Started"),
        status(1000, "Pushing"),
        status(1010, "Pushing"),
        respond(200, {"syncId": "s", "syncStatusCode": 1010, "syncStatus": "Pushing", "dataPushed": True}),
        status(2000, "Complete"),
    )
    changes = [(one.sync_status_code, one.sync_status) async for one in client.sync.watch(young())]
    assert changes == [
        (1000, "NotStarted"),
        (1000, "Started"),
        (1000, "Pushing"),
        (1010, "Pushing"),
        (1010, "Pushing"),
        (2000, "Complete"),
    ]
    assert len(wire.sent) == 9


async def test_a_failed_sync_is_the_last_change_of_a_watch_and_no_error() -> None:
    codat = Codat()
    handle = await codat.start(5130)
    assert [one.sync_status_code async for one in codat.sync.watch(handle)] == [1000, 5130]


async def test_a_sync_of_more_than_ten_minutes_is_waited_for() -> None:
    codat = Codat()
    handle = await codat.start(duration=1500.0)
    changes = [one.state async for one in codat.sync.watch(handle)]
    assert changes == [SyncState.IN_PROGRESS, SyncState.IN_PROGRESS_SLOW, SyncState.SUCCEEDED]


@pytest.mark.parametrize(("code", "meaning"), FAILURES.items())
async def test_a_failed_sync_reports_how_and_which_it_was(code: int, meaning: SyncState) -> None:
    codat = Codat()
    handle = await codat.start(code)
    with pytest.raises(SyncFailedError) as raised:
        await codat.sync.wait(handle)
    assert (raised.value.status.sync_status_code, raised.value.status.state) == (code, meaning)
    assert raised.value.handle == handle.with_sync_id(codat.sync_id)
    assert str(code) in str(raised.value)
    assert (await codat.sync.wait(handle, raise_on_failure=False)).state is meaning


@pytest.mark.parametrize("code", [2000, 2040, 2999])
async def test_a_sync_that_ended_well_is_returned(code: int) -> None:
    codat = Codat()
    assert (await codat.sync.wait(await codat.start(code))).sync_status_code == code


@pytest.mark.parametrize(("code", "text"), [(3000, "Odd"), (7, ""), (None, "Whatever")])
async def test_an_unknown_code_counts_as_running_and_is_warned_of_once(
    code: int | None, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    client, _ = scripted(*[status(code, text)] * 5, status(2000))
    with caplog.at_level(logging.WARNING, "codat_commerce_async"):
        assert (await client.sync.wait(young())).succeeded
    assert [str(code) in record.getMessage() for record in caplog.records] == [True]


async def test_a_wait_that_runs_out_reports_what_it_has_learned() -> None:
    codat = Codat()
    handle = await codat.start(duration=None)
    with pytest.raises(SyncWaitTimeoutError) as raised:
        await codat.sync.wait(handle, timeout=700.0)
    error = raised.value
    assert isinstance(error, TimeoutError)
    assert error.handle == handle.with_sync_id(codat.sync_id)
    assert error.last_status is not None
    assert error.last_status.state is SyncState.IN_PROGRESS_SLOW
    assert error.elapsed == pytest.approx(700.0, abs=1.0)
    assert error.polls == codat.polls > 30


async def test_a_wait_that_ran_out_can_be_gone_on_with() -> None:
    codat = Codat()
    handle = await codat.start(duration=100.0)
    with pytest.raises(SyncWaitTimeoutError) as raised:
        await codat.sync.wait(handle, timeout=10.0)
    assert (await codat.sync.wait(raised.value.handle)).succeeded


async def test_a_sync_can_be_waited_for_by_the_text_of_its_handle_or_by_its_id() -> None:
    codat = Codat()
    handle = await codat.start(duration=10.0)
    assert (await codat.sync.wait(SyncHandle.from_json(handle.to_json()))).sync_id == codat.sync_id
    assert (await codat.sync.wait(codat.company_id, codat.sync_id)).sync_id == codat.sync_id


async def test_a_wait_does_not_lose_a_sync_that_is_superseded_between_two_polls() -> None:
    codat = Codat()
    handle = await codat.start(5130, duration=60.0)
    waiting = asyncio.create_task(codat.sync.wait(handle, raise_on_failure=False))
    await asyncio.sleep(5.0)
    codat.simulator.start_external_sync(codat.company_id, ScriptedSync(2000, duration=1.0))
    assert (await waiting).sync_status_code == 5130


async def test_several_that_it_can_be_end_the_wait_with_their_names() -> None:
    codat = Codat()
    handle = await codat.start()
    blind = SyncHandle(company_id=codat.company_id, requested_at=handle.requested_at)
    other = codat.simulator.start_external_sync(codat.company_id)
    with pytest.raises(OutcomeUnknownError) as raised:
        await codat.sync.wait(blind)
    assert set(raised.value.candidates) == {codat.sync_id, other}


async def test_a_notification_makes_it_poll_once() -> None:
    codat = Codat(poll=RARELY)
    handle = await codat.start(duration=30.0)
    asyncio.get_running_loop().call_later(40.0, codat.sync.poll_now, codat.company_id)
    assert (await codat.sync.wait(handle)).succeeded
    assert now() == pytest.approx(40.2, abs=0.1)


async def test_a_notification_does_not_make_it_poll_earlier_than_the_server_requested() -> None:
    client, wire = scripted(status(), respond(503, {}, {"Retry-After": "50"}), status(2000), poll=RARELY)
    asyncio.get_running_loop().call_later(20.0, client.sync.poll_now, "c")
    assert (await client.sync.wait(young())).succeeded
    # The notification causes a poll as soon as one is allowed.
    assert [sent.at for sent in wire.sent] == [1.0, 3.0, 53.0]


async def notify_often(client: CodatCommerce, company_id: str, *, until: float, every: float = 0.02) -> None:
    while now() < until:
        client.sync.poll_now(company_id)
        await asyncio.sleep(every)


@pytest.mark.parametrize("method", ["wait", "watch"])
async def test_notifications_keep_the_poll_interval_and_the_last_one_is_not_lost(method: str) -> None:
    client, wire = scripted(status(), poll=RARELY)
    notifying = asyncio.create_task(notify_often(client, "c", until=20.0))
    if method == "wait":
        waiting: asyncio.Future[Any] = asyncio.ensure_future(client.sync.wait(young(), timeout=500.0))
    else:
        waiting = asyncio.ensure_future(anext(client.sync.watch(young(), timeout=500.0)))
        await waiting
        waiting = asyncio.ensure_future(collect(client.sync.watch(young(), timeout=500.0)))
    await notifying
    polls = [sent.at for sent in wire.sent if sent.at <= 20.0]
    await asyncio.sleep(100.0)
    after = [sent.at for sent in wire.sent if sent.at > 20.0]
    waiting.cancel()
    await asyncio.wait((waiting,))
    assert 9 <= len(polls) <= 12
    assert all(later - sooner >= RARELY.interval - 1e-9 for sooner, later in itertools.pairwise(polls[1:]))
    # Once for the last of a thousand, and then not until the regular time.
    assert len(after) == 1
    assert after[0] < 20.0 + RARELY.interval + 0.1


async def collect(watch: AsyncGenerator[object, None]) -> None:
    async for _ in watch:
        pass


async def test_a_notification_during_a_poll_is_followed_by_another_poll() -> None:
    async def slowly(request: Request) -> Response:
        await asyncio.sleep(5.0)
        return status()

    client, wire = scripted(status(), slowly, status(2000), poll=RARELY)
    asyncio.get_running_loop().call_later(4.0, client.sync.poll_now, "c")
    assert (await client.sync.wait(young())).succeeded
    # From 3 to 8 a poll was in flight; its response may be older than the notification.
    assert [sent.at for sent in wire.sent] == [1.0, 3.0, 10.0]


async def test_a_notification_between_two_changes_of_a_watch_is_not_lost() -> None:
    client, wire = scripted(status(text="Started"), status(text="Syncing"), status(2000), poll=RARELY)
    async with aclosing(client.sync.watch(young())) as changes:
        await anext(changes)
        await anext(changes)
        client.sync.poll_now("c")
        await asyncio.sleep(0.5)
        assert (await anext(changes)).succeeded
    assert [sent.at for sent in wire.sent] == [1.0, 3.0, 5.0]


async def test_a_notified_poll_that_fails_is_repeated_after_the_interval() -> None:
    client, wire = scripted(status(), status(), respond(503), respond(503), status(2000), poll=RARELY)
    asyncio.get_running_loop().call_later(10.0, client.sync.poll_now, "c")
    assert (await client.sync.wait(young())).succeeded
    assert [sent.at for sent in wire.sent] == [1.0, 3.0, 10.0, 12.0, 14.0]


async def test_a_notification_after_the_wait_has_ended_wakes_none() -> None:
    client, _ = scripted(status(2000))
    assert client.sync.poll_now("c") == 0
    await client.sync.wait(young())
    assert client.sync.poll_now("c") == 0


@pytest.mark.parametrize("after", [0.5, 1.05, 2.0, 100.0])
async def test_cancelling_ends_a_wait_at_once_and_gives_everything_back(after: float) -> None:
    codat = Codat()
    handle = await codat.start(duration=None)
    began = now()
    waiting = asyncio.create_task(codat.sync.wait(handle))
    await asyncio.sleep(after)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert now() == began + after
    await nothing_is_held(codat)


@pytest.mark.parametrize("after", [0.5, 1.05, 2.0, 100.0])
async def test_closing_the_client_wakes_a_wait(after: float) -> None:
    codat = Codat()
    handle = await codat.start(duration=None)
    began = now()
    waiting = asyncio.create_task(codat.sync.wait(handle))
    await asyncio.sleep(after)
    await codat.client.aclose()
    with pytest.raises(ClientClosedError):
        await waiting
    assert now() == began + after
    await nothing_is_held(codat)


async def test_a_watch_that_is_left_gives_everything_back_when_it_is_closed() -> None:
    codat = Codat()
    handle = await codat.start(duration=None)
    async with aclosing(codat.sync.watch(handle)) as changes:
        async for _ in changes:
            break
    await nothing_is_held(codat)


async def test_a_wait_leaves_nothing_behind() -> None:
    codat = Codat()
    await codat.sync.wait(await codat.start())
    await nothing_is_held(codat)


async def nothing_is_held(codat: Codat) -> None:
    """Assert that no task runs, no slot is taken, nothing is reserved, and nothing waits."""
    assert asyncio.all_tasks() == {asyncio.current_task()}
    limiter = codat.sync.context.rate_limiter
    assert isinstance(limiter, LocalRateLimiter)
    assert (limiter.in_flight, limiter.waiting, limiter.reserved) == (0, 0, 0)
    assert codat.sync.poll_now(codat.company_id) == 0


async def test_a_running_wait_keeps_new_work_from_taking_its_last_requests() -> None:
    codat = Codat()
    handle = await codat.start(duration=600.0)
    poll = PollPolicy(interval=500.0, factor=1.0, max_interval=500.0, jitter=0.0)
    waiting = asyncio.create_task(codat.sync.wait(handle, poll=poll))
    await asyncio.sleep(5.0)
    codat.simulator.set_remaining_quota(3)
    await codat.sync.get_latest_sync(codat.company_id)
    # Two are left, and two more polls to come.
    another = codat.simulator.add_linked_company()
    codat.simulator.set_remaining_quota(2)
    starting = asyncio.create_task(codat.sync.start(another))
    assert (await waiting).succeeded
    with pytest.raises(QuotaExhaustedError):
        await starting
    assert codat.simulator.syncs(another) == ()


async def test_a_poll_takes_the_options_of_a_wait() -> None:
    class Recording(LocalRateLimiter):
        recorded: list[bool] = []  # noqa: RUF012 - of one test's one limiter

        async def acquire(self, company_id: str | None, *, background: bool = False, starts_work: bool = False) -> None:
            self.recorded.append(background)
            await super().acquire(company_id, background=background, starts_work=starts_work)

    limiter = Recording(Quota.unlimited())
    client, wire = client_of(respond(503), status(2000), rate_limiter=limiter, wall_clock=loop_wall_clock())
    retry = RetryPolicy(attempts=2, initial_backoff=0.0)
    await client.sync.wait(young(), headers={"X-Trace": "1"}, background=True, retry=retry)
    assert [sent.headers["X-Trace"] for sent in wire.sent] == ["1", "1"]
    assert (limiter.recorded, wire.pauses) == ([True, True], [0.0])


async def test_a_bad_day_at_codat_is_seen_through() -> None:
    codat = Codat(faults=FaultPlan(rate=0.6, seed=3, operations=["get-sync-status", "get-sync-by-id"]))
    handle = await codat.start(duration=300.0)
    assert (await codat.sync.wait(handle)).succeeded
    assert now() < 400.0


@pytest.mark.parametrize(
    "call",
    [
        lambda sync, handle: sync.wait(handle, "s"),
        lambda sync, handle: sync.wait("company"),
        lambda sync, handle: sync.wait("company", ".."),
    ],
    ids=["a handle and an id", "no id", "an id that leads elsewhere"],
)
async def test_a_wait_without_a_sync_to_wait_for_is_refused(call: Callable[..., Any]) -> None:
    client, wire = scripted(status(2000))
    with pytest.raises((TypeError, ValueError)):
        await call(client.sync, young())
    assert wire.sent == []
