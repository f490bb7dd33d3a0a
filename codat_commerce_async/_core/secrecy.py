"""Raise errors of functions that take credentials without the frames that contain them."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

__all__ = ["hides_arguments"]

P = ParamSpec("P")
T = TypeVar("T")


def hides_arguments(function: Callable[P, T]) -> Callable[P, T]:
    """Wrap a function so that the traceback and context of its errors contain none of its arguments.

    Error trackers record the locals of every frame. The error is raised again from a frame without arguments, so the
    traceback ends at the call.
    """

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - it is raised below
            failure = error
        del args, kwargs
        failure.__context__ = failure.__cause__ = None
        try:
            raise failure.with_traceback(None)
        finally:
            del failure  # no cycle of the error and this frame

    return wrapper
