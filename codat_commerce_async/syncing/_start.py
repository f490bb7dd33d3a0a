"""Start a sync exactly once, or report that it is not known whether it was started.

`_core/reconcile.py` decides what follows after each failed request.
"""

import math
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import cast
from uuid import UUID, uuid5

from codat_commerce_async._core.idempotency import KEY_RETENTION, FirstUse, key_expired, new_key
from codat_commerce_async._core.log import extra_fields, logger_of
from codat_commerce_async._core.operation import is_id
from codat_commerce_async._core.reconcile import Candidate, LookupPolicy, write_exactly_once
from codat_commerce_async._core.validation import as_utc
from codat_commerce_async.errors import CodatError, NotFoundError, OutcomeUnknownError
from codat_commerce_async.models.call import ApiResponse
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.models.sync import CompanySyncStatus, SyncSummary
from codat_commerce_async.policies import CallOptions, PollOptions
from codat_commerce_async.syncing._context import SyncContext
from codat_commerce_async.syncing.request import SyncRequest

__all__ = ["start", "start_options"]

PersistKey = Callable[[str], Awaitable[None]]
LoadClaims = Callable[[], Awaitable[None]]

_logger = logger_of("sync")

_MIN_TIMEOUT = 0.001


def start_options(options: PollOptions, key: str | None) -> CallOptions:
    """Return the options of a start request from those of its polls, with its idempotency key if there is one."""
    start = cast("CallOptions", options.copy())
    if key is not None:
        start["idempotency_key"] = key
    return start


async def start(
    context: SyncContext,
    request: SyncRequest,
    options: CallOptions,
    *,
    first_use: FirstUse | None = None,
    adopt: bool = True,
    persist_key: PersistKey | None = None,
    load_claims: LoadClaims | None = None,
) -> SyncHandle:
    """Start exactly one sync and return its handle.

    To resume a start that another process may have made, pass its key in the options, and as `first_use` when the key
    may first have been sent. If the server's time of that is not known, nothing shows whether the wall clock was set
    since, so the key is not sent again. With `adopt` False, a sync that a lookup found is never adopted. `persist_key`
    is awaited with every idempotency key before it is sent. `load_claims` is awaited before the first lookup, to record
    which other syncs of the company belong to other requests.

    Raises OutcomeUnknownError if it is not known whether a sync was started, or which one.
    """
    start_request = _StartRequest(context, request, options, persist_key, load_claims)
    retry = options.get("retry") or context.retry
    requested_at = context.clock.now() if first_use is None else first_use.local
    try:
        outcome = await write_exactly_once(
            start_request,
            clock=context.clock,
            claims=context.claims,
            lookups=LookupPolicy(adopt, retry.max_visibility_delay),
            first_use=first_use,
        )
    except OutcomeUnknownError as error:
        # The new error replaces the other one, so its cause is the same.
        raise start_request.with_handle(error) from error.__cause__
    if isinstance(outcome, Candidate):
        return start_request.handle_from_candidate(outcome, context.clock.server_time(requested_at))
    return start_request.handle_from_response(outcome, context.clock.server_time(requested_at))


