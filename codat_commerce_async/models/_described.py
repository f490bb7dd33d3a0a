"""Enumerations with a stable word for programs and a text for people."""

from enum import StrEnum
from typing import Self

__all__ = ["DescribedEnum"]


class DescribedEnum(StrEnum):
    """A string enumeration whose members are declared with their value and their `description`."""

    description: str
    """The meaning in a few words."""

    # The default is for type checkers, which take `FailureCause("unknown")` for the creation of a member.
    def __new__(cls, value: str, description: str = "") -> Self:
        """Create a member with its description."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.description = description
        return member
