"""The fixtures of the pytest plugin work in every kind of test, and cost nothing where they are not used."""

import re
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import pytest

from codat_commerce_async import CodatCommerce
from codat_commerce_async.simulator import Simulator
from codat_commerce_async.simulator.virtual_time import VirtualTimeLoop

pytest_plugins = ["pytester"]

CHECKOUT = Path(__file__).parents[1]
PAGES = (CHECKOUT / "README.md", CHECKOUT / "docs" / "testing.md")
PLUGIN = "codat_commerce_async.pytest_plugin"
# What is imported within a run inside this one is forgotten after it, and what is imported here is not.
IMPORTED_ONCE = (CodatCommerce, Simulator, VirtualTimeLoop)
UNUSED = ("cacheprovider", "hypothesispytest", "faker", "valkey", "xdist", "xdist.looponfail")
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run(
    pytester: pytest.Pytester, files: Mapping[str, str], *options: str, mode: str | None = "auto"
) -> pytest.RunResult:
    """Run test files as a user's would be; without pytest-asyncio if that has no mode."""
    lines = ["[pytest]", "filterwarnings = error"]
    if mode is None:
        options = ("-p", "no:asyncio", *options)
    else:
        lines += [f"asyncio_mode = {mode}", "asyncio_default_fixture_loop_scope = function"]
    pytester.makeini("\n".join(lines))
    pytester.makepyfile(**{f"test_inner_{name}": code for name, code in files.items()})
    unused = [option for name in UNUSED for option in ("-p", f"no:{name}")]
    return pytester.runpytest("-p", PLUGIN, *unused, "--strict-markers", *options)


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CODAT_API_KEY", "CODAT_BASE_URL", "CODAT_SPEED"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module", autouse=True)
def imported_once() -> None:
    """Import the web frameworks; what is imported by an inner run is imported again by the next."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("fastapi.testclient", "starlette.testclient"):
            import_module(name)


# A sync takes ten real milliseconds.
SHORT_SYNCS = """
import pytest

def pytest_collection_modifyitems(items):
    for item in items:
        item.add_marker(pytest.mark.codat_simulator(durations=lambda random: 1.0))
"""

SERVICE = """
import os

import pytest

from codat_commerce_async import CodatCommerce
from codat_commerce_async.simulator import ScriptedSync

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize("time", range(3))
async def test_each_test_has_a_codat_of_its_own(time, codat_simulator, codat):
    assert codat_simulator.company_ids() == ()
    assert codat_simulator.requests == ()
    shop = codat_simulator.add_linked_company("Alder Bakery", company_id="shop")
    codat_simulator.script_sync(shop, ScriptedSync(5130, message="No such tax rate."))
    codat_simulator.set_fault("request-sync", "lost_after")
    status = await codat.sync.run(shop, raise_on_failure=False)
    assert (status.failed, codat_simulator.syncs_started(shop)) == (True, 1)


async def test_a_service_that_reads_its_settings_is_led_there(codat_simulator):
    codat_simulator.add_company()
    async with CodatCommerce.from_env() as client:
        assert (await client.advanced_controls.list_companies()).total_results == 1


async def test_the_settings_are_gone_afterwards():
    assert "CODAT_BASE_URL" not in os.environ


@pytest.mark.codat_simulator(api_key="another", company_limit=0)
async def test_the_mark_reports_what_it_is_made_with(codat_simulator, codat):
    assert codat_simulator.api_key == "another"
    with pytest.raises(Exception, match="allows 0"):
        await codat.advanced_controls.create_company(name="Birch")
"""


VIRTUAL_LOOP = """
from codat_commerce_async.simulator.virtual_time import VirtualTimeLoop

def pytest_asyncio_loop_factories(config, item):
    return {"virtual": VirtualTimeLoop}
"""

MINUTES = """
from codat_commerce_async.simulator import ScriptedSync

async def test_minutes(codat_simulator, codat):
    began = codat_simulator.now()
    shop = codat_simulator.add_linked_company()
    codat_simulator.script_sync(shop, ScriptedSync(2000, duration=900))
    assert (await codat.sync.run(shop, timeout=None)).succeeded
    assert 900 <= codat_simulator.now() - began <= 1000
    assert began == 1_705_320_000
