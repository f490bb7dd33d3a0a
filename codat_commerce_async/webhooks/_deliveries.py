"""What has come in: each event once, so many at a time, and none let go of before its handlers are done."""

import asyncio
import enum
from collections import OrderedDict
from collections.abc import Mapping
from types import MappingProxyType

from codat_commerce_async._core.log import logger_of
from codat_commerce_async._core.numbers import check_number
from codat_commerce_async.models.webhook_events import WebhookEvent
from codat_commerce_async.webhooks._dispatch import Webhooks

__all__ = ["DeliveryProcessor", "DeliveryStatus"]

_logger = logger_of("webhooks")

# How long handlers that are cancelled at the end may take to notice.
_LAST_WORDS = 1.0


class DeliveryStatus(enum.Enum):
    """What became of a delivery: only what is `FAILED` or `REFUSED` has to be delivered again."""

    HANDLED = "handled"
    IN_WORK = "in work"
    FAILED = "failed"
    REFUSED = "refused"


class DeliveryProcessor:
    """Takes deliveries in and hands each event to its handlers once.

    Up to `capacity` events are in work at the same time; further ones are refused. The ids of the last `remembered`
    handled ones are kept, to know a second delivery by. For web frameworks other than aiohttp, which has
    `WebhookReceiver`.
    """

    def __init__(self, hooks: Webhooks, *, capacity: int = 1000, remembered: int = 20_000) -> None:
        check_number("capacity", capacity, whole=True)
        check_number("remembered", remembered, whole=True)
        if capacity < 1 or remembered < 1:
            raise ValueError("capacity and remembered take whole numbers of at least 1")
        self._hooks = hooks
        self._capacity = capacity
        self._remembered = remembered
        self._handled: OrderedDict[str, None] = OrderedDict()
        self._in_work: dict[str, asyncio.Task[bool]] = {}
        self._accepted: dict[str, WebhookEvent[object]] = {}
        self._closing = False
        self._closed = False

    @property
    def unhandled(self) -> Mapping[str, WebhookEvent[object]]:
        """Return the events that were accepted for good and are not handled, by `webhook-id`.

        That is what is still in work, and what failed, or was cancelled, after it was accepted: Codat does not deliver
        it again. Pass a failed event to `take` again, or store it; `take` removes it once it is handled. Of the failed
        events the last `remembered` ones are kept.
        """
        return MappingProxyType(self._accepted)

    async def take(
        self, webhook_id: str, event: WebhookEvent[object], *, within: float, for_good: bool = True
    ) -> DeliveryStatus:
        """What became of a delivery within so many seconds; its handlers go on after that.

        A second delivery of an event shares the fate of the first, unless that one failed: then it is a new try. An
        event that is still in work when the time is over is accepted `for_good`: if it fails after that, it is logged
        and stays in `unhandled`.
        """
        if webhook_id in self._handled:
            return DeliveryStatus.HANDLED
        task = self._in_work.get(webhook_id)
        if task is None:
            if self._closing or len(self._in_work) >= self._capacity:
                return DeliveryStatus.REFUSED
            task = self._begin(webhook_id, event)
        await asyncio.wait({task}, timeout=max(within, 0.0))
        if task.done():
            return _fate(task)
        if self._closed:
            return DeliveryStatus.REFUSED
        if for_good:
            self._accepted[webhook_id] = event
        return DeliveryStatus.IN_WORK

    async def drain(self, within: float) -> None:
        """Refuse what is new, and wait so many seconds for what is in work; handlers that are not done are cancelled.

        What stays `unhandled` is logged.
        """
        self._closing = True
        if self._in_work:
            await asyncio.wait(self._in_work.values(), timeout=within)
        self._closed = True
        stuck = tuple(self._in_work.values())
        for task in stuck:
            task.cancel()
        if stuck:
            await asyncio.wait(stuck, timeout=_LAST_WORDS)
        for webhook_id, event in self._accepted.items():
            _logger.error("the webhook %s (%s) was accepted and is not handled", webhook_id, event.event_type)

    def _begin(self, webhook_id: str, event: WebhookEvent[object]) -> asyncio.Task[bool]:
        task = asyncio.create_task(self._hooks.dispatch(event), name=f"webhook {webhook_id}")
        self._in_work[webhook_id] = task
        task.add_done_callback(lambda done: self._ended(webhook_id, done))
        return task

    def _ended(self, webhook_id: str, task: asyncio.Task[bool]) -> None:
        del self._in_work[webhook_id]
        if _fate(task) is DeliveryStatus.HANDLED:
            self._accepted.pop(webhook_id, None)
            self._handled[webhook_id] = None
            if len(self._handled) > self._remembered:
                self._handled.popitem(last=False)
        elif webhook_id in self._accepted and not self._closed:
            _logger.error("the webhook %s failed after it was accepted; Codat does not deliver it again", webhook_id)
            self._drop_oldest_failure()

    def _drop_oldest_failure(self) -> None:
        if len(self._accepted) <= self._remembered:
            return
        oldest = next((webhook_id for webhook_id in self._accepted if webhook_id not in self._in_work), None)
        if oldest is not None:
            del self._accepted[oldest]
            _logger.error("the webhook %s is dropped: more than %d are unhandled", oldest, self._remembered)


def _fate(task: asyncio.Task[bool]) -> DeliveryStatus:
    if task.cancelled():
        return DeliveryStatus.REFUSED
    return DeliveryStatus.HANDLED if task.exception() is None and task.result() else DeliveryStatus.FAILED
