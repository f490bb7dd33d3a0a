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


@frozen(kw_only=True, slots=False)
class WebhookEvent(LenientModel, Generic[P_co]):
    """An event that Codat generated at `generated_date` (UTC).

    All deliveries of one event have the same `id`.
    """

    id: str | None = None
    """The id of the event, the same in all of its deliveries."""

    event_type: WebhookEventType
    """The name of the event."""

    generated_date: datetime | None = None
    """When Codat generated the event, in UTC."""

    payload: P_co
    """What the event is about."""


@frozen(kw_only=True, slots=False)
class CompanyEvent(WebhookEvent[Company]):
    """A company was created or deleted."""

    payload: Company
    """The company."""


@frozen(kw_only=True, slots=False)
class CompanyProductPayload(Model):
    """The product that was added or removed, and the company's current products; `id` is the company's."""

    id: str | None = None
    """The id of the company."""

    name: str | None = None
    """The name of the company."""

    description: str | None = None
    """Your description of the company."""

    product_id: str | None = None
    """The id of the product."""

    product_name: str | None = None
    """The name of the product."""

    products: tuple[str, ...] = ()
    """The company's products now."""


@frozen(kw_only=True, slots=False)
class CompanyProductEvent(WebhookEvent[CompanyProductPayload]):
    """A product was added to a company or removed."""

    payload: CompanyProductPayload
    """The company and the product."""


@frozen(kw_only=True, slots=False)
class ConnectionPayload(Model):
    """A connection in its current state, and its company."""

    reference_company: CompanyReference | None = None
    """The company."""

    connection: Connection | None = None
    """The connection in its current state."""


@frozen(kw_only=True, slots=False)
class ConnectionEvent(WebhookEvent[ConnectionPayload]):
    """A connection was created, connected, disconnected, reconnected or deleted, or has failed."""

    payload: ConnectionPayload
    """The connection and its company."""


@frozen(kw_only=True, slots=False)
class ReadIssueLinks(Model):
    """Links to more information about an issue."""

    logs: str | None = None
    """The URL of the logs."""

    portal: str | None = None
    """The URL in Codat's portal."""

    read_more: str | None = None
    """The URL of an explanation."""


@frozen(kw_only=True, slots=False)
class ReadIssue(Model):
    """A problem with the data."""

    type: str | None = None
    """The kind of issue."""

    message: str | None = None
    """What is wrong."""

    links: ReadIssueLinks | None = None
    """Where to read more."""


@frozen(kw_only=True, slots=False)
class DataTypeReadSummary(Model):
    """The result of reading one data type."""

    connection_id: str | None = None
    """The id of the connection."""

    data_type: DataType | None = None
    """The data type."""

    records_modified: bool | None = None
    """Whether any record has changed."""

    status: ReadStatus | None = None
    """The state of the read."""

    issues: tuple[ReadIssue, ...] = ()
    """Problems with the data."""


@frozen(kw_only=True, slots=False)
class ReadCompletedPayload(LenientModel):
    """The data types that were read; `modified_from_date` (UTC) is the time of the previous read."""

    reference_company: CompanyReference | None = None
    """The company."""

    modified_from_date: datetime | None = None
    """The time of the previous read, in UTC."""

    data_types: tuple[DataTypeReadSummary, ...] = ()
    """The result for each data type."""


@frozen(kw_only=True, slots=False)
class ReadCompletedEvent(WebhookEvent[ReadCompletedPayload]):
    """Data of a company was read; its sync may have progressed."""

    payload: ReadCompletedPayload
    """What was read."""


@frozen(kw_only=True, slots=False)
class WriteRecord(Model):
    """The record that was written, by its id in the accounting software."""

    id: str | None = None
    """The id of the record."""


@frozen(kw_only=True, slots=False)
class WritePayload(LenientModel):
    """The result of a write request; `id` is the request's. Times are in UTC."""

    id: str | None = None
    """The id of the write request."""

    type: WriteType | None = None
    """What was requested."""

    reference_company: CompanyReference | None = None
    """The company."""

    connection_id: str | None = None
    """The id of the connection."""

    requested_on_date: datetime | None = None
    """When the write was requested."""

    completed_on_date: datetime | None = None
    """When the write ended."""

    status: WriteStatus | None = None
    """The state of the write."""

    record: WriteRecord | None = None
    """The record that was written."""

    attachment_id: str | None = None
    """The id of an attachment."""


@frozen(kw_only=True, slots=False)
class WriteEvent(WebhookEvent[WritePayload]):
    """A write to the accounting software succeeded or failed; a sync may have progressed."""

    payload: WritePayload
    """What was written."""

    @property
    def data_type(self) -> DataType:
        """The kind of data, from the event's name."""
        return DataType(self.event_type.partition(".write.")[0])

    @property
    def succeeded(self) -> bool:
        """Whether the data was written."""
        return self.event_type.endswith(".successful")


@frozen(kw_only=True, slots=False)
class RateLimitPayload(LenientModel):
    """The daily quota, the requests that remain, and when the quota resets (UTC)."""

    daily_quota: int | None = None
    """Requests per day."""

    quota_remaining: int | None = None
    """Requests that are left today."""

    expiry_date: datetime | None = None
    """When the quota resets, in UTC."""


@frozen(kw_only=True, slots=False)
class RateLimitEvent(WebhookEvent[RateLimitPayload]):
    """The daily quota is exhausted, or was reset."""

    payload: RateLimitPayload
    """The state of the quota."""


@frozen(kw_only=True, slots=False)
class UnknownEvent(WebhookEvent[object]):
    """An event that this library has no model for, with its payload as parsed JSON.

    An envelope that is not documented (no `payload`, or no object at all) is the payload as a whole; text that is not
    JSON stays text. `event_type` is `""` where there is none. The older rule events have their `RuleType` as
    `event_type`, their `AlertId` as `id`, and everything else in the payload (`CompanyId`, `Data` ...).
    """

    payload: object = field(default=None, hash=False)
    """The parsed JSON."""


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
    """Return the class of an event type; `UnknownEvent` for an unknown type.

    Args:
        event_type: The name of the event.
    """
    if event_type.endswith((".write.successful", ".write.unsuccessful")):
        return WriteEvent
    return _CLASSES.get(event_type, UnknownEvent)
