import asyncio
import base64
import contextlib
import errno
import gc
import gzip
import json
import logging
import pickle
import re
import socket
import ssl
import threading
import warnings
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp_retry import RetryClient
from hypothesis import given
from hypothesis import strategies as st

from codat_commerce_async import CodatCommerce, Operation
from codat_commerce_async._core.credentials import Credentials
from codat_commerce_async._core.transport import (
    MAX_BODY,
    AiohttpTransport,
    Request,
    Response,
    parse_base_url,
)
from codat_commerce_async.errors import ClientClosedError, OutcomeUnknownError, RequestTimeoutError, TransportError
from codat_commerce_async.policies import RetryPolicy, Timeouts
from tests.support import wire
from tests.support.cases import all_cases
from tests.support.scripted import KEY

SOON = Timeouts(connect=5.0, read=5.0, total=5.0)
HEADER = "Basic " + base64.b64encode(KEY.encode()).decode()


def get(target: str = "/x") -> Request:
    return Request("GET", target, {}, None)


def post() -> Request:
    return Request("POST", "/x", {}, b"body")


WRITE = Operation("a-write", "POST", "/x", object)


@asynccontextmanager
async def transport_to(server: wire.WireServer, **settings: object) -> AsyncIterator[AiohttpTransport]:
    transport = AiohttpTransport(server.url, Credentials(KEY, None), **settings)  # type: ignore[arg-type]
    try:
        yield transport
    finally:
        await transport.aclose()


async def send_to(*script: wire.Act, request: Request | None = None, timeouts: Timeouts = SOON) -> Response:
    async with wire.WireServer(script) as server, transport_to(server) as transport:
        return await transport.send(request or get(), timeouts)


async def failure(*script: wire.Act, request: Request | None = None, timeouts: Timeouts = SOON) -> TransportError:
    with pytest.raises(TransportError) as caught:
        await send_to(*script, request=request, timeouts=timeouts)
    assert caught.value.__cause__ is caught.value.__context__ is None
    return caught.value


async def test_a_request_goes_out_as_it_is() -> None:
    async with (
        wire.WireServer([wire.Response(201, {"X-A": "b"}, b"hello")]) as server,
        transport_to(server) as transport,
    ):
        request = Request("PATCH", "/a%2Fb?q=%3E%20x&page=1", {"X-B": "c"}, b'{"z":1}')
        response = await transport.send(request, SOON)
    assert (response.status, response.headers["x-a"], response.body) == (201, "b", b"hello")
    [seen] = server.requests
    assert (seen.method, seen.target, seen.body) == ("PATCH", "/a%2Fb?q=%3E%20x&page=1", b'{"z":1}')
    assert seen.header("X-B") == "c"
    assert seen.header("Authorization") == HEADER
    assert seen.header("Cookie") is None


async def test_the_base_url_may_have_a_path() -> None:
    async with wire.WireServer([wire.Response()]) as server:
        transport = AiohttpTransport(parse_base_url(f"{server.url}/proxied/"), Credentials(KEY, None))
        await transport.send(get("/companies"), SOON)
        await transport.aclose()
    assert server.requests[0].target == "/proxied/companies"


async def test_cookies_are_not_kept() -> None:
    script = [wire.Response(headers={"Set-Cookie": "tenant=one"}), wire.Response()]
    async with wire.WireServer(script) as server, transport_to(server) as transport:
        for _ in range(2):
            await transport.send(get(), SOON)
    assert [request.header("Cookie") for request in server.requests] == [None, None]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_redirect_is_a_response_and_not_followed(status: int, method: str) -> None:
    async with wire.WireServer([]) as elsewhere:
        response = await send_to(
            wire.Response(status, {"Location": f"{elsewhere.url}/take"}), request=Request(method, "/x", {}, None)
        )
    assert response.status == status
    assert elsewhere.connections == 0


@pytest.mark.parametrize(
    ("encoding", "encode"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("identity", bytes)]
)
async def test_a_compressed_body_arrives_whole(encoding: str, encode: Callable[[bytes], bytes]) -> None:
    body = json.dumps(list(range(50_000))).encode()
    response = await send_to(wire.Response(headers={"Content-Encoding": encoding}, body=encode(body)))
    assert response.body == body


@pytest.mark.parametrize("encoding", ["x-gzip", "X-GZIP", " x-gzip "])
@pytest.mark.parametrize("members", [1, 2])
async def test_gzip_under_its_older_name_arrives_whole(encoding: str, members: int) -> None:
    body = gzip.compress(b'{"a": 1}') * members
    response = await send_to(wire.Response(200, {"Content-Encoding": encoding}, body))
    assert response.body == b'{"a": 1}' * members


async def test_a_body_falsely_declared_as_x_gzip_is_returned_unchanged() -> None:
    assert (await send_to(wire.Response(200, {"Content-Encoding": "x-gzip"}, b"{}"))).body == b"{}"


