"""A night of syncs on a task queue, for the two examples: simulator, workers, kills, and the simulator's counts."""

import asyncio
import json
import os
import signal
import sys
import tempfile
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from codat_commerce_async import CodatCommerce, Quota, SyncOutcome, SyncTicket
from codat_commerce_async.distributed import FileQuotaStore, SharedRateLimiter
from codat_commerce_async.simulator import FaultPlan, RequestQuota, Simulator

__all__ = ["Counts", "Night", "client", "night", "print_counts", "save_to"]

_PER_MINUTE = 950
_ROOT = Path(__file__).parents[1]
_RUN = "2026-11-26"


@dataclass(frozen=True)
class Night:
    """The size of the night: `kills` workers are killed while it runs, and started again."""

    companies: int = 60
    workers: int = 3
    kills: int = 1
    fault_rate: float = 0.0
    timeout: float = 400.0
    seed: int = 1


@dataclass(frozen=True)
class Counts:
    """What the simulator and the outcomes show in the end; `outcomes` counts each ticket once."""

    companies: int
    started: int
    started_twice: int
    outcomes: int
    delivered_twice: int
    unknown: int
    kills: int
    requests: int
    peak_per_minute: int
    seconds: float
    last_outcome_delay: float


def client(url: str, quota_file: str) -> tuple[SharedRateLimiter, CodatCommerce]:
    """Return the limiter that all workers share, and this worker's client."""
    limiter = SharedRateLimiter(FileQuotaStore(quota_file), Quota(per_minute=_PER_MINUTE))
    return limiter, CodatCommerce("simulator-key", base_url=url, rate_limiter=limiter)


def save_to(path: str) -> Callable[[SyncOutcome], None]:
    """Return a function that appends an outcome to a file in one write; a database would upsert it by its ticket."""

    def save(outcome: SyncOutcome) -> None:
        with Path(path).open("ab", buffering=0) as file:
            file.write(outcome.to_json().encode() + b"\n")

    return save


async def night(size: Night, worker: Sequence[str], feed: Callable[[list[SyncTicket]], Awaitable[object]]) -> Counts:
    """Feed a run, let the workers process it, kill some of them, and return the counts."""
    loop, random = asyncio.get_running_loop(), Random(size.seed)  # noqa: S311 - it chooses when to kill
    simulator = Simulator(
        seed=size.seed,
        faults=FaultPlan(rate=size.fault_rate, seed=size.seed),
        quota=RequestQuota(per_minute=1000),
        durations=lambda random: random.uniform(5.0, 40.0),
        outcomes={2000: 1.0},
        log_size=100_000,
    )
    ids = [simulator.add_linked_company() for _ in range(size.companies)]
    with tempfile.TemporaryDirectory() as directory:
        outcomes = Path(directory, "outcomes")
        outcomes.touch()  # noqa: ASYNC240 - a small local file
        async with simulator:
            command = [*worker, simulator.url, str(Path(directory, "quota.db")), str(outcomes)]
            began = loop.time()
            await feed(list(SyncTicket.for_run(_RUN, ids)))
            workers = [await _start(command) for _ in range(size.workers)]
            for number in range(size.kills):
                await asyncio.sleep(random.uniform(2.0, 6.0))
                await _end(workers[number % size.workers], signal.SIGKILL)
                workers[number % size.workers] = await _start(command)
            async with asyncio.timeout(size.timeout):
                while len(_read(outcomes)) < size.companies:  # noqa: ASYNC110 - other processes write the file
                    await asyncio.sleep(0.5)
            last = max(simulator.syncs(one)[-1].ends for one in ids)
            delay = simulator.now() - last
            await asyncio.gather(*(_end(process, signal.SIGTERM) for process in workers))
        text = outcomes.read_text(encoding="utf-8").splitlines()  # noqa: ASYNC240 - likewise
    found = {outcome.ticket_id: outcome for line in text if (outcome := SyncOutcome.from_json(line))}
    return Counts(
        companies=size.companies,
        started=sum(simulator.syncs_started(one) > 0 for one in ids),
        started_twice=sum(simulator.syncs_started(one) > 1 for one in ids),
        outcomes=len(found),
        delivered_twice=len(text) - len(found),
        unknown=sum(outcome.error is not None for outcome in found.values()),
        kills=size.kills,
        requests=len(simulator.requests),
        peak_per_minute=simulator.peak_per_minute,
        seconds=round(loop.time() - began, 1),
        last_outcome_delay=round(delay, 1),
    )


def print_counts(counts: Counts) -> None:
    """Print the counts as JSON."""
    print(json.dumps(asdict(counts), indent=2))


def _read(outcomes: Path) -> set[str]:
    lines = outcomes.read_text(encoding="utf-8").splitlines()
    return {json.loads(line)["ticket_id"] for line in lines}


async def _start(command: Sequence[str]) -> Process:
    """Start a worker in a process group of its own, so that a kill ends its children too."""
    return await asyncio.create_subprocess_exec(sys.executable, *command, cwd=_ROOT, start_new_session=True)


async def _end(process: Process, number: signal.Signals) -> None:
    os.killpg(process.pid, number)
    await process.wait()
