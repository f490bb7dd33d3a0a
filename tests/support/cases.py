"""Many tiny cases in one test: each test of pytest's own costs more than such a case, in every worker."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import wraps
from typing import Any, TypeVar

import pytest

__all__ = ["all_cases"]

R = TypeVar("R")


def all_cases(names: str | Sequence[str], values: Iterable[Any]) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Call the test for each value as `pytest.mark.parametrize` does, but in one test, and report all that fail.

    The cases share the test's fixtures, so use it where a case leaves nothing behind.
    """
    fields = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    cases = [dict(zip(fields, _row(value, len(fields)), strict=True)) for value in values]
    assert cases, "a test needs a case"

    def decorated(test: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(test):

            async def calling_async(**fixtures: Any) -> None:
                failures = _Failures(len(cases))
                for case in cases:
                    try:
                        await test(**fixtures, **case)
                    except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 - it is raised with the others
                        failures.add(case, error)
                failures.raise_all()

            return _like(test, calling_async, fields)

        def calling(**fixtures: Any) -> None:
            failures = _Failures(len(cases))
            for case in cases:
                try:
                    test(**fixtures, **case)
                except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 - it is raised with the others
                    failures.add(case, error)
            failures.raise_all()

        return _like(test, calling, fields)

    return decorated


class _Failures:
    """The cases that failed, each with its error."""

    def __init__(self, cases: int) -> None:
        self._cases = cases
        self._names: list[str] = []
        self._errors: list[BaseException] = []

    def add(self, case: dict[str, Any], error: BaseException) -> None:
        name = ", ".join(f"{key}={_text(value)}" for key, value in case.items())
        error.add_note(f"case: {name}")
        self._names.append(name)
        self._errors.append(error)

    def raise_all(self) -> None:
        if self._errors:
            lines = "\n".join(f"  {name}" for name in self._names)
            message = f"{len(self._errors)} of {self._cases} cases failed:\n{lines}\n"
            raise BaseExceptionGroup(message, self._errors)


def _row(value: Any, width: int) -> Iterator[Any]:
    if width == 1:
        return iter((value,))
    return iter(value)


def _text(value: object) -> str:
    try:
        return repr(value)[:100]
    except Exception:  # noqa: BLE001 - some cases are values that cannot be shown
        return type(value).__name__


def _like(test: Callable[..., Any], calling: Callable[..., Any], fields: Sequence[str]) -> Callable[..., Any]:
    signature = inspect.signature(test)
    remaining = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in signature.parameters.items()
        if name not in fields
    ]
    assert set(fields) <= set(signature.parameters), f"the test has no parameters {fields}"
    merged = wraps(test)(calling)
    merged.__signature__ = signature.replace(parameters=remaining)  # type: ignore[attr-defined]  # pytest reads it
    return merged
