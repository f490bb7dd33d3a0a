"""What calls send, seen from a real server that responds byte by byte."""

import asyncio
import gzip
import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Unpack

import aiohttp
import pytest

from codat_commerce_async import (
    AuthenticationError,
    ClientClosedError,
    CodatCommerce,
    ConflictError,
    DecodeError,
    IdempotencyMismatchError,
    Operation,
    OutcomeUnknownError,
    Quota,
    QuotaExhaustedError,
    RateLimitError,
    RequestTimeoutError,
    RetryPolicy,
    ServerError,
    StatusError,
    Timeouts,
    TransportError,
)
from codat_commerce_async.client import Settings
from tests.support.scripted import KEY
from tests.support.wire import (
    CLOSE_WITHOUT_RESPONSE,
    ENDLESS,
    KEEP_ALIVE_THEN_DROP,
    NEVER_RESPOND,
    RESET_BEFORE_RESPONSE,
    RESET_MID_RESPONSE,
    Act,
    CutOff,
    KeepAliveThenDrop,
    Raw,
    Response,
    WireServer,
)

QUICK = RetryPolicy(initial_backoff=0.001, max_backoff=0.002)
STARTED = Response.json({"commerceSyncId": "new", "dataConnections": []})
SYNCED = Response.json({"syncId": "s", "syncStatusCode": 2000})
A_DATE = "Wed, 01 Jul 2026 12:00:00 GMT"
GIVEN_KEY = "0b0f3b6e-7a38-4b7c-9b0e-6d1f2c3a4b5d"


@asynccontextmanager
async def playing(*script: Act, **settings: Unpack[Settings]) -> AsyncIterator[tuple[CodatCommerce, WireServer]]:
    """A client and the server that it talks to; all of the script has to be played."""
    settings.setdefault("retry", QUICK)
    settings.setdefault("quota", Quota.unlimited())
    async with WireServer(script) as server:
        settings["base_url"] = server.url
        async with CodatCommerce(KEY, **settings) as codat:
            yield codat, server
        dropped = sum(isinstance(act, KeepAliveThenDrop) for act in script)
        assert len(server.requests) == len(script) + dropped


def log(server: WireServer) -> list[str]:
    """The server's log: methods, and the letter that stands for each key and body."""
    letters: dict[object, str] = {None: "-", b"": "-"}
    lines = []
    for request in server.requests:
        key = letters.setdefault(request.header("Idempotency-Key"), f"key{len(letters)}")
        body = letters.setdefault(request.body, f"body{len(letters)}")
        lines.append(f"{request.method} {key} {body}")
    return lines


def error_response(status: int, **headers: str) -> Response:
    body = {"statusCode": status, "error": "in Codat's words", "correlationId": "c0ffee"}
    return Response.json(body, status, {name.replace("_", "-"): value for name, value in headers.items()})


ONCE = ["POST key2 body3"]
TWICE = ONCE * 2


@pytest.mark.parametrize(
    "headers",
    [{"Retry_After": "0"}, {"Retry_After": "0.002"}, {"Retry_After": A_DATE, "Date": A_DATE}, {"Retry_After": A_DATE}],
    ids=str,
)
async def test_a_429_is_waited_out_under_the_same_key(headers: dict[str, str]) -> None:
    async with playing(error_response(429, **headers), STARTED) as (codat, server):
        assert (await codat.sync.request("c")).commerce_sync_id == "new"
    assert log(server) == TWICE


async def test_the_wait_that_a_429_requests_is_kept() -> None:
    async with playing(error_response(429, Retry_After="0.03"), SYNCED) as (codat, server):
        await codat.sync.get_latest_sync("c")
    first, second = server.requests
    # The clock of uvloop has milliseconds, whose difference is not exact as a float.
    assert round(second.at - first.at, 6) >= 0.03


