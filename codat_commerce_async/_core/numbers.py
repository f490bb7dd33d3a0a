"""Checks of numbers that users pass, each refused by name with a message that says what is accepted."""

import math

__all__ = ["check_count", "check_number", "check_seconds", "require"]

# Far beyond any use; a bound keeps every container and product of counts within what the machine can hold.
_LARGEST_COUNT = 10**9


def require(condition: bool, name: str, takes: str) -> None:  # noqa: FBT001 - the condition is the subject
    """Raise ValueError, unless the condition holds."""
    if not condition:
        raise ValueError(f"{name} takes {takes}")


def check_number(name: str, value: float, *, whole: bool = False) -> None:
    """Raise TypeError for anything but a number (True and False are none), ValueError for one beyond all floats."""
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise TypeError(f"{name} takes a {'whole number' if whole else 'number'}, not {type(value).__name__}")
    try:
        float(value)
    except OverflowError:
        raise ValueError(f"{name} takes a number that a float can hold") from None


def check_seconds(name: str, value: float, *, positive: bool = False, finite: bool = False) -> None:
    """Raise TypeError or ValueError, unless the value is a duration that can be waited for."""
    check_number(name, value)
    in_range = value > 0 if positive else value >= 0
    bound = "more than 0" if positive else "0 or more"
    require(in_range and (math.isfinite(value) or not finite), name, f"seconds, {bound}")


def check_count(name: str, value: int | None) -> None:
    """Raise TypeError or ValueError, unless the value is a count of at least 1, or None for no bound."""
    if value is None:
        return
    check_number(name, value, whole=True)
    takes = f"a whole number of at least 1 and at most {_LARGEST_COUNT:,}, or None for no bound"
    require(1 <= value <= _LARGEST_COUNT, name, takes)
