"""What happened on the wire during one call, as plain values."""

from collections.abc import Mapping
from datetime import datetime
from typing import Generic, TypeVar

from attrs import field, frozen

__all__ = ["ApiResponse", "Attempt", "Call", "RateLimit"]

T_co = TypeVar("T_co", covariant=True)


@frozen(kw_only=True)
class RateLimit:
    """The day's request quota as an answer reported it (`X-Rate-Limit-*`).

    `limit` and `remaining` count requests, `reset` is when the count starts anew, `observed_at` when the
    answer came in; what an answer did not say, or said unreadably, is None. Both times are in UTC.
    Source: https://docs.codat.io/using-the-api/rate-limits
    """

    limit: int | None = None
    remaining: int | None = None
    reset: datetime | None = None
    observed_at: datetime


@frozen(kw_only=True)
class Attempt:
    """One exchange with the server, of possibly several that a call needed.

    `started_at` is in UTC; `quota_wait` (for the quota) and `elapsed` (on the wire) are seconds; `status` is
    the HTTP status, or None when no whole answer came; `result` says in a few words what did.
    """

    number: int
    started_at: datetime
    quota_wait: float
    elapsed: float
    status: int | None
    result: str


@frozen(kw_only=True)
class Call:
    """Which call an error speaks of: its operation, the path as Codat writes it, its key, and its attempts."""

    operation: str
    method: str
    path: str
    idempotency_key: str | None = None
    attempts: tuple[Attempt, ...] = ()


@frozen(kw_only=True)
class ApiResponse(Generic[T_co]):
    """A decoded value together with what came around it.

    `headers` has lower-case names. `server_time` is the answer's `Date`, in UTC. The value is left out of
    the repr: a Sync flow URL, for one, carries a passcode.
    """

    value: T_co = field(repr=False)
    status: int
    headers: Mapping[str, str] = field(repr=False)
    rate_limit: RateLimit | None
    server_time: datetime | None
    correlation_id: str | None
    idempotency_key: str | None
    attempts: tuple[Attempt, ...]
