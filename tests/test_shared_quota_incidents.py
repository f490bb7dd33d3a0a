"""What real processes do that share a quota while a server restarts, a process is stopped, or the day ends.

All stores are tested at the same time: it takes 2 minutes, little of the processor, and the counts are the simulator's.
"""

import asyncio
import contextlib
import signal
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import pairwise
from pathlib import Path
from time import monotonic

import pytest

from codat_commerce_async import Quota
from codat_commerce_async.distributed import SharedRateLimiter
from codat_commerce_async.distributed._open import _store
from codat_commerce_async.simulator import RecordedRequest, RequestQuota, Simulator
from tests.support.fleets import fleet, start
from tests.support.servers import Server, postgres, valkey

PER_MINUTE = 950
NAMES = ("w1", "w2", "w3")

pytestmark = pytest.mark.real


@contextlib.asynccontextmanager
async def simulated() -> AsyncIterator[Simulator]:
    async with Simulator(api_key="key", quota=RequestQuota(per_day=1_000_000)) as simulator:
        for name in NAMES:
            for number in range(12):
                simulator.add_company(company_id=f"company-{name}-{number}")
        yield simulator


@contextlib.contextmanager
def servers() -> Iterator[list[Server]]:
    """All servers that are installed."""
    with contextlib.ExitStack() as stack:
        found: list[Server] = []
        for server in (valkey, postgres):
            with contextlib.suppress(pytest.skip.Exception):
                found.append(stack.enter_context(server()))
        yield found


def span(requests: list[RecordedRequest], seconds: float) -> int:
    """Return the number of requests in the last seconds."""
    return sum(request.time > requests[-1].time - seconds for request in requests)


async def test_no_minute_exceeds_the_ceiling_when_a_server_restarts_or_a_clock_is_set(tmp_path: Path) -> None:
    set_clock(tmp_path / "offset", "0")
    with servers() as found:
        await asyncio.gather(
            *(send_while(server.url, restart_of(server)) for server in found),
            send_while(str(tmp_path / "quota.db"), clock_changes(tmp_path / "offset"), tmp_path / "offset"),
        )


async def send_while(store: str, incident: Callable[[], Awaitable[None]], offset: Path | None = None) -> None:
    """Send for more than a minute, with an incident in it."""
    environment = {} if offset is None else {"FLEET_CLOCK": str(offset)}
    name = store.partition(":")[0]
    async with simulated() as simulator, fleet(store, simulator.url, NAMES, PER_MINUTE, environment) as processes:
        start(processes)
        await asyncio.sleep(15)
        before = len(simulator.requests)
        incident_at = monotonic()
        await incident()
        during, took = len(simulator.requests) - before, monotonic() - incident_at
        await asyncio.sleep(65 - 15 - took)
        requests = list(simulator.requests)
        last = span(requests, 20)
        print(f"{name}: busiest minute {simulator.peak_per_minute}, {during} in {took:.1f} s, {last} in the last 20 s")  # noqa: T201
        assert {request.status for request in requests} == {200}, name
        assert simulator.peak_per_minute <= 1000, name
        # Each continues with its share; at the end, the whole quota is used again.
        assert during >= 0.5 * PER_MINUTE * took / 60, name
        assert last >= 0.9 * PER_MINUTE * 20 / 60, name
        assert all(process.returncode is None for process in processes), name


def restart_of(server: Server) -> Callable[[], Awaitable[None]]:
    async def incident() -> None:
        server.kill()
        await asyncio.sleep(8)
        await asyncio.to_thread(server.start)

    return incident


def set_clock(offset: Path, seconds: str) -> None:
    """Replace the file as a whole, since it is read at any time."""
    offset.with_suffix(".new").write_text(seconds, encoding="ascii")
    offset.with_suffix(".new").replace(offset)


def clock_changes(offset: Path) -> Callable[[], Awaitable[None]]:
    async def incident() -> None:
        for seconds in ("-3600", "0", "3600", "0"):
            set_clock(offset, seconds)
            await asyncio.sleep(4)

    return incident


async def test_processes_follow_each_other_and_none_delays_the_others(tmp_path: Path) -> None:
    with servers() as found:
        stores = [str(tmp_path / "quota.db"), *(server.url for server in found)]
        await asyncio.gather(*map(foreground_beside_background, stores))
        await asyncio.gather(*map(stop_pause_and_exhaust, stores))


async def foreground_beside_background(store: str) -> None:
    """Three processes have 100 background requests each that wait; one here is in the foreground."""
    waits = []
    async with (
        fleet(store, "", NAMES, PER_MINUTE) as processes,
        SharedRateLimiter(_store(store), Quota(per_minute=PER_MINUTE)) as limiter,
    ):
        start(processes)
        await asyncio.sleep(3)
        for _ in range(20):
            started = monotonic()
            await limiter.acquire(None)
            waits.append(monotonic() - started)
            limiter.release(None)
            await asyncio.sleep(0.1)
        assert limiter.status.processes == 4
    print(f"{store.partition(':')[0]}: a foreground request waits {statistics.median(waits):.3f} s (median)")  # noqa: T201
    assert statistics.median(waits) <= 0.25


async def stop_pause_and_exhaust(store: str) -> None:
    name = store.partition(":")[0]
    async with (
        simulated() as simulator,
        fleet(store, simulator.url, NAMES, PER_MINUTE) as processes,
    ):
        start(processes)
        await asyncio.sleep(2)
        # A stopped process: the others use their part of the quota, without a gap.
        stopped = processes[0]
        stopped.send_signal(signal.SIGSTOP)
        times = await times_during(simulator, 5.0)
        stopped.send_signal(signal.SIGCONT)
        gap = max(after - before for before, after in pairwise(times))
        assert gap <= 2.0, name
        assert len(times) >= 0.5 * PER_MINUTE * 5 / 60, name
        await asyncio.sleep(1)
        # A pause: what is under way arrives, and then nothing.
        async with SharedRateLimiter(_store(store), Quota(per_minute=PER_MINUTE)) as limiter:
            limiter.pause(4.0)
            await limiter.refresh()
            paused_at = simulator.now()
            times = await times_during(simulator, 3.5)
            late = [time - paused_at for time in times]
            assert max(late, default=0.0) <= 0.5, name
            assert len(late) <= 12, name
        resumed = await times_during(simulator, 3.0)
        assert len(resumed) >= 0.5 * PER_MINUTE * 2.5 / 60, name
        # The day is exhausted: few requests learn it from Codat, and all processes raise.
        simulator.set_remaining_quota(0)
        exhausted_at = monotonic()
        async with asyncio.timeout(8):
            await asyncio.gather(*(process.wait() for process in processes))
        took = monotonic() - exhausted_at
        refused = sum(request.status == 429 for request in simulator.requests)
        print(f"{name}: gap {gap:.2f} s, last after a pause {max(late, default=0.0):.3f} s, ended {took:.2f} s")  # noqa: T201
        assert 1 <= refused <= 6, name
        assert {process.returncode for process in processes} == {1}, name


async def times_during(simulator: Simulator, seconds: float) -> list[float]:
    """Return the times of the requests of the next seconds."""
    started = simulator.now()
    await asyncio.sleep(seconds)
    return [request.time for request in simulator.requests if request.time > started]
