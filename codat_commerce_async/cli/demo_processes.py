"""`demo --processes N`: several processes share one quota against one simulated Codat, and one of them is killed."""

import asyncio
import contextlib
import os
import sys
import tempfile
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from codat_commerce_async.cli._args import DemoOptions
from codat_commerce_async.cli._exit import EXIT_FAILED, EXIT_OK
from codat_commerce_async.client import CodatCommerce
from codat_commerce_async.policies import Quota
from codat_commerce_async.simulator import RequestQuota, Simulator

__all__ = ["demo_processes", "work"]

_PER_MINUTE = 900
_TASKS = 8
_UNTIL_KILL = 8.0
_AFTER_KILL = 12.0
_START_TIMEOUT, _START_INTERVAL = 30.0, 0.1
_WORKER = (
    "import asyncio, sys; from codat_commerce_async.cli.demo_processes import work; asyncio.run(work(*sys.argv[1:]))"
)


async def demo_processes(options: DemoOptions) -> int:
    """Run the processes for some 20 seconds and print the simulator's counts.

    The exit status is 1 if a request was refused, or if more were sent than the quota allows.
    """
    async with Simulator(seed=options.seed, quota=RequestQuota(per_day=None)) as simulator:
        company_id = simulator.add_linked_company()
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
            arguments = (simulator.url, simulator.api_key, str(Path(directory) / "codat-quota.db"), company_id)
            number = options.processes
            print(f"A simulated Codat at {simulator.url}; {number} processes share {_PER_MINUTE} requests a minute.")
            async with _workers(arguments, number) as workers:
                await _until_all_send(simulator, workers)
                await asyncio.sleep(_UNTIL_KILL)
                workers[0].kill()
                print(
                    f"Killed process {workers[0].pid} after {_UNTIL_KILL:g} seconds; the others continue.", flush=True
                )
                await asyncio.sleep(_AFTER_KILL)
        return _summarize(simulator, [worker.pid for worker in workers])


@contextlib.asynccontextmanager
async def _workers(arguments: Sequence[str], number: int) -> AsyncIterator[list[Process]]:
    workers: list[Process] = []
    try:
        while len(workers) < number:
            worker = await asyncio.create_subprocess_exec(sys.executable, "-c", _WORKER, *arguments, stdin=DEVNULL)
            workers.append(worker)
        yield workers
    finally:
        for worker in workers:
            with contextlib.suppress(ProcessLookupError):
                worker.kill()
            await worker.wait()


async def _until_all_send(simulator: Simulator, workers: Sequence[Process]) -> None:
    """Wait until each process has sent a request, but no longer than a slow machine needs to start them."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_START_TIMEOUT):
            while len(simulator.requests_by_process) < len(workers):  # noqa: ASYNC110 - the simulator counts, and has no event
                await asyncio.sleep(_START_INTERVAL)


async def work(base_url: str, api_key: str, shared_quota: str, company_id: str) -> None:
    """Send requests as fast as the shared quota allows, until the process is killed."""
    agent, quota = f"process/{os.getpid()}", Quota(per_minute=_PER_MINUTE)

    async def send(codat: CodatCommerce) -> None:
        while True:
            await codat.connections.list(company_id)

    client = CodatCommerce(api_key, base_url=base_url, shared_quota=shared_quota, quota=quota, user_agent=agent)
    async with client as codat, asyncio.TaskGroup() as tasks:
        for _ in range(_TASKS):
            tasks.create_task(send(codat))


def _summarize(simulator: Simulator, pids: Sequence[int]) -> int:
    """Print the requests per process and the busiest minute; return the exit status."""
    counts, requests = simulator.requests_by_process, simulator.requests
    for position, pid in enumerate(pids):
        print(f"  process {pid}: {counts.get(str(pid), 0)} requests{' until it was killed' if position == 0 else ''}")
    seconds = requests[-1].time - requests[0].time if requests else 0.0
    burst = 1 + _PER_MINUTE // 100
    allowed = min(_PER_MINUTE, int(seconds * _PER_MINUTE / 60) + burst)
    refused = sum(request.status != 200 for request in requests)  # noqa: PLR2004 - OK
    print(
        f"In {seconds:.0f} seconds: {len(requests)} requests, {allowed} allowed, {refused} refused by Codat.",
        f"Busiest 60 seconds at the simulator: {simulator.peak_per_minute} requests.",
        "Without a shared quota, each process would send as much as all of them together.",
        sep="\n",
    )
    all_sent = all(str(pid) in counts for pid in pids)
    return EXIT_OK if all_sent and not refused and len(requests) <= allowed else EXIT_FAILED
