"""The services that the README and the guides show, and the example, start a sync and stream its events."""

import asyncio
import importlib
import re
import runpy
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

import httpx
import pytest
from aiohttp.test_utils import TestClient, TestServer

from codat_commerce_async import SyncHandle
from codat_commerce_async.simulator import ScriptedSync, Simulator
from tests.support.deliveries import Delivery, body_of

CHECKOUT = Path(__file__).parents[1]
# Starlette's TestClient works with httpx, and recommends its successor.
pytestmark = pytest.mark.filterwarnings("ignore:Using `httpx` with `starlette.testclient`")

# The page, and the heading above the first block.
RECIPES = {
    "README": ("README.md", "In a web backend"),
    "FastAPI": ("docs/fastapi.md", "A service"),
    "Starlette": ("docs/starlette.md", "A service"),
    "aiohttp.web": ("docs/aiohttp-web.md", "A service"),
    "Litestar": ("docs/litestar-quart.md", "Litestar"),
    "Quart": ("docs/litestar-quart.md", "Quart"),
}


def recipes(page: str, heading: str) -> list[dict[str, Any]]:
    """Return the names that each block of a chapter defines."""
    chapter = (CHECKOUT / page).read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found = []
    for code in re.findall(r"^```python\n(.*?)^```$", chapter, re.MULTILINE | re.DOTALL):
        names: dict[str, Any] = {"__name__": "__main__"}
        exec(compile(code, f"{page}, {heading}", "exec"), names)  # noqa: S102 - our own guide
        found.append(names)
    assert found
    return found


def app_of(service: str) -> Any:
    return runpy.run_path(str(CHECKOUT / service))["app"] if "/" in service else recipes(*RECIPES[service])[0]["app"]


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
async def test_a_service_starts_a_sync_streams_it_and_reports_what_failed(
    codat_simulator: Simulator, framework: str
) -> None:
    if framework in {"Litestar", "Quart"}:
        pytest.importorskip(framework.lower(), reason=f"{framework} is not installed: pip install '.[test]'")
    app = app_of(framework)
    company_id = codat_simulator.add_linked_company()
    codat_simulator.script_sync(company_id, ScriptedSync(5130, duration=20))
    transport = httpx.ASGITransport(app)
    async with opened(framework, app), httpx.AsyncClient(transport=transport, base_url="http://app") as web:
        started = await web.post(f"/companies/{company_id}/syncs")
        assert started.status_code == 202
        stream = await web.get(f"/companies/{company_id}/syncs/{started.json()['token']}/events")
        unknown = await web.post("/companies/unknown/syncs")
        wrong = await web.get(f"/companies/{company_id}/syncs/nonsense/events")
    assert wrong.status_code == 404
    assert stream.headers["content-type"].startswith("text/event-stream")
    assert '"syncStatusCode":5130' in stream.text
    assert stream.text.endswith("event: end\ndata: {}\n\n")
    assert (unknown.status_code, unknown.headers["content-type"]) == (404, "application/problem+json")
    assert unknown.json()["type"] == "urn:codat-commerce-async:problem:not-found"


@pytest.mark.parametrize(
    ("framework", "page", "heading", "block"),
    [
        ("README", *RECIPES["README"], 0),
        ("FastAPI", "docs/fastapi.md", "Webhooks and health", 0),
        ("Starlette", "docs/starlette.md", "Webhooks", 0),
        ("Litestar", *RECIPES["Litestar"], 1),
        ("Quart", *RECIPES["Quart"], 1),
    ],
)
async def test_a_service_receives_webhooks(
    codat_simulator: Simulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    framework: str,
    page: str,
    heading: str,
    block: int,
) -> None:
    if framework in {"Litestar", "Quart"}:
        pytest.importorskip(framework.lower(), reason=f"{framework} is not installed: pip install '.[test]'")
    monkeypatch.chdir(tmp_path)
    secret, now = "whsec_b2YgdGhlIGVuZHBvaW50", str(int(time.time()))
    monkeypatch.setenv("CODAT_WEBHOOK_SECRET", secret)
    app = recipes(page, heading)[block]["app"]
    transport = httpx.ASGITransport(app)
    for webhook_id in ("msg_1", "msg_2"):  # in two lifespans
        genuine = Delivery(body_of("read.completed"), webhook_id, now, (secret,))
        forged = Delivery(body_of("read.completed"), webhook_id, now)
        async with opened(framework, app), httpx.AsyncClient(transport=transport, base_url="http://app") as web:
            responses = [
                await web.post("/codat/webhooks", content=one.body, headers=one.headers) for one in (genuine, forged)
            ]
        assert [response.status_code for response in responses] == [204, 401]


