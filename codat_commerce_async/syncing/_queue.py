"""The queue of a fan-out: its input, read as needed, with at most one active sync per company.

`SyncJob.from_entry` decides how the sync of a journal entry continues after a crash.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sized
from contextlib import aclosing
from itertools import chain

from attrs import define, evolve, field

from codat_commerce_async._core.log import extra_fields, logger_of
from codat_commerce_async._core.operation import check_id
from codat_commerce_async.errors import error_class
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.syncing._journal.entry import JournalEntry
from codat_commerce_async.syncing._journal.store import JournalStore
from codat_commerce_async.syncing._poller import SyncPoller
from codat_commerce_async.syncing._scheduler import Schedulable
from codat_commerce_async.syncing.request import SyncRequest

__all__ = ["CompanySource", "SyncJob", "WorkQueue", "may_have_started", "to_job"]

_logger = logger_of("sync")

CompanySource = Iterable[str | SyncRequest] | AsyncIterable[str | SyncRequest]

# The number of jobs that may be read ahead while another sync of their company is active.
_MAX_DEFERRED = 1000
# The number of characters of an invalid id that its outcome shows as the company id.
_MAX_SHOWN_LENGTH = 100


@define(eq=False)
class SyncJob(Schedulable):
    """One sync of a fan-out, from the queue to its outcome.

    `key` is its last idempotency key, first sent at `sent_at` (epoch seconds of the local clock), when the server's
    clock was `server_offset` seconds ahead (None: unknown); `sent_before` if a request may have been sent under an
    earlier key, or by an earlier process. `handle` is known once the sync was started, `poller` and
    `requested_at` (seconds of the event loop's clock) while it is polled. `problem` is why it cannot be started.
    `position` is its place in the input, from 1. `earlier_run` is the number of its run in the journal, if that is not
    the present run.
    """

    request: SyncRequest
    key: str | None = None
    sent_at: float | None = None
    handle: SyncHandle | None = None
    server_offset: float | None = field(default=None, kw_only=True)
    problem: str | None = field(default=None, kw_only=True)
    position: int | None = field(default=None, init=False)
    earlier_run: int | None = field(default=None, init=False)
    sent_before: bool = field(init=False)
    poller: SyncPoller = field(init=False)
    requested_at: float = field(init=False)
    poll_soon: bool = field(default=False, init=False)
    """A notification arrived while the sync was being started."""

    def __attrs_post_init__(self) -> None:
        self.sent_before = self.key is not None

    @classmethod
    def from_entry(cls, entry: JournalEntry) -> "SyncJob":
        """Return the job that continues what a journal recorded.

        It polls the sync if that is known, resumes the start under its key if that may have started one, and starts
        again otherwise. `_core/reconcile.py` decides whether a resumed key is sent again; the starts of earlier runs
        are not resumed (`SyncRunner._resume_earlier`).
        """
        job = cls._from_entry(entry)
        job.position = entry.position
        return job

    @classmethod
    def _from_entry(cls, entry: JournalEntry) -> "SyncJob":
        handle = entry.handle
        if handle is not None and (entry.state == "running" or handle.commerce_sync_id or handle.sync_id):
            return cls(entry.request, entry.idempotency_key, entry.sent_at, handle)
        if may_have_started(entry):
            return cls(entry.request, entry.idempotency_key, entry.sent_at, server_offset=entry.server_offset)
        # Codat would repeat its refusal under the same key.
        return cls(entry.request)

    @property
    def company_id(self) -> str:
        """The id of the company to sync."""
        return self.request.company_id

    @property
    def is_earlier(self) -> bool:
        """Whether the sync belongs to an earlier run of the journal."""
        return self.earlier_run is not None

    def mark_sent(self, key: str, sent_at: float, server_offset: float | None) -> None:
        """Record that the start request is about to be sent with this key."""
        self.sent_before = self.key is not None
        self.key, self.sent_at, self.server_offset = key, sent_at, server_offset

    def mark_not_sent(self) -> None:
        """Forget the key, because the request was not processed."""
        self.key = self.sent_at = self.server_offset = None


def may_have_started(entry: JournalEntry) -> bool:
    """Return whether a sync may have been started for an entry without a known handle."""
    error = error_class(entry.outcome or "")
    # An error that ended the run is not about the company.
    return entry.state == "starting" or error.ambiguous or error.fatal_for_run


class WorkQueue:
    """The jobs of a fan-out that are not started yet.

    A job is ready unless another sync of its company is active; then it is deferred. `active_request` returns what is
    being started or running for a company. `on_change` is called when a job becomes ready, `on_already_finished` with
    the journal's entry of a sync that ended in an earlier process of the run.
    """

    def __init__(
        self,
        companies: CompanySource,
        active_request: Callable[[str], SyncRequest | None],
        on_change: Callable[[], None],
        on_already_finished: Callable[[JournalEntry], None] | None = None,
    ) -> None:
        self._companies = companies
        self._active_request = active_request
        self._on_change = on_change
        self._on_already_finished = on_already_finished
        # By company id.
        self._ready: OrderedDict[str, SyncJob] = OrderedDict()
        self._deferred: dict[str, deque[SyncJob]] = {}
        # All of them once more, because a resumed run may defer any number and each input is compared with them.
        self._deferred_requests: set[SyncRequest] = set()
        self._deferred_count = 0
        self._resumed: set[SyncRequest] = set()
        # The companies of which a sync of an earlier run is ready or active. It is never a duplicate.
        self._earlier: set[str] = set()
        self._has_room = asyncio.Event()
        self._is_input_read = False
        self._read_count = 0
        self.total = len(companies) if isinstance(companies, Sized) else None
        self.duplicates = 0
        self.already_finished = 0
        self.already_failed = 0

    @property
    def is_empty(self) -> bool:
        """Whether all jobs were started."""
        return self._is_input_read and not self._ready and not self._deferred

    @property
    def has_ready(self) -> bool:
        """Whether a job can be started now."""
        return bool(self._ready)

    @property
    def is_exhausted(self) -> bool:
        """Whether the input is exhausted and nothing but deferred jobs is left."""
        return self._is_input_read and not self._ready

    @property
    def left(self) -> int | None:
        """How many jobs are not started yet; None if the input has no length."""
        waiting = len(self._ready) + self._deferred_count
        if self._is_input_read:
            return waiting
        return None if self.total is None else max(0, self.total - self._read_count) + waiting

    @property
    def waiting(self) -> Iterator[SyncJob]:
        """Yield the jobs that were read or resumed and are not started yet."""
        return chain(self._ready.values(), *self._deferred.values())

    async def read(self, journal: JournalStore) -> None:
        """Read the input to its end, one job ahead of need."""
        async with aclosing(_items(self._companies)) as items:
            async for item in items:
                self._read_count += 1
                job = to_job(item)
                job.position = self._read_count
                if job.problem is not None:
                    await self._enqueue(job)
                elif job.request in self._resumed:
                    self._resumed.discard(job.request)
                else:
                    await self._enqueue_unless_known(job, journal)
        self._is_input_read = True
        self._on_change()

    async def _enqueue_unless_known(self, job: SyncJob, journal: JournalStore) -> None:
        entry = await journal.get(job.request)
        # Sessions are numbered per process; there is none before the end.
        ended_in_this_process = entry is not None and entry.session == journal.session
        if entry is not None and entry.has_status and not ended_in_this_process:
            self.already_finished += 1
            self.already_failed += entry.state == "failed"
            if self._on_already_finished is not None:
                self._on_already_finished(entry)
        elif ended_in_this_process or self._is_duplicate(job.request):
            self.duplicates += 1
            _logger.warning(
                "company %s was given twice; it is synced once",
                job.company_id,
                extra=extra_fields(job.company_id),
            )
            # Let other tasks run, however many duplicates follow.
            await asyncio.sleep(0)
        else:
            await self._enqueue(job if entry is None else _continued(job, entry))

    def pop(self) -> SyncJob:
        """Return the next job to start."""
        self._has_room.set()
        return self._ready.popitem(last=False)[1]

    def requeue(self, job: SyncJob) -> None:
        """Return a job to the front of the queue."""
        self._append(job)
        self._ready.move_to_end(job.company_id, last=False)
        self._on_change()

    def resume(self, entry: JournalEntry) -> None:
        """Add the job of an unfinished journal entry."""
        self._resumed.add(entry.request)
        self._append_or_defer(SyncJob.from_entry(entry))

    def resume_earlier(self, entry: JournalEntry) -> None:
        """Add the job of an unfinished sync of an earlier run, before anything was read from the input."""
        job = SyncJob.from_entry(entry)
        job.earlier_run = entry.run
        self._append_or_defer(job)

    def company_finished(self, company_id: str) -> None:
        """Make the next deferred job of the company ready."""
        self._earlier.discard(company_id)
        deferred = self._deferred.get(company_id)
        if deferred is None:
            return
        job = deferred.popleft()
        self._append(job)
        if not job.is_earlier:
            self._deferred_requests.discard(job.request)
        self._deferred_count -= 1
        if not deferred:
            del self._deferred[company_id]

    async def _enqueue(self, job: SyncJob) -> None:
        while self._ready or self._deferred_count >= _MAX_DEFERRED:
            self._has_room.clear()
            await self._has_room.wait()
        self._append_or_defer(job)
        self._on_change()

    def _append_or_defer(self, job: SyncJob) -> None:
        # One sync of a company at a time: Codat refuses overlapping periods.
        if self._active_or_ready_request(job.company_id) is None:
            self._append(job)
        else:
            self._defer(job)

    def _append(self, job: SyncJob) -> None:
        if job.is_earlier:
            self._earlier.add(job.company_id)
        self._ready[job.company_id] = job

    def _defer(self, job: SyncJob) -> None:
        self._deferred.setdefault(job.company_id, deque()).append(job)
        if not job.is_earlier:
            self._deferred_requests.add(job.request)
        self._deferred_count += 1

    def _is_duplicate(self, request: SyncRequest) -> bool:
        """Return whether the same request is active or deferred."""
        if request in self._deferred_requests:
            return True
        return request.company_id not in self._earlier and request == self._active_or_ready_request(request.company_id)

    def _active_or_ready_request(self, company_id: str) -> SyncRequest | None:
        """Return the company's request that is being started, running or ready, if any."""
        active = self._active_request(company_id)
        if active is not None:
            return active
        job = self._ready.get(company_id)
        return job.request if job is not None else None


def _continued(job: SyncJob, entry: JournalEntry) -> SyncJob:
    """Return the job that continues the entry, at its present place in the input."""
    continued = SyncJob.from_entry(entry)
    continued.position = job.position
    return continued


def to_job(item: object) -> SyncJob:
    """Return the job for an item of the input; an invalid item becomes a job with a problem."""
    if not isinstance(item, SyncRequest | str):
        problem = f"companies must contain company ids or SyncRequests (got {type(item).__name__})"
        return SyncJob(SyncRequest(company_id=_shown(item)), problem=problem)
    request = item if isinstance(item, SyncRequest) else SyncRequest(company_id=item)
    try:
        check_id("company_id", request.company_id)
    except TypeError as error:
        return SyncJob(evolve(request, company_id=_shown(request.company_id)), problem=str(error))
    except ValueError as error:
        return SyncJob(request, problem=str(error))
    return SyncJob(request)


def _shown(value: object) -> str:
    """Return the text that stands for an id of a wrong type in its outcome."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - an object whose repr raises is an invalid id like any other
        text = f"<{type(value).__name__}>"
    return text[:_MAX_SHOWN_LENGTH]


async def _items(companies: CompanySource) -> AsyncGenerator[object, None]:
    """Yield the items of the input as they are needed; close an async generator at the end."""
    if not isinstance(companies, AsyncIterable):
        for one in companies:
            yield one
        return
    source: AsyncIterator[object] = aiter(companies)
    try:
        async for item in source:
            yield item
    finally:
        # Otherwise the garbage collector would close it, at any time and in another task.
        if isinstance(source, AsyncGenerator):
            await source.aclose()
