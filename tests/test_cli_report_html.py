"""A run as a page: what it shows, how large it is, and that nothing in it is markup or leads elsewhere."""

import asyncio
import json
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from codat_commerce_async.cli import main
from codat_commerce_async.cli._records import RunData
from codat_commerce_async.cli._report_page.page import MAX_ROWS, render
from codat_commerce_async.models.causes import FailureCause
from codat_commerce_async.models.failure_rules import Resolver
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.syncing._journal.file import JournalFile
from codat_commerce_async.syncing._journal.values import diagnosis_to_json
from codat_commerce_async.syncing._journal.writer import JournalWriter
from codat_commerce_async.syncing.diagnosis import Action, Diagnosis
from codat_commerce_async.syncing.journal import JournalEntry, JournalRun, MinuteCounts
from codat_commerce_async.syncing.request import SyncRequest
from tests.support.browser import chromium, open_page, running

NOON = datetime(2024, 1, 15, 12, tzinfo=UTC)
HOSTILE = "</script><img src=x onerror=alert(1)>&amp;\"'"
FORGED = HOSTILE + "\x1b[31m\nnext"


def entry(number: int, company_id: str | None = None, **changes: object) -> JournalEntry:
    sent_at = NOON.timestamp() + number * 0.1
    company_id = company_id or f"00000000-0000-4000-8000-{number:012}"
    values: dict[str, object] = {
        "request": SyncRequest(company_id=company_id),
        "state": "succeeded",
        "sent_at": sent_at,
        "handle": SyncHandle(company_id=company_id, sync_id=f"11111111-0000-4000-8000-{number:012}"),
        "ended_at": sent_at + 10 + number % 50,
        "elapsed": 10.0 + number % 50,
        "polls": 2,
        "code": 2000,
        "outcome": "SUCCEEDED",
        "position": number,
    }
    return JournalEntry(**{**values, **changes})  # type: ignore[arg-type]


def failed(
    number: int, company_id: str | None = None, message: str = "No tax rate.", *, diagnosed: bool
) -> JournalEntry:
    diagnosis = Diagnosis(
        company_id=company_id or str(number),
        cause=FailureCause.UNMAPPED_ACCOUNT,
        summary="an account is missing",
        actions=(Action(resolver=Resolver.MERCHANT, text=f"select an account: {message}"),),
    )
    return entry(
        number,
        company_id,
        state="failed",
        code=5130,
        outcome="DATA_WRITE_ERROR",
        message=message,
        diagnosis=diagnosis_to_json(diagnosis) if diagnosed else None,
    )


def data(entries: Sequence[JournalEntry], *, has_ended: bool = True) -> RunData:
    run = JournalRun(
        run_id="2024-01-15",
        number=1,
        began_at=NOON,
        ended_at=NOON + timedelta(minutes=9) if has_ended else None,
        companies=len(entries),
    )
    minutes = [MinuteCounts(minute=NOON + timedelta(minutes=at), starts=600, polls=300 + at) for at in range(3)]
    return RunData(journal="night.db", run=run, entries=entries, minutes=minutes)


def page_of(entries: Sequence[JournalEntry], *, refresh: float | None = None) -> str:
    return render(data(entries), now=NOON, refresh=refresh)


def text_of(page: str) -> str:
    visible = re.sub(r"<(style|script)\b.*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", visible).split())


def rows_of(page: str) -> list[list[object]]:
    [rows] = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)
    found: list[list[object]] = json.loads(rows)
    return found


def test_the_page_shows_counts_durations_requests_and_causes() -> None:
    entries = [*(entry(number) for number in range(1, 18)), failed(18, diagnosed=True), failed(19, diagnosed=False)]
    entries.append(entry(20, state="running", ended_at=None, elapsed=None, code=None, outcome=None))
    text = text_of(page_of(entries))
    for expected in (
        "Run 2024-01-15 night.db, run 1: began 2024-01-15 12:00:00, ended 2024-01-15 12:09:00",
        "Companies 20 Succeeded 17 89.4 % of 19 ended Failed 2",
        "Running 1 requested, no outcome yet",
        "Elapsed 9 min 0 s",
        "median 20 s 95th percentile 29 s",
        "1,800 starts and 903 polls; 902 in the busiest minute",
        "quota 1,000",
        "unmapped account 1 merchant select an account: No tax rate. for example 18",
        "data write error 1 not diagnosed 5130, at least one item could not be written: No tax rate.",
    ):
        assert expected in text


def test_the_table_has_every_sync_with_its_ids() -> None:
    rows = rows_of(page_of([entry(1), failed(2, diagnosed=True)]))
    assert [row[:4] for row in rows] == [
        ["00000000-0000-4000-8000-000000000001", "succeeded", "succeeded", 11.0],
        ["00000000-0000-4000-8000-000000000002", "failed", "data write error", 12.0],
    ]
    assert rows[1][5] == "11111111-0000-4000-8000-000000000002"
    assert rows[1][7] == "unmapped account (merchant)"


