import asyncio
import gc
from collections.abc import Awaitable, Callable, Coroutine, Generator
from random import Random
from typing import Any

import aiohttp
import pytest

from codat_commerce_async import CodatCommerce, CodatError, Operation, Quota, RetryPolicy, Timeouts, TransportError
from codat_commerce_async._core.lifecycle import CancelScope
from codat_commerce_async._core.local_rate_limiter import LocalRateLimiter
from codat_commerce_async._core.transport import Request
from tests.support.reachable import reachable
from tests.support.scripted import KEY, Step, client_of, failing, respond
from tests.support.wire import RESET_BEFORE_RESPONSE, RESET_MID_RESPONSE, Act, Response, Slow, WireServer

GET = Operation("a-read", "GET", "/companies/{companyId}/things", object)
POST = Operation("a-write", "POST", "/companies/{companyId}/things", object)
QUICK = RetryPolicy(initial_backoff=0.001, max_backoff=0.001)
STATUS = respond(200, {"companyId": "c", "syncId": "s", "syncStatusCode": 1000})

Cancel = Callable[["asyncio.Task[Any]", "asyncio.Future[Any] | None"], None]


class Stepped:
    """A coroutine that is cancelled where it suspends for the n-th time, the way a task is: from outside."""

    def __init__(self, coroutine: Coroutine[Any, Any, object], at: int, cancel: Cancel) -> None:
        self.suspensions = 0
        self._coroutine = coroutine
        self._at = at
        self._cancel = cancel

    def __await__(self) -> Generator[Any, None, object]:
        inner = self._coroutine.__await__()
        task = asyncio.current_task()
        assert task is not None
        try:
            awaited = next(inner)
            while True:
                self.suspensions += 1
                if self.suspensions == self._at:
                    self._cancel(task, awaited)
                try:
                    yield awaited
                except BaseException as error:  # noqa: BLE001 - it is handed on
                    awaited = inner.throw(error)
                else:
                    awaited = next(inner)
        except StopIteration as stop:
            return stop.value


def connections_of(connector: aiohttp.BaseConnector) -> tuple[int, int]:
    """Return how many connections are in use, and how many requests wait for one."""
    return len(connector._acquired), len(connector._waiters)  # noqa: SLF001 - aiohttp has no public counts


def while_waiting(task: "asyncio.Task[Any]", awaited: "asyncio.Future[Any] | None") -> None:
    """Cancel while it waits."""
    task.cancel("by the test")


def when_woken(task: "asyncio.Task[Any]", awaited: "asyncio.Future[Any] | None") -> None:
    """Cancel when the awaited result is set already, right before the task is resumed."""
    if awaited is None:
        task.cancel("by the test")
    else:
        awaited.add_done_callback(lambda _: task.cancel("by the test"))


async def cancel_at(coroutine: Coroutine[Any, Any, object], at: int, cancel: Cancel) -> bool:
    """Cancel a coroutine at its n-th suspension; False if it has none. A CancelledError has to come out of it."""
    stepped = Stepped(coroutine, at, cancel)
    raised: list[BaseException] = []

    async def run() -> None:
        try:
            await stepped
        except BaseException as error:
            raised.append(error)
            raise

    task = asyncio.create_task(run())
    await asyncio.wait([task])
    if stepped.suspensions < at:
        assert raised == []
        return False
    assert [(type(error), error.args) for error in raised] == [(asyncio.CancelledError, ("by the test",))]
    assert task.cancelled()
    return True


async def cancel_everywhere(make: Callable[[], Awaitable[Callable[[int], Awaitable[bool]]]]) -> int:
    """Cancel at each suspension in turn, each time from the start; the number of places where that was."""
    at = 1
    while await (await make())(at):
        at += 1
        assert at < 500
    return at - 1


def after(turns: int, step: Step) -> Step:
    """The step, some turns of the loop later."""

    async def play(request: Request) -> Any:
        for _ in range(turns):
            await asyncio.sleep(0)
        await asyncio.sleep(0.5)
        return await step(request) if callable(step) else step

    return play


LOST = failing(lambda: TransportError("lost"))
Call = Callable[[CodatCommerce], Coroutine[Any, Any, object]]


async def all_pages(codat: CodatCommerce) -> object:
    return [connection async for connection in codat.connections.list("c")]


