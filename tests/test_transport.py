import asyncio
import base64
import contextlib
import gc
import gzip
import json
import logging
import pickle
import socket
import threading
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from hypothesis import given
from hypothesis import strategies as st

from codat_commerce_async import CodatCommerce, Operation
from codat_commerce_async._transport import (
    MAX_BODY,
    AiohttpTransport,
    Credentials,
    Reply,
    Request,
    base_url_of,
)
from codat_commerce_async.errors import ClientClosedError, OutcomeUnknownError, RequestTimeoutError, TransportError
from codat_commerce_async.policies import RetryPolicy, Timeouts
from tests.support import wire
from tests.support.scripted import KEY

SOON = Timeouts(connect=5.0, read=5.0, total=5.0)
HEADER = "Basic " + base64.b64encode(KEY.encode()).decode()


def get(target: str = "/x") -> Request:
    return Request("GET", target, {}, None)


def post() -> Request:
    return Request("POST", "/x", {}, b"body")


@asynccontextmanager
async def transport_to(server: wire.WireServer, **settings: object) -> AsyncIterator[AiohttpTransport]:
    transport = AiohttpTransport(server.url, Credentials(KEY, None), **settings)  # type: ignore[arg-type]
    try:
        yield transport
    finally:
        await transport.aclose()


async def answer(*script: wire.Act, request: Request | None = None, timeouts: Timeouts = SOON) -> Reply:
    async with wire.WireServer(script) as server, transport_to(server) as transport:
        return await transport.send(request or get(), timeouts)


async def failure(*script: wire.Act, request: Request | None = None, timeouts: Timeouts = SOON) -> TransportError:
    with pytest.raises(TransportError) as caught:
        await answer(*script, request=request, timeouts=timeouts)
    assert caught.value.__cause__ is caught.value.__context__ is None
    return caught.value


async def test_a_request_goes_out_as_it_is() -> None:
    async with wire.WireServer([wire.Reply(201, {"X-A": "b"}, b"hello")]) as server, transport_to(server) as transport:
        request = Request("PATCH", "/a%2Fb?q=%3E%20x&page=1", {"X-B": "c"}, b'{"z":1}')
        reply = await transport.send(request, SOON)
    assert (reply.status, reply.headers["x-a"], reply.body) == (201, "b", b"hello")
    [seen] = server.requests
    assert (seen.method, seen.target, seen.body) == ("PATCH", "/a%2Fb?q=%3E%20x&page=1", b'{"z":1}')
    assert seen.header("X-B") == "c"
    assert seen.header("Authorization") == HEADER
    assert seen.header("Cookie") is None


async def test_the_base_url_may_have_a_path() -> None:
    async with wire.WireServer([wire.Reply()]) as server:
        transport = AiohttpTransport(base_url_of(f"{server.url}/proxied/"), Credentials(KEY, None))
        await transport.send(get("/companies"), SOON)
        await transport.aclose()
    assert server.requests[0].target == "/proxied/companies"


async def test_cookies_are_not_kept() -> None:
    script = [wire.Reply(headers={"Set-Cookie": "tenant=one"}), wire.Reply()]
    async with wire.WireServer(script) as server, transport_to(server) as transport:
        for _ in range(2):
            await transport.send(get(), SOON)
    assert [request.header("Cookie") for request in server.requests] == [None, None]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_redirect_is_an_answer_and_not_followed(status: int, method: str) -> None:
    async with wire.WireServer([]) as elsewhere:
        reply = await answer(
            wire.Reply(status, {"Location": f"{elsewhere.url}/take"}), request=Request(method, "/x", {}, None)
        )
    assert reply.status == status
    assert elsewhere.connections == 0


@pytest.mark.parametrize(
    ("encoding", "encode"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("identity", bytes)]
)
async def test_a_compressed_body_arrives_whole(encoding: str, encode: Callable[[bytes], bytes]) -> None:
    body = json.dumps(list(range(50_000))).encode()
    reply = await answer(wire.Reply(headers={"Content-Encoding": encoding}, body=encode(body)))
    assert reply.body == body


