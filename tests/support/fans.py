"""A simulated Codat with many companies and its clients, for runs in virtual time."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from random import Random

from codat_commerce_async import CodatCommerce, RateLimiter
from codat_commerce_async.policies import Quota
from codat_commerce_async.simulator import FaultPlan, RequestQuota, Simulator
from codat_commerce_async.simulator.in_memory import InMemoryTransport
from codat_commerce_async.simulator.virtual_time import loop_wall_clock
from codat_commerce_async.syncing.outcome import SyncOutcome
from codat_commerce_async.syncing.run import SyncRun

__all__ = ["MORNING", "Codat", "own_tasks", "own_threads"]

MORNING = 1_705_305_600.0  # 2024-01-15T08:00:00Z
LATENCY = 0.2


class Codat:
    """The simulator, the ids of its companies, and clients of it, one for each simulated process."""

    def __init__(
        self,
        companies: int,
        *,
        seed: int = 1,
        faults: FaultPlan | None = None,
        per_day: int | None = None,
        start: float = MORNING,
        durations: Callable[[Random], float] = lambda rng: rng.uniform(5.0, 60.0),
        visibility_delay: float = 0.0,
    ) -> None:
        self.clock = loop_wall_clock(start)
        self.random = Random(seed)
        self.simulator = Simulator(
            now=self.clock,
            seed=seed,
            faults=faults,
            durations=durations,
            outcomes={2000: 1.0},
            visibility_delay=visibility_delay,
            quota=RequestQuota(per_minute=1000, per_day=per_day),
        )
        self.ids = [self.simulator.add_linked_company() for _ in range(companies)]
        self.requests = 0

    def client(self, quota: Quota | None = None, rate_limiter: RateLimiter | None = None) -> CodatCommerce:
        """Return a client of this Codat."""
        return CodatCommerce(
            "key",
            transport=InMemoryTransport(self.simulator, latency=self._latency),
            wall_clock=self.clock,
            random=self.random,
            quota=quota,
            rate_limiter=rate_limiter,
        )

    def _latency(self) -> float:
        self.requests += 1
        return self.random.uniform(0.5, 1.5) * LATENCY

    @property
    def started(self) -> set[str]:
        """Return the companies for which a sync was started."""
        return {one for one in self.ids if self.simulator.syncs_started(one)}

    @property
    def started_twice(self) -> list[str]:
        return [one for one in self.ids if self.simulator.syncs_started(one) > 1]

    def delay(self, outcome: SyncOutcome) -> float:
        """Return the seconds since the end of the company's newest sync."""
        return self.simulator.now() - self.simulator.syncs(outcome.company_id)[-1].ends

    def unaccounted(self, run: SyncRun, outcomes: Sequence[SyncOutcome]) -> set[str]:
        """Return the started companies that a run reports not at all, or twice."""
        reported = [outcome.company_id for outcome in outcomes]
        reported += [handle.company_id for handle in run.running] + [company_id for company_id, _ in run.unconfirmed]
        return (self.started - set(reported)) | {one for one in reported if reported.count(one) > 1}


def own_tasks() -> set[asyncio.Task[object]]:
    """Return the tasks other than the current one."""
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


def own_threads() -> list[str]:
    """Return the names of the threads that a journal has left."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("codat")]
