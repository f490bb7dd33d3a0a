"""Run web servers with the service of `web_service` as processes of their own."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from tests.support.servers import free_port

__all__ = ["APP", "Server", "all_workers", "health", "leaks", "overload", "served", "until", "uvicorn"]

ROOT = Path(__file__).parents[2]
APP = "tests.support.web_service:app"


class Server:
    """A web server in a process group of its own, with its output in a file."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, log: Path) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"
        self.log = log

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Send the signal to the server's process; return the seconds until it has ended."""
        started = time.monotonic()
        self.process.send_signal(number)
        async with asyncio.timeout(20):
            await self.process.wait()
        return time.monotonic() - started

    @property
    def output(self) -> str:
        return self.log.read_text(encoding="utf-8")


async def health(server: Server) -> dict[str, int]:
    # A connection of its own, so that each worker is reached.
    async with aiohttp.ClientSession() as session, session.get(f"{server.url}/health") as response:
        found: dict[str, int] = await response.json()
        return found


@asynccontextmanager
async def served(tmp_path: Path, arguments: Sequence[str]) -> AsyncIterator[Server]:
    port = free_port()
    log = tmp_path / "server.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-W",
            "always::ResourceWarning",
            *(argument.replace("PORT", str(port)) for argument in arguments),
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    server = Server(process, port, log)
    try:
        async with asyncio.timeout(30):
            while True:
                assert process.returncode is None, server.output
                try:
                    await health(server)
                except aiohttp.ClientError:
                    await asyncio.sleep(0.1)
                else:
                    break
        yield server
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


def uvicorn(*options: str) -> tuple[str, ...]:
    return ("-m", "uvicorn", APP, "--port", "PORT", "--log-level", "info", *options)


async def all_workers(server: Server) -> dict[int, dict[str, int]]:
    """Return the health of both workers, by process id."""
    found: dict[int, dict[str, int]] = {}
    async with asyncio.timeout(20):
        while len(found) < 2:
            for one in await asyncio.gather(*(health(server) for _ in range(8))):
                found[one["pid"]] = one
    return found


def leaks(server: Server) -> list[str]:
    """Return the ResourceWarnings, except that of the socket that uvicorn's parent process listens on."""
    lines = [line for line in server.output.splitlines() if "ResourceWarning: " in line]
    own = f"laddr=('127.0.0.1', {server.url.rpartition(':')[2]})>"
    return [line for line in lines if not line.endswith(own) and "tracemalloc" not in line]


def overload() -> float:
    """Return how many times longer everything takes because other processes need the cores too; 1 if they do not."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - another process brings it about
            await asyncio.sleep(0.05)
