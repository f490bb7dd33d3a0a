"""The request for a sync."""

from datetime import datetime

from attrs import frozen

from codat_commerce_async._core.validation import check_aware_datetime, require

__all__ = ["SyncRequest"]


@frozen(kw_only=True)
class SyncRequest:
    """The request for a sync: up to `sync_to` (None: up to now), or of the period from `start` to `finish`.

    Times are aware datetimes, and kept in UTC.

    Raises:
        ValueError: The period is naive, reversed or beyond the calendar, or has both forms.
    """

    company_id: str
    """The id of the company."""

    sync_to: datetime | None = None
    """The end of the period; None for now."""

    start: datetime | None = None
    """The start of the period, together with `finish`."""

    finish: datetime | None = None
    """The end of the period, together with `start`."""

    def __attrs_post_init__(self) -> None:
        if self.sync_to is self.start is self.finish is None:
            return
        for name in ("sync_to", "start", "finish"):
            moment = getattr(self, name)
            if moment is not None:
                object.__setattr__(self, name, check_aware_datetime(name, moment))
        if (self.start is None) != (self.finish is None):
            raise ValueError("start and finish must be passed together")
        if self.start is not None and self.finish is not None:
            if self.sync_to is not None:
                raise ValueError("pass either sync_to, or start and finish")
            require(self.finish >= self.start, "finish", "not before start", self.finish)

    @property
    def date_range(self) -> tuple[datetime, datetime] | None:
        """The requested period; None for a sync up to `sync_to` or now."""
        return (self.start, self.finish) if self.start is not None and self.finish is not None else None