async def test_a_body_without_a_length_arrives_whole() -> None:
    chunks = b"5\r\nhello\r\n7\r\n, world\r\n0\r\n\r\n"
    reply = await answer(wire.Reply(headers={"Transfer-Encoding": "chunked"}, body=chunks))
    assert reply.body == b"hello, world"
    assert (await answer(wire.Raw(b"HTTP/1.1 200 OK\r\n\r\nto the end"))).body == b"to the end"


@pytest.mark.parametrize("status", [200, 204, 304])
async def test_an_answer_without_a_body_has_an_empty_one(status: int) -> None:
    assert (await answer(wire.Reply(status))).body == b""


@dataclass(frozen=True)
class Bomb:
    """A small answer that unpacks to more than is taken."""

    async def play(self, connection: wire.Connection) -> bool:
        body = gzip.compress(bytes(MAX_BODY + 2**20), 1)
        await connection.send(wire.Reply(headers={"Content-Encoding": "gzip"}, body=body).head() + body)
        return False


@dataclass(frozen=True)
class Flood:
    """A body that never ends, in large pieces."""

    async def play(self, connection: wire.Connection) -> bool:
        await connection.send(wire.Reply(headers={"Transfer-Encoding": "chunked"}).head())
        piece = b"%x\r\n%s\r\n" % (2**20, bytes(2**20))
        while True:
            await connection.send(piece)


@pytest.mark.parametrize("act", [Bomb(), Flood()])
async def test_an_endless_body_is_cut_off_and_not_asked_for_again(act: wire.Act) -> None:
    error = await failure(act)
    assert (error.sent, error.repeatable) == (True, False)
    assert "too large" in str(error)


BAD_HEAD = b"HTTP/1.1 200 OK\r\nX-Long: %s\r\n\r\n" % (b"x" * 20_000)


@pytest.mark.parametrize(
    ("act", "repeatable"),
    [
        (wire.RESET_BEFORE_ANSWER, True),
        (wire.CLOSE_WITHOUT_ANSWER, True),
        (wire.RESET_MID_ANSWER, True),
        (wire.CutOff(200, b"0123456789", at=4), True),
        (wire.CutOff(500, b"0123456789", at=4), True),
        (wire.Raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel"), True),
        (wire.Raw(b"HTTP/1.1 200 O"), True),
        (wire.Raw(b"nonsense\r\n\r\n"), False),
        (wire.Raw(BAD_HEAD), False),
    ],
)
@pytest.mark.parametrize("make", [get, post])
async def test_a_broken_answer_is_a_transport_error(
    act: wire.Act, make: Callable[[], Request], *, repeatable: bool
) -> None:
    error = await failure(act, request=make())
    assert type(error) is TransportError
    assert (error.sent, error.repeatable) == (True, repeatable)


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
        (wire.NEVER_ANSWER, Timeouts(read=0.02)),
        (wire.NEVER_ANSWER, Timeouts(total=0.02)),
        (wire.ENDLESS, Timeouts(total=0.02)),
    ],
)
async def test_a_slow_answer_is_a_timeout(act: wire.Act, timeouts: Timeouts) -> None:
    error = await failure(act, timeouts=timeouts)
    assert isinstance(error, RequestTimeoutError)
    assert isinstance(error, TimeoutError)
    assert (error.sent, error.repeatable) == (True, True)


async def test_timeouts_without_end_are_none() -> None:
    endless = Timeouts(connect=float("inf"), read=float("inf"), total=float("inf"))
    assert (await answer(wire.Reply(), timeouts=endless)).status == 200


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
    assert (error.sent, error.repeatable) == (False, True)


class NoNames(AbstractResolver):
    async def resolve(self, host: str, port: int = 0, family: object = None) -> list[ResolveResult]:
        raise OSError("no such name")

    async def close(self) -> None: ...


