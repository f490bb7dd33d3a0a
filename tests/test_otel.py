import asyncio
import base64
import contextvars
import gc
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any, Unpack

import aiohttp
import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor
from opentelemetry.metrics import NoOpHistogram, NoOpMeter, NoOpMeterProvider
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    HistogramDataPoint,
    InMemoryMetricReader,
    Metric,
    NumberDataPoint,
)
from opentelemetry.sdk.trace import ReadableSpan, Span, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Sampler, SamplingResult
from opentelemetry.trace import NoOpTracerProvider, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from codat_commerce_async import (
    ClientClosedError,
    CodatCommerce,
    CodatError,
    DecodeError,
    Hooks,
    NotFoundError,
    Operation,
    OutcomeUnknownError,
    Quota,
    QuotaExhaustedError,
    RetryPolicy,
    StatusError,
    TransportError,
)
from codat_commerce_async._core.transport import Request
from codat_commerce_async.client import Settings
from codat_commerce_async.contrib.otel import telemetry_hooks
from codat_commerce_async.hooks import RequestStarted
from tests.support.reachable import reachable
from tests.support.scripted import KEY, client_of, failing, forever, respond
from tests.support.wire import CLOSE_WITHOUT_RESPONSE, Act, Response, WireServer

PATH = "/companies/{companyId}/things"
GET = Operation("a-read", "GET", PATH, object)
POST = Operation("a-write", "POST", PATH, object)
COMPANY = "8a210b68-6988-11ed-a1eb-0242ac120002"
LOST = failing(lambda: TransportError("lost"))
QUICK = RetryPolicy(initial_backoff=0.0)
CHECKOUT = Path(__file__).parents[1]
ENDPOINT = {
    "http.request.method": "GET",
    "server.address": "api.codat.io",
    "server.port": 443,
    "url.template": PATH,
}


class Telemetry:
    """What OpenTelemetry's SDK gets to see."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracer_provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meter_provider = MeterProvider([self._reader], shutdown_on_exit=False)
        self.tracer = self.tracer_provider.get_tracer("the user's own")

    def hooks(self, *, propagator: TextMapPropagator | None = None, record_company_id: bool = False) -> Hooks:
        return telemetry_hooks(
            tracer_provider=self.tracer_provider,
            meter_provider=self.meter_provider,
            propagator=propagator,
            record_company_id=record_company_id,
        )

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        """What has ended, in that order."""
        return self._exporter.get_finished_spans()

    @property
    def calls(self) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name.startswith("codat ")]

    @property
    def requests(self) -> list[ReadableSpan]:
        return [span for span in self.spans if span.kind is SpanKind.CLIENT]

    @property
    def metrics(self) -> dict[str, Metric]:
        data = self._reader.get_metrics_data()
        return {
            metric.name: metric
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def counts(self, name: str) -> dict[tuple[object, ...], float]:
        """A counter's sums by the values of their attributes, in the order of the attributes' names."""
        sums = {}
        for point in self.metrics[name].data.data_points:
            assert isinstance(point, NumberDataPoint)
            sums[values(point.attributes)] = point.value
        return sums

    def durations(self, name: str) -> dict[tuple[object, ...], HistogramDataPoint]:
        """Likewise a histogram's points."""
        points = {}
        for point in self.metrics[name].data.data_points:
            assert isinstance(point, HistogramDataPoint)
            points[values(point.attributes)] = point
        return points


def values(attributes: Any) -> tuple[object, ...]:
    return tuple(attributes[name] for name in sorted(attributes))


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


