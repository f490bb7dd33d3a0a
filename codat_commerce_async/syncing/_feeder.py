"""What every task queue needs beside the step: feeding a run gradually, slices of several steps, and draining."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from itertools import islice

from codat_commerce_async._core.validation import check_int, check_seconds
from codat_commerce_async.syncing.outcome import SyncOutcome
from codat_commerce_async.syncing.stepper import SyncStepper
from codat_commerce_async.syncing.ticket import Reschedule, SyncTicket

__all__ = ["MAX_QUEUED", "Slices", "feed"]

# The number of queued tickets at which feeding pauses. A ticket has to be processed within the life of its key.
MAX_QUEUED = 10_000
_BATCH = 500
# Seconds for which a step may continue after `stop` was called.
_STOP_GRACE = 0.5
# The number of starts per process that wait for the rate limiter; more would only make the process slow to stop.
_MAX_STARTS = 6


async def feed(
    tickets: Iterable[SyncTicket],
    enqueue: Callable[[Sequence[SyncTicket]], Awaitable[object]],
    count_queued: Callable[[], Awaitable[int]],
    *,
    max_queued: int = MAX_QUEUED,
    interval: float = 5.0,
) -> int:
    """Enqueue all tickets in batches, never more than `max_queued` at a time; return their number.

    The input is read as there is room, so a generator of any length takes no memory. While the queue is full, its
    length is requested every `interval` seconds.
    """
    check_int("max_queued", max_queued, 1)
    check_seconds("interval", interval, positive=True)
    source, total = iter(tickets), 0
    while True:
        room = max_queued - await count_queued()
        if room <= 0:
            await asyncio.sleep(interval)
            continue
        batch = list(islice(source, min(room, _BATCH)))
        if not batch:
            return total
        await enqueue(batch)
        total += len(batch)


class Slices:
    """Run several steps of a ticket in one job, for task queues that cannot delay a message.

    After `seconds`, or at once when `stop` was called, a slice ends with the ticket, which has to be queued again
    before its message is acknowledged.
    """

    def __init__(self, stepper: SyncStepper, *, seconds: float = 20.0) -> None:
        check_seconds("seconds", seconds, positive=True)
        self._stepper = stepper
        self._seconds = seconds
        self._stop = asyncio.Event()
        self._starts = asyncio.Semaphore(_MAX_STARTS)

    def stop(self) -> None:
        """End all slices: waits end at once, and steps are cancelled if they do not end soon."""
        self._stop.set()

    async def run(self, ticket: SyncTicket) -> SyncTicket | SyncOutcome:
        """Run the ticket until its sync has ended, or the slice is over; return the outcome or the ticket."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._seconds
        while True:
            due = loop.time() + self._stepper.seconds_until_due(ticket)
            await self._wait(min(due, end) - loop.time())
            if self._stop.is_set() or due > end:
                return ticket
            result = await self._step(ticket)
            if isinstance(result, SyncOutcome):
                return result
            if result is None:
                return ticket
            ticket = result.ticket

    async def _wait(self, seconds: float) -> None:
        """Sleep, at most until `stop` is called."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()

    async def _step(self, ticket: SyncTicket) -> Reschedule | SyncOutcome | None:
        """Perform one step; None if `stop` was called meanwhile. A step that was cancelled may be repeated."""
        step = asyncio.ensure_future(self._limited_step(ticket))
        stop = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait((step, stop), return_when=asyncio.FIRST_COMPLETED)
            if not step.done():
                await asyncio.wait((step,), timeout=_STOP_GRACE)
            return step.result() if step.done() else None
        finally:
            stop.cancel()
            step.cancel()
            await asyncio.wait((step,))

    async def _limited_step(self, ticket: SyncTicket) -> Reschedule | SyncOutcome:
        if ticket.handle is not None:
            return await self._stepper.step(ticket)
        async with self._starts:
            return await self._stepper.step(ticket)
