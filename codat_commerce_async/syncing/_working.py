"""What the workers of all task queues need: their end on SIGTERM, outcomes that are not lost, and a short log."""

import asyncio
import signal
import threading
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Generic, TypeVar

from codat_commerce_async._core.callbacks import call
from codat_commerce_async._core.log import extra_fields, logger_of
from codat_commerce_async.syncing.outcome import SyncOutcome

__all__ = ["FailureLog", "Heartbeat", "deliver", "end", "on_stop_signal", "pause", "run_until_stopped"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Seconds between two records of the same failure.
_LOG_INTERVAL = 60.0
# Seconds between two cancellations of a task: redis-py does not notice every one.
_CANCEL_INTERVAL = 0.1
# Seconds for which a worker may end in an orderly way.
_STOP_TIMEOUT = 1.5
# Seconds before a worker that ended by itself is started again.
_RESTART_DELAY = 1.0

_logger = logger_of("sync")

M = TypeVar("M")


class FailureLog:
    """Log failures that repeat for as long as a server is down, or for each of thousands of tickets: once a minute."""

    def __init__(self) -> None:
        # By message and type of the error: the time of the last record, and the number of failures since.
        self._last: dict[tuple[str, type[BaseException]], tuple[float, int]] = {}

    def add(self, message: str, error: BaseException) -> None:
        """Log a failure with its traceback, or count it if one like it was logged less than a minute ago."""
        kind, now = (message, type(error)), asyncio.get_running_loop().time()
        logged_at, more = self._last.get(kind, (None, 0))
        if logged_at is not None and now - logged_at < _LOG_INTERVAL:
            self._last[kind] = logged_at, more + 1
            return
        self._last[kind] = now, 0
        suffix = f" ({more} more times since the last record)" if more else ""
        _logger.error("%s%s", message, suffix, exc_info=error, extra=extra_fields())


class Heartbeat(Generic[M]):
    """Report to a broker which messages are in work; give up those that it has delivered to another worker.

    That happens when this process was suspended, or its event loop blocked. Without the check, both workers would queue
    the ticket again, and both would report its outcome.
    """

    def __init__(
        self, report: Callable[[Sequence[M]], Awaitable[Collection[M] | None]] | None, *, interval: float
    ) -> None:
        self.interval = interval
        self._report = report
        # By identity, as messages are no keys.
        self._in_work: dict[int, tuple[M, asyncio.Task[object] | None]] = {}
        self._sent_at = 0.0
        self._sending = asyncio.Lock()

    @contextmanager
    def of(self, message: M) -> Iterator[None]:
        """Report the message while the block runs; the current task is cancelled if another worker received it."""
        self._in_work[id(message)] = message, asyncio.current_task()
        try:
            yield
        finally:
            del self._in_work[id(message)]

    async def send(self) -> None:
        """Report all messages in work."""
        messages = [message for message, _ in self._in_work.values()]
        taken = await self._report(messages) if self._report is not None and messages else None
        self._sent_at = asyncio.get_running_loop().time()
        for message in taken or ():
            _, task = self._in_work.get(id(message), (None, None))
            if task is not None:
                task.cancel()

    async def confirm(self) -> None:
        """Report the messages first if that is overdue; raise `CancelledError` if another worker received this one."""
        loop = asyncio.get_running_loop()
        async with self._sending:
            if self._report is not None and loop.time() - self._sent_at > 2 * self.interval:
                await self.send()
        await asyncio.sleep(0)


async def deliver(on_outcome: Callable[[SyncOutcome], Awaitable[None] | None], outcome: SyncOutcome) -> None:
    """Call the callback. Whatever it raises is raised as an `Exception`, unless this task is being cancelled.

    A queue takes a `CancelledError` or `SystemExit` of the callback for the end of the worker.
    """
    try:
        await call(on_outcome, outcome)
    except (Exception, KeyboardInterrupt):
        raise
    except BaseException as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise RuntimeError(f"on_outcome must not raise {type(error).__name__}") from error


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Sleep, at most until `stop` is set."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()


async def end(*tasks: asyncio.Future[Any], within: float = _CANCEL_INTERVAL) -> None:
    """Cancel tasks and wait until they end; cancel those again that have not ended within that many seconds."""
    running = {task for task in tasks if not task.done()}
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=within)
        within = _CANCEL_INTERVAL


@contextmanager
def on_stop_signal(stop: Callable[[], object]) -> Iterator[None]:
    """Call the function on SIGTERM and SIGINT while the block runs. It does nothing outside of the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop, handlers = asyncio.get_running_loop(), {number: signal.getsignal(number) for number in _SIGNALS}
    with suppress(NotImplementedError):  # Windows
        for number in _SIGNALS:
            loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        with suppress(NotImplementedError):
            for number, handler in handlers.items():
                loop.remove_signal_handler(number)
                signal.signal(number, handler)


async def run_until_stopped(work: Callable[[], Coroutine[object, object, None]], temporary: type[Exception]) -> None:
    """Run a worker until SIGTERM; run it again if it ends by itself, or with a temporary error.

    A cancelled worker should end within 1.5 seconds; then it is cancelled again.
    """
    stop, failures = asyncio.Event(), FailureLog()
    with on_stop_signal(stop.set):
        while not stop.is_set():
            worker, stopped = asyncio.create_task(work()), asyncio.create_task(stop.wait())
            try:
                await asyncio.wait((worker, stopped), return_when=asyncio.FIRST_COMPLETED)
            finally:
                await end(stopped)
                await end(worker, within=_STOP_TIMEOUT)
            if stop.is_set():
                return
            error = worker.exception()
            if error is not None and not isinstance(error, temporary):
                raise error
            failures.add("the worker ended, and is started again", error or RuntimeError("the queue failed"))
            await pause(stop, _RESTART_DELAY)
