"""The services that the README and the guide show, and the example, start a sync and stream its events."""

import re
import runpy
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from codat_commerce_async.simulator import ScriptedSync, Simulator
from tests.support.deliveries import Delivery, body_of

CHECKOUT = Path(__file__).parents[1]
GUIDE = CHECKOUT / "docs" / "web-backends.md"
README = CHECKOUT / "README.md"


def recipe(heading: str, page: Path = GUIDE) -> dict[str, Any]:
    """Return the names that the first block below a heading defines."""
    chapter = page.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2]
    found = re.search(r"^```python\n(.*?)^```$", chapter, re.MULTILINE | re.DOTALL)
    assert found is not None
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(found[1], f"{page.name}, {heading}", "exec"), names)  # noqa: S102 - our own guide
    return names


def app_of(service: str) -> Any:
    if service == "README":
        return recipe("In a web backend", README)["app"]
    return runpy.run_path(str(CHECKOUT / service))["app"] if "/" in service else recipe(service)["app"]


@asynccontextmanager
async def lifespan_of_quart(app: Any) -> AsyncIterator[None]:
    await app.startup()
    yield
    await app.shutdown()


def opened(framework: str, app: Any) -> AbstractAsyncContextManager[Any]:
    if framework == "Litestar":
        lifespan: AbstractAsyncContextManager[Any] = app.lifespan()
        return lifespan
    return lifespan_of_quart(app) if framework == "Quart" else app.router.lifespan_context(app)


SERVICES = ["README", "FastAPI", "Starlette", "Litestar", "Quart", "examples/fastapi_service.py"]


@pytest.mark.parametrize("framework", SERVICES)
async def test_a_service_starts_a_sync_streams_it_and_says_what_failed(
    codat_simulator: Simulator, framework: str
) -> None:
    if framework in {"Litestar", "Quart"}:
        pytest.importorskip(framework.lower())
    app = app_of(framework)
    company_id = codat_simulator.add_linked_company()
    codat_simulator.script_sync(company_id, ScriptedSync(5130, duration=20))
    transport = httpx.ASGITransport(app)
    async with opened(framework, app), httpx.AsyncClient(transport=transport, base_url="http://app") as web:
        started = await web.post(f"/companies/{company_id}/syncs")
        assert started.status_code == 202
        stream = await web.get(f"/companies/{company_id}/syncs/{started.json()['token']}/events")
        unknown = await web.post("/companies/unknown/syncs")
    assert stream.headers["content-type"].startswith("text/event-stream")
    assert '"syncStatusCode":5130' in stream.text
    assert stream.text.endswith("event: end\ndata: {}\n\n")
    assert (unknown.status_code, unknown.headers["content-type"]) == (404, "application/problem+json")
    assert unknown.json()["type"] == "urn:codat-commerce-async:problem:not-found"


async def test_the_service_of_the_readme_receives_webhooks(codat_simulator: Simulator) -> None:
    app = app_of("README")
    delivery = Delivery(
        body_of("read.completed"), timestamp=str(int(time.time())), secrets=("whsec_b2YgdGhlIGVuZHBvaW50",)
    )
    forged = Delivery(body_of("read.completed"), timestamp=delivery.timestamp)
    transport = httpx.ASGITransport(app)
    async with opened("FastAPI", app), httpx.AsyncClient(transport=transport, base_url="http://app") as web:
        responses = [
            await web.post("/codat/webhooks", content=one.body, headers=one.headers) for one in (delivery, forged)
        ]
    assert [response.status_code for response in responses] == [204, 401]
