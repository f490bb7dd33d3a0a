"""The span in which a client may be used: one event loop, from the first call until it is closed."""

import asyncio
from types import TracebackType

from codat_commerce_async.errors import ClientClosedError, WrongEventLoopError

__all__ = ["Lifetime", "Scope"]


class Lifetime:
    """Knows the loop that a client belongs to, and can end whatever awaits inside one of its scopes."""

    __slots__ = ("_closed", "_loop", "_open")

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        # Insertion-ordered, so that closing wakes in the order of arrival, the same way every time.
        self._open: dict[asyncio.Timeout, None] = {}

    @property
    def closed(self) -> bool:
        """Whether the client was closed."""
        return self._closed

    def enter(self) -> asyncio.AbstractEventLoop:
        """The running loop, if it is the client's; raises ClientClosedError or WrongEventLoopError otherwise."""
        if self._closed:
            raise ClientClosedError("the client is closed; make a new one")
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise WrongEventLoopError(
                "the client belongs to the event loop that used it first; make one client per event loop"
            )
        return loop

    def scope(self, seconds: float | None = None) -> "Scope":
        """A block that ends with TimeoutError after so many seconds, and with ClientClosedError on closing."""
        return Scope(self, seconds)

    async def sleep(self, seconds: float) -> None:
        """Sleep, unless the client is closed meanwhile: then raise ClientClosedError at once."""
        async with self.scope():
            await asyncio.sleep(seconds)

    def close(self) -> None:
        """End every open scope; from here on nothing new begins.

        Raises WrongEventLoopError when the client's own loop lives, and this is another.
        """
        loop_lives = self._loop is not None and not self._loop.is_closed()
        if loop_lives and asyncio.get_running_loop() is not self._loop:
            raise WrongEventLoopError("the client must be closed on the event loop that it belongs to")
        self._closed = True
        if not loop_lives:
            return
        for timeout in tuple(self._open):
            if not timeout.expired():
                timeout.reschedule(0.0)


class Scope:
    """One block of awaiting inside a lifetime."""

    __slots__ = ("_lifetime", "_seconds", "_timeout")

    def __init__(self, lifetime: Lifetime, seconds: float | None) -> None:
        self._lifetime = lifetime
        self._seconds = seconds

    async def __aenter__(self) -> None:
        loop = self._lifetime.enter()
        deadline = None if self._seconds is None else loop.time() + self._seconds
        self._timeout = asyncio.timeout_at(deadline)
        await self._timeout.__aenter__()
        self._lifetime._open[self._timeout] = None  # noqa: SLF001 - a scope is a part of its lifetime

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        del self._lifetime._open[self._timeout]  # noqa: SLF001 - a scope is a part of its lifetime
        try:
            await self._timeout.__aexit__(kind, error, traceback)
        except TimeoutError:
            if not self._lifetime.closed:
                raise
        else:
            return
        raise ClientClosedError("the client was closed during the call")
