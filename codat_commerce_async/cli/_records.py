"""What a report shows of a run: its syncs as flat records for JSON and CSV, and its failures grouped by cause."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from attrs import asdict, frozen

from codat_commerce_async.syncing._journal.entry import with_outcome
from codat_commerce_async.syncing._journal.values import diagnosis_from_json
from codat_commerce_async.syncing.diagnosis import Diagnosis
from codat_commerce_async.syncing.journal import JournalEntry, JournalRun, MinuteCounts
from codat_commerce_async.syncing.outcome import SyncOutcome

__all__ = [
    "FIELDS",
    "CauseGroup",
    "RunData",
    "Value",
    "diagnosis_of",
    "group_by_cause",
    "record_of",
    "record_of_outcome",
]

FIELDS = (
    *("company_id", "sync_to", "start", "finish", "state", "outcome", "code", "message", "seconds", "polls"),
    *("sent_at", "ended_at", "sync_id", "commerce_sync_id", "idempotency_key"),
    *("cause", "resolver", "action", "retry"),
)

# Without a journal, it is not recorded when requests were sent, or with which key.
_OF_JOURNALS = frozenset({"sent_at", "ended_at", "idempotency_key"})

_MAX_EXAMPLES = 3

Value = str | int | float | None


@frozen(kw_only=True)
class RunData:
    """One run: the name of the journal's file, the entries in the order of the input, and the counts per minute."""

    journal: str
    run: JournalRun
    entries: Sequence[JournalEntry]
    minutes: Sequence[MinuteCounts]


def record_of_outcome(outcome: SyncOutcome, *, ended_before: bool) -> Mapping[str, Value]:
    """Return the record of an outcome: the fields that need no journal, and whether it is of an earlier call."""
    record = record_of(with_outcome(JournalEntry(outcome.request, "running"), outcome, 0.0))
    found = {name: value for name, value in record.items() if name not in _OF_JOURNALS}
    return {**found, "ended_before": ended_before}


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


@frozen
class CauseGroup:
    """The failures of one cause: who has to act first, how many there are, and the ids of some companies."""

    cause: str
    resolver: str
    count: int
    examples: tuple[str, ...]
    action: str

    def to_dict(self) -> Mapping[str, object]:
        """Return the group as JSON values."""
        return {**asdict(self), "examples": list(self.examples)}


def diagnosis_of(entry: JournalEntry) -> Diagnosis | None:
    """Return the recorded diagnosis; None without one."""
    return diagnosis_from_json(entry.diagnosis) if entry.has_ended else None


def group_by_cause(diagnoses: Iterable[Diagnosis | None]) -> list[CauseGroup]:
    """Return the causes of the diagnosed failures, the most frequent first."""
    groups: dict[tuple[str, str], list[Diagnosis]] = {}
    for found in diagnoses:
        if found is not None:
            groups.setdefault((found.cause.value, found.resolver.value), []).append(found)
    found_groups = [_group(*key, diagnoses) for key, diagnoses in groups.items()]
    return sorted(found_groups, key=lambda group: (-group.count, group.cause))


def _group(cause: str, resolver: str, diagnoses: list[Diagnosis]) -> CauseGroup:
    examples = tuple(each.company_id for each in diagnoses[:_MAX_EXAMPLES])
    action = diagnoses[0].actions[0].text if diagnoses[0].actions else ""
    return CauseGroup(cause, resolver, len(diagnoses), examples, action)
