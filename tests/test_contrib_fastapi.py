"""The FastAPI adapter: the client of the lifespan, errors as problem details, event streams, webhooks, OpenAPI."""

import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI

from codat_commerce_async import CodatCommerce, SyncStatus
from codat_commerce_async.contrib.fastapi import (
    Codat,
    CompanyId,
    EventStream,
    StartedSync,
    Watched,
    add_webhook_route,
    exception_handlers,
    handle_from,
    lifespan,
    problem_responses,
)
from codat_commerce_async.models.webhook_events import WebhookEvent
from codat_commerce_async.simulator import ScriptedSync, Simulator
from codat_commerce_async.webhooks import WebhookEndpoint, Webhooks, WebhookVerifier
from tests.support.deliveries import NOW, SECRET, Delivery, body_of
from tests.support.missing import missing


def make_app(*hooks: Webhooks) -> FastAPI:
    app = FastAPI(lifespan=lifespan(CodatCommerce.from_env), exception_handlers=exception_handlers())
    for one in hooks:
        endpoint = WebhookEndpoint(WebhookVerifier(SECRET, wall_clock=lambda: NOW), one)
        add_webhook_route(app, "/hooks", endpoint)

    @app.post("/companies/{company_id}/syncs", status_code=202, responses=problem_responses())
    async def start(company_id: CompanyId, codat: Codat) -> StartedSync:
        return StartedSync.of(await codat.sync.start(company_id))

    @app.get("/companies/{company_id}/syncs")
    async def status(company_id: str, codat: Codat) -> SyncStatus:
        return await codat.sync.get_status(company_id)

    @app.get("/companies/{company_id}/syncs/{token}/events", response_class=EventStream)
    async def events(company_id: str, token: str, watches: Watched) -> EventStream:
        return EventStream(watches, handle_from(company_id, token))

    @app.get("/pollers")
    async def pollers(watches: Watched) -> dict[str, int]:
        return {"syncs": watches.syncs, "listeners": watches.listeners}

    return app


@asynccontextmanager
async def opened(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Run the lifespan, which `httpx.ASGITransport` does not."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://app") as web:
        yield web


@pytest.fixture
async def web(codat_simulator: Simulator) -> AsyncIterator[httpx.AsyncClient]:
    async with opened(make_app()) as client:
        yield client


async def test_the_events_of_a_started_sync_are_streamed(codat_simulator: Simulator, web: httpx.AsyncClient) -> None:
    company_id = codat_simulator.add_linked_company()
    codat_simulator.script_sync(company_id, ScriptedSync(5130, duration=20))
    started = await web.post(f"/companies/{company_id}/syncs")
    assert started.status_code == 202
    url = f"/companies/{company_id}/syncs/{started.json()['token']}"
    response = await web.get(f"{url}/events")
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["x-accel-buffering"] == "no"
    names = [line.removeprefix("event: ") for line in response.text.splitlines() if line.startswith("event: ")]
    assert names[-2:] == ["status", "end"]
    assert '"syncStatusCode":5130' in response.text


async def test_an_error_is_a_problem(web: httpx.AsyncClient) -> None:
    response = await web.post("/companies/unknown/syncs")
    assert (response.status_code, response.headers["content-type"]) == (404, "application/problem+json")
    assert response.json()["type"] == "urn:codat-commerce-async:problem:not-found"


async def test_a_wrong_key_is_no_concern_of_the_caller(codat_simulator: Simulator, web: httpx.AsyncClient) -> None:
    company_id = codat_simulator.add_linked_company()
    codat_simulator.rotate_api_key("another")
    response = await web.post(f"/companies/{company_id}/syncs")
    assert response.status_code == 500
    assert "key" not in response.text


async def test_an_exhausted_quota_is_unavailable(codat_simulator: Simulator, web: httpx.AsyncClient) -> None:
    company_id = codat_simulator.add_linked_company()
    codat_simulator.set_remaining_quota(0)
    response = await web.get(f"/companies/{company_id}/syncs")
    assert response.status_code == 503
    assert 0 < int(response.headers["retry-after"]) <= 86_400
    assert response.json()["reset_at"].startswith("2024-01-16T00:00:00")


async def test_a_model_is_returned_as_codats_json(codat_simulator: Simulator, web: httpx.AsyncClient) -> None:
    company_id = codat_simulator.add_linked_company()
    codat_simulator.script_sync(company_id, ScriptedSync.never_ends())
    await web.post(f"/companies/{company_id}/syncs")
    status = (await web.get(f"/companies/{company_id}/syncs")).json()
    assert (status["companyId"], status["syncStatusCode"]) == (company_id, 1000)


