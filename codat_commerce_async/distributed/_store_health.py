"""Whether the store of a shared quota works, and how many processes share it, as the round trips have shown."""

import math

from codat_commerce_async._core.log import extra_fields, logger_of
from codat_commerce_async.distributed._stores import StoreUnavailableError
from codat_commerce_async.errors import SharedQuotaError

__all__ = ["STORE_TIMEOUT", "StoreHealth", "reason_of"]

STORE_TIMEOUT = 1.5
"""Seconds for one round trip."""

# While the store is unavailable, a round trip must not take as long as permits are granted in advance.
_PROBE_TIMEOUT = 0.25
_PROBE_AFTER = 0.5
# While requests wait for a store that is unavailable, the warning is repeated.
_WARN_AGAIN_AFTER = 60.0
# After the store has lost its state, processes report within a few seconds, not at once.
_REMEMBER_PROCESSES = 30.0

_logger = logger_of("quota")


class StoreHealth:
    """The health of the store. `processes` is the number of processes that share the quota, if it is fixed."""

    def __init__(self, processes: int | None) -> None:
        self.is_available = True
        self.is_misconfigured = False
        """Whether the store cannot work as it is configured, and has never worked."""
        self.reason: str | None = None
        """Why the store is unavailable."""
        self.probe_at = 0.0
        """When the next round trip is made while the store is unavailable."""
        self._fixed_processes = processes
        self._counted_processes: int | None = None
        self._counted_at = -math.inf
        self._has_worked = False
        self._warn_at = 0.0

    @property
    def processes(self) -> int | None:
        """The number of processes that share the quota; None if it is not known."""
        return self._fixed_processes or self._counted_processes

    @property
    def timeout(self) -> float:
        """Seconds for the next round trip."""
        return STORE_TIMEOUT if self.is_available else _PROBE_TIMEOUT

    def succeed(self, now: float, processes: int) -> bool:
        """Record a round trip in which the store counted the processes; return whether it was unavailable before."""
        was_available, self.is_available = self.is_available, True
        self.reason, self.is_misconfigured, self._has_worked = None, False, True
        if processes >= (self._counted_processes or 0) or now - self._counted_at > _REMEMBER_PROCESSES:
            self._counted_processes, self._counted_at = processes, now
        if not was_available:
            _logger.info("the store of the shared quota is available again", extra=extra_fields())
        return not was_available

    def fail(self, now: float, error: Exception, *, is_needed: bool) -> None:
        """Record a round trip that failed; log a warning if the store worked before, or if requests wait for it."""
        self.reason, self.probe_at = reason_of(error), now + _PROBE_AFTER
        was_available, self.is_available = self.is_available, False
        # A store that has worked may be repaired while the processes run.
        self.is_misconfigured = not self._has_worked and isinstance(error, SharedQuotaError)
        if not self.is_misconfigured and (was_available or (is_needed and now >= self._warn_at)):
            self._warn(now)

    def misconfigured_error(self) -> SharedQuotaError:
        """Return the error for requests that wait for a store that is misconfigured."""
        return SharedQuotaError(self.reason or "")

    def _warn(self, now: float) -> None:
        """Log that the store is unavailable, and what follows."""
        self._warn_at = now + _WARN_AGAIN_AFTER
        effect = (
            "nothing is sent until it is available again, as the number of processes is unknown"
            if self.processes is None
            else f"this process sends 1/{self.processes} of the quota until it is available again"
        )
        _logger.warning(
            "the store of the shared quota is unavailable (%s): %s", self.reason, effect, extra=extra_fields()
        )


def reason_of(error: Exception) -> str:
    """Return why the store is unavailable; of foreign exceptions only the type, as a text may contain credentials."""
    if isinstance(error, StoreUnavailableError | SharedQuotaError):
        return str(error)
    return "no response in time" if isinstance(error, TimeoutError) else type(error).__name__
