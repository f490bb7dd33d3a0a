"""Four real processes share a quota through each store; the counts are those of the simulator. Takes two minutes."""

import asyncio
import contextlib
from pathlib import Path
from time import monotonic

import pytest

from codat_commerce_async import Quota
from codat_commerce_async.distributed import SharedRateLimiter
from codat_commerce_async.distributed._open import _store
from codat_commerce_async.simulator import RequestQuota, Simulator
from tests.support.fleets import fleet, start
from tests.support.servers import postgres, valkey

PER_MINUTE = 950
SECONDS = 75
NAMES = ("w1", "w2", "w3", "w4")

pytestmark = pytest.mark.real


async def test_four_processes_stay_below_the_ceiling_and_use_the_quota_through_each_store(tmp_path: Path) -> None:
    with contextlib.ExitStack() as servers:
        stores = [str(tmp_path / "quota.db")]
        for server in (valkey, postgres):
            with contextlib.suppress(pytest.skip.Exception):
                stores.append(servers.enter_context(server()).url)
        # At the same time: each needs the whole time, and little of the processor.
        for store, simulator in await asyncio.gather(*map(measured, stores)):
            name, counts = store.partition(":")[0], simulator.requests_by_process
            times = sorted(request.time for request in simulator.requests)
            used = len(times) / (times[-1] - times[0]) * 60
            print(f"{name}: busiest minute {simulator.peak_per_minute}, {used:.0f} per minute, {counts}")  # noqa: T201
            assert simulator.peak_per_minute <= 1000, name
            assert used >= 0.97 * PER_MINUTE, name
            fair = len(times) / len(NAMES)
            assert all(0.65 * fair <= counts[each] <= 1.35 * fair for each in NAMES), (name, counts)


async def measured(store: str) -> tuple[str, Simulator]:
    """Run a fleet, kill it, and wait until the store counts it no more: 30 seconds after its last report."""
    async with Simulator(api_key="key", quota=RequestQuota(per_day=None)) as simulator:
        for name in NAMES:
            for number in range(12):
                simulator.add_company(company_id=f"company-{name}-{number}")
        async with fleet(store, simulator.url, NAMES, PER_MINUTE) as processes:
            start(processes)
            await asyncio.sleep(SECONDS)
            requests = simulator.requests
            assert {request.status for request in requests} == {200}
    # All four were killed, without a word to the store.
    async with SharedRateLimiter(_store(store), Quota(per_minute=PER_MINUTE)) as limiter:
        await limiter.refresh()
        assert limiter.status.processes == 5
        killed_at = monotonic()
        while limiter.status.processes != 1:
            await asyncio.sleep(0.5)
            assert monotonic() - killed_at < 36
    return store, simulator
