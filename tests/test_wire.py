import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import closing

import aiohttp
import pytest

from tests.support.wire import (
    CLOSE_WITHOUT_RESPONSE,
    ENDLESS,
    KEEP_ALIVE_THEN_DROP,
    NEVER_RESPOND,
    RESET_BEFORE_RESPONSE,
    RESET_MID_RESPONSE,
    Act,
    CutOff,
    Raw,
    Response,
    Slow,
    WireServer,
)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as one:
        yield one


async def exchange(server: WireServer, request: bytes = b"GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n") -> bytes:
    """All that comes back on a connection of its own, up to its end."""
    host, port = server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    with closing(writer):
        writer.write(request)
        return await reader.read()


async def test_a_request_is_written_down_whole(session: aiohttp.ClientSession) -> None:
    async with WireServer([Response(201, {"X-A": "b"}, b"hello")]) as server:
        response = await session.post(f"{server.url}/a%2Fb?q=1", data=b"body", headers={"X-B": "c"})
        assert (response.status, response.headers["X-A"], await response.read()) == (201, "b", b"hello")
    [request] = server.requests
    assert (request.method, request.target, request.body) == ("POST", "/a%2Fb?q=1", b"body")
    assert ("X-B", "c") in request.headers
    assert request.header("x-b") == "c"
    assert request.header("x-none") is None
    assert request.at <= asyncio.get_running_loop().time()


async def test_the_script_continues_over_one_connection_or_several() -> None:
    async with WireServer([Response.json([1]), Response.json([2]), Raw(b"HTTP/1.1 200 OK\r\n\r\nthree")]) as server:
        async with aiohttp.ClientSession() as session:
            for expected in ([1], [2]):
                async with session.get(server.url) as response:
                    assert await response.json() == expected
        async with aiohttp.ClientSession() as session, session.get(server.url) as response:
            assert await response.read() == b"three"
    assert [request.connection for request in server.requests] == [1, 1, 2]
    assert server.connections == 2


@pytest.mark.parametrize(
    ("act", "error"),
    [
        (RESET_BEFORE_RESPONSE, aiohttp.ClientOSError),
        (CLOSE_WITHOUT_RESPONSE, aiohttp.ServerDisconnectedError),
        (RESET_MID_RESPONSE, aiohttp.ClientError),
        (CutOff(200, b"0123456789", at=4), aiohttp.ClientPayloadError),
        (Raw(b"nonsense\r\n\r\n"), aiohttp.ClientResponseError),
    ],
)
async def test_a_broken_response_is_a_transport_error(
    session: aiohttp.ClientSession, act: Act, error: type[Exception]
) -> None:
    async with WireServer([act]) as server:
        with pytest.raises(error):
            async with session.post(server.url, data=b"x") as response:
                await response.read()
    assert [request.body for request in server.requests] == [b"x"]


async def test_a_response_that_is_reset_midway_shows_its_beginning(session: aiohttp.ClientSession) -> None:
    async with WireServer([RESET_MID_RESPONSE]) as server, session.get(server.url) as response:
        assert response.status == 200
        with pytest.raises(aiohttp.ClientError):
            await response.read()


async def test_a_response_that_is_cut_off_ends_where_it_was_reported() -> None:
    async with WireServer([CutOff(503, b"0123456789", at=4)]) as server:
        response = await exchange(server)
    assert response.startswith(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 10\r\n")
    assert response.endswith(b"\r\n\r\n0123")


async def test_a_kept_connection_is_dropped_at_its_second_request(session: aiohttp.ClientSession) -> None:
    async with WireServer([KEEP_ALIVE_THEN_DROP, Response(204)]) as server:
        await (await session.post(server.url)).read()
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await session.post(server.url)
        assert (await session.post(server.url)).status == 204
    assert [request.connection for request in server.requests] == [1, 1, 2]


async def test_a_slow_response_comes_after_its_time(session: aiohttp.ClientSession) -> None:
    started = asyncio.get_running_loop().time()
    async with WireServer([Slow(Response(204), 0.02)]) as server:
        assert (await session.get(server.url)).status == 204
    assert asyncio.get_running_loop().time() - started >= 0.02


@pytest.mark.parametrize("act", [NEVER_RESPOND, ENDLESS, Slow(Response(), 3600)])
async def test_leaving_ends_what_would_continue_forever(act: Act) -> None:
    before = asyncio.all_tasks()
    async with WireServer([act]) as server:
        sending = asyncio.ensure_future(exchange(server))
        await server.received(1)
    await asyncio.gather(sending, return_exceptions=True)
    assert asyncio.all_tasks() == before
    gc.collect()  # a socket left open would warn here, and a warning fails the test


async def test_an_endless_response_comes_piece_by_piece_until_the_client_leaves(
    session: aiohttp.ClientSession,
) -> None:
    async with WireServer([ENDLESS]) as server, session.get(server.url) as response:
        assert len(await response.content.readexactly(200_000)) == 200_000
        response.close()


async def test_a_request_beyond_the_script_fails_the_test() -> None:
    async def one_too_many() -> None:
        async with WireServer([Response()]) as server:
            await exchange(server, b"GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n")

    with pytest.raises(AssertionError, match=r"request 2 \(GET /2\) is beyond the script"):
        await one_too_many()


async def test_a_request_that_cannot_be_read_fails_the_test() -> None:
    async def send_one() -> None:
        async with WireServer([Response()]) as server:
            await exchange(server, b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")

    with pytest.raises(AssertionError, match="the wire server broke"):
        await send_one()