def attributes_of(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


def is_child(span: ReadableSpan, parent: ReadableSpan) -> bool:
    return span.parent is not None and span.parent.span_id == id_of(parent)


def duration(span: ReadableSpan) -> int:
    assert span.start_time is not None
    assert span.end_time is not None
    return span.end_time - span.start_time


def traced(header: str | None) -> tuple[int, int]:
    """The ids of trace and span in a `traceparent`."""
    assert header is not None
    version, trace_id, span_id, _ = header.split("-")
    assert version == "00"
    return int(trace_id, 16), int(span_id, 16)


@asynccontextmanager
async def playing(*script: Act, **settings: Unpack[Settings]) -> AsyncIterator[tuple[CodatCommerce, WireServer]]:
    settings.setdefault("retry", QUICK)
    settings.setdefault("quota", Quota.unlimited())
    async with WireServer(script) as server:
        settings.setdefault("base_url", server.url)
        async with CodatCommerce(KEY, **settings) as codat:
            yield codat, server


async def test_a_call_is_a_span_with_its_request_inside(telemetry: Telemetry) -> None:
    codat, _ = client_of(respond(200, [1]), hooks=telemetry.hooks())
    with telemetry.tracer.start_as_current_span("the user's") as mine:
        await codat.call(GET, COMPANY)
        assert trace.get_current_span() is mine
    request, call, around = telemetry.spans
    assert (call.name, call.kind, call.status.status_code) == ("codat a-read", SpanKind.INTERNAL, StatusCode.UNSET)
    assert attributes_of(call) == {"codat.operation": "a-read", "codat.attempts": 1}
    assert (request.name, request.kind) == (f"GET {PATH}", SpanKind.CLIENT)
    assert request.status.status_code is StatusCode.UNSET
    waited = attributes_of(request).pop("codat.quota.wait")
    assert isinstance(waited, float)
    assert attributes_of(request) == {
        **ENDPOINT,
        "url.full": "https://api.codat.io/companies/REDACTED/things",
        "http.response.status_code": 200,
        "codat.quota.wait": waited,
    }
    assert is_child(request, call)
    assert is_child(call, around)
    assert request.instrumentation_scope is not None
    assert request.instrumentation_scope.name == "codat_commerce_async"
    assert len({span.context.trace_id for span in telemetry.spans if span.context}) == 1


async def test_each_attempt_is_a_span_and_names_itself_on_the_wire(telemetry: Telemetry) -> None:
    script = (CLOSE_WITHOUT_RESPONSE, Response.json({"correlationId": "c0ffee"}, 503), Response.json([1]))
    async with playing(*script, hooks=telemetry.hooks()) as (codat, server):
        assert await codat.call(GET, COMPANY) == [1]
    lost, broken, responded = telemetry.requests
    [call] = telemetry.calls
    sent = [traced(request.header("traceparent")) for request in server.requests]
    assert call.context is not None
    assert sent == [(call.context.trace_id, id_of(span)) for span in telemetry.requests]
    assert len(set(sent)) == 3
    assert all(is_child(span, call) for span in telemetry.requests)
    names = ("http.request.resend_count", "http.response.status_code", "error.type", "codat.correlation_id")
    assert [[attributes_of(span).get(name) for name in names] for span in telemetry.requests] == [
        [None, None, "TransportError", None],
        [1, 503, "503", "c0ffee"],
        [2, 200, None, None],
    ]
    assert [span.status.status_code for span in (lost, broken, responded, call)] == [
        StatusCode.ERROR,
        StatusCode.ERROR,
        StatusCode.UNSET,
        StatusCode.UNSET,
    ]
    assert attributes_of(call) == {"codat.operation": "a-read", "codat.attempts": 3}
    assert attributes_of(responded)["server.address"] == "127.0.0.1"
    assert f":{attributes_of(responded)['server.port']}" in server.url
    assert attributes_of(responded)["url.full"] == f"{server.url}/companies/REDACTED/things"


@pytest.mark.parametrize(
    ("operation", "step", "kind", "error_type", "status"),
    [
        (GET, LOST, TransportError, "TransportError", None),
        (POST, LOST, OutcomeUnknownError, "TransportError", None),
        (GET, respond(404), NotFoundError, "404", 404),
        (GET, respond(302), StatusError, "302", 302),
        (POST, respond(502), OutcomeUnknownError, "502", 502),
        (
            GET,
            respond(
                429, None, {"X-Rate-Limit-Remaining": "0", "X-Rate-Limit-Reset": "9999999999", "Retry-After": "9999"}
            ),
            QuotaExhaustedError,
            "429",
            429,
        ),
    ],
)
async def test_errors_are_on_the_span_of_the_call_and_results_on_those_of_its_requests(
    telemetry: Telemetry,
    operation: Operation[object],
    step: Any,
    kind: type[CodatError],
    error_type: str,
    status: int | None,
) -> None:
    codat, _ = client_of(step, hooks=telemetry.hooks(), retry=RetryPolicy.none())
    with pytest.raises(kind):
        await codat.call(operation, "c")
    request, call = telemetry.spans
    assert attributes_of(request)["error.type"] == error_type
    assert attributes_of(request).get("http.response.status_code") == status
    assert attributes_of(call)["error.type"] == kind.__name__
    for span in (request, call):
        assert span.status.status_code is StatusCode.ERROR
        # A description, or an exception with its message, would show what the server sent.
        assert span.status.description is None
        assert span.events == ()


async def test_a_response_that_cannot_be_read_fails_the_call_and_not_the_request(telemetry: Telemetry) -> None:
    codat, _ = client_of(respond(200, b"<html>"), hooks=telemetry.hooks())
    with pytest.raises(DecodeError):
        await codat.call(GET, "c")
    request, call = telemetry.spans
    assert (request.status.status_code, call.status.status_code) == (StatusCode.UNSET, StatusCode.ERROR)
    assert attributes_of(call)["error.type"] == "DecodeError"


@pytest.mark.parametrize(
    ("end", "call_ended_by"),
    [("cancel", "CancelledError"), ("close", "ClientClosedError"), ("time out", "RequestTimeoutError")],
)
@pytest.mark.virtual_time
async def test_interrupted_calls_emit_their_end(telemetry: Telemetry, end: str, call_ended_by: str) -> None:
    codat, transport = client_of(forever, hooks=telemetry.hooks(), quota=Quota(concurrent=1))
    timeout = 3.0 if end == "time out" else None
    tasks = [asyncio.create_task(codat.call(GET, "c", timeout=timeout)) for _ in range(2)]
    await asyncio.sleep(2.0)
    assert len(transport.sent) == 1
    if end == "cancel":
        for task in tasks:
            task.cancel()
    elif end == "close":
        await codat.aclose()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(each).__name__ for each in results} == {call_ended_by}
    [request] = telemetry.requests
    assert len(telemetry.calls) == 2
    assert attributes_of(request)["error.type"] == "CancelledError"
    assert "http.response.status_code" not in attributes_of(request)
    for call in telemetry.calls:
        assert attributes_of(call)["error.type"] == call_ended_by
        assert duration(call) == (3e9 if timeout else 2e9)
    assert sorted(attributes_of(call)["codat.attempts"] for call in telemetry.calls) == [0, 1]
    assert set(telemetry.counts("http.client.active_requests").values()) == {0}


