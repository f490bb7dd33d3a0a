"""Sync settings: how often Codat reads each data type of a company, and how far back."""

from datetime import datetime

from attrs import frozen

from codat_commerce_async.models.base import PreservesUnknownFields
from codat_commerce_async.models.enums import DataType

__all__ = ["CompanySyncSettings", "SyncSetting"]


@frozen(kw_only=True, slots=False)
class SyncSetting(PreservesUnknownFields):
    """How Codat reads one data type. To set it, the first four fields are required.

    `sync_from_utc` or `sync_from_window` limits how far back the data goes, `months_to_sync` does so for reports.
    Source: https://docs.codat.io/knowledge-base/advanced-sync-settings
    """

    data_type: DataType | None = None
    """The data type that is read."""

    fetch_on_first_link: bool | None = None
    """Whether the data is read when a connection is first linked."""

    sync_schedule: int | None = None
    """Hours between two reads."""

    sync_order: int | None = None
    """The position in the queue."""

    sync_from_utc: datetime | None = None
    """The date from which data is read."""

    sync_from_window: int | None = None
    """The months that are read."""

    months_to_sync: int | None = None
    """The months that a report covers."""

    is_locked: bool | None = None
    """Whether the setting cannot be changed."""


@frozen(kw_only=True, slots=False)
class CompanySyncSettings(PreservesUnknownFields):
    """A company's sync settings; with `overrides_defaults` they replace those of the client."""

    company_id: str | None = None
    """The id of the company."""

    settings: tuple[SyncSetting, ...] = ()
    """The settings, one for each data type."""

    overrides_defaults: bool | None = None
    """Whether the settings replace those of the client."""
