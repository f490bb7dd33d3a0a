"""Notifications that something happened at a company, so that its running sync is polled soon."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Notifier", "Subscription"]


class Notifier:
    """The subscriptions to notifications, by company."""

    def __init__(self) -> None:
        self._subscriptions: dict[str, set[Subscription]] = {}
        self._callbacks: list[Callable[[str], None]] = []

    def subscribe(self, callback: Callable[[str], None]) -> None:
        """Call `callback` with the company id of every notification."""
        self._callbacks.append(callback)

    def unsubscribe(self, callback: Callable[[str], None]) -> None:
        """Stop calling `callback`."""
        if callback in self._callbacks:
            self._callbacks.remove(callback)

    def notify(self, company_id: str) -> int:
        """Notify the company's subscriptions; return how many had no notification pending before."""
        notified = sum(each.notify() for each in self._subscriptions.get(company_id, ()))
        for callback in self._callbacks:
            callback(company_id)
        return notified

    @contextmanager
    def subscribed(self, company_id: str) -> Iterator["Subscription"]:
        """Yield a subscription to the company's notifications, which ends with the block."""
        subscriptions = self._subscriptions.setdefault(company_id, set())
        subscription = Subscription()
        subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            subscriptions.discard(subscription)
            # A later subscriber may have created a new set meanwhile.
            if not subscriptions and self._subscriptions.get(company_id) is subscriptions:
                del self._subscriptions[company_id]


class Subscription:
    """The notifications of one company for one waiter: several count as one, and none is lost while it is busy."""

    __slots__ = ("_is_pending", "_sleeping")

    def __init__(self) -> None:
        self._is_pending = False
        self._sleeping: asyncio.Future[None] | None = None

    @property
    def is_pending(self) -> bool:
        """Whether there was a notification since the last `take`."""
        return self._is_pending

    def notify(self) -> bool:
        """Make a notification pending; return True if none was pending before."""
        was_pending, self._is_pending = self._is_pending, True
        if self._sleeping is not None and not self._sleeping.done():
            self._sleeping.set_result(None)
        return not was_pending

    def take(self) -> bool:
        """Clear the pending notification; return True if there was one."""
        was_pending, self._is_pending = self._is_pending, False
        return was_pending

    async def sleep(self, seconds: float) -> None:
        """Sleep until the time is over or a notification is pending."""
        if self._is_pending:
            return
        loop = asyncio.get_running_loop()
        self._sleeping = loop.create_future()
        timer = loop.call_later(seconds, _end, self._sleeping)
        try:
            await self._sleeping
        finally:
            timer.cancel()
            self._sleeping = None


def _end(sleeping: asyncio.Future[None]) -> None:
    if not sleeping.done():
        sleeping.set_result(None)
