"""A client of the environment keeps the speed of the simulator that the environment names."""

import asyncio

import pytest

from codat_commerce_async import CodatCommerce, PollPolicy
from codat_commerce_async.simulator import Simulator
from codat_commerce_async.simulator.in_memory import InMemoryTransport
from codat_commerce_async.simulator.virtual_time import loop_wall_clock

pytestmark = pytest.mark.virtual_time


async def time_of_a_sync(poll: PollPolicy | None = None) -> float:
    """Return how long a client of the environment waits for a sync that ends at once."""
    wall_clock = loop_wall_clock()
    simulator = Simulator(now=wall_clock, durations=lambda _: 0.0)
    transport = InMemoryTransport(simulator)
    async with CodatCommerce.from_env(transport=transport, wall_clock=wall_clock, poll=poll) as codat:
        began = asyncio.get_running_loop().time()
        await codat.sync.run(simulator.add_linked_company())
        return asyncio.get_running_loop().time() - began


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODAT_API_KEY", "a key")
    monkeypatch.delenv("CODAT_BASE_URL", raising=False)
    monkeypatch.delenv("CODAT_SPEED", raising=False)


@pytest.mark.parametrize("speed", ["100", "2.5", "0.1", " 1e2 "])
async def test_it_polls_at_the_speed_of_the_environment(monkeypatch: pytest.MonkeyPatch, speed: str) -> None:
    usual = await time_of_a_sync()
    monkeypatch.setenv("CODAT_SPEED", speed)
    assert await time_of_a_sync() == pytest.approx(usual / float(speed), rel=0.5)


async def test_it_retries_at_the_speed_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODAT_SPEED", "1000")
    simulator = Simulator(now=loop_wall_clock())
    simulator.set_fault("list-companies", *["unavailable"] * 3)
    async with CodatCommerce.from_env(transport=InMemoryTransport(simulator)) as codat:
        await codat.advanced_controls.list_companies()
        assert asyncio.get_running_loop().time() < 0.1


async def test_a_thousand_requests_need_no_minute_at_a_higher_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODAT_SPEED", "100")
    simulator = Simulator(now=loop_wall_clock(), speed=100)
    async with CodatCommerce.from_env(transport=InMemoryTransport(simulator)) as codat:
        await asyncio.gather(*(codat.advanced_controls.list_companies() for _ in range(500)))
        assert asyncio.get_running_loop().time() < 10


async def test_a_policy_that_is_given_takes_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODAT_SPEED", "100")
    poll = PollPolicy(initial_delay=7, interval=7, jitter=0)
    assert await time_of_a_sync(poll) == pytest.approx(7, abs=0.1)


@pytest.mark.parametrize("speed", ["", None])
async def test_no_speed_is_the_usual_one(monkeypatch: pytest.MonkeyPatch, speed: str | None) -> None:
    usual = await time_of_a_sync(PollPolicy())
    if speed is not None:
        monkeypatch.setenv("CODAT_SPEED", speed)
    assert await time_of_a_sync() == pytest.approx(usual, rel=0.5)


@pytest.mark.parametrize("speed", ["0", "-1", "nan", "inf", "fast"])
async def test_a_speed_that_is_none_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, speed: str) -> None:
    monkeypatch.setenv("CODAT_SPEED", speed)
    with pytest.raises(ValueError, match="CODAT_SPEED must be a number above 0"):
        CodatCommerce.from_env()
