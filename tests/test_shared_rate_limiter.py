"""Rate limiters of several processes that share a store: here in one process, and in virtual time where possible."""

import asyncio
import logging
import os
import shutil
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest

from codat_commerce_async import ClientClosedError, CodatCommerce, Hooks, LocalRateLimiter, Quota, QuotaExhaustedError
from codat_commerce_async.distributed import FileQuotaStore, MemoryQuotaStore, QuotaStore, SharedRateLimiter
from codat_commerce_async.distributed._state import QuotaReport, QuotaResult
from codat_commerce_async.errors import SharedQuotaError
from tests.support.cases import all_cases
from tests.support.scripted import ScriptedTransport, respond
from tests.test_quota_stores import busiest_minute

Make = Callable[..., SharedRateLimiter]
TOMORROW = datetime(2024, 1, 16, tzinfo=UTC)


def background_tasks() -> list[asyncio.Task[object]]:
    return [task for task in asyncio.all_tasks() if task.get_name() == "codat-shared-quota"]


def loop_time() -> float:
    return asyncio.get_running_loop().time()


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> QuotaStore:
    return MemoryQuotaStore() if request.param == "memory" else FileQuotaStore(tmp_path / "quota.db", clock=loop_time)


@pytest.fixture
async def make(store: QuotaStore) -> AsyncIterator[Make]:
    async with AsyncExitStack() as stack:

        def limiter(quota: Quota | None = None, **options: object) -> SharedRateLimiter:
            made = SharedRateLimiter(store, quota, **options)  # type: ignore[arg-type]
            stack.push_async_callback(made.aclose)
            return made

        yield limiter


async def send(
    limiter: SharedRateLimiter,
    sent: list[float],
    *,
    latency: float = 0.05,
    background: bool = False,
    company: str | None = None,
) -> None:
    """Send one request after the other, until cancelled."""
    while True:
        await limiter.acquire(company, background=background)
        sent.append(loop_time())
        try:
            await asyncio.sleep(latency)
        finally:
            limiter.release(company)


class Load:
    """Tasks that send as much as the limiters allow."""

    def __init__(self, *limiters: SharedRateLimiter, tasks: int = 10, background: bool = False) -> None:
        self.sent: list[list[float]] = [[] for _ in limiters]
        self._tasks = [
            asyncio.create_task(send(limiter, sent, background=background))
            for limiter, sent in zip(limiters, self.sent, strict=True)
            for _ in range(tasks)
        ]

    @property
    def all(self) -> list[float]:
        return sorted(time for each in self.sent for time in each)

    async def stop(self) -> list[BaseException | None]:
        for task in self._tasks:
            task.cancel()
        return await asyncio.gather(*self._tasks, return_exceptions=True)


@pytest.mark.virtual_time
async def test_four_limiters_use_one_quota_fully_and_fairly(make: Make) -> None:
    load = Load(*(make(Quota(per_minute=950)) for _ in range(4)))
    await asyncio.sleep(75)
    await load.stop()
    assert busiest_minute(load.all) <= 950
    assert len(load.all) >= 0.97 * 950 * 75 / 60
    fair = len(load.all) / 4
    assert all(0.65 * fair <= len(sent) <= 1.35 * fair for sent in load.sent)


@pytest.mark.virtual_time
async def test_a_foreground_request_waits_little_behind_background_requests_elsewhere(make: Make) -> None:
    load = Load(*(make(Quota(per_minute=950)) for _ in range(3)), tasks=100, background=True)
    limiter, waits = make(Quota(per_minute=950)), []
    await asyncio.sleep(5)
    for _ in range(50):
        started = loop_time()
        await limiter.acquire(None)
        waits.append(loop_time() - started)
        limiter.release(None)
        await asyncio.sleep(0.3)
    await load.stop()
    assert statistics.median(waits) <= 0.25


@pytest.mark.virtual_time
async def test_background_requests_that_have_waited_a_minute_are_sent_beside_a_full_foreground(make: Make) -> None:
    load = Load(*(make(Quota(per_minute=300)) for _ in range(2)))
    limiter = make(Quota(per_minute=300))
    await asyncio.sleep(1)
    started = loop_time()
    await limiter.acquire(None, background=True)
    assert loop_time() - started < 75
    await load.stop()


