"""A journal as a report: for people, as JSON and as CSV."""

import asyncio
import csv
import io
import json
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from codat_commerce_async import NotFoundError, SyncHandle, SyncOutcome, SyncRequest, SyncStatus
from codat_commerce_async.cli import main
from codat_commerce_async.cli._args import ReportOptions, parse
from codat_commerce_async.cli._files import read_company_ids
from codat_commerce_async.cli.report import report as report_command
from codat_commerce_async.simulator.virtual_time import run_in_virtual_time
from codat_commerce_async.syncing._journal.writer import JournalWriter
from codat_commerce_async.syncing.journal import read_journal
from tests.support.fans import Codat

NOON = datetime(2024, 1, 15, 12, tzinfo=UTC).timestamp()
PERIOD = (datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC))


Ended = tuple[SyncRequest, int | None, float]


def outcome(request: SyncRequest, code: int | None, elapsed: float) -> SyncOutcome:
    handle = SyncHandle(company_id=request.company_id, sync_id=f"sync of {request.company_id}")
    if code is None:
        error = NotFoundError("404 Not Found", None, 404)
        return SyncOutcome(request=request, handle=None, status=None, error=error, polls=0, elapsed=elapsed)
    status = SyncStatus(sync_status_code=code, error_message="No such\ntax rate." if code > 2999 else None)
    return SyncOutcome(request=request, handle=handle, status=status, error=None, polls=3, elapsed=elapsed)


def write(path: Path, ended: Sequence[Ended], running: Sequence[str] = ()) -> None:
    asyncio.run(_write(path, ended, running))


async def _write(path: Path, ended: Sequence[Ended], running: Sequence[str]) -> None:
    journal = await JournalWriter.open(path)
    for number, (request, code, elapsed) in enumerate(ended):
        await journal.record_start(request, f"key {number}", NOON + number)
        await journal.record_outcome(outcome(request, code, elapsed), NOON + number + elapsed)
    for company_id in running:
        request = SyncRequest(company_id=company_id)
        await journal.record_start(request, "key", NOON + 100)
        await journal.record_running(request, SyncHandle(company_id=company_id))
    await journal.close()


@pytest.fixture
def journal(tmp_path: Path) -> str:
    path = tmp_path / "night.db"
    good = [(SyncRequest(company_id=f"good {number:02}"), 2000, float(number)) for number in range(1, 19)]
    bad = (SyncRequest(company_id="failed", start=PERIOD[0], finish=PERIOD[1]), 5130, 60.0)
    unknown = (SyncRequest(company_id="unknown"), None, 1.0)
    write(path, [*good, bad, unknown], ["open"])
    return str(path)


