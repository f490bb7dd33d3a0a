"""The background task of a shared limiter, which makes a round trip to the store whenever one is due."""

import asyncio
from collections.abc import Callable, Coroutine

from codat_commerce_async._core.log import extra_fields, logger_of

__all__ = ["SHORTEST_DELAY", "RoundTask", "running_loop"]

SHORTEST_DELAY = 0.001
"""Seconds; shorter delays are not worth a timer."""

_logger = logger_of("quota")


class RoundTask:
    """Make round trips in a task of one event loop until it is closed. A task that is cancelled is replaced.

    Args:
        due: Returns when the next round trip is due, as a time of the event loop.
        make_round: Makes it.
        leave: Is called once, at the end.
        is_needed: Returns whether requests wait, so that a task that has ended must be replaced.

    """

    def __init__(
        self,
        *,
        due: Callable[[], float],
        make_round: Callable[[], Coroutine[object, object, None]],
        leave: Callable[[], Coroutine[object, object, None]],
        is_needed: Callable[[], bool],
    ) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self._due = due
        self._make_round = make_round
        self._leave = leave
        self._is_needed = is_needed
        self._closed = False
        self._task: asyncio.Task[None] | None = None
        self._wakeup = asyncio.Event()

    @property
    def is_here(self) -> bool:
        """Whether the caller runs in the task's event loop."""
        return self.loop is running_loop()

    def start(self) -> None:
        """Run the task in the running event loop, if it does not run yet."""
        self.loop = asyncio.get_running_loop()
        if (self._task is None or self._task.done()) and not self._closed:
            self._task = self.loop.create_task(self._run(), name="codat-shared-quota")
            self._task.add_done_callback(self._on_done)

    def wake(self) -> None:
        """Compute again when the next round trip is due."""
        if self.is_here:
            self._wakeup.set()

    async def close(self) -> None:
        """End the task, and wait until it has left."""
        self._closed = True
        if self._task is not None and self.is_here:
            self.wake()
            await asyncio.wait([self._task])

    def _on_done(self, task: asyncio.Task[None]) -> None:
        """Start a new task if the old one was cancelled or failed while requests wait."""
        if not task.cancelled() and (error := task.exception()) is not None:
            _logger.error("the background task of the shared quota failed", exc_info=error, extra=extra_fields())
        if self._task is task and self.is_here and not self._closed and self._is_needed():
            self.start()

    async def _run(self) -> None:
        task = asyncio.current_task()
        while not self._closed:
            await self._wait_until_due()
            if not self._closed:
                await self._make_round()
            # redis-py swallows some cancellations that arrive during a command.
            if task is not None and task.cancelling():
                raise asyncio.CancelledError
        await self._leave()

    async def _wait_until_due(self) -> None:
        """Wait until a round trip is due. It always yields to other tasks."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0)
        while not self._closed and (due := self._due()) > loop.time():
            self._wakeup.clear()
            # Event loops may round shorter timers to zero, which would cause a busy loop.
            timer = loop.call_at(max(due, loop.time() + SHORTEST_DELAY), self._wakeup.set)
            try:
                await self._wakeup.wait()
            finally:
                timer.cancel()


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the running event loop, or None outside of one."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
