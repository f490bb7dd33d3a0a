"""Watch syncs for many listeners, such as the event streams of a web service, with one poller per sync."""

import asyncio
import copy
from collections.abc import AsyncGenerator, Iterator
from contextlib import AbstractContextManager, aclosing, nullcontext
from contextvars import copy_context
from types import MappingProxyType, TracebackType
from typing import Literal, Self, TypeAlias, overload

from codat_commerce_async._core.encoding import encode
from codat_commerce_async._core.validation import check_seconds
from codat_commerce_async.errors import ClientClosedError, CodatError
from codat_commerce_async.models.handle import SyncHandle, as_handle
from codat_commerce_async.models.sync import SyncStatus
from codat_commerce_async.problems import problem
from codat_commerce_async.syncing._context import SyncContext
from codat_commerce_async.syncing._notifications import Subscription
from codat_commerce_async.syncing._poller import WaitSettings, watch
from codat_commerce_async.syncing._signals import before_signal_handlers

__all__ = ["EVENT_STREAM_HEADERS", "Watches"]

EVENT_STREAM_HEADERS = MappingProxyType(
    {
        "Content-Type": "text/event-stream; charset=utf-8",
        "Cache-Control": "no-store",
        # nginx buffers responses unless this header forbids it.
        "X-Accel-Buffering": "no",
    }
)
"""The headers of a response whose body is `Watches.event_stream`."""

# Seconds after which proxies close a connection without traffic: 60 in nginx, 30 in some load balancers.
_HEARTBEAT = 15.0
# How long a listener without heartbeats sleeps at most; there is no need to wake up, but timers are finite.
_MAX_SLEEP = 86_400.0

_Key: TypeAlias = tuple[Literal["commerce_sync_id", "sync_id", "handle"], object, str]


