"""Diagnose a status, a handle's sync or an outcome, alone or in a fan-out."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeAlias, cast

from attrs import evolve, frozen

from codat_commerce_async._core.log import extra_fields, logger_of
from codat_commerce_async.models.sync import BaseSyncStatus
from codat_commerce_async.policies import CallOptions, PollOptions, RetryPolicy
from codat_commerce_async.syncing._conclude import conclude, conclude_from_error
from codat_commerce_async.syncing._facts import DiagnosisCalls, collect_facts
from codat_commerce_async.syncing._journal.entry import JournalEntry
from codat_commerce_async.syncing.diagnosis import Diagnosis
from codat_commerce_async.syncing.outcome import SyncOutcome
from codat_commerce_async.syncing.request import SyncRequest

__all__ = ["DiagnosisQueue", "diagnose_outcome", "diagnose_status"]

_logger = logger_of("sync")

# Seconds after which a fan-out leaves a request out. Background requests wait for up to a minute when many are sent.
_TIMEOUT = 300.0
# Concurrent diagnoses of a fan-out; each sends one request at a time.
_MAX_WORKERS = 8


async def diagnose_status(
    calls: DiagnosisCalls, status: BaseSyncStatus, options: CallOptions, *, company_id: str | None = None
) -> Diagnosis:
    """Return why the sync with this status failed; raise ValueError for one that did not."""
    company_id = company_id or status.company_id
    if company_id is None:
        raise ValueError("status must have a company_id; pass the handle instead")
    if not status.failed:
        raise ValueError(f"status must be that of a failed sync (got {status.state.value})")
    sync_id: str | None = getattr(status, "sync_id", None) or getattr(status, "commerce_sync_id", None)
    # A request that fails is not repeated; the diagnosis names what it could not check.
    options = cast("CallOptions", {"background": True, "retry": RetryPolicy.none(), **options})
    return conclude(await collect_facts(calls, company_id, sync_id, status, options))


async def diagnose_outcome(calls: DiagnosisCalls, outcome: SyncOutcome, options: CallOptions) -> Diagnosis:
    """Return why the sync of this outcome failed, or could not be started; raise ValueError for one that succeeded."""
    if outcome.status is not None:
        return await diagnose_status(calls, outcome.status, options, company_id=outcome.company_id)
    if outcome.error is None:
        raise ValueError("outcome must have a status or an error")
    sync_id = outcome.handle.sync_id if outcome.handle is not None else None
    return conclude_from_error(outcome.company_id, sync_id, outcome.error)


OnDiagnosed: TypeAlias = Callable[[SyncOutcome], Awaitable[None]]


@frozen
class _Failure:
    """A failed outcome to diagnose; `is_recorded` if an earlier process has recorded and reported it."""

    outcome: SyncOutcome
    is_recorded: bool


class DiagnosisQueue:
    """Diagnose the failed outcomes of a fan-out, besides its starts and polls.

    `on_diagnosed` is awaited with each outcome and its diagnosis. After `stop`, outcomes are passed on undiagnosed.
    `on_diagnosed_later` gets those outcomes that earlier processes have recorded.
    """

    def __init__(
        self, calls: DiagnosisCalls, options: PollOptions, on_diagnosed: OnDiagnosed, on_diagnosed_later: OnDiagnosed
    ) -> None:
        self._calls = calls
        own = {"timeout": _TIMEOUT, "background": True, "retry": RetryPolicy.none()}
        self._options = cast("CallOptions", {**options, **own})
        self._on_diagnosed = on_diagnosed
        self._on_diagnosed_later = on_diagnosed_later
        self._waiting: deque[_Failure] = deque()
        self._recorded = set[SyncRequest]()
        self._workers = 0
        self._is_stopped = False

    def add(self, outcome: SyncOutcome, tasks: asyncio.TaskGroup) -> None:
        """Diagnose the outcome in a task of the group."""
        self._add(_Failure(outcome, is_recorded=False), tasks)

    def add_recorded(self, entry: JournalEntry, tasks: asyncio.TaskGroup) -> None:
        """Diagnose the outcome that an earlier process has recorded, if its sync failed and it has no diagnosis."""
        if entry.state != "failed" or entry.diagnosis is not None or entry.request in self._recorded:
            return
        self._recorded.add(entry.request)
        self._add(_Failure(entry.to_outcome(), is_recorded=True), tasks)

    def _add(self, failure: "_Failure", tasks: asyncio.TaskGroup) -> None:
        self._waiting.append(failure)
        if self._workers < _MAX_WORKERS:
            self._workers += 1
            tasks.create_task(self._work())

    def stop(self) -> None:
        """Send no more requests."""
        self._is_stopped = True

    def take_undiagnosed(self) -> list[SyncOutcome]:
        """Return the outcomes of this process that were not passed on, and forget all."""
        undiagnosed = [failure.outcome for failure in self._waiting if not failure.is_recorded]
        self._waiting.clear()
        return undiagnosed

    async def _work(self) -> None:
        try:
            while self._waiting:
                failure = self._waiting.popleft()
                try:
                    diagnosed = await self._diagnosed(failure.outcome)
                except BaseException:
                    self._waiting.append(failure)
                    raise
                await (self._on_diagnosed_later if failure.is_recorded else self._on_diagnosed)(diagnosed)
        finally:
            self._workers -= 1

    async def _diagnosed(self, outcome: SyncOutcome) -> SyncOutcome:
        if self._is_stopped:
            return outcome
        try:
            diagnosis = await diagnose_outcome(self._calls, outcome, self._options)
        except Exception as error:  # noqa: BLE001 - whatever one company causes must not end the run
            fields = extra_fields(outcome.company_id, error=error)
            _logger.warning("no diagnosis for company %s: %s", outcome.company_id, error, extra=fields)
            return outcome
        return evolve(outcome, diagnosis=diagnosis)
