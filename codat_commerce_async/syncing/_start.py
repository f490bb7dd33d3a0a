"""How a sync is started exactly once, or said not to be known."""

import math
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from uuid import UUID, uuid5

from codat_commerce_async._core.log import logger_of
from codat_commerce_async._core.operation import is_id
from codat_commerce_async._core.reconcile import Candidate, Lookups, write_exactly_once
from codat_commerce_async._core.validation import as_utc
from codat_commerce_async.errors import CodatError, NotFoundError, OutcomeUnknownError, TransportError
from codat_commerce_async.models.call import ApiResponse
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.models.sync import CompanySyncStatus, SyncSummary
from codat_commerce_async.policies import CallOptions
from codat_commerce_async.syncing._calls import SyncContext
from codat_commerce_async.syncing.request import SyncRequest

__all__ = ["start"]

NoteKey = Callable[[str], Awaitable[None]]
Recall = Callable[[], Awaitable[None]]

_logger = logger_of("sync")

# A replayed answer speaks of a sync that began as long ago as Codat remembers keys, and no longer.
_KEY_MEMORY = timedelta(minutes=90)
_MIN_TIMEOUT = 0.001


async def start(
    context: SyncContext,
    request: SyncRequest,
    options: CallOptions,
    *,
    persist_key: NoteKey | None = None,
    first_sent_at: float | None = None,
    server_offset: float | None = None,
    adopt: bool = True,
    recall: Recall | None = None,
) -> SyncHandle:
    """The handle of exactly one sync that was started, or found to have been by our request.

    `persist_key` is awaited with every idempotency key before it is used, so that it can be kept safe. Whoever starts
    again what a process that did not live to see the answer may have started gives its key in the options, and as
    `first_sent_at` (epoch seconds) when that key may first have been used, if it is known, with the `server_offset` of
    that time: the seconds by which the server's clock was ahead. Without it, a wall clock that was set since would go
    unnoticed, so the key is not sent again. With `adopt` False no sync is adopted that was found rather than answered.
    `recall` is awaited before the first lookup, to record what is known elsewhere of the company's other syncs.

    Raises OutcomeUnknownError when it cannot be told whether a sync was started, or which.
    """
    start_ = _Start(context, request, options, persist_key, recall)
    retry = options.get("retry") or context.retry
    began = context.clock.now() if first_sent_at is None else first_sent_at
    try:
        outcome = await write_exactly_once(
            start_.ask,
            start_.look,
            key=start_.key,
            first_sent_at=first_sent_at,
            server_offset=server_offset,
            new_key=start_.new_key,
            clock=context.clock,
            deadline=start_.deadline,
            claims=context.claims,
            claim=start_.claim,
            lookups=Lookups(adopt, retry.max_visibility_delay),
        )
    except OutcomeUnknownError as error:
        raise start_.with_handle(error) from error.__cause__
    if isinstance(outcome, Candidate):
        return start_.adopted(outcome, context.clock.server_time(began))
    return start_.answered(outcome, context.clock.server_time(began))


