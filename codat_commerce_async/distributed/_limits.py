"""The limits of a quota as reports to a store contain them, for all processes or for the share of one."""

from collections.abc import Sequence
from typing import TypedDict

from codat_commerce_async.distributed._state import UNLIMITED
from codat_commerce_async.policies import Quota

__all__ = ["Limits", "ReportedLimits"]

# A millisecond more than a minute, so that no request is at the edge of two windows.
_MINUTE = 60.001


class ReportedLimits(TypedDict):
    """The part of a `QuotaReport` that describes the limits."""

    interval: float
    tolerance: float
    per_minute: int
    concurrent: int
    per_company: int


class Limits:
    """The limits of all processes together, and the share of one of them."""

    def __init__(self, quota: Quota) -> None:
        self._quota = quota
        self.interval, tolerance = _rate(quota.per_minute)
        """Seconds from one request to the next at the full rate; 0 without a rate."""
        self.whole: ReportedLimits = {**self._divided(1), "tolerance": tolerance}
        """The limits of all processes together."""

    def differences(self, limits: Sequence[int]) -> tuple[str, str]:
        """Return the settings that differ from `limits` of a `QuotaResult`, here and there, as text."""
        own = (self.whole["per_minute"], self.whole["concurrent"], self.whole["per_company"])
        different = [
            (f"{name}={_shown(here)}", f"{name}={_shown(there)}")
            for name, here, there in zip(("per_minute", "concurrent", "per_company"), own, limits, strict=True)
            if here != there
        ]
        return ", ".join(here for here, _ in different), ", ".join(there for _, there in different)

    def of_share(self, processes: int) -> ReportedLimits:
        """Return the limits of one of that many processes; among several, it has no burst."""
        return self.whole if processes == 1 else self._divided(processes)

    def _divided(self, processes: int) -> ReportedLimits:
        return {
            "interval": self.interval * processes,
            "tolerance": 0.0,
            "per_minute": _divide(self._quota.per_minute, processes),
            "concurrent": _divide(self._quota.concurrent, processes),
            "per_company": _divide(self._quota.per_company, processes),
        }


def _rate(per_minute: int | None) -> tuple[float, float]:
    """Return the interval and the tolerance that allow `per_minute` requests in any 60 seconds, burst included."""
    if per_minute is None:
        return 0.0, 0.0
    burst = 1 + per_minute // 100
    interval = _MINUTE / max(1, per_minute - burst)
    return interval, (burst - 1) * interval


def _shown(limit: int) -> int | None:
    return None if limit == UNLIMITED else limit


def _divide(limit: int | None, processes: int) -> int:
    return UNLIMITED if limit is None else max(1, limit // processes)