@pytest.mark.virtual_time
async def test_hundreds_of_calls_at_once_keep_apart(telemetry: Telemetry) -> None:
    async def late(request: Request) -> Any:
        await asyncio.sleep(0.001 * (len(transport.sent) % 7))
        return respond(503) if len(transport.sent) % 3 == 0 else respond(200, [1])

    codat, transport = client_of(
        late, hooks=telemetry.hooks(), quota=Quota(per_minute=None, concurrent=20), retry=QUICK
    )

    async def one(number: int) -> None:
        with telemetry.tracer.start_as_current_span(f"mine {number}") as mine:
            call = codat.call(Operation(f"read-{number}", "GET", PATH, object), f"company-{number}")
            if number % 10 == 0:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0):
                        await call
            else:
                with suppress(StatusError):
                    await call
            assert trace.get_current_span() is mine

    await asyncio.gather(*(one(number) for number in range(200)))
    mine = {span.name.removeprefix("mine "): span for span in telemetry.spans if span.name.startswith("mine ")}
    calls = {span.name.removeprefix("codat read-"): span for span in telemetry.calls}
    assert mine.keys() == calls.keys() == set(map(str, range(200)))
    assert all(is_child(calls[number], mine[number]) for number in calls)
    inside: dict[int, list[ReadableSpan]] = {}
    for request in telemetry.requests:
        assert request.parent is not None
        inside.setdefault(request.parent.span_id, []).append(request)
    assert len(telemetry.requests) == len(transport.sent) >= 180
    for call in calls.values():
        own = inside.pop(id_of(call), [])
        assert len(own) == attributes_of(call)["codat.attempts"]
        assert [attributes_of(span).get("http.request.resend_count", 0) for span in own] == list(range(len(own)))
        assert all(span.context and call.context and span.context.trace_id == call.context.trace_id for span in own)
    assert inside == {}
    assert set(telemetry.counts("http.client.active_requests").values()) == {0}


