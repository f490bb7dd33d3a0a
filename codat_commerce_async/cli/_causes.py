"""Group the failures of a journal by their cause and by who has to act."""

from collections.abc import Iterable, Mapping

from attrs import asdict, frozen

from codat_commerce_async.syncing.diagnosis import Diagnosis
from codat_commerce_async.syncing.journal import JournalEntry

__all__ = ["CauseGroup", "diagnosis_of", "group_by_cause"]

_MAX_EXAMPLES = 3


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
    return entry.to_outcome().diagnosis if entry.has_ended and entry.diagnosis is not None else None


def group_by_cause(entries: Iterable[JournalEntry]) -> list[CauseGroup]:
    """Return the causes of the diagnosed failures, the most frequent first."""
    groups: dict[tuple[str, str], list[Diagnosis]] = {}
    for entry in entries:
        found = diagnosis_of(entry)
        if found is not None:
            groups.setdefault((found.cause.value, found.resolver.value), []).append(found)
    found_groups = [_group(*key, diagnoses) for key, diagnoses in groups.items()]
    return sorted(found_groups, key=lambda group: (-group.count, group.cause))


def _group(cause: str, resolver: str, diagnoses: list[Diagnosis]) -> CauseGroup:
    examples = tuple(each.company_id for each in diagnoses[:_MAX_EXAMPLES])
    action = diagnoses[0].actions[0].text if diagnoses[0].actions else ""
    return CauseGroup(cause, resolver, len(diagnoses), examples, action)
