"""What the work with syncs needs of the world: a few calls, the time, and chance."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from datetime import datetime
from random import Random
from typing import Protocol

from codat_commerce_async._core.claims import Claims
from codat_commerce_async.models.call import ApiResponse
from codat_commerce_async.models.sync import CompanySyncStatus, SyncStatus, SyncSummary
from codat_commerce_async.policies import CallOptions, RetryPolicy
from codat_commerce_async.syncing._notifications import Subscription
from codat_commerce_async.syncing.request import SyncRequest

__all__ = ["SyncCalls"]


class SyncCalls(Protocol):
    """The calls that start and look at syncs, and what they happen in."""

    @property
    def random(self) -> Random:
        """Where keys and jitter come from."""
        ...

    def time(self) -> float:
        """Seconds on a clock that only goes forward."""
        ...

    def now(self) -> float:
        """The local wall clock, in epoch seconds."""
        ...

    def server_time(self, local: float) -> datetime:
        """What the server's clock showed at a moment of the local one."""
        ...

    @property
    def server_offset(self) -> float | None:
        """Seconds by which the server's clock is ahead of the local one; None while no response had a `Date`."""
        ...

    @property
    def claims(self) -> Claims:
        """Which sync belongs to which of the client's requests."""
        ...

    @property
    def retry(self) -> RetryPolicy:
        """The client's policy."""
        ...

    def while_open(self) -> AbstractAsyncContextManager[None]:
        """A block that ends with ClientClosedError when the client is closed meanwhile."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Let time pass; raises ClientClosedError when the client is closed meanwhile."""
        ...

    def hints_of(self, company_id: str) -> AbstractContextManager[Subscription]:
        """Return a context manager that subscribes to the company's notifications."""
        ...

    async def sleep_until_notified(self, hints: Subscription, seconds: float) -> None:
        """Let time pass, less of it when a notification is pending."""
        ...

    @property
    def min_interval(self) -> float:
        """Seconds from one request to the next at the quota's full rate; 0 without a quota."""
        ...

    def subscribe(self, told: Callable[[str], None]) -> None:
        """Call `told` with the company of every hint."""
        ...

    def unsubscribe(self, told: Callable[[str], None]) -> None:
        """Call it no longer."""
        ...

    def reserve(self, requests: int) -> None:
        """Keep so many of the day's requests; negative numbers give them back."""
        ...

    async def request(
        self, request: SyncRequest, options: CallOptions, *, key_left: float | None = None
    ) -> ApiResponse[SyncSummary]:
        """Request a sync; `key_left` seconds from now, by either clock, its key must not be sent any more."""
        ...

    async def get(self, company_id: str, sync_id: str, options: CallOptions) -> CompanySyncStatus:
        """One sync's status."""
        ...

    async def get_status(self, company_id: str, options: CallOptions) -> SyncStatus:
        """The newest sync's status, with both of its ids."""
        ...

    async def list(self, company_id: str, options: CallOptions) -> tuple[CompanySyncStatus, ...]:
        """The statuses of all syncs of a company."""
        ...
