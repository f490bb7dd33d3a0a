"""A fan-out at work: choosing, again and again, what the next request is for, until everything has ended."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain
from typing import cast

from codat_commerce_async._core.log import logger_of
from codat_commerce_async.errors import CodatError, OutcomeUnknownError, QuotaExhaustedError
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.models.sync import SyncStatus
from codat_commerce_async.policies import CallOptions, PollOptions, RetryPolicy
from codat_commerce_async.syncing._calls import SyncContext
from codat_commerce_async.syncing._journal_claims import record_entry
from codat_commerce_async.syncing._poller import SyncPoller
from codat_commerce_async.syncing._queue import Companies, SyncJob, WorkQueue
from codat_commerce_async.syncing._scheduler import (
    Objective,
    PollScheduler,
    Schedulable,
    poll_cost_when_idle,
    poll_cost_while_starting,
)
from codat_commerce_async.syncing._start import start
from codat_commerce_async.syncing.journal import Journal
from codat_commerce_async.syncing.outcome import RunReport, SyncOutcome
from codat_commerce_async.syncing.request import SyncRequest

__all__ = ["SyncRunner"]

_logger = logger_of("sync")

# How many requests of a run are under way, or wait at the gate, at once. More would choose too early what comes next.
_MAX_TASKS = 32
# How many of them may be starts. One that has to be settled, or kept for tomorrow's quota, takes its time, and looks
# must go on meanwhile.
_MAX_START_TASKS = 24
# What is kept of the day's requests for every sync that runs, so that starts do not take its last looks.
_RESERVED_REQUESTS = 2
# How long nothing is sent when the day's quota is spent and nobody says until when.
_UNSAID_PAUSE = 60.0
# How long the server's clock is waited for before the first key is recorded.
_LEARNING = 15.0
# The share of the places that may be taken before they are what starts wait for.
_CAPACITY_THRESHOLD = 0.9


@dataclass(slots=True)
class _Counts:
    """What a run has come to so far, by the names of its report."""

    started: int = 0
    succeeded: int = 0
    failed: int = 0
    errors: int = 0
    resumed: int = 0
    adopted: int = 0
    polls: int = 0

    def end(self, outcome: SyncOutcome) -> None:
        """Count one outcome."""
        self.adopted += outcome.adopted
        if outcome.status is None:
            self.errors += 1
        elif outcome.status.failed:
            self.failed += 1
        else:
            self.succeeded += 1


class _Running(Schedulable):
    """A sync that is followed."""

    __slots__ = ("asked_at", "request", "watcher")

    def __init__(self, request: SyncRequest, watcher: SyncPoller, asked_at: float) -> None:
        self.request = request
        self.watcher = watcher
        self.asked_at = asked_at


class SyncRunner:
    """Starts what the input asks for, follows what runs, and tells of each outcome.

    `tell` is awaited with every outcome, after it was noted in the journal; while it waits, less goes on.
    """

    def __init__(
        self,
        context: SyncContext,
        companies: Companies,
        *,
        objective: Objective,
        timeout: float | None,
        gap: float,
        max_running: int | None,
        adopt: bool,
        options: PollOptions,
        tell: Callable[[SyncOutcome], Awaitable[None]],
    ) -> None:
        self.intake = WorkQueue(companies, self._active, self._wake)
        self.cadence: PollScheduler[_Running] = PollScheduler(min_interval=gap, random=context.random)
        self._context = context
        self._clock = context.clock
        self._objective: Objective = objective
        self._timeout = timeout
        self._most_running = max_running
        self._adopt = adopt
        self._options = options
        self._tell = tell
        self._journal: Journal | None = None
        self._running: dict[str, _Running] = {}
        self._starting: dict[str, SyncJob] = {}
        self._hinted_starts: set[str] = set()
        self._task_slots = asyncio.Semaphore(_MAX_TASKS)
        self._wakeup = asyncio.Event()
        self._learning = asyncio.Lock()
        self._knows_server_time = False
        self._stopped = False
        self._sends_from = 0.0
        self._counts = _Counts()

    async def run(self, journal: Journal | None) -> None:
        """Do all of it; what a journal tells of was done, or begun, before."""
        self._journal = journal
        self._context.notifier.subscribe(self._on_notification)
        try:
            async with self._context.lifecycle.scope():
                await self._resume()
                async with asyncio.TaskGroup() as tasks:
                    reader = tasks.create_task(self.intake.read(journal))
                    while (action := await self._next_action()) is not None:
                        tasks.create_task(self._run_action(action))
                    reader.cancel()
        except BaseExceptionGroup as group:
            raise _first_of(group) from None
        finally:
            self._context.notifier.unsubscribe(self._on_notification)
            self._context.rate_limiter.reserve(-_RESERVED_REQUESTS * len(self._running))

    def stop(self) -> None:
        """Begin nothing more; what is being asked for is seen through."""
        self._stopped = True
        self._wake()

    def report(self, elapsed: float) -> RunReport:
        """The counts at this moment."""
        return RunReport(
            **asdict(self._counts),
            running=len(self._running),
            duplicates=self.intake.duplicates,
            already_finished=self.intake.already_finished,
            elapsed=elapsed,
        )

    @property
    def running(self) -> tuple[SyncHandle, ...]:
        """What runs at Codat and has no outcome yet."""
        followed = [running.watcher.handle for running in self._running.values()]
        return (*followed, *(ask.handle for ask in self._not_followed() if ask.handle is not None))

    @property
    def unconfirmed(self) -> tuple[tuple[str, str], ...]:
        """What was being asked for, as far as it is not known to run: company ids and idempotency keys."""
        asks = [ask for ask in self._not_followed() if ask.handle is None]
        return tuple((ask.request.company_id, ask.key) for ask in asks if ask.key is not None)

    def _not_followed(self) -> Iterator[SyncJob]:
        """What is being started, and what an earlier try or process has left to be."""
        return chain(self._starting.values(), self.intake.waiting)

    def seconds_left(self, report: RunReport) -> float | None:
        """How long it may take until everything has ended; None while there is no telling."""
        left = self.intake.left
        if left is None:
            return None
        looks = report.polls / report.completed if report.completed else 2.0
        requests = left * (1 + looks) + report.running * looks
        last = self.cadence.durations.seconds_left(0.0, 0.5 / left) if left else 0.0
        starting = left * (1 + looks) * self._context.rate_limiter.min_interval
        return max(
            requests * self._context.rate_limiter.min_interval,
            starting + last,
            self.cadence.seconds_left(self._clock.time()),
        )

    async def _next_action(self) -> Callable[[], Awaitable[None]] | None:
        """What to do next, once a hand is free for it; None when nothing is left to do."""
        await self._task_slots.acquire()
        while not self._stopped:
            self._wakeup.clear()
            now = self._clock.time()
            if now >= self._sends_from:
                self.cadence.set_poll_cost(self._poll_cost(), now)
                running = self.cadence.pop_due(now)
                if running is not None:
                    return partial(self._poll, running)
                if self.intake.has_next and self._may_start():
                    ask = self.intake.take()
                    self._starting[ask.request.company_id] = ask
                    return partial(self._start, ask)
            if self.intake.is_done and not (self._running or self._starting):
                return None
            await self._wait_for_work(self._sends_from if now < self._sends_from else self.cadence.next_time())
        return None

    async def _wait_for_work(self, until: float) -> None:
        """Wait until then, or until something changed."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(None if math.isinf(until) else until):
                await self._wakeup.wait()

    async def _run_action(self, action: Callable[[], Awaitable[None]]) -> None:
        try:
            await action()
        finally:
            self._task_slots.release()
            self._wake()

    def _may_start(self) -> bool:
        if len(self._starting) >= _MAX_START_TASKS:
            return False
        return self._most_running is None or len(self._running) + len(self._starting) < self._most_running

    async def _resume(self) -> None:
        """Take up what the journal says was under way, and learn from what had ended."""
        if self._journal is None:
            return
        for seconds in await self._journal.durations():
            self.cadence.durations.observe_duration(seconds)
        async for entries in self._journal.unfinished():
            for entry in entries:
                self.intake.resume(entry)

    async def _start(self, ask: SyncJob) -> None:
        request, began = ask.request, self._clock.time()
        if ask.flaw is not None:
            # A company like any other that cannot be synced, and no reason to stop with the others.
            await self._emit(_failed_outcome(request, CodatError(ask.flaw), 0.0))
            return
        if ask.handle is not None:
            self._counts.resumed += 1
            age = max(0.0, self._clock.now() - ask.first_asked) if ask.first_asked is not None else 0.0
            self._track(request, ask.handle, began - age, age)
            return
        try:
            handle = await self._send_start(ask)
        except Exception as error:  # noqa: BLE001 - whatever one company causes is that company's outcome
            await self._start_failed(request, _as_codat_error(request, error), began)
        else:
            self._counts.started += 1
            # Noted or not, it runs.
            self._track(request, handle, began, 0.0)
            await self._note_running(request, handle)

    async def _send_start(self, ask: SyncJob) -> SyncHandle:
        options = cast("CallOptions", self._options.copy())
        if ask.key is not None:
            options["idempotency_key"] = ask.key
        persist_key = partial(self._persist_key, ask.request)
        return await start(
            self._context,
            ask.request,
            options,
            persist_key=persist_key,
            first_sent_at=ask.first_asked,
            server_offset=ask.server_offset,
            adopt=self._adopt,
            recall=partial(self._recall, ask.request),
        )

    async def _persist_key(self, request: SyncRequest, key: str) -> None:
        await self._learn_server_time(request.company_id)
        now, offset = self._clock.now(), self._clock.server_offset
        self._starting[request.company_id] = SyncJob(request, key, now, server_offset=offset)
        if self._journal is not None:
            await self._journal.record_start(request, key, now, offset)

    async def _learn_server_time(self, company_id: str) -> None:
        """Poll once before the first key is recorded, so that its age can be told even if the local clock is set."""
        if self._journal is None or self._clock.server_offset is not None or self._knows_server_time:
            return
        async with self._learning:
            if self._knows_server_time:
                return
            with suppress(CodatError):
                await self._context.calls.get_status(company_id, retry=RetryPolicy.none(), timeout=_LEARNING)
            # Only now: whoever comes meanwhile has to wait for it too.
            self._knows_server_time = True

    async def _recall(self, request: SyncRequest) -> None:
        """Learn from the journal which of the company's syncs belong to other requests."""
        if self._journal is not None:
            for entry in await self._journal.of_company(request.company_id):
                if entry.request != request:
                    record_entry(self._context, entry)

    async def _note_running(self, request: SyncRequest, handle: SyncHandle) -> None:
        if self._journal is not None:
            await self._journal.record_running(request, handle)

    async def _start_failed(self, request: SyncRequest, error: CodatError, began: float) -> None:
        cause = _raise_if_fatal(error)
        if isinstance(cause, QuotaExhaustedError):
            self._pause_sending(cause)
            ask = self._starting.pop(request.company_id)
            # What was refused for the quota was not done, unless it had been sent before.
            self.intake.requeue(self._with_server_time(ask) if cause is not error else SyncJob(request))
            return
        await self._record_and_emit(_failed_outcome(request, error, self._clock.time() - began))

    def _with_server_time(self, ask: SyncJob) -> SyncJob:
        """What was sent by this process, with the server's time of it even if that was learned only since."""
        return ask if ask.server_offset is not None else replace(ask, server_offset=self._clock.server_offset)

    def _track(self, request: SyncRequest, handle: SyncHandle, asked_at: float, age: float) -> None:
        """Follow a sync from here on; what was asked for before a restart has run for some time, its `age`."""
        now = self._clock.time()
        running = _Running(
            request, SyncPoller(self._context, handle, self._timeout, self._options, adopt=self._adopt), asked_at
        )
        self._running[request.company_id] = running
        del self._starting[request.company_id]
        self._context.rate_limiter.reserve(_RESERVED_REQUESTS)
        deadline = math.inf if self._timeout is None else now + self._timeout
        self.cadence.add(running, now - age, now, deadline=deadline)
        if request.company_id in self._hinted_starts:
            self._hinted_starts.remove(request.company_id)
            self.cadence.poll_now(running, now)
        self._wake()

    async def _poll(self, running: _Running) -> None:
        watcher = running.watcher
        known_as = watcher.handle.sync_id
        self._counts.polls += 1
        try:
            status = await watcher.poll()
            if status is None or not status.is_terminal:
                watcher.check_deadline()
        except QuotaExhaustedError as error:
            self._pause_sending(error)
            self.cadence.defer(running, self._clock.time(), not_before=self._sends_from)
        except Exception as error:  # noqa: BLE001 - whatever one company causes is that company's outcome
            failure = _as_codat_error(running.request, error)
            _raise_if_fatal(failure)
            await self._end_running(running, None, failure)
        else:
            if status is not None and status.is_terminal:
                await self._end_running(running, status, None)
                return
            self._reschedule(running, status)
            if watcher.handle.sync_id != known_as:
                await self._note_running(running.request, watcher.handle)

    def _reschedule(self, running: _Running, status: SyncStatus | None) -> None:
        now, not_before = self._clock.time(), running.watcher.not_before
        if status is None:
            self.cadence.defer(running, now, not_before=not_before)
        else:
            self.cadence.still_running(running, now, not_before=not_before)

    async def _end_running(self, running: _Running, status: SyncStatus | None, error: CodatError | None) -> None:
        now = self._clock.time()
        if status is not None:
            self.cadence.ended(running, now)
        else:
            self.cadence.forget(running)
        outcome = SyncOutcome(
            request=running.request,
            handle=running.watcher.handle,
            status=status,
            error=error,
            polls=running.watcher.polls,
            elapsed=now - running.asked_at,
        )
        await self._record_and_emit(outcome)

    async def _record_and_emit(self, outcome: SyncOutcome) -> None:
        """Note an outcome, and hand it over; until it is noted it has none."""
        if self._journal is not None:
            await self._journal.record_outcome(outcome, self._clock.now())
        await self._emit(outcome)

    async def _emit(self, outcome: SyncOutcome) -> None:
        company_id = outcome.company_id
        self._starting.pop(company_id, None)
        self._hinted_starts.discard(company_id)
        if self._running.pop(company_id, None) is not None:
            self._context.rate_limiter.reserve(-_RESERVED_REQUESTS)
        self.intake.release(company_id)
        self._counts.end(outcome)
        await self._tell(outcome)

    def _pause_sending(self, error: QuotaExhaustedError) -> None:
        """Send nothing until there are new requests for the day; nothing is lost by it."""
        self._sends_from = max(self._sends_from, self._clock.time() + (error.retry_after or _UNSAID_PAUSE))

    def _on_notification(self, company_id: str) -> None:
        running = self._running.get(company_id)
        if running is not None:
            self.cadence.poll_now(running, self._clock.time())
            self._wake()
        elif company_id in self._starting:
            self._hinted_starts.add(company_id)

    def _active(self, company_id: str) -> SyncRequest | None:
        """What of the company is being asked for, or running."""
        if company_id in self._starting:
            return self._starting[company_id].request
        running = self._running.get(company_id)
        return running.request if running is not None else None

    def _wake(self) -> None:
        self._wakeup.set()

    def _poll_cost(self) -> float:
        """What a look has to be worth now, in seconds of delay."""
        started = self._counts.started + self._counts.resumed
        if self.intake.is_exhausted or self._is_near_capacity():
            return poll_cost_when_idle(started)
        return poll_cost_while_starting(
            self._objective, started, self.intake.left, self._context.rate_limiter.min_interval
        )

    def _is_near_capacity(self) -> bool:
        """Whether starts wait for places rather than for requests."""
        if self._most_running is None:
            return False
        return len(self._running) + len(self._starting) >= _CAPACITY_THRESHOLD * self._most_running


