"""A storm: while many companies are started, every third response fails; each must be started exactly once.

By hand, for 200 seeds: python tests/simulations/storm.py --seeds 200 --companies 2000
"""

import argparse
import asyncio
import sys
from dataclasses import dataclass, field
from random import Random

from codat_commerce_async import CodatCommerce
from codat_commerce_async.errors import CodatError, OutcomeUnknownError
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.simulator import Fault, FaultKind, FaultPlan, RequestQuota, Simulator
from codat_commerce_async.simulator.in_memory import InMemoryTransport
from codat_commerce_async.simulator.virtual_time import loop_wall_clock, run_in_virtual_time

__all__ = ["STORM", "Totals", "storm"]

# Named twice or as often as it takes to make each of the seven kinds as likely as the others.
STORM = (
    FaultKind.LOST_BEFORE,
    FaultKind.LOST_BEFORE,
    FaultKind.LOST_AFTER,
    Fault(FaultKind.LOST_AFTER, seconds=20.0),
    FaultKind.RATE_LIMITED,
    Fault(FaultKind.RATE_LIMITED, seconds=5.0),
    FaultKind.ERROR_BEFORE,
    FaultKind.ERROR_AFTER,
    FaultKind.UNAVAILABLE,
    FaultKind.UNAVAILABLE,
    FaultKind.CUT_OFF,
    FaultKind.CUT_OFF,
    FaultKind.LATE,
    Fault(FaultKind.LATE, seconds=20.0),
)
_HOUR = 3600.0


@dataclass
class Totals:
    """The counts of a storm; `wrong` describes each violation."""

    seed: int
    succeeded: int = 0
    adopted: int = 0
    unknown: int = 0
    unknown_and_started: int = 0
    refused: int = 0
    doubled: int = 0
    requests: int = 0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"seed {self.seed}: {self.succeeded} started ({self.adopted} found again), {self.unknown} unknown "
            f"({self.unknown_and_started} of them started), {self.refused} refused, {self.doubled} doubled, "
            f"{self.requests} requests" + "".join(f"\n  {each}" for each in self.wrong)
        )


def storm(seed: int, companies: int, *, seconds: float = _HOUR, rate: float = 0.3) -> Totals:
    """Start that many companies within that many virtual seconds, while responses fail at that rate."""
    return run_in_virtual_time(_storm(seed, companies, seconds, rate))


async def _storm(seed: int, companies: int, seconds: float, rate: float) -> Totals:
    random, wall_clock = Random(seed), loop_wall_clock()
    simulator = Simulator(
        seed=seed,
        now=wall_clock,
        faults=FaultPlan(rate=rate, kinds=STORM, seed=seed),
        quota=RequestQuota(per_day=None),
        visibility_delay=random.choice((0.0, 0.5, 3.0)),
        log_size=1,
    )
    ids = [simulator.add_linked_company() for _ in range(companies)]
    sent = 0

    def latency() -> float:
        nonlocal sent
        sent += 1
        return random.uniform(0.05, 0.5)

    totals = Totals(seed)
    transport = InMemoryTransport(simulator, latency=latency)
    async with CodatCommerce("key", transport=transport, wall_clock=wall_clock, random=random) as codat:

        async def start(company_id: str, delay: float) -> SyncHandle | CodatError:
            await asyncio.sleep(delay)
            try:
                return await codat.sync.start(company_id)
            except CodatError as error:
                return error

        results = await asyncio.gather(*(start(one, random.uniform(0.0, seconds)) for one in ids))
    for company_id, result in zip(ids, results, strict=True):
        _check(simulator, company_id, result, totals)
    totals.requests = sent
    return totals


def _check(simulator: Simulator, company_id: str, result: SyncHandle | CodatError, totals: Totals) -> None:
    syncs = simulator.syncs(company_id)
    if len(syncs) > 1:
        totals.doubled += 1
        totals.wrong.append(f"{company_id} was started {len(syncs)} times and reports {result!r}")
    elif isinstance(result, SyncHandle):
        totals.succeeded += 1
        totals.adopted += result.adopted
        named = {result.commerce_sync_id, result.sync_id}
        if not syncs or not named & {syncs[0].commerce_sync_id, syncs[0].sync_id}:
            totals.wrong.append(f"{company_id} reports a sync that is not its own: {result!r}")
    elif isinstance(result, OutcomeUnknownError):
        totals.unknown += 1
        totals.unknown_and_started += len(syncs)
        if result.idempotency_key is None:
            totals.wrong.append(f"{company_id} names no key: {result!r}")
    else:
        totals.refused += 1
        if syncs:
            totals.wrong.append(f"{company_id} was started and reports {result!r}")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--companies", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=0.3)
    arguments = parser.parse_args()
    tallies = []
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        tallies.append(storm(seed, arguments.companies, rate=arguments.rate))
        sys.stdout.write(f"{tallies[-1]}\n")
        sys.stdout.flush()
    sums = {
        name: sum(getattr(totals, name) for totals in tallies)
        for name in ("succeeded", "adopted", "unknown", "unknown_and_started", "refused", "doubled", "requests")
    }
    wrong = sum(len(totals.wrong) for totals in tallies)
    sys.stdout.write(f"in all: {sums}, {wrong} wrong\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
