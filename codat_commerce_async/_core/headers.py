"""Parse the headers of a response tolerantly: what cannot be parsed is None, never an exception."""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache

from codat_commerce_async._core.validation import as_utc
from codat_commerce_async.models.call import RateLimit

__all__ = ["MAX_RESET_DISTANCE", "correlation_id", "rate_limit", "remaining", "retry_after", "server_time"]

_SECONDS = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?", re.ASCII)
_EPOCH = re.compile(r"[0-9]{1,13}(\.[0-9]{1,9})?", re.ASCII)
_COUNT = re.compile(r"[0-9]{1,12}", re.ASCII)
_MILLISECONDS_FROM = 1e11  # as epoch seconds that is the year 5138, as milliseconds 1973
MAX_RESET_DISTANCE = timedelta(hours=48)  # the daily quota is reset within a day; leave room for skewed clocks


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds of `Retry-After`, from either of its forms.

    A date is rounded up to a whole second and compared with the response's own `Date`, if it has one, so that a
    wrong local clock does no harm. `now` is in epoch seconds.
    Source: https://www.rfc-editor.org/rfc/rfc9110#field.retry-after
    """
    text = headers.get("Retry-After")
    if text is None:
        return None
    text = text.strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    deadline = _http_date(text)
    if deadline is None:
        return None
    today = server_time(headers) or datetime.fromtimestamp(now, UTC)
    return max(0.0, float(math.ceil((deadline - today).total_seconds())))


def server_time(headers: Mapping[str, str]) -> datetime | None:
    """Return the `Date` of a response, in UTC."""
    text = headers.get("Date")
    return _http_date(text) if text else None


def rate_limit(headers: Mapping[str, str], now: float) -> RateLimit | None:
    """Return the daily quota that a response reports, or None if it does not."""
    limit = headers.get("X-Rate-Limit-Limit")
    left = headers.get("X-Rate-Limit-Remaining")
    reset = headers.get("X-Rate-Limit-Reset")
    if limit is None and left is None and reset is None:
        return None
    observed_at = datetime.fromtimestamp(now, UTC)
    return RateLimit(
        limit=_count(limit),
        remaining=_count(left),
        reset=None if reset is None else _reset(reset, server_time(headers) or observed_at),
        observed_at=observed_at,
    )


def remaining(headers: Mapping[str, str]) -> int | None:
    """Return only how many of the day's requests remain."""
    return _count(headers.get("X-Rate-Limit-Remaining"))


def correlation_id(headers: Mapping[str, str]) -> str | None:
    """Return the correlation id of a response, which Codat's support needs."""
    return headers.get("X-Correlation-Id")


def _count(text: str | None) -> int | None:
    # `str.strip` removes characters that `int` rejects.
    digits = text.strip() if text is not None else ""
    return int(digits) if _COUNT.fullmatch(digits) else None


def _reset(text: str, now: datetime) -> datetime | None:
    """Return when the quota is reset; None for a time that is not near `now`, in the server's time if known.

    Codat calls it "the date" and gives no format; seconds, milliseconds, HTTP and ISO dates have all been seen.
    """
    moment = _epoch(text.strip()) or _http_date(text) or _iso_date(text.strip())
    return moment if moment is not None and abs(moment - now) <= MAX_RESET_DISTANCE else None


def _epoch(text: str) -> datetime | None:
    if not _EPOCH.fullmatch(text):
        return None
    seconds = float(text)
    if seconds >= _MILLISECONDS_FROM:
        seconds /= 1000
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def _iso_date(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return as_utc(moment)


# All responses of one second have the same `Date`, and a call may need it several times.
@lru_cache(maxsize=8)
def _http_date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return as_utc(moment)
