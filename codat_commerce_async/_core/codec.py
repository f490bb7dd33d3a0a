"""Bytes to models and back; a bad shape becomes a DecodeError that knows the path to it, and never the value."""

import json
import math
import re
from collections.abc import Callable, Hashable, Mapping
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast, get_args, get_origin
from uuid import UUID

import orjson

from codat_commerce_async._core._structuring import (
    Read,
    ShapeError,
    alone_type,
    model_reader,
    read_loose_int,
    read_time,
)
from codat_commerce_async._core._unstructuring import model_writer
from codat_commerce_async.errors import DecodeError
from codat_commerce_async.models._fields import is_model
from codat_commerce_async.models._genuine import Genuine, genuine_type
from codat_commerce_async.models.base import UNSET, LenientInt, PreservesUnknownFields
from codat_commerce_async.models.enums import OpenEnum
from codat_commerce_async.models.error_message import ErrorMessage, ErrorValidation, ErrorValidationItem

if TYPE_CHECKING:
    from cattrs import Converter

__all__ = ["decode", "decode_error_message", "encode", "structure"]

T = TypeVar("T")


def decode(body: bytes, answer: type[T]) -> T:
    """Return the body as what `answer` names: a model, a tuple of models, or the parsed JSON for `object`.

    Raises DecodeError for everything else that the bytes may hold, TypeError for an `answer` that is no
    such type.
    """
    parse_body, read = _steps(cast("Hashable", answer))
    try:
        value: T = read(parse_body(body), answer)
    except Exception as error:  # noqa: BLE001 - what reads a type that is not of this library may raise anything
        failure = _failure(error, body, parse_body)
    else:
        return value
    # Raised here, so that neither the context nor a traceback that shows locals has a part of the answer.
    del body
    raise failure


def structure(data: object, answer: type[T]) -> T:
    """Return parsed JSON as what `answer` names; raises DecodeError if it does not fit."""
    try:
        value: T = _reader(cast("Hashable", answer))(data, answer)
    except ShapeError as misfit:
        path = f"${misfit.path}"
        failure = DecodeError(f"the answer does not fit at {path}: {misfit}", None, path)
    else:
        return value
    # As in `decode`: the error carries no part of the data.
    del data
    raise failure


def decode_error_message(body: bytes) -> ErrorMessage | None:
    """Return Codat's words about an error, as far as they can be made out; None when the body holds none."""
    try:
        data = _only(dict, parse(body)) or {}
    except (ValueError, RecursionError):
        return None
    message = ErrorMessage(
        status_code=_only(int, data.get("statusCode")),
        service=_only(str, data.get("service")),
        error=_only(str, data.get("error")),
        correlation_id=_only(str, data.get("correlationId")),
        validation=_error_validation(data.get("validation")),
        can_be_retried=_only(str, data.get("canBeRetried")),
        detailed_error_code=_only(int, data.get("detailedErrorCode")),
    )
    return None if message == ErrorMessage() else message


