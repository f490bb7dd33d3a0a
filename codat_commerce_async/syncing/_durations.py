"""The distribution of sync durations, estimated from polls: how likely a sync of some age is to end next.

`docs/poll-scheduling.md` derives the formulas.
"""

import math
from bisect import bisect_right

__all__ = ["DurationModel"]

# Upper bounds of the age buckets in seconds, log-spaced like durations. Each bucket has a constant hazard.
_EDGES = tuple(2.0 * 1.45**step for step in range(21))
_WIDTHS = tuple(upper - lower for lower, upper in zip((0.0, *_EDGES), (*_EDGES, 2 * _EDGES[-1]), strict=True))
# The hazard before any poll: one end a minute up to this age, then falling with the age. It weighs as much as this
# many observed ends.
_PRIOR_RATE = 1 / 60.0
_PRIOR_AGE = 60.0
_PRIOR_WEIGHT = 1.0
# The prior hazard of each bucket: constant for young syncs, then inversely proportional to the age.
_PRIOR_RATES = tuple(_PRIOR_RATE * min(1.0, _PRIOR_AGE / max(lower, 1.0)) for lower in (0.0, *_EDGES))
# Halving an interval this often finds an age to a thousandth of the interval.
_HALVINGS = 10


class DurationModel:
    """The hazard of syncs by age: the rate of ends among those that still run.

    A poll shows that a sync still ran at an age, or had ended by it. Running syncs count as exposure, or the model
    would underestimate long durations.
    """

    __slots__ = ("_ends", "_exposure", "_rates", "longest")

    def __init__(self) -> None:
        self.longest = 0.0
        """The highest age in seconds at which a sync was observed."""
        self._ends = [_PRIOR_WEIGHT] * len(_WIDTHS)
        self._exposure = [_PRIOR_WEIGHT / rate for rate in _PRIOR_RATES]
        self._rates = list(_PRIOR_RATES)

    def still_running(self, before: float, now: float) -> None:
        """Record that a sync ran at the age `before` and still runs at the age `now`."""
        self.longest = max(self.longest, now)
        for index, seconds in _age_buckets(before, now):
            self._exposure[index] += seconds
            self._rates[index] = self._ends[index] / self._exposure[index]

    def ended(self, before: float, now: float) -> None:
        """Record that a sync ran at the age `before` and had ended at the age `now`.

        The end is distributed over the buckets between them, in proportion to their present hazards.
        """
        self.longest = max(self.longest, now)
        buckets = list(_age_buckets(before, now))
        total = sum(self._rates[index] * seconds for index, seconds in buckets) or 1.0
        left = 1.0
        for index, seconds in buckets:
            share = self._rates[index] * seconds / total
            self._ends[index] += share
            # A sync that ended in this bucket ran for half of it on average.
            self._exposure[index] += seconds * (left - share / 2)
            left -= share
            self._rates[index] = self._ends[index] / self._exposure[index]

    def observe_duration(self, seconds: float) -> None:
        """Record a duration from a journal, which does not contain the polls.

        The last poll before the end is assumed at half of the duration.
        """
        self.still_running(0.0, seconds / 2)
        self.ended(seconds / 2, seconds)

    @property
    def mean(self) -> float:
        """The mean duration: the seconds that syncs ran by the ends among them."""
        prior = sum(_PRIOR_WEIGHT / rate for rate in _PRIOR_RATES)
        ends = sum(self._ends) - _PRIOR_WEIGHT * len(_WIDTHS)
        return (sum(self._exposure) - prior) / ends if ends else 1 / _PRIOR_RATE

    def next_poll_age(self, last: float, cost: float) -> float:
        """Return the age at which a poll is worth `cost` seconds of delay, if the last poll was at age `last`."""
        hazard = 0.0
        age = last
        for index in range(bisect_right(_EDGES, last), len(_EDGES)):
            upper, rate = _EDGES[index], self._rates[index]
            later = hazard + rate * (upper - age)
            if _poll_value(upper - last, later) >= cost:
                return _bisect(last, age, upper - age, hazard, rate, cost)
            hazard, age = later, upper
        rate, ahead = self._rates[-1], 1.0
        while _poll_value(age + ahead - last, hazard + rate * ahead) < cost:
            ahead *= 2
        return _bisect(last, age, ahead, hazard, rate, cost)

    def seconds_left(self, age: float, share: float) -> float:
        """Return after how many seconds only this share of the syncs of this age still runs."""
        hazard, reached = -math.log(share), age
        rates = self._estimated_rates()
        for index in range(bisect_right(_EDGES, age), len(_EDGES)):
            added = rates[index] * (_EDGES[index] - reached)
            if added >= hazard:
                return reached + hazard / rates[index] - age
            hazard -= added
            reached = _EDGES[index]
        return reached + hazard / rates[-1] - age

    def _estimated_rates(self) -> list[float]:
        """Return the hazards for an estimate of the end: a bucket with few observations follows the younger one.

        Polling needs the pessimistic prior for old syncs; an estimate does not.
        """
        rates = []
        rate = _PRIOR_RATE
        for ends, exposure, prior in zip(self._ends, self._exposure, _PRIOR_RATES, strict=True):
            seen_ends, seen_exposure = ends - _PRIOR_WEIGHT, exposure - _PRIOR_WEIGHT / prior
            rate = (seen_ends + _PRIOR_WEIGHT) / (seen_exposure + _PRIOR_WEIGHT / rate)
            rates.append(rate)
        return rates


def _age_buckets(before: float, now: float) -> list[tuple[int, float]]:
    """Return the buckets between two ages, each with the seconds spent in it."""
    buckets = []
    index = bisect_right(_EDGES, before)
    while before < now:
        upper = min(now, _EDGES[index] if index < len(_EDGES) else math.inf)
        buckets.append((index, upper - before))
        before = upper
        index += 1
    return buckets


def _poll_value(tau: float, hazard: float) -> float:
    """Return the delay in seconds that a poll saves, `tau` seconds and this accumulated hazard after the last one."""
    if hazard < 1e-4:  # noqa: PLR2004 - below it the series is exact and the formula is not
        return tau * hazard / 2
    return tau * (math.exp(min(hazard, 50.0)) - 1 - hazard) / hazard


def _bisect(last: float, age: float, ahead: float, hazard: float, rate: float, cost: float) -> float:
    """Return the age, at most `ahead` seconds from `age`, at which a poll is worth its cost."""
    low, high = 0.0, ahead
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _poll_value(age + middle - last, hazard + rate * middle) < cost:
            low = middle
        else:
            high = middle
    return age + high
