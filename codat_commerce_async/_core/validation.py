"""Checks of arguments: each raises TypeError or ValueError with a message "<name> must be <expected> (got <value>)"."""

import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TypeVar

__all__ = [
    "as_utc",
    "check_aware_datetime",
    "check_company_ids",
    "check_count",
    "check_instance",
    "check_int",
    "check_mapping",
    "check_methods",
    "check_number",
    "check_platform_key",
    "check_seconds",
    "check_str",
    "check_str_list",
    "check_str_mapping",
    "check_url_text",
    "is_token",
    "page_query",
    "require",
    "split_date_range",
]

T = TypeVar("T")

# Far beyond any use; a bound keeps every container and product of counts within what the machine can hold.
_MAX_COUNT = 10**9
_MAX_PAGE_SIZE = 5000
_PLATFORM_KEY = re.compile(r"[a-z]{4}", re.ASCII)
_MAX_SHOWN = 60
# https://www.rfc-editor.org/rfc/rfc9110#section-5.6.2
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", re.ASCII)


def require(condition: bool, name: str, expected: str, value: object) -> None:  # noqa: FBT001 - it is the subject
    """Raise ValueError unless the condition holds. The message contains the value, so it must not be a secret."""
    if not condition:
        raise ValueError(f"{name} must be {expected} (got {_shown(value)})")


def check_instance(name: str, value: object, kind: type[T], expected: str | None = None) -> T:
    """Return the value if it is an instance of `kind`, else raise TypeError with `expected` or the name of `kind`."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {expected or kind.__name__} (got {type(value).__name__})")
    return value


def check_methods(name: str, value: object, kind: str, *methods: str) -> None:
    """Raise TypeError unless the value has the methods of the protocol `kind`."""
    if isinstance(value, type) or not all(callable(getattr(value, method, None)) for method in methods):
        raise TypeError(f"{name} must be a {kind} with the methods {', '.join(methods)} (got {_kind_of(value)})")


def check_str(name: str, value: object) -> str:
    """Return the value if it is a string, else raise TypeError."""
    return check_instance(name, value, str, "string")


def is_token(text: str) -> bool:
    """Return whether the text can be the name of a header or of a method."""
    return _TOKEN.fullmatch(text) is not None


def check_url_text(name: str, value: object) -> str:
    """Return the value if it is a string that can be encoded in a URL, else raise TypeError or ValueError."""
    text = check_str(name, value)
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError(f"{name} must be text without lone surrogates")
    return text


def check_platform_key(name: str, value: object) -> str:
    """Return the value if it is the key of a platform, else raise TypeError or ValueError."""
    key = check_str(name, value)
    require(_PLATFORM_KEY.fullmatch(key) is not None, name, "four lower-case letters such as 'gbol'", key)
    return key


def check_company_ids(name: str, value: object) -> None:
    """Raise TypeError for a single string, which is iterable too, but not as ids."""
    if isinstance(value, str | bytes):
        raise TypeError(f"{name} must be an iterable of company ids (got one string)")


def check_str_list(name: str, value: Iterable[str]) -> list[str]:
    """Return the strings of an iterable as a list, else raise TypeError; a single string is a mistake."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"{name} must be an iterable of strings (got {type(value).__name__})")
    return [check_str(f"{name}[{index}]", one) for index, one in enumerate(value)]


def check_mapping(name: str, value: object) -> Mapping[object, object]:
    """Return the value if it is a mapping, else raise TypeError."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a mapping (got {type(value).__name__})")
    return value


def check_str_mapping(name: str, value: object) -> dict[str, str]:
    """Return a copy of a mapping of strings to strings, else raise TypeError. No value is shown: it may be secret."""
    mapping = check_mapping(name, value)
    copy = {key: text for key, text in mapping.items() if isinstance(key, str) and isinstance(text, str)}
    if len(copy) != len(mapping):
        raise TypeError(f"{name} must be a mapping of strings to strings")
    return copy


def check_number(name: str, value: object) -> float:
    """Return the value if it is an int or a float within the range of floats; a bool is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number (got {type(value).__name__})")
    try:
        float(value)
    except OverflowError:
        raise ValueError(f"{name} must be a number that a float can hold") from None
    return value


def check_int(name: str, value: object, at_least: int | None = None, at_most: int | None = None) -> int:
    """Return the value if it is an int within the bounds; a bool is no number."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer (got {type(value).__name__})")
    check_number(name, value)
    in_range = (at_least is None or value >= at_least) and (at_most is None or value <= at_most)
    require(in_range, name, _int_range(at_least, at_most), value)
    return value


def _int_range(at_least: int | None, at_most: int | None) -> str:
    if at_least is None or at_most is None:
        return f"an integer of at least {at_least}" if at_most is None else f"an integer of at most {at_most:,}"
    return f"an integer between {at_least} and {at_most:,}"


def check_count(name: str, value: object) -> int | None:
    """Return the value if it is a count of at least 1, or None for "no limit"."""
    return None if value is None else check_int(name, value, at_least=1, at_most=_MAX_COUNT)


def check_seconds(name: str, value: object, *, positive: bool = False, finite: bool = False) -> float:
    """Return the value if it is a duration in seconds: not negative, or with `positive` more than 0."""
    number = check_number(name, value)
    in_range = (number > 0 if positive else number >= 0) and (math.isfinite(number) or not finite)
    expected = f"{'more than' if positive else 'at least'} 0 seconds{' and finite' if finite else ''}"
    require(in_range, name, expected, value)
    return number


def check_aware_datetime(name: str, value: object) -> datetime:
    """Return the aware datetime in UTC.

    Datetimes of one zone compare by its wall clock, which a clock change repeats, so they are converted:
    https://peps.python.org/pep-0495/#aware-datetime-comparison
    """
    moment = check_instance(name, value, datetime)
    require(moment.utcoffset() is not None, name, "a datetime with a time zone, such as datetime.now(UTC)", moment)
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{name} must be within the calendar in UTC too (got {moment})") from None


def as_utc(moment: datetime) -> datetime:
    """Return a time from Codat in UTC, which Codat means where it names no zone.

    At the ends of the calendar, where UTC has no such date, the time is returned as it is.
    """
    if moment.utcoffset() is None:
        return moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        return moment


def split_date_range(
    name: str, value: tuple[datetime, datetime] | None
) -> tuple[datetime, datetime] | tuple[None, None]:
    """Return the start and the finish of a period in UTC, both None for no period."""
    if value is None:
        return None, None
    if not isinstance(value, tuple | list) or len(value) != 2:  # noqa: PLR2004 - a start and a finish
        raise TypeError(f"{name} must be a pair of datetimes: the start and the finish")
    return check_aware_datetime(f"{name}[0]", value[0]), check_aware_datetime(f"{name}[1]", value[1])


def page_query(
    page: int | None, page_size: int | None, query: str | None, order_by: str | None
) -> dict[str, str | int | None]:
    """Return the query of a paged operation, with Codat's names."""
    return {
        "page": None if page is None else check_int("page", page, at_least=1),
        "pageSize": None if page_size is None else check_int("page_size", page_size, 1, _MAX_PAGE_SIZE),
        "query": None if query is None else check_url_text("query", query),
        "orderBy": None if order_by is None else check_url_text("order_by", order_by),
    }


def _kind_of(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
