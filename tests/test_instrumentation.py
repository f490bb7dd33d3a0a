import asyncio
import logging
from random import Random
from typing import Any

import pytest
from attrs import astuple

from codat_commerce_async import (
    CodatError,
    DecodeError,
    Hooks,
    Operation,
    OutcomeUnknownError,
    RetryPolicy,
    TransportError,
)
from codat_commerce_async._core.transport import Request, Response
from codat_commerce_async.hooks import CallEnded, CallStarted, Paused, RequestEnded, RequestStarted, Retried
from codat_commerce_async.simulator.virtual_time import run_in_virtual_time
from tests.support.cases import all_cases
from tests.support.scripted import client_of, failing, forever, respond

GET = Operation("a-read", "GET", "/companies/{companyId}/things", object)
POST = Operation("a-write", "POST", "/companies/{companyId}/things", object)
LOST = failing(lambda: TransportError("lost"))
QUICK = RetryPolicy(initial_backoff=0.0)


def hooks_into(seen: list[Any]) -> Hooks:
    observe = seen.append
    return Hooks(
        on_call_started=observe,
        on_request_started=observe,
        on_request_ended=observe,
        on_retry=observe,
        on_pause=observe,
        on_call_ended=observe,
    )


async def test_a_call_is_reported_from_beginning_to_end() -> None:
    seen: list[Any] = []
    codat, _ = client_of(
        LOST,
        respond(429, {"correlationId": "c0ffee"}, {"Retry-After": "0"}),
        respond(200, [1]),
        hooks=hooks_into(seen),
        retry=QUICK,
        wall_clock=lambda: 1e9,
    )
    await codat.call(GET, "c")
    assert [type(event) for event in seen] == [
        CallStarted,
        RequestStarted,
        RequestEnded,
        Retried,
        RequestStarted,
        Paused,
        RequestEnded,
        Retried,
        RequestStarted,
        RequestEnded,
        CallEnded,
    ]
    called, _, lost, retried, _, paused, limited, _, third, responded, done = seen
    assert called == CallStarted(
        called.call_id, "a-read", "GET", "/companies/{companyId}/things", "https://api.codat.io", 1e9, "c"
    )
    assert (lost.attempt, lost.status, lost.size, lost.error) == (1, None, 0, "lost")
    assert (retried.attempt, retried.pause, retried.reason) == (1, 0.0, "lost")
    assert (paused.seconds, paused.reason) == (0.0, "429 Too Many Requests")
    assert (limited.status, limited.error, limited.correlation_id) == (429, None, "c0ffee")
    assert third.attempt == 3
    assert (responded.attempt, responded.status, responded.size, responded.error) == (3, 200, 3, None)
    assert [event.error_type for event in (lost, retried, limited, responded)] == [
        "TransportError",
        "TransportError",
        "RateLimitError",
        None,
    ]
    assert (done.attempts, done.status, done.error) == (3, 200, None)
    assert {event.call_id for event in seen if not isinstance(event, Paused)} == {called.call_id}


async def test_every_call_has_a_number_of_its_own() -> None:
    seen: list[CallStarted] = []
    shared = Hooks(on_call_started=seen.append)
    for codat, _ in (client_of(respond(), hooks=shared), client_of(respond(), hooks=shared)):
        for _ in range(3):
            await codat.call(GET, "c")
    assert len({event.call_id for event in seen}) == 6


async def test_the_end_names_the_error_that_is_raised() -> None:
    seen: list[CallEnded] = []
    codat, _ = client_of(respond(500), hooks=Hooks(on_call_ended=seen.append), retry=RetryPolicy.none())
    with pytest.raises(OutcomeUnknownError):
        await codat.call(POST, "c")
    with pytest.raises(CodatError):
        await codat.call(GET, "c")
    assert [(event.error, event.status, event.attempts) for event in seen] == [
        ("OutcomeUnknownError", None, 1),
        ("ServerError", None, 1),
    ]


@pytest.mark.virtual_time
async def test_the_end_is_emitted_of_a_call_that_ran_out_of_time() -> None:
    seen: list[CallEnded] = []
    codat, _ = client_of(forever, hooks=Hooks(on_call_ended=seen.append))
    with pytest.raises(TimeoutError):
        await codat.call(GET, "c", timeout=5.0)
    [done] = seen
    assert (done.error, done.elapsed, done.attempts) == ("RequestTimeoutError", 5.0, 1)