@pytest.mark.parametrize("retry_after", ["121", "999999999999", "Wed, 01 Jul 2026 12:02:01 GMT"])
async def test_a_429_that_requests_too_long_a_wait_is_raised_at_once(retry_after: str) -> None:
    async with playing(error_response(429, Retry_After=retry_after, Date=A_DATE)) as (codat, _):
        with pytest.raises(RateLimitError) as caught:
            await codat.sync.request("c")
    assert caught.value.retry_after is not None
    assert caught.value.retry_after > 120
    assert caught.value.correlation_id == "c0ffee"
    assert [attempt.status for attempt in caught.value.attempts] == [429]


async def test_a_spent_day_is_reported_at_once_to_all_who_wait() -> None:
    spent = error_response(429, Retry_After="7200", X_Rate_Limit_Remaining="0", X_Rate_Limit_Limit="1000")
    async with playing(spent) as (codat, _):
        with pytest.raises(QuotaExhaustedError):
            await codat.sync.request("c")
        with pytest.raises(QuotaExhaustedError) as caught:
            await codat.sync.request("c")
        assert caught.value.retry_after == pytest.approx(7200, abs=1)
        assert codat.rate_limit is not None
        assert codat.rate_limit.limit == 1000


@pytest.mark.parametrize("retry_after", ["172801", "999999999999"])
async def test_a_spent_day_that_lasts_for_years_is_no_spent_day(retry_after: str) -> None:
    async with playing(error_response(429, Retry_After=retry_after, X_Rate_Limit_Remaining="0")) as (codat, _):
        with pytest.raises(RateLimitError):
            await codat.sync.request("c")


@pytest.mark.parametrize(
    "broken",
    [
        RESET_BEFORE_RESPONSE,
        CLOSE_WITHOUT_RESPONSE,
        RESET_MID_RESPONSE,
        CutOff(200, b'{"commerceSyncId":"lost"}', at=9),
    ],
)
async def test_a_lost_response_repeats_the_same_key_and_the_same_bytes(broken: Act) -> None:
    async with playing(broken, STARTED) as (codat, server):
        response = await codat.send(POST, "c", body={"a": [1, 2]})
    assert response.value == json.loads(STARTED.body)
    assert log(server) == TWICE
    assert [attempt.status for attempt in response.attempts] == [None, 200]
    assert response.idempotency_key == server.requests[0].header("Idempotency-Key")


POST = Operation("a-write", "POST", "/companies/{companyId}/things", object)


async def test_a_given_key_is_the_one_that_is_sent() -> None:
    async with playing(RESET_BEFORE_RESPONSE, STARTED) as (codat, server):
        await codat.sync.request("c", idempotency_key=GIVEN_KEY)
    assert [request.header("Idempotency-Key") for request in server.requests] == [GIVEN_KEY] * 2


async def test_every_call_has_a_key_of_its_own() -> None:
    async with playing(STARTED, STARTED) as (codat, server):
        await codat.sync.request("c")
        await codat.sync.request("c")
    assert len({request.header("Idempotency-Key") for request in server.requests}) == 2


async def test_a_write_that_is_lost_permanently_is_ambiguous() -> None:
    async with playing(*[RESET_BEFORE_RESPONSE] * 4) as (codat, server):
        with pytest.raises(OutcomeUnknownError) as caught:
            await codat.sync.request("c", idempotency_key=GIVEN_KEY)
    assert log(server) == ONCE * 4
    assert caught.value.idempotency_key == GIVEN_KEY
    assert caught.value.requested_at is not None
    assert isinstance(caught.value.__cause__, TransportError)
    assert [attempt.number for attempt in caught.value.attempts] == [1, 2, 3, 4]
    assert {attempt.status for attempt in caught.value.attempts} == {None}


