"""What it takes to choose and reschedule one poll among ten thousand running syncs.

python -m tests.benchmarks.scheduler    microseconds per poll; some 15 on an idle machine
"""

# ruff: noqa: T201 - it prints for people
import time
from random import Random

from codat_commerce_async.syncing._scheduler import PollScheduler

__all__ = ["measure"]


def measure(syncs: int = 10_000, polls: int = 5000) -> float:
    """Return the processor time for one poll, in seconds."""
    order: PollScheduler[int] = PollScheduler(gap=2.0, random=Random(1))
    chance = Random(2)
    order.set_poll_cost(10.0, 0.0)
    for item in range(syncs):
        order.add(item, -chance.uniform(0.0, 1000.0), 0.0)
    now, began = 0.0, time.process_time()
    for _ in range(polls):
        now = max(now, order.next_time())
        taken = order.pop_due(now)
        if taken is not None:
            order.still_running(taken, now)
    return (time.process_time() - began) / polls


if __name__ == "__main__":
    print(f"{measure() * 1e6:.1f} us per poll")
