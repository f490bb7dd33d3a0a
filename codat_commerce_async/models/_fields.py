"""What fields a model has, and what Codat calls them."""

import re
from collections.abc import Callable
from types import MemberDescriptorType
from typing import Any, get_type_hints

import attrs

from codat_commerce_async.models._genuine import genuine_type

__all__ = ["Field", "fields", "is_model", "keeps_unknown", "thawed"]

_HUMP = re.compile(r"_([a-z0-9])")

_KEPT = {"unparsed", "extra"}


@attrs.frozen(kw_only=True)
class Field:
    """A field as Codat knows it: `key` is its name in JSON, `also` a second one to look under.

    `default` makes the default value, and is None for a field that has none. `alone` says that a plain text
    may stand for the whole object, `whole` that the field is the whole object, `omit_none` that None is not
    sent.
    """

    name: str
    argument: str
    kind: object
    key: str
    also: str | None
    default: Callable[[], object] | None
    alone: bool
    whole: bool
    omit_none: bool


def is_model(cls: Any) -> bool:  # noqa: ANN401 - anything may be asked about
    """Tell whether this is a class of fields."""
    return attrs.has(cls)


def keeps_unknown(cls: type) -> bool:
    """Tell whether a model keeps the keys that it has no field for."""
    return any(attribute.name == "extra" for attribute in attrs.fields(cls))


def fields(cls: type) -> tuple[Field, ...]:
    """Return the fields that are Codat's, without those in which a model keeps more than it knows.

    Their names in JSON are their names in camelCase; those that differ say so in their metadata.
    """
    attributes = attrs.fields(cls)
    written_as_text = any(isinstance(attribute.type, str) for attribute in attributes)
    kinds = get_type_hints(cls, include_extras=True) if written_as_text else {}
    return tuple(
        Field(
            name=attribute.name,
            argument=attribute.alias or attribute.name,
            kind=genuine_type(kinds.get(attribute.name, attribute.type)),
            key=attribute.metadata.get("key") or _HUMP.sub(lambda hump: hump[1].upper(), attribute.name),
            also=attribute.metadata.get("also"),
            default=_default(attribute.default),
            alone=attribute.metadata.get("alone", False),
            whole=attribute.metadata.get("whole", False),
            omit_none=attribute.metadata.get("omit_none", False),
        )
        for attribute in attributes
        if attribute.init and attribute.name not in _KEPT
    )


def _default(default: object) -> Callable[[], object] | None:
    if default is attrs.NOTHING:
        return None
    factory: Callable[[], object] | None = getattr(default, "factory", None)
    return factory or (lambda: default)


def thawed(cls: type) -> type | None:
    """Return a `cls` whose slots can be set, by way of which its objects are made faster than by `__init__`.

    None for a class whose `__init__` does more than filling slots.
    """
    attributes = attrs.fields_dict(cls)
    if hasattr(cls, "__attrs_post_init__") or any(
        attribute.validator or attribute.converter or not attribute.init for attribute in attributes.values()
    ):
        return None
    if not all(isinstance(getattr(cls, name, None), MemberDescriptorType) for name in attributes):
        return None
    # CPython goes straight to a slot only if neither setting nor deleting is anyone's own.
    setting = {"__setattr__": object.__setattr__, "__delattr__": object.__delattr__}
    return type(cls.__name__, (cls,), {"__slots__": (), **setting})