@pytest.mark.parametrize(
    ("body", "repeatable"),
    [
        (gzip.compress(b"0123456789")[:-9], True),
        (b"\x1f\x8bno gzip", True),
        (gzip.compress(bytes(MAX_BODY + 1), 1), False),
    ],
    ids=["cut off", "invalid", "a bomb"],
)
async def test_a_broken_x_gzip_body_is_a_transport_error(body: bytes, *, repeatable: bool) -> None:
    error = await failure(wire.Response(200, {"Content-Encoding": "x-gzip"}, body))
    assert (error.sent, error.retryable) == (True, repeatable)


async def test_a_body_without_a_length_arrives_whole() -> None:
    chunks = b"5\r\nhello\r\n7\r\n, world\r\n0\r\n\r\n"
    response = await send_to(wire.Response(headers={"Transfer-Encoding": "chunked"}, body=chunks))
    assert response.body == b"hello, world"
    assert (await send_to(wire.Raw(b"HTTP/1.1 200 OK\r\n\r\nto the end"))).body == b"to the end"


@pytest.mark.parametrize("status", [200, 204, 304])
async def test_a_response_without_a_body_has_an_empty_one(status: int) -> None:
    assert (await send_to(wire.Response(status))).body == b""


@dataclass(frozen=True)
class Bomb:
    """A small response that unpacks to more than is accepted."""

    async def play(self, connection: wire.Connection) -> bool:
        body = gzip.compress(bytes(MAX_BODY + 2**20), 1)
        await connection.send(wire.Response(headers={"Content-Encoding": "gzip"}, body=body).head() + body)
        return False


@dataclass(frozen=True)
class Flood:
    """A body that never ends, in large pieces."""

    async def play(self, connection: wire.Connection) -> bool:
        await connection.send(wire.Response(headers={"Transfer-Encoding": "chunked"}).head())
        piece = b"%x\r\n%s\r\n" % (2**20, bytes(2**20))
        while True:
            await connection.send(piece)


@pytest.mark.parametrize("act", [Bomb(), Flood()])
async def test_an_endless_body_is_cut_off_and_not_requested_again(act: wire.Act) -> None:
    error = await failure(act)
    assert (error.sent, error.retryable) == (True, False)
    assert "too large" in str(error)


BAD_HEAD = b"HTTP/1.1 200 OK\r\nX-Long: %s\r\n\r\n" % (b"x" * 20_000)


@pytest.mark.parametrize(
    ("act", "repeatable"),
    [
        (wire.RESET_BEFORE_RESPONSE, True),
        (wire.CLOSE_WITHOUT_RESPONSE, True),
        (wire.RESET_MID_RESPONSE, True),
        (wire.CutOff(200, b"0123456789", at=4), True),
        (wire.CutOff(500, b"0123456789", at=4), True),
        (wire.Raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel"), True),
        (wire.Raw(b"HTTP/1.1 200 O"), True),
        (wire.Raw(b"nonsense\r\n\r\n"), False),
        (wire.Raw(BAD_HEAD), False),
    ],
)
@pytest.mark.parametrize("make", [get, post])
async def test_a_broken_response_is_a_transport_error(
    act: wire.Act, make: Callable[[], Request], *, repeatable: bool
) -> None:
    error = await failure(act, request=make())
    assert type(error) is TransportError
    assert (error.sent, error.retryable) == (True, repeatable)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 9\r\n\r\nnot gzip!",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\nContent-Length: 9\r\n\r\nnot gzip!",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nBad Header: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\x00: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"",
    ],
)
async def test_bytes_that_are_no_http_are_a_transport_error(data: bytes) -> None:
    assert (await failure(wire.Raw(data))).sent


@pytest.mark.parametrize(
    ("act", "timeouts"),
    [
        (wire.NEVER_RESPOND, Timeouts(read=0.02)),
        (wire.NEVER_RESPOND, Timeouts(total=0.2)),
        (wire.ENDLESS, Timeouts(total=0.2)),
    ],
)
async def test_a_slow_response_is_a_timeout(act: wire.Act, timeouts: Timeouts) -> None:
    error = await failure(act, timeouts=timeouts)
    assert isinstance(error, RequestTimeoutError)
    assert isinstance(error, TimeoutError)
    assert (error.sent, error.retryable) == (True, True)


async def test_timeouts_without_end_are_none() -> None:
    endless = Timeouts(connect=float("inf"), read=float("inf"), total=float("inf"))
    assert (await send_to(wire.Response(), timeouts=endless)).status == 200


async def unused_port() -> int:
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port


