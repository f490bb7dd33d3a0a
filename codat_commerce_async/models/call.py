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

    A value that is missing or cannot be parsed is None. Both times are in UTC.
    Source: https://docs.codat.io/using-the-api/rate-limits
    """

    limit: int | None = None
    """Requests per day."""

    remaining: int | None = None
    """Requests that are left today."""

    reset: datetime | None = None
    """When the count starts again."""

    observed_at: datetime
    """When the response was received."""


@frozen(kw_only=True)
class Attempt:
    """One request on the wire; a call may need several."""

    number: int
    """The number of the attempt, from 1."""

    started_at: datetime
    """When the attempt began, in UTC."""

    quota_wait: float
    """Seconds spent waiting for the quota."""

    elapsed: float
    """Seconds on the wire."""

    status: int | None
    """The HTTP status; None without a complete response."""

    result: str
    """The result in a few words."""


@frozen(kw_only=True)
class Call:
    """The call that an error is about."""

    operation: str
    """The operation's name in Codat's reference."""

    method: str
    """The HTTP method."""

    path: str
    """The path template, without ids."""

    idempotency_key: str | None = None
    """The key that a write was sent with."""

    attempts: tuple[Attempt, ...] = ()
    """All attempts, in order."""


@frozen(kw_only=True)
class ApiResponse(Generic[T_co]):
    """A decoded value together with its response.

    The repr does not contain the value, because a Sync flow URL contains a passcode.
    """

    value: T_co = field(repr=False)
    """The decoded body."""

    status: int
    """The HTTP status."""

    headers: Mapping[str, str] = field(repr=False)
    """The headers of the response, with lower-case names."""

    rate_limit: RateLimit | None
    """The daily quota that the response reports."""

    server_time: datetime | None
    """The `Date` of the response, in UTC."""

    correlation_id: str | None
    """Codat's correlation id, where the response has one."""

    idempotency_key: str | None
    """The key that a write was sent with."""

    attempts: tuple[Attempt, ...]
    """All attempts of the call, in order."""