class _Start:
    """One sync that is being started: its calls, and what they make of it."""

    def __init__(
        self,
        context: SyncContext,
        request: SyncRequest,
        options: CallOptions,
        persist_key: NoteKey | None,
        recall: Recall | None,
    ) -> None:
        timeout = options.get("timeout")
        self.deadline = None if timeout is None else context.clock.time() + timeout
        self.key = options.get("idempotency_key")
        self.claim = context.claims.claim(request.company_id, self.key)
        self._accepted_at: datetime | None = None
        self._context = context
        self._clock = context.clock
        self._request = request
        self._note_key = persist_key
        self._recall = recall
        self._options = options.copy()
        self._options.pop("idempotency_key", None)

    async def new_key(self, last: str | None) -> str:
        """The next key. Made from the last one, it is the same again after a restart that knows only the first."""
        key = uuid5(UUID(last), "again") if last else UUID(int=self._context.random.getrandbits(128), version=4)
        if self._note_key is not None:
            await self._note_key(str(key))
        return str(key)

    async def ask(self, key: str, within: float | None) -> ApiResponse[SyncSummary]:
        self.key = key
        if within is not None and within <= 0:
            raise TransportError("Codat may have forgotten the idempotency key by now")
        options: CallOptions = {**self._in_time(within), "idempotency_key": key}
        try:
            return await self._context.calls.request(self._request, key_left=within, **options)
        finally:
            # When Codat accepted the request, or may have at the latest.
            self._accepted_at = self._clock.server_time(self._clock.now())

    async def look(self) -> list[Candidate[CompanySyncStatus]]:
        if self._recall is not None:
            await self._recall()
            self._recall = None
        try:
            statuses = await self._context.calls.list(self._request.company_id, **self._in_time())
        except NotFoundError:
            return []
        await self._identify_others([status.sync_id for status in statuses])
        # Codat's statuses report no period, so they never show that a sync covers the one that was requested. Any sync
        # that began after the request covers what a request up to now does.
        matches = self._request.date_range is None and self._request.sync_to is None
        return [
            Candidate(
                status, status.sync_id or "?", as_utc(status.sync_utc) if status.sync_utc else None, matches=matches
            )
            for status in statuses
        ]

    async def _identify_others(self, listed: list[str | None]) -> None:
        """Learn which sync is that of another request of ours, if only the other of its two ids is known yet."""
        claims, company_id = self._context.claims, self._request.company_id
        answered = [other for other in claims.others(self.claim) if other.alias is not None]
        if not answered or all(one is not None and claims.is_others(self.claim, one) for one in listed):
            return
        try:
            newest = await self._context.calls.get_status(company_id, **self._in_time())
        except CodatError:
            return
        for other in answered:
            if newest.sync_id is not None and newest.commerce_sync_id == other.alias:
                claims.assign(other, newest.sync_id, proven=True)

    def answered(self, answer: ApiResponse[SyncSummary], asked_at: datetime) -> SyncHandle:
        """The handle of the sync that Codat says it has started, now or when the key was first used."""
        began = as_utc(answer.value.sync_utc) if answer.value.sync_utc else None
        commerce_sync_id, now = answer.value.commerce_sync_id, self._clock.server_time(self._clock.now())
        # A replayed response names a sync that has its claim already.
        claim = self._context.claims.claim(self._request.company_id, commerce_sync_id, self.key)
        if claim is not self.claim:
            self._context.claims.withdraw(self.claim)
        self._context.claims.answered(claim, commerce_sync_id, began, now)
        sent = self._clock.server_time(answer.attempts[0].started_at.timestamp()) if answer.attempts else asked_at
        if began is None:
            sent = asked_at
        elif sent - _KEY_MEMORY <= began < sent:
            sent = began
        return self._handle(requested_at=sent, sync_utc=answer.value.sync_utc, commerce_sync_id=commerce_sync_id)

    def adopted(self, found: Candidate[CompanySyncStatus], asked_at: datetime) -> SyncHandle:
        """The handle of the sync that was found to have begun since it was asked for."""
        _logger.warning(
            "adopted sync %s of company %s for request %s: no response named it, but it began after the request",
            found.name,
            self._request.company_id,
            self.key,
        )
        return self._handle(requested_at=asked_at, sync_utc=found.began, sync_id=found.value.sync_id, adopted=True)

    def with_handle(self, error: OutcomeUnknownError) -> OutcomeUnknownError:
        """The same error with what one needs to look again later."""
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
            # The sync was started, whatever ids the server sends; one that no path can hold is of no use.
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

    def _in_time(self, within: float | None = None) -> CallOptions:
        """The options of one call, which ends when its time is up, or everybody's."""
        left = within
        if self.deadline is not None:
            left = min(self.deadline - self._clock.time(), math.inf if within is None else within)
        if left is None:
            return self._options
        return {**self._options, "timeout": max(left, _MIN_TIMEOUT)}