@pytest.mark.virtual_time
async def test_several_clients_share_their_hooks(telemetry: Telemetry) -> None:
    hooks = telemetry.hooks()

    async def late(request: Request) -> Any:
        await asyncio.sleep(0.001)
        return respond()

    clients = [client_of(late, hooks=hooks, base_url=f"https://{name}.example.com")[0] for name in "abc"]
    await asyncio.gather(*(codat.call(GET, "c") for codat in clients for _ in range(5)))
    assert len(telemetry.calls) == len(telemetry.requests) == 15
    for call in telemetry.calls:
        assert sum(is_child(request, call) for request in telemetry.requests) == 1
    hosts = [attributes_of(request)["server.address"] for request in telemetry.requests]
    assert sorted(hosts) == [f"{name}.example.com" for name in "abc" for _ in range(5)]


@pytest.mark.virtual_time
async def test_ended_calls_are_not_kept(telemetry: Telemetry) -> None:
    hooks = telemetry.hooks()
    codat, _ = client_of(LOST, respond(200, b"?"), respond(404), forever, hooks=hooks, retry=RetryPolicy.none())
    for _ in range(3):
        with pytest.raises(CodatError):
            await codat.call(GET, "c")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await codat.call(GET, "c")
    assert not [each for each in reachable(hooks.on_call_started) if isinstance(each, Span)]
    assert len(telemetry.calls) == 4


async def test_a_call_that_is_forgotten_ends_and_leaves_others_alone(
    telemetry: Telemetry, caplog: pytest.LogCaptureFixture
) -> None:
    codat, transport = client_of(forever, hooks=telemetry.hooks())
    call = codat.call(GET, "c")
    contextvars.copy_context().run(call.send, None)
    assert len(transport.sent) == 1
    with telemetry.tracer.start_as_current_span("something else") as other:
        del call
        gc.collect()
        assert trace.get_current_span() is other
    request, ended, _ = telemetry.spans
    assert [attributes_of(span)["error.type"] for span in (request, ended)] == ["GeneratorExit"] * 2
    assert caplog.records == []


@pytest.mark.virtual_time
async def test_spans_and_metrics_report_the_same_time(telemetry: Telemetry) -> None:
    async def slow(request: Request) -> Any:
        await asyncio.sleep(0.25)
        return respond(429, None, {"Retry-After": "2"}) if len(transport.sent) == 1 else respond()

    codat, transport = client_of(slow, hooks=telemetry.hooks(), wall_clock=lambda: 1e9, random=Random(1))
    await codat.call(GET, "c")
    first, second, call = telemetry.spans
    total = asyncio.get_running_loop().time()
    assert first.start_time == call.start_time == 1e18
    assert duration(first) == duration(second) == 250_000_000
    assert duration(call) == pytest.approx(total * 1e9, abs=1000)
    assert call.end_time == pytest.approx(second.end_time, abs=1000)
    points = telemetry.durations("http.client.request.duration")
    assert [points[("GET", 200, "api.codat.io", 443, PATH)].sum] == [0.25]
    assert points[("429", "GET", 429, "api.codat.io", 443, PATH)].sum == 0.25
    assert telemetry.durations("codat.client.call.duration")[("a-read",)].sum == total
    assert total > 2.5


