"""One journal for many runs: the next night is a new run, and another process reads what the runs did."""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from codat_commerce_async import Journal, LocalRateLimiter, RateLimiter
from codat_commerce_async.errors import (
    BadRequestError,
    CodatError,
    JournalError,
    OutcomeUnknownError,
    SyncWaitTimeoutError,
    TransportError,
)
from codat_commerce_async.models.call import Attempt, Call
from codat_commerce_async.models.error_message import ErrorMessage
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.models.sync import SyncStatus
from codat_commerce_async.syncing._journal.writer import JournalWriter, RunOptions
from codat_commerce_async.syncing.journal import NullJournal, read_journal
from codat_commerce_async.syncing.outcome import RunReport, SyncOutcome
from codat_commerce_async.syncing.request import SyncRequest
from tests.support.fans import MORNING, Codat

KEY = "6d3f4b0e-5a3c-4a52-8f0c-0b1f3a1c0001"
DAY = 86_400.0
HOUR = 3600.0


async def night(codat: Codat, path: Path, *, rate_limiter: RateLimiter | None = None, **options: object) -> RunReport:
    """Run the same call as every night and return its report."""
    client = codat.client(rate_limiter=rate_limiter)
    async with client, client.sync.run_many(codat.ids, journal=path, **options) as run:  # type: ignore[arg-type]
        await run.results()
    return run.report


async def killed_night(codat: Codat, path: Path) -> None:
    """Leave a run when one sync has ended and others are running, as a killed process does."""
    async with codat.client() as client, client.sync.run_many(codat.ids, journal=path) as run:
        async for _ in run:
            break


