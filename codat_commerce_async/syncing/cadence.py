"""When to look at which of many running syncs: a rule that learns how long syncs take.

Looking at a sync costs one request, and saves the time that its end would have gone unnoticed. With `tau` seconds
since the last look and `m` the chance (as accumulated hazard) that it has ended since, the look is worth about

    tau * (e^m - 1 - m) / m        company-seconds of delay,

which for a steady hazard h grows as h * tau^2 / 2. So whichever is worth most is looked at first, and where a look has
a price, a sync is looked at every sqrt(2 * price / h) seconds: often while its end is likely, rarely where it is not,
but never not at all. "Most likely ended first" would starve the long ones; fixed and exponential spacing leave
requests unused or spend them where nothing can be found (compare https://arxiv.org/abs/1509.02487).

The price is what else the request could do: while there are companies yet to start, every look puts all of them off by
one request's turn.
"""

import heapq
import math
from bisect import bisect_right
from itertools import count
from random import Random
from typing import Generic, TypeVar

__all__ = ["Cadence", "Durations"]

T = TypeVar("T")

# Ages in seconds at which one class of hazard ends and the next begins: log-spaced, as durations are.
_EDGES = tuple(2.0 * 1.45**step for step in range(21))
_WIDTHS = tuple(upper - lower for lower, upper in zip((0.0, *_EDGES), (*_EDGES, 2 * _EDGES[-1]), strict=True))
# What is believed before anything was seen: an end about every minute while young, ever less likely later. It weighs
# as much as this many ends that were seen.
_PRIOR_RATE = 1 / 60.0
_PRIOR_AGE = 60.0
_PRIOR_WEIGHT = 1.0
# A price changed by less than this factor is not worth reordering for.
_REORDER = 1.5


class Durations:
    """How likely a sync that still runs at some age is to end then: the hazard, learned from looks.

    Looks say that a sync ran at one age and had ended at another, or still ran. What still runs counts as exposure
    too, or the long ones would be forgotten.
    """

    __slots__ = ("_ends", "_exposure", "_rates")

    def __init__(self) -> None:
        self._ends = [_PRIOR_WEIGHT] * len(_WIDTHS)
        self._exposure = [_PRIOR_WEIGHT / _prior(index) for index in range(len(_WIDTHS))]
        self._rates = [_prior(index) for index in range(len(_WIDTHS))]

    def still_running(self, before: float, now: float) -> None:
        """Note that a sync that ran at one age still runs at a later one."""
        for index, seconds in _spans(before, now):
            self._exposure[index] += seconds
            self._rates[index] = self._ends[index] / self._exposure[index]

    def ended(self, before: float, now: float) -> None:
        """Note that a sync that ran at one age has ended by a later one: somewhere between, where ends are likely."""
        spans = list(_spans(before, now))
        total = sum(self._rates[index] * seconds for index, seconds in spans) or 1.0
        left = 1.0
        for index, seconds in spans:
            share = self._rates[index] * seconds / total
            self._ends[index] += share
            # Those that ended in this span ran, on average, for half of it.
            self._exposure[index] += seconds * (left - share / 2)
            left -= share
            self._rates[index] = self._ends[index] / self._exposure[index]

    def age_of_worth(self, last: float, worth: float) -> float:
        """The age at which a look is worth so many seconds, if the last one was at age `last`."""
        hazard = 0.0
        age = last
        for index in range(bisect_right(_EDGES, last), len(_WIDTHS)):
            upper = _EDGES[index] if index < len(_EDGES) else math.inf
            rate = self._rates[index]
            if upper < math.inf and _worth(upper - last, hazard + rate * (upper - age)) < worth:
                hazard += rate * (upper - age)
                age = upper
                continue
            return _crossing(last, age, upper, hazard, rate, worth)
        raise AssertionError("the last span has no upper end")

    def mean_left(self, age: float) -> float:
        """How many more seconds a sync of this age runs, on average."""
        alive, left = 1.0, 0.0
        for index in range(bisect_right(_EDGES, age), len(_WIDTHS)):
            upper = _EDGES[index] if index < len(_EDGES) else math.inf
            rate = self._rates[index]
            ends = 1.0 if upper == math.inf else -math.expm1(-rate * (upper - age))
            left += alive * ends / rate
            alive *= 1.0 - ends
            age = upper
        return left


def _prior(index: int) -> float:
    """A hazard that is steady for young syncs and then falls with age, as those of long-tailed durations do."""
    lower = _EDGES[index - 1] if index else 0.0
    return _PRIOR_RATE * min(1.0, _PRIOR_AGE / max(lower, 1.0))


def _spans(before: float, now: float) -> list[tuple[int, float]]:
    """The classes of age that lie between two ages, each with the seconds spent in it."""
    spans = []
    index = bisect_right(_EDGES, before)
    while before < now:
        upper = min(now, _EDGES[index] if index < len(_EDGES) else math.inf)
        spans.append((index, upper - before))
        before = upper
        index += 1
    return spans


def _worth(tau: float, hazard: float) -> float:
    if hazard < 1e-4:  # noqa: PLR2004 - below it the series is exact and the formula is not
        return tau * hazard / 2
    return tau * (math.exp(min(hazard, 50.0)) - 1 - hazard) / hazard


