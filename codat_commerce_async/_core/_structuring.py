"""Parsed JSON to one model, by a function that is written for the model's class when it is first needed.

It is what `cattrs.gen` would write, without a call per field, which is most of the time that a page of a
hundred connections takes:

    def read(data, _):
        if data.__class__ is not dict: raise ShapeError(dict, data)
        get, unread, at = data.get, (), ''
        try:
            v0 = get('id')
            if v0.__class__ is not str: at = '.id'; raise ShapeError(str, v0)
            ...
        except ShapeError as misfit: raise misfit.below(at)
        made = new(thawed)
        made.id = v0
        ...
        made.__class__ = cls
        return made
"""

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from types import NoneType, UnionType
from typing import Any, Union, cast, get_args, get_origin

from codat_commerce_async.models._fields import Field, fields, thawed
from codat_commerce_async.models._genuine import Genuine
from codat_commerce_async.models.base import UNSET, LenientInt, LenientModel, PreservesUnknownFields, Received, Unset
from codat_commerce_async.models.enums import OpenEnum

__all__ = [
    "Read",
    "ShapeError",
    "alone_type",
    "model_reader",
    "read_loose_int",
    "read_time",
]

Read = Callable[[Any, Any], Any]
_NUMBER_FIRST = re.compile(r"\s*(-?[0-9]{1,9})(?![0-9.])")

_WORDS: dict[type, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    Genuine.datetime: "a time as text",
    list: "a list",
    dict: "an object",
    NoneType: "nothing",
}


class ShapeError(Exception):  # noqa: N818 - the codec makes an error of it
    """A value that is not what it should be; knows the path to it, and not the value."""

    def __init__(self, expected: type, found: object, path: str = "") -> None:
        super().__init__(f"expected {_WORDS[expected]}, found {_WORDS.get(type(found), 'something else')}")
        self.path = path

    def below(self, step: str) -> "ShapeError":
        """Return the same, as seen from one step higher up."""
        self.path = step + self.path
        return self


def read_time(text: object) -> datetime:
    """Return the time that stands in a text."""
    try:
        return Genuine.datetime.fromisoformat(cast("str", text))
    except (TypeError, ValueError):
        raise ShapeError(Genuine.datetime, text) from None


def read_loose_int(value: object) -> int | None:
    """Return the number, or the one that a text begins with, or None where it begins with none."""
    if type(value) is int:
        return value
    if not isinstance(value, str):
        raise ShapeError(int, value)
    number = _NUMBER_FIRST.match(value)
    return int(number[1]) if number else None


def alone_type(kind: object) -> object:
    """Return what is left of a union without None and UNSET; None when that is not one type."""
    if get_origin(kind) not in {Union, UnionType}:
        return kind
    rest = [one for one in get_args(kind) if one not in {NoneType, Unset}]
    return rest[0] if len(rest) == 1 else None


def model_reader(cls: type, reader_for: Callable[[object], Read]) -> Read:
    """Return a function that makes a `cls`; `reader_for` gives the functions that make what is in it."""
    source = _Source(cls, reader_for)
    source.lines += source.opening()
    source.lines.append("try:")
    for field in source.fields:
        source.lines += (f" {line}" for line in source.reading(field))
    source.lines.append("except ShapeError as misfit: raise misfit.below(at)")
    source.lines += source.keeping()
    source.lines += source.making()
    # Made of the words of this module and of quoted names, of nothing that was answered.
    exec("\n ".join(["def read(data, _):", *source.lines]), source.names)  # noqa: S102 - as attrs itself does
    return cast("Read", source.names["read"])


