"""Faults of requests as plain values, and the table of what each kind does."""

import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import TypeAlias

from attrs import evolve, field, frozen

from codat_commerce_async.simulator._api.fault_injector import FaultInjector, check_rate
from codat_commerce_async.simulator._api.fault_kinds import FaultKind
from codat_commerce_async.simulator._api.http import Response
from codat_commerce_async.simulator._state.clock import http_date
from codat_commerce_async.simulator._state.errors import ApiError

__all__ = [
    "FAULTS",
    "TRANSIENT",
    "Break",
    "Fault",
    "FaultPlan",
    "FaultSpec",
    "FaultStep",
    "Stage",
    "apply_to_response",
    "fault_error",
    "fault_injector",
    "response_instead",
    "to_fault",
    "to_steps",
]

_ERROR_STATUSES = range(400, 600)
_HTML = {"Content-Type": "text/html"}
_ENUM_FIELDS = frozenset(
    {"status", "sourceType", "featureType", "featureState", "selectedFrequency", "outputFormat", "syncStatus"}
)
_NEW_VALUE = "Reimagined"
_NEW_FIELD = "introducedLater"


class Stage(Enum):
    """Where a request fails."""

    GATEWAY = "gateway"
    """Codat never receives it; `effect` makes the response."""
    LIMIT = "limit"
    """Codat refuses it with 429 and does not remember it."""
    BEFORE = "before"
    """Codat responds with an error and does nothing."""
    AFTER = "after"
    """Codat responds with an error after it has done the work."""
    RESPONSE = "response"
    """Codat has done the work; `effect` changes its response."""


class Break(Enum):
    """What happens to the connection."""

    CLOSE = "close"
    """It closes without a response."""
    RESET = "reset"
    """It is reset without a response."""
    CUT_OFF = "cut_off"
    """It closes after `body`, which is a part of the response; `Content-Length` is that of the whole."""
    ENDLESS = "endless"
    """`body` is repeated without end."""


@frozen
class Fault:
    """One fault of one request. `FaultKind` describes what `seconds` and `status` are for each kind that uses them."""

    kind: FaultKind
    """What happens."""

    seconds: float | None = None
    """A time in real seconds, as the client counts them; None for the default of the kind."""

    status: int | None = None
    """The status of an error response; None for the default of the kind."""

    def __attrs_post_init__(self) -> None:
        if self.seconds is not None and not math.isfinite(self.seconds):
            raise ValueError(f"seconds must be a finite number (got {self.seconds!r})")
        if self.status is not None and self.status not in _ERROR_STATUSES:
            raise ValueError(f"status must be an error status between 400 and 599 (got {self.status!r})")

    @property
    def duration(self) -> float:
        """Return `seconds`, or the default of this kind."""
        return FAULTS[self.kind].seconds if self.seconds is None else self.seconds

    @property
    def error_status(self) -> int:
        """Return `status`, or the default of this kind."""
        return FAULTS[self.kind].status if self.status is None else self.status

    @property
    def processing_time(self) -> float:
        """The real seconds for which Codat continues to work on the request."""
        return self.duration if FAULTS[self.kind].keeps_working else 0.0


Effect: TypeAlias = Callable[[Fault, Response], Response]
FaultStep: TypeAlias = Fault | FaultKind | str | None
"""One step of a script: a fault, its kind or the kind's name, or None for a request without a fault."""


@frozen
class FaultSpec:
    """What a kind of fault does, and its defaults.

    `seconds` and `status` are the defaults of a `Fault`; `error` and `body_status` (None: `status`) are in the body
    of an error. `transient` means that the same request succeeds when it is sent again, `keeps_working` that Codat
    works on the request for `seconds`. `connection` is what happens to the connection, if anything.
    """

    stage: Stage
    effect: Effect | None = None
    seconds: float = 0.0
    status: int = 500
    error: str = "The simulator was set to fail here."
    body_status: int | None = None
    connection: Break | None = None
    transient: bool = False
    keeps_working: bool = False


def response_instead(fault: Fault | None, date: str) -> Response | None:
    """Return the response to a request that never reaches Codat; None if it does."""
    if fault is None:
        return None
    spec = FAULTS[fault.kind]
    if spec.stage is not Stage.GATEWAY or spec.effect is None:
        return None
    return spec.effect(fault, Response(0, {"Date": date}, b""))


