"""How a sync is started exactly once, or said not to be known."""

import math
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from uuid import UUID, uuid5

from codat_commerce_async._once import Found, once
from codat_commerce_async._operation import is_id
from codat_commerce_async.errors import NotFoundError, OutcomeUnknownError, TransportError
from codat_commerce_async.models.exchange import Answer
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.models.sync import CompanySyncStatus, SyncSummary
from codat_commerce_async.policies import CallOptions
from codat_commerce_async.syncing.api import SyncApi
from codat_commerce_async.syncing.identity import as_utc
from codat_commerce_async.syncing.request import SyncRequest

__all__ = ["start"]

NoteKey = Callable[[str], Awaitable[None]]

# A replayed answer speaks of a sync that began as long ago as Codat remembers keys, and no longer.
_KEY_MEMORY = timedelta(minutes=90)
_SOON = 0.001


async def start(
    api: SyncApi,
    request: SyncRequest,
    options: CallOptions,
    *,
    note_key: NoteKey | None = None,
    first_asked: float | None = None,
) -> SyncHandle:
    """The handle of exactly one sync that was started, or found to have been by our request.

    `note_key` is awaited with every idempotency key before it is used, so that it can be kept safe. Whoever starts
    again what a process that did not live to see the answer may have started gives its key in the options, and as
    `first_asked` (epoch seconds) when that key may first have been used, if it is known. Raises OutcomeUnknownError
    when it cannot be told whether a sync was started, or which.
    """
    start_ = _Start(api, request, options, note_key)
    began = api.now() if first_asked is None else first_asked
    try:
        outcome = await once(
            start_.ask,
            start_.look,
            key=start_.key,
            first_asked=first_asked,
            new_key=start_.new_key,
            where=api,
            until=start_.until,
        )
    except OutcomeUnknownError as error:
        raise start_.unknown(error) from error.__cause__
    if isinstance(outcome, Found):
        return start_.adopted(outcome, api.server_time(began))
    return start_.answered(outcome, api.server_time(began))


class _Start:
    """One sync that is being started: its calls, and what they make of it."""

    def __init__(self, api: SyncApi, request: SyncRequest, options: CallOptions, note_key: NoteKey | None) -> None:
        timeout = options.get("timeout")
        self.until = None if timeout is None else api.time() + timeout
        self.key = options.get("idempotency_key")
        self._api = api
        self._request = request
        self._note_key = note_key
        self._options = options.copy()
        self._options.pop("idempotency_key", None)

    async def new_key(self, last: str | None) -> str:
        """The next key. Made from the last one, it is the same again after a restart that knows only the first."""
        key = uuid5(UUID(last), "again") if last else UUID(int=self._api.random.getrandbits(128), version=4)
        if self._note_key is not None:
            await self._note_key(str(key))
        return str(key)

    async def ask(self, key: str, within: float | None) -> Answer[SyncSummary]:
        self.key = key
        if within is not None and within <= 0:
            raise TransportError("Codat may have forgotten the idempotency key by now")
        options: CallOptions = {**self._in_time(within), "idempotency_key": key}
        return await self._api.ask(self._request, options, key_left=within)

    async def look(self) -> list[Found[CompanySyncStatus]]:
        try:
            statuses = await self._api.look_at_all(self._request.company_id, self._in_time())
        except NotFoundError:
            return []
        return [
            Found(status, status.sync_id or "?", as_utc(status.sync_utc) if status.sync_utc else None)
            for status in statuses
        ]

    def answered(self, answer: Answer[SyncSummary], asked_at: datetime) -> SyncHandle:
        """The handle of the sync that Codat says it has started, now or when the key was first used."""
        began = as_utc(answer.value.sync_utc) if answer.value.sync_utc else None
        sent = self._api.server_time(answer.attempts[0].started_at.timestamp()) if answer.attempts else asked_at
        if began is None:
            sent = asked_at
        elif sent - _KEY_MEMORY <= began < sent:
            sent = began
        return self._handle(
            requested_at=sent, sync_utc=answer.value.sync_utc, commerce_sync_id=answer.value.commerce_sync_id
        )

    def adopted(self, found: Found[CompanySyncStatus], asked_at: datetime) -> SyncHandle:
        """The handle of the sync that was found to have begun since it was asked for."""
        return self._handle(requested_at=asked_at, sync_utc=found.began, sync_id=found.value.sync_id, adopted=True)

    def unknown(self, error: OutcomeUnknownError) -> OutcomeUnknownError:
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
            idempotency_key=self.key,
            adopted=adopted,
        )

    def _in_time(self, within: float | None = None) -> CallOptions:
        """The options of one call, which ends when its time is up, or everybody's."""
        left = within
        if self.until is not None:
            left = min(self.until - self._api.time(), math.inf if within is None else within)
        if left is None:
            return self._options
        return {**self._options, "timeout": max(left, _SOON)}
