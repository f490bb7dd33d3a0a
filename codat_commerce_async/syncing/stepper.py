"""Perform one step of a ticket: start its sync, or poll it once.

A start that is delivered again resumes under the same key (`_start.py`). The times of polls follow `_scheduler.py`.
"""

from datetime import datetime, timedelta
from typing import Protocol, cast, runtime_checkable

from attrs import evolve

from codat_commerce_async._core.idempotency import FirstUse
from codat_commerce_async._core.operation import check_id
from codat_commerce_async.errors import CodatError, OutcomeUnknownError, QuotaExhaustedError
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.models.sync import SyncStatus
from codat_commerce_async.syncing._context import RESERVED_REQUESTS, SyncContext
from codat_commerce_async.syncing._durations import DurationModel
from codat_commerce_async.syncing._failures import as_codat_error, cause_of, raise_if_fatal, seconds_to_reset
from codat_commerce_async.syncing._poller import PollHistory, SyncPoller, WaitSettings
from codat_commerce_async.syncing._scheduler import (
    due_age_of_next_poll,
    min_poll_interval,
    poll_cost_when_idle,
    poll_cost_while_starting,
)
from codat_commerce_async.syncing._server_time import ServerTimeProbe
from codat_commerce_async.syncing._start import start, start_options
from codat_commerce_async.syncing.outcome import SyncOutcome
from codat_commerce_async.syncing.ticket import Reschedule, SyncTicket

__all__ = ["SyncStepper"]

# Seconds by which a ticket may seem to be created in the future; beyond, the clocks disagree.
_MAX_CLOCK_ERROR = 60.0
# The number of runs whose progress a process remembers.
_MAX_RUNS = 100


@runtime_checkable
class _FleetLimiter(Protocol):
    """A rate limiter that several processes share: its rate and its reservations are those of all of them."""

    @property
    def fleet_min_interval(self) -> float: ...

    def reserve(self, requests: int, *, run: str | None = None) -> None: ...


