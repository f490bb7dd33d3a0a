"""The queue of a fan-out: resumed jobs, their order, and an effort that grows with the number of syncs only."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from codat_commerce_async.syncing._journal.store import NullJournal
from codat_commerce_async.syncing._queue import WorkQueue
from codat_commerce_async.syncing.journal import JournalEntry
from codat_commerce_async.syncing.request import SyncRequest

NOON = datetime(2024, 1, 15, 12, tzinfo=UTC)
comparisons = 0


class Counted(str):
    """A company id that counts how often it is compared."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        global comparisons  # noqa: PLW0603 - counts for one test
        comparisons += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def new_queue(ids: list[str] | None = None) -> WorkQueue:
    return WorkQueue(ids or [], lambda company_id: None, lambda: None)


def unfinished(companies: int, periods: int) -> list[JournalEntry]:
    moments = [NOON + timedelta(days=number) for number in range(periods)]
    return [
        JournalEntry(SyncRequest(company_id=Counted(number), sync_to=moment), "starting", "a key", 1.0)
        for moment in moments
        for number in range(companies)
    ]


@pytest.mark.parametrize(("companies", "periods"), [(4000, 1), (1, 4000), (1000, 4)])
def test_resuming_compares_each_company_a_few_times_only(companies: int, periods: int) -> None:
    global comparisons  # noqa: PLW0603 - counts for one test
    resumed, entries = new_queue(), unfinished(companies, periods)
    comparisons = 0
    for entry in entries:
        resumed.resume(entry)
    assert comparisons < 10 * len(entries)
    assert len(list(resumed.waiting)) == len(entries)


async def test_reading_duplicates_of_deferred_syncs_compares_each_a_few_times_only() -> None:
    global comparisons  # noqa: PLW0603 - counts for one test
    entries = unfinished(1, 2000)
    requests = [entry.request for entry in entries]
    queue = WorkQueue([*requests, *requests], lambda company_id: None, lambda: None)
    for entry in entries:
        queue.resume(entry)
    comparisons = 0
    await queue.read(NullJournal())
    assert comparisons < 20 * len(entries)
    assert queue.duplicates == len(entries)


def test_each_company_starts_its_periods_one_after_another_in_their_order() -> None:
    resumed, entries = new_queue(), unfinished(3, 4)
    for entry in entries:
        resumed.resume(entry)
    taken = []
    while resumed.has_ready:
        job = resumed.pop()
        taken.append(job.request)
        resumed.company_finished(job.request.company_id)
    assert taken == [entry.request for entry in entries]
    assert list(resumed.waiting) == []


def test_a_requeued_job_starts_before_all_others() -> None:
    resumed = new_queue()
    for entry in unfinished(3, 1):
        resumed.resume(entry)
    first = resumed.pop()
    resumed.requeue(first)
    assert next(job.request for job in resumed.waiting) == first.request
    assert [resumed.pop().request.company_id for _ in range(3)] == ["0", "1", "2"]


@pytest.mark.parametrize(("state", "outcome"), [("starting", None), ("error", "OutcomeUnknownError")])
def test_a_request_that_may_have_been_sent_is_resumed_with_its_key_its_time_and_the_servers(
    state: str, outcome: str | None
) -> None:
    resumed = new_queue()
    resumed.resume(JournalEntry(SyncRequest(company_id="a"), state, "key", 5.0, outcome=outcome, server_offset=0.5))
    job = resumed.pop()
    assert (job.key, job.sent_at, job.server_offset) == ("key", 5.0, 0.5)


async def test_an_invalid_id_is_reported_as_often_as_it_is_given() -> None:
    given, active, taken = ["..", "..", "c", ".."], set[str](), 0
    source = WorkQueue(
        given, lambda company_id: SyncRequest(company_id=company_id) if company_id in active else None, lambda: None
    )
    reading = asyncio.create_task(source.read(NullJournal()))
    while not source.is_empty:
        await asyncio.sleep(0)
        if source.has_ready:
            taken += 1
            company_id = source.pop().request.company_id
            active.add(company_id)
            await asyncio.sleep(0)
            active.discard(company_id)
            source.company_finished(company_id)
    await reading
    assert (taken, source.left) == (4, 0)
