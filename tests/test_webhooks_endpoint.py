"""The ASGI endpoint, by itself and in four frameworks: what it accepts, what it refuses, and how."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette

from codat_commerce_async.contrib import starlette as adapter
from codat_commerce_async.distributed import FileDeliveryStore
from codat_commerce_async.distributed._deliveries import Claim
from codat_commerce_async.errors import DeliveryStoreError
from codat_commerce_async.models.webhook_events import WebhookEvent
from codat_commerce_async.webhooks import WebhookEndpoint, Webhooks, WebhookVerifier
from tests.support.cases import all_cases
from tests.support.deliveries import OTHER_SECRET, SECRET, Delivery, body_of

PATH = "/hooks"
_numbers = itertools.count()


def starlette_app(endpoint: WebhookEndpoint) -> Any:
    app = Starlette()
    adapter.add_webhook_route(app, PATH, endpoint)
    return app


def fastapi_app(endpoint: WebhookEndpoint) -> Any:
    app = FastAPI()
    adapter.add_webhook_route(app, PATH, endpoint)
    return app


def litestar_app(endpoint: WebhookEndpoint) -> Any:
    litestar = pytest.importorskip("litestar", reason="Litestar is not installed: pip install '.[test]'")
    types = pytest.importorskip("litestar.types", reason="Litestar is not installed: pip install '.[test]'")

    async def hooks(scope: Any, receive: Any, send: Any) -> None:
        await endpoint(scope, receive, send)

    hooks.__annotations__.update(scope=types.Scope, receive=types.Receive, send=types.Send)
    return litestar.Litestar([litestar.asgi(PATH, copy_scope=True)(hooks)], openapi_config=None, logging_config=None)


def quart_app(endpoint: WebhookEndpoint) -> Any:
    app = pytest.importorskip("quart", reason="Quart is not installed: pip install '.[test]'").Quart("service")
    quarts_own = app.asgi_app

    async def with_webhooks(scope: Any, receive: Any, send: Any) -> None:
        is_delivery = scope["type"] == "http" and scope["path"] == PATH
        await (endpoint if is_delivery else quarts_own)(scope, receive, send)

    app.asgi_app = with_webhooks
    return app


FRAMEWORKS = {"starlette": starlette_app, "fastapi": fastapi_app, "litestar": litestar_app, "quart": quart_app}


class Worker:
    """One process of the service: its application, and the events it has handled."""

    def __init__(self, make_app: Callable[[WebhookEndpoint], Any], **settings: Any) -> None:
        self.handled = list[str]()
        self.released = asyncio.Event()
        self.released.set()
        hooks = Webhooks()

        @hooks.on(WebhookEvent)
        async def handle(event: WebhookEvent[object]) -> None:
            await self.released.wait()
            self.handled.append(event.event_type)

        self.endpoint = WebhookEndpoint(WebhookVerifier(SECRET), hooks, **settings)
        transport = httpx.ASGITransport(make_app(self.endpoint))
        self.http = httpx.AsyncClient(transport=transport, base_url="http://app")

    async def post(self, delivery: Delivery, headers: Any = None, body: Any = None) -> int:
        sent = delivery.headers if headers is None else headers
        return (await self.http.post(PATH, headers=sent, content=body or delivery.body)).status_code


Start = Callable[..., Worker]


@pytest.fixture(params=FRAMEWORKS)
async def start(request: pytest.FixtureRequest) -> AsyncIterator[Start]:
    workers = list[Worker]()

    def start_one(**settings: Any) -> Worker:
        workers.append(Worker(FRAMEWORKS[request.param], **settings))
        return workers[-1]

    yield start_one
    for worker in workers:
        await worker.endpoint.drain()
        await worker.http.aclose()


def delivery(**changes: Any) -> Delivery:
    return Delivery(
        body_of("read.completed"), webhook_id=f"msg-{next(_numbers)}", timestamp=str(int(time.time())), **changes
    )


async def test_a_genuine_delivery_is_handled_once(start: Start) -> None:
    worker = start()
    one = delivery()
    assert [await worker.post(one), await worker.post(one)] == [204, 204]
    assert worker.handled == ["read.completed"]


async def test_an_invalid_delivery_is_refused(start: Start) -> None:
    worker = start(max_size=2000)
    one = delivery()
    twice = [*one.headers.items(), ("webhook-signature", one.signature)]
    assert await worker.post(one, body=one.body + b" ") == 401
    assert await worker.post(one, headers=twice) == 401
    assert await worker.post(delivery(secrets=(OTHER_SECRET,))) == 401
    assert await worker.post(one, body=b"x" * 2001) == 413
    assert (await worker.http.get(PATH)).status_code == 405
    assert worker.handled == []


async def test_a_body_without_a_length_is_limited_too(start: Start) -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b"x" * 500

    assert await start(max_size=2000).post(delivery(), body=body()) == 413


async def test_a_slow_body_is_timed_out(start: Start) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    assert await start(respond_within=0.05).post(delivery(), body=body()) == 408


async def test_a_slow_handler_is_acknowledged_and_finishes(start: Start) -> None:
    worker = start(respond_within=0.05)
    worker.released.clear()
    assert await worker.post(delivery()) == 202
    worker.released.set()
    await worker.endpoint.drain()
    assert worker.handled == ["read.completed"]
    assert await worker.post(delivery()) == 503


async def test_a_delivery_to_two_workers_is_handled_once(start: Start, tmp_path: Path) -> None:
    workers = [start(deduplicate=FileDeliveryStore(tmp_path / "deliveries.db")) for _ in range(2)]
    one = delivery()
    statuses = await asyncio.gather(*(worker.post(one) for worker in workers))
    assert sorted(statuses) in ([204, 204], [204, 503])
    assert [await worker.post(one) for worker in workers] == [204, 204]
    assert sum(len(worker.handled) for worker in workers) == 1


async def test_an_endpoint_is_not_opened_with_a_store_that_cannot_work(start: Start, tmp_path: Path) -> None:
    worker = start(deduplicate=FileDeliveryStore(tmp_path / "missing" / "deliveries.db"))
    with pytest.raises(DeliveryStoreError, match=r"/missing does not exist; create it, or use another path$"):
        await worker.endpoint.open()
    assert await worker.post(delivery()) == 500
    (tmp_path / "missing").mkdir()
    await worker.endpoint.open()
    assert await worker.post(delivery()) == 204


async def test_a_store_of_ones_own_needs_no_check(start: Start) -> None:
    worker = start(deduplicate=OwnStore())
    await worker.endpoint.open()
    assert await worker.post(delivery()) == 204


class OwnStore:
    """A store with the members of `DeliveryStore`, and no others."""

    async def claim(self, webhook_id: str) -> Claim:
        return "claimed"

    async def finish(self, webhook_id: str, *, handled: bool) -> None:
        """Nothing to record."""

    async def aclose(self) -> None:
        """Nothing to close."""


async def call(endpoint: WebhookEndpoint, scope: dict[str, Any], *messages: dict[str, Any]) -> list[dict[str, Any]]:
    """Call the endpoint as an ASGI server does, and return what it sends."""
    sent = list[dict[str, Any]]()
    received = iter(messages)

    async def receive() -> dict[str, Any]:
        return next(received)

    async def send(message: Any) -> None:
        sent.append(message)

    await endpoint(scope, receive, send)
    return sent


@pytest.fixture
def endpoint() -> WebhookEndpoint:
    return WebhookEndpoint(WebhookVerifier(SECRET), Webhooks())


async def test_a_client_that_disconnects_gets_no_response(endpoint: WebhookEndpoint) -> None:
    scope = {"type": "http", "method": "POST", "headers": []}
    body = {"type": "http.request", "body": b"{", "more_body": True}
    assert await call(endpoint, scope, body, {"type": "http.disconnect"}) == []


async def test_another_method_is_not_allowed(endpoint: WebhookEndpoint) -> None:
    start, _ = await call(endpoint, {"type": "http", "method": "HEAD", "headers": []})
    assert (start["status"], dict(start["headers"])[b"allow"]) == (405, b"POST")


async def test_a_websocket_is_refused(endpoint: WebhookEndpoint) -> None:
    with pytest.raises(ValueError, match="websocket"):
        await call(endpoint, {"type": "websocket"})


@all_cases(
    "settings", [{"max_size": 0}, {"respond_within": 15}, {"drain_timeout": -1}, {"capacity": 0}, {"dedup_size": 0}]
)
def test_settings_are_checked(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        WebhookEndpoint(WebhookVerifier(SECRET), Webhooks(), **settings)
