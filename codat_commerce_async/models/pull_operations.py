"""Pull operations, the reads of a company's data, and the status of the data that they read."""

from collections.abc import Iterator, Mapping
from datetime import datetime

from attrs import field, frozen

from codat_commerce_async.models.base import LenientModel, Model
from codat_commerce_async.models.enums import DataType, ReadStatus
from codat_commerce_async.models.paging import Page

__all__ = ["DataStatus", "DataStatuses", "PullOperation", "PullOperations"]


@frozen(kw_only=True, slots=False)
class PullOperation(LenientModel):
    """One read of a data type (a dataset), which is queued, running or has ended.

    Times are in UTC.
    Source: https://docs.codat.io/platform-api#/schemas/PullOperation
    """

    id: str
    """The id of the operation, also called the dataset id."""

    company_id: str | None = None
    """The id of the company."""

    connection_id: str | None = None
    """The id of the connection."""

    data_type: DataType | None = None
    """The data type that is read."""

    status: ReadStatus | None = None
    """The state of the read."""

    status_description: str | None = None
    """The state in more words."""

    error_message: str | None = None
    """Why the read failed."""

    requested: datetime | None = None
    """When the read was requested."""

    completed: datetime | None = None
    """When the read ended."""

    progress: int | None = None
    """The progress in percent."""

    is_completed: bool | None = None
    """Whether the read succeeded."""

    is_errored: bool | None = None
    """Whether the read failed."""


@frozen(kw_only=True, slots=False)
class PullOperations(Page[PullOperation]):
    """A page of a company's pull operations."""

    results: tuple[PullOperation, ...] = ()
    """The pull operations of this page."""


@frozen(kw_only=True, slots=False)
class DataStatus(LenientModel):
    """The status of one data type of a company; the ids are those of pull operations, the time is in UTC."""

    data_type: DataType | None = None
    """The data type."""

    current_status: ReadStatus | None = None
    """The state of the newest read."""

    last_successful_sync: datetime | None = None
    """When the data was last read successfully."""

    latest_sync_id: str | None = None
    """The id of the newest pull operation."""

    latest_successful_sync_id: str | None = None
    """The id of the newest pull operation that succeeded."""


@frozen(kw_only=True, slots=False)
class DataStatuses(Mapping[str, DataStatus], Model):
    """The status of each data type that was read, by its name, such as `commerce-orders`; a mapping itself."""

    statuses: Mapping[str, DataStatus] = field(factory=dict[str, DataStatus], hash=False)
    """The status, by the name of the data type."""

    def __getitem__(self, key: str) -> DataStatus:
        return self.statuses[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.statuses)

    def __len__(self) -> int:
        return len(self.statuses)

    def __bool__(self) -> bool:
        return bool(self.statuses)