def parse(body: bytes) -> Any:  # noqa: ANN401 - JSON is anything
    """Return the parsed JSON of a body, as leniently as the standard library reads it.

    What has no place in a model is replaced: half a surrogate pair by U+FFFD, NaN and infinity by None. Raises
    ValueError or RecursionError for a body that is no JSON.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return _representable(json.loads(body))


def encode(value: object) -> bytes:
    """Return the value as JSON, without the fields that are UNSET.

    Raises TypeError for what JSON has no place for, ValueError for numbers that are none.
    """
    plain = _converter().unstructure(value)
    try:
        return orjson.dumps(plain)
    except orjson.JSONEncodeError:
        return orjson.dumps(_with_long_integers(plain))


def to_values(model: object) -> dict[str, Any]:
    """Return the model as parsed JSON, which shares nothing with it."""
    values: dict[str, Any] = json.loads(encode(model))
    return values


def from_values(values: object, kind: type[T]) -> T:
    """Return parsed JSON, or what can be made JSON, as the model; it shares nothing with the values.

    Raises DecodeError with the path for what does not fit, TypeError or ValueError for what is no JSON.
    """
    parse_body, read = _steps(cast("Hashable", kind))
    try:
        model: T = read(parse_body(encode(values)), kind)
    except ShapeError as misfit:
        failure = DecodeError(str(misfit), None, f"${misfit.path}")
    else:
        return model
    raise failure


_HALF_A_PAIR = re.compile("[\ud800-\udfff]")
_LONG_INTEGER = re.compile(rb"[0-9]{19}")
_INTEGERS = range(-(2**63), 2**64)


@cache
def _steps(answer: Hashable) -> tuple[Callable[[bytes], object], Read]:
    """How to decode an answer: what parses its bytes, and what reads what they hold."""
    keeps_unknown = isinstance(answer, type) and issubclass(answer, PreservesUnknownFields)
    return (_parse_exactly if keeps_unknown else parse), _reader(answer)


def _parse_exactly(body: bytes) -> object:
    # orjson makes floats of integers beyond 64 bits; what is written back has to keep them.
    data: object = parse(body)
    return _representable(json.loads(body)) if _LONG_INTEGER.search(body) else data


def _representable(data: object) -> object:
    if isinstance(data, str):
        return _HALF_A_PAIR.sub("\ufffd", data)
    if isinstance(data, float) and not math.isfinite(data):
        return None
    if isinstance(data, list):
        return [_representable(item) for item in data]
    if isinstance(data, dict):
        return {_HALF_A_PAIR.sub("\ufffd", key): _representable(value) for key, value in data.items()}
    return data


def _failure(error: Exception, body: bytes, parse_body: Callable[[bytes], object]) -> DecodeError:
    if isinstance(error, ShapeError):
        path = f"${error.path}"
        return DecodeError(f"the answer does not fit at {path}: {error}", None, path)
    try:
        parse_body(body)
    except (ValueError, RecursionError):
        return DecodeError(_what_is_wrong_with(body))
    return DecodeError("the answer does not fit", None, "$")


def _what_is_wrong_with(body: bytes) -> str:
    start = body.lstrip()[:1]
    if not start:
        return "the answer is empty"
    return "the answer is no JSON, it looks like HTML" if start == b"<" else "the answer is no JSON, or cut off"


def _only(kind: type[T], value: object) -> T | None:
    return value if type(value) is kind else None


def _error_validation(data: object) -> ErrorValidation | None:
    if not isinstance(data, dict):
        return None
    return ErrorValidation(
        errors=_error_validation_items(data.get("errors")),
        warnings=_error_validation_items(data.get("warnings")),
    )


def _error_validation_items(data: object) -> tuple[ErrorValidationItem, ...]:
    return tuple(
        ErrorValidationItem(
            item_id=_only(str, item.get("itemId")),
            message=_only(str, item.get("message")),
            validator_name=_only(str, item.get("validatorName")),
        )
        for item in _only(list, data) or ()
        if isinstance(item, dict)
    )


@cache
def _reader(kind: Hashable) -> Read:
    from cattrs.errors import StructureHandlerNotFoundError  # noqa: PLC0415 - loaded by the first call, not the import

    try:
        return _converter().get_structure_hook(kind)
    except StructureHandlerNotFoundError:
        raise TypeError(f"{kind!r} is no type that an answer can be decoded to") from None


@cache
def _converter() -> "Converter":
    from cattrs import Converter  # noqa: PLC0415 - loaded by the first call, not the import

    converter = Converter()
    # The last that is registered is asked first, but for types that cattrs has a direct hook for.
    for is_meant, make in reversed(_READERS):
        converter.register_structure_hook_factory(is_meant, make)
    for primitive in (str, int, float, bool):
        converter.register_structure_hook(primitive, _read_primitive)
    converter.register_structure_hook(OpenEnum, lambda value, kind: kind(_read_primitive(value, str)))

    converter.register_unstructure_hook_func(_is_mapping, _plain_mapping)
    converter.register_unstructure_hook(float, _plain_float)
    converter.register_unstructure_hook(Genuine.datetime, _plain_time)
    converter.register_unstructure_hook(Genuine.date, Genuine.date.isoformat)
    converter.register_unstructure_hook(UUID, str)
    converter.register_unstructure_hook(Decimal, _plain_decimal)
    converter.register_unstructure_hook_func(_is_open_enum, lambda member: member.value)
    converter.register_unstructure_hook(type(UNSET), _plain_unset)
    converter.register_unstructure_hook_factory(is_model, lambda cls: model_writer(cls, converter.unstructure))
    return converter


def _read_primitive(value: object, kind: type) -> object:
    if type(value) is kind or (kind is float and type(value) is int):
        return value
    raise ShapeError(kind, value)


def _is_union(kind: object) -> bool:
    return alone_type(kind) not in {None, kind}


def _optional_reader(kind: object) -> Read:
    alone = alone_type(kind)
    read = _reader(alone)
    return lambda value, _: None if value is None else read(value, alone)


def _is_sequence(kind: object) -> bool:
    return kind is list or get_origin(kind) is list or (get_origin(kind) is tuple and get_args(kind)[1:] == (...,))


def _sequence_reader(kind: object) -> Read:
    make, item = cast("type", get_origin(kind) or kind), (get_args(kind) or (object,))[0]
    read_item = _reader(item)

    def read(values: object, _: object) -> object:
        if values is None or values == []:
            return make()
        if not isinstance(values, list):
            raise ShapeError(list, values)
        try:
            return make([read_item(value, item) for value in values])
        except ShapeError:
            _find_misfit(values, item, read_item)

    return read


def _find_misfit(values: list[object], item: object, read_item: Read) -> NoReturn:
    """Read again, counting this time: on the way that nearly always succeeds, it would cost."""
    for number, value in enumerate(values):
        try:
            read_item(value, item)
        except ShapeError as misfit:
            raise misfit.below(f"[{number}]") from None
    raise AssertionError("what did not fit before fits now")


def _is_mapping(kind: object) -> bool:
    kind = get_origin(kind) or kind
    return isinstance(kind, type) and issubclass(kind, Mapping) and not is_model(kind)


def _mapping_reader(kind: object) -> Read:
    item = (get_args(kind) or (str, object))[1]
    read_item = _reader(item)

    def read(values: object, _: object) -> dict[str, object]:
        if values is None:
            return {}
        if not isinstance(values, dict):
            raise ShapeError(dict, values)
        if item is object:
            return values
        try:
            return {key: read_item(value, item) for key, value in values.items()}
        except ShapeError as misfit:
            raise misfit.below(".*") from None  # the keys are part of what was answered

    return read


def _is_open_enum(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, OpenEnum)


# What reads a type, by what it is, the most specific first.
_READERS: tuple[tuple[Callable[[Any], bool], Callable[[Any], Read]], ...] = (
    (is_model, lambda cls: model_reader(cls, _reader)),
    (_is_mapping, _mapping_reader),
    (_is_sequence, _sequence_reader),
    (lambda kind: kind == LenientInt, lambda _: lambda value, _: read_loose_int(value)),
    (_is_union, _optional_reader),
    (lambda kind: genuine_type(kind) is Genuine.datetime, lambda _: lambda value, _: read_time(value)),
    (lambda kind: kind in {object, Any}, lambda _: lambda value, _: value),
)


def _plain_mapping(mapping: Mapping[object, object]) -> dict[object, object]:
    convert = _converter().unstructure
    return {key: convert(value) for key, value in mapping.items() if value is not UNSET}


def _plain_float(number: float) -> float:
    if not math.isfinite(number):
        raise ValueError("JSON has no NaN and no infinity")
    return number


def _plain_decimal(number: Decimal) -> orjson.Fragment:
    if not number.is_finite():
        raise ValueError("JSON has no NaN and no infinity")
    return orjson.Fragment(str(number))


def _plain_time(moment: datetime) -> str:
    text = moment.isoformat()
    return f"{text[:-6]}Z" if text.endswith("+00:00") else text


def _plain_unset(_: object) -> NoReturn:
    raise TypeError("UNSET leaves out a field or a key; there is nothing here to leave out")


def _with_long_integers(plain: object) -> object:
    if isinstance(plain, dict):
        return {key: _with_long_integers(value) for key, value in plain.items()}
    if isinstance(plain, (list, tuple)):
        return [_with_long_integers(value) for value in plain]
    if type(plain) is int and plain not in _INTEGERS:
        return orjson.Fragment(str(plain))
    return plain
