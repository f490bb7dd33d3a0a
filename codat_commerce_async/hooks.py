"""Hooks: functions that are called with an event for each call, request, retry and pause."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import NamedTuple, TypeVar

from codat_commerce_async._core.callbacks import check_function

__all__ = ["CallEnded", "CallStarted", "Hooks", "Paused", "RequestEnded", "RequestStarted", "Retried"]

Event = TypeVar("Event")


class CallStarted(NamedTuple):
    """A call begins; `call_id` is the same in all that follows from it, and no other call of the process has it.

    `path` is as Codat writes it, `server` the base URL, `at` epoch seconds by the client's wall clock, `company_id` the
    company that the path names, if it names one. A `CallEnded` follows whatever happens, a cancellation included.
    """

    call_id: int
    operation: str
    method: str
    path: str
    server: str
    at: float
    company_id: str | None


class RequestStarted(NamedTuple):
    """One request is about to be sent. `headers` go with it and may be added to (trace context, say).

    `attempt` counts from 1. `quota_wait` is the seconds spent waiting for the quota, `since_call_start` those since the
    start of the call. Credentials are not among the headers. A `RequestEnded` always follows, also after a
    cancellation.
    """

    call_id: int
    operation: str
    attempt: int
    quota_wait: float
    headers: dict[str, str]
    since_call_start: float


class RequestEnded(NamedTuple):
    """One request ended: with a response of `status`, or without one (None, and `error` names what happened).

    `elapsed` is seconds on the wire, `size` the bytes of the response's body. `error_type` is the class of the error
    that ended the request, with or without a response, and None if it succeeded.
    """

    call_id: int
    operation: str
    attempt: int
    elapsed: float
    status: int | None
    size: int
    error: str | None
    correlation_id: str | None
    error_type: str | None


class Retried(NamedTuple):
    """A request came to an error of the class `error_type` and will be sent again after `pause` seconds."""

    call_id: int
    operation: str
    attempt: int
    pause: float
    reason: str
    error_type: str


class Paused(NamedTuple):
    """The client sends no requests for `seconds`, because of `reason`; or none of `company_id`, if that is given."""

    seconds: float
    reason: str
    company_id: str | None = None


class CallEnded(NamedTuple):
    """A call came to its end after `elapsed` seconds; `error` is the class of what it raised, or None.

    `status` is that of its last response.
    """

    call_id: int
    operation: str
    elapsed: float
    attempts: int
    status: int | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """Functions that are called as things happen, on the event loop, so they must be quick and must not raise.

    What one raises is logged and goes no further; so is a header that cannot be one, or that is the client's to set.
    All but `on_pause` are called in the task that makes the call. Raises TypeError for a coroutine function, which
    is never awaited.
    """

    on_call_started: Callable[[CallStarted], None] | None = None
    on_request_started: Callable[[RequestStarted], None] | None = None
    on_request_ended: Callable[[RequestEnded], None] | None = None
    on_retry: Callable[[Retried], None] | None = None
    on_pause: Callable[[Paused], None] | None = None
    on_call_ended: Callable[[CallEnded], None] | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            hook = getattr(self, field.name)
            if hook is not None:
                check_function(field.name, hook)

    @classmethod
    def combined(cls, *hooks: "Hooks") -> "Hooks":
        """Return hooks that call all of these, in order; for the end of a request or call, in reverse."""
        return cls(
            on_call_started=_in_turn(each.on_call_started for each in hooks),
            on_request_started=_in_turn(each.on_request_started for each in hooks),
            on_request_ended=_in_turn(each.on_request_ended for each in reversed(hooks)),
            on_retry=_in_turn(each.on_retry for each in hooks),
            on_pause=_in_turn(each.on_pause for each in hooks),
            on_call_ended=_in_turn(each.on_call_ended for each in reversed(hooks)),
        )


def _in_turn(given: Iterable[Callable[[Event], None] | None]) -> Callable[[Event], None] | None:
    functions = [function for function in given if function is not None]
    if len(functions) <= 1:
        return functions[0] if functions else None

    def call_each(event: Event) -> None:
        errors = []
        for function in functions:
            try:
                function(event)
            except Exception as error:  # noqa: BLE001 - it is raised below, when the others have had their turn
                errors.append(error)
        if errors:
            raise ExceptionGroup("hooks raised", errors)

    return call_each
