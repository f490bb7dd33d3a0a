"""Find out why a response cannot be decoded. The reason never contains a value of the response."""

from collections.abc import Callable, Mapping
from types import NoneType
from typing import TYPE_CHECKING, Any

from codat_commerce_async._core.lazy import LazyModule
from codat_commerce_async.models._fields import fields
from codat_commerce_async.models._original_types import Original

if TYPE_CHECKING:
    from cattrs import errors as cattrs_errors
else:  # loaded by the first failure, not by the import of the library
    cattrs_errors = LazyModule("cattrs.errors")

__all__ = ["HookFor", "ShapeError", "StructureHook", "find_fault", "reason_of_parse_failure"]

StructureHook = Callable[[Any, Any], Any]
"""Return parsed JSON as a type; raise an exception if it does not fit."""
HookFor = Callable[[Any], StructureHook]
"""Return the hook for a type that collects every fault, with notes that give its path."""

_JSON_TYPE_NAMES: Mapping[type, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    Original.datetime: "a time as text",
    list: "a list",
    dict: "an object",
    NoneType: "nothing",
}


class ShapeError(Exception):
    """A value of the wrong type; names both types and does not keep the value."""

    def __init__(self, expected: type, found: object) -> None:
        found_name = _JSON_TYPE_NAMES.get(type(found), "something else")
        super().__init__(f"expected {_JSON_TYPE_NAMES[expected]}, found {found_name}")


def reason_of_parse_failure(body: bytes) -> str:
    """Return why a body is not JSON."""
    start = body.lstrip()[:1]
    if not start:
        return "the response is empty"
    return "the response is HTML, not JSON" if start == b"<" else "the response is not JSON, or is truncated"


def find_fault(data: object, kind: object, hook_for: HookFor) -> tuple[str, str]:
    """Return the path to the first value that does not fit, and the reason."""
    try:
        hook_for(kind)(data, kind)
    except Exception as error:  # noqa: BLE001 - validators of a caller's own class may raise anything
        return _describe(error, hook_for)
    return "$", "the value is not valid"


def _describe(error: Exception, hook_for: HookFor) -> tuple[str, str]:
    path, note = "$", None
    while isinstance(error, cattrs_errors.BaseValidationError):
        cls, error = error.cl, error.exceptions[0]
        note = next(iter(reversed(getattr(error, "__notes__", ()))), None)
        path += _step(cls, note)
    if isinstance(error, KeyError) and note is not None:
        return path, _missing(note.type, hook_for)
    # The message of a caller's own validator may contain the value.
    return path, str(error) if isinstance(error, ShapeError) else "the value is not valid"


def _step(cls: type, note: Any) -> str:  # noqa: ANN401 - cattrs' notes share no base class
    """Return the part of the path for one level; the keys of a mapping are data, so `*` stands for them."""
    if isinstance(note, cattrs_errors.AttributeValidationNote):
        return "".join(f".{field.key}" for field in fields(cls) if field.name == note.name and field.key)
    if isinstance(note, cattrs_errors.IterableValidationNote):
        return f"[{note.index}]" if isinstance(note.index, int) else ".*"
    return ""


def _missing(kind: object, hook_for: HookFor) -> str:
    """Return the reason for a required field that is missing: the same as for null."""
    try:
        hook_for(kind)(None, kind)
    except ShapeError as error:
        return str(error)
    return "the field is missing"
