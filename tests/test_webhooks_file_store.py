"""A file in which several processes record which deliveries they handle."""

import asyncio
import sqlite3
import sys
from pathlib import Path

import pytest

from codat_commerce_async.models.webhook_events import WebhookEvent
from codat_commerce_async.simulator.virtual_time import loop_wall_clock
from codat_commerce_async.webhooks import DeliveryProcessor, DeliveryStatus, FileDeliveryStore, Webhooks, parse_event
from tests.support.deliveries import body_of

pytestmark = pytest.mark.virtual_time

EVENT = parse_event(body_of("read.completed"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deliveries.db"


def store(path: Path, **settings: float) -> FileDeliveryStore:
    return FileDeliveryStore(path, wall_clock=loop_wall_clock(), **settings)


async def test_an_event_is_claimed_once_until_it_is_given_up(path: Path) -> None:
    one, other = store(path), store(path)
    assert await one.claim("a") == "claimed"
    assert await other.claim("a") == "in_progress"
    assert await other.claim("b") == "claimed"
    await one.finish("a", handled=False)
    assert await other.claim("a") == "claimed"
    await other.finish("a", handled=True)
    assert await one.claim("a") == "handled"


async def test_the_claim_of_a_killed_process_expires(path: Path) -> None:
    one, other = store(path, claim_for=60), store(path)
    await one.claim("a")
    await asyncio.sleep(59)
    assert await other.claim("a") == "in_progress"
    await asyncio.sleep(2)
    assert await other.claim("a") == "claimed"


async def test_a_handled_event_is_remembered_as_long_as_codat_repeats_it(path: Path) -> None:
    one = store(path)
    await one.claim("a")
    await one.finish("a", handled=True)
    await asyncio.sleep(28 * 3600)
    assert await one.claim("a") == "handled"
    await asyncio.sleep(2 * 3600)
    assert await one.claim("a") == "claimed"


async def test_a_locked_file_is_waited_for_without_blocking(path: Path) -> None:
    one = store(path)
    await one.claim("a")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    claiming = asyncio.create_task(one.claim("b"))
    await asyncio.sleep(0.05)
    assert not claiming.done()
    other.execute("COMMIT")
    other.close()
    assert await claiming == "claimed"


class Worker:
    """A process that handles webhooks, with the store it shares with the others."""

    def __init__(self, path: Path, *, succeeds: bool = True) -> None:
        self.handled = 0
        self.go_on = asyncio.Event()
        hooks = Webhooks()

        @hooks.on(WebhookEvent)
        async def handle(_: WebhookEvent[object]) -> None:
            await self.go_on.wait()
            if not succeeds:
                raise RuntimeError("no")
            self.handled += 1

        self._processor = DeliveryProcessor(hooks, deduplicate=store(path))

    async def receive(self) -> DeliveryStatus:
        return await self._processor.process("a", EVENT, within=10)


async def test_one_of_two_workers_handles_an_event(path: Path) -> None:
    one, other = Worker(path), Worker(path)
    first = asyncio.create_task(one.receive())
    await asyncio.sleep(1)
    assert await other.receive() is DeliveryStatus.REFUSED
    one.go_on.set()
    assert await first is DeliveryStatus.HANDLED
    assert await other.receive() is DeliveryStatus.HANDLED
    assert (one.handled, other.handled) == (1, 0)


async def test_an_event_that_failed_is_handled_by_another_worker(path: Path) -> None:
    one, other = Worker(path, succeeds=False), Worker(path)
    one.go_on.set()
    other.go_on.set()
    assert await one.receive() is DeliveryStatus.FAILED
    assert await other.receive() is DeliveryStatus.HANDLED
    assert other.handled == 1


@pytest.fixture
def damaged(path: Path) -> Path:
    path.write_bytes(b"not a database, but something else that is long enough to be seen as one" * 20)
    return path


async def test_a_store_that_is_not_available_fails_the_delivery(
    damaged: Path, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(damaged)
    worker.go_on.set()
    assert await worker.receive() is DeliveryStatus.FAILED
    assert worker.handled == 0
    assert "could not be handled" in caplog.text


def test_importing_webhooks_opens_no_file() -> None:
    assert "codat_commerce_async.webhooks" in sys.modules
    with pytest.raises(ValueError, match="claim_for"):
        FileDeliveryStore("x", claim_for=0)
    assert not Path("x").exists()