def _crossing(last: float, age: float, upper: float, hazard: float, rate: float, worth: float) -> float:
    """The age in this span at which a look is worth that much, by bisection."""
    low = 0.0
    high = upper - age
    if math.isinf(high):
        high = 1.0
        while _worth(age + high - last, hazard + rate * high) < worth:
            high *= 2
    for _ in range(20):
        middle = (low + high) / 2
        if _worth(age + middle - last, hazard + rate * middle) < worth:
            low = middle
        else:
            high = middle
    return age + high


class _Entry(Generic[T]):
    """One running sync in the order of looks."""

    __slots__ = ("due", "durations", "hinted", "item", "last_age", "not_before", "number", "started")

    def __init__(self, item: T, started: float, durations: Durations, number: int) -> None:
        self.item = item
        self.started = started
        self.durations = durations
        self.number = number
        self.last_age = 0.0
        self.not_before = started
        self.due = started
        self.hinted = False

    def __lt__(self, other: "_Entry[T]") -> bool:
        return (self.due, self.number) < (other.due, other.number)


class Cadence(Generic[T]):
    """The order in which running syncs are looked at.

    All times are of one clock, in seconds. `gap` is the least time between two looks at the same sync.
    """

    def __init__(self, *, gap: float, random: Random) -> None:
        self._gap = gap
        self._random = random
        self._price = 1.0
        self._heap: list[_Entry[T]] = []
        self._entries: dict[T, _Entry[T]] = {}
        self._durations: dict[str | None, Durations] = {}
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._entries)

    def durations(self, kind: str | None = None) -> Durations:
        """What is known of how long syncs of this kind take."""
        return self._durations.setdefault(kind, Durations())

    def add(self, item: T, started: float, now: float, kind: str | None = None) -> None:
        """Follow a sync that started then; what is known of its kind says when to look first."""
        entry = _Entry(item, started, self.durations(kind), next(self._numbers))
        entry.last_age = 0.0
        entry.not_before = now + self._spread(min(self._gap, 1.0))
        self._entries[item] = entry
        self._push(entry)

    def still_running(self, item: T, now: float, *, not_before: float = 0.0) -> None:
        """Note that a look found the sync running; `not_before` puts the next look off, as a server may ask."""
        entry = self._entries[item]
        age = now - entry.started
        if age > entry.last_age:
            entry.durations.still_running(entry.last_age, age)
            entry.last_age = age
        self._again(entry, now, not_before)

    def unseen(self, item: T, now: float, *, not_before: float = 0.0) -> None:
        """Note that a look found out nothing."""
        self._again(self._entries[item], now, not_before)

    def ended(self, item: T, now: float) -> None:
        """Note that a look found the sync ended."""
        entry = self._entries.pop(item)
        entry.durations.ended(entry.last_age, max(now - entry.started, entry.last_age))

    def forget(self, item: T) -> None:
        """Follow the sync no longer."""
        self._entries.pop(item, None)

    def hint(self, item: T, now: float) -> None:
        """Put the sync first: something happened at its company."""
        entry = self._entries.get(item)
        if entry is None:
            return
        entry.hinted = True
        entry.due = entry.not_before = min(now, entry.due)
        self._heap = [other for other in self._heap if other is not entry]
        heapq.heapify(self._heap)
        heapq.heappush(self._heap, entry)

    def set_price(self, price: float) -> None:
        """What a look has to be worth, in seconds, to be due; reorders when that changed much."""
        price = max(price, 0.01)
        if self._price / _REORDER <= price <= self._price * _REORDER:
            return
        self._price = price
        for entry in self._heap:
            if not entry.hinted:
                entry.due = self._due(entry)
        heapq.heapify(self._heap)

    def take_due(self, now: float) -> T | None:
        """The sync whose look is worth most, if one is worth its price by now."""
        entry = self._first()
        if entry is None or entry.due > now:
            return None
        return heapq.heappop(self._heap).item

    def next_time(self) -> float:
        """When a look will be worth its price; infinite if none is followed."""
        entry = self._first()
        return entry.due if entry is not None else math.inf

    def longest_left(self, now: float) -> float:
        """How many more seconds the running sync takes, on average, that takes longest."""
        ages = (now - entry.started for entry in self._entries.values())
        return max((entry_left for entry_left in map(self.durations().mean_left, ages)), default=0.0)

    def _first(self) -> "_Entry[T] | None":
        """The first in the order that is still followed."""
        while self._heap and self._entries.get(self._heap[0].item) is not self._heap[0]:
            heapq.heappop(self._heap)
        return self._heap[0] if self._heap else None

    def _again(self, entry: _Entry[T], now: float, not_before: float) -> None:
        entry.hinted = False
        entry.not_before = max(now + self._gap + self._spread(self._gap / 4), not_before)
        self._push(entry)

    def _push(self, entry: _Entry[T]) -> None:
        entry.due = self._due(entry)
        heapq.heappush(self._heap, entry)

    def _due(self, entry: _Entry[T]) -> float:
        worth_it = entry.started + entry.durations.age_of_worth(entry.last_age, self._price)
        return max(worth_it, entry.not_before)

    def _spread(self, seconds: float) -> float:
        return self._random.uniform(0.0, seconds)
