"""Log records and hooks for requests, retries and pauses, and hooks for calls. None contains a secret."""

import itertools
import logging
from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeVar

from codat_commerce_async._core.log import extra_fields, logger_of, named
from codat_commerce_async._core.operation import Operation
from codat_commerce_async._core.rate_limiter import log_pause
from codat_commerce_async.errors import CodatError, OutcomeUnknownError
from codat_commerce_async.hooks import (
    CallEnded,
    CallStarted,
    Hooks,
    Paused,
    RequestEnded,
    RequestStarted,
    Retried,
)

__all__ = ["Instrumentation", "TracedCall"]

Event = TypeVar("Event")

_logger = logger_of("calls")


class TracedCall(Protocol):
    """The call that an event is about."""

    @property
    def id(self) -> int:
        """The id of the call in events."""
        ...

    @property
    def operation(self) -> Operation[object]:
        """The operation that was called."""
        ...

    @property
    def company_id(self) -> str | None:
        """The company that the call is for, if it is for one."""
        ...


class Instrumentation:
    """Emit events to the log and to the hooks."""

    __slots__ = (
        "_hooks",
        "_server",
        "_wall_clock",
        "has_call_listener",
        "has_request_listener",
        "has_start_listener",
        "observes_responses",
    )

    # Unique among all clients, as several may have the same hooks.
    call_ids = itertools.count(1)
    """The ids of calls to come."""

    def __init__(self, hooks: Hooks, server: str, wall_clock: Callable[[], float]) -> None:
        self._hooks = hooks
        self._server = server
        self._wall_clock = wall_clock
        self.has_request_listener = hooks.on_request_started is not None
        """Whether there is a hook for requests that are about to be sent."""
        # Functions of the standard library, as one of them runs for every request.
        self.observes_responses: Callable[[], bool] = (
            partial(_logger.isEnabledFor, logging.DEBUG) if hooks.on_request_ended is None else partial(bool, True)
        )
        """Return whether the results of requests are logged, or passed to a hook."""
        self.has_start_listener = hooks.on_call_started is not None
        """Whether there is a hook for the starts of calls."""
        self.has_call_listener = hooks.on_call_ended is not None
        """Whether there is a hook for the ends of calls."""

    def call_started(self, call: TracedCall) -> None:
        """Emit the start of a call."""
        if (hook := self._hooks.on_call_started) is not None:
            name, method, path = call.operation.name, call.operation.method, call.operation.path
            _invoke(hook, CallStarted(call.id, name, method, path, self._server, self._wall_clock(), call.company_id))

    def request_started(self, event: RequestStarted) -> None:
        """Emit the start of a request; headers that a hook adds are sent."""
        if (hook := self._hooks.on_request_started) is not None:
            _invoke(hook, event)

    def header_refused(self, name: object, reason: str) -> None:
        """Log that a header of a hook is not sent; not its value, as that may be a secret."""
        _logger.warning("the header %s of a hook is not sent: %s", name, reason, extra=extra_fields())

    def request_ended(self, call: TracedCall, event: RequestEnded, result: str, quota_wait: float) -> None:
        """Emit the result of a request, which waited the given number of seconds for the quota."""
        if _logger.isEnabledFor(logging.DEBUG):
            _logger.debug(
                "%s: %s on attempt %d after %.3f s",
                named(event.operation, call.company_id),
                result,
                event.attempt,
                event.elapsed,
                extra=extra_fields(
                    call.company_id,
                    operation=call.operation,
                    status=event.status,
                    attempt=event.attempt,
                    quota_wait=quota_wait,
                    elapsed=event.elapsed,
                    correlation_id=event.correlation_id,
                ),
            )
        if (hook := self._hooks.on_request_ended) is not None:
            _invoke(hook, event)

    def retried(self, call: TracedCall, event: Retried, error: CodatError, quota_wait: float, elapsed: float) -> None:
        """Emit that a request will be sent again; its last attempt took `elapsed` seconds after `quota_wait`."""
        _logger.info(
            "%s: %s; sending it again in %.2f s",
            named(event.operation, call.company_id),
            event.reason,
            event.pause,
            extra=extra_fields(
                call.company_id,
                operation=call.operation,
                error=error,
                attempt=event.attempt,
                quota_wait=quota_wait,
                elapsed=elapsed,
                pause=event.pause,
            ),
        )
        if (hook := self._hooks.on_retry) is not None:
            _invoke(hook, event)

    def outcome_unknown(self, error: OutcomeUnknownError, company_id: str | None, status: int | None) -> None:
        """Log that a write may or may not have been processed."""
        what, extra = named(error.operation, company_id), extra_fields(company_id, error=error, status=status)
        _logger.warning("%s: %s", what, error.message, extra=extra)

    def paused(self, seconds: float, reason: str, company_id: str | None = None) -> None:
        """Emit that requests are paused, all of them or those of one company."""
        log_pause(seconds, reason, company_id)
        self.shared_limiter_paused(seconds, reason, company_id)

    def shared_limiter_paused(self, seconds: float, reason: str, company_id: str | None = None) -> None:
        """Emit a pause of a rate limiter that the user has created, and that logs its pauses itself."""
        if (hook := self._hooks.on_pause) is not None:
            _invoke(hook, Paused(seconds, reason, company_id))

    def call_ended(self, event: CallEnded) -> None:
        """Emit the end of a call."""
        if (hook := self._hooks.on_call_ended) is not None:
            _invoke(hook, event)


def _invoke(hook: Callable[[Event], None], event: Event) -> None:
    try:
        hook(event)
    except Exception:
        _logger.exception("a hook raised on %s", type(event).__name__, extra=extra_fields())