@pytest.mark.virtual_time
async def test_metrics_have_the_names_units_and_buckets_of_the_conventions(telemetry: Telemetry) -> None:
    codat, _ = client_of(respond(429, None, {"Retry-After": "1"}), LOST, respond(), hooks=telemetry.hooks())
    await codat.call(GET, "c")
    assert {name: metric.unit for name, metric in telemetry.metrics.items()} == {
        "codat.client.call.duration": "s",
        "codat.client.pauses": "{pause}",
        "codat.client.quota.wait": "s",
        "codat.client.retries": "{retry}",
        "http.client.active_requests": "{request}",
        "http.client.request.duration": "s",
    }
    points = telemetry.durations("http.client.request.duration")
    assert set(points) == {
        ("429", "GET", 429, "api.codat.io", 443, PATH),
        ("TransportError", "GET", "api.codat.io", 443, PATH),
        ("GET", 200, "api.codat.io", 443, PATH),
    }
    for point in points.values():
        assert (point.count, set(ENDPOINT) - set(point.attributes or {})) == (1, set())
        assert list(point.explicit_bounds) == [
            0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10,
        ]  # fmt: skip
    assert telemetry.counts("codat.client.retries") == {
        ("a-read", "RateLimitError"): 1,
        ("a-read", "TransportError"): 1,
    }
    assert telemetry.counts("codat.client.pauses") == {("429 Too Many Requests",): 1}
    assert telemetry.counts("http.client.active_requests") == {("GET", "api.codat.io", 443, PATH): 0}
    assert telemetry.durations("codat.client.call.duration")[("a-read",)].count == 1


@pytest.mark.virtual_time
async def test_the_wait_for_the_quota_is_reported_and_no_part_of_the_request(telemetry: Telemetry) -> None:
    async def slow(request: Request) -> Any:
        await asyncio.sleep(20.0)
        return respond()

    codat, _ = client_of(slow, hooks=telemetry.hooks(), quota=Quota(concurrent=1))
    await asyncio.gather(codat.call(GET, "c"), codat.call(GET, "c"))
    first, second = telemetry.requests
    assert [attributes_of(span)["codat.quota.wait"] for span in (first, second)] == [0.0, 20.0]
    assert [duration(span) for span in (first, second, *telemetry.calls)] == [2e10, 2e10, 2e10, 4e10]
    waits = telemetry.durations("codat.client.quota.wait")[("a-read",)]
    assert (waits.count, waits.sum, max(waits.explicit_bounds)) == (2, 20.0, 600.0)


async def test_requests_are_counted_as_active_while_they_last(telemetry: Telemetry) -> None:
    codat, _ = client_of(forever, hooks=telemetry.hooks())
    tasks = [asyncio.create_task(codat.call(GET, "c")) for _ in range(3)]
    await asyncio.sleep(0)
    assert set(telemetry.counts("http.client.active_requests").values()) == {3}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert set(telemetry.counts("http.client.active_requests").values()) == {0}


def everything(telemetry: Telemetry) -> str:
    return " ".join(
        [span.to_json() for span in telemetry.spans] + [each.to_json() for each in telemetry.metrics.values()]
    )


async def many_calls(telemetry: Telemetry, *, record_company_id: bool) -> None:
    """What could leak something: a response and an error that echo the key, ids in paths, a query."""
    echo = f'{{"error": "no {KEY} for {COMPANY}", "passcode": "a-passcode"}}'.encode()
    script = (
        Response(503, body=echo),
        Response(400, body=echo),
        Response(200, {"X-Echo": KEY}, echo),
        CLOSE_WITHOUT_RESPONSE,
        Response(404, body=echo),
    )
    hooks = telemetry.hooks(record_company_id=record_company_id)
    async with playing(*script, hooks=hooks) as (codat, server):
        for operation in (GET, POST, POST):
            with suppress(CodatError):
                await codat.call(
                    operation, COMPANY, query={"query": "a-passcode"}, body={"a": "a-body"}, headers={"X-Own": "an-own"}
                )
    assert len(server.requests) == len(telemetry.requests) == len(script)


async def test_nothing_secret_is_reported(telemetry: Telemetry) -> None:
    await many_calls(telemetry, record_company_id=False)
    shown = everything(telemetry)
    encoded = base64.b64encode(KEY.encode()).decode()
    for secret in (KEY, encoded, encoded[:16], COMPANY, "a-passcode", "a-body", "an-own", "company_id"):
        assert secret not in shown
    assert "a-read" in shown


async def test_companies_are_reported_if_requested_and_then_on_spans_only(telemetry: Telemetry) -> None:
    await many_calls(telemetry, record_company_id=True)
    for span in (*telemetry.calls, *telemetry.requests):
        assert attributes_of(span)["codat.company_id"] == COMPANY
        assert COMPANY not in str(attributes_of(span).get("url.full"))
    assert COMPANY not in " ".join(metric.to_json() for metric in telemetry.metrics.values())


