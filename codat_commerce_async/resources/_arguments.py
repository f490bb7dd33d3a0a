"""What arguments must look like; anything else is refused, by name, before a request is sent."""

import re
from collections.abc import Mapping
from datetime import datetime

from codat_commerce_async._caller import Query
from codat_commerce_async.models.enums import ConnectionStatus

__all__ = ["aware", "connection_status", "page_query", "platform_key", "texts"]

_PLATFORM_KEY = re.compile(r"[a-z]{4}", re.ASCII)
_LARGEST_PAGE = 5000


def platform_key(name: str, value: str) -> str:
    """The value, if it is a platform key."""
    if not isinstance(value, str):
        raise TypeError(f"{name} takes a string, not {type(value).__name__}")
    if not _PLATFORM_KEY.fullmatch(value):
        raise ValueError(f"{name} takes a platform's key, four lower-case letters such as 'gbol'")
    return value


def aware(name: str, value: datetime) -> datetime:
    """The value, if it is a moment in time and not just a clock's reading."""
    if not isinstance(value, datetime):
        raise TypeError(f"{name} takes a datetime, not {type(value).__name__}")
    if value.utcoffset() is None:
        raise ValueError(f"{name} takes a datetime with a time zone, such as datetime.now(UTC)")
    return value


def connection_status(name: str, value: ConnectionStatus | str) -> ConnectionStatus:
    """The value as a status that a connection can have."""
    if not isinstance(value, str):
        raise TypeError(f"{name} takes a ConnectionStatus, not {type(value).__name__}")
    status = ConnectionStatus(value)
    if not status.is_known:
        raise ValueError(f"{name} takes one of {', '.join(ConnectionStatus)}")
    return status


def texts(name: str, value: Mapping[str, str]) -> dict[str, str]:
    """A copy of the value, if it maps strings to strings."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} takes a mapping, not {type(value).__name__}")
    if not all(isinstance(key, str) and isinstance(text, str) for key, text in value.items()):
        raise TypeError(f"{name} takes a mapping of strings to strings")
    return dict(value)


def page_query(page: int | None, page_size: int | None, query: str | None, order_by: str | None) -> Query:
    """What a paged operation is asked with, as Codat names it."""
    _number("page", page, at_least=1)
    _number("page_size", page_size, at_least=1, at_most=_LARGEST_PAGE)
    for name, text in (("query", query), ("order_by", order_by)):
        if text is not None and not isinstance(text, str):
            raise TypeError(f"{name} takes a string, not {type(text).__name__}")
    return {"page": page, "pageSize": page_size, "query": query, "orderBy": order_by}


def _number(name: str, value: int | None, *, at_least: int, at_most: int | None = None) -> None:
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} takes a whole number, not {type(value).__name__}")
    if value < at_least or (at_most is not None and value > at_most):
        bounds = f"from {at_least} to {at_most}" if at_most else f"of at least {at_least}"
        raise ValueError(f"{name} takes a whole number {bounds}")
