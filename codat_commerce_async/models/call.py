"""A call's response and its attempts, as plain values."""

from collections.abc import Mapping
from datetime import datetime
from typing import Generic, TypeVar

from attrs import field, frozen

__all__ = ["ApiResponse", "Attempt", "Call", "RateLimit"]

T_co = TypeVar("T_co", covariant=True)


@frozen(kw_only=True)
class RateLimit:
    """The daily request quota as a response reported it (`X-Rate-Limit-*`).

    `limit` and `remaining` count requests, `reset` is when the count starts again, `observed_at` when the response was
    received; a value that is missing or cannot be parsed is None. Both times are in UTC.
    Source: https://docs.codat.io/using-the-api/rate-limits
    """

    limit: int | None = None
    remaining: int | None = None
    reset: datetime | None = None
    observed_at: datetime


@frozen(kw_only=True)
class Attempt:
    """One request on the wire; a call may need several.

    `started_at` is in UTC; `quota_wait` (for the quota) and `elapsed` (on the wire) are seconds; `status` is the HTTP
    status, or None without a complete response; `result` describes the result in a few words.
    """

    number: int
    started_at: datetime
    quota_wait: float
    elapsed: float
    status: int | None
    result: str


@frozen(kw_only=True)
class Call:
    """The call that an error is about: its operation, path template, idempotency key and attempts."""

    operation: str
    method: str
    path: str
    idempotency_key: str | None = None
    attempts: tuple[Attempt, ...] = ()


@frozen(kw_only=True)
class ApiResponse(Generic[T_co]):
    """A decoded value together with its response.

    `headers` has lower-case names. `server_time` is the response's `Date`, in UTC. The repr does not contain the
    value, because a Sync flow URL contains a passcode.
    """

    value: T_co = field(repr=False)
    status: int
    headers: Mapping[str, str] = field(repr=False)
    rate_limit: RateLimit | None
    server_time: datetime | None
    correlation_id: str | None
    idempotency_key: str | None
    attempts: tuple[Attempt, ...]