def _failed_outcome(request: SyncRequest, error: CodatError, elapsed: float) -> SyncOutcome:
    """The outcome of a company that was not started, or not for sure."""
    handle = error.handle if isinstance(error, OutcomeUnknownError) else None
    return SyncOutcome(request=request, handle=handle, status=None, error=error, polls=0, elapsed=elapsed)


def _as_codat_error(request: SyncRequest, error: Exception) -> CodatError:
    """Return the error, or a CodatError caused by it if it is of any other type."""
    if isinstance(error, CodatError):
        return error
    known = {"company_id": request.company_id}
    _logger.error("unexpected error for company %s", request.company_id, exc_info=error, extra=known)
    unexpected = CodatError(f"unexpected {type(error).__name__}: {error}")
    unexpected.__cause__ = error
    return unexpected


def _raise_if_fatal(error: CodatError) -> BaseException | None:
    """Return what caused the error, itself as a rule; raise that if it ends the run."""
    cause = error.__cause__ if isinstance(error, OutcomeUnknownError) else error
    if isinstance(cause, CodatError) and cause.fatal_for_run:
        raise cause
    return cause


def _first_of(group: BaseExceptionGroup) -> BaseException:
    error = group.exceptions[0]
    return _first_of(error) if isinstance(error, BaseExceptionGroup) else error
