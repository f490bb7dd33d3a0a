"""Start and follow syncs in one process of the web server, and find those that were started elsewhere."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from datetime import UTC, datetime, timedelta

from codat_commerce_async import CodatCommerce, CodatError, QuotaExhaustedError, RetryPolicy, SyncHandle, problem
from codat_commerce_async.distributed import SharedRateLimiter
from codat_commerce_async.errors import ClientClosedError, NotFoundError
from codat_commerce_async.syncing.watches import Watches

from .store import PendingSync, Store

_STEP = 0.2
# Seconds between two merchants whose newest sync is checked while a page is open; webhooks make it sooner. Each
# takes a request: choose more for many merchants.
_SWEEP = 1.0
_REPORT = 1.0
# What is checked again soon need not be retried for long, so that the page shows a problem early.
_CHECK = RetryPolicy(attempts=2)
_CLAIMS = 2


class RequestCounter:
    """Counts the requests of this process, as a hook of the client."""

    def __init__(self) -> None:
        self.requests = 0

    def __call__(self, _: object) -> None:
        """Count a request."""
        self.requests += 1


class SyncWorker:
    """Runs the syncs that this process has claimed; the first process also checks what others have started."""

    def __init__(
        self, store: Store, codat: CodatCommerce, watches: Watches, limiter: SharedRateLimiter, counter: RequestCounter
    ) -> None:
        self._store = store
        self._codat = codat
        self._watches = watches
        self._limiter = limiter
        self._counter = counter
        self._pid = os.getpid()
        self._tasks: set[asyncio.Task[None]] = set()
        self._to_check: dict[str, None] = {}
        self._webhook = store.newest_webhook()
        self._is_first = False
        self.pages = 0

    async def run(self) -> None:
        """Run until this is cancelled; then leave the syncs to other processes, or to the next one."""
        loop = asyncio.get_running_loop()
        report_at = 0.0
        duties: asyncio.Task[None] | None = None
        try:
            while True:
                if loop.time() >= report_at:
                    report_at = loop.time() + _REPORT
                    self._report()
                if self._is_first and duties is None:
                    duties = asyncio.create_task(self._duties())
                self._read_webhooks()
                self._claim()
                await asyncio.sleep(_STEP)
        finally:
            tasks = [*self._tasks, *([duties] if duties else [])]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._store.leave(self._pid)

    def _claim(self) -> None:
        # A few at a time, so that all processes get some.
        for _ in range(_CLAIMS):
            if self._watches.ended or not (sync := self._store.claim(self._pid)):
                return
            self._spawn(sync)

    def _spawn(self, sync: PendingSync) -> None:
        task = asyncio.create_task(self._perform(sync))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _perform(self, sync: PendingSync) -> None:
        try:
            handle = sync.handle or await self._start(sync)
            await self._follow(sync.number, handle)
        except ClientClosedError:
            return  # the process ends; another one continues
        except CodatError as error:
            self._store.end(sync.number, problem=problem(error).to_dict())

    async def _start(self, sync: PendingSync) -> SyncHandle:
        # With the recorded key, a process that takes over after a crash gets the same sync from Codat.
        handle = await self._codat.sync.start(sync.company_id, idempotency_key=sync.key)
        self._store.set_handle(sync.number, handle)
        return handle

    async def _follow(self, number: int, handle: SyncHandle) -> None:
        status = None
        async with aclosing(self._watches.watch(handle)) as statuses:
            async for status in statuses:
                self._store.set_status(number, status)
        if status is None or not status.is_terminal:
            return  # the server shuts down; the next process continues
        diagnosis = await self._codat.sync.diagnose(status, background=False) if status.failed else None
        self._store.end(number, diagnosis=diagnosis)

    def _report(self) -> None:
        self._is_first = self._store.report(self._pid, self._counter.requests, len(self._tasks), self.pages)
        if not self._is_first:
            return
        status, limit = self._limiter.status, self._codat.rate_limit
        resets_at = limit.reset if limit else None
        if status.exhausted and resets_at is None:
            resets_at = datetime.now(UTC) + timedelta(seconds=status.exhausted)
        self._store.set_fact(
            "quota",
            {
                "available": status.available or status.age is None,
                "exhausted": status.exhausted > 0,
                "limit": limit.limit if limit else None,
                "remaining": 0 if status.exhausted else status.remaining_day,
                "remainingMinute": status.remaining_minute,
                "sharedBy": status.processes,
                "resetsAt": resets_at.timestamp() if resets_at else None,
            },
        )

    def _read_webhooks(self) -> None:
        for number, event_type, company_id in self._store.webhooks_after(self._webhook):
            self._webhook = number
            if company_id is not None:
                self._to_check[company_id] = None
            if event_type.startswith(("company.", "connection.")):
                self._to_check[""] = None

    async def _duties(self) -> None:
        """List the merchants, check the newest sync of each, and then of one after the other, in turn."""
        await self._list_merchants()
        turn = 0
        self._to_check.update(dict.fromkeys(self._store.merchant_ids()))
        next_sweep = asyncio.get_running_loop().time() + _SWEEP
        while True:
            while self._is_first and self._to_check:
                company_id = next(iter(self._to_check))
                del self._to_check[company_id]
                await (self._check(company_id) if company_id else self._list_merchants())
            await asyncio.sleep(_STEP)
            if asyncio.get_running_loop().time() >= next_sweep:
                next_sweep += _SWEEP
                turn += 1
                self._check_next(turn)

    def _check_next(self, turn: int) -> None:
        merchants = self._store.merchant_ids()
        if self._is_first and self._store.has_open_page():
            self._to_check[merchants[turn % len(merchants)] if merchants else ""] = None

    async def _list_merchants(self) -> None:
        with self._showing_problems():
            companies = [one async for one in self._codat.advanced_controls.list_companies(retry=_CHECK)]
            self._store.set_merchants(companies)
        self._store.set_fact("loaded", value=True)

    async def _check(self, company_id: str) -> None:
        if self._store.is_running(company_id):
            return
        with self._showing_problems():
            status = await self._codat.sync.get_status(company_id, background=True, retry=_CHECK)
            self._store.found(company_id, status)

    @contextmanager
    def _showing_problems(self) -> Iterator[None]:
        """Show on the page why a request to Codat failed, until one succeeds."""
        failure: dict[str, object] | None = None
        try:
            yield
        except NotFoundError:
            pass  # the merchant has no sync yet
        except ClientClosedError:
            return
        except QuotaExhaustedError as error:
            # The page shows the quota anyway.
            failure = None if self._store.merchant_ids() else problem(error).to_dict()
        except CodatError as error:
            failure = problem(error).to_dict()
        self._store.set_fact("problem", failure and {"title": failure["title"], "detail": failure["detail"]})
