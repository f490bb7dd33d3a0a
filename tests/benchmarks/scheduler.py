"""Measure the time to choose and reschedule one poll among ten thousand running syncs.

python -m tests.benchmarks.scheduler    microseconds per poll; about 15 on an idle machine
"""

# ruff: noqa: T201 - it prints for people
import time
from random import Random

from codat_commerce_async.syncing._scheduler import PollScheduler, Schedulable

__all__ = ["measure"]


def measure(syncs: int = 10_000, polls: int = 5000) -> float:
    """Return the processor time for one poll, in seconds."""
    scheduler: PollScheduler[Schedulable] = PollScheduler(min_interval=2.0, random=Random(1))
    rng = Random(2)
    scheduler.set_poll_cost(10.0, 0.0)
    for _ in range(syncs):
        scheduler.add(Schedulable(), -rng.uniform(0.0, 1000.0), 0.0)
    now, began = 0.0, time.process_time()
    for _ in range(polls):
        now = max(now, scheduler.next_time())
        job = scheduler.pop_due(now)
        if job is not None:
            scheduler.still_running(job, now)
    return (time.process_time() - began) / polls


if __name__ == "__main__":
    print(f"{measure() * 1e6:.1f} us per poll")
