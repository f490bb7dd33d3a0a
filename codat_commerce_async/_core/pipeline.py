"""Make a call: encode the request, pass the rate limiter, send it, check the status, retry, and decode."""

from collections.abc import Coroutine
from datetime import UTC, datetime
from http import HTTPStatus
from random import Random
from types import NoneType
from typing import Generic, TypeVar, Unpack, cast

from codat_commerce_async._core import codec as _codec
from codat_commerce_async._core import headers as _headers
from codat_commerce_async._core.credentials import Credentials
from codat_commerce_async._core.idempotency import new_key
from codat_commerce_async._core.instrumentation import Instrumentation
from codat_commerce_async._core.lifecycle import Clock, Lifecycle
from codat_commerce_async._core.operation import Idempotency, Operation, Query
from codat_commerce_async._core.quota_monitor import QuotaMonitor
from codat_commerce_async._core.rate_limiter import RateLimiter
from codat_commerce_async._core.request import check_options, merge_headers
from codat_commerce_async._core.responses import error_from_response
from codat_commerce_async._core.retry import CallState, repeat
from codat_commerce_async._core.transport import Request, Response, Transport
from codat_commerce_async.errors import (
    ClientClosedError,
    CodatError,
    DecodeError,
    OutcomeUnknownError,
    RateLimitError,
    RequestTimeoutError,
    StatusError,
)
from codat_commerce_async.hooks import RequestEnded
from codat_commerce_async.models.call import ApiResponse, Attempt, Call
from codat_commerce_async.policies import CallOptions, RetryPolicy, Timeouts

__all__ = ["Pipeline", "Query", "check_options"]

T = TypeVar("T")
_GOOD = range(200, 300)
AttemptRecord = tuple[int, float, float, float, int | None, str]


class Pipeline:
    """Make calls; the state of a single call is in `_Call`."""

    def __init__(
        self,
        transport: Transport,
        rate_limiter: RateLimiter,
        lifecycle: Lifecycle,
        instrumentation: Instrumentation,
        *,
        credentials: Credentials,
        retry: RetryPolicy,
        timeouts: Timeouts,
        clock: Clock,
        random: Random,
    ) -> None:
        self.transport = transport
        self.rate_limiter = rate_limiter
        self.lifecycle = lifecycle
        self.instrumentation = instrumentation
        self.credentials = credentials
        self.retry = retry
        self.timeouts = timeouts
        self.clock = clock
        self.random = random
        self.quota = QuotaMonitor(rate_limiter, clock)

    def call(
        self,
        operation: Operation[T],
        *path: str,
        query: Query | None = None,
        body: object | None = None,
        starts_work: bool = False,
        key_left: float | None = None,
        **options: Unpack[CallOptions],
    ) -> Coroutine[object, object, T]:
        """Make one call, and return its decoded response.

        With `starts_work`, the request is deferred while the remaining daily quota is reserved for running syncs.

        `key_left` is for an idempotency key that was used before: the seconds, from now on both clocks, after which
        it must not be sent any more.
        """
        # Not a coroutine around a coroutine: each one makes a call in flight larger.
        return _Call(self, operation, path, query, body, options, starts_work=starts_work, key_left=key_left).run()

    async def send(
        self,
        operation: Operation[T],
        *path: str,
        query: Query | None = None,
        body: object | None = None,
        starts_work: bool = False,
        key_left: float | None = None,
        **options: Unpack[CallOptions],
    ) -> ApiResponse[T]:
        """Make one call, and return its decoded response with status, headers and attempts."""
        call = _Call(self, operation, path, query, body, options, starts_work=starts_work, key_left=key_left)
        return call.to_response(await call.run())


