"""Syncs as jobs of procrastinate (extra `procrastinate`): one job per start or poll, on PostgreSQL.

app = procrastinate.App(connector=procrastinate.PsycopgConnector(...))
tasks = SyncTasks(app, on_outcome=save)                   # in every process, when the module is imported

await tasks.feed(SyncTicket.for_run("2026-11-26", company_ids))       # in one process
async with CodatCommerce.from_env() as codat:
await tasks.run_worker(codat)                                     # in every worker
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial

from codat_commerce_async._core.callbacks import check_callback
from codat_commerce_async._core.log import extra_fields, logger_of
from codat_commerce_async._core.validation import check_str
from codat_commerce_async.client import CodatCommerce
from codat_commerce_async.syncing._feed import MAX_QUEUED, feed
from codat_commerce_async.syncing._working import deliver, run_until_stopped
from codat_commerce_async.syncing.outcome import SyncOutcome
from codat_commerce_async.syncing.stepper import SyncStepper
from codat_commerce_async.syncing.ticket import Reschedule, SyncTicket, TicketVersionError

try:
    from procrastinate import App, BaseRetryStrategy, JobContext, RetryDecision
    from procrastinate.exceptions import AlreadyEnqueued, ConnectorException, UniqueViolation
    from procrastinate.jobs import Job, Status
except ImportError as error:
    raise ImportError("procrastinate is not installed: pip install 'codat-commerce-async[procrastinate]'") from error

__all__ = ["SyncTasks"]

_logger = logger_of("sync")

_STEP, _RECOVER = "codat_sync_step", "codat_sync_recover"
# procrastinate's cron expressions have the seconds as their last field.
_EVERY_10_SECONDS = "* * * * * */10"
# A worker whose last heartbeat is older is dead. procrastinate's own workers have a heartbeat every 10 seconds. A job
# of a worker that is only slow is done twice, which is harmless.
_DEAD_AFTER = 20
_HEARTBEAT = 5.0
_MAX_RETRY_DELAY = 300
# Polls have priority over starts: a running sync is waited for, a waiting company is not.
_POLL_PRIORITY = 10
# Recovery must not wait behind a queue of starts.
_RECOVER_PRIORITY = 20
_COUNT = "SELECT count(*) AS queued FROM procrastinate_jobs WHERE queue_name = %(queue)s AND status = 'todo'"
# Jobs that were started so long ago that their worker has lost them: procrastinate does not try again to return a job
# to the queue if the database fails then, and the worker lives on.
_LOST = """
SELECT id, status, task_name, priority, lock, queueing_lock, args, scheduled_at, queue_name, attempts, worker_id
FROM procrastinate_jobs job
WHERE status = 'doing' AND queue_name = %(queue)s AND NOT EXISTS (
    SELECT FROM procrastinate_events
    WHERE job_id = job.id AND type = 'started' AND at > now() - interval '15 minutes'
)
"""


class _InvalidTicketError(Exception):
    """The text of a job is no ticket of any version."""


class _Retry(BaseRetryStrategy):
    """Keep the job in the queue, unless its ticket cannot be read at all."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        if isinstance(exception, _InvalidTicketError):
            return None
        if not isinstance(exception, Exception):  # the worker is being stopped
            return RetryDecision(retry_in={"seconds": 0})
        return RetryDecision(retry_in={"seconds": min(_MAX_RETRY_DELAY, 10 * 2 ** min(job.attempts, 10))})


