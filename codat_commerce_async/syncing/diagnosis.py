"""The diagnosis of a failed sync: the cause, who has to act, what to do, and what shows it.

These are values only: `_conclude.py` finds them, by the rules of `models/failure_rules.py`.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from attrs import fields, frozen

from codat_commerce_async._core.lazy import LazyModule
from codat_commerce_async.models.causes import FailureCause
from codat_commerce_async.models.failure_rules import Resolver, Retry

if TYPE_CHECKING:
    import pydantic
    import pydantic_core

    from codat_commerce_async.models import _pydantic
else:
    pydantic = LazyModule("pydantic")
    pydantic_core = LazyModule("pydantic_core")
    _pydantic = LazyModule("codat_commerce_async.models._pydantic")

__all__ = ["Action", "Diagnosis", "Evidence", "FailureCause", "ItemProblem", "Resolver", "Retry"]

T = TypeVar("T")
E = TypeVar("E", bound=Enum)


@frozen(kw_only=True)
class Action:
    """One step towards a successful sync."""

    resolver: Resolver
    """Who has to act."""

    text: str
    """What to do."""

    path: str | None = None
    """The path of the setting in the JSON of the configuration."""

    def __str__(self) -> str:
        return f"{self.resolver}: {self.text}"


@frozen(kw_only=True)
class ItemProblem:
    """A validation error of one item, as a push operation reports it."""

    item_id: str | None = None
    """The item that was refused."""

    message: str | None = None
    """Why it was refused."""

    validator_name: str | None = None
    """The check that refused it."""


@frozen(kw_only=True)
class Evidence:
    """A finding at Codat that supports the diagnosis.

    Its kind is `status`, `error`, `connection`, `configuration`, `push_operation`, `pull_operation` or `sync`. Times
    are as Codat sent them.
    """

    kind: str
    """The kind of finding, such as `connection` or `push_operation`."""

    id: str | None = None
    """The id of what was found, or the path of the setting."""

    status: str | None = None
    """Its status."""

    message: str | None = None
    """Its message."""

    data_type: str | None = None
    """Its data type."""

    requested_at: datetime | None = None
    """When it was requested."""

    completed_at: datetime | None = None
    """When it ended."""

    items: tuple[ItemProblem, ...] = ()
    """The validation errors of a push operation."""


@frozen(kw_only=True)
class Diagnosis:
    """Why a sync failed, and who has to do what.

    With pydantic installed, it can be a field of its models, and FastAPI returns it as the JSON of `to_dict`.
    """

    company_id: str
    """The id of the company."""

    sync_id: str | None = None
    """The id of the sync."""

    code: int | None = None
    """The status code; None if the sync has no status."""

    cause: FailureCause
    """The cause, as a stable word."""

    summary: str
    """The cause in one sentence."""

    actions: tuple[Action, ...] = ()
    """Who has to do what, in order."""

    retry: Retry = Retry.AFTER_ACTION
    """When a new sync can succeed."""

    retry_at: datetime | None = None
    """The time at which a new sync can succeed, where it is known."""

    evidence: tuple[Evidence, ...] = ()
    """What supports the diagnosis."""

    unchecked: tuple[str, ...] = ()
    """What could not be requested or was truncated; the diagnosis does not consider it."""

    requests: int = 0
    """How many requests the diagnosis took."""

    @property
    def resolver(self) -> Resolver:
        """Who has to act first; other actions may have other resolvers."""
        return self.actions[0].resolver if self.actions else Resolver.NOBODY

    @property
    def resolvers(self) -> tuple[Resolver, ...]:
        """All who have to act, in the order of the actions."""
        return tuple(dict.fromkeys(action.resolver for action in self.actions)) or (Resolver.NOBODY,)

    def __str__(self) -> str:
        return f"{self.cause} ({self.resolver}): {self.summary}"

    def to_dict(self) -> dict[str, object]:
        """Return the diagnosis as JSON values, for `from_dict` of this or a later version of the library."""
        return {**cast("dict[str, object]", _to_json(self)), "resolver": self.resolver.value}

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Self:
        """Return the diagnosis that `to_dict` wrote; unknown keys are ignored.

        Args:
            data: What `to_dict` returned.

        Raises:
            ValueError: The data is no diagnosis.
        """
        return cls(
            company_id=_required(data, "company_id", str),
            sync_id=_optional(data, "sync_id", str),
            code=_optional(data, "code", int),
            cause=_cause(_required(data, "cause", str)),
            summary=_required(data, "summary", str),
            actions=tuple(map(_action, _objects(data, "actions"))),
            retry=_member(Retry, data, "retry"),
            retry_at=_time(data, "retry_at"),
            evidence=tuple(map(_evidence, _objects(data, "evidence"))),
            unchecked=tuple(_list(data, "unchecked", str)),
            requests=_required(data, "requests", int),
        )

    @classmethod
    def __get_pydantic_core_schema__(
        cls, _source: object, handler: "pydantic.GetCoreSchemaHandler"
    ) -> "pydantic_core.CoreSchema":
        return _pydantic.value_schema(cls, handler, cls.to_dict, cls.from_dict, resolver=Resolver)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: "pydantic_core.CoreSchema", handler: "pydantic.GetJsonSchemaHandler"
    ) -> dict[str, Any]:
        return _pydantic.first_line_json_schema(cls, schema, handler)

    def to_json(self) -> str:
        """Return the diagnosis as text, for `from_json`."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Return the diagnosis that `to_json` wrote; raise ValueError for anything else.

        Args:
            text: The text that `to_json` returned.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            raise ValueError("a diagnosis must be JSON") from None
        if not isinstance(data, dict):
            raise ValueError("a diagnosis must be a JSON object")  # noqa: TRY004 - the text is wrong
        return cls.from_dict(data)


