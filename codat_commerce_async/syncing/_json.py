"""The JSON of values that other processes read: requests and errors."""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from attrs import evolve

from codat_commerce_async import errors as _errors
from codat_commerce_async._core.codec import from_values, to_values
from codat_commerce_async._core.json_object import JsonObject
from codat_commerce_async.errors import CodatError, DecodeError
from codat_commerce_async.models.call import Attempt, Call, RateLimit
from codat_commerce_async.models.error_message import ErrorMessage
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.models.sync import SyncStatus
from codat_commerce_async.syncing.request import SyncRequest

__all__ = [
    "error_from_dict",
    "error_to_dict",
    "error_without_keys",
    "isoformat",
    "request_from_dict",
    "request_to_dict",
]

# The classes that occur in the arguments of errors, besides the types of JSON, times and handles.
_VALUES: Mapping[str, type[Any]] = {cls.__name__: cls for cls in (Attempt, Call, ErrorMessage, RateLimit, SyncStatus)}


def request_to_dict(request: SyncRequest) -> dict[str, object]:
    """Return the request as parsed JSON."""
    return {
        "company_id": request.company_id,
        "sync_to": isoformat(request.sync_to),
        "start": isoformat(request.start),
        "finish": isoformat(request.finish),
    }


def request_from_dict(fields: Mapping[str, object]) -> SyncRequest:
    """Return the request; raise ValueError for anything else."""
    data = JsonObject("a sync request", fields)
    return SyncRequest(
        company_id=data.value("company_id", str),
        sync_to=data.time("sync_to"),
        start=data.time("start"),
        finish=data.time("finish"),
    )


def error_to_dict(error: CodatError) -> dict[str, object]:
    """Return the class of an error and its arguments, which hold no credentials; its cause is left out."""
    return {"type": type(error).__name__, "args": [_encode(each) for each in error.args]}


def error_without_keys(error: CodatError) -> dict[str, object]:
    """Return the class, the message and the arguments of an error for clients, without idempotency keys."""
    args = [evolve(each, idempotency_key=None) if isinstance(each, Call | SyncHandle) else each for each in error.args]
    return {"type": type(error).__name__, "message": str(error), "args": [_encode(each) for each in args]}


def error_from_dict(fields: Mapping[str, object]) -> CodatError:
    """Return the error; one of an unknown class, or with other arguments, keeps its message only."""
    data = JsonObject("an error", fields)
    args = [_decode(each) for each in data.value("args", list)]
    cls: Any = _errors.error_class(data.value("type", str))
    try:
        error: CodatError = cls(*args)
    except TypeError:
        return CodatError(str(args[0]) if args else "unknown error")
    return error


def _encode(each: object) -> object:
    if isinstance(each, float) and not math.isfinite(each):
        return None
    if isinstance(each, datetime):
        return {"type": "datetime", "value": each.isoformat()}
    if isinstance(each, SyncHandle):
        return {"type": "SyncHandle", "value": each.to_json()}
    if type(each).__name__ in _VALUES:
        return {"type": type(each).__name__, "value": to_values(each)}
    if isinstance(each, tuple | list):
        return [_encode(one) for one in each]
    return each if each is None or isinstance(each, str | int | float) else str(each)


def _decode(each: Any) -> object:  # noqa: ANN401 - JSON is anything
    if isinstance(each, list):
        return tuple(_decode(one) for one in each)
    if not isinstance(each, dict):
        return each
    data = JsonObject("an error", each)
    kind = data.value("type", str)
    if kind == "datetime":
        return data.time("value")
    if kind == "SyncHandle":
        return SyncHandle.from_json(data.value("value", str))
    if kind not in _VALUES:
        return None
    try:
        return from_values(each.get("value"), _VALUES[kind])
    except DecodeError as error:
        message = f"{kind} does not fit at {error.path}: {error.message}"
    raise ValueError(message)


def isoformat(moment: datetime | None) -> str | None:
    """Return the time as text."""
    return moment.isoformat() if moment is not None else None
