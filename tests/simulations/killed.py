"""Processes that start syncs are killed at random moments and started again; nothing must be started twice.

By hand, for 20 seeds: python tests/simulations/killed.py --seeds 20
"""

import argparse
import asyncio
import json
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.simulator import Fault, FaultKind, FaultPlan, RequestQuota, Simulator

__all__ = ["Counts", "killed", "worker"]

SPEED = 40.0
_WORKER = Path(__file__).with_name("worker.py")
# The seconds are real ones: two of them are more than a read timeout on the workers' clock.
_KINDS = (
    FaultKind.LOST_BEFORE,
    FaultKind.LOST_AFTER,
    FaultKind.RESET_AFTER,
    FaultKind.RATE_LIMITED,
    FaultKind.ERROR_BEFORE,
    FaultKind.ERROR_AFTER,
    FaultKind.UNAVAILABLE,
    FaultKind.CUT_OFF,
    Fault(FaultKind.LATE, seconds=2.0),
    Fault(FaultKind.LATE, seconds=0.2),
)


@dataclass
class Counts:
    """The counts of a simulation; `wrong` describes each violation."""

    seed: int
    kills: int = 0
    started: int = 0
    adopted: int = 0
    unknown: int = 0
    doubled: int = 0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"seed {self.seed}: killed {self.kills} times, {self.started} started ({self.adopted} found again), "
            f"{self.unknown} unknown, {self.doubled} doubled" + "".join(f"\n  {each}" for each in self.wrong)
        )


async def worker(mode: str, simulator: Simulator, *arguments: str) -> Process:
    """A worker that has just become ready."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(_WORKER), mode, simulator.url, str(SPEED), *arguments, stdout=PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    return process


async def killed(seed: int, *, companies: int, kills: int, rate: float = 0.3) -> Counts:
    """Start that many companies with workers of which that many are killed."""
    random, counts = Random(seed), Counts(seed)
    simulator = Simulator(
        seed=seed,
        speed=SPEED,
        faults=FaultPlan(rate=rate, kinds=_KINDS, seed=seed),
        quota=RequestQuota(per_minute=None, per_day=None),
    )
    ids = [simulator.add_linked_company() for _ in range(companies)]
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder) / "journal"
        async with simulator:
            for _ in range(kills):
                process = await worker("start", simulator, str(journal), *ids)
                await asyncio.sleep(random.choice((0.002, 0.02, 0.2)) * random.uniform(0.1, 3.0))
                if process.returncode is None:
                    process.kill()
                    counts.kills += 1
                await process.wait()
            process = await worker("start", simulator, str(journal), *ids)
            assert await process.wait() == 0
        entries = [json.loads(line) for line in journal.read_text().splitlines()]
    for company_id in ids:
        _check(simulator, company_id, [entry for entry in entries if entry["company"] == company_id], counts)
    return counts


def _check(simulator: Simulator, company_id: str, entries: list[dict[str, Any]], counts: Counts) -> None:
    syncs, last = simulator.syncs(company_id), entries[-1]
    if len(syncs) > 1:
        counts.doubled += 1
        counts.wrong.append(f"{company_id} was started {len(syncs)} times: {entries}")
    elif "handle" in last:
        handle = SyncHandle.from_json(last["handle"])
        counts.started += 1
        counts.adopted += handle.adopted
        if [handle.sync_id if handle.adopted else handle.commerce_sync_id] != [
            sync.sync_id if handle.adopted else sync.commerce_sync_id for sync in syncs
        ]:
            counts.wrong.append(f"{company_id} reports a sync that is not its own: {entries}")
    elif last.get("error") == "OutcomeUnknownError" and last["named"] is not None:
        counts.unknown += 1
    else:
        counts.wrong.append(f"{company_id} has no end: {entries}")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--companies", type=int, default=40)
    parser.add_argument("--kills", type=int, default=8)
    arguments = parser.parse_args()
    all_counts = []
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        all_counts.append(asyncio.run(killed(seed, companies=arguments.companies, kills=arguments.kills)))
        sys.stdout.write(f"{all_counts[-1]}\n")
        sys.stdout.flush()
    sums = {
        name: sum(getattr(counts, name) for counts in all_counts)
        for name in ("kills", "started", "adopted", "unknown", "doubled")
    }
    wrong = sum(len(counts.wrong) for counts in all_counts)
    sys.stdout.write(f"in all: {sums}, {wrong} wrong\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
