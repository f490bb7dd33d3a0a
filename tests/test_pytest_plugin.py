"""What whoever tests a service with the installed package finds in pytest, and what everybody else is spared."""

import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from codat_commerce_async import CodatCommerce
from codat_commerce_async.simulator import Simulator
from codat_commerce_async.simulator.virtual_time import VirtualTimeLoop

pytest_plugins = ["pytester"]

CHECKOUT = Path(__file__).parents[1]
README = CHECKOUT / "README.md"
PLUGIN = "codat_commerce_async.pytest_plugin"
# What is imported within a run inside this one is forgotten after it, and what is imported here is not.
IMPORTED_ONCE = (CodatCommerce, Simulator, VirtualTimeLoop)
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run(pytester: pytest.Pytester, code: str, *options: str, mode: str | None = "auto") -> pytest.RunResult:
    """Run a file of tests as somebody else's would be; without pytest-asyncio if that has no mode."""
    lines = ["[pytest]", "filterwarnings = error"]
    if mode is None:
        options = ("-p", "no:asyncio", *options)
    else:
        lines += [f"asyncio_mode = {mode}", "asyncio_default_fixture_loop_scope = function"]
    pytester.makeini("\n".join(lines))
    pytester.makepyfile(code)
    unused = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest")
    return pytester.runpytest("-p", PLUGIN, *unused, "--strict-markers", *options)


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
async def test_the_mark_says_what_it_is_made_with(codat_simulator, codat):
    assert codat_simulator.api_key == "another"
    with pytest.raises(Exception, match="allows 0"):
        await codat.advanced_controls.create_company(name="Birch")
"""


@pytest.mark.parametrize("mode", ["auto", "strict"])
def test_the_fixtures_work_in_either_mode(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.delenv("CODAT_BASE_URL", raising=False)
    run(pytester, SERVICE, mode=mode).assert_outcomes(passed=6)


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


def test_on_a_loop_of_virtual_time_it_keeps_that_time(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(VIRTUAL_LOOP)
    run(pytester, MINUTES).assert_outcomes(passed=1)


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


def test_each_test_starts_at_noon_on_a_shared_loop_of_virtual_time(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(VIRTUAL_LOOP)
    run(pytester, VIRTUAL_SCOPES).assert_outcomes(passed=2)


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


@pytest.mark.parametrize(
    ("scope", "mode"),
    [("function", "auto"), ("class", "strict"), ("module", "auto"), ("module", "strict"), ("session", "strict")],
)
def test_the_fixtures_work_in_loops_of_every_scope(pytester: pytest.Pytester, scope: str, mode: str) -> None:
    run(pytester, SCOPES.format(scope=f"loop_scope='{scope}'"), mode=mode).assert_outcomes(passed=3)


@pytest.mark.parametrize("scope", ["module", "session"])
def test_the_fixtures_work_where_the_loop_scope_is_a_setting(pytester: pytest.Pytester, scope: str) -> None:
    settings = "-o", f"asyncio_default_test_loop_scope={scope}", "-o", f"asyncio_default_fixture_loop_scope={scope}"
    run(pytester, SCOPES.format(scope=""), *settings).assert_outcomes(passed=3)


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


@pytest.mark.parametrize("mode", ["strict", None])
def test_the_fixtures_work_under_anyios_plugin(pytester: pytest.Pytester, mode: str | None) -> None:
    run(pytester, ANYIO, mode=mode).assert_outcomes(passed=3)


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


@pytest.mark.parametrize("mode", ["auto", "strict", None])
@pytest.mark.parametrize("code", [UNITTEST, PLAIN])
def test_the_fixtures_work_in_unittest_and_in_plain_functions(
    pytester: pytest.Pytester, code: str, mode: str | None
) -> None:
    run(pytester, code, mode=mode).assert_outcomes(passed=2)


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
LENIENT = ("-W", "ignore::DeprecationWarning", "-W", "ignore::PendingDeprecationWarning", "-W", "ignore::UserWarning")


@pytest.mark.parametrize(("code", "passed"), [(STARLETTE, 2), (FASTAPI, 3)], ids=["starlette", "fastapi"])
def test_the_test_clients_of_web_frameworks_reach_the_simulator(
    pytester: pytest.Pytester, code: str, passed: int
) -> None:
    run(pytester, code + IN_A_FUNCTION + IN_A_COROUTINE, *LENIENT).assert_outcomes(passed=passed)


@pytest.mark.parametrize("code", [STARLETTE, FASTAPI], ids=["starlette", "fastapi"])
def test_the_test_clients_need_no_pytest_asyncio(pytester: pytest.Pytester, code: str) -> None:
    passed = 1 + code.count("def test_")
    run(pytester, code + IN_A_FUNCTION, *LENIENT, mode=None).assert_outcomes(passed=passed)


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


def test_the_clock_starts_at_noon_unless_another_is_given(pytester: pytest.Pytester) -> None:
    run(pytester, NOON).assert_outcomes(passed=2)


PACE = """
import os


async def test_the_environment_has_the_pace_of_the_simulator(codat_simulator):
    assert float(os.environ["CODAT_PACE"]) == 100


def test_in_a_function_too(codat_simulator):
    assert float(os.environ["CODAT_PACE"]) == 100


def test_and_nowhere_else():
    assert "CODAT_PACE" not in os.environ
"""


def test_the_environment_carries_the_pace(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CODAT_PACE", raising=False)
    run(pytester, PACE).assert_outcomes(passed=3)


THREADS = """
from concurrent.futures import ThreadPoolExecutor
from urllib.request import Request, urlopen
import base64, json


def test_every_thread_may_call_the_simulator(codat_simulator):
    key = base64.b64encode(codat_simulator.api_key.encode()).decode()

    def call(number):
        codat_simulator.add_linked_company()
        request = Request(f"{codat_simulator.url}/companies?pageSize=5000", headers={"Authorization": f"Basic {key}"})
        with urlopen(request) as answer:
            found = json.load(answer)["totalResults"]
        codat_simulator.state(), codat_simulator.requests, codat_simulator.events
        return found

    with ThreadPoolExecutor(8) as pool:
        assert max(pool.map(call, range(200))) == 200
    assert len(codat_simulator.requests) == 200
"""


def test_the_simulator_of_the_fixture_may_be_called_from_any_thread(pytester: pytest.Pytester) -> None:
    run(pytester, THREADS).assert_outcomes(passed=1)


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


def test_who_does_not_use_it_loads_nothing_for_it() -> None:
    probe = subprocess.run(  # noqa: S603 - this interpreter, and what stands above
        [sys.executable, "-c", LOADED], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    assert set(probe.stdout.split()) == {"codat_commerce_async", "codat_commerce_async._version", PLUGIN}


def test_the_tests_that_the_readme_shows_pass(pytester: pytest.Pytester) -> None:
    printed = README.read_text(encoding="utf-8") if README.is_file() else ""
    shown = [code for code in BLOCK.findall(printed) if "def test_" in code]
    result = run(pytester, "\n".join([*shown, "def test_nothing(): pass"]), mode="strict")
    assert result.ret == pytest.ExitCode.OK
