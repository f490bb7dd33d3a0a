"""The parts of a client that starting and polling syncs needs: four calls, the clock, the quota and notifications."""

from random import Random
from typing import Protocol, Unpack

from attrs import frozen

from codat_commerce_async._core.claims import Claims
from codat_commerce_async._core.lifecycle import Clock, Lifecycle
from codat_commerce_async._core.rate_limiter import RateLimiter
from codat_commerce_async.models.call import ApiResponse
from codat_commerce_async.models.sync import CompanySyncStatus, SyncStatus, SyncSummary
from codat_commerce_async.policies import CallOptions, RetryPolicy
from codat_commerce_async.syncing._notifications import Notifier
from codat_commerce_async.syncing.request import SyncRequest

__all__ = ["RESERVED_REQUESTS", "SyncCalls", "SyncContext"]

# The poll that shows the end of the sync, and one that comes too early. More would defer starts that the quota allows.
RESERVED_REQUESTS = 2
"""The daily quota reserved for the polls of each running sync, which new work must not use up; in requests."""


class SyncCalls(Protocol):
    """The API calls that start and poll syncs; `resources/sync.py` implements them with the pipeline."""

    async def request(
        self, request: SyncRequest, *, key_valid_for: float | None = None, **options: Unpack[CallOptions]
    ) -> ApiResponse[SyncSummary]:
        """Request a sync; after `key_valid_for` seconds its idempotency key must not be sent any more."""
        ...

    async def get(self, company_id: str, sync_id: str, **options: Unpack[CallOptions]) -> CompanySyncStatus:
        """Return the status of one sync."""
        ...

    async def get_status(self, company_id: str, **options: Unpack[CallOptions]) -> SyncStatus:
        """Return the status of the company's newest sync, with both of its ids."""
        ...

    async def list(self, company_id: str, **options: Unpack[CallOptions]) -> tuple[CompanySyncStatus, ...]:
        """Return the statuses of all syncs of the company."""
        ...


@frozen
class SyncContext:
    """The parts of a client that its syncs share.

    `claims` record which sync belongs to which request, `retry` is the client's policy, and `lifecycle` ends waits when
    the client is closed.
    """

    calls: SyncCalls
    clock: Clock
    lifecycle: Lifecycle
    rate_limiter: RateLimiter
    notifier: Notifier
    claims: Claims
    retry: RetryPolicy
    random: Random

    def reserve_polls(self) -> None:
        """Reserve requests of the daily quota for the polls of one more running sync."""
        self.rate_limiter.reserve(RESERVED_REQUESTS)

    def release_polls(self, syncs: int = 1) -> None:
        """Release the reserved requests of the given number of syncs."""
        self.rate_limiter.reserve(-RESERVED_REQUESTS * syncs)
