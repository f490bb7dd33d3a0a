"""Feed the tickets of a run into a task queue as there is room."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import islice

from codat_commerce_async._core.validation import check_int, check_seconds
from codat_commerce_async.syncing.ticket import SyncTicket

__all__ = ["MAX_QUEUED", "feed"]

# The number of queued tickets at which feeding pauses. A ticket has to be processed within the life of its key.
MAX_QUEUED = 10_000
_BATCH = 500


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