@pytest.mark.virtual_time
async def test_the_end_is_notified_of_a_request_that_was_interrupted() -> None:
    seen: list[Any] = []
    codat, _ = client_of(forever, hooks=hooks_into(seen))
    task = asyncio.create_task(codat.call(GET, "c"))
    await asyncio.sleep(3.0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    _, _, ended, done = seen
    assert astuple(ended)[2:] == (1, 3.0, None, 0, "interrupted", None, "CancelledError")
    assert (done.error, done.elapsed, done.status) == ("CancelledError", 3.0, None)


async def test_the_end_names_a_response_that_cannot_be_read() -> None:
    seen: list[CallEnded] = []
    codat, _ = client_of(respond(200, b"<html>"), hooks=Hooks(on_call_ended=seen.append))
    for make_call in (codat.call, codat.send):
        with pytest.raises(DecodeError):
            await make_call(GET, "c")
    assert [(event.error, event.status) for event in seen] == [("DecodeError", 200)] * 2


@pytest.mark.virtual_time
async def test_a_request_reports_how_long_after_the_call_it_began() -> None:
    seen: list[RequestStarted] = []
    codat, _ = client_of(LOST, respond(), hooks=Hooks(on_request_started=seen.append), random=Random(1))
    await codat.call(GET, "c")
    first, second = seen
    assert first.since_call_start == 0.0
    assert second.since_call_start == asyncio.get_running_loop().time() > 0.0


async def test_combined_hooks_nest_like_blocks() -> None:
    calls: list[tuple[str, str]] = []

    def hooks(name: str) -> Hooks:
        def observe(event: Any) -> None:
            calls.append((name, type(event).__name__))

        return Hooks(
            on_call_started=observe,
            on_request_started=observe,
            on_request_ended=observe,
            on_retry=observe,
            on_pause=observe,
            on_call_ended=observe,
        )

    both = Hooks.combined(hooks("a"), Hooks(), hooks("b"))
    codat, _ = client_of(respond(429, None, {"Retry-After": "0"}), respond(), hooks=both, retry=QUICK)
    await codat.call(GET, "c")
    expected = [
        ("CallStarted", "ab"),
        ("RequestStarted", "ab"),
        ("Paused", "ab"),
        ("RequestEnded", "ba"),
        ("Retried", "ab"),
        ("RequestStarted", "ab"),
        ("RequestEnded", "ba"),
        ("CallEnded", "ba"),
    ]
    assert calls == [(name, event) for event, names in expected for name in names]


def test_combined_hooks_without_a_listener_have_none() -> None:
    first, second = Hooks(on_call_started=print), Hooks(on_retry=print)
    assert Hooks.combined(first, second) == Hooks(on_call_started=print, on_retry=print)
    assert Hooks.combined() == Hooks()


async def test_of_combined_hooks_one_that_raises_is_logged_and_the_others_are_called(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen: list[CallStarted] = []

    def break_down(event: object) -> None:
        raise ValueError("broken down")

    hooks = Hooks.combined(Hooks(on_call_started=break_down), Hooks(on_call_started=seen.append))
    codat, _ = client_of(respond(), hooks=hooks)
    await codat.call(GET, "c")
    assert len(seen) == 1
    [record] = caplog.records
    assert record.message == "a hook raised on CallStarted"
    assert record.exc_info is not None
    assert "broken down" in repr(record.exc_info[1])


async def test_a_hook_may_add_headers() -> None:
    def trace(event: RequestStarted) -> None:
        event.headers["traceparent"] = f"00-{event.attempt}"

    codat, transport = client_of(LOST, respond(), hooks=Hooks(on_request_started=trace), retry=QUICK)
    await codat.call(GET, "c")
    assert [sent.headers["traceparent"] for sent in transport.sent] == ["00-1", "00-2"]


async def test_headers_that_a_hook_adds_are_sent_with_one_request_only() -> None:
    def once(event: RequestStarted) -> None:
        if event.attempt == 1:
            event.headers["X-Once"] = "1"
            event.headers.pop("Idempotency-Key")

    codat, transport = client_of(LOST, respond(), hooks=Hooks(on_request_started=once), retry=QUICK)
    await codat.call(POST, "c")
    first, second = transport.sent
    assert "X-Once" in first.headers
    assert "X-Once" not in second.headers
    # Without its key a write could be done twice; no hook takes it away.
    assert first.key == second.key is not None


@pytest.mark.parametrize("name", ["idempotency-key", "IDEMPOTENCY-KEY", "content-type", "authorization", "User-agent"])
async def test_no_hook_replaces_a_header_of_the_client_whatever_its_case(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    def replace(event: RequestStarted) -> None:
        event.headers[name] = "another-value"

    codat, transport = client_of(LOST, respond(), hooks=Hooks(on_request_started=replace), retry=QUICK)
    await codat.call(POST, "c", body={})
    first, second = transport.sent
    for sent in transport.sent:
        assert "another-value" not in sent.headers.values()
        assert {key.lower() for key in sent.headers} == {"idempotency-key", "content-type"}
        assert len(sent.headers) == 2
    assert first.key == second.key is not None
    assert name in caplog.text
    assert "another-value" not in caplog.text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Number", 7),
        ("X-Bytes", b"bytes"),
        ("X-None", None),
        (b"X-Bytes", "1"),
        ("X Space", "1"),
        ("", "1"),
        ("X-Line", "a\r\nX-Forged: b"),
        ("X-Half", "\ud83d"),
    ],
)
async def test_an_invalid_header_of_a_hook_is_logged_and_not_sent(
    name: Any, value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def break_headers(event: RequestStarted) -> None:
        event.headers[name] = value
        event.headers["X-Good"] = "1"

    codat, transport = client_of(respond(200, 1), hooks=Hooks(on_request_started=break_headers))
    assert await codat.call(GET, "c") == 1
    assert transport.sent[0].headers == {"X-Good": "1"}
    [record] = caplog.records
    assert (record.levelname, "of a hook is not sent" in record.message) == ("WARNING", True)


async def test_of_two_headers_that_differ_in_case_the_hooks_counts() -> None:
    def trace(event: RequestStarted) -> None:
        event.headers["x-trace"] = "hook"

    codat, transport = client_of(respond(), hooks=Hooks(on_request_started=trace))
    await codat.call(GET, "c", headers={"X-Trace": "option", "X-Other": "1"})
    assert transport.sent[0].headers == {"X-Other": "1", "x-trace": "hook"}


async def plainly(event: object) -> None: ...


class Coroutine:
    async def __call__(self, event: object) -> None: ...


@all_cases("function", [plainly, Coroutine(), "a name", 7])
@all_cases(
    "name", ["on_call_started", "on_request_started", "on_request_ended", "on_retry", "on_pause", "on_call_ended"]
)
def test_a_hook_that_would_do_nothing_is_refused_by_name(name: str, function: Any) -> None:
    with pytest.raises(TypeError, match=rf"^{name} must be a (plain )?function \(got "):
        Hooks(**{name: function})


async def test_a_hook_that_raises_is_logged_and_harms_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def break_down(event: object) -> None:
        raise ValueError("broken down")

    hooks = Hooks(
        on_call_started=break_down,
        on_request_started=break_down,
        on_request_ended=break_down,
        on_retry=break_down,
        on_pause=break_down,
        on_call_ended=break_down,
    )
    codat, _ = client_of(respond(429, None, {"Retry-After": "0"}), respond(200, 1), hooks=hooks, retry=QUICK)
    assert await codat.call(GET, "c") == 1
    messages = [record.message for record in caplog.records if record.exc_info]
    assert len(messages) == 8
    assert set(messages) == {
        f"a hook raised on {name}"
        for name in ("CallStarted", "RequestStarted", "RequestEnded", "Retried", "Paused", "CallEnded")
    }


async def test_requests_are_logged_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "codat_commerce_async")
    codat, _ = client_of(respond(404, {"error": "not here", "correlationId": "c0ffee"}))
    with pytest.raises(CodatError):
        await codat.call(GET, "c")
    [record] = caplog.records
    assert record.levelno == logging.DEBUG
    assert record.message.startswith(
        "a-read of company c: 404 Not Found: not here (correlation id c0ffee) on attempt 1 after "
    )
    fields = vars(record)
    assert (fields["operation"], fields["status"], fields["attempt"]) == ("a-read", 404, 1)
    assert fields["correlation_id"] == "c0ffee"


async def test_retries_and_pauses_are_logged_at_info_and_above(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "codat_commerce_async")
    codat, _ = client_of(LOST, respond(429, None, {"Retry-After": "0"}), respond(), retry=QUICK)
    await codat.call(GET, "c")
    assert [(record.levelname, record.message.partition(";")[0]) for record in caplog.records] == [
        ("INFO", "a-read of company c: lost"),
        ("WARNING", "no requests of company c for 0.0 s: 429 Too Many Requests"),
        ("INFO", "a-read of company c: 429 Too Many Requests: no reason given"),
    ]


async def test_when_all_is_well_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "codat_commerce_async")
    codat, _ = client_of(respond())
    await codat.call(GET, "c")
    assert caplog.records == []