def fault_error(fault: Fault, speed: float) -> ApiError:
    """Return the error that Codat responds with; simulated time runs `speed` times as fast as real time."""
    spec = FAULTS[fault.kind]
    retry_after = fault.duration * speed if spec.stage is Stage.LIMIT else None
    return ApiError(fault.error_status, spec.error, body_status=spec.body_status, retry_after=retry_after)


def apply_to_response(fault: Fault, response: Response) -> Response:
    """Return Codat's response as the client receives it."""
    spec = FAULTS[fault.kind]
    return response if spec.stage is not Stage.RESPONSE or spec.effect is None else spec.effect(fault, response)


def to_fault(step: Fault | FaultKind | str) -> Fault:
    """Return the fault that is given as a fault, its kind, or the name of its kind."""
    return step if isinstance(step, Fault) else Fault(FaultKind(step))


def to_steps(steps: Iterable[FaultStep]) -> list[Fault | None]:
    """Return the steps of a script as faults."""
    return [None if step is None else to_fault(step) for step in steps]


def _page(status: int, text: str, **headers: str) -> Effect:
    """Return an effect that responds with a gateway's HTML page instead."""

    def replaced(_fault: Fault, response: Response) -> Response:
        body = f"<html><body><h1>{text}</h1></body></html>".encode() if text else b""
        return Response(status, {"Date": response.headers["Date"], **headers, **_HTML}, body)

    return replaced


def _lost(fault: Fault, _response: Response) -> Response:
    return Response(0, {}, b"", fault=fault.kind)


