"""Run the tickets of a task queue that cannot delay messages: several steps in one job, and consuming its broker."""

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Coroutine,
)
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial
from typing import TypeVar

from codat_commerce_async._core.validation import check_seconds
from codat_commerce_async.syncing._working import FailureLog, end, pause
from codat_commerce_async.syncing.outcome import SyncOutcome
from codat_commerce_async.syncing.stepper import SyncStepper
from codat_commerce_async.syncing.ticket import Reschedule, SyncTicket

__all__ = ["Slices"]

# Seconds for which a step may continue after `stop` was called.
_STOP_GRACE = 0.5
# The number of starts and of polls per process that wait for the rate limiter. More would not be faster, but make the
# process slow to stop, and polls so late that the broker delivers their messages again.
_MAX_STARTS, _MAX_POLLS = 6, 12
# Seconds without a start after which messages are taken slowly, and the seconds between these.
_NO_START_FOR, _SLOW = 2.0, 0.05
# Seconds before a broker is read again that failed, or whose messages ended.
_RECONNECT_DELAY = 1.0
# Seconds for which the messages in work may continue at the end, and without one of them ending; and those for which
# closing the broker may take.
_DRAIN, _DRAIN_ONE, _CLOSE = 5.0, 1.0, 0.3

M = TypeVar("M")
T = TypeVar("T")


