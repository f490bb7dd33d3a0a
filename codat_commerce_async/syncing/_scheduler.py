"""When to look at which of many running syncs: a rule that learns how long syncs take.

Looking at a sync costs one request, and saves the time that its end would have gone unnoticed. With `tau` seconds
since the last look and `m` the chance (as accumulated hazard) that it has ended since, the look is worth about

    tau * (e^m - 1 - m) / m        company-seconds of delay,

which for a steady hazard h grows as h * tau^2 / 2, and is exact there: looks at that worth make price and delay least
in sum. So whichever is worth most is looked at first, and where a look has a price, a sync is looked at every
sqrt(2 * price / h) seconds: often while its end is likely, rarely where it is not, but never not at all. "Most likely
ended first" would starve the long ones; fixed and exponential spacing leave requests unused or spend them where nothing
can be found (compare https://arxiv.org/abs/1509.02487). Planning all looks ahead by dynamic programming over the
learned hazard came to the same figures, as did finer classes of age: the limit is how little looks tell.

The price is what else the request could do: while there are companies yet to start, every look puts all of them off by
one request's turn. The hazard is learned, so the older a sync is the less is known of it; that is why one that runs
for long is looked at whenever its age has doubled, whatever a look costs.
"""

import heapq
import math
from bisect import bisect_right
from itertools import count
from random import Random
from typing import Generic, TypeVar

__all__ = ["DurationModel", "PollScheduler"]

T = TypeVar("T")

# Ages in seconds at which one class of hazard ends and the next begins: log-spaced, as durations are.
_EDGES = tuple(2.0 * 1.45**step for step in range(21))
_WIDTHS = tuple(upper - lower for lower, upper in zip((0.0, *_EDGES), (*_EDGES, 2 * _EDGES[-1]), strict=True))
# What is believed before anything was seen: an end about every minute while young, ever less likely later. It weighs
# as much as this many ends that were seen.
_PRIOR_RATE = 1 / 60.0
_PRIOR_AGE = 60.0
_PRIOR_WEIGHT = 1.0
# A thousandth of a span is as exactly as a look needs to be placed.
_HALVINGS = 10
# An end is known to within such a share of what the sync took; more often is not worth it, however cheap a look is.
_FINENESS = 0.005
# The longest that a young sync goes without a look; an old one goes without for as long again as it has run.
_LONGEST = 600.0
# A price changed by less than this factor is not worth reordering for, ...
_REORDER = 1.5
# ... and reordering takes the event loop's time: a hundredth of it, at some ten microseconds for each sync.
_REORDER_PAUSE = 1e-3


class DurationModel:
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
        for index, seconds in _age_buckets(before, now):
            self._exposure[index] += seconds
            self._rates[index] = self._ends[index] / self._exposure[index]

    def ended(self, before: float, now: float) -> None:
        """Note that a sync that ran at one age has ended by a later one: somewhere between, where ends are likely."""
        spans = list(_age_buckets(before, now))
        total = sum(self._rates[index] * seconds for index, seconds in spans) or 1.0
        left = 1.0
        for index, seconds in spans:
            share = self._rates[index] * seconds / total
            self._ends[index] += share
            # Those that ended in this span ran, on average, for half of it.
            self._exposure[index] += seconds * (left - share / 2)
            left -= share
            self._rates[index] = self._ends[index] / self._exposure[index]

    def observe_duration(self, seconds: float) -> None:
        """Note that the end of a sync was known after so long; of when it was looked at before nothing is known.

        It is taken to have been noticed after no longer than it took.
        """
        self.still_running(0.0, seconds / 2)
        self.ended(seconds / 2, seconds)

    def next_poll_age(self, last: float, worth: float) -> float:
        """The age at which a look is worth so many seconds, if the last one was at age `last`."""
        hazard = 0.0
        age = last
        for index in range(bisect_right(_EDGES, last), len(_EDGES)):
            upper, rate = _EDGES[index], self._rates[index]
            later = hazard + rate * (upper - age)
            if _poll_value(upper - last, later) >= worth:
                return _bisect(last, age, upper - age, hazard, rate, worth)
            hazard, age = later, upper
        rate, ahead = self._rates[-1], 1.0
        while _poll_value(age + ahead - last, hazard + rate * ahead) < worth:
            ahead *= 2
        return _bisect(last, age, ahead, hazard, rate, worth)

    def seconds_left(self, age: float, share: float) -> float:
        """After how many more seconds only this share of the syncs of this age still runs."""
        hazard, reached = -math.log(share), age
        rates = self._likely_rates()
        for index in range(bisect_right(_EDGES, age), len(_EDGES)):
            span = rates[index] * (_EDGES[index] - reached)
            if span >= hazard:
                return reached + hazard / rates[index] - age
            hazard -= span
            reached = _EDGES[index]
        return reached + hazard / rates[-1] - age

    def _likely_rates(self) -> list[float]:
        """The hazards for a guess at the end: where little was seen, much as at the next younger age.

        To go on looking one has to believe in long ones that were never seen; a guess need not.
        """
        rates = []
        rate = _PRIOR_RATE
        for index, (ends, exposure) in enumerate(zip(self._ends, self._exposure, strict=True)):
            seen_ends, seen_exposure = ends - _PRIOR_WEIGHT, exposure - _PRIOR_WEIGHT / _prior(index)
            rate = (seen_ends + _PRIOR_WEIGHT) / (seen_exposure + _PRIOR_WEIGHT / rate)
            rates.append(rate)
        return rates


