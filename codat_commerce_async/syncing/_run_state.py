"""The state of a fan-out: which jobs are waiting, being started and running, and the counts of its report."""

from collections.abc import Callable, Iterator
from itertools import chain

from attrs import asdict, define

from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.syncing._journal.entry import JournalEntry
from codat_commerce_async.syncing._queue import CompanySource, SyncJob, WorkQueue
from codat_commerce_async.syncing.outcome import RunReport, SyncOutcome
from codat_commerce_async.syncing.request import SyncRequest

__all__ = ["Counts", "RunState"]


@define
class Counts:
    """The counts so far, by the names of `RunReport`."""

    started: int = 0
    succeeded: int = 0
    failed: int = 0
    errors: int = 0
    resumed: int = 0
    adopted: int = 0
    polls: int = 0
    earlier_unfinished: int = 0
    earlier_finished: int = 0

    def add(self, outcome: SyncOutcome) -> None:
        """Count one outcome."""
        self.adopted += outcome.adopted
        if outcome.status is None:
            self.errors += 1
        elif outcome.status.failed:
            self.failed += 1
        else:
            self.succeeded += 1


class RunState:
    """The jobs of a fan-out by their stage: in the `queue`, being started, running, or finished and counted."""

    def __init__(
        self,
        companies: CompanySource,
        on_change: Callable[[], None],
        on_already_finished: Callable[[JournalEntry], None],
    ) -> None:
        self.queue = WorkQueue(companies, self.active_request, on_change, on_already_finished)
        self.counts = Counts()
        # By company id.
        self._starting: dict[str, SyncJob] = {}
        self._running: dict[str, SyncJob] = {}
        self._earlier_running = 0

    @property
    def is_done(self) -> bool:
        """Whether all jobs have finished."""
        return self.queue.is_empty and not self._running and not self._starting

    @property
    def active_count(self) -> int:
        """How many jobs are being started or running."""
        return len(self._starting) + len(self._running)

    @property
    def starting_count(self) -> int:
        """How many jobs are being started."""
        return len(self._starting)

    @property
    def running_count(self) -> int:
        """How many jobs are running; those that wait to be resumed are not counted."""
        return len(self._running)

    def start_next(self) -> SyncJob:
        """Take the next job from the queue to start it."""
        job = self.queue.pop()
        self._starting[job.company_id] = job
        return job

    def mark_running(self, job: SyncJob) -> None:
        """Record that the sync of the job was started."""
        del self._starting[job.company_id]
        self._running[job.company_id] = job
        if job.is_earlier:
            self._earlier_running += 1

    def requeue(self, job: SyncJob) -> None:
        """Return a job that was not started to the queue."""
        del self._starting[job.company_id]
        self.queue.requeue(job)

    def finish(self, outcome: SyncOutcome) -> bool:
        """Count the outcome of a job and make the company's next job ready; return whether the job was running."""
        was_running = self._end_job(outcome.company_id)
        self.counts.add(outcome)
        return was_running

    def finish_earlier(self, company_id: str) -> bool:
        """Count the end of a sync of an earlier run, and make the company's next job ready."""
        was_running = self._end_job(company_id)
        self.counts.earlier_finished += 1
        return was_running

    def _end_job(self, company_id: str) -> bool:
        """Remove the company's job and make its next one ready; return whether the job was running."""
        self._starting.pop(company_id, None)
        job = self._running.pop(company_id, None)
        if job is not None and job.is_earlier:
            self._earlier_running -= 1
        self.queue.company_finished(company_id)
        return job is not None

    def get_running(self, company_id: str) -> SyncJob | None:
        """Return the running job of the company, if any."""
        return self._running.get(company_id)

    def get_starting(self, company_id: str) -> SyncJob | None:
        """Return the company's job that is being started, if any."""
        return self._starting.get(company_id)

    def active_request(self, company_id: str) -> SyncRequest | None:
        """Return the company's request that is being started or running, if any."""
        job = self._starting.get(company_id) or self._running.get(company_id)
        return job.request if job is not None else None

    @property
    def running_handles(self) -> tuple[SyncHandle, ...]:
        """The handles of the syncs that run at Codat and have no outcome yet, also of jobs that wait to be resumed."""
        polled = [job.poller.handle for job in self._running.values()]
        return (*polled, *(job.handle for job in self._not_running() if job.handle is not None))

    @property
    def unconfirmed(self) -> tuple[tuple[str, str], ...]:
        """The company ids and idempotency keys of the start requests whose result is not known."""
        jobs = [job for job in self._not_running() if job.handle is None]
        return tuple((job.company_id, job.key) for job in jobs if job.key is not None)

    def report(self, elapsed: float, run_id: str | None = None) -> RunReport:
        """Return the present counts; those of `running` and of outcomes leave out syncs of earlier runs."""
        return RunReport(
            **asdict(self.counts),
            run_id=run_id,
            running=len(self._running) - self._earlier_running,
            duplicates=self.queue.duplicates,
            already_finished=self.queue.already_finished,
            already_failed=self.queue.already_failed,
            elapsed=elapsed,
        )

    def _not_running(self) -> Iterator[SyncJob]:
        """Yield the jobs that are being started or waiting; an earlier attempt may have sent their requests."""
        return chain(self._starting.values(), self.queue.waiting)