class Slices:
    """Run several steps of a ticket in one job, for task queues that cannot delay a message.

    After `seconds`, or at once when `stop` was called, a slice ends with the ticket, which has to be queued again
    before its message is acknowledged. Only a step that is under way then makes a slice longer.
    """

    def __init__(self, stepper: SyncStepper, *, seconds: float = 10.0) -> None:
        check_seconds("seconds", seconds, positive=True)
        self._stepper = stepper
        self._seconds = seconds
        self.failures = FailureLog()
        self._stop = asyncio.Event()
        self._starts = _Steps(_MAX_STARTS)
        self._polls = _Steps(_MAX_POLLS)
        # False from when no start was performed for some time, until the next one is.
        self._is_progressing = True
        self._changed = asyncio.Event()

    @property
    def is_stopped(self) -> bool:
        return self._stop.is_set()

    def stop(self) -> None:
        """End all slices: waits end at once, and steps are cancelled if they do not end soon."""
        self._stop.set()
        self._changed.set()

    async def consume(
        self,
        listen: Callable[[], AsyncGenerator[M, None]],
        process: Callable[[M], Coroutine[object, object, object]],
        *,
        limit: int,
    ) -> None:
        """Process a broker's messages, up to `limit` at a time, until `stop` is called.

        Then wait for those in work, for 5 seconds at most, and while one ends each second; cancel the others.

        No message is taken while enough tickets wait for a start or poll: other workers may be sooner, and need not
        wait for their redelivery if this process is killed. A broker that fails, or whose messages end, is read again.
        """
        held: set[asyncio.Task[object]] = set()
        try:
            while not self._stop.is_set():
                try:
                    async with aclosing(listen()) as messages:
                        await self._consume(messages, process, held, limit)
                except Exception as error:  # noqa: BLE001 - whatever the broker's client raises
                    self.failures.add("the broker could not be read; trying again", error)
                # Also after a listener that ended, as it may end at once again.
                await self.pause(_RECONNECT_DELAY)
        finally:
            self.stop()
            await self._drain(held)

    async def repeat(self, send: Callable[[], Awaitable[object]], interval: float) -> None:
        """Call a function every `interval` seconds until `stop` is called, whether or not it raises."""
        while not self._stop.is_set():
            try:
                await self.unless_stopped(send())
            except Exception as error:  # noqa: BLE001 - the broker may be back at the next time
                self.failures.add("could not send a message to the broker", error)
            await self.pause(interval)

    async def pause(self, seconds: float) -> None:
        """Sleep, at most until `stop` is called."""
        await pause(self._stop, seconds)

    async def run(self, ticket: SyncTicket) -> SyncTicket | SyncOutcome:
        """Run the ticket until its sync has ended, or the slice is over; return the outcome or the ticket."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._seconds
        while True:
            due = loop.time() + self._stepper.seconds_until_due(ticket)
            await self.pause(min(due, end) - loop.time())
            if self._stop.is_set() or due > end:
                return ticket
            result = await self.unless_stopped(self._step(ticket, end), _STOP_GRACE)
            if isinstance(result, SyncOutcome):
                return result
            if result is None:
                return ticket
            ticket = result.ticket

    async def unless_stopped(self, work: Awaitable[T], grace: float = 0.0) -> T | None:
        """Return the result, or None if `stop` is called and the work does not end within `grace` seconds."""
        task = asyncio.ensure_future(work)
        stop = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait((task, stop), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                await asyncio.wait((task,), timeout=grace)
            return task.result() if task.done() else None
        finally:
            await end(stop, task)

    async def close(self, work: Awaitable[object]) -> None:
        """Wait until the broker is closed; one that does not respond must not delay the end."""
        task = asyncio.ensure_future(work)
        await asyncio.wait((task,), timeout=_CLOSE)
        await end(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.failures.add("the broker could not be closed", error)

    async def _drain(self, held: Collection[asyncio.Task[object]]) -> None:
        """Wait until the messages in work have been returned; cancel what the broker or a callback delays."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN):
                while held:
                    done, _ = await asyncio.wait(held, timeout=_DRAIN_ONE, return_when=asyncio.FIRST_COMPLETED)
                    if not done:
                        break
        await end(*held)

    async def _consume(
        self,
        messages: AsyncGenerator[M, None],
        process: Callable[[M], Coroutine[object, object, object]],
        held: set[asyncio.Task[object]],
        limit: int,
    ) -> None:
        while True:
            await self._wait_for_room(held, limit)
            # What is taken after the stop would be queued again at once, and taken again.
            try:
                message = None if self._stop.is_set() else await self.unless_stopped(anext(messages))
            except StopAsyncIteration:
                return
            if message is None:
                return
            task = asyncio.create_task(process(message))
            held.add(task)
            task.add_done_callback(partial(self._ended, held))

    def _ended(self, held: set[asyncio.Task[object]], task: asyncio.Task[object]) -> None:
        held.discard(task)
        self._changed.set()
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.failures.add("a message could not be processed; the broker delivers it again", error)

    async def _wait_for_room(self, held: Collection[object], limit: int) -> None:
        """Wait until another message may be taken, or `stop` is called.

        If no held ticket can be started, messages are taken slowly: they may be those of running syncs.
        """
        while (len(held) >= limit or self._polls.is_full) and not self._stop.is_set():
            await self._change()
        try:
            async with asyncio.timeout(_NO_START_FOR if self._is_progressing else _SLOW):
                while self._starts.is_full and not self._stop.is_set():
                    await self._change()
        except TimeoutError:
            self._is_progressing = False

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def _step(self, ticket: SyncTicket, end: float) -> Reschedule | SyncOutcome | None:
        """Perform one step; None if it was not its turn before the end of the slice."""
        steps = self._polls if ticket.handle is not None else self._starts
        try:
            async with steps.turn(end):
                result = await self._stepper.step(ticket)
        except _NotInTimeError:
            return None
        finally:
            self._changed.set()
        self._is_progressing |= steps is self._starts
        return result


class _NotInTimeError(Exception):
    """The turn of a step did not come before the end of its slice."""


class _Steps:
    """The steps of one kind: at most `limit` are performed at once, and the others wait for their turn."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._running = asyncio.Semaphore(limit)
        self._tickets = 0

    @property
    def is_full(self) -> bool:
        return self._tickets >= self._limit

    @asynccontextmanager
    async def turn(self, end: float) -> AsyncIterator[None]:
        """Wait for the turn of a step, until `end` at most."""
        self._tickets += 1
        try:
            try:
                async with asyncio.timeout_at(end):
                    await self._running.acquire()
            except TimeoutError:
                raise _NotInTimeError from None
            try:
                yield
            finally:
                self._running.release()
        finally:
            self._tickets -= 1