@pytest.mark.virtual_time
async def test_a_pause_reported_by_one_is_followed_by_all_and_then_by_an_even_rate(make: Make) -> None:
    pauses: list[tuple[float, str, str | None]] = []
    limiters = [make(Quota(per_minute=950), on_pause=lambda *event: pauses.append(event)) for _ in range(4)]
    load = Load(*limiters)
    await asyncio.sleep(10)
    paused_at = loop_time()
    limiters[0].pause(20.0)
    await asyncio.sleep(30)
    await load.stop()
    late = [time - paused_at for time in load.all if paused_at < time < paused_at + 20]
    assert len(late) <= 4
    assert max(late, default=0.0) <= 0.12
    after = [time for time in load.all if paused_at + 20 <= time <= paused_at + 21]
    assert 14 <= len(after) <= 17
    assert len(pauses) == 4
    assert all(19 < seconds <= 20 and "429" in reason for seconds, reason, _ in pauses)


@pytest.mark.virtual_time
async def test_a_paused_company_delays_only_its_own_requests(make: Make) -> None:
    one, other = make(), make()
    one.pause(20.0, "c1")
    await one.refresh()
    await asyncio.gather(other.acquire("c2"), other.acquire(None))
    assert loop_time() < 1
    await other.acquire("c1")
    assert 20 <= loop_time() < 21
    assert other.status.paused_companies == {}


@pytest.mark.virtual_time
async def test_an_exhausted_day_found_by_one_is_raised_by_all(make: Make) -> None:
    limiters = [make(Quota(per_minute=60)) for _ in range(3)]
    waiting = [asyncio.create_task(send(limiter, [])) for limiter in limiters for _ in range(20)]
    await asyncio.sleep(3)
    found_at = loop_time()
    assert not limiters[0].mark_exhausted(3600.0, TOMORROW)
    done, pending = await asyncio.wait(waiting, timeout=6)
    assert not pending
    assert loop_time() - found_at <= 5.0
    for task in done:
        with pytest.raises(QuotaExhaustedError, match="it resets at 2024-01-16"):
            task.result()
    with pytest.raises(QuotaExhaustedError):
        await limiters[2].acquire(None)
    # A webhook or a newer response ends it for all.
    limiters[1].update_remaining(100, 3590.0)
    await asyncio.sleep(6)
    await limiters[2].acquire(None)


@pytest.mark.virtual_time
async def test_with_wait_for_reset_requests_wait_until_the_day_ends(make: Make) -> None:
    limiter = make(Quota(wait_for_reset=True))
    assert limiter.mark_exhausted(3600.0, None)
    await limiter.acquire(None)
    assert 3600 <= loop_time() < 3601


@pytest.mark.virtual_time
async def test_slots_of_a_killed_process_are_free_after_30_seconds(make: Make, store: QuotaStore) -> None:
    killed = SharedRateLimiter(store, Quota(per_company=3))
    for _ in range(3):
        await killed.acquire("c1")
    other = make(Quota(per_company=3))
    [task] = background_tasks()
    task.cancel()  # no heartbeats any more
    await other.acquire("c1")
    assert 30 <= loop_time() < 32
    assert other.status.processes in {1, 2}
    await asyncio.sleep(30)
    assert other.status.processes == 1


@pytest.mark.virtual_time
async def test_slots_that_are_released_elsewhere_are_noticed_within_a_second(make: Make) -> None:
    one, other = make(Quota(per_company=1)), make(Quota(per_company=1))
    await one.acquire("c1")
    waiting = asyncio.create_task(other.acquire("c1"))
    await asyncio.sleep(3)
    assert not waiting.done()
    one.release("c1")
    released_at = loop_time()
    await waiting
    assert loop_time() - released_at <= 0.8


class FailingStore:
    """A store in memory that can be switched off."""

    def __init__(self) -> None:
        self.inner = MemoryQuotaStore()
        self.is_up = True

    async def exchange(self, report: QuotaReport) -> QuotaResult:
        if not self.is_up:
            raise ConnectionRefusedError("redis://user:secret-1@host")
        return await self.inner.exchange(report)

    async def aclose(self) -> None:
        """Nothing to close."""


