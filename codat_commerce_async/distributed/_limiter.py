"""`SharedRateLimiter`: queue the requests of one process, and request permits from a store that processes share."""

import asyncio
import math
import os
import secrets
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from codat_commerce_async._core.callbacks import check_function
from codat_commerce_async._core.log import extra_fields, logger_of
from codat_commerce_async._core.rate_limiter import OnPause, PauseListeners, log_pause
from codat_commerce_async._core.validation import check_count, check_instance, check_int, check_str
from codat_commerce_async.distributed._changes import PendingChanges
from codat_commerce_async.distributed._limits import Limits, ReportedLimits
from codat_commerce_async.distributed._permits import Permits
from codat_commerce_async.distributed._queue import Waiter, WaiterQueue
from codat_commerce_async.distributed._rounds import RoundTask, running_loop
from codat_commerce_async.distributed._state import (
    COMPANY,
    DEFERRED,
    EXHAUSTED,
    FULL,
    GRANTED,
    LATER,
    MAX_PERMITS,
    AddressState,
    ClientState,
    QuotaReport,
    QuotaResult,
    exchange,
    new_address,
    new_client,
)
from codat_commerce_async.distributed._status import QuotaStatus
from codat_commerce_async.distributed._store_health import STORE_TIMEOUT, StoreHealth, reason_of
from codat_commerce_async.distributed._stores import QuotaStore
from codat_commerce_async.errors import ClientClosedError, CodatError, QuotaExhaustedError
from codat_commerce_async.policies import Quota

__all__ = ["QuotaStatus", "SharedRateLimiter"]

# Seconds that a background request is queued as if it had arrived later. After that it takes precedence like any other.
_BACKGROUND_DELAY = 60.0
_HEARTBEAT = 5.0
# Other processes may wait for a slot that was released.
_REPORT_RELEASES_AFTER = 0.25
# A pause that ends so much later than the known one is a new one, not the same with the latency of a round trip.
_NEW_PAUSE = 0.5
# The daily quota need not be parsed from the headers of each response.
_DAILY_QUOTA_AFTER = 1.0

_logger = logger_of("quota")


