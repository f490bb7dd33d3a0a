"""Overhead per request of the shared stores against the local rate limiter, alone and with 100 concurrent calls.

"round trip" is one process that reports nothing new; in "4 in turn", each of four connections finds what the others
have reported, with five requests in flight each. The stores are measured in turn, and the best of five medians of each
column is printed, because other work on the machine can only make a round slower.

python -m tests.benchmarks.limiters
"""

# ruff: noqa: T201 - a command that prints

import asyncio
import os
import statistics
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import cycle
from pathlib import Path
from time import perf_counter

import pytest

from codat_commerce_async import LocalRateLimiter, Quota
from codat_commerce_async.distributed import MemoryQuotaStore, QuotaStore, SharedRateLimiter
from codat_commerce_async.distributed._open import _store
from tests.support.servers import postgres, valkey
from tests.test_quota_stores import report

_ROUNDS = 5
_CALLS = 500
_CONCURRENT = 100
_COLUMNS = ("round trip", "4 in turn", "alone", "with 100")


async def main() -> None:
    """Print microseconds per round trip, and per request."""
    with _stores() as stores:
        best: dict[str, list[float]] = {}
        for _ in range(_ROUNDS):
            for name, new_store in stores.items():
                medians = await _measure(new_store)
                best[name] = [min(pair) for pair in zip(medians, best.get(name, medians), strict=True)]
    print(f"microseconds, best of {_ROUNDS} medians of {_CALLS}; load {os.getloadavg()[0]:.1f}")
    print(_row("store", _COLUMNS))
    for name, medians in best.items():
        print(_row(name, ["-" if median == 0 else f"{median:.1f}" for median in medians]))


@contextmanager
def _stores() -> Iterator[dict[str, Callable[[], QuotaStore] | None]]:
    """Return how to open each store; None is the local limiter."""
    memory = MemoryQuotaStore()
    stores: dict[str, Callable[[], QuotaStore] | None] = {"local": None, "memory": lambda: memory}
    with ExitStack() as stack:
        path = Path(stack.enter_context(tempfile.TemporaryDirectory()), "quota.db")
        urls = {"file": str(path)}
        for name, server in (("redis", valkey), ("postgres", postgres)):
            try:
                urls[name] = stack.enter_context(server()).url
            except pytest.skip.Exception as skipped:
                print(f"{name}: {skipped}")
        yield stores | {name: partial(_store, url) for name, url in urls.items()}


async def _measure(new_store: Callable[[], QuotaStore] | None) -> list[float]:
    """Return the median of each column."""
    if new_store is None:
        return [0.0, 0.0, *await _calls(LocalRateLimiter(Quota.unlimited()))]
    same, store = report(), new_store()
    trip = await _median(lambda: store.exchange(same))
    turns = await _in_turn([new_store() for _ in range(4)])
    async with SharedRateLimiter(store, Quota.unlimited()) as limiter:
        return [trip, turns, *await _calls(limiter)]


async def _calls(limiter: LocalRateLimiter | SharedRateLimiter) -> tuple[float, float]:
    async def call() -> None:
        await limiter.acquire("company")
        limiter.release("company")

    alone = await _median(call)
    many = await _median(lambda: asyncio.gather(*(call() for _ in range(_CONCURRENT))), _CALLS // 25)
    return alone, many / _CONCURRENT


async def _in_turn(stores: Sequence[QuotaStore]) -> float:
    held = {f"company-{number}": 1 for number in range(5)}
    reports = [report(f"host-{number}-abcd", rate=None, held=held) for number in range(len(stores))]
    turns = cycle(zip(stores, reports, strict=True))

    async def trip() -> None:
        store, made = next(turns)
        await store.exchange(made)

    try:
        return await _median(trip)
    finally:
        for store in stores:
            await store.aclose()


async def _median(call: Callable[[], Awaitable[object]], number: int = _CALLS) -> float:
    times = []
    for _ in range(number):
        started = perf_counter()
        await call()
        times.append(perf_counter() - started)
    return statistics.median(times) * 1e6


def _row(name: str, values: Sequence[str]) -> str:
    return f"{name:10}" + "".join(f"{value:>12}" for value in values)


if __name__ == "__main__":
    asyncio.run(main())
