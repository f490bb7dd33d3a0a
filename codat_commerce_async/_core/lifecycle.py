"""The lifecycle of a client: its event loop, closing, the cancellation of calls, and time."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from types import TracebackType

from codat_commerce_async._core import headers as _headers
from codat_commerce_async.errors import ClientClosedError, WrongEventLoopError

__all__ = ["CancelScope", "Clock", "Lifecycle"]


class Lifecycle:
    """Bind a client to the event loop of its first call, and cancel what it awaits when it is closed."""

    __slots__ = ("_loop", "_open", "closed")

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self.closed = False
        """Whether the client was closed."""
        # A dict is ordered: closing cancels in the order in which the scopes were entered, which is deterministic.
        self._open: dict[CancelScope, None] = {}

    def check_open(self) -> asyncio.AbstractEventLoop:
        """Return the event loop; raise ClientClosedError or WrongEventLoopError if the client cannot be used."""
        if self.closed:
            raise ClientClosedError("the client is closed; create a new one")
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._loop is not None:
                raise WrongEventLoopError(
                    "the client belongs to the event loop that used it first; create one client per event loop"
                )
            self._loop = loop
        return loop

    def scope(self, seconds: float | None = None) -> "CancelScope":
        """Return a scope that raises TimeoutError after the given seconds, and ClientClosedError on closing."""
        return CancelScope(self, self.check_open(), seconds)

    async def sleep(self, seconds: float) -> None:
        """Sleep; raise ClientClosedError at once when the client is closed meanwhile."""
        with self.scope():
            await asyncio.sleep(seconds)

    def close(self) -> None:
        """Cancel every open scope, and allow no new ones.

        Raises WrongEventLoopError when the client belongs to another event loop that is not closed.
        """
        loop_is_open = self._loop is not None and not self._loop.is_closed()
        if loop_is_open and asyncio.get_running_loop() is not self._loop:
            raise WrongEventLoopError("the client must be closed on the event loop that it belongs to")
        self.closed = True
        if loop_is_open:
            for scope in self._open:
                scope.cancel_soon()


class CancelScope:
    """A cancel scope: like `asyncio.timeout`, but closing the client cancels it too. Enter it with a plain `with`.

    Written by hand because every call enters one: a subclass of `asyncio.Timeout` that is rescheduled on closing costs
    about 3 µs more per call.
    """

    __slots__ = ("_cancelling", "_ended", "_lifecycle", "_seconds", "_task", "_timer", "loop")

    def __init__(self, lifecycle: Lifecycle, loop: asyncio.AbstractEventLoop, seconds: float | None) -> None:
        self._lifecycle = lifecycle
        self._seconds = seconds
        self.loop = loop

    def __enter__(self) -> None:
        task = asyncio.current_task(self.loop)
        assert task is not None  # noqa: S101 - for the type checker: nothing else can await
        self._task = task
        self._cancelling = task.cancelling()
        self._ended = False
        self._timer: asyncio.Handle | None = None
        if self._seconds is not None:
            self._timer = self.loop.call_later(self._seconds, self._cancel)
        self._lifecycle._open[self] = None  # noqa: SLF001 - a scope is a part of its lifecycle

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        lifecycle = self._lifecycle
        del lifecycle._open[self]  # noqa: SLF001 - a scope is a part of its lifecycle
        if self._timer is not None:
            self._timer.cancel()
        if not self._ended or self._task.uncancel() > self._cancelling or kind is not asyncio.CancelledError:
            return
        if lifecycle.closed:
            raise ClientClosedError("the client was closed during the call")
        raise TimeoutError

    def cancel_soon(self) -> None:
        """Cancel the block in the event loop's next iteration, unless it has ended by then."""
        if not self._ended:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self.loop.call_soon(self._cancel)

    def _cancel(self) -> None:
        self._ended = True
        self._timer = None
        self._task.cancel()


class Clock:
    """Return the time of the event loop, of this machine and of the server, and sleep while the client is open."""

    __slots__ = ("_lifecycle", "now", "observed")

    def __init__(self, lifecycle: Lifecycle, wall_clock: Callable[[], float]) -> None:
        self._lifecycle = lifecycle
        self.now = wall_clock
        """Return the local wall-clock time, in epoch seconds."""
        self.observed: tuple[Mapping[str, str], float] | None = None
        """The headers of the last response, and the local time at which it was received."""

    def time(self) -> float:
        """Return the event loop's monotonic time, in seconds; also after the client was closed."""
        return asyncio.get_running_loop().time()

    @property
    def server_offset(self) -> float | None:
        """Seconds by which the server's clock is ahead of the local one; None if the last response had no `Date`."""
        if self.observed is None:
            return None
        headers, observed_at = self.observed
        date = _headers.server_time(headers)
        return None if date is None else date.timestamp() - observed_at

    def server_time(self, local: float) -> datetime:
        """Return the server's time at a moment of the local clock (epoch seconds), from the last response's `Date`."""
        moment = datetime.fromtimestamp(local, UTC)
        try:
            return moment + timedelta(seconds=self.server_offset or 0.0)
        except OverflowError:  # a date at the very end of the calendar
            return moment

    async def sleep(self, seconds: float) -> None:
        """Sleep; raise ClientClosedError at once when the client is closed meanwhile."""
        await self._lifecycle.sleep(seconds)