async def failure_at(url: str, timeouts: Timeouts = SOON, **settings: object) -> TransportError:
    transport = AiohttpTransport(url, Credentials(KEY, None), **settings)  # type: ignore[arg-type]
    try:
        with pytest.raises(TransportError) as caught:
            await transport.send(post(), timeouts)
    finally:
        await transport.aclose()
    return caught.value


async def test_a_refused_connection_was_not_sent() -> None:
    error = await failure_at(f"http://127.0.0.1:{await unused_port()}")
    assert (error.sent, error.retryable) == (False, True)


class NoNames(AbstractResolver):
    async def resolve(self, host: str, port: int = 0, family: object = None) -> list[ResolveResult]:
        raise OSError("no such name")

    async def close(self) -> None: ...


async def test_a_name_that_is_not_found_was_not_sent() -> None:
    connector = aiohttp.TCPConnector(resolver=NoNames())
    error = await failure_at("http://api.example.com", connector=connector)
    assert (error.sent, error.retryable) == (False, True)
    assert "name" in str(error)
    assert not connector.closed
    await connector.close()


async def test_a_connection_that_takes_too_long_was_not_sent_anything() -> None:
    with contextlib.ExitStack() as sockets:
        # One that is asleep: when its queue is full, who knocks next is left standing.
        asleep = sockets.enter_context(socket.socket())
        asleep.bind(("127.0.0.1", 0))
        asleep.listen(0)
        for _ in range(3):
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(asleep.getsockname())
        error = await failure_at(f"http://127.0.0.1:{asleep.getsockname()[1]}", Timeouts(connect=0.02))
    assert isinstance(error, RequestTimeoutError)
    assert (error.sent, error.retryable) == (False, True)


async def test_a_server_that_does_not_speak_tls_was_not_sent_anything() -> None:
    async def speak_plainly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()
        writer.close()

    async with await asyncio.start_server(speak_plainly, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        error = await failure_at(f"https://127.0.0.1:{port}")
    assert (error.sent, error.retryable) == (False, False)
    assert "TLS" in str(error)


def certificate(kind: str) -> ssl.SSLContext:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if kind == "self-signed":
        with authority.cert_pem.tempfile() as cert, authority.private_key_pem.tempfile() as key:
            context.load_cert_chain(cert, key)
        return context
    hour = timedelta(hours=1)
    leaf = authority.issue_cert(
        "elsewhere.example.com" if kind == "wrong host" else "127.0.0.1",
        not_after=datetime.now(UTC) + (-hour if kind == "expired" else hour),
    )
    leaf.configure_cert(context)
    context.authority = authority  # type: ignore[attr-defined]
    return context


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("self-signed", "self.signed certificate"),
        ("expired", "certificate has expired"),
        ("wrong host", "IP address mismatch, certificate is not valid for '127.0.0.1'"),
        ("unknown authority", "unable to get local issuer certificate"),
    ],
)
async def test_the_reason_of_a_certificate_error_is_reported(kind: str, reason: str) -> None:
    context = certificate(kind)
    trusting = ssl.create_default_context()
    if kind in {"expired", "wrong host"}:
        context.authority.configure_trust(trusting)  # type: ignore[attr-defined]
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        error = await failure_at(url, ssl_context=trusting)
    assert (error.sent, error.retryable, error.host, error.errno) == (False, False, "127.0.0.1", 1)
    assert re.search(reason, error.reason or "")
    assert str(error) == f"the server's certificate is not valid ({url.removeprefix('https://')}): {error.reason}"
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - it is our own
    assert (str(again), again.host, again.errno, again.reason) == (str(error), error.host, error.errno, error.reason)


async def test_why_a_connection_was_not_made_or_lost_is_reported() -> None:
    server = f"127.0.0.1:{await unused_port()}"
    error = await failure_at(f"http://{server}")
    assert (error.host, error.errno, error.reason) == ("127.0.0.1", errno.ECONNREFUSED, "Connection refused")
    assert str(error) == f"the server cannot be reached ({server}): Connection refused"
    error = await failure_at("http://[::1]:9")
    assert str(error).startswith("the server cannot be reached ([::1]:9): ")
    error = await failure(wire.RESET_BEFORE_RESPONSE)
    assert (error.host, error.errno, error.sent) == ("127.0.0.1", errno.ECONNRESET, True)
    timed_out = await failure(wire.NEVER_RESPOND, timeouts=Timeouts(total=0.2))
    again = pickle.loads(pickle.dumps(timed_out))  # noqa: S301 - it is our own
    assert (type(again), again.host, again.errno) == (RequestTimeoutError, "127.0.0.1", None)


async def test_a_proxy_out_of_reach_was_not_sent_anything() -> None:
    proxy = f"http://user:hidden@127.0.0.1:{await unused_port()}"
    error = await failure_at("http://api.example.com", proxy=proxy)
    assert (error.sent, error.retryable) == (False, True)
    assert f"the proxy cannot be reached ({proxy.partition('@')[2]}): " in str(error)
    assert "hidden" not in str(error)


