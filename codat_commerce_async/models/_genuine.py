"""The standard library's time classes, even while a test library has replaced their names."""

import datetime as dt
import sys
from functools import reduce
from inspect import get_annotations
from operator import or_
from types import UnionType
from typing import Any, ClassVar, Union, cast, get_args, get_origin

__all__ = ["Genuine", "genuine_annotations", "genuine_type"]

# freezegun replaces the names of `datetime` and `date` in every module, and leaves the attributes of classes alone.
_REPLACER = "freezegun"


def _genuine_class(cls: type) -> type:
    return next(base for base in cls.__mro__ if base.__module__ == "datetime")


class Genuine:
    """The standard library's classes: identity with them means the same at any time."""

    datetime: ClassVar[type[dt.datetime]] = _genuine_class(dt.datetime)
    date: ClassVar[type[dt.date]] = _genuine_class(dt.date)


def genuine_type(kind: object) -> object:
    """Return the type with the standard library's time classes in place of replaced ones, also inside of others."""
    if isinstance(kind, type) and kind.__module__.partition(".")[0] == _REPLACER and issubclass(kind, dt.date):
        return _genuine_class(kind)
    arguments = get_args(kind)
    genuine = tuple(map(genuine_type, arguments))
    if all(one is other for one, other in zip(arguments, genuine, strict=True)):
        return kind
    if get_origin(kind) in {Union, UnionType}:
        return reduce(or_, cast("tuple[Any, ...]", genuine))
    return cast("Any", get_origin(kind))[genuine]


def genuine_annotations(cls: type) -> None:
    """Replace what a test library's clock has put into the annotations of a class."""
    if _REPLACER not in sys.modules:
        return
    own = get_annotations(cls)
    genuine = {name: genuine_type(kind) for name, kind in own.items()}
    if any(genuine[name] is not kind for name, kind in own.items()):
        cls.__annotations__ = genuine