async def test_a_servers_words_are_one_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "codat_commerce_async")
    codat, _ = client_of(
        respond(400, {"error": "no\nWARNING:root:all is lost\r\x1b[2J\u2028", "correlationId": "a\nb"})
    )
    with pytest.raises(CodatError) as caught:
        await codat.call(GET, "c")
    for text in (str(caught.value), *(record.message for record in caplog.records)):
        assert text.isprintable()


@pytest.mark.parametrize("start", [0.0, 1234.5])
def test_times_in_events_are_spans_whatever_the_loops_clock_shows(start: float) -> None:
    async def slowly(request: Request) -> Response:
        await asyncio.sleep(2.0)
        return respond(503)

    async def work() -> list[Any]:
        seen: list[Any] = []
        codat, _ = client_of(slowly, hooks=hooks_into(seen), retry=RetryPolicy(attempts=2, initial_backoff=0.0))
        with pytest.raises(CodatError):
            await codat.call(GET, "c")
        return seen

    seen = run_in_virtual_time(work(), start=start)
    assert [event.since_call_start for event in seen if isinstance(event, RequestStarted)] == [0.0, 2.0]
    assert [event.elapsed for event in seen if isinstance(event, RequestEnded)] == [2.0, 2.0]
    assert [event.elapsed for event in seen if isinstance(event, CallEnded)] == [4.0]
