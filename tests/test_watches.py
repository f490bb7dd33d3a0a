"""Many listeners of one sync: one poller, every change, heartbeats, and an end that leaves nothing behind."""

import asyncio
import json
import os
import signal
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from contextvars import ContextVar
from random import Random
from typing import Any

import pytest

from codat_commerce_async import CodatCommerce, PollPolicy, SyncHandle, SyncStatus
from codat_commerce_async.errors import ClientClosedError, NotFoundError, SyncWaitTimeoutError
from codat_commerce_async.simulator import ScriptedSync, Simulator
from codat_commerce_async.simulator.in_memory import InMemoryTransport
from codat_commerce_async.simulator.virtual_time import loop_wall_clock
from codat_commerce_async.syncing._signals import before_signal_handlers

pytestmark = pytest.mark.virtual_time

POLL = PollPolicy(initial_delay=1.0, interval=10.0, max_interval=10.0, jitter=0.0)


class Codat:
    def __init__(self) -> None:
        clock = loop_wall_clock()
        self.simulator = Simulator(now=clock)
        self.client = CodatCommerce(
            "key",
            transport=InMemoryTransport(self.simulator, latency=lambda: 0.1),
            wall_clock=clock,
            random=Random(1),
            poll=POLL,
        )
        self.watches = self.client.sync.watches(end_on_signals=False)

    async def start(self, code: int = 2000, duration: float | None = 30.0) -> SyncHandle:
        company_id = self.simulator.add_linked_company()
        script = ScriptedSync.never_ends() if duration is None else ScriptedSync(code, duration=duration)
        self.simulator.script_sync(company_id, script)
        return await self.client.sync.start(company_id)

    @property
    def polls(self) -> int:
        return sum(request.method == "GET" for request in self.simulator.requests)


@pytest.fixture
async def codat() -> AsyncIterator[Codat]:
    one = Codat()
    async with one.client, one.watches:
        yield one
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert (one.watches.syncs, one.watches.listeners) == (0, 0)


async def codes(updates: AsyncGenerator[SyncStatus, None]) -> list[int | None]:
    async with aclosing(updates):
        return [status.sync_status_code async for status in updates]


async def test_a_hundred_listeners_of_one_sync_share_its_polls(codat: Codat) -> None:
    handle = await codat.start()
    alone = await codes(codat.client.sync.watch(handle))
    polls = codat.polls
    handle = await codat.start()
    assert await asyncio.gather(*(codes(codat.watches.watch(handle)) for _ in range(100))) == [alone] * 100
    assert alone == [1000, 2000]
    assert codat.polls - polls == polls


async def test_a_sync_is_shared_whichever_of_its_ids_is_known(codat: Codat) -> None:
    handle = await codat.start()
    first = asyncio.create_task(codes(codat.watches.watch(handle)))
    await asyncio.sleep(5)
    status = await codat.client.sync.get_status(handle.company_id)
    polls = codat.polls
    other = codat.watches.watch(handle.company_id, status.sync_id)
    seen = await anext(other)
    assert (seen.sync_status_code, codat.polls, codat.watches.syncs) == (1000, polls, 1)
    assert await codes(other) == [2000]
    assert await first == [1000, 2000]
    await other.aclose()


async def test_a_late_listener_gets_the_newest_status_at_once(codat: Codat) -> None:
    handle = await codat.start(duration=None)
    first, late = codat.watches.watch(handle), codat.watches.watch(handle)
    await anext(first)
    now = asyncio.get_running_loop().time()
    assert (await anext(late)).sync_status_code == 1000
    assert asyncio.get_running_loop().time() == now
    await first.aclose()
    await late.aclose()


