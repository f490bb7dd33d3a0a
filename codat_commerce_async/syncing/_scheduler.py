"""The order of polls in a fan-out: a sync is polled when the delay that the poll saves exceeds the cost of a request.

So syncs are polled often when they are likely to end, and rarely otherwise. An old sync is polled at the latest when
its age has doubled, whatever a poll costs. `docs/poll-scheduling.md` derives the rule and the constants.

`PollScheduler._due_time` is the rule. `_durations.py` estimates when a sync ends, and `SyncRunner._poll_cost` in
`_runner.py` chooses the cost.
"""

import heapq
import math
from itertools import count
from random import Random
from typing import Generic, Literal, TypeVar

from attrs import define, field

from codat_commerce_async.syncing._durations import DurationModel

__all__ = [
    "OBJECTIVES",
    "Objective",
    "PollScheduler",
    "Schedulable",
    "due_age_of_next_poll",
    "min_poll_interval",
    "poll_cost_when_idle",
    "poll_cost_while_starting",
]

Objective = Literal["latency", "throughput"]

# The cost of a poll, as a share of the delay that it causes to the starts behind it.
_COST_SHARE: dict[Objective, float] = {"latency": 0.03, "throughput": 0.1}
OBJECTIVES = frozenset(_COST_SHARE)
# A poll that saves this many seconds is made however long the input is.
_MAX_COST = 100.0
# A poll that would shorten the mean delay of the run by less than this many seconds is not made.
_MIN_GAIN = 2e-4
# The minimum interval between two polls of a sync, as a share of its age.
_RESOLUTION = 0.005
# The maximum age in seconds at which a sync is polled first. An older sync is polled when its age has doubled.
_MAX_UNPOLLED_AGE = 600.0
# The schedule is recomputed if the cost changes by this factor, ...
_RESCHEDULE_FACTOR = 1.5
# ... but not before this many seconds per running sync have passed, so that it takes 1 % of the event loop's time.
_RESCHEDULE_INTERVAL = 1e-3


def poll_cost_while_starting(objective: Objective, started: int, left: int | None, request_interval: float) -> float:
    """Return the cost of a poll, in seconds of delay, while `left` companies are not started yet.

    `request_interval` is the time between two requests in seconds. If it is not known how many companies are left
    (None), as many as were started are assumed.
    """
    left = started if left is None else left
    delayed = left if objective == "latency" else left + started
    cost = _COST_SHARE[objective] * max(delayed, 1) * request_interval
    return max(poll_cost_when_idle(started), min(cost, _MAX_COST))


def poll_cost_when_idle(started: int) -> float:
    """Return the cost of a poll, in seconds of delay, while it delays no start."""
    return started * _MIN_GAIN


def due_age_of_next_poll(durations: DurationModel, last_age: float, cost: float) -> float:
    """Return the age at which a sync is polled next, if its last poll was at `last_age` and a poll costs `cost`."""
    return min(durations.next_poll_age(last_age, cost), max(2 * last_age, _MAX_UNPOLLED_AGE))


def min_poll_interval(last_age: float, min_interval: float) -> float:
    """Return the least seconds between two polls of a sync, the last of which was at that age."""
    return max(min_interval, _RESOLUTION * last_age)


@define(eq=False)
class Schedulable:
    """The schedule of one running sync; the base class of the jobs that a `PollScheduler` orders."""

    started_at: float = field(init=False)
    deadline: float = field(init=False)
    """The sync is polled by then, whatever a poll costs."""
    earliest: float = field(init=False)
    """Our own minimum interval between two polls ends then; the deadline overrules it."""
    not_before: float = field(default=0.0, init=False)
    """The server's `Retry-After` ends then; nothing overrules it."""
    last_age: float = field(default=0.0, init=False)
    """The age at the last poll."""
    polled_at: float = field(default=-math.inf, init=False)
    is_notified: bool = field(default=False, init=False)
    """A notification is pending."""
    was_notified: bool = field(default=False, init=False)
    """The poll under way is made for a notification."""
    entry_number: int = field(default=0, init=False)
    """The number of its valid heap entry, 0 while the sync is polled. Entries with another number are void."""

    def schedule(self, started_at: float, deadline: float, earliest: float) -> None:
        """Begin the schedule of a sync that started at this time."""
        self.started_at = started_at
        self.deadline = deadline
        self.earliest = earliest


J = TypeVar("J", bound=Schedulable)


