"""A broker on Redis streams: no ticket is lost or worked on twice, whatever happens to Redis, entries and workers."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from codat_commerce_async import SyncTicket
from tests.support.servers import ValkeyServer, valkey

pytest.importorskip("taskiq_redis", reason="taskiq-redis is not installed: pip install '.[test]'")
from redis.asyncio import Redis
from redis.exceptions import RedisError
from taskiq import AckableMessage

from codat_commerce_async.contrib.taskiq import SyncTasks
from codat_commerce_async.contrib.taskiq_redis import StreamBroker

STREAM = "taskiq"


@pytest.fixture(scope="module")
def running() -> Iterator[ValkeyServer]:
    with valkey() as server:
        yield server


@pytest.fixture
async def server(running: ValkeyServer) -> ValkeyServer:
    """Return a server that is empty."""
    async with Redis.from_url(running.url) as redis:
        await redis.flushall()
    return running


@asynccontextmanager
async def opened(server: ValkeyServer, **settings: Any) -> AsyncIterator[StreamBroker]:
    broker = StreamBroker(server.url, **{"xread_block": 20, **settings})
    try:
        yield broker
    finally:
        await broker.shutdown()


async def feed(broker: StreamBroker, companies: list[str]) -> None:
    """Feed tickets, as a process does that is no worker."""
    tickets = list(SyncTicket.for_run("a run", companies))
    await SyncTasks(broker, on_outcome=print).feed(tickets, broker.count_queued)


async def take(broker: StreamBroker, count: int) -> list[AckableMessage]:
    async with asyncio.timeout(10), aclosing(broker.listen()) as messages:
        return [await anext(messages) for _ in range(count)]


async def acknowledge(message: AckableMessage) -> None:
    acknowledged = message.ack()
    assert acknowledged is not None
    await acknowledged


def companies(messages: list[AckableMessage]) -> list[str]:
    return [SyncTicket.from_json(json.loads(message.data)["args"][0]).company_id for message in messages]


@pytest.mark.real
async def test_tickets_are_received_that_were_queued_before_the_first_worker(server: ValkeyServer) -> None:
    async with opened(server) as broker, opened(server, additional_streams={"other": ">"}) as worker:
        await feed(broker, ["a", "b"])
        broker.queue_name = "other"
        await feed(broker, ["c"])
        await worker.startup()
        assert sorted(companies(await take(worker, 3))) == ["a", "b", "c"]


@pytest.mark.real
@pytest.mark.parametrize("settings", [{}, {"decode_responses": True}, {"protocol": 3}], ids=str)
async def test_messages_are_counted_until_they_are_acknowledged_and_leave_nothing(
    server: ValkeyServer, settings: dict[str, Any]
) -> None:
    async with opened(server, **settings) as broker:
        assert await broker.count_queued() == 0
        await feed(broker, ["a", "b", "c"])
        assert await broker.count_queued() == 3
        messages = await take(broker, 3)
        assert companies(messages) == ["a", "b", "c"]
        for left, message in zip((2, 1, 0), messages, strict=True):
            await acknowledge(message)
            assert await broker.count_queued() == left
    async with Redis.from_url(server.url) as redis:
        [group] = await redis.xinfo_groups(STREAM)
        assert group["pending"] == 0


@pytest.mark.real
async def test_a_server_that_was_restarted_empty_is_used_again(server: ValkeyServer) -> None:
    async with opened(server) as broker:
        await feed(broker, ["lost"])
        messages = broker.listen()
        await anext(messages)
        server.kill()
        server.start()
        with pytest.raises(RedisError):
            await anext(messages)
        await feed(broker, ["new"])
        assert companies(await take(broker, 1)) == ["new"]


@pytest.mark.real
async def test_deleted_and_foreign_entries_of_dead_workers_do_not_hide_their_tickets(server: ValkeyServer) -> None:
    async with opened(server, idle_timeout=50) as broker, Redis.from_url(server.url) as redis:
        await feed(broker, [str(number) for number in range(30)])
        await redis.xadd(STREAM, {"a field": "of another program"})
        await feed(broker, ["the last"])
        await redis.xgroup_create(STREAM, STREAM, id="0")
        found: Any = await redis.xreadgroup(STREAM, "dead", {STREAM: ">"}, count=100)
        [(_, entries)] = found
        await redis.xdel(STREAM, *(key for key, _ in entries[:29]))
        await asyncio.sleep(0.06)
        messages = await take(broker, 3)
        assert messages[1].data == b""
        assert companies([messages[0], messages[2]]) == ["29", "the last"]
        assert len(await redis.xpending_range(STREAM, STREAM, "-", "+", 100)) == 3


@pytest.mark.real
async def test_the_heartbeat_keeps_messages_and_returns_those_that_another_worker_has(server: ValkeyServer) -> None:
    async with opened(server, idle_timeout=100) as broker, opened(server, idle_timeout=100) as other:
        await feed(broker, [str(number) for number in range(10)])
        messages = await take(broker, 10)
        for _ in range(4):
            await asyncio.sleep(0.05)
            assert await broker.heartbeat(messages) == []
        await asyncio.sleep(0.05)
        assert await broker.heartbeat(messages[1:]) == []
        await asyncio.sleep(0.06)
        [taken] = await take(other, 1)
        assert companies([taken]) == ["0"]
        assert await broker.heartbeat(messages) == messages[:1]
        assert await other.heartbeat([taken]) == []
        await acknowledge(taken)
        assert await other.heartbeat([taken]) == [taken]


@pytest.mark.real
async def test_a_message_that_is_lost_on_its_way_to_a_living_worker_is_delivered_again(server: ValkeyServer) -> None:
    async with opened(server, idle_timeout=1100) as broker, Redis.from_url(server.url) as redis:
        await feed(broker, [str(number) for number in range(30)])
        taken = await take(broker, 25)
        await redis.xreadgroup(STREAM, broker.consumer_name, {STREAM: ">"}, count=1)
        taken += await take(broker, 4)
        task = asyncio.ensure_future(take(broker, 1))
        while not task.done():
            await broker.heartbeat(taken)
            await asyncio.sleep(0.1)
        taken += await task
        assert companies(taken) == [str(number) for number in (*range(25), *range(26, 30), 25)]


@pytest.mark.parametrize(("name", "value"), [("xread_count", 100), ("xread_count", None), ("maxlen", 1000)])
def test_settings_that_lose_or_repeat_tickets_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"{name} must be .* \(got {value}\)"):
        StreamBroker("redis://127.0.0.1", **{name: value})
