"""A broker on Redis streams for `contrib.taskiq` (taskiq-redis), which knows which messages are still in work.

broker = StreamBroker("redis://127.0.0.1", xread_count=1, idle_timeout=30_000)
tasks = SyncTasks(broker, on_outcome=save, heartbeat=broker.heartbeat)

await tasks.feed(tickets, broker.count_queued)
"""

import math
import time
from collections.abc import AsyncGenerator, Iterable
from typing import Any

try:
    from redis.asyncio import Redis
    from taskiq import AckableMessage
    from taskiq_redis import RedisStreamBroker
except ImportError as error:
    raise ImportError("taskiq-redis is not installed: pip install taskiq-redis") from error

__all__ = ["StreamBroker", "StreamMessage"]


class StreamMessage(AckableMessage):
    """A message and where it is in Redis."""

    stream: str
    """The name of the stream."""

    message_id: str
    """The id of its entry."""


class StreamBroker(RedisStreamBroker):
    """A `RedisStreamBroker` that delivers a message again only if its worker is dead, however long its task takes.

    It takes the same arguments. `idle_timeout` is how many milliseconds after the last heartbeat a worker counts as
    dead; use at least two slices. Pass `xread_count=1`, as messages that were read, but wait in the process, have no
    heartbeat. Acknowledged entries stay in the stream until you trim it.
    """

    async def listen(self) -> AsyncGenerator[AckableMessage, None]:
        """Yield the messages of dead workers, and new ones."""
        streams: dict[Any, Any] = {self.queue_name: ">", **self.additional_streams}
        interval, next_search = self.idle_timeout / 10_000, -math.inf
        async with Redis(connection_pool=self.connection_pool) as redis:
            while True:
                found: Any = []
                if time.monotonic() >= next_search:
                    found = [(stream, await self._of_dead_workers(redis, stream)) for stream in streams]
                    if not any(entries for _, entries in found):
                        found, next_search = [], time.monotonic() + interval
                if not found:
                    found = await redis.xreadgroup(
                        self.consumer_group_name, self.consumer_name, streams, count=self.count, block=self.block
                    )
                for stream, entries in found or ():
                    for message_id, fields in entries:
                        yield self._message(_text(stream), _text(message_id), fields)

    async def heartbeat(self, messages: Iterable[AckableMessage]) -> None:
        """Report that this process still works on these messages, so that no other process receives them.

        Args:
            messages: Messages that `listen` returned.
        """
        ids: dict[str, list[str]] = {}
        for message in messages:
            if isinstance(message, StreamMessage):
                ids.setdefault(message.stream, []).append(message.message_id)
        async with Redis(connection_pool=self.connection_pool) as redis:
            for stream, its in ids.items():
                # A message that was acknowledged in between is not pending any more, and is not claimed.
                await redis.xclaim(
                    stream,
                    self.consumer_group_name,
                    self.consumer_name,
                    min_idle_time=0,
                    message_ids=[*its],
                    justid=True,
                )

    async def count_queued(self) -> int:
        """Return the number of messages that are not acknowledged, without those of additional streams."""
        stream, group = self.queue_name, self.consumer_group_name
        async with Redis(connection_pool=self.connection_pool) as redis:
            [state] = [each for each in await redis.xinfo_groups(stream) if _text(each["name"]) == group]
            undelivered = state["lag"]
            if undelivered is None:  # Redis cannot count them once an undelivered message was deleted
                undelivered = len(await redis.xrange(stream, f"({_text(state['last-delivered-id'])}") or ())
        return int(state["pending"] + undelivered)

    async def _of_dead_workers(self, redis: Redis, stream: str) -> list[Any]:
        group, consumer, idle = self.consumer_group_name, self.consumer_name, self.idle_timeout
        # XAUTOCLAIM checks ten pending messages per call only, and does not find those behind the ones in work.
        dead = await redis.xpending_range(stream, group, "-", "+", self.count or 1, idle=idle)
        ids = [_text(each["message_id"]) for each in dead]
        entries: Any = await redis.xclaim(stream, group, consumer, idle, [*ids]) if ids else []
        return [(message_id, fields) for message_id, fields in entries if fields]

    def _message(self, stream: str, message_id: str, fields: dict[bytes, bytes]) -> StreamMessage:
        async def acknowledge() -> None:
            async with Redis(connection_pool=self.connection_pool) as redis:
                await redis.xack(stream, self.consumer_group_name, message_id)

        return StreamMessage(data=fields[b"data"], ack=acknowledge, stream=stream, message_id=message_id)


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
