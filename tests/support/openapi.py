"""A small validator for the part of JSON Schema that Codat's OpenAPI documents use."""

import re
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any
from urllib.parse import unquote, urlsplit

__all__ = ["Document", "problems"]

Document = dict[str, Any]

_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
}
# What describes and does not constrain a response; `minValue` and `maxValue` are Codat's own words and mean nothing.
_SILENT = {
    "title",
    "description",
    "example",
    "examples",
    "definitions",
    "default",
    "nullable",
    "readOnly",
    "minValue",
    "maxValue",
}


def problems(document: Document, schema: Document, value: Any, at: str = "$") -> Iterator[str]:
    """What a value has that its schema does not allow; KeyError for a keyword that this validator does not know."""
    if value is None and (schema.get("nullable") or _nullable_behind(document, schema)):
        return
    for keyword, constraint in schema.items():
        if keyword not in _SILENT and not keyword.startswith("x-"):
            yield from _CHECKS[keyword](document, schema, constraint, value, at)


def _nullable_behind(document: Document, schema: Document) -> bool:
    return "$ref" in schema and bool(_resolved(document, schema["$ref"]).get("nullable"))


def _resolved(document: Document, reference: str) -> Document:
    found: Any = document
    for part in reference.removeprefix("#/").split("/"):
        name = unquote(part).replace("~1", "/").replace("~0", "~")
        found = found[int(name) if isinstance(found, list) else name]
    assert isinstance(found, dict)
    return found


def _ref(document: Document, _schema: Document, reference: str, value: Any, at: str) -> Iterator[str]:
    yield from problems(document, _resolved(document, reference), value, at)


def _all_of(document: Document, _schema: Document, schemas: list[Document], value: Any, at: str) -> Iterator[str]:
    for schema in schemas:
        yield from problems(document, schema, value, at)


def _type(_document: Document, _schema: Document, name: str, value: Any, at: str) -> Iterator[str]:
    if not _TYPES[name](value):
        yield f"{at}: {value!r} is no {name}"


def _properties(document: Document, _schema: Document, known: Document, value: Any, at: str) -> Iterator[str]:
    for name, schema in known.items():
        if isinstance(value, dict) and name in value:
            yield from problems(document, schema, value[name], f"{at}.{name}")


def _additional(document: Document, schema: Document, rule: Any, value: Any, at: str) -> Iterator[str]:
    names = value.keys() - schema.get("properties", {}).keys() if isinstance(value, dict) else ()
    for name in sorted(names):
        if rule is False:
            yield f"{at}: {name} is not allowed"
        elif rule is not True:
            yield from problems(document, rule, value[name], f"{at}.{name}")


def _required(_document: Document, _schema: Document, names: list[str], value: Any, at: str) -> Iterator[str]:
    yield from (f"{at}: {name} is missing" for name in names if isinstance(value, dict) and name not in value)


def _items(document: Document, _schema: Document, schema: Document, value: Any, at: str) -> Iterator[str]:
    for index, item in enumerate(value if isinstance(value, list) else ()):
        yield from problems(document, schema, item, f"{at}[{index}]")


def _property_names(document: Document, _schema: Document, schema: Document, value: Any, at: str) -> Iterator[str]:
    for name in value if isinstance(value, dict) else ():
        yield from problems(document, schema, name, f"{at} (name)")


def _format(_document: Document, _schema: Document, name: str, value: Any, at: str) -> Iterator[str]:
    if not isinstance(value, str):
        return
    if not _FORMATS[name](value):
        yield f"{at}: {value!r} is no {name}"


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


_FORMATS: dict[str, Callable[[str], bool]] = {
    "uuid": _is_uuid,
    "guid": _is_uuid,
    "uri": lambda text: bool(urlsplit(text).scheme and urlsplit(text).netloc),
    "uri-reference": lambda text: " " not in text,
    "date-time": _is_time,
    "int32": lambda _text: False,
}


def _plain(holds: Callable[[Any, Any], bool]) -> "Check":
    def check(_document: Document, schema: Document, constraint: Any, value: Any, at: str) -> Iterator[str]:
        if not holds(constraint, value):
            rule = next(name for name, one in schema.items() if one is constraint)
            yield f"{at}: {value!r} is against {rule} {constraint!r}"

    return check


Check = Callable[[Document, Document, Any, Any, str], Iterator[str]]

_CHECKS: dict[str, Check] = {
    "$ref": _ref,
    "allOf": _all_of,
    "type": _type,
    "properties": _properties,
    "additionalProperties": _additional,
    "required": _required,
    "items": _items,
    "propertyNames": _property_names,
    "format": _format,
    "enum": _plain(lambda allowed, value: value in allowed),
    "pattern": _plain(lambda pattern, value: not isinstance(value, str) or re.search(pattern, value) is not None),
    "minLength": _plain(lambda least, value: not isinstance(value, str) or len(value) >= least),
    "maxLength": _plain(lambda most, value: not isinstance(value, str) or len(value) <= most),
    "minItems": _plain(lambda least, value: not isinstance(value, list) or len(value) >= least),
    "maxItems": _plain(lambda most, value: not isinstance(value, list) or len(value) <= most),
    "maxProperties": _plain(lambda most, value: not isinstance(value, dict) or len(value) <= most),
    "minimum": _plain(lambda least, value: not isinstance(value, int) or value >= least),
    "maximum": _plain(lambda most, value: not isinstance(value, int) or value <= most),
}
