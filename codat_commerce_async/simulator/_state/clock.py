"""The simulator's clock, and the formats of times in Codat's API."""

from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import formatdate
from functools import lru_cache

from codat_commerce_async._core.validation import check_number, check_seconds, require

__all__ = ["DAY", "SimulatedClock", "http_date", "parse_time", "plain_timestamp", "timestamp"]

DAY = 86_400.0

_TICKS = 10_000_000
_LAST_SECOND = 253_402_300_799  # 9999-12-31T23:59:59Z
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class SimulatedClock:
    """Simulated epoch seconds: a wall clock that is sped up and can be advanced."""

    def __init__(self, wall: Callable[[], float], speed: float = 1.0) -> None:
        in_range = check_number("speed", speed) > 0
        require(in_range, "speed", "more than 0 simulated seconds per real second", speed)
        self._wall = wall
        self._origin = wall()
        self._ahead = 0.0
        self.speed = speed

    def now(self) -> float:
        """Return the simulated time in epoch seconds."""
        return self._origin + (self._wall() - self._origin) * self.speed + self._ahead

    def advance(self, seconds: float) -> None:
        """Advance the simulated time."""
        check_seconds("seconds", seconds, finite=True)
        self._ahead += seconds


def timestamp(epoch: float) -> str:
    """Return a time in the format of sync times: UTC with seven fractional digits."""
    seconds, ticks = divmod(round(epoch * _TICKS), _TICKS)
    return f"{_iso(seconds)}.{ticks:07d}Z"


def plain_timestamp(epoch: float) -> str:
    """Return a time in the format of creation times: UTC, whole seconds."""
    return f"{_iso(int(epoch))}Z"


def http_date(epoch: float) -> str:
    """Return a time in the format of HTTP headers."""
    return _http_date(int(epoch))


@lru_cache(maxsize=16)
def _http_date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)


def parse_time(text: str) -> float:
    """Return the epoch seconds of an ISO 8601 date or time; without an offset it is UTC.

    Raises ValueError for anything else.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return (aware.astimezone(UTC) - _EPOCH).total_seconds()
    except OverflowError as error:
        raise ValueError(f"time must be between the years 1 and 9999 (got {text!r})") from error


# Most responses at one time contain the same few seconds.
@lru_cache(maxsize=1024)
def _iso(seconds: int) -> str:
    # The last instant of the calendar is rounded up as a float.
    return datetime.fromtimestamp(min(seconds, _LAST_SECOND), UTC).replace(tzinfo=None).isoformat()
