"""What `contrib.taskiq` needs of Redis streams: which messages are in work, and how many are queued (taskiq-redis).

broker = RedisStreamBroker("redis://127.0.0.1", xread_count=1, idle_timeout=30_000)
tasks = SyncTasks(broker, on_outcome=save, heartbeat=partial(heartbeat, broker))

await tasks.feed(tickets, partial(count_queued, broker))
"""

try:
    from redis.asyncio import Redis
    from taskiq_redis import RedisStreamBroker
except ImportError as error:
    raise ImportError("taskiq-redis is not installed: pip install taskiq-redis") from error

__all__ = ["count_queued", "heartbeat"]

_BATCH = 1000


async def heartbeat(broker: RedisStreamBroker) -> None:
    """Report to Redis that this process still works on its messages, so that no other process receives them.

    Redis delivers a message again when no process has claimed it for the broker's `idle_timeout`. This function claims
    those of this process again. After a kill, they are delivered again when that time has passed.

    Args:
        broker: The broker that has received the messages.
    """
    async with Redis(connection_pool=broker.connection_pool) as redis:
        for stream in (broker.queue_name, *broker.additional_streams):
            await _claim_again(redis, stream, broker.consumer_group_name, broker.consumer_name)


async def count_queued(broker: RedisStreamBroker) -> int:
    """Return the number of messages of the broker's stream that are not acknowledged.

    Args:
        broker: The broker whose messages are counted.
    """
    stream, group = broker.queue_name, broker.consumer_group_name
    async with Redis(connection_pool=broker.connection_pool) as redis:
        [state] = [each for each in await redis.xinfo_groups(stream) if _text(each["name"]) == group]
        undelivered = state["lag"]
        if undelivered is None:  # Redis cannot count them once an undelivered message was deleted
            undelivered = len(await redis.xrange(stream, f"({_text(state['last-delivered-id'])}") or ())
    return int(state["pending"] + undelivered)


async def _claim_again(redis: Redis, stream: str, group: str, consumer: str) -> None:
    last = "-"
    while pending := await redis.xpending_range(stream, group, last, "+", _BATCH, consumer):
        ids = [_text(each["message_id"]) for each in pending]
        # A message that was acknowledged in between is not pending any more, and is not claimed.
        await redis.xclaim(stream, group, consumer, min_idle_time=0, message_ids=[*ids], justid=True)
        last = f"({ids[-1]}"


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
