"""The pipeline of every call: fill the path, encode, then admit, send and judge until it is settled, and decode."""

from collections.abc import Coroutine
from datetime import UTC, datetime
from http import HTTPStatus
from random import Random
from typing import Generic, TypeVar, Unpack, cast
from uuid import UUID

from codat_commerce_async._core import codec as _codec
from codat_commerce_async._core import headers as _headers
from codat_commerce_async._core.credentials import Credentials
from codat_commerce_async._core.instrumentation import Instrumentation
from codat_commerce_async._core.lifecycle import Clock, Lifecycle
from codat_commerce_async._core.operation import Idempotency, Operation
from codat_commerce_async._core.quota_monitor import QuotaMonitor
from codat_commerce_async._core.rate_limiter import RateLimiter
from codat_commerce_async._core.request import Query, check_options, make_request, merge_headers
from codat_commerce_async._core.responses import error_from_response
from codat_commerce_async._core.retry import CallState, call_with_retries
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
    """Makes calls: what all of them share is here, what one goes through is in its exchange."""

    def __init__(
        self,
        transport: Transport,
        rate_limiter: RateLimiter,
        lifetime: Lifecycle,
        observer: Instrumentation,
        *,
        credentials: Credentials,
        retry: RetryPolicy,
        timeouts: Timeouts,
        clock: Clock,
        random: Random,
    ) -> None:
        self.transport = transport
        self.rate_limiter = rate_limiter
        self.lifetime = lifetime
        self.observer = observer
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
        """The decoded answer to one call; `starts_work` waits when the day's rest is needed for what is under way.

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
        """The decoded answer to one call, together with what came around it."""
        exchange = _Call(self, operation, path, query, body, options, starts_work=starts_work, key_left=key_left)
        return exchange.answer(await exchange.run())

    def new_key(self) -> str:
        """A new idempotency key."""
        return str(UUID(int=self.random.getrandbits(128), version=4))


class _Call(Generic[T]):
    """One call on its way."""

    __slots__ = (
        "_attempts",
        "_background",
        "_began",
        "_caller",
        "_clock",
        "_company_id",
        "_course",
        "_id",
        "_key",
        "_key_left",
        "_operation",
        "_policy",
        "_reply",
        "_request",
        "_requested_at",
        "_requested_delay",
        "_sent_at",
        "_started_at",
        "_starts_work",
        "_timeout",
        "_waited",
    )

    def __init__(
        self,
        caller: Pipeline,
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
        self._caller = caller
        self._operation = operation
        self._key = None
        if operation.idempotency is Idempotency.KEYED:
            # One for the whole call, however often it is sent.
            self._key = options.get("idempotency_key") or caller.new_key()
        self._request = make_request(operation, path, query, body, self._key, options)
        self._company_id = operation.company_id(path)
        self._policy = options.get("retry") or caller.retry
        self._timeout = options.get("timeout")
        self._background = options.get("background", False)
        self._starts_work = starts_work
        self._key_left = key_left
        # What an Attempt is made of, which few ever ask for.
        self._attempts: tuple[AttemptRecord, ...] = ()
        self._requested_at = 0.0
        self._requested_delay: float | None = None

    async def run(self) -> T:
        """What the reply says that settles the call; raises what settles it otherwise."""
        caller = self._caller
        scope = caller.lifetime.scope(self._timeout)
        self._clock = clock = scope.loop
        self._began = began = clock.time()
        deadline = None if self._timeout is None else began + self._timeout
        self._course = CallState(
            self._operation,
            self._policy,
            clock,
            caller.random,
            deadline,
            wall_clock=caller.clock.now,
            key_left=self._key_left,
        )
        self._id = caller.observer.call_started(self._operation, self._company_id)
        reply: Response | None = None
        try:
            async with scope:
                reply = await call_with_retries(self._attempt, self._course, before_sleep=self._before_sleep)
            self._reply = reply
            value = self._decoded(reply)
        except CodatError as error:
            failure = error if reply is not None else self._final_error(error)
        except TimeoutError:
            failure = self._final_error(RequestTimeoutError(_timeout_message(self._course), None, self._course.reached))
        except BaseException as error:
            self._emit_call_ended(reply, error)
            raise
        else:
            self._emit_call_ended(reply, None)
            return value
        self._emit_call_ended(reply, failure)
        # Outside of the handlers, so that what was translated is let go of, but for the cause of an unknown outcome.
        raise failure

    def _emit_call_ended(self, reply: Response | None, error: BaseException | None) -> None:
        observer = self._caller.observer
        if observer.has_call_listener:
            observer.call_ended(
                self._id,
                self._operation.name,
                self._clock.time() - self._began,
                self._course.attempts,
                reply.status if reply else None,
                type(error).__name__ if error else None,
            )

    def _decoded(self, reply: Response) -> T:
        answer = self._operation.response_type
        if answer is object and reply.status == HTTPStatus.NO_CONTENT:
            return cast("T", None)
        try:
            return _codec.decode(self._caller.credentials.redact_echo(reply.body), answer)
        except DecodeError as error:
            failure = DecodeError(error.message, None, error.path, reply.status).with_call(self._call())
        raise failure

    def answer(self, value: T) -> ApiResponse[T]:
        """What the reply says, with what came around it."""
        reply = self._reply
        credentials = self._caller.credentials
        correlation_id = _headers.correlation_id(reply.headers)
        return ApiResponse(
            value=value,
            status=reply.status,
            headers={name.lower(): credentials.redact_text(value) for name, value in reply.headers.items()},
            rate_limit=_headers.rate_limit(reply.headers, self._caller.clock.now()),
            server_time=_headers.server_time(reply.headers),
            correlation_id=credentials.redact_text(correlation_id) if correlation_id else None,
            idempotency_key=self._key,
            attempts=tuple(map(_attempt, self._attempts)),
        )

    async def _attempt(self) -> Response:
        """One request, admitted, sent and judged; the place at the gate is held no longer than that."""
        caller, arrived = self._caller, self._clock.time()
        if self._starts_work:
            caller.quota.sync_limiter()
        await caller.rate_limiter.acquire(self._company_id, background=self._background, starts_work=self._starts_work)
        reply: Response | None = None
        try:
            request = self._start_attempt(arrived)
            try:
                reply = await caller.transport.send(request, caller.timeouts)
                caller.quota.observe(reply.headers)
                if reply.status not in _GOOD:
                    self._raise_for_status(reply)
                else:
                    caller.quota.on_success(self._sent_at)
            except BaseException as error:
                self._finish_attempt(reply, error, sent=request.started is not False)
                raise
            self._finish_attempt(reply, None, sent=True)
            return reply
        finally:
            caller.rate_limiter.release(self._company_id)

    def _start_attempt(self, arrived: float) -> Request:
        """The request to send now, with what hooks add to it."""
        caller, course = self._caller, self._course
        if caller.lifetime.closed:
            raise ClientClosedError("the client was closed during the call")
        course.check_key()
        if course.error is not None:
            course.extend(caller.quota.reset_wait(arrived))
            course.check_deadline()
        began, started_at = course.start(), caller.clock.now()
        self._requested_at = self._requested_at or started_at
        self._started_at, self._waited, self._sent_at = started_at, began - arrived, began
        self._requested_delay = None
        request = self._with_hook_headers() if caller.observer.has_request_listener else self._request
        if course.repeats_key:
            # Connecting takes time too, for which the machine may be suspended.
            request.before_send = course.check_key
        return request

    def _raise_for_status(self, reply: Response) -> None:
        """Raise the error that the reply is, if it is one; after a 429, everybody holds back."""
        caller = self._caller
        error = error_from_response(reply, caller.credentials, caller.clock.now())
        if isinstance(error, RateLimitError):
            self._requested_delay = caller.quota.on_rate_limited(error, self._policy.max_retry_after, self._company_id)
        elif error is not None:
            self._requested_delay = error.retry_after
        if error is not None:
            raise error

    def _finish_attempt(self, reply: Response | None, error: BaseException | None, *, sent: bool) -> None:
        """Record the attempt's result. An interrupted one that was `sent` stays in flight, for all we know."""
        status = reply.status if reply is not None else None
        outcome = "ok" if error is None else _describe(error)
        tries, elapsed = self._course.attempts, self._clock.time() - self._sent_at
        if error is None or isinstance(error, CodatError):
            if error is None:
                self._course.succeed()
            else:
                self._course.fail(error, self._requested_delay)
            self._attempts += ((tries, self._started_at, self._waited, elapsed, status, outcome),)
        elif not sent:
            self._course.never_sent()
        observer = self._caller.observer
        if observer.has_response_listener:
            event = RequestEnded(
                self._id,
                self._operation.name,
                tries,
                elapsed,
                status,
                len(reply.body) if reply is not None else 0,
                outcome if status is None else None,
                error.correlation_id if isinstance(error, StatusError) else None,
                type(error).__name__ if error is not None else None,
            )
            observer.request_ended(event, self._waited, outcome, self._operation, self._company_id)

    def _with_hook_headers(self) -> Request:
        """The request with what a hook adds to this try of it; the client's own headers stay as they are."""
        request, observer = self._request, self._caller.observer
        headers = request.headers.copy()
        observer.request_started(
            self._id, self._operation.name, self._course.attempts, self._waited, headers, self._sent_at - self._began
        )
        merged = merge_headers(request.headers, headers, observer.header_refused)
        return Request(request.method, request.target, merged, request.body)

    def _before_sleep(self, error: CodatError, seconds: float) -> None:
        course = self._course
        self._caller.observer.retried(
            self._id, self._operation, self._company_id, course.attempts, self._attempts[-1][3], seconds, error
        )

    def _final_error(self, error: CodatError) -> CodatError:
        """What to raise in the end: a write that may have happened is neither done nor undone, and says so."""
        call = self._call()
        error.with_call(call)
        # Closing interrupts with a CancelledError, whose frames hold what was on its way.
        error.__context__ = None
        if not self._course.outcome_unknown:
            return error
        unknown = OutcomeUnknownError(
            f"it may or may not have happened: {error.message}",
            call,
            self._caller.clock.server_time(self._requested_at),
            error.correlation_id if isinstance(error, StatusError) else None,
        )
        unknown.__cause__ = error
        status = error.status if isinstance(error, StatusError) else None
        self._caller.observer.outcome_unknown(unknown, self._company_id, status)
        return unknown

    def _call(self) -> Call:
        operation = self._operation
        return Call(
            operation=operation.name,
            method=operation.method,
            path=operation.path,
            idempotency_key=self._key,
            attempts=tuple(map(_attempt, self._attempts)),
        )


def _attempt(attempt: AttemptRecord) -> Attempt:
    number, started_at, waited, elapsed, status, outcome = attempt
    return Attempt(
        number=number,
        started_at=datetime.fromtimestamp(started_at, UTC),
        quota_wait=waited,
        elapsed=elapsed,
        status=status,
        result=outcome,
    )


def _timeout_message(course: CallState) -> str:
    waiting = "" if course.attempts else ", and was still waiting for its turn at the quota"
    return f"the call took longer than its timeout{waiting}"


def _describe(error: BaseException) -> str:
    return error.message if isinstance(error, CodatError) else "interrupted"
