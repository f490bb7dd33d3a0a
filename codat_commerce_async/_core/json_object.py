"""Read JSON that another process wrote: an error names the field and what it belongs to."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Self, TypeVar

from attrs import frozen

__all__ = ["JsonObject"]

T = TypeVar("T")

_KINDS: Mapping[type, str] = {
    bool: "a boolean",
    dict: "an object",
    float: "a number",
    int: "an integer",
    list: "a list",
    str: "a string",
}


@frozen
class JsonObject:
    """The fields of `what`, such as "a ticket"; each method raises ValueError for a field that does not fit."""

    what: str
    fields: Mapping[str, object]

    @classmethod
    def parse(cls, what: str, text: str | bytes) -> Self:
        """Return the object; raise ValueError if the text is none."""
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError):
            raise ValueError(f"{what} must be JSON") from None
        if not isinstance(fields, dict):
            raise ValueError(f"{what} must be a JSON object")  # noqa: TRY004 - the text is wrong
        return cls(what, fields)

    def value(self, name: str, kind: type[T]) -> T:
        """Return a field of this type; an integer is a number too."""
        found = self.fields.get(name)
        if kind is float and type(found) is int:
            found = float(found)
        if type(found) is not kind:
            raise ValueError(f"{name} of {self.what} must be {_KINDS[kind]} (got {type(found).__name__})")
        return found

    def optional(self, name: str, kind: type[T]) -> T | None:
        """Return a field of this type; None if it is missing or null."""
        return None if self.fields.get(name) is None else self.value(name, kind)

    def time(self, name: str) -> datetime | None:
        """Return a time; None if it is missing or null."""
        text = self.optional(name, str)
        return None if text is None else self._parse_time(name, text)

    def times(self, name: str) -> tuple[datetime, ...] | None:
        """Return a list of times; None if it is missing or null."""
        return (
            None
            if self.fields.get(name) is None
            else tuple(self._parse_time(name, text) for text in self.values(name, str))
        )

    def values(self, name: str, kind: type[T]) -> list[T]:
        """Return a list whose items have this type."""
        found: list[object] = self.value(name, list)
        items = [each for each in found if isinstance(each, kind)]
        if len(items) != len(found):
            raise ValueError(f"{name} of {self.what} must be a list, each of whose items is {_KINDS[kind]}")
        return items

    def objects(self, name: str) -> "list[JsonObject]":
        """Return a list of objects, which belong to the same thing."""
        return [JsonObject(self.what, fields) for fields in self.values(name, dict)]

    def nested(self, name: str) -> "JsonObject":
        """Return an object, which belongs to the same thing."""
        return JsonObject(self.what, self.value(name, dict))

    def _parse_time(self, name: str, text: str) -> datetime:
        try:
            return datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(f"{name} of {self.what} must be a time in ISO 8601 format (got {text!r:.60})") from None
