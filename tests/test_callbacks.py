"""Callbacks: a coroutine function is awaited, or refused when it is passed."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any
from unittest.mock import AsyncMock

import pytest
from attrs import fields

from codat_commerce_async import CodatCommerce
from codat_commerce_async._core.local_rate_limiter import LocalRateLimiter
from codat_commerce_async.hooks import Hooks
from codat_commerce_async.policies import Quota
from codat_commerce_async.simulator import Simulator
from codat_commerce_async.simulator.in_memory import InMemoryTransport
from codat_commerce_async.syncing.outcome import RunProgress, RunReport
from codat_commerce_async.webhooks import Webhooks
from tests.support.cases import all_cases
from tests.support.fans import Codat


async def coroutine(*_: object) -> float:
    return 0.0


class Awaitable:
    async def __call__(self, *_: object) -> float:
        return 0.0

    async def method(self, *_: object) -> float:
        return 0.0


ASYNC: dict[str, Any] = {
    "function": coroutine,
    "partial": partial(coroutine, 1),
    "method": Awaitable().method,
    "object": Awaitable(),
    "mock": AsyncMock(),
}
PLACES: dict[str, Callable[[Any], object]] = {
    **{field.name: partial(lambda name, given: Hooks(**{name: given}), field.name) for field in fields(Hooks)},
    "wall_clock": lambda given: CodatCommerce("key", wall_clock=given),
    "on_pause of a limiter": lambda given: LocalRateLimiter(Quota(), on_pause=given),
    "latency": lambda given: InMemoryTransport(Simulator(), latency=given),
}


def named(place: str) -> str:
    return place.split(maxsplit=1)[0]


@all_cases("kind", ASYNC)
@all_cases("place", PLACES)
def test_a_coroutine_function_that_would_not_be_awaited_is_refused(place: str, kind: str) -> None:
    with pytest.raises(TypeError, match=rf"^{named(place)} must be a plain function \(got a coroutine"):
        PLACES[place](ASYNC[kind])


@all_cases("place", PLACES)
@all_cases("given", [7, "text", object()])
def test_a_callback_that_is_not_callable_is_refused(place: str, given: object) -> None:
    with pytest.raises(TypeError, match=rf"^{named(place)} must be a function \(got {type(given).__name__}\)"):
        PLACES[place](given)


@pytest.mark.parametrize("name", ["now", "durations"])
def test_a_simulator_refuses_coroutine_functions(name: str) -> None:
    with pytest.raises(TypeError, match=f"^{name} must be a plain function"):
        Simulator(**{name: coroutine})  # type: ignore[arg-type]


def test_a_handler_of_webhooks_is_a_coroutine_function() -> None:
    for handler in ASYNC.values():
        Webhooks().on("read.completed")(handler)
    with pytest.raises(TypeError, match="async def"):
        Webhooks().on("read.completed")(lambda event: None)  # type: ignore[arg-type, return-value]


def generator(report: RunReport) -> Iterator[bool]:
    yield True


async def async_generator(report: RunReport) -> AsyncIterator[bool]:
    yield True


@all_cases("name", ["stop_when", "on_progress"])
@all_cases("given", [generator, async_generator, 7, "text"])
def test_a_run_refuses_what_would_never_run(name: str, given: object) -> None:
    with pytest.raises(TypeError, match=f"^{name} must be a function"):
        CodatCommerce("key").sync.run_many(["a"], **{name: given})  # type: ignore[arg-type]


class AtTen:
    async def __call__(self, report: RunReport) -> bool:
        return await self.stop(report)

    async def stop(self, report: RunReport) -> bool:
        await asyncio.sleep(0.5)
        return report.completed >= 10


async def at_ten(least: int, report: RunReport) -> bool:
    await asyncio.sleep(0)
    return report.completed >= least


@pytest.mark.virtual_time
@pytest.mark.parametrize(
    "stop_when",
    [
        AtTen(),
        AtTen().stop,
        partial(at_ten, 10),
        lambda report: at_ten(10, report),
        lambda report: report.completed >= 10,
    ],
    ids=["object", "method", "partial", "function that returns a coroutine", "plain function"],
)
async def test_a_condition_to_stop_at_is_awaited(stop_when: Any) -> None:
    codat = Codat(30)
    async with codat.client() as client, client.sync.run_many(codat.ids, stop_when=stop_when) as run:
        outcomes = await run.results()
    assert 10 <= len(outcomes) < 30


@pytest.mark.virtual_time
async def test_an_awaited_condition_that_is_not_met_stops_nothing() -> None:
    codat = Codat(30)
    async with codat.client() as client, client.sync.run_many(codat.ids, stop_when=partial(at_ten, 1000)) as run:
        assert len(await run.results()) == 30


@pytest.mark.virtual_time
async def test_a_coroutine_function_receives_all_progress() -> None:
    codat, seen = Codat(5), []

    async def record(progress: RunProgress) -> None:
        await asyncio.sleep(0.1)
        seen.append(progress.report.completed)

    async with codat.client() as client, client.sync.run_many(codat.ids, on_progress=record) as run:
        assert len(await run.results()) == 5
    assert sorted(seen) == [1, 2, 3, 4, 5]


@pytest.mark.virtual_time
async def test_an_error_of_an_awaited_callback_is_raised() -> None:
    codat = Codat(5)

    async def fail(progress: RunProgress) -> None:
        raise LookupError("no such gauge")

    async with codat.client() as client, client.sync.run_many(codat.ids, on_progress=fail) as run:
        with pytest.raises(LookupError, match="no such gauge"):
            await run.results()