async def test_polling_stops_when_the_last_listener_leaves(codat: Codat) -> None:
    handle = await codat.start(duration=None)
    first, second = codat.watches.watch(handle), codat.watches.watch(handle)
    await anext(first)
    await anext(second)
    await first.aclose()
    polls = codat.polls
    await asyncio.sleep(100)
    assert codat.polls > polls
    await second.aclose()
    polls = codat.polls
    await asyncio.sleep(100)
    assert codat.polls == polls
    assert codat.watches.syncs == 0


async def test_a_cancelled_listener_leaves_too(codat: Codat) -> None:
    handle = await codat.start(duration=None)
    listening = asyncio.create_task(codes(codat.watches.watch(handle)))
    await asyncio.sleep(25)
    assert (codat.watches.syncs, codat.watches.listeners) == (1, 1)
    listening.cancel()
    await asyncio.wait([listening])
    await asyncio.sleep(0)
    assert (codat.watches.syncs, codat.watches.listeners) == (0, 0)


async def test_every_listener_raises_the_error_of_the_poller(codat: Codat) -> None:
    unknown = SyncHandle(company_id="unknown", sync_id="unknown")
    results = await asyncio.gather(*(codes(codat.watches.watch(unknown)) for _ in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [NotFoundError] * 3
    assert len({id(result) for result in results}) == 3


async def test_the_timeout_ends_every_listener(codat: Codat) -> None:
    handle = await codat.start(duration=None)
    async with codat.client.sync.watches(timeout=60, end_on_signals=False) as watches:
        with pytest.raises(SyncWaitTimeoutError) as caught:
            await codes(watches.watch(handle))
    assert caught.value.handle.company_id == handle.company_id


async def test_heartbeats_fill_the_time_between_changes(codat: Codat) -> None:
    handle = await codat.start(duration=100)
    seen = [status and status.sync_status_code async for status in codat.watches.watch(handle, heartbeat=15)]
    assert seen[0] == 1000
    assert seen[-1] == 2000
    assert seen[1:-1] == [None] * 6


async def end_watches(codat: Codat) -> None:
    codat.watches.end()


async def close_watches(codat: Codat) -> None:
    await codat.watches.aclose()


async def close_client(codat: Codat) -> None:
    await codat.client.aclose()


@pytest.mark.parametrize("end", [end_watches, close_watches, close_client])
async def test_iterators_end_when_the_watches_or_the_client_do(
    codat: Codat, end: Callable[[Codat], Awaitable[None]]
) -> None:
    handle = await codat.start(duration=None)
    listening = [asyncio.create_task(codes(codat.watches.watch(handle))) for _ in range(3)]
    await asyncio.sleep(25)
    now = asyncio.get_running_loop().time()
    await end(codat)
    assert await asyncio.gather(*listening) == [[1000]] * 3
    assert asyncio.get_running_loop().time() - now < 0.1


async def test_a_new_iterator_ends_at_once_after_the_end(codat: Codat) -> None:
    handle = await codat.start(duration=None)
    assert not codat.watches.ended
    codat.watches.end()
    assert codat.watches.ended
    polls = codat.polls
    assert await codes(codat.watches.watch(handle)) == []
    assert codat.polls == polls


async def test_a_closed_client_cannot_be_watched() -> None:
    codat = Codat()
    await codat.client.aclose()
    with pytest.raises(ClientClosedError):
        await anext(codat.watches.watch("company", "sync"))


async def test_a_poller_does_not_run_with_the_variables_of_a_request() -> None:
    variable: ContextVar[str] = ContextVar("variable", default="of the application")
    seen = set()

    class Transport(InMemoryTransport):
        async def send(self, *args: Any, **kwargs: Any) -> Any:
            seen.add(variable.get())
            return await super().send(*args, **kwargs)

    codat = Codat()
    handle = await codat.start(duration=10)
    transport = Transport(codat.simulator)
    client = CodatCommerce("key", transport=transport, wall_clock=loop_wall_clock(), poll=POLL)
    async with client, client.sync.watches(end_on_signals=False) as watches:
        variable.set("of a request")
        assert (await codes(watches.watch(handle)))[-1] == 2000
    assert seen == {"of the application"}
    await codat.client.aclose()


def events(body: bytes) -> list[tuple[str, Any]]:
    """Return the name and the data of each event, as a browser reads them."""
    found = []
    for block in body.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            found.append((fields["event"], json.loads(fields["data"])))
    return found


async def body_of(codat: Codat, handle: SyncHandle) -> bytes:
    return b"".join([part async for part in codat.watches.event_stream(handle)])


async def test_an_event_stream_ends_with_the_sync(codat: Codat) -> None:
    handle = await codat.start(5130, duration=100)
    body = await body_of(codat, handle)
    assert [(name, data.get("syncStatusCode")) for name, data in events(body)] == [
        ("status", 1000),
        ("status", 5130),
        ("end", None),
    ]
    assert body.count(b": heartbeat\n\n") == 6


async def test_an_event_stream_reports_why_it_ends(codat: Codat) -> None:
    body = await body_of(codat, SyncHandle(company_id="unknown", sync_id="unknown"))
    [(first, problem), (last, _)] = events(body)
    assert (first, problem["status"], last) == ("problem", 404, "end")


async def test_an_event_stream_that_is_shut_down_has_no_end_so_that_the_browser_connects_again(codat: Codat) -> None:
    handle = await codat.start(duration=None)
    reading = asyncio.create_task(body_of(codat, handle))
    await asyncio.sleep(25)
    codat.watches.end()
    assert [name for name, _ in events(await reading)] == ["status"]


@asynccontextmanager
async def handled(number: signal.Signals) -> AsyncIterator[list[int]]:
    """Install a handler as a server does."""
    received: list[int] = []
    previous = signal.signal(number, lambda number, _: received.append(number))
    try:
        yield received
    finally:
        signal.signal(number, previous)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_shutdown_signal_ends_the_iterators_and_reaches_the_server(number: signal.Signals) -> None:
    codat = Codat()
    handle = await codat.start(duration=None)
    async with handled(number) as received, codat.client:
        server = signal.getsignal(number)
        async with codat.client.sync.watches() as watches:
            listening = asyncio.create_task(codes(watches.watch(handle)))
            await asyncio.sleep(25)
            os.kill(os.getpid(), number)
            assert await listening == [1000]
        assert received == [number]
        assert signal.getsignal(number) is server


async def test_signals_can_be_left_alone() -> None:
    codat = Codat()
    async with handled(signal.SIGTERM), codat.client:
        server = signal.getsignal(signal.SIGTERM)
        async with codat.client.sync.watches(end_on_signals=False):
            assert signal.getsignal(signal.SIGTERM) is server


async def test_signal_handlers_may_be_removed_in_any_order() -> None:
    calls = list[str]()
    async with handled(signal.SIGTERM) as received:
        server = signal.getsignal(signal.SIGTERM)
        first = before_signal_handlers(lambda: calls.append("first"))
        second = before_signal_handlers(lambda: calls.append("second"))
        first.__enter__()
        second.__enter__()
        os.kill(os.getpid(), signal.SIGTERM)
        assert (calls, received) == (["second", "first"], [signal.SIGTERM])
        first.__exit__(None, None, None)
        os.kill(os.getpid(), signal.SIGTERM)
        assert (calls, len(received)) == (["second", "first", "second"], 2)
        second.__exit__(None, None, None)
        os.kill(os.getpid(), signal.SIGTERM)
        assert (len(calls), len(received)) == (3, 3)
        signal.signal(signal.SIGTERM, server)


async def test_a_signal_without_a_handler_is_left_alone() -> None:
    previous = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with before_signal_handlers(lambda: None):
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, previous)


async def test_only_the_main_thread_installs_handlers() -> None:
    before = signal.getsignal(signal.SIGINT)
    found = list[object]()

    def elsewhere() -> None:
        with before_signal_handlers(lambda: None):
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found == [before]
