"""Many syncs at once: each started once, all followed by one rule, every outcome given as it comes."""

import asyncio
import logging
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sized
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from codat_commerce_async.errors import (
    AuthenticationError,
    ClientClosedError,
    CodatError,
    QuotaExhaustedError,
)
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.models.sync import SyncStatus
from codat_commerce_async.policies import CallOptions, LookOptions, PollPolicy
from codat_commerce_async.syncing.api import SyncApi
from codat_commerce_async.syncing.cadence import Cadence
from codat_commerce_async.syncing.journal import Entry, Journal
from codat_commerce_async.syncing.outcome import RunProgress, RunReport, StopWhen, SyncOutcome
from codat_commerce_async.syncing.request import SyncRequest
from codat_commerce_async.syncing.starting import start
from codat_commerce_async.syncing.waiting import Watcher

__all__ = ["Companies", "Order", "SyncRun"]

_logger = logging.getLogger("codat_commerce_async")

Companies = Iterable[str | SyncRequest] | AsyncIterable[str | SyncRequest]
Order = Literal["latency", "makespan"]

# What a look has to be worth while companies are yet to start, as a share of the time that their starts take at least:
# putting all of them off by one request's turn costs as many seconds as there are starts left, divided by the rate.
_SHARE_OF_STARTS: dict[Order, float] = {"latency": 0.03, "makespan": 0.15}
# A look that would shorten the mean delay of the run by less than this many seconds is not made at all.
_LEAST_GAIN = 2e-4
# How many requests of a run are under way, or wait at the gate, at once. More would choose too early what comes next.
_HANDS = 32
# How many outcomes may wait to be taken before the run does.
_UNTAKEN = 1000


class _Running:
    """A sync that is followed."""

    __slots__ = ("asked_at", "request", "watcher")

    def __init__(self, request: SyncRequest, watcher: Watcher, asked_at: float) -> None:
        self.request = request
        self.watcher = watcher
        self.asked_at = asked_at