class _StartRequest:
    """One start of a sync as a `Write`: the requests it makes, and the handle that results."""

    def __init__(
        self,
        context: SyncContext,
        request: SyncRequest,
        options: CallOptions,
        persist_key: PersistKey | None,
        load_claims: LoadClaims | None,
    ) -> None:
        timeout = options.get("timeout")
        self.deadline = None if timeout is None else context.clock.time() + timeout
        self.key = options.get("idempotency_key")
        self.claim = context.claims.claim(request.company_id, self.key)
        self._accepted_at: datetime | None = None
        self._context = context
        self._clock = context.clock
        self._request = request
        self._persist_key = persist_key
        self._load_claims = load_claims
        self._options = options.copy()
        self._options.pop("idempotency_key", None)

    async def next_key(self, last: str | None) -> str:
        """Return the next key, derived from the last one: after a restart, the first key alone gives it again."""
        key = uuid5(UUID(last), "again") if last else new_key(self._context.random)
        if self._persist_key is not None:
            await self._persist_key(str(key))
        return str(key)

    async def send(self, key: str, key_valid_for: float | None) -> ApiResponse[SyncSummary]:
        """Request the sync under this key, unless it has expired."""
        self.key = key
        if key_valid_for is not None and key_valid_for <= 0:
            raise key_expired()
        options: CallOptions = {**self._options_within(key_valid_for), "idempotency_key": key}
        try:
            return await self._context.calls.request(self._request, key_valid_for=key_valid_for, **options)
        finally:
            # The latest time at which Codat may have accepted the request.
            self._accepted_at = self._clock.server_time(self._clock.now())

    async def find_candidates(self) -> list[Candidate[CompanySyncStatus]]:
        """Return the company's syncs, any of which the request may have started."""
        if self._load_claims is not None:
            await self._load_claims()
            self._load_claims = None
        try:
            statuses = await self._context.calls.list(self._request.company_id, **self._options_within())
        except NotFoundError:
            return []
        await self._identify_others([status.sync_id for status in statuses])
        # A status does not report the period of its sync, so it never proves that the sync covers the requested one. A
        # request up to now is covered by any sync that started after it.
        matches = self._request.date_range is None and self._request.sync_to is None
        return [
            Candidate(
                status, status.sync_id or "?", as_utc(status.sync_utc) if status.sync_utc else None, matches=matches
            )
            for status in statuses
        ]

    async def _identify_others(self, listed: list[str | None]) -> None:
        """Assign the newest sync to another request of this client, if it has that request's `commerceSyncId`."""
        claims, company_id = self._context.claims, self._request.company_id
        with_response = [other for other in claims.others(self.claim) if other.alias is not None]
        all_assigned = all(sync_id is not None and claims.is_others(self.claim, sync_id) for sync_id in listed)
        # The request is saved if it could assign nothing.
        if not with_response or all_assigned:
            return
        try:
            newest = await self._context.calls.get_status(company_id, **self._options_within())
        except CodatError:
            return
        for other in with_response:
            if newest.sync_id is not None and newest.commerce_sync_id == other.alias:
                claims.assign(other, newest.sync_id, proven=True)

    def handle_from_response(self, response: ApiResponse[SyncSummary], requested_at: datetime) -> SyncHandle:
        """Return the handle of the sync that the response names; a replayed response names an earlier one."""
        began = as_utc(response.value.sync_utc) if response.value.sync_utc else None
        commerce_sync_id, now = response.value.commerce_sync_id, self._clock.server_time(self._clock.now())
        # A replayed response names a sync that has its claim already.
        claim = self._context.claims.claim(self._request.company_id, commerce_sync_id, self.key)
        if claim is not self.claim:
            self._context.claims.remove(self.claim)
        self._context.claims.record_response(claim, commerce_sync_id, began, now)
        sent_at = self._sent_at(response, requested_at, began)
        return self._handle(requested_at=sent_at, sync_utc=response.value.sync_utc, commerce_sync_id=commerce_sync_id)

    def _sent_at(self, response: ApiResponse[SyncSummary], requested_at: datetime, began: datetime | None) -> datetime:
        """Return the server time at which the request that started the sync was sent.

        `requested_at` is that of the first request, and `began` when the sync began according to the response.
        """
        # A replayed response may be that of any earlier request.
        if began is None or not response.attempts:
            sent_at = requested_at
        else:
            sent_at = self._clock.server_time(response.attempts[0].started_at.timestamp())
        # The sync began before the request, so the response is a replay. Codat stores none for longer than that.
        if began is not None and sent_at - KEY_RETENTION <= began < sent_at:
            return began
        return sent_at

    def handle_from_candidate(self, found: Candidate[CompanySyncStatus], requested_at: datetime) -> SyncHandle:
        """Return the handle of the sync that a lookup found, and log a warning."""
        _logger.warning(
            "adopted sync %s of company %s for request %s: no response named it, but it started after the request",
            found.id,
            self._request.company_id,
            self.key,
            extra=extra_fields(self._request.company_id),
        )
        return self._handle(
            requested_at=requested_at, sync_utc=found.created_at, sync_id=found.value.sync_id, adopted=True
        )

    def with_handle(self, error: OutcomeUnknownError) -> OutcomeUnknownError:
        """Return the error with a handle, with which the sync can be polled later."""
        handle = self._handle(requested_at=error.requested_at)
        return OutcomeUnknownError(
            error.message, error.call, error.requested_at, error.correlation_id, handle, error.candidates
        )

    def _handle(
        self,
        *,
        requested_at: datetime | None,
        sync_utc: datetime | None = None,
        commerce_sync_id: str | None = None,
        sync_id: str | None = None,
        adopted: bool = False,
    ) -> SyncHandle:
        return SyncHandle(
            company_id=self._request.company_id,
            # An id that does not fit into a path is dropped; the sync was started all the same.
            commerce_sync_id=commerce_sync_id if is_id(commerce_sync_id) else None,
            sync_id=sync_id if is_id(sync_id) else None,
            requested_at=requested_at,
            sync_utc=sync_utc,
            date_range=self._request.date_range,
            sync_to=self._request.sync_to,
            accepted_at=self._accepted_at,
            idempotency_key=self.key,
            adopted=adopted,
        )

    def _options_within(self, seconds: float | None = None) -> CallOptions:
        """Return the options of one call, with the timeout that is left of `seconds` and of the whole start."""
        left = seconds
        if self.deadline is not None:
            left = min(self.deadline - self._clock.time(), math.inf if seconds is None else seconds)
        if left is None:
            return self._options
        return {**self._options, "timeout": max(left, _MIN_TIMEOUT)}