async def test_the_query_of_a_request_is_left_out(telemetry: Telemetry) -> None:
    codat, transport = client_of(respond(), hooks=telemetry.hooks())
    await codat.call(Operation("start", "GET", "/start", object), query={"passcode": "a-passcode"})
    assert transport.sent[0].target == "/start?passcode=a-passcode"
    assert telemetry.requests[0].name == "GET /start"
    assert "passcode" not in everything(telemetry)


async def test_an_operation_of_no_company_has_none(telemetry: Telemetry) -> None:
    codat, _ = client_of(respond(), hooks=telemetry.hooks(record_company_id=True))
    await codat.call(Operation("all", "GET", "/companies", object))
    assert all("codat.company_id" not in attributes_of(span) for span in telemetry.spans)


async def test_baggage_goes_out_only_by_a_propagator_of_ones_own(telemetry: Telemetry) -> None:
    token = context.attach(baggage.set_baggage("user", "ada"))
    try:
        codat, transport = client_of(respond(), hooks=telemetry.hooks())
        await codat.call(GET, "c")
        own, own_transport = client_of(respond(), hooks=telemetry.hooks(propagator=W3CBaggagePropagator()))
        await own.call(GET, "c")
    finally:
        context.detach(token)
    [plain], [with_baggage] = transport.sent, own_transport.sent
    assert "traceparent" in plain.headers
    assert "baggage" not in plain.headers
    assert with_baggage.headers["baggage"] == "user=ada"
    assert "traceparent" not in with_baggage.headers


async def test_the_context_continues_where_no_span_is_recorded() -> None:
    off = Telemetry(ALWAYS_OFF)
    codat, transport = client_of(respond(), hooks=off.hooks())
    await codat.call(GET, "c")
    assert off.spans == ()
    flags = int(transport.sent[0].headers["traceparent"].rpartition("-")[2], 16)
    assert flags & trace.TraceFlags.SAMPLED == 0
    assert off.durations("http.client.request.duration")[("GET", 200, "api.codat.io", 443, PATH)].count == 1


async def test_without_an_sdk_nothing_happens() -> None:
    hooks = telemetry_hooks(tracer_provider=NoOpTracerProvider(), meter_provider=NoOpMeterProvider())
    codat, transport = client_of(LOST, respond(200, [1]), hooks=hooks, retry=QUICK)
    assert await codat.call(GET, "c") == [1]
    assert "traceparent" not in transport.sent[1].headers


@pytest.mark.parametrize(
    ("base_url", "address", "port", "template"),
    [
        ("https://api.codat.io", "api.codat.io", 443, PATH),
        ("http://localhost", "localhost", 80, PATH),
        ("http://127.0.0.1:8080/", "127.0.0.1", 8080, PATH),
        ("https://[::1]:8443", "::1", 8443, PATH),
        ("https://gateway.example.com/codat/", "gateway.example.com", 443, f"/codat{PATH}"),
    ],
)
async def test_the_server_is_named_as_it_is_addressed(
    telemetry: Telemetry, base_url: str, address: str, port: int, template: str
) -> None:
    codat, _ = client_of(respond(), hooks=telemetry.hooks(), base_url=base_url)
    await codat.call(GET, "c")
    [request] = telemetry.requests
    seen = attributes_of(request)
    assert (seen["server.address"], seen["server.port"], seen["url.template"]) == (address, port, template)
    assert request.name == f"GET {template}"
    assert seen["url.full"] == base_url.rstrip("/") + "/companies/REDACTED/things"


@pytest.mark.parametrize(
    ("known", "name", "attributes"),
    [
        (None, f"HTTP {PATH}", {"http.request.method": "_OTHER", "http.request.method_original": "PURGE"}),
        ("GET,PURGE", f"PURGE {PATH}", {"http.request.method": "PURGE"}),
    ],
)
async def test_methods_that_are_not_known_are_others(
    telemetry: Telemetry,
    monkeypatch: pytest.MonkeyPatch,
    known: str | None,
    name: str,
    attributes: dict[str, str],
) -> None:
    if known is None:
        monkeypatch.delenv("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS", raising=False)
    else:
        monkeypatch.setenv("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS", known)
    codat, _ = client_of(respond(), hooks=telemetry.hooks())
    await codat.call(Operation("purge", "PURGE", PATH, object), "c")
    [request] = telemetry.requests
    assert request.name == name
    assert {key: value for key, value in attributes_of(request).items() if "method" in key} == attributes


