"""All stores of deliveries follow the same rules, and an event is handled once and never lost."""

import asyncio
import contextlib
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from codat_commerce_async import distributed
from codat_commerce_async.distributed import (
    FileDeliveryStore,
    PostgresDeliveryStore,
    RedisDeliveryStore,
    StoreUnavailableError,
)
from codat_commerce_async.errors import DeliveryStoreError
from codat_commerce_async.models.webhook_events import WebhookEvent
from codat_commerce_async.webhooks import DeliveryProcessor, DeliveryStatus, DeliveryStore, Webhooks, parse_event
from tests.support.cases import all_cases
from tests.support.deliveries import COMPANY, body_of
from tests.support.missing import missing
from tests.support.servers import Server, postgres, valkey
from tests.support.unusable import MISTAKES, fill_disk, unusable_paths

EVENT = parse_event(body_of("read.completed"))
HOUR = 3600.0


class Backend(ABC):
    """What the stores of several processes share."""

    server: Server

    @abstractmethod
    def store(self, **settings: Any) -> DeliveryStore:
        """Return the store of one more process."""

    @abstractmethod
    def pass_time(self, seconds: float) -> None:
        """Let all that is stored become older."""

    @abstractmethod
    def count(self) -> int:
        """Return the number of stored events."""


class FileBackend(Backend):
    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = time.time()

    def store(self, **settings: Any) -> DeliveryStore:
        return FileDeliveryStore(self.path, wall_clock=lambda: self.now, **settings)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    def count(self) -> int:
        with contextlib.closing(sqlite3.connect(self.path)) as file:
            return int(file.execute("SELECT count(*) FROM codat_deliveries").fetchone()[0])


class RedisBackend(Backend):
    def __init__(self, server: Server) -> None:
        self.server = server
        with redis.Redis.from_url(server.url) as client:
            client.flushall()

    def store(self, **settings: Any) -> DeliveryStore:
        return RedisDeliveryStore(self.server.url, **settings)

    def pass_time(self, seconds: float) -> None:
        with redis.Redis.from_url(self.server.url) as client:
            for key in client.scan_iter():
                client.pexpire(key, int(client.pttl(key) - seconds * 1000))

    def count(self) -> int:
        with redis.Redis.from_url(self.server.url) as client:
            return len(client.keys("codat-delivery:*"))


class PostgresBackend(Backend):
    def __init__(self, server: Server) -> None:
        self.server = server
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("DROP TABLE IF EXISTS codat_deliveries")

    def store(self, **settings: Any) -> DeliveryStore:
        return PostgresDeliveryStore(self.server.url, **settings)

    def pass_time(self, seconds: float) -> None:
        with psycopg.connect(self.server.url, autocommit=True) as connection:
            connection.execute("UPDATE codat_deliveries SET expires = expires - %s * interval '1 second'", (seconds,))

    def count(self) -> int:
        with psycopg.connect(self.server.url) as connection:
            row = connection.execute("SELECT count(*) FROM codat_deliveries").fetchone()
            return int(row[0]) if row else 0


StartServer = Callable[[str], Server]


@pytest.fixture(scope="module")
def start_server() -> Iterator[StartServer]:
    """Start each kind of server once."""
    servers: dict[str, Server] = {}
    with contextlib.ExitStack() as stack:

        def started(kind: str) -> Server:
            if kind not in servers:
                servers[kind] = stack.enter_context(valkey() if kind == "redis" else postgres())
            return servers[kind]

        yield started


SERVERS = [pytest.param("redis", marks=pytest.mark.real), pytest.param("postgres", marks=pytest.mark.real)]


def backend_of(kind: str, directory: Path, start_server: StartServer) -> Backend:
    if kind == "file":
        return FileBackend(directory / "deliveries.db")
    return {"redis": RedisBackend, "postgres": PostgresBackend}[kind](start_server(kind))