def files(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def outcome(company_id: str, error: CodatError | None = None, code: int = 2000) -> SyncOutcome:
    return SyncOutcome(
        request=SyncRequest(company_id=company_id),
        handle=SyncHandle(company_id=company_id, sync_id="a"),
        status=None if error else SyncStatus(company_id=company_id, sync_status_code=code, error_message="why"),
        error=error,
        polls=3,
        elapsed=45.5,
    )


@pytest.mark.virtual_time
async def test_the_same_call_on_the_next_night_is_a_new_run(tmp_path: Path) -> None:
    codat, path = Codat(5), tmp_path / "journal"
    reports = []
    for _ in range(3):
        reports.append(await night(codat, path))
        await asyncio.sleep(DAY - HOUR)
    assert [(report.run_id, report.started, report.succeeded) for report in reports] == [
        (day, 5, 5) for day in ("2024-01-15", "2024-01-16", "2024-01-17")
    ]
    assert {codat.simulator.syncs_started(company_id) for company_id in codat.ids} == {3}
    async with Journal.open(path) as journal:
        runs = await journal.runs()
        assert [(run.run_id, run.number, run.companies, run.has_ended) for run in runs] == [
            ("2024-01-15", 1, 5, True),
            ("2024-01-16", 2, 5, True),
            ("2024-01-17", 3, 5, True),
        ]
        for run, report in zip(runs, reports, strict=True):
            assert [one.company_id for one in await journal.outcomes(run.run_id)] == codat.ids
            found = await journal.report(run.run_id)
            assert (found.run_id, found.started, found.succeeded) == (run.run_id, 5, 5)
            # Those that were polled for nothing are counted by the run only.
            counts = await journal.per_minute(run.run_id)
            assert sum(minute.starts for minute in counts) == 5
            assert sum(minute.polls for minute in counts) == report.polls
            assert counts[0].minute == run.began_at.replace(second=0, microsecond=0)
            assert len(await journal.durations(run.run_id)) == 5
            assert await journal.running(run.run_id) == []


@pytest.mark.virtual_time
async def test_a_call_that_starts_nothing_reports_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    codat, path = Codat(3), tmp_path / "journal"
    first = await night(codat, path)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    second = await night(codat, path)
    third = await night(codat, path, run_id="once more")
    assert [each.nothing_started for each in (first, second, third)] == [False, True, False]
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    (warning,) = warnings
    assert warning.startswith("nothing was started: all 3 companies have ended before in run 2024-01-15 of the journal")
    assert (third.run_id, third.started) == ("once more", 3)


@pytest.mark.virtual_time
async def test_an_unfinished_run_is_continued_within_a_day_and_all_its_outcomes_are_known(tmp_path: Path) -> None:
    codat, path = Codat(8, start=MORNING + 15 * HOUR), tmp_path / "journal"
    await killed_night(codat, path)
    # After midnight, another date.
    await asyncio.sleep(2 * HOUR)
    async with codat.client() as client, client.sync.run_many(codat.ids, journal=path) as run:
        outcomes = await run.results(include_finished=True)
    assert (run.run_id, run.report.already_finished) == ("2024-01-15", 1)
    assert sorted(each.company_id for each in outcomes) == sorted(codat.ids)
    assert all(each.ok and each.status is not None and each.status.sync_id for each in outcomes)
    assert codat.started_twice == []
    async with Journal.open(path) as journal:
        assert [(each.run_id, each.has_ended) for each in await journal.runs()] == [("2024-01-15", True)]


@pytest.mark.virtual_time
@pytest.mark.parametrize("resume", ["unfinished", "never"])
async def test_unfinished_syncs_of_an_earlier_night_are_finished_or_left(
    resume: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    codat, path = Codat(6), tmp_path / "journal"
    await killed_night(codat, path)
    left = {entry.request.company_id for entry in read_journal(path) if not entry.has_ended}
    assert left
    await asyncio.sleep(DAY + 1)
    limiter = LocalRateLimiter()
    report = await night(codat, path, rate_limiter=limiter, resume=resume)
    assert limiter.reserved == 0
    assert (report.run_id, report.started, report.succeeded, report.duplicates) == ("2024-01-16", 6, 6, 0)
    assert report.earlier_unfinished == len(left)
    assert report.earlier_finished == (len(left) if resume == "unfinished" else 0)
    assert any("syncs of earlier runs of the journal had not ended" in record.getMessage() for record in caplog.records)
    async with Journal.open(path) as journal:
        still = {entry.request.company_id for entry in await journal.running("2024-01-15")}
        assert still == (set() if resume == "unfinished" else left)
        assert len(await journal.outcomes("2024-01-16")) == 6
    for company_id in codat.ids:
        of_first = sum(entry.request.company_id == company_id for entry in read_journal(path, "2024-01-15"))
        assert codat.simulator.syncs_started(company_id) == of_first + 1


@pytest.mark.virtual_time
async def test_the_unfinished_syncs_of_a_company_of_several_nights_are_all_finished(tmp_path: Path) -> None:
    codat, path = Codat(1, durations=lambda rng: 300.0), tmp_path / "journal"
    async with codat.client() as client:
        for night_id in ("first", "second"):
            async with client.sync.run_many(codat.ids, journal=path, run_id=night_id, resume="never"):
                await asyncio.sleep(60.0)
            # Codat has finished the sync, but the journal does not show it.
            await asyncio.sleep(HOUR)
    report = await night(codat, path, run_id="third")
    assert (report.earlier_unfinished, report.earlier_finished, report.succeeded) == (2, 2, 1)
    async with Journal.open(path) as journal:
        assert [len(await journal.outcomes(night_id)) for night_id in ("first", "second")] == [1, 1]


@pytest.mark.virtual_time
async def test_a_start_without_response_of_an_earlier_night_is_unknown_and_never_sent_again(tmp_path: Path) -> None:
    codat, path = Codat(1), tmp_path / "journal"
    journal = await JournalWriter.open(path, now=codat.clock())
    await journal.record_start(SyncRequest(company_id=codat.ids[0]), KEY, codat.clock(), 0.0)
    await journal.close()
    await asyncio.sleep(DAY + 1)
    report = await night(codat, path)
    assert (report.started, report.earlier_unfinished, report.earlier_finished) == (1, 1, 1)
    assert codat.simulator.syncs_started(codat.ids[0]) == 1
    (earlier,) = await Journal.open(path).outcomes("2024-01-15")
    assert isinstance(earlier.error, OutcomeUnknownError)


@pytest.mark.virtual_time
async def test_a_duplicate_is_recognized_after_a_sync_of_an_earlier_night_has_ended(tmp_path: Path) -> None:
    codat, path = Codat(1), tmp_path / "journal"
    (company_id,) = codat.ids

    async def twice() -> AsyncIterator[str]:
        yield company_id
        while codat.simulator.syncs_started(company_id) < 2:  # noqa: ASYNC110 - the simulator has no event for it
            await asyncio.sleep(1.0)
        yield company_id

    async with codat.client() as client, client.sync.run_many(codat.ids, journal=path, run_id="first"):
        await asyncio.sleep(2.0)
    async with codat.client() as client, client.sync.run_many(twice(), journal=path, run_id="second") as run:
        outcomes = await run.results()
    report = run.report
    assert (len(outcomes), report.duplicates, report.earlier_finished) == (1, 1, 1)
    assert codat.simulator.syncs_started(company_id) == 2


@pytest.mark.virtual_time
async def test_only_so_many_runs_are_kept(tmp_path: Path) -> None:
    codat, path = Codat(2), tmp_path / "journal"
    for number in range(4):
        await night(codat, path, run_id=f"night {number}", keep_runs=2)
    assert [run.run_id for run in await Journal.open(path).runs()] == ["night 2", "night 3"]
    assert len(list(read_journal(path))) == 4


async def test_a_run_with_unfinished_syncs_is_not_deleted_before_they_are_finished(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    for number, resume in enumerate(("unfinished", "unfinished", "never")):
        options = RunOptions(run_id=f"night {number}", keep_runs=1, resume=resume)  # type: ignore[arg-type]
        journal = await JournalWriter.open(path, options)
        if number == 0:
            await journal.record_start(SyncRequest(company_id="a"), KEY, 1.0)
        await journal.close()
        runs = [run.run_id for run in await Journal.open(path).runs()]
        assert runs == [["night 0"], ["night 0", "night 1"], ["night 2"]][number]


ERRORS = [
    OutcomeUnknownError("lost", None, datetime(2024, 1, 1, tzinfo=UTC), "c", SyncHandle(company_id="a"), ("x", "y")),
    BadRequestError("bad", None, 400, ErrorMessage(status_code=400, error="no", correlation_id="c0ffee")),
    SyncWaitTimeoutError("late", SyncHandle(company_id="a"), SyncStatus(sync_status_code=1000), 5.0, 3),
    TransportError(
        "broken",
        Call(
            operation="request-sync",
            method="POST",
            path="/a",
            attempts=(
                Attempt(
                    number=1,
                    started_at=datetime(2024, 1, 1, tzinfo=UTC),
                    quota_wait=0.0,
                    elapsed=1.0,
                    status=None,
                    result="x",
                ),
            ),
        ),
    ),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_an_error_is_read_back_with_all_that_it_holds(error: CodatError, tmp_path: Path) -> None:
    journal = await JournalWriter.open(tmp_path / "journal")
    await journal.record_outcome(outcome("a", error), 1.0)
    await journal.close()
    (found,) = await Journal.open(tmp_path / "journal").outcomes()
    assert type(found.error) is type(error)
    assert vars(found.error) == vars(error)
    assert str(found.error) == str(error)
    assert (found.handle, found.polls, found.elapsed) == (SyncHandle(company_id="a", sync_id="a"), 3, 45.5)


async def test_a_status_is_read_back_as_it_was_or_by_its_code_and_message(tmp_path: Path) -> None:
    journal = await JournalWriter.open(tmp_path / "journal")
    strange = SyncStatus(company_id="b", sync_status_code=5000, error_message="half a pair \ud83d")
    await journal.record_outcome(outcome("a", code=5130), 1.0)
    ended = SyncOutcome(
        request=SyncRequest(company_id="b"), handle=None, status=strange, error=None, polls=1, elapsed=1.0
    )
    await journal.record_outcome(ended, 1.0)
    await journal.close()
    first, second = await Journal.open(tmp_path / "journal").outcomes()
    assert first == outcome("a", code=5130)
    assert second.status is not None
    assert (second.status.failed, second.status.sync_status_code) == (True, 5000)
    assert (second.status.error_message or "").startswith("half a pair")


async def test_reading_a_run_that_does_not_exist_names_those_that_do(tmp_path: Path) -> None:
    journal = await JournalWriter.open(tmp_path / "journal", RunOptions(run_id="one"))
    await journal.close()
    with pytest.raises(JournalError, match="has no run two; its runs are: one"):
        await Journal.open(tmp_path / "journal").outcomes("two")
    with pytest.raises(JournalError, match="there is no journal"):
        async with Journal.open(tmp_path / "nothing"):
            pass
    assert files(tmp_path) == {"journal", "journal.lock"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resume": "always"}, "resume must be 'unfinished' or 'never'"),
        ({"keep_runs": 0}, "keep_runs must be"),
        ({"run_id": ""}, "run_id must be 1 to 200 printable characters"),
        ({"run_id": "a\nb"}, "run_id must be 1 to 200 printable characters"),
    ],
)
async def test_run_options_are_checked(options: dict[str, object], message: str) -> None:
    codat = Codat(0)
    async with codat.client() as client:
        with pytest.raises(ValueError, match=message):
            client.sync.run_many([], journal="journal", **options)  # type: ignore[arg-type]
        for journal, given in ((None, "None"), (NullJournal(), "NullJournal")):
            with pytest.raises(ValueError, match=rf"journal must be a path if .* \(got {given}\)"):
                client.sync.run_many([], journal=journal, run_id="a")


@pytest.mark.parametrize("has_log", [True, False])
async def test_a_journal_with_a_write_ahead_log_is_refused_and_kept(*, has_log: bool, tmp_path: Path) -> None:
    path, log = tmp_path / "journal", tmp_path / "journal-wal"
    await (await JournalWriter.open(path)).close()
    if has_log:
        log.write_bytes(b"a log")
    else:
        with closing(sqlite3.connect(path)) as file:
            file.execute("PRAGMA journal_mode = WAL")
    before = path.read_bytes()
    message = "journal-wal, written by another program" if has_log else "its settings are not those of a journal"
    for work in (lambda: Journal.open(path).runs(), lambda: JournalWriter.open(path)):
        with pytest.raises(JournalError, match=message):
            await work()
    assert path.read_bytes() == before
    assert log.exists() == has_log


@pytest.mark.real
async def test_a_large_run_is_read_in_slices_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = await JournalWriter.open(path)
    requests = [SyncRequest(company_id=f"company {number:05}") for number in range(12_000)]
    await asyncio.gather(
        *(journal.record_start(each, KEY, 1.0, position=number) for number, each in enumerate(reversed(requests), 1))
    )

    reading = asyncio.create_task(Journal.open(path).entries())
    while not reading.done():
        await journal.record_running(requests[0], SyncHandle(company_id="company 00000", sync_id="s"))
    assert [entry.request for entry in reading.result()] == requests[::-1]
    await journal.close()
