"""Errors of functions that take credentials, without the frames in which the credentials are."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

__all__ = ["hides_arguments"]

P = ParamSpec("P")
T = TypeVar("T")


def hides_arguments(function: Callable[P, T]) -> Callable[P, T]:
    """Return the function with errors whose traceback, context and locals hold none of its arguments.

    Error trackers record the locals of every frame. The error is raised anew from a frame that has none, so the
    traceback ends at the call. What an error was deliberately raised from stays its cause, if it is one of Python's.
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