class Processes:
    """The stores and workers of a test, which are closed at its end."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._closing = list[Callable[[], Awaitable[None]]]()

    def store(self, **settings: Any) -> DeliveryStore:
        made = self.backend.store(**settings)
        self._closing.append(made.aclose)
        return made

    def worker(self, **settings: Any) -> "Worker":
        made = Worker(self.backend.store(), **settings)
        self._closing.append(lambda: made.processor.drain(0))
        return made

    async def aclose(self) -> None:
        for close in self._closing:
            await close()


@pytest.fixture(params=["file", *SERVERS])
async def processes(
    request: pytest.FixtureRequest, tmp_path: Path, start_server: StartServer
) -> AsyncIterator[Processes]:
    made = Processes(backend_of(request.param, tmp_path, start_server))
    yield made
    await made.aclose()


@pytest.fixture(params=SERVERS)
async def served(request: pytest.FixtureRequest, tmp_path: Path, start_server: StartServer) -> AsyncIterator[Processes]:
    """Stores of a server, which runs again after the test."""
    made = Processes(backend_of(request.param, tmp_path, start_server))
    yield made
    if not made.backend.server.is_running:
        made.backend.server.start()
    await made.aclose()


class Worker:
    """A process that handles events, with the store it shares with the others."""

    def __init__(self, store: DeliveryStore, *, succeeds: bool = True, ready: bool = True) -> None:
        self.handled = 0
        self.started = asyncio.Event()
        self.released = asyncio.Event()
        if ready:
            self.released.set()
        hooks = Webhooks()

        @hooks.on(WebhookEvent)
        async def handle(_: WebhookEvent[object]) -> None:
            self.started.set()
            await self.released.wait()
            if not succeeds:
                raise RuntimeError("no")
            self.handled += 1

        self.processor = DeliveryProcessor(hooks, deduplicate=store)

    async def receive(self, webhook_id: str = "a") -> DeliveryStatus:
        return await self.processor.process(webhook_id, EVENT, within=10)


async def test_an_event_is_claimed_once_until_it_is_given_up(processes: Processes) -> None:
    one, other = processes.store(), processes.store()
    assert await one.claim("a") == "claimed"
    assert await other.claim("a") == await one.claim("a") == "in_progress"
    assert await other.claim("b") == "claimed"
    await one.finish("a", handled=False)
    assert await other.claim("a") == "claimed"
    await other.finish("a", handled=True)
    assert await one.claim("a") == await other.claim("a") == "handled"


async def test_of_many_claims_at_once_one_succeeds(processes: Processes) -> None:
    stores = [processes.store() for _ in range(3)]
    claims = await asyncio.gather(*(stores[number % 3].claim(f"{number % 5}") for number in range(45)))
    assert sorted(claims) == ["claimed"] * 5 + ["in_progress"] * 40


async def test_the_claim_of_a_killed_process_expires(processes: Processes) -> None:
    one, other = processes.store(claim_for=60), processes.store()
    await one.claim("a")
    processes.backend.pass_time(55)
    assert await other.claim("a") == "in_progress"
    processes.backend.pass_time(10)
    assert await other.claim("a") == "claimed"
    # The process was only slow. Its claim is lost, and it must not give up that of the other one.
    await one.finish("a", handled=False)
    assert await one.claim("a") == "in_progress"
    # If it has handled the event after all, it is done.
    await one.finish("a", handled=True)
    await other.finish("a", handled=False)
    assert await one.claim("a") == "handled"


async def test_a_handled_event_is_remembered_as_long_as_codat_repeats_it_and_then_deleted(processes: Processes) -> None:
    one = processes.store()
    for webhook_id in ("a", "b"):
        await one.claim(webhook_id)
        await one.finish(webhook_id, handled=True)
    processes.backend.pass_time(28 * HOUR)
    assert await one.claim("a") == "handled"
    processes.backend.pass_time(2 * HOUR)
    assert await one.claim("a") == "claimed"
    await one.finish("a", handled=True)
    assert processes.backend.count() == 1


async def test_one_of_two_workers_handles_an_event(processes: Processes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "codat_commerce_async.webhooks")
    one, other = processes.worker(ready=False), processes.worker()
    first = asyncio.create_task(one.receive())
    await one.started.wait()
    assert await other.receive() is DeliveryStatus.REFUSED
    one.released.set()
    assert await first is DeliveryStatus.HANDLED
    assert await other.receive() is DeliveryStatus.HANDLED
    assert (one.handled, other.handled) == (1, 0)
    assert [message for message in caplog.messages if "was handled before" in message]


async def test_an_event_that_failed_is_handled_by_another_worker(processes: Processes) -> None:
    one, other = processes.worker(succeeds=False), processes.worker()
    assert await one.receive() is DeliveryStatus.FAILED
    assert await other.receive() is DeliveryStatus.HANDLED
    assert (one.handled, other.handled) == (0, 1)


async def test_an_event_that_is_cancelled_at_shutdown_is_handled_by_another_worker(processes: Processes) -> None:
    one, other = processes.worker(ready=False), processes.worker()
    first = asyncio.create_task(one.receive())
    await one.started.wait()
    await one.processor.drain(0)
    assert await first is DeliveryStatus.REFUSED
    assert await other.receive() is DeliveryStatus.HANDLED


async def test_no_event_is_handled_while_the_server_is_down_and_all_are_later(
    served: Processes, caplog: pytest.LogCaptureFixture
) -> None:
    worker, server = served.worker(), served.backend.server
    assert await worker.receive("before") is DeliveryStatus.HANDLED
    server.kill()
    assert await worker.receive("a") is DeliveryStatus.FAILED
    assert f"webhook a (read.completed of company {COMPANY}) could not be handled" in caplog.text
    server.start()
    # The open connection is one to the old server.
    assert await worker.receive("a") is DeliveryStatus.HANDLED
    assert worker.handled == 2


async def test_a_restarted_server_fails_no_delivery(served: Processes) -> None:
    worker, server = served.worker(), served.backend.server
    assert await worker.receive("a") is DeliveryStatus.HANDLED
    server.kill()
    server.start()
    assert await worker.receive("b") is DeliveryStatus.HANDLED


async def test_a_server_that_does_not_respond_fails_the_delivery_in_time(served: Processes) -> None:
    worker, server = served.worker(), served.backend.server
    assert await worker.receive("a") is DeliveryStatus.HANDLED
    server.suspend()
    try:
        started = time.monotonic()
        statuses = await asyncio.gather(*(worker.receive(f"{number}") for number in range(20)))
        assert time.monotonic() - started < 8
    finally:
        server.resume()
    assert set(statuses) == {DeliveryStatus.FAILED}
    assert await worker.receive("b") is DeliveryStatus.HANDLED
    assert worker.handled == 2


async def test_a_handled_event_that_cannot_be_recorded_is_handled_nevertheless(
    served: Processes, caplog: pytest.LogCaptureFixture
) -> None:
    worker, server = served.worker(ready=False), served.backend.server
    receiving = asyncio.create_task(worker.receive())
    await worker.started.wait()
    server.kill()
    worker.released.set()
    assert await receiving is DeliveryStatus.HANDLED
    assert await worker.receive() is DeliveryStatus.HANDLED
    assert worker.handled == 1
    assert "was handled, which could not be recorded for the other processes" in caplog.text


async def test_a_locked_file_is_waited_for_without_blocking(tmp_path: Path) -> None:
    backend = FileBackend(tmp_path / "deliveries.db")
    one = backend.store()
    await one.claim("a")
    other = sqlite3.connect(backend.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    claiming = asyncio.create_task(one.claim("b"))
    await asyncio.sleep(0.05)
    assert not claiming.done()
    other.execute("COMMIT")
    other.close()
    assert await claiming == "claimed"


async def test_a_file_that_cannot_be_used_fails_the_delivery(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "deliveries.db"
    path.write_bytes(b"not a database, but something else that is long enough to be seen as one" * 20)
    worker = Worker(FileDeliveryStore(path))
    assert await worker.receive() is DeliveryStatus.FAILED
    assert worker.handled == 0
    assert "could not be handled" in caplog.text
    assert (
        f"deliveries cannot be recorded in {path}: the file is not an SQLite database; use another path" in caplog.text
    )


@all_cases("name, mistake", MISTAKES)
async def test_a_path_that_cannot_work_is_reported_as_a_mistake(name: str, mistake: str) -> None:
    with unusable_paths() as root:
        store = FileDeliveryStore(root / name)
        for use in (store.check, partial(store.claim, "a")):
            with pytest.raises(DeliveryStoreError, match=f"^deliveries cannot be recorded in .*/{name}: {mistake}; "):
                await use()


async def test_a_check_accepts_a_file_in_use_and_changes_nothing(tmp_path: Path) -> None:
    store, path = FileDeliveryStore(tmp_path / "deliveries.db"), tmp_path / "deliveries.db"
    await store.check()
    assert await store.claim("a") == "claimed"
    await store.check()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        await store.check()
    assert await store.claim("a") == "in_progress"


async def test_a_full_disk_is_an_outage_and_no_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_disk(monkeypatch)
    store = FileDeliveryStore(tmp_path / "deliveries.db")
    await store.check()
    with pytest.raises(StoreUnavailableError, match="disk is full"):
        await store.claim("a")


async def test_no_password_is_shown_when_a_server_cannot_be_reached() -> None:
    for store in (
        RedisDeliveryStore("redis://user:secret-1@127.0.0.1:1/0"),
        PostgresDeliveryStore("postgresql://user:secret-1@127.0.0.1:1/db"),
    ):
        with pytest.raises(StoreUnavailableError) as caught:
            await store.claim("a")
        assert "secret-1" not in f"{caught.value!r} {caught.value} {store!r}"
        assert caught.value.__context__ is None
        await store.aclose()
    for make in (RedisDeliveryStore, PostgresDeliveryStore):
        with pytest.raises(ValueError, match="must be") as invalid:
            make("host=x secret-1")
        assert "secret-1" not in str(invalid.value)


def test_a_store_can_be_used_in_one_event_loop_after_another(tmp_path: Path) -> None:
    store = FileDeliveryStore(tmp_path / "deliveries.db")
    assert [asyncio.run(store.claim("a")) for _ in range(2)] == ["claimed", "in_progress"]


@pytest.mark.parametrize("setting", ["claim_for", "remember_for"])
def test_settings_are_checked_and_nothing_is_opened(setting: str, tmp_path: Path) -> None:
    invalid: dict[str, Any] = {setting: 0}
    with pytest.raises(ValueError, match=setting):
        FileDeliveryStore(tmp_path / "x", **invalid)
    FileDeliveryStore(tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(("library", "extra"), [("redis", "redis"), ("psycopg", "postgres")])
def test_without_the_library_the_error_names_the_extra(
    library: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = {"redis": "RedisDeliveryStore", "psycopg": "PostgresDeliveryStore"}[library]
    monkeypatch.delitem(vars(distributed), name, raising=False)
    needs = rf"pip install 'codat-commerce-async\[{extra}\]'"
    with missing(library, f"{distributed.__name__}.{extra}_deliveries"), pytest.raises(ImportError, match=needs):
        getattr(distributed, name)
