"""Sync: request syncs, poll them, and wait for their end."""

from collections.abc import AsyncGenerator
from datetime import datetime
from typing import TYPE_CHECKING, Unpack

from codat_commerce_async._core.claims import Claims
from codat_commerce_async._core.lazy import LazyModule
from codat_commerce_async._core.operation import Operation, check_id
from codat_commerce_async._core.pipeline import Pipeline
from codat_commerce_async._core.request import check_options, check_wait_options
from codat_commerce_async._core.validation import check_str, split_date_range
from codat_commerce_async.models.call import ApiResponse
from codat_commerce_async.models.handle import HOW_TO_GET_A_HANDLE, SyncHandle, as_handle, check_handle
from codat_commerce_async.models.sync import (
    BaseSyncStatus,
    CompanySyncStatus,
    DateRange,
    SyncRange,
    SyncStatus,
    SyncSummary,
    SyncToLatestArgs,
)
from codat_commerce_async.policies import CallOptions, PollOptions, PollPolicy
from codat_commerce_async.syncing import _poller, _start
from codat_commerce_async.syncing._context import SyncContext
from codat_commerce_async.syncing._notifications import Notifier
from codat_commerce_async.syncing._resolver import SyncResolver
from codat_commerce_async.syncing.request import SyncRequest

if TYPE_CHECKING:
    from codat_commerce_async.resources import _diagnosis_calls as _calls
    from codat_commerce_async.syncing import _diagnose
    from codat_commerce_async.syncing import diagnosis as _diagnosis
    from codat_commerce_async.syncing import outcome as _outcome
    from codat_commerce_async.syncing import run as _fanout
    from codat_commerce_async.syncing import stepper as _stepping
    from codat_commerce_async.syncing import watches as _watches
else:
    _watches = LazyModule("codat_commerce_async.syncing.watches")
    _calls = LazyModule("codat_commerce_async.resources._diagnosis_calls")
    _diagnose = LazyModule("codat_commerce_async.syncing._diagnose")
    _diagnosis = LazyModule("codat_commerce_async.syncing.diagnosis")
    # Loaded only for a fan-out, because it imports SQLite.
    _fanout = LazyModule("codat_commerce_async.syncing.run")
    _outcome = LazyModule("codat_commerce_async.syncing.outcome")
    _stepping = LazyModule("codat_commerce_async.syncing.stepper")

__all__ = ["SyncResource"]

REQUEST = Operation("request-sync", "POST", "/companies/{companyId}/sync/commerce/latest", SyncSummary)
REQUEST_FOR_DATE_RANGE = Operation(
    "request-sync-for-date-range", "POST", "/meta/companies/{companyId}/sync/commerce/historic", SyncSummary
)
GET_STATUS = Operation("get-sync-status", "GET", "/meta/companies/{companyId}/sync/commerce/status", SyncStatus)
GET_LAST_SUCCESSFUL_SYNC = Operation(
    "get-last-successful-sync",
    "GET",
    "/companies/{companyId}/sync/commerce/syncs/lastSuccessful/status",
    CompanySyncStatus,
)
GET_LATEST_SYNC = Operation(
    "get-latest-sync", "GET", "/companies/{companyId}/sync/commerce/syncs/latest/status", CompanySyncStatus
)
GET = Operation(
    "get-sync-by-id", "GET", "/companies/{companyId}/sync/commerce/syncs/{syncId}/status", CompanySyncStatus
)
LIST = Operation(
    "list-syncs",
    "GET",
    "/companies/{companyId}/sync/commerce/syncs/list/status",
    tuple[CompanySyncStatus, ...],
)

# The default timeout of a wait, in seconds; syncs that take longer are rare and worth an investigation.
_DEFAULT_TIMEOUT = 3600.0


