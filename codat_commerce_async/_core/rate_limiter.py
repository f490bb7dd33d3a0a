"""The gate that every request passes: so many a minute, so many at once, and all of them stopped after a 429."""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from codat_commerce_async.errors import QuotaExhaustedError
from codat_commerce_async.policies import Quota

__all__ = ["LocalRateLimiter", "RateLimiter"]

# A millisecond over, so that the request on the edge of two windows counts in one.
_MINUTE = 60.001
# How far requests may run ahead of an even spacing: a second's worth, so that a few quick calls are not slowed down.
_AHEAD = 1.0
# Below what a timer resolves; waiting for it could end in waiting for nothing, again and again.
_NEGLIGIBLE = 1e-6
# Background work steps behind whoever comes within this many seconds after it, and behind nobody later.
_COURTESY = 60.0


class RateLimiter(Protocol):
    """What admits requests. One that is shared between processes can be put in its place."""

    @property
    def min_interval(self) -> float:
        """Seconds from one request to the next at the full rate; 0 without one."""
        ...

    @property
    def needs_quota_update(self) -> bool:
        """Whether somebody waits for what the next answer says of the day's quota."""
        ...

    async def acquire(self, company_id: str | None, *, background: bool = False, new_work: bool = False) -> None:
        """Return when a request may be sent; it must be released when it has ended.

        Raises QuotaExhaustedError when the day's requests are spent.
        """
        ...

    def release(self, company_id: str | None) -> None:
        """Note that an admitted request has ended."""
        ...

    def pause(self, seconds: float) -> None:
        """Admit nobody for so long, then go on gradually."""
        ...

    def mark_exhausted(self, seconds: float, reset_at: datetime | None) -> bool:
        """Note that the day's requests are spent for so long; tell whether requests are to wait for new ones."""
        ...

    def update_remaining(self, remaining: int, seconds_to_reset: float) -> None:
        """Note how many requests of the day an answer said remain."""
        ...

    def reserve(self, requests: int) -> None:
        """Keep so many of the day's requests for work that is under way; negative numbers give them back."""
        ...


class _Waiter:
    """One request that waits, in its place in the order."""

    __slots__ = ("admitted", "company_id", "order")

    def __init__(self, order: tuple[float, int], company_id: str | None, admitted: asyncio.Future[None]) -> None:
        self.order = order
        self.company_id = company_id
        self.admitted = admitted

    def __lt__(self, other: "_Waiter") -> bool:
        return self.order < other.order


