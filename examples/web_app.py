"""Show merchants, their syncs, webhooks and the shared quota on one page, against a simulated Codat.

python examples/web_app.py  # then open http://127.0.0.1:8000

Needs `pip install 'codat-commerce-async[fastapi]' uvicorn`, but no API key. This process owns the simulator, sends its
webhooks, and runs the web server (`web_app_service`) as a process of its own: the simulator survives restarts of it.
"""

import argparse
import asyncio
import base64
import contextlib
import os
import secrets
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import aiohttp

from codat_commerce_async.models.causes import FailureCause
from codat_commerce_async.simulator import ScriptedSync, Simulator, WebhookSender

# Name, commerce platform, accounting platform, and why the syncs of the merchant fail.
MERCHANTS = (
    ("Alder Bakery", "fztf", "gbol", None),
    ("Birchwood Cycles", "ugxp", "qhyg", None),
    ("Cedar and Sons", "fztf", "qhyg", FailureCause.UNMAPPED_ACCOUNT),
    ("Dogwood Florist", "fztf", "gbol", None),
    ("Elm Street Books", "ugxp", "gbol", FailureCause.DEAUTHORIZED_COMPANY),
    ("Fig and Olive Deli", "fztf", "gbol", None),
    ("Ginkgo Tea House", "ugxp", "qhyg", FailureCause.INACTIVE_CUSTOMER),
    ("Hazel Outdoor", "fztf", "qhyg", None),
    ("Ivy Lane Interiors", "fztf", "gbol", FailureCause.ITEMS_NOT_WRITTEN),
    ("Juniper Records", "ugxp", "gbol", None),
)
_DELIVERY_INTERVAL = 0.25
_STOP_WITHIN = 10.0
# The server was stopped or killed; with any other exit code it could not start.
_RESTART_AFTER = {0, -signal.SIGTERM, -signal.SIGINT, -signal.SIGKILL}


class WebServer:
    """The process of the web server; it is started again when it ends."""

    def __init__(self, listening: socket.socket, workers: int, environment: Mapping[str, str]) -> None:
        # This process keeps the socket, so that connections wait while the server restarts, and are not refused.
        self._socket = listening
        self.url = "http://{}:{}".format(*listening.getsockname())
        self._command = (
            *(sys.executable, "-m", "uvicorn", "web_app_service.app:app", "--app-dir", str(Path(__file__).parent)),
            *("--fd", str(listening.fileno()), "--workers", str(workers), "--log-level", "warning"),
        )
        self._environment = {**os.environ, **environment}
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """The id of the server's process; None while it does not run."""
        return None if self._process is None else self._process.pid

    async def run(self) -> None:
        """Run the server until this is cancelled; raise RuntimeError if it cannot start."""
        try:
            while True:
                # A process group of its own, so that no worker survives.
                self._process = await asyncio.create_subprocess_exec(
                    *self._command, env=self._environment, pass_fds=[self._socket.fileno()], start_new_session=True
                )
                code = await self._process.wait()
                self._kill_workers()
                if code not in _RESTART_AFTER:
                    raise RuntimeError(f"the web server ended with exit code {code}; its reason is printed above")
                print("The web server has ended, and is started again.")
        finally:
            await self._stop()

    async def _stop(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(_STOP_WITHIN):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        self._kill_workers()

    def _kill_workers(self) -> None:
        """End what a killed server leaves behind: its workers would continue to respond."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)


def add_merchants(simulator: Simulator) -> dict[str, str]:
    """Add the merchants, and return their ids by name."""
    ids = {}
    for name, commerce, accounting, cause in MERCHANTS:
        company_id = ids[name] = simulator.add_linked_company(name, commerce=commerce, accounting=accounting)
        if cause is not None:
            simulator.cause_failure(company_id, cause)
    # Codat fails once here, so that a second sync succeeds.
    simulator.script_sync(ids["Juniper Records"], ScriptedSync.failing(FailureCause.SERVER_ERROR))
    return ids


async def send_webhooks(simulator: Simulator, url: str, secret: str) -> None:
    """Deliver the simulator's events to the web server until this is cancelled."""
    simulator.take_events()  # those of the setup
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15)) as session:

        async def post(headers: Mapping[str, str], body: bytes) -> int:
            try:
                async with session.post(f"{url}/codat/webhooks", headers=headers, data=body) as response:
                    return response.status
            except (aiohttp.ClientError, TimeoutError):
                return 503  # the server is restarting: the delivery is repeated

        sender = WebhookSender(simulator, post, secret)
        while True:
            await sender.deliver()
            await asyncio.sleep(_DELIVERY_INTERVAL)


async def start_syncs_elsewhere(simulator: Simulator, interval: float) -> None:
    """Start a sync at that interval in seconds that the web server did not request."""
    random = Random(1)  # noqa: S311 - it chooses a merchant
    while True:
        await asyncio.sleep(interval)
        now = simulator.now()
        idle = [one for one in simulator.company_ids() if all(sync.ends <= now for sync in simulator.syncs(one))]
        if idle:
            simulator.start_external_sync(random.choice(idle))


@asynccontextmanager
async def demo(
    port: int, workers: int = 1, elsewhere: float = 0.0, durations: tuple[float, float] = (6.0, 16.0)
) -> AsyncIterator[tuple[Simulator, WebServer]]:
    """Run the simulator and the web server.

    `elsewhere` is the interval of syncs that others start, and `durations` how long syncs take, in seconds.
    """
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()
    with (
        tempfile.TemporaryDirectory(prefix="codat-web-app-", ignore_cleanup_errors=True) as directory,
        socket.create_server(("127.0.0.1", port)) as listening,
    ):
        async with Simulator(seed=4, durations=lambda random: random.uniform(*durations)) as simulator:
            add_merchants(simulator)
            server = WebServer(
                listening,
                workers,
                {
                    "CODAT_API_KEY": simulator.api_key,
                    "CODAT_BASE_URL": simulator.url,
                    "CODAT_WEBHOOK_SECRET": secret,
                    "WEB_APP_DIRECTORY": directory,
                },
            )
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(server.run()),
                    group.create_task(send_webhooks(simulator, server.url, secret)),
                ]
                if elsewhere:
                    tasks.append(group.create_task(start_syncs_elsewhere(simulator, elsewhere)))
                try:
                    yield simulator, server
                finally:
                    for task in tasks:
                        task.cancel()


async def until_ready(url: str) -> None:
    """Wait until the web server responds; raise TimeoutError after 30 seconds."""
    async with asyncio.timeout(30), aiohttp.ClientSession() as session:
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(f"{url}/health") as response:
                    if response.ok:
                        return
            await asyncio.sleep(0.1)


async def main() -> None:
    """Run until ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(description="Merchants and their syncs on one page, against a simulated Codat.")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--workers", type=int, default=1, help="processes of the web server, which share the quota")
    parser.add_argument("--elsewhere", type=float, default=45.0, metavar="SECONDS", help="interval of others' syncs")
    options = parser.parse_args()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with demo(options.port, options.workers, options.elsewhere) as (simulator, server):
        await until_ready(server.url)
        print(f"Open {server.url}  (the simulated Codat: {simulator.url})")
        print(f"ctrl-C stops both; `kill {server.pid}` restarts the web server only")
        await stop.wait()


if __name__ == "__main__":
    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(main())
    except* (OSError, RuntimeError) as errors:
        sys.exit("\n".join(map(str, errors.exceptions)))
