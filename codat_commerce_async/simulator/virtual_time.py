"""An event loop whose clock jumps to the next timer instead of waiting for it."""

import asyncio
import math
import selectors
import sys
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import TypeVar, TypeVarTuple

from codat_commerce_async._core.validation import check_seconds

__all__ = [
    "VirtualDeadlockError",
    "VirtualTimeLimitError",
    "VirtualTimeLoop",
    "loop_wall_clock",
    "run_in_virtual_time",
]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_MORNING = 1_705_305_600.0  # 2024-01-15T08:00:00Z
_IO_GRACE_IDLE = 0.25
_RESOLUTION = 1e-6


class VirtualDeadlockError(RuntimeError):
    """No callback is ready, no timer is set and no thread is running: a real loop would wait without end."""


class VirtualTimeLimitError(RuntimeError):
    """The virtual clock reached its limit."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop that starts at time `start` and never waits for a timer.

    When no callback is ready, its clock jumps to the next timer. An hour of sleeping takes no time and is repeatable.
    The clock stops while the loop waits for threads (`run_in_executor`, `asyncio.to_thread`), and for `io_grace` real
    seconds before each jump while it watches sockets: both ends of a connection must be in this loop. After `limit`
    virtual seconds it raises VirtualTimeLimitError, and where a real loop would hang, VirtualDeadlockError.

    Args:
        limit: Virtual seconds after which the loop raises VirtualTimeLimitError.
        io_grace: Real seconds to wait for sockets before the time jumps.
        start: The loop's time at the beginning, in seconds.
    """

    def __init__(self, *, limit: float = math.inf, io_grace: float = 0.002, start: float = 0.0) -> None:
        self._jumping = _AutojumpSelector(limit, io_grace, start)
        super().__init__(self._jumping)
        # asyncio runs timers that are due within this; a nanosecond is lost in a float after half a year of seconds.
        self._clock_resolution = _RESOLUTION
        # The loop's own files do not delay a jump.
        self._jumping.own_files = len(self._jumping.get_map())

    def time(self) -> float:
        """Return the virtual time in seconds; the loop starts at `start`."""
        return self._jumping.now

    def advance(self, seconds: float) -> None:
        """Advance the clock at once, as if a callback had blocked the loop that long: due timers run late.

        Args:
            seconds: Virtual seconds; at least 0.
        """
        self._jumping.now += check_seconds("seconds", seconds, finite=True)

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> "asyncio.Future[T]":
        """Run a function in a thread; the virtual clock stops until it returns.

        Args:
            executor: The executor; None for the default one.
            func: The function to run in a thread.
            *args: Its arguments.
        """
        future = super().run_in_executor(executor, func, *args)
        self._jumping.threads += 1
        future.add_done_callback(self._thread_done)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Wait for the threads; the virtual clock stops until they end.

        Args:
            timeout: Real seconds to wait for the threads.
        """
        self._jumping.threads += 1
        try:
            if sys.version_info >= (3, 12):
                await super().shutdown_default_executor(timeout)
            else:
                await super().shutdown_default_executor()
        finally:
            self._jumping.threads -= 1

    def _thread_done(self, _future: object) -> None:
        self._jumping.threads -= 1


def run_in_virtual_time(main: Coroutine[object, object, T], *, limit: float = math.inf, start: float = 0.0) -> T:
    """Run a coroutine in a new VirtualTimeLoop and return its result; `limit` is in virtual seconds.

    Args:
        main: The coroutine to run.
        limit: Virtual seconds after which VirtualTimeLimitError is raised.
        start: The loop's time at the beginning, in seconds.
    """
    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(limit=limit, start=start)) as runner:
        return runner.run(main)


def loop_wall_clock(start: float = _MORNING) -> Callable[[], float]:
    """Return a wall clock that follows the running loop: it is `start` (epoch seconds) at the loop's time 0.

    Outside of a loop it returns its last value.

    Args:
        start: The time at the loop's time 0, in epoch seconds.
    """
    last = start

    def now() -> float:
        nonlocal last
        try:
            last = start + asyncio.get_running_loop().time()
        except RuntimeError:
            return last
        return last

    return now


class _AutojumpSelector(selectors.DefaultSelector):
    """A selector that advances its own clock instead of waiting."""

    def __init__(self, limit: float, io_grace: float, start: float) -> None:
        super().__init__()
        self.now = start
        self.threads = 0
        self.own_files = 0
        self._limit = limit
        self._ends = start + limit
        self._io_grace = io_grace

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if events or (timeout is not None and timeout <= 0):
            return events
        if self.threads:
            return super().select(None)
        if len(self.get_map()) > self.own_files:
            events = super().select(_IO_GRACE_IDLE if timeout is None else self._io_grace)
        if not events:
            self._jump(timeout)
        return events

    def _jump(self, timeout: float | None) -> None:
        if timeout is None:
            raise VirtualDeadlockError("every task waits for an event that cannot happen any more")
        # A step that is lost in rounding would be repeated without end.
        later = max(self.now + timeout, math.nextafter(self.now, math.inf))
        if later > self._ends:
            raise VirtualTimeLimitError(f"{self._limit:g} virtual seconds have passed")
        self.now = later