class _Source:
    """The lines of a function that reads a model, and what the names in them stand for."""

    def __init__(self, cls: type, reader_for: Callable[[object], Read]) -> None:
        self.cls = cls
        self.fields = fields(cls)
        self.reader_for = reader_for
        self.lines: list[str] = []
        self.variables: dict[str, str] = {}
        self.names: dict[str, object] = {
            "ShapeError": ShapeError,
            "UNSET": UNSET,
            "cls": cls,
            "datetime": Genuine.datetime,
            "loose_int": read_loose_int,
            "new": object.__new__,
            "received": Received.of,
            "time": Genuine.datetime.fromisoformat,
            "unparsed": _unreadable,
        }

    def name(self, prefix: str, value: object) -> str:
        name = f"{prefix}{len(self.names)}"
        self.names[name] = value
        return name

    def opening(self) -> Iterator[str]:
        for field in self.fields:
            if field.alone:
                yield f"if data is None or data.__class__ is str: data = {{{field.key!r}: data}}"
        yield "if data.__class__ is not dict: raise ShapeError(dict, data)"
        yield "get, unread, at = data.get, (), ''"

    def reading(self, field: Field) -> Iterator[str]:
        value = self.variables[field.name] = f"v{len(self.variables)}"
        default = field.default() if field.default else None
        if field.whole:
            yield f"{value} = data"
        else:
            yield f"{value} = get({field.key!r}{', UNSET' if default is UNSET else ''})"
        if field.also:
            yield f"if {value} is None: {value} = get({field.also!r})"
        if field.default is None:
            yield "if True:"
        elif default is None:
            yield f"if {value} is not None:"
        elif default is UNSET:
            yield f"if {value} is not None and {value} is not UNSET:"
        else:
            yield f"if {value} is None: {value} = {self.name('default', field.default)}()"
            yield "else:"
        yield from (f" {line}" for line in self.conversion(value, field))

    def conversion(self, value: str, field: Field) -> Iterator[str]:
        kind = alone_type(field.kind)
        at = f"at = {'' if field.whole else f'.{field.key}'!r}"
        if kind is object:
            yield "pass"
        elif kind in {str, bool, int}:
            word = cast("type", kind).__name__
            yield f"if {value}.__class__ is not {word}: {at}; raise ShapeError({word}, {value})"
        elif kind is Genuine.datetime:
            yield from self.conversion_of_time(value, field, at)
        elif kind == LenientInt:
            yield f"if {value}.__class__ is not int:"
            yield f" {at}"
            yield f" text, {value} = {value}, loose_int({value})"
            yield f" if {value} is None: unread += unparsed(text, {field.name!r})"
        elif isinstance(kind, type) and issubclass(kind, OpenEnum):
            known = self.name("known", {member.value: member for member in kind})
            enum = self.name("enum", kind)
            yield f"if {value}.__class__ is not str: {at}; raise ShapeError(str, {value})"
            yield f"{value} = {known}.get({value}) or {enum}({value})"
        else:
            read, inner = self.name("read", self.reader_for(kind)), self.name("kind", kind)
            yield f"{at}; {value} = {read}({value}, {inner})"

    def conversion_of_time(self, value: str, field: Field, at: str) -> Iterator[str]:
        """Write how a time is read: never is None, and so is what is no time, in a model that can keep its text."""
        refuse = f"{at}; raise ShapeError(datetime, text)"
        yield f"text = {value}"
        yield f"try: {value} = time(text)"
        if field.kind is Genuine.datetime:
            yield f"except (TypeError, ValueError): {refuse}"
            return
        yield "except (TypeError, ValueError):"
        yield f" {at}"
        yield f" {value}, unread = None, unread + unparsed(text, {field.name!r})"
        if not issubclass(self.cls, LenientModel):
            yield f" if unread: {refuse}"
        yield "else:"
        yield f" if {value}.year == 1: {value} = None"

    def keeping(self) -> Iterator[str]:
        """Write the lines that gather what a model keeps beyond its fields."""
        if issubclass(self.cls, PreservesUnknownFields):
            known = self.name("known", frozenset(field.key for field in self.fields))
            read = "".join(f"{value}, " for value in self.variables.values())
            self.variables["extra"] = "extra"
            yield "extra = {}"
            yield f"if not data.keys() <= {known}: extra = {{key: data[key] for key in data if key not in {known}}}"
            yield f"unread = received(unread, data, ({read}))"
        if issubclass(self.cls, LenientModel):
            self.variables["unparsed"] = "unread"

    def making(self) -> Iterator[str]:
        """Write the lines that make the object, past `__init__` where that would only fill slots."""
        if open_class := thawed(self.cls):
            self.names["thawed"] = open_class
            yield "made = new(thawed)"
            yield from (f"made.{field} = {value}" for field, value in self.variables.items())
            yield "made.__class__ = cls"
            yield "return made"
        else:
            names = {field.name: field.argument for field in self.fields}
            arguments = (f"{names.get(field, field)}={value}" for field, value in self.variables.items())
            yield f"return cls({', '.join(arguments)})"


def _unreadable(text: object, field: str) -> tuple[tuple[str, str], ...]:
    if not isinstance(text, str):
        raise ShapeError(Genuine.datetime, text)
    return ((field, text),) if text.strip() else ()
