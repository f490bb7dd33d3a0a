"""The diagnosis of a failed sync: the cause, who has to act, what to do, and what shows it.

These are values only: `_conclude.py` finds them, by the rules of `models/failure_rules.py`.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from attrs import fields, frozen

from codat_commerce_async._core.json_object import JsonObject
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
        return cls._from_object(JsonObject("a diagnosis", data))

    @classmethod
    def _from_object(cls, data: JsonObject) -> Self:
        return cls(
            company_id=data.value("company_id", str),
            sync_id=data.optional("sync_id", str),
            code=data.optional("code", int),
            cause=_cause(data.value("cause", str)),
            summary=data.value("summary", str),
            actions=tuple(map(_action, data.objects("actions"))),
            retry=_member(Retry, data, "retry"),
            retry_at=data.time("retry_at"),
            evidence=tuple(map(_evidence, data.objects("evidence"))),
            unchecked=tuple(data.values("unchecked", str)),
            requests=data.value("requests", int),
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
        return cls._from_object(JsonObject.parse("a diagnosis", text))


def _to_json(value: object) -> object:
    if isinstance(value, Diagnosis | Action | Evidence | ItemProblem):
        return {each.name: _to_json(getattr(value, each.name)) for each in fields(type(value))}
    if isinstance(value, tuple):
        return [_to_json(each) for each in cast("tuple[object, ...]", value)]
    if isinstance(value, Enum):
        return value.value
    return value.isoformat() if isinstance(value, datetime) else value


def _action(data: JsonObject) -> Action:
    return Action(
        resolver=_member(Resolver, data, "resolver"),
        text=data.value("text", str),
        path=data.optional("path", str),
    )


def _evidence(data: JsonObject) -> Evidence:
    return Evidence(
        kind=data.value("kind", str),
        id=data.optional("id", str),
        status=data.optional("status", str),
        message=data.optional("message", str),
        data_type=data.optional("data_type", str),
        requested_at=data.time("requested_at"),
        completed_at=data.time("completed_at"),
        items=tuple(map(_item, data.objects("items"))),
    )


def _item(data: JsonObject) -> ItemProblem:
    return ItemProblem(**{each.name: data.optional(each.name, str) for each in fields(ItemProblem)})


def _cause(text: str) -> FailureCause:
    """Return the cause; one of a later version is unknown here."""
    return next((cause for cause in FailureCause if cause == text), FailureCause.UNKNOWN)


def _member(kind: type[E], data: JsonObject, name: str) -> E:
    text = data.value(name, str)
    if text not in [member.value for member in kind]:
        raise ValueError(f"{name} of {data.what} must be one of {', '.join(m.value for m in kind)} (got {text!r})")
    return kind(text)