class Watches:
    """Statuses of syncs for many listeners: one poller per sync, however many listen to it.

    Use it with `async with`, once per process. A listener gets the newest status at once, then every change; a slow one
    gets the newest change only. The poller of a sync stops when its last listener leaves.

    All iterators end when SIGTERM or SIGINT is received, unless `end_on_signals` is False: an open event stream would
    keep uvicorn from shutting down. The server's own handlers are called as before, and are restored at the end.
    """

    def __init__(self, context: SyncContext, waiting: WaitSettings, *, end_on_signals: bool = True) -> None:
        self._context = context
        self._waiting = waiting
        self._signals: AbstractContextManager[None] = nullcontext()
        self._end_on_signals = end_on_signals
        self._shared: dict[_Key, _SharedSync] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended = False
        # A poller serves many requests, so it must not run with the context variables of the first one.
        self._variables = copy_context()

    @property
    def syncs(self) -> int:
        """The number of syncs that are polled, each by one poller."""
        return len(set(self._shared.values()))

    @property
    def listeners(self) -> int:
        """The number of iterators that have started and not ended."""
        return sum(len(shared.listeners) for shared in set(self._shared.values()))

    @property
    def ended(self) -> bool:
        """Whether all iterators end: after `end`, `aclose` or a shutdown signal. For event streams of your own."""
        return self._ended

    @overload
    def watch(
        self, handle: SyncHandle | str, sync_id: str | None = None, *, heartbeat: None = None
    ) -> AsyncGenerator[SyncStatus, None]: ...

    @overload
    def watch(
        self, handle: SyncHandle | str, sync_id: str | None = None, *, heartbeat: float
    ) -> AsyncGenerator[SyncStatus | None, None]: ...

    def watch(
        self, handle: SyncHandle | str, sync_id: str | None = None, *, heartbeat: float | None = None
    ) -> AsyncGenerator[SyncStatus | None, None]:
        """Yield the status of a sync and every change of it, up to and including the terminal one.

        With `heartbeat`, yield None after that many seconds without a change. The iterator ends early on a shutdown
        signal, on `end` and when the client is closed: the last status is then not terminal.

        Args:
            handle: The handle of the sync, or the id of its company.
            sync_id: The id of the sync, with a company id.
            heartbeat: Seconds without a change after which None is yielded.

        Raises:
            CodatError: As `SyncResource.watch` raises it.
        """
        if heartbeat is not None:
            check_seconds("heartbeat", heartbeat, positive=True, finite=True)
        return self._updates(as_handle(handle, sync_id), heartbeat)

    async def event_stream(
        self, handle: SyncHandle | str, sync_id: str | None = None, *, heartbeat: float = _HEARTBEAT
    ) -> AsyncGenerator[bytes, None]:
        """Yield the body of a response with server-sent events; send it with `EVENT_STREAM_HEADERS`.

        The events are `status` with a status in Codat's JSON, `problem` with the body of a `Problem`, and `end` after
        the terminal status or a problem: the page must close its EventSource then, or the browser connects again. After
        a shutdown there is no `end`, so that it does. A comment is sent as the heartbeat.

        Args:
            handle: The handle of the sync, or the id of its company.
            sync_id: The id of the sync, with a company id.
            heartbeat: Seconds without a change after which a comment is sent.
        """
        status: SyncStatus | None = None
        try:
            async with aclosing(self.watch(handle, sync_id, heartbeat=heartbeat)) as updates:
                async for status in updates:
                    yield b": heartbeat\n\n" if status is None else _event("status", status)
        except CodatError as error:
            yield _event("problem", problem(error).to_dict())
        else:
            if status is None or not status.is_terminal:
                return
        yield _event("end", {})

    def end(self) -> None:
        """End all iterators, now and from now on. Call it in the event loop, when the server begins to shut down."""
        self._ended = True
        for task in self._tasks:
            task.cancel()

    async def aclose(self) -> None:
        """End all iterators, and wait until no poller is left."""
        self.end()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def __aenter__(self) -> Self:
        loop = self._context.lifecycle.check_open()
        if self._end_on_signals:
            self._signals = before_signal_handlers(lambda: loop.call_soon_threadsafe(self.end))
        self._signals.__enter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._signals.__exit__(None, None, None)
        await self.aclose()

    async def _updates(self, handle: SyncHandle, heartbeat: float | None) -> AsyncGenerator[SyncStatus | None, None]:
        self._context.lifecycle.check_open()
        if self._ended:
            return
        shared = self._join(handle)
        listener = Subscription()
        shared.listeners.add(listener)
        seen: SyncStatus | None = None
        try:
            while True:
                if shared.last is not seen:
                    seen = shared.last
                    yield seen
                elif shared.has_ended:
                    shared.raise_error()
                    return
                elif not listener.take():
                    await listener.sleep(heartbeat or _MAX_SLEEP)
                    if heartbeat and not listener.is_pending:
                        yield None
        finally:
            shared.listeners.discard(listener)
            if not shared.listeners:
                self._forget(shared)
                shared.task.cancel()

    def _join(self, handle: SyncHandle) -> "_SharedSync":
        """Return the poller of a sync, which may be known by either of its ids."""
        keys = tuple(_keys(handle))
        for key in keys:
            if key in self._shared:
                return self._shared[key]
        shared = _SharedSync()
        shared.task = asyncio.get_running_loop().create_task(
            self._run(shared, handle), name=f"watch {handle.company_id}", context=self._variables.copy()
        )
        self._tasks.add(shared.task)
        shared.task.add_done_callback(lambda task: self._finish(shared, task))
        for key in keys:
            self._shared[key] = shared
        return shared

    def _finish(self, shared: "_SharedSync", task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._forget(shared)
        error = None if task.cancelled() else task.exception()
        # The iterators end when the client is closed, as they do on `end`.
        shared.finish(None if isinstance(error, ClientClosedError) else error)

    def _forget(self, shared: "_SharedSync") -> None:
        for key in [key for key, other in self._shared.items() if other is shared]:
            del self._shared[key]

    async def _run(self, shared: "_SharedSync", handle: SyncHandle) -> None:
        async with aclosing(watch(self._context, handle, self._waiting)) as statuses:
            async for status in statuses:
                if status.sync_id:
                    self._shared.setdefault(("sync_id", handle.company_id, status.sync_id), shared)
                shared.publish(status)


class _SharedSync:
    """A sync that is polled for its listeners."""

    def __init__(self) -> None:
        self.task: asyncio.Task[None]
        self.listeners: set[Subscription] = set()
        self.last: SyncStatus | None = None
        self.has_ended = False
        self._error: BaseException | None = None

    def publish(self, status: SyncStatus) -> None:
        self.last = status
        self._notify()

    def finish(self, error: BaseException | None) -> None:
        self._error = error
        self.has_ended = True
        self._notify()

    def raise_error(self) -> None:
        """Raise the error that ended the poller; each listener raises its own copy, as each adds a traceback."""
        if self._error is not None:
            raise copy.copy(self._error)

    def _notify(self) -> None:
        for listener in self.listeners:
            listener.notify()


def _keys(handle: SyncHandle) -> Iterator[_Key]:
    """Yield what a sync is known by: its ids, or the whole handle while it has none."""
    if handle.commerce_sync_id is not None:
        yield "commerce_sync_id", handle.company_id, handle.commerce_sync_id
    if handle.sync_id is not None:
        yield "sync_id", handle.company_id, handle.sync_id
    if handle.commerce_sync_id is None and handle.sync_id is None:
        yield "handle", handle, ""


def _event(name: str, data: object) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), encode(data))
