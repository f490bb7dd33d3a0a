"""What a process has to report to the others with its next round trip to the store."""

from typing import TypedDict

from codat_commerce_async.distributed._state import QuotaReport

__all__ = ["Changes", "PendingChanges"]


class Changes(TypedDict):
    """The part of a `QuotaReport` that describes what has happened; its times are seconds from now."""

    reserved: int
    runs: dict[str, int]
    sequence: int
    pauses: dict[str, float]
    exhausted: list[float]
    remaining: list[float]


class PendingChanges:
    """What has happened since the last report. Times are those of the event loop.

    `pauses` holds the end of each new pause per company ("" for all requests), `exhaustion` the reset of the exhausted
    daily quota, by the event loop and by the server, and `remaining` the remaining requests of the day, their reset,
    and when that was observed.
    """

    def __init__(self) -> None:
        self.pauses: dict[str, float] = {}
        self.exhaustion: tuple[float, float] | None = None
        self.remaining: tuple[int, float, float] | None = None
        self._reserved = 0
        self._runs: dict[str, int] = {}
        # Changes of the runs that the store has not confirmed, and the number of their report.
        self._sent_runs: dict[str, int] = {}
        self._sequence = 0

    @property
    def has_runs(self) -> bool:
        """Whether reservations of runs have changed since the last report."""
        return bool(self._runs)

    def reserve(self, requests: int, run: str | None) -> None:
        """Reserve requests of the daily quota for work of this process, or for a run."""
        if run is None:
            self._reserved += requests
        else:
            self._runs[run] = self._runs.get(run, 0) + requests

    def report(self, now: float) -> Changes:
        """Return what the next report has to contain, which may have been sent before."""
        if self._runs and not self._sent_runs:
            self._sent_runs, self._runs = self._runs, {}
            self._sequence += 1
        exhaustion, remaining = self.exhaustion, self.remaining
        return {
            "reserved": self._reserved,
            "runs": self._sent_runs,
            "sequence": self._sequence,
            "pauses": {company: until - now for company, until in self.pauses.items() if until > now},
            "exhausted": [exhaustion[0] - now, exhaustion[1]] if exhaustion and exhaustion[0] > now else [],
            "remaining": [remaining[0], remaining[1] - now, now - remaining[2]] if remaining else [],
        }

    def forget(self, report: QuotaReport, now: float) -> None:
        """Forget what has been reported to the store; what was added meanwhile is reported next."""
        if report["runs"]:
            self._sent_runs = {}
        for company in list(self.pauses):
            if company in report["pauses"] or self.pauses[company] <= now:
                del self.pauses[company]
        if report["exhausted"]:
            self.exhaustion = None
        if report["remaining"]:
            self.remaining = None
