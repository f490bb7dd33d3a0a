"""Process deliveries: each event once, a bounded number at a time, and wait for the handlers at shutdown."""

import asyncio
import enum
from collections import OrderedDict
from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol, runtime_checkable

from codat_commerce_async._core.log import logger_of
from codat_commerce_async._core.validation import check_int
from codat_commerce_async.distributed._deliveries import Claim
from codat_commerce_async.models.webhook_events import WebhookEvent
from codat_commerce_async.webhooks._dispatch import Webhooks
from codat_commerce_async.webhooks._events import description_of, log_fields

__all__ = ["DeliveryProcessor", "DeliveryStatus", "DeliveryStore"]

_logger = logger_of("webhooks")

# Seconds that handlers have to react to their cancellation.
_CANCEL_GRACE = 1.0


class DeliveryStatus(enum.Enum):
    """The result of processing a delivery. Codat has to deliver again only what is `FAILED` or `REFUSED`."""

    HANDLED = "handled"
    IN_PROGRESS = "in_progress"
    FAILED = "failed"
    REFUSED = "refused"


class DeliveryStore(Protocol):
    """Where several processes record which deliveries they handle, so that each event is handled by one of them.

    `codat_commerce_async.distributed` has stores in a file, Redis and PostgreSQL. Any exception means that the store is
    unavailable: an event that could not be claimed gets a 500, so that Codat delivers it again. A store may also have
    a coroutine method `check` without arguments: it is called when the endpoint is opened, and what it raises keeps the
    service from starting.
    """

    async def claim(self, webhook_id: str) -> Claim:
        """Claim an event for this process, unless another one has handled it or is handling it.

        A claim must expire, so that the event of a process that was killed can be handled when it is delivered again.

        Args:
            webhook_id: The id of the event, the same in all of its deliveries.
        """
        ...

    async def finish(self, webhook_id: str, *, handled: bool) -> None:
        """Record that a claimed event was handled; otherwise give up the claim.

        Args:
            webhook_id: The id of the event.
            handled: Whether its handlers have succeeded.
        """
        ...

    async def aclose(self) -> None:
        """Close the connections; the next claim opens new ones."""
        ...


@runtime_checkable
class _CheckedStore(Protocol):
    """A store that knows whether it can work as it is configured."""

    async def check(self) -> None: ...