"""


VIRTUAL_SCOPES = """
import pytest
from codat_commerce_async import CodatCommerce
from codat_commerce_async.simulator import ScriptedSync

pytestmark = pytest.mark.asyncio(loop_scope="module")

@pytest.mark.parametrize("time", range(2))
async def test_minutes(codat_simulator, time):
    assert codat_simulator.now() == 1_705_320_000
    shop = codat_simulator.add_linked_company()
    codat_simulator.script_sync(shop, ScriptedSync(2000, duration=900))
    async with CodatCommerce.from_env(wall_clock=codat_simulator.now) as codat:
        assert (await codat.sync.run(shop, timeout=None)).succeeded
"""


FROM_ENV = """
from datetime import UTC, datetime

import pytest
from codat_commerce_async import CodatCommerce, QuotaExhaustedError

async def test_the_reset_is_right_although_the_clock_stands_in_2024(codat_simulator):
    midnight = datetime(2024, 1, 16, tzinfo=UTC)
    shop = codat_simulator.add_linked_company()
    async with CodatCommerce.from_env() as codat:
        await codat.connections.list(shop)
        assert codat.rate_limit.reset == midnight
        codat_simulator.set_remaining_quota(0)
        with pytest.raises(QuotaExhaustedError) as error:
            await codat.connections.list(shop)
    assert error.value.reset_at == midnight
    assert error.value.retry_after == pytest.approx(12 * 3600, abs=2)
"""


def test_the_fixtures_keep_virtual_time_on_a_loop_of_virtual_time(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(VIRTUAL_LOOP)
    files = {"minutes": MINUTES, "shared_loop": VIRTUAL_SCOPES, "environment": FROM_ENV}
    run(pytester, files).assert_outcomes(passed=4)


SCOPES = """
import pytest
from codat_commerce_async import CodatCommerce
from codat_commerce_async.simulator import ScriptedSync

pytestmark = pytest.mark.asyncio({scope})


class TestSyncs:
    @pytest.mark.parametrize("time", range(2))
    async def test_the_client_of_the_fixture(self, codat, codat_simulator, time):
        shop = codat_simulator.add_linked_company()
        assert (await codat.sync.run(shop)).succeeded

    async def test_a_client_of_the_environment(self, codat_simulator):
        shop = codat_simulator.add_linked_company()
        async with CodatCommerce.from_env() as codat:
            assert (await codat.sync.run(shop)).succeeded
"""


@pytest.mark.parametrize("scope", ["module", "session"])
def test_the_fixtures_work_where_the_loop_scope_is_a_setting(pytester: pytest.Pytester, scope: str) -> None:
    settings = "-o", f"asyncio_default_test_loop_scope={scope}", "-o", f"asyncio_default_fixture_loop_scope={scope}"
    pytester.makeconftest(SHORT_SYNCS)
    run(pytester, {"scopes": SCOPES.format(scope="")}, *settings).assert_outcomes(passed=3)


ANYIO = """
import pytest
from codat_commerce_async import CodatCommerce

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"


@pytest.mark.parametrize("time", range(2))
async def test_the_client_of_the_fixture(codat, codat_simulator, time):
    shop = codat_simulator.add_linked_company()
    codat_simulator.set_fault("request-sync", "lost_after")
    assert (await codat.sync.run(shop)).succeeded
    assert codat_simulator.syncs_started(shop) == 1


async def test_a_client_of_the_environment(codat_simulator):
    shop = codat_simulator.add_linked_company()
    async with CodatCommerce.from_env() as codat:
        assert (await codat.sync.run(shop)).succeeded
"""


UNITTEST = """
import unittest

import pytest
from codat_commerce_async import CodatCommerce


class Syncs(unittest.IsolatedAsyncioTestCase):
    @pytest.fixture(autouse=True)
    def codat_of_the_test(self, codat_simulator, codat):
        self.simulator, self.codat = codat_simulator, codat

    async def test_the_client_of_the_fixture(self):
        shop = self.simulator.add_linked_company()
        self.assertTrue((await self.codat.sync.run(shop)).succeeded)

    async def test_a_client_of_the_environment(self):
        shop = self.simulator.add_linked_company()
        async with CodatCommerce.from_env() as codat:
            self.assertTrue((await codat.sync.run(shop)).succeeded)
