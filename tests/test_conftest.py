import asyncio
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import aiohttp
import pytest

from codat_commerce_async.simulator.virtual_time import VirtualTimeLoop
from tests.conftest import StrictResponses
from tests.support.cases import all_cases
from tests.support.specification import specification

pytest_plugins = ["pytester"]

URL = "https://api.example.com/a"


async def test_a_mocked_response_reads_like_a_real_one(mocked: StrictResponses) -> None:
    mocked.post(URL, status=429, payload={"a": 1}, headers={"Retry-After": "3"})
    async with aiohttp.ClientSession() as session, session.post(URL, data=b"x") as response:
        assert (response.status, response.headers["Retry-After"], await response.json()) == (429, "3", {"a": 1})


async def test_an_unmatched_request_is_remembered(mocked: StrictResponses) -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.get(URL)
    assert mocked.unmatched == [f"GET {URL}"]
    mocked.unmatched.clear()


async def test_an_unused_mock_is_remembered(mocked: StrictResponses) -> None:
    mocked.get(URL)
    mocked.get(re.compile("^https://api"), repeat=True)
    mocked.delete(URL, repeat=2)
    assert mocked.unused == [f"GET {URL}", f"GET {re.compile('^https://api')}", f"DELETE {URL}"]
    async with aiohttp.ClientSession() as session:
        for _ in range(3):
            await session.get(URL)
        await session.delete(URL)
        assert mocked.unused == [f"DELETE {URL}"]
        await session.delete(URL)
    assert mocked.unused == []


CHECKED_AT_THE_END = """
import aiohttp

async def test_unmatched(mocked):
    async with aiohttp.ClientSession() as session:
        try:
            await session.get("https://api.example.com/")
        except aiohttp.ClientConnectionError:
            pass

async def test_unused(mocked):
    mocked.get("https://api.example.com/")

async def test_sound(mocked):
    mocked.get("https://api.example.com/")
    async with aiohttp.ClientSession() as session:
        await session.get("https://api.example.com/")
"""


def test_unmatched_requests_and_unused_mocks_fail_the_test(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("from tests.conftest import mocked")
    pytester.makeini("[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function")
    pytester.makepyfile(CHECKED_AT_THE_END)
    result = pytester.runpytest("-p", "no:cacheprovider")
    result.assert_outcomes(passed=3, errors=2)
    result.stdout.fnmatch_lines(["ERROR *::test_unmatched*", "ERROR *::test_unused*"])


def test_the_specification_is_read_by_tests_not_by_their_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that reads it at import cannot be collected in a checkout that has no `../shared/spec`."""
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    with pytest.raises(RuntimeError, match="in a test or fixture"):
        specification()


def test_only_one_module_knows_where_the_specification_is() -> None:
    tests = Path(__file__).parent
    words = 'shared" / "spec"', "shared/spec/"
    files = sorted(tests.rglob("*.py"))
    knowing = [path for path in files if any(word in path.read_text(encoding="utf-8") for word in words)]
    assert knowing == sorted([tests / "support" / "specification.py", Path(__file__)])


def test_of_many_cases_in_one_test_all_that_fail_are_reported() -> None:
    @all_cases(("one", "other"), [(1, 1), (1, 2), (3, 3), (3, 4)])
    def test(given: str, one: int, other: int) -> None:
        assert one == other, given

    with pytest.raises(ExceptionGroup, match=r"2 of 4 cases failed:\n  one=1, other=2\n  one=3, other=4") as caught:
        test(given="a fixture")
    assert [error.__notes__ for error in caught.value.exceptions] == [
        ["case: one=1, other=2"],
        ["case: one=3, other=4"],
    ]


async def test_of_many_asynchronous_cases_all_that_fail_are_reported() -> None:
    @all_cases("value", [0, 1, 2])
    @all_cases("kind", [ValueError, TypeError])
    async def test(value: int, kind: type[Exception]) -> None:
        await asyncio.sleep(0)
        if value:
            raise kind(value)

    with pytest.raises(ExceptionGroup, match="2 of 3 cases failed:\n  value=1\n  value=2") as caught:
        await test()
    first = caught.value.exceptions[0]
    assert isinstance(first, ExceptionGroup)
    assert len(first.exceptions) == 2


def test_what_tests_start_has_the_bytecode_of_the_run_before() -> None:
    program = "import sys; print(sys.dont_write_bytecode)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)  # noqa: S603
    assert (sys.dont_write_bytecode, done.stdout.strip()) == (False, "False")


async def test_without_a_mark_a_test_runs_on_the_default_loop() -> None:
    with closing(asyncio.new_event_loop()) as default:
        assert type(asyncio.get_running_loop()) is type(default)


@pytest.mark.virtual_time
async def test_a_test_on_virtual_time_does_not_wait() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    await asyncio.sleep(3600)
    assert loop.time() >= 3600
