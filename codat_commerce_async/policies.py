"""The settings of a client, as frozen values. All times are seconds.

Besides closing the client, these bound one call in time, or a write of several calls (a start or a creation).
`docs/timeouts.md` describes what the user sees.

| bound | what it limits | module |
|---|---|---|
| `CallOptions.timeout` | the whole call | `CancelScope` in `_core/lifecycle.py`; the next retry: `_core/retry.py` |
| | the delays of a write | `_WriteState._sleep` in `_core/reconcile.py` |
| | each request of a start: what is left of the timeout | `_StartRequest._options_within` in `syncing/_start.py` |
| `RetryPolicy.deadline` | the start of the last attempt | `_core/retry.py` |
| `RetryPolicy.max_retry_after` | one delay that a response requests | `_core/retry.py`, `_core/quota_monitor.py` |
| `MAX_IN_PROGRESS` | polls of our own request, after a 409 | `_core/retry.py`; for a write also `_core/reconcile.py` |
| `KEY_LIFETIME` | attempts with one idempotency key | `_core/idempotency.py`, checked in `_core/retry.py` |
| | a start under a key that was sent before: its call's timeout | `_StartRequest.send` in `syncing/_start.py` |
| `Timeouts` | one attempt | `_core/transport.py` |
| `RetryPolicy.max_visibility_delay` | the lookups of a write | `LookupPolicy` in `_core/reconcile.py` |
| `Quota.wait_for_reset` | whether the rate limiter waits for the next day | `_core/local_rate_limiter.py`, |
| | | `distributed/_limiter.py` |
"""

import math
import warnings
from collections.abc import Mapping
from typing import Self, TypedDict

from attrs import frozen

from codat_commerce_async._core.validation import check_count, check_int, check_number, check_seconds, require

__all__ = ["CallOptions", "PollOptions", "PollPolicy", "Quota", "RetryPolicy", "Timeouts"]


# Requests per minute from one IP address: https://docs.codat.io/using-the-api/rate-limits
_CEILING_PER_MINUTE = 1000


def _check_durations(policy: object, *names: str) -> None:
    for name in names:
        check_seconds(name, getattr(policy, name), finite=True)


@frozen
class RetryPolicy:
    """Set how often, and for how long, a call is attempted.

    Delays grow exponentially from `initial_backoff` to `max_backoff`, with full jitter.

    Example:
        ```python
        careful = RetryPolicy(max_visibility_delay=math.inf)  # never start a second sync, even if the lists are late
        client = CodatCommerce.from_env(retry=careful)
        ```
    """

    attempts: int = 4
    """Attempts per call, the first one included.

    A 409 after a lost response means that Codat is still processing our request. It is polled under the same
    idempotency key for up to 180 seconds, and no longer than `deadline`; these polls are not counted.
    """

    initial_backoff: float = 0.5
    """The longest delay before the first retry, in seconds."""

    max_backoff: float = 20.0
    """The longest delay before any retry, in seconds, unless the response has a `Retry-After`."""

    max_retry_after: float = 120.0
    """The longest `Retry-After` to wait for, in seconds; with a longer one, the error is raised at once."""

    deadline: float = 180.0
    """Seconds after the first attempt within which the last one may start, waits after a 429 included.

    A delay that would end later is not started: the last error is raised instead. Only a wait for the daily quota that
    `Quota.wait_for_reset` requests is not included.
    """

    max_visibility_delay: float = 60.0
    """How long a sync or company may exist before Codat's lists show it, in seconds.

    After a 5xx, a write that creates one is sent again under a new idempotency key only when lookups found nothing for
    that long; if it becomes visible later, it is created twice. With `math.inf` it is never sent again, and
    OutcomeUnknownError is raised instead.
    """

    def __attrs_post_init__(self) -> None:
        check_int("attempts", self.attempts, at_least=1)
        _check_durations(self, "initial_backoff", "max_backoff", "max_retry_after")
        check_seconds("deadline", self.deadline)
        check_seconds("max_visibility_delay", self.max_visibility_delay)

    @classmethod
    def none(cls) -> Self:
        """Return a policy with a single attempt."""
        return cls(attempts=1)


