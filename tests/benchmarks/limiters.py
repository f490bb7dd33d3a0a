"""Overhead per request of the shared stores against the local rate limiter, alone and with 100 concurrent calls.

"round trip" is one process that reports nothing new; in "4 in turn", each of four connections finds what the others
have reported, with five requests in flight each.

python -m tests.benchmarks.limiters
"""

# ruff: noqa: T201 - a command that prints

import asyncio
import statistics
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial
from itertools import cycle
from pathlib import Path
from time import perf_counter

import pytest

from codat_commerce_async import LocalRateLimiter, Quota
from codat_commerce_async.distributed import FileQuotaStore, MemoryQuotaStore, QuotaStore, SharedRateLimiter
from codat_commerce_async.distributed._open import _store
from tests.support.servers import postgres, valkey
from tests.test_quota_stores import report

_CALLS = 2000
_CONCURRENT = 100


async def main() -> None:
    """Print microseconds per round trip, and per request."""
    print(f"{'store':10} {'round trip':>12} {'4 in turn':>12} {'alone':>10} {'with 100':>10}   microseconds, medians")
    with ExitStack() as stack, tempfile.TemporaryDirectory() as directory:
        await _print("local", None, None)
        memory = MemoryQuotaStore()
        await _print("memory", memory, lambda: memory)
        path = Path(directory) / "quota.db"
        await _print("file", FileQuotaStore(path), lambda: FileQuotaStore(path))
        for name, server in (("redis", valkey), ("postgres", postgres)):
            try:
                url = stack.enter_context(server()).url
            except pytest.skip.Exception as skipped:
                print(f"{name:10} {skipped}")
            else:
                await _print(name, _store(url), partial(_store, url))


async def _print(name: str, store: QuotaStore | None, another: Callable[[], QuotaStore] | None) -> None:
    same = report()
    trip = None if store is None else await _median(lambda: store.exchange(same))
    turns = None if another is None else await _in_turn([another() for _ in range(4)])
    limiter = LocalRateLimiter(Quota.unlimited()) if store is None else SharedRateLimiter(store, Quota.unlimited())

    async def call() -> None:
        await limiter.acquire("company")
        limiter.release("company")

    alone = await _median(call)
    many = await _median(lambda: asyncio.gather(*(call() for _ in range(_CONCURRENT))), _CALLS // _CONCURRENT)
    shown = " ".join(f"{'-' if each is None else f'{each:.1f}':>12}" for each in (trip, turns))
    print(f"{name:10} {shown} {alone:>10.1f} {many / _CONCURRENT:>10.1f}", flush=True)
    if isinstance(limiter, SharedRateLimiter):
        await limiter.aclose()


async def _in_turn(stores: list[QuotaStore]) -> float:
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


if __name__ == "__main__":
    asyncio.run(main())
