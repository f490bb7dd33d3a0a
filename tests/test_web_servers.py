"""Event streams on real servers: how many pollers they need, and how soon the servers stop."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

import aiohttp
import pytest

from codat_commerce_async import CodatCommerce, SyncHandle
from codat_commerce_async.simulator import ScriptedSync, Simulator
from tests.support.web_servers import APP, Server, all_workers, health, leaks, overload, served, until, uvicorn

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module", autouse=True)
def quota_minute(tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    """Start what takes a real minute before the other tests of this file; its own test is the last."""
    directory = tmp_path_factory.mktemp("quota")
    command = [sys.executable, "-m", "tests.support.quota_minute", str(directory)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - ours
        yield process
        process.terminate()


async def running_syncs(simulator: Simulator, count: int) -> list[SyncHandle]:
    handles = []
    async with CodatCommerce.from_env() as codat:
        for _ in range(count):
            company_id = simulator.add_linked_company()
            simulator.script_sync(company_id, ScriptedSync.never_ends())
            handles.append(await codat.sync.start(company_id))
    return handles


@asynccontextmanager
async def streams(
    server: Server, handles: Sequence[SyncHandle], count: int, kind: str = "events"
) -> AsyncIterator[None]:
    """Open that many event streams, each of which has received its first event."""
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))

        async def open_one(handle: SyncHandle) -> None:
            url = f"{server.url}/companies/{handle.company_id}/syncs/{handle.to_token()}/{kind}"
            response = await session.get(url, timeout=aiohttp.ClientTimeout(total=60))
            assert response.status == 200
            stack.callback(response.close)
            assert b"status" in await response.content.readuntil(b"\n\n")

        await asyncio.gather(*(open_one(handles[number % len(handles)]) for number in range(count)))
        yield


SERVERS = {
    "uvicorn": uvicorn(),
    "uvicorn on asyncio": uvicorn("--loop", "asyncio"),
    "aiohttp.web": ("-m", "tests.support.web_service", "PORT"),
    # It waits that many seconds for idle connections too.
    "hypercorn": ("-m", "hypercorn", APP, "--bind", "127.0.0.1:PORT", "--graceful-timeout", "1"),
    "granian": ("-m", "granian", APP, "--interface", "asgi", "--port", "PORT"),
    "gunicorn": ("-m", "gunicorn", APP, "-k", "uvicorn_worker.UvicornWorker", "--bind", "127.0.0.1:PORT"),
}


@pytest.mark.parametrize(("name", "kind"), [*((name, "events") for name in SERVERS), ("uvicorn", "sse")])
async def test_a_server_stops_within_a_second_with_open_streams(
    codat_simulator: Simulator, tmp_path: Path, name: str, kind: str
) -> None:
    module = SERVERS[name][1]
    if find_spec(module.partition(".")[0]) is None:
        pytest.skip(f"{module} is not installed: pip install '.[test]'")
    handles = await running_syncs(codat_simulator, 5)
    async with served(tmp_path, SERVERS[name]) as server, streams(server, handles, 20, kind):
        elapsed = await server.stop()
    assert server.output.count("lifespan completed") == 1, server.output
    assert leaks(server) == []
    # hypercorn cancels its own tasks, which Python 3.11 logs.
    assert name == "hypercorn" or "Traceback" not in server.output
    assert elapsed < (2.5 if name == "hypercorn" else 1) * overload()


async def test_a_reload_is_not_held_up_by_open_streams(codat_simulator: Simulator, tmp_path: Path) -> None:
    handles = await running_syncs(codat_simulator, 5)
    watched = tmp_path / "watched"
    watched.mkdir()
    changed = watched / "changed.py"
    changed.touch()
    command = uvicorn("--reload", "--reload-dir", str(watched))
    async with served(tmp_path, command) as server:
        before = await health(server)
        async with streams(server, handles, 20):
            os.utime(changed)
            await until(lambda: "Reloading" in server.output)
            started = time.monotonic()
            await until(lambda: "lifespan completed" in server.output)
            elapsed = time.monotonic() - started
            await until(lambda: server.output.count("Application startup complete") == 2)
        assert (await health(server))["pid"] != before["pid"]
        await server.stop()
    assert elapsed < 2 * overload()


async def test_two_hundred_streams_on_ten_syncs_need_ten_pollers_per_worker(
    codat_simulator: Simulator, tmp_path: Path
) -> None:
    handles = await running_syncs(codat_simulator, 10)
    async with served(tmp_path, uvicorn("--workers", "2")) as server:
        idle = await all_workers(server)
        async with streams(server, handles, 200):
            workers = await all_workers(server)
            assert sum(worker["listeners"] for worker in workers.values()) == 200
            assert all(worker["syncs"] <= 10 for worker in workers.values())
        await asyncio.sleep(1)
        left = await all_workers(server)
        assert [(worker["syncs"], worker["listeners"]) for worker in left.values()] == [(0, 0), (0, 0)]
        assert {pid: worker["tasks"] for pid, worker in left.items()} == {
            pid: worker["tasks"] for pid, worker in idle.items()
        }
        assert all(worker["reserved"] == 0 for worker in left.values())
        elapsed = await server.stop()
    assert server.output.count("lifespan completed") == 2
    assert leaks(server) == []
    assert elapsed < 1.5 * overload()


def test_two_workers_share_one_quota(quota_minute: subprocess.Popen[str]) -> None:
    output, _ = quota_minute.communicate(timeout=120)
    assert quota_minute.returncode == 0
    result = json.loads(output)
    assert list(result["responses"]) == ["200"]
    assert len(result["workers"]) == 2
    assert 270 <= result["peak_per_minute"] <= result["limit"] == 300
