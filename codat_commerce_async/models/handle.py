"""The handle of a requested sync: a plain value that survives a restart."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self, TypeVar

from attrs import Attribute, evolve, field, frozen

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
        fields = _fields(text)
        if type(fields.get("version")) is not int or fields["version"] != _VERSION:
            raise ValueError(f"version of a sync handle must be {_VERSION}")
        return cls(
            company_id=_value(fields, "company_id", str),
            commerce_sync_id=_value_or_none(fields, "commerce_sync_id", str),
            sync_id=_value_or_none(fields, "sync_id", str),
            requested_at=_utc(fields, "requested_at"),
            sync_utc=_time("sync_utc", fields["sync_utc"]) if fields.get("sync_utc") is not None else None,
            date_range=_date_range(fields.get("date_range")),
            sync_to=_time("sync_to", fields["sync_to"]) if fields.get("sync_to") is not None else None,
            accepted_at=_utc(fields, "accepted_at"),
            idempotency_key=_value_or_none(fields, "idempotency_key", str),
            adopted=_value(fields, "adopted", bool),
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
        fields: dict[str, object] = dict(zip(_TOKEN_FIELDS, given, strict=False))
        period = fields.get("date_range")
        return cls(
            company_id=company_id,
            commerce_sync_id=_value_or_none(fields, "commerce_sync_id", str),
            sync_id=_value_or_none(fields, "sync_id", str),
            requested_at=_token_time("requested_at", fields.get("requested_at")),
            sync_utc=_token_time("sync_utc", fields.get("sync_utc")),
            accepted_at=_token_time("accepted_at", fields.get("accepted_at")),
            adopted=_value_or_none(fields, "adopted", bool) or False,
            sync_to=_token_time("sync_to", fields.get("sync_to")),
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


def _token_time(name: str, value: object) -> datetime | None:
    if value is None or isinstance(value, str):
        return None if value is None else _time(name, value)
    if type(value) is not int:
        raise ValueError(f"{name} of a sync token must be a time")
    try:
        return _EPOCH + timedelta(microseconds=value)
    except OverflowError:
        raise ValueError(f"{name} of a sync token must be within the calendar") from None


def _token_range(value: object) -> tuple[datetime, datetime]:
    moments = [_token_time("date_range", one) for one in value] if isinstance(value, list) else []
    match moments:
        case [datetime() as start, datetime() as finish]:
            return start, finish
        case _:
            raise ValueError("date_range of a sync token must be two times")


def _fields(text: str | bytes) -> dict[str, object]:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("a sync handle must be JSON") from None
    if not isinstance(fields, dict):
        raise ValueError("a sync handle must be a JSON object")  # noqa: TRY004 - the text is wrong
    return fields


def _value(fields: dict[str, object], name: str, kind: type[T]) -> T:
    value = fields.get(name)
    if type(value) is not kind:
        raise ValueError(f"{name} of a sync handle must be a {kind.__name__} (got {type(value).__name__})")
    return value


def _value_or_none(fields: dict[str, object], name: str, kind: type[T]) -> T | None:
    return None if fields.get(name) is None else _value(fields, name, kind)


def _utc(fields: dict[str, object], name: str) -> datetime | None:
    if fields.get(name) is None:
        return None
    moment = _time(name, fields[name])
    if moment.utcoffset() is None:
        raise ValueError(f"{name} of a sync handle must have a time zone")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{name} of a sync handle must be within the calendar in UTC") from None


def _date_range(value: object) -> tuple[datetime, datetime] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2:  # noqa: PLR2004 - a start and a finish
        raise ValueError("date_range of a sync handle must be two times")
    return _time("date_range", value[0]), _time("date_range", value[1])


def _time(name: str, value: object) -> datetime:
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            pass
    raise ValueError(f"{name} of a sync handle must be a time in ISO 8601 format")
