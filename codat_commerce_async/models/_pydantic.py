"""Pydantic schemas of the models: validation, serialization and JSON schema.

Only imported through the methods that pydantic calls. The library's codec validates and serializes the models; the
schemas describe the same JSON, for OpenAPI.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from enum import Enum
from functools import partial
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    Protocol,
    Self,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import attrs
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, ValidationError, core_schema

from codat_commerce_async._core.lazy import LazyModule
from codat_commerce_async.errors import DecodeError
from codat_commerce_async.models._fields import fields, preserves_unknown

if TYPE_CHECKING:
    from codat_commerce_async._core import codec as _codec
else:
    _codec = LazyModule("codat_commerce_async._core.codec")

__all__ = [
    "enum_json_schema",
    "enum_schema",
    "first_line_json_schema",
    "handle_schema",
    "model_json_schema",
    "model_schema",
    "value_schema",
]

T = TypeVar("T")

_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]")

_PLAIN: Mapping[object, Callable[[], CoreSchema]] = {
    str: core_schema.str_schema,
    int: core_schema.int_schema,
    float: core_schema.float_schema,
    bool: core_schema.bool_schema,
}


class _Writes(Protocol):
    def to_dict(self) -> dict[str, object]: ...


class _Handle(Protocol):
    @property
    def company_id(self) -> str: ...

    def to_token(self) -> str: ...

    @classmethod
    def from_token(cls, token: str, company_id: str) -> Self: ...


def model_schema(cls: type[_Writes], handler: GetCoreSchemaHandler) -> CoreSchema:
    """Return the schema of a model, which the codec validates and serializes."""
    return core_schema.no_info_wrap_validator_function(
        partial(_checked, cls),
        _shape_of(cls, handler),
        ref=_reference(cls),
        serialization=core_schema.plain_serializer_function_ser_schema(_written),
    )


def model_json_schema(cls: type, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
    """Return the JSON schema of a model, with its name and its docstring."""
    return _titled(cls, schema, handler, inspect.cleandoc(cls.__doc__ or ""))


def enum_schema(cls: type[Enum]) -> CoreSchema:
    """Return the schema of an open enumeration: any text."""
    return core_schema.no_info_after_validator_function(
        cls,
        core_schema.str_schema(),
        ref=_reference(cls),
        serialization=core_schema.plain_serializer_function_ser_schema(str),
    )


def enum_json_schema(cls: type[Enum], schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
    """Return the JSON schema of an open enumeration: text, with the known values as examples."""
    shown = handler(schema)
    described = handler.resolve_ref_schema(shown)
    described["title"] = cls.__name__
    described["description"] = inspect.cleandoc(cls.__doc__ or "")
    described["examples"] = [member.value for member in cls]
    return shown


def value_schema(
    cls: type[T],
    handler: GetCoreSchemaHandler,
    to_dict: Callable[[T], Mapping[str, object]],
    from_dict: Callable[[Mapping[str, object]], T],
    **computed: object,
) -> CoreSchema:
    """Return the schema of a value that `to_dict` writes and `from_dict` reads; it raises ValueError.

    The keys are the names of its fields, and of properties that are only written. `computed` has the types of these,
    and of fields whose JSON has another type.
    """
    return core_schema.no_info_wrap_validator_function(
        partial(_read_value, cls, from_dict),
        _shape_of_value(cls, handler, computed),
        ref=_reference(cls),
        serialization=core_schema.plain_serializer_function_ser_schema(to_dict),
    )


def _read_value(cls: type[T], from_dict: Callable[[Mapping[str, object]], T], value: object, _read: object) -> T:
    if isinstance(value, cls):
        return value
    if not isinstance(value, Mapping):
        raise ValueError(f"must be an object (got {type(value).__name__})")  # noqa: TRY004 - pydantic expects it
    return from_dict(value)


def _shape_of_value(cls: type, handler: GetCoreSchemaHandler, computed: Mapping[str, object] = {}) -> CoreSchema:
    hints = get_type_hints(cls)
    kinds = {field.name: hints[field.name] for field in attrs.fields(cls)} | dict(computed)
    required = {name for name, kind in kinds.items() if NoneType not in get_args(kind)} - set(computed)
    return core_schema.typed_dict_schema(
        {
            name: core_schema.typed_dict_field(_schema_of(kind, handler), required=name in required)
            for name, kind in kinds.items()
        }
    )


def handle_schema(cls: type[_Handle]) -> CoreSchema:
    """Return the schema of a handle: an object with the company's id and the token, which has no idempotency key."""
    text = core_schema.typed_dict_field(core_schema.str_schema(strict=True))
    return core_schema.no_info_wrap_validator_function(
        partial(_read_handle, cls),
        core_schema.typed_dict_schema({"company_id": text, "token": text}),
        ref=_reference(cls),
        serialization=core_schema.plain_serializer_function_ser_schema(_written_handle),
    )


