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
from codat_commerce_async.simulator import Outcome

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize("time", range(3))
async def test_each_test_has_a_codat_of_its_own(time, codat_simulator, codat):
    assert codat_simulator.company_ids() == ()
    assert codat_simulator.requests == ()
    shop = codat_simulator.add_linked_company("Alder Bakery", company_id="shop")
    codat_simulator.script_sync(shop, Outcome(5130, message="No such tax rate."))
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
    with pytest.raises(Exception, match="room for 0"):
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
from codat_commerce_async.simulator import Outcome

async def test_minutes(codat_simulator, codat):
    began = codat_simulator.now()
    shop = codat_simulator.add_linked_company()
    codat_simulator.script_sync(shop, Outcome(2000, takes=900))
    assert (await codat.sync.run(shop, timeout=None)).succeeded
    assert 900 <= codat_simulator.now() - began <= 1000
    assert began == 1_705_305_600
"""


def test_on_a_loop_of_virtual_time_it_keeps_that_time(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(VIRTUAL_LOOP)
    run(pytester, MINUTES).assert_outcomes(passed=1)


@pytest.mark.parametrize(("mode", "reason"), [("auto", "write `async def`"), (None, "needs pytest-asyncio")])
def test_where_it_cannot_be_served_it_says_why(pytester: pytest.Pytester, mode: str | None, reason: str) -> None:
    result = run(pytester, "def test_one(codat_simulator): pass\n\ndef test_two(codat): pass", mode=mode)
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines([f"codat_simulator *{reason}*"] * 2)


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