def test_no_foreign_text_is_markup() -> None:
    page = page_of([failed(1, HOSTILE, FORGED, diagnosed=True), failed(2, HOSTILE, FORGED, diagnosed=False)])
    assert "<img" not in page
    assert page.count("</script>") == 2
    assert "\x1b" not in page
    assert rows_of(page)[0][0] == HOSTILE


def test_the_page_loads_nothing() -> None:
    page = page_of([entry(1), failed(2, diagnosed=True)])
    assert re.findall(r"(?:https?:)?//[\w.]+", re.sub(r"^\s*//.*$", "", page, flags=re.MULTILINE)) == []
    assert re.findall(r"(?:src|href)=\"(?!data:)", page) == []
    assert "default-src 'none'" in page


def test_2000_companies_are_less_than_a_megabyte() -> None:
    entries = [failed(number, diagnosed=True) if number % 10 == 0 else entry(number) for number in range(2000)]
    assert 100_000 < len(page_of(entries).encode()) < 1_000_000


def test_of_many_syncs_the_table_has_first_those_that_did_not_succeed() -> None:
    entries = [entry(number) for number in range(MAX_ROWS)]
    entries.append(failed(MAX_ROWS, "the last", diagnosed=False))
    page = page_of(entries)
    rows = rows_of(page)
    assert (len(rows), rows[0][0]) == (MAX_ROWS, "the last")
    assert "5,000 of 5,001 syncs" in text_of(page)


@pytest.mark.parametrize("entries", [[], [entry(1, state="starting", ended_at=None, elapsed=None, handle=None)]])
def test_a_run_without_an_outcome_is_a_page_too(entries: list[JournalEntry]) -> None:
    assert "No sync has finished yet." in text_of(render(data(entries, has_ended=False), now=NOON, refresh=5.0))


def test_a_page_of_a_running_run_reloads_itself() -> None:
    assert '<meta http-equiv="refresh" content="5">' in page_of([entry(1)], refresh=5.0)
    assert 'http-equiv="refresh"' not in page_of([entry(1)])


def test_the_command_writes_the_page_of_a_journal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(_write_journal(tmp_path / "night.db"))
    page = tmp_path / "night.html"
    assert main(["report", str(tmp_path / "night.db"), "--html", str(page)]) == 0
    assert rows_of(page.read_text(encoding="utf-8"))[0][0] == "a company"
    assert sorted(path.name for path in tmp_path.glob("*.html*")) == ["night.html"]
    assert main(["report", str(tmp_path / "night.db"), "--html", str(tmp_path / "nowhere" / "night.html")]) == 2
    assert capsys.readouterr().err.endswith("night.html' cannot be written: No such file or directory\n")


async def _write_journal(path: Path) -> None:
    journal = await JournalWriter.open(path)
    await journal.record_start(SyncRequest(company_id="a company"), "a key", NOON.timestamp())
    await journal.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    program = chromium()
    with running(program, tmp_path_factory.mktemp("profile")) as address:
        yield address


@pytest.mark.real
async def test_a_browser_searches_the_table_and_its_console_stays_empty(browser: str, tmp_path: Path) -> None:
    entries = [*(entry(number) for number in range(300)), failed(300, HOSTILE, FORGED, diagnosed=True)]
    (tmp_path / "night.html").write_text(page_of(entries), encoding="utf-8")
    async with open_page(browser) as page:
        for width, scheme in ((1200, "light"), (400, "dark")):
            await page.emulate(width, 900, scheme)
            await page.go((tmp_path / "night.html").as_uri())
            await page.until("document.querySelectorAll('#rows tr').length === 100")
            assert await page.evaluate("document.documentElement.scrollWidth") <= width
        await page.evaluate("document.getElementById('search').focus()")
        await page.evaluate(
            "document.getElementById('search').value = 'ONERROR unmapped';"
            "document.getElementById('search').dispatchEvent(new Event('input'))"
        )
        await page.until("document.querySelectorAll('#rows tr').length === 1")
        assert "1 of 301" in await page.text()
        assert page.complaints == []


def fill(path: Path, companies: int) -> None:
    """Write the journal of a run in which every tenth company fails."""
    file = JournalFile.open(path)
    with file.transaction():
        file.begin_run("2024-01-15", NOON.timestamp(), companies)
        for number in range(companies):
            company_id = f"00000000-0000-4000-8000-{number:012}"
            file.write(failed(number, company_id, diagnosed=True) if number % 10 == 0 else entry(number))
        file.end_run(1, NOON.timestamp() + 7200)
    file.close()


@pytest.mark.real
def test_100000_companies_are_less_than_three_megabytes(tmp_path: Path) -> None:
    fill(tmp_path / "night.db", 100_000)
    assert main(["report", str(tmp_path / "night.db"), "--html", str(tmp_path / "night.html")]) == 0
    assert (tmp_path / "night.html").stat().st_size < 3_000_000
