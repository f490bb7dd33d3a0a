"""Webhook events.

Source: https://docs.codat.io/using-the-api/webhooks/event-types
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Generic, TypeVar

from attrs import field, frozen

from codat_commerce_async.models.base import LenientModel, Model
from codat_commerce_async.models.companies import Company, CompanyReference
from codat_commerce_async.models.connections import Connection
from codat_commerce_async.models.enums import DataType, ReadStatus, WebhookEventType, WriteStatus, WriteType

__all__ = [
    "CompanyEvent",
    "CompanyProductEvent",
    "CompanyProductPayload",
    "ConnectionEvent",
    "ConnectionPayload",
    "DataTypeReadSummary",
    "RateLimitEvent",
    "RateLimitPayload",
    "ReadCompletedEvent",
    "ReadCompletedPayload",
    "ReadIssue",
    "ReadIssueLinks",
    "UnknownEvent",
    "WebhookEvent",
    "WriteEvent",
    "WritePayload",
    "WriteRecord",
    "event_class",
]

P_co = TypeVar("P_co", covariant=True)


@frozen(kw_only=True)
class WebhookEvent(LenientModel, Generic[P_co]):
    """An event that Codat generated at `generated_date` (UTC).

    All deliveries of one event have the same `id`.
    """

    id: str | None = None
    event_type: WebhookEventType
    generated_date: datetime | None = None
    payload: P_co


@frozen(kw_only=True)
class CompanyEvent(WebhookEvent[Company]):
    """A company was created or deleted."""

    payload: Company


@frozen(kw_only=True)
class CompanyProductPayload(Model):
    """The product that was added or removed, and the company's current products; `id` is the company's."""

    id: str | None = None
    name: str | None = None
    description: str | None = None
    product_id: str | None = None
    product_name: str | None = None
    products: tuple[str, ...] = ()


@frozen(kw_only=True)
class CompanyProductEvent(WebhookEvent[CompanyProductPayload]):
    """A product was added to a company or removed."""

    payload: CompanyProductPayload


@frozen(kw_only=True)
class ConnectionPayload(Model):
    """A connection in its current state, and its company."""

    reference_company: CompanyReference | None = None
    connection: Connection | None = None


@frozen(kw_only=True)
class ConnectionEvent(WebhookEvent[ConnectionPayload]):
    """A connection was created, connected, disconnected, reconnected or deleted, or has failed."""

    payload: ConnectionPayload


@frozen(kw_only=True)
class ReadIssueLinks(Model):
    """Links to more information about an issue."""

    logs: str | None = None
    portal: str | None = None
    read_more: str | None = None


@frozen(kw_only=True)
class ReadIssue(Model):
    """A problem with the data."""

    type: str | None = None
    message: str | None = None
    links: ReadIssueLinks | None = None


@frozen(kw_only=True)
class DataTypeReadSummary(Model):
    """The result of reading one data type."""

    connection_id: str | None = None
    data_type: DataType | None = None
    records_modified: bool | None = None
    status: ReadStatus | None = None
    issues: tuple[ReadIssue, ...] = ()


@frozen(kw_only=True)
class ReadCompletedPayload(LenientModel):
    """The data types that were read; `modified_from_date` (UTC) is the time of the previous read."""

    reference_company: CompanyReference | None = None
    modified_from_date: datetime | None = None
    data_types: tuple[DataTypeReadSummary, ...] = ()


@frozen(kw_only=True)
class ReadCompletedEvent(WebhookEvent[ReadCompletedPayload]):
    """Data of a company was read; its sync may have progressed."""

    payload: ReadCompletedPayload


@frozen(kw_only=True)
class WriteRecord(Model):
    """The record that was written, by its id in the accounting software."""

    id: str | None = None


@frozen(kw_only=True)
class WritePayload(LenientModel):
    """The result of a write request; `id` is the request's. Times are in UTC."""

    id: str | None = None
    type: WriteType | None = None
    reference_company: CompanyReference | None = None
    connection_id: str | None = None
    requested_on_date: datetime | None = None
    completed_on_date: datetime | None = None
    status: WriteStatus | None = None
    record: WriteRecord | None = None
    attachment_id: str | None = None


@frozen(kw_only=True)
class WriteEvent(WebhookEvent[WritePayload]):
    """A write to the accounting software succeeded or failed; a sync may have progressed."""

    payload: WritePayload

    @property
    def data_type(self) -> DataType:
        """The kind of data, from the event's name."""
        return DataType(self.event_type.partition(".write.")[0])

    @property
    def succeeded(self) -> bool:
        """Whether the data was written."""
        return self.event_type.endswith(".successful")


@frozen(kw_only=True)
class RateLimitPayload(LenientModel):
    """The daily quota, the requests that remain, and when the quota resets (UTC)."""

    daily_quota: int | None = None
    quota_remaining: int | None = None
    expiry_date: datetime | None = None


@frozen(kw_only=True)
class RateLimitEvent(WebhookEvent[RateLimitPayload]):
    """The daily quota is exhausted, or was reset."""

    payload: RateLimitPayload


@frozen(kw_only=True)
class UnknownEvent(WebhookEvent[object]):
    """An event that this library has no model for, with its payload as parsed JSON.

    An envelope that is not documented (no `payload`, or no object at all) is the payload as a whole; text that is not
    JSON stays text. `event_type` is `""` where there is none. The older rule events have their `RuleType` as
    `event_type`, their `AlertId` as `id`, and everything else in the payload (`CompanyId`, `Data` ...).
    """

    payload: object = field(default=None, hash=False)


_CLASSES: Mapping[str, type[WebhookEvent[object]]] = {
    "company.created": CompanyEvent,
    "company.deleted": CompanyEvent,
    "company.product.added": CompanyProductEvent,
    "company.product.removed": CompanyProductEvent,
    "connection.created": ConnectionEvent,
    "connection.connected": ConnectionEvent,
    "connection.failed": ConnectionEvent,
    "connection.disconnected": ConnectionEvent,
    "connection.reconnected": ConnectionEvent,
    "connection.deleted": ConnectionEvent,
    "read.completed": ReadCompletedEvent,
    "read.completed.initial": ReadCompletedEvent,
    "client.rateLimit.reached": RateLimitEvent,
    "client.rateLimit.reset": RateLimitEvent,
}


def event_class(event_type: str) -> type[WebhookEvent[object]]:
    """Return the class of an event type; `UnknownEvent` for an unknown type."""
    if event_type.endswith((".write.successful", ".write.unsuccessful")):
        return WriteEvent
    return _CLASSES.get(event_type, UnknownEvent)
