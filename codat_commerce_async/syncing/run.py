"""Many syncs at once: each started once, all followed by one rule, every outcome given as it comes."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from codat_commerce_async._core.callbacks import call, check_callback
from codat_commerce_async._core.validation import check_count
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.policies import PollOptions, PollPolicy
from codat_commerce_async.syncing._aio import wait_uncancelled
from codat_commerce_async.syncing._calls import SyncContext
from codat_commerce_async.syncing._queue import Companies
from codat_commerce_async.syncing._runner import SyncRunner
from codat_commerce_async.syncing._scheduler import OBJECTIVES, Objective
from codat_commerce_async.syncing.journal import Journal
from codat_commerce_async.syncing.outcome import OnProgress, RunProgress, RunReport, StopWhen, SyncOutcome

__all__ = ["Companies", "Objective", "SyncRun"]

# How many outcomes may wait to be taken before the run does.
_MAX_BUFFERED = 1000


class SyncRun:
    """A fan-out of syncs, to be used with `async with`; iterate over it for the outcomes, as they come.

    Leaving the block early stops it: what runs at Codat goes on, and stands in `running`; what was being asked for
    stands in `unconfirmed`, by company and idempotency key. With a journal, the same call continues from there. Outcomes
    that nobody took can still be taken then.

    Of a company one sync is active at a time: what is asked for twice is synced once, and another period waits for its
    turn. A company that is given again after its sync has ended is synced again, unless a journal knows better.
    """

    def __init__(
        self,
        context: SyncContext,
        companies: Companies,
        *,
        objective: Objective,
        journal: str | Path | None,
        timeout: float | None,
        poll: PollPolicy,
        max_running: int | None,
        stop_when: StopWhen | None,
        on_progress: OnProgress | None,
        adopt: bool = True,
        options: PollOptions,
    ) -> None:
        if objective not in OBJECTIVES:
            raise ValueError(f"objective must be 'latency' or 'throughput' (got {objective!r})")
        if isinstance(companies, str | bytes):
            raise TypeError("companies takes several company ids, not one string")
        if not isinstance(companies, Iterable | AsyncIterable):
            raise TypeError(f"companies must be iterable, not {type(companies).__name__}")
        check_count("max_running", max_running)
        for name, callback in (("stop_when", stop_when), ("on_progress", on_progress)):
            if callback is not None:
                check_callback(name, callback)
        self._work = SyncRunner(
            context,
            companies,
            objective=objective,
            timeout=timeout,
            gap=poll.interval,
            max_running=max_running,
            adopt=adopt,
            options=options,
            tell=self._emit,
        )
        self._journal_path = journal
        self._journal: Journal | None = None
        self._stop_when = stop_when
        self._on_progress = on_progress
        self._outcomes: asyncio.Queue[SyncOutcome | None] = asyncio.Queue()
        self._buffer_slots = asyncio.Semaphore(_MAX_BUFFERED)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._began = 0.0
        self._elapsed: float | None = None
        self._task: asyncio.Task[None] | None = None
        self._failure_told = False

    async def __aenter__(self) -> Self:
        if self._loop is not None:
            raise RuntimeError("a run is used once; make a new one")
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        if self._journal_path is not None:
            self._journal = await Journal.open(self._journal_path)
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
        if error is None and not self._failure_told and not task.cancelled():
            task.result()

    def __aiter__(self) -> AsyncIterator[SyncOutcome]:
        return self

    async def __anext__(self) -> SyncOutcome:
        task = self._task
        if task is None:
            raise RuntimeError("a run is used with `async with`")
        outcome = await self._outcomes.get()
        if outcome is not None:
            self._buffer_slots.release()
            return outcome
        self._outcomes.put_nowait(None)
        await asyncio.wait((task,))
        if not task.cancelled():
            self._failure_told = True
            task.result()
        raise StopAsyncIteration

    async def results(self) -> list[SyncOutcome]:
        """All outcomes that are still to come, in the order in which they came."""
        return [outcome async for outcome in self]

    @property
    def report(self) -> RunReport:
        """The counts at this moment."""
        return self._work.report(self._seconds())

    @property
    def progress(self) -> RunProgress:
        """The counts at this moment, how fast it goes, and how long it may still take."""
        report = self.report
        minutes = report.elapsed / 60
        return RunProgress(
            report=report,
            total=self._work.intake.total,
            per_minute=report.completed / minutes if minutes > 0 else 0.0,
            seconds_left=self._work.seconds_left(report),
        )

    @property
    def running(self) -> tuple[SyncHandle, ...]:
        """What runs at Codat and has no outcome yet."""
        return self._work.running

    @property
    def unconfirmed(self) -> tuple[tuple[str, str], ...]:
        """What was being asked for, as far as it is not known to run: company ids and idempotency keys."""
        return self._work.unconfirmed

    def stop(self) -> None:
        """Begin nothing more, and end the iteration; what runs at Codat stands in `running`."""
        self._work.stop()

    async def _run(self) -> None:
        try:
            await self._work.run(self._journal)
        finally:
            self._mark_done()

    def _mark_done(self) -> None:
        self._elapsed = self._seconds()
        self._outcomes.put_nowait(None)

    async def _shut_down(self, task: asyncio.Task[None]) -> None:
        """Leave nothing behind: no task, no thread, no open file."""
        await asyncio.wait((task,))
        # A task that was cancelled before its first step has not even done that.
        self._mark_done()
        if self._journal is not None:
            await self._journal.close()

    async def _emit(self, outcome: SyncOutcome) -> None:
        self._outcomes.put_nowait(outcome)
        if self._on_progress is not None:
            await call(self._on_progress, self.progress)
        if self._stop_when is not None and await call(self._stop_when, self.report):
            self.stop()
        await self._buffer_slots.acquire()

    def _seconds(self) -> float:
        """How long it goes on, or went on until it ended."""
        if self._elapsed is not None or self._loop is None:
            return self._elapsed or 0.0
        return self._loop.time() - self._began
