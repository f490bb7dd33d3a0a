"""What arguments must look like; anything else is refused, by name, before a request is sent."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from codat_commerce_async._core.numbers import check_number, require
from codat_commerce_async._core.request import Query
from codat_commerce_async.models.enums import ConnectionStatus, Locale
from codat_commerce_async.models.sync_flow import Localization
from codat_commerce_async.policies import PollOptions, PollPolicy

__all__ = [
    "check_wait",
    "company_name",
    "connection_status",
    "in_utc",
    "locale",
    "localizations",
    "page_query",
    "period",
    "platform_key",
    "query_text",
    "strings",
    "tags",
    "text",
    "texts",
]

_PLATFORM_KEY = re.compile(r"[a-z]{4}", re.ASCII)
_LARGEST_PAGE = 5000
# As the specification of create-company has it.
_COMPANY_NAME = re.compile(r"[A-Za-z0-9\s\-',&@.?!]+", re.ASCII)
_MOST_TAGS = 10
_LONGEST_TAG_NAME = 27
_LONGEST_TAG_VALUE = 100


def platform_key(name: str, value: str) -> str:
    """The value, if it is a platform key."""
    if not isinstance(value, str):
        raise TypeError(f"{name} takes a string, not {type(value).__name__}")
    if not _PLATFORM_KEY.fullmatch(value):
        raise ValueError(f"{name} takes a platform's key, four lower-case letters such as 'gbol'")
    return value


def text(name: str, value: str) -> str:
    """The value, if it is a string."""
    if not isinstance(value, str):
        raise TypeError(f"{name} takes a string, not {type(value).__name__}")
    return value


def query_text(name: str, value: str | None) -> str | None:
    """The value, if it is None or a string that a URL can hold."""
    if value is not None and any("\ud800" <= character <= "\udfff" for character in text(name, value)):
        raise ValueError(f"{name} takes text without lone surrogates")
    return value


def check_wait(method: str, timeout: float | None, poll: PollPolicy | None, options: PollOptions) -> None:
    """Raise for what a wait cannot go by."""
    unknown = options.keys() - PollOptions.__annotations__.keys()
    if unknown:
        raise TypeError(f"{method} takes no {', '.join(sorted(unknown))}")
    if timeout is not None:
        check_number("timeout", timeout)
        require(timeout >= 0, "timeout", "seconds, 0 or more, or None")
    if poll is not None and not isinstance(poll, PollPolicy):
        raise TypeError(f"poll takes a PollPolicy, not {type(poll).__name__}")


def period(name: str, value: tuple[datetime, datetime] | None) -> tuple[datetime | None, datetime | None]:
    """The value's start and finish, both None for no period; whether they are moments is seen later."""
    if value is None:
        return None, None
    if not isinstance(value, tuple | list) or len(value) != 2:  # noqa: PLR2004 - a start and a finish
        raise TypeError(f"{name} takes a pair of datetimes, the start and the finish")
    return value[0], value[1]


def company_name(name: str, value: str) -> str:
    """The value, if Codat takes it as a company's name."""
    if not _COMPANY_NAME.fullmatch(text(name, value)) or not value.strip():
        raise ValueError(f"{name} takes letters A to Z, digits, spaces and - ' , & @ . ? !, and at least one of them")
    return value


def tags(name: str, value: Mapping[str, str]) -> dict[str, str]:
    """A copy of the value, if Codat takes it as a company's tags."""
    copy = texts(name, value)
    if len(copy) > _MOST_TAGS:
        raise ValueError(f"{name} takes up to {_MOST_TAGS} tags, not {len(copy)}")
    for tag, content in copy.items():
        if not 1 <= len(tag) <= _LONGEST_TAG_NAME:
            raise ValueError(f"{name} takes names of 1 to {_LONGEST_TAG_NAME} characters")
        if len(content) > _LONGEST_TAG_VALUE:
            raise ValueError(f"{name} takes values of up to {_LONGEST_TAG_VALUE} characters")
    return copy


def locale(name: str, value: Locale | str) -> str:
    """The value, if the Sync flow has texts in that language."""
    if not Locale(text(name, value)).is_known:
        raise ValueError(f"{name} takes one of {', '.join(Locale)}")
    return str(value)


def localizations(name: str, value: Mapping[str, str | Localization | None]) -> dict[str, object]:
    """The value as Codat takes texts, null among them."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise TypeError(f"{name} takes a mapping from the texts' keys")
    return {key: _localization(f"{name}[{key!r}]", one) for key, one in value.items()}


def _localization(name: str, value: str | Localization | None) -> object:
    if isinstance(value, Localization):
        return value
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name} takes a string, or None for Codat's own text, not {type(value).__name__}")
    return {"text": value}


def strings(name: str, value: Iterable[str]) -> list[str]:
    """The value as a list, if it holds strings; a string alone is taken for a mistake."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"{name} takes several strings, not {type(value).__name__}")
    return [text(name, one) for one in value]


def in_utc(moment: datetime | None) -> datetime | None:
    """The moment, taken for UTC where it does not say."""
    return moment.replace(tzinfo=UTC) if moment is not None and moment.utcoffset() is None else moment


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
    return {
        "page": page,
        "pageSize": page_size,
        "query": query_text("query", query),
        "orderBy": query_text("order_by", order_by),
    }


def _number(name: str, value: int | None, *, at_least: int, at_most: int | None = None) -> None:
    if value is None:
        return
    check_number(name, value, whole=True)
    if value < at_least or (at_most is not None and value > at_most):
        bounds = f"from {at_least} to {at_most}" if at_most else f"of at least {at_least}"
        raise ValueError(f"{name} takes a whole number {bounds}")
