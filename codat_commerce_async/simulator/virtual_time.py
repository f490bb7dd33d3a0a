"""An event loop whose clock jumps to the next timer instead of waiting for it."""

import asyncio
import math
import selectors
import sys
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import TypeVar, TypeVarTuple

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
    """Nothing is ready, no timer is set, nothing runs outside: a real loop would wait for ever."""


class VirtualTimeLimitError(RuntimeError):
    """The virtual clock was about to pass the limit that it was given."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop that starts at time `start` and never waits for a timer.

    Whenever nothing is ready its clock jumps to the next timer, so that an hour of sleeping takes no time and
    happens the same way every time. It does wait, with its clock standing still, for threads
    (`run_in_executor`, `asyncio.to_thread`), and, before each jump, `io_grace` real seconds for the sockets that
    it watches: both ends of a connection have to live in this loop. Past `limit` virtual seconds it raises
    VirtualTimeLimitError, and where a real loop would hang, VirtualDeadlockError.
    """

    def __init__(self, *, limit: float = math.inf, io_grace: float = 0.002, start: float = 0.0) -> None:
        self._jumping = _AutojumpSelector(limit, io_grace, start)
        super().__init__(self._jumping)
        # asyncio runs what is due within this; its nanosecond is lost in a float after half a year of seconds.
        self._clock_resolution = _RESOLUTION
        # What the loop watches for its own sake never holds a jump up.
        self._jumping.own_files = len(self._jumping.get_map())

    def time(self) -> float:
        """Return the virtual time in seconds; it was `start` when the loop was made."""
        return self._jumping.now

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> "asyncio.Future[T]":
        """Run in a thread; the virtual clock stands still until that is done."""
        future = super().run_in_executor(executor, func, *args)
        self._jumping.threads += 1
        future.add_done_callback(self._thread_done)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Wait for the threads; the virtual clock stands still until they are done."""
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
    """What a coroutine returns, run in a new VirtualTimeLoop; `limit` is in virtual seconds."""
    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(limit=limit, start=start)) as runner:
        return runner.run(main)


def loop_wall_clock(start: float = _MORNING) -> Callable[[], float]:
    """A wall clock that follows the running loop: `start` (epoch seconds) at the loop's time 0.

    Between loops it stands where it was last read.
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
    """A selector that moves its own clock on when asked to wait."""

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
            raise VirtualDeadlockError("every task waits for something that cannot happen any more")
        # A step that is lost in rounding would be asked for again and again.
        later = max(self.now + timeout, math.nextafter(self.now, math.inf))
        if later > self._ends:
            raise VirtualTimeLimitError(f"{self._limit:g} virtual seconds have passed")
        self.now = later
