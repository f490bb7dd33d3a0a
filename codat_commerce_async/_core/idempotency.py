"""Idempotency keys: create them, and track for how long Codat remembers one."""

import math
from datetime import timedelta
from random import Random
from uuid import UUID

from codat_commerce_async.errors import TransportError

__all__ = ["KEY_LIFETIME", "KEY_RETENTION", "FirstUse", "key_expired", "new_key"]

# Codat remembers a key for this long, and would do the work again afterwards.
# https://docs.codat.io/using-the-api/idempotency
KEY_RETENTION = timedelta(minutes=90)
# A key is sent again for so many seconds only; the margin is for a request on its way.
KEY_LIFETIME = KEY_RETENTION.total_seconds() - 5 * 60.0


def new_key(random: Random) -> str:
    """Return a new idempotency key."""
    return str(UUID(int=random.getrandbits(128), version=4))


def key_expired() -> TransportError:
    """Return the error for a request that is not sent, because Codat may have forgotten its key."""
    return TransportError("Codat may have forgotten the idempotency key by now", None, sent=False, retryable=False)


class FirstUse:
    """When a key was first used, on every clock that could be read then: the local ones in seconds, and the server's.

    `loop` is None for another process, and `server` if the server's time was not known.
    """

    __slots__ = ("local", "loop", "server")

    def __init__(self, local: float, loop: float | None, server_offset: float | None) -> None:
        self.local = local
        self.loop = loop
        self.server = None if server_offset is None else local + server_offset

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