async def watched(codat: CodatCommerce) -> object:
    statuses = []
    async for status in codat.sync.watch("c", "s", timeout=100.0):
        statuses.append(status)
        break
    return statuses


CALLS: dict[str, tuple[Call, list[Step]]] = {
    "a read": (lambda codat: codat.call(GET, "c"), [after(2, respond())]),
    "a write": (lambda codat: codat.call(POST, "c", body={}), [after(2, respond())]),
    "a bounded call": (lambda codat: codat.call(GET, "c", timeout=1000.0), [after(2, respond())]),
    "a call with repeats": (
        lambda codat: codat.call(GET, "c"),
        [
            after(1, LOST),
            after(1, respond(429, None, {"Retry-After": "5"})),
            after(1, respond(503)),
            after(1, respond()),
        ],
    ),
    "a write with repeats": (
        lambda codat: codat.call(POST, "c"),
        [after(1, LOST), after(1, respond(409)), after(1, respond(429, None, {"Retry-After": "5"})), respond()],
    ),
    "pages": (
        all_pages,
        [after(1, respond(200, {"results": [{"id": "1"}], "_links": {"next": {"href": "/x?page=2"}}})), respond()],
    ),
    "a watch": (watched, [after(1, STATUS)]),
}


@pytest.mark.parametrize("cancel", [while_waiting, when_woken])
@pytest.mark.parametrize("name", CALLS)
@pytest.mark.virtual_time
async def test_a_cancellation_anywhere_comes_out_and_leaves_the_rate_limiter_exact(name: str, cancel: Cancel) -> None:
    call, script = CALLS[name]

    async def make() -> Callable[[int], Awaitable[bool]]:
        limiter = LocalRateLimiter(Quota(per_minute=60, concurrent=1, per_company=1))
        codat, transport = client_of(*script, respond(), rate_limiter=limiter, random=Random(1))

        async def attempt(at: int) -> bool:
            before = asyncio.all_tasks()
            # A neighbor holds the only place, so that the call begins in the line.
            await limiter.acquire("c")
            asyncio.get_running_loop().call_later(2.0, limiter.release, "c")
            happened = await cancel_at(call(codat), at, cancel)
            assert (transport.in_flight, limiter.waiting) == (0, 0)
            assert not any(isinstance(each, CancelScope) for each in reachable(codat))
            assert asyncio.all_tasks() == before
            await asyncio.sleep(2.0)
            assert (limiter.in_flight, limiter.in_flight_of("c")) == (0, 0)
            # The place is free for the next.
            await limiter.acquire("c")
            limiter.release("c")
            await codat.aclose()
            return happened

        return attempt

    places = await cancel_everywhere(make)
    assert places >= 3


