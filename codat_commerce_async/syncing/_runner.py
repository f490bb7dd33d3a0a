"""The loop of a fan-out: choose whether to start or to poll a sync next, until all have finished.

`_queue.py` has the companies, `_job_starter.py` starts a sync, `_scheduler.py` chooses the next poll, and `_poller.py`
makes it.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

from attrs import evolve, frozen

from codat_commerce_async._core.log import extra_fields, logger_of
from codat_commerce_async._core.rate_limiter import PauseSource
from codat_commerce_async._core.validation import check_count, check_str, require
from codat_commerce_async.errors import CodatError, JournalError, OutcomeUnknownError, QuotaExhaustedError
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.models.sync import SyncStatus
from codat_commerce_async.syncing._conclude import conclude_from_error
from codat_commerce_async.syncing._context import SyncContext
from codat_commerce_async.syncing._diagnose import DiagnosisQueue
from codat_commerce_async.syncing._estimate import EndEstimate, Workload
from codat_commerce_async.syncing._facts import DiagnosisCalls
from codat_commerce_async.syncing._failures import as_codat_error, cause_of, raise_if_fatal, seconds_to_reset
from codat_commerce_async.syncing._job_starter import JobStarter
from codat_commerce_async.syncing._journal.entry import JournalEntry
from codat_commerce_async.syncing._journal.store import JournalStore, NullJournal
from codat_commerce_async.syncing._journal.writer import Resume
from codat_commerce_async.syncing._poller import SyncPoller, WaitSettings
from codat_commerce_async.syncing._queue import CompanySource, SyncJob
from codat_commerce_async.syncing._run_state import RunState
from codat_commerce_async.syncing._scheduler import (
    OBJECTIVES,
    Objective,
    PollScheduler,
    poll_cost_when_idle,
    poll_cost_while_starting,
)
from codat_commerce_async.syncing.outcome import RunReport, SyncOutcome

__all__ = ["FanoutSettings", "SyncRunner"]

_logger = logger_of("sync")

# Concurrent starts and polls per run; diagnoses come on top. Kept low so that the scheduler decides late what to send
# next.
_MAX_TASKS = 32
# Of these, at most this many starts: a start that needs reconciling or waits for quota must not block polling.
_MAX_START_TASKS = 24
# When an error ends the run, it waits at most this many seconds for the responses to other starts. For each start
# without a response, the next call may have to search for a sync.
_START_GRACE = 5.0
# From this share of `max_running` on, starts wait for running syncs to end, not for requests.
_CAPACITY_THRESHOLD = 0.9


@frozen(kw_only=True)
class FanoutSettings:
    """How a fan-out starts and polls its syncs, as the arguments of `run_many` describe it."""

    objective: Objective
    """What counts when requests are scarce."""

    waiting: WaitSettings
    """How each sync is waited for."""

    max_running: int | None
    """The maximum number of syncs that run at once; None for no limit."""

    adopt: bool
    """Whether a sync that no response named may be treated as the requested one."""

    def __attrs_post_init__(self) -> None:
        valid = check_str("objective", self.objective) in OBJECTIVES
        require(valid, "objective", "'latency' or 'throughput'", self.objective)
        check_count("max_running", self.max_running)


class SyncRunner:
    """Start the jobs of a fan-out, poll the running syncs, and report each outcome.

    `on_outcome` is awaited with every outcome of this run after it was recorded in the journal, which records all but
    invalid items. It applies backpressure: while it waits, fewer requests are sent; with diagnoses, those of failed
    syncs are awaited besides.
    """

    def __init__(
        self,
        context: SyncContext,
        companies: CompanySource,
        *,
        settings: FanoutSettings,
        on_outcome: Callable[[SyncOutcome], Awaitable[None]],
        diagnosis_calls: DiagnosisCalls | None = None,
    ) -> None:
        self.state = RunState(companies, self._wake, self._on_already_finished)
        self._scheduler: PollScheduler[SyncJob] = PollScheduler(
            min_interval=settings.waiting.poll.interval, random=context.random
        )
        self._context = context
        self._clock = context.clock
        self._settings = settings
        self._on_outcome = on_outcome
        self.diagnoses = (
            DiagnosisQueue(diagnosis_calls, settings.waiting.options, self._emit_diagnosed, self._record_diagnosis)
            if diagnosis_calls
            else None
        )
        self._journal: JournalStore = NullJournal()
        self._resume_option: Resume = "unfinished"
        self._task_slots = asyncio.Semaphore(_MAX_TASKS)
        self._wakeup = asyncio.Event()
        self._starter = JobStarter(context, settings.waiting.options, adopt=settings.adopt)
        # The start requests whose result is not recorded yet.
        self._sending = 0
        self._starts_ended = asyncio.Event()
        self._starts_ended.set()
        self._is_stopped = False
        self._paused_until = 0.0
        self._estimate = EndEstimate(self._scheduler.durations)
        self._tasks: asyncio.TaskGroup

    async def run(self, journal: JournalStore, resume: Resume = "unfinished") -> None:
        """Run until every job has finished or the run is stopped, resuming what the journal records as unfinished.

        `resume` decides about unfinished syncs of earlier runs.
        """
        self._journal = self._starter.journal = journal
        self._resume_option = resume
        self._context.notifier.subscribe(self._on_notification)
        pauses = self._context.rate_limiter if isinstance(self._context.rate_limiter, PauseSource) else None
        if pauses is not None:
            pauses.add_pause_listener(self._on_pause)
        try:
            with self._context.lifecycle.scope():
                await self._load_journal()
                async with asyncio.TaskGroup() as tasks:
                    self._tasks = tasks
                    reader = tasks.create_task(self.state.queue.read(journal))
                    while (action := await self._next_action()) is not None:
                        tasks.create_task(self._run_action(action))
                    reader.cancel()
                if self.state.is_done:
                    await self._journal.record_end(self._clock.now())
        except BaseExceptionGroup as group:
            # Callers catch a CodatError. The first error ended the run; the others are of tasks that ended with it.
            raise _first_of(group) from None
        finally:
            self._context.notifier.unsubscribe(self._on_notification)
            if pauses is not None:
                pauses.remove_pause_listener(self._on_pause)
            self._context.release_polls(self.state.running_count)

    @property
    def is_stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._is_stopped

    def stop(self) -> None:
        """Start no more jobs and polls; requests that were sent are completed."""
        self._is_stopped = True
        if self.diagnoses is not None:
            self.diagnoses.stop()
        self._wake()

    def seconds_left(self, report: RunReport) -> float | None:
        """Estimate the seconds until the run ends; None if that is not known."""
        queue, now = self.state.queue, self._clock.time()
        if queue.left is None:
            return None
        work = Workload(
            left=queue.left,
            running=self.state.active_count,
            completed=report.completed,
            polls=report.polls,
            interval=self._context.rate_limiter.min_interval,
            max_running=self._settings.max_running,
        )
        return self._estimate.seconds_left(work, now - report.elapsed, now, self._scheduler.seconds_left(now))

    async def _next_action(self) -> Callable[[], Awaitable[None]] | None:
        """Wait for a task slot and for work, and return what to do; None when nothing is left or the run is stopped.

        `_run_action` releases the slot. A due poll precedes a start.
        """
        await self._task_slots.acquire()
        while not self._is_stopped:
            self._wakeup.clear()
            now = self._clock.time()
            if now >= self._paused_until:
                self._scheduler.set_poll_cost(self._poll_cost(), now)
                job = self._scheduler.pop_due(now)
                if job is not None:
                    return partial(self._poll, job)
                if self.state.queue.has_ready and self._may_start():
                    return partial(self._begin, self.state.start_next())
            if self.state.is_done:
                return None
            await self._wait_for_work(self._paused_until if now < self._paused_until else self._scheduler.next_time())
        return None

    async def _wait_for_work(self, until: float) -> None:
        """Wait for the wake-up event, at most until this time."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(None if math.isinf(until) else until):
                await self._wakeup.wait()

    async def _run_action(self, action: Callable[[], Awaitable[None]]) -> None:
        try:
            await action()
        except Exception as error:
            # A journal that failed could not record them.
            if not isinstance(error, JournalError):
                await self._let_starts_end()
            raise
        finally:
            self._task_slots.release()
            self._wake()

    async def _let_starts_end(self) -> None:
        """Wait for the results of other starts before an error ends the run, so that the journal has them."""
        self.stop()
        with suppress(TimeoutError):
            async with asyncio.timeout(_START_GRACE):
                await self._starts_ended.wait()

    def _may_start(self) -> bool:
        if self.state.starting_count >= _MAX_START_TASKS:
            return False
        max_running = self._settings.max_running
        return max_running is None or self.state.active_count < max_running

    async def _load_journal(self) -> None:
        """Add the journal's unfinished syncs to the queue, and observe the durations of the others."""
        for seconds in await self._journal.durations():
            self._scheduler.durations.observe_duration(seconds)
            self._estimate.known_ends += 1
        async for entries in self._journal.unfinished():
            for entry in entries:
                if entry.run == self._journal.run:
                    self.state.queue.resume(entry)
                else:
                    await self._resume_earlier(entry)
        earlier = self.state.counts.earlier_unfinished
        if earlier:
            what = (
                "are left as they are"
                if self._resume_option == "never"
                else "are polled to their end, or recorded as unknown"
            )
            extra = extra_fields(run_id=self._journal.run_id)
            _logger.warning(
                "%d syncs of earlier runs of the journal had not ended; they %s", earlier, what, extra=extra
            )

    async def _resume_earlier(self, entry: JournalEntry) -> None:
        """Add an unfinished sync of an earlier run to the queue, if it is known to have been started.

        Otherwise record that its outcome is unknown. One of this run is resumed in any case: `SyncJob.from_entry`
        decides whether under its key, and reconcile.py whether that key is sent again.
        """
        self.state.counts.earlier_unfinished += 1
        if self._resume_option == "never":
            return
        if SyncJob.from_entry(entry).handle is not None:
            self.state.queue.resume_earlier(entry)
            return
        # Sending its key again could start a second sync besides the one of this run.
        error = OutcomeUnknownError("the process ended before the response; a sync may have been started")
        outcome = SyncOutcome(request=entry.request, handle=None, status=None, error=error, polls=0, elapsed=0.0)
        await self._journal.record_outcome(outcome, self._clock.now(), run=entry.run)
        self.state.counts.earlier_finished += 1

    async def _begin(self, job: SyncJob) -> None:
        job.requested_at = self._clock.time()
        if job.problem is not None:
            await self._refuse(job, CodatError(job.problem))
        elif job.handle is not None:
            self._track_resumed(job, job.handle)
        else:
            await self._start_new(job)

    async def _refuse(self, job: SyncJob, error: CodatError) -> None:
        """Report an item that is not valid: one company's outcome, which a journal cannot record."""
        outcome = _failed_outcome(job, error, 0.0)
        if self.diagnoses is not None:
            outcome = evolve(outcome, diagnosis=conclude_from_error(outcome.company_id, None, error))
        self.state.finish(outcome)
        await self._on_outcome(outcome)

    def _track_resumed(self, job: SyncJob, handle: SyncHandle) -> None:
        if not job.is_earlier:
            self.state.counts.resumed += 1
        age = max(0.0, self._clock.now() - job.sent_at) if job.sent_at is not None else 0.0
        job.requested_at -= age
        self._track(job, handle, age)

    async def _start_new(self, job: SyncJob) -> None:
        self._sending += 1
        self._starts_ended.clear()
        try:
            await self._start_and_track(job)
        finally:
            self._sending -= 1
            if not self._sending:
                self._starts_ended.set()

    async def _start_and_track(self, job: SyncJob) -> None:
        try:
            handle = await self._starter.start(job)
        except Exception as error:  # noqa: BLE001 - whatever one company causes is that company's outcome
            await self._start_failed(job, as_codat_error(job.company_id, error))
        else:
            self.state.counts.started += 1
            # Before it is recorded: the sync runs even if the journal fails.
            self._track(job, handle, 0.0)
            await self._journal.record_running(job.request, handle)

    async def _start_failed(self, job: SyncJob, error: CodatError) -> None:
        cause = cause_of(error)
        if not (isinstance(cause, QuotaExhaustedError) or (isinstance(cause, CodatError) and cause.fatal_for_run)):
            await self._record_and_finish(job, _failed_outcome(job, error, self._clock.time() - job.requested_at))
            return
        if cause is error and not job.sent_before:
            # It was not sent, or refused, and not processed.
            await self._record_not_started(job)
        if not isinstance(cause, QuotaExhaustedError):
            raise cause
        # If the cause is not the error itself, or the key was sent before, an earlier request may have started the
        # sync. The job keeps its key then, so that the start is resumed after the pause, and not repeated under a new
        # one.
        self._pause_sending(cause)
        self.state.requeue(job)

    async def _record_not_started(self, job: SyncJob) -> None:
        key = job.key
        job.mark_not_sent()
        if key is not None:
            await self._journal.record_not_started(job.request, key)

    def _track(self, job: SyncJob, handle: SyncHandle, age: float) -> None:
        """Schedule the polls of a sync that has run for `age` seconds."""
        now = self._clock.time()
        job.handle = handle
        job.poller = SyncPoller(self._context, handle, self._settings.waiting, adopt=self._settings.adopt)
        self.state.mark_running(job)
        self._context.reserve_polls()
        timeout = self._settings.waiting.timeout
        deadline = math.inf if timeout is None else now + timeout
        self._scheduler.add(job, now - age, now, deadline=deadline)
        if job.poll_soon:
            self._scheduler.poll_now(job, now)
        self._wake()

    async def _poll(self, job: SyncJob) -> None:
        poller = job.poller
        sync_id = poller.handle.sync_id
        self.state.counts.polls += 1
        self._journal.count_poll(self._clock.now())
        try:
            status = await poller.poll()
            if status is None or not status.is_terminal:
                poller.check_deadline()
        except QuotaExhaustedError as error:
            # It concerns the client, not the company: the poll is repeated after the reset.
            self._pause_sending(error)
            self._scheduler.defer(job, self._clock.time())
        except Exception as error:  # noqa: BLE001 - whatever one company causes is that company's outcome
            failure = as_codat_error(job.company_id, error)
            raise_if_fatal(failure)
            self._scheduler.forget(job)
            await self._finish_polled(job, None, failure)
        else:
            if status is not None and status.is_terminal:
                self._scheduler.ended(job, self._clock.time())
                await self._finish_polled(job, status, None)
                return
            self._reschedule(job, status)
            if poller.handle.sync_id != sync_id:
                await self._journal.record_running(job.request, poller.handle, job.earlier_run)

    def _reschedule(self, job: SyncJob, status: SyncStatus | None) -> None:
        report = self._scheduler.defer if status is None else self._scheduler.still_running
        report(job, self._clock.time(), not_before=job.poller.not_before)

    # A polled sync ends in `_finish_polled`, a start that failed for its company in `_start_failed`. Both call
    # `_record_and_finish`, which records the outcome in the journal and, for a sync of this run, calls `_finish`; that
    # updates the state and reports the outcome.

    async def _finish_polled(self, job: SyncJob, status: SyncStatus | None, error: CodatError | None) -> None:
        outcome = SyncOutcome(
            request=job.request,
            handle=job.poller.handle,
            status=status,
            error=error,
            polls=job.poller.polls,
            elapsed=self._clock.time() - job.requested_at,
        )
        await self._record_and_finish(job, outcome)

    async def _record_and_finish(self, job: SyncJob, outcome: SyncOutcome) -> None:
        """Record the outcome in the journal and finish the job; one of an earlier run is not reported."""
        await self._journal.record_outcome(outcome, self._clock.now(), run=job.earlier_run, position=job.position)
        if not job.is_earlier:
            await self._finish(outcome)
            return
        was_running = self.state.finish_earlier(job.company_id)
        if was_running:
            self._context.release_polls()

    async def _finish(self, outcome: SyncOutcome) -> None:
        """Finish the job of the company, release the reservation of its polls, and report its outcome."""
        was_running = self.state.finish(outcome)
        if was_running:
            self._context.release_polls()
        if self.diagnoses is None or outcome.ok:
            await self._on_outcome(outcome)
        else:
            self.diagnoses.add(outcome, self._tasks)

    async def _emit_diagnosed(self, outcome: SyncOutcome) -> None:
        """Record the diagnosis in the journal, then report the outcome."""
        await self._record_diagnosis(outcome)
        await self._on_outcome(outcome)

    async def _record_diagnosis(self, outcome: SyncOutcome) -> None:
        """Record the diagnosis in the journal, which has the outcome already."""
        if outcome.diagnosis is not None:
            await self._journal.record_outcome(outcome, self._clock.now())

    def _on_already_finished(self, entry: JournalEntry) -> None:
        if self.diagnoses is not None:
            self.diagnoses.add_recorded(entry, self._tasks)

    def _pause_sending(self, error: QuotaExhaustedError) -> None:
        """Record that nothing is sent until the daily quota is reset."""
        pause = seconds_to_reset(error)
        self._paused_until = max(self._paused_until, self._clock.time() + pause)
        self._estimate.pause(self._clock.time(), pause)

    def _on_notification(self, company_id: str) -> None:
        running, starting = self.state.get_running(company_id), self.state.get_starting(company_id)
        if running is not None:
            self._scheduler.poll_now(running, self._clock.time())
            self._wake()
        elif starting is not None:
            starting.poll_soon = True

    def _on_pause(self, seconds: float, _reason: str, company_id: str | None) -> None:
        if company_id is None:
            self._estimate.pause(self._clock.time(), seconds)

    def _wake(self) -> None:
        self._wakeup.set()

    def _poll_cost(self) -> float:
        """Return the delay in seconds that a poll must save at present."""
        started = self.state.counts.started + self.state.counts.resumed
        if self.state.queue.is_exhausted or self._is_near_capacity():
            return poll_cost_when_idle(started)
        interval = self._context.rate_limiter.min_interval
        return poll_cost_while_starting(self._settings.objective, started, self.state.queue.left, interval)

    def _is_near_capacity(self) -> bool:
        """Return whether starts wait for running syncs to end rather than for requests."""
        max_running = self._settings.max_running
        return max_running is not None and self.state.active_count >= _CAPACITY_THRESHOLD * max_running


def _failed_outcome(job: SyncJob, error: CodatError, elapsed: float) -> SyncOutcome:
    """Return the outcome of a job that was not started, or may not have been."""
    handle = error.handle if isinstance(error, OutcomeUnknownError) else None
    return SyncOutcome(request=job.request, handle=handle, status=None, error=error, polls=0, elapsed=elapsed)


def _first_of(group: BaseExceptionGroup) -> BaseException:
    error = group.exceptions[0]
    return _first_of(error) if isinstance(error, BaseExceptionGroup) else error
