"""Convert models to JSON bytes, with cattrs."""

import math
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn
from uuid import UUID

import orjson

from codat_commerce_async._core.lazy import LazyModule
from codat_commerce_async._core.preserving import merge_changes
from codat_commerce_async.models._fields import fields, is_model
from codat_commerce_async.models._original_types import Original
from codat_commerce_async.models.base import UNSET, LenientModel, PreservesUnknownFields
from codat_commerce_async.models.enums import OpenEnum
from codat_commerce_async.models.pull_operations import DataStatuses
from codat_commerce_async.models.sync_flow import Localization, LocalizationInfo, VisibleAccounts

if TYPE_CHECKING:
    import cattrs
    from cattrs import gen
else:  # loaded by the first body, not by the import of the library
    cattrs = LazyModule("cattrs")
    gen = LazyModule("cattrs.gen")

__all__ = ["encode"]

_INTEGERS = range(-(2**63), 2**64)


def encode(value: object) -> bytes:
    """Return the value as JSON, without the fields that are UNSET.

    Raises TypeError for a value that JSON cannot represent, ValueError for NaN and infinity.
    """
    plain = _converter().unstructure(value)
    try:
        return orjson.dumps(plain)
    except orjson.JSONEncodeError:
        return _dumps_leniently(plain)


def _dumps_leniently(plain: object) -> bytes:
    try:
        return orjson.dumps(_with_long_integers(plain))
    except orjson.JSONEncodeError as error:
        reason = str(error)
    raise TypeError(f"a body must be JSON ({reason})")


def _with_long_integers(plain: object) -> object:
    if isinstance(plain, dict):
        return {key: _with_long_integers(value) for key, value in plain.items()}
    if isinstance(plain, (list, tuple)):
        return [_with_long_integers(value) for value in plain]
    if type(plain) is int and plain not in _INTEGERS:
        return orjson.Fragment(str(plain))
    return plain


def _is_mapping(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Mapping) and not is_model(kind)


@cache
def _converter() -> "cattrs.Converter":
    converter = cattrs.Converter()
    converter.register_unstructure_hook_factory(is_model)(_unstructure_model_factory)
    converter.register_unstructure_hook_func(_is_mapping, _unstructure_mapping)
    for kind, hook in _UNSTRUCTURE_HOOKS.items():
        converter.register_unstructure_hook(kind, hook)
    return converter


# Fields that are left out when they are None; all others are sent as null.
_OMITTED_IF_NONE = {(Localization, "required"), (VisibleAccounts, "visible_accounts")}


def _unstructure_model_factory(cls: type, converter: "cattrs.Converter") -> Callable[[Any], object]:
    described = fields(cls)
    if issubclass(cls, PreservesUnknownFields):
        return lambda model: merge_changes(model, described, converter.unstructure)
    overrides: dict[str, Any] = {
        field.name: gen.override(
            rename=field.key,
            # By the value's own class: a plain text may stand where an enum is declared.
            unstruct_hook=converter.unstructure,
            omit_if_default=(cls, field.name) in _OMITTED_IF_NONE or bool(field.default and field.default() is UNSET),
        )
        for field in described
    }
    if not issubclass(cls, LenientModel):
        return gen.make_dict_unstructure_fn(cls, converter, **overrides)
    to_dict = gen.make_dict_unstructure_fn(cls, converter, unparsed=gen.override(omit=True), **overrides)
    keys = {field.name: field.key for field in described}

    def unstructure_lenient(model: LenientModel) -> object:
        unparsed = {keys[name]: text for name, text in model.unparsed if getattr(model, name) is None}
        return to_dict(model) | unparsed

    return unstructure_lenient


def _unstructure_mapping(mapping: Mapping[object, object]) -> dict[object, object]:
    unstructure = _converter().unstructure
    return {key: unstructure(value) for key, value in mapping.items() if value is not UNSET}


def _unstructure_float(number: float) -> float:
    if not math.isfinite(number):
        raise ValueError("JSON has no NaN and no infinity")
    return number


def _unstructure_decimal(number: Decimal) -> orjson.Fragment:
    if not number.is_finite():
        raise ValueError("JSON has no NaN and no infinity")
    return orjson.Fragment(str(number))


def _unstructure_time(moment: datetime) -> str:
    text = moment.isoformat()
    return f"{text[:-6]}Z" if text.endswith("+00:00") else text


def _unstructure_unset(_: object) -> NoReturn:
    raise TypeError("UNSET is only valid as the value of a field or a key, which it leaves out")


_UNSTRUCTURE_HOOKS: Mapping[type, Callable[[Any], object]] = {
    float: _unstructure_float,
    Original.datetime: _unstructure_time,
    Original.date: Original.date.isoformat,
    UUID: str,
    Decimal: _unstructure_decimal,
    OpenEnum: lambda member: member.value,
    LocalizationInfo: lambda info: _unstructure_mapping(info.texts),
    DataStatuses: lambda statuses: _unstructure_mapping(statuses.statuses),
    type(UNSET): _unstructure_unset,
}
