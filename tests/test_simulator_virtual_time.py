"""A loop whose clock jumps, alone and with both ends of a connection in it."""

import asyncio
import itertools

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codat_commerce_async.simulator import Fault, FaultKind, FaultPlan, ScriptedSync, Simulator
from codat_commerce_async.simulator.virtual_time import (
    VirtualDeadlockError,
    VirtualTimeLimitError,
    VirtualTimeLoop,
    loop_wall_clock,
    run_in_virtual_time,
)
from tests.support.simulated import authorization


def now() -> float:
    return asyncio.get_running_loop().time()


def test_a_year_of_sleep_takes_no_time() -> None:
    async def main() -> float:
        await asyncio.sleep(365 * 86_400)
        return now()

    assert run_in_virtual_time(main()) == 365 * 86_400


def test_tasks_wake_in_the_order_of_their_timers() -> None:
    async def main() -> list[float]:
        woken: list[float] = []

        async def sleeper(seconds: float) -> None:
            await asyncio.sleep(seconds)
            woken.append(now())

        await asyncio.gather(*(sleeper(seconds) for seconds in (5, 1, 3, 1, 0)))
        return woken

    assert run_in_virtual_time(main()) == [0, 1, 1, 3, 5]


def test_timeouts_are_virtual_too() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3600):
                await asyncio.Event().wait()
        return now()

    assert run_in_virtual_time(main()) == 3600


def test_a_deadlock_is_an_error_and_the_tasks_are_cancelled() -> None:
    ended: list[str] = []

    async def main() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    with pytest.raises(VirtualDeadlockError):
        run_in_virtual_time(main())
    assert ended == ["cancelled"]


def test_a_deadlock_is_seen_although_a_server_listens() -> None:
    async def main() -> None:
        async with Simulator():
            await asyncio.Event().wait()

    with pytest.raises(VirtualDeadlockError):
        run_in_virtual_time(main())


def test_a_limit_ends_what_would_continue_for_ever() -> None:
    async def main() -> None:
        for _ in itertools.count():
            await asyncio.sleep(60)

    with pytest.raises(VirtualTimeLimitError, match="86400"):
        run_in_virtual_time(main(), limit=86_400)


def test_the_clock_stands_still_for_a_thread() -> None:
    async def main() -> tuple[int, float, bool]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            for _ in range(3600):
                await asyncio.sleep(1)
                ticks += 1

        ticking = asyncio.create_task(tick())
        await asyncio.sleep(0)
        response = await asyncio.to_thread(lambda: 7)
        passed, running = now(), not ticking.done()
        ticking.cancel()
        return response + ticks, passed, running

    assert run_in_virtual_time(main()) == (7, 0.0, True)


def test_a_failure_and_a_cancellation_come_out_as_they_are() -> None:
    async def fails() -> None:
        await asyncio.sleep(1)
        raise LookupError("expected")

    async def cancelled() -> None:
        sleeping = asyncio.create_task(asyncio.sleep(60))
        asyncio.get_running_loop().call_later(10, sleeping.cancel)
        await sleeping

    with pytest.raises(LookupError, match="expected"):
        run_in_virtual_time(fails())
    with pytest.raises(asyncio.CancelledError):
        run_in_virtual_time(cancelled())


@settings(deadline=None)
@given(start=st.floats(0, 1e8), sleeps=st.lists(st.floats(0, 1e5), max_size=8))
def test_no_sleep_is_cut_short_or_spins(start: float, sleeps: list[float]) -> None:
    async def main() -> None:
        await asyncio.sleep(start)
        for seconds in sleeps:
            started = now()
            await asyncio.sleep(seconds)
            # asyncio itself wakes a timer early by its clock's resolution.
            assert now() >= started + seconds - 1e-6

    run_in_virtual_time(main())


def test_a_wall_clock_follows_the_loop_and_stands_still_outside() -> None:
    clock = loop_wall_clock(1000.0)

    async def main() -> float:
        await asyncio.sleep(90)
        return clock()

    assert clock() == 1000
    assert run_in_virtual_time(main()) == 1090
    assert clock() == 1090


@pytest.mark.virtual_time
async def test_client_and_server_live_through_an_hour_over_real_sockets() -> None:
    faults = FaultPlan(script={"get-latest-sync": [None, Fault(FaultKind.LATE, seconds=1800)]})
    async with (
        Simulator(now=loop_wall_clock(), faults=faults) as simulator,
        aiohttp.ClientSession(simulator.url, headers=authorization()) as session,
    ):
        company_id = simulator.add_linked_company()
        simulator.script_sync(company_id, ScriptedSync(2000, duration=1800))
        await (await session.post(f"/companies/{company_id}/sync/commerce/latest")).read()
        codes = []
        for _ in range(3):
            path = f"/companies/{company_id}/sync/commerce/syncs/latest/status"
            async with session.get(path, timeout=aiohttp.ClientTimeout(total=3600)) as response:
                codes.append((now(), (await response.json())["syncStatusCode"]))
            await asyncio.sleep(60)
    # The late response shows the state at the time of its request.
    assert codes == [(0, 1000), (1860, 1000), (1920, 2000)]


@pytest.mark.virtual_time
async def test_a_client_times_out_virtually() -> None:
    faults = FaultPlan(script={"*": [Fault(FaultKind.LATE, seconds=3600)]})
    async with (
        Simulator(now=loop_wall_clock(), faults=faults) as simulator,
        aiohttp.ClientSession(simulator.url, headers=authorization()) as session,
    ):
        with pytest.raises(TimeoutError):
            await session.get("/companies", timeout=aiohttp.ClientTimeout(total=30))
        assert now() == pytest.approx(30, abs=1.1)


def test_the_same_run_happens_the_same_way_twice() -> None:
    async def main() -> list[tuple[float, str]]:
        simulator = Simulator(now=loop_wall_clock(), seed=5, quota=None)
        happened: list[tuple[float, str]] = []

        async def one(company_id: str) -> None:
            simulator.start_external_sync(company_id)
            (sync,) = simulator.syncs(company_id)
            await asyncio.sleep(sync.ends - simulator.now())
            assert sync.code(simulator.now() + 1e-6) >= 2000
            happened.append((now(), company_id))

        await asyncio.gather(*(one(simulator.add_linked_company()) for _ in range(200)))
        return happened

    first = run_in_virtual_time(main())
    assert len(first) == 200
    assert first == run_in_virtual_time(main())


def test_a_loop_can_be_made_without_running_it() -> None:
    loop = VirtualTimeLoop()
    assert loop.time() == 0
    loop.close()


def test_a_loop_may_start_at_any_time_and_its_limit_is_counted_from_there() -> None:
    async def times() -> tuple[float, float]:
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(5.0)
        return began, asyncio.get_running_loop().time()

    assert run_in_virtual_time(times(), start=1234.5, limit=6.0) == (1234.5, 1239.5)
    with pytest.raises(VirtualTimeLimitError, match="4 virtual seconds"):
        run_in_virtual_time(times(), start=1234.5, limit=4.0)


def test_a_loop_that_is_blocked_runs_its_timers_late() -> None:
    async def blocked() -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        timer: asyncio.Future[float] = loop.create_future()
        loop.call_later(5.0, lambda: timer.set_result(loop.time()))
        loop.advance(7.0)
        with pytest.raises(ValueError, match="seconds must be at least 0 seconds and finite"):
            loop.advance(-1.0)
        return loop.time(), await timer

    assert run_in_virtual_time(blocked()) == (7.0, 7.0)