class _Call(Generic[T]):
    """One call with all its attempts."""

    __slots__ = (
        "_attempt_count",
        "_attempts",
        "_background",
        "_began",
        "_company_id",
        "_id",
        "_key",
        "_key_left",
        "_loop",
        "_operation",
        "_pipeline",
        "_policy",
        "_quota_wait",
        "_request",
        "_requested_at",
        "_requested_delay",
        "_response",
        "_sent_at",
        "_started_at",
        "_starts_work",
        "_state",
        "_timeout",
    )

    def __init__(
        self,
        pipeline: Pipeline,
        operation: Operation[T],
        path: tuple[str, ...],
        query: Query | None,
        body: object | None,
        options: CallOptions,
        *,
        starts_work: bool,
        key_left: float | None,
    ) -> None:
        if options:
            check_options(operation, options)
        self._pipeline = pipeline
        self._operation = operation
        self._key = None
        if operation.idempotency is Idempotency.KEYED:
            # One for all attempts of the call.
            self._key = options.get("idempotency_key") or new_key(pipeline.random)
        self._request = _to_request(operation, operation.format_target(path, query), body, self._key, options)
        self._company_id = operation.company_id(path)
        self._policy = options.get("retry") or pipeline.retry
        self._timeout = options.get("timeout")
        self._background = options.get("background", False)
        self._starts_work = starts_work
        self._key_left = key_left
        # Turned into Attempt objects only when they are needed.
        self._attempts: tuple[AttemptRecord, ...] = ()
        self._requested_at = 0.0
        self._requested_delay: float | None = None

    async def run(self) -> T:
        """Send the request, retrying as the policy allows, and return the decoded response.

        Raises the final `CodatError`.
        """
        pipeline = self._pipeline
        scope = pipeline.lifecycle.scope(self._timeout)
        self._loop = scope.loop
        self._began = self._loop.time()
        self._attempt_count = 0
        self._state = None if self._key_left is None else self._new_state()
        self._id = next(pipeline.instrumentation.call_ids)
        if pipeline.instrumentation.has_start_listener:
            pipeline.instrumentation.call_started(self._id, self._operation, self._company_id)
        response: Response | None = None
        try:
            async with scope:
                response = await self._attempt_until_done()
            self._response = response
            value = self._decode(response)
        except CodatError as error:
            failure = error if response is not None else self._final_error(error)
        except TimeoutError:
            message = _timeout_message(self._attempt_count)
            failure = self._final_error(RequestTimeoutError(message, None, self._known_state().reached))
        except BaseException as error:
            self._emit_call_ended(response, error)
            raise
        else:
            self._emit_call_ended(response, None)
            return value
        self._emit_call_ended(response, failure)
        # Outside of the handlers, so that what was translated is let go of, but for the cause of an unknown outcome.
        raise failure

    async def _attempt_until_done(self) -> Response:
        try:
            return await self._attempt()
        except CodatError as error:
            first = error
        return await repeat(first, self._attempt, self._known_state(), before_sleep=self._before_sleep)

    def _new_state(self) -> CallState:
        pipeline = self._pipeline
        return CallState(
            self._operation,
            self._policy,
            pipeline.clock,
            pipeline.random,
            None if self._timeout is None else self._began + self._timeout,
            key_left=self._key_left,
        )

    def _known_state(self) -> CallState:
        """Return what is known of the attempts; it is created for a call that does not succeed at once."""
        if self._state is None:
            self._state = self._new_state()
            if self._attempt_count:
                self._state.record_start(self._sent_at, self._started_at)
        return self._state

    def _emit_call_ended(self, response: Response | None, error: BaseException | None) -> None:
        instrumentation = self._pipeline.instrumentation
        if instrumentation.has_call_listener:
            instrumentation.call_ended(
                self._id,
                self._operation.name,
                self._loop.time() - self._began,
                self._attempt_count,
                response.status if response else None,
                type(error).__name__ if error else None,
            )

    def _decode(self, response: Response) -> T:
        response_type = self._operation.response_type
        if response_type is NoneType or (response_type is object and response.status == HTTPStatus.NO_CONTENT):
            return cast("T", None)
        try:
            return _codec.decode(_redacted(response.body, self._pipeline.credentials), response_type)
        except DecodeError as error:
            failure = DecodeError(error.message, None, error.path, response.status).with_call(self._call())
        raise failure

    def to_response(self, value: T) -> ApiResponse[T]:
        """Return the value together with what is known of its response."""
        response = self._response
        credentials = self._pipeline.credentials
        correlation_id = _headers.correlation_id(response.headers)
        return ApiResponse(
            value=value,
            status=response.status,
            headers={name.lower(): credentials.redact_text(value) for name, value in response.headers.items()},
            rate_limit=_headers.rate_limit(response.headers, self._pipeline.clock.now()),
            server_time=_headers.server_time(response.headers),
            correlation_id=credentials.redact_text(correlation_id) if correlation_id else None,
            idempotency_key=self._key,
            attempts=tuple(map(_to_attempt, self._attempts)),
        )

    async def _attempt(self) -> Response:
        """Wait for the rate limiter, send the request, and return its response; raise the error that it is."""
        pipeline, arrived = self._pipeline, self._loop.time()
        if self._starts_work:
            pipeline.quota.sync_limiter()
        await pipeline.rate_limiter.acquire(
            self._company_id, background=self._background, starts_work=self._starts_work
        )
        response: Response | None = None
        try:
            request = self._start_attempt(arrived)
            try:
                response = await pipeline.transport.send(request, pipeline.timeouts)
                pipeline.clock.observe(response.headers)
                if pipeline.rate_limiter.needs_quota_update:
                    pipeline.quota.sync_limiter()
                if response.status not in _GOOD:
                    self._raise_for_status(response)
                elif pipeline.quota.throttled.since:
                    pipeline.quota.throttled.note_success(self._sent_at)
            except BaseException as error:
                self._finish_attempt(response, error, sent=request.started is not False)
                raise
            self._finish_attempt(response, None, sent=True)
            return response
        finally:
            pipeline.rate_limiter.release(self._company_id)

    def _start_attempt(self, arrived: float) -> Request:
        """Record the start of an attempt, and return its request with the headers that hooks add."""
        pipeline, state = self._pipeline, self._state
        if pipeline.lifecycle.closed:
            raise ClientClosedError("the client was closed during the call")
        if state is None:
            began = self._loop.time()
        else:
            state.check_key()
            if state.error is not None:
                state.extend(pipeline.quota.reset_wait(arrived))
                state.check_deadline()
            began = state.start()
        started_at = pipeline.clock.now()
        self._attempt_count += 1
        self._requested_at = self._requested_at or started_at
        self._started_at, self._quota_wait, self._sent_at = started_at, began - arrived, began
        self._requested_delay = None
        request = self._with_hook_headers() if pipeline.instrumentation.has_request_listener else self._request
        if state is not None and state.repeats_key:
            # Connecting takes time too, for which the machine may be suspended.
            request.before_send = state.check_key
        return request

    def _raise_for_status(self, response: Response) -> None:
        """Raise the error that a response is, if it is one, and pause the rate limiter after a 429."""
        pipeline = self._pipeline
        error = error_from_response(response, pipeline.credentials, pipeline.clock.now())
        if isinstance(error, RateLimitError):
            self._requested_delay = pipeline.quota.on_rate_limited(
                error, self._policy.max_retry_after, self._company_id
            )
        elif error is not None:
            self._requested_delay = error.retry_after
        if error is not None:
            raise error

    def _finish_attempt(self, response: Response | None, error: BaseException | None, *, sent: bool) -> None:
        """Record the attempt's result.

        A cancelled attempt that was `sent` stays marked in flight, because the server may have received it.
        """
        status = response.status if response is not None else None
        outcome = "ok" if error is None else _describe(error)
        attempts, elapsed = self._attempt_count, self._loop.time() - self._sent_at
        if error is None or isinstance(error, CodatError):
            if error is not None:
                self._known_state().fail(error, self._requested_delay)
            elif self._state is not None:
                self._state.succeed()
            self._attempts += ((attempts, self._started_at, self._quota_wait, elapsed, status, outcome),)
        elif not sent:
            self._known_state().never_sent()
        instrumentation = self._pipeline.instrumentation
        if instrumentation.has_response_listener or instrumentation.logs_responses():
            event = RequestEnded(
                self._id,
                self._operation.name,
                attempts,
                elapsed,
                status,
                len(response.body) if response is not None else 0,
                outcome if status is None else None,
                error.correlation_id if isinstance(error, StatusError) else None,
                type(error).__name__ if error is not None else None,
            )
            instrumentation.request_ended(event, self._quota_wait, outcome, self._operation, self._company_id)

    def _with_hook_headers(self) -> Request:
        """Return the request with the headers that a hook adds to this attempt; the client's own are kept."""
        request, instrumentation = self._request, self._pipeline.instrumentation
        headers = request.headers.copy()
        instrumentation.request_started(
            self._id, self._operation.name, self._attempt_count, self._quota_wait, headers, self._sent_at - self._began
        )
        merged = merge_headers(request.headers, headers, instrumentation.header_refused)
        return Request(request.method, request.target, merged, request.body)

    def _before_sleep(self, error: CodatError, seconds: float) -> None:
        self._pipeline.instrumentation.retried(
            self._id, self._operation, self._company_id, self._attempt_count, self._attempts[-1][3], seconds, error
        )

    def _final_error(self, error: CodatError) -> CodatError:
        """Return the error to raise: OutcomeUnknownError if a write may have happened."""
        call = self._call()
        error.with_call(call)
        # Closing interrupts with a CancelledError, whose frames hold what was on its way.
        error.__context__ = None
        if not self._known_state().outcome_unknown:
            return error
        unknown = OutcomeUnknownError(
            f"it may or may not have happened: {error.message}",
            call,
            self._pipeline.clock.server_time(self._requested_at),
            error.correlation_id if isinstance(error, StatusError) else None,
        )
        unknown.__cause__ = error
        status = error.status if isinstance(error, StatusError) else None
        self._pipeline.instrumentation.outcome_unknown(unknown, self._company_id, status)
        return unknown

    def _call(self) -> Call:
        operation = self._operation
        return Call(
            operation=operation.name,
            method=operation.method,
            path=operation.path,
            idempotency_key=self._key,
            attempts=tuple(map(_to_attempt, self._attempts)),
        )