class DeliveryProcessor:
    """Calls the handlers of each event once, however often it is delivered.

    Up to `capacity` events are in progress at the same time; further ones are refused. The ids of the last `dedup_size`
    handled events are kept to recognize repeated deliveries. With several processes, they need a common store, which is
    passed as `deduplicate`. In a web service, use `WebhookReceiver` (aiohttp.web) or `WebhookEndpoint` (ASGI).

    Args:
        hooks: The handlers.
        capacity: How many events may be in progress at once.
        dedup_size: How many ids of handled events are kept.
        deduplicate: The store that several processes share.
    """

    def __init__(
        self,
        hooks: Webhooks,
        *,
        capacity: int = 1000,
        dedup_size: int = 20_000,
        deduplicate: DeliveryStore | None = None,
    ) -> None:
        check_int("capacity", capacity, at_least=1)
        check_int("dedup_size", dedup_size, at_least=1)
        self._hooks = hooks
        self._capacity = capacity
        self._dedup_size = dedup_size
        self._store = deduplicate
        self._handled: OrderedDict[str, None] = OrderedDict()
        self._in_progress: dict[str, asyncio.Task[DeliveryStatus]] = {}
        self._claiming: set[str] = set()
        self._acknowledged: dict[str, WebhookEvent[object]] = {}
        self._closing = False
        self._closed = False

    @property
    def unhandled(self) -> Mapping[str, WebhookEvent[object]]:
        """The events that were acknowledged and are not handled, by `webhook-id`.

        These are in progress, or failed or were cancelled after they were acknowledged: Codat does not deliver them
        again. Pass a failed event to `process` again, or store it; `process` removes it once it is handled. Of the
        failed events the last `dedup_size` ones are kept.
        """
        return MappingProxyType(self._acknowledged)

    async def process(
        self, webhook_id: str, event: WebhookEvent[object], *, within: float, acknowledge: bool = True
    ) -> DeliveryStatus:
        """Call the event's handlers and return the status after at most `within` seconds; the handlers continue.

        A repeated delivery of an event gets the status of the first, unless that one failed: then the handlers are
        called again. With `acknowledge`, an event that is still in progress after `within` seconds counts as accepted:
        if it fails later, the failure is logged and the event stays in `unhandled`.

        Args:
            webhook_id: The id of the event, the same in all of its deliveries.
            event: The event.
            within: Seconds after which to return.
            acknowledge: Whether an event in progress counts as accepted.
        """
        if webhook_id in self._handled:
            return _handled_before(webhook_id, event)
        task = self._in_progress.get(webhook_id)
        if task is None:
            if self._closing:
                return _refused_by_shutdown(webhook_id, event)
            if len(self._in_progress) >= self._capacity:
                return DeliveryStatus.REFUSED
            task = self._start(webhook_id, event)
        await asyncio.wait({task}, timeout=max(within, 0.0))
        if task.done():
            return _status(task)
        if self._closed or webhook_id in self._claiming:
            # What is not claimed yet must be delivered again if the store fails.
            return DeliveryStatus.REFUSED
        if acknowledge:
            self._acknowledged[webhook_id] = event
        return DeliveryStatus.IN_PROGRESS

    async def check_store(self) -> None:
        """Check the store that several processes share, if it has a method `check`.

        Raises:
            DeliveryStoreError: The store cannot work before its configuration is corrected.
        """
        if isinstance(self._store, _CheckedStore):
            await self._store.check()

    def open(self) -> None:
        """Accept new events again after `drain`; which events were handled is still known."""
        self._closing = self._closed = False

    async def drain(self, within: float) -> None:
        """Refuse new events until `open`, and wait up to `within` seconds for those in progress; then cancel these.

        Events that stay `unhandled` are logged.

        Args:
            within: Seconds to wait for the events in progress.
        """
        self._closing = True
        if self._in_progress:
            await asyncio.wait(self._in_progress.values(), timeout=within)
        self._closed = True
        unfinished = tuple(self._in_progress.values())
        for task in unfinished:
            task.cancel()
        if unfinished:
            await asyncio.wait(unfinished, timeout=_CANCEL_GRACE)
        for webhook_id, event in self._acknowledged.items():
            _log_error("webhook %s (%s) was acknowledged but is not handled", webhook_id, event)
        if self._store is not None:
            await self._store.aclose()

    def _start(self, webhook_id: str, event: WebhookEvent[object]) -> asyncio.Task[DeliveryStatus]:
        task = asyncio.create_task(self._handle(webhook_id, event), name=f"webhook {webhook_id}")
        self._in_progress[webhook_id] = task
        task.add_done_callback(lambda done: self._finish(webhook_id, event, done))
        return task

    async def _handle(self, webhook_id: str, event: WebhookEvent[object]) -> DeliveryStatus:
        if self._store is None:
            return await self._dispatch(event)
        claim = await self._claim(self._store, webhook_id)
        if claim == "handled":
            return _handled_before(webhook_id, event)
        if claim != "claimed":
            # Another process may still fail: Codat has to deliver the event again until it is handled.
            return DeliveryStatus.REFUSED
        status = DeliveryStatus.REFUSED
        try:
            # A store may have swallowed the cancellation.
            status = DeliveryStatus.REFUSED if self._closed else await self._dispatch(event)
        finally:
            await self._record(self._store, webhook_id, event, handled=status is DeliveryStatus.HANDLED)
        return status

    async def _claim(self, store: DeliveryStore, webhook_id: str) -> Claim:
        self._claiming.add(webhook_id)
        try:
            return await store.claim(webhook_id)
        finally:
            self._claiming.discard(webhook_id)

    async def _record(
        self, store: DeliveryStore, webhook_id: str, event: WebhookEvent[object], *, handled: bool
    ) -> None:
        """Record the result of a claimed event; it holds even if this fails: the claim expires then."""
        try:
            await store.finish(webhook_id, handled=handled)
        except Exception:
            _logger.exception(
                "webhook %s (%s) was %s, which could not be recorded for the other processes",
                webhook_id,
                description_of(event),
                "handled" if handled else "not handled",
                extra=log_fields(event),
            )

    async def _dispatch(self, event: WebhookEvent[object]) -> DeliveryStatus:
        return DeliveryStatus.HANDLED if await self._hooks.dispatch(event) else DeliveryStatus.FAILED

    def _finish(self, webhook_id: str, event: WebhookEvent[object], task: asyncio.Task[DeliveryStatus]) -> None:
        del self._in_progress[webhook_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            _logger.error(
                "webhook %s (%s) could not be handled",
                webhook_id,
                description_of(event),
                exc_info=error,
                extra=log_fields(event),
            )
        if _status(task) is DeliveryStatus.HANDLED:
            self._acknowledged.pop(webhook_id, None)
            self._handled[webhook_id] = None
            if len(self._handled) > self._dedup_size:
                self._handled.popitem(last=False)
        elif webhook_id in self._acknowledged and not self._closed:
            _log_error(
                "webhook %s (%s) failed after it was acknowledged; Codat does not deliver it again", webhook_id, event
            )
            self._drop_oldest_failure()

    def _drop_oldest_failure(self) -> None:
        if len(self._acknowledged) <= self._dedup_size:
            return
        oldest = next((webhook_id for webhook_id in self._acknowledged if webhook_id not in self._in_progress), None)
        if oldest is not None:
            event = self._acknowledged.pop(oldest)
            _log_error("webhook %s (%s) is dropped because too many are unhandled", oldest, event)


def _handled_before(webhook_id: str, event: WebhookEvent[object]) -> DeliveryStatus:
    _logger.info(
        "webhook %s (%s) was handled before: no handler is called",
        webhook_id,
        description_of(event),
        extra=log_fields(event),
    )
    return DeliveryStatus.HANDLED


def _refused_by_shutdown(webhook_id: str, event: WebhookEvent[object]) -> DeliveryStatus:
    _logger.warning(
        "webhook %s (%s) was refused because its endpoint is drained; Codat delivers it again. "
        "To accept it then, in the same process, call the endpoint's `open`",
        webhook_id,
        description_of(event),
        extra=log_fields(event),
    )
    return DeliveryStatus.REFUSED


def _log_error(message: str, webhook_id: str, event: WebhookEvent[object]) -> None:
    _logger.error(message, webhook_id, description_of(event), extra=log_fields(event))


def _status(task: asyncio.Task[DeliveryStatus]) -> DeliveryStatus:
    if task.cancelled():
        return DeliveryStatus.REFUSED
    return DeliveryStatus.FAILED if task.exception() is not None else task.result()