def _cut_off(fault: Fault, response: Response) -> Response:
    headers = {**response.headers, "Content-Length": str(len(response.body))}
    return evolve(response, headers=headers, body=response.body[: len(response.body) // 2], fault=fault.kind)


def _endless(fault: Fault, response: Response) -> Response:
    headers = {name: value for name, value in response.headers.items() if name != "Content-Length"}
    return evolve(response, headers=headers, body=b" " * 65_536, fault=fault.kind)


def _late(fault: Fault, response: Response) -> Response:
    return evolve(response, delay=response.delay + fault.duration)


def _wrong_content_type(_fault: Fault, response: Response) -> Response:
    return evolve(response, headers={**response.headers, "Content-Type": "text/html; charset=utf-8"})


def _empty(_fault: Fault, response: Response) -> Response:
    return evolve(response, body=b"")


def _skewed(fault: Fault, response: Response) -> Response:
    date = parsedate_to_datetime(response.headers["Date"]).timestamp() + fault.duration
    return evolve(response, headers={**response.headers, "Date": http_date(date)})


def _rewritten(rewrite: Callable[[object], object]) -> Effect:
    def rewritten(_fault: Fault, response: Response) -> Response:
        if not response.body:
            return response
        return evolve(response, body=json.dumps(rewrite(json.loads(response.body))).encode())

    return rewritten


def _with_new_values(value: object) -> object:
    if isinstance(value, dict):
        return {
            key: _NEW_VALUE if key in _ENUM_FIELDS and isinstance(inner, str) else _with_new_values(inner)
            for key, inner in value.items()
        }
    return [_with_new_values(inner) for inner in value] if isinstance(value, list) else value


def _with_new_fields(value: object) -> object:
    if isinstance(value, dict):
        return {**{key: _with_new_fields(inner) for key, inner in value.items()}, _NEW_FIELD: {"since": 2031}}
    return [_with_new_fields(inner) for inner in value] if isinstance(value, list) else value


def _with_numbers_as_text(value: object) -> object:
    if isinstance(value, dict):
        texts = {key: _with_numbers_as_text(inner) for key, inner in value.items()}
        # The one example of such a text that Codat shows ends with a comma: "4200,".
        return texts | {key: f"{value[key]}," for key in ("syncStatusCode",) if key in value}
    if isinstance(value, list):
        return [_with_numbers_as_text(inner) for inner in value]
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


FAULTS: Mapping[FaultKind, FaultSpec] = {
    FaultKind.LOST_BEFORE: FaultSpec(Stage.GATEWAY, _lost, connection=Break.CLOSE, transient=True),
    FaultKind.LOST_AFTER: FaultSpec(Stage.RESPONSE, _lost, connection=Break.CLOSE, transient=True, keeps_working=True),
    FaultKind.RESET_BEFORE: FaultSpec(Stage.GATEWAY, _lost, connection=Break.RESET, transient=True),
    FaultKind.RESET_AFTER: FaultSpec(Stage.RESPONSE, _lost, connection=Break.RESET, transient=True, keeps_working=True),
    FaultKind.CUT_OFF: FaultSpec(Stage.RESPONSE, _cut_off, connection=Break.CUT_OFF, transient=True),
    FaultKind.ENDLESS: FaultSpec(Stage.RESPONSE, _endless, connection=Break.ENDLESS),
    FaultKind.LATE: FaultSpec(Stage.RESPONSE, _late, seconds=120.0, keeps_working=True),
    FaultKind.RATE_LIMITED: FaultSpec(
        Stage.LIMIT, seconds=1.0, status=429, error="The platform accepts no more requests.", transient=True
    ),
    FaultKind.ERROR_BEFORE: FaultSpec(Stage.BEFORE),
    FaultKind.ERROR_AFTER: FaultSpec(Stage.AFTER),
    # In Codat's own example the body of this 503 has the status code 500.
    FaultKind.UNAVAILABLE: FaultSpec(
        Stage.BEFORE, status=503, error="The API is down for maintenance.", body_status=500
    ),
    FaultKind.BAD_GATEWAY: FaultSpec(Stage.GATEWAY, _page(502, "502 Bad Gateway"), transient=True),
    FaultKind.GATEWAY_TIMEOUT: FaultSpec(Stage.GATEWAY, _page(504, "504 Gateway Time-out"), transient=True),
    FaultKind.GATEWAY_TIMEOUT_AFTER: FaultSpec(Stage.RESPONSE, _page(504, ""), transient=True, keeps_working=True),
    FaultKind.REDIRECT: FaultSpec(Stage.GATEWAY, _page(302, "", Location="https://maintenance.codat.io/")),
    FaultKind.WRONG_CONTENT_TYPE: FaultSpec(Stage.RESPONSE, _wrong_content_type),
    FaultKind.EMPTY: FaultSpec(Stage.RESPONSE, _empty),
    FaultKind.CLOCK_SKEW: FaultSpec(Stage.RESPONSE, _skewed, seconds=-3600.0),
    FaultKind.NEW_ENUM_VALUES: FaultSpec(Stage.RESPONSE, _rewritten(_with_new_values)),
    FaultKind.NEW_FIELDS: FaultSpec(Stage.RESPONSE, _rewritten(_with_new_fields)),
    FaultKind.NUMBERS_AS_TEXT: FaultSpec(Stage.RESPONSE, _rewritten(_with_numbers_as_text)),
}
"""What each kind of fault does. A new fault is a member of `FaultKind` and a line here."""

TRANSIENT: tuple[FaultKind, ...] = tuple(kind for kind, spec in FAULTS.items() if spec.transient)
"""The kinds after which the same request, under the same key, succeeds when it is sent again."""


@frozen
class FaultPlan:
    """The faults of requests, and how often they happen.

    Each request of one of `operations` (None: any) fails with probability `rate`, in one of `kinds` (a kind that is
    listed twice happens twice as often). `script` takes precedence: for each operation (`"*"` for any) it lists the
    faults of the next requests, in order. The same seed and the same requests give the same faults.
    """

    rate: float = 0.0
    """The probability that a request fails, 0 to 1."""

    kinds: Sequence[Fault | FaultKind | str] = TRANSIENT
    """The faults to choose from."""

    seed: int = 0
    """The seed of the choice."""

    operations: Collection[str] | None = None
    """The operations whose requests fail; None for all."""

    script: Mapping[str, Sequence[FaultStep]] = field(factory=dict)
    """The faults of the next requests, by operation."""

    def __attrs_post_init__(self) -> None:
        check_rate(self.rate, self.kinds)


def fault_injector(plan: FaultPlan, operations: Collection[str]) -> FaultInjector[Fault]:
    """Return the injector of these faults for requests of the operations, which are the known ones."""
    return FaultInjector(
        rate=plan.rate,
        kinds=tuple(map(to_fault, plan.kinds)),
        seed=plan.seed,
        only=plan.operations,
        script={name: to_steps(steps) for name, steps in plan.script.items()},
        known=operations,
        noun="operation",
    )
