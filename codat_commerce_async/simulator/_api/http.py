"""Requests and responses as plain values, and the call that a request makes."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from codat_commerce_async.simulator._api.fault_kinds import FaultKind
from codat_commerce_async.simulator._state.clock import parse_time
from codat_commerce_async.simulator._state.errors import ApiError

__all__ = ["Call", "RecordedRequest", "Request", "Response", "parse_call", "time_field", "validation_error"]

_NO_BODY = object()


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came in: `path` and `query` still quoted, headers under lower-case names."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "headers", {name.lower(): value for name, value in self.headers.items()})


@dataclass(frozen=True, slots=True)
class Response:
    """A response, and what the shell around the simulator has to do to it.

    `delay` is the real seconds until it may arrive. `fault` is one of those that only a connection can show:
    `LOST_*` and `RESET_*` (nothing arrives), `CUT_OFF` (`body` is the part that arrives, `content-length`
    speaks of the whole), `ENDLESS` (`body` is repeated for ever); for all other faults it is None, the
    response shows them itself.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    fault: FaultKind | None = None
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """One line of the simulator's log; `time` is simulated, `status` what Codat or the gateway answered.

    `operation` is empty for a request that no operation takes, `status` None when nobody answered;
    `replayed` marks an answer out of the idempotency memory.
    """

    time: float
    operation: str
    method: str
    path: str
    query: str
    idempotency_key: str | None
    body_hash: str | None
    status: int | None
    fault: FaultKind | None
    replayed: bool


@dataclass(frozen=True, slots=True)
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
        """Whether anything was sent."""
        return self.body is not _NO_BODY

    def object_body(self) -> dict[str, object]:
        """The body, which has to be a JSON object; refused with 400 otherwise."""
        if not isinstance(self.body, dict):
            raise validation_error("", "The request takes a JSON object as its body.")
        return self.body


def validation_error(field: str, message: str) -> ApiError:
    """The refusal of a request that the specification does not allow."""
    return ApiError(400, "The request is not valid.", invalid=[(field, message)])


def parse_call(values: tuple[str, ...], request: Request, key: str | None, now: float) -> Call:
    """The call that a request makes; refused with 400 or 415 when its body cannot be read."""
    parameters = dict(parse_qsl(request.query, keep_blank_values=True)) if request.query else {}
    return Call(values, request.path, parameters, _json(request), key, now)


def time_field(body: Mapping[str, object], name: str, prefix: str = "") -> float:
    """A date of the body in epoch seconds; refused with 400 when it is missing or none."""
    text = body.get(name)
    if not isinstance(text, str):
        raise validation_error(prefix + name, f"{prefix}{name} takes a date.")
    try:
        return parse_time(text)
    except ValueError:
        raise validation_error(prefix + name, f"{prefix}{name} takes a date.") from None


def _json(request: Request) -> object:
    if not request.body or request.method == "GET":
        return _NO_BODY
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise ApiError(415, "The request's body has to be declared as application/json.")
    try:
        return json.loads(request.body.decode(), parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError):
        raise ApiError(400, "The request's body is not JSON.") from None


def _no_constant(name: str) -> object:
    raise ValueError(name)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number
