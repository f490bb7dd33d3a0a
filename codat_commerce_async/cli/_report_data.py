"""What a report shows: a run of a journal, its entries and its counts per minute."""

from collections.abc import Sequence

from attrs import frozen

from codat_commerce_async.syncing.journal import JournalEntry, JournalRun, MinuteCounts

__all__ = ["RunData"]


@frozen(kw_only=True)
class RunData:
    """One run: the name of the journal's file, the entries in the order of the input, and the counts per minute."""

    journal: str
    run: JournalRun
    entries: Sequence[JournalEntry]
    minutes: Sequence[MinuteCounts]
