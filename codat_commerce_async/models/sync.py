"""Syncs: what is asked for, and where one has got to."""

from datetime import UTC, datetime
from enum import Enum

from attrs import field, frozen

from codat_commerce_async.models.base import UNSET, LenientInt, LenientModel, Model, Unset
from codat_commerce_async.models.connections import Connection

__all__ = [
    "BaseSyncStatus",
    "CompanySyncStatus",
    "DateRange",
    "SyncDateRange",
    "SyncRange",
    "SyncState",
    "SyncStatus",
    "SyncSummary",
    "SyncToLatestArgs",
]


class SyncState(Enum):
    """What a sync's status code means.

    Source: https://docs.codat.io/commerce/error-documentation#status-codes
    """

    IN_PROGRESS = "the sync runs"
    IN_PROGRESS_SLOW = "the sync has been running for over ten minutes"
    SUCCEEDED = "done, data was written"
    NOTHING_TO_WRITE = "done, there was nothing to write"
    CONFIGURATION_ERROR = "the merchant's configuration has to be mended"
    COMPANY_UNAVAILABLE = "the company was deleted or de-authorized"
    SUBSCRIPTION_LAPSED = "the accounting software's subscription has lapsed"
    SERVER_ERROR = "something broke at Codat"
    DUPLICATE = "a sync of that period exists already, asking again does not help"
    DATA_PROCESSING_ERROR = "the data could not be processed"
    DATA_WRITE_ERROR = "at least one item could not be written"
    OTHER_FAILURE = "the sync failed in a way that Codat does not document"
    UNKNOWN = "Codat does not say where the sync has got to; it counts as running"


_RUNNING = frozenset({SyncState.IN_PROGRESS, SyncState.IN_PROGRESS_SLOW, SyncState.UNKNOWN})
_SUCCEEDED = frozenset({SyncState.SUCCEEDED, SyncState.NOTHING_TO_WRITE})

_BY_CODE = {
    1000: SyncState.IN_PROGRESS,
    1010: SyncState.IN_PROGRESS_SLOW,
    2000: SyncState.SUCCEEDED,
    2040: SyncState.NOTHING_TO_WRITE,
    4000: SyncState.CONFIGURATION_ERROR,
    4040: SyncState.COMPANY_UNAVAILABLE,
    4220: SyncState.COMPANY_UNAVAILABLE,
    4260: SyncState.SUBSCRIPTION_LAPSED,
    5000: SyncState.SERVER_ERROR,
    5080: SyncState.DUPLICATE,
    5120: SyncState.DATA_PROCESSING_ERROR,
    5130: SyncState.DATA_WRITE_ERROR,
}

_BY_THOUSANDS = {
    1: SyncState.IN_PROGRESS,
    2: SyncState.SUCCEEDED,
    4: SyncState.OTHER_FAILURE,
    5: SyncState.OTHER_FAILURE,
}

# Only texts that leave no doubt; `ValidateError, Pending` is not among them.
_BY_TEXT = {
    "notstarted": SyncState.IN_PROGRESS,
    "started": SyncState.IN_PROGRESS,
    "pushing": SyncState.IN_PROGRESS,
    "complete": SyncState.SUCCEEDED,
    "success": SyncState.SUCCEEDED,
    "pusherror": SyncState.DATA_WRITE_ERROR,
    "mapcoreerror": SyncState.OTHER_FAILURE,
}

_OVERLAP = "date overlaps with a previous sync date range"


@frozen(kw_only=True)
class BaseSyncStatus(LenientModel):
    """Where a sync has got to, in the words that all of Codat's answers about syncs share.

    `sync_status_code` decides; `sync_status` is free text that goes with it. `sync_utc` is when the sync
    began, in UTC. `data_pushed` says whether anything was written to the accounting software.
    """

    company_id: str | None = None
    sync_status_code: LenientInt | None = None
    sync_status: str | None = None
    error_message: str | None = None
    sync_exception_message: str | None = None
    sync_utc: datetime | None = None
    data_pushed: bool | None = None

    @property
    def state(self) -> SyncState:
        """What the status code means; an unknown one goes by its thousands, a missing one by the text."""
        code = self.sync_status_code
        if code is None:
            return _BY_TEXT.get((self.sync_status or "").strip().lower(), SyncState.UNKNOWN)
        outcome = _BY_CODE.get(code) or _BY_THOUSANDS.get(code // 1000, SyncState.UNKNOWN)
        return SyncState.DUPLICATE if self._overlaps and _has_failed(outcome) else outcome

    @property
    def is_terminal(self) -> bool:
        """Whether the sync has ended, well or not."""
        return self.state not in _RUNNING

    @property
    def is_running(self) -> bool:
        """Whether the sync goes on, as far as Codat says."""
        return self.state in _RUNNING

    @property
    def succeeded(self) -> bool:
        """Whether the sync ended well."""
        return self.state in _SUCCEEDED

    @property
    def failed(self) -> bool:
        """Whether the sync ended badly; it did when any item could not be written."""
        return _has_failed(self.state)

    @property
    def _overlaps(self) -> bool:
        return any(_OVERLAP in (text or "").lower() for text in (self.error_message, self.sync_exception_message))


def _has_failed(outcome: SyncState) -> bool:
    return outcome not in _RUNNING and outcome not in _SUCCEEDED


@frozen(kw_only=True)
class CompanySyncStatus(BaseSyncStatus):
    """Where one sync has got to."""

    sync_id: str | None = None


@frozen(kw_only=True)
class SyncStatus(BaseSyncStatus):
    """Where a company's newest sync has got to, with the company's connections.

    The two ids name the same sync and differ; only this answer carries both.
    """

    commerce_sync_id: str | None = None
    sync_id: str | None = None
    data_connections: tuple[Connection, ...] = ()


@frozen(kw_only=True)
class SyncDateRange(LenientModel):
    """The period that a sync covers, in UTC."""

    start: datetime | None = None
    finish: datetime | None = None


@frozen(kw_only=True)
class SyncSummary(BaseSyncStatus):
    """Codat's answer to the request for a sync.

    `commerce_sync_id` is not the `sync_id` of the other answers, which this one does not carry.
    """

    commerce_sync_id: str | None = None
    sync_date_range_utc: SyncDateRange | None = None
    data_connections: tuple[Connection, ...] = ()


def _moment(value: datetime | Unset | None) -> datetime | Unset | None:
    """Return what a time is compared by: times of one zone compare by its wall clock, which a clock change repeats.

    https://peps.python.org/pep-0495/#aware-datetime-comparison
    """
    if not isinstance(value, datetime) or value.utcoffset() is None:
        return value
    try:
        return value.astimezone(UTC)
    except OverflowError:  # at the end of the calendar
        return value


@frozen(kw_only=True)
class SyncToLatestArgs(Model):
    """How far a sync is to go; not sent or null is up to now."""

    sync_to: datetime | Unset | None = field(default=UNSET, eq=_moment)


@frozen(kw_only=True)
class DateRange(Model):
    """The period to sync."""

    start: datetime = field(eq=_moment)
    finish: datetime = field(eq=_moment)


@frozen(kw_only=True)
class SyncRange(Model):
    """The request for a sync of a period."""

    date_range: DateRange