async def test_records_of_the_log_belong_to_the_span_they_speak_of(telemetry: Telemetry) -> None:
    seen: list[tuple[str, int]] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append((record.levelname, trace.get_current_span().get_span_context().span_id))

    logger, handler = logging.getLogger("codat_commerce_async"), Handler()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        codat, _ = client_of(LOST, respond(), hooks=telemetry.hooks(), retry=QUICK)
        await codat.call(GET, "c")
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    lost, responded, call = map(id_of, telemetry.spans)
    assert seen == [("DEBUG", lost), ("INFO", call), ("DEBUG", responded)]


async def test_own_hooks_run_within_the_span_and_two_telemetries_nest(telemetry: Telemetry) -> None:
    other = Telemetry()
    current: list[int] = []

    def record_event(event: RequestStarted) -> None:
        current.append(trace.get_current_span().get_span_context().span_id)

    hooks = Hooks.combined(telemetry.hooks(), Hooks(on_request_started=record_event), other.hooks())
    codat, transport = client_of(respond(), hooks=hooks)
    before = context.get_current()
    await codat.call(GET, "c")
    assert context.get_current() is before
    outer_request, outer = telemetry.spans
    inner_request, inner = other.spans
    assert current == [id_of(outer_request)]
    assert is_child(inner, outer)
    assert is_child(inner_request, inner)
    assert traced(transport.sent[0].headers["traceparent"])[1] == id_of(inner_request)


class BrokenSampler(Sampler):
    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        raise ValueError("broken down")

    def get_description(self) -> str:
        return "broken"


class BrokenPropagator(W3CBaggagePropagator):
    def inject(self, *args: Any, **kwargs: Any) -> None:
        raise ValueError("broken down")


class BrokenHistogram(NoOpHistogram):
    def record(self, *args: Any, **kwargs: Any) -> None:
        raise ValueError("broken down")


class BrokenMeter(NoOpMeter):
    def create_histogram(self, name: str, *args: Any, **kwargs: Any) -> NoOpHistogram:
        return BrokenHistogram(name)


class BrokenMeters(NoOpMeterProvider):
    def get_meter(self, name: str, *args: Any, **kwargs: Any) -> BrokenMeter:
        return BrokenMeter(name)


async def test_meters_that_break_leave_no_span_open(telemetry: Telemetry) -> None:
    hooks = telemetry_hooks(tracer_provider=telemetry.tracer_provider, meter_provider=BrokenMeters())
    codat, _ = client_of(respond(200, [1]), hooks=hooks)
    before = context.get_current()
    assert await codat.call(GET, "c") == [1]
    assert context.get_current() is before
    assert [span.name for span in telemetry.spans] == [f"GET {PATH}", "codat a-read"]


Breaking = Callable[[], tuple[Telemetry, TextMapPropagator | None]]


@pytest.mark.parametrize(
    "breaking", [lambda: (Telemetry(BrokenSampler()), None), lambda: (Telemetry(), BrokenPropagator())]
)
async def test_telemetry_that_breaks_harms_no_call(breaking: Breaking, caplog: pytest.LogCaptureFixture) -> None:
    telemetry, propagator = breaking()
    codat, _ = client_of(LOST, respond(200, [1]), hooks=telemetry.hooks(propagator=propagator), retry=QUICK)
    before = context.get_current()
    assert await codat.call(GET, "c") == [1]
    assert context.get_current() is before
    assert any(record.exc_info for record in caplog.records)
    if propagator is not None:
        assert len(telemetry.spans) == 3
        assert set(telemetry.counts("http.client.active_requests").values()) == {0}


