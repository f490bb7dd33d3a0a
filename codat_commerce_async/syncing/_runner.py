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
from codat_commerce_async.policies import CallOptions, LookOptions, RetryPolicy
from codat_commerce_async.syncing._calls import SyncApi
from codat_commerce_async.syncing._scheduler import Cadence
from codat_commerce_async.syncing._queue import Ask, Companies, Intake
from codat_commerce_async.syncing.journal import Journal
from codat_commerce_async.syncing.outcome import RunReport, SyncOutcome
from codat_commerce_async.syncing._poll_cost import Order, price_beside_starts, price_without_starts
from codat_commerce_async.syncing._journal_claims import record_entry
from codat_commerce_async.syncing.request import SyncRequest
from codat_commerce_async.syncing._start import start
from codat_commerce_async.syncing._poller import Watcher

__all__ = ["Conductor"]

_logger = logger_of("sync")

# How many requests of a run are under way, or wait at the gate, at once. More would choose too early what comes next.
_HANDS = 32
# How many of them may be starts. One that has to be settled, or kept for tomorrow's quota, takes its time, and looks
# must go on meanwhile.
_STARTING_HANDS = 24
# What is kept of the day's requests for every sync that runs, so that starts do not take its last looks.
_RESERVED = 2
# How long nothing is sent when the day's quota is spent and nobody says until when.
_UNSAID_PAUSE = 60.0
# How long the server's clock is waited for before the first key is recorded.
_LEARNING = 15.0
# The share of the places that may be taken before they are what starts wait for.
_CROWDED = 0.9


@dataclass(slots=True)
class _Counts:
    """What a run has come to so far, by the names of its report."""

    started: int = 0
    succeeded: int = 0
    failed: int = 0
    errors: int = 0
    resumed: int = 0
    adopted: int = 0
    looks: int = 0

    def end(self, outcome: SyncOutcome) -> None:
        """Count one outcome."""
        self.adopted += outcome.adopted
        if outcome.status is None:
            self.errors += 1
        elif outcome.status.failed:
            self.failed += 1
        else:
            self.succeeded += 1


class _Running:
    """A sync that is followed."""

    __slots__ = ("asked_at", "request", "watcher")

    def __init__(self, request: SyncRequest, watcher: Watcher, asked_at: float) -> None:
        self.request = request
        self.watcher = watcher
        self.asked_at = asked_at