class LocalRateLimiter:
    """The gate of one client.

    Requests are spaced evenly (the generic cell rate algorithm, with a second's tolerance), and a record of the last
    minute's keeps the count in every window of 60 seconds at the quota or below, not only on average. Whoever waits is
    served by arrival; background work counts as having arrived a minute later, so it is never starved. Whoever waits
    for a place at its company does not hold up the others.
    """

    def __init__(self, quota: Quota, *, on_pause: Callable[[float, str], None] | None = None) -> None:
        self._concurrent = quota.concurrent
        self._per_company = quota.per_company
        self._wait_for_reset = quota.wait_for_reset
        self._on_pause = on_pause
        self._spacing = 60.0 / quota.per_minute if quota.per_minute else 0.0
        self._due = 0.0  # when the next request would be sent if all were spaced evenly
        self._sent: deque[float] | None = deque(maxlen=quota.per_minute) if quota.per_minute else None
        self._in_flight = 0
        self._of_company: dict[str, int] = {}
        self._line: list[_Waiter] = []
        self._company_lines: dict[str, list[_Waiter]] = {}
        self._held_back: deque[_Waiter] = deque()
        self._arrivals = 0
        self._closed_until = 0.0
        self._spent_until = 0.0
        self._reset_at: datetime | None = None
        self._remaining: int | None = None
        self._remaining_until = 0.0
        self._reserved = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._timer_of: asyncio.AbstractEventLoop | None = None

    @property
    def min_interval(self) -> float:
        """Seconds from one request to the next at the full rate; 0 without one."""
        return self._spacing

    @property
    def needs_quota_update(self) -> bool:
        """Whether somebody waits for what the next answer says of the day's quota."""
        return bool(self._held_back) or self._spent_until > 0

    @property
    def in_flight(self) -> int:
        """How many requests are admitted and not released."""
        return self._in_flight

    def in_flight_of(self, company_id: str) -> int:
        """How many of them are for this company."""
        return self._of_company.get(company_id, 0)

    @property
    def waiting(self) -> int:
        """How many wait to be admitted."""
        lines = (self._line, self._held_back, *self._company_lines.values())
        return sum(not waiter.admitted.done() for line in lines for waiter in line)

    async def acquire(self, company_id: str | None, *, background: bool = False, new_work: bool = False) -> None:
        """Return when a request may be sent, in order of arrival."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if now < self._spent_until and not self._wait_for_reset:
            raise self._exhausted(now)
        hold_back = new_work and self._short(now)
        if not self._line and not hold_back and self._has_room(company_id) and not self._pause_before(now):
            self._take(now, company_id)
            return
        self._arrivals += 1
        arrival = now + (_COURTESY if background else 0.0)
        waiter = _Waiter((arrival, self._arrivals), company_id, loop.create_future())
        if hold_back:
            self._held_back.append(waiter)
            self._arm(loop, self._remaining_until)
        else:
            heapq.heappush(self._line, waiter)
            self._serve()
        try:
            await waiter.admitted
        except asyncio.CancelledError:
            self._leave(waiter)
            raise

    def release(self, company_id: str | None) -> None:
        """Note that an admitted request has ended."""
        self._in_flight -= 1
        if company_id is not None:
            left = self._of_company[company_id] - 1
            if left:
                self._of_company[company_id] = left
            else:
                del self._of_company[company_id]
            if company_id in self._company_lines:
                self._advance(company_id)
        if self._line:
            self._serve()

    def pause(self, seconds: float) -> None:
        """Admit nobody for so long; what waited then goes on at an even spacing, not in one herd."""
        until = asyncio.get_running_loop().time() + seconds
        if until <= self._closed_until:
            return
        self._closed_until = until
        self._due = max(self._due, until + _AHEAD)
        self._announce(seconds, "429 Too Many Requests")

    def mark_exhausted(self, seconds: float, reset_at: datetime | None) -> bool:
        """Note that the day's requests are spent: whoever waits is told so, or waits on if that was asked for."""
        now = asyncio.get_running_loop().time()
        self._remaining, self._remaining_until = 0, now + seconds
        if now + seconds <= self._spent_until:
            return self._wait_for_reset
        self._spent_until = now + seconds
        self._reset_at = reset_at
        self._announce(seconds, "the day's requests are spent")
        if self._wait_for_reset:
            self._due = max(self._due, self._spent_until + _AHEAD)
            return True
        for waiter in self._everyone_waiting():
            waiter.admitted.set_exception(self._exhausted(now))
        return False

    def update_remaining(self, remaining: int, seconds_to_reset: float) -> None:
        """Note what remains of the day; what is in flight beside the answer may not be in its count yet."""
        now = asyncio.get_running_loop().time()
        self._remaining = max(0, remaining - max(0, self._in_flight - 1))
        self._remaining_until = now + seconds_to_reset
        if now < self._spent_until and self._remaining:
            self._spent_until = now
            self._due = max(now, self._closed_until) + _AHEAD
            self._serve()
        self._let_go(now)

    def reserve(self, requests: int) -> None:
        """Keep so many of the day's requests for work that is under way; negative numbers give them back."""
        self._reserved += requests
        if requests < 0 and self._held_back:
            self._let_go(asyncio.get_running_loop().time())

    def _has_room(self, company_id: str | None) -> bool:
        if self._concurrent is not None and self._in_flight >= self._concurrent:
            return False
        return not self._company_full(company_id)

    def _company_full(self, company_id: str | None) -> bool:
        if company_id is None or self._per_company is None:
            return False
        return self._of_company.get(company_id, 0) >= self._per_company

    def _pause_before(self, now: float) -> float:
        """Seconds until the next request may go, as far as time decides."""
        pause = max(self._closed_until, self._spent_until) - now
        if self._sent is not None:
            pause = max(pause, self._due - _AHEAD - now)
            if len(self._sent) == self._sent.maxlen:
                pause = max(pause, self._sent[0] + _MINUTE - now)
        return pause if pause > _NEGLIGIBLE else 0.0

    def _take(self, now: float, company_id: str | None) -> None:
        self._in_flight += 1
        if company_id is not None:
            self._of_company[company_id] = self._of_company.get(company_id, 0) + 1
        if self._sent is not None:
            self._due = max(self._due, now) + self._spacing
            self._sent.append(now)
        if self._remaining is not None:
            self._remaining -= 1

    def _serve(self) -> None:
        """Admit whoever may go now, in order; whoever waits for its company steps aside."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._line:
            waiter = self._line[0]
            if waiter.admitted.done():
                heapq.heappop(self._line)
                if waiter.company_id in self._company_lines:
                    self._advance(waiter.company_id)
            elif self._company_full(waiter.company_id):
                heapq.heappop(self._line)
                heapq.heappush(self._company_lines.setdefault(waiter.company_id or "", []), waiter)
            elif self._concurrent is not None and self._in_flight >= self._concurrent:
                return
            elif pause := self._pause_before(now):
                self._arm(loop, now + pause)
                return
            else:
                heapq.heappop(self._line)
                self._take(now, waiter.company_id)
                waiter.admitted.set_result(None)

    def _advance(self, company_id: str) -> None:
        """Let the first who waits for a place at this company step back into the line."""
        line = self._company_lines[company_id]
        while line and line[0].admitted.done():
            heapq.heappop(line)
        if line and not self._company_full(company_id):
            heapq.heappush(self._line, heapq.heappop(line))
        if not line:
            del self._company_lines[company_id]

    def _leave(self, waiter: _Waiter) -> None:
        """Give back what a waiter that was cancelled had got in the meantime."""
        admitted = waiter.admitted
        if not admitted.done() or admitted.cancelled() or admitted.exception() is not None:
            return
        if self._sent:
            self._sent.pop()
            self._due -= self._spacing
        if self._remaining is not None:
            self._remaining += 1
        self.release(waiter.company_id)

    def _arm(self, loop: asyncio.AbstractEventLoop, when: float) -> None:
        # A gate may outlive the loop of the client that it was used by; so does its timer, but nobody calls it.
        if self._timer is not None and self._timer_of is loop:
            if self._timer_at <= when and not self._timer.cancelled():
                return
            self._timer.cancel()
        # The time is kept here: a short timer of uvloop has no `when`, https://github.com/MagicStack/uvloop/issues/482
        self._timer, self._timer_at, self._timer_of = loop.call_at(when, self._on_timer), when, loop

    def _on_timer(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        self._let_go(loop.time())
        self._serve()

    def _short(self, now: float) -> bool:
        """Whether what remains of the day is needed by the work that is under way."""
        if self._remaining is None or not self._reserved:
            return False
        if now >= self._remaining_until:
            self._remaining = None
            return False
        return self._remaining <= self._reserved

    def _let_go(self, now: float) -> None:
        while self._held_back and not self._short(now):
            heapq.heappush(self._line, self._held_back.popleft())
            self._serve()
        if self._held_back:
            self._arm(asyncio.get_running_loop(), self._remaining_until)

    def _everyone_waiting(self) -> list[_Waiter]:
        lines = (self._line, self._held_back, *self._company_lines.values())
        everyone = [waiter for line in lines for waiter in line if not waiter.admitted.done()]
        for line in (self._line, self._held_back, self._company_lines):
            line.clear()
        return everyone

    def _exhausted(self, now: float) -> QuotaExhaustedError:
        when = self._reset_at.isoformat() if self._reset_at else f"in {self._spent_until - now:.0f} s"
        return QuotaExhaustedError(
            f"the day's requests are spent; there are new ones {when}",
            None,
            self._reset_at,
            self._spent_until - now,
        )

    def _announce(self, seconds: float, reason: str) -> None:
        if self._on_pause is not None:
            self._on_pause(seconds, reason)