def report(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(["report", *arguments]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    return output.out


def test_people_get_a_table_reasons_and_sums(journal: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = report(capsys, journal).splitlines()
    assert lines[0].split() == ["company", "outcome", "duration", "polls", "ended", "(UTC)"]
    assert [line.split("  ")[0] for line in lines[1:22]] == [
        *(f"good {number:02}" for number in range(1, 19)),
        *("failed", "unknown", "open"),
    ]
    assert lines[19].split() == ["failed", "data", "write", "error", "60.0", "s", "3", "12:01:18"]
    assert "open     running" in lines[21]
    assert lines[22:26] == [
        *("", "failed: 5130, at least one item could not be written: No such tax rate.", "unknown: 404 Not Found", "")
    ]
    assert lines[26] == "21 syncs: 18 succeeded, 1 data write error, 1 not found, 1 running"
    assert lines[27:] == [
        "durations: median 10.0 s, 95th percentile 60.0 s, longest 60.0 s",
        "from 2024-01-15 12:00:00 to 2024-01-15 12:01:18 UTC",
    ]


def test_only_what_failed_is_listed_and_the_sums_are_of_all(journal: str, capsys: pytest.CaptureFixture[str]) -> None:
    output = report(capsys, journal, "--failed")
    assert "good" not in output
    assert "open" not in output
    assert "21 syncs: 18 succeeded" in output
    listed = json.loads(report(capsys, journal, "--failed", "--json"))
    assert listed["summary"]["total"] == 21
    assert [each["company_id"] for each in listed["syncs"]] == ["failed", "unknown"]


def test_json_is_one_object_with_the_sums_and_every_sync(journal: str, capsys: pytest.CaptureFixture[str]) -> None:
    whole = json.loads(report(capsys, journal, "--json"))
    assert whole["journal"] == journal
    assert whole["summary"] == {
        "total": 21,
        "states": {"succeeded": 18, "failed": 1, "error": 1, "running": 1},
        "outcomes": {"SUCCEEDED": 18, "DATA_WRITE_ERROR": 1, "NotFoundError": 1},
        "causes": [],
        "seconds": {"median": 10.0, "p95": 60.0, "max": 60.0},
        "first_sent_at": "2024-01-15T12:00:00+00:00",
        "last_ended_at": "2024-01-15T12:01:18+00:00",
    }
    assert whole["syncs"][18] == {
        "company_id": "failed",
        "sync_to": None,
        "start": "2024-01-01T00:00:00+00:00",
        "finish": "2024-01-02T00:00:00+00:00",
        "state": "failed",
        "outcome": "DATA_WRITE_ERROR",
        "code": 5130,
        "message": "No such tax rate.",
        "seconds": 60.0,
        "polls": 3,
        "sent_at": "2024-01-15T12:00:18+00:00",
        "ended_at": "2024-01-15T12:01:18+00:00",
        "sync_id": "sync of failed",
        "commerce_sync_id": None,
        "idempotency_key": "key 18",
        "cause": None,
        "resolver": None,
        "action": None,
        "retry": None,
    }


def test_csv_has_the_same_and_is_taken_by_sync(
    journal: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text = report(capsys, journal, "--csv", "--failed")
    [failed, unknown] = csv.DictReader(io.StringIO(text))
    expected = json.loads(report(capsys, journal, "--json"))["syncs"]
    as_text = {name: "" if value is None else str(value) for name, value in expected[18].items()}
    assert failed == {**as_text, "seconds": "60.000"}
    assert unknown["outcome"] == "NotFoundError"
    (tmp_path / "failed.csv").write_text(text, encoding="utf-8")
    assert read_company_ids(str(tmp_path / "failed.csv"), "company_id") == ["failed", "unknown"]


@pytest.mark.parametrize(("number", "least"), [(1, 1.0), (19, 19.0), (20, 19.0), (21, 20.0)])
def test_the_95th_percentile_is_the_least_that_so_many_do_not_exceed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], number: int, least: float
) -> None:
    path = tmp_path / "night.db"
    write(path, [(SyncRequest(company_id=str(each)), 2000, float(each)) for each in range(1, number + 1)])
    assert json.loads(report(capsys, str(path), "--json"))["summary"]["seconds"]["p95"] == least


def test_seconds_have_three_decimals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "night.db"
    write(path, [(SyncRequest(company_id="a"), 2000, 1.23456), (SyncRequest(company_id="b"), 2000, 2.0)])
    found = [row["seconds"] for row in csv.DictReader(io.StringIO(report(capsys, str(path), "--csv")))]
    assert found == ["1.235", "2.000"]
    assert json.loads(report(capsys, str(path), "--json"))["syncs"][0]["seconds"] == 1.235


@pytest.mark.parametrize(
    "arguments", [["--follow", "--csv"], ["--follow", "--json"], ["--html", "page", "--csv"], ["--html", "night.db"]]
)
def test_arguments_that_exclude_each_other_are_one_line_and_status_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["report", "night.db", *arguments])
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_run_is_followed_until_it_has_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def night() -> int:
        codat = Codat(3, durations=lambda _: 12.0)
        async with codat.client() as client, client.sync.run_many(codat.ids, journal=tmp_path / "night.db") as run:
            await asyncio.sleep(2)
            following = asyncio.create_task(report_command(parse_report(str(tmp_path / "night.db"), "--follow")))
            async for _ in run:
                pass
        return await following

    assert run_in_virtual_time(night()) == 0
    counts = [line for line in capsys.readouterr().out.splitlines() if line.startswith("3 syncs: ")]
    assert counts[0] == "3 syncs: 3 running"
    assert counts[-1] == "3 syncs: 3 succeeded"


def parse_report(*arguments: str) -> ReportOptions:
    options = parse(["report", *arguments])
    assert isinstance(options, ReportOptions)
    return options


def test_an_empty_journal_is_no_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "night.db", [])
    assert report(capsys, str(tmp_path / "night.db")) == "no syncs\n"
    assert json.loads(report(capsys, str(tmp_path / "night.db"), "--json"))["summary"]["seconds"] is None


def test_a_file_that_is_no_journal_is_reported_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nothing, text, other = tmp_path / "nothing.db", tmp_path / "text.db", tmp_path / "other.db"
    text.write_text("company\n" * 1000, encoding="utf-8")
    with sqlite3.connect(other) as file:
        file.execute("CREATE TABLE other (x)")
    file.close()
    for path, complaint in ((nothing, "there is no journal"), (text, "is not a journal"), (other, "but not a journal")):
        assert main(["report", str(path)]) == 2
        output = capsys.readouterr()
        assert (output.out, output.err.count("\n")) == ("", 1)
        assert complaint in output.err


async def test_a_journal_that_is_in_use_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "night.db"
    journal = await JournalWriter.open(path)
    try:
        await journal.record_start(SyncRequest(company_id="a"), "a key", NOON)
        assert await asyncio.to_thread(main, ["report", str(path)]) == 0
    finally:
        await journal.close()
    assert "1 sync: 1 starting" in capsys.readouterr().out


FORGED = "=cmd|' /C calc'!A0\r\n2024-01-15 forged \x1b[31m line"
FORMULAS = (FORGED, "+1+1", "-1+1", "@SUM(A1)", "\t=1+1", "\n=1+1", " =1+1", "\uff1d1+1")


@pytest.mark.parametrize("text", FORMULAS)
def test_no_text_of_the_server_is_a_formula_of_a_spreadsheet(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "night.db"
    asyncio.run(_write_failure(path, text))
    [row] = csv.DictReader(io.StringIO(report(capsys, str(path), "--csv")))
    assert row["message"].startswith("'")
    assert row["company_id"].startswith("'=")
    assert all(value.isprintable() for value in row.values())


@pytest.mark.parametrize("form", [["--csv"], ["--json"], []])
def test_no_text_of_the_server_adds_a_line_to_a_report(
    form: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "night.db"
    asyncio.run(_write_failure(path, FORGED))
    shown = report(capsys, str(path), *form)
    assert "\x1b" not in shown
    assert not any(line.startswith("2024-01-15 forged") for line in shown.splitlines())
    assert all(entry.message is None or entry.message.isprintable() for entry in read_journal(path))


async def _write_failure(path: Path, text: str) -> None:
    journal = await JournalWriter.open(path)
    request = SyncRequest(company_id="=c")
    status = SyncStatus(sync_status_code=5130, error_message=text)
    await journal.record_start(request, "key", NOON)
    await journal.record_outcome(
        SyncOutcome(request=request, handle=None, status=status, error=None, polls=1, elapsed=1.0), NOON + 1
    )
    await journal.close()
