"""Notifications that something happened at a company, which make whoever waits for a sync of it poll soon."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Notifier", "Subscription"]


class Notifier:
    """Who waits for notifications of which company."""

    def __init__(self) -> None:
        self._subscriptions: dict[str, set[Subscription]] = {}
        self._followers: list[Callable[[str], None]] = []

    def subscribe(self, told: Callable[[str], None]) -> None:
        """Call `told` with the company of every hint from here on."""
        self._followers.append(told)

    def unsubscribe(self, told: Callable[[str], None]) -> None:
        """Call it no longer."""
        if told in self._followers:
            self._followers.remove(told)

    def notify(self, company_id: str) -> int:
        """Notify whoever waits for the company; return how many had no notification pending before."""
        notified = sum(each.notify() for each in self._subscriptions.get(company_id, ()))
        for told in self._followers:
            told(company_id)
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
            # The set may be another by now, that of a later subscriber.
            if not subscriptions and self._subscriptions.get(company_id) is subscriptions:
                del self._subscriptions[company_id]


class Subscription:
    """One waiter's notifications of one company: several make one, and none is lost while the waiter is busy."""

    __slots__ = ("_is_pending", "_sleeping")

    def __init__(self) -> None:
        self._is_pending = False
        self._sleeping: asyncio.Future[None] | None = None

    def notify(self) -> bool:
        """Make a notification pending; return whether none was before."""
        was_pending, self._is_pending = self._is_pending, True
        if self._sleeping is not None and not self._sleeping.done():
            self._sleeping.set_result(None)
        return not was_pending

    def take(self) -> bool:
        """Return whether a notification is pending, which it is no longer then."""
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
