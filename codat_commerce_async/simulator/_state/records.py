"""Records of companies, their connections and their syncs."""

import math
from collections import deque
from typing import Self

from attrs import define, field, frozen

from codat_commerce_async._core.validation import check_seconds
from codat_commerce_async.models.causes import FailureCause
from codat_commerce_async.simulator._state.catalog import Platform
from codat_commerce_async.simulator._state.failures import FAILURES, Condition

__all__ = [
    "CODES",
    "OVERLAP",
    "STATUSES",
    "Company",
    "Connection",
    "PullRecord",
    "PushRecord",
    "ScriptedSync",
    "Sync",
    "SyncSource",
    "succeeded",
]

STATUSES = ("PendingAuth", "Linked", "Unlinked", "Deauthorized")
"""The statuses of a connection in the specification."""

OVERLAP = "Date overlaps with a previous sync date range"

_IN_PROGRESS, _IN_PROGRESS_LONG = 1000, 1010
_LONG_AFTER = 600.0
_PUSHED = 2000

CODES: dict[int, tuple[str, str]] = {
    _IN_PROGRESS: ("Started", ""),
    _IN_PROGRESS_LONG: ("Pushing", ""),
    _PUSHED: ("Complete", ""),
    2040: ("Complete", ""),
    4000: ("ValidateError", "The company's configuration does not allow a sync."),
    4040: ("ValidateError", "The company was deleted."),
    4200: ("MapCoreError", "A tax id of the order is not mapped to an account."),
    4220: ("ValidateError", "A connection of the company was de-authorized."),
    4260: ("ValidateError", "The accounting software's subscription has lapsed."),
    5000: ("Error", "An internal error occurred."),
    5080: ("ValidateError, Pending", OVERLAP),
    5120: ("MapCoreError", "The data could not be processed."),
    5130: ("PushError", "At least one item could not be written."),
}
"""The status text and the message of each code: https://docs.codat.io/commerce/error-documentation"""

SyncSource = str
"""What started a sync: `api`, `schedule` or `external`."""


def succeeded(code: int) -> bool:
    """Return whether this final code stands for success."""
    return code // 1000 == 2  # noqa: PLR2004 - 2xxx is success


@frozen
class ScriptedSync:
    """A scripted sync: it ends with `code` after `duration` simulated seconds (None: random).

    `cause` decides what the push operations of a failed sync report.
    """

    code: int = _PUSHED
    """The final status code."""

    duration: float | None = None
    """Simulated seconds until the end; None for a random duration."""

    message: str | None = None
    """The error message; None for that of the code."""

    cause: FailureCause | None = None
    """What the push operations of a failed sync report."""

    def __attrs_post_init__(self) -> None:
        if self.duration is not None:
            check_seconds("duration", self.duration)

    @property
    def text(self) -> str:
        """Return `message`, or the default message of the code."""
        return CODES.get(self.code, ("", ""))[1] if self.message is None else self.message

    @classmethod
    def failing(cls, cause: FailureCause, duration: float | None = None) -> Self:
        """Return a sync that fails because of a cause, which does not show in the company's configuration.

        Args:
            cause: The cause of the failure.
            duration: Simulated seconds until the end; None for a random duration.
        """
        failure = FAILURES[cause]
        return cls(failure.code, duration, failure.message, cause)

    @classmethod
    def never_ends(cls) -> Self:
        """Return a sync that stays in progress."""
        return cls(duration=math.inf)

    @classmethod
    def overlaps(cls, duration: float = 1.0) -> Self:
        """Return a sync whose period overlaps with an earlier one.

        Args:
            duration: Simulated seconds until the end; None for a random duration.
        """
        return cls(5080, duration=duration)


