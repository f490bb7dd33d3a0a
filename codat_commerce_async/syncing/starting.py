"""How a sync is started exactly once, or said not to be known."""

from collections.abc import Awaitable, Callable
from uuid import UUID

from codat_commerce_async._once import Found, once
from codat_commerce_async.errors import NotFoundError, OutcomeUnknownError
from codat_commerce_async.models.exchange import Answer
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.models.sync import CompanySyncStatus, SyncSummary
from codat_commerce_async.policies import CallOptions
from codat_commerce_async.syncing.api import SyncApi
from codat_commerce_async.syncing.identity import as_utc
from codat_commerce_async.syncing.request import SyncRequest

__all__ = ["start"]

NoteKey = Callable[[str], Awaitable[None]]


async def start(
    api: SyncApi,
    request: SyncRequest,
    options: CallOptions,
    *,
    note_key: NoteKey | None = None,
    asked_at: float | None = None,
) -> SyncHandle:
    """The handle of exactly one sync that was started, or found to have been by our request.

    `note_key` is awaited with every new idempotency key before it is used, so that it can be kept safe. `asked_at`
    (epoch seconds) is when the key in `options` may have been used before, by a process that did not live to see the
    answer: what has begun since then is looked for once the key is too old to be used again. Raises
    OutcomeUnknownError when it cannot be told whether a sync was started, or which.
    """

    async def new_key() -> str:
        key = str(UUID(int=api.random.getrandbits(128), version=4))
        if note_key is not None:
            await note_key(key)
        return key

    looks = _for_looks(options)
    last_key = options.get("idempotency_key")
    rounds = 0 if asked_at is None else 1

    async def ask(key: str) -> Answer[SyncSummary]:
        nonlocal last_key, rounds
        last_key = key
        rounds += 1
        return await api.ask(request, {**options, "idempotency_key": key})

    async def look() -> list[Found[CompanySyncStatus]]:
        try:
            statuses = await api.look_at_all(request.company_id, looks)
        except NotFoundError:
            return []
        return [
            Found(status, status.sync_id or "?", as_utc(status.sync_utc) if status.sync_utc else None)
            for status in statuses
        ]

    began = asked_at if asked_at is not None else api.now()
    try:
        outcome = await once(ask, look, key=last_key, new_key=new_key, where=api, asked_at=asked_at)
    except OutcomeUnknownError as error:
        raise _with_handle(error, request, api, began) from error.__cause__
    if isinstance(outcome, Found):
        return _adopted(request, outcome, last_key, api, began)
    # The answer to a key that was used before may speak of a sync that began then.
    first = outcome.attempts[0].started_at.timestamp() if rounds == 1 and outcome.attempts else began
    return _answered(request, outcome, api, first)


def _for_looks(options: CallOptions) -> CallOptions:
    looks = options.copy()
    looks.pop("idempotency_key", None)
    return looks


def _answered(request: SyncRequest, answer: Answer[SyncSummary], api: SyncApi, sent: float) -> SyncHandle:
    return SyncHandle(
        company_id=request.company_id,
        commerce_sync_id=answer.value.commerce_sync_id,
        sync_id=None,
        requested_at=api.server_time(sent),
        sync_utc=answer.value.sync_utc,
        date_range=request.date_range,
        idempotency_key=answer.idempotency_key,
    )


def _adopted(
    request: SyncRequest, found: Found[CompanySyncStatus], key: str | None, api: SyncApi, asked_at: float
) -> SyncHandle:
    return SyncHandle(
        company_id=request.company_id,
        commerce_sync_id=None,
        sync_id=found.value.sync_id,
        requested_at=api.server_time(asked_at),
        sync_utc=found.began,
        date_range=request.date_range,
        idempotency_key=key,
        adopted=True,
    )


def _with_handle(
    error: OutcomeUnknownError, request: SyncRequest, api: SyncApi, asked_at: float
) -> OutcomeUnknownError:
    """The same error with what one needs to look again later."""
    handle = SyncHandle(
        company_id=request.company_id,
        commerce_sync_id=None,
        sync_id=None,
        requested_at=error.requested_at or api.server_time(asked_at),
        sync_utc=None,
        date_range=request.date_range,
        idempotency_key=error.idempotency_key,
    )
    return OutcomeUnknownError(
        error.message, error.call, error.requested_at, error.correlation_id, handle, error.candidates
    )
