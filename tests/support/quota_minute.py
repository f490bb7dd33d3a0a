"""Call a web server with two workers, which share a quota, from 40 callers for a minute: a script.

    python -m tests.support.quota_minute DIRECTORY

prints what the callers got and how many requests reached the simulator in the busiest minute.
"""

import asyncio
import json
import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import aiohttp

from codat_commerce_async.simulator import Simulator
from tests.support.web_servers import all_workers, served, uvicorn

CALLERS = 40
SECONDS = 63
PER_MINUTE = 300


async def _call(session: aiohttp.ClientSession, url: str, ends_at: float, responses: Counter[int]) -> None:
    while time.monotonic() < ends_at:
        async with session.get(url) as response:
            responses[response.status] += 1


async def main(directory: Path) -> None:
    """Run for a minute and print the result as JSON; SIGTERM ends it early, and its web server too."""
    if (task := asyncio.current_task()) is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with Simulator() as simulator:
        os.environ |= {
            "CODAT_API_KEY": simulator.api_key,
            "CODAT_BASE_URL": simulator.url,
            "CODAT_SHARED_QUOTA": str(directory / "quota.db"),
            "SERVICE_PER_MINUTE": str(PER_MINUTE),
        }
        company_ids = [simulator.add_linked_company() for _ in range(CALLERS // 2)]
        responses = Counter[int]()
        async with served(directory, uvicorn("--workers", "2")) as server:
            workers = await all_workers(server)
            ends_at = time.monotonic() + SECONDS
            connector = aiohttp.TCPConnector(limit=0, force_close=True)  # so that both workers are called
            async with aiohttp.ClientSession(connector=connector) as session:
                urls = [f"{server.url}/companies/{company_ids[number // 2]}" for number in range(CALLERS)]
                await asyncio.gather(*(_call(session, url, ends_at, responses) for url in urls))
            await server.stop()
    result = {
        "responses": responses,
        "workers": list(workers),
        "limit": PER_MINUTE,
        "peak_per_minute": simulator.peak_per_minute,
    }
    print(json.dumps(result))  # noqa: T201 - the test reads it


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
