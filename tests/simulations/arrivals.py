"""Requests that arrive at random, faster than the rate allows now and then: none is lost, and every count is exact."""

import asyncio
import warnings
from dataclasses import dataclass
from random import Random

from codat_commerce_async import CodatCommerce, LocalRateLimiter, Quota
from codat_commerce_async.simulator import RequestQuota, Simulator
from codat_commerce_async.simulator.virtual_time import run_in_virtual_time

__all__ = ["Arrivals", "call_server", "pass_limiter"]

COMPANIES = 25


@dataclass
class Arrivals:
    """How many requests arrived, passed and were seen by the server, and what the limiter holds in the end."""

    arrived: int
    passed: int = 0
    seen: int = 0
    in_flight: int = 0
    waiting: int = 0
    most_in_a_minute: int = 0


def _quota(per_minute: int) -> Quota:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # above Codat's ceiling, on purpose
        return Quota(per_minute=per_minute)


def _times(random: Random, requests: int, per_minute: int) -> list[float]:
    """Moments of a Poisson process."""
    now, times = 0.0, []
    for _ in range(requests):
        now += random.expovariate(per_minute / 60.0)
        times.append(now)
    return times


def pass_limiter(seed: int, requests: int, per_minute: int, *, debug: bool = True) -> Arrivals:
    """Let requests pass a limiter in virtual time, each of them in flight for up to half a second.

    Without `debug`, the loop's debug mode is switched off: under `python -X dev` it takes ten times as long.
    """
    return run_in_virtual_time(_pass_limiter(Random(seed), requests, per_minute, debug=debug))


async def _pass_limiter(random: Random, requests: int, per_minute: int, *, debug: bool) -> Arrivals:
    loop, limiter, result = asyncio.get_running_loop(), LocalRateLimiter(_quota(per_minute)), Arrivals(requests)
    loop.set_debug(loop.get_debug() and debug)
    started: list[float] = []

    async def one() -> None:
        company_id = f"{random.randrange(COMPANIES)}"
        await limiter.acquire(company_id, background=random.random() < 0.1)
        started.append(loop.time())
        await asyncio.sleep(random.uniform(0.0, 0.5))
        limiter.release(company_id)
        result.passed += 1

    async with asyncio.TaskGroup() as group:
        for moment in _times(random, requests, per_minute):
            await asyncio.sleep(moment - loop.time())
            group.create_task(one())
    return _counted(result, limiter, started)


async def call_server(seed: int, requests: int, per_minute: int) -> Arrivals:
    """Make real calls to a server on loopback, in real time."""
    random, loop, result = Random(seed), asyncio.get_running_loop(), Arrivals(requests)
    simulator = Simulator(quota=RequestQuota(per_minute=None, per_day=None), log_size=requests * 2)
    ids = [simulator.add_linked_company() for _ in range(COMPANIES)]
    for company_id in ids:
        simulator.start_external_sync(company_id)
    limiter, began = LocalRateLimiter(_quota(per_minute)), loop.time()
    async with (
        simulator as server,
        CodatCommerce(simulator.api_key, base_url=server.url, rate_limiter=limiter) as codat,
    ):

        async def one() -> None:
            await codat.sync.get_latest_sync(random.choice(ids))
            result.passed += 1

        async with asyncio.TaskGroup() as group:
            for moment in _times(random, requests, per_minute):
                await asyncio.sleep(began + moment - loop.time())
                group.create_task(one())
    result.seen = len(simulator.requests)
    return _counted(result, limiter, [])


def _counted(result: Arrivals, limiter: LocalRateLimiter, started: list[float]) -> Arrivals:
    result.in_flight, result.waiting = limiter.in_flight, limiter.waiting
    end = 0
    for first, time in enumerate(started):
        while end < len(started) and started[end] < time + 60.0:
            end += 1
        result.most_in_a_minute = max(result.most_in_a_minute, end - first)
    return result
