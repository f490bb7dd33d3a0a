"""Hints that something happened at a company, which make whoever waits for it look at once."""

import asyncio
from collections.abc import Callable

__all__ = ["Hints"]


class Hints:
    """Who waits for news of which company."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        self._followers: list[Callable[[str], None]] = []

    def follow(self, told: Callable[[str], None]) -> None:
        """Call `told` with the company of every hint from here on."""
        self._followers.append(told)

    def unfollow(self, told: Callable[[str], None]) -> None:
        """Call it no longer."""
        if told in self._followers:
            self._followers.remove(told)

    def give(self, company_id: str) -> int:
        """Wake whoever waits for the company; tells how many did."""
        waiting = self._waiting.get(company_id, set())
        woken = [future for future in waiting if not future.done()]
        for future in woken:
            future.set_result(None)
        for told in self._followers:
            told(company_id)
        return len(woken)

    async def sleep(self, company_id: str, seconds: float) -> None:
        """Sleep until the time is over or there is a hint."""
        loop = asyncio.get_running_loop()
        hint = loop.create_future()
        timer = loop.call_later(seconds, _over, hint)
        waiting = self._waiting.setdefault(company_id, set())
        waiting.add(hint)
        try:
            await hint
        finally:
            timer.cancel()
            waiting.discard(hint)
            if not waiting:
                self._waiting.pop(company_id, None)


def _over(hint: asyncio.Future[None]) -> None:
    if not hint.done():
        hint.set_result(None)
