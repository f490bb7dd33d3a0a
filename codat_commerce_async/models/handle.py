"""The handle of a requested sync: a plain value that survives a restart."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self, TypeVar

from attrs import Attribute, evolve, field, frozen

from codat_commerce_async._core.json_object import JsonObject
from codat_commerce_async._core.lazy import LazyModule
from codat_commerce_async._core.operation import check_id
from codat_commerce_async._core.validation import (
    as_utc,
    check_aware_datetime,
    check_instance,
    check_str,
    split_date_range,
)

if TYPE_CHECKING:
    import pydantic
    import pydantic_core

    from codat_commerce_async.models import _pydantic
else:
    pydantic = LazyModule("pydantic")
    pydantic_core = LazyModule("pydantic_core")
    _pydantic = LazyModule("codat_commerce_async.models._pydantic")

__all__ = ["SyncHandle"]

T = TypeVar("T")

HOW_TO_GET_A_HANDLE = (
    "use that of sync.start, or SyncHandle(company_id=..., sync_id=...), SyncHandle.from_json(text) or "
    "SyncHandle.from_token(token, company_id)"
)

_VERSION = 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# The fields of a token, in order; the version is before them. New ones are added at the end.
_TOKEN_FIELDS = (
    "commerce_sync_id",
    "sync_id",
    "requested_at",
    "sync_utc",
    "accepted_at",
    "adopted",
    "sync_to",
    "date_range",
)


def _check_company(_handle: object, attribute: "Attribute[str]", value: str) -> None:
    check_id(attribute.name, value)


def _check_id(_handle: object, attribute: "Attribute[str | None]", value: str | None) -> None:
    if value is not None:
        check_id(attribute.name, value)


def _check_key(_handle: object, attribute: "Attribute[str | None]", value: str | None) -> None:
    if value is not None:
        check_str(attribute.name, value)


def _requested_at_in_utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else check_aware_datetime("requested_at", moment)


def _sync_to_in_utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else check_aware_datetime("sync_to", moment)


def _accepted_at_in_utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else check_aware_datetime("accepted_at", moment)


def _sync_utc_in_utc(moment: datetime | None) -> datetime | None:
    """Return Codat's own time in UTC; one without a zone, or at the end of the calendar, stays as it was sent."""
    if moment is None:
        return None
    return moment if check_instance("sync_utc", moment, datetime).utcoffset() is None else as_utc(moment)


def _date_range_in_utc(period: tuple[datetime, datetime] | None) -> tuple[datetime, datetime] | None:
    if period is None:
        return None
    start, finish = split_date_range("date_range", period)
    return None if start is None or finish is None else (start, finish)