def test_two_runs_of_the_tests_of_a_reader_both_reach_the_handler(
    codat_simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CODAT_WEBHOOK_SECRET", "whsec_b2YgdGhlIGVuZHBvaW50")
    body = b'{"id": "1", "eventType": "read.completed", "payload": {"referenceCompany": {"id": "c0ffee"}}}'
    signed = recipes("docs/webhooks.md", "Test your route")[0]["signed"]
    for _ in range(2):  # the processes of two runs, with one store
        app = recipes("docs/fastapi.md", "Webhooks and health")[0]["app"]
        for _ in range(2):  # the tests of one run
            with importlib.import_module("fastapi.testclient").TestClient(app) as web:
                assert web.post("/codat/webhooks", content=body, headers=signed(body)).status_code == 204
    assert capsys.readouterr().out.count("new data: ") == 4


async def test_the_service_with_aiohttp_web_does_the_same(codat_simulator: Simulator) -> None:
    company_id = codat_simulator.add_linked_company()
    codat_simulator.script_sync(company_id, ScriptedSync(5130, duration=20))
    async with TestClient(TestServer(app_of("aiohttp.web"))) as web:
        async with web.post(f"/companies/{company_id}/syncs") as started:
            token = (await started.json())["token"]
        async with web.get(f"/companies/{company_id}/syncs/{token}/events") as stream:
            assert (await stream.text()).endswith("event: end\ndata: {}\n\n")
        async with web.post("/companies/unknown/syncs") as unknown:
            assert (unknown.status, unknown.content_type) == (404, "application/problem+json")


@pytest.fixture
def tests_of_the_guide(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the tests that the guide to FastAPI shows, of the service that it shows."""
    service = ModuleType("service")
    service.__dict__["app"] = app_of("FastAPI")
    monkeypatch.setitem(sys.modules, "service", service)
    return {name: value for names in recipes("docs/fastapi.md", "Tests") for name, value in names.items()}


def test_the_plain_tests_of_the_guide_pass(codat_simulator: Simulator, tests_of_the_guide: dict[str, Any]) -> None:
    tests_of_the_guide["test_a_started_sync_is_streamed"](codat_simulator)
    tests_of_the_guide["test_an_exhausted_quota_is_unavailable"](codat_simulator)


async def test_the_async_test_of_the_guide_passes(codat_simulator: Simulator, tests_of_the_guide: Any) -> None:
    await tests_of_the_guide["test_an_unknown_company_is_not_found"](codat_simulator)


async def test_a_double_click_starts_one_sync(codat_simulator: Simulator) -> None:
    app = recipes("docs/fastapi.md", "Double click and reload")[0]["app"]
    shop, other = (codat_simulator.add_linked_company() for _ in range(2))
    key = {"Idempotency-Key": str(uuid4())}
    async with (
        opened("FastAPI", app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as web,
    ):
        clicks = await asyncio.gather(*(web.post(f"/companies/{shop}/syncs", headers=key) for _ in range(2)))
        of_another = await web.post(f"/companies/{other}/syncs", headers=key)
        refused = [await web.post(f"/companies/{shop}/syncs", headers=one) for one in ({}, {"Idempotency-Key": "x"})]
    ids = {SyncHandle.from_token(click.json()["token"], shop).commerce_sync_id for click in clicks}
    assert (len(ids), codat_simulator.syncs_started(shop)) == (1, 1)
    assert (of_another.status_code, codat_simulator.syncs_started(other)) == (202, 1)
    assert [response.status_code for response in refused] == [422, 422]


@pytest.mark.parametrize(("user", "status"), [("alice", 202), ("bob", 404)])
async def test_only_the_owner_of_a_company_may_start_a_sync(codat_simulator: Simulator, user: str, status: int) -> None:
    names = recipes("docs/fastapi.md", "Who may access a company")[0]
    company_id = codat_simulator.add_linked_company()
    names["OWNERS"][company_id] = "alice"
    app, transport = names["app"], httpx.ASGITransport(names["app"])
    async with opened("FastAPI", app), httpx.AsyncClient(transport=transport, base_url="http://app") as web:
        response = await web.post(f"/companies/{company_id}/syncs", headers={"user": user})
    assert response.status_code == status


async def test_the_health_endpoint_needs_no_request_to_codat(
    codat_simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CODAT_WEBHOOK_SECRET", "whsec_b2YgdGhlIGVuZHBvaW50")
    app = recipes("docs/fastapi.md", "Webhooks and health")[0]["app"]
    async with (
        opened("FastAPI", app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as web,
    ):
        response = await web.get("/health")
        assert (response.status_code, response.json()) == (200, {"syncs": 0, "streams": 0, "quota_left": None})
        app.state.codat_serving.watches.end()
        assert (await web.get("/health")).status_code == 503
    assert codat_simulator.requests == ()


async def test_a_handle_in_a_body_can_be_polled(codat_simulator: Simulator) -> None:
    app = recipes("docs/fastapi.md", "Types of pydantic")[0]["app"]
    company_id = codat_simulator.add_linked_company()
    async with (
        opened("FastAPI", app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as web,
    ):
        started = await web.post(f"/merchants/{company_id}/syncs")
        refreshed = await web.post("/merchants/refresh", json=started.json())
    assert started.json()["handle"].keys() == {"company_id", "token"}
    assert refreshed.json()["last_status"]["companyId"] == company_id


async def test_the_shared_quota_is_known_before_the_first_request(
    codat_simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODAT_SHARED_QUOTA", str(tmp_path / "quota.db"))
    app = recipes("docs/fastapi.md", "Run it")[0]["app"]
    async with (
        opened("FastAPI", app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as web,
    ):
        response = await web.get("/quota")
    assert (response.status_code, response.json()["processes"], response.json()["available"]) == (200, 1, True)
    assert codat_simulator.requests == ()
