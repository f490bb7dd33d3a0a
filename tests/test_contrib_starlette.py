"""The Starlette adapter: one client, errors as problem details, event streams that notice a disconnect."""

import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from codat_commerce_async import CodatCommerce
from codat_commerce_async.contrib.starlette import (
    EventStream,
    client_of,
    exception_handlers,
    handle_from,
    lifespan,
    watches_of,
)
from codat_commerce_async.simulator import ScriptedSync, Simulator
from tests.support.missing import missing


async def start(request: Request) -> Response:
    handle = await client_of(request).sync.start(request.path_params["company_id"])
    return JSONResponse({"token": handle.to_token()}, 202)


async def events(request: Request) -> Response:
    return EventStream(watches_of(request), handle_from(**request.path_params))


def make_app() -> Starlette:
    routes = [
        Route("/companies/{company_id}/syncs", start, methods=["POST"]),
        Route("/companies/{company_id}/syncs/{token}/events", events),
    ]
    return Starlette(routes=routes, lifespan=lifespan(CodatCommerce.from_env), exception_handlers=exception_handlers())


@asynccontextmanager
async def opened(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://app") as web:
        yield web


async def test_the_events_of_a_started_sync_are_streamed(codat_simulator: Simulator) -> None:
    company_id = codat_simulator.add_linked_company()
    codat_simulator.script_sync(company_id, ScriptedSync(2000, duration=20))
    async with opened(make_app()) as web:
        token = (await web.post(f"/companies/{company_id}/syncs")).json()["token"]
        body = (await web.get(f"/companies/{company_id}/syncs/{token}/events")).text
        wrong = await web.get(f"/companies/{company_id}/syncs/x{token}/events")
    assert body.count("event: status\n") >= 1
    assert body.endswith("event: end\ndata: {}\n\n")
    assert (wrong.status_code, wrong.headers["content-type"]) == (404, "application/problem+json")


async def test_an_error_is_a_problem(codat_simulator: Simulator) -> None:
    async with opened(make_app()) as web:
        response = await web.post("/companies/unknown/syncs")
    assert (response.status_code, response.headers["content-type"]) == (404, "application/problem+json")


@pytest.mark.parametrize("spec_version", ["2.3", "2.4"])
async def test_a_stream_ends_when_its_client_disconnects(codat_simulator: Simulator, spec_version: str) -> None:
    app = make_app()
    company_id = codat_simulator.add_linked_company()
    codat_simulator.script_sync(company_id, ScriptedSync.never_ends())
    async with opened(app) as web:
        token = (await web.post(f"/companies/{company_id}/syncs")).json()["token"]
        sent = list[Any]()

        async def receive() -> dict[str, str]:
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        path = f"/companies/{company_id}/syncs/{token}/events"
        scope = {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b""}
        await app({**scope, "asgi": {"version": "3.0", "spec_version": spec_version}}, receive, send)
        watches = app.state.codat_serving.watches
        assert (watches.syncs, watches.listeners) == (0, 0)
    assert all(message.get("more_body", True) for message in sent)


def test_without_starlette_the_error_names_the_extra() -> None:
    module = "codat_commerce_async.contrib.starlette"
    with (
        missing("starlette", module),
        pytest.raises(ImportError, match=r"pip install 'codat-commerce-async\[starlette\]'"),
    ):
        importlib.import_module(module)
