"""The permits of one process: its requests in flight, and those that may be sent at a moment that is still to come."""

import asyncio
from collections.abc import Callable, Iterator

from codat_commerce_async.distributed._queue import Waiter
from codat_commerce_async.distributed._rounds import SHORTEST_DELAY

__all__ = ["Permits"]


class Permits:
    """Count the permits of this process, and admit each request at the moment that its permit is for.

    `on_admitted` is called when a request was admitted that had to wait for that moment.
    """

    def __init__(self, on_admitted: Callable[[], None]) -> None:
        self._on_admitted = on_admitted
        self.held: dict[str, int] = {}
        """The permits by company ("" for requests without one)."""
        self._scheduled: dict[Waiter, None] = {}

    def __len__(self) -> int:
        return sum(self.held.values())

    @property
    def scheduled(self) -> int:
        """The number of permits for a moment that is still to come."""
        return len(self._scheduled)

    def grant(self, waiter: Waiter, delay: float) -> None:
        """Admit a request after the given number of seconds."""
        self.held[waiter.company] = self.held.get(waiter.company, 0) + 1
        if delay < SHORTEST_DELAY:
            waiter.admitted.set_result(None)
            return
        waiter.timer = asyncio.get_running_loop().call_later(delay, self._admit, waiter)
        self._scheduled[waiter] = None

    def release(self, company: str) -> None:
        """Record that a request of the company has ended."""
        left = self.held.get(company, 0) - 1
        if left > 0:
            self.held[company] = left
        else:
            self.held.pop(company, None)

    def withdraw(self, waiter: Waiter) -> bool:
        """Cancel the admission of a request that was not sent, which still has to be released; False if there is none.

        The moment of its permit is not used by others.
        """
        if waiter.timer is None:
            return False
        waiter.timer.cancel()
        waiter.timer = None
        self._scheduled.pop(waiter, None)
        return True

    def scheduled_before(self, until: float, company: str) -> Iterator[Waiter]:
        """Yield the requests of a company ("" for all) whose permits are for a moment before this one."""
        for waiter in list(self._scheduled):
            timer = waiter.timer
            if timer is not None and timer.when() < until and company in {"", waiter.company}:
                yield waiter

    def _admit(self, waiter: Waiter) -> None:
        waiter.timer = None
        del self._scheduled[waiter]
        if not waiter.admitted.done():
            waiter.admitted.set_result(None)
        self._on_admitted()
