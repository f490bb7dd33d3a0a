"""The results of a fan-out: an outcome per company, counts and progress."""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Self

from attrs import frozen

from codat_commerce_async._core.json_object import JsonObject
from codat_commerce_async._core.lazy import LazyModule
from codat_commerce_async._core.validation import check_int, check_number, require
from codat_commerce_async.errors import CodatError
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.models.sync import SyncStatus
from codat_commerce_async.syncing import _json
from codat_commerce_async.syncing.diagnosis import Diagnosis
from codat_commerce_async.syncing.request import SyncRequest

if TYPE_CHECKING:
    import pydantic
    import pydantic_core

    from codat_commerce_async.models import _pydantic
else:
    pydantic = LazyModule("pydantic")
    pydantic_core = LazyModule("pydantic_core")
    _pydantic = LazyModule("codat_commerce_async.models._pydantic")

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


@frozen
class _ErrorFields:
    """The JSON of an error in the schema of an outcome."""

    type: str
    message: str
    args: tuple[object, ...]


@frozen(kw_only=True)
class SyncOutcome:
    """The result of one company's sync: a `status`, or the `error` that prevented starting or polling it.

    With pydantic installed, an outcome can be a field of its models, and FastAPI takes and returns it. The idempotency
    key is left out of its handle and its error, so that callers of your API never see it; `to_json` keeps it.
    """

    request: SyncRequest
    """What was requested."""

    handle: SyncHandle | None
    """The identity of the sync; None if none is known to have been started."""

    status: SyncStatus | None
    """The terminal status."""

    error: CodatError | None
    """What prevented starting or polling the sync."""

    polls: int
    """How often the sync was polled."""

    elapsed: float
    """Seconds from the start request to the known end."""

    ticket_id: str | None = None
    """The id of the `SyncTicket`, whose outcome may be delivered more than once; None in `run_many`."""

    diagnosis: Diagnosis | None = None
    """Why the sync failed, with `run_many(diagnose=True)`."""

    @property
    def company_id(self) -> str:
        """The id of the company."""
        return self.request.company_id

    @property
    def ok(self) -> bool:
        """Whether the sync succeeded; see `adopted` for whether this request started it."""
        return self.status is not None and self.status.succeeded

    @property
    def adopted(self) -> bool:
        """Whether the sync was found at Codat, not named in a response: another client may have started it."""
        return self.handle is not None and self.handle.adopted

    def to_json(self) -> str:
        """Return the outcome as text, for `from_json` of this or a later version; the error's cause is left out."""
        return json.dumps(
            {
                "version": _VERSION,
                "handle": self.handle.to_json() if self.handle is not None else None,
                "error": _json.error_to_dict(self.error) if self.error is not None else None,
                **self._other_fields(),
            }
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Return the outcome that `to_json` wrote; unknown fields are ignored.

        Args:
            text: The text that `to_json` returned.

        Raises:
            ValueError: The text is no outcome.
        """
        data = JsonObject.parse("an outcome", text)
        version = data.value("version", int)
        require(version == _VERSION, "version of an outcome", f"{_VERSION}", version)
        handle = data.optional("handle", str)
        return cls._from_object(data, SyncHandle.from_json(handle) if handle is not None else None)

    def _other_fields(self) -> dict[str, object]:
        """Return all fields as JSON values but those that may contain the idempotency key."""
        return {
            "request": _json.request_to_dict(self.request),
            "status": self.status.to_dict() if self.status is not None else None,
            "polls": self.polls,
            "elapsed": self.elapsed,
            "ticket_id": self.ticket_id,
            "diagnosis": self.diagnosis.to_dict() if self.diagnosis is not None else None,
        }

    @classmethod
    def _from_object(cls, data: JsonObject, handle: SyncHandle | None) -> Self:
        status, error = data.optional("status", dict), data.optional("error", dict)
        diagnosis = data.optional("diagnosis", dict)
        return cls(
            request=_json.request_from_dict(data.value("request", dict)),
            handle=handle,
            status=SyncStatus.from_dict(status) if status is not None else None,
            error=_json.error_from_dict(error) if error is not None else None,
            polls=data.value("polls", int),
            elapsed=data.value("elapsed", float),
            ticket_id=data.optional("ticket_id", str),
            diagnosis=Diagnosis.from_dict(diagnosis) if diagnosis is not None else None,
        )

    def _without_key(self) -> dict[str, object]:
        """Return the outcome as JSON values for clients."""
        handle = self.handle
        return {
            "company_id": self.company_id,
            "ok": self.ok,
            "adopted": self.adopted,
            "handle": {"company_id": handle.company_id, "token": handle.to_token()} if handle is not None else None,
            "error": _json.error_without_keys(self.error) if self.error is not None else None,
            **self._other_fields(),
        }

    @classmethod
    def _from_clients(cls, fields: Mapping[str, object]) -> Self:
        """Return the outcome that `_without_key` wrote; raise ValueError for anything else."""
        data = JsonObject("an outcome", fields)
        if data.optional("handle", dict) is None:
            return cls._from_object(data, None)
        handle = data.nested("handle")
        token, company_id = handle.value("token", str), handle.value("company_id", str)
        return cls._from_object(data, SyncHandle.from_token(token, company_id))

    @classmethod
    def __get_pydantic_core_schema__(
        cls, _source: object, handler: "pydantic.GetCoreSchemaHandler"
    ) -> "pydantic_core.CoreSchema":
        return _pydantic.value_schema(
            cls,
            handler,
            cls._without_key,
            cls._from_clients,
            company_id=str,
            ok=bool,
            adopted=bool,
            error=_ErrorFields | None,
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: "pydantic_core.CoreSchema", handler: "pydantic.GetJsonSchemaHandler"
    ) -> dict[str, Any]:
        return _pydantic.first_line_json_schema(cls, schema, handler)


@frozen(kw_only=True)
class RunReport:
    """The counts of a fan-out at one moment.

    `run.report` counts what the present call has done: after a resume, the syncs that had ended before are in
    `already_finished` and `already_failed` only. `Journal.report` counts the whole run.

    Syncs of earlier runs of the journal are in none of the counts but `earlier_unfinished`, `earlier_finished` and
    `polls`.
    """

    run_id: str | None = None
    """The id of the run in its journal; None without a journal."""

    started: int = 0
    """Start requests that succeeded, without an outcome or with one."""

    running: int = 0
    """Started syncs without an outcome."""

    succeeded: int = 0
    """Outcomes of syncs that succeeded."""

    failed: int = 0
    """Outcomes of syncs that failed."""

    errors: int = 0
    """Outcomes with an error instead of a status."""

    duplicates: int = 0
    """Requests that were dropped, because the same request was active or waiting."""

    resumed: int = 0
    """Syncs that were running when the journal was opened."""

    already_finished: int = 0
    """Syncs of this run that had ended with a status in an earlier process; they are not started again."""

    already_failed: int = 0
    """Those of them that had failed."""

    adopted: int = 0
    """Outcomes of syncs that were found at Codat rather than named in a response."""

    polls: int = 0
    """Status requests."""

    elapsed: float = 0.0
    """Seconds since the run began."""

    earlier_unfinished: int = 0
    """Syncs of earlier runs of the journal that were unfinished when this run was opened."""

    earlier_finished: int = 0
    """Those of them that have ended since this run was opened."""

    @property
    def completed(self) -> int:
        """How many companies have an outcome."""
        return self.succeeded + self.failed + self.errors

    @property
    def nothing_started(self) -> bool:
        """Whether no company was started, resumed or reported: at the end, whether all had ended before."""
        return not (self.started or self.resumed or self.running or self.completed)

    def __str__(self) -> str:
        adopted = f"{self.adopted} adopted, " if self.adopted else ""
        before = f" ({self.already_failed} failed)" if self.already_failed else ""
        return (
            f"{self.completed} ended ({self.succeeded} succeeded, {self.failed} failed, {self.errors} errors), "
            f"{adopted}{self.running} running, {self.duplicates} duplicates, "
            f"{self.already_finished} finished before{before}, "
            f"{self.polls} polls in {self.elapsed:.0f} s{self._earlier()}"
        )

    def _earlier(self) -> str:
        if not self.earlier_unfinished:
            return ""
        return f"; of {self.earlier_unfinished} unfinished syncs of earlier runs, {self.earlier_finished} have ended"


@frozen(kw_only=True)
class RunProgress:
    """The progress of a fan-out."""

    report: RunReport
    """The counts so far."""

    total: int | None
    """The number of companies; None if the input has no length."""

    per_minute: float
    """Outcomes per minute so far."""

    seconds_left: float | None
    """An estimate from the durations, the quota and its pauses, or None.

    It is None without a total, before the first few ends, and when the last syncs run longer than estimated. Late in a
    run, the estimated end moves later by at most a fifth of the time that passes, unless requests are paused.
    """


OnProgress = Callable[[RunProgress], Awaitable[None] | None]
StopWhen = Callable[[RunReport], bool | Awaitable[bool]]


def stop_at_first_failure(report: RunReport) -> bool:
    """Stop a fan-out as soon as one sync failed or could not be started.

    Args:
        report: The counts so far.
    """
    return report.failed + report.errors > 0


def stop_at_failure_rate(share: float, *, after: int = 20) -> Callable[[RunReport], bool]:
    """Stop a fan-out when more than this share (0 to 1) of at least `after` outcomes were failures.

    Args:
        share: The share of failures, 0 to 1.
        after: The number of outcomes before which the run is not stopped.
    """
    check_number("share", share)
    check_int("after", after)
    require(0 <= share <= 1, "share", "between 0 and 1", share)

    def stop(report: RunReport) -> bool:
        return report.completed >= after and report.failed + report.errors > share * report.completed

    return stop