@frozen(kw_only=True)
class SyncHandle:
    """The identity of a sync, with which it can be polled later and by other processes.

    Either id may be unknown yet. Aware times are kept in UTC.

    With pydantic installed, a handle can be a field of its models, and FastAPI takes and returns it (as a parameter of
    its own with `Body()`): an object with `company_id` and `token`, which is what `to_token` returns. As in the token,
    the idempotency key is left out, so that callers of your API never see it; polling does not need it. Check that the
    caller may access `company_id`, as the token is not signed. Inside your system, store `to_json` to keep the key.

    Raises:
        ValueError: An id cannot be one, or a time has no time zone.
        TypeError: An id is no string, or a time is none.

    Example:
        ```python
        handle = await codat.sync.start(company_id)
        restored = SyncHandle.from_json(handle.to_json())
        assert restored == handle
        ```
    """

    company_id: str = field(validator=_check_company)
    """The id of the company."""

    commerce_sync_id: str | None = field(default=None, validator=_check_id)
    """The id in the response to the start request."""

    sync_id: str | None = field(default=None, validator=_check_id)
    """The id in the responses about the status."""

    requested_at: datetime | None = field(default=None, converter=_requested_at_in_utc)
    """When the sync was requested, by the server's clock where that is known; None if another client did."""

    sync_utc: datetime | None = field(default=None, converter=_sync_utc_in_utc)
    """The time that Codat gave the sync."""

    date_range: tuple[datetime, datetime] | None = field(default=None, converter=_date_range_in_utc)
    """The requested period."""

    sync_to: datetime | None = field(default=None, converter=_sync_to_in_utc)
    """The end of the requested period, if it is not the time of the request."""

    accepted_at: datetime | None = field(default=None, converter=_accepted_at_in_utc)
    """The latest time at which Codat may have accepted the request."""

    idempotency_key: str | None = field(default=None, validator=_check_key)
    """The key that the start was sent with."""

    adopted: bool = False
    """Whether a lookup found the sync and no response named it: another client may have started it."""

    @property
    def is_up_to_now(self) -> bool:
        """Whether the request named no period, so that any sync that began after it covers the same."""
        return self.date_range is None and self.sync_to is None

    def with_sync_id(self, sync_id: str, *, adopted: bool = False) -> Self:
        """Return the handle with the sync's id, and whether the sync was adopted.

        Args:
            sync_id: The id of the sync, from its status.
            adopted: Whether a lookup found the sync and no response named it.
        """
        return evolve(self, sync_id=sync_id, adopted=self.adopted or adopted)

    def to_json(self) -> str:
        """Return the handle as text, for `from_json` of this or a later version of the library."""
        return json.dumps(
            {
                "version": _VERSION,
                "company_id": self.company_id,
                "commerce_sync_id": self.commerce_sync_id,
                "sync_id": self.sync_id,
                "requested_at": self.requested_at.isoformat() if self.requested_at else None,
                "sync_utc": self.sync_utc.isoformat() if self.sync_utc else None,
                "date_range": [moment.isoformat() for moment in self.date_range] if self.date_range else None,
                "sync_to": self.sync_to.isoformat() if self.sync_to else None,
                "accepted_at": self.accepted_at.isoformat() if self.accepted_at else None,
                "idempotency_key": self.idempotency_key,
                "adopted": self.adopted,
            }
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Return the handle that `to_json` wrote; unknown fields are ignored.

        Args:
            text: The text that `to_json` returned.

        Raises:
            ValueError: The text is no handle.
        """
        data = JsonObject.parse("a sync handle", text)
        version = data.fields.get("version")
        if type(version) is not int or version != _VERSION:
            raise ValueError(f"version of a sync handle must be {_VERSION} (got {version!r:.60})")
        return cls(
            company_id=data.value("company_id", str),
            commerce_sync_id=data.optional("commerce_sync_id", str),
            sync_id=data.optional("sync_id", str),
            requested_at=_utc(data, "requested_at"),
            sync_utc=data.time("sync_utc"),
            date_range=_date_range(data),
            sync_to=data.time("sync_to"),
            accepted_at=_utc(data, "accepted_at"),
            idempotency_key=data.optional("idempotency_key", str),
            adopted=data.value("adopted", bool),
        )

    def to_token(self) -> str:
        """Return the handle as text for a URL, without the company's id and the idempotency key.

        The token is about 150 characters long. It is not signed: check that the caller may access the company.
        """
        values = [getattr(self, name) for name in _TOKEN_FIELDS]
        while values and not values[-1]:
            values.pop()
        written = json.dumps([_VERSION, *map(_token_value, values)], separators=(",", ":"))
        return base64.urlsafe_b64encode(written.encode()).decode().rstrip("=")

    @classmethod
    def from_token(cls, token: str, company_id: str) -> Self:
        """Return the handle of a company's sync from what `to_token` wrote; it has no idempotency key.

        Take `company_id` from the path of the request, after you have checked that the caller may access it.

        Args:
            token: The text that `to_token` returned.
            company_id: The id of the company, from the path of the request.

        Raises:
            ValueError: The text is no token.
        """
        given = _token_values(token)
        data = JsonObject("a sync token", dict(zip(_TOKEN_FIELDS, given, strict=False)))
        period = data.fields.get("date_range")
        return cls(
            company_id=company_id,
            commerce_sync_id=data.optional("commerce_sync_id", str),
            sync_id=data.optional("sync_id", str),
            requested_at=_token_time(data, "requested_at"),
            sync_utc=_token_time(data, "sync_utc"),
            accepted_at=_token_time(data, "accepted_at"),
            adopted=data.optional("adopted", bool) or False,
            sync_to=_token_time(data, "sync_to"),
            date_range=None if period is None else _token_range(period),
        )

    @classmethod
    def __get_pydantic_core_schema__(
        cls, _source: object, _handler: "pydantic.GetCoreSchemaHandler"
    ) -> "pydantic_core.CoreSchema":
        return _pydantic.handle_schema(cls)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: "pydantic_core.CoreSchema", handler: "pydantic.GetJsonSchemaHandler"
    ) -> dict[str, Any]:
        return _pydantic.first_line_json_schema(cls, schema, handler)


def as_handle(handle: SyncHandle | str, sync_id: str | None) -> SyncHandle:
    """Return the handle of a sync that is given by its handle, or by its company's id and its own."""
    if isinstance(handle, str) and sync_id is not None:
        return SyncHandle(company_id=handle, sync_id=sync_id)
    if isinstance(handle, str):
        raise TypeError(f"sync_id must be passed with a company id, or a SyncHandle alone; {HOW_TO_GET_A_HANDLE}")
    if sync_id is not None:
        raise TypeError("pass either a handle, or a company id and a sync id")
    return check_handle(handle)


def check_handle(handle: object) -> SyncHandle:
    """Return the value if it is a handle, else raise TypeError with how to get one."""
    if not isinstance(handle, SyncHandle):
        raise TypeError(f"handle must be a SyncHandle (got {type(handle).__name__}); {HOW_TO_GET_A_HANDLE}")
    return handle


def _token_value(value: object) -> object:
    if isinstance(value, tuple):
        return [_token_value(one) for one in value]
    if not isinstance(value, datetime):
        return value
    return (value - _EPOCH) // _MICROSECOND if value.tzinfo is UTC else value.isoformat()


def _token_values(token: str) -> list[object]:
    try:
        written = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        values = json.loads(written)
    except (TypeError, ValueError, RecursionError):
        values = None
    if not isinstance(values, list) or not values or type(values[0]) is not int or values[0] != _VERSION:
        raise ValueError(f"a sync token must be what `SyncHandle.to_token` returns, of version {_VERSION}")
    return values[1:]


def _token_time(data: JsonObject, name: str) -> datetime | None:
    """Return a time, which is written as microseconds since the epoch if it is in UTC."""
    value = data.fields.get(name)
    if value is None or isinstance(value, str):
        return data.time(name)
    if type(value) is not int:
        raise ValueError(f"{name} of a sync token must be a time")
    try:
        return _EPOCH + timedelta(microseconds=value)
    except OverflowError:
        raise ValueError(f"{name} of a sync token must be within the calendar") from None


def _token_range(value: object) -> tuple[datetime, datetime]:
    items = value if isinstance(value, list) else []
    moments = [_token_time(JsonObject("a sync token", {"date_range": item}), "date_range") for item in items]
    match moments:
        case [datetime() as start, datetime() as finish]:
            return start, finish
        case _:
            raise ValueError("date_range of a sync token must be two times")


def _utc(data: JsonObject, name: str) -> datetime | None:
    moment = data.time(name)
    if moment is None:
        return None
    if moment.utcoffset() is None:
        raise ValueError(f"{name} of a sync handle must have a time zone")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{name} of a sync handle must be within the calendar in UTC") from None


def _date_range(data: JsonObject) -> tuple[datetime, datetime] | None:
    match data.times("date_range"):
        case None:
            return None
        case (start, finish):
            return start, finish
        case _:
            raise ValueError("date_range of a sync handle must be two times")