@pytest.mark.virtual_time
async def test_while_the_store_is_down_each_process_uses_its_share(caplog: pytest.LogCaptureFixture) -> None:
    store = FailingStore()
    limiters = [SharedRateLimiter(store, Quota(per_minute=600)) for _ in range(3)]
    load = Load(*limiters)
    await asyncio.sleep(30)
    store.is_up = False
    await asyncio.sleep(60)
    down = [time for time in load.all if time > 31]
    assert 0.95 * 600 * 59 / 60 <= len(down) <= 600
    assert limiters[0].status.available is False
    assert limiters[0].status.reason == "ConnectionRefusedError"
    store.is_up = True
    store.inner.clear()
    await asyncio.sleep(60)
    await load.stop()
    assert busiest_minute(load.all) <= 600 + 3
    assert limiters[0].status.available
    assert "this process sends 1/3 of the quota" in caplog.text
    assert "secret-1" not in caplog.text
    for limiter in limiters:
        await limiter.aclose()


@pytest.mark.virtual_time
@pytest.mark.parametrize("processes", [1, 3])
async def test_a_store_that_is_often_down_for_a_moment_allows_no_burst_each_time(processes: int) -> None:
    """Neither a burst, nor the permits of the store and of the fallback for the same moments."""
    store = FailingStore()
    limiters = [SharedRateLimiter(store, Quota(per_minute=600)) for _ in range(processes)]
    load = Load(*limiters)
    await asyncio.sleep(61)
    for _ in range(6):
        store.is_up = False
        await asyncio.sleep(2)
        assert limiters[0].status.available is False
        store.is_up = True
        await asyncio.sleep(8)
        assert limiters[0].status.available
    await load.stop()
    for limiter in limiters:
        await limiter.aclose()
    assert busiest_minute(load.all) <= 600
    assert len(load.all) >= 0.9 * 600 / 60 * (61 + 60)


