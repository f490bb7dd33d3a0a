"""A broker on Redis streams for `contrib.taskiq` (taskiq-redis), which records which messages are still in work.

broker = StreamBroker("redis://127.0.0.1")
tasks = SyncTasks(broker, on_outcome=save, heartbeat=broker.heartbeat)

await tasks.feed(tickets, broker.count_queued)
"""

import math
import time
from collections.abc import AsyncGenerator, Iterable
from typing import Any

from codat_commerce_async._core.validation import require

try:
    from redis.asyncio import Redis
    from taskiq import AckableMessage
    from taskiq_redis import RedisStreamBroker
except ImportError as error:
    raise ImportError("taskiq-redis is not installed: pip install taskiq-redis") from error

__all__ = ["StreamBroker", "StreamMessage"]

# Reset the idle time of those messages that still belong to the consumer, and return their ids.
_CLAIM_AGAIN = """
local held = {}
for index = 3, #ARGV do
    local id = ARGV[index]
    if #redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1, ARGV[2]) > 0 then
        redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id, 'JUSTID')
        held[#held + 1] = id
    end
end
return held
"""


class StreamMessage(AckableMessage):
    """A message and where it is in Redis."""

    stream: str
    """The name of the stream."""

    message_id: str
    """The id of its entry."""


class StreamBroker(RedisStreamBroker):
    """A `RedisStreamBroker` that delivers a message again only if its worker is dead, however long its task takes.

    It takes the same arguments, with two differences. A new group begins with the first entry of the stream
    (`consumer_id="0"`), as tickets may be there before the first worker. Messages are read one at a time
    (`xread_count=1`), as those that wait in a process have no heartbeat.

    An entry is deleted when it is acknowledged, so that the stream does not grow, and its length is the number of
    tickets. Therefore let only one group read it, and do not limit it by `maxlen`, which deletes tickets that wait.

    Args:
        url: The URL of Redis or Valkey.
        idle_timeout: How many milliseconds after the last heartbeat a worker counts as dead; at least 10 seconds.
        settings: Further arguments of `RedisStreamBroker`.
    """

    def __init__(self, url: str, *, idle_timeout: int = 30_000, **settings: Any) -> None:  # noqa: ANN401 - as its base class
        settings = {"consumer_id": "0", "xread_count": 1, **settings}
        expected = "1, as messages that wait in a process have no heartbeat"
        require(settings["xread_count"] == 1, "xread_count", expected, settings["xread_count"])
        require(not settings.get("maxlen"), "maxlen", "None, as it deletes tickets that wait", settings.get("maxlen"))
        super().__init__(url, idle_timeout=idle_timeout, **settings)

    async def listen(self) -> AsyncGenerator[AckableMessage, None]:
        """Yield the messages of dead workers, and new ones."""
        streams: dict[Any, Any] = dict.fromkeys([self.queue_name, *self.additional_streams], ">")
        interval, next_search = self.idle_timeout / 10_000, -math.inf
        # Redis may have been restarted without its data.
        await self._declare_consumer_group()
        async with Redis(connection_pool=self.connection_pool) as redis:
            while True:
                found: Any = []
                if time.monotonic() >= next_search:
                    found = [(stream, await self._of_dead_workers(redis, stream)) for stream in streams]
                    if not any(entries for _, entries in found):
                        found, next_search = [], time.monotonic() + interval
                if not found:
                    read: Any = await redis.xreadgroup(
                        self.consumer_group_name, self.consumer_name, streams, count=self.count, block=self.block
                    )
                    # RESP3 has a mapping of lists of lists.
                    found = [(one, many[0]) for one, many in read.items()] if isinstance(read, dict) else read
                for stream, entries in found or ():
                    for message_id, fields in entries:
                        yield self._message(_text(stream), _text(message_id), fields)

    async def heartbeat(self, messages: Iterable[AckableMessage]) -> list[AckableMessage]:
        """Report that this process still works on these messages, so that no other process receives them.

        Return those that another process has received already, or that were deleted.

        Args:
            messages: Messages that `listen` returned.
        """
        by_stream: dict[str, dict[str, AckableMessage]] = {}
        for message in messages:
            if isinstance(message, StreamMessage):
                by_stream.setdefault(message.stream, {})[message.message_id] = message
        async with Redis(connection_pool=self.connection_pool) as redis:
            for stream, its in by_stream.items():
                held = await redis.eval(_CLAIM_AGAIN, 1, stream, self.consumer_group_name, self.consumer_name, *its)
                for message_id in held:
                    del its[_text(message_id)]
        return [message for its in by_stream.values() for message in its.values()]

    async def count_queued(self) -> int:
        """Return the number of messages that are not acknowledged, without those of additional streams."""
        async with Redis(connection_pool=self.connection_pool) as redis:
            return int(await redis.xlen(self.queue_name))

    async def _of_dead_workers(self, redis: Redis, stream: str) -> list[Any]:
        group, consumer, idle = self.consumer_group_name, self.consumer_name, self.idle_timeout
        # XAUTOCLAIM checks ten pending messages per call only, and does not find those behind the ones in work.
        while dead := await redis.xpending_range(stream, group, "-", "+", 1, idle=idle):
            message_id = _text(dead[0]["message_id"])
            claimed: Any = await redis.xclaim(stream, group, consumer, idle, [message_id])
            if found := [(each, fields) for each, fields in claimed if fields]:
                return found
            # The entry was deleted, or another worker was faster.
            await self._acknowledge_deleted(redis, stream, message_id)
        return []

    async def _acknowledge_deleted(self, redis: Redis, stream: str, message_id: str) -> None:
        if not await redis.xrange(stream, message_id, message_id):
            await redis.xack(stream, self.consumer_group_name, message_id)

    def _message(self, stream: str, message_id: str, fields: dict[Any, Any]) -> StreamMessage:
        async def acknowledge() -> None:
            async with Redis(connection_pool=self.connection_pool) as redis, redis.pipeline() as pipeline:
                pipeline.xack(stream, self.consumer_group_name, message_id)
                pipeline.xdel(stream, message_id)
                await pipeline.execute()

        # An entry that is no message of taskiq is acknowledged by taskiq, with a warning.
        data = fields.get(b"data", fields.get("data", b""))
        data = data if isinstance(data, bytes) else str(data).encode()
        return StreamMessage(data=data, ack=acknowledge, stream=stream, message_id=message_id)


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
