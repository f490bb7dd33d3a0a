"""The aiohttp.web adapter: one client, errors as problem details, event streams that end, webhooks."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from codat_commerce_async import CodatCommerce, PollPolicy
from codat_commerce_async.contrib.aiohttp_web import (
    CODAT,
    WATCHES,
    event_stream,
    handle_from,
    problem_middleware,
    setup,
)
from codat_commerce_async.simulator import ScriptedSync, Simulator
from codat_commerce_async.simulator.virtual_time import loop_wall_clock
from codat_commerce_async.webhooks import WebhookReceiver, Webhooks, WebhookVerifier
from tests.support.deliveries import SECRET, Delivery, body_of

pytestmark = pytest.mark.virtual_time

Client = TestClient[web.Request, web.Application]
POLL = PollPolicy(initial_delay=1.0, interval=10.0, max_interval=10.0, jitter=0.0)


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(now=loop_wall_clock()) as one:
        yield one


async def start(request: web.Request) -> web.Response:
    handle = await request.app[CODAT].sync.start(request.match_info["company_id"])
    return web.json_response({"token": handle.to_token()}, status=202)


async def events(request: web.Request) -> web.StreamResponse:
    return await event_stream(request, handle_from(**request.match_info))


def make_app(make_client: Callable[[], CodatCommerce]) -> web.Application:
    receiver = WebhookReceiver(WebhookVerifier(SECRET, wall_clock=loop_wall_clock()), Webhooks())
    app = web.Application(middlewares=[problem_middleware])
    setup(app, make_client, receiver)
    receiver.add_to(app, "/hooks")
    app.router.add_post("/companies/{company_id}/syncs", start)
    app.router.add_get("/companies/{company_id}/syncs/{token}/events", events)
    return app


@pytest.fixture
async def service(simulator: Simulator) -> AsyncIterator[Client]:
    def make_client() -> CodatCommerce:
        key, url = simulator.api_key, simulator.url
        return CodatCommerce(key, base_url=url, poll=POLL, wall_clock=loop_wall_clock())

    async with TestClient(TestServer(make_app(make_client))) as client:
        yield client


async def stream_url(simulator: Simulator, service: Client, script: ScriptedSync) -> str:
    company_id = simulator.add_linked_company()
    simulator.script_sync(company_id, script)
    async with service.post(f"/companies/{company_id}/syncs") as started:
        assert started.status == 202
        return f"/companies/{company_id}/syncs/{(await started.json())['token']}/events"


async def test_the_events_of_a_started_sync_are_streamed(simulator: Simulator, service: Client) -> None:
    url = await stream_url(simulator, service, ScriptedSync(5130, duration=100))
    async with service.get(url) as response:
        assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        text = await response.text()
    assert [line for line in text.splitlines() if line.startswith("event: ")] == [
        "event: status",
        "event: status",
        "event: end",
    ]
    assert ": heartbeat" in text


async def test_a_stream_ends_when_its_client_disconnects(simulator: Simulator, service: Client) -> None:
    url = await stream_url(simulator, service, ScriptedSync.never_ends())
    watches = service.app[WATCHES]
    async with service.get(url) as response:
        await response.content.readuntil(b"\n\n")
        assert (watches.syncs, watches.listeners) == (1, 1)
    await asyncio.sleep(1)
    assert (watches.syncs, watches.listeners) == (0, 0)


async def test_streams_end_when_the_application_shuts_down(simulator: Simulator, service: Client) -> None:
    url = await stream_url(simulator, service, ScriptedSync.never_ends())
    codat = service.app[CODAT]
    async with service.get(url) as response:
        await response.content.readuntil(b"\n\n")
        started = asyncio.get_running_loop().time()
        await service.server.close()
        assert asyncio.get_running_loop().time() - started < 1
    assert codat.closed


async def test_an_error_is_a_problem(service: Client) -> None:
    async with service.post("/companies/unknown/syncs") as response:
        assert (response.status, response.content_type) == (404, "application/problem+json")
        assert (await response.json())["type"] == "urn:codat-commerce-async:problem:not-found"
    async with service.get("/companies/c/syncs/nonsense/events") as response:
        assert (response.status, response.content_type) == (404, "application/problem+json")
        assert (await response.json())["type"] == "urn:codat-commerce-async:problem:no-such-sync"


async def test_a_webhook_makes_the_client_poll(simulator: Simulator, service: Client) -> None:
    url = await stream_url(simulator, service, ScriptedSync.never_ends())
    company_id = url.split("/")[2]
    body = body_of("read.completed", {"referenceCompany": {"id": company_id}})
    async with service.get(url) as response:
        await response.content.readuntil(b"\n\n")
        await asyncio.sleep(15)
        before = len(simulator.requests)
        delivery = Delivery(body, timestamp=str(int(loop_wall_clock()())))
        async with service.post("/hooks", data=delivery.body, headers=delivery.headers) as hook:
            assert hook.status == 204
        await asyncio.sleep(6)
        assert len(simulator.requests) > before
