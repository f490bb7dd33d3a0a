"""A night of syncs on a task queue, for the two examples: simulator, workers, kills, and the simulator's counts.

    python -m examples.night --companies 400              # in the root of the repository

runs the same night in one process without kills, with `run_many` in virtual time, to compare with.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from asyncio.subprocess import Process
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from random import Random

from codat_commerce_async import CodatCommerce, Quota, SyncOutcome, SyncTicket
from codat_commerce_async.distributed import FileQuotaStore, SharedRateLimiter
from codat_commerce_async.simulator import FaultPlan, RequestQuota, Simulator
from codat_commerce_async.simulator.in_memory import InMemoryTransport
from codat_commerce_async.simulator.virtual_time import loop_wall_clock, run_in_virtual_time

__all__ = ["Counts", "Night", "client", "night", "night_from_arguments", "print_counts", "save_to"]

_PER_MINUTE = 950
_ROOT = Path(__file__).parents[1]
_RUN = "2026-11-26"


@dataclass(frozen=True)
class Night:
    """The size of the night: `kills` workers are killed while the syncs are started, and replaced."""

    companies: int = 60
    workers: int = 3
    kills: int = 1
    fault_rate: float = 0.0
    timeout: float = 400.0
    seed: int = 1


@dataclass(frozen=True)
class Counts:
    """What the simulator and the outcomes show in the end; `outcomes` counts each ticket once.

    `quota_used` is the share of the rate that was used while more jobs were due than a second's requests, which was for
    `busy_seconds`. `seconds` is the time from the first request to the last outcome, and `last_outcome_delay` that from
    the end of the last sync.
    """

    companies: int
    started: int
    started_twice: int
    outcomes: int
    delivered_twice: int
    unknown: int
    kills: int
    requests: int
    peak_per_minute: int
    quota_used: float
    busy_seconds: float
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


def _simulator(size: Night, now: Callable[[], float]) -> Simulator:
    return Simulator(
        now=now,
        seed=size.seed,
        faults=FaultPlan(rate=size.fault_rate, seed=size.seed),
        quota=RequestQuota(per_minute=1000),
        durations=lambda random: random.uniform(5.0, 40.0),
        outcomes={2000: 1.0},
        log_size=1_000_000,
    )


async def night(
    size: Night,
    worker: Sequence[str],
    feed: Callable[[list[SyncTicket]], Awaitable[object]],
    count_due: Callable[[], Awaitable[int]],
) -> Counts:
    """Feed a run, let the workers process it, kill some of them, and return the counts.

    `count_due` returns how many jobs a worker could take at once.
    """
    simulator = _simulator(size, time.time)
    ids = [simulator.add_linked_company() for _ in range(size.companies)]
    with tempfile.TemporaryDirectory() as directory:
        outcomes = Path(directory, "outcomes")
        outcomes.touch()  # noqa: ASYNC240 - a small local file
        async with simulator:
            command = [*worker, simulator.url, str(Path(directory, "quota.db")), str(outcomes)]
            await feed(list(SyncTicket.for_run(_RUN, ids)))
            workers = [await _start(command) for _ in range(size.workers)]
            busy: list[tuple[float, float]] = []
            watching = asyncio.create_task(_record_busy_seconds(busy, count_due, simulator.now))
            try:
                await _kill_some(workers, command, size)
                async with asyncio.timeout(size.timeout):
                    while len(_read(outcomes)) < size.companies:  # noqa: ASYNC110 - other processes write the file
                        await asyncio.sleep(0.5)
                finished = simulator.now()
            finally:
                watching.cancel()
                await asyncio.gather(*(_end(process, signal.SIGTERM) for process in workers))
        text = outcomes.read_text(encoding="utf-8").splitlines()  # noqa: ASYNC240 - likewise
    return _counts(size, simulator, ids, [SyncOutcome.from_json(line) for line in text], finished, busy)


async def _record_busy_seconds(
    busy: list[tuple[float, float]], count_due: Callable[[], Awaitable[int]], now: Callable[[], float]
) -> None:
    """Record the times between which more jobs were due than a second's requests."""
    since = None
    while True:
        until = now() if await count_due() > _PER_MINUTE / 60 else None
        if since is not None and until is not None:
            busy.append((since, until))
        since = until
        await asyncio.sleep(1.0)


async def _kill_some(workers: list[Process], command: Sequence[str], size: Night) -> None:
    """Kill workers in turn, each with its process group, and start new ones: spread over the time of the starts."""
    random = Random(size.seed)  # noqa: S311 - it chooses when to kill
    pause = 2 * size.companies / _PER_MINUTE * 60 / (size.kills + 1)
    for number in range(size.kills):
        await asyncio.sleep(pause * random.uniform(0.5, 1.5))
        await _end(workers[number % size.workers], signal.SIGKILL)
        workers[number % size.workers] = await _start(command)


def _counts(
    size: Night,
    simulator: Simulator,
    ids: list[str],
    outcomes: Sequence[SyncOutcome],
    finished: float,
    busy: Sequence[tuple[float, float]],
) -> Counts:
    found = {outcome.ticket_id or outcome.company_id: outcome for outcome in outcomes}
    times = [request.time for request in simulator.requests]
    # The workers were being started until the first request.
    busy = [(since, until) for since, until in busy if since >= times[0]]
    seconds = sum(until - since for since, until in busy)
    while_busy = sum(bisect_left(times, until) - bisect_left(times, since) for since, until in busy)
    return Counts(
        companies=size.companies,
        started=sum(simulator.syncs_started(one) > 0 for one in ids),
        started_twice=sum(simulator.syncs_started(one) > 1 for one in ids),
        outcomes=len(found),
        delivered_twice=len(outcomes) - len(found),
        unknown=sum(outcome.error is not None for outcome in found.values()),
        kills=size.kills,
        requests=len(simulator.requests),
        peak_per_minute=simulator.peak_per_minute,
        quota_used=round(while_busy / (_PER_MINUTE / 60) / seconds, 3) if seconds else 0.0,
        busy_seconds=round(seconds, 1),
        seconds=round(finished - times[0], 1),
        last_outcome_delay=round(finished - max(simulator.syncs(one)[-1].ends for one in ids), 1),
    )


async def _in_one_process(size: Night) -> Counts:
    """Run the night in one process, in virtual time."""
    clock, random = loop_wall_clock(), Random(size.seed)  # noqa: S311 - latencies
    simulator = _simulator(size, clock)
    ids = [simulator.add_linked_company() for _ in range(size.companies)]
    transport = InMemoryTransport(simulator, latency=lambda: random.uniform(0.002, 0.01))
    codat = CodatCommerce("simulator-key", transport=transport, wall_clock=clock, quota=Quota(per_minute=_PER_MINUTE))
    async with codat, codat.sync.run_many(ids) as run:
        outcomes = await run.results()
    starts = [simulator.syncs(one)[0].started for one in ids]
    return _counts(replace(size, kills=0), simulator, ids, outcomes, clock(), [(min(starts), max(starts))])


def night_from_arguments(description: str) -> Night:
    """Return the night that the command line describes: an option per field of `Night`."""
    parser = argparse.ArgumentParser(description=description)
    for each in fields(Night):
        parser.add_argument(f"--{each.name.replace('_', '-')}", type=type(each.default), default=each.default)
    return Night(**vars(parser.parse_args()))


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
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
    await process.wait()


if __name__ == "__main__":
    print_counts(run_in_virtual_time(_in_one_process(night_from_arguments("Run a night in one process."))))
