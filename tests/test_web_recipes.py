"""The services that the guide shows, and the example, start a sync and stream its events."""

import re
import runpy
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from codat_commerce_async.simulator import ScriptedSync, Simulator

CHECKOUT = Path(__file__).parents[1]
GUIDE = CHECKOUT / "docs" / "web-backends.md"


def recipe(heading: str) -> dict[str, Any]:
    """Return the names that the first block below a heading defines."""
    chapter = GUIDE.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2]
    found = re.search(r"^```python\n(.*?)^```$", chapter, re.MULTILINE | re.DOTALL)
    assert found is not None
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(found[1], f"{GUIDE.name}, {heading}", "exec"), names)  # noqa: S102 - our own guide
    return names


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


@pytest.mark.parametrize("framework", ["FastAPI", "Starlette", "Litestar", "Quart", "examples/fastapi_service.py"])
async def test_a_service_starts_a_sync_streams_it_and_says_what_failed(
    codat_simulator: Simulator, framework: str
) -> None:
    if framework in {"Litestar", "Quart"}:
        pytest.importorskip(framework.lower())
    app = runpy.run_path(str(CHECKOUT / framework))["app"] if "/" in framework else recipe(framework)["app"]
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
