"""A company's connections to accounting and commerce platforms."""

from collections.abc import Mapping
from datetime import datetime

from attrs import field, frozen

from codat_commerce_async.models.base import UNSET, LenientModel, Model, Unset
from codat_commerce_async.models.enums import ConnectionStatus, ErrorStatus, SourceType
from codat_commerce_async.models.paging import Page

__all__ = ["Connection", "Connections", "CreateConnection", "DataConnectionError", "UpdateConnection"]


@frozen(kw_only=True, slots=False)
class DataConnectionError(LenientModel):
    """An error of a connection. Times are in UTC."""

    status_code: str | None = None
    """The source platform's status code."""

    status_text: str | None = None
    """The source platform's status text."""

    error_message: str | None = None
    """Codat's explanation."""

    errored_on_utc: datetime | None = None
    """When the error occurred."""

    status: ErrorStatus | None = None
    """Whether a transient error is active or resolved; None for any other error."""

    resolved_on_utc: datetime | None = None
    """When the error was resolved."""


@frozen(kw_only=True, slots=False)
class Connection(LenientModel):
    """One company's connection to one platform.

    Source: https://docs.codat.io/sync-for-commerce-api#/schemas/Connection
    """

    id: str
    """The id of the connection."""

    integration_id: str | None = None
    """The id of the integration."""

    integration_key: str | None = None
    """The platform's four letters, such as `gbol` for Xero."""

    source_id: str | None = None
    """The id of the source."""

    source_type: SourceType | None = None
    """The kind of platform."""

    platform_name: str | None = None
    """The name of the platform."""

    link_url: str | None = None
    """The URL where the company authorizes the connection."""

    status: ConnectionStatus | None = None
    """Whether Codat can read and write through the connection."""

    last_sync: datetime | None = None
    """When Codat last read data through the connection."""

    created: datetime | None = None
    """When the connection was created."""

    data_connection_errors: tuple[DataConnectionError, ...] = ()
    """The errors of the connection."""

    connection_info: Mapping[str, object] | None = field(default=None, hash=False)
    """The platform's own information, as parsed JSON."""

    @property
    def is_linked(self) -> bool:
        """Whether data can be read and written through it now."""
        return self.status is ConnectionStatus.LINKED


@frozen(kw_only=True, slots=False)
class Connections(Page[Connection]):
    """A page of a company's connections."""

    results: tuple[Connection, ...] = ()
    """The connections of this page."""


@frozen(kw_only=True, slots=False)
class CreateConnection(Model):
    """The platform to connect a company to, by its four letters."""

    platform_key: str
    """The platform's four letters."""


@frozen(kw_only=True, slots=False)
class UpdateConnection(Model):
    """A change of a connection; Codat supports unlinking it."""

    status: ConnectionStatus | Unset | None = UNSET
    """The new status; Codat supports `Unlinked`."""