class SyncRun:
    """A fan-out of syncs, to be used with `async with`; iterate over it for the outcomes, as they come.

    Leaving the block early stops it: what runs at Codat goes on, and stands in `running`; what was being asked for
    stands in `unsettled`, by company and idempotency key. With a journal, the same call continues from there.
    """

    def __init__(
        self,
        api: SyncApi,
        companies: Companies,
        *,
        order: Order,
        journal: str | Path | None,
        timeout: float | None,
        poll: PollPolicy,
        most_running: int | None,
        stop_when: StopWhen | None,
        on_progress: Callable[[RunProgress], None] | None,
        options: LookOptions,
    ) -> None:
        if order not in _SHARE_OF_STARTS:
            raise ValueError("order takes 'latency' or 'makespan'")
        if isinstance(companies, str | bytes):
            raise TypeError("companies takes several company ids, not one string")
        if most_running is not None and most_running < 1:
            raise ValueError("most_running takes a whole number of at least 1, or None for no bound")
        self._api = api
        self._companies = companies
        self._total = len(companies) if isinstance(companies, Sized) else None
        self._share = _SHARE_OF_STARTS[order]
        self._journal_path = journal
        self._journal: Journal | None = None
        self._timeout = timeout
        self._most_running = most_running
        self._stop_when = stop_when
        self._on_progress = on_progress
        self._options = options
        self._cadence: Cadence[_Running] = Cadence(gap=poll.interval, random=api.random)
        self._outcomes: asyncio.Queue[SyncOutcome | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(_UNTAKEN)
        self._by_company: dict[str, _Running] = {}
        self._starting: dict[str, tuple[SyncRequest, str | None]] = {}
        self._held: dict[str, list[SyncRequest]] = {}
        self._upcoming: list[tuple[SyncRequest, Entry | None]] = []
        self._taken = asyncio.Event()
        self._bell = asyncio.Event()
        self._hands = asyncio.Semaphore(_HANDS)
        self._busy = 0
        self._fed = False
        self._stopped = False
        self._resume_at = 0.0
        self._counts = dict.fromkeys(_COUNTED, 0)
        self._began = 0.0
        self._conductor: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._conductor is not None:
            raise RuntimeError("a run is used once; make a new one")
        self._began = self._api.time()
        if self._journal_path is not None:
            self._journal = await Journal.open(self._journal_path)
        self._conductor = asyncio.create_task(self._conduct(), name="codat-sync-run")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        conductor = self._conductor
        assert conductor is not None  # noqa: S101 - it was entered
        conductor.cancel()
        with suppress(asyncio.CancelledError, CodatError):
            await conductor
        self._api.unfollow_hints(self._hinted)
        if self._journal is not None:
            await self._journal.close()

    def __aiter__(self) -> AsyncIterator[SyncOutcome]:
        return self

    async def __anext__(self) -> SyncOutcome:
        if self._conductor is None:
            raise RuntimeError("a run is used with `async with`")
        outcome = await self._outcomes.get()
        if outcome is not None:
            self._room.release()
            return outcome
        self._outcomes.put_nowait(None)
        await self._conductor
        raise StopAsyncIteration

    async def results(self) -> list[SyncOutcome]:
        """All outcomes that are still to come, in the order in which they came."""
        return [outcome async for outcome in self]

    @property
    def report(self) -> RunReport:
        """The counts at this moment."""
        elapsed = self._api.time() - self._began
        return RunReport(**self._counts, running=len(self._by_company), elapsed=elapsed)

    @property
    def progress(self) -> RunProgress:
        """The counts at this moment, how fast it goes, and how long it may still take."""
        report = self.report
        minutes = report.elapsed / 60
        return RunProgress(
            report=report,
            total=self._total,
            per_minute=report.ended / minutes if minutes > 0 else 0.0,
            seconds_left=self._seconds_left(report),
        )

    @property
    def running(self) -> tuple[SyncHandle, ...]:
        """What runs at Codat and has no outcome yet."""
        return tuple(running.watcher.handle for running in self._by_company.values())

    @property
    def unsettled(self) -> tuple[tuple[str, str], ...]:
        """What was being asked for, as far as it is not known to run: company ids and idempotency keys."""
        return tuple((company, key) for company, (_, key) in self._starting.items() if key is not None)

    def stop(self) -> None:
        """Begin nothing more, and end the iteration; what runs at Codat stands in `running`."""
        self._stopped = True
        self._bell.set()

    async def _conduct(self) -> None:
        """Choose, again and again, what the next request is for, until everything has ended."""
        try:
            await self._resume()
            self._api.follow_hints(self._hinted)
            async with asyncio.TaskGroup() as tasks:
                feeder = tasks.create_task(self._feed())
                while (action := await self._next_action()) is not None:
                    tasks.create_task(self._carry_out(action))
                feeder.cancel()
        except BaseExceptionGroup as group:
            raise _first_of(group) from None
        finally:
            self._outcomes.put_nowait(None)

    async def _next_action(self) -> Callable[[], Awaitable[None]] | None:
        """What to do next, once a hand is free for it; None when nothing is left to do."""
        await self._hands.acquire()
        while not self._stopped:
            self._bell.clear()
            now = self._api.time()
            if now >= self._resume_at:
                self._cadence.set_price(self._price())
                running = self._cadence.take_due(now)
                if running is not None:
                    return partial(self._look, running)
                if self._upcoming and self._may_start():
                    request, entry = self._upcoming.pop(0)
                    self._taken.set()
                    self._starting[request.company_id] = (request, entry.idempotency_key if entry else None)
                    return partial(self._start, request, entry)
            if self._fed and not self._upcoming and not self._held and not self._by_company and not self._busy:
                return None
            await self._rest(max(self._resume_at, self._cadence.next_time()))
        return None

    async def _rest(self, until: float) -> None:
        """Wait until then, or until something changed."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until if until < _FOREVER else None):
                await self._bell.wait()

    async def _carry_out(self, action: Callable[[], Awaitable[None]]) -> None:
        self._busy += 1
        try:
            await action()
        finally:
            self._busy -= 1
            self._hands.release()
            self._bell.set()

    async def _feed(self) -> None:
        """Take companies from the input, one ahead of need."""
        async for request in _requests(self._companies):
            entry = await self._journal.find(request) if self._journal is not None else None
            if entry is not None and entry.is_finished:
                self._counts["finished_before"] += 1
            elif entry is None or self._active(request.company_id) != request:
                await self._offer(request, entry)
        self._fed = True
        self._bell.set()

    async def _offer(self, request: SyncRequest, entry: Entry | None) -> None:
        active = self._active(request.company_id)
        if active == request:
            self._counts["duplicates"] += 1
            _logger.warning("company %s was given twice; it is synced once", request.company_id)
        elif active is not None:
            # One sync of a company at a time: Codat refuses overlapping periods.
            self._held.setdefault(request.company_id, []).append(request)
        else:
            while self._upcoming and not self._stopped:
                self._taken.clear()
                await self._taken.wait()
            self._upcoming.append((request, entry))
            self._bell.set()

    def _active(self, company_id: str) -> SyncRequest | None:
        """What of the company is being asked for, or running, or next."""
        if company_id in self._starting:
            return self._starting[company_id][0]
        running = self._by_company.get(company_id)
        if running is not None:
            return running.request
        return next((request for request, _ in self._upcoming if request.company_id == company_id), None)

    def _may_start(self) -> bool:
        return self._most_running is None or len(self._by_company) + len(self._starting) < self._most_running

    async def _resume(self) -> None:
        """Take up what the journal says was running, and learn from what had ended."""
        if self._journal is None:
            return
        durations = self._cadence.durations()
        for seconds in await self._journal.durations():
            durations.ended(0.0, seconds)
        for entry in await self._journal.unfinished():
            if entry.handle is not None:
                self._follow(entry.request, entry.handle, entry.asked_at)
            else:
                self._upcoming.append((entry.request, entry))
            self._counts["resumed"] += 1

    async def _start(self, request: SyncRequest, entry: Entry | None) -> None:
        if entry is not None and entry.handle is not None:
            self._starting.pop(request.company_id, None)
            self._follow(request, entry.handle, entry.asked_at)
            return
        options = CallOptions(background=self._options.get("background", False))
        asked_at = None
        if entry is not None and entry.idempotency_key is not None and _may_have_happened(entry):
            options["idempotency_key"] = entry.idempotency_key
            asked_at = entry.asked_at
        began = self._api.time()
        try:
            handle = await start(
                self._api, request, options, note_key=partial(self._note_key, request), first_asked=asked_at
            )
        except QuotaExhaustedError as error:
            self._hold_back(error)
            self._upcoming.insert(0, (request, entry))
            self._starting.pop(request.company_id, None)
        except (ClientClosedError, AuthenticationError):
            raise
        except CodatError as error:
            self._starting.pop(request.company_id, None)
            await self._end(_failed(request, None, error, 0, self._api.time() - began))
        else:
            self._counts["started"] += 1
            if self._journal is not None:
                await self._journal.running(request, handle)
            self._starting.pop(request.company_id, None)
            self._follow(request, handle, None)

    async def _note_key(self, request: SyncRequest, key: str) -> None:
        self._starting[request.company_id] = (request, key)
        if self._journal is not None:
            await self._journal.asking(request, key, self._api.now())

    def _follow(self, request: SyncRequest, handle: SyncHandle, asked_at: float | None) -> None:
        """Follow a sync from here on; `asked_at` (epoch seconds) is for one from before a restart."""
        now = self._api.time()
        age = max(0.0, self._api.now() - asked_at) if asked_at is not None else 0.0
        running = _Running(request, Watcher(self._api, handle, self._timeout, self._options), now - age)
        self._by_company[request.company_id] = running
        self._cadence.add(running, now - age, now)
        self._bell.set()

    async def _look(self, running: _Running) -> None:
        watcher = running.watcher
        known_as = watcher.handle.sync_id
        self._counts["looks"] += 1
        try:
            status = await watcher.look()
            if status is None or not status.is_terminal:
                watcher.check_time()
        except QuotaExhaustedError as error:
            self._hold_back(error)
            self._cadence.unseen(running, self._api.time(), not_before=self._resume_at)
        except ClientClosedError:
            raise
        except CodatError as error:
            self._cadence.forget(running)
            await self._end_running(running, None, error)
        else:
            await self._looked(running, status, known_as)

    async def _looked(self, running: _Running, status: SyncStatus | None, known_as: str | None) -> None:
        watcher, now = running.watcher, self._api.time()
        if status is None:
            self._cadence.unseen(running, now, not_before=watcher.not_before)
        elif status.is_terminal:
            self._cadence.ended(running, now)
            await self._end_running(running, status, None)
            return
        else:
            self._cadence.still_running(running, now, not_before=watcher.not_before)
        if self._journal is not None and watcher.handle.sync_id != known_as:
            await self._journal.running(running.request, watcher.handle)

    async def _end_running(self, running: _Running, status: SyncStatus | None, error: CodatError | None) -> None:
        elapsed = self._api.time() - running.asked_at
        outcome = SyncOutcome(
            request=running.request,
            handle=running.watcher.handle,
            status=status,
            error=error,
            looks=running.watcher.looks,
            elapsed=elapsed,
        )
        del self._by_company[running.request.company_id]
        await self._end(outcome)

    async def _end(self, outcome: SyncOutcome) -> None:
        """Note an outcome, and hand it over."""
        if self._journal is not None:
            await self._journal.ended(outcome, self._api.now())
        self._counts[_counted_as(outcome)] += 1
        held = self._held.get(outcome.company_id)
        if held:
            self._upcoming.append((held.pop(0), None))
        if not held:
            self._held.pop(outcome.company_id, None)
        if self._on_progress is not None:
            self._on_progress(self.progress)
        if self._stop_when is not None and self._stop_when(self.report):
            self.stop()
        await self._room.acquire()
        self._outcomes.put_nowait(outcome)

    def _hold_back(self, error: QuotaExhaustedError) -> None:
        """Send nothing until there are new requests for the day; nothing is lost by it."""
        self._resume_at = max(self._resume_at, self._api.time() + (error.retry_after or 60.0))

    def _hinted(self, company_id: str) -> None:
        running = self._by_company.get(company_id)
        if running is not None:
            self._cadence.hint(running, self._api.time())
            self._bell.set()

    def _price(self) -> float:
        """What a look has to be worth now, in seconds of delay."""
        started = self._counts["started"] + self._counts["resumed"]
        least = started * _LEAST_GAIN
        if not self._may_start() or (self._fed and not self._upcoming):
            return least
        # An input that does not say how long it is may go on for as long as it has.
        left = started if self._total is None else self._total - started - self._counts["finished_before"]
        return max(least, self._share * max(left, 1) * self._api.spacing)

    def _seconds_left(self, report: RunReport) -> float | None:
        if self._total is None and not self._fed:
            return None
        left = 0 if self._fed and not self._upcoming else max(0, (self._total or 0) - self._settled())
        looks = report.looks / report.ended if report.ended else 2.0
        requests = left * (1 + looks) + report.running * looks
        durations = self._cadence.durations()
        tail = durations.mean_left(0.0) if left else self._cadence.longest_left(self._api.time())
        return max(requests * self._api.spacing, left * (1 + looks) * self._api.spacing + tail)

    def _settled(self) -> int:
        counted = ("started", "resumed", "finished_before", "duplicates", "errors")
        return sum(self._counts[name] for name in counted)


_FOREVER = float("inf")
_COUNTED = ("started", "succeeded", "failed", "errors", "duplicates", "resumed", "finished_before", "looks")


def _counted_as(outcome: SyncOutcome) -> str:
    if outcome.status is None:
        return "errors"
    return "failed" if outcome.status.failed else "succeeded"


def _failed(
    request: SyncRequest, handle: SyncHandle | None, error: CodatError, looks: int, elapsed: float
) -> SyncOutcome:
    return SyncOutcome(request=request, handle=handle, status=None, error=error, looks=looks, elapsed=elapsed)


# What an error that a journal names leaves open; every other one settles that no sync was started.
_OPEN_ERRORS = frozenset(
    {"OutcomeUnknownError", "TransportError", "RequestTimeoutError", "ClientClosedError", "DecodeError"}
)


def _may_have_happened(entry: Entry) -> bool:
    return entry.state == "asking" or entry.outcome in _OPEN_ERRORS


async def _requests(companies: Companies) -> AsyncIterator[SyncRequest]:
    """What is asked for, read from the input as it is needed."""
    if isinstance(companies, AsyncIterable):
        async for company in companies:
            yield _as_request(company)
    else:
        for company in companies:
            yield _as_request(company)


def _as_request(company: str | SyncRequest) -> SyncRequest:
    if isinstance(company, SyncRequest):
        return company
    if isinstance(company, str):
        return SyncRequest(company_id=company)
    raise TypeError(f"companies takes company ids or SyncRequests, not {type(company).__name__}")


def _first_of(group: BaseExceptionGroup) -> BaseException:
    error = group.exceptions[0]
    return _first_of(error) if isinstance(error, BaseExceptionGroup) else error
