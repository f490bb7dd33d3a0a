"""Track the daily quota from response headers and webhooks, and keep the rate limiter informed."""

from datetime import UTC, datetime

from codat_commerce_async._core import headers as _headers
from codat_commerce_async._core.lifecycle import Clock
from codat_commerce_async._core.rate_limiter import RateLimiter
from codat_commerce_async.errors import QuotaExhaustedError, RateLimitError
from codat_commerce_async.models.call import RateLimit

__all__ = ["QuotaMonitor", "ThrottledCompanies"]

# Seconds to pause after a 429 without Retry-After.
_DEFAULT_429_PAUSE = 1.0
# This many companies make a common cause likely. Each of them is paused anyway, so the number may be low.
_SEVERAL = 3
# Responses within this many seconds count as simultaneous.
_SAME_TIME = 5.0


class ThrottledCompanies:
    """Track the companies that received a 429 recently, while no request of another company succeeded.

    A request that was sent after a 429 and succeeded shows that not all requests are throttled.
    """

    __slots__ = ("since",)

    def __init__(self) -> None:
        self.since: dict[str, float] = {}
        """The companies, and the event loop's time of the 429 of each."""

    def add(self, company_id: str, now: float) -> bool:
        """Record a company's 429; return whether several companies received one at about the same time."""
        self.since = {each: since for each, since in self.since.items() if now - since <= _SAME_TIME}
        self.since.setdefault(company_id, now)
        return len(self.since) >= _SEVERAL

    def note_success(self, started_at: float) -> None:
        """Forget the 429s that were received before a request was sent that then succeeded."""
        self.since = {each: since for each, since in self.since.items() if since >= started_at}


class QuotaMonitor:
    """Pass what responses report of the quota on to the rate limiter, and pause it after a 429."""

    __slots__ = ("_awaited_reset", "_clock", "_limiter", "_reset", "throttled")

    def __init__(self, limiter: RateLimiter, clock: Clock) -> None:
        self._limiter = limiter
        self._clock = clock
        self.throttled = ThrottledCompanies()
        """The companies that received a 429 recently."""
        # When the daily quota is reset that requests wait for; a time of the event loop.
        self._awaited_reset = 0.0
        # The last X-Rate-Limit-Reset header and its local time, as parsing it takes longer than comparing it.
        self._reset: tuple[str | None, float] = (None, 0.0)

    @property
    def rate_limit(self) -> RateLimit | None:
        """The daily quota as the last response reported it."""
        return _headers.rate_limit(*self._clock.observed) if self._clock.observed is not None else None

    def update_limiter(self) -> None:
        """Pass the daily quota of the last response on to the rate limiter; only few requests depend on it."""
        if self._clock.observed is None:
            return
        headers, observed_at = self._clock.observed
        remaining = _headers.remaining(headers)
        if remaining is None:
            return
        text = headers.get("X-Rate-Limit-Reset")
        if text != self._reset[0]:
            limit = _headers.rate_limit(headers, observed_at)
            self._reset = text, self._local_time(limit.reset) if limit and limit.reset else 0.0
        seconds = self._reset[1] - self._clock.now()
        if seconds > 0:
            self._limiter.update_remaining(remaining, seconds, max(0.0, self._clock.now() - observed_at))

    def update(self, limit: RateLimit) -> None:
        """Record a daily quota that another source has reported, unless a response has reported a newer one."""
        if limit.reset is None or limit.remaining is None or self._knows_newer(limit):
            return
        seconds = self._seconds_until(limit.reset)
        if seconds <= 0:
            return
        if limit.remaining > 0:
            age = (self._clock.server_time(self._clock.now()) - limit.observed_at).total_seconds()
            self._limiter.update_remaining(limit.remaining, seconds, max(0.0, age))
        else:
            self._mark_exhausted(seconds, limit.reset)

    def reset_wait(self, since: float) -> float:
        """Return how many seconds since then the rate limiter has held requests until the daily quota was reset.

        Times are those of the event loop.
        """
        return max(0.0, min(self._awaited_reset, self._clock.time()) - since)

    def _mark_exhausted(self, seconds: float, reset_at: datetime) -> bool:
        is_awaited = self._limiter.mark_exhausted(seconds, reset_at)
        if is_awaited:
            self._awaited_reset = self._clock.time() + seconds
        return is_awaited

    def on_rate_limited(self, error: RateLimitError, longest: float, company_id: str | None) -> float | None:
        """Pause requests after a 429; return the seconds after which the request may be sent again.

        None if it is not in the response, or if the rate limiter holds requests until the daily quota is reset, as
        the user has requested.

        A 429 while the daily quota is not used up may come from the platform behind one company: only that company is
        paused, unless several companies receive one at about the same time. `longest` is the longest acceptable pause
        in seconds.
        Raises QuotaExhaustedError when the daily quota is exhausted and its reset is further away than `longest`.
        """
        if not _is_daily_quota(error, longest):
            self._pause(error, longest, company_id)
            return error.retry_after
        seconds, reset = self._seconds_to_reset(error), error.rate_limit.reset if error.rate_limit else None
        if seconds is None or seconds <= 0:
            self._limiter.pause(_DEFAULT_429_PAUSE)
            return error.retry_after
        if seconds <= longest:
            self._limiter.pause(seconds)
            return seconds
        reset_at = reset or datetime.fromtimestamp(self._clock.now() + seconds, UTC)
        if self._mark_exhausted(seconds, reset_at):
            return None
        raise QuotaExhaustedError(
            f"the daily quota is exhausted; it resets at {reset_at.isoformat()}", None, reset_at, seconds
        )

    def _pause(self, error: RateLimitError, longest: float, company_id: str | None) -> None:
        limit = error.rate_limit
        is_general = (
            company_id is None
            or (limit is not None and limit.remaining == 0)
            or self.throttled.add(company_id, self._clock.time())
        )
        seconds = _DEFAULT_429_PAUSE if error.retry_after is None else min(error.retry_after, longest)
        self._limiter.pause(seconds, None if is_general else company_id)

    def _seconds_to_reset(self, error: RateLimitError) -> float | None:
        if error.retry_after is not None:
            return error.retry_after
        reset = error.rate_limit.reset if error.rate_limit else None
        return None if reset is None else self._seconds_until(reset)

    def _seconds_until(self, moment: datetime) -> float:
        """Return the seconds until a moment of the server's time."""
        return (moment - self._clock.server_time(self._clock.now())).total_seconds()

    def _local_time(self, moment: datetime) -> float:
        """Return the local time (epoch seconds) of a moment of the server's time."""
        return self._clock.now() + self._seconds_until(moment)

    def _knows_newer(self, limit: RateLimit) -> bool:
        """Return whether a response has reported the remaining requests at a later server time."""
        known = self.rate_limit
        if known is None or known.remaining is None:
            return False
        return self._clock.server_time(known.observed_at.timestamp()) >= limit.observed_at


def _is_daily_quota(error: RateLimitError, longest: float) -> bool:
    """Return whether a 429 means that the daily quota is used up."""
    if error.rate_limit is None or error.rate_limit.remaining != 0:
        return False
    # A wait of more than two days cannot be for the daily quota, and may end beyond the calendar.
    return error.retry_after is None or longest < error.retry_after <= _headers.MAX_RESET_DISTANCE.total_seconds()