class SyncStepper:
    """Perform single steps of tickets, and estimate from them how long syncs take. Create one per process.

    A step is idempotent: the same ticket may be delivered several times, at the same time too, and starts one sync. A
    sync that no response named is never adopted, because the tickets of other processes are not known here.
    """

    def __init__(self, context: SyncContext, waiting: WaitSettings) -> None:
        self._context = context
        self._clock = context.clock
        self._waiting = waiting
        self._interval = waiting.poll.interval
        self._durations = DurationModel()
        # By run id: the highest number of companies that a ticket seen here shows to be started.
        self._started: dict[str, int] = {}
        self._server_time_probe = ServerTimeProbe(context)

    async def step(self, ticket: SyncTicket) -> Reschedule | SyncOutcome:
        """Start the sync of the ticket, or poll it once; return when to continue, or the outcome.

        An error of the company is its outcome. A cancelled step may be repeated.

        Args:
            ticket: The ticket.

        Raises:
            CodatError: An error with `fatal_for_run`, such as a wrong key: the ticket has to stay in the queue.
        """
        problem = ticket.problem or _problem(ticket.company_id)
        if problem is not None:
            return self._outcome(ticket, error=CodatError(problem))
        self._note_progress(ticket)
        if ticket.handle is None:
            return await self._start(ticket)
        return await self._poll(ticket, ticket.handle)

    def seconds_until_due(self, ticket: SyncTicket) -> float:
        """Return after how many seconds the next step of the ticket is due; 0 for a sync that was not started.

        Args:
            ticket: The ticket.
        """
        now = self._server_now()
        wait = (ticket.not_before - now).total_seconds() if ticket.not_before is not None else 0.0
        if ticket.handle is None:
            return max(0.0, wait)
        last_age, interval = ticket.last_age, self._interval
        least = min_poll_interval(last_age, interval) if ticket.polls else min(interval, 1.0)
        due_age = max(due_age_of_next_poll(self._durations, last_age, self._poll_cost(ticket)), last_age + least)
        if self._waiting.timeout is not None:
            due_age = min(due_age, self._waiting.timeout)
        return max(0.0, wait, due_age - self._age(ticket))

    async def _start(self, ticket: SyncTicket) -> Reschedule | SyncOutcome:
        await self._server_time_probe.request_once(ticket.company_id)
        try:
            handle = await start(
                self._context,
                ticket.request,
                start_options(self._waiting.options, ticket.id),
                first_use=FirstUse(self._first_sent_at(ticket), None, ticket.server_offset or 0.0),
                adopt=False,
            )
        except Exception as error:  # noqa: BLE001 - whatever one company causes is that company's outcome
            failure = as_codat_error(ticket.company_id, error)
            raise_if_fatal(failure)
            cause = cause_of(failure)
            if isinstance(cause, QuotaExhaustedError):
                return self._wait_for_quota(ticket, cause)
            return self._outcome(ticket, error=failure)
        self._reserve(ticket, RESERVED_REQUESTS)
        return self._reschedule(evolve(ticket, handle=handle, not_before=None))

    async def _poll(self, ticket: SyncTicket, handle: SyncHandle) -> Reschedule | SyncOutcome:
        poller = SyncPoller(self._context, handle, self._waiting, adopt=False, history=self._history(ticket))
        try:
            status = await poller.poll()
            if status is None or not status.is_terminal:
                poller.check_deadline()
        except QuotaExhaustedError as error:
            return self._wait_for_quota(evolve(ticket, polls=poller.polls), error)
        except Exception as error:  # noqa: BLE001 - whatever one company causes is that company's outcome
            failure = as_codat_error(ticket.company_id, error)
            raise_if_fatal(failure)
            self._reserve(ticket, -RESERVED_REQUESTS)
            return self._outcome(evolve(ticket, handle=poller.handle, polls=poller.polls), error=failure)
        return self._polled(ticket, poller, status)

    def _polled(self, ticket: SyncTicket, poller: SyncPoller, status: SyncStatus | None) -> Reschedule | SyncOutcome:
        """Return what follows from a poll; None as the status is a poll that failed or found nothing."""
        age = max(self._age(ticket), ticket.last_age)
        polled = evolve(ticket, handle=poller.handle, polls=poller.polls)
        if status is not None and status.is_terminal:
            self._durations.ended(ticket.last_age, age)
            self._reserve(ticket, -RESERVED_REQUESTS)
            return self._outcome(polled, status=status)
        if status is not None:
            self._durations.still_running(ticket.last_age, age)
            polled = evolve(polled, last_seen_at=self._server_now())
        pause = poller.not_before - self._clock.time()
        not_before = self._server_now() + timedelta(seconds=pause) if pause > 0 else None
        return self._reschedule(evolve(polled, last_age=age, not_before=not_before))

    def _reschedule(self, ticket: SyncTicket) -> Reschedule:
        seconds = self.seconds_until_due(ticket)
        interval = self._interval / 4 if ticket.polls else min(self._interval, 1.0)
        return Reschedule(ticket, seconds + self._context.random.uniform(0.0, interval))

    def _wait_for_quota(self, ticket: SyncTicket, error: QuotaExhaustedError) -> Reschedule:
        seconds = seconds_to_reset(error)
        return Reschedule(evolve(ticket, not_before=self._server_now() + timedelta(seconds=seconds)), seconds)

    def _outcome(
        self, ticket: SyncTicket, *, status: SyncStatus | None = None, error: CodatError | None = None
    ) -> SyncOutcome:
        handle = error.handle if isinstance(error, OutcomeUnknownError) and ticket.handle is None else ticket.handle
        return SyncOutcome(
            request=ticket.request,
            handle=handle,
            status=status,
            error=error,
            polls=ticket.polls,
            elapsed=self._age(ticket),
            ticket_id=ticket.id,
        )

    def _first_sent_at(self, ticket: SyncTicket) -> float:
        """Return the epoch seconds since which the key may have been in use; long ago if the clocks disagree."""
        created_at = ticket.created_at.timestamp()
        ahead = created_at + (ticket.server_offset or 0.0) - self._server_now().timestamp()
        return created_at if ahead <= _MAX_CLOCK_ERROR else 0.0

    def _history(self, ticket: SyncTicket) -> PollHistory:
        last_seen = ticket.last_seen_at
        return PollHistory(
            age=self._age(ticket),
            polls=ticket.polls,
            seconds_since_status=None
            if last_seen is None
            else max(0.0, (self._server_now() - last_seen).total_seconds()),
        )

    def _age(self, ticket: SyncTicket) -> float:
        """Return the seconds since the sync was requested, or since the ticket was created."""
        requested_at = ticket.handle.requested_at if ticket.handle is not None else None
        return max(0.0, (self._server_now() - (requested_at or ticket.created_at)).total_seconds())

    def _server_now(self) -> datetime:
        return self._clock.server_time(self._clock.now())

    def _poll_cost(self, ticket: SyncTicket) -> float:
        """Return the delay in seconds that a poll must save, from the progress of the run and the fleet's rate."""
        limiter = self._context.rate_limiter
        interval = limiter.fleet_min_interval if isinstance(limiter, _FleetLimiter) else limiter.min_interval
        started = self._started.get(ticket.run_id, ticket.index + 1)
        left = None if ticket.size is None else max(0, ticket.size - started)
        if left == 0:
            return max(poll_cost_when_idle(started), 0.01)
        return max(poll_cost_while_starting(ticket.objective, started, left, interval), 0.01)

    def _note_progress(self, ticket: SyncTicket) -> None:
        """Record that the tickets before this one were taken from the queue too."""
        started = max(self._started.pop(ticket.run_id, 0), ticket.index + 1)
        self._started[ticket.run_id] = started
        if len(self._started) > _MAX_RUNS:
            del self._started[next(iter(self._started))]

    def _reserve(self, ticket: SyncTicket, requests: int) -> None:
        """Reserve requests of the daily quota for the sync in all processes: it belongs to none of them."""
        limiter = self._context.rate_limiter
        if isinstance(limiter, _FleetLimiter):
            cast("_FleetLimiter", limiter).reserve(requests, run=ticket.run_id)


def _problem(company_id: str) -> str | None:
    """Return why an id cannot be sent; None for a valid one."""
    try:
        check_id("company_id", company_id)
    except (TypeError, ValueError) as error:
        return str(error)
    return None
