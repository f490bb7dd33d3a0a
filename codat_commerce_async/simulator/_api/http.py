"""Requests and responses as plain values, and the parsed call of a request."""

import json
import math
from collections.abc import Mapping
from urllib.parse import parse_qsl

from attrs import field, frozen

from codat_commerce_async.simulator._api.fault_kinds import FaultKind
from codat_commerce_async.simulator._state.clock import parse_time
from codat_commerce_async.simulator._state.errors import ApiError

__all__ = ["Call", "RecordedRequest", "Request", "Response", "parse_call", "time_field", "validation_error"]

_NO_BODY = object()


@frozen
class Request:
    """A request as received: `path` and `query` are quoted, header names are lower-case."""

    method: str
    """The HTTP method."""

    path: str
    """The quoted path."""

    query: str = ""
    """The quoted query, without the question mark."""

    headers: Mapping[str, str] = field(factory=dict, repr=False)
    """The headers, with lower-case names."""

    body: bytes = field(default=b"", repr=False)
    """The bytes of the body."""

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "headers", {name.lower(): value for name, value in self.headers.items()})


@frozen
class Response:
    """A response, and how the connection has to deliver it.

    `delay` is in real seconds. `fault` is one that happens to the connection: a kind with a `connection` in `FAULTS`;
    its `Break` describes what is sent. For all other faults it is None, because the response itself shows them.
    """

    status: int
    """The HTTP status."""

    headers: Mapping[str, str]
    """The headers."""

    body: bytes = field(repr=False)
    """The bytes of the body."""

    fault: FaultKind | None = None
    """The fault of the connection, if any."""

    delay: float = 0.0
    """The real seconds before the response is sent."""


@frozen
class RecordedRequest:
    """One request in the simulator's log; `time` is simulated, `status` is that of Codat or the gateway.

    `operation` is empty if there is none for the path and method, `status` is None without a response, and `replayed`
    marks a response that was replayed for an idempotency key. `correlation_id` is that of an error.
    """

    time: float
    """The simulated time, in epoch seconds."""

    operation: str
    """The name of the operation; empty if there is none."""

    method: str
    """The HTTP method."""

    path: str
    """The quoted path."""

    query: str
    """The quoted query."""

    idempotency_key: str | None
    """The idempotency key of the request."""

    body_hash: str | None
    """A hash of the body, None without one."""

    status: int | None
    """The HTTP status; None without a response."""

    fault: FaultKind | None
    """The fault of the request, if any."""

    replayed: bool
    """Whether the response was replayed for its idempotency key."""

    correlation_id: str | None = None
    """The correlation id of an error."""


@frozen
class Call:
    """One call of an operation, at a simulated time; `body` is the parsed JSON."""

    values: tuple[str, ...]
    path: str
    parameters: Mapping[str, str]
    body: object
    key: str | None
    now: float

    @property
    def has_body(self) -> bool:
        """Whether a body was sent."""
        return self.body is not _NO_BODY

    def object_body(self) -> dict[str, object]:
        """Return the body, which must be a JSON object; raise a 400 otherwise."""
        if not isinstance(self.body, dict):
            raise validation_error("", "The body must be a JSON object.")
        return self.body


def validation_error(field: str, message: str) -> ApiError:
    """Return the 400 for a request that does not match the specification."""
    return ApiError(400, "The request is not valid.", invalid=[(field, message)])


def parse_call(values: tuple[str, ...], request: Request, key: str | None, now: float) -> Call:
    """Return the call of a request; raise a 400 or 415 if its body cannot be parsed."""
    parameters = dict(parse_qsl(request.query, keep_blank_values=True)) if request.query else {}
    return Call(values, request.path, parameters, _json(request), key, now)


def time_field(body: Mapping[str, object], name: str, prefix: str = "") -> float:
    """Return a date of the body in epoch seconds; raise a 400 if it is missing or not a date."""
    text = body.get(name)
    if not isinstance(text, str):
        raise validation_error(prefix + name, f"{prefix}{name} must be a date.")
    try:
        return parse_time(text)
    except ValueError:
        raise validation_error(prefix + name, f"{prefix}{name} must be a date.") from None


def _json(request: Request) -> object:
    if not request.body or request.method == "GET":
        return _NO_BODY
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise ApiError(415, "The Content-Type must be application/json.")
    try:
        return json.loads(request.body.decode(), parse_constant=_reject_constant, parse_float=_finite)
    except (ValueError, RecursionError):
        raise ApiError(400, "The body must be JSON.") from None


def _reject_constant(name: str) -> object:
    raise ValueError(name)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number