def _prior(index: int) -> float:
    """A hazard that is steady for young syncs and then falls with age, as those of long-tailed durations do."""
    lower = _EDGES[index - 1] if index else 0.0
    return _PRIOR_RATE * min(1.0, _PRIOR_AGE / max(lower, 1.0))


def _age_buckets(before: float, now: float) -> list[tuple[int, float]]:
    """The classes of age that lie between two ages, each with the seconds spent in it."""
    spans = []
    index = bisect_right(_EDGES, before)
    while before < now:
        upper = min(now, _EDGES[index] if index < len(_EDGES) else math.inf)
        spans.append((index, upper - before))
        before = upper
        index += 1
    return spans


def _poll_value(tau: float, hazard: float) -> float:
    if hazard < 1e-4:  # noqa: PLR2004 - below it the series is exact and the formula is not
        return tau * hazard / 2
    return tau * (math.exp(min(hazard, 50.0)) - 1 - hazard) / hazard


def _bisect(last: float, age: float, ahead: float, hazard: float, rate: float, worth: float) -> float:
    """The age, no more than so many seconds ahead, at which a look is worth that much; by bisection."""
    low, high = 0.0, ahead
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _poll_value(age + middle - last, hazard + rate * middle) < worth:
            low = middle
        else:
            high = middle
    return age + high


class _Entry(Generic[T]):
    """One running sync, and its place in the order of looks."""

    __slots__ = (
        "age",
        "deadline",
        "due",
        "floor",
        "hinted",
        "item",
        "looked_at",
        "rest_until",
        "started",
        "ticket",
        "was_hinted",
    )

    def __init__(self, item: T, started: float, deadline: float, rest_until: float) -> None:
        self.item = item
        self.started = started
        self.deadline = deadline
        self.rest_until = rest_until
        self.floor = 0.0
        self.age = 0.0  # at the last look
        self.looked_at = -math.inf
        self.hinted = False
        self.was_hinted = False  # and is being looked at for it
        self.due = 0.0
        self.ticket = 0  # 0 while it is being looked at


