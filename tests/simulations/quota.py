"""Many callers send as fast as they can: how much of the quota they use, and the longest wait.

By hand, for ten simulated minutes: python tests/simulations/quota.py
"""

import argparse
import asyncio
import sys
from collections import Counter
from dataclasses import dataclass, field
from random import Random

from codat_commerce_async import CodatCommerce
from codat_commerce_async._core.transport import Request, Response
from codat_commerce_async.errors import CodatError
from codat_commerce_async.hooks import Hooks, RequestStarted
from codat_commerce_async.policies import Quota, Timeouts
from codat_commerce_async.simulator import FaultKind, FaultPlan, RequestQuota, Simulator
from codat_commerce_async.simulator.in_memory import InMemoryTransport
from codat_commerce_async.simulator.virtual_time import loop_wall_clock, run_in_virtual_time

__all__ = ["Usage", "rush"]


@dataclass
class Usage:
    """What a rush used of the quota; `share` is of what the quota allows, waits are seconds."""

    seed: int
    requests: int = 0
    peak_per_minute: int = 0
    busiest_minute_there: int = 0
    share: float = 0.0
    most_in_flight: int = 0
    most_per_company: int = 0
    longest_wait: float = 0.0
    fair_wait: float = 0.0
    repeats: int = 0
    errors: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        return (
            f"seed {self.seed}: {self.requests} requests, {self.repeats} of them repeats; at most "
            f"{self.peak_per_minute} sent and {self.busiest_minute_there} arrived in any 60 s; "
            f"{self.share:.2%} of the quota used; at most {self.most_in_flight} in flight, "
            f"{self.most_per_company} per company; longest wait {self.longest_wait:.2f} s, "
            f"fair share {self.fair_wait:.2f} s ({self.longest_wait / self.fair_wait - 1:+.2%}); "
            f"errors {dict(self.errors)}"
        )


class _Counting(InMemoryTransport):
    """Notes when each request is sent, and how many are under way overall and per company."""

    def __init__(self, simulator: Simulator, random: Random, slowest: float) -> None:
        super().__init__(simulator, latency=lambda: random.uniform(0.05, slowest))
        self.sent: list[float] = []
        self.under_way: Counter[str] = Counter()
        self.most = self.most_per_company = 0

    async def send(self, request: Request, timeouts: Timeouts) -> Response:
        self.sent.append(asyncio.get_running_loop().time())
        company_id = request.target.split("/")[2]
        self.under_way[company_id] += 1
        self.most = max(self.most, self.under_way.total())
        self.most_per_company = max(self.most_per_company, self.under_way[company_id])
        try:
            return await super().send(request, timeouts)
        finally:
            self.under_way[company_id] -= 1


def rush(
    seed: int,
    *,
    minutes: float,
    callers: int = 400,
    companies: int = 20,
    faults: float = 0.02,
    slowest: float = 1.0,
    quota: Quota | None = None,
) -> Usage:
    """Let that many callers send requests for that many virtual minutes, while some fail and others take long."""
    return run_in_virtual_time(_rush(seed, minutes, callers, companies, faults, slowest, quota or Quota()))


async def _rush(
    seed: int, minutes: float, callers: int, companies: int, rate: float, slowest: float, quota: Quota
) -> Usage:
    random, wall_clock = Random(seed), loop_wall_clock()
    kinds = (FaultKind.LOST_BEFORE, FaultKind.LOST_AFTER, FaultKind.CUT_OFF, FaultKind.BAD_GATEWAY)
    simulator = Simulator(
        seed=seed,
        now=wall_clock,
        faults=FaultPlan(rate=rate, kinds=kinds, seed=seed),
        quota=RequestQuota(per_day=None),
        log_size=1,
    )
    ids = [simulator.add_linked_company() for _ in range(companies)]
    for company_id in ids:
        simulator.start_external_sync(company_id)
    transport, usage, loop = _Counting(simulator, random, slowest), Usage(seed), asyncio.get_running_loop()
    waits: list[float] = []

    def started(event: RequestStarted) -> None:
        waits.append(event.quota_wait)
        usage.repeats += event.attempt > 1

    end = loop.time() + 60.0 * minutes
    async with CodatCommerce(
        "key",
        transport=transport,
        wall_clock=wall_clock,
        random=random,
        quota=quota,
        hooks=Hooks(on_request_started=started),
    ) as codat:

        async def call(company_id: str) -> None:
            while loop.time() < end:
                try:
                    await codat.sync.get_latest_sync(company_id)
                except CodatError as error:
                    usage.errors[type(error).__name__] += 1

        await asyncio.gather(*(call(ids[number % companies]) for number in range(callers)))
    per_minute = quota.per_minute or 1
    usage.requests = len(transport.sent)
    usage.peak_per_minute = _busiest_minute(transport.sent)
    usage.busiest_minute_there = simulator.peak_per_minute
    usage.share = sum(time < end for time in transport.sent) / (per_minute * minutes)
    usage.most_in_flight, usage.most_per_company = transport.most, transport.most_per_company
    # What each would wait if all were served in turn: the time that one round of all callers takes.
    usage.longest_wait, usage.fair_wait = max(waits), callers * 60.0 / per_minute
    return usage


def _busiest_minute(times: list[float]) -> int:
    most, end = 0, 0
    for start, first in enumerate(times):
        while end < len(times) and times[end] < first + 60.0:
            end += 1
        most = max(most, end - start)
    return most


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--callers", type=int, default=400)
    parser.add_argument("--companies", type=int, default=20)
    parser.add_argument("--slowest", type=float, default=1.0, help="seconds that a request takes at most")
    parser.add_argument("--concurrent", type=int, default=Quota().concurrent)
    arguments = parser.parse_args()
    for seed in range(arguments.seeds):
        usage = rush(
            seed,
            minutes=arguments.minutes,
            callers=arguments.callers,
            companies=arguments.companies,
            slowest=arguments.slowest,
            quota=Quota(concurrent=arguments.concurrent),
        )
        sys.stdout.write(f"{usage}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