def _to_json(value: object) -> object:
    if isinstance(value, Diagnosis | Action | Evidence | ItemProblem):
        return {each.name: _to_json(getattr(value, each.name)) for each in fields(type(value))}
    if isinstance(value, tuple):
        return [_to_json(each) for each in cast("tuple[object, ...]", value)]
    if isinstance(value, Enum):
        return value.value
    return value.isoformat() if isinstance(value, datetime) else value


def _action(data: Mapping[str, object]) -> Action:
    return Action(
        resolver=_member(Resolver, data, "resolver"),
        text=_required(data, "text", str),
        path=_optional(data, "path", str),
    )


def _evidence(data: Mapping[str, object]) -> Evidence:
    return Evidence(
        kind=_required(data, "kind", str),
        id=_optional(data, "id", str),
        status=_optional(data, "status", str),
        message=_optional(data, "message", str),
        data_type=_optional(data, "data_type", str),
        requested_at=_time(data, "requested_at"),
        completed_at=_time(data, "completed_at"),
        items=tuple(map(_item, _objects(data, "items"))),
    )


def _item(data: Mapping[str, object]) -> ItemProblem:
    return ItemProblem(**{each.name: _optional(data, each.name, str) for each in fields(ItemProblem)})


def _cause(text: str) -> FailureCause:
    """Return the cause; one of a later version is unknown here."""
    return next((cause for cause in FailureCause if cause == text), FailureCause.UNKNOWN)


def _member(kind: type[E], data: Mapping[str, object], name: str) -> E:
    text = _required(data, name, str)
    if text not in [member.value for member in kind]:
        raise ValueError(f"{name} of a diagnosis must be one of {', '.join(m.value for m in kind)} (got {text!r})")
    return kind(text)


def _required(data: Mapping[str, object], name: str, kind: type[T]) -> T:
    value = data.get(name)
    if type(value) is not kind:
        raise ValueError(f"{name} of a diagnosis must be {kind.__name__} (got {type(value).__name__})")
    return value


def _optional(data: Mapping[str, object], name: str, kind: type[T]) -> T | None:
    return None if data.get(name) is None else _required(data, name, kind)


def _list(data: Mapping[str, object], name: str, kind: type[T]) -> list[T]:
    values: list[object] = _required(data, name, list)
    if not all(isinstance(value, kind) for value in values):
        raise ValueError(f"{name} of a diagnosis must be a list of {kind.__name__}")
    return cast("list[T]", values)


def _objects(data: Mapping[str, object], name: str) -> list[dict[str, object]]:
    return _list(data, name, dict)


def _time(data: Mapping[str, object], name: str) -> datetime | None:
    text = _optional(data, name, str)
    try:
        return None if text is None else datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{name} of a diagnosis must be a time in ISO 8601 format (got {text!r})") from None
