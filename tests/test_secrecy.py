"""Logs, tracebacks and pickles contain no API key, passcode of a Sync flow or password of a proxy."""

import asyncio
import base64
import copy
import logging
import pickle
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Unpack, cast

import aiohttp
import pytest

from codat_commerce_async import (
    CodatCommerce,
    CodatError,
    Hooks,
    Operation,
    PollPolicy,
    Quota,
    RetryPolicy,
    Timeouts,
    TransportError,
)
from codat_commerce_async.client import Settings
from codat_commerce_async.hooks import RequestStarted
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.models.sync import SyncStatus
from codat_commerce_async.models.sync_flow import SyncFlowUrl
from codat_commerce_async.webhooks import WebhookVerifier
from tests.support.reachable import reachable
from tests.support.scripted import KEY, client_of, failing, respond
from tests.support.wire import (
    NEVER_RESPOND,
    RESET_BEFORE_RESPONSE,
    RESET_MID_RESPONSE,
    Act,
    Raw,
    Response,
    WireServer,
)

ENCODED = base64.b64encode(KEY.encode()).decode()
PASSWORD = "the-password-of-the-proxy"
PASSCODE = "the-passcode-of-the-flow"
# Both ends of the encoded key, as a part of it is as bad.
SECRETS = (KEY, ENCODED, ENCODED[:16], ENCODED.rstrip("=")[-16:], PASSWORD, PASSCODE)
GET = Operation("a-read", "GET", "/companies/{companyId}/things", object)
POST = Operation("a-write", "POST", "/companies/{companyId}/things", object)
QUICK = RetryPolicy(attempts=2, initial_backoff=0.001, max_backoff=0.001)

Call = Callable[[CodatCommerce], Awaitable[object]]


def found_in(text: str) -> list[str]:
    return [secret for secret in SECRETS if secret in text]


def everything_of(error: BaseException) -> Iterator[str]:
    """Return all that a careless handler, an error reporter or a pickle would show of an exception."""
    yield str(error)
    yield repr(error)
    yield repr(error.args)
    yield repr(vars(error))
    yield from getattr(error, "__notes__", ())
    yield "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    # The traceback shows the cause or the context, not what is suppressed; a debugger sees all of it.
    for other in (error.__cause__, error.__context__):
        if other is not None:
            yield from everything_of(other)


def check(error: BaseException) -> None:
    for text in everything_of(error):
        assert found_in(text) == []
    if isinstance(error, CodatError):
        check_transfers(error)


def check_transfers(error: CodatError) -> None:
    pickled = pickle.dumps(error)
    assert found_in(pickled.decode("latin-1")) == []
    arrived = pickle.loads(pickled)  # noqa: S301 - it is our own
    assert (type(arrived), str(arrived), arrived.args) == (type(error), str(error), error.args)
    assert str(copy.copy(error)) == str(error)


@pytest.fixture(autouse=True)
async def all_logs(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """All that is logged while a test runs, with asyncio in debug mode."""
    caplog.set_level(logging.DEBUG)
    # The lines of source that created a callback take longer to collect than all else, and contain no values.
    monkeypatch.setattr("asyncio.constants.DEBUG_STACK_DEPTH", 1)
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = 0.0
    yield
    shown = [caplog.text, *(repr(vars(record)) for record in caplog.records)]
    for text in shown:
        assert found_in(text) == []


@asynccontextmanager
async def playing(*script: Act, **settings: Unpack[Settings]) -> AsyncIterator[tuple[CodatCommerce, WireServer]]:
    settings.setdefault("retry", QUICK)
    settings.setdefault("quota", Quota.unlimited())
    async with WireServer(script) as server:
        settings.setdefault("base_url", server.url)
        async with CodatCommerce(KEY, **settings) as codat:
            yield codat, server


async def error_of(call: Awaitable[object]) -> BaseException:
    """What a call raises, without a frame of the test's own."""
    try:
        await call
    except BaseException as error:  # noqa: BLE001 - any exception is inspected
        own = error.__traceback__
        assert own is not None
        return error.with_traceback(own.tb_next)
    raise AssertionError("it raised nothing")


ECHOES = [
    f"Basic {ENCODED}",
    f"you sent Authorization: Basic {ENCODED}",
    ENCODED.replace("=", "\\u003D").replace("+", "\\u002B"),
    ENCODED.replace("/", "\\/"),
    KEY,
    KEY.replace("+", "\\u002b"),
]


@pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 409, 418, 422, 429, 500, 503])
@pytest.mark.parametrize("operation", [GET, POST], ids=["GET", "POST"])
async def test_a_server_that_sends_the_key_back_in_its_words(status: int, operation: Operation[object]) -> None:
    for echo in ECHOES:
        fields = ", ".join(f'"{name}": "{echo}"' for name in ("service", "error", "correlationId", "canBeRetried"))
        item = f'{{"itemId": "{echo}", "message": "{echo}", "validatorName": "{echo}"}}'
        body = f'{{{fields}, "validation": {{"errors": [{item}], "warnings": [{item}]}}}}'
        headers = {"X-Correlation-Id": "Basic " + ENCODED, "X-Echo": KEY, "Retry-After": "999"}
        async with playing(*[Response(status, headers, body.encode())] * 2) as (codat, _):
            check(await error_of(codat.call(operation, "c")))


