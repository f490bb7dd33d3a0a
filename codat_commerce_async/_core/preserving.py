"""Keep what the fields of a model do not hold: unparsed texts, unknown keys, and the JSON as it was received."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any

from attrs import evolve

from codat_commerce_async.models._fields import Field
from codat_commerce_async.models._original_types import Original
from codat_commerce_async.models.base import PreservesUnknownFields, Received

__all__ = ["Complete", "keep_unparsed", "merge_changes", "preserve_received", "values_getter"]

Complete = Callable[[Any, Mapping[str, object]], Any]
"""Return the model with what else there is in the JSON that it was structured from."""


def keep_unparsed(model: Any, data: Mapping[str, object], parsed: Sequence[Field]) -> object:  # noqa: ANN401 - any LenientModel
    """Return the model with `unparsed` filled; `parsed` are the fields whose texts are parsed."""
    texts = _unparsed_texts(model, data, parsed)
    return evolve(model, unparsed=texts) if texts else model


def preserve_received(described: Sequence[Field], parsed: Sequence[Field]) -> Complete:
    """Return a function that fills `extra`, and `unparsed` with the JSON that was received."""
    values_of = values_getter(described)
    known = frozenset(field.key for field in described)

    def complete(model: Any, data: Mapping[str, object]) -> object:  # noqa: ANN401 - any PreservesUnknownFields
        texts = _unparsed_texts(model, data, parsed)
        extra = {key: value for key, value in data.items() if key not in known}
        return evolve(model, unparsed=Received.of(texts, data, values_of(model)), extra=extra)

    return complete


def values_getter(described: Sequence[Field]) -> Callable[[object], tuple[object, ...]]:
    """Return a function that returns the values of these fields of a model."""
    names = [field.name for field in described]
    if len(names) == 1:
        return lambda model: (getattr(model, names[0]),)
    return attrgetter(*names)


def _unparsed_texts(model: object, data: Mapping[str, object], parsed: Iterable[Field]) -> tuple[tuple[str, str], ...]:
    """Return the fields that are None although there is a text, with the text."""
    texts: list[tuple[str, str]] = []
    for field in parsed:
        text = data.get(field.key)
        if isinstance(text, str) and getattr(model, field.name) is None and text.strip() and not _is_time(text):
            texts.append((field.name, text))
    return tuple(texts)


def _is_time(text: str) -> bool:
    try:
        Original.datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def merge_changes(
    model: PreservesUnknownFields, described: tuple[Field, ...], unstructure: Callable[[object], object]
) -> dict[str, object]:
    """Return the JSON that was received, with the values that have changed since; new keys follow at the end."""
    received = model.unparsed
    data, values = (received.data, received.values) if isinstance(received, Received) else ({}, ())
    by_key = {field.key: field for field in described}
    before = dict(zip(by_key, values, strict=False))
    plain: dict[str, object] = {}
    for key, value in data.items():
        if key in by_key:
            now = getattr(model, by_key[key].name)
            plain[key] = value if _is_same(now, before[key]) else unstructure(now)
        elif key in model.extra:
            plain[key] = unstructure(model.extra[key])
    for key, field in by_key.items():
        now = getattr(model, field.name)
        if key not in data and not (field.default and _is_same(now, field.default())):
            plain[key] = unstructure(now)
    return plain | {key: unstructure(value) for key, value in model.extra.items() if key not in plain}


def _is_same(now: object, then: object) -> bool:
    return now is then or now == then