@frozen
class PollPolicy:
    """Set how often a running sync is polled.

    Example:
        ```python
        often = PollPolicy(interval=1.0, max_interval=5.0)
        status = await codat.sync.run(company_id, poll=often)
        ```
    """

    initial_delay: float = 1.0
    """Seconds from the start of a sync to its first poll."""

    interval: float = 2.0
    """Seconds from the first poll to the second."""

    factor: float = 1.5
    """The factor by which each further interval is longer than the one before."""

    max_interval: float = 30.0
    """The longest interval, in seconds."""

    jitter: float = 0.2
    """The share by which each interval varies at random: 0.2 is up to 20 % either way."""

    def __attrs_post_init__(self) -> None:
        _check_durations(self, "initial_delay", "interval")
        for name in ("factor", "max_interval", "jitter"):
            check_number(name, getattr(self, name))
        check_seconds("interval", self.interval, positive=True)
        require(math.isfinite(self.factor) and self.factor >= 1, "factor", "finite and at least 1", self.factor)
        require(self.max_interval >= self.interval, "max_interval", "at least interval", self.max_interval)
        require(0 <= self.jitter < 1, "jitter", "at least 0 and below 1", self.jitter)


@frozen
class Timeouts:
    """Set how long one attempt may take, in seconds.

    To limit a whole call, with all of its attempts and delays, pass `timeout=` to the call.
    """

    connect: float = 10.0
    """The time to connect to the server."""

    read: float = 60.0
    """The time between two chunks of the response. It is only checked if it is shorter than `total`."""

    total: float = 60.0
    """The time from the start of the attempt to the end of the response."""

    def __attrs_post_init__(self) -> None:
        for name in ("connect", "read", "total"):
            check_seconds(name, getattr(self, name), positive=True)


@frozen
class Quota:
    """Set how many requests a client may send. None means no limit.

    Codat's limits are 1,000 requests a minute from one IP address, beyond which traffic may be blocked without an
    error, and 10 concurrent requests per company: https://docs.codat.io/using-the-api/rate-limits

    Example:
        ```python
        half = Quota(per_minute=450, wait_for_reset=True)  # another process uses the rest
        client = CodatCommerce.from_env(quota=half)
        ```
    """

    per_minute: int | None = 900
    """Requests in any 60 seconds.

    They are spread evenly over the minute after a burst of one second's worth, so with a small number even a few calls
    wait. The limit holds at the server, however much the network delays a request: each counts from its start until 60
    seconds after its end, so slow responses lower the rate (0.5 seconds: by 0.8 %). The default leaves 100 of Codat's
    1,000 for cancelled and timed-out requests, which may still arrive and are no longer counted.
    """

    concurrent: int | None = 100
    """Concurrent requests."""

    per_company: int | None = 10
    """Concurrent requests for one company."""

    wait_for_reset: bool = False
    """Whether calls wait for the reset of an exhausted daily quota, instead of raising QuotaExhaustedError."""

    def __attrs_post_init__(self) -> None:
        for name in ("per_minute", "concurrent", "per_company"):
            check_count(name, getattr(self, name))
        if self.per_minute is not None and self.per_minute > _CEILING_PER_MINUTE:
            warnings.warn(
                f"per_minute={self.per_minute} is above Codat's ceiling of {_CEILING_PER_MINUTE:,} requests per minute "
                "from one IP address, beyond which traffic may be blocked",
                stacklevel=3,
            )

    @classmethod
    def unlimited(cls) -> Self:
        """Return a quota without limits: for tests and benchmarks, not for Codat."""
        return cls(per_minute=None, concurrent=None, per_company=None)


class PollOptions(TypedDict, total=False):
    """Options of the polls of a wait."""

    retry: RetryPolicy
    """Replaces the policy of each poll, which is a single attempt by default: the next poll is the retry."""

    headers: Mapping[str, str]
    """Headers to send in addition; those of the client cannot be replaced."""

    background: bool
    """Whether other requests take precedence when the quota is short."""


class CallOptions(PollOptions, total=False):
    """Options of every operation. `retry` replaces the client's policy; `PollOptions` describes the others."""

    timeout: float | None
    """Seconds for the whole call: waiting for the quota, every attempt and every delay."""

    idempotency_key: str
    """A GUID; for writes by POST and PATCH only. Each call generates one; pass it only to repeat an earlier write."""
