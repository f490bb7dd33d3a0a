"""What all stores of the shared quota have in common."""

from typing import Protocol

from codat_commerce_async.distributed._state import (
    AddressState,
    ClientState,
    QuotaReport,
    QuotaResult,
    exchange,
    new_address,
    new_client,
)

__all__ = ["QuotaStore", "StoreUnavailableError", "apply"]


class StoreUnavailableError(Exception):
    """The store cannot be used at present; rate limiters handle it. The message gives the reason, without secrets."""


class QuotaStore(Protocol):
    """The interface of a store: it applies reports one after the other, by its own clock."""

    async def exchange(self, report: QuotaReport) -> QuotaResult:
        """Apply a report and return the result, in one round trip. Any exception means that the store is unavailable.

        A report may be applied although its result is lost, so applying it again must be harmless.

        Args:
            report: What a process reports, as JSON values.

        Raises:
            SharedQuotaError: The store cannot work before its configuration is corrected. If it has never worked,
                requests raise this error rather than wait.
        """
        ...

    async def aclose(self) -> None:
        """Close the connections; the next exchange opens new ones."""
        ...


def apply(
    address: AddressState | None, client: ClientState | None, report: QuotaReport, now: float
) -> tuple[AddressState, ClientState, QuotaResult]:
    """Apply a report to states, or to new ones where there are none; return the states and the result."""
    address = new_address(now, report["tolerance"]) if address is None else address
    client = new_client(now) if client is None else client
    return address, client, exchange(address, client, report, now)