async def test_a_proxy_is_requested_the_whole_address() -> None:
    async with wire.WireServer([wire.Response()]) as proxy:
        url = proxy.url.replace("http://", "http://user:word@")
        transport = AiohttpTransport("http://api.example.com", Credentials(KEY, None), proxy=url)
        await transport.send(get("/a%2Fb"), SOON)
        await transport.aclose()
    [seen] = proxy.requests
    assert seen.target == "http://api.example.com/a%2Fb"
    assert seen.header("Proxy-Authorization") == "Basic " + base64.b64encode(b"user:word").decode()


@pytest.mark.parametrize(
    ("status", "repeatable"),
    [(407, False), (403, False), (404, False), (502, True), (503, True), (504, True), (500, True), (429, True)],
)
async def test_a_proxy_that_fails_to_make_a_tunnel_may_be_retried_and_one_that_refuses_may_not(
    status: int, *, repeatable: bool
) -> None:
    async with wire.WireServer([wire.Response(status)]) as proxy:
        error = await failure_at("https://api.example.com", proxy=proxy.url)
    assert (error.sent, error.retryable) == (False, repeatable)
    assert str(status) in str(error)


async def test_a_call_survives_a_proxy_that_is_overloaded_for_a_moment() -> None:
    async with wire.WireServer([wire.Response(503), wire.Response(503), wire.Response(407)]) as proxy:
        retry = RetryPolicy(initial_backoff=0.0)
        async with CodatCommerce(KEY, base_url="https://api.example.com", proxy=proxy.url, retry=retry) as codat:
            with pytest.raises(TransportError, match="407") as caught:
                await codat.call(WRITE)
    assert len(caught.value.attempts) == 3


class NoNamesYet(AbstractResolver):
    """A resolver that never responds."""

    async def resolve(self, host: str, port: int = 0, family: object = None) -> list[ResolveResult]:
        await asyncio.get_running_loop().create_future()
        raise AssertionError("nothing sets that future")

    async def close(self) -> None: ...


async def test_a_timeout_before_a_connection_was_there_was_not_sent() -> None:
    connector = aiohttp.TCPConnector(resolver=NoNamesYet())
    error = await failure_at("http://api.example.com", Timeouts(total=0.02), connector=connector)
    await connector.close()
    assert isinstance(error, RequestTimeoutError)
    assert (error.sent, error.retryable, error.host) == (False, True, "api.example.com")
    assert "connecting" in str(error)


@pytest.mark.parametrize("timeout", [0.02, None])
async def test_a_write_that_was_never_sent_is_not_ambiguous(timeout: float | None) -> None:
    connector = aiohttp.TCPConnector(resolver=NoNamesYet())
    async with CodatCommerce(
        KEY,
        base_url="http://api.example.com",
        connector=connector,
        retry=RetryPolicy(attempts=3, initial_backoff=0.0),
        timeouts=Timeouts(total=0.01 if timeout is None else 5.0),
    ) as codat:
        with pytest.raises(RequestTimeoutError) as caught:
            await codat.call(WRITE, timeout=timeout)
        assert not caught.value.sent
        with pytest.raises(RequestTimeoutError) as caught:
            await codat.advanced_controls.create_company(name="Bank of Dave", timeout=timeout)
        assert len(caught.value.attempts) == (3 if timeout is None else 0)
    await connector.close()


async def test_a_write_that_was_sent_before_its_timeout_is_ambiguous() -> None:
    async with (
        wire.WireServer([wire.NEVER_RESPOND]) as server,
        CodatCommerce(KEY, base_url=server.url) as codat,
    ):
        with pytest.raises(OutcomeUnknownError):
            await codat.call(WRITE, timeout=0.3)


class WatchedSockets:
    """Makes a connector's sockets, and calls a function with the number of each."""

    def __init__(self, made: Callable[[int], None]) -> None:
        self.count = 0
        self._made = made

    def __call__(self, address: tuple[object, ...]) -> socket.socket:
        self.count += 1
        self._made(self.count)
        return socket.socket()


@pytest.mark.parametrize("borrowed", [False, True])
@pytest.mark.parametrize("body", [None, b"", b"body"])
async def test_nothing_is_sent_over_a_connection_that_was_made_too_late(body: bytes | None, *, borrowed: bool) -> None:
    sockets = WatchedSockets(lambda number: None)

    def refuse() -> None:
        assert sockets.count == 1
        raise TransportError("too late", None, sent=False, retryable=False)

    async with wire.WireServer([wire.Response()]) as server:
        connector = aiohttp.TCPConnector(socket_factory=sockets)
        session = aiohttp.ClientSession(connector=connector)
        async with transport_to(server, **{"session": session} if borrowed else {"connector": connector}) as transport:
            request = Request("POST", "/x", {}, body)
            request.before_send = refuse
            with pytest.raises(TransportError, match="too late"):
                await transport.send(request, SOON)
            request.before_send = None
            await transport.send(request, SOON)
        await session.close()
    assert len(server.requests) == 1


