"""What comes of a fan-out: an outcome per company, and where the whole has got to."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from codat_commerce_async._core.validation import check_int, check_number, require
from codat_commerce_async.errors import CodatError
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.models.sync import SyncStatus
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


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncOutcome:
    """How one company's sync ended: with a `status`, or an `error` that kept it from being started or followed.

    `polls` is how often it was looked at, `elapsed` the seconds from asking for it to knowing its end. `handle` is None
    when no sync was started, as far as that is known.
    """

    request: SyncRequest
    handle: SyncHandle | None
    status: SyncStatus | None
    error: CodatError | None
    polls: int
    elapsed: float

    @property
    def company_id(self) -> str:
        """The company that was synced."""
        return self.request.company_id

    @property
    def ok(self) -> bool:
        """Whether the sync ended well; see `adopted` for whether it is certain that this request started it."""
        return self.status is not None and self.status.succeeded

    @property
    def adopted(self) -> bool:
        """Whether the sync was found at Codat rather than named in the response: another client may have started it."""
        return self.handle is not None and self.handle.adopted


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """Counts of a fan-out at one moment.

    Of those `started` some are still `running`; `succeeded` and `failed` ended by a status, `errors` by an error.
    `duplicates` were asked for while the same was running, and dropped. `resumed` were running, and `already_finished`
    had ended, when the journal was opened. `adopted` ended with a sync that was found at Codat rather than named in a
    response. `polls` counts requests for statuses, `elapsed` seconds.
    """

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

    @property
    def completed(self) -> int:
        """How many have an outcome."""
        return self.succeeded + self.failed + self.errors

    def __str__(self) -> str:
        adopted = f"{self.adopted} adopted, " if self.adopted else ""
        return (
            f"{self.completed} ended ({self.succeeded} succeeded, {self.failed} failed, {self.errors} errors), "
            f"{adopted}{self.running} running, {self.duplicates} duplicates, {self.already_finished} finished before, "
            f"{self.polls} polls in {self.elapsed:.0f} s"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProgress:
    """Where a fan-out has got to: its counts, how fast it goes, and how long it may still take.

    `total` is how many companies there are, None while the input does not say. `per_minute` is outcomes a minute so
    far, `seconds_left` an estimate from the durations that were learned and the quota; None while there is no telling.
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
