"""What sync is asked for."""

from dataclasses import dataclass
from datetime import datetime

__all__ = ["SyncRequest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncRequest:
    """A sync to ask for: up to `sync_to` (None: up to now), or of the period from `start` to `finish`.

    Times are aware datetimes. Raises ValueError for a naive or reversed period, or for both forms at once.
    """

    company_id: str
    sync_to: datetime | None = None
    start: datetime | None = None
    finish: datetime | None = None

    def __post_init__(self) -> None:
        for name in ("sync_to", "start", "finish"):
            _check_moment(name, getattr(self, name))
        if (self.start is None) != (self.finish is None):
            raise ValueError("start and finish belong together; give both or neither")
        if self.start is not None and self.finish is not None:
            if self.sync_to is not None:
                raise ValueError("give sync_to, or start and finish, not both")
            if self.finish < self.start:
                raise ValueError("finish takes a moment that is not before start")

    @property
    def date_range(self) -> tuple[datetime, datetime] | None:
        """The period asked for, if one was."""
        return (self.start, self.finish) if self.start is not None and self.finish is not None else None


def _check_moment(name: str, value: datetime | None) -> None:
    if value is None:
        return
    if not isinstance(value, datetime):
        raise TypeError(f"{name} takes a datetime, not {type(value).__name__}")
    if value.utcoffset() is None:
        raise ValueError(f"{name} takes a datetime with a time zone, such as datetime.now(UTC)")
