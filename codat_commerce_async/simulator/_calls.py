"""A request once its operation is known: its path values, its query, its JSON body."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from codat_commerce_async.simulator._clock import parse_time
from codat_commerce_async.simulator._exchange import Refusal, Request
from codat_commerce_async.simulator._routes import Route

__all__ = ["Call", "invalid", "read_call", "time_field"]

_NOTHING = object()


@dataclass(frozen=True, slots=True)
class Call:
    """One call of an operation, at a simulated time; `body` is the parsed JSON."""

    route: Route
    values: tuple[str, ...]
    path: str
    parameters: Mapping[str, str]
    body: object
    key: str | None
    now: float

    @property
    def has_body(self) -> bool:
        """Whether anything was sent."""
        return self.body is not _NOTHING

    def object_body(self) -> dict[str, object]:
        """The body, which has to be a JSON object; refused with 400 otherwise."""
        if not isinstance(self.body, dict):
            raise invalid("", "The request takes a JSON object as its body.")
        return self.body


def invalid(field: str, message: str) -> Refusal:
    """The refusal of a request that the specification does not allow."""
    return Refusal(400, "The request is not valid.", invalid=[(field, message)])


def read_call(route: Route, values: tuple[str, ...], request: Request, key: str | None, now: float) -> Call:
    """The call that a request makes; refused with 400 or 415 when its body cannot be read."""
    parameters = dict(parse_qsl(request.query, keep_blank_values=True)) if request.query else {}
    return Call(route, values, request.path, parameters, _json(request), key, now)


def time_field(body: Mapping[str, object], name: str, prefix: str = "") -> float:
    """A date of the body in epoch seconds; refused with 400 when it is missing or none."""
    text = body.get(name)
    if not isinstance(text, str):
        raise invalid(prefix + name, f"{prefix}{name} takes a date.")
    try:
        return parse_time(text)
    except ValueError:
        raise invalid(prefix + name, f"{prefix}{name} takes a date.") from None


def _json(request: Request) -> object:
    if not request.body or request.method == "GET":
        return _NOTHING
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise Refusal(415, "The request's body has to be declared as application/json.")
    try:
        return json.loads(request.body.decode(), parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError):
        raise Refusal(400, "The request's body is not JSON.") from None


def _no_constant(name: str) -> object:
    raise ValueError(name)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number
