"""Deliveries over a real socket to the aiohttp.web receiver, in virtual time."""

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from codat_commerce_async import CodatCommerce, PollPolicy
from codat_commerce_async.distributed import FileDeliveryStore
from codat_commerce_async.errors import DeliveryStoreError
from codat_commerce_async.models.webhook_events import ConnectionEvent, UnknownEvent, WebhookEvent
from codat_commerce_async.simulator import RequestQuota, ScriptedSync, Simulator, WebhookSender
from codat_commerce_async.simulator.virtual_time import loop_wall_clock
from codat_commerce_async.webhooks import WebhookReceiver, Webhooks, WebhookVerifier
from tests.support.deliveries import NOW, OTHER_SECRET, SECRET, Delivery, body_of

pytestmark = pytest.mark.virtual_time

PATH = "/codat/webhooks"
Client = TestClient[web.Request, web.Application]
Serve = Callable[..., Awaitable[Client]]


@pytest.fixture
def hooks() -> Webhooks:
    return Webhooks()


@pytest.fixture
async def serve(hooks: Webhooks) -> AsyncIterator[Serve]:
    """Serves a receiver with the given settings; what it is, stands in the application."""
    clients = list[Client]()

    async def start(*, client_max_size: int = 1024**2, **settings: object) -> Client:
        verifier = WebhookVerifier(SECRET, wall_clock=loop_wall_clock())
        receiver = WebhookReceiver(verifier, hooks, **settings)  # type: ignore[arg-type]
        app = web.Application(client_max_size=client_max_size)
        app[RECEIVER] = receiver
        receiver.add_to(app, PATH)
        clients.append(TestClient(TestServer(app)))
        await clients[-1].start_server()
        return clients[-1]

    yield start
    for client in clients:
        await client.close()


RECEIVER = web.AppKey("receiver", WebhookReceiver)
_numbers = itertools.count()


def delivery(event_type: str = "tea.brewed", *, webhook_id: str | None = None, body: bytes | None = None) -> Delivery:
    sent_at = NOW + int(asyncio.get_running_loop().time())
    return Delivery(body or body_of(event_type), webhook_id or f"msg-{next(_numbers)}", str(sent_at))


async def post(client: Client, message: Delivery) -> int:
    async with client.post(PATH, data=message.body, headers=message.headers) as response:
        assert await response.read() == b"" or response.status >= 400
        return response.status


def receiver_of(client: Client) -> WebhookReceiver:
    return client.app[RECEIVER]


class HeldHandler:
    """A handler of `tea.brewed` that waits until `released` is set."""

    def __init__(self, hooks: Webhooks) -> None:
        self.started = 0
        self.done = 0
        self.released = asyncio.Event()
        hooks.on("tea.brewed")(self.handle)

    async def handle(self, _event: WebhookEvent[object]) -> None:
        self.started += 1
        await self.released.wait()
        self.done += 1


async def test_a_delivery_is_handled_and_responded_with_204(serve: Serve, hooks: Webhooks) -> None:
    seen = list[str | None]()

    @hooks.on("connection.disconnected")
    async def note(event: ConnectionEvent) -> None:
        seen.append(event.payload.connection.id if event.payload.connection else None)

    assert await post(await serve(), delivery("connection.disconnected")) == 204
    assert seen == ["c-1"]


async def test_an_unknown_type_arrives_too(serve: Serve, hooks: Webhooks) -> None:
    seen = list[object]()

    @hooks.on(UnknownEvent)
    async def note(event: UnknownEvent) -> None:
        seen.append(event.payload)

    client = await serve()
    assert await post(client, delivery(body=body_of("coffee.ground", {"beans": 3}))) == 204
    assert await post(client, delivery("company.created")) == 204
    assert seen == [{"beans": 3}]


