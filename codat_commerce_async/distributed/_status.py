"""What `SharedRateLimiter.status` reports."""

from collections.abc import Mapping

from attrs import field, frozen

__all__ = ["QuotaStatus"]


@frozen(kw_only=True)
class QuotaStatus:
    """The state of the shared quota as the last round trip reported it, for health endpoints. Times are seconds."""

    available: bool
    """Whether the last round trip to the store succeeded."""

    reason: str | None
    """Why the store is unavailable, without credentials."""

    age: float | None
    """Seconds since the last successful round trip; None before the first."""

    processes: int | None
    """Live processes of this address, this one included; None if unknown."""

    remaining_minute: int | None
    """About how many requests of the last minute's limit are left; None without a limit, or if unknown."""

    remaining_day: int | None
    """Remaining requests of the daily quota; None if unknown."""

    exhausted: float
    """Seconds until the reset of an exhausted daily quota; 0 if it is not exhausted."""

    pause: float
    """Seconds for which all requests are paused."""

    paused_companies: Mapping[str, float] = field(factory=dict)
    """Seconds for which the requests of these companies are paused."""

    in_flight: int
    """Requests of this process that are admitted and not released."""

    waiting: int
    """Requests of this process that wait."""