class SyncResource:
    """A company's syncs.

    Every method that makes one call also accepts the options of `CallOptions`; those that poll accept `PollOptions`.
    """

    def __init__(self, pipeline: Pipeline, poll: PollPolicy, notifier: Notifier) -> None:
        self._pipeline = pipeline
        self._poll_policy = poll
        self.context = SyncContext(
            calls=_SyncCalls(pipeline),
            clock=pipeline.clock,
            lifecycle=pipeline.lifecycle,
            rate_limiter=pipeline.rate_limiter,
            notifier=notifier,
            claims=Claims(),
            retry=pipeline.retry,
            random=pipeline.random,
        )
        """The parts of the client that its syncs share; the functions of `syncing` take it."""

    async def request(
        self, company_id: str, *, sync_to: datetime | None = None, **options: Unpack[CallOptions]
    ) -> SyncSummary:
        """Request a sync from the last successful one up to `sync_to` (None: up to now), and return Codat's response.

        `start` also reconciles a lost response, and returns a handle that can be polled.

        POST /companies/{companyId}/sync/commerce/latest.

        Args:
            company_id: The id of the company.
            sync_to: The end of the period, an aware datetime; None for now.

        Raises:
            StatusError: 400, 401, 402, 403, 404 or 429, each by its class.
            OutcomeUnknownError: The response was lost or is a 5xx.
        """
        request = SyncRequest(company_id=company_id, sync_to=sync_to)
        return (await self.context.calls.request(request, **options)).value

    async def request_for_date_range(
        self, company_id: str, *, start: datetime, finish: datetime, **options: Unpack[CallOptions]
    ) -> SyncSummary:
        """Request a sync of the period from `start` to `finish`, both aware datetimes, and return Codat's response.

        POST /meta/companies/{companyId}/sync/commerce/historic.

        Args:
            company_id: The id of the company.
            start: The start of the period, an aware datetime.
            finish: The end of the period, an aware datetime.

        Raises:
            StatusError: 400, 401, 402, 403, 404 or 429, each by its class.
            OutcomeUnknownError: The response was lost or is a 5xx.
        """
        request = SyncRequest(company_id=company_id, start=start, finish=finish)
        return (await self.context.calls.request(request, **options)).value

    async def get_status(self, company_id: str, **options: Unpack[CallOptions]) -> SyncStatus:
        """Return the status of the company's newest sync, with both of its ids and the company's connections.

        GET /meta/companies/{companyId}/sync/commerce/status.

        Args:
            company_id: The id of the company.

        Raises:
            StatusError: 401, 402, 403, 404, 429, 500 or 503, each by its class.
        """
        return await self._pipeline.call(GET_STATUS, company_id, **options)

    async def get_last_successful_sync(self, company_id: str, **options: Unpack[CallOptions]) -> CompanySyncStatus:
        """Return the status of the company's last successful sync.

        GET /companies/{companyId}/sync/commerce/syncs/lastSuccessful/status.

        Args:
            company_id: The id of the company.

        Raises:
            StatusError: 401, 402, 403, 404, 429, 500 or 503, each by its class.
        """
        return await self._pipeline.call(GET_LAST_SUCCESSFUL_SYNC, company_id, **options)

    async def get_latest_sync(self, company_id: str, **options: Unpack[CallOptions]) -> CompanySyncStatus:
        """Return the status of the company's newest sync.

        GET /companies/{companyId}/sync/commerce/syncs/latest/status.

        Args:
            company_id: The id of the company.

        Raises:
            StatusError: 401, 402, 403, 404, 429, 500 or 503, each by its class.
        """
        return await self._pipeline.call(GET_LATEST_SYNC, company_id, **options)

    async def get(self, company_id: str, sync_id: str, **options: Unpack[CallOptions]) -> CompanySyncStatus:
        """Return the status of one sync; `sync_id` is a status's `sync_id`, not a summary's `commerce_sync_id`.

        GET /companies/{companyId}/sync/commerce/syncs/{syncId}/status.

        Args:
            company_id: The id of the company.
            sync_id: The id of the sync.

        Raises:
            StatusError: 401, 402, 403, 404, 429, 500 or 503, each by its class.
        """
        return await self._pipeline.call(GET, company_id, sync_id, **options)

    async def list(self, company_id: str, **options: Unpack[CallOptions]) -> tuple[CompanySyncStatus, ...]:
        """Return the statuses of all of the company's syncs; this list is not paged.

        GET /companies/{companyId}/sync/commerce/syncs/list/status.

        Args:
            company_id: The id of the company.

        Raises:
            StatusError: 401, 402, 403, 404, 429, 500 or 503, each by its class.
        """
        return await self._pipeline.call(LIST, company_id, **options)

    async def start(
        self,
        company_id: str,
        *,
        sync_to: datetime | None = None,
        date_range: tuple[datetime, datetime] | None = None,
        adopt: bool = True,
        **options: Unpack[CallOptions],
    ) -> SyncHandle:
        """Start exactly one sync, up to `sync_to` or of `date_range`, and return its handle.

        After a lost response, the request is sent again under the same key. After a 5xx, which Codat would only replay,
        the company's syncs are listed:

        - If none began since, the request is sent again under a new key (see `RetryPolicy.max_visibility_delay`).
        - If one did, and it belongs to no other request of this client, it is adopted: `handle.adopted` is set and a
          warning is logged, as another client may have started it.
        - A request with a `date_range` or `sync_to` never adopts, because Codat does not report the period of a sync;
          nor does any request with `adopt=False`.

        Only this client's requests are known. Two clients, in one process or several, may adopt the same sync, so use
        one client per API key, or `adopt=False`.

        Args:
            company_id: The id of the company.
            sync_to: The end of the period, an aware datetime; None for now.
            date_range: The start and the end of the period, instead of `sync_to`.
            adopt: Whether a sync that no response named may be treated as the requested one.

        Raises:
            OutcomeUnknownError: It stays unknown whether, or which, sync was started. It has the candidates and a
                handle.
            RequestTimeoutError: `timeout` is over, and nothing was sent.
            StatusError: As for `request`.

        Example:
            ```python
            handle = await codat.sync.start(company_id)
            stored = handle.to_json()  # another process can wait for it
            ```
        """
        check_id("company_id", company_id)
        check_options(REQUEST, options)
        start, finish = split_date_range("date_range", date_range)
        request = SyncRequest(company_id=company_id, sync_to=sync_to, start=start, finish=finish)
        return await _start.start(self.context, request, options, adopt=adopt)

    async def poll(self, handle: SyncHandle, **options: Unpack[CallOptions]) -> SyncStatus | None:
        """Poll a sync once and return its status, terminal or not; None if the sync is not visible at Codat yet.

        A handle of `start` may not have a sync id yet. This finds the sync, and `status.sync_id` has the id: keep
        `handle.with_sync_id(status.sync_id)`, so that the next poll needs one request only. Unlike `wait`, this raises
        the error of a failed request.

        Args:
            handle: The handle of the sync.

        Raises:
            OutcomeUnknownError: Several syncs may be that of the handle.
            CodatError: The request failed.

        Example:
            ```python
            handle = await codat.sync.start(company_id)
            status = await codat.sync.poll(handle)
            if status is not None and status.sync_id is not None:
                handle = handle.with_sync_id(status.sync_id)
            ```
        """
        check_handle(handle)
        check_options(GET_STATUS, options)
        with self.context.lifecycle.scope():
            return await SyncResolver(self.context, handle).poll(options)

    async def wait(
        self,
        handle: SyncHandle | str,
        sync_id: str | None = None,
        *,
        timeout: float | None = _DEFAULT_TIMEOUT,
        poll: PollPolicy | None = None,
        raise_on_failure: bool = True,
        **options: Unpack[PollOptions],
    ) -> SyncStatus:
        """Wait for the end of a sync, given by its handle or by company id and sync id, and return its terminal status.

        The handle of SyncFailedError and SyncWaitTimeoutError has the ids that polling found out, and `adopted`. Polls
        that fail with a retryable error are repeated until the timeout.

        Args:
            handle: The handle of the sync, or the id of its company.
            sync_id: The id of the sync, with a company id.
            timeout: Seconds to wait, by default an hour; None for no limit.
            poll: How often to poll; by default as the client's `poll`.
            raise_on_failure: Whether a failed sync raises SyncFailedError.

        Raises:
            SyncFailedError: The sync failed, and `raise_on_failure` is True.
            SyncWaitTimeoutError: `timeout` is over. The sync continues, and its handle can be waited for again.
            StatusError: A poll was refused, such as with 401, 403 or a 404 that lasts.
            OutcomeUnknownError: Several syncs may be that of the handle.

        Example:
            ```python
            handle = await codat.sync.start(company_id)
            status = await codat.sync.wait(handle, timeout=1800, raise_on_failure=False)
            ```
        """
        handle = as_handle(handle, sync_id)
        waiting = self._wait_settings("wait", timeout, poll, options)
        status, handle = await _poller.wait(self.context, handle, waiting)
        if raise_on_failure:
            _poller.raise_if_failed(handle, status)
        return status

    def watch(
        self,
        handle: SyncHandle | str,
        sync_id: str | None = None,
        *,
        timeout: float | None = _DEFAULT_TIMEOUT,
        poll: PollPolicy | None = None,
        **options: Unpack[PollOptions],
    ) -> AsyncGenerator[SyncStatus, None]:
        """Yield every change of a sync's status, up to and including the terminal one.

        Args:
            handle: The handle of the sync, or the id of its company.
            sync_id: The id of the sync, with a company id.
            timeout: Seconds to wait, by default an hour; None for no limit.
            poll: How often to poll; by default as the client's `poll`.

        Raises:
            SyncWaitTimeoutError: `timeout` is over. The sync continues.
            StatusError: A poll was refused, such as with 401, 403 or a 404 that lasts.
            OutcomeUnknownError: Several syncs may be that of the handle.

        Example:
            ```python
            handle = await codat.sync.start(company_id)
            async for status in codat.sync.watch(handle):
                print(status.sync_status_code, status.state.description)
            ```
        """
        waiting = self._wait_settings("watch", timeout, poll, options)
        return _poller.watch(self.context, as_handle(handle, sync_id), waiting)

    def watches(
        self,
        *,
        timeout: float | None = _DEFAULT_TIMEOUT,
        poll: PollPolicy | None = None,
        end_on_signals: bool = True,
        **options: Unpack[PollOptions],
    ) -> "_watches.Watches":
        """Return watches for many listeners, such as event streams: one poller per sync, however many listen to it.

        Use it with `async with`, once per process: its iterators end on SIGTERM and SIGINT, so that a web server can
        shut down.

        Args:
            timeout: Seconds after which a poller stops, by default an hour; None for no limit.
            poll: How often to poll; by default as the client's `poll`.
            end_on_signals: Whether SIGTERM and SIGINT end the iterators.
        """
        waiting = self._wait_settings("watches", timeout, poll, options)
        return _watches.Watches(self.context, waiting, end_on_signals=end_on_signals)

    async def run(
        self,
        company_id: str,
        *,
        sync_to: datetime | None = None,
        date_range: tuple[datetime, datetime] | None = None,
        timeout: float | None = _DEFAULT_TIMEOUT,
        poll: PollPolicy | None = None,
        raise_on_failure: bool = True,
        adopt: bool = True,
        **options: Unpack[PollOptions],
    ) -> SyncStatus:
        """Start a sync, wait for its end, and return its terminal status.

        `timeout` bounds the wait. An adopted sync (see `start`) shows in the handle of SyncFailedError and
        SyncWaitTimeoutError; a success only logs a warning, as a status has no handle. Call `start` and `wait` in turn
        to have the handle in any case, and to continue after a crash.

        Args:
            company_id: The id of the company.
            sync_to: The end of the period, an aware datetime; None for now.
            date_range: The start and the end of the period, instead of `sync_to`.
            timeout: Seconds to wait, by default an hour; None for no limit.
            poll: How often to poll; by default as the client's `poll`.
            raise_on_failure: Whether a failed sync raises SyncFailedError.
            adopt: Whether a sync that no response named may be treated as the requested one.

        Raises:
            CodatError: As `start` and `wait` raise it.

        Example:
            ```python
            try:
                status = await codat.sync.run(company_id, timeout=1800)
            except SyncFailedError as error:
                print(error.status.error_message)
            ```
        """
        waiting = self._wait_settings("run", timeout, poll, options)
        handle = await self.start(company_id, sync_to=sync_to, date_range=date_range, adopt=adopt, **options)
        status, handle = await _poller.wait(self.context, handle, waiting, adopt=adopt)
        if raise_on_failure:
            _poller.raise_if_failed(handle, status)
        return status

    def run_many(
        self,
        companies: "_fanout.CompanySource",
        *,
        objective: "_fanout.Objective" = "throughput",
        journal: "_fanout.JournalSource | None" = None,
        run_id: str | None = None,
        resume: "_fanout.Resume" = "unfinished",
        keep_runs: int | None = None,
        timeout: float | None = _DEFAULT_TIMEOUT,
        max_running: int | None = None,
        stop_when: "_outcome.StopWhen | None" = None,
        on_progress: "_outcome.OnProgress | None" = None,
        poll: PollPolicy | None = None,
        adopt: bool = True,
        diagnose: bool = False,
        **options: Unpack[PollOptions],
    ) -> "_fanout.SyncRun":
        """Return a fan-out that starts one sync of every company, and polls all of them until they have ended.

        Use it with `async with`, and iterate over it for one `SyncOutcome` per company.

        A journal is a file from which the same call resumes after a crash. It holds many runs: the same call with the
        same path on the next night begins a new one. If nothing is left to start, the report has `nothing_started`
        and a warning is logged.

        An error of one company is that company's outcome and does not stop the run, nor does an invalid id of any
        type. Errors with `fatal_for_run` end the run, and are raised by the iteration: a wrong key (401), a closed
        client, and a journal that cannot be written.

        Args:
            companies: Company ids, or requests with a period of their own, from any iterable or async iterable. It is
                read as it is needed.
            objective: What counts when requests are scarce: to finish the run early (`throughput`), or to report each
                end early (`latency`).
            journal: The path of the journal, or a `JournalStore` of your own, which is not closed. `run_id`, `resume`
                and `keep_runs` need a path.
            run_id: The run to continue or to begin. By default it is the newest run if that has not ended and began
                less than 24 hours ago, else the present UTC date.
            resume: How to handle syncs of earlier runs that have not ended. They are counted in the report, and
                polled to their end (`unfinished`) or not (`never`); their outcomes are in the journal only.
            keep_runs: The number of runs that the journal keeps, the newest ones; None for all.
            timeout: Seconds to wait for each sync, by default an hour; None for no limit.
            max_running: The number of syncs that run at once; None for no limit.
            stop_when: Returns from the report whether to stop the run early; also a coroutine function.
            on_progress: Receives the progress with each outcome; also a coroutine function.
            poll: Only its `interval` has an effect: the least time between two polls of one sync.
            adopt: Whether a sync that no response named may be treated as the requested one, as in `start`. The outcome
                of such a sync has `adopted` set.
            diagnose: Whether failed outcomes get a diagnosis, after which they are reported. This takes up to five
                background requests per failure, for which neither starts nor polls wait. They are left out while the
                rest of the daily quota is reserved for polls. Failures that the journal has of an earlier call of this
                run get one too, in the journal only, unless they have one.

        Example:
            ```python
            async with codat.sync.run_many(company_ids, journal="nightly.db") as run:
                async for outcome in run:
                    print(outcome.company_id, "ok" if outcome.ok else outcome.error or outcome.status)
            print(run.report)
            ```
        """
        waiting = self._wait_settings("run_many", timeout, poll, options)
        # LIST is passed, because the module of these calls must not import this one.
        calls = _calls.PipelineDiagnosisCalls(self._pipeline, LIST, spares_quota=True) if diagnose else None
        return _fanout.SyncRun(
            self.context,
            companies,
            settings=_fanout.FanoutSettings(objective=objective, waiting=waiting, max_running=max_running, adopt=adopt),
            journal=journal,
            run_options=_fanout.RunOptions(run_id=run_id, resume=resume, keep_runs=keep_runs),
            stop_when=stop_when,
            on_progress=on_progress,
            diagnosis_calls=calls,
        )

    async def diagnose(
        self, failed: "BaseSyncStatus | SyncHandle | _outcome.SyncOutcome", **options: Unpack[CallOptions]
    ) -> "_diagnosis.Diagnosis":
        """Return why a sync failed, who has to act, and what to do; `failed` is its status, handle or outcome.

        Requests the status of a handle, then up to five of: connections, configuration, one page of 100 push and pull
        operations, syncs. They are background requests, each a single attempt; one that fails is named in `unchecked`
        and ends nothing. Pass `background=False` or `retry` to change that.

        Args:
            failed: The status, handle or outcome of the sync.

        Raises:
            ValueError: The sync has not failed.
            StatusError: As for `get`, if the status of a handle cannot be read.

        Example:
            ```python
            status = await codat.sync.run(company_id, raise_on_failure=False)
            if status.failed:
                diagnosis = await codat.sync.diagnose(status)
                print(diagnosis.summary, *diagnosis.actions)
            ```
        """
        calls = _calls.PipelineDiagnosisCalls(self._pipeline, LIST)
        if isinstance(failed, SyncHandle):
            status = await self._status_of(failed, options)
            return await _diagnose.diagnose_status(calls, status, options, company_id=failed.company_id)
        if isinstance(failed, BaseSyncStatus):
            return await _diagnose.diagnose_status(calls, failed, options)
        if isinstance(failed, _outcome.SyncOutcome):
            return await _diagnose.diagnose_outcome(calls, failed, options)
        kind = type(failed).__name__
        raise TypeError(f"failed must be a status, a handle or an outcome (got {kind}); {HOW_TO_GET_A_HANDLE}")

    async def _status_of(self, handle: SyncHandle, options: CallOptions) -> BaseSyncStatus:
        if handle.sync_id is not None:
            return await self.get(handle.company_id, handle.sync_id, **options)
        status = await self.get_status(handle.company_id, **options)
        if handle.commerce_sync_id not in {None, status.commerce_sync_id}:
            raise ValueError("handle must have a sync_id, because a newer sync has started; wait for the handle first")
        return status

    def stepper(
        self,
        *,
        timeout: float | None = _DEFAULT_TIMEOUT,
        poll: PollPolicy | None = None,
        **options: Unpack[PollOptions],
    ) -> "_stepping.SyncStepper":
        """Return a stepper, which performs single steps of `SyncTicket`s from a task queue; create one per process.

        Args:
            timeout: Seconds to wait for each sync, from its start, by default an hour; None for no limit.
            poll: Only its `interval` has an effect.
        """
        return _stepping.SyncStepper(self.context, self._wait_settings("stepper", timeout, poll, options))

    def poll_now(self, company_id: str) -> int:
        """Poll the company's running syncs soon; return how many waits were notified.

        For webhooks: no event reports the end of a sync, but a `read.completed` or a `*.write.*` of the company makes
        it worth a poll. However many notifications there are, two polls of one sync are `PollPolicy.interval` apart,
        and the last notification is followed by a poll.

        Args:
            company_id: The id of the company.
        """
        if isinstance(company_id, SyncHandle):
            raise TypeError("company_id must be a string (got SyncHandle); pass handle.company_id")
        return self.context.notifier.notify(check_str("company_id", company_id))

    def _wait_settings(
        self, method: str, timeout: float | None, poll: PollPolicy | None, options: PollOptions
    ) -> _poller.WaitSettings:
        check_wait_options(method, timeout, poll, options)
        return _poller.WaitSettings(timeout, poll or self._poll_policy, options)


