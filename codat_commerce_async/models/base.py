"""Base classes of the models: conversion to and from Codat's JSON, and the data that fields do not hold."""

from abc import ABCMeta
from collections.abc import KeysView, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NoReturn, Self, TypeAlias

from attrs import field, frozen

from codat_commerce_async._core.lazy import LazyModule
from codat_commerce_async.errors import DecodeError
from codat_commerce_async.models._original_types import restore_annotations

if TYPE_CHECKING:
    import pydantic
    import pydantic_core

    from codat_commerce_async._core import codec as _codec
    from codat_commerce_async.models import _pydantic
else:
    pydantic = LazyModule("pydantic")
    pydantic_core = LazyModule("pydantic_core")
    _codec = LazyModule("codat_commerce_async._core.codec")
    _pydantic = LazyModule("codat_commerce_async.models._pydantic")

__all__ = ["UNSET", "LenientInt", "LenientModel", "Model", "PreservesUnknownFields", "Unset"]


class _Unset(Enum):
    UNSET = "UNSET"

    def __bool__(self) -> Literal[False]:
        return False

    def __repr__(self) -> str:
        return "UNSET"


Unset: TypeAlias = Literal[_Unset.UNSET]
UNSET: Final = _Unset.UNSET
"""The value of a field that is not sent; None is sent as null."""

LenientInt: TypeAlias = Annotated[int, "or text that begins with it"]
"""A number that Codat also sends as text, like the `"4200,"` in its own examples."""


# Models have no slots: attrs fills those of a frozen class through `object.__setattr__`, and decoding a page then takes
# an eighth longer. A model is 100 bytes larger for it.
class Model:
    """The base class of everything that Codat sends or accepts.

    `to_dict` and `from_dict` are Codat's JSON, and so is `dict(model)`. With pydantic installed, models can be fields
    of its models, and FastAPI takes and returns them; their schema has Codat's names.
    """

    __slots__ = ()

    def __init_subclass__(cls, **arguments: object) -> None:
        super().__init_subclass__(**arguments)
        restore_annotations(cls)

    def to_dict(self) -> dict[str, object]:
        """Return the model as Codat's JSON: names in camelCase, times as text, no keys for fields that are UNSET."""
        return _codec.to_values(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Self:
        """Return the model that Codat's JSON describes, read as leniently as a response.

        Values may be those of Python, such as a `datetime`; unknown keys are ignored, or kept in `extra`.

        Args:
            data: The parsed JSON, as `to_dict` returns it.

        Raises:
            ValueError: The data does not fit.
            TypeError: JSON cannot represent a value.
        """
        if not isinstance(data, Mapping):
            raise TypeError(f"data must be a mapping (got {type(data).__name__})")
        try:
            return _codec.from_values(data, cls)
        except DecodeError as error:
            message = f"data does not fit {cls.__name__} at {error.path}: {error.message}"
        raise ValueError(message)

    # `keys` and `__getitem__` support `dict(model)` and `{**model}`. Models are registered as mappings below, because
    # FastAPI accepts only such parameters for bodies; but they cannot be iterated and are always true.

    def keys(self) -> KeysView[str]:
        """Return the keys of `to_dict`."""
        return self.to_dict().keys()

    def __getitem__(self, key: str) -> object:
        return self.to_dict()[key]

    if not TYPE_CHECKING:  # type checkers have to reject `for connection in page`

        def get(self, key: str, default: object = None) -> object:
            """Return the value of `to_dict` under a key, for `match`."""
            return self.to_dict().get(key, default)

        def __contains__(self, key: object) -> bool:
            return key in self.to_dict()

        def __len__(self) -> int:
            return len(self.to_dict())

        def __bool__(self) -> bool:
            return True

        def __iter__(self) -> NoReturn:
            raise TypeError(f"{type(self).__name__} is not iterable; its fields are, such as the results of a page")

    @classmethod
    def __get_pydantic_core_schema__(
        cls, _source: object, handler: "pydantic.GetCoreSchemaHandler"
    ) -> "pydantic_core.CoreSchema":
        return _pydantic.model_schema(cls, handler)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: "pydantic_core.CoreSchema", handler: "pydantic.GetJsonSchemaHandler"
    ) -> dict[str, Any]:
        return _pydantic.model_json_schema(cls, schema, handler)


_register: Any = ABCMeta.register  # type checkers do not see that Mapping is an ABCMeta
_register(Mapping, Model)


class Received(tuple[tuple[str, str], ...]):  # noqa: SLOT001 - a tuple can have attributes only without
    """The unparsed texts of a model, together with the JSON that it was structured from.

    The JSON is not compared and not in the repr, and is copied with the field that holds it.
    """

    data: Mapping[str, object]
    values: tuple[object, ...]

    @classmethod
    def of(
        cls, unparsed: tuple[tuple[str, str], ...], data: Mapping[str, object], values: tuple[object, ...]
    ) -> "Received":
        """Return the texts with the parsed JSON and the values of the fields, in the order of the fields."""
        received = cls(unparsed)
        received.data, received.values = data, values
        return received


@frozen(kw_only=True, slots=False)
class LenientModel(Model):
    """A model that is read even if a text in it is not a time.

    A time is an aware `datetime` if Codat sends a time zone, otherwise a naive one (local to the merchant). It is
    truncated to microseconds, and None for Codat's "never" (`0001-01-01T00:00:00`). A text that is not a time becomes
    None too; `unparsed` has the field's name and the text.
    Source: https://docs.codat.io/using-the-api/queueing-data-syncs
    """

    unparsed: tuple[tuple[str, str], ...] = field(default=(), repr=False, metadata={"key": None})
    """The names of fields whose text could not be parsed, each with its text."""


@frozen(kw_only=True, slots=False)
class PreservesUnknownFields(LenientModel):
    """A model that can be read, changed (`attrs.evolve`) and written back without losing unknown fields.

    `extra` contains the keys that have no field here, with their values as parsed JSON. The model also keeps the JSON
    that it was structured from (in `unparsed`), so unchanged parts are sent as they were received: the order of keys,
    unknown keys, null or missing, a time with all its digits. Only changed fields are encoded again.
    """

    extra: Mapping[str, object] = field(factory=dict[str, object], repr=False, hash=False, metadata={"key": None})
    """The keys of the JSON that have no field, with their values."""