"""

PLAIN = """
import asyncio
from codat_commerce_async import CodatCommerce


async def sync(shop):
    async with CodatCommerce.from_env() as codat:
        return await codat.sync.run(shop)


def test_a_client_of_the_environment(codat_simulator):
    shop = codat_simulator.add_linked_company()
    assert asyncio.run(sync(shop)).succeeded
    codat_simulator.advance(60)
    assert asyncio.run(sync(shop)).succeeded
    assert codat_simulator.syncs_started(shop) == 2


def test_the_client_of_the_fixture(codat_simulator, codat):
    shop = codat_simulator.add_linked_company()
    codat_simulator.set_fault("request-sync", "lost_after")
    assert asyncio.run(codat.sync.run(shop)).succeeded
    assert codat_simulator.syncs_started(shop) == 1
"""


STARLETTE = """
from contextlib import asynccontextmanager

from codat_commerce_async import CodatCommerce
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient


@asynccontextmanager
async def lifespan(app):
    async with CodatCommerce.from_env() as app.state.codat:
        yield


async def sync(request):
    status = await request.app.state.codat.sync.run(request.path_params["shop"])
    return JSONResponse({"succeeded": status.succeeded})


def check(codat_simulator):
    shop = codat_simulator.add_linked_company()
    codat_simulator.set_fault("request-sync", "lost_after")
    app = Starlette(routes=[Route("/{shop}", sync)], lifespan=lifespan)
    with TestClient(app) as client:
        assert client.get(f"/{shop}").json() == {"succeeded": True}
        codat_simulator.advance(60)
        assert client.get(f"/{shop}").json() == {"succeeded": True}
    assert codat_simulator.syncs_started(shop) == 2
"""

FASTAPI = """
from typing import Annotated

from codat_commerce_async import CodatCommerce
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient


async def client_of_codat():
    async with CodatCommerce.from_env() as codat:
        yield codat


app = FastAPI()


@app.get("/{shop}")
async def sync(shop: str, codat: Annotated[CodatCommerce, Depends(client_of_codat)]):
    return {"succeeded": (await codat.sync.run(shop)).succeeded}


def check(codat_simulator):
    shop = codat_simulator.add_linked_company()
    client = TestClient(app)
    assert client.get(f"/{shop}").json() == {"succeeded": True}
    assert codat_simulator.syncs_started(shop) == 1


def test_the_client_of_the_fixture(codat_simulator, codat):
    app.dependency_overrides[client_of_codat] = lambda: codat
    try:
        with TestClient(app) as client:
            shop = codat_simulator.add_linked_company()
            assert client.get(f"/{shop}").json() == {"succeeded": True}
    finally:
        app.dependency_overrides.clear()
"""

IN_A_FUNCTION = """

def test_in_a_function(codat_simulator):
    check(codat_simulator)
"""
IN_A_COROUTINE = """

import pytest

@pytest.mark.asyncio
async def test_in_a_coroutine(codat_simulator):
    check(codat_simulator)
"""
# Deprecations between Starlette, httpx and FastAPI are not this package's.
LENIENT = """
import pytest

pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{name}")
    for name in ("DeprecationWarning", "PendingDeprecationWarning", "UserWarning")
]
"""


NOON = """
import pytest
from codat_commerce_async import CodatCommerce, QuotaExhaustedError


async def test_no_quota_is_an_error_at_any_time_of_the_day(codat_simulator, codat):
    assert 0 <= codat_simulator.now() - 1_705_320_000 < 3600
    shop = codat_simulator.add_linked_company()
    codat_simulator.set_remaining_quota(0)
    with pytest.raises(QuotaExhaustedError):
        await codat.sync.start(shop)
    async with CodatCommerce.from_env() as other:
        with pytest.raises(QuotaExhaustedError):
            await other.sync.start(shop)


@pytest.mark.codat_simulator(now=lambda: 1_705_349_000)
async def test_another_time_can_be_set(codat_simulator):
    assert codat_simulator.now() == 1_705_349_000
"""


SPEED = """
import os