class PollScheduler(Generic[J]):
    """A priority queue of running syncs by the time of their next poll.

    All times are in seconds of one monotonic clock. `min_interval` is the least time between two polls of one sync.
    """

    def __init__(self, *, min_interval: float, random: Random) -> None:
        self.durations = DurationModel()
        self._min_interval = min_interval
        self._random = random
        self._cost = 1.0
        self._rescheduled_at = -math.inf
        self._reschedule_at = math.inf
        # In the order of their starts.
        self._jobs: dict[J, None] = {}
        # Tuples, because comparing them runs no Python code.
        self._heap: list[tuple[float, int, J]] = []
        # The same for syncs with a pending notification, which are polled before others that have been due for longer.
        self._notified: list[tuple[float, int, J]] = []
        self._entry_numbers = count(1)

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: J, started_at: float, now: float, *, deadline: float = math.inf) -> None:
        """Schedule a sync that started at this time; it is polled by its deadline, whatever a poll costs."""
        job.schedule(started_at, deadline, now + self._jitter(min(self._min_interval, 1.0)))
        self._jobs[job] = None
        self._push(job, self._due_time(job), self._heap)

    def still_running(self, job: J, now: float, *, not_before: float = 0.0) -> None:
        """Report that a poll found the sync running; it is not polled again before `not_before`."""
        age = now - job.started_at
        if age > job.last_age:
            self.durations.still_running(job.last_age, age)
            job.last_age = age
        self._reschedule(job, now, not_before)

    def defer(self, job: J, now: float, *, not_before: float = 0.0) -> None:
        """Report that a poll got no status; a notification that it was made for is pending again."""
        job.is_notified |= job.was_notified
        self._reschedule(job, now, not_before)

    def ended(self, job: J, now: float) -> None:
        """Report that a poll found the sync ended, and remove it."""
        self.durations.ended(job.last_age, max(now - job.started_at, job.last_age))
        self.forget(job)

    def forget(self, job: J) -> None:
        """Remove the sync."""
        del self._jobs[job]
        job.entry_number = 0

    def poll_now(self, job: J, now: float) -> None:
        """Poll the sync next because of a notification; if a poll is under way, then once more after it.

        `min_interval` and the server's `not_before` are respected.
        """
        if job not in self._jobs or job.is_notified:
            return
        job.is_notified = True
        if job.entry_number:
            self._push_notified(job, now)

    def set_poll_cost(self, cost: float, now: float) -> None:
        """Set the delay in seconds that a poll must save to be due, and reschedule the waiting syncs.

        Too soon after the last change the cost is ignored; `next_time` then returns when to set it again.
        """
        cost = max(cost, 0.01)
        self._reschedule_at = math.inf
        if self._cost / _RESCHEDULE_FACTOR <= cost <= self._cost * _RESCHEDULE_FACTOR:
            return
        earliest = self._rescheduled_at + _RESCHEDULE_INTERVAL * len(self._jobs)
        if now < earliest:
            self._reschedule_at = earliest
            return
        self._cost = cost
        self._rescheduled_at = now
        self._rebuild()

    def pop_due(self, now: float) -> J | None:
        """Pop the sync whose poll is due, if any; `still_running`, `ended` or `defer` must report the result."""
        heap = self._notified if _first_due(self._notified) <= now else self._heap
        if _first_due(heap) > now:
            return None
        job = heapq.heappop(heap)[2]
        job.entry_number = 0
        job.was_notified, job.is_notified = job.is_notified, False
        return job

    def next_time(self) -> float:
        """Return when a poll is due or the cost can change; infinity if no sync waits."""
        return min(_first_due(self._notified), _first_due(self._heap), self._reschedule_at)

    def seconds_left(self, now: float) -> float:
        """Return after how many seconds all syncs have probably ended."""
        if not self._jobs:
            return 0.0
        # The last to end may be one of many young syncs, or the oldest.
        oldest, youngest = next(iter(self._jobs)), next(reversed(self._jobs))
        return max(
            self.durations.seconds_left(now - oldest.started_at, 0.5),
            self.durations.seconds_left(now - youngest.started_at, 0.5 / len(self._jobs)),
        )

    def _rebuild(self) -> None:
        waiting = [job for job in self._jobs if job.entry_number and not job.is_notified]
        self._heap = [(self._due_time(job), job.entry_number, job) for job in waiting]
        heapq.heapify(self._heap)

    def _reschedule(self, job: J, now: float, not_before: float) -> None:
        interval = min_poll_interval(job.last_age, self._min_interval)
        job.earliest = now + interval + self._jitter(interval / 4)
        job.not_before = not_before
        job.polled_at = now
        if job.is_notified:
            self._push_notified(job, now)
        else:
            self._push(job, self._due_time(job), self._heap)

    def _push_notified(self, job: J, now: float) -> None:
        earliest = max(now, job.polled_at + self._min_interval, job.not_before)
        self._push(job, min(earliest, self._due_time(job)), self._notified)

    def _push(self, job: J, due: float, heap: list[tuple[float, int, J]]) -> None:
        job.entry_number = next(self._entry_numbers)
        heapq.heappush(heap, (due, job.entry_number, job))

    def _due_time(self, job: J) -> float:
        """Return when the sync is polled next: when a poll is worth its cost, but not before `earliest`.

        It is polled by its `deadline` at the latest, and never before the server's `not_before`.
        """
        age = due_age_of_next_poll(self.durations, job.last_age, self._cost)
        due = max(job.started_at + age, job.earliest)
        return max(min(due, job.deadline), job.not_before)

    def _jitter(self, seconds: float) -> float:
        return self._random.uniform(0.0, seconds)


def _first_due(heap: list[tuple[float, int, J]]) -> float:
    """Return when the first sync of the heap is due, without entries that are void; infinity if there is none."""
    while heap and heap[0][1] != heap[0][2].entry_number:
        heapq.heappop(heap)
    return heap[0][0] if heap else math.inf
