"""A company's connections to accounting and commerce platforms."""

from collections.abc import Mapping
from datetime import datetime

from attrs import field, frozen

from codat_commerce_async.models.base import UNSET, LenientModel, Model, Unset
from codat_commerce_async.models.enums import ConnectionStatus, ErrorStatus, SourceType
from codat_commerce_async.models.paging import Page

__all__ = ["Connection", "Connections", "CreateConnection", "DataConnectionError", "UpdateConnection"]


@frozen(kw_only=True)
class DataConnectionError(LenientModel):
    """An error of a connection.

    `status_code` and `status_text` are the source platform's, `error_message` is Codat's. `status` is None
    for an error that is not transient. Times are in UTC.
    """

    status_code: str | None = None
    status_text: str | None = None
    error_message: str | None = None
    errored_on_utc: datetime | None = None
    status: ErrorStatus | None = None
    resolved_on_utc: datetime | None = None


@frozen(kw_only=True)
class Connection(LenientModel):
    """One company's connection to one platform.

    `integration_key` is the platform's four letters (`gbol` for Xero), `link_url` is where the company's
    people authorize it, `last_sync` when Codat last read data from it, `connection_info` the platform's
    own information, as parsed JSON.
    Source: https://docs.codat.io/sync-for-commerce-api#/schemas/Connection
    """

    id: str
    integration_id: str | None = None
    integration_key: str | None = None
    source_id: str | None = None
    source_type: SourceType | None = None
    platform_name: str | None = None
    link_url: str | None = None
    status: ConnectionStatus | None = None
    last_sync: datetime | None = None
    created: datetime | None = None
    data_connection_errors: tuple[DataConnectionError, ...] = ()
    connection_info: Mapping[str, object] | None = field(default=None, hash=False)

    @property
    def is_linked(self) -> bool:
        """Whether data can be read and written through it now."""
        return self.status is ConnectionStatus.LINKED


@frozen(kw_only=True)
class Connections(Page[Connection]):
    """A page of a company's connections."""

    results: tuple[Connection, ...] = ()


@frozen(kw_only=True)
class CreateConnection(Model):
    """The platform to connect a company to, by its four letters."""

    platform_key: str


@frozen(kw_only=True)
class UpdateConnection(Model):
    """A change of a connection; Codat supports unlinking it."""

    status: ConnectionStatus | Unset | None = UNSET
