"""Pull operations, the reads of a company's data, and the status of the data that they read."""

from collections.abc import Iterator, Mapping
from datetime import datetime

from attrs import field, frozen

from codat_commerce_async.models.base import LenientModel, Model
from codat_commerce_async.models.enums import DataType, ReadStatus
from codat_commerce_async.models.paging import Page

__all__ = ["DataStatus", "DataStatuses", "PullOperation", "PullOperations"]


@frozen(kw_only=True)
class PullOperation(LenientModel):
    """One read of a data type (a dataset), which is queued, running or has ended.

    `progress` is in percent. `is_completed` is True for a read that succeeded, `is_errored` for one that failed.
    Times are in UTC.
    Source: https://docs.codat.io/platform-api#/schemas/PullOperation
    """

    id: str
    company_id: str | None = None
    connection_id: str | None = None
    data_type: DataType | None = None
    status: ReadStatus | None = None
    status_description: str | None = None
    error_message: str | None = None
    requested: datetime | None = None
    completed: datetime | None = None
    progress: int | None = None
    is_completed: bool | None = None
    is_errored: bool | None = None


@frozen(kw_only=True)
class PullOperations(Page[PullOperation]):
    """A page of a company's pull operations."""

    results: tuple[PullOperation, ...] = ()


@frozen(kw_only=True)
class DataStatus(LenientModel):
    """The status of one data type of a company; the ids are those of pull operations, the time is in UTC."""

    data_type: DataType | None = None
    current_status: ReadStatus | None = None
    last_successful_sync: datetime | None = None
    latest_sync_id: str | None = None
    latest_successful_sync_id: str | None = None


@frozen(kw_only=True)
class DataStatuses(Mapping[str, DataStatus], Model):
    """The status of each data type that was read, by its name, such as `commerce-orders`; a mapping itself."""

    statuses: Mapping[str, DataStatus] = field(factory=dict[str, DataStatus], hash=False)

    def __getitem__(self, key: str) -> DataStatus:
        return self.statuses[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.statuses)

    def __len__(self) -> int:
        return len(self.statuses)

    def __bool__(self) -> bool:
        return bool(self.statuses)
