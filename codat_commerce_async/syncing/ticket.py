"""Syncs on a task queue: a ticket per company, and a stepper that performs one start or one poll of it.

for ticket in SyncTicket.for_run("2026-11-26", company_ids): ...      # put ticket.to_json() into the queue

stepper = codat.sync.stepper()                                        # one per process
match await stepper.step(SyncTicket.from_json(text)):
case Reschedule(ticket, seconds): ...                             # put it back, due after `seconds`
case outcome: ...                                                 # a SyncOutcome: upsert it by ticket_id
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from datetime import UTC, datetime
from typing import Self
from uuid import UUID, uuid5

from attrs import frozen

from codat_commerce_async._core.json_object import JsonObject
from codat_commerce_async._core.log import extra_fields, logger_of
from codat_commerce_async._core.text import one_line
from codat_commerce_async._core.validation import check_aware_datetime, check_company_ids, check_str, require
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.syncing import _json
from codat_commerce_async.syncing._queue import to_job
from codat_commerce_async.syncing._scheduler import OBJECTIVES, Objective
from codat_commerce_async.syncing.request import SyncRequest

__all__ = ["Reschedule", "SyncTicket", "TicketVersionError"]

_logger = logger_of("sync")

_VERSION = 1
# Seconds by which the clocks of two machines may differ.
_MAX_CLOCK_ERROR = 60.0
# The namespace of the ids of tickets.
_NAMESPACE = UUID("7f0c4f0e-1f0a-5d6e-9d0b-3f4f6f1f2a11")


class TicketVersionError(ValueError):
    """A later version of the library wrote the ticket: leave it in the queue, for a process of that version."""


@frozen(kw_only=True)
class SyncTicket:
    """One sync of a run, as a value for a task queue. `id` is the same in every process and for every delivery.

    `id` is also the idempotency key of the start, so that a ticket that is delivered several times starts one sync.
    `created_at` counts as the time at which the key was first sent: 85 minutes later it is not sent any more, and the
    sync is searched for at Codat instead. Therefore create tickets as they are queued, and no faster than they are
    processed. `server_offset` is the seconds by which the server's clock was ahead of the local one then;
    without it, the clocks of the machines must agree to within a minute or two.
    """

    run_id: str
    """The name of the run."""

    request: SyncRequest
    """What to sync."""

    created_at: datetime
    """When the ticket was created, which counts as the time of the first request."""

    server_offset: float | None = None
    """Seconds by which the server's clock was ahead of the local one."""

    index: int = 0
    """The position in the run, from 0."""

    size: int | None = None
    """The number of companies of the run, if known."""

    objective: Objective = "throughput"
    """What counts when requests are scarce."""

    problem: str | None = None
    """Why the request is invalid; its step returns an outcome with this error."""

    handle: SyncHandle | None = None
    """The identity of the sync once it was started."""

    polls: int = 0
    """How often the sync was polled."""

    last_age: float = 0.0
    """The age of the sync at the last poll, in seconds."""

    last_seen_at: datetime | None = None
    """The time of the last poll."""

    not_before: datetime | None = None
    """The time before which Codat allows no request."""

    def __attrs_post_init__(self) -> None:
        check_str("run_id", self.run_id)
        check_aware_datetime("created_at", self.created_at)
        require(self.objective in OBJECTIVES, "objective", "'latency' or 'throughput'", self.objective)

    @classmethod
    def for_run(
        cls,
        run_id: str,
        companies: Iterable[str | SyncRequest],
        *,
        objective: Objective = "throughput",
        size: int | None = None,
        server_offset: float | None = None,
        first_queued_at: datetime | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> Iterator[Self]:
        """Return an iterator of one ticket per company, which is created as it is taken.

        The same run, company and period give the same ticket id, so a run that is queued again within 85 minutes starts
        nothing twice. To queue a run again later, pass the time of the first time as `first_queued_at`: the new tickets
        then count as old, and a sync that was started since is found instead of started again. Without it, all
        companies are synced again, as nothing here remembers the first time: the log has it (INFO).

        `size` is the number of companies if `companies` has no length. An invalid id becomes an outcome.

        Args:
            run_id: The name of the run, such as its date.
            companies: Company ids or requests, read as tickets are taken.
            objective: What counts when requests are scarce.
            size: The number of companies, if `companies` has no length.
            server_offset: Seconds by which the server's clock is ahead of the local one.
            first_queued_at: When the run was first queued, an aware datetime, if it is queued again; None for now.
            wall_clock: Returns the time in epoch seconds, for simulations.
        """
        check_company_ids("companies", companies)
        if first_queued_at is not None:
            first_queued_at = check_aware_datetime("first_queued_at", first_queued_at)
            is_past = first_queued_at.timestamp() <= wall_clock() + _MAX_CLOCK_ERROR
            expected = "in the past, as the time at which the run was first queued"
            require(is_past, "first_queued_at", expected, first_queued_at)

        def created_at(index: int) -> datetime:
            now = datetime.fromtimestamp(wall_clock(), UTC)
            if first_queued_at is None and index == 0:
                _log_first_queued(run_id, now)
            return now if first_queued_at is None else min(first_queued_at, now)

        known = len(companies) if size is None and isinstance(companies, Sized) else size
        return (
            cls(
                run_id=run_id,
                request=job.request,
                created_at=created_at(index),
                server_offset=server_offset,
                index=index,
                size=known,
                objective=objective,
                problem=job.problem,
            )
            for index, job in enumerate(map(to_job, companies))
        )

    @property
    def id(self) -> str:
        """The id: a UUIDv5 of run, company and period."""
        request = _json.request_to_dict(self.request)
        return str(uuid5(_NAMESPACE, json.dumps([self.run_id, *request.values()])))

    @property
    def company_id(self) -> str:
        """The id of the company."""
        return self.request.company_id

    def to_json(self) -> str:
        """Return the ticket as text, for `from_json` of this or a later version of the library."""
        return json.dumps(
            {
                "version": _VERSION,
                "run_id": self.run_id,
                "request": _json.request_to_dict(self.request),
                "created_at": self.created_at.isoformat(),
                "server_offset": self.server_offset,
                "index": self.index,
                "size": self.size,
                "objective": self.objective,
                "problem": self.problem,
                "handle": self.handle.to_json() if self.handle is not None else None,
                "polls": self.polls,
                "last_age": self.last_age,
                "last_seen_at": _json.isoformat(self.last_seen_at),
                "not_before": _json.isoformat(self.not_before),
            }
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Return the ticket that `to_json` wrote; unknown fields are ignored.

        Args:
            text: The text that `to_json` returned.

        Raises:
            TicketVersionError: A later version wrote the ticket. It has to stay in the queue during a rolling
                deployment.
            ValueError: The text is no ticket.
        """
        data = JsonObject.parse("a ticket", text)
        version = data.value("version", int)
        if version > _VERSION:
            raise TicketVersionError(f"version of a ticket must be {_VERSION} at most (got {version}); leave it queued")
        handle, created_at = data.optional("handle", str), data.time("created_at")
        if created_at is None:
            raise ValueError("created_at of a ticket must be a time in ISO 8601 format")
        objective = data.value("objective", str)
        return cls(
            run_id=data.value("run_id", str),
            request=_json.request_from_dict(data.value("request", dict)),
            created_at=created_at,
            server_offset=data.optional("server_offset", float),
            index=data.value("index", int),
            size=data.optional("size", int),
            objective="latency" if objective == "latency" else "throughput",
            problem=data.optional("problem", str),
            handle=SyncHandle.from_json(handle) if handle is not None else None,
            polls=data.value("polls", int),
            last_age=data.value("last_age", float),
            last_seen_at=data.time("last_seen_at"),
            not_before=data.time("not_before"),
        )


def _log_first_queued(run_id: str, moment: datetime) -> None:
    """Log what `for_run` needs to know when the run is queued again, in another process and hours later."""
    _logger.info(
        "run %s is queued; to queue it again later than in 85 minutes, pass first_queued_at=%s",
        one_line(run_id),
        moment.isoformat(),
        extra=extra_fields(run_id=run_id),
    )


@frozen
class Reschedule:
    """The result of a step that did not end the sync: queue this ticket, due after the given number of seconds."""

    ticket: SyncTicket
    """The ticket to queue."""

    seconds: float
    """After how many seconds it is due."""