@pytest.mark.parametrize("status", [500, 502, 503, 504])
@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_a_5xx_on_a_write_is_one_request_and_ambiguous(status: int, method: str) -> None:
    async with playing(error_response(status)) as (codat, _):
        with pytest.raises(OutcomeUnknownError) as caught:
            await codat.call(Operation("a-write", method, "/x", object), body={}, idempotency_key=GIVEN_KEY)
    assert caught.value.idempotency_key == GIVEN_KEY
    assert caught.value.correlation_id == "c0ffee"
    assert isinstance(caught.value.__cause__, ServerError)
    assert caught.value.__cause__.status == status


async def test_a_409_after_a_repeat_is_waited_for_beyond_the_number_of_attempts() -> None:
    waiting = RetryPolicy(attempts=2, initial_backoff=0.001)
    in_progress = error_response(409, Retry_After="0")
    async with playing(RESET_BEFORE_RESPONSE, *[in_progress] * 4, STARTED, retry=waiting) as (codat, server):
        assert (await codat.sync.request("c")).commerce_sync_id == "new"
    assert log(server) == ONCE * 6


async def test_a_409_after_a_repeat_is_waited_for_only_so_long() -> None:
    # The pause that the server requests would end after the deadline, however slow the machine is.
    accelerated = RetryPolicy(initial_backoff=0.001, deadline=60.0)
    async with playing(RESET_BEFORE_RESPONSE, error_response(409, Retry_After="90"), retry=accelerated) as (codat, _):
        with pytest.raises(OutcomeUnknownError) as caught:
            await codat.sync.request("c")
    assert isinstance(caught.value.__cause__, ConflictError)


@pytest.mark.parametrize(("status", "kind"), [(409, ConflictError), (422, IdempotencyMismatchError)])
async def test_a_first_409_and_a_422_are_raised(status: int, kind: type[StatusError]) -> None:
    async with playing(error_response(status)) as (codat, _):
        with pytest.raises(kind, match="in Codat's words"):
            await codat.sync.request("c")


async def test_a_422_after_a_repeat_is_raised() -> None:
    async with playing(RESET_BEFORE_RESPONSE, error_response(422)) as (codat, server):
        with pytest.raises(IdempotencyMismatchError):
            await codat.sync.request("c")
    assert log(server) == TWICE


async def test_a_get_goes_through_500s_and_a_reset_without_a_key() -> None:
    async with playing(error_response(500), RESET_BEFORE_RESPONSE, error_response(503), SYNCED) as (codat, server):
        status = await codat.sync.get_latest_sync("c")
    assert status.sync_id == "s"
    assert log(server) == ["GET - -"] * 4


async def test_a_get_that_fails_to_the_end_raises_what_it_saw_last() -> None:
    async with playing(error_response(500), RESET_BEFORE_RESPONSE, error_response(500), error_response(503)) as (
        codat,
        _,
    ):
        with pytest.raises(ServerError) as caught:
            await codat.sync.get_latest_sync("c")
    assert caught.value.status == 503
    assert [attempt.status for attempt in caught.value.attempts] == [500, None, 500, 503]


async def test_a_put_is_repeated_without_a_key() -> None:
    connection = Response.json({"id": "k", "status": "Linked"})
    async with playing(RESET_MID_RESPONSE, error_response(500), connection) as (codat, server):
        await codat.connections.update_authorization("c", "k", {"user": "me"})
    assert log(server) == ["PUT - body2"] * 3


async def test_an_html_502_is_a_server_error() -> None:
    html = Response(502, {"Content-Type": "text/html"}, b"<html><h1>Bad Gateway</h1></html>")
    async with playing(html, html, retry=RetryPolicy(attempts=2, initial_backoff=0.0)) as (codat, _):
        with pytest.raises(ServerError, match="502 Bad Gateway") as caught:
            await codat.sync.get_latest_sync("c")
    assert caught.value.error is None
    assert "<" not in str(caught.value)


