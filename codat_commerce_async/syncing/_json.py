"""The JSON of values that other processes read: requests, errors, and the header with which each text begins."""

import json
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

from attrs import evolve

from codat_commerce_async import errors as _errors
from codat_commerce_async._core.codec import from_values, to_values
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
    "optional",
    "parse_object",
    "request_from_dict",
    "request_to_dict",
    "time",
    "value",
]

T = TypeVar("T")

# The classes that occur in the arguments of errors, besides the types of JSON, times and handles.
_VALUES: Mapping[str, type[Any]] = {cls.__name__: cls for cls in (Attempt, Call, ErrorMessage, RateLimit, SyncStatus)}


def parse_object(what: str, text: str | bytes) -> dict[str, object]:
    """Return the fields of a JSON object; raise ValueError if the text is none."""
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"{what} must be JSON") from None
    if not isinstance(fields, dict):
        raise ValueError(f"{what} must be a JSON object")  # noqa: TRY004 - the text is wrong
    return fields


def value(fields: Mapping[str, object], name: str, kind: type[T]) -> T:
    """Return a field of this type; raise ValueError if it is missing or of another type."""
    found = fields.get(name)
    if kind is float and type(found) is int:
        found = float(found)
    if type(found) is not kind:
        raise ValueError(f"{name} must be a {kind.__name__} (got {type(found).__name__})")
    return found


def optional(fields: Mapping[str, object], name: str, kind: type[T]) -> T | None:
    """Return a field of this type, or None."""
    return None if fields.get(name) is None else value(fields, name, kind)


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
    return SyncRequest(
        company_id=value(fields, "company_id", str),
        sync_to=time(fields, "sync_to"),
        start=time(fields, "start"),
        finish=time(fields, "finish"),
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
    args = [_decode(each) for each in value(fields, "args", list)]
    cls: Any = _errors.error_class(value(fields, "type", str))
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
    kind, inner = value(each, "type", str), each.get("value")
    if kind == "datetime":
        return time(each, "value")
    if kind == "SyncHandle":
        return SyncHandle.from_json(value(each, "value", str))
    if kind not in _VALUES:
        return None
    try:
        return from_values(inner, _VALUES[kind])
    except DecodeError as error:
        message = f"{kind} does not fit at {error.path}: {error.message}"
    raise ValueError(message)


def isoformat(moment: datetime | None) -> str | None:
    """Return the time as text."""
    return moment.isoformat() if moment is not None else None


def time(fields: Mapping[str, object], name: str) -> datetime | None:
    """Return a time, or None; raise ValueError for anything else."""
    text = optional(fields, name, str)
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{name} must be a time in ISO 8601 format") from None
