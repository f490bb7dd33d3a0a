"""Keep the shared quota in the memory of one process: for tests."""

import asyncio
from collections.abc import Callable

from codat_commerce_async._core.callbacks import check_function
from codat_commerce_async.distributed._state import AddressState, ClientState, QuotaReport, QuotaResult
from codat_commerce_async.distributed._stores import apply

__all__ = ["MemoryQuotaStore"]


class MemoryQuotaStore:
    """A store in memory, for tests of several rate limiters in one process.

    Args:
        clock: Returns the time in seconds; by default the time of the running event loop.
    """

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        if clock is not None:
            check_function("clock", clock)
        self._clock = clock
        self._addresses: dict[str, AddressState] = {}
        self._clients: dict[str, ClientState] = {}

    async def exchange(self, report: QuotaReport) -> QuotaResult:
        """Apply a report and return the result."""
        now = asyncio.get_running_loop().time() if self._clock is None else self._clock()
        address, client = report["address"], report["client"]
        states = apply(self._addresses.get(address), self._clients.get(client), report, now)
        self._addresses[address], self._clients[client], result = states
        return result

    async def aclose(self) -> None:
        """Do nothing; there are no connections."""

    def clear(self) -> None:
        """Forget everything, as a server does that restarts without persistence."""
        self._addresses.clear()
        self._clients.clear()
