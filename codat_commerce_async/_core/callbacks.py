"""Checks of the functions that users pass, so that no coroutine is created and never awaited."""

from collections.abc import Awaitable, Callable
from inspect import isasyncgenfunction, isawaitable, iscoroutinefunction, isgeneratorfunction
from typing import TypeVar, cast

__all__ = ["call", "check_callback", "check_function", "is_coroutine_function"]

A = TypeVar("A")
R = TypeVar("R")


def is_coroutine_function(function: object) -> bool:
    """Return whether a call returns a coroutine: of `async def`, a partial of one, or an async `__call__`."""
    return _is(iscoroutinefunction, function)


def check_function(name: str, function: object) -> None:
    """Raise TypeError unless the function can be called without `await`."""
    if is_coroutine_function(function):
        raise TypeError(f"{name} must be a plain function (got a coroutine function)")
    check_callback(name, function)


def check_callback(name: str, function: object) -> None:
    """Raise TypeError unless the argument is a function or a coroutine function."""
    if not callable(function):
        raise TypeError(f"{name} must be a function (got {type(function).__name__})")
    if _is(isgeneratorfunction, function) or _is(isasyncgenfunction, function):
        raise TypeError(f"{name} must be a function (got a generator function)")


async def call(function: Callable[[A], R | Awaitable[R]], argument: A) -> R:
    """Call a function with one argument, await what it returns if that is awaitable, and return the result."""
    result: object = function(argument)
    return cast("R", await result if isawaitable(result) else result)


def _is(kind: Callable[[object], bool], function: object) -> bool:
    return kind(function) or kind(getattr(function, "__call__", None))  # noqa: B004 - its kind matters, not its presence