class _SyncCalls:
    """The calls of `SyncResource` that starting and polling syncs uses.

    The resource itself cannot be used: its `request` returns no attempts, from which the time of the request is found.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    async def request(
        self, request: SyncRequest, *, key_valid_for: float | None = None, **options: Unpack[CallOptions]
    ) -> ApiResponse[SyncSummary]:
        if request.start is not None and request.finish is not None:
            operation = REQUEST_FOR_DATE_RANGE
            body: object = SyncRange(date_range=DateRange(start=request.start, finish=request.finish))
        else:
            operation = REQUEST
            body = SyncToLatestArgs(sync_to=request.sync_to) if request.sync_to else SyncToLatestArgs()
        return await self._pipeline.send(
            operation, request.company_id, body=body, starts_work=True, key_valid_for=key_valid_for, **options
        )

    async def get(self, company_id: str, sync_id: str, **options: Unpack[CallOptions]) -> CompanySyncStatus:
        return await self._pipeline.call(GET, company_id, sync_id, **options)

    async def get_status(self, company_id: str, **options: Unpack[CallOptions]) -> SyncStatus:
        return await self._pipeline.call(GET_STATUS, company_id, **options)

    async def list(self, company_id: str, **options: Unpack[CallOptions]) -> tuple[CompanySyncStatus, ...]:
        return await self._pipeline.call(LIST, company_id, **options)
