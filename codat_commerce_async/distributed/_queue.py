"""The queue of the requests of one process that wait for a permit of the shared quota."""

import asyncio
import heapq
import math
from collections.abc import Mapping

from attrs import define, field

__all__ = ["Waiter", "WaiterQueue"]


@define(eq=False)
class Waiter:
    """A waiting request and its position in the queue."""

    order: tuple[float, int]
    arrived: float
    company: str
    background: bool = field(kw_only=True)
    starts_work: bool = field(kw_only=True)
    admitted: asyncio.Future[None] = field(kw_only=True)
    timer: asyncio.TimerHandle | None = field(default=None, init=False)
    """Set while it has a permit for a moment that is still to come."""

    @property
    def was_admitted(self) -> bool:
        """Whether it got a slot, also if it was cancelled since."""
        admitted = self.admitted
        return admitted.done() and not admitted.cancelled() and admitted.exception() is None

    def __lt__(self, other: "Waiter") -> bool:
        return self.order < other.order


class WaiterQueue:
    """The waiting requests of this process, in order of arrival.

    Those of companies at their limit, and those that wait for the daily quota, do not delay the others.
    """

    def __init__(self) -> None:
        self._ready: list[Waiter] = []
        self._by_company: dict[str, list[Waiter]] = {}
        self._company_until: dict[str, float] = {}
        self._deferred: list[Waiter] = []
        self._deferred_until = 0.0
        self._arrivals = 0

    def __len__(self) -> int:
        queues = (self._ready, self._deferred, *self._by_company.values())
        return sum(not waiter.admitted.done() for queue in queues for waiter in queue)

    def next_order(self) -> int:
        self._arrivals += 1
        return self._arrivals

    def push(self, waiter: Waiter) -> None:
        heapq.heappush(self._ready, waiter)

    def hold_company(self, company: str, until: float) -> None:
        """Request no permits for a company until this time, or until `resume_company`."""
        self._company_until[company] = until
        self._by_company.setdefault(company, [])

    def resume_company(self, company: str) -> None:
        """Let a company's requests continue."""
        if company in self._company_until:
            self._company_until[company] = 0.0

    def defer(self, waiter: Waiter, until: float) -> None:
        """Keep a request until this time, or until `resume_deferred`."""
        self._deferred.append(waiter)
        self._deferred_until = until

    def resume_deferred(self) -> None:
        """Let the requests continue that wait for the daily quota."""
        self._deferred_until = 0.0

    @property
    def has_deferred(self) -> bool:
        return bool(self._deferred)

    def due(self) -> float:
        """Return when the next request may request a permit; infinity if none waits."""
        while self._ready and self._ready[0].admitted.done():
            heapq.heappop(self._ready)
        if self._ready:
            return 0.0
        held = (self._company_until[company] for company, queue in self._by_company.items() if queue)
        return min(*held, self._deferred_until if self._deferred else math.inf, math.inf)

    def pop(self, now: float, number: int, held: Mapping[str, int], per_company: int) -> list[Waiter]:
        """Remove and return the next requests, in order; those of companies that hold `per_company` slots must wait."""
        self._resume(now)
        popped: list[Waiter] = []
        counts: dict[str, int] = {}
        while self._ready and len(popped) < number:
            waiter = heapq.heappop(self._ready)
            if waiter.admitted.done():
                continue
            if waiter.company and waiter.company in self._company_until:
                heapq.heappush(self._by_company[waiter.company], waiter)
            elif waiter.company and held.get(waiter.company, 0) + counts.get(waiter.company, 0) >= per_company:
                # The end of a request wakes it; those that are popped now may be refused, and so never end.
                self.hold_company(waiter.company, 0.0 if waiter.company in counts else math.inf)
                heapq.heappush(self._by_company[waiter.company], waiter)
            else:
                counts[waiter.company] = counts.get(waiter.company, 0) + 1
                popped.append(waiter)
        return popped

    def drain(self) -> list[Waiter]:
        """Remove and return all requests."""
        waiters = [*self._ready, *self._deferred, *(each for queue in self._by_company.values() for each in queue)]
        self._ready, self._deferred, self._by_company, self._company_until = [], [], {}, {}
        return [waiter for waiter in waiters if not waiter.admitted.done()]

    def _resume(self, now: float) -> None:
        if self._deferred and self._deferred_until <= now:
            for waiter in self._deferred:
                self.push(waiter)
            self._deferred = []
        for company in [each for each, until in self._company_until.items() if until <= now]:
            del self._company_until[company]
            for waiter in self._by_company.pop(company):
                self.push(waiter)
