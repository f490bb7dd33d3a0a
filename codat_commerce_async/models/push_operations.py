"""Push operations: the writes to a company's accounting software."""

from datetime import datetime

from attrs import frozen

from codat_commerce_async.models.base import LenientInt, LenientModel, Model
from codat_commerce_async.models.enums import DataType, PushChangeType, WriteStatus
from codat_commerce_async.models.error_message import ErrorValidation
from codat_commerce_async.models.paging import Page

__all__ = ["PushOperation", "PushOperationChange", "PushOperationRef", "PushOperations"]


@frozen(kw_only=True)
class PushOperationRef(Model):
    """The record that was written, by its id in the accounting software."""

    id: str | None = None
    data_type: DataType | None = None


@frozen(kw_only=True)
class PushOperationChange(Model):
    """What was done to a record."""

    type: PushChangeType | None = None
    record_ref: PushOperationRef | None = None
    attachment_id: str | None = None


@frozen(kw_only=True)
class PushOperation(LenientModel):
    """One write to a company's accounting software.

    `validation` has an error for each item that was refused, `status_code` is the HTTP status that describes the
    result. Times are in UTC; `completed_on_utc` is None while the operation is pending.
    Source: https://docs.codat.io/platform-api#/schemas/PushOperation
    """

    push_operation_key: str | None = None
    company_id: str | None = None
    data_connection_key: str | None = None
    data_type: DataType | None = None
    status: WriteStatus | None = None
    status_code: LenientInt | None = None
    error_message: str | None = None
    validation: ErrorValidation | None = None
    changes: tuple[PushOperationChange, ...] = ()
    requested_on_utc: datetime | None = None
    completed_on_utc: datetime | None = None
    timeout_in_minutes: int | None = None
    timeout_in_seconds: int | None = None

    @property
    def failed(self) -> bool:
        """Whether nothing was written: the operation failed or timed out."""
        return self.status in {WriteStatus.FAILED, WriteStatus.TIMED_OUT}


@frozen(kw_only=True)
class PushOperations(Page[PushOperation]):
    """A page of a company's push operations."""

    results: tuple[PushOperation, ...] = ()
