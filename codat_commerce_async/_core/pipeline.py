"""Make a call: encode the request, pass the rate limiter, send it, check the status, retry, and decode.

`policies.py` lists what bounds a call in time. `retry.py` decides whether a failed attempt is sent again, and
`reconcile.py` what follows beyond one call, for the start of a sync and the creation of a company or connection.
"""

from asyncio import AbstractEventLoop
from collections.abc import Awaitable, Coroutine
from http import HTTPStatus
from random import Random
from types import NoneType, TracebackType
from typing import TypeVar, Unpack, cast

from attrs import define, field

from codat_commerce_async._core import codec as _codec
from codat_commerce_async._core.call_record import CallRecord
from codat_commerce_async._core.credentials import Credentials
from codat_commerce_async._core.encoding import encode
from codat_commerce_async._core.idempotency import new_key
from codat_commerce_async._core.instrumentation import Instrumentation
from codat_commerce_async._core.lifecycle import Clock, Lifecycle
from codat_commerce_async._core.operation import Idempotency, Operation, Query
from codat_commerce_async._core.quota_monitor import QuotaMonitor
from codat_commerce_async._core.rate_limiter import RateLimiter
from codat_commerce_async._core.request import check_options
from codat_commerce_async._core.responses import error_from_response
from codat_commerce_async._core.retry import repeat
from codat_commerce_async._core.transport import Request, Response, Transport
from codat_commerce_async._core.validation import check_instance
from codat_commerce_async.errors import ClientClosedError, CodatError, DecodeError, RateLimitError
from codat_commerce_async.models.call import ApiResponse
from codat_commerce_async.policies import CallOptions, RetryPolicy, Timeouts

__all__ = ["Pipeline", "check_operation"]

T = TypeVar("T")
_GOOD = range(200, 300)


class Pipeline:
    """Make calls; a single call is a `_Call`."""

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
        key_valid_for: float | None = None,
        **options: Unpack[CallOptions],
    ) -> Coroutine[object, object, T]:
        """Make one call, and return its decoded response.

        With `starts_work`, the request is deferred while the remaining daily quota is reserved for running syncs.

        `key_valid_for` is for an idempotency key that was used before: it must not be sent any more after these
        seconds, by the clock of the event loop or of the machine, whichever is ahead.
        """
        # Not a coroutine around a coroutine: each one takes memory for each call in flight.
        return self._prepare(
            operation, path, query, body, options, starts_work=starts_work, key_valid_for=key_valid_for
        ).run()

    async def send(
        self,
        operation: Operation[T],
        *path: str,
        query: Query | None = None,
        body: object | None = None,
        starts_work: bool = False,
        key_valid_for: float | None = None,
        **options: Unpack[CallOptions],
    ) -> ApiResponse[T]:
        """Make one call, and return its decoded response with status, headers and attempts."""
        call = self._prepare(
            operation, path, query, body, options, starts_work=starts_work, key_valid_for=key_valid_for
        )
        return call.to_response(await call.run(), call.response, self.credentials)

    def _prepare(
        self,
        operation: Operation[T],
        path: tuple[str, ...],
        query: Query | None,
        body: object | None,
        options: CallOptions,
        *,
        starts_work: bool,
        key_valid_for: float | None,
    ) -> "_Call[T]":
        """Return a call whose request is encoded; raise TypeError or ValueError for arguments that it cannot have."""
        headers: dict[str, str] = {}
        if options:
            check_options(operation, options)
            headers |= options.get("headers", {})
        # Before the body: an invalid id is reported as one of the path, even if the body contains it too.
        target = operation.format_target(path, query)
        key = data = None
        if operation.idempotency is Idempotency.KEYED:
            key = headers["Idempotency-Key"] = options.get("idempotency_key") or new_key(self.random)
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = encode(body)
        return _Call(
            operation,
            operation.company_id(path),
            key,
            # Every attempt sends the same bytes.
            Request(operation.method, target, headers, data),
            options.get("retry") or self.retry,
            options.get("timeout"),
            key_valid_for,
            self.instrumentation,
            self.clock,
            self.random,
            self,
            options.get("background", False),
            starts_work,
        )


def check_operation(operation: Operation[object]) -> None:
    """Raise TypeError unless it is an operation whose response can be decoded, before anything is sent."""
    check_instance("operation", operation, Operation)
    _codec.check_decodable(operation.response_type)