class Conductor:
    """Starts what the input asks for, follows what runs, and tells of each outcome.

    `tell` is awaited with every outcome, after it was noted in the journal; while it waits, less goes on.
    """

    def __init__(
        self,
        api: SyncApi,
        companies: Companies,
        *,
        order: Order,
        timeout: float | None,
        gap: float,
        most_running: int | None,
        adopt: bool,
        options: LookOptions,
        tell: Callable[[SyncOutcome], Awaitable[None]],
    ) -> None:
        self.intake = Intake(companies, self._active, self._ring)
        self.cadence: Cadence[_Running] = Cadence(gap=gap, random=api.random)
        self._api = api
        self._order: Order = order
        self._timeout = timeout
        self._most_running = most_running
        self._adopt = adopt
        self._options = options
        self._tell = tell
        self._journal: Journal | None = None
        self._running: dict[str, _Running] = {}
        self._starting: dict[str, Ask] = {}
        self._hinted_starts: set[str] = set()
        self._hands = asyncio.Semaphore(_HANDS)
        self._bell = asyncio.Event()
        self._learning = asyncio.Lock()
        self._knows_server_time = False
        self._stopped = False
        self._sends_from = 0.0
        self._counts = _Counts()

    async def run(self, journal: Journal | None) -> None:
        """Do all of it; what a journal tells of was done, or begun, before."""
        self._journal = journal
        self._api.follow_hints(self._hinted)
        try:
            async with self._api.while_open():
                await self._resume()
                async with asyncio.TaskGroup() as tasks:
                    reader = tasks.create_task(self.intake.read(journal))
                    while (action := await self._next_action()) is not None:
                        tasks.create_task(self._carry_out(action))
                    reader.cancel()
        except BaseExceptionGroup as group:
            raise _first_of(group) from None
        finally:
            self._api.unfollow_hints(self._hinted)
            self._api.reserve(-_RESERVED * len(self._running))

    def stop(self) -> None:
        """Begin nothing more; what is being asked for is seen through."""
        self._stopped = True
        self._ring()

    def report(self, elapsed: float) -> RunReport:
        """The counts at this moment."""
        return RunReport(
            **asdict(self._counts),
            running=len(self._running),
            duplicates=self.intake.duplicates,
            finished_before=self.intake.finished_before,
            elapsed=elapsed,
        )

    @property
    def running(self) -> tuple[SyncHandle, ...]:
        """What runs at Codat and has no outcome yet."""
        followed = [running.watcher.handle for running in self._running.values()]
        return (*followed, *(ask.handle for ask in self._not_followed() if ask.handle is not None))

    @property
    def unsettled(self) -> tuple[tuple[str, str], ...]:
        """What was being asked for, as far as it is not known to run: company ids and idempotency keys."""
        asks = [ask for ask in self._not_followed() if ask.handle is None]
        return tuple((ask.request.company_id, ask.key) for ask in asks if ask.key is not None)

    def _not_followed(self) -> Iterator[Ask]:
        """What is being started, and what an earlier try or process has left to be."""
        return chain(self._starting.values(), self.intake.waiting)

    def seconds_left(self, report: RunReport) -> float | None:
        """How long it may take until everything has ended; None while there is no telling."""
        left = self.intake.left
        if left is None:
            return None
        looks = report.looks / report.ended if report.ended else 2.0
        requests = left * (1 + looks) + report.running * looks
        last = self.cadence.durations.seconds_left(0.0, 0.5 / left) if left else 0.0
        starting = left * (1 + looks) * self._api.spacing
        return max(requests * self._api.spacing, starting + last, self.cadence.seconds_left(self._api.time()))

    async def _next_action(self) -> Callable[[], Awaitable[None]] | None:
        """What to do next, once a hand is free for it; None when nothing is left to do."""
        await self._hands.acquire()
        while not self._stopped:
            self._bell.clear()
            now = self._api.time()
            if now >= self._sends_from:
                self.cadence.set_price(self._price(), now)
                running = self.cadence.take_due(now)
                if running is not None:
                    return partial(self._look, running)
                if self.intake.has_next and self._may_start():
                    ask = self.intake.take()
                    self._starting[ask.request.company_id] = ask
                    return partial(self._start, ask)
            if self.intake.is_done and not (self._running or self._starting):
                return None
            await self._rest(self._sends_from if now < self._sends_from else self.cadence.next_time())
        return None

    async def _rest(self, until: float) -> None:
        """Wait until then, or until something changed."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(None if math.isinf(until) else until):
                await self._bell.wait()

    async def _carry_out(self, action: Callable[[], Awaitable[None]]) -> None:
        try:
            await action()
        finally:
            self._hands.release()
            self._ring()

    def _may_start(self) -> bool:
        if len(self._starting) >= _STARTING_HANDS:
            return False
        return self._most_running is None or len(self._running) + len(self._starting) < self._most_running

    async def _resume(self) -> None:
        """Take up what the journal says was under way, and learn from what had ended."""
        if self._journal is None:
            return
        for seconds in await self._journal.durations():
            self.cadence.durations.took(seconds)
        async for entries in self._journal.unfinished():
            for entry in entries:
                self.intake.resume(entry)

    async def _start(self, ask: Ask) -> None:
        request, began = ask.request, self._api.time()
        if ask.flaw is not None:
            # A company like any other that cannot be synced, and no reason to stop with the others.
            await self._conclude(_not_begun(request, CodatError(ask.flaw), 0.0))
            return
        if ask.handle is not None:
            self._counts.resumed += 1
            age = max(0.0, self._api.now() - ask.first_asked) if ask.first_asked is not None else 0.0
            self._follow(request, ask.handle, began - age, age)
            return
        try:
            handle = await self._started(ask)
        except Exception as error:  # noqa: BLE001 - whatever one company causes is that company's outcome
            await self._not_started(request, _as_codat_error(request, error), began)
        else:
            self._counts.started += 1
            # Noted or not, it runs.
            self._follow(request, handle, began, 0.0)
            await self._note_running(request, handle)

    async def _started(self, ask: Ask) -> SyncHandle:
        options = cast("CallOptions", self._options.copy())
        if ask.key is not None:
            options["idempotency_key"] = ask.key
        note_key = partial(self._note_key, ask.request)
        return await start(
            self._api,
            ask.request,
            options,
            note_key=note_key,
            first_asked=ask.first_asked,
            server_offset=ask.server_offset,
            adopt=self._adopt,
            recall=partial(self._recall, ask.request),
        )

    async def _note_key(self, request: SyncRequest, key: str) -> None:
        await self._learn_server_time(request.company_id)
        now, offset = self._api.now(), self._api.server_offset
        self._starting[request.company_id] = Ask(request, key, now, server_offset=offset)
        if self._journal is not None:
            await self._journal.asking(request, key, now, offset)

    async def _learn_server_time(self, company_id: str) -> None:
        """Poll once before the first key is recorded, so that its age can be told even if the local clock is set."""
        if self._journal is None or self._api.server_offset is not None or self._knows_server_time:
            return
        async with self._learning:
            if self._knows_server_time:
                return
            with suppress(CodatError):
                await self._api.look_at_newest(company_id, CallOptions(retry=RetryPolicy.none(), timeout=_LEARNING))
            # Only now: whoever comes meanwhile has to wait for it too.
            self._knows_server_time = True

    async def _recall(self, request: SyncRequest) -> None:
        """Learn from the journal which of the company's syncs belong to other requests."""
        if self._journal is not None:
            for entry in await self._journal.of_company(request.company_id):
                if entry.request != request:
                    record_entry(self._api, entry)

    async def _note_running(self, request: SyncRequest, handle: SyncHandle) -> None:
        if self._journal is not None:
            await self._journal.running(request, handle)

    async def _not_started(self, request: SyncRequest, error: CodatError, began: float) -> None:
        cause = _raise_if_fatal(error)
        if isinstance(cause, QuotaExhaustedError):
            self._hold_back(cause)
            ask = self._starting.pop(request.company_id)
            # What was refused for the quota was not done, unless it had been sent before.
            self.intake.put_back(self._with_server_time(ask) if cause is not error else Ask(request))
            return
        await self._end(_not_begun(request, error, self._api.time() - began))

    def _with_server_time(self, ask: Ask) -> Ask:
        """What was sent by this process, with the server's time of it even if that was learned only since."""
        return ask if ask.server_offset is not None else replace(ask, server_offset=self._api.server_offset)

    def _follow(self, request: SyncRequest, handle: SyncHandle, asked_at: float, age: float) -> None:
        """Follow a sync from here on; what was asked for before a restart has run for some time, its `age`."""
        now = self._api.time()
        running = _Running(
            request, Watcher(self._api, handle, self._timeout, self._options, adopt=self._adopt), asked_at
        )
        self._running[request.company_id] = running
        del self._starting[request.company_id]
        self._api.reserve(_RESERVED)
        deadline = math.inf if self._timeout is None else now + self._timeout
        self.cadence.add(running, now - age, now, deadline=deadline)
        if request.company_id in self._hinted_starts:
            self._hinted_starts.remove(request.company_id)
            self.cadence.hint(running, now)
        self._ring()

    async def _look(self, running: _Running) -> None:
        watcher = running.watcher
        known_as = watcher.handle.sync_id
        self._counts.looks += 1
        try:
            status = await watcher.look()
            if status is None or not status.is_terminal:
                watcher.check_time()
        except QuotaExhaustedError as error:
            self._hold_back(error)
            self.cadence.unseen(running, self._api.time(), not_before=self._sends_from)
        except Exception as error:  # noqa: BLE001 - whatever one company causes is that company's outcome
            failure = _as_codat_error(running.request, error)
            _raise_if_fatal(failure)
            await self._end_running(running, None, failure)
        else:
            if status is not None and status.is_terminal:
                await self._end_running(running, status, None)
                return
            self._note_look(running, status)
            if watcher.handle.sync_id != known_as:
                await self._note_running(running.request, watcher.handle)

    def _note_look(self, running: _Running, status: SyncStatus | None) -> None:
        now, not_before = self._api.time(), running.watcher.not_before
        if status is None:
            self.cadence.unseen(running, now, not_before=not_before)
        else:
            self.cadence.still_running(running, now, not_before=not_before)

    async def _end_running(self, running: _Running, status: SyncStatus | None, error: CodatError | None) -> None:
        now = self._api.time()
        if status is not None:
            self.cadence.ended(running, now)
        else:
            self.cadence.forget(running)
        outcome = SyncOutcome(
            request=running.request,
            handle=running.watcher.handle,
            status=status,
            error=error,
            looks=running.watcher.looks,
            elapsed=now - running.asked_at,
        )
        await self._end(outcome)

    async def _end(self, outcome: SyncOutcome) -> None:
        """Note an outcome, and hand it over; until it is noted it has none."""
        if self._journal is not None:
            await self._journal.ended(outcome, self._api.now())
        await self._conclude(outcome)

    async def _conclude(self, outcome: SyncOutcome) -> None:
        company_id = outcome.company_id
        self._starting.pop(company_id, None)
        self._hinted_starts.discard(company_id)
        if self._running.pop(company_id, None) is not None:
            self._api.reserve(-_RESERVED)
        self.intake.release(company_id)
        self._counts.end(outcome)
        await self._tell(outcome)

    def _hold_back(self, error: QuotaExhaustedError) -> None:
        """Send nothing until there are new requests for the day; nothing is lost by it."""
        self._sends_from = max(self._sends_from, self._api.time() + (error.retry_after or _UNSAID_PAUSE))

    def _hinted(self, company_id: str) -> None:
        running = self._running.get(company_id)
        if running is not None:
            self.cadence.hint(running, self._api.time())
            self._ring()
        elif company_id in self._starting:
            self._hinted_starts.add(company_id)

    def _active(self, company_id: str) -> SyncRequest | None:
        """What of the company is being asked for, or running."""
        if company_id in self._starting:
            return self._starting[company_id].request
        running = self._running.get(company_id)
        return running.request if running is not None else None

    def _ring(self) -> None:
        self._bell.set()

    def _price(self) -> float:
        """What a look has to be worth now, in seconds of delay."""
        started = self._counts.started + self._counts.resumed
        if self.intake.is_read or self._is_crowded():
            return price_without_starts(started)
        return price_beside_starts(self._order, started, self.intake.left, self._api.spacing)

    def _is_crowded(self) -> bool:
        """Whether starts wait for places rather than for requests."""
        if self._most_running is None:
            return False
        return len(self._running) + len(self._starting) >= _CROWDED * self._most_running


def _not_begun(request: SyncRequest, error: CodatError, elapsed: float) -> SyncOutcome:
    """The outcome of a company that was not started, or not for sure."""
    handle = error.handle if isinstance(error, OutcomeUnknownError) else None
    return SyncOutcome(request=request, handle=handle, status=None, error=error, looks=0, elapsed=elapsed)


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
