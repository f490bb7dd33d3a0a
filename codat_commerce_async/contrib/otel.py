"""Spans and metrics of a client's calls, by OpenTelemetry's conventions for HTTP clients.

    async with CodatCommerce(api_key, hooks=telemetry_hooks()) as codat: ...

Needs the extra `otel`. https://opentelemetry.io/docs/specs/semconv/http/
"""

import os
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache, partial
from typing import NamedTuple
from urllib.parse import urlsplit

from codat_commerce_async._version import __version__
from codat_commerce_async.hooks import CallEnded, CallStarted, Hooks, Paused, RequestEnded, RequestStarted, Retried

try:
    from opentelemetry import baggage, context, metrics, propagate, trace
    from opentelemetry.context import Context
    from opentelemetry.metrics import Meter, MeterProvider
    from opentelemetry.propagators.textmap import Setter, TextMapPropagator
    from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, TracerProvider
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "telemetry needs an extra: pip install 'codat-commerce-async[otel]'", name=error.name
    ) from error

try:
    from opentelemetry.instrumentation.utils import suppress_http_instrumentation
except ModuleNotFoundError:
    # Without that package no HTTP client is instrumented.
    _no_instrumentation: Callable[[], AbstractContextManager[None]] = nullcontext
else:
    _no_instrumentation = suppress_http_instrumentation

__all__ = ["telemetry_hooks"]

_SCOPE = "codat_commerce_async"
_SCHEMA_URL = "https://opentelemetry.io/schemas/1.37.0"
_PLACEHOLDER = re.compile(r"\{\w+\}")
_PORTS = {"http": 80, "https": 443}
# https://opentelemetry.io/docs/specs/semconv/http/http-metrics/#metric-httpclientrequestduration
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
# The gate and the pauses before repeats let a call last for minutes.
_LONG_BUCKETS = (*_BUCKETS, 30.0, 60.0, 120.0, 300.0, 600.0)
_METHODS = "CONNECT,DELETE,GET,HEAD,OPTIONS,PATCH,POST,PUT,TRACE"

Attributes = Mapping[str, str | int | float]
Inject = Callable[[dict[str, str], Context], None]


def telemetry_hooks(
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    propagator: TextMapPropagator | None = None,
    record_company_id: bool = False,
) -> Hooks:
    """Hooks that trace and measure every call; one of them may hang on several clients.

    A call is an INTERNAL span `codat {operation}`, each of its requests a CLIENT span `{method} {url.template}` inside
    of it; while they last, they are current. Ids in `url.full` are redacted, and its query is left out.
    `record_company_id` puts `codat.company_id` on the spans. Metrics: `http.client.request.duration`,
    `http.client.active_requests`, and of our own `codat.client.call.duration`, `codat.client.quota.wait`,
    `codat.client.retries` and `codat.client.pauses`.

    OpenTelemetry's own instrumentation of aiohttp records nothing of these requests, so that each is one CLIENT span.

    What is not given is OpenTelemetry's global one. The global propagator's headers go out without baggage, which is
    nobody else's business; a `propagator` of your own gets all of the context.
    """
    telemetry = _Telemetry(
        trace.get_tracer(_SCOPE, __version__, tracer_provider, _SCHEMA_URL),
        _Instruments(metrics.get_meter(_SCOPE, __version__, meter_provider, _SCHEMA_URL)),
        _injection(propagator),
        record_company_id=record_company_id,
    )
    return Hooks(
        on_call_started=telemetry.call_started,
        on_request_started=telemetry.request_started,
        on_request_ended=telemetry.request_ended,
        on_retry=telemetry.retried,
        on_pause=telemetry.paused,
        on_call_ended=telemetry.call_ended,
    )


class _Headers(Setter[dict[str, str]]):
    def set(self, carrier: dict[str, str], key: str, value: str) -> None:
        carrier[key] = value