@define(eq=False, repr=False)
class _Call(CallRecord[T]):
    """One call: `run` makes it, `_attempt` is one attempt, and `CallRecord` is what they record."""

    pipeline: Pipeline
    background: bool
    starts_work: bool
    response: Response = field(init=False)

    async def run(self) -> T:
        """Send the request, retrying as the policy allows, and return the decoded response.

        Raises the final `CodatError`.
        """
        scope = self.pipeline.lifecycle.scope(self.timeout)
        self._start(scope.loop)
        response: Response | None = None
        failure: CodatError | None = None
        try:
            with scope:
                try:
                    response = await self._attempt()
                except CodatError as error:
                    failure = error
                # Outside of the handler, as the error would be the context of all that follow.
                if failure is not None:
                    response = await repeat(failure, self._attempt, self.ensure_state(), before_sleep=self.emit_retry)
            assert response is not None  # noqa: S101 - for the type checker
            self.response = response
            value = self._decode(response)
        except CodatError as error:
            # With a response, it is the error of decoding it, which has its call already.
            failure = error if response is not None else self.final_error(error)
        except TimeoutError:  # the scope's; an attempt's is a CodatError
            failure = self.final_error(self.timeout_error())
        except BaseException as error:
            self.emit_call_ended(response, error)
            raise
        else:
            if self.instrumentation.has_call_listener:
                self.emit_call_ended(response, None)
            return value
        self.emit_call_ended(response, failure)
        # Raised outside of the handlers: an error that was replaced, and its frames, must not be its context.
        raise failure

    async def _attempt(self) -> Response:
        """Wait for the rate limiter, send the request, and return its response; raise it as an error if it is one."""
        pipeline, arrived = self.pipeline, self.loop.time()
        if self.starts_work:
            pipeline.quota.update_limiter()
        async with _Slot(pipeline.rate_limiter, self.company_id, self.background, self.starts_work):
            request, response = self._start_attempt(arrived), None
            try:
                response = await pipeline.transport.send(request, pipeline.timeouts)
                self._check(response)
            except BaseException as error:
                # None: the transport does not report it.
                self.fail_attempt(response, error, maybe_sent=request.started is not False)
                raise
            self._end_attempt(response)
            return response

    def _start(self, loop: AbstractEventLoop) -> None:
        self.loop, self.started_at = loop, loop.time()
        self.id = next(self.instrumentation.call_ids)
        if self.key_valid_for is not None:
            self.ensure_state()
        if self.instrumentation.has_start_listener:
            self.emit_call_started()

    def _start_attempt(self, arrived: float) -> Request:
        """Record the start of an attempt, and return its request; raise the error if it must not be sent."""
        pipeline, state = self.pipeline, self.state
        if pipeline.lifecycle.closed:
            raise ClientClosedError("the client was closed during the call")
        if state is not None:
            state.check_key()
            if state.error is not None:
                state.exclude_from_deadline(pipeline.quota.reset_wait(arrived))
                state.check_deadline()
        self.attempt_loop_time = self.loop.time() if state is None else state.record_start_now()
        self.attempt_wall_time = self.clock.now()
        self.quota_wait = self.attempt_loop_time - arrived
        self.attempt_count += 1
        self.requested_delay = None
        request = self.hooked_request() if self.instrumentation.has_request_listener else self.request
        if state is not None and state.repeats_key:
            # Connecting takes time too, for which the machine may be suspended.
            request.before_send = state.check_key
        return request

    def _end_attempt(self, response: Response) -> None:
        """Record the success of an attempt."""
        elapsed = self.loop.time() - self.attempt_loop_time
        self.ended += ((self.attempt_count, self.attempt_wall_time, self.quota_wait, elapsed, response.status, "ok"),)
        if self.state is not None:
            self.state.succeed()
        if self.instrumentation.observes_responses():
            self.emit_request_ended(elapsed, response, "ok", None)

    def _check(self, response: Response) -> None:
        """Raise the error if the response is one; set `requested_delay` then.

        Its server time is passed to the clock. What it reports of the quota is passed to the rate limiter only if
        that needs it now, or after a 429.
        """
        pipeline, quota = self.pipeline, self.pipeline.quota
        pipeline.clock.observed = response.headers, pipeline.clock.now()
        if pipeline.rate_limiter.needs_quota_update:
            quota.update_limiter()
        if response.status in _GOOD:
            if quota.throttled.since:
                quota.throttled.note_success(self.attempt_loop_time)
            return
        error = error_from_response(response, pipeline.credentials, pipeline.clock.now())
        self.requested_delay = error.retry_after
        if isinstance(error, RateLimitError):
            self.requested_delay = quota.on_rate_limited(error, self.policy.max_retry_after, self.company_id)
        raise error

    def _decode(self, response: Response) -> T:
        kind = self.operation.response_type
        if kind is NoneType or (kind is object and response.status == HTTPStatus.NO_CONTENT):
            return cast("T", None)
        try:
            # No variable holds the body, as tracebacks may show it.
            return _codec.decode(_redacted(response.body, self.pipeline.credentials), kind)
        except DecodeError as error:
            failure = DecodeError(error.message, None, error.path, response.status).with_call(self.to_call())
        raise failure


class _Slot:
    """The place of one request within the limits: `async with` waits for it and releases it."""

    __slots__ = ("_background", "_company_id", "_limiter", "_starts_work")

    def __init__(self, limiter: RateLimiter, company_id: str | None, background: bool, starts_work: bool) -> None:  # noqa: FBT001 - every attempt makes one, and keywords take longer
        self._limiter = limiter
        self._company_id = company_id
        self._background = background
        self._starts_work = starts_work

    def __aenter__(self) -> Awaitable[None]:
        # Not a coroutine around a coroutine: every attempt awaits it.
        return self._limiter.acquire(self._company_id, background=self._background, starts_work=self._starts_work)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._limiter.release(self._company_id)


def _redacted(body: bytes, credentials: Credentials) -> bytes:
    """Return the body of a good response without the key, which it hardly ever contains."""
    for echo in credentials.echoes:
        for character in echo.rarest:
            if character not in body:
                break
        else:
            if echo.text in body:
                return credentials.redact_echo(body)
    return body
