"""The span in which a client may be used: one event loop, from the first call until it is closed."""

import asyncio
from types import TracebackType

from codat_commerce_async.errors import ClientClosedError, WrongEventLoopError

__all__ = ["CancelScope", "Lifecycle"]


class Lifecycle:
    """Knows the loop that a client belongs to, and can end whatever awaits inside one of its scopes."""

    __slots__ = ("_loop", "_open", "closed")

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self.closed = False
        """Whether the client was closed."""
        # Insertion-ordered, so that closing wakes in the order of arrival, the same way every time.
        self._open: dict[CancelScope, None] = {}

    def enter(self) -> asyncio.AbstractEventLoop:
        """The running loop, if it is the client's; raises ClientClosedError or WrongEventLoopError otherwise."""
        if self.closed:
            raise ClientClosedError("the client is closed; make a new one")
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise WrongEventLoopError(
                "the client belongs to the event loop that used it first; make one client per event loop"
            )
        return loop

    def scope(self, seconds: float | None = None) -> "CancelScope":
        """A block that ends with TimeoutError after so many seconds, and with ClientClosedError on closing."""
        return CancelScope(self, self.enter(), seconds)

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
        self.closed = True
        if loop_lives:
            for scope in self._open:
                scope.cancel_soon()


class CancelScope:
    """One block of awaiting inside a lifetime: an `asyncio.timeout` that closing ends too.

    Every call opens one, which takes a third of the time of asyncio's own.
    """

    __slots__ = ("_cancelling", "_ended", "_lifetime", "_seconds", "_task", "_timer", "loop")

    def __init__(self, lifetime: Lifecycle, loop: asyncio.AbstractEventLoop, seconds: float | None) -> None:
        self._lifetime = lifetime
        self._seconds = seconds
        self.loop = loop

    async def __aenter__(self) -> None:
        task = asyncio.current_task(self.loop)
        assert task is not None  # noqa: S101 - for the type checker: nothing else can await
        self._task = task
        self._cancelling = task.cancelling()
        self._ended = False
        self._timer: asyncio.Handle | None = None
        if self._seconds is not None:
            self._timer = self.loop.call_later(self._seconds, self._cancel)
        self._lifetime._open[self] = None  # noqa: SLF001 - a scope is a part of its lifetime

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        lifetime = self._lifetime
        del lifetime._open[self]  # noqa: SLF001 - a scope is a part of its lifetime
        if self._timer is not None:
            self._timer.cancel()
        if not self._ended or self._task.uncancel() > self._cancelling or kind is not asyncio.CancelledError:
            return
        if lifetime.closed:
            raise ClientClosedError("the client was closed during the call")
        raise TimeoutError

    def cancel_soon(self) -> None:
        """End the block in the loop's next turn, if it has not ended by itself until then."""
        if not self._ended:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self.loop.call_soon(self._cancel)

    def _cancel(self) -> None:
        self._ended = True
        self._timer = None
        self._task.cancel()
