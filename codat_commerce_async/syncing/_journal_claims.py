"""Claims from a journal: the other syncs of a company, so that no second request adopts one of them."""

from datetime import UTC, datetime

from codat_commerce_async.syncing._context import SyncContext
from codat_commerce_async.syncing._journal.entry import JournalEntry
from codat_commerce_async.syncing._queue import may_have_started

__all__ = ["record_entry"]


def record_entry(context: SyncContext, entry: JournalEntry) -> None:
    """Record which sync belongs to the request of the entry, or that the request may have started one."""
    claims, handle, key = context.claims, entry.handle, entry.idempotency_key
    sync_id = handle.sync_id if handle is not None else None
    commerce_sync_id = handle.commerce_sync_id if handle is not None else None
    claim = claims.claim(entry.request.company_id, sync_id, commerce_sync_id, key)
    if claim.id is not None or claim.since is not None:
        # This process has newer information than the journal.
        return
    claims.record(claim, sync_id, commerce_sync_id, key)
    if sync_id is not None or key is None:
        return
    sent_at = _server_time(context, entry)
    if handle is not None and commerce_sync_id is not None:
        claims.mark_sent(claim, key, sent_at)
        claims.record_response(claim, commerce_sync_id, handle.sync_utc, handle.accepted_at or sent_at)
    elif may_have_started(entry):
        claims.mark_sent(claim, key, sent_at)
        claims.sending_ended(claim, sent_at)


def _server_time(context: SyncContext, entry: JournalEntry) -> datetime:
    sent_at = context.clock.now() if entry.sent_at is None else entry.sent_at
    if entry.server_offset is None:
        return context.clock.server_time(sent_at)
    return datetime.fromtimestamp(sent_at + entry.server_offset, UTC)