BROKEN: dict[str, list[Act]] = {
    "a reset": [RESET_BEFORE_RESPONSE] * 2,
    "a cut": [RESET_MID_RESPONSE] * 2,
    "a cut after an echo": [
        Raw(f"HTTP/1.1 200 OK\r\nContent-Length: 99\r\nX-Echo: Basic {ENCODED}\r\n\r\n{KEY}".encode())
    ]
    * 2,
    "no HTTP": [Raw(f"Authorization: Basic {ENCODED}\r\n\r\n".encode())] * 2,
    "a bad header": [Raw(f"HTTP/1.1 200 OK\r\nBasic {ENCODED}\r\n\r\n".encode())] * 2,
    "a body that is no JSON": [Response(200, {"X-Echo": KEY}, f"<html>{KEY} {ENCODED}".encode())] * 2,
    "an unpackable body": [Response(200, {"Content-Encoding": "gzip", "X-Echo": KEY}, KEY.encode())] * 2,
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("operation", [GET, POST], ids=["GET", "POST"])
async def test_an_exchange_that_breaks(name: str, operation: Operation[object]) -> None:
    async with playing(*BROKEN[name]) as (codat, _):
        error = await error_of(codat.call(operation, "c"))
    assert isinstance(error, CodatError)
    check(error)


async def refused_url() -> str:
    async with WireServer([]) as server:
        return server.url


async def test_a_server_out_of_reach() -> None:
    async with playing(base_url=await refused_url()) as (codat, _):
        check(await error_of(codat.call(POST, "c")))


@pytest.mark.parametrize("settings", [{"timeouts": Timeouts(total=0.02)}, {"timeouts": Timeouts(read=0.02)}, {}])
@pytest.mark.parametrize("operation", [GET, POST], ids=["GET", "POST"])
async def test_a_response_that_takes_too_long(settings: Settings, operation: Operation[object]) -> None:
    async with playing(NEVER_RESPOND, NEVER_RESPOND, **settings) as (codat, _):
        error = await error_of(codat.call(operation, "c", timeout=0.05))
    assert isinstance(error, CodatError)
    check(error)


@pytest.mark.parametrize("operation", [GET, POST], ids=["GET", "POST"])
@pytest.mark.parametrize("ends", ["closed", "cancelled"])
async def test_a_call_that_is_ended_on_its_way(operation: Operation[object], ends: str) -> None:
    async with playing(NEVER_RESPOND) as (codat, server):
        errors: list[BaseException] = []

        async def call() -> None:
            errors.append(await error_of(codat.call(operation, "c")))

        task = asyncio.create_task(call())
        await server.received(1)
        if ends == "closed":
            await codat.aclose()
        else:
            task.cancel()
        await task
    [error] = errors
    assert isinstance(error, CodatError if ends == "closed" else asyncio.CancelledError)
    check(error)


async def test_a_fault_in_a_hook_a_middleware_or_a_session() -> None:
    def break_headers(event: RequestStarted) -> None:
        event.headers["X-Spoiled"] = "a\r\nb"

    def break_down(event: object) -> None:
        raise ValueError("broken down")

    async def fault(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        try:
            request.headers.getone(request.headers["Authorization"])
        except KeyError:
            raise ValueError("a fault")  # noqa: B904 - what it comes from is not to come out
        return await handler(request)

    async with playing(Response(200, body=b"1"), hooks=Hooks(on_request_started=break_headers)) as (codat, _):
        await codat.call(GET, "c")
    everywhere = Hooks(
        on_call_started=break_down,
        on_request_started=break_down,
        on_request_ended=break_down,
        on_retry=break_down,
        on_pause=break_down,
        on_call_ended=break_down,
    )
    async with playing(Response(500), Response(200, body=b"1"), hooks=everywhere) as (codat, _):
        assert await codat.call(GET, "c") == 1
    async with aiohttp.ClientSession(middlewares=(fault,)) as session, playing(session=session) as (codat, _):
        error = await error_of(codat.call(GET, "c"))
        assert type(error) is TransportError
        assert "ValueError" in str(error)
        check(error)


async def test_hooks_are_not_shown_the_key() -> None:
    seen: list[str] = []

    def record_event(event: object) -> None:
        seen.append(repr(event))

    hooks = Hooks(
        on_call_started=record_event,
        on_request_started=record_event,
        on_request_ended=record_event,
        on_retry=record_event,
        on_pause=record_event,
        on_call_ended=record_event,
    )
    async with playing(
        Response(429, {"Retry-After": "0"}, f'{{"error": "{KEY}"}}'.encode()), Response(200, body=b"1"), hooks=hooks
    ) as (codat, _):
        await codat.call(POST, "c")
    assert len(seen) == 8
    assert found_in(" ".join(seen)) == []


async def test_no_object_of_a_client_shows_the_key() -> None:
    async with playing(Response(200, {"X-Echo": KEY}, b"1")) as (codat, _):
        response = await codat.send(GET, "c")
        used = codat.sync, codat.rate_limit
        ours = [each for each in reachable(codat) if type(each).__module__.startswith("codat_commerce_async")]
        shown = [repr(each) for each in (response, vars(codat), *used, *ours)]
    assert len(ours) > 20
    assert found_in(" ".join(shown)) == []


@pytest.mark.parametrize(
    "act",
    [
        RESET_BEFORE_RESPONSE,
        Response(407),
        Response(502, {}, f'{{"error": "{PASSWORD}"}}'.encode().replace(PASSWORD.encode(), b"no")),
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_with_a_password(act: Act, scheme: str) -> None:
    async with WireServer([act] * 2) as proxy:
        url = proxy.url.replace("http://", f"http://user:{PASSWORD}@")
        async with playing(base_url=f"{scheme}://api.example.com", proxy=url) as (codat, _):
            error = await error_of(codat.call(GET, "c"))
            assert found_in(repr(codat)) == []
    assert isinstance(error, CodatError)
    check(error)


async def test_a_proxy_out_of_reach() -> None:
    url = (await refused_url()).replace("http://", f"http://user:{PASSWORD}@")
    async with playing(base_url="http://api.example.com", proxy=url) as (codat, _):
        check(await error_of(codat.call(GET, "c")))


@pytest.mark.parametrize("echo", [f"Basic {ENCODED}", KEY, f"you sent {ENCODED}, thanks"])
async def test_a_key_that_is_sent_back_in_a_response_reaches_no_model(echo: str) -> None:
    fields = ("errorMessage", "syncExceptionMessage", "syncStatus", "companyId", "syncId")
    body = "{" + ", ".join(f'"{name}": "{echo}"' for name in fields) + ', "syncStatusCode": 5000}'
    headers = {"X-Correlation-Id": echo, "X-Echo": echo}
    handle = SyncHandle(company_id="c", sync_id="s", requested_at=datetime.now(UTC))
    at_once = PollPolicy(initial_delay=0.0)
    async with playing(*[Response(200, headers, body.encode())] * 2, poll=at_once) as (codat, _):
        response = await codat.send(Operation("a-read", "GET", "/companies/{companyId}/things", SyncStatus), "c")
        check(await error_of(codat.sync.wait(handle, raise_on_failure=True)))
    assert found_in(repr(response) + repr(response.value) + repr(response.headers)) == []
    assert response.value.error_message is not None
    assert "***" in response.value.error_message


FLOW = f"https://flow.example.com/start?otp={PASSCODE}"


@pytest.mark.parametrize(
    "body",
    [
        f'{{"url": "{FLOW}"}}',
        f'{{"url": ["{FLOW}"]}}',
        f'["{FLOW}"]',
        f'"{FLOW}"',
        f'{{"url": "{FLOW}',
        f'{{"{FLOW}": 1, "url": 2}}',
    ],
)
async def test_the_passcode_of_a_sync_flow(body: str) -> None:
    async with playing(*[Response(200, body=body.encode())] * 2) as (codat, _):
        get_url: Call = lambda codat: codat.connections.get_sync_flow_url(commerce_key="fztf", accounting_key="gbol")  # noqa: E731
        if body.startswith('{"url": "') and body.endswith("}"):
            flow = await get_url(codat)
            assert isinstance(flow, SyncFlowUrl)
            assert flow.url == FLOW
            assert found_in(repr(flow)) == []
            response = await codat.send(Operation("x", "GET", "/x", SyncFlowUrl))
            assert found_in(repr(response)) == []
        else:
            error = await error_of(get_url(codat))
            assert isinstance(error, CodatError)
            check(error)


BAD: Any = "no such type"
PROXY = f"http://user:{PASSWORD}@proxy"

REFUSED: dict[str, Callable[[], object]] = {
    "line break": lambda: CodatCommerce(f"{KEY}\n{KEY}"),
    "bearer": lambda: CodatCommerce(auth_header=f"Bearer {ENCODED}"),
    "both": lambda: CodatCommerce(KEY, auth_header=f"Basic {ENCODED}"),
    "bytes": lambda: CodatCommerce(cast("str", KEY.encode())),
    "user in base_url": lambda: CodatCommerce(KEY, base_url=f"https://user:{PASSWORD}@api.example.com"),
    "base_url": lambda: CodatCommerce(KEY, base_url=BAD),
    "scheme of proxy": lambda: CodatCommerce(KEY, proxy=f"socks5://user:{PASSWORD}@proxy"),
    "port of proxy": lambda: CodatCommerce(KEY, proxy=f"{PROXY}:port"),
    "session and trust_env": lambda: CodatCommerce(KEY, proxy=PROXY, session=BAD, trust_env=True),
    "retry": lambda: CodatCommerce(KEY, proxy=PROXY, retry=BAD),
    "poll": lambda: CodatCommerce(auth_header=f"Basic {ENCODED}", poll=BAD),
    "timeouts": lambda: CodatCommerce(KEY, timeouts=BAD),
    "quota": lambda: CodatCommerce(KEY, quota=BAD),
    "hooks": lambda: CodatCommerce(KEY, hooks=BAD),
    "rate limiter and quota": lambda: CodatCommerce(KEY, quota=Quota(), rate_limiter=BAD),
    "from_env": lambda: CodatCommerce.from_env(retry=BAD, proxy=PROXY),
    "webhook": lambda: WebhookVerifier(f"whsec_{KEY}!"),
    "webhook, second": lambda: WebhookVerifier("whsec_" + ENCODED, f"{KEY}"),
    "webhook, bytes": lambda: WebhookVerifier(cast("str", f"whsec_{ENCODED}".encode())),
    "webhook, tolerance": lambda: WebhookVerifier(f"whsec_{ENCODED}", tolerance=float("nan")),
    "webhook, tolerance of no type": lambda: WebhookVerifier(f"whsec_{ENCODED}", tolerance=BAD),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_constructor_that_refuses_shows_no_credentials_in_its_frames(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODAT_API_KEY", KEY)
    error = error_of_making(REFUSED[name])
    assert isinstance(error, ValueError | TypeError)
    check(error)


def error_of_making(make: Callable[[], object]) -> BaseException:
    """What a constructor raises, without the frames of the test's own."""
    try:
        make()
    except Exception as error:  # noqa: BLE001 - any exception is inspected
        own = error.__traceback__
        assert own is not None
        assert own.tb_next is not None
        return error.with_traceback(own.tb_next.tb_next)
    raise AssertionError("it raised nothing")


@pytest.mark.parametrize("cls", [CodatCommerce, WebhookVerifier])
def test_a_partly_constructed_client_has_a_repr(cls: type[object]) -> None:
    assert cls.__name__ in repr(cls.__new__(cls))


async def test_the_search_for_credentials_finds_them() -> None:
    """The search is worth something only if it finds what is there."""

    def leak(secret: str) -> None:
        raise ValueError("harmless")

    for secret in (KEY, ENCODED, PASSWORD, PASSCODE):
        try:
            leak(secret)
        except ValueError as error:
            with pytest.raises(AssertionError):
                check(error)
    codat, _ = client_of(failing(lambda: CodatError(f"it was {KEY}")), respond())
    with pytest.raises(AssertionError):
        check(await error_of(codat.call(GET, "c")))
