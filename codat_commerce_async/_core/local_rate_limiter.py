"""Limit the requests of one process: queue those that have to wait, and admit them in order."""

import asyncio
import heapq
import math
from collections import deque
from collections.abc import Hashable, Iterator
from copy import copy
from datetime import datetime
from typing import Self

from codat_commerce_async._core.callbacks import check_function
from codat_commerce_async._core.rate_limiter import OnPause, PauseListeners, log_pause
from codat_commerce_async._core.rate_window import DailyQuota, RateWindow, Slots
from codat_commerce_async.errors import QuotaExhaustedError
from codat_commerce_async.policies import Quota

__all__ = ["LocalRateLimiter"]

# Background requests are queued as if they had arrived this many seconds later.
_BACKGROUND_DELAY = 60.0
# Event loops may round shorter timers to zero, which would cause a busy loop.
_SHORTEST_TIMER = 0.001


class _Account:
    """The daily quota of one API key, and the requests that wait for it."""

    __slots__ = ("deferred", "quota", "until_reset")

    def __init__(self) -> None:
        self.quota = DailyQuota()
        self.deferred: deque[_Waiter] = deque()
        self.until_reset: list[_Waiter] = []


class _Waiter:
    """A waiting request and its position in the queue."""

    __slots__ = ("account", "admitted", "company_id", "order")

    def __init__(
        self, order: tuple[float, int], company_id: str | None, account: _Account, admitted: asyncio.Future[None]
    ) -> None:
        self.order = order
        self.company_id = company_id
        self.account = account
        self.admitted = admitted

    def __lt__(self, other: "_Waiter") -> bool:
        return self.order < other.order


