"""Record spans and metrics of a client's calls, following OpenTelemetry's conventions for HTTP clients.

    async with CodatCommerce(api_key, hooks=telemetry_hooks()) as codat: ...

Needs the extra `otel`. https://opentelemetry.io/docs/specs/semconv/http/
"""

import os
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache, partial
from urllib.parse import urlsplit

from attrs import define, frozen

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
    # Without that package, no HTTP client is instrumented.
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
# With the rate limiter and the pauses before retries, a call can take minutes.
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
    """Return hooks that trace and measure every call; several clients may share them.

    A call is an INTERNAL span `codat {operation}`. Each of its requests is a CLIENT span `{method} {url.template}`
    inside of it. Both are the current span while they last. Ids in `url.full` are redacted, and its query is left out.
    `record_company_id` adds `codat.company_id` to the spans. The metrics are `http.client.request.duration`,
    `http.client.active_requests`, `codat.client.call.duration`, `codat.client.quota.wait`, `codat.client.retries` and
    `codat.client.pauses`.

    OpenTelemetry's own instrumentation of aiohttp is suppressed for these requests, so that each has one CLIENT span.

    The default providers and propagator are OpenTelemetry's global ones. The global propagator injects headers without
    baggage, which may be confidential; your own `propagator` gets the whole context.

    Args:
        tracer_provider: Where spans go; None for the global provider.
        meter_provider: Where metrics go; None for the global provider.
        propagator: What adds the trace context to requests; None for the global propagator.
        record_company_id: Whether spans contain the company id.
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

    def inject(headers: dict[str, str], current: Context) -> None:
        if propagator is not None:
            propagator.inject(headers, current, setter)
        else:
            # Read it each time: it may be set after the hooks are created.
            propagate.get_global_textmap().inject(headers, baggage.clear(current), setter)

    return inject


@frozen
class _Endpoint:
    """The attributes that all requests of an operation have in common."""

    span_name: str
    span_attributes: Attributes
    metric_attributes: Attributes


def _endpoint(known_methods: frozenset[str], server: str, method: str, path: str) -> _Endpoint:
    url = urlsplit(server)
    template = url.path + path
    name, original = (method, {}) if method in known_methods else ("_OTHER", {"http.request.method_original": method})
    metric_attributes: Attributes = {
        "http.request.method": name,
        "server.address": url.hostname or "",
        "server.port": url.port or _PORTS[url.scheme],
        "url.template": template,
    }
    span_attributes: Attributes = {
        **metric_attributes,
        **original,
        "url.full": f"{url.scheme}://{url.netloc}{_PLACEHOLDER.sub('REDACTED', template)}",
    }
    return _Endpoint(f"{'HTTP' if original else method} {template}", span_attributes, metric_attributes)


class _Instruments:
    """The instruments of the metrics."""

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
            "Duration of calls, including waits, requests and retries.",
            explicit_bucket_boundaries_advisory=_LONG_BUCKETS,
        )
        self.quota_wait = meter.create_histogram(
            "codat.client.quota.wait",
            "s",
            "Time that requests waited for the quota.",
            explicit_bucket_boundaries_advisory=_LONG_BUCKETS,
        )
        self.retries = meter.create_counter("codat.client.retries", "{retry}", "Requests that are sent again.")
        self.pauses = meter.create_counter("codat.client.pauses", "{pause}", "Number of pauses of all requests.")


class _ActiveSpan:
    """A span that is current from its start to its end; times are in nanoseconds since the epoch.

    A CLIENT span suppresses the instrumentation of aiohttp, which would record the same request again.
    """

    __slots__ = ("_token", "context", "span", "start")

    def __init__(self, span: Span, kind: SpanKind, parent: Context, start: int) -> None:
        self.span = span
        self.start = start
        current = trace.set_span_in_context(span, parent)
        self.context = _suppressed(current) if kind is SpanKind.CLIENT else current
        self._token = context.attach(self.context)

    def end(self, elapsed: float, result: Attributes) -> None:
        """End the span `elapsed` seconds after its start; its status is ERROR if `result` has an `error.type`."""
        self.span.set_attributes(result)
        if "error.type" in result:
            self.span.set_status(StatusCode.ERROR)
        self.span.end(self.start + _nanoseconds(elapsed))
        # The garbage collector may end an abandoned call while another span is current.
        if context.get_current() is self.context:
            context.detach(self._token)


def _suppressed(parent: Context) -> Context:
    """Return the context with the instrumentation of HTTP clients suppressed."""
    token = context.attach(parent)
    try:
        with _no_instrumentation():
            return context.get_current()
    finally:
        context.detach(token)


@define(eq=False)
class _Call:
    """A call in progress, and its current request, if any."""

    span: _ActiveSpan
    endpoint: _Endpoint
    operation: Attributes
    company: Attributes
    request: _ActiveSpan | None = None


class _Telemetry:
    """Records spans and measurements from the events of the hooks."""

    def __init__(self, tracer: Tracer, instruments: _Instruments, inject: Inject, *, record_company_id: bool) -> None:
        self._tracer = tracer
        self._instruments = instruments
        self._inject = inject
        self._record_company_id = record_company_id
        # The conventions define this variable.
        known_methods = frozenset(os.environ.get("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS", _METHODS).split(","))
        # There are about twenty endpoints, but `client.call` accepts any path.
        self._endpoint = lru_cache(maxsize=256)(partial(_endpoint, known_methods))
        # Bounded by the calls in progress: each call emits `call_ended`, also if it is cancelled.
        self._calls: dict[int, _Call] = {}

    def call_started(self, event: CallStarted) -> None:
        endpoint = self._endpoint(event.server, event.method, event.path)
        operation = {"codat.operation": event.operation}
        company = {}
        if self._record_company_id and event.company_id is not None:
            company["codat.company_id"] = event.company_id
        span = self._start_span(
            f"codat {event.operation}",
            SpanKind.INTERNAL,
            {**operation, **company},
            context.get_current(),
            _nanoseconds(event.at),
        )
        self._calls[event.call_id] = _Call(span, endpoint, operation, company)

    def request_started(self, event: RequestStarted) -> None:
        call = self._calls[event.call_id]
        endpoint, parent = call.endpoint, call.span
        attributes = {**endpoint.span_attributes, **call.company, "codat.quota.wait": event.quota_wait}
        if event.attempt > 1:
            attributes["http.request.resend_count"] = event.attempt - 1
        start = parent.start + _nanoseconds(event.since_call_start)
        request = self._start_span(endpoint.span_name, SpanKind.CLIENT, attributes, parent.context, start)
        call.request = request
        self._instruments.active_requests.add(1, endpoint.metric_attributes)
        self._instruments.quota_wait.record(event.quota_wait, call.operation)
        self._inject(event.headers, request.context)

    def request_ended(self, event: RequestEnded) -> None:
        call = self._calls[event.call_id]
        request, call.request = call.request, None
        if request is None:
            return
        result = _result(event)
        if event.correlation_id is not None:
            request.span.set_attribute("codat.correlation_id", event.correlation_id)
        try:
            # Record while the span is current, so that exemplars refer to it.
            self._instruments.active_requests.add(-1, call.endpoint.metric_attributes)
            self._instruments.request_duration.record(event.elapsed, {**call.endpoint.metric_attributes, **result})
        finally:
            request.end(event.elapsed, result)

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
            call.span.end(event.elapsed, {"codat.attempts": event.attempts, **failure})

    def _start_span(
        self, name: str, kind: SpanKind, attributes: Attributes, parent: Context, start: int
    ) -> _ActiveSpan:
        span = self._tracer.start_span(name, parent, kind, attributes, start_time=start)
        return _ActiveSpan(span, kind, parent, start)


def _result(event: RequestEnded) -> Attributes:
    """Return the attributes of a response, or of a request without one."""
    result: dict[str, str | int] = {}
    if event.status is not None:
        result["http.response.status_code"] = event.status
    if event.error_type is not None:
        result["error.type"] = event.error_type if event.status is None else str(event.status)
    return result


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
