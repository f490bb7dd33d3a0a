"""The fields of a model and their names in Codat's JSON."""

import re
from collections.abc import Callable
from typing import Any, get_type_hints

import attrs

from codat_commerce_async.models._original_types import original_type

__all__ = ["Field", "camel_case", "fields", "is_model", "preserves_unknown"]

_SNAKE_BOUNDARY = re.compile(r"_([a-z0-9])")


@attrs.frozen(kw_only=True)
class Field:
    """One field of a model: `key` is its name in JSON, `default` returns its default, None if it is required."""

    name: str
    kind: object
    key: str
    default: Callable[[], object] | None


def camel_case(name: str) -> str:
    """Return a name in snake_case as Codat's JSON has it."""
    return _SNAKE_BOUNDARY.sub(lambda letter: letter[1].upper(), name)


def is_model(cls: Any) -> bool:  # noqa: ANN401 - any object
    """Return True for an attrs class."""
    return attrs.has(cls)


def preserves_unknown(cls: type) -> bool:
    """Return True for a model that keeps the keys that it has no field for."""
    return any(attribute.name == "extra" for attribute in attrs.fields(cls))


def fields(cls: type) -> tuple[Field, ...]:
    """Return the fields that Codat's JSON has.

    A field's name in JSON is its name in camelCase, or the `key` in its metadata; a `key` of None means that the field
    is not in the JSON.
    """
    attributes = attrs.fields(cls)
    written_as_text = any(isinstance(attribute.type, str) for attribute in attributes)
    kinds = get_type_hints(cls, include_extras=True) if written_as_text else {}
    return tuple(
        Field(
            name=attribute.name,
            kind=original_type(kinds.get(attribute.name, attribute.type)),
            key=attribute.metadata.get("key") or camel_case(attribute.name),
            default=_default(attribute.default),
        )
        for attribute in attributes
        if attribute.init and attribute.metadata.get("key", "") is not None
    )


def _default(default: object) -> Callable[[], object] | None:
    if default is attrs.NOTHING:
        return None
    factory: Callable[[], object] | None = getattr(default, "factory", None)
    return factory or (lambda: default)