async def test_a_bad_signature_gets_a_401_and_reaches_no_handler(
    serve: Serve, hooks: Webhooks, caplog: pytest.LogCaptureFixture
) -> None:
    handler = HeldHandler(hooks)
    client = await serve()
    forged = Delivery(body_of("tea.brewed"), secrets=(OTHER_SECRET,))
    with caplog.at_level(logging.WARNING, "codat_commerce_async"):
        assert await post(client, forged) == 401
        async with client.post(PATH, data=b"") as response:
            assert response.status == 401
    assert handler.started == 0
    assert "the webhook has no signature by a known secret" in caplog.text
    assert SECRET[6:] not in caplog.text
    assert forged.signature not in caplog.text


@pytest.mark.parametrize("body", [b"[1, 2]", b"", b"\xff", b'{"RuleType": "SyncConnectionDeleted", "CompanyId": ""}'])
async def test_a_signed_body_is_accepted_whatever_its_shape(serve: Serve, body: bytes) -> None:
    assert await post(await serve(), delivery(body=body)) == 204


@pytest.mark.parametrize("chunked", [False, True])
async def test_an_oversized_body_gets_a_response_with_413(serve: Serve, *, chunked: bool) -> None:
    client = await serve(client_max_size=10_000)
    message = delivery(body=b" " * 20_000 + body_of("tea.brewed"))

    async def pieces() -> AsyncIterator[bytes]:
        yield message.body

    data = pieces() if chunked else message.body
    async with client.post(PATH, data=data, headers=message.headers) as response:
        assert response.status == 413


async def test_other_methods_are_responded_with_405(serve: Serve) -> None:
    async with (await serve()).get(PATH) as response:
        assert response.status == 405


async def test_a_handler_that_raises_makes_codat_deliver_again(serve: Serve, hooks: Webhooks) -> None:
    failing, seen = [True], list[str]()

    @hooks.on("tea.brewed")
    async def spill(_event: WebhookEvent[object]) -> None:
        if failing:
            raise RuntimeError

    @hooks.on(WebhookEvent)
    async def note(event: WebhookEvent[object]) -> None:
        seen.append(event.event_type)

    client = await serve()
    message = delivery()
    assert await post(client, message) == 500
    failing.clear()
    assert await post(client, message) == 204
    assert await post(client, message) == 204
    assert await post(client, delivery("company.created")) == 204
    assert seen == ["tea.brewed", "tea.brewed", "company.created"]


async def test_a_slow_handler_does_not_hold_up_the_response(serve: Serve, hooks: Webhooks) -> None:
    handler, clock = HeldHandler(hooks), asyncio.get_running_loop()
    client = await serve()
    message, began = delivery(), clock.time()
    assert await post(client, message) == 202
    assert clock.time() - began == pytest.approx(10, abs=0.1)
    assert await post(client, delivery(webhook_id=message.webhook_id)) == 202
    handler.released.set()
    assert await post(client, delivery(webhook_id=message.webhook_id)) == 204
    assert (handler.started, handler.done) == (1, 1)


async def test_a_handler_that_blocks_others_is_not_in_their_way(serve: Serve, hooks: Webhooks) -> None:
    handler, clock = HeldHandler(hooks), asyncio.get_running_loop()
    client = await serve()
    slow = [asyncio.create_task(post(client, delivery())) for _ in range(50)]
    await asyncio.sleep(1)
    began = clock.time()
    assert await post(client, delivery("company.created")) == 204
    assert clock.time() - began < 1
    assert await asyncio.gather(*slow) == [202] * 50
    handler.released.set()


async def test_unfinished_work_can_be_left_to_another_delivery(serve: Serve, hooks: Webhooks) -> None:
    handler = HeldHandler(hooks)
    client = await serve(acknowledge_unfinished=False, respond_within=5)
    message = delivery()
    assert await post(client, message) == 503
    assert receiver_of(client).unhandled == {}
    handler.released.set()
    assert await post(client, message) == 204
    assert (handler.started, handler.done) == (1, 1)


