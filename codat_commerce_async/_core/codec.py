"""Decode JSON to models, and convert models to parsed JSON and back, with cattrs.

A value that does not fit raises a DecodeError with the path to it. The error never contains the value.
"""

import json
import math
import re
from collections.abc import Callable, Hashable, Mapping
from datetime import datetime
from functools import cache
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, TypeVar, Union, cast, get_args, get_origin

import orjson

from codat_commerce_async._core.decode_errors import ShapeError, StructureHook, find_fault, reason_of_parse_failure
from codat_commerce_async._core.encoding import encode
from codat_commerce_async._core.lazy import LazyModule
from codat_commerce_async._core.preserving import Complete, keep_unparsed, preserve_received, values_getter
from codat_commerce_async.errors import DecodeError
from codat_commerce_async.models._fields import Field, fields, is_model
from codat_commerce_async.models._original_types import Original, original_type
from codat_commerce_async.models.base import (
    UNSET,
    LenientInt,
    LenientModel,
    PreservesUnknownFields,
    Unset,
)
from codat_commerce_async.models.enums import OpenEnum
from codat_commerce_async.models.integrations import DataTypeFeature
from codat_commerce_async.models.pull_operations import DataStatus, DataStatuses
from codat_commerce_async.models.sync_flow import Localization, LocalizationInfo

if TYPE_CHECKING:
    import cattrs
    from cattrs import cols, gen
    from cattrs import errors as cattrs_errors
else:  # loaded by the first call, not by the import of the library
    cattrs = LazyModule("cattrs")
    cattrs_errors = LazyModule("cattrs.errors")
    cols = LazyModule("cattrs.cols")
    gen = LazyModule("cattrs.gen")

__all__ = ["check_decodable", "decode", "from_values", "parse", "structure", "to_values"]

T = TypeVar("T")


def decode(body: bytes, response_type: type[T]) -> T:
    """Return the body as `response_type`: a model, a tuple of models, or the parsed JSON for `object`.

    Raises DecodeError if the body is not JSON or does not fit, TypeError for a type that cannot be decoded.
    """
    # Not cast to Hashable, as every call comes here.
    load, hook = _decoder_for(response_type)  # type: ignore[arg-type]  # types are hashable
    value: T
    try:
        value = hook(load(body), response_type)
    except Exception:  # noqa: BLE001 - validators of a caller's own class may raise anything
        value, failure = _decode_again(body, response_type)
    else:
        return value
    # Raised outside the `except` block and without the body: neither the context nor a traceback that shows locals
    # may contain a part of the response.
    del body
    if failure is not None:
        raise failure
    return value


def structure(data: object, response_type: type[T]) -> T:
    """Return parsed JSON as `response_type`; raises DecodeError if it does not fit."""
    try:
        value: T = _hook_for(cast("Hashable", response_type))(data, response_type)
    except Exception:  # noqa: BLE001 - see `decode`
        failure = _shape_error(data, response_type)
    else:
        return value
    del data  # see `decode`
    raise failure


