"""Modules that are imported when one of their names is first used, such as those that only annotations need."""

from importlib import import_module

__all__ = ["LazyModule"]


class LazyModule:
    """A module that is imported when one of its attributes is first read.

    An annotation written `"module.Name"` then costs nothing at import time, and `typing.get_type_hints` still resolves
    it. Type checkers see the real import, under `if TYPE_CHECKING`.
    """

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> object:
        value: object = getattr(import_module(self._name), attribute)
        return value

    def __repr__(self) -> str:
        return f"<lazy module {self._name!r}>"