@pytest.fixture
def instrumented(telemetry: Telemetry) -> Iterator[None]:
    """OpenTelemetry's own instrumentation of aiohttp, for every session of the process."""
    instrumentor = AioHttpClientInstrumentor()
    instrumentor.instrument(tracer_provider=telemetry.tracer_provider, meter_provider=telemetry.meter_provider)
    yield
    instrumentor.uninstrument()


CONTEXT = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])


@pytest.mark.usefixtures("instrumented")
@pytest.mark.parametrize("borrowed", [False, True])
async def test_beside_the_instrumentation_of_aiohttp_a_request_is_one_client_span(
    telemetry: Telemetry, *, borrowed: bool
) -> None:
    token = context.attach(baggage.set_baggage("user", "ada"))
    try:
        async with AsyncExitStack() as stack:
            session = await stack.enter_async_context(aiohttp.ClientSession()) if borrowed else None
            settings: Settings = {"hooks": telemetry.hooks(), "session": session}
            codat, server = await stack.enter_async_context(
                playing(CLOSE_WITHOUT_RESPONSE, Response.json([1]), **settings)
            )
            assert await codat.call(GET, COMPANY) == [1]
    finally:
        context.detach(token)
    assert [span.name for span in telemetry.requests] == [f"GET {PATH}"] * 2
    assert COMPANY not in everything(telemetry)
    measured = telemetry.durations("http.client.request.duration").values()
    assert sum(point.count for point in measured) == 2
    assert [request.header("baggage") for request in server.requests] == [None, None]


@pytest.mark.usefixtures("instrumented")
async def test_other_requests_of_the_task_are_instrumented_as_before(telemetry: Telemetry) -> None:
    async with (
        playing(Response.json([1]), hooks=telemetry.hooks()) as (codat, server),
        WireServer([Response()]) as other,
        aiohttp.ClientSession() as session,
    ):
        await codat.call(GET, COMPANY)
        await (await session.get(other.url)).read()
        del server
    assert [span.name for span in telemetry.requests] == [f"GET {PATH}", "GET"]


@pytest.mark.usefixtures("instrumented")
async def test_a_propagator_that_is_configured_sends_baggage_beside_the_instrumentation(telemetry: Telemetry) -> None:
    token = context.attach(baggage.set_baggage("user", "ada"))
    try:
        async with playing(Response.json([1]), hooks=telemetry.hooks(propagator=CONTEXT)) as (codat, server):
            await codat.call(GET, COMPANY)
    finally:
        context.detach(token)
    [request] = server.requests
    assert request.header("baggage") == "user=ada"
    assert traced(request.header("traceparent"))[1] == id_of(telemetry.requests[0])


def test_the_instrumentation_package_may_be_missing() -> None:
    program = (
        "import sys; sys.modules['opentelemetry.instrumentation'] = None; "
        "from codat_commerce_async.contrib.otel import telemetry_hooks; telemetry_hooks(); print('fine')"
    )
    assert run(program).stdout == "fine\n"


async def test_closed_clients_make_no_spans(telemetry: Telemetry) -> None:
    codat, _ = client_of(respond(), hooks=telemetry.hooks())
    await codat.aclose()
    with pytest.raises(ClientClosedError):
        await codat.call(GET, "c")
    assert telemetry.spans == ()


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], cwd=CHECKOUT, capture_output=True, text=True, check=False)  # noqa: S603 - this interpreter, and what stands here


def test_the_library_itself_knows_nothing_of_opentelemetry_and_the_module_makes_do_with_its_api() -> None:
    program = (
        "import sys, codat_commerce_async as c; c.CodatCommerce('k').sync; print(*sys.modules); "
        "import codat_commerce_async.contrib.otel; print(*sys.modules)"
    )
    library, module = (line.split() for line in run(program).stdout.splitlines())
    assert "codat_commerce_async.client" in library
    assert [name for name in library if name.startswith(("opentelemetry", "codat_commerce_async.contrib"))] == []
    assert "opentelemetry.trace" in module
    assert [name for name in module if name.startswith("opentelemetry.sdk")] == []


def test_without_the_extra_it_is_reported_what_to_install() -> None:
    ended = run("import sys; sys.modules['opentelemetry'] = None; import codat_commerce_async.contrib.otel")
    assert ended.returncode == 1
    assert "pip install 'codat-commerce-async[otel]'" in ended.stderr
