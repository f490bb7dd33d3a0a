"""What has happened lately, counted as it happens, so that a look costs the same however much there is."""

from collections import deque
from collections.abc import Sequence
from enum import Enum
from itertools import islice

from codat_commerce_async.simulator._state.records import Company, Sync, succeeded

__all__ = ["CompanyState", "Statistics"]

_KEPT = 100


class CompanyState(Enum):
    """What a company's newest sync is at."""

    IDLE = "idle"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class Statistics:
    """Companies by state, syncs by result, and the latest of each."""

    def __init__(self) -> None:
        self.companies = dict.fromkeys(CompanyState, 0)
        self.succeeded = 0
        self.failed = 0
        self._states: dict[str, CompanyState] = {}  # the latest change last
        self._running: dict[Sync, None] = {}
        self._ended: deque[Sync] = deque(maxlen=_KEPT)
        self._failed: deque[Sync] = deque(maxlen=_KEPT)

    @property
    def running(self) -> int:
        """How many syncs are running."""
        return len(self._running)

    def update(self, company: Company) -> None:
        """Count a company anew, after something happened to it."""
        self._uncount(company)
        state = _state_of(company)
        self._states[company.id] = state
        self.companies[state] += 1

    def remove(self, company: Company) -> None:
        """Forget a company; its ended syncs stay counted."""
        self._uncount(company)
        for sync in company.active_syncs:
            self._running.pop(sync, None)

    def begin(self, sync: Sync) -> None:
        """Count a sync that starts."""
        self._running[sync] = None

    def end(self, sync: Sync) -> None:
        """Count a sync that has ended."""
        self._running.pop(sync, None)
        self._ended.append(sync)
        if succeeded(sync.final_code):
            self.succeeded += 1
        else:
            self.failed += 1
            self._failed.append(sync)

    def latest_companies(self, most: int) -> Sequence[tuple[str, CompanyState]]:
        """The companies that something happened to last, by id, newest first."""
        return tuple(islice(reversed(self._states.items()), most))

    def latest_running(self, most: int | None) -> Sequence[Sync]:
        """The running syncs, the last to start first; None means all."""
        return tuple(islice(reversed(self._running), most))

    def latest_ended(self, most: int) -> Sequence[Sync]:
        """The syncs that ended, the last to end first; a hundred at most."""
        return tuple(islice(reversed(self._ended), most))

    def latest_failed(self, most: int) -> Sequence[Sync]:
        """Likewise, of those that failed."""
        return tuple(islice(reversed(self._failed), most))

    def _uncount(self, company: Company) -> None:
        state = self._states.pop(company.id, None)
        if state is not None:
            self.companies[state] -= 1


def _state_of(company: Company) -> CompanyState:
    if company.active_syncs:
        return CompanyState.RUNNING
    if not company.syncs:
        return CompanyState.IDLE
    return CompanyState.SUCCEEDED if succeeded(company.syncs[-1].final_code) else CompanyState.FAILED