async def test_a_wrong_token_is_not_found(web: httpx.AsyncClient) -> None:
    response = await web.get("/companies/c/syncs/nonsense/events")
    assert (response.status_code, response.headers["content-type"]) == (404, "application/problem+json")
    assert response.json()["type"] == "urn:codat-commerce-async:problem:no-such-sync"


@pytest.mark.parametrize("company_id", ["%2E%2E", "%20", "a%0Ab"])
async def test_an_invalid_id_is_refused(codat_simulator: Simulator, web: httpx.AsyncClient, company_id: str) -> None:
    response = await web.post(f"/companies/{company_id}/syncs")
    assert response.status_code == 422
    assert codat_simulator.requests == ()


async def test_the_schema_describes_models_and_problems(web: httpx.AsyncClient) -> None:
    schema = (await web.get("/openapi.json")).json()
    start = schema["paths"]["/companies/{company_id}/syncs"]["post"]["responses"]
    assert start["202"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/StartedSync"}
    assert set(start) == {"202", "404", "409", "422", "502", "503", "504"}
    assert list(start["503"]["content"]) == ["application/problem+json"]
    assert start["503"]["content"]["application/problem+json"]["schema"]["required"] == [
        "type",
        "title",
        "status",
        "detail",
    ]
    assert "syncStatusCode" in schema["components"]["schemas"]["SyncStatus"]["properties"]
    events = schema["paths"]["/companies/{company_id}/syncs/{token}/events"]["get"]
    assert [parameter["name"] for parameter in events["parameters"]] == ["company_id", "token"]
    assert "text/event-stream" in events["responses"]["200"]["content"]
    assert "/hooks" not in schema["paths"]


async def test_the_lifespan_closes_the_client_and_combines_with_your_own(codat_simulator: Simulator) -> None:
    clients = list[CodatCommerce]()

    def make_client() -> CodatCommerce:
        clients.append(CodatCommerce.from_env())
        return clients[-1]

    @asynccontextmanager
    async def own_lifespan(app: FastAPI) -> AsyncIterator[dict[str, int]]:
        async with lifespan(make_client)(app):
            yield {"of_your_own": 1}

    app = FastAPI(lifespan=own_lifespan, exception_handlers=exception_handlers())

    @app.get("/")
    async def closed(codat: Codat) -> bool:
        return codat.closed

    for _ in range(2):
        async with opened(app) as web:
            assert (await web.get("/")).json() is False
    assert [client.closed for client in clients] == [True, True]
    # Without its lifespan there is no client; importing and creating the application opened none.
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as web:
        assert (await web.get("/")).status_code == 500


async def test_a_webhook_is_handled_and_makes_the_client_poll(codat_simulator: Simulator) -> None:
    hooks, seen = Webhooks(), list[str]()

    @hooks.on(WebhookEvent)
    async def record(event: WebhookEvent[object]) -> None:
        seen.append(event.event_type)

    delivery = Delivery(body_of("read.completed"))
    async with opened(make_app(hooks)) as web:
        response = await web.post("/hooks", content=delivery.body, headers=delivery.headers)
        assert (response.status_code, response.content) == (204, b"")
        assert (await web.post("/hooks", content=delivery.body, headers=delivery.headers)).status_code == 204
        assert (await web.get("/hooks")).status_code == 405
        assert (await web.post("/hooks", content=b"{}", headers=delivery.headers)).status_code == 401
    assert seen == ["read.completed"]


@pytest.mark.filterwarnings("ignore:Using `httpx` with `starlette.testclient`")
def test_webhooks_are_received_in_every_lifespan_of_an_application(codat_simulator: Simulator) -> None:
    hooks, seen = Webhooks(), list[str]()

    @hooks.on(WebhookEvent)
    async def record(event: WebhookEvent[object]) -> None:
        seen.append(event.event_type)

    test_client = importlib.import_module("fastapi.testclient").TestClient  # warns of httpx
    app = make_app(hooks)
    for webhook_id in ("msg_1", "msg_2", "msg_3"):
        delivery = Delivery(body_of("read.completed"), webhook_id=webhook_id)
        with test_client(app) as web:  # with an event loop of its own
            response = web.post("/hooks", content=delivery.body, headers=delivery.headers)
        assert response.status_code == 204
    assert len(seen) == 3


def test_without_fastapi_the_error_names_the_extra() -> None:
    module = "codat_commerce_async.contrib.fastapi"
    with missing("fastapi", module), pytest.raises(ImportError, match=r"pip install 'codat-commerce-async\[fastapi\]'"):
        importlib.import_module(module)