def parse(body: bytes) -> Any:  # noqa: ANN401 - JSON is anything
    """Return the parsed JSON of a body, as leniently as the standard library reads it.

    Replaces values that a model cannot hold: an unpaired surrogate by U+FFFD, NaN and infinity by None. Raises
    ValueError or RecursionError if the body is not JSON.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return _representable(json.loads(body))


def check_decodable(kind: object) -> None:
    """Raise TypeError for a type that no response can be decoded to."""
    if not isinstance(kind, Hashable):
        raise TypeError(f"a response cannot be decoded to {kind!r:.100}")
    _decoder_for(kind)


def to_values(model: object) -> dict[str, Any]:
    """Return the model as parsed JSON that shares no objects with it."""
    values: dict[str, Any] = json.loads(encode(model))
    return values


def from_values(values: object, kind: type[T]) -> T:
    """Return a model from parsed JSON, or from values that can be encoded; it shares no objects with them.

    Raises DecodeError with the path if the values do not fit, TypeError or ValueError if they are not JSON.
    """
    body = encode(values)
    load, hook = _decoder_for(cast("Hashable", kind))
    try:
        model: T = hook(load(body), kind)
    except Exception:  # noqa: BLE001 - see `decode`
        path, reason = find_fault(load(body), kind, _detailed_hook_for)
    else:
        return model
    raise DecodeError(reason, None, path)


_SURROGATE = re.compile("[\ud800-\udfff]")
_LONG_INTEGER = re.compile(rb"[0-9]{19}")


@cache
def _decoder_for(kind: Hashable) -> tuple[Callable[[bytes], object], StructureHook]:
    """Return the function that parses a body of valid JSON, and the hook that structures the result."""
    return (_parse_exactly if _preserves_unknown_fields(kind) else orjson.loads), _hook_for(kind)


def _preserves_unknown_fields(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, PreservesUnknownFields)


def _parse_exactly(body: bytes) -> object:
    # orjson turns integers beyond 64 bits into floats; a configuration has to be written back with the same digits.
    data: object = parse(body)
    return _representable(json.loads(body)) if _LONG_INTEGER.search(body) else data


def _representable(data: object) -> object:
    if isinstance(data, str):
        return _SURROGATE.sub("\ufffd", data)
    if isinstance(data, float) and not math.isfinite(data):
        return None
    if isinstance(data, list):
        return [_representable(item) for item in data]
    if isinstance(data, dict):
        return {_SURROGATE.sub("\ufffd", key): _representable(value) for key, value in data.items()}
    return data


# Failures: the fast hooks only fail; structuring once more, with cattrs' detailed validation, finds the path.


def _decode_again(body: bytes, kind: type[T]) -> tuple[Any, DecodeError | None]:
    """Return the value of a body that only a lenient parser reads, or the reason why there is none."""
    try:
        data = _parse_exactly(body) if _preserves_unknown_fields(kind) else parse(body)
    except (ValueError, RecursionError):
        return None, DecodeError(reason_of_parse_failure(body))
    try:
        return _hook_for(cast("Hashable", kind))(data, kind), None
    except Exception:  # noqa: BLE001 - see `decode`
        return None, _shape_error(data, kind)


def _shape_error(data: object, kind: object) -> DecodeError:
    path, reason = find_fault(data, kind, _detailed_hook_for)
    return DecodeError(f"the response does not fit at {path}: {reason}", None, path)


def _detailed_hook_for(kind: Hashable) -> StructureHook:
    return _hook_for(kind, detailed=True)


@cache
def _hook_for(kind: Hashable, *, detailed: bool = False) -> StructureHook:
    try:
        return _converter(detailed=detailed).get_structure_hook(kind)
    except cattrs_errors.StructureHandlerNotFoundError:
        raise TypeError(f"a response cannot be decoded to {kind!r:.100}") from None


@cache
def _converter(*, detailed: bool = False) -> "cattrs.Converter":
    converter = cattrs.Converter(detailed_validation=detailed)
    # The factory that was registered last is tried first, so the most specific ones come last.
    for matches, make_hook in _STRUCTURE_FACTORIES:
        converter.register_structure_hook_factory(matches)(make_hook)
    for primitive in (str, int, float, bool):
        converter.register_structure_hook(primitive, _structure_primitive)
    converter.register_structure_hook(OpenEnum, lambda value, kind: kind(_structure_primitive(value, str)))
    return converter


def _unwrap_optional(kind: object) -> object:
    """Return the type without None and UNSET; None if more than one type is left."""
    if get_origin(kind) not in {Union, UnionType}:
        return kind
    rest = [one for one in get_args(kind) if one not in {NoneType, Unset}]
    return original_type(rest[0]) if len(rest) == 1 else None


def _is_optional(kind: object) -> bool:
    return _unwrap_optional(kind) not in {None, kind}


def _is_sequence(kind: object) -> bool:
    return kind is list or get_origin(kind) is list or (get_origin(kind) is tuple and get_args(kind)[1:] == (...,))


def _is_mapping(kind: object) -> bool:
    kind = get_origin(kind) or kind
    return isinstance(kind, type) and issubclass(kind, Mapping) and not is_model(kind)


def _is_open_enum(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, OpenEnum)


def _structure_primitive(value: object, kind: type) -> object:
    if type(value) is kind or (kind is float and type(value) is int):
        return value
    raise ShapeError(kind, value)


def _optional_factory(kind: object, converter: "cattrs.Converter") -> StructureHook:
    inner = _unwrap_optional(kind)
    if inner in {str, int, bool}:
        return _optional_primitive(cast("type", inner))
    if _is_open_enum(inner):
        return _optional_enum(cast("type[OpenEnum]", inner))
    if inner is Original.datetime:
        return _structure_optional_time
    if inner == LenientInt:
        return _structure_optional_lenient_int
    hook = converter.get_structure_hook(inner)
    return lambda value, _: None if value is None else hook(value, inner)


# A page of connections consists of optional texts and enums. These two closures save a call for each of them.


def _optional_primitive(kind: type) -> StructureHook:
    def structure_optional(value: object, _: object) -> object:
        if value is None or value.__class__ is kind:
            return value
        raise ShapeError(kind, value)

    return structure_optional


def _optional_enum(kind: type[OpenEnum]) -> StructureHook:
    known: dict[object, OpenEnum] = {member.value: member for member in kind}

    def structure_optional(value: object, _: object) -> object:
        if value.__class__ is str:
            return known.get(value) or kind(value)
        if value is None:
            return None
        raise ShapeError(str, value)

    return structure_optional


_parse_time: Callable[[Any], datetime] = Original.datetime.fromisoformat


def _structure_time(value: object, _: object) -> datetime:
    try:
        return _parse_time(value)
    except (TypeError, ValueError):
        raise ShapeError(Original.datetime, value) from None


def _structure_optional_time(value: object, _: object) -> datetime | None:
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    moment = _structure_time(value, _)
    return None if moment.year == 1 else moment  # Codat's "never"


def _structure_lenient_time(value: object, _: object) -> datetime | None:
    """Return the time, or None for a text that cannot be parsed; `unparsed` keeps that text."""
    try:
        moment = _parse_time(value)
    except (TypeError, ValueError):
        if value is None or isinstance(value, str):
            return None
        raise ShapeError(Original.datetime, value) from None
    return None if moment.year == 1 else moment


_LEADING_INTEGER = re.compile(r"\s*(-?[0-9]{1,9})(?![0-9.])")


def _structure_lenient_int(value: object, _: object) -> int | None:
    """Return the number, or the one that a text begins with; None for another text."""
    if type(value) is int:
        return value
    if not isinstance(value, str):
        raise ShapeError(int, value)
    number = _LEADING_INTEGER.match(value)
    return int(number[1]) if number else None


def _structure_optional_lenient_int(value: object, _: object) -> int | None:
    return value if value is None or type(value) is int else _structure_lenient_int(value, _)


def _sequence_factory(kind: object, converter: "cattrs.Converter") -> StructureHook:
    make = cast("type", get_origin(kind) or kind)
    structure_list = cols.list_structure_factory(cast("type", kind), converter)

    def structure_sequence(values: object, _: object) -> object:
        if values.__class__ is list:
            return make(structure_list(values, kind)) if values else make()
        if values is None:
            return make()
        raise ShapeError(list, values)

    return structure_sequence


def _mapping_factory(kind: object, converter: "cattrs.Converter") -> StructureHook:
    item = (get_args(kind) or (str, object))[1]
    structure_items = cast(
        "Any", dict if item is object else gen.make_mapping_structure_fn(cast("type", kind), converter)
    )

    def structure_mapping(values: object, _: object) -> object:
        if values is None:
            return {}
        if values.__class__ is not dict:
            raise ShapeError(dict, values)
        return structure_items(values)

    return structure_mapping


def _model_factory(cls: type, converter: "cattrs.Converter") -> StructureHook:
    described = fields(cls)
    overrides: dict[str, Any] = {
        field.name: gen.override(rename=field.key, struct_hook=_field_hook(field, cls, converter))
        for field in described
    }
    not_in_json: dict[str, Any] = {
        name: gen.override(omit=True) for name in ("unparsed", "extra") if issubclass(cls, LenientModel)
    }
    from_dict: Callable[[Any], Any] = gen.make_dict_structure_fn(cls, converter, **(not_in_json | overrides))
    parsed = [field for field in described if _unwrap_optional(field.kind) in {Original.datetime, LenientInt}]
    if issubclass(cls, PreservesUnknownFields):
        return _preserving_hook(from_dict, preserve_received(described, parsed))
    if parsed and issubclass(cls, LenientModel):
        return _lenient_hook(from_dict, parsed)

    def structure_model(data: Any, _: object) -> object:  # noqa: ANN401 - parsed JSON
        if data.__class__ is not dict:
            raise ShapeError(dict, data)
        return from_dict(data)

    return structure_model


def _lenient_hook(from_dict: Callable[[Any], Any], parsed: list[Field]) -> StructureHook:
    """Return a hook that keeps the texts of the `parsed` fields that cannot be parsed."""
    parsed_values = values_getter(parsed)

    def structure_leniently(data: Any, _: object) -> object:  # noqa: ANN401 - parsed JSON
        if data.__class__ is not dict:
            raise ShapeError(dict, data)
        model = from_dict(data)
        return keep_unparsed(model, data, parsed) if None in parsed_values(model) else model

    return structure_leniently


def _preserving_hook(from_dict: Callable[[Any], Any], complete: Complete) -> StructureHook:
    """Return a hook that adds to a model what there is in the JSON besides its fields."""

    def structure_completely(data: Any, _: object) -> object:  # noqa: ANN401 - parsed JSON
        if data.__class__ is not dict:
            raise ShapeError(dict, data)
        return complete(from_dict(data), data)

    return structure_completely


def _field_hook(field: Field, cls: type, converter: "cattrs.Converter") -> StructureHook | None:
    """Return the hook of a field if it is not simply that of its type."""
    if issubclass(cls, LenientModel) and _is_optional(field.kind) and _unwrap_optional(field.kind) is Original.datetime:
        return _structure_lenient_time
    default = field.default() if field.default else None
    if default is None or default is UNSET or default in ((), [], {}):
        return None
    hook = converter.get_structure_hook(field.kind)
    return lambda value, kind: cast("Any", field.default)() if value is None else hook(value, kind)


def _localization_factory(_: object, converter: "cattrs.Converter") -> StructureHook:
    """Accept a plain text, or null, in place of the object."""
    hook = _model_factory(Localization, converter)
    return lambda data, kind: hook({"text": data} if data is None or isinstance(data, str) else data, kind)


def _localization_info_factory(_: object, converter: "cattrs.Converter") -> StructureHook:
    """Structure the whole object as a mapping of texts."""
    hook = _mapping_factory(Mapping[str, Localization], converter)
    return lambda data, kind: LocalizationInfo(texts=hook(data, kind))


def _data_statuses_factory(_: object, converter: "cattrs.Converter") -> StructureHook:
    """Structure the whole object as a mapping of data types, without those that are null."""
    hook = _mapping_factory(Mapping[str, DataStatus | None], converter)

    def structure_statuses(data: Any, kind: object) -> object:  # noqa: ANN401 - parsed JSON
        statuses: Any = hook(data, kind)
        return DataStatuses(statuses={name: status for name, status in statuses.items() if status is not None})

    return structure_statuses


def _data_type_feature_factory(_: object, converter: "cattrs.Converter") -> StructureHook:
    """Accept `dataType` too: the specification declares one spelling and shows the other."""
    hook = _model_factory(DataTypeFeature, converter)

    def structure_feature(data: Any, kind: object) -> object:  # noqa: ANN401 - parsed JSON
        is_other = isinstance(data, dict) and data.get("datatype") is None
        return hook({**data, "datatype": data.get("dataType")} if is_other else data, kind)

    return structure_feature


_STRUCTURE_FACTORIES: tuple[tuple[Callable[[Any], bool], Callable[[Any, "cattrs.Converter"], StructureHook]], ...] = (
    (lambda kind: kind in {object, Any}, lambda *_: lambda value, _: value),
    (lambda kind: original_type(kind) is Original.datetime, lambda *_: _structure_time),
    (_is_optional, _optional_factory),
    (lambda kind: kind == LenientInt, lambda *_: _structure_lenient_int),
    (_is_sequence, _sequence_factory),
    (_is_mapping, _mapping_factory),
    (is_model, _model_factory),
    (lambda kind: kind is Localization, _localization_factory),
    (lambda kind: kind is LocalizationInfo, _localization_info_factory),
    (lambda kind: kind is DataStatuses, _data_statuses_factory),
    (lambda kind: kind is DataTypeFeature, _data_type_feature_factory),
)