class SyncTasks:
    """The tasks of syncs in a procrastinate app. Create it once per process, before the worker starts.

    `on_outcome` (also a coroutine function) receives every outcome at least once: store it by its `ticket_id`. If it
    raises, the job is repeated later, with growing delays. All jobs are in one queue, `queue`.

    Args:
        app: The app whose queue holds the tickets.
        on_outcome: Receives every outcome at least once; also a coroutine function.
        queue: The name of the queue.
    """

    def __init__(
        self, app: App, *, on_outcome: Callable[[SyncOutcome], Awaitable[None] | None], queue: str = "codat"
    ) -> None:
        check_callback("on_outcome", on_outcome)
        self.queue = check_str("queue", queue)
        self._app = app
        self._on_outcome = on_outcome
        self._stepper: SyncStepper | None = None
        self._task = app.task(name=_STEP, queue=queue, retry=_Retry(), pass_context=True)(self._step)
        # Recovery has a queueing lock, so that a backlog of it never grows.
        recover = app.task(name=_RECOVER, queue=queue, queueing_lock=_RECOVER, priority=_RECOVER_PRIORITY)(
            self._recover
        )
        app.periodic(cron=_EVERY_10_SECONDS)(recover)

    async def enqueue(self, ticket: SyncTicket, *, connection: object | None = None) -> bool:
        """Enqueue a ticket; return False if it is queued already.

        With a psycopg `connection`, it is enqueued in its transaction. A ticket that is queued already then makes the
        transaction fail.

        Args:
            ticket: The ticket to enqueue.
            connection: A psycopg connection in whose transaction the ticket is enqueued.
        """
        return await self._defer(ticket, 0.0, connection)

    async def feed(self, tickets: Iterable[SyncTicket], *, max_queued: int = MAX_QUEUED) -> int:
        """Enqueue a whole run, at most `max_queued` tickets at a time; return the number of tickets.

        Args:
            tickets: The tickets of the run, created as they are taken.
            max_queued: The number of waiting jobs above which feeding pauses.
        """
        return await feed(tickets, self._enqueue_all, self.count_queued, max_queued=max_queued)

    async def count_queued(self) -> int:
        """Return how many jobs of the queue are waiting, including those that are not due yet."""
        row = await self._app.connector.execute_query_one_async(_COUNT, queue=self.queue)
        return int(row["queued"])

    @asynccontextmanager
    async def working(self, codat: CodatCommerce, *, timeout: float | None = 3600.0) -> AsyncIterator[SyncStepper]:
        """Perform the steps with this client inside the block: run the worker in it.

        Args:
            codat: The client that performs the steps.
            timeout: Seconds to wait for each sync; None for no limit.
        """
        self._stepper = codat.sync.stepper(timeout=timeout)
        try:
            yield self._stepper
        finally:
            self._stepper = None

    async def run_worker(self, codat: CodatCommerce, *, concurrency: int = 25, timeout: float | None = 3600.0) -> None:
        """Run a worker until SIGTERM; steps that do not end within a second are then returned to the queue.

        A database that is restarted meanwhile does not end the worker; one that cannot be used at the start does.
        `concurrency` steps are in work or wait for the rate limiter. More of them add no speed, but delay the polls in
        the queue behind them, and after a kill all of them have to be recovered.

        Args:
            codat: The client that performs the steps.
            concurrency: The number of steps at once, most of which wait for the rate limiter.
            timeout: Seconds to wait for each sync; None for no limit.
        """
        run = partial(
            self._app.run_worker_async,
            queues=[self.queue],
            concurrency=concurrency,
            fetch_job_polling_interval=1.0,
            shutdown_graceful_timeout=1.0,
            update_heartbeat_interval=_HEARTBEAT,
            delete_jobs="successful",
            install_signal_handlers=False,
        )
        # A database that cannot be used now is an error; one that fails later may return.
        await self.count_queued()
        async with self.working(codat, timeout=timeout):
            # procrastinate's worker ends when the database is restarted.
            await run_until_stopped(run, ConnectorException)

    async def _step(self, context: JobContext, ticket: str) -> None:
        if self._stepper is None:
            raise RuntimeError("the worker must run inside `async with tasks.working(codat)`")
        result = await self._stepper.step(_parse(ticket))
        if isinstance(result, Reschedule):
            await self._defer(result.ticket, result.seconds, None)
        elif result.error is None or await self._holds(context.job):
            await deliver(self._on_outcome, result)

    async def _holds(self, job: Job) -> bool:
        """Return whether the job is still this worker's.

        If the worker was suspended for so long that another one took the job, that one reports the outcome. An error of
        this one, such as that its key is too old, must not replace it.
        """
        jobs = await self._app.job_manager.list_jobs_async(id=job.id, status=Status.DOING.value)
        return any(each.attempts == job.attempts for each in jobs)

    async def _defer(self, ticket: SyncTicket, seconds: float, connection: object | None) -> bool:
        deferrer = self._task.configure(
            queueing_lock=ticket.id,
            priority=0 if ticket.handle is None else _POLL_PRIORITY,
            schedule_in={"milliseconds": round(seconds * 1000)},
            connection=connection,
        )
        try:
            await deferrer.defer_async(ticket=ticket.to_json())
        except AlreadyEnqueued:
            return False
        return True

    async def _enqueue_all(self, tickets: Sequence[SyncTicket]) -> None:
        for ticket in tickets:
            await self.enqueue(ticket)

    async def _recover(self, timestamp: int) -> None:  # noqa: ARG002 - of every periodic task
        """Return the jobs of dead workers to the queue, and those that a living worker has lost."""
        manager = self._app.job_manager
        stalled = await manager.get_stalled_jobs(queue=self.queue, seconds_since_heartbeat=_DEAD_AFTER)
        lost = await self._app.connector.execute_query_all_async(_LOST, queue=self.queue)
        for job in {job.id: job for job in (*stalled, *map(Job.from_row, lost))}.values():
            try:
                await manager.retry_job(job)
            except UniqueViolation:
                # The successor of the job is queued already: its step was completed.
                await manager.finish_job(job, Status.FAILED, delete_job=True)
            except ConnectorException as error:
                _logger.info("could not recover job %s: %s", job.id, error, extra=extra_fields())


def _parse(text: str) -> SyncTicket:
    try:
        return SyncTicket.from_json(text)
    except TicketVersionError:
        raise
    except ValueError as error:
        raise _InvalidTicketError(str(error)) from None
