"""What is measured, each in a process of its own: bare aiohttp, this library, and the official SDK.

`calls.py` starts it, writes orders to its standard input and reads figures from its output, both as lines of JSON.
"""

# ruff: noqa: T201 - it prints for who started it

import asyncio
import gc
import json
import os
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import import_module
from typing import Any

import aiohttp
import orjson

from tests.benchmarks.canned import COMPANY_ID, PAGE, STATUS, SYNC_ID

Call = Callable[[str], Awaitable[object]]
Calls = Mapping[str, Call]
Variant = Callable[[str], AbstractAsyncContextManager[Calls]]

KEY = "bm90LWEta2V5"


@asynccontextmanager
async def bare(base: str) -> AsyncIterator[Calls]:
    """The least that does the same: one session, and orjson to dicts."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers={"Authorization": f"Basic {KEY}"}) as session:

        async def get(url: str) -> object:
            async with session.get(url) as response:
                return orjson.loads(await response.read())

        yield {
            "status": lambda company: get(f"{base}/companies/{company}/sync/commerce/syncs/{SYNC_ID}/status"),
            "page": lambda company: get(f"{base}/companies/{company}/connections?pageSize=100"),
        }


def ours(*, watched: bool) -> Variant:
    """This library; `watched` with a quota that bounds nothing, every hook, and retries, none of which has to act."""

    @asynccontextmanager
    async def variant(base: str) -> AsyncIterator[Calls]:
        from codat_commerce_async import CodatCommerce, Hooks, Quota, RetryPolicy  # noqa: PLC0415 - not for the others

        seen: list[object] = []

        def see(event: object) -> None:
            seen[:] = (event,)

        hooks = Hooks(
            on_call_started=see,
            on_request_started=see,
            on_request_ended=see,
            on_retry=see,
            on_pause=see,
            on_call_ended=see,
        )
        # So many a minute that the rate limiter counts, but never delays.
        quota = Quota(per_minute=10**7, concurrent=10**4, per_company=10**4)
        client = (
            CodatCommerce(KEY, base_url=base, quota=quota, hooks=hooks)
            if watched
            else CodatCommerce(KEY, base_url=base, quota=Quota.unlimited(), retry=RetryPolicy.none())
        )
        async with client as codat:
            yield {
                "status": lambda company: codat.sync.get(company, SYNC_ID),
                "page": lambda company: codat.connections.list(company, page_size=100),
            }

    return variant


@asynccontextmanager
async def official(base: str) -> AsyncIterator[Calls]:
    """The vendor's SDK, as its documentation uses it."""
    sdk = import_module("codat_sync_for_commerce")
    security = import_module("codat_sync_for_commerce.models.shared").Security(auth_header=f"Basic {KEY}")
    async with sdk.CodatSyncCommerce(security=security, server_url=base) as codat:
        yield {
            "status": lambda company: codat.sync.get_async(request={"company_id": company, "sync_id": SYNC_ID}),
            "page": lambda company: codat.connections.list_async(request={"company_id": company, "page_size": 100}),
        }


VARIANTS: dict[str, Variant] = {
    "bare": bare,
    "ours": ours(watched=False),
    "watched": ours(watched=True),
    "official": official,
}


async def measure(variant: Variant, base: str, what: str, concurrent: int, calls: int) -> dict[str, float]:
    """The figures of that many calls, when every connection has been made."""
    durations: list[float] = []
    async with variant(base) as kinds:
        call = kinds[what]

        async def work(numbers: Iterator[int]) -> None:
            for _ in numbers:
                began = time.perf_counter()
                await call(COMPANY_ID)
                durations.append(time.perf_counter() - began)

        async def call_all(calls: int) -> None:
            numbers = iter(range(calls))
            await asyncio.gather(*(work(numbers) for _ in range(concurrent)))

        await call_all(concurrent)
        durations.clear()
        gc.collect()
        cpu, wall = time.process_time(), time.perf_counter()
        await call_all(calls)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    durations.sort()
    return {"cpu": cpu / calls, "rate": calls / wall, "p99": durations[int(0.99 * calls)]}


async def memory(variant: Variant, base: str, calls: int) -> dict[str, float]:
    """The bytes that a call in flight takes, of that many whose responses the server delays."""
    async with variant(base) as kinds, aiohttp.ClientSession() as control:
        await kinds["status"](COMPANY_ID)
        async with control.get(f"{base}/release"):
            pass
        gc.collect()
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        tasks = [asyncio.ensure_future(kinds["status"]("held")) for _ in range(calls)]
        async with control.get(f"{base}/full"):
            pass
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        async with control.get(f"{base}/release"):
            pass
        await asyncio.gather(*tasks)
    return {"bytes": (held - before) / calls}


def decoding(name: str, what: str, times: int) -> dict[str, float]:
    """Return the CPU time of decoding one response."""
    body = {"status": STATUS, "page": PAGE}[what]
    decode = _decoder(name, what)
    decode(body)
    gc.collect()
    began = time.process_time()
    for _ in range(times):
        decode(body)
    return {"cpu": (time.process_time() - began) / times}


def _decoder(name: str, what: str) -> Callable[[bytes], object]:
    if name == "bare":
        return orjson.loads
    if name == "official":
        shared = import_module("codat_sync_for_commerce.models.shared")
        unmarshal = import_module("codat_sync_for_commerce.utils").unmarshal_json
        response_type = {"status": shared.CompanySyncStatus, "page": shared.Connections}[what]
        return lambda body: unmarshal(body.decode(), response_type)
    from codat_commerce_async._core import codec  # noqa: PLC0415 - not for the others
    from codat_commerce_async.models.connections import Connections  # noqa: PLC0415 - likewise
    from codat_commerce_async.models.sync import CompanySyncStatus  # noqa: PLC0415 - likewise

    model: type[object] = {"status": CompanySyncStatus, "page": Connections}[what]
    return lambda body: codec.decode(body, model)


def main() -> None:
    name, base = sys.argv[1:]
    if hasattr(os, "sched_setaffinity"):
        # The server has the first.
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    for line in sys.stdin:
        order: dict[str, Any] = json.loads(line)
        match order.pop("do"):
            case "calls":
                figures = asyncio.run(measure(VARIANTS[name], base, **order))
            case "memory":
                figures = asyncio.run(memory(VARIANTS[name], base, **order))
            case _:
                figures = decoding(name, **order)
        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
