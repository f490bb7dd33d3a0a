"""Idempotency keys: create them, and track when one was sent and for how long Codat remembers it.

`reconcile.py` decides what follows from the age of a key.
"""

import math
from datetime import UTC, datetime, timedelta
from enum import Enum
from random import Random
from uuid import UUID

from attrs import frozen

from codat_commerce_async._core.lifecycle import Clock
from codat_commerce_async.errors import TransportError

__all__ = [
    "DRIFT",
    "KEY_LIFETIME",
    "KEY_RETENTION",
    "FirstUse",
    "KeyAge",
    "KeyHistory",
    "RequestWindow",
    "key_expired",
    "new_key",
]

# Codat remembers a key for this long, and would do the work again afterwards.
# https://docs.codat.io/using-the-api/idempotency
KEY_RETENTION = timedelta(minutes=90)
# A key is sent again only for this many seconds; the margin is for a request on its way.
KEY_LIFETIME = KEY_RETENTION.total_seconds() - 5 * 60.0
# A request may have created something that began this much before it was sent, as the clocks of machines differ.
DRIFT = timedelta(seconds=120)
# If the server's `Date` and the local clock differ by more, one of them is wrong. Less is normal: `Date` counts whole
# seconds, and a response takes time.
_TOLERANCE = 5.0
_ROUNDING = timedelta(milliseconds=1)


def new_key(random: Random) -> str:
    """Return a new idempotency key."""
    return str(UUID(int=random.getrandbits(128), version=4))


def key_expired() -> TransportError:
    """Return the error for a request that is not sent, because Codat may have forgotten its key."""
    return TransportError("Codat may have forgotten the idempotency key by now", None, sent=False, retryable=False)


@frozen
class FirstUse:
    """When a key was first used, on every clock that could be read then: the local ones in seconds, and the server's.

    `loop` is None for another process, and `server_offset` if the server's time was not known.
    """

    local: float
    loop: float | None
    server_offset: float | None

    @property
    def server(self) -> float | None:
        """The server's time; None if it was not known."""
        return None if self.server_offset is None else self.local + self.server_offset

    @property
    def is_unconfirmed(self) -> bool:
        """Whether only the wall clock of another process shows when it was, which may have been set since."""
        return self.loop is None and self.server is None

    def age(self, now: float, loop: float, server_offset: float | None) -> float:
        """Return the seconds since then by the clock that shows most, and infinity if none can be relied on.

        The loop's clock stands still while the machine is suspended, and the wall clock may be set back.
        """
        ages = [now - self.local]
        if self.loop is not None:
            ages.append(loop - self.loop)
        if self.server is not None and server_offset is not None:
            ages.append(now + server_offset - self.server)
        elif self.loop is None:
            return math.inf
        return max(ages)


class KeyHistory(Enum):
    """Whether the current key was sent before."""

    UNUSED = "unused"
    MAYBE_SENT = "maybe_sent"  # the caller passed it, who may have sent it at any time
    SENT = "sent"


class KeyAge:
    """The current key: whether it was sent before, and for how long Codat still remembers it."""

    __slots__ = ("_clock", "_use", "history")

    def __init__(self, clock: Clock, *, is_given: bool) -> None:
        self._clock = clock
        self._use: FirstUse | None = None
        self.history = KeyHistory.MAYBE_SENT if is_given else KeyHistory.UNUSED

    def record_sent(self, use: FirstUse) -> None:
        """Record that the key was sent; only the first use counts."""
        self._use = self._use or use
        self.history = KeyHistory.SENT

    def rotate(self) -> None:
        """Record that a new key replaces this one."""
        self._use = None
        self.history = KeyHistory.UNUSED

    @property
    def remaining(self) -> float | None:
        """Seconds for which Codat remembers the key for sure; None if it is not known that it was sent."""
        if self._use is None:
            return None
        clock = self._clock
        return KEY_LIFETIME - self._use.age(clock.now(), clock.time(), clock.server_offset)

    @property
    def is_expired(self) -> bool:
        """Whether Codat may have forgotten the key."""
        remaining = self.remaining
        return remaining is not None and remaining <= 0


class RequestWindow:
    """The server times between which the first request was sent, under whichever key.

    `requested_at` is the estimate of the first error that had one.
    """

    __slots__ = ("_clock", "_margin", "first_use", "requested_at")

    def __init__(self, clock: Clock, *, is_key_given: bool) -> None:
        self._clock = clock
        # The caller of a given key may have sent it long before us.
        self._margin = KEY_RETENTION if is_key_given else DRIFT
        self.first_use: FirstUse | None = None
        self.requested_at: datetime | None = None

    def record_sent(self, use: FirstUse) -> None:
        """Record that a request was sent; only the first one counts."""
        self.first_use = self.first_use or use

    def resume(self, use: FirstUse) -> None:
        """Record that an earlier process sent the first request then."""
        self.first_use = use
        self._margin = DRIFT

    @property
    def first_sent_at(self) -> float:
        """The local time of the first request, in epoch seconds; now if there was none."""
        return self._clock.now() if self.first_use is None else self.first_use.local

    def bounds(self) -> tuple[datetime, datetime] | None:
        """Return the earliest and the latest time of the first request; None if no clock can be relied on.

        All estimates agree unless a clock was set or a response had a wrong `Date`; then the truth is among them.
        """
        offset, first = self._clock.server_offset, self.first_use
        if offset is None or first is None or first.is_unconfirmed:
            return None
        moments = [first.local + offset]
        if first.server is not None:
            moments.append(first.server)
        if self.requested_at is not None:
            moments.append(self.requested_at.timestamp())
        if abs(offset) > _TOLERANCE:
            moments.append(first.local)
        try:
            return datetime.fromtimestamp(min(moments), UTC), datetime.fromtimestamp(max(moments), UTC)
        except (OverflowError, ValueError, OSError):  # a `Date` at the end of the calendar
            return None

    def earliest(self) -> datetime:
        """Return the earliest server time at which the first request can have been sent."""
        bounds = self.bounds()
        return self._clock.server_time(self.first_sent_at) if bounds is None else bounds[0]

    def may_follow(self, created_at: datetime | None) -> bool:
        """Return False if something created then is certainly older than the first request."""
        bounds = self.bounds()
        return bounds is None or created_at is None or created_at >= bounds[0] - self._margin

    def follows(self, created_at: datetime | None) -> bool:
        """Return True if something created then is certainly not older than the first request."""
        bounds = self.bounds()
        return bounds is not None and created_at is not None and created_at >= bounds[1] - _ROUNDING
