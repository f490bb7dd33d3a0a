"""What Codat allows: requests a minute from one address, and requests a day from one client."""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from codat_commerce_async.simulator._state.clock import DAY, http_date, plain_timestamp
from codat_commerce_async.simulator._state.errors import ApiError

__all__ = ["RequestQuota", "RequestQuotaState", "ResetFormat"]

_MINUTE = 60.0


class ResetFormat(Enum):
    """How `X-Rate-Limit-Reset` is written; Codat's documentation does not say."""

    EPOCH_SECONDS = "epoch_seconds"
    EPOCH_MILLISECONDS = "epoch_milliseconds"
    HTTP_DATE = "http_date"
    ISO_8601 = "iso_8601"


@dataclass(frozen=True, slots=True)
class RequestQuota:
    """Requests in any 60 seconds, and in a day.

    A day allows `per_day` times one more than there are companies with a linked connection. None means no
    bound, and for `per_day` no `X-Rate-Limit-*` headers either. Codat's own numbers are the defaults:
    https://docs.codat.io/using-the-api/rate-limits
    """

    per_minute: int | None = 1000
    per_day: int | None = 1000
    reset_format: ResetFormat = ResetFormat.EPOCH_SECONDS


class RequestQuotaState:
    """Counts requests, and refuses those beyond the quota; a refused request does not count.

    `linked` says how many companies have a linked connection, `emit` is told of `client.rateLimit.*`
    events. `peak_per_minute` is the most requests that any 60 simulated seconds saw, refused ones included.
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
        self._to_response: deque[float] = deque()
        self._day = -1
        self._used = 0
        self._reached = False
        self.peak_per_minute = 0

    def admit(self, now: float) -> None:
        """Count one request; refused with 429 and the seconds to wait when there is no room for it."""
        _evict(self._to_response, now)
        self._to_response.append(now)
        self.peak_per_minute = max(self.peak_per_minute, len(self._to_response))
        self._roll_over(now)
        if not self.remaining(now):
            self._reach(now)
            raise _too_many(self.reset(now) - now)
        if self._quota.per_minute is not None:
            _evict(self._granted, now)
            if len(self._granted) >= self._quota.per_minute:
                raise _too_many(self._granted[0] + _MINUTE - now if self._granted else _MINUTE)
            self._granted.append(now)
        self._used += 1

    def limit(self) -> int | None:
        """The requests that this day allows."""
        return None if self._quota.per_day is None else self._quota.per_day * (1 + self._linked())

    def remaining(self, now: float) -> float:
        """The requests that are left of this day."""
        self._roll_over(now)
        limit = self.limit()
        return math.inf if limit is None else max(0, limit - self._used)

    def set_remaining(self, remaining: int, now: float) -> None:
        """Use up the day's quota but for so many requests."""
        limit = self.limit()
        if limit is None:
            raise ValueError("there is no daily quota to use up")
        self._roll_over(now)
        self._used = limit - remaining

    @property
    def per_minute(self) -> int | None:
        """The requests that any 60 seconds allow."""
        return self._quota.per_minute

    def last_minute(self, now: float) -> int:
        """The requests of the last 60 seconds, refused ones included."""
        _evict(self._to_response, now)
        return len(self._to_response)

    def reset(self, now: float) -> float:
        """When the day ends."""
        return (now // DAY + 1) * DAY

    def headers(self, now: float) -> dict[str, str]:
        """The `X-Rate-Limit-*` headers of an answer."""
        limit = self.limit()
        if limit is None:
            return {}
        return {
            "X-Rate-Limit-Limit": str(limit),
            "X-Rate-Limit-Remaining": str(self.remaining(now)),
            "X-Rate-Limit-Reset": self._written(self.reset(now)),
        }

    def _roll_over(self, now: float) -> None:
        day = int(now // DAY)
        if day == self._day:
            return
        self._day, self._used = day, 0
        if self._reached:
            self._reached = False
            self._emit("client.rateLimit.reset", now, self._payload(now))

    def _reach(self, now: float) -> None:
        if not self._reached:
            self._reached = True
            self._emit("client.rateLimit.reached", now, self._payload(now))

    def _payload(self, now: float) -> dict[str, object]:
        return {
            "dailyQuota": self.limit(),
            "quotaRemaining": self.remaining(now),
            "expiryDate": plain_timestamp(self.reset(now)),
        }

    def _written(self, reset: float) -> str:
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


def _too_many(seconds: float) -> ApiError:
    return ApiError(429, "Too many requests; try again later.", retry_after=seconds)
