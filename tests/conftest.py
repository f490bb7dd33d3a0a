"""Fixtures of all tests: mocked responses, and the event loop."""

import asyncio
import contextlib
import gc
import inspect
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from shutil import disk_usage
from types import SimpleNamespace
from typing import Any

import aiohttp
import aioresponses.core
import pytest
from hypothesis import settings
from yarl import URL

# Fewer examples than hypothesis takes, and no deadline, which a busy machine exceeds.
settings.register_profile("quick", max_examples=40, deadline=None)
settings.register_profile("thorough", max_examples=150, deadline=None)
settings.load_profile(os.environ.get("CODAT_TEST_PROFILE", "quick"))

# Without bytecode files, each worker of each run compiles all tests again, and each process that a test starts compiles
# the package: a fifth of the time of all tests.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Each new process that imports aiohttp loads the certificates of the system, which takes longer than the rest of its
# start. No test calls a server that they vouch for.
os.environ.setdefault("SSL_CERT_FILE", os.devnull)

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


class ResponseWithoutWriter(aiohttp.ClientResponse):
    """A response that needs no `stream_writer`, which aioresponses 0.7.9 does not give it.

    https://github.com/pnuckowski/aioresponses/issues/289
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("stream_writer", SimpleNamespace(output_size=0))
        super().__init__(*args, **kwargs)


class StrictResponses(aioresponses.aioresponses):
    """Registered responses; unmatched requests are counted."""

    def __init__(self) -> None:
        super().__init__()
        self.unmatched: list[str] = []

    async def match(self, method: str, url: URL, **kwargs: Any) -> aiohttp.ClientResponse | None:  # type: ignore[override]
        response = await super().match(method, url, **kwargs)
        if response is None:
            self.unmatched.append(f"{method} {url}")
        return response

    @property
    def unused(self) -> list[str]:
        """Return the responses that were registered, but requested less often than expected."""
        return [
            f"{mock.method.upper()} {mock.url_or_pattern}"
            for mock in self._matches.values()
            if mock.repeat is not True or not any(mock.match(method, url) for method, url in self.requests)
        ]


@pytest.fixture
def mocked(monkeypatch: pytest.MonkeyPatch) -> Iterator[StrictResponses]:
    """Mock responses with aioresponses; an unmatched request or an unused response fails the test."""
    if "stream_writer" in inspect.signature(aiohttp.ClientResponse).parameters:
        monkeypatch.setattr(aioresponses.core, "ClientResponse", ResponseWithoutWriter)
    responses = StrictResponses()
    with responses:
        yield responses
        # An unmatched call appears as a lost connection, which a retry would hide.
        assert responses.unmatched == []
        assert responses.unused == []


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "virtual_time: run on a loop whose clock jumps instead of waiting")
    # By default, xdist gives a worker many tests in advance, so that the other one is idle for seconds at the end.
    if getattr(config.option, "dist", "no") == "load":
        config.option.dist = "worksteal"
    # What is marked as real measures files on the disk.
    if config.option.markexpr == "not real":
        keep_temporary_files_in_memory()


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Return one worker more than there are processors: a fifth of the time of the tests is waiting, not computing."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    usable = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return usable + 1


def keep_temporary_files_in_memory() -> None:
    """Put temporary files into memory where the system offers that: a journal waits for the disk at each commit.

    On a busy disk these waits take more time than all tests; none of the tests turns off the power.
    """
    memory, room = Path("/dev/shm"), 2**30  # noqa: S108 - pytest makes a directory of its own there
    if "TMPDIR" not in os.environ and os.access(memory, os.W_OK | os.X_OK) and disk_usage(memory).free > room:
        os.environ["TMPDIR"] = str(memory)
        tempfile.tempdir = None


# Their real tests measure short times, and so run one after the other, beside those that wait for minutes.
MEASURE_TIMES = {
    "test_journal_runs.py",
    "test_shared_quota_fleet.py",
    "test_shared_quota_incidents.py",
    "test_simulations.py",
    "test_web_servers.py",
    "test_web_webhooks.py",
}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.name in MEASURE_TIMES:
            item.add_marker(pytest.mark.xdist_group("measure times"))


def pytest_collection(session: pytest.Session) -> None:
    """Collect no garbage while the tests are collected: nearly all that is made stays."""
    gc.disable()
    worker: dict[str, Any] | None = getattr(session.config, "workerinput", None)
    if worker is not None:
        import_in_turns(session.config, int(worker["workerid"].removeprefix("gw")), worker["workercount"])


def import_in_turns(config: pytest.Config, number: int, workers: int) -> None:
    """Import all test modules, each worker from another one on.

    In a fresh clone, each module is compiled by the worker that comes to it first, and not by all of them.
    """
    folders = [Path(each).resolve() for each in config.args]
    if not all(each.is_dir() for each in folders):
        return
    paths = sorted(path for folder in folders for path in folder.rglob("test_*.py"))
    first = len(paths) * number // workers
    for path in paths[first:] + paths[:first]:
        # The collection reports what fails.
        with contextlib.suppress(Exception, pytest.skip.Exception):
            import_module(".".join(path.relative_to(config.rootpath).with_suffix("").parts))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Exclude what the collection made from garbage collections: thousands of tests make each one take 0.2 s."""
    gc.enable()
    gc.collect()
    gc.freeze()


# Their tests use real sockets, and so run on uvloop too where it is installed.
REAL_SOCKETS = {
    "test_calls_on_the_wire.py",
    "test_cancellation.py",
    "test_lifecycle.py",
    "test_simulator_server.py",
    "test_transport.py",
    "test_webhooks_receiver.py",
    "test_wire.py",
}


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, LoopFactory]:
    if item.get_closest_marker("virtual_time") is None:
        uses_sockets = item.path.name in REAL_SOCKETS and find_spec("uvloop") is not None
        return {"default": asyncio.new_event_loop} | ({"uvloop": _uvloop} if uses_sockets else {})
    # Tests in real time stand without the simulator.
    from codat_commerce_async.simulator.virtual_time import VirtualTimeLoop  # noqa: PLC0415

    return {"virtual": VirtualTimeLoop}


def _uvloop() -> asyncio.AbstractEventLoop:
    import uvloop  # noqa: PLC0415 - an extra, and none that Windows has

    return uvloop.new_event_loop()
