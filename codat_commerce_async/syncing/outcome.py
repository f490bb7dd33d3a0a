"""The results of a fan-out: an outcome per company, counts and progress."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Self

from codat_commerce_async._core.validation import check_int, check_number, require
from codat_commerce_async.errors import CodatError
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.models.sync import SyncStatus
from codat_commerce_async.syncing import _json
from codat_commerce_async.syncing.diagnosis import Diagnosis
from codat_commerce_async.syncing.request import SyncRequest

__all__ = [
    "OnProgress",
    "RunProgress",
    "RunReport",
    "StopWhen",
    "SyncOutcome",
    "stop_at_failure_rate",
    "stop_at_first_failure",
]

_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncOutcome:
    """The result of one company's sync: a `status`, or the `error` that prevented starting or polling it.

    `polls` counts its polls, `elapsed` is the seconds from the start request to the known end. `handle` is None if no
    sync is known to have been started. `ticket_id` identifies the outcome of a `SyncTicket`, which may be delivered
    more than once; it is None in `run_many`.
    """

    request: SyncRequest
    handle: SyncHandle | None
    status: SyncStatus | None
    error: CodatError | None
    polls: int
    elapsed: float
    ticket_id: str | None = None
    diagnosis: Diagnosis | None = None

    @property
    def company_id(self) -> str:
        """Return the id of the company."""
        return self.request.company_id

    @property
    def ok(self) -> bool:
        """Return whether the sync succeeded; see `adopted` for whether this request started it."""
        return self.status is not None and self.status.succeeded

    @property
    def adopted(self) -> bool:
        """Return whether the sync was found at Codat, not named in a response: another client may have started it."""
        return self.handle is not None and self.handle.adopted

    def to_json(self) -> str:
        """Return the outcome as text, for `from_json` of this or a later version; the error's cause is left out."""
        return json.dumps(
            {
                "version": _VERSION,
                "request": _json.request_to_json(self.request),
                "handle": self.handle.to_json() if self.handle is not None else None,
                "status": self.status.to_dict() if self.status is not None else None,
                "error": _json.error_to_json(self.error) if self.error is not None else None,
                "polls": self.polls,
                "elapsed": self.elapsed,
                "ticket_id": self.ticket_id,
                "diagnosis": self.diagnosis.to_dict() if self.diagnosis is not None else None,
            }
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Return the outcome that `to_json` wrote; unknown fields are ignored. Raises ValueError for anything else."""
        fields = _json.parse_object("an outcome", text)
        version = _json.value(fields, "version", int)
        require(version == _VERSION, "version of an outcome", f"{_VERSION}", version)
        handle, status, error = (
            _json.optional(fields, "handle", str),
            _json.optional(fields, "status", dict),
            _json.optional(fields, "error", dict),
        )
        diagnosis = _json.optional(fields, "diagnosis", dict)
        return cls(
            request=_json.request_from_json(_json.value(fields, "request", dict)),
            handle=SyncHandle.from_json(handle) if handle is not None else None,
            status=SyncStatus.from_dict(status) if status is not None else None,
            error=_json.error_from_json(error) if error is not None else None,
            polls=_json.value(fields, "polls", int),
            elapsed=_json.value(fields, "elapsed", float),
            ticket_id=_json.optional(fields, "ticket_id", str),
            diagnosis=Diagnosis.from_dict(diagnosis) if diagnosis is not None else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """The counts of a fan-out at one moment.

    - `started`: start requests that succeeded; `running` of these have no outcome yet.
    - `succeeded`, `failed`: outcomes with a status; `errors`: outcomes with an error.
    - `duplicates`: dropped, because the same request was active or waiting.
    - `resumed`: syncs that were running when the journal was opened; `already_finished`: syncs that had ended.
    - `adopted`: outcomes of syncs that were found at Codat rather than named in a response.
    - `polls`: status requests. `elapsed`: seconds.
    - `earlier_unfinished`: syncs of earlier runs of the journal that were unfinished when this run was opened;
      `earlier_finished`: those of them that have ended since. They are in none of the other counts but `polls`.
    - `run_id`: the id of the run in its journal, None without a journal.
    """

    run_id: str | None = None
    started: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    errors: int = 0
    duplicates: int = 0
    resumed: int = 0
    already_finished: int = 0
    adopted: int = 0
    polls: int = 0
    elapsed: float = 0.0
    earlier_unfinished: int = 0
    earlier_finished: int = 0

    @property
    def completed(self) -> int:
        """Return how many companies have an outcome."""
        return self.succeeded + self.failed + self.errors

    @property
    def nothing_started(self) -> bool:
        """Return whether no company was started, resumed or reported: at the end, whether all had ended before."""
        return not (self.started or self.resumed or self.running or self.completed)

    def __str__(self) -> str:
        adopted = f"{self.adopted} adopted, " if self.adopted else ""
        return (
            f"{self.completed} ended ({self.succeeded} succeeded, {self.failed} failed, {self.errors} errors), "
            f"{adopted}{self.running} running, {self.duplicates} duplicates, {self.already_finished} finished before, "
            f"{self.polls} polls in {self.elapsed:.0f} s{self._earlier()}"
        )

    def _earlier(self) -> str:
        if not self.earlier_unfinished:
            return ""
        return f"; of {self.earlier_unfinished} unfinished syncs of earlier runs, {self.earlier_finished} have ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProgress:
    """The progress of a fan-out.

    `total` is the number of companies (None if the input has no length), `per_minute` the rate of outcomes so far, and
    `seconds_left` an estimate from the learned durations and the quota (None while `total` is not known).
    """

    report: RunReport
    total: int | None
    per_minute: float
    seconds_left: float | None


OnProgress = Callable[[RunProgress], Awaitable[None] | None]
StopWhen = Callable[[RunReport], bool | Awaitable[bool]]


def stop_at_first_failure(report: RunReport) -> bool:
    """Stop a fan-out as soon as one sync failed or could not be started."""
    return report.failed + report.errors > 0


def stop_at_failure_rate(share: float, *, after: int = 20) -> Callable[[RunReport], bool]:
    """Stop a fan-out when more than this share (0 to 1) of at least `after` outcomes were failures."""
    check_number("share", share)
    check_int("after", after)
    require(0 <= share <= 1, "share", "between 0 and 1", share)

    def stop(report: RunReport) -> bool:
        return report.completed >= after and report.failed + report.errors > share * report.completed

    return stop
