"""Push operations: the writes to a company's accounting software."""

from datetime import datetime

from attrs import frozen

from codat_commerce_async.models.base import LenientInt, LenientModel, Model
from codat_commerce_async.models.enums import DataType, PushChangeType, WriteStatus
from codat_commerce_async.models.error_message import ErrorValidation
from codat_commerce_async.models.paging import Page

__all__ = ["PushOperation", "PushOperationChange", "PushOperationRef", "PushOperations"]


@frozen(kw_only=True, slots=False)
class PushOperationRef(Model):
    """The record that was written, by its id in the accounting software."""

    id: str | None = None
    """The id of the record in the accounting software."""

    data_type: DataType | None = None
    """The data type of the record."""


@frozen(kw_only=True, slots=False)
class PushOperationChange(Model):
    """What was done to a record."""

    type: PushChangeType | None = None
    """What was done."""

    record_ref: PushOperationRef | None = None
    """The record."""

    attachment_id: str | None = None
    """The id of an attachment."""


@frozen(kw_only=True, slots=False)
class PushOperation(LenientModel):
    """One write to a company's accounting software.

    Times are in UTC.
    Source: https://docs.codat.io/platform-api#/schemas/PushOperation
    """

    push_operation_key: str | None = None
    """The id of the operation."""

    company_id: str | None = None
    """The id of the company."""

    data_connection_key: str | None = None
    """The id of the connection."""

    data_type: DataType | None = None
    """The data type that is written."""

    status: WriteStatus | None = None
    """The state of the write."""

    status_code: LenientInt | None = None
    """The HTTP status that describes the result."""

    error_message: str | None = None
    """Why the write failed."""

    validation: ErrorValidation | None = None
    """An error for each item that was refused."""

    changes: tuple[PushOperationChange, ...] = ()
    """What was done to which record."""

    requested_on_utc: datetime | None = None
    """When the write was requested."""

    completed_on_utc: datetime | None = None
    """When the write ended; None while it is pending."""

    timeout_in_minutes: int | None = None
    """After how many minutes the write times out."""

    timeout_in_seconds: int | None = None
    """After how many seconds the write times out."""

    @property
    def failed(self) -> bool:
        """Whether nothing was written: the operation failed or timed out."""
        return self.status in {WriteStatus.FAILED, WriteStatus.TIMED_OUT}


@frozen(kw_only=True, slots=False)
class PushOperations(Page[PushOperation]):
    """A page of a company's push operations."""

    results: tuple[PushOperation, ...] = ()
    """The push operations of this page."""
