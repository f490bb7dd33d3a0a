"""What Codat announces by webhook, as typed events.

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
    """Something that happened at Codat, at `generated_date` (UTC).

    `id` is the event's; deliveries of one event share it.
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
    """The product that was added to a company or removed, and all that it has now; `id` is the company's."""

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
    """A connection as it is now, and whose it is."""

    reference_company: CompanyReference | None = None
    connection: Connection | None = None


@frozen(kw_only=True)
class ConnectionEvent(WebhookEvent[ConnectionPayload]):
    """A connection was created, connected, disconnected, reconnected or deleted, or has failed."""

    payload: ConnectionPayload


@frozen(kw_only=True)
class ReadIssueLinks(Model):
    """Where to read more about an issue."""

    logs: str | None = None
    portal: str | None = None
    read_more: str | None = None


@frozen(kw_only=True)
class ReadIssue(Model):
    """Something that was wrong with the data."""

    type: str | None = None
    message: str | None = None
    links: ReadIssueLinks | None = None


@frozen(kw_only=True)
class DataTypeReadSummary(Model):
    """How the read of one data type went, and whether it changed anything."""

    connection_id: str | None = None
    data_type: DataType | None = None
    records_modified: bool | None = None
    status: ReadStatus | None = None
    issues: tuple[ReadIssue, ...] = ()


@frozen(kw_only=True)
class ReadCompletedPayload(LenientModel):
    """What was read, of which company; `modified_from_date` (UTC) is when it was last read before."""

    reference_company: CompanyReference | None = None
    modified_from_date: datetime | None = None
    data_types: tuple[DataTypeReadSummary, ...] = ()


@frozen(kw_only=True)
class ReadCompletedEvent(WebhookEvent[ReadCompletedPayload]):
    """Data of a company was read; a hint that its sync may have got further."""

    payload: ReadCompletedPayload


@frozen(kw_only=True)
class WriteRecord(Model):
    """The record that was written, by its id in the accounting software."""

    id: str | None = None


@frozen(kw_only=True)
class WritePayload(LenientModel):
    """What became of a write request; `id` is the request's. Times are in UTC."""

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
    """Data was written to the accounting software, or was not; a hint that a sync may have got further."""

    payload: WritePayload

    @property
    def data_type(self) -> DataType:
        """The kind of data, as the event's name has it."""
        return DataType(self.event_type.partition(".write.")[0])

    @property
    def succeeded(self) -> bool:
        """Whether the data was written."""
        return self.event_type.endswith(".successful")


@frozen(kw_only=True)
class RateLimitPayload(LenientModel):
    """The day's requests, how many are left, and when there are new ones (UTC)."""

    daily_quota: int | None = None
    quota_remaining: int | None = None
    expiry_date: datetime | None = None


@frozen(kw_only=True)
class RateLimitEvent(WebhookEvent[RateLimitPayload]):
    """The day's requests are spent, or there are new ones."""

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
    """Return the class of the events of a type; `UnknownEvent` for a type that has none."""
    if event_type.endswith((".write.successful", ".write.unsuccessful")):
        return WriteEvent
    return _CLASSES.get(event_type, UnknownEvent)