async def test_a_name_that_is_not_found_was_not_sent() -> None:
    connector = aiohttp.TCPConnector(resolver=NoNames())
    error = await failure_at("http://api.example.com", connector=connector)
    assert (error.sent, error.repeatable) == (False, True)
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
    assert (error.sent, error.repeatable) == (False, True)


async def test_a_server_that_does_not_speak_tls_was_not_sent_anything() -> None:
    async def speak_plainly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()
        writer.close()

    async with await asyncio.start_server(speak_plainly, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        error = await failure_at(f"https://127.0.0.1:{port}")
    assert (error.sent, error.repeatable) == (False, False)
    assert "TLS" in str(error)


async def test_a_proxy_out_of_reach_was_not_sent_anything() -> None:
    proxy = f"http://user:hidden@127.0.0.1:{await unused_port()}"
    error = await failure_at("http://api.example.com", proxy=proxy)
    assert (error.sent, error.repeatable) == (False, True)
    assert "proxy" in str(error)
    assert "hidden" not in str(error)


async def test_a_proxy_is_asked_for_the_whole_address() -> None:
    async with wire.WireServer([wire.Reply()]) as proxy:
        url = proxy.url.replace("http://", "http://user:word@")
        transport = AiohttpTransport("http://api.example.com", Credentials(KEY, None), proxy=url)
        await transport.send(get("/a%2Fb"), SOON)
        await transport.aclose()
    [seen] = proxy.requests
    assert seen.target == "http://api.example.com/a%2Fb"
    assert seen.header("Proxy-Authorization") == "Basic " + base64.b64encode(b"user:word").decode()


async def test_a_proxy_that_refuses_the_tunnel_is_not_asked_again() -> None:
    async with wire.WireServer([wire.Reply(407)]) as proxy:
        error = await failure_at("https://api.example.com", proxy=proxy.url)
    assert (error.sent, error.repeatable) == (False, False)


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
async def test_nothing_is_sent_over_a_connection_that_is_there_too_late(body: bytes | None, *, borrowed: bool) -> None:
    sockets = WatchedSockets(lambda number: None)

    def refuse() -> None:
        assert sockets.count == 1
        raise TransportError("too late", None, sent=False, repeatable=False)

    async with wire.WireServer([wire.Reply()]) as server:
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

    async with wire.WireServer([wire.CLOSE_WITHOUT_ANSWER, wire.Reply()]) as server:
        connector = aiohttp.TCPConnector(socket_factory=WatchedSockets(suspend))
        retry = RetryPolicy(initial_backoff=0.0)
        async with CodatCommerce(
            KEY, base_url=server.url, connector=connector, retry=retry, wall_clock=lambda: wall
        ) as codat:
            with pytest.raises(OutcomeUnknownError, match="forgotten the idempotency key"):
                await codat.call(Operation("a-write", "POST", "/x", object))
        await connector.close()
    assert len(server.requests) == 1


@pytest.mark.parametrize("method", ["GET", "PUT"])
@pytest.mark.parametrize("borrowed", [False, True])
async def test_a_kept_connection_that_breaks_is_not_silently_tried_again(method: str, *, borrowed: bool) -> None:
    async with wire.WireServer([wire.KEEP_ALIVE_THEN_DROP, wire.Reply()]) as server:
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
    script = [wire.Reply(404, {"Content-Encoding": "gzip"}, body), wire.Reply(302, {"Location": "/y"})]
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
            reply = await transport.send(get(), SOON)
            assert (reply.status, reply.body) == (404, b"{}")
            assert (await transport.send(get(), SOON)).status == 302
        assert not session.closed
        assert (dict(session.headers), session.timeout, session.raise_for_status, session.auto_decompress) == before
    assert seen == ["GET", "GET"]
    assert [request.header("X-Own") for request in server.requests] == ["1", "1"]
    assert [request.header("X-Theirs") for request in server.requests] == ["2", "2"]
    authorizations = [value for name, value in server.requests[0].headers if name.lower() == "authorization"]
    assert authorizations == [HEADER]


async def test_a_borrowed_session_that_was_closed_says_so() -> None:
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


async def test_closing_in_the_middle_of_an_exchange_ends_it() -> None:
    async with wire.WireServer([wire.NEVER_ANSWER]) as server, transport_to(server) as transport:
        exchange = asyncio.ensure_future(transport.send(post(), SOON))
        await server.received(1)
        assert transport.is_open
        await transport.aclose()
        with pytest.raises(TransportError) as caught:
            await exchange
    assert caught.value.sent


async def test_a_given_connector_is_used_and_left_open() -> None:
    connector = aiohttp.TCPConnector(limit=1)
    async with wire.WireServer([wire.Reply()]) as server:
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


@pytest.mark.parametrize(
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
    assert base_url_of(given_url) == url


@pytest.mark.parametrize(
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
    with pytest.raises(ValueError, match=r"^base_url takes") as caught:
        base_url_of(text)
    assert "hid" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("text", [None, 7, b"https://h"])
def test_a_base_url_that_is_no_string_is_refused_by_name(text: object) -> None:
    with pytest.raises(TypeError, match=r"^base_url takes a string, not "):
        base_url_of(text)  # type: ignore[arg-type]  # that is what is tested


@pytest.mark.parametrize(
    "proxy", ["", "proxy:80", "socks5://u:hidden@h", "http://u:hid/den@h:1", "http://u:hidden@h:x"]
)
def test_a_proxy_that_is_none_is_refused_without_its_password(proxy: str) -> None:
    with pytest.raises(ValueError, match=r"^proxy takes") as caught:
        AiohttpTransport("https://h", Credentials(KEY, None), proxy=proxy)
    assert "hid" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
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
    assert Credentials(api_key, auth_header).header() == HEADER


@pytest.mark.parametrize(
    ("api_key", "auth_header", "message"),
    [
        (None, None, "^give either api_key or auth_header$"),
        ("a", "Basic b", "^give either api_key or auth_header$"),
        ("", None, "^api_key takes"),
        ("  ", None, "^api_key takes"),
        ("a\r\nHost: evil", None, "^api_key takes"),
        ("a\ud800", None, "^api_key takes"),
        (None, "", "^auth_header takes"),
        (None, "Basic", "^auth_header takes"),
        (None, "Bearer abc", "^auth_header takes"),
        (None, "YWJj", "^auth_header takes"),
        (None, "Basic a\r\nb", "^auth_header takes"),
    ],
)
def test_a_key_that_cannot_work_is_refused_by_name(api_key: str | None, auth_header: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Credentials(api_key, auth_header)


@pytest.mark.parametrize("key", [b"key", 7, ["key"]])
def test_a_key_that_is_no_string_is_refused_by_name(key: object) -> None:
    with pytest.raises(TypeError, match=r"^api_key takes a string, not "):
        Credentials(key, None)  # type: ignore[arg-type]  # that is what is tested


def test_credentials_show_and_pickle_nothing() -> None:
    credentials = Credentials(KEY, None)
    assert repr(credentials) == str(credentials) == "Credentials(***)"
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(credentials)


@pytest.mark.parametrize(
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
    said = json.loads(redacted)["error"]
    assert said.startswith("you sent ")
    assert said.endswith(" to us")
    assert KEY not in said
    assert HEADER.rstrip("=")[6:] not in said


@given(st.binary(), st.text(st.characters(exclude_characters="*"), min_size=1))
def test_redacting_breaks_on_no_body_and_no_key(body: bytes, key: str) -> None:
    try:
        credentials = Credentials(key, None)
    except ValueError:
        return
    redacted = credentials.redact(body)
    assert key.strip().encode() not in redacted
    if key.strip().encode() not in body and b"\\" not in body and b"%" not in body:
        assert redacted == body or credentials.header()[6:].rstrip("=").encode() in body


def test_a_header_of_nothing_but_padding_redacts_only_itself() -> None:
    assert Credentials(None, "Basic ==").redact(b"a == b") == b"a *** b"


async def test_nothing_is_logged_of_a_request(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await answer(wire.Reply())
    assert HEADER[6:] not in caplog.text