async def test_the_environment_has_the_speed_of_the_simulator(codat_simulator):
    assert float(os.environ["CODAT_SPEED"]) == 100


def test_in_a_function_too(codat_simulator):
    assert float(os.environ["CODAT_SPEED"]) == 100


def test_and_nowhere_else():
    assert "CODAT_SPEED" not in os.environ
"""


THREADS = """
from concurrent.futures import ThreadPoolExecutor
from urllib.request import Request, urlopen
import base64, json


def test_every_thread_may_call_the_simulator(codat_simulator):
    key = base64.b64encode(codat_simulator.api_key.encode()).decode()

    def call(number):
        codat_simulator.add_linked_company()
        request = Request(f"{codat_simulator.url}/companies?pageSize=5000", headers={"Authorization": f"Basic {key}"})
        with urlopen(request) as response:
            found = json.load(response)["totalResults"]
        codat_simulator.state(), codat_simulator.requests, codat_simulator.events
        return found

    with ThreadPoolExecutor(8) as pool:
        assert max(pool.map(call, range(80))) == 80
    assert len(codat_simulator.requests) == 80
"""


def scopes(*names: str) -> dict[str, str]:
    return {f"scope_{name}": SCOPES.format(scope=f"loop_scope='{name}'") for name in names}


def test_the_fixtures_work_in_auto_mode(pytester: pytest.Pytester) -> None:
    files = {
        "service": SERVICE,  # 6
        "unittest_cases": UNITTEST,  # 2
        "plain": PLAIN,  # 2
        "anyio_marks": ANYIO,  # 3
        "starlette_client": LENIENT + STARLETTE + IN_A_FUNCTION + IN_A_COROUTINE,  # 2
        "fastapi_client": LENIENT + FASTAPI + IN_A_FUNCTION + IN_A_COROUTINE,  # 3
        "noon": NOON,  # 2
        "speed": SPEED,  # 3
        "thread_safety": THREADS,  # 1
        **scopes("function", "module"),  # 6
    }
    pytester.makeconftest(SHORT_SYNCS)
    run(pytester, files).assert_outcomes(passed=30)


def test_the_fixtures_work_in_strict_mode(pytester: pytest.Pytester) -> None:
    files = {
        "service": SERVICE,  # 6
        "unittest_cases": UNITTEST,  # 2
        "plain": PLAIN,  # 2
        "anyio_marks": ANYIO,  # 3
        **scopes("class", "module", "session"),  # 9
    }
    pytester.makeconftest(SHORT_SYNCS)
    run(pytester, files, mode="strict").assert_outcomes(passed=22)


def test_the_fixtures_need_no_pytest_asyncio(pytester: pytest.Pytester) -> None:
    files = {
        "unittest_cases": UNITTEST,  # 2
        "plain": PLAIN,  # 2
        "anyio_marks": ANYIO,  # 3
        "starlette_client": LENIENT + STARLETTE + IN_A_FUNCTION,  # 1
        "fastapi_client": LENIENT + FASTAPI + IN_A_FUNCTION,  # 2
    }
    pytester.makeconftest(SHORT_SYNCS)
    run(pytester, files, mode=None).assert_outcomes(passed=10)


def test_the_package_announces_the_plugin() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["pytest11"] == {PLUGIN: PLUGIN}
    assert callable(import_module(PLUGIN).pytest_configure)


LOADED = f"""
import sys
import pytest
before = set(sys.modules)
import {PLUGIN}
print(*sorted(set(sys.modules) - before))
"""


def test_the_plugin_imports_nothing_until_it_is_used() -> None:
    probe = subprocess.run(  # noqa: S603 - this interpreter, and what stands above
        [sys.executable, "-c", LOADED], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    assert set(probe.stdout.split()) == {"codat_commerce_async", "codat_commerce_async._version", PLUGIN}


def test_the_tests_that_the_documentation_shows_pass(pytester: pytest.Pytester) -> None:
    printed = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    shown = [code for code in BLOCK.findall(printed) if "def test_" in code]
    assert len(shown) >= 3
    result = run(pytester, {"documentation": "\n".join(shown)}, mode="strict")
    assert result.ret == pytest.ExitCode.OK
