"""Moments that users pass, kept in UTC: times of one zone compare by its wall clock, which a clock change repeats.

https://peps.python.org/pep-0495/#aware-datetime-comparison
"""

from datetime import UTC, datetime

__all__ = ["to_utc"]


def to_utc(name: str, moment: datetime) -> datetime:
    """Return the aware datetime in UTC; raise TypeError or ValueError for anything else, by name."""
    if not isinstance(moment, datetime):
        raise TypeError(f"{name} takes a datetime, not {type(moment).__name__}")
    if moment.utcoffset() is None:
        raise ValueError(f"{name} takes a datetime with a time zone, such as datetime.now(UTC)")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{name} takes a datetime that is within the calendar in UTC too") from None