SCRIPTS: dict[str, list[Act]] = {
    "a response": [Response.json({})],
    "a chunked response": [Response(200, {"Transfer-Encoding": "chunked"}, b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n")],
    "a reset, then a response": [RESET_BEFORE_RESPONSE, Slow(Response.json({}), 0.001)],
    "a cut, then a response": [RESET_MID_RESPONSE, Response.json({})],
}


@pytest.mark.parametrize("cancel", [while_waiting, when_woken])
@pytest.mark.parametrize("operation", [GET, POST], ids=["GET", "POST"])
@pytest.mark.parametrize("name", SCRIPTS)
async def test_a_cancellation_anywhere_on_the_wire_leaves_the_pool_clean(
    name: str, operation: Operation[object], cancel: Cancel
) -> None:
    async def make() -> Callable[[int], Awaitable[bool]]:
        async def attempt(at: int) -> bool:
            # The call after the cancelled one needs a response of its own.
            script = [*SCRIPTS[name], *[Response.json({})] * 3]
            async with WireServer(script) as server:
                limiter = LocalRateLimiter(Quota.unlimited())
                async with (
                    aiohttp.TCPConnector(limit=0) as connector,
                    CodatCommerce(
                        KEY, base_url=server.url, rate_limiter=limiter, retry=QUICK, connector=connector
                    ) as codat,
                ):
                    happened = await cancel_at(codat.call(operation, "c"), at, cancel)
                    assert (limiter.in_flight, *connections_of(connector)) == (0, 0, 0)
                    await codat.call(operation, "c")
                    assert connections_of(connector) == (0, 0)
            return happened

        return attempt

    before = asyncio.all_tasks()
    places = await cancel_everywhere(make)
    assert places >= 3
    assert asyncio.all_tasks() == before
    gc.collect()  # a socket left open would warn here


@pytest.mark.parametrize("closes", ["a session of its own", "a borrowed session"])
async def test_a_cancelled_closing_can_be_done_again(closes: str) -> None:
    async def make() -> Callable[[int], Awaitable[bool]]:
        async def attempt(at: int) -> bool:
            async with WireServer([Response.json({})]) as server, aiohttp.ClientSession() as session:
                borrowed = session if closes == "a borrowed session" else None
                codat = CodatCommerce(KEY, base_url=server.url, session=borrowed)
                await codat.call(GET, "c")
                happened = await cancel_at(codat.aclose(), at, while_waiting)
                assert codat.closed
                await codat.aclose()
                assert not session.closed
            return happened

        return attempt

    await cancel_everywhere(make)
    gc.collect()  # a session left open would warn here


async def test_a_thousand_calls_of_which_most_are_cancelled_leave_the_pool_healthy() -> None:
    rng = Random(42)
    calls, at_once = 1000, 60
    left = iter(range(calls))
    ends: dict[str, int] = {}
    limiter = LocalRateLimiter(Quota(per_minute=None, concurrent=20, per_company=5))
    async with WireServer([Response.json({})] * (calls + 1)) as server:
        before = asyncio.all_tasks()
        connector = aiohttp.TCPConnector(limit=0)
        client = CodatCommerce(
            KEY,
            base_url=server.url,
            rate_limiter=limiter,
            retry=QUICK,
            timeouts=Timeouts(total=20.0),
            connector=connector,
        )
        async with connector, client as codat:

            async def work() -> None:
                for number in left:
                    operation = rng.choice((GET, POST))
                    task = asyncio.create_task(codat.call(operation, f"company-{number % 7}"))
                    if rng.random() < 0.7:
                        for _ in range(rng.randrange(8)):
                            await asyncio.sleep(0)
                        task.cancel()
                    [end] = await asyncio.gather(task, return_exceptions=True)
                    kind = type(end).__name__
                    ends[kind] = ends.get(kind, 0) + 1

            await asyncio.gather(*(work() for _ in range(at_once)))
            assert (limiter.in_flight, limiter.waiting) == (0, 0)
            assert [limiter.in_flight_of(f"company-{number}") for number in range(7)] == [0] * 7
            assert connections_of(connector) == (0, 0)
            assert await codat.call(GET, "c") == {}
        assert len(asyncio.all_tasks() - before) <= server.connections  # the server's own
    assert sum(ends.values()) == calls
    assert set(ends) == {"CancelledError", "dict"}
    assert ends["CancelledError"] > calls / 3
    assert ends["dict"] > calls / 4
    gc.collect()  # a socket left open would warn here


@pytest.mark.virtual_time
async def test_what_interrupts_a_retry_has_no_earlier_failure_as_its_context() -> None:
    codat, transport = client_of(respond(503), after(1, respond()), retry=QUICK)
    call = asyncio.ensure_future(codat.call(GET, "c"))
    await asyncio.sleep(0.2)
    assert (len(transport.sent), transport.in_flight) == (2, 1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await call
    contexts: list[str] = []
    error = caught.value.__context__
    while error is not None:
        contexts.append(type(error).__name__)
        error = error.__context__
    assert set(contexts) <= {"CancelledError"}


@pytest.mark.virtual_time
async def test_an_outer_timeout_is_not_taken_for_ours() -> None:
    codat, _ = client_of(after(1, respond()))
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.1):
            await codat.call(GET, "c", timeout=100.0)
    assert not isinstance(caught.value, CodatError)


@pytest.mark.virtual_time
async def test_a_task_group_ends_calls_like_anything_else() -> None:
    codat, transport = client_of(after(1, respond()))

    async def fail() -> None:
        raise ValueError("a sibling failed")

    async def fan_out() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(codat.call(GET, "c"))
            group.create_task(fail())

    with pytest.raises(ExceptionGroup) as caught:
        await fan_out()
    assert [str(error) for error in caught.value.exceptions] == ["a sibling failed"]
    assert transport.in_flight == 0
