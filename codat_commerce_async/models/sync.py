"""Syncs: the requests that start them, their statuses, and the meaning of each status code.

A new status code takes these steps:

1. Its `SyncState` in `_BY_CODE`. A new meaning is a new member of `SyncState`, whose description is its text.
2. For a failure, its rule in `failure_rules.py`, whose cause is a member of `FailureCause` in `causes.py`.
   `syncing/_conclude.py` applies the rules; a special case for one code is there too.
3. Its text in `CODES` in `simulator/_state/records.py`.
4. Rows in `docs/diagnosis.md` and in the tests, which fail without them; `docs/contributing.md` lists them.
"""

from datetime import datetime

from attrs import field, frozen

from codat_commerce_async._core.validation import as_utc
from codat_commerce_async.models._described import DescribedEnum
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


class SyncState(DescribedEnum):
    """The meaning of a sync's status code: a stable word as the value, and a `description` for people.

    Source: https://docs.codat.io/commerce/error-documentation#status-codes
    """

    IN_PROGRESS = "in_progress", "the sync is running"
    IN_PROGRESS_SLOW = "in_progress_slow", "the sync has been running for over ten minutes"
    SUCCEEDED = "succeeded", "completed, data was written"
    NOTHING_TO_WRITE = "nothing_to_write", "completed, there was nothing to write"
    CONFIGURATION_ERROR = "configuration_error", "the configuration has to be corrected"
    COMPANY_UNAVAILABLE = "company_unavailable", "the company was deleted or de-authorized"
    SUBSCRIPTION_LAPSED = "subscription_lapsed", "the accounting software's subscription has lapsed"
    SERVER_ERROR = "server_error", "an internal error at Codat"
    DUPLICATE = "duplicate", "a sync of that period exists already; starting it again does not help"
    DATA_PROCESSING_ERROR = "data_processing_error", "the data could not be processed"
    DATA_WRITE_ERROR = "data_write_error", "at least one item could not be written"
    OTHER_FAILURE = "other_failure", "the sync failed with a code that Codat does not document"
    UNKNOWN = "unknown", "Codat does not report the state; the sync counts as running"


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

# Only texts that are unambiguous; `ValidateError, Pending` is not one of them.
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


@frozen(kw_only=True, slots=False)
class BaseSyncStatus(LenientModel):
    """The fields that all of Codat's responses about a sync share."""

    company_id: str | None = None
    """The id of the company."""

    sync_status_code: LenientInt | None = None
    """The code that determines the state."""

    sync_status: str | None = None
    """The state as free text, which the code overrules."""

    error_message: str | None = None
    """Why the sync failed."""

    sync_exception_message: str | None = None
    """The message of the exception that the sync ended with."""

    sync_utc: datetime | None = None
    """When the sync started, in UTC."""

    data_pushed: bool | None = None
    """Whether anything was written to the accounting software."""

    @property
    def state(self) -> SyncState:
        """The meaning of the status code: by its thousands if it is unknown, by the text if it is missing."""
        code = self.sync_status_code
        if code is None:
            return _BY_TEXT.get((self.sync_status or "").strip().lower(), SyncState.UNKNOWN)
        state = _BY_CODE.get(code) or _BY_THOUSANDS.get(code // 1000, SyncState.UNKNOWN)
        return SyncState.DUPLICATE if self._overlaps and _has_failed(state) else state

    @property
    def is_terminal(self) -> bool:
        """Whether the sync has completed or failed."""
        return self.state not in _RUNNING

    @property
    def is_running(self) -> bool:
        """Whether the sync is running, as far as Codat reports."""
        return self.state in _RUNNING

    @property
    def succeeded(self) -> bool:
        """Whether the sync completed without a failure."""
        return self.state in _SUCCEEDED

    @property
    def failed(self) -> bool:
        """Whether the sync failed; it did if any item could not be written."""
        return _has_failed(self.state)

    @property
    def _overlaps(self) -> bool:
        return any(_OVERLAP in (text or "").lower() for text in (self.error_message, self.sync_exception_message))


def _has_failed(state: SyncState) -> bool:
    return state not in _RUNNING and state not in _SUCCEEDED


@frozen(kw_only=True, slots=False)
class CompanySyncStatus(BaseSyncStatus):
    """The status of one sync."""

    sync_id: str | None = None
    """The id of the sync."""


@frozen(kw_only=True, slots=False)
class SyncStatus(BaseSyncStatus):
    """The status of a company's newest sync, with the company's connections.

    The two ids are different ids of the same sync; only this response contains both.
    """

    commerce_sync_id: str | None = None
    """The id in the response to the start request."""

    sync_id: str | None = None
    """The id in the responses about the status."""

    data_connections: tuple[Connection, ...] = ()
    """The company's connections."""


@frozen(kw_only=True, slots=False)
class SyncDateRange(LenientModel):
    """The period that a sync covers, in UTC."""

    start: datetime | None = None
    """The start of the period."""

    finish: datetime | None = None
    """The end of the period."""


@frozen(kw_only=True, slots=False)
class SyncSummary(BaseSyncStatus):
    """Codat's response to the request that starts a sync.

    `commerce_sync_id` is not the `sync_id` of the other responses, which this one does not contain.
    """

    commerce_sync_id: str | None = None
    """The id of the sync in this response."""

    sync_date_range_utc: SyncDateRange | None = None
    """The period that the sync covers."""

    data_connections: tuple[Connection, ...] = ()
    """The company's connections."""


def _moment(value: datetime | Unset | None) -> datetime | Unset | None:
    """Return what a time is compared by: times of one zone compare by its wall clock, which a clock change repeats.

    https://peps.python.org/pep-0495/#aware-datetime-comparison
    """
    return value if not isinstance(value, datetime) or value.utcoffset() is None else as_utc(value)


@frozen(kw_only=True, slots=False)
class SyncToLatestArgs(Model):
    """The end of the period to sync; up to now if it is not sent or null."""

    sync_to: datetime | Unset | None = field(default=UNSET, eq=_moment)
    """The end of the period."""


@frozen(kw_only=True, slots=False)
class DateRange(Model):
    """The period to sync."""

    start: datetime = field(eq=_moment)
    """The start of the period."""

    finish: datetime = field(eq=_moment)
    """The end of the period."""


@frozen(kw_only=True, slots=False)
class SyncRange(Model):
    """The request for a sync of a period."""

    date_range: DateRange
    """The period."""
