"""Count companies and syncs as they change, so that reading the counts costs the same for any number of them."""

from collections import deque
from collections.abc import Sequence
from enum import Enum
from itertools import islice

from codat_commerce_async.simulator._state.records import Company, Sync, succeeded

__all__ = ["CompanyState", "Statistics"]

_MAX_ENDED = 100


class CompanyState(Enum):
    """The state of a company's newest sync."""

    IDLE = "idle"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class Statistics:
    """Counts of companies by state and of syncs by result, and the latest of each."""

    def __init__(self) -> None:
        self.companies = dict.fromkeys(CompanyState, 0)
        self.succeeded = 0
        self.failed = 0
        self._states: dict[str, CompanyState] = {}  # in the order of their last change
        self._running: dict[Sync, None] = {}
        self._ended: deque[Sync] = deque(maxlen=_MAX_ENDED)
        self._failed: deque[Sync] = deque(maxlen=_MAX_ENDED)

    @property
    def running(self) -> int:
        """The number of running syncs."""
        return len(self._running)

    def update(self, company: Company) -> None:
        """Update the counts after a change of a company."""
        self._uncount(company)
        state = _state_of(company)
        self._states[company.id] = state
        self.companies[state] += 1

    def remove(self, company: Company) -> None:
        """Remove a company; its ended syncs stay counted."""
        self._uncount(company)
        for sync in company.active_syncs:
            self._running.pop(sync, None)

    def begin(self, sync: Sync) -> None:
        """Count a sync that has started."""
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
        """Return the ids and states of the companies that changed last, newest first."""
        return tuple(islice(reversed(self._states.items()), most))

    def latest_running(self, most: int | None) -> Sequence[Sync]:
        """Return the running syncs, newest first; `most=None` returns all."""
        return tuple(islice(reversed(self._running), most))

    def latest_ended(self, most: int) -> Sequence[Sync]:
        """Return the ended syncs, last to end first; at most a hundred."""
        return tuple(islice(reversed(self._ended), most))

    def latest_failed(self, most: int) -> Sequence[Sync]:
        """Return the failed syncs, last to end first; at most a hundred."""
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
