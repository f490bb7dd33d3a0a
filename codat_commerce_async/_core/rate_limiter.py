"""The interface of a rate limiter, which limits the rate and the concurrency of requests."""

from collections.abc import Callable
from datetime import datetime
from typing import Protocol, runtime_checkable

from codat_commerce_async._core.log import extra_fields, logger_of

__all__ = ["OnPause", "PauseListeners", "PauseSource", "RateLimiter", "log_pause"]

OnPause = Callable[[float, str, str | None], None]
"""Receives the seconds, the reason and the company id (None for all) of a pause."""

_logger = logger_of("quota")


class RateLimiter(Protocol):
    """The interface of a rate limiter. Implement it to limit several processes together; see `LocalRateLimiter`."""

    @property
    def min_interval(self) -> float:
        """Seconds from one request to the next at the full rate; 0 without a rate."""
        ...

    @property
    def needs_quota_update(self) -> bool:
        """Whether requests wait for what the next response reports of the daily quota."""
        ...

    async def acquire(self, company_id: str | None, *, background: bool = False, starts_work: bool = False) -> None:
        """Wait until a request may be sent; call `release` when it has ended.

        `background` requests have lower priority. `starts_work` defers while the remaining quota is reserved.

        Args:
            company_id: The company that the request is for, or None.
            background: Whether other requests take precedence.
            starts_work: Whether the request starts work that needs further requests.

        Raises:
            QuotaExhaustedError: The daily quota is exhausted.
        """
        ...

    def release(self, company_id: str | None) -> None:
        """Record that a request has ended.

        Args:
            company_id: The company that was passed to `acquire`.
        """
        ...

    def pause(self, seconds: float, company_id: str | None = None) -> None:
        """Send no requests for the given number of seconds, or none of one company, then continue at an even rate.

        Args:
            seconds: How long to pause.
            company_id: The company to pause; None for all.
        """
        ...

    def mark_exhausted(self, seconds: float, reset_at: datetime | None) -> bool:
        """Record that the daily quota is exhausted for that many seconds; return whether requests wait for the reset.

        Args:
            seconds: Seconds until the reset.
            reset_at: The time of the reset, if the server reported it.
        """
        ...

    def update_remaining(self, remaining: int, seconds_to_reset: float, age: float = 0.0) -> None:
        """Record the remaining requests of the daily quota, as a response reported them `age` seconds ago.

        Args:
            remaining: Requests that are left today.
            seconds_to_reset: Seconds until the reset.
            age: Seconds since the response.
        """
        ...

    def reserve(self, requests: int) -> None:
        """Reserve requests of the daily quota for work that is running; a negative number releases them.

        Args:
            requests: The number of requests; negative to release them.
        """
        ...


@runtime_checkable
class PauseSource(Protocol):
    """A rate limiter that reports its pauses, so that they reach the hooks of the clients that share it."""

    def add_pause_listener(self, listener: OnPause) -> None:
        """Call a function with the seconds, the reason and the company id (None for all) of each pause."""
        ...

    def remove_pause_listener(self, listener: OnPause) -> None:
        """Undo `add_pause_listener`."""
        ...


class PauseListeners:
    """The functions that receive the pauses of a rate limiter. One that raises is logged, and stops nothing."""

    def __init__(self, on_pause: OnPause) -> None:
        self._listeners = [on_pause]

    def add(self, listener: OnPause) -> None:
        """Call a function with each pause."""
        self._listeners.append(listener)

    def remove(self, listener: OnPause) -> None:
        """Undo `add`."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def emit(self, seconds: float, reason: str, company_id: str | None) -> None:
        """Call all functions."""
        for listener in self._listeners.copy():
            try:
                listener(seconds, reason, company_id)
            except Exception:
                _logger.exception("a pause listener raised", extra=extra_fields(company_id))


def log_pause(seconds: float, reason: str, company_id: str | None) -> None:
    """Log that requests are paused, all of them or those of one company."""
    whose = f" of company {company_id}" if company_id is not None else ""
    extra = extra_fields(company_id, pause=seconds)
    _logger.warning("no requests%s for %.1f s: %s", whose, seconds, reason, extra=extra)