@pytest.mark.parametrize(
    "response",
    [
        Response(200),
        Response(200, body=b"<html>"),
        Response(200, body=b'{"a":'),
        Response(200, body=b"[]"),
        Response(204),
    ],
)
async def test_a_success_that_cannot_be_read_reports_it_and_is_not_requested_again(response: Response) -> None:
    async with playing(response, response) as (codat, _):
        with pytest.raises(DecodeError) as caught:
            await codat.sync.get_latest_sync("c")
        assert caught.value.status == response.status
        assert caught.value.operation == "get-latest-sync"
        with pytest.raises(DecodeError) as caught:
            await codat.sync.request("c", idempotency_key=GIVEN_KEY)
        assert caught.value.idempotency_key == GIVEN_KEY


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_refused_and_the_key_goes_nowhere_else(status: int) -> None:
    async with WireServer([]) as elsewhere:
        async with playing(*[Response(status, {"Location": elsewhere.url})] * 2) as (codat, server):
            for call in (codat.sync.get_latest_sync("c"), codat.sync.request("c")):
                with pytest.raises(StatusError, match="redirect, which is not followed") as caught:
                    await call
                assert caught.value.status == status
        assert [request.method for request in server.requests] == ["GET", "POST"]
        assert elsewhere.connections == 0


@pytest.mark.parametrize("status", [300, 304, 305])
async def test_a_3xx_that_is_no_redirect_is_not_called_one(status: int) -> None:
    async with playing(Response(status)) as (codat, _):
        with pytest.raises(StatusError) as caught:
            await codat.sync.get_latest_sync("c")
    assert caught.value.status == status
    assert "redirect" not in str(caught.value)


@pytest.mark.parametrize("status", [408, 421, 425])
async def test_a_request_that_was_not_processed_is_sent_again_with_its_key(status: int) -> None:
    async with playing(Response(status), Response(200, body=b"{}"), Response(status), Response(200, body=b"{}")) as (
        codat,
        server,
    ):
        await codat.sync.get_latest_sync("c")
        await codat.sync.request("c")
    assert [request.method for request in server.requests] == ["GET", "GET", "POST", "POST"]
    first, second = (request.header("Idempotency-Key") for request in server.requests[2:])
    assert first == second is not None