class SharedRateLimiter:
    """A rate limiter that shares its quota with other processes, through a store.

        limiter = SharedRateLimiter(FileQuotaStore("codat-quota.db"), Quota())
        async with limiter, CodatCommerce(api_key, rate_limiter=limiter) as codat: ...

    It implements `RateLimiter`. Requests wait in this process, in order of arrival, background requests later. One
    background task makes the round trips to the store; concurrent requests share them. All processes together send at
    most `quota.per_minute` requests in any 60 seconds; `concurrent` and `per_company` hold for all of them too. A pause
    or an exhausted daily quota that one process reports applies to all with their next round trip.

    While the store is unavailable, each process continues with its share of the quota, if it is known how many there
    are; otherwise it sends nothing until the store is available again, and a warning is logged each minute. A
    store that cannot work as it is configured, such as a file in a missing folder, raises `SharedQuotaError`.

    `reserve(requests)` reserves for work of this process, and ends with it. `reserve(requests, run="...")` reserves for
    work that no process holds, such as tickets in a queue: the store keeps the sum per run, any process may release
    it, and it expires with the day. `min_interval` is this process's share of the rate, `fleet_min_interval` that of
    all processes together.

    Use a limiter in one event loop at a time, and in one thread. Close it with `aclose` or `async with`.

    Args:
        store: Keeps what the processes share.
        quota: The limits of all processes together; `Quota()` by default. Choose `per_minute` of 950 at most, as the
            network bunches requests.
        client: The name of the Codat client that owns the daily quota; the same in all processes. Not the API key.
        address: The name of the IP address that Codat sees; processes behind another address have another name.
        processes: The number of processes, if it is fixed: the share while the store is unavailable. By default the
            number that the store last counted.
        on_pause: Called with the seconds, the reason and the company id (None for all) when requests are paused, here
            or by another process. By default a warning is logged.
    """

    def __init__(
        self,
        store: QuotaStore,
        quota: Quota | None = None,
        *,
        client: str = "default",
        address: str = "default",
        processes: int | None = None,
        on_pause: OnPause | None = None,
    ) -> None:
        if on_pause is not None:
            check_function("on_pause", on_pause)
        for name in ("exchange", "aclose"):
            if not callable(getattr(store, name, None)):
                raise TypeError(f"store must be a quota store (got {type(store).__name__})")
        self._store = store
        self._quota = Quota() if quota is None else check_instance("quota", quota, Quota)
        self._client = check_str("client", client)
        self._address = check_str("address", address)
        self._fixed_processes = check_count("processes", processes)
        self._pause_listeners = PauseListeners(on_pause or log_pause)
        self._limits = Limits(self._quota)
        self._process = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._closed = False
        self._reset()

    def _reset(self) -> None:
        """Forget what belongs to an event loop and to the requests that it ran."""
        self._task = RoundTask(
            due=self._due, make_round=self._round, leave=self._leave, is_needed=lambda: self._is_needed
        )
        self._queue = WaiterQueue()
        self._permits = Permits(self._task.wake)
        self._request_at = 0.0
        self._report_at = 0.0
        self._is_in_round = False
        self._heartbeat_at = 0.0
        self._round_waiters: list[asyncio.Future[None]] = []
        self._is_full = False
        self._refused_background = False
        self._pending = PendingChanges()
        self._remaining_at = -math.inf
        self._paused_until = 0.0
        self._companies_until: dict[str, float] = {}
        self._exhausted_until = 0.0
        self._reset_at: datetime | None = None
        self._result: QuotaResult | None = None
        self._result_at = 0.0
        self._health = StoreHealth(self._fixed_processes)
        self._may_warn_of_limits = True
        self._share = MAX_PERMITS
        self._fallback: tuple[AddressState, ClientState] | None = None

    @property
    def min_interval(self) -> float:
        """Seconds from one request of this process to the next at its share of the full rate; 0 without a rate."""
        return self._limits.interval * (self._health.processes or 1)

    @property
    def fleet_min_interval(self) -> float:
        """Seconds from one request to the next at the full rate of all processes together; 0 without a rate."""
        return self._limits.interval

    @property
    def needs_quota_update(self) -> bool:
        """Whether what the next response reports of the daily quota is of use; that is once per second."""
        if self._queue.has_deferred or self._exhausted_until:
            return True
        loop = self._task.loop
        return loop is not None and loop.time() - self._remaining_at >= _DAILY_QUOTA_AFTER

    @property
    def status(self) -> QuotaStatus:
        """The state of the shared quota as the last round trip reported it, for health endpoints."""
        result, now, health = self._result, self._now(), self._health
        per_minute = self._quota.per_minute
        return QuotaStatus(
            available=health.is_available and result is not None,
            reason=health.reason,
            age=None if result is None else now - self._result_at,
            processes=result["processes"]
            if result is not None and self._health.is_available
            else self._health.processes,
            remaining_minute=(
                None if result is None or per_minute is None else max(0, per_minute - math.ceil(result["used"]))
            ),
            remaining_day=None if result is None or result["remaining"] < 0 else result["remaining"],
            exhausted=max(0.0, self._exhausted_until - now),
            pause=max(0.0, self._paused_until - now),
            paused_companies={company: until - now for company, until in self._companies_until.items() if until > now},
            in_flight=len(self._permits),
            waiting=len(self._queue) + self._permits.scheduled,
        )

    def add_pause_listener(self, listener: OnPause) -> None:
        """Call a function with the seconds, the reason and the company id (None for all) of each pause.

        Args:
            listener: The function to call.
        """
        self._pause_listeners.add(listener)

    def remove_pause_listener(self, listener: OnPause) -> None:
        """Undo `add_pause_listener`.

        Args:
            listener: The function that was added.
        """
        self._pause_listeners.remove(listener)

    async def acquire(self, company_id: str | None, *, background: bool = False, starts_work: bool = False) -> None:
        """Wait until a request may be sent, in order of arrival; without limit while the store is unavailable.

        Raises:
            ClientClosedError: The limiter is closed.
            QuotaExhaustedError: The daily quota is exhausted.
            SharedQuotaError: The store cannot work as it is configured, and has never worked.
        """
        if self._closed:
            raise ClientClosedError("the rate limiter is closed; create a new one")
        loop = self._bind()
        if self._health.is_misconfigured:
            raise self._health.misconfigured_error()
        now = loop.time()
        if now < self._exhausted_until and not self._quota.wait_for_reset:
            raise self._quota_exhausted(now)
        order = (now + (_BACKGROUND_DELAY if background else 0.0), self._queue.next_order())
        waiter = Waiter(
            order,
            now,
            company_id or "",
            background=background,
            starts_work=starts_work,
            admitted=loop.create_future(),
        )
        self._queue.push(waiter)
        if self._refused_background and not background:
            # A foreground request may be granted further ahead than the refused one.
            self._request_at = 0.0
        self._task.wake()
        try:
            await waiter.admitted
        except asyncio.CancelledError:
            if self._permits.withdraw(waiter) or waiter.was_admitted:
                self.release(company_id)
            raise

    def release(self, company_id: str | None) -> None:
        """Record that a request has ended."""
        company = company_id or ""
        self._permits.release(company)
        self._queue.resume_company(company)
        if self._is_full:
            self._is_full, self._request_at = False, 0.0
        self._report_soon(_REPORT_RELEASES_AFTER)

    def pause(self, seconds: float, company_id: str | None = None) -> None:
        """Send no requests for the given number of seconds, or none of one company; the other processes follow."""
        now = self._bind().time()
        company = company_id or ""
        if not self._extend_pause(company, now + seconds, 0.0):
            return
        self._pending.pauses[company] = now + seconds
        self._pause_listeners.emit(seconds, "429 Too Many Requests", company_id)
        self._report_soon(0.0)

    def mark_exhausted(self, seconds: float, reset_at: datetime | None) -> bool:
        """Record that the daily quota is exhausted: waiting requests of all processes raise, or wait for the reset."""
        now = self._bind().time()
        if now + seconds > self._exhausted_until:
            self._pending.exhaustion = now + seconds, reset_at.timestamp() if reset_at is not None else 0.0
            self._exhaust(now, seconds, reset_at)
            self._report_soon(0.0)
        return self._quota.wait_for_reset

    def update_remaining(self, remaining: int, seconds_to_reset: float, age: float = 0.0) -> None:
        """Record the remaining requests of the daily quota, as a response reported them `age` seconds ago."""
        now = self._bind().time()
        self._pending.remaining = remaining, now + seconds_to_reset, now - max(0.0, age)
        self._remaining_at = now
        self._report_soon(0.0 if self._queue.has_deferred or self._exhausted_until else _HEARTBEAT)

    def reserve(self, requests: int, *, run: str | None = None) -> None:
        """Reserve requests of the daily quota for work that is running; a negative number releases them.

        Without `run`, this process does that work, and the reservation ends with the process. With it, the store keeps
        the sum of the run, which any process may change, until the daily quota is reset.

        Args:
            requests: The number of requests; negative to release them.
            run: The run that the requests are for.
        """
        check_int("requests", requests)
        self._pending.reserve(requests, None if run is None else check_str("run", run))
        if running_loop() is not None:
            self._bind()
            self._report_soon(_REPORT_RELEASES_AFTER)

    async def refresh(self) -> None:
        """Make a round trip now and wait for it, so that `status` is up to date and reservations are stored.

        It never raises for an unavailable store; see `status`.
        """
        if self._closed:
            raise ClientClosedError("the rate limiter is closed; create a new one")
        self._bind()
        # A round trip that is under way may have left before what the caller has just reserved.
        for _ in range(2 if self._is_in_round else 1):
            finished = self._bind().create_future()
            self._round_waiters.append(finished)
            self._report_soon(0.0)
            await finished

    async def aclose(self) -> None:
        """Report the end of this process, and close the store's connections. May be called twice."""
        if self._closed:
            return
        self._closed = True
        self._fail_all(lambda: ClientClosedError("the rate limiter was closed"))
        await self._task.close()
        await self._store.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    # The background task. Callers await futures, never the store.

    def _bind(self) -> asyncio.AbstractEventLoop:
        """Return the running loop, and make sure that the background task runs in it."""
        loop = asyncio.get_running_loop()
        if self._task.loop not in {None, loop}:
            self._reset()
        if not self._closed:
            self._task.start()
        return loop

    @property
    def _is_needed(self) -> bool:
        return bool(self._permits.scheduled or self._round_waiters or len(self._queue))

    def _due(self) -> float:
        requests_due = math.inf
        if self._permits.scheduled < self._share:
            requests_due = max(self._queue.due(), self._request_at, self._paused_until, self._exhausted_until)
        health = self._health
        if health.is_available:
            return min(self._heartbeat_at, self._report_at, requests_due)
        return health.probe_at if health.processes is None else min(health.probe_at, requests_due)

    async def _round(self) -> None:
        """Make a round trip, or grant requests from this process's share while the store is unavailable."""
        now, health = self._now(), self._health
        if not health.is_available and now < health.probe_at:
            self._grant_from_share(now)
            return
        limits = self._limits.whole
        waiters = self._pop(now, limits) if health.is_available else []
        report = self._report(now, waiters, limits)
        self._is_in_round = True
        try:
            async with asyncio.timeout(health.timeout):
                result = await self._store.exchange(report)
            self._on_result(report, waiters, result)
        except asyncio.CancelledError:
            self._requeue(waiters)
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the store cannot be used
            self._requeue(waiters)
            self._on_failure(error)
        finally:
            self._is_in_round = False
            self._finish_round()

    def _finish_round(self) -> None:
        finished, self._round_waiters = self._round_waiters, []
        for waiter in finished:
            if not waiter.done():
                waiter.set_result(None)

    async def _leave(self) -> None:
        """Report the end of this process, so that its slots and its share are free at once."""
        try:
            async with asyncio.timeout(STORE_TIMEOUT):
                await self._store.exchange({**self._report(self._now(), [], self._limits.whole), "leaves": 1})
        except Exception as error:  # noqa: BLE001 - the others notice it later
            _logger.debug("the end of this process was not reported: %s", reason_of(error), extra=extra_fields())
        self._finish_round()

    def _pop(self, now: float, limits: ReportedLimits) -> list[Waiter]:
        """Remove the requests from the queue that may be granted next."""
        if now < max(self._request_at, self._paused_until, self._exhausted_until):
            return []
        number = min(MAX_PERMITS, self._share - self._permits.scheduled)
        return self._queue.pop(now, number, self._permits.held, limits["per_company"])

    def _report(self, now: float, waiters: list[Waiter], limits: ReportedLimits) -> QuotaReport:
        """Return the next report, with these limits."""
        changes = self._pending.report(now)
        if not self._health.is_available:
            # After an outage, requests continue at an even rate.
            changes["pauses"].setdefault("", 0.0)
        return {
            "address": self._address,
            "client": self._client,
            "process": self._process,
            "leaves": 0,
            "held": self._permits.held.copy(),
            **limits,
            **changes,
            "permits": [
                (each.company, int(each.background and now - each.arrived < _BACKGROUND_DELAY), int(each.starts_work))
                for each in waiters
            ],
        }

    def _on_result(self, report: QuotaReport, waiters: list[Waiter], result: QuotaResult) -> None:
        now = self._now()
        if self._health.succeed(now, result["processes"]):
            self._request_at, self._fallback = 0.0, None
            self._requeue_scheduled()
        if self._may_warn_of_limits:
            self._compare_limits(result)
        self._result, self._result_at = result, now
        self._heartbeat_at, self._report_at = now + _HEARTBEAT, math.inf
        self._share = result["share"]
        self._pending.forget(report, now)
        if self._pending.has_runs:
            self._report_at = now
        for waiter, (kind, seconds) in zip(waiters, result["permits"], strict=True):
            self._decide(waiter, kind, seconds, now)
        self._follow(result, now)

    def _compare_limits(self, result: QuotaResult) -> None:
        """Log a warning once if a process that shares the quota has another `Quota`, as each applies its own."""
        here, there = self._limits.differences(result["limits"])
        if here:
            self._may_warn_of_limits = False
            _logger.warning(
                "the quota of this process differs from that of another process that shares it: %s here, %s there; "
                "pass the same Quota to all of them",
                here,
                there,
                extra=extra_fields(),
            )

    def _decide(self, waiter: Waiter, kind: int, seconds: float, now: float) -> None:
        """Admit a request, or put it back into the queue. A permit of a cancelled one is not used."""
        if waiter.admitted.done():
            return
        if kind == GRANTED:
            self._permits.grant(waiter, seconds)
            return
        if kind == DEFERRED:
            # Another process may release its reservation at any time.
            self._queue.defer(waiter, now + min(seconds, _HEARTBEAT))
            return
        self._queue.push(waiter)
        if kind == COMPANY:
            self._queue.hold_company(waiter.company, now + seconds)
        elif kind in {LATER, FULL}:
            self._request_at = now + seconds
            self._refused_background = waiter.background
            self._is_full = kind == FULL
        elif kind != EXHAUSTED:
            raise ValueError(f"the store returned an unknown decision: {kind!r}")

    def _follow(self, result: QuotaResult, now: float) -> None:
        """Apply what other processes have reported."""
        if result["pause"] > 0 and self._extend_pause("", now + result["pause"], _NEW_PAUSE):
            self._pause_listeners.emit(result["pause"], "429 Too Many Requests in another process", None)
        for company, seconds in result["companies"].items():
            if self._extend_pause(company, now + seconds, _NEW_PAUSE):
                self._pause_listeners.emit(seconds, "429 Too Many Requests in another process", company)
        if result["exhausted"] > 0:
            if now + result["exhausted"] > self._exhausted_until + _NEW_PAUSE:
                reset_at = datetime.fromtimestamp(result["reset_at"], UTC) if result["reset_at"] else None
                self._exhaust(now, result["exhausted"], reset_at)
        elif self._pending.exhaustion is None:
            self._exhausted_until = 0.0
        if self._queue.has_deferred and 0 <= result["reserved"] < result["remaining"]:
            self._queue.resume_deferred()

    def _on_failure(self, error: Exception) -> None:
        if self._health.is_available:
            self._requeue_scheduled()
        self._health.fail(self._now(), error, is_needed=self._is_needed)
        if self._health.is_misconfigured:
            self._fail_all(self._health.misconfigured_error)

    def _grant_from_share(self, now: float) -> None:
        """Grant requests from this process's share of the quota, without a burst."""
        processes = self._health.processes
        if processes is None:
            return
        limits = self._limits.of_share(processes)
        waiters = self._pop(now, limits)
        report: QuotaReport = {**self._report(now, waiters, limits), "pauses": {}, "runs": {}}
        if self._fallback is None:
            # The first request after an interval, as the store may have granted one right before.
            address = new_address(now, report["interval"] + report["tolerance"])
            self._fallback = address, new_client(now)
        address, client = self._fallback
        result = exchange(address, client, report, now)
        self._share = result["share"]
        for waiter, (kind, seconds) in zip(waiters, result["permits"], strict=True):
            self._decide(waiter, kind, seconds, now)

    def _requeue(self, waiters: list[Waiter]) -> None:
        for waiter in waiters:
            if not waiter.admitted.done():
                self._queue.push(waiter)

    def _requeue_scheduled(self) -> None:
        """Withdraw the permits that are not used yet: the store and the fallback grant the same moments."""
        self._requeue(self._withdraw_permits(math.inf))

    def _withdraw_permits(self, until: float, company: str = "") -> list[Waiter]:
        """Give back the permits for a moment before this one, and return their requests."""
        waiters = [each for each in self._permits.scheduled_before(until, company) if self._permits.withdraw(each)]
        for waiter in waiters:
            self.release(waiter.company or None)
        return waiters

    def _extend_pause(self, company: str, until: float, at_least: float) -> bool:
        """Return whether the pause ends so much later than the known one, and apply it then."""
        known = self._companies_until.get(company, 0.0) if company else self._paused_until
        if until <= max(known, self._now()) + at_least:
            return False
        if company:
            self._companies_until[company] = until
            self._queue.hold_company(company, until)
        else:
            self._paused_until = until
        self._requeue(self._withdraw_permits(until, company))
        return True

    def _exhaust(self, now: float, seconds: float, reset_at: datetime | None) -> None:
        self._exhausted_until, self._reset_at = now + seconds, reset_at
        self._pause_listeners.emit(seconds, "the daily quota is exhausted", None)
        if self._quota.wait_for_reset:
            self._requeue(self._withdraw_permits(now + seconds))
        else:
            self._fail_all(lambda: self._quota_exhausted(now))

    def _fail_all(self, make_error: Callable[[], CodatError]) -> None:
        """Fail all requests that wait, each with an error of its own: each task that raises one adds a traceback."""
        for waiter in (*self._withdraw_permits(math.inf), *self._queue.drain()):
            if not waiter.admitted.done():
                waiter.admitted.set_exception(make_error())

    def _quota_exhausted(self, now: float) -> QuotaExhaustedError:
        seconds, reset_at = self._exhausted_until - now, self._reset_at
        when = f"at {reset_at.isoformat()}" if reset_at else f"in {seconds:.0f} s"
        return QuotaExhaustedError(f"the daily quota is exhausted; it resets {when}", None, reset_at, seconds)

    def _report_soon(self, seconds: float) -> None:
        loop = running_loop()
        if loop is not None and loop is self._task.loop:
            self._report_at = min(self._report_at, loop.time() + seconds)
            self._task.wake()

    def _now(self) -> float:
        loop = running_loop() or self._task.loop
        return self._result_at if loop is None or loop.is_closed() else loop.time()