def first_line_json_schema(cls: type, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
    """Return the JSON schema of a class, with its name and the first line of its docstring."""
    return _titled(cls, schema, handler, inspect.cleandoc(cls.__doc__ or "").partition("\n")[0])


def _titled(cls: type, schema: CoreSchema, handler: GetJsonSchemaHandler, description: str) -> dict[str, Any]:
    shown = handler(schema)
    described = handler.resolve_ref_schema(shown)
    described["title"] = cls.__name__
    described["description"] = description
    return shown


def _written_handle(handle: _Handle) -> dict[str, str]:
    return {"company_id": handle.company_id, "token": handle.to_token()}


def _read_handle(cls: type[_Handle], value: object, read: Callable[[object], Mapping[str, str]]) -> _Handle:
    if isinstance(value, cls):
        return value
    given = read(value)
    return cls.from_token(given["token"], given["company_id"])


def _reference(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}:{id(cls)}"


def _written(model: _Writes) -> dict[str, object]:
    return model.to_dict()


def _checked(cls: type[_Writes], value: object, _read: object) -> object:
    if isinstance(value, cls):
        return value
    try:
        return _codec.from_values(value, cls)
    except DecodeError as error:
        raise _failure(cls, error.message, _location(error.path or ""), value) from None
    except TypeError as error:
        raise _failure(cls, str(error), (), value) from None


def _failure(cls: type, reason: str, location: tuple[str | int, ...], value: object) -> ValidationError:
    fault = PydanticCustomError("codat_model", "{reason}", {"reason": reason})
    return ValidationError.from_exception_data(cls.__name__, [InitErrorDetails(type=fault, loc=location, input=value)])


def _location(path: str) -> tuple[str | int, ...]:
    return tuple(int(number) if number else name for name, number in _STEP.findall(path))


def _shape_of(cls: type, handler: GetCoreSchemaHandler) -> CoreSchema:
    described = fields(cls)
    if Mapping in cls.__mro__:  # LocalizationInfo: its only field is the whole object
        return _schema_of(described[0].kind, handler)
    return core_schema.typed_dict_schema(
        {
            field.key: core_schema.typed_dict_field(_schema_of(field.kind, handler), required=field.default is None)
            for field in described
        },
        extra_behavior="allow" if preserves_unknown(cls) else "ignore",
    )


def _schema_of(kind: object, handler: GetCoreSchemaHandler) -> CoreSchema:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in {Union, UnionType}:
        return _schema_of_union(arguments, handler)
    if origin is Annotated:
        return _schema_of(arguments[0], handler)
    if origin in {tuple, list}:
        return core_schema.list_schema(_schema_of(arguments[0], handler))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return core_schema.dict_schema(core_schema.str_schema(), _schema_of(arguments[1], handler))
    if kind in {object, Any} or isinstance(kind, TypeVar):
        return core_schema.any_schema()
    return _schema_of_class(kind, handler)


def _schema_of_union(arguments: tuple[object, ...], handler: GetCoreSchemaHandler) -> CoreSchema:
    rest = [one for one in arguments if one is not NoneType and get_origin(one) is not Literal]
    schema = _schema_of(rest[0], handler) if len(rest) == 1 else core_schema.any_schema()
    return core_schema.nullable_schema(schema) if NoneType in arguments else schema


def _schema_of_class(kind: Any, handler: GetCoreSchemaHandler) -> CoreSchema:  # noqa: ANN401 - any type
    if kind in _PLAIN:
        return _PLAIN[kind]()
    if issubclass(kind, datetime):
        return core_schema.datetime_schema()
    if attrs.has(kind) and not hasattr(kind, "__get_pydantic_core_schema__"):
        return _shape_of_value(kind, handler)
    return core_schema.date_schema() if issubclass(kind, date) else handler.generate_schema(kind)
