"""What all models have in common: to and from Codat's JSON, and what they keep beyond their fields."""

from collections.abc import Mapping
from enum import Enum
from typing import Annotated, Final, Literal, TypeAlias

from attrs import field, frozen

from codat_commerce_async.models._genuine import genuine_annotations

__all__ = ["UNSET", "KeepsUnknown", "KeepsUnreadable", "LooseInt", "Model", "Unset"]


class _Unset(Enum):
    UNSET = "UNSET"

    def __bool__(self) -> Literal[False]:
        return False

    def __repr__(self) -> str:
        return "UNSET"


Unset: TypeAlias = Literal[_Unset.UNSET]
UNSET: Final = _Unset.UNSET
"""What stands for a field that is not sent at all, where None is sent as null."""

LooseInt: TypeAlias = Annotated[int, "or text that begins with it"]
"""A number that Codat also writes as text, like the `"4200,"` of its own examples."""


class Model:
    """The base of everything that Codat sends or accepts."""

    __slots__ = ()

    def __init_subclass__(cls, **arguments: object) -> None:
        super().__init_subclass__(**arguments)
        genuine_annotations(cls)


@frozen(kw_only=True)
class KeepsUnreadable(Model):
    """A model with times in it.

    A time is an aware `datetime` where Codat says the zone, a naive one (local to the merchant) where it
    does not, cut off after microseconds, and None for Codat's "never" (`0001-01-01T00:00:00`). Texts that
    are no time at all become None too, and stand in `unreadable` as pairs of the field's name and the text.
    Source: https://docs.codat.io/using-the-api/queueing-data-syncs
    """

    unreadable: tuple[tuple[str, str], ...] = field(default=(), repr=False)


@frozen(kw_only=True)
class KeepsUnknown(KeepsUnreadable):
    """A model that is read, changed (`attrs.evolve`) and written back without erasing what it does not know.

    `extra` holds the keys that have no field here, with their values as parsed JSON. Beside it the object
    remembers how it arrived, so what was not changed is sent as it came: the order of keys, unknown keys,
    null or missing, a time with all its digits. Only changed fields are written anew.
    """

    extra: Mapping[str, object] = field(factory=dict[str, object], repr=False, hash=False)
    _received: tuple[Mapping[str, object], tuple[object, ...]] | None = field(
        default=None, repr=False, eq=False, hash=False
    )
