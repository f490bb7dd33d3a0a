"""A fan-out is killed at random moments and resumed from its journal; each company must be synced exactly once.

The simulator listens on a loopback socket; the fan-out runs in another process. The full size, by hand:
python -m tests.simulations.fanout_killed --companies 2000 --kills 20
"""

import argparse
import asyncio
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from codat_commerce_async.simulator import TRANSIENT, FaultPlan, RequestQuota, Simulator
from codat_commerce_async.syncing.journal import JournalEntry, read_journal
from tests.benchmarks.fanout import log_normal

__all__ = ["Counts", "fanout_killed"]

SPEED = 30.0
ROOT = Path(__file__).parents[2]


@dataclass
class Counts:
    """The counts of one simulation; `wrong` lists the violations."""

    seed: int
    companies: int
    kills: int = 0
    requests: int = 0
    resumed: int = 0
    starting: int = 0
    reported: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"seed {self.seed}: {self.companies} companies, killed {self.kills} times with {self.resumed} syncs "
            f"running and {self.starting} starting, {self.reported} outcomes reported, {self.requests} requests, "
            f"{self.seconds:.0f} s, {len(self.wrong)} wrong" + "".join(f"\n  {each}" for each in self.wrong)
        )


async def fanout_killed(
    seed: int,
    *,
    companies: int,
    kills: int,
    rate: float = 0.0,
    longest: float = 3.0,
    durations: Callable[[Random], float] = log_normal,
) -> Counts:
    """Fan out over that many companies; kill that many processes, each within `longest` real seconds."""
    random, counts, began = Random(seed), Counts(seed, companies), time.monotonic()
    simulator = Simulator(
        seed=seed,
        speed=SPEED,
        durations=durations,
        outcomes={2000: 0.98, 5130: 0.02},
        quota=RequestQuota(per_day=None),
        faults=FaultPlan(rate=rate, kinds=TRANSIENT, seed=seed),
        log_size=10 * companies + 1000,
    )
    ids = [simulator.add_linked_company() for _ in range(companies)]
    with tempfile.TemporaryDirectory() as folder:
        journal, outcomes, names = Path(folder, "journal"), Path(folder, "outcomes"), Path(folder, "companies")
        names.write_text("\n".join(ids))  # noqa: ASYNC240 - a few kilobytes
        origin = time.time()
        async with simulator:
            arguments = (simulator.url, str(SPEED), str(origin), str(journal), str(outcomes), str(names))
            while counts.kills < kills:
                process = await _worker(arguments)
                await asyncio.sleep(random.uniform(0.0, longest))
                if process.returncode is not None:
                    break
                process.kill()
                await process.wait()
                counts.kills += 1
                states = Counter(entry.state for entry in await asyncio.to_thread(_entries, journal))
                counts.resumed += states["running"]
                counts.starting += states["starting"]
            process = await _worker(arguments)
            if await process.wait() != 0:
                counts.wrong.append(f"the last process ended with {process.returncode}")
        reported = outcomes.read_text().splitlines()  # noqa: ASYNC240 - likewise
        _check(simulator, ids, _entries(journal), reported, counts)
    counts.requests, counts.seconds = len(simulator.requests), time.monotonic() - began
    return counts


def _entries(journal: Path) -> list[JournalEntry]:
    return list(read_journal(journal))


async def _worker(arguments: tuple[str, ...]) -> Process:
    """Start a worker and wait until it is ready."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.simulations.fanout_worker", *arguments, stdout=PIPE, cwd=ROOT
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    return process


def _check(
    simulator: Simulator, ids: list[str], entries: list[JournalEntry], reported: list[str], counts: Counts
) -> None:
    """Compare the simulator, the journal, and the outcomes that the workers wrote."""
    by_company = {entry.request.company_id: entry for entry in entries}
    times_reported = Counter(line.split()[0] for line in reported)
    counts.reported = len(reported)
    counts.wrong += [f"reported {line}" for line in reported if not line.endswith(" ended")]
    for company_id in ids:
        syncs, entry = simulator.syncs(company_id), by_company.get(company_id)
        if len(syncs) != 1:
            counts.wrong.append(f"{company_id} was started {len(syncs)} times: {entry}")
        elif entry is None or not entry.has_status or entry.code != syncs[0].final_code:
            counts.wrong.append(f"{company_id} did not end as it did at Codat: {entry}")
        elif entry.handle is None or entry.handle.sync_id != syncs[0].sync_id:
            counts.wrong.append(f"{company_id} names another sync: {entry}")
        # None when the process was killed between the journal and the line.
        if times_reported[company_id] > 1:
            counts.wrong.append(f"{company_id} was reported {times_reported[company_id]} times")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--companies", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--rate", type=float, default=0.0, help="the share of requests that fail")
    arguments = parser.parse_args()
    wrong = 0
    for seed in arguments.seeds:
        counts = asyncio.run(
            fanout_killed(seed, companies=arguments.companies, kills=arguments.kills, rate=arguments.rate)
        )
        sys.stdout.write(f"{counts}\n")
        sys.stdout.flush()
        wrong += len(counts.wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
