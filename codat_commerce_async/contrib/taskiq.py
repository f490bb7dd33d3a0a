"""Syncs as tasks of taskiq (extra `taskiq`): a task is a slice of several steps, as brokers cannot delay a message.

broker = AioPikaBroker(...)                               # any broker that acknowledges messages
tasks = SyncTasks(broker, on_outcome=save)                # in every process, when the module is imported

await tasks.feed(SyncTicket.for_run("2026-11-26", company_ids), count_queued)      # in one process
async with CodatCommerce.from_env() as codat:
await tasks.run_worker(codat)                                                  # in every worker
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import nullcontext
from functools import partial

from codat_commerce_async._core.callbacks import check_callback
from codat_commerce_async._core.log import extra_fields, logger_of
from codat_commerce_async.client import CodatCommerce
from codat_commerce_async.syncing._feed import MAX_QUEUED, feed
from codat_commerce_async.syncing._slices import Slices
from codat_commerce_async.syncing._working import Heartbeat, deliver, on_stop_signal
from codat_commerce_async.syncing.outcome import SyncOutcome
from codat_commerce_async.syncing.ticket import SyncTicket, TicketVersionError

try:
    from taskiq import AckableMessage, AsyncBroker, Context, TaskiqDepends
    from taskiq.acks import AcknowledgeType
    from taskiq.receiver import Receiver
except ImportError as error:
    raise ImportError("taskiq is not installed: pip install 'codat-commerce-async[taskiq]'") from error

__all__ = ["SyncTasks"]

_logger = logger_of("sync")

_SLICE, _WAKE = "codat_sync_slice", "codat_sync_wake"
# Seconds between messages without work. taskiq's Redis broker recovers the messages of dead workers only when it
# receives one.
_WAKE_INTERVAL = 10.0
# Seconds between two heartbeats, also of long slices: a worker counts as dead after some of them.
_MAX_HEARTBEAT_INTERVAL = 5.0
# Seconds before a ticket that cannot be processed now is queued again.
_RETRY_DELAY = 15.0
_CONTEXT: Context = TaskiqDepends()


class SyncTasks:
    """The tasks of syncs at a taskiq broker. Create it once per process, before the worker starts.

    `on_outcome` (also a coroutine function) receives every outcome at least once: store it by its `ticket_id`. If it
    raises, the ticket is queued again after 15 seconds. A slice takes `slice_seconds`; the broker must not deliver a
    message again before twice that time. Longer slices report outcomes sooner while many tickets wait, as a ticket
    that is queued again waits behind them; shorter ones take fewer requests.

    A step that is under way makes a slice longer, by minutes if Codat fails or throttles. If the broker delivers
    messages again after a time, rather than when a connection ends, pass a `heartbeat` that reports which messages are
    still in work. For Redis streams, use `StreamBroker` of `contrib.taskiq_redis`. Without a heartbeat, such a ticket
    is worked on twice and its outcome delivered twice, though its sync is started once.

    Args:
        broker: The broker whose messages hold the tickets.
        on_outcome: Receives every outcome at least once; also a coroutine function.
        slice_seconds: How long a task works on its ticket before it queues it again; at most some minutes.
        heartbeat: Called every half of `slice_seconds`, and at least every 5 seconds, with the messages in work. It
            returns those that the broker has delivered to another worker, which this one gives up, or None. If it
            raises, that is logged.
    """

    def __init__(
        self,
        broker: AsyncBroker,
        *,
        on_outcome: Callable[[SyncOutcome], Awaitable[None] | None],
        slice_seconds: float = 10.0,
        heartbeat: Callable[[Sequence[AckableMessage]], Awaitable[Collection[AckableMessage] | None]] | None = None,
    ) -> None:
        check_callback("on_outcome", on_outcome)
        if heartbeat is not None:
            check_callback("heartbeat", heartbeat)
        self._broker = broker
        self._on_outcome = on_outcome
        self._slice_seconds = slice_seconds
        self._heartbeat = Heartbeat(heartbeat, interval=min(slice_seconds / 2, _MAX_HEARTBEAT_INTERVAL))
        self._slices: Slices | None = None

        async def run_slice(ticket: str, context: Context = _CONTEXT) -> None:
            if self._slices is None:
                raise RuntimeError("the worker must be started by `tasks.run_worker(codat)`")
            await self._run(self._slices, ticket, context)

        # A function, because taskiq renames what it registers, and a method has no name to set.
        self._task = broker.register_task(run_slice, task_name=_SLICE, ack_type=AcknowledgeType.MANUAL.value)
        self._wake = broker.register_task(_do_nothing, task_name=_WAKE)

    async def enqueue(self, ticket: SyncTicket) -> None:
        """Enqueue a ticket; brokers have no part in a transaction of your database.

        Args:
            ticket: The ticket to enqueue.
        """
        await self._task.kiq(ticket.to_json())

    async def feed(
        self,
        tickets: Iterable[SyncTicket],
        count_queued: Callable[[], Awaitable[int]],
        *,
        max_queued: int = MAX_QUEUED,
    ) -> int:
        """Enqueue a whole run, at most `max_queued` tickets at a time; return the number of tickets.

        `count_queued` returns the number of messages that are not acknowledged, as only the broker's own client can
        count them.

        Args:
            tickets: The tickets of the run, created as they are taken.
            count_queued: Returns the number of messages that are not acknowledged.
            max_queued: The number of messages above which feeding pauses.
        """
        return await feed(tickets, self._enqueue_all, count_queued, max_queued=max_queued)

    async def run_worker(
        self, codat: CodatCommerce, *, concurrency: int = 1000, timeout: float | None = 3600.0
    ) -> None:
        """Run a worker in this process until SIGTERM; it then returns its tickets to the queue.

        Unlike taskiq's command, it has no child process, which would survive a kill of its parent.

        Args:
            codat: The client that performs the steps.
            concurrency: The number of tasks at once.
            timeout: Seconds to wait for each sync; None for no limit.
        """
        self._slices = slices = Slices(codat.sync.stepper(timeout=timeout), seconds=self._slice_seconds)
        self._broker.is_worker_process = True
        receiver = Receiver(self._broker, max_async_tasks=concurrency)
        with on_stop_signal(self.stop):
            try:
                await slices.unless_stopped(self._broker.startup())
                async with asyncio.TaskGroup() as group:
                    group.create_task(slices.repeat(self._wake.kiq, _WAKE_INTERVAL))
                    group.create_task(slices.repeat(self._heartbeat.send, self._heartbeat.interval))
                    await slices.consume(self._broker.listen, partial(self._work_on, receiver), limit=concurrency)
            finally:
                await slices.close(self._broker.shutdown())

    def stop(self) -> None:
        """End the worker: no further messages, and all slices return their tickets."""
        if self._slices is not None:
            self._slices.stop()

    async def _work_on(self, receiver: Receiver, message: bytes | AckableMessage) -> None:
        with nullcontext() if isinstance(message, bytes) else self._heartbeat.of(message):
            await receiver.callback(message)

    async def _run(self, slices: Slices, text: str, context: Context) -> None:
        """Run one slice. taskiq acknowledges a task that raised, therefore the task acknowledges itself, at the end."""
        try:
            try:
                ticket = SyncTicket.from_json(text)
            except TicketVersionError as error:
                await self._requeue(slices, text, error)
            except ValueError:
                _logger.exception("a message holds no ticket, and is removed", extra=extra_fields())
            else:
                await self._run_slice(slices, ticket)
            await context.ack()
        except Exception as error:  # noqa: BLE001 - whatever the broker's client raises
            slices.failures.add("a ticket could not be returned to the broker, which delivers it again", error)
        except asyncio.CancelledError:
            return  # at the end of the worker, or by the heartbeat; taskiq would log each one

    async def _run_slice(self, slices: Slices, ticket: SyncTicket) -> None:
        try:
            result = await slices.run(ticket)
            await self._heartbeat.confirm()
            if isinstance(result, SyncOutcome):
                await deliver(self._on_outcome, result)
            else:
                await self.enqueue(result)
        except Exception as error:  # noqa: BLE001 - whatever it is, the ticket must not be lost
            await self._requeue(slices, ticket.to_json(), error)

    async def _requeue(self, slices: Slices, text: str, error: Exception) -> None:
        """Queue a ticket again that cannot be processed now; at once if the worker is being stopped."""
        slices.failures.add("a ticket could not be processed, and is queued again", error)
        await slices.pause(_RETRY_DELAY)
        await self._task.kiq(text)

    async def _enqueue_all(self, tickets: Sequence[SyncTicket]) -> None:
        for ticket in tickets:
            await self.enqueue(ticket)


async def _do_nothing() -> None:
    """Handle a message whose only purpose is that the broker receives one."""