@pytest.mark.virtual_time
async def test_a_process_with_another_quota_is_warned_about_once(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    first, same = make(Quota(per_minute=900)), make(Quota(per_minute=900))
    for limiter in (first, same, first):
        await limiter.refresh()
    assert caplog.records == []
    other = make(Quota(per_minute=None, concurrent=50))
    for limiter in (other, first, other, first):
        await limiter.refresh()
    old, new = "per_minute=900, concurrent=100", "per_minute=None, concurrent=50"
    words = (
        "the quota of this process differs from that of another process that shares it: {} here, {} there; pass the "
    )
    messages = [record.getMessage().partition("same Quota")[0] for record in caplog.records]
    assert messages == [words.format(new, old), words.format(old, new)]
    assert {record.levelname for record in caplog.records} == {"WARNING"}


@pytest.mark.virtual_time
async def test_with_an_unknown_number_of_processes_nothing_is_sent_while_the_store_is_down() -> None:
    store = FailingStore()
    store.is_up = False
    limiter = SharedRateLimiter(store)
    waiting = asyncio.create_task(limiter.acquire(None))
    await asyncio.sleep(600)
    assert not waiting.done()
    store.is_up = True
    await waiting
    assert loop_time() < 602
    await limiter.aclose()


async def fail_by_closing(limiter: SharedRateLimiter, folder: Path) -> None:
    await asyncio.sleep(0.5)
    await limiter.aclose()


async def fail_by_exhaustion(limiter: SharedRateLimiter, folder: Path) -> None:
    await asyncio.sleep(0.5)
    limiter.mark_exhausted(3600.0, TOMORROW)


async def fail_by_a_wrong_path(limiter: SharedRateLimiter, folder: Path) -> None:
    shutil.rmtree(folder)


@pytest.mark.virtual_time
@pytest.mark.parametrize("fail", [fail_by_closing, fail_by_exhaustion, fail_by_a_wrong_path])
async def test_each_waiting_request_fails_with_an_error_of_its_own(
    fail: Callable[[SharedRateLimiter, Path], Awaitable[None]], tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    async with SharedRateLimiter(FileQuotaStore(folder / "quota.db", clock=loop_time), Quota(per_minute=60)) as limiter:
        waiting = [asyncio.create_task(limiter.acquire(None)) for _ in range(10)]
        await fail(limiter, folder)
        results = await asyncio.gather(*waiting, return_exceptions=True)
    errors = [result for result in results if result is not None]
    assert len(errors) >= 3
    assert len({id(error) for error in errors}) == len(errors)
    assert len({repr(error) for error in errors}) == 1


@pytest.mark.virtual_time
@pytest.mark.parametrize("processes", [None, 2])
async def test_a_file_in_a_missing_folder_fails_requests_at_once_until_the_folder_exists(
    tmp_path: Path, processes: int | None
) -> None:
    store = FileQuotaStore(tmp_path / "missing" / "quota.db", clock=loop_time)
    async with SharedRateLimiter(store, processes=processes) as limiter:
        for _ in range(3):
            with pytest.raises(SharedQuotaError, match=r"the folder .*missing does not exist"):
                await limiter.acquire("c1")
        assert loop_time() < 0.1
        assert "does not exist" in (limiter.status.reason or "")
        (tmp_path / "missing").mkdir()
        await limiter.refresh()
        await limiter.acquire("c1")
        limiter.release("c1")


@pytest.mark.virtual_time
async def test_a_store_that_has_worked_does_not_fail_requests_when_its_folder_is_gone(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    store = FileQuotaStore(tmp_path / "folder" / "quota.db", clock=loop_time)
    async with SharedRateLimiter(store) as limiter:
        await limiter.acquire("c1")
        await store.aclose()
        shutil.rmtree(tmp_path / "folder")
        await limiter.acquire("c1")  # from the share of this process
        assert "does not exist" in (limiter.status.reason or "")


@pytest.mark.virtual_time
async def test_the_warning_is_repeated_each_minute_while_requests_wait_for_the_store(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = FailingStore()
    store.is_up = False
    limiter = SharedRateLimiter(store)
    waiting = asyncio.create_task(limiter.acquire(None))
    await asyncio.sleep(150)
    assert caplog.text.count("is unavailable (ConnectionRefusedError): nothing is sent") == 3
    waiting.cancel()
    await asyncio.sleep(300)
    assert caplog.text.count("is unavailable") == 3
    await limiter.aclose()


@pytest.mark.virtual_time
async def test_with_a_fixed_number_of_processes_its_share_is_sent_from_the_start() -> None:
    store = FailingStore()
    store.is_up = False
    limiter = SharedRateLimiter(store, Quota(per_minute=600), processes=4)
    load = Load(limiter)
    await asyncio.sleep(60)
    await load.stop()
    assert 140 <= len(load.all) <= 150
    await limiter.aclose()


@pytest.mark.virtual_time
async def test_a_background_task_that_is_cancelled_a_thousand_times_loses_nothing(make: Make) -> None:
    random, limiters, finished = (
        Random(1),
        [make(Quota(per_minute=None, concurrent=7, per_company=2)) for _ in range(2)],
        [],
    )

    async def call(number: int) -> None:
        limiter, company = limiters[number % 2], f"c{number % 9}"
        await limiter.acquire(company)
        finished.append(number)
        await asyncio.sleep(random.choice([0.0, 0.01]))
        limiter.release(company)

    async with asyncio.TaskGroup() as tasks:
        calls = [tasks.create_task(call(number)) for number in range(1000)]
        for step in range(1000):
            for _ in range(step % 7):  # at another await each time
                await asyncio.sleep(0)
            for task in background_tasks():
                task.cancel()
            if step % 50 == 0:
                await asyncio.sleep(0.01)
        assert calls
    assert sorted(finished) == list(range(1000))
    for limiter in limiters:
        await limiter.refresh()
        assert (limiter.status.in_flight, limiter.status.waiting) == (0, 0)


@pytest.mark.virtual_time
async def test_callers_that_are_cancelled_leave_no_slot_and_no_waiter(make: Make) -> None:
    random, limiter = Random(2), make(Quota(per_minute=950, concurrent=5))

    async def call() -> None:
        async with asyncio.timeout(random.uniform(0.0, 1.0)):
            await limiter.acquire("c1")
        limiter.release("c1")

    results = await asyncio.gather(*(call() for _ in range(500)), return_exceptions=True)
    assert {type(each) for each in results} == {type(None), TimeoutError}
    await limiter.refresh()
    assert (limiter.status.in_flight, limiter.status.waiting) == (0, 0)


@pytest.mark.virtual_time
async def test_the_status_reports_processes_quota_and_pauses(make: Make) -> None:
    one, other = make(Quota(per_minute=600)), make(Quota(per_minute=600))
    assert (one.status.available, one.status.processes, one.status.remaining_day) == (False, None, None)
    await one.acquire("c1")
    other.update_remaining(500, 3600.0)
    other.pause(30.0)
    await other.refresh()
    await one.refresh()
    status = one.status
    assert (status.available, status.processes, status.in_flight) == (True, 2, 1)
    assert (status.remaining_minute, status.remaining_day) == (599, 500)
    assert 29 < status.pause <= 30
    assert one.min_interval == pytest.approx(2 * one.fleet_min_interval)


@pytest.mark.virtual_time
async def test_reservations_of_a_run_are_kept_in_the_store_until_any_process_releases_them(make: Make) -> None:
    one, other = make(), make()
    one.reserve(6, run="night")
    one.update_remaining(6, 3600.0)
    await one.refresh()
    await one.aclose()
    start = asyncio.create_task(other.acquire("c1", starts_work=True))
    await asyncio.sleep(60)
    assert not start.done()
    await other.acquire("c1")  # a poll is not deferred
    other.reserve(-6, run="night")
    await start
    assert loop_time() < 70


@pytest.mark.parametrize("make_limiter", [LocalRateLimiter, lambda: SharedRateLimiter(MemoryQuotaStore())])
async def test_pauses_of_a_limiter_that_is_passed_to_clients_reach_their_hooks(
    make_limiter: Callable[[], LocalRateLimiter | SharedRateLimiter],
) -> None:
    limiter, paused = make_limiter(), list[tuple[float, str | None]]()
    hooks = Hooks(on_pause=lambda event: paused.append((event.seconds, event.company_id)))
    transport = ScriptedTransport([respond()])
    clients = [CodatCommerce(key, transport=transport, rate_limiter=limiter, hooks=hooks) for key in ("one", "two")]
    limiter.pause(5.0)
    assert paused == [(5.0, None)] * 2
    for client in clients:
        await client.aclose()
    limiter.pause(50.0)
    assert len(paused) == 2
    if isinstance(limiter, SharedRateLimiter):
        await limiter.aclose()


async def test_a_client_shares_its_quota_through_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "quota.db"
    monkeypatch.setenv("CODAT_API_KEY", "key")
    monkeypatch.setenv("CODAT_SHARED_QUOTA", os.fspath(path))
    one = CodatCommerce("key", shared_quota=path)
    other = CodatCommerce.from_env()
    assert not path.exists()
    async with one, other:
        limiters = [client.sync.context.rate_limiter for client in (one, other)]
        shared = [limiter for limiter in limiters if isinstance(limiter, SharedRateLimiter)]
        for limiter in shared:
            await limiter.refresh()
        assert len(shared) == 2
        assert [limiter.status.processes for limiter in shared][-1] == 2
    assert path.exists()
    for limiter in shared:
        with pytest.raises(ClientClosedError):
            await limiter.acquire(None)


@all_cases(
    ("settings", "error"),
    [
        ({"shared_quota": "ftp://host"}, ValueError),
        ({"shared_quota": ""}, ValueError),
        ({"shared_quota": 3}, TypeError),
        ({"shared_quota": "quota.db", "rate_limiter": LocalRateLimiter()}, ValueError),
    ],
)
def test_a_shared_quota_is_a_path_or_the_url_of_a_server(settings: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error, match="shared_quota must"):
        CodatCommerce("key", **settings)  # type: ignore[arg-type]


async def test_a_closed_limiter_raises_at_once_also_in_waiting_calls() -> None:
    limiter = SharedRateLimiter(MemoryQuotaStore(), Quota(per_minute=1))
    await limiter.acquire(None)
    waiting = asyncio.create_task(limiter.acquire(None))
    await asyncio.sleep(0)
    await limiter.aclose()
    with pytest.raises(ClientClosedError):
        await waiting
    with pytest.raises(ClientClosedError):
        await limiter.acquire(None)
    limiter.release(None)


def test_a_limiter_can_be_used_by_one_event_loop_after_the_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    limiter = SharedRateLimiter(FileQuotaStore(tmp_path / "quota.db"))

    async def use() -> None:
        await limiter.acquire("c1")
        limiter.release("c1")

    with caplog.at_level(logging.WARNING):
        asyncio.run(use())
        asyncio.run(use())
    assert caplog.text == ""