async def test_a_write_suspended_while_it_connects_again_is_not_sent_under_a_forgotten_key() -> None:
    wall = 1_700_000_000.0

    def suspend(number: int) -> None:
        nonlocal wall
        wall += 91 * 60.0 * (number - 1)

    async with wire.WireServer([wire.CLOSE_WITHOUT_RESPONSE, wire.Response()]) as server:
        connector = aiohttp.TCPConnector(socket_factory=WatchedSockets(suspend))
        retry = RetryPolicy(initial_backoff=0.0)
        async with CodatCommerce(
            KEY, base_url=server.url, connector=connector, retry=retry, wall_clock=lambda: wall
        ) as codat:
            with pytest.raises(OutcomeUnknownError, match="forgotten the idempotency key"):
                await codat.call(WRITE)
        await connector.close()
    assert len(server.requests) == 1


WHOLE: list[wire.Act] = [
    wire.Response(body=b"{}"),
    wire.Response(),
    wire.Response(404, body=b"{}"),
    wire.Response(204),
    wire.Response(302, {"Location": "/y"}, b"moved"),
    wire.Response(body=b"x" * 2**20),
    wire.Response(200, {"Transfer-Encoding": "chunked"}, b"2\r\n{}\r\n0\r\n\r\n"),
    wire.Response(200, {"Content-Encoding": "gzip"}, gzip.compress(b"{}")),
    wire.Response(200, {"Content-Encoding": "x-gzip"}, gzip.compress(b"{}")),
]


@pytest.mark.parametrize("borrowed", [False, True])
async def test_a_connection_is_used_again_after_a_whole_response(*, borrowed: bool) -> None:
    async with wire.WireServer([*WHOLE, *WHOLE]) as server, contextlib.AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession()) if borrowed else None
        async with transport_to(server, session=session) as transport:
            for request in (get, post):
                for _ in WHOLE:
                    await transport.send(request(), SOON)
    assert server.connections == 1


@pytest.mark.parametrize(
    ("response", "timeouts"),
    [(wire.CutOff(200, b"{}", 1), SOON), (wire.RESET_MID_RESPONSE, SOON), (wire.ENDLESS, Timeouts(total=0.05))],
    ids=["cut off", "reset", "endless"],
)
async def test_a_connection_is_not_used_again_after_a_part_of_a_response(
    response: wire.Act, timeouts: Timeouts
) -> None:
    async with wire.WireServer([response, wire.Response()]) as server, transport_to(server) as transport:
        with pytest.raises(TransportError):
            await transport.send(get(), timeouts)
        assert (await transport.send(get(), SOON)).status == 200
    assert server.connections == 2


@pytest.mark.parametrize("borrowed", [False, True])
async def test_a_request_is_freed_without_garbage_collection(*, borrowed: bool) -> None:
    """A reference cycle would keep each request, and with it the key, until the next collection."""
    script = [wire.Response(body=b"{}"), wire.Response(503), wire.RESET_BEFORE_RESPONSE, wire.CutOff(200, b"{}", 1)]
    async with wire.WireServer(script) as server, contextlib.AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession()) if borrowed else None
        transport = await stack.enter_async_context(transport_to(server, session=session))
        gc.collect()
        gc.disable()
        stack.callback(gc.enable)
        before = [each for each in gc.get_objects() if isinstance(each, aiohttp.ClientRequest)]
        for _ in script:
            with contextlib.suppress(TransportError):
                await transport.send(post(), SOON)
        # A task of aiohttp's that still wrote when its request failed ends in the next turns of the loop.
        for _ in range(5):
            await asyncio.sleep(0)
        assert [each for each in gc.get_objects() if isinstance(each, aiohttp.ClientRequest)] == before


@pytest.mark.parametrize("method", ["GET", "PUT"])
@pytest.mark.parametrize("borrowed", [False, True])
async def test_a_kept_connection_that_breaks_is_not_silently_retried(method: str, *, borrowed: bool) -> None:
    async with wire.WireServer([wire.KEEP_ALIVE_THEN_DROP, wire.Response()]) as server:
        session = aiohttp.ClientSession() if borrowed else None
        async with transport_to(server, session=session) as transport:
            await transport.send(get(), SOON)
            with pytest.raises(TransportError):
                await transport.send(Request(method, "/x", {}, None), SOON)
            assert len(server.requests) == 2
            assert (await transport.send(get(), SOON)).status == 200
        if session:
            assert not session.closed
            await session.close()