@define(eq=False)
class Sync:
    """One sync; its status depends on the time alone."""

    company_id: str
    """The id of the company."""

    sync_id: str
    """The id in the responses about the status."""

    commerce_sync_id: str
    """The id in the response to the start request."""

    source: SyncSource
    """Who started the sync: the API, the schedule or another client."""

    idempotency_key: str | None
    """The key of the start request."""

    start: float
    """The start of the period, in epoch seconds."""

    finish: float
    """The end of the period, in epoch seconds."""

    started: float
    """When the sync started, in epoch seconds."""

    ends: float
    """When the sync ends, in epoch seconds."""

    final_code: int
    """The status code at the end."""

    final_message: str
    """The error message at the end."""

    cause: FailureCause | None = None
    """The cause of a failure."""

    def code(self, now: float) -> int:
        """Return the status code at this time.

        Args:
            now: The simulated time, in epoch seconds.
        """
        if now >= self.ends:
            return self.final_code
        return _IN_PROGRESS if now - self.started < _LONG_AFTER else _IN_PROGRESS_LONG

    def status(self, now: float) -> str:
        """Return the status text at this time.

        Args:
            now: The simulated time, in epoch seconds.
        """
        return CODES.get(self.code(now), ("Unknown", ""))[0]

    def message(self, now: float) -> str:
        """Return the error message at this time; empty without one.

        Args:
            now: The simulated time, in epoch seconds.
        """
        return self.final_message if now >= self.ends else ""

    def pushed(self, now: float) -> bool:
        """Return whether data was written by this time.

        Args:
            now: The simulated time, in epoch seconds.
        """
        return self.code(now) == _PUSHED


@define(eq=False)
class Connection:
    """A company's link to one platform."""

    id: str
    platform: Platform
    created: float
    status: str
    last_sync: float | None = None
    errors: list[dict[str, object]] = field(factory=list)

    @property
    def linked(self) -> bool:
        """Whether the merchant has authorized the connection."""
        return self.status == "Linked"


@frozen(eq=False)
class PushRecord:
    """A write to the accounting software; it failed if there is an `error`, with (id, message) of its items."""

    key: str
    connection_id: str
    data_type: str
    requested: float
    completed: float
    error: str | None = None
    items: tuple[tuple[str, str], ...] = ()


@frozen(eq=False)
class PullRecord:
    """A read of one data type; it failed if there is an `error`."""

    id: str
    connection_id: str
    data_type: str
    requested: float
    completed: float
    error: str | None = None


@define(eq=False)
class Company:
    """A company with its connections, configuration and syncs.

    `number` counts companies in the order of their creation. `syncs` are in the order of their start; `active_syncs`
    are those that have not ended, `synced_periods` are the merged periods of successful ones, and `synced_to` is the
    end of the last. `conditions` are the causes because of which syncs fail; `pushes` and `pulls` are the operations
    that belong to no sync.
    """

    id: str
    name: str
    created: float
    number: int = 0
    description: str | None = None
    tags: dict[str, str] = field(factory=dict)
    connections: dict[str, Connection] = field(factory=dict)
    configuration: dict[str, object] | None = None
    syncs: list[Sync] = field(factory=list)
    script: deque[ScriptedSync] = field(factory=deque)
    active_syncs: list[Sync] = field(factory=list)
    synced_periods: list[tuple[float, float]] = field(factory=list)
    last_successful: Sync | None = None
    synced_to: float | None = None
    failed_days: int = 0
    daily_due: float | None = None
    conditions: list[Condition] = field(factory=list)
    pushes: list[PushRecord] = field(factory=list)
    pulls: list[PullRecord] = field(factory=list)
    sync_settings: dict[str, object] | None = None

    @property
    def linked(self) -> bool:
        """Whether any connection is linked; the daily quota counts such companies."""
        return any(connection.linked for connection in self.connections.values())

    @property
    def enabled(self) -> bool:
        """Whether the configuration enables syncs."""
        return (self.configuration or {}).get("enable") is not False

    @property
    def deauthorized(self) -> bool:
        """Whether a connection's authorization was withdrawn."""
        return any(connection.status == "Deauthorized" for connection in self.connections.values())

    @property
    def last_sync(self) -> float | None:
        """The time when a connection was last synced; None if never."""
        times = [connection.last_sync for connection in self.connections.values() if connection.last_sync is not None]
        return max(times, default=None)

    def platform(self, source_type: str) -> Platform | None:
        """Return the linked platform of this type; None without one."""
        for connection in self.connections.values():
            if connection.linked and connection.platform.source_type == source_type:
                return connection.platform
        return None
