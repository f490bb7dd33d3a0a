import asyncio
import gc
import pickle
import sys
import threading
import warnings
from collections.abc import Coroutine
from typing import Any

import aiohttp
import pytest

from codat_commerce_async import (
    ClientClosedError,
    CodatCommerce,
    Hooks,
    Operation,
    OutcomeUnknownError,
    Quota,
    RetryPolicy,
    SyncHandle,
    TransportError,
    WrongEventLoopError,
)
from codat_commerce_async._core.lifecycle import Lifecycle
from codat_commerce_async._core.local_rate_limiter import LocalRateLimiter
from tests.support.scripted import KEY, client_of, failing, forever, respond
from tests.support.wire import NEVER_RESPOND, Response, WireServer

GET = Operation("a-read", "GET", "/companies/{companyId}/things", object)
POST = Operation("a-write", "POST", "/companies/{companyId}/things", object)
LOST = failing(lambda: TransportError("lost"))
OK = Response.json({})


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run on a loop of its own, from first to last."""
    asyncio.run(main)


async def test_a_scope_passes_what_goes_well_and_what_does_not() -> None:
    lifetime = Lifecycle()
    with lifetime.scope():
        pass
    with pytest.raises(ValueError, match="a fault"), lifetime.scope(10.0):
        raise ValueError("a fault")


@pytest.mark.virtual_time
async def test_a_scope_ends_when_its_time_is_up() -> None:
    lifetime = Lifecycle()
    with pytest.raises(TimeoutError), lifetime.scope(5.0):
        await asyncio.sleep(60.0)
    assert asyncio.get_running_loop().time() == 5.0


@pytest.mark.virtual_time
async def test_closing_ends_every_scope_at_once() -> None:
    lifetime = Lifecycle()

    async def wait(seconds: float | None) -> float:
        with pytest.raises(ClientClosedError), lifetime.scope(seconds):
            await asyncio.sleep(3600.0)
        return asyncio.get_running_loop().time()

    async def sleep() -> float:
        with pytest.raises(ClientClosedError):
            await lifetime.sleep(3600.0)
        return asyncio.get_running_loop().time()

    async def nested() -> float:
        with pytest.raises(ClientClosedError), lifetime.scope():
            await lifetime.sleep(3600.0)
        return asyncio.get_running_loop().time()

    waits = asyncio.gather(wait(None), wait(7200.0), sleep(), nested())
    await asyncio.sleep(1.0)
    lifetime.close()
    lifetime.close()
    assert list(await waits) == [1.0] * 4
    assert lifetime.closed
    with pytest.raises(ClientClosedError):
        lifetime.check_open()


@pytest.mark.virtual_time
async def test_a_cancellation_beside_the_closing_is_a_cancellation() -> None:
    lifetime = Lifecycle()
    task = asyncio.create_task(lifetime.sleep(3600.0))
    await asyncio.sleep(1.0)
    lifetime.close()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.virtual_time
async def test_closing_leaves_no_cancellation_behind() -> None:
    lifetime = Lifecycle()

    async def sleep_and_continue() -> str:
        with pytest.raises(ClientClosedError):
            await lifetime.sleep(3600.0)
        await asyncio.sleep(1.0)
        return "continued"

    task = asyncio.create_task(sleep_and_continue())
    await asyncio.sleep(1.0)
    lifetime.close()
    assert await task == "continued"
    assert task.cancelling() == 0


@pytest.mark.virtual_time
async def test_a_call_that_ended_before_closing_succeeds() -> None:
    lifetime = Lifecycle()

    async def ends_as_it_closes() -> str:
        with lifetime.scope():
            await asyncio.sleep(1.0)
            lifetime.close()
            return "ended well"

    assert await ends_as_it_closes() == "ended well"
    await asyncio.sleep(1.0)  # nothing may come after it


def test_a_client_is_made_without_a_loop_in_any_thread() -> None:
    before = threading.active_count(), set(sys.modules)
    made: list[CodatCommerce] = []
    thread = threading.Thread(target=lambda: made.append(CodatCommerce(KEY)))
    thread.start()
    thread.join()
    [codat] = made
    assert repr(codat) == "<CodatCommerce https://api.codat.io open>"
    assert codat.rate_limit is None
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()
    assert (threading.active_count(), set(sys.modules)) == before
    del codat
    made.clear()
    gc.collect()  # an unused client has nothing to warn of


def test_a_client_made_in_one_thread_is_used_in_another_threads_loop() -> None:
    codat, transport = client_of(respond(200, 1))
    responses: list[object] = []

    async def use() -> None:
        async with codat:
            responses.append(await codat.call(GET, "c"))

    thread = threading.Thread(target=lambda: run(use()))
    thread.start()
    thread.join()
    assert responses == [1]
    assert len(transport.sent) == 1


def test_a_second_loop_is_refused_and_nothing_is_sent() -> None:
    codat, transport = client_of(respond(200, 1))

    async def use() -> None:
        await codat.call(GET, "c")

    async def misuse() -> None:
        handle = SyncHandle(company_id="c", sync_id="s")
        for call in (
            codat.call(GET, "c"),
            codat.sync.request("c"),
            codat.sync.start("c"),
            codat.sync.wait(handle),
            codat.__aenter__(),
        ):
            with pytest.raises(WrongEventLoopError) as caught:
                await call
            assert isinstance(caught.value, RuntimeError)
            assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301 - it is our own

    run(use())
    run(misuse())
    assert len(transport.sent) == 1


def test_a_client_whose_loop_is_over_can_still_be_closed() -> None:
    made: list[CodatCommerce] = []

    async def use() -> None:
        async with WireServer([OK]) as server:
            codat = CodatCommerce(KEY, base_url=server.url)
            await codat.call(GET, "c")
            made.append(codat)

    async def close() -> None:
        await made[0].aclose()
        await made[0].aclose()
        assert made[0].closed

    with warnings.catch_warnings():
        # The loop was closed under the connection, which reports it by itself.
        warnings.simplefilter("ignore", ResourceWarning)
        run(use())
        run(close())
        made.clear()
        gc.collect()


async def test_a_client_is_closed_on_its_own_loop_while_that_lives() -> None:
    codat, transport = client_of(respond(200, 1))
    await codat.call(GET, "c")
    refused: list[BaseException] = []

    async def close_elsewhere() -> None:
        try:
            await codat.aclose()
        except WrongEventLoopError as error:
            refused.append(error)

    await asyncio.to_thread(run, close_elsewhere())
    assert len(refused) == 1
    assert not codat.closed
    await codat.aclose()
    assert transport.closed == 1


async def test_a_closed_client_sends_nothing_any_more() -> None:
    codat, transport = client_of(respond())
    async with codat:
        pass
    assert repr(codat).endswith("closed>")
    for call in (codat.call(GET, "c"), codat.sync.request("c"), codat.sync.run("c"), codat.__aenter__()):
        with pytest.raises(ClientClosedError):
            await call
    assert transport.sent == []


async def test_an_unused_client_closes() -> None:
    codat = CodatCommerce(KEY)
    await codat.aclose()
    assert codat.closed
    del codat
    gc.collect()


async def test_closing_twice_and_side_by_side_closes_once() -> None:
    async with WireServer([OK]) as server:
        codat = CodatCommerce(KEY, base_url=server.url)
        await codat.call(GET, "c")
        await asyncio.gather(*(codat.aclose() for _ in range(5)))
        await codat.aclose()
    assert codat.closed
    gc.collect()


@pytest.mark.virtual_time
async def test_closing_wakes_a_call_that_sleeps_before_a_retry() -> None:
    codat, transport = client_of(LOST, retry=RetryPolicy(initial_backoff=100.0, max_backoff=100.0))
    reading = asyncio.create_task(codat.call(GET, "c"))
    writing = asyncio.create_task(codat.call(POST, "c"))
    await asyncio.sleep(0.001)
    await codat.aclose()
    read, wrote = await asyncio.gather(reading, writing, return_exceptions=True)
    assert type(read) is ClientClosedError
    assert read.operation == "a-read"
    assert read.__context__ is None
    assert [attempt.result for attempt in read.attempts] == ["lost"]
    # It was lost before, and now it remains unknown.
    assert type(wrote) is OutcomeUnknownError
    assert asyncio.get_running_loop().time() < 1.0
    assert len(transport.sent) == 2


@pytest.mark.virtual_time
async def test_closing_wakes_calls_that_wait_at_the_rate_limiter() -> None:
    limiter = LocalRateLimiter(Quota(per_minute=2, concurrent=1, per_company=None))
    codat, transport = client_of(forever, rate_limiter=limiter)
    tasks = [asyncio.create_task(codat.call(POST, "c")) for _ in range(5)]
    await asyncio.sleep(1.0)
    assert (limiter.in_flight, limiter.waiting) == (1, 4)
    await codat.aclose()
    sent, *waited = await asyncio.gather(*tasks, return_exceptions=True)
    # One was on its way, the others never left.
    assert type(sent) is OutcomeUnknownError
    assert type(sent.__cause__) is ClientClosedError
    assert {type(error) for error in waited} == {ClientClosedError}
    assert (limiter.in_flight, limiter.waiting, len(transport.sent)) == (0, 0, 1)
    assert asyncio.get_running_loop().time() == 1.0


@pytest.mark.virtual_time
async def test_closing_wakes_a_wait_for_a_sync() -> None:
    running = respond(200, {"companyId": "c", "syncId": "s", "syncStatusCode": 1000})
    codat, _ = client_of(running)
    waiting = asyncio.create_task(codat.sync.wait("c", "s", timeout=None))
    await asyncio.sleep(600.0)
    await codat.aclose()
    with pytest.raises(ClientClosedError):
        await waiting
    assert asyncio.get_running_loop().time() == 600.0


@pytest.mark.virtual_time
async def test_a_client_that_could_not_be_created_is_not_kept_by_its_rate_limiter() -> None:
    limiter, paused = LocalRateLimiter(), list[float]()
    hooks = Hooks(on_pause=lambda event: paused.append(event.seconds))
    with pytest.raises(ValueError, match="proxy"):
        CodatCommerce(KEY, rate_limiter=limiter, hooks=hooks, proxy="nowhere")
    limiter.pause(5.0)
    assert paused == []


@pytest.mark.virtual_time
async def test_a_call_that_is_admitted_as_the_client_closes_sends_nothing() -> None:
    class Closing(LocalRateLimiter):
        async def acquire(self, company_id: str | None, *, background: bool = False, starts_work: bool = False) -> None:
            await super().acquire(company_id, background=background, starts_work=starts_work)
            await codat.aclose()

    codat, transport = client_of(respond(200, 1), rate_limiter=Closing())
    with pytest.raises(ClientClosedError):
        await codat.call(POST, "c")
    assert transport.sent == []


async def test_no_session_is_opened_on_a_client_that_was_closed_on_the_way() -> None:
    async with WireServer([]) as server:
        codat = CodatCommerce(KEY, base_url=server.url)
        task = asyncio.create_task(codat.call(GET, "c"))
        await codat.aclose()
        with pytest.raises(ClientClosedError):
            await task
    assert server.connections == 0
    gc.collect()


async def test_a_borrowed_session_survives_its_client() -> None:
    async with WireServer([OK, NEVER_RESPOND, OK]) as server, aiohttp.ClientSession() as session:
        before = set(vars(session)), dict(session.headers), len(session.cookie_jar)
        async with CodatCommerce(KEY, base_url=server.url, session=session) as codat:
            await codat.call(GET, "c")
            hanging = asyncio.create_task(codat.call(GET, "c"))
            await server.received(2)
        with pytest.raises(ClientClosedError):
            await hanging
        del codat
        gc.collect()
        assert not session.closed
        assert (set(vars(session)), dict(session.headers), len(session.cookie_jar)) == before
        assert (await session.get(server.url)).status == 200
    assert server.requests[2].header("Authorization") is None


def test_a_forgotten_client_warns() -> None:
    async def forget() -> None:
        async with WireServer([OK]) as server:
            codat = CodatCommerce(KEY, base_url=server.url)
            await codat.call(GET, "c")
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)  # aiohttp complains, too
            del codat
            gc.collect()
            await asyncio.sleep(0)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(forget())
        messages = [str(warning.message) for warning in caught if warning.category is ResourceWarning]
        # The warnings hold what they warn of; what that holds warns, too.
        while caught:
            caught.clear()
            gc.collect()
    assert any("<CodatCommerce http://127.0.0.1" in message and "was not closed" in message for message in messages)
    assert KEY not in " ".join(messages)


def test_a_client_that_could_not_be_made_has_nothing_to_warn_of() -> None:
    with pytest.raises(ValueError, match="base_url"):
        CodatCommerce(KEY, base_url="nonsense")
    gc.collect()
