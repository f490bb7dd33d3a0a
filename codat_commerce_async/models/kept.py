"""What a model keeps of an answer beyond its fields, so that nothing is lost."""

from collections.abc import Mapping
from typing import Annotated, TypeAlias

from attrs import field, frozen

__all__ = ["KeepsUnknown", "KeepsUnreadable", "LooseInt"]

LooseInt: TypeAlias = Annotated[int, "or text that begins with it"]
"""A number that Codat also writes as text, like the `"4200,"` of its own examples."""


@frozen(kw_only=True)
class KeepsUnreadable:
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