def _to_request(
    operation: Operation[object], target: str, body: object | None, key: str | None, options: CallOptions
) -> Request:
    """Return the request of a call; every attempt sends the same bytes."""
    headers, data = dict(options["headers"]) if "headers" in options else {}, None
    if key is not None:
        headers["Idempotency-Key"] = key
    if body is not None:
        headers["Content-Type"] = "application/json"
        data = _codec.encode(body)
    return Request(operation.method, target, headers, data)


def _to_attempt(attempt: AttemptRecord) -> Attempt:
    number, started_at, waited, elapsed, status, outcome = attempt
    return Attempt(
        number=number,
        started_at=datetime.fromtimestamp(started_at, UTC),
        quota_wait=waited,
        elapsed=elapsed,
        status=status,
        result=outcome,
    )


def _timeout_message(attempts: int) -> str:
    waiting = "" if attempts else ", and was still waiting for its turn at the quota"
    return f"the call took longer than its timeout{waiting}"


def _redacted(body: bytes, credentials: Credentials) -> bytes:
    """Return the body of a good response without the key, which it hardly ever contains."""
    return credentials.redact_echo(body) if any(map(body.__contains__, credentials.anchors)) else body


def _describe(error: BaseException) -> str:
    return error.message if isinstance(error, CodatError) else "interrupted"