def _injection(propagator: TextMapPropagator | None) -> Inject:
    setter = _Headers()

    def inject(headers: dict[str, str], within: Context) -> None:
        if propagator is not None:
            propagator.inject(headers, within, setter)
        else:
            # Asked for each time, as it may be set after the hooks are made.
            propagate.get_global_textmap().inject(headers, baggage.clear(within), setter)

    return inject


class _Endpoint(NamedTuple):
    """What every request of an operation has in common, in the words of the conventions."""

    span_name: str
    of_span: Attributes
    of_metric: Attributes


def _endpoint(known_methods: frozenset[str], server: str, method: str, path: str) -> _Endpoint:
    url = urlsplit(server)
    template = url.path + path
    name, original = (method, {}) if method in known_methods else ("_OTHER", {"http.request.method_original": method})
    of_metric: Attributes = {
        "http.request.method": name,
        "server.address": url.hostname or "",
        "server.port": url.port or _PORTS[url.scheme],
        "url.template": template,
    }
    of_span: Attributes = {
        **of_metric,
        **original,
        "url.full": f"{url.scheme}://{url.netloc}{_PLACEHOLDER.sub('REDACTED', template)}",
    }
    return _Endpoint(f"{'HTTP' if original else method} {template}", of_span, of_metric)


class _Instruments:
    """What is counted and measured."""

    __slots__ = ("active_requests", "call_duration", "pauses", "quota_wait", "request_duration", "retries")

    def __init__(self, meter: Meter) -> None:
        self.request_duration = meter.create_histogram(
            "http.client.request.duration",
            "s",
            "Duration of HTTP client requests.",
            explicit_bucket_boundaries_advisory=_BUCKETS,
        )
        self.active_requests = meter.create_up_down_counter(
            "http.client.active_requests", "{request}", "Number of active HTTP requests."
        )
        self.call_duration = meter.create_histogram(
            "codat.client.call.duration",
            "s",
            "Duration of calls, with their waits, requests and repeats.",
            explicit_bucket_boundaries_advisory=_LONG_BUCKETS,
        )
        self.quota_wait = meter.create_histogram(
            "codat.client.quota.wait",
            "s",
            "Time that requests waited for the quota.",
            explicit_bucket_boundaries_advisory=_LONG_BUCKETS,
        )
        self.retries = meter.create_counter("codat.client.retries", "{retry}", "Requests that are sent again.")
        self.pauses = meter.create_counter("codat.client.pauses", "{pause}", "Times that all sending was stopped.")


class _Block:
    """A span that is current from its start to its end; times are in nanoseconds since the epoch.

    A CLIENT span stands for the request itself, so an instrumented aiohttp makes no other of it.
    """

    __slots__ = ("_token", "context", "span", "start")

    def __init__(self, span: Span, kind: SpanKind, parent: Context, start: int) -> None:
        self.span = span
        self.start = start
        around = trace.set_span_in_context(span, parent)
        self.context = _suppressed(around) if kind is SpanKind.CLIENT else around
        self._token = context.attach(self.context)

    def end(self, elapsed: float, came_to: Attributes) -> None:
        """End the span so many seconds after its start; it failed if it came to an `error.type`."""
        self.span.set_attributes(came_to)
        if "error.type" in came_to:
            self.span.set_status(StatusCode.ERROR)
        self.span.end(self.start + _nanoseconds(elapsed))
        # A forgotten call may be ended by the garbage collector, in the midst of something else.
        if context.get_current() is self.context:
            context.detach(self._token)


def _suppressed(within: Context) -> Context:
    """The context in which instrumented HTTP clients record nothing."""
    token = context.attach(within)
    try:
        with _no_instrumentation():
            return context.get_current()
    finally:
        context.detach(token)


class _Call:
    """A call under way, and its request if there is one."""

    __slots__ = ("block", "company", "endpoint", "operation", "request")

    def __init__(self, block: _Block, endpoint: _Endpoint, operation: Attributes, company: Attributes) -> None:
        self.block = block
        self.endpoint = endpoint
        self.operation = operation
        self.company = company
        self.request: _Block | None = None