async def test_a_borrowed_session_keeps_its_ways_and_does_not_impose_them() -> None:
    seen: list[str] = []

    async def own(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        seen.append(request.method)
        request.headers["X-Own"] = "1"
        return await handler(request)

    body = gzip.compress(b"{}")
    script = [wire.Response(404, {"Content-Encoding": "gzip"}, body), wire.Response(302, {"Location": "/y"})]
    async with (
        aiohttp.ClientSession(
            headers={"X-Theirs": "2", "Authorization": "Bearer theirs"},
            middlewares=(own,),
            raise_for_status=True,
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=1e-9),
        ) as session,
        wire.WireServer(script) as server,
    ):
        before = dict(session.headers), session.timeout, session.raise_for_status, session.auto_decompress
        async with transport_to(server, session=session) as transport:
            response = await transport.send(get(), SOON)
            assert (response.status, response.body) == (404, b"{}")
            assert (await transport.send(get(), SOON)).status == 302
        assert not session.closed
        assert (dict(session.headers), session.timeout, session.raise_for_status, session.auto_decompress) == before
    assert seen == ["GET", "GET"]
    assert [request.header("X-Own") for request in server.requests] == ["1", "1"]
    assert [request.header("X-Theirs") for request in server.requests] == ["2", "2"]
    authorizations = [value for name, value in server.requests[0].headers if name.lower() == "authorization"]
    assert authorizations == [HEADER]


async def read_in_tracing(session: object, context: object, event: aiohttp.TraceRequestEndParams) -> None:
    await event.response.read()