@pytest.mark.parametrize("borrowed", [False, True])
@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_a_kept_connection_that_breaks_costs_a_counted_attempt(method: str, *, borrowed: bool) -> None:
    operation = Operation("a-call", method, "/x", object)
    seen: list[str] = []

    async def own(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        seen.append(request.method)
        return await handler(request)

    async with aiohttp.ClientSession(middlewares=(own,)) as session:
        settings: Settings = {"session": session} if borrowed else {}
        async with playing(KEEP_ALIVE_THEN_DROP, Response(200, body=b"1"), **settings) as (codat, server):
            with pytest.raises(DecodeError):  # the first response is empty
                await codat.call(operation)
            response = await codat.send(operation)
        assert not session.closed
    assert len(server.requests) == 3
    assert [attempt.status for attempt in response.attempts] == [None, 200]
    assert seen == ([method] * 3 if borrowed else [])


@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_without_retries_a_kept_connection_that_breaks_is_an_error(method: str) -> None:
    operation = Operation("a-call", method, "/x", object)
    async with playing(KeepAliveThenDrop(Response(200, body=b"1")), retry=RetryPolicy.none()) as (codat, server):
        await codat.call(operation)
        with pytest.raises(TransportError):
            await codat.call(operation)
        assert len(server.requests) == 2


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_endless_body_ends_with_the_time(method: str) -> None:
    # The cap itself is held in test_transport.py; here the time ends it first.
    accelerated = Timeouts(total=0.2)
    async with playing(ENDLESS, timeouts=accelerated, retry=RetryPolicy.none()) as (codat, _):
        with pytest.raises(RequestTimeoutError if method == "GET" else OutcomeUnknownError) as caught:
            await codat.call(Operation("a-call", method, "/x", object))
    cause = caught.value.__cause__ or caught.value
    assert isinstance(cause, RequestTimeoutError)


async def test_a_gzipped_body_is_read() -> None:
    response = Response(200, {"Content-Encoding": "gzip"}, gzip.compress(SYNCED.body))
    async with playing(response) as (codat, server):
        assert (await codat.sync.get_latest_sync("c")).sync_id == "s"
    assert "gzip" in (server.requests[0].header("Accept-Encoding") or "")


async def test_a_calls_timeout_bounds_a_server_that_never_responds() -> None:
    async with WireServer([NEVER_RESPOND] * 10) as server, CodatCommerce(KEY, base_url=server.url) as codat:
        with pytest.raises(RequestTimeoutError):
            await codat.sync.get_latest_sync("c", timeout=0.2)
        error: Exception | None = None
        # A machine that stands still may use up the time before anything is sent.
        while not any(request.method == "POST" for request in server.requests):
            with pytest.raises((OutcomeUnknownError, RequestTimeoutError)) as caught:
                await codat.sync.request("c", timeout=0.2)
            error = caught.value
    assert isinstance(error, OutcomeUnknownError)
    assert isinstance(error.__cause__, RequestTimeoutError)
    assert isinstance(error.__cause__, TimeoutError)


@pytest.mark.parametrize("timeout", [math.inf, None, 5])
async def test_a_call_may_have_all_the_time_it_needs(timeout: float | None) -> None:
    async with playing(SYNCED) as (codat, _):
        await codat.sync.get_latest_sync("c", timeout=timeout)


async def test_a_wrong_key_is_raised_at_once_with_what_support_needs() -> None:
    async with playing(error_response(401)) as (codat, _):
        with pytest.raises(AuthenticationError, match="correlation id c0ffee") as caught:
            await codat.sync.get_latest_sync("c")
    assert caught.value.correlation_id == "c0ffee"


async def test_bytes_that_are_no_http_make_a_write_ambiguous() -> None:
    async with playing(Raw(b"nonsense\r\n\r\n")) as (codat, _):
        with pytest.raises(OutcomeUnknownError) as caught:
            await codat.sync.request("c")
    assert isinstance(caught.value.__cause__, TransportError)
    assert not caught.value.__cause__.retryable


async def test_a_refused_connection_makes_no_write_ambiguous() -> None:
    async with WireServer([]) as server:
        url = server.url
    async with CodatCommerce(KEY, base_url=url, retry=QUICK) as codat:
        with pytest.raises(TransportError) as caught:
            await codat.sync.request("c")
    assert not caught.value.sent
    assert len(caught.value.attempts) == 4


@pytest.mark.parametrize("borrowed", [False, True])
async def test_closing_ends_exchanges_at_once_and_leaves_nothing_behind(*, borrowed: bool) -> None:
    before = asyncio.all_tasks()
    async with WireServer([NEVER_RESPOND] * 3) as server:
        tasks = asyncio.all_tasks()
        async with aiohttp.ClientSession() as session:
            codat = CodatCommerce(KEY, base_url=server.url, session=session if borrowed else None)
            reading = asyncio.ensure_future(codat.sync.get_latest_sync("c"))
            writing = asyncio.ensure_future(codat.sync.request("c", idempotency_key=GIVEN_KEY))
            # A single attempt must not turn the closing into a lost connection.
            last_attempt = asyncio.ensure_future(codat.sync.get_latest_sync("c", retry=RetryPolicy.none()))
            await server.received(3)
            await codat.aclose()
            read, wrote, retried = await asyncio.gather(reading, writing, last_attempt, return_exceptions=True)
            assert session.closed is False
        assert isinstance(read, ClientClosedError)
        assert isinstance(retried, ClientClosedError)
        assert isinstance(wrote, OutcomeUnknownError)
        assert isinstance(wrote.__cause__, ClientClosedError)
        assert wrote.idempotency_key == GIVEN_KEY
        # The server's own tasks for the three connections come and go with them.
        assert [task for task in asyncio.all_tasks() - tasks if "WireServer" not in repr(task)] == []
    assert asyncio.all_tasks() == before
