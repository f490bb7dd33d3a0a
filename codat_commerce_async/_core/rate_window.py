"""Count requests against a rate, concurrency limits and a daily quota, without waiting.

Times are seconds of any monotonic clock.
"""

import math
from collections import deque
from datetime import datetime

__all__ = ["DailyQuota", "RateWindow", "Slots"]

# A millisecond more than a minute, so that no request is at the edge of two windows.
_MINUTE = 60.001
# Requests may start so much earlier than evenly spaced ones, so that a few quick calls are not delayed.
_BURST_SECONDS = 1.0
# Delays below the timer's resolution are treated as zero, to avoid a busy loop.
_TIMER_RESOLUTION = 1e-6


class RateWindow:
    """Limit the requests that reach the server in any 60 seconds, and space them evenly.

    The spacing follows the generic cell rate algorithm. The limit holds at the server, whatever the latency: a request
    may arrive at any moment between its start and its end, and so counts until a minute after its end. In return, the
    rate is lower by the share of a minute that a request takes (0.5 seconds: by 0.8 %).
    """

    __slots__ = ("_ended", "_in_flight", "_per_minute", "_tat", "min_interval")

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self.min_interval = 60.0 / per_minute
        """Seconds from one request to the next at the full rate."""
        self._tat = 0.0  # theoretical arrival time: when the next evenly spaced request would start
        self._in_flight = 0
        self._ended: deque[float] = deque()

    def delay(self, now: float) -> float:
        """Return the seconds until a request may start; infinity if a request in flight has to end first."""
        delay = self._tat - _BURST_SECONDS - now
        ended = self._ended
        if self._in_flight + len(ended) >= self._per_minute:
            while ended and ended[0] + _MINUTE - now <= _TIMER_RESOLUTION:
                ended.popleft()
            if self._in_flight + len(ended) >= self._per_minute:
                delay = max(delay, ended[0] + _MINUTE - now if ended else math.inf)
        return delay if delay > _TIMER_RESOLUTION else 0.0

    def take(self, now: float) -> None:
        """Count a request that starts now."""
        self._tat = max(self._tat, now) + self.min_interval
        self._in_flight += 1

    def undo(self) -> None:
        """Undo a `take` whose request was never sent."""
        self._tat -= self.min_interval
        self._in_flight -= 1

    def end(self, now: float) -> None:
        """Record that a request has ended; it counts for another minute."""
        self._in_flight -= 1
        self._ended.append(now)

    def space_from(self, moment: float) -> None:
        """Space requests evenly from this moment on, without an initial burst."""
        self._tat = max(self._tat, moment + _BURST_SECONDS)


class Slots:
    """Limit the requests in flight, in total and per company."""

    __slots__ = ("_concurrent", "_of_company", "_per_company", "in_flight")

    def __init__(self, concurrent: int | None, per_company: int | None) -> None:
        self._concurrent = math.inf if concurrent is None else concurrent
        self._per_company = math.inf if per_company is None else per_company
        self._of_company: dict[str, int] = {}
        self.in_flight = 0

    @property
    def full(self) -> bool:
        """Whether no further request may start."""
        return self.in_flight >= self._concurrent

    def company_full(self, company_id: str | None) -> bool:
        """Return whether no further request of this company may start."""
        return company_id is not None and self._of_company.get(company_id, 0) >= self._per_company

    def of_company(self, company_id: str) -> int:
        """Return the number of this company's requests in flight."""
        return self._of_company.get(company_id, 0)

    def try_take(self, company_id: str | None) -> bool:
        """Count a request and return True, if it may start."""
        if self.in_flight >= self._concurrent:
            return False
        if company_id is not None:
            taken = self._of_company.get(company_id, 0)
            if taken >= self._per_company:
                return False
            self._of_company[company_id] = taken + 1
        self.in_flight += 1
        return True

    def release(self, company_id: str | None) -> None:
        """Record that a request has ended, and forget a company without requests."""
        self.in_flight -= 1
        if company_id is None:
            return
        left = self._of_company[company_id] - 1
        if left:
            self._of_company[company_id] = left
        else:
            del self._of_company[company_id]


class DailyQuota:
    """Count the requests of one API key against its daily quota."""

    __slots__ = ("_in_flight", "_remaining", "_remaining_until", "exhausted_until", "reserved", "reset_at")

    def __init__(self) -> None:
        self._in_flight = 0
        self._remaining: int | None = None
        self._remaining_until = 0.0
        self.reserved = 0
        """The requests that are reserved for work that is running."""
        self.exhausted_until = 0.0
        """When the quota that is exhausted resets; a past time if it is not exhausted, 0 if it never was."""
        self.reset_at: datetime | None = None
        """The server time of that reset, if known."""

    def take(self) -> None:
        """Count a request that starts."""
        self._in_flight += 1
        if self._remaining is not None:
            self._remaining -= 1

    def undo(self) -> None:
        """Undo a `take` whose request was never sent."""
        self._in_flight -= 1
        if self._remaining is not None:
            self._remaining += 1

    def end(self) -> None:
        """Record that a request has ended."""
        self._in_flight -= 1

    def exhaust(self, deadline: float, reset_at: datetime | None) -> bool:
        """Record that no requests are left until then; return whether that extends the exhaustion."""
        self._remaining, self._remaining_until = 0, deadline
        if deadline <= self.exhausted_until:
            return False
        self.exhausted_until, self.reset_at = deadline, reset_at
        return True

    def update(self, now: float, remaining: int, deadline: float) -> bool:
        """Record the remaining requests that a response reported; return whether that ends an exhaustion.

        Requests in flight beside that response may be missing from its count, and are subtracted.
        """
        self._remaining = max(0, remaining - max(0, self._in_flight - 1))
        self._remaining_until = deadline
        if now >= self.exhausted_until or not self._remaining:
            return False
        self.exhausted_until = now
        return True

    def reserve(self, requests: int) -> None:
        """Reserve requests for work that is running; a negative number releases them."""
        self.reserved += requests

    def shortage_ends(self, now: float) -> float:
        """Return when the shortage ends at the latest, if all remaining requests are reserved, else 0."""
        if self._remaining is None or not self.reserved:
            return 0.0
        if now >= self._remaining_until:
            self._remaining = None
            return 0.0
        return self._remaining_until if self._remaining <= self.reserved else 0.0
