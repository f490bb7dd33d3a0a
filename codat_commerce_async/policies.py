"""The settings that a user tunes, as frozen values. All times are seconds."""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, TypedDict

from codat_commerce_async._core.validation import check_count, check_int, check_number, check_seconds, require

__all__ = ["CallOptions", "PollOptions", "PollPolicy", "Quota", "RetryPolicy", "Timeouts"]


# Requests per minute from one IP address: https://docs.codat.io/using-the-api/rate-limits
_CEILING_PER_MINUTE = 1000


def _check_durations(policy: object, *names: str) -> None:
    for name in names:
        check_seconds(name, getattr(policy, name), finite=True)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, and for how long, a call is tried.

    `attempts` counts the first try too. Pauses grow from `initial_backoff` to `max_backoff`, with full jitter. A
    `Retry-After` is honored up to `max_retry_after`; one beyond it is raised. No try begins later than `deadline`
    after the first one.

    `max_visibility_delay` is how long a sync or company may exist before Codat's lists show it. After a 5xx, a write
    that creates one is sent again under a new idempotency key only when lookups found nothing for so long; what takes
    longer is created twice. With `math.inf` it is never sent again, and OutcomeUnknownError is raised instead.
    """

    attempts: int = 4
    initial_backoff: float = 0.5
    max_backoff: float = 20.0
    max_retry_after: float = 120.0
    deadline: float = 180.0
    max_visibility_delay: float = 60.0

    def __post_init__(self) -> None:
        check_int("attempts", self.attempts, at_least=1)
        _check_durations(self, "initial_backoff", "max_backoff", "max_retry_after")
        check_seconds("deadline", self.deadline)
        check_seconds("max_visibility_delay", self.max_visibility_delay)

    @classmethod
    def none(cls) -> Self:
        """A policy that tries once."""
        return cls(attempts=1)


@dataclass(frozen=True, slots=True)
class PollPolicy:
    """How often to look at a running sync.

    The first look comes `initial_delay` after the start, the next pause is `interval`, each further one `factor`
    times the last, up to `max_interval`; every pause is spread by `jitter` (0.2: up to 20 % either way), so that many
    waits do not fall into step.
    """

    initial_delay: float = 1.0
    interval: float = 2.0
    factor: float = 1.5
    max_interval: float = 30.0
    jitter: float = 0.2

    def __post_init__(self) -> None:
        _check_durations(self, "initial_delay", "interval")
        for name in ("factor", "max_interval", "jitter"):
            check_number(name, getattr(self, name))
        check_seconds("interval", self.interval, positive=True)
        require(math.isfinite(self.factor) and self.factor >= 1, "factor", "finite and at least 1", self.factor)
        require(self.max_interval >= self.interval, "max_interval", "at least interval", self.max_interval)
        require(0 <= self.jitter < 1, "jitter", "at least 0 and below 1", self.jitter)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long one attempt may take: to connect, between two pieces of the answer, and in all.

    A `read` no shorter than `total` costs nothing to keep, and is the default: answers are small.

    For the whole call, with its pauses and repeats, give `timeout=` to the call.
    """

    connect: float = 10.0
    read: float = 60.0
    total: float = 60.0

    def __post_init__(self) -> None:
        for name in ("connect", "read", "total"):
            check_seconds(name, getattr(self, name), positive=True)


@dataclass(frozen=True, slots=True)
class Quota:
    """What a client may use: requests in any 60 seconds, requests in flight, and those in flight per company.

    Requests are spread evenly over the minute after a second's worth of them, so a small `per_minute` makes even a few
    calls wait.

    `per_minute` is kept at the server, whatever `concurrent` is and however much the network delays each request: a
    request counts from its start until 60 seconds after its end, so slow responses lower the rate (0.5 seconds: by
    0.8 %). The default leaves 100 of Codat's 1,000 for requests that were cancelled or timed out here, may still
    arrive, and are not counted any longer.

    None means no bound. Codat's ceilings are 1,000 a minute from one address (beyond it traffic may be blocked
    without a word) and 10 at once per company: https://docs.codat.io/using-the-api/rate-limits
    When the day's requests are spent, calls raise QuotaExhaustedError; with `wait_for_reset` they wait for new ones.
    """

    per_minute: int | None = 900
    concurrent: int | None = 100
    per_company: int | None = 10
    wait_for_reset: bool = False

    def __post_init__(self) -> None:
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
        """No bounds at all: for tests and benchmarks, not for Codat."""
        return cls(per_minute=None, concurrent=None, per_company=None)


class PollOptions(TypedDict, total=False):
    """What a wait takes besides its own arguments, for each of its looks.

    `retry` replaces the policy (a wait's own is to try once, as the next look is the retry). `headers` are sent along;
    the client's own cannot be replaced. `background` lets ordinary calls go first when the quota is short.
    """

    retry: RetryPolicy
    headers: Mapping[str, str]
    background: bool


class CallOptions(PollOptions, total=False):
    """What every operation takes besides its own arguments.

    `retry` replaces the client's policy. `timeout` (seconds) bounds the whole call: waiting for the quota, every
    attempt and every pause. `idempotency_key` (a GUID; writes by POST and PATCH only) is made for you unless you must
    repeat an earlier write. `headers` and `background` are those of `PollOptions`.
    """

    timeout: float | None
    idempotency_key: str
