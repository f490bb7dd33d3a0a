"""Enforce the quota: requests per minute from one address, and requests per day from one client."""

import math
from collections import deque
from collections.abc import Callable
from enum import Enum

from attrs import frozen

from codat_commerce_async._core.validation import check_instance, check_int
from codat_commerce_async.simulator._state.clock import DAY, http_date, plain_timestamp
from codat_commerce_async.simulator._state.errors import ApiError

__all__ = ["RequestQuota", "RequestQuotaState", "ResetFormat"]

_MINUTE = 60.0


class ResetFormat(Enum):
    """The format of `X-Rate-Limit-Reset`, which Codat does not document."""

    EPOCH_SECONDS = "epoch_seconds"
    EPOCH_MILLISECONDS = "epoch_milliseconds"
    HTTP_DATE = "http_date"
    ISO_8601 = "iso_8601"


@frozen
class RequestQuota:
    """Requests in any 60 seconds, and in a day.

    The limit of a day is `per_day`, plus `per_day` for each company with a linked connection. None means no limit; with
    `per_day=None` there are no `X-Rate-Limit-*` headers either. The defaults are Codat's:
    https://docs.codat.io/using-the-api/rate-limits
    """

    per_minute: int | None = 1000
    """Requests in any 60 seconds; None for no limit."""

    per_day: int | None = 1000
    """Requests in a day, once for the client and once for each linked company; None for no limit."""

    reset_format: ResetFormat = ResetFormat.EPOCH_SECONDS
    """The format of the `X-Rate-Limit-Reset` header."""

    def __attrs_post_init__(self) -> None:
        for name in ("per_minute", "per_day"):
            if (limit := getattr(self, name)) is not None:
                check_int(name, limit, at_least=0)
        check_instance("reset_format", self.reset_format, ResetFormat)


class RequestQuotaState:
    """Counts requests and refuses those beyond the quota; a refused request does not count.

    `linked` returns the number of companies with a linked connection, `emit` is called for `client.rateLimit.*` events.
    `peak_per_minute` is the largest number of requests in any 60 simulated seconds, including refused ones.
    """

    def __init__(
        self,
        quota: RequestQuota,
        linked: Callable[[], int],
        emit: Callable[[str, float, dict[str, object]], None],
    ) -> None:
        self._quota = quota
        self._linked = linked
        self._emit = emit
        self._granted: deque[float] = deque()
        self._received: deque[float] = deque()
        self._day = -1
        self._used = 0
        self._reached = False
        self.peak_per_minute = 0

    def admit(self, now: float) -> None:
        """Count one request; raise a 429 with the seconds to wait if it exceeds the quota."""
        _evict(self._received, now)
        self._received.append(now)
        self.peak_per_minute = max(self.peak_per_minute, len(self._received))
        self._roll_over(now)
        if not self.remaining(now):
            self._emit_reached(now)
            raise _rate_limited(self.reset(now) - now)
        if self._quota.per_minute is not None:
            _evict(self._granted, now)
            if len(self._granted) >= self._quota.per_minute:
                raise _rate_limited(self._granted[0] + _MINUTE - now if self._granted else _MINUTE)
            self._granted.append(now)
        self._used += 1

    def limit(self) -> int | None:
        """Return the limit of this day; None without one."""
        return None if self._quota.per_day is None else self._quota.per_day * (1 + self._linked())

    def remaining(self, now: float) -> float:
        """Return the number of requests that remain of this day."""
        self._roll_over(now)
        limit = self.limit()
        return math.inf if limit is None else max(0, limit - self._used)

    def set_remaining(self, remaining: int, now: float) -> None:
        """Set how many requests of the day's quota are left."""
        limit = self.limit()
        if limit is None:
            raise ValueError("there is no daily quota, because per_day is None")
        self._roll_over(now)
        self._used = limit - remaining

    @property
    def per_minute(self) -> int | None:
        """The limit of any 60 seconds; None without one."""
        return self._quota.per_minute

    def last_minute(self, now: float) -> int:
        """Return the number of requests in the last 60 seconds, including refused ones."""
        _evict(self._received, now)
        return len(self._received)

    def reset(self, now: float) -> float:
        """Return the time when the day ends."""
        return (now // DAY + 1) * DAY

    def headers(self, now: float) -> dict[str, str]:
        """Return the `X-Rate-Limit-*` headers of a response."""
        limit = self.limit()
        if limit is None:
            return {}
        return {
            "X-Rate-Limit-Limit": str(limit),
            "X-Rate-Limit-Remaining": str(self.remaining(now)),
            "X-Rate-Limit-Reset": self._format(self.reset(now)),
        }

    def _roll_over(self, now: float) -> None:
        day = int(now // DAY)
        if day == self._day:
            return
        self._day, self._used = day, 0
        if self._reached:
            self._reached = False
            self._emit("client.rateLimit.reset", now, self._payload(now))

    def _emit_reached(self, now: float) -> None:
        if not self._reached:
            self._reached = True
            self._emit("client.rateLimit.reached", now, self._payload(now))

    def _payload(self, now: float) -> dict[str, object]:
        return {
            "dailyQuota": self.limit(),
            "quotaRemaining": self.remaining(now),
            "expiryDate": plain_timestamp(self.reset(now)),
        }

    def _format(self, reset: float) -> str:
        match self._quota.reset_format:
            case ResetFormat.EPOCH_SECONDS:
                return str(int(reset))
            case ResetFormat.EPOCH_MILLISECONDS:
                return str(int(reset * 1000))
            case ResetFormat.HTTP_DATE:
                return http_date(reset)
            case ResetFormat.ISO_8601:
                return plain_timestamp(reset)


def _evict(times: deque[float], now: float) -> None:
    while times and times[0] <= now - _MINUTE:
        times.popleft()


def _rate_limited(seconds: float) -> ApiError:
    return ApiError(429, "Too many requests; try again later.", retry_after=seconds)