class _Queue:
    """Queue the requests of one IP address in order of arrival, with one timer.

    Requests that wait for their company or for the daily quota of their account have queues of their own, so they do
    not delay the others.
    """

    __slots__ = (
        "_arrivals",
        "_company_resumes_at",
        "_paused_companies",
        "_paused_until",
        "_timer",
        "_timer_at",
        "_timer_loop",
        "_waiting",
        "_waiting_by_company",
        "accounts",
        "slots",
        "window",
    )

    def __init__(self, quota: Quota) -> None:
        self.slots = Slots(quota.concurrent, quota.per_company)
        self.window = RateWindow(quota.per_minute) if quota.per_minute else None
        self.accounts: list[_Account] = []
        self._waiting: list[_Waiter] = []
        self._waiting_by_company: dict[str, list[_Waiter]] = {}
        self._arrivals = 0
        self._paused_until = 0.0
        self._paused_companies: dict[str, float] = {}
        self._company_resumes_at = math.inf  # the first of them
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._timer_loop: asyncio.AbstractEventLoop | None = None

    def __iter__(self) -> Iterator[_Waiter]:
        queues: list[list[_Waiter]] = [self._waiting, *self._waiting_by_company.values()]
        for account in self.accounts:
            queues += [account.until_reset, list(account.deferred)]
        return (waiter for queue in queues for waiter in queue if not waiter.admitted.done())

    def try_take(self, now: float, company_id: str | None, account: _Account) -> bool:
        """Count a request and return True if it may start now and no other request waits."""
        if self._waiting or now < self._paused_until:
            return False
        if self._paused_companies and self._company_paused_until(company_id) > now:
            return False
        if (window := self.window) is not None and window.delay(now):
            return False
        if not self.slots.try_take(company_id):
            return False
        if window is not None:
            window.take(now)
        account.quota.take()
        return True

    def waiter(self, arrived: float, company_id: str | None, account: _Account) -> _Waiter:
        """Return a new waiter, which is not in the queue yet."""
        self._arrivals += 1
        admitted = asyncio.get_running_loop().create_future()
        return _Waiter((arrived, self._arrivals), company_id, account, admitted)

    def push(self, *waiters: _Waiter) -> None:
        """Add waiters to the queue."""
        for waiter in waiters:
            heapq.heappush(self._waiting, waiter)

    def release(self, company_id: str | None, account: _Account) -> None:
        """Record the end of a request, and admit the next one."""
        account.quota.end()
        self.slots.release(company_id)
        if self.window is not None:
            self.window.end(_now(self._timer_at))
        if self._waiting or self._waiting_by_company:
            self._dispatch_after(company_id)

    def undo(self, waiter: _Waiter) -> None:
        """Undo the admission of a request that was never sent."""
        waiter.account.quota.undo()
        self.slots.release(waiter.company_id)
        if self.window is not None:
            self.window.undo()
        self._dispatch_after(waiter.company_id)

    def pause(self, now: float, seconds: float) -> bool:
        """Admit no request for the given seconds; return whether that extends the pause."""
        if now + seconds <= self._paused_until:
            return False
        self._paused_until = now + seconds
        self.space_from(self._paused_until)
        return True

    def pause_company(self, now: float, seconds: float, company_id: str) -> bool:
        """Admit no request of one company for the given seconds; return whether that extends its pause."""
        self._resume_companies(now)
        if now + seconds <= self._company_paused_until(company_id):
            return False
        self._paused_companies[company_id] = now + seconds
        self._company_resumes_at = min(self._company_resumes_at, now + seconds)
        return True

    def space_from(self, moment: float) -> None:
        """Admit the requests that waited until this moment at an even rate, without a burst."""
        if self.window is not None:
            self.window.space_from(max(moment, self._paused_until))

    def dispatch(self) -> None:
        """Admit all requests that may start, in order, and schedule the next."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._waiting:
            waiter = self._waiting[0]
            if waiter.admitted.done():
                heapq.heappop(self._waiting)
                self._requeue_first(waiter.company_id)
            elif now < waiter.account.quota.exhausted_until:
                heapq.heappush(waiter.account.until_reset, heapq.heappop(self._waiting))
                self.schedule(loop, waiter.account.quota.exhausted_until)
            elif waiter.company_id is not None and self._company_blocked(now, waiter.company_id):
                heapq.heappush(self._waiting_by_company.setdefault(waiter.company_id, []), heapq.heappop(self._waiting))
                self.schedule(loop, self._company_resumes_at)
            elif self.slots.full:
                return
            elif delay := self._delay(now):
                self.schedule(loop, now + delay)
                return
            else:
                heapq.heappop(self._waiting)
                self.slots.try_take(waiter.company_id)
                if self.window is not None:
                    self.window.take(now)
                waiter.account.quota.take()
                waiter.admitted.set_result(None)

    def schedule(self, loop: asyncio.AbstractEventLoop, when: float) -> None:
        """Schedule a dispatch at this time, unless an earlier one is scheduled."""
        if when == math.inf:  # the end of a request in flight wakes the queue
            return
        # The limiter may outlive the event loop that created its timer; a timer of another loop is ignored.
        if self._timer is not None and self._timer_loop is loop:
            if self._timer_at <= when and not self._timer.cancelled():
                return
            self._timer.cancel()
        # A short timer of uvloop has no `when`: https://github.com/MagicStack/uvloop/issues/482
        self._timer_at, self._timer_loop = max(when, loop.time() + _SHORTEST_TIMER), loop
        self._timer = loop.call_at(self._timer_at, self._on_timer)

    def resume(self, account: _Account) -> None:
        """Release the requests of an account for which its daily quota suffices by now."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        quota = account.quota
        if account.until_reset and now >= quota.exhausted_until:
            self.space_from(now)
            self.push(*account.until_reset)
            account.until_reset.clear()
            self.dispatch()
        while account.deferred and not quota.shortage_ends(now):
            self.push(account.deferred.popleft())
            self.dispatch()
        if account.until_reset:
            self.schedule(loop, quota.exhausted_until)
        if account.deferred:
            self.schedule(loop, quota.shortage_ends(now))

    def remove(self, account: _Account) -> list[_Waiter]:
        """Remove all waiting requests of an account from the queues and return them."""
        removed = [waiter for waiter in self if waiter.account is account]
        gone = set(removed)
        self._waiting = [waiter for waiter in self._waiting if waiter not in gone]
        heapq.heapify(self._waiting)
        for company_id, queue in list(self._waiting_by_company.items()):
            left = [waiter for waiter in queue if waiter not in gone]
            heapq.heapify(left)
            self._waiting_by_company[company_id] = left
            if not left:
                del self._waiting_by_company[company_id]
        account.until_reset.clear()
        account.deferred.clear()
        return removed

    def _delay(self, now: float) -> float:
        delay = 0.0 if self.window is None else self.window.delay(now)
        return max(delay, self._paused_until - now) if now < self._paused_until else delay

    def _dispatch_after(self, company_id: str | None) -> None:
        if self._waiting_by_company:
            self._requeue_first(company_id)
        if self._waiting:
            self.dispatch()

    def _requeue_first(self, company_id: str | None) -> None:
        """Move the first request that waits for this company back to the queue, if it may start."""
        queue = self._waiting_by_company.get(company_id) if company_id is not None else None
        if queue is None or company_id is None:
            return
        while queue and queue[0].admitted.done():
            heapq.heappop(queue)
        if queue and company_id not in self._paused_companies and not self.slots.company_full(company_id):
            self.push(heapq.heappop(queue))
        if not queue:
            del self._waiting_by_company[company_id]

    def _company_paused_until(self, company_id: str | None) -> float:
        return self._paused_companies.get(company_id, 0.0) if company_id is not None else 0.0

    def _company_blocked(self, now: float, company_id: str) -> bool:
        return self._company_paused_until(company_id) > now or self.slots.company_full(company_id)

    def _resume_companies(self, now: float) -> None:
        """Move the requests of companies whose pause is over back to the queue."""
        if now < self._company_resumes_at:
            return
        for company_id in [each for each, deadline in self._paused_companies.items() if deadline <= now]:
            del self._paused_companies[company_id]
            self.push(*self._waiting_by_company.pop(company_id, ()))
        self._company_resumes_at = min(self._paused_companies.values(), default=math.inf)

    def _on_timer(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        self._resume_companies(loop.time())
        if self._waiting_by_company:
            self.schedule(loop, self._company_resumes_at)
        for account in self.accounts:
            self.resume(account)
        self.dispatch()


class LocalRateLimiter:
    """The rate limiter of one client, or of all clients of one process that share it.

    Requests are spaced evenly, after a burst of one second's worth, and never exceed `quota` in any 60 seconds, as the
    server counts them. They are sent in order of arrival; background requests are queued as if they had arrived a
    minute later, so they never starve. A request that waits for its company does not delay the others.

    Codat's limit per minute holds for an IP address, whatever the API key. Give the clients of one process the same
    limiter: `CodatCommerce(key, rate_limiter=limiter)`. Clients with different keys then share the rate and the
    concurrency; the daily quota is counted per key. Use a limiter in one event loop at a time, and in one thread.

    Args:
        quota: The limits; `Quota()` by default.
        on_pause: Called with the seconds, the reason and the company id when requests are paused: all of them, or those
            of one company. By default a warning is logged.

    Example:
        ```python
        limiter = LocalRateLimiter(Quota(per_minute=900))
        first = CodatCommerce("key of a client", rate_limiter=limiter)
        second = CodatCommerce("key of another", rate_limiter=limiter)
        ```
    """

    def __init__(self, quota: Quota | None = None, *, on_pause: OnPause | None = None) -> None:
        quota = quota or Quota()
        self._wait_for_reset = quota.wait_for_reset
        if on_pause is not None:
            check_function("on_pause", on_pause)
        self._pause_listeners = PauseListeners(on_pause or log_pause)
        self._queue = _Queue(quota)
        self._account = _Account()
        self._queue.accounts.append(self._account)
        self._by_key: dict[Hashable, LocalRateLimiter] = {}

    def for_account(self, account: Hashable) -> "LocalRateLimiter":
        """Return the limiter for clients with this API key: the same rate and slots, a daily quota of the key's own.

        Clients call this themselves. For the first key it is this very object.

        Args:
            account: What identifies the API key, such as its hash.
        """
        if account not in self._by_key:
            self._by_key[account] = self._sibling() if self._by_key else self
        return self._by_key[account]

    def _sibling(self) -> Self:
        sibling = copy(self)
        sibling._account = _Account()  # noqa: SLF001 - of its own class
        self._queue.accounts.append(sibling._account)  # noqa: SLF001 - likewise
        return sibling

    def shares_address_with(self, other: object) -> bool:
        """Return whether both limiters count their requests together.

        Args:
            other: The other limiter.
        """
        return isinstance(other, LocalRateLimiter) and other._queue is self._queue  # noqa: SLF001 - of its own class

    @property
    def min_interval(self) -> float:
        """Seconds from one request to the next at the full rate; 0 without a rate."""
        window = self._queue.window
        return 0.0 if window is None else window.min_interval

    @property
    def needs_quota_update(self) -> bool:
        """Whether requests wait for what the next response reports of the daily quota."""
        return bool(self._account.deferred) or self._account.quota.exhausted_until > 0

    @property
    def in_flight(self) -> int:
        """The number of requests that are admitted and not released."""
        return self._queue.slots.in_flight

    def in_flight_of(self, company_id: str) -> int:
        """Return the number of this company's requests that are admitted and not released.

        Args:
            company_id: The id of the company.
        """
        return self._queue.slots.of_company(company_id)

    @property
    def waiting(self) -> int:
        """The number of requests that wait to be admitted."""
        return sum(1 for _ in self._queue)

    @property
    def reserved(self) -> int:
        """The number of requests of the daily quota that are reserved for work that is running."""
        return self._account.quota.reserved

    async def acquire(self, company_id: str | None, *, background: bool = False, starts_work: bool = False) -> None:
        """Wait until a request may be sent, in order of arrival."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        queue, account = self._queue, self._account
        exhausted = now < account.quota.exhausted_until
        if exhausted and not self._wait_for_reset:
            raise self._exhausted(now)
        shortage_ends = account.quota.shortage_ends(now) if starts_work else 0.0
        if not exhausted and not shortage_ends and queue.try_take(now, company_id, account):
            return
        waiter = queue.waiter(now + (_BACKGROUND_DELAY if background else 0.0), company_id, account)
        if shortage_ends:
            account.deferred.append(waiter)
            queue.schedule(loop, shortage_ends)
        else:
            queue.push(waiter)
            queue.dispatch()
        try:
            await waiter.admitted
        except asyncio.CancelledError:
            if _was_admitted(waiter):
                queue.undo(waiter)
            raise

    def release(self, company_id: str | None) -> None:
        """Record that a request has ended."""
        self._queue.release(company_id, self._account)

    def pause(self, seconds: float, company_id: str | None = None) -> None:
        """Send no requests for the given seconds, or none of one company, then continue at an even rate."""
        now = asyncio.get_running_loop().time()
        queue = self._queue
        if queue.pause(now, seconds) if company_id is None else queue.pause_company(now, seconds, company_id):
            self._pause_listeners.emit(seconds, "429 Too Many Requests", company_id)

    def mark_exhausted(self, seconds: float, reset_at: datetime | None) -> bool:
        """Record that the daily quota is exhausted: waiting requests raise, unless they wait for the reset."""
        now = asyncio.get_running_loop().time()
        if not self._account.quota.exhaust(now + seconds, reset_at):
            return self._wait_for_reset
        self._pause_listeners.emit(seconds, "the daily quota is exhausted", None)
        if self._wait_for_reset:
            return True
        for waiter in self._queue.remove(self._account):
            waiter.admitted.set_exception(self._exhausted(now))
        return False

    def update_remaining(self, remaining: int, seconds_to_reset: float, age: float = 0.0) -> None:  # noqa: ARG002
        """Record the remaining requests of the daily quota, as a response of this process reported them."""
        now = asyncio.get_running_loop().time()
        self._account.quota.update(now, remaining, now + seconds_to_reset)
        self._queue.resume(self._account)

    def reserve(self, requests: int) -> None:
        """Reserve requests of the daily quota for work that is running; a negative number releases them."""
        self._account.quota.reserve(requests)
        if requests < 0 and self._account.deferred:
            self._queue.resume(self._account)

    def add_pause_listener(self, listener: OnPause) -> None:
        """Call a function with the seconds, the reason and the company id (None for all) of each pause.

        Args:
            listener: The function to call.
        """
        self._pause_listeners.add(listener)

    def remove_pause_listener(self, listener: OnPause) -> None:
        """Undo `add_pause_listener`.

        Args:
            listener: The function that was added.
        """
        self._pause_listeners.remove(listener)

    def _exhausted(self, now: float) -> QuotaExhaustedError:
        seconds, reset_at = self._account.quota.exhausted_until - now, self._account.quota.reset_at
        when = f"at {reset_at.isoformat()}" if reset_at else f"in {seconds:.0f} s"
        return QuotaExhaustedError(f"the daily quota is exhausted; it resets {when}", None, reset_at, seconds)


def _was_admitted(waiter: _Waiter) -> bool:
    admitted = waiter.admitted
    return admitted.done() and not admitted.cancelled() and admitted.exception() is None


def _now(otherwise: float) -> float:
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:  # a coroutine that is closed after its loop has ended
        return otherwise