class PollScheduler(Generic[T]):
    """The order in which running syncs are looked at.

    All times are of one clock, in seconds. `gap` is the least time between two looks at the same sync.
    """

    def __init__(self, *, gap: float, random: Random) -> None:
        self.durations = DurationModel()
        self._gap = gap
        self._random = random
        self._price = 1.0
        self._reordered_at = -math.inf
        self._reorder_at = math.inf
        self._entries: dict[T, _Entry[T]] = {}
        # Tuples, as comparing them takes no Python code. A ticket that its entry no longer has is void.
        self._heap: list[tuple[float, int, _Entry[T]]] = []
        self._tickets = count(1)

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, item: T, started: float, now: float, *, deadline: float = math.inf) -> None:
        """Follow a sync that started then; it is looked at by its deadline, whatever else is due."""
        entry = _Entry(item, started, deadline, now + self._spread(min(self._gap, 1.0)))
        self._entries[item] = entry
        self._place(entry, self._due(entry))

    def still_running(self, item: T, now: float, *, not_before: float = 0.0) -> None:
        """Note that a look found the sync running; `not_before` puts the next look off, as a server may ask."""
        entry = self._entries[item]
        age = now - entry.started
        if age > entry.age:
            self.durations.still_running(entry.age, age)
            entry.age = age
        self._again(entry, now, not_before)

    def defer(self, item: T, now: float, *, not_before: float = 0.0) -> None:
        """Note that a look found out nothing; if it was for a hint, the next one is too."""
        entry = self._entries[item]
        entry.hinted |= entry.was_hinted
        self._again(entry, now, not_before)

    def ended(self, item: T, now: float) -> None:
        """Note that a look found the sync ended, and follow it no longer."""
        entry = self._entries[item]
        self.durations.ended(entry.age, max(now - entry.started, entry.age))
        self.forget(item)

    def forget(self, item: T) -> None:
        """Follow the sync no longer."""
        self._entries.pop(item).ticket = 0

    def hint(self, item: T, now: float) -> None:
        """Put the sync first, as something happened at its company; after the look at it that is under way, if any.

        Two looks are `gap` apart all the same, and a server that asked not to be asked before some time is not.
        """
        entry = self._entries.get(item)
        if entry is None or entry.hinted:
            return
        entry.hinted = True
        if entry.ticket:
            self._place_hinted(entry, now)

    def set_poll_cost(self, price: float, now: float) -> None:
        """What a look has to be worth, in seconds, to be due; those that wait are put into their new order.

        It may be too soon for that; then `next_time` says when to give the price again.
        """
        price = max(price, 0.01)
        self._reorder_at = math.inf
        if self._price / _REORDER <= price <= self._price * _REORDER:
            return
        if now < self._reordered_at + _REORDER_PAUSE * len(self._entries):
            self._reorder_at = self._reordered_at + _REORDER_PAUSE * len(self._entries)
            return
        self._price = price
        self._reordered_at = now
        waiting = [entry for entry in self._entries.values() if entry.ticket]
        for entry in waiting:
            if not entry.hinted:
                entry.due = self._due(entry)
        self._heap = [(entry.due, entry.ticket, entry) for entry in waiting]
        heapq.heapify(self._heap)

    def pop_due(self, now: float) -> T | None:
        """The sync whose look is due first, if one is by now; its place is given back by saying what was found."""
        if self._first_due() > now:
            return None
        entry = heapq.heappop(self._heap)[2]
        entry.ticket = 0
        entry.was_hinted, entry.hinted = entry.hinted, False
        return entry.item

    def next_time(self) -> float:
        """When to come again: when a look is worth its price, or that can be changed; infinite if nothing waits."""
        return min(self._first_due(), self._reorder_at)

    def seconds_left(self, now: float) -> float:
        """After how many more seconds all that runs has ended, more likely than not."""
        if not self._entries:
            return 0.0
        # In the order of their starts: the young ones may take longest, and the old ones may.
        oldest, youngest = next(iter(self._entries.values())), next(reversed(self._entries.values()))
        return max(
            self.durations.seconds_left(now - oldest.started, 0.5),
            self.durations.seconds_left(now - youngest.started, 0.5 / len(self._entries)),
        )

    def _first_due(self) -> float:
        while self._heap and self._heap[0][1] != self._heap[0][2].ticket:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else math.inf

    def _again(self, entry: _Entry[T], now: float, not_before: float) -> None:
        gap = max(self._gap, _FINENESS * entry.age)
        entry.rest_until = now + gap + self._spread(gap / 4)
        entry.floor = not_before
        entry.looked_at = now
        if entry.hinted:
            self._place_hinted(entry, now)
        else:
            self._place(entry, self._due(entry))

    def _place_hinted(self, entry: _Entry[T], now: float) -> None:
        earliest = max(now, entry.looked_at + self._gap, entry.floor)
        self._place(entry, min(earliest, self._due(entry)))

    def _place(self, entry: _Entry[T], due: float) -> None:
        entry.due = due
        entry.ticket = next(self._tickets)
        heapq.heappush(self._heap, (entry.due, entry.ticket, entry))

    def _due(self, entry: _Entry[T]) -> float:
        age = min(self.durations.next_poll_age(entry.age, self._price), max(2 * entry.age, _LONGEST))
        worth_it = max(entry.started + age, entry.rest_until)
        return max(min(worth_it, entry.deadline), entry.floor)

    def _spread(self, seconds: float) -> float:
        return self._random.uniform(0.0, seconds)
