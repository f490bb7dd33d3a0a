"""Describe each sync as a flat record, for JSON and CSV."""

from collections.abc import Mapping
from datetime import UTC, datetime

from codat_commerce_async.cli._causes import diagnosis_of
from codat_commerce_async.syncing._journal_rows import with_outcome
from codat_commerce_async.syncing.journal import JournalEntry
from codat_commerce_async.syncing.outcome import SyncOutcome

__all__ = ["FIELDS", "Value", "record_of", "record_of_outcome"]

FIELDS = (
    *("company_id", "sync_to", "start", "finish", "state", "outcome", "code", "message", "seconds", "polls"),
    *("sent_at", "ended_at", "sync_id", "commerce_sync_id", "idempotency_key"),
    *("cause", "resolver", "action", "retry"),
)

# A run without a journal does not know when its requests were sent, or with which key.
_OF_JOURNALS = frozenset({"sent_at", "ended_at", "idempotency_key"})

Value = str | int | float | None


def record_of_outcome(outcome: SyncOutcome) -> Mapping[str, Value]:
    """Return the record of an outcome: the fields that need no journal."""
    record = record_of(with_outcome(JournalEntry(outcome.request, "running"), outcome, 0.0))
    return {name: value for name, value in record.items() if name not in _OF_JOURNALS}


def record_of(entry: JournalEntry) -> Mapping[str, Value]:
    """Return the record of a journal entry, by `FIELDS`."""
    request, handle = entry.request, entry.handle
    values: tuple[Value, ...] = (
        request.company_id,
        *(moment.isoformat() if moment else None for moment in (request.sync_to, request.start, request.finish)),
        *(entry.state, entry.outcome, entry.code, entry.message, _rounded(entry.elapsed), entry.polls),
        *(
            datetime.fromtimestamp(time, UTC).isoformat() if time is not None else None
            for time in (entry.sent_at, entry.ended_at)
        ),
        *((handle.sync_id, handle.commerce_sync_id) if handle is not None else (None, None)),
        entry.idempotency_key,
        *_diagnosed(entry),
    )
    return dict(zip(FIELDS, values, strict=True))


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _diagnosed(entry: JournalEntry) -> tuple[Value, ...]:
    found = diagnosis_of(entry)
    if found is None:
        return (None, None, None, None)
    return (found.cause.value, found.resolver.value, "; ".join(map(str, found.actions)), found.retry.value)
