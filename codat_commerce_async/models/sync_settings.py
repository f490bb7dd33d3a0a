"""Sync settings: how often Codat reads each data type of a company, and how far back."""

from datetime import datetime

from attrs import frozen

from codat_commerce_async.models.base import PreservesUnknownFields
from codat_commerce_async.models.enums import DataType

__all__ = ["CompanySyncSettings", "SyncSetting"]


@frozen(kw_only=True)
class SyncSetting(PreservesUnknownFields):
    """How Codat reads one data type. To set it, the first four fields are required.

    `sync_schedule` is in hours, `sync_order` is the position in the queue. `sync_from_utc` or `sync_from_window` (in
    months) limits how far back the data goes, `months_to_sync` does so for reports.
    Source: https://docs.codat.io/knowledge-base/advanced-sync-settings
    """

    data_type: DataType | None = None
    fetch_on_first_link: bool | None = None
    sync_schedule: int | None = None
    sync_order: int | None = None
    sync_from_utc: datetime | None = None
    sync_from_window: int | None = None
    months_to_sync: int | None = None
    is_locked: bool | None = None


@frozen(kw_only=True)
class CompanySyncSettings(PreservesUnknownFields):
    """A company's sync settings; with `overrides_defaults` they replace those of the client."""

    company_id: str | None = None
    settings: tuple[SyncSetting, ...] = ()
    overrides_defaults: bool | None = None
