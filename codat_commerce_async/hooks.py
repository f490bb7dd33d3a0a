"""Hooks: functions that are called with an event for each call, request, retry and pause."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from attrs import fields, frozen

from codat_commerce_async._core.callbacks import check_function

__all__ = ["CallEnded", "CallStarted", "Hooks", "Paused", "RequestEnded", "RequestStarted", "Retried"]

Event = TypeVar("Event")


@frozen
class CallStarted:
    """A call begins. A `CallEnded` follows whatever happens, a cancellation included."""

    call_id: int
    """The number of the call: the same in all of its events, and of no other call of the process."""

    operation: str
    """The operation's name in Codat's reference."""

    method: str
    """The HTTP method."""

    path: str
    """The path template, without ids."""

    server: str
    """The base URL."""

    at: float
    """The time in epoch seconds, by the client's wall clock."""

    company_id: str | None
    """The id of the company that the path names, or None."""


@frozen
class RequestStarted:
    """One request is about to be sent. A `RequestEnded` always follows, also after a cancellation."""

    call_id: int
    """The number of the call."""

    operation: str
    """The operation's name in Codat's reference."""

    attempt: int
    """The number of the attempt, from 1."""

    quota_wait: float
    """Seconds spent waiting for the quota."""

    headers: dict[str, str]
    """The headers of the request, without credentials; a hook may add some, such as trace context."""

    since_call_start: float
    """Seconds since the start of the call."""


@frozen
class RequestEnded:
    """One request ended, with a response or without one."""

    call_id: int
    """The number of the call."""

    operation: str
    """The operation's name in Codat's reference."""

    attempt: int
    """The number of the attempt, from 1."""

    elapsed: float
    """Seconds on the wire."""

    status: int | None
    """The HTTP status, or None without a response."""

    size: int
    """The bytes of the response's body."""

    error: str | None
    """What happened, or None for a success."""

    correlation_id: str | None
    """Codat's correlation id, where the response has one."""

    error_type: str | None
    """The name of the error's class, or None for a success."""


@frozen
class Retried:
    """A request ended with an error, and will be sent again after a pause."""

    call_id: int
    """The number of the call."""

    operation: str
    """The operation's name in Codat's reference."""

    attempt: int
    """The number of the attempt that failed, from 1."""

    pause: float
    """Seconds until the next attempt."""

    reason: str
    """Why the attempt failed."""

    error_type: str
    """The name of the error's class."""


@frozen
class Paused:
    """The client sends no requests for some seconds, or none for one company."""

    seconds: float
    """How long the pause lasts."""

    reason: str
    """Why requests are paused."""

    company_id: str | None = None
    """The company whose requests are paused; None for all requests."""


@frozen
class CallEnded:
    """A call has ended."""

    call_id: int
    """The number of the call."""

    operation: str
    """The operation's name in Codat's reference."""

    elapsed: float
    """Seconds from the start of the call to its end."""

    attempts: int
    """How many requests were sent."""

    status: int | None
    """The status of the last response, or None without one."""

    error: str | None
    """The name of the class of the error that was raised, or None."""


@frozen(kw_only=True)
class Hooks:
    """Functions that are called as things happen, on the event loop, so they must be quick and must not raise.

    What one raises is logged and goes no further; so is a header that cannot be one, or that is the client's to set.
    All but `on_pause` are called in the task that makes the call.

    Raises:
        TypeError: A hook is a coroutine function, which is never awaited.

    Example:
        ```python
        hooks = Hooks(on_retry=lambda event: print(event.operation, event.reason, event.pause))
        client = CodatCommerce.from_env(hooks=hooks)
        ```
    """

    on_call_started: Callable[[CallStarted], None] | None = None
    """Called before anything else happens."""

    on_request_started: Callable[[RequestStarted], None] | None = None
    """Called right before a request is sent."""

    on_request_ended: Callable[[RequestEnded], None] | None = None
    """Called when a request has ended, in whatever way."""

    on_retry: Callable[[Retried], None] | None = None
    """Called before the pause ahead of the next attempt."""

    on_pause: Callable[[Paused], None] | None = None
    """Called when requests are paused, for all companies or for one."""

    on_call_ended: Callable[[CallEnded], None] | None = None
    """Called when a call has ended, in whatever way."""

    def __attrs_post_init__(self) -> None:
        for field in fields(type(self)):
            hook = getattr(self, field.name)
            if hook is not None:
                check_function(field.name, hook)

    @classmethod
    def combined(cls, *hooks: "Hooks") -> "Hooks":
        """Return hooks that call all of these, in order; for the end of a request or call, in reverse.

        Args:
            *hooks: The hooks to combine.
        """
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