class _Telemetry:
    """Makes spans and measurements of what the hooks are told."""

    def __init__(self, tracer: Tracer, instruments: _Instruments, inject: Inject, *, record_company_id: bool) -> None:
        self._tracer = tracer
        self._instruments = instruments
        self._inject = inject
        self._record_company_id = record_company_id
        # The variable is the conventions' own.
        known_methods = frozenset(os.environ.get("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS", _METHODS).split(","))
        # There are some twenty endpoints, but nothing keeps a program from making up more.
        self._endpoint = lru_cache(maxsize=256)(partial(_endpoint, known_methods))
        # No more than are under way: each is told to have ended, whatever happens.
        self._calls: dict[int, _Call] = {}

    def call_started(self, event: CallStarted) -> None:
        endpoint = self._endpoint(event.server, event.method, event.path)
        operation = {"codat.operation": event.operation}
        company = {}
        if self._record_company_id and event.company_id is not None:
            company["codat.company_id"] = event.company_id
        block = self._block(
            f"codat {event.operation}",
            SpanKind.INTERNAL,
            {**operation, **company},
            context.get_current(),
            _nanoseconds(event.at),
        )
        self._calls[event.call_id] = _Call(block, endpoint, operation, company)

    def request_started(self, event: RequestStarted) -> None:
        call = self._calls[event.call_id]
        endpoint, around = call.endpoint, call.block
        attributes = {**endpoint.of_span, **call.company, "codat.quota.wait": event.quota_wait}
        if event.attempt > 1:
            attributes["http.request.resend_count"] = event.attempt - 1
        start = around.start + _nanoseconds(event.since_call_start)
        request = self._block(endpoint.span_name, SpanKind.CLIENT, attributes, around.context, start)
        call.request = request
        self._instruments.active_requests.add(1, endpoint.of_metric)
        self._instruments.quota_wait.record(event.quota_wait, call.operation)
        self._inject(event.headers, request.context)

    def request_ended(self, event: RequestEnded) -> None:
        call = self._calls[event.call_id]
        request, call.request = call.request, None
        if request is None:
            return
        came_to = _came_to(event)
        if event.correlation_id is not None:
            request.span.set_attribute("codat.correlation_id", event.correlation_id)
        try:
            # While the span is current, so that exemplars lead to it.
            self._instruments.active_requests.add(-1, call.endpoint.of_metric)
            self._instruments.request_duration.record(event.elapsed, {**call.endpoint.of_metric, **came_to})
        finally:
            request.end(event.elapsed, came_to)

    def retried(self, event: Retried) -> None:
        self._instruments.retries.add(1, {"codat.operation": event.operation, "error.type": event.error_type})

    def paused(self, event: Paused) -> None:
        self._instruments.pauses.add(1, {"codat.pause.reason": event.reason})

    def call_ended(self, event: CallEnded) -> None:
        call = self._calls.pop(event.call_id)
        failure = {} if event.error is None else {"error.type": event.error}
        try:
            self._instruments.call_duration.record(event.elapsed, {**call.operation, **failure})
        finally:
            call.block.end(event.elapsed, {"codat.attempts": event.attempts, **failure})

    def _block(self, name: str, kind: SpanKind, attributes: Attributes, within: Context, start: int) -> _Block:
        return _Block(self._tracer.start_span(name, within, kind, attributes, start_time=start), kind, within, start)


def _came_to(event: RequestEnded) -> Attributes:
    """What the conventions say of an answer, or of there being none."""
    came_to: dict[str, str | int] = {}
    if event.status is not None:
        came_to["http.response.status_code"] = event.status
    if event.error_type is not None:
        came_to["error.type"] = event.error_type if event.status is None else str(event.status)
    return came_to


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
