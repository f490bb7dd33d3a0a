"""The standard library's time classes, even while a test library has replaced their names."""

import datetime as dt
import sys
from functools import reduce
from inspect import get_annotations
from operator import or_
from types import UnionType
from typing import Any, ClassVar, Union, cast, get_args, get_origin

__all__ = ["Original", "original_type", "restore_annotations"]

# freezegun replaces the names of `datetime` and `date` in every module, and leaves the attributes of classes alone.
_REPLACER = "freezegun"


def _original_class(cls: type) -> type:
    return next(base for base in cls.__mro__ if base.__module__ == "datetime")


class Original:
    """The standard library's classes: identity with them means the same at any time."""

    datetime: ClassVar[type[dt.datetime]] = _original_class(dt.datetime)
    date: ClassVar[type[dt.date]] = _original_class(dt.date)


def original_type(kind: object) -> object:
    """Return the type with the standard library's time classes in place of replaced ones, also inside of others."""
    if isinstance(kind, type) and kind.__module__.partition(".")[0] == _REPLACER and issubclass(kind, dt.date):
        return _original_class(kind)
    arguments = get_args(kind)
    original = tuple(map(original_type, arguments))
    if all(one is other for one, other in zip(arguments, original, strict=True)):
        return kind
    if get_origin(kind) in {Union, UnionType}:
        return reduce(or_, cast("tuple[Any, ...]", original))
    return cast("Any", get_origin(kind))[original]


def restore_annotations(cls: type) -> None:
    """Replace what a test library's clock has put into the annotations of a class."""
    if _REPLACER not in sys.modules:
        return
    own = get_annotations(cls)
    original = {name: original_type(kind) for name, kind in own.items()}
    if any(original[name] is not kind for name, kind in own.items()):
        cls.__annotations__ = original