async def test_a_full_receiver_requests_another_delivery(serve: Serve, hooks: Webhooks) -> None:
    handler = HeldHandler(hooks)
    client = await serve(capacity=1)
    assert await post(client, delivery()) == 202
    rejected = delivery()
    assert await post(client, rejected) == 503
    handler.released.set()
    await asyncio.sleep(1)
    assert await post(client, rejected) == 204
    assert handler.done == 2


async def test_a_body_that_does_not_come_gets_a_response_in_time(serve: Serve) -> None:
    client = await serve()
    assert client.server.port is not None
    reader, writer = await asyncio.open_connection("127.0.0.1", client.server.port)
    writer.write(f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{{".encode())
    status = await reader.readline()
    assert status.split()[1] == b"408"
    assert asyncio.get_running_loop().time() == pytest.approx(10, abs=0.1)
    writer.close()
    await writer.wait_closed()


async def raw(client: Client, request: bytes) -> bytes:
    """Return the status of the response to hand-made bytes."""
    assert client.server.port is not None
    reader, writer = await asyncio.open_connection("127.0.0.1", client.server.port)
    writer.write(request)
    line = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return line.split()[1]


@pytest.mark.parametrize(
    "headers",
    [
        b"",
        b"webhook-id: \xff\xfe\r\nwebhook-timestamp: 1\r\nwebhook-signature: v1,\xc3\xa9\r\n",
        b"webhook-id: a\r\nwebhook-timestamp: 1705305600\r\nwebhook-signature: v1,\xff\r\n",
        b"webhook-id: a\r\nwebhook-timestamp: 1705305600\r\nwebhook-signature: v1\r\n",
        b"webhook-id: a\r\nwebhook-timestamp: nan\r\nwebhook-signature: v1,a\r\n",
        b"webhook-id: a\r\nwebhook-id: b\r\nwebhook-timestamp: 1\r\nwebhook-signature: v1,a\r\n",
        b"webhook-signature: " + b"v1,AAAA " * 900 + b"\r\n",
        b"webhook-signature: " + b"v1,AAAA " * 9000 + b"\r\n",
        b"content-encoding: gzip\r\n",
        b"content-type: multipart/form-data\r\n",
        b"webhook-id\r\n",
    ],
)
async def test_hostile_requests_are_refused_and_the_next_one_is_served(serve: Serve, headers: bytes) -> None:
    client = await serve()
    body = b'\x00\xff{"eventType":'
    request = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%s\r\n%s"
    assert (await raw(client, request % (PATH.encode(), len(body), headers, body))).startswith(b"4")
    assert await post(client, delivery()) == 204


async def test_a_connection_that_is_closed_in_the_middle_does_no_harm(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    client = await serve()
    assert client.server.port is not None
    _, writer = await asyncio.open_connection("127.0.0.1", client.server.port)
    writer.write(f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{{".encode())
    await writer.drain()
    await asyncio.sleep(1)
    writer.transport.abort()
    await asyncio.sleep(1)
    assert [record.levelname for record in caplog.records if record.levelno >= logging.ERROR] == []
    assert await post(client, delivery()) == 204


async def test_shutting_down_sees_through_what_was_accepted(serve: Serve, hooks: Webhooks) -> None:
    handler = HeldHandler(hooks)
    client = await serve()
    assert await post(client, delivery()) == 202
    waiting = asyncio.create_task(post(client, delivery()))
    await asyncio.sleep(1)
    closing = asyncio.create_task(client.server.close())
    await asyncio.sleep(5)
    assert (handler.done, closing.done()) == (0, False)
    handler.released.set()
    assert await waiting == 204
    await closing
    assert handler.done == 2
    assert receiver_of(client).unhandled == {}


async def test_a_receiver_is_open_in_every_application_that_it_is_added_to(hooks: Webhooks) -> None:
    receiver = WebhookReceiver(WebhookVerifier(SECRET, wall_clock=lambda: NOW), hooks)
    for webhook_id in ("msg_1", "msg_2"):
        app, delivery = web.Application(), Delivery(body_of("read.completed"), webhook_id)
        receiver.add_to(app, PATH)
        async with TestClient(TestServer(app)) as client:
            assert await post(client, delivery) == 204


async def test_an_application_does_not_start_with_a_store_that_cannot_work(hooks: Webhooks, tmp_path: Path) -> None:
    store = FileDeliveryStore(tmp_path / "missing" / "deliveries.db")
    app = web.Application()
    WebhookReceiver(WebhookVerifier(SECRET), hooks, deduplicate=store).add_to(app, PATH)
    with pytest.raises(DeliveryStoreError, match=r"/missing does not exist; create it, or use another path$"):
        await TestServer(app).start_server()


async def test_shutting_down_refuses_what_is_new_so_that_it_comes_again(serve: Serve, hooks: Webhooks) -> None:
    handler = HeldHandler(hooks)
    client = await serve()
    assert await post(client, delivery()) == 202
    draining = asyncio.create_task(receiver_of(client).drain())
    await asyncio.sleep(1)
    assert await post(client, delivery()) == 503
    handler.released.set()
    await draining
    assert (handler.started, handler.done) == (1, 1)


async def test_shutting_down_with_stuck_handlers_loses_no_event(serve: Serve, hooks: Webhooks) -> None:
    handler, clock = HeldHandler(hooks), asyncio.get_running_loop()
    client = await serve(drain_timeout=5)
    accepted = delivery()
    assert await post(client, accepted) == 202
    waiting = asyncio.create_task(post(client, delivery()))
    await asyncio.sleep(1)
    began = clock.time()
    await client.server.close()
    assert clock.time() - began == pytest.approx(5, abs=1)
    assert await waiting == 503
    assert list(receiver_of(client).unhandled) == [accepted.webhook_id]
    assert handler.done == 0


async def test_a_connection_that_is_lost_does_not_lose_the_event(serve: Serve, hooks: Webhooks) -> None:
    handler = HeldHandler(hooks)
    client, message = await serve(), delivery()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2):
            await post(client, message)
    handler.released.set()
    assert await post(client, message) == 204
    assert (handler.started, handler.done) == (1, 1)


@pytest.mark.parametrize(
    "settings",
    [
        {"respond_within": 0},
        {"respond_within": 15},
        {"respond_within": float("nan")},
        {"drain_timeout": -1},
        {"drain_timeout": 10**400},
        {"respond_within": 10**400},
        {"capacity": 0},
    ],
)
async def test_settings_that_cannot_work_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        WebhookReceiver(WebhookVerifier(SECRET), Webhooks(), **settings)  # type: ignore[arg-type]


async def test_the_receiver_does_not_show_the_secret() -> None:
    receiver = WebhookReceiver(WebhookVerifier(SECRET), Webhooks())
    assert SECRET[6:] not in repr(receiver)


async def test_codats_own_webhooks_end_a_patient_wait_early(serve: Serve, hooks: Webhooks) -> None:
    clock, client = loop_wall_clock(), await serve()
    waiting_client = PollPolicy(initial_delay=600, interval=5, factor=120, max_interval=600, jitter=0)

    async def pass_on(headers: "dict[str, str]", body: bytes) -> int:
        async with client.post(PATH, data=body, headers=headers) as response:
            return response.status

    async with (
        Simulator(now=clock, quota=RequestQuota(per_day=None)) as simulator,
        CodatCommerce(simulator.api_key, base_url=simulator.url, poll=waiting_client, wall_clock=clock) as codat,
    ):
        hooks.attach(codat)
        company_id = simulator.add_linked_company()
        simulator.script_sync(company_id, ScriptedSync(duration=90))
        sender = WebhookSender(simulator, pass_on, SECRET, OTHER_SECRET)  # type: ignore[arg-type]
        wait = asyncio.create_task(codat.sync.run(company_id))
        while not wait.done():
            await asyncio.sleep(5)
            assert await sender.deliver() == 0
        assert (await wait).succeeded
    assert asyncio.get_running_loop().time() == pytest.approx(95, abs=6)
