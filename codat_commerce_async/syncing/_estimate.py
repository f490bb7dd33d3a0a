"""Estimate when a fan-out ends, from the estimated durations, the quota and the pauses."""

import math

from attrs import frozen

from codat_commerce_async.syncing._durations import DurationModel

__all__ = ["EndEstimate", "Workload"]

# Polls assumed per sync before any sync has ended.
_ASSUMED_POLLS = 2.0
# With fewer ended syncs there is no estimate, except while requests are paused, which takes longest.
_MIN_ENDS = 5
# No sync is expected to take this many times as long as the longest so far.
_MAX_EXTRAPOLATION = 3.0
# The estimated end may move later by at most this share of the time that passes, ...
_MAX_DELAY_RATE = 0.2
# ... unless more than this share of the companies has no outcome, or of the time is left, by the new estimate.
_EARLY_SHARE = 0.1
_EARLY_TIME = 0.5


@frozen(kw_only=True)
class Workload:
    """What is left to do: the counts of syncs and polls, and the limits for starting more of them.

    `left` syncs are not started. `interval` is the seconds from one request to the next.
    """

    left: int
    running: int
    completed: int
    polls: int
    interval: float
    max_running: int | None

    @property
    def polls_per_sync(self) -> float:
        """The mean number of polls of a sync so far."""
        return self.polls / self.completed if self.completed else _ASSUMED_POLLS

    @property
    def seconds_of_requests(self) -> float:
        """How long the requests take that are left to send."""
        return (self.left * (1 + self.polls_per_sync) + self.running * self.polls_per_sync) * self.interval


class EndEstimate:
    """The estimated end of a run.

    It may move earlier at any time. Late in the run it moves later only slowly, so that the seconds left do not grow;
    they are not known once the estimated end has passed. All times are in seconds of the event loop's clock.
    """

    def __init__(self, durations: DurationModel) -> None:
        self._durations = durations
        self.known_ends = 0
        """How many ends of earlier runs the durations were estimated from."""
        self._paused_until = -math.inf
        self._end: float | None = None
        self._updated_at = 0.0

    def pause(self, now: float, seconds: float) -> None:
        """Record that no request is sent for the given number of seconds; the estimated end moves by as much."""
        delay = now + seconds - max(now, self._paused_until)
        if delay <= 0:
            return
        self._paused_until = now + seconds
        if self._end is not None:
            self._end += delay

    def seconds_left(self, work: Workload, began: float, now: float, running_left: float) -> float | None:
        """Return the seconds until the run ends, or None if that is not known.

        `running_left` is the estimate for the syncs that run.
        """
        still_open = work.left + work.running
        if not still_open:
            return 0.0
        total = still_open + work.completed
        if now >= self._paused_until and work.completed + self.known_ends < min(_MIN_ENDS, total):
            return None
        end = self._limited(now, began, now + self._estimate(work, now, running_left), still_open / total)
        self._end, self._updated_at = end, now
        return end - now if end > now else None

    def _estimate(self, work: Workload, now: float, running_left: float) -> float:
        paused = max(0.0, self._paused_until - now)
        longest = _MAX_EXTRAPOLATION * self._durations.longest
        last_duration = self._durations.seconds_left(0.0, 0.5 / work.left) if work.left else 0.0
        last_end = self._seconds_until_last_start(work) + min(last_duration, longest)
        return max(paused + max(work.seconds_of_requests, last_end), min(running_left, longest))

    def _seconds_until_last_start(self, work: Workload) -> float:
        """Return how long the starts take: they wait for requests, and with `max_running` for running syncs to end."""
        by_requests = work.left * (1 + work.polls_per_sync) * work.interval
        if work.max_running is None:
            return by_requests
        waiting = max(0, work.left + work.running - work.max_running)
        return max(by_requests, waiting * self._durations.mean / work.max_running)

    def _limited(self, now: float, began: float, end: float, share_open: float) -> float:
        """Return the estimated end, or the latest that it may be after the one before."""
        is_early = share_open > _EARLY_SHARE and end - now > _EARLY_TIME * (end - began)
        if self._end is None or is_early:
            return end
        return min(end, self._end + _MAX_DELAY_RATE * (now - self._updated_at))
