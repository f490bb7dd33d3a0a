"""What one can watch a client do: events as plain values, and the places to hang functions on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["CallEnded", "CallStarted", "Hooks", "Paused", "RequestEnded", "RequestStarted", "Retried"]


class CallStarted(NamedTuple):
    """A call begins; `call_id` is the same in all that follows from it. `path` is as Codat writes it."""

    call_id: int
    operation: str
    method: str
    path: str
    server: str


class RequestStarted(NamedTuple):
    """One request is about to be sent. `headers` go with it and may be added to (trace context, say).

    `attempt` counts from 1, `waited` is the seconds spent waiting for the quota. Credentials are not among the headers.
    """

    call_id: int
    operation: str
    attempt: int
    waited: float
    headers: dict[str, str]


class RequestEnded(NamedTuple):
    """One request came to its end: answered with `status`, or not (None, and `error` names what happened).

    `elapsed` is seconds on the wire, `size` the bytes of the answer's body.
    """

    call_id: int
    operation: str
    attempt: int
    elapsed: float
    status: int | None
    size: int
    error: str | None
    correlation_id: str | None


class Retried(NamedTuple):
    """A request did not succeed and will be sent again after `pause` seconds."""

    call_id: int
    operation: str
    attempt: int
    pause: float
    reason: str


class Paused(NamedTuple):
    """The whole client stops sending for `seconds`, because `reason`."""

    seconds: float
    reason: str


class CallEnded(NamedTuple):
    """A call came to its end after `elapsed` seconds; `error` is the class of what it raised, or None."""

    call_id: int
    operation: str
    elapsed: float
    attempts: int
    status: int | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """Functions that are called as things happen, on the event loop, so they must be quick and must not raise.

    What one raises is logged and goes no further.
    """

    on_call: Callable[[CallStarted], None] | None = None
    on_request: Callable[[RequestStarted], None] | None = None
    on_response: Callable[[RequestEnded], None] | None = None
    on_retry: Callable[[Retried], None] | None = None
    on_pause: Callable[[Paused], None] | None = None
    on_done: Callable[[CallEnded], None] | None = None
