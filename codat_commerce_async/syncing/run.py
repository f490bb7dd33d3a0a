"""A fan-out of syncs as an async context manager and an async iterator of outcomes."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sized
from pathlib import Path
from types import TracebackType
from typing import Self

from attrs import evolve

from codat_commerce_async._core.callbacks import call, check_callback
from codat_commerce_async._core.log import extra_fields, logger_of
from codat_commerce_async._core.validation import check_company_ids, check_count, check_str, require
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.syncing._aio import wait_uncancelled
from codat_commerce_async.syncing._context import SyncContext
from codat_commerce_async.syncing._facts import DiagnosisCalls
from codat_commerce_async.syncing._journal.store import JournalStore, NullJournal, check_journal_store
from codat_commerce_async.syncing._journal.writer import JournalWriter, Resume, RunOptions
from codat_commerce_async.syncing._queue import CompanySource
from codat_commerce_async.syncing._runner import FanoutSettings, SyncRunner
from codat_commerce_async.syncing._scheduler import Objective
from codat_commerce_async.syncing.journal import Journal
from codat_commerce_async.syncing.outcome import OnProgress, RunProgress, RunReport, StopWhen, SyncOutcome

__all__ = ["CompanySource", "FanoutSettings", "JournalSource", "Objective", "Resume", "RunOptions", "SyncRun"]

JournalSource = str | Path | JournalStore

_logger = logger_of("sync")

# The number of outcomes that may wait for the caller before the run pauses.
_MAX_BUFFERED = 1000
_MAX_RUN_ID_LENGTH = 200


class SyncRun:
    """A fan-out of syncs: use it with `async with`, and iterate over it for the outcomes as they arrive.

    Leaving the block early stops the run. Syncs that run at Codat continue; `running` has their handles. Start requests
    without a result are in `unconfirmed`, by company id and idempotency key. With a journal, the same call continues
    from there. Outcomes that were not consumed can still be read after the block.

    At most one sync of a company is active at a time. A duplicate of an active request is dropped; another period waits
    until the active sync has ended. Without a journal, a company that is given again after its sync has ended is synced
    again.
    """

    def __init__(
        self,
        context: SyncContext,
        companies: CompanySource,
        *,
        settings: FanoutSettings,
        journal: JournalSource | None,
        run_options: RunOptions,
        stop_when: StopWhen | None,
        on_progress: OnProgress | None,
        diagnosis_calls: DiagnosisCalls | None = None,
    ) -> None:
        _check_sources(companies, journal)
        for name, callback in (("stop_when", stop_when), ("on_progress", on_progress)):
            if callback is not None:
                check_callback(name, callback)
        self._runner = SyncRunner(
            context,
            companies,
            settings=settings,
            on_outcome=self._emit,
            diagnosis_calls=diagnosis_calls,
        )
        self._journal_path = journal if isinstance(journal, str | Path) else None
        self._journal: JournalStore = NullJournal() if isinstance(journal, str | Path | None) else journal
        companies_count = len(companies) if isinstance(companies, Sized) else None
        self._run_options = evolve(check_run_options(run_options, journal), companies=companies_count)
        self._clock = context.clock
        self._stop_when = stop_when
        self._on_progress = on_progress
        self._outcomes: asyncio.Queue[SyncOutcome | None] = asyncio.Queue()
        self._buffer_slots = asyncio.Semaphore(_MAX_BUFFERED)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._began = 0.0
        self._elapsed: float | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_failure_raised = False

    async def __aenter__(self) -> Self:
        if self._loop is not None:
            raise RuntimeError("a run can be used only once; call run_many again")
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        if self._journal_path is not None:
            now = self._clock.now()
            self._journal = await JournalWriter.open(self._journal_path, self._run_options, now=now)
        self._task = asyncio.create_task(self._run(), name="codat-sync-run")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        task = self._task
        assert task is not None  # noqa: S101 - it was entered
        task.cancel()
        await wait_uncancelled(asyncio.ensure_future(self._shut_down(task)))
        if error is None and not self._is_failure_raised and not task.cancelled():
            task.result()

    def __aiter__(self) -> AsyncIterator[SyncOutcome]:
        return self

    async def __anext__(self) -> SyncOutcome:
        task = self._task
        if task is None:
            raise RuntimeError("a run must be entered with `async with` first")
        outcome = await self._outcomes.get()
        if outcome is not None:
            self._buffer_slots.release()
            return outcome
        self._outcomes.put_nowait(None)
        await asyncio.wait((task,))
        if not task.cancelled():
            self._is_failure_raised = True
            task.result()
        raise StopAsyncIteration

    async def results(self, *, include_finished: bool = False) -> list[SyncOutcome]:
        """Return all remaining outcomes, in the order in which they arrive.

        With `include_finished`, the outcomes that earlier processes recorded in the journal for this run come first, in
        the order of the input. Then there is one outcome for every company of the run, also after a resume.

        Args:
            include_finished: Whether to include outcomes of earlier processes of the run, from the journal.
        """
        rest = [outcome async for outcome in self]
        return [*await self._earlier_outcomes(), *rest] if include_finished else rest

    async def _earlier_outcomes(self) -> list[SyncOutcome]:
        """Return what earlier processes of this run recorded in the journal."""
        if self._journal_path is None:
            return []
        journal = Journal.open(self._journal_path)
        entries = await journal.entries(self.run_id)
        return [each.to_outcome() for each in entries if each.has_ended and each.session != self._journal.session]

    @property
    def run_id(self) -> str | None:
        """The id of this run in its journal, or None without a journal."""
        return self._journal.run_id

    @property
    def report(self) -> RunReport:
        """The present counts."""
        return self._runner.state.report(self._seconds(), self.run_id)

    @property
    def progress(self) -> RunProgress:
        """The present counts, the rate of outcomes, and an estimate of the remaining time."""
        report = self.report
        minutes = report.elapsed / 60
        return RunProgress(
            report=report,
            total=self._runner.state.queue.total,
            per_minute=report.completed / minutes if minutes > 0 else 0.0,
            seconds_left=self._runner.seconds_left(report),
        )

    @property
    def running(self) -> tuple[SyncHandle, ...]:
        """The handles of the syncs that run at Codat and have no outcome yet."""
        return self._runner.state.running_handles

    @property
    def unconfirmed(self) -> tuple[tuple[str, str], ...]:
        """The company ids and idempotency keys of the start requests whose result is not known."""
        return self._runner.state.unconfirmed

    def stop(self) -> None:
        """Send no more requests and end the iteration; `running` has the syncs that continue at Codat."""
        self._runner.stop()

    async def _run(self) -> None:
        try:
            await self._runner.run(self._journal, self._run_options.resume)
            self._warn_if_nothing_started()
        finally:
            self._mark_done()

    def _warn_if_nothing_started(self) -> None:
        report = self.report
        if not report.nothing_started or self._runner.is_stopped:
            return
        if not report.already_finished:
            _logger.warning("nothing was started: the input had no companies", extra=extra_fields(run_id=report.run_id))
            return
        _logger.warning(
            "nothing was started: all %d companies have ended before in run %s of the journal; "
            "to sync them again, begin a run with another id",
            report.already_finished,
            report.run_id,
            extra=extra_fields(run_id=report.run_id),
        )

    def _mark_done(self) -> None:
        self._elapsed = self._seconds()
        for outcome in self._runner.diagnoses.take_undiagnosed() if self._runner.diagnoses is not None else ():
            self._outcomes.put_nowait(outcome)
        self._outcomes.put_nowait(None)

    async def _shut_down(self, task: asyncio.Task[None]) -> None:
        """Wait for the task and close the journal, so that no task, thread or file is left."""
        await asyncio.wait((task,))
        # A task that was cancelled before its first step has not done it.
        self._mark_done()
        if self._journal_path is not None:
            await self._journal.close()

    async def _emit(self, outcome: SyncOutcome) -> None:
        self._outcomes.put_nowait(outcome)
        if self._on_progress is not None:
            await call(self._on_progress, self.progress)
        if self._stop_when is not None and await call(self._stop_when, self.report):
            self.stop()
        await self._buffer_slots.acquire()

    def _seconds(self) -> float:
        """Return the seconds since the run was entered, until its end."""
        if self._elapsed is not None or self._loop is None:
            return self._elapsed or 0.0
        return self._loop.time() - self._began


def _check_sources(companies: CompanySource, journal: JournalSource | None) -> None:
    check_company_ids("companies", companies)
    if not isinstance(companies, Iterable | AsyncIterable):
        raise TypeError(f"companies must be iterable (got {type(companies).__name__})")
    if not isinstance(journal, str | Path | None):
        check_journal_store(journal)


def check_run_options(options: RunOptions, journal: JournalSource | None) -> RunOptions:
    """Return the options; raise ValueError or TypeError if they are invalid."""
    if options.resume not in ("unfinished", "never"):
        raise ValueError(f"resume must be 'unfinished' or 'never' (got {options.resume!r})")
    check_count("keep_runs", options.keep_runs)
    if options.run_id is not None:
        check_str("run_id", options.run_id)
        is_valid = 0 < len(options.run_id) <= _MAX_RUN_ID_LENGTH and options.run_id.isprintable()
        require(is_valid, "run_id", f"1 to {_MAX_RUN_ID_LENGTH} printable characters", options.run_id)
    if not isinstance(journal, str | Path) and options != RunOptions():
        given = "None" if journal is None else type(journal).__name__
        raise ValueError(f"journal must be a path if run_id, resume or keep_runs is passed (got {given})")
    return options
