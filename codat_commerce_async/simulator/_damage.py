"""What a fault makes of an exchange: an answer that stands in for Codat's, or Codat's own, spoiled."""

import json
from collections.abc import Callable
from dataclasses import replace

from codat_commerce_async.simulator._exchange import Refusal, Response
from codat_commerce_async.simulator._faults import Fault, FaultKind

__all__ = ["on_the_way_back", "on_the_way_in", "refusal"]

_HTML = {"Content-Type": "text/html"}
_ENUM_FIELDS = frozenset(
    {"status", "sourceType", "featureType", "featureState", "selectedFrequency", "outputFormat", "syncStatus"}
)
_NEW_VALUE = "Reimagined"
_NEW_FIELD = "introducedLater"


def on_the_way_in(fault: Fault | None, date: str) -> Response | None:
    """What arrives instead when the request never reaches Codat; None when it does."""
    match fault.kind if fault else None:
        case FaultKind.LOST_BEFORE | FaultKind.RESET_BEFORE as kind:
            return _nothing_arrives(kind)
        case FaultKind.BAD_GATEWAY:
            return Response(502, {"Date": date, **_HTML}, b"<html><body><h1>502 Bad Gateway</h1></body></html>")
        case FaultKind.GATEWAY_TIMEOUT:
            return Response(504, {"Date": date, **_HTML}, b"<html><body><h1>504 Gateway Time-out</h1></body></html>")
        case FaultKind.REDIRECT:
            return Response(302, {"Date": date, "Location": "https://maintenance.codat.io/", **_HTML}, b"")
    return None


def refusal(fault: Fault) -> Refusal:
    """What Codat answers when it is the one that fails."""
    # Codat's own example of the maintenance body says 500 under the HTTP status 503.
    if fault.kind is FaultKind.UNAVAILABLE:
        return Refusal(503, "The API is down for maintenance.", body_status=500)
    return Refusal(fault.error_status, "The simulator was told to fail here.")


def on_the_way_back(fault: Fault, response: Response) -> Response:
    """Codat's answer after what befell it on its way."""
    spoil = _SPOILED.get(fault.kind)
    return response if spoil is None else spoil(fault, response)


def _nothing_arrives(kind: FaultKind) -> Response:
    return Response(0, {}, b"", fault=kind)


def _lost(fault: Fault, _response: Response) -> Response:
    return _nothing_arrives(fault.kind)


def _cut_off(fault: Fault, response: Response) -> Response:
    headers = {**response.headers, "Content-Length": str(len(response.body))}
    return replace(response, headers=headers, body=response.body[: len(response.body) // 2], fault=fault.kind)


def _endless(fault: Fault, response: Response) -> Response:
    headers = {name: value for name, value in response.headers.items() if name != "Content-Length"}
    return replace(response, headers=headers, body=b" " * 65_536, fault=fault.kind)


def _late(fault: Fault, response: Response) -> Response:
    return replace(response, delay=response.delay + fault.duration)


def _gateway_gave_up(_fault: Fault, response: Response) -> Response:
    return Response(504, {"Date": response.headers["Date"], **_HTML}, b"")


def _wrong_content_type(_fault: Fault, response: Response) -> Response:
    return replace(response, headers={**response.headers, "Content-Type": "text/html; charset=utf-8"})


def _empty(_fault: Fault, response: Response) -> Response:
    return replace(response, body=b"")


def _rewritten(rewrite: Callable[[object], object]) -> Callable[[Fault, Response], Response]:
    def spoil(_fault: Fault, response: Response) -> Response:
        return replace(response, body=json.dumps(rewrite(json.loads(response.body))).encode())

    return spoil


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


_SPOILED: dict[FaultKind, Callable[[Fault, Response], Response]] = {
    FaultKind.LOST_AFTER: _lost,
    FaultKind.RESET_AFTER: _lost,
    FaultKind.CUT_OFF: _cut_off,
    FaultKind.ENDLESS: _endless,
    FaultKind.LATE: _late,
    FaultKind.GATEWAY_TIMEOUT_AFTER: _gateway_gave_up,
    FaultKind.WRONG_CONTENT_TYPE: _wrong_content_type,
    FaultKind.EMPTY: _empty,
    FaultKind.NEW_ENUM_VALUES: _rewritten(_with_new_values),
    FaultKind.NEW_FIELDS: _rewritten(_with_new_fields),
    FaultKind.NUMBERS_AS_TEXT: _rewritten(_with_numbers_as_text),
}
