"""Send the start of a job, and record its idempotency key in the journal before."""

from functools import partial

from codat_commerce_async._core.idempotency import FirstUse
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.policies import PollOptions
from codat_commerce_async.syncing._context import SyncContext
from codat_commerce_async.syncing._journal.store import JournalStore, NullJournal
from codat_commerce_async.syncing._journal_claims import record_entry
from codat_commerce_async.syncing._queue import SyncJob
from codat_commerce_async.syncing._server_time import ServerTimeProbe
from codat_commerce_async.syncing._start import start, start_options

__all__ = ["JobStarter"]


class JobStarter:
    """The starts of a fan-out; set `journal` before the first one."""

    def __init__(self, context: SyncContext, options: PollOptions, *, adopt: bool) -> None:
        self.journal: JournalStore = NullJournal()
        self._context = context
        self._options = options
        self._adopt = adopt
        self._server_time_probe = ServerTimeProbe(context)

    async def start(self, job: SyncJob) -> SyncHandle:
        """Start the job's sync, or resume the start that an earlier process sent."""
        return await start(
            self._context,
            job.request,
            start_options(self._options, job.key),
            first_use=None if job.sent_at is None else FirstUse(job.sent_at, None, job.server_offset),
            adopt=self._adopt,
            persist_key=partial(self._persist_key, job),
            load_claims=partial(self._load_claims, job),
        )

    async def _persist_key(self, job: SyncJob, key: str) -> None:
        """Record the key in the journal before it is sent.

        Before the first key, this requests the server's time, which is recorded with the key: after a restart, it shows
        whether Codat still remembers the key, though the local clock may have been set.
        """
        if self.journal.is_persistent:
            await self._server_time_probe.request_once(job.company_id)
        clock = self._context.clock
        now, server_offset = clock.now(), clock.server_offset
        job.mark_sent(key, now, server_offset)
        await self.journal.record_start(job.request, key, now, server_offset, job.position)

    async def _load_claims(self, job: SyncJob) -> None:
        """Record which of the company's syncs belong to other requests in the journal."""
        for entry in await self.journal.of_company(job.company_id):
            if entry.run != self.journal.run or entry.request != job.request:
                record_entry(self._context, entry)
