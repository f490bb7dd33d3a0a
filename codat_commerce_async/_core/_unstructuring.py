"""One model to plain JSON values, with what it keeps beyond its fields."""

from collections.abc import Callable, Mapping
from typing import Any

from codat_commerce_async.models._fields import Field, fields
from codat_commerce_async.models.base import UNSET, LenientModel, PreservesUnknownFields, Received

__all__ = ["model_writer"]

Convert = Callable[[object], object]


def model_writer(cls: type, convert: Convert) -> Callable[[Any], object]:
    """Return a function that makes plain JSON of a `cls`; `convert` does so for what is in it."""
    by_key = {field.key: field for field in fields(cls)}
    if issubclass(cls, PreservesUnknownFields):
        return lambda model: _written_back(model, by_key, convert)
    whole = [field.name for field in by_key.values() if field.whole]
    if whole:
        return lambda model: convert(getattr(model, whole[0]))
    return lambda model: _written(model, by_key, convert)


def _written(model: object, by_key: Mapping[str, Field], convert: Convert) -> dict[str, object]:
    unparsed = dict(model.unparsed) if isinstance(model, LenientModel) else {}
    plain: dict[str, object] = {}
    for key, field in by_key.items():
        value = getattr(model, field.name)
        if value is None and field.name in unparsed:
            plain[key] = unparsed[field.name]
        elif value is not UNSET and not (value is None and field.omit_none):
            plain[key] = convert(value)
    return plain


def _written_back(model: PreservesUnknownFields, by_key: Mapping[str, Field], convert: Convert) -> dict[str, object]:
    """Write what was not changed as it arrived and where it stood, then what is new."""
    received = model.unparsed
    arrived, values = (received.data, received.values) if isinstance(received, Received) else ({}, ())
    read = dict(zip(by_key, values, strict=False))
    plain: dict[str, object] = {}
    for key, value in arrived.items():
        if key in by_key:
            now = getattr(model, by_key[key].name)
            plain[key] = value if _is_same(now, read[key]) else convert(now)
        elif key in model.extra:
            plain[key] = convert(model.extra[key])
    for key, field in by_key.items():
        now = getattr(model, field.name)
        if key not in arrived and not (field.default and _is_same(now, field.default())):
            plain[key] = convert(now)
    return plain | {key: convert(value) for key, value in model.extra.items() if key not in plain}


def _is_same(now: object, then: object) -> bool:
    return now is then or now == then