async def read_in_a_middleware(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    response = await handler(request)
    await response.text()
    return response


@pytest.mark.parametrize("reader", ["tracing", "middleware", "both"])
@pytest.mark.parametrize("body", [b'{"a": 1}', b"", b"x" * 300_000], ids=["short", "empty", "long"])
async def test_a_body_that_a_borrowed_session_has_read_already_is_there(reader: str, body: bytes) -> None:
    trace = aiohttp.TraceConfig()
    if reader != "middleware":
        trace.on_request_end.append(read_in_tracing)
    middlewares = () if reader == "tracing" else (read_in_a_middleware,)
    async with (
        aiohttp.ClientSession(trace_configs=[trace], middlewares=middlewares) as session,
        wire.WireServer([wire.Response(200, body=body)] * 2) as server,
        transport_to(server, session=session) as transport,
    ):
        for request in (get(), post()):
            assert (await transport.send(request, SOON)).body == body


@pytest.fixture
def netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "netrc"
    path.write_text("machine 127.0.0.1 login user-1 password else\n")
    path.chmod(0o600)
    monkeypatch.setenv("NETRC", str(path))


@pytest.mark.usefixtures("netrc")
async def test_the_clients_key_replaces_what_netrc_has_for_the_host() -> None:
    async with wire.WireServer([wire.Response()]) as server, transport_to(server, trust_env=True) as transport:
        assert (await transport.send(get(), SOON)).status == 200
    assert [value for name, value in server.requests[0].headers if name.lower() == "authorization"] == [HEADER]


@pytest.mark.usefixtures("netrc")
@pytest.mark.parametrize(
    "settings",
    [
        lambda: {"auth": aiohttp.BasicAuth("user-1", "else")},
        lambda: {"trust_env": True},
        lambda: {"headers": {"authorization": "Bearer else"}},
    ],
    ids=["auth", "netrc", "headers"],
)
async def test_the_clients_key_replaces_what_a_borrowed_session_brings_along(
    settings: Callable[[], dict[str, Any]],
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        session = aiohttp.ClientSession(**settings())
    async with (
        session,
        wire.WireServer([wire.Response()]) as server,
        transport_to(server, session=session) as transport,
    ):
        assert (await transport.send(get(), SOON)).status == 200
    assert [value for name, value in server.requests[0].headers if name.lower() == "authorization"] == [HEADER]


@pytest.mark.parametrize("kind", [ValueError, RuntimeError, AttributeError, KeyError, ExceptionGroup])
@pytest.mark.parametrize("sent", [False, True])
async def test_whatever_a_borrowed_sessions_middleware_raises_is_a_transport_error(
    kind: type[Exception], *, sent: bool
) -> None:
    async def fault(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        if sent:
            (await handler(request)).close()
        raise kind("its text", [ValueError("private")]) if kind is ExceptionGroup else kind("private")

    async with (
        aiohttp.ClientSession(middlewares=(fault,)) as session,
        wire.WireServer([wire.Response()]) as server,
        transport_to(server, session=session) as transport,
    ):
        with pytest.raises(TransportError) as caught:
            await transport.send(post(), SOON)
    error = caught.value
    assert (error.sent, error.retryable) == (sent, False)
    assert kind.__name__ in str(error)
    assert "test_transport.py" in str(error)
    assert "private" not in str(error)


async def test_an_object_that_only_resembles_a_session_is_refused_by_name() -> None:
    async with aiohttp.ClientSession() as session:
        wrapper = RetryClient(client_session=session)
        with pytest.raises(TypeError, match=r"^session must be an aiohttp\.ClientSession, not aiohttp_retry\."):
            CodatCommerce(KEY, session=wrapper)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^connector must be an aiohttp\.BaseConnector, not builtins\.str"):
        CodatCommerce(KEY, connector="tcp")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^ssl_context must be an ssl\.SSLContext, not builtins\.bool"):
        CodatCommerce(KEY, ssl_context=False)  # type: ignore[arg-type]


async def test_a_borrowed_session_that_was_closed_reports_it() -> None:
    session = aiohttp.ClientSession()
    await session.close()
    transport = AiohttpTransport("http://127.0.0.1:9", Credentials(KEY, None), session=session)
    with pytest.raises(ClientClosedError, match="the session is closed"):
        await transport.send(get(), SOON)


async def test_a_closed_transport_opens_no_session() -> None:
    transport = AiohttpTransport("http://127.0.0.1:9", Credentials(KEY, None))
    await transport.aclose()
    await transport.aclose()
    with pytest.raises(ClientClosedError, match="the client is closed"):
        await transport.send(get(), SOON)
    assert not transport.is_open
    gc.collect()  # an open session would warn here


async def test_a_closed_transport_leaves_a_borrowed_session_in_peace() -> None:
    async with wire.WireServer([]) as server, aiohttp.ClientSession() as session:
        transport = AiohttpTransport(server.url, Credentials(KEY, None), session=session)
        await transport.aclose()
        with pytest.raises(ClientClosedError, match="the client is closed"):
            await transport.send(get(), SOON)
        assert not session.closed
    assert server.connections == 0


@pytest.mark.parametrize("make", [get, post])
async def test_an_exchange_leaves_nothing_to_the_garbage_collector(make: Callable[[], Request]) -> None:
    async with wire.WireServer([wire.Response()] * 60) as server, transport_to(server) as transport:
        for _ in range(10):
            await transport.send(make(), SOON)
        gc.collect()
        gc.disable()
        try:
            for _ in range(50):
                await transport.send(make(), SOON)
            assert gc.collect() < 50
        finally:
            gc.enable()


async def test_closing_in_the_middle_of_an_exchange_ends_it() -> None:
    async with wire.WireServer([wire.NEVER_RESPOND]) as server, transport_to(server) as transport:
        exchange = asyncio.ensure_future(transport.send(post(), SOON))
        await server.received(1)
        assert transport.is_open
        await transport.aclose()
        with pytest.raises(TransportError) as caught:
            await exchange
    assert caught.value.sent


async def test_a_given_connector_is_used_and_left_open() -> None:
    connector = aiohttp.TCPConnector(limit=1)
    async with wire.WireServer([wire.Response()]) as server:
        async with transport_to(server, connector=connector) as transport:
            await transport.send(get(), SOON)
        assert not connector.closed
        await connector.close()


def test_making_a_transport_needs_no_loop_in_any_thread() -> None:
    made: list[AiohttpTransport] = []
    thread = threading.Thread(target=lambda: made.append(AiohttpTransport("https://h", Credentials(KEY, None))))
    thread.start()
    thread.join()
    assert [transport.is_open for transport in made] == [False]


async def test_a_borrowed_session_brings_its_own_connector() -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(ValueError, match="borrowed session"):
            AiohttpTransport("https://h", Credentials(KEY, None), session=session, connector=session.connector)
        with pytest.raises(ValueError, match="borrowed session"):
            AiohttpTransport("https://h", Credentials(KEY, None), session=session, trust_env=True)


@all_cases(
    ("given_url", "url"),
    [
        ("https://api.codat.io", "https://api.codat.io"),
        ("https://api.codat.io/", "https://api.codat.io"),
        ("http://localhost:8080/a/b//", "http://localhost:8080/a/b"),
        ("http://[::1]:80", "http://[::1]:80"),
        ("https://api.codat.io./", "https://api.codat.io."),
        ("HTTPS://API.CODAT.IO", "HTTPS://API.CODAT.IO"),
    ],
)
def test_a_base_url_loses_the_slash_at_its_end(given_url: str, url: str) -> None:
    assert parse_base_url(given_url) == url


@all_cases(
    "text",
    [
        "",
        "api.codat.io",
        "ftp://api.codat.io",
        "https://",
        "https:///path",
        "http://:80",
        "https://h?x=1",
        "https://h#x",
        "http://h:port",
        "http://h:99999",
        "http://[::1",
        " https://h",
        "https://h\n",
        "https://h/a b",
        "https://user@h",
        "https://user:hidden@h",
        "https://user:hid/den@h",
        "https://.",
        "https://api..codat.io",
        "https://api.codat.io..",
        "https://" + "a" * 64 + ".io",
        "https://a\\b.io",
    ],
)
def test_a_base_url_that_is_none_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match=r"^base_url must") as caught:
        parse_base_url(text)
    assert "hid" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("text", [None, 7, b"https://h"])
def test_a_base_url_that_is_no_string_is_refused_by_name(text: object) -> None:
    with pytest.raises(TypeError, match=r"^base_url must be a string \(got "):
        parse_base_url(text)  # type: ignore[arg-type]  # that is what is tested


@all_cases("proxy", ["", "proxy:80", "socks5://u:hidden@h", "http://u:hid/den@h:1", "http://u:hidden@h:x"])
def test_a_proxy_that_is_none_is_refused_without_its_password(proxy: str) -> None:
    with pytest.raises(ValueError, match=r"^proxy must") as caught:
        AiohttpTransport("https://h", Credentials(KEY, None), proxy=proxy)
    assert "hid" not in str(caught.value)
    assert caught.value.__context__ is None


@all_cases(
    ("api_key", "auth_header"),
    [
        (KEY, None),
        (f" {KEY}\n", None),
        (HEADER, None),
        (None, HEADER),
        (None, f"  {HEADER} "),
        (f"basic {HEADER[6:]}", None),
    ],
)
def test_the_key_is_taken_raw_or_ready_to_send(api_key: str | None, auth_header: str | None) -> None:
    assert Credentials(api_key, auth_header).header == HEADER


@all_cases(
    ("api_key", "auth_header", "message"),
    [
        (None, None, "^either api_key or auth_header must be passed, and not both$"),
        ("a", "Basic b", "^either api_key or auth_header must be passed, and not both$"),
        ("", None, "^api_key must"),
        ("  ", None, "^api_key must"),
        ("a\r\nHost: evil", None, "^api_key must"),
        ("a\ud800", None, "^api_key must"),
        ("\u00e9", None, "^api_key must be the key as Codat shows it: ASCII characters only"),
        ("Basic \u00e9", None, "^api_key must be the key as Codat shows it: ASCII characters only"),
        (None, "Basic \u00e9", "^auth_header must be the key as Codat shows it: ASCII characters only"),
        (None, "", "^auth_header must"),
        (None, "Basic", "^auth_header must"),
        (None, "Bearer abc", "^auth_header must"),
        (None, "YWJj", "^auth_header must"),
        (None, "Basic a\r\nb", "^auth_header must"),
    ],
)
def test_a_key_that_cannot_work_is_refused_by_name(api_key: str | None, auth_header: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Credentials(api_key, auth_header)


@pytest.mark.parametrize("key", [b"key", 7, ["key"]])
def test_a_key_that_is_no_string_is_refused_by_name(key: object) -> None:
    with pytest.raises(TypeError, match=r"^api_key must be a string \(got "):
        Credentials(key, None)  # type: ignore[arg-type]  # that is what is tested


def test_credentials_show_and_pickle_nothing() -> None:
    credentials = Credentials(KEY, None)
    assert repr(credentials) == str(credentials) == "Credentials(***)"
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(credentials)


@all_cases(
    "spelled",
    [
        HEADER,
        HEADER.rstrip("="),
        HEADER.replace("=", "%3D"),
        HEADER.replace("+", "\\u002B").replace("=", "\\u003d"),
        HEADER.replace("/", "\\/"),
        KEY,
        KEY.replace("+", "%2b").replace("/", "%2F").replace("?", "%3F"),
        KEY.replace("-", "\\u002d"),
        "".join(f"\\u{ord(character):04x}" for character in KEY),
    ],
)
def test_the_key_is_redacted_however_it_is_spelled(spelled: str) -> None:
    redacted = Credentials(KEY, None).redact(f'{{"error":"you sent {spelled} to us"}}'.encode())
    assert b"***" in redacted
    echo = json.loads(redacted)["error"]
    assert echo.startswith("you sent ")
    assert echo.endswith(" to us")
    assert KEY not in echo
    assert HEADER.rstrip("=")[6:] not in echo


@given(st.binary(), st.text(st.characters(exclude_characters="*"), min_size=1))
def test_redacting_breaks_on_no_body_and_no_key(body: bytes, key: str) -> None:
    try:
        credentials = Credentials(key, None)
    except ValueError:
        return
    redacted = credentials.redact(body)
    assert key.strip().encode() not in redacted
    if key.strip().encode() not in body and b"\\" not in body and b"%" not in body:
        assert redacted == body or credentials.header[6:].rstrip("=").encode() in body


def test_a_header_of_nothing_but_padding_redacts_only_itself() -> None:
    assert Credentials(None, "Basic ==").redact(b"a == b") == b"a *** b"


async def test_nothing_is_logged_of_a_request(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await send_to(wire.Response())
    assert HEADER[6:] not in caplog.text
