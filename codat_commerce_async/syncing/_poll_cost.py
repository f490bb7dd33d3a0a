"""What a look at a running sync costs, as seconds of delay that it has to save.

A look takes one request's turn from the starts that are yet to be made. Where the end of the whole counts (`throughput`),
each look puts that end off by one turn, whenever it is made, so the price is the same from first to last: cheaper looks
late would only take turns from cheaper ones early. Where it counts to know early (`latency`), a look puts off all
starts that are left, and so costs less the fewer these are.

The cost is in seconds of the whole run, the worth in seconds of single syncs. A share of the number of syncs converts
the one into the other, and is the choice between a short run and early knowledge; `tests/benchmarks/fanout.py --curve`
shows what other values of both constants would give.
"""

from typing import Literal

__all__ = ["OBJECTIVES", "Objective", "poll_cost_when_idle", "poll_cost_while_starting"]

Objective = Literal["latency", "throughput"]

_SHARE_OF_STARTS: dict[Objective, float] = {"latency": 0.03, "throughput": 0.1}
OBJECTIVES = frozenset(_SHARE_OF_STARTS)
# A look that is worth this many seconds is always made: no end is to stay unknown for long, however long the input.
_HIGHEST = 100.0
# A look that would shorten the mean delay of the run by less than this many seconds is not made at all.
_LEAST_GAIN = 2e-4


def poll_cost_while_starting(order: Objective, started: int, left: int | None, spacing: float) -> float:
    """The price while companies are yet to start; `spacing` is the seconds from one request to the next.

    An input that does not say how many are left may go on for as long as it has.
    """
    left = started if left is None else left
    put_off = left if order == "latency" else left + started
    return max(poll_cost_when_idle(started), min(_SHARE_OF_STARTS[order] * max(put_off, 1) * spacing, _HIGHEST))


def poll_cost_when_idle(started: int) -> float:
    """The price when a look takes nothing from anybody."""
    return started * _LEAST_GAIN
