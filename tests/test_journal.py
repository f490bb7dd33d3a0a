"""The journal: committed entries survive a crash, and any fault of the file is reported in one line."""

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from codat_commerce_async.errors import JournalError, OutcomeUnknownError
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.models.sync import SyncStatus
from codat_commerce_async.syncing._journal.store import JournalStore, NullJournal
from codat_commerce_async.syncing._journal.writer import JournalWriter
from codat_commerce_async.syncing.journal import JournalEntry, read_journal
from codat_commerce_async.syncing.outcome import SyncOutcome
from codat_commerce_async.syncing.request import SyncRequest
from tests.support.fans import own_tasks, own_threads

ROOT = Path(__file__).parents[1]
KEY = "6d3f4b0e-5a3c-4a52-8f0c-0b1f3a1c0001"
LATEST = SyncRequest(company_id="latest")
UP_TO = SyncRequest(company_id="up to", sync_to=datetime(2024, 1, 15, 8, tzinfo=timezone(timedelta(hours=2))))
RANGE = SyncRequest(
    company_id="range", start=datetime(2024, 1, 1, tzinfo=UTC), finish=datetime(2024, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
)


def outcome(request: SyncRequest, code: int = 2000, message: str | None = None) -> SyncOutcome:
    return SyncOutcome(
        request=request,
        handle=SyncHandle(company_id=request.company_id, sync_id="an id"),
        status=SyncStatus(sync_status_code=code, error_message=message),
        error=None,
        polls=3,
        elapsed=45.5,
    )


async def fill(path: Path, companies: int) -> None:
    """Write a journal with that many companies, in every state."""
    journal = await JournalWriter.open(path)
    for number in range(companies):
        request = SyncRequest(company_id=f"company {number}")
        await journal.record_start(request, KEY, 1000.0 + number)
        if number % 4:
            await journal.record_running(request, SyncHandle(company_id=request.company_id, sync_id=f"sync {number}"))
        if number % 4 > 1:
            await journal.record_outcome(outcome(request, 2000 if number % 4 > 2 else 5000), 2000.0 + number)
    await journal.close()


@contextmanager
def reachable() -> Iterator[Path]:
    """Yield a directory that other users may enter."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o777)
        yield directory
        directory.chmod(0o777)


def python(*arguments: object, status: int = 0) -> str:
    """Run another process and return what it prints."""
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    assert done.returncode == status, done.stderr
    return done.stdout.strip()


def other_user(*actions: str | Path) -> list[str]:
    """Take actions in a process of another user, each with its path, and return the line that each prints."""
    return python("-m", "tests.support.journaling", *actions).splitlines()


def files(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


async def open_error(path: Path) -> str:
    """Return the message of the error that opening raises."""
    with pytest.raises(JournalError) as caught:
        await JournalWriter.open(path)
    assert own_threads() == []
    return str(caught.value)


@pytest.mark.parametrize("request_", [LATEST, UP_TO, RANGE])
async def test_a_sync_is_known_in_each_of_its_states(request_: SyncRequest, tmp_path: Path) -> None:
    handle = SyncHandle(company_id=request_.company_id, commerce_sync_id="c", requested_at=datetime.now(UTC))
    journal = await JournalWriter.open(tmp_path / "journal")
    assert await journal.get(request_) is None
    await journal.record_start(request_, KEY, 1000)
    assert await journal.get(request_) == JournalEntry(request_, "starting", KEY, 1000.0)
    await journal.record_running(request_, handle)
    assert await journal.get(request_) == JournalEntry(request_, "running", KEY, 1000.0, handle)
    assert [entry async for some in journal.unfinished() for entry in some] == [
        JournalEntry(request_, "running", KEY, 1000.0, handle)
    ]
    await journal.record_outcome(outcome(request_), 2000)
    entry = await journal.get(request_)
    assert entry is not None
    assert entry.has_status
    assert (entry.state, entry.ended_at, entry.polls, entry.elapsed, entry.code) == ("succeeded", 2000.0, 3, 45.5, 2000)
    assert (entry.idempotency_key, entry.sent_at, entry.outcome, entry.run) == (KEY, 1000.0, "SUCCEEDED", 1)
    assert [entry async for some in journal.unfinished() for entry in some] == []
    assert await journal.durations() == [45.5]
    await journal.close()
    assert list(read_journal(tmp_path / "journal")) == [entry]


async def test_an_entry_of_an_error_names_it_and_keeps_the_handle(tmp_path: Path) -> None:
    handle = SyncHandle(company_id="latest", sync_id="an id")
    error = OutcomeUnknownError("the response was lost")
    ended = SyncOutcome(request=LATEST, handle=None, status=None, error=error, polls=0, elapsed=1.0)
    journal = await JournalWriter.open(tmp_path / "journal")
    await journal.record_start(LATEST, KEY, 1000.0)
    await journal.record_running(LATEST, handle)
    await journal.record_outcome(ended, 2000.0)
    entry = await journal.get(LATEST)
    await journal.close()
    assert entry is not None
    assert (entry.state, entry.outcome, entry.message) == ("error", "OutcomeUnknownError", "the response was lost")
    assert (entry.handle, entry.has_status) == (handle, False)


async def test_only_the_start_of_this_key_is_recorded_as_not_started(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = await JournalWriter.open(path)
    for request in (LATEST, UP_TO, RANGE):
        await journal.record_start(request, KEY, 1000.0)
    await journal.record_running(RANGE, SyncHandle(company_id=RANGE.company_id, sync_id="an id"))
    await journal.record_not_started(LATEST, KEY)
    await journal.record_not_started(LATEST, KEY)
    await journal.record_not_started(UP_TO, "another key")
    await journal.record_not_started(RANGE, KEY)
    await journal.close()
    # Opening it for writing verifies the counts and checksums of all entries.
    await (await JournalWriter.open(path)).close()
    assert {(entry.request, entry.state) for entry in read_journal(path)} == {(UP_TO, "starting"), (RANGE, "running")}


async def test_a_run_without_a_file_uses_a_journal_that_keeps_nothing() -> None:
    journal: JournalStore = NullJournal()
    await journal.record_start(LATEST, KEY, 1000.0, 0.5)
    await journal.record_running(LATEST, SyncHandle(company_id="latest", sync_id="an id"))
    await journal.record_outcome(outcome(LATEST), 2000.0)
    assert (await journal.get(LATEST), await journal.of_company("latest"), await journal.durations()) == (None, [], [])
    assert [entries async for entries in journal.unfinished()] == []
    assert (journal.run, journal.is_persistent) == (1, False)
    await journal.close()


async def test_a_journal_in_a_file_has_the_same_interface(tmp_path: Path) -> None:
    journal: JournalStore = await JournalWriter.open(tmp_path / "journal")
    assert (journal.run, journal.is_persistent) == (1, True)
    await journal.close()


async def test_each_opening_is_another_session_of_the_unfinished_run(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        journal = await JournalWriter.open(tmp_path / "journal")
        assert (journal.run, journal.session) == (1, number)
        await journal.record_outcome(outcome(SyncRequest(company_id=f"company {number}")), 2000.0)
        await journal.close()
    assert [entry.session for entry in read_journal(tmp_path / "journal")] == [1, 2, 3]


@given(text=st.text(st.characters(codec=None), max_size=20), code=st.integers())
@example(text="=cmd\r\n\x1b[31mforged \ud83d", code=5130)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_message_and_code_can_be_recorded(text: str, code: int, tmp_path: Path) -> None:
    async def work() -> JournalEntry | None:
        path = tmp_path / "journal"
        path.unlink(missing_ok=True)
        journal = await JournalWriter.open(path)
        await journal.record_outcome(outcome(LATEST, code, text), 1.0)
        entry = await journal.get(LATEST)
        await journal.close()
        return entry

    entry = asyncio.run(work())
    assert entry is not None
    assert entry.code == (code if abs(code) < 2**63 else None)
    assert (entry.message or "").isprintable()


def commits(path: Path) -> int:
    """Return the number of commits that the file has counted."""
    with closing(sqlite3.connect(path)) as file:
        return int(file.execute("SELECT commits FROM summary").fetchone()[0])


async def test_many_writers_share_their_commits(tmp_path: Path) -> None:
    journal = await JournalWriter.open(tmp_path / "journal")
    requests = [SyncRequest(company_id=f"company {number}") for number in range(2000)]
    before = commits(tmp_path / "journal")
    await asyncio.gather(*(journal.record_start(request, KEY, 1.0) for request in requests))
    await journal.close()
    assert commits(tmp_path / "journal") - before <= 6
    assert len(list(read_journal(tmp_path / "journal"))) == 2000


async def test_the_event_loop_is_not_blocked_by_the_disk(tmp_path: Path) -> None:
    journal, turns = await JournalWriter.open(tmp_path / "journal"), 0
    writing = asyncio.ensure_future(journal.record_start(LATEST, KEY, 1.0))
    while not writing.done():
        turns += 1
        await asyncio.sleep(0)
    await journal.close()
    assert turns > 2


async def test_a_cancelled_write_is_committed_all_the_same(tmp_path: Path) -> None:
    journal = await JournalWriter.open(tmp_path / "journal")
    # The first is being committed, the others wait for the next commit.
    writing = [asyncio.ensure_future(journal.record_start(request, KEY, 1.0)) for request in (LATEST, UP_TO, RANGE)]
    await asyncio.sleep(0)
    for task in writing:
        task.cancel()
    await journal.close()
    assert [entry.state for entry in read_journal(tmp_path / "journal")] == ["starting"] * 3


async def test_each_write_of_a_failed_commit_raises_an_error_of_its_own(tmp_path: Path) -> None:
    journal = await JournalWriter.open(tmp_path / "journal")
    ids = ["a", "b", "\ud800"]
    requests = [journal.record_start(SyncRequest(company_id=company_id), KEY, 1.0) for company_id in ids]
    # The first is committed alone.
    first, *errors = await asyncio.gather(journal.record_start(LATEST, KEY, 1.0), *requests, return_exceptions=True)
    await journal.close()
    assert first is None
    assert [type(error) for error in errors] == [JournalError] * 3
    assert len({id(error) for error in errors}) == 3
    assert len({str(error) for error in errors}) == 1


async def test_a_failed_write_leaves_the_other_entries_as_they_were(tmp_path: Path) -> None:
    journal = await JournalWriter.open(tmp_path / "journal")
    await journal.record_start(LATEST, KEY, 1.0)
    with pytest.raises(JournalError, match="could not be written"):
        await journal.record_start(SyncRequest(company_id="\ud800"), KEY, 1.0)
    await journal.record_start(UP_TO, KEY, 1.0)
    await journal.close()
    assert {entry.request for entry in read_journal(tmp_path / "journal")} == {LATEST, UP_TO}


@pytest.mark.parametrize("turns", range(8))
async def test_opening_and_closing_can_be_cancelled_at_any_step(turns: int, tmp_path: Path) -> None:
    async def work() -> None:
        journal = await JournalWriter.open(tmp_path / "journal")
        try:
            await journal.record_start(LATEST, KEY, 1.0)
        finally:
            await journal.close()

    task = asyncio.create_task(work())
    for _ in range(turns):
        await asyncio.sleep(0)
    # A caller may cancel again during the closing.
    for _ in range(4):
        task.cancel()
        await asyncio.sleep(0)
    await asyncio.wait((task,))
    assert task.cancelled()
    assert (own_tasks(), own_threads()) == (set(), [])
    # The file is unlocked.
    await (await JournalWriter.open(tmp_path / "journal")).close()


@pytest.mark.parametrize("turns", [1, 2, 3, 5])
async def test_a_cancelled_close_still_closes_the_file(turns: int, tmp_path: Path) -> None:
    journal = await JournalWriter.open(tmp_path / "journal")
    writing = asyncio.ensure_future(journal.record_start(LATEST, KEY, 1.0))
    closing = asyncio.create_task(journal.close())
    for _ in range(turns):
        await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait((closing, writing))
    assert closing.cancelled()
    assert (own_tasks(), own_threads()) == (set(), [])
    assert [entry.state for entry in read_journal(tmp_path / "journal")] == ["starting"]


async def test_a_closed_journal_is_one_file_and_its_lock_file(tmp_path: Path) -> None:
    await fill(tmp_path / "journal", 20)
    assert files(tmp_path) == {"journal", "journal.lock"}
    assert len(list(read_journal(tmp_path / "journal"))) == 20
    assert files(tmp_path) == {"journal", "journal.lock"}


def test_a_killed_process_leaves_all_committed_entries(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    python("-m", "tests.support.journaling", "DIE", path, status=-9)
    assert len(list(read_journal(path))) == 50
    asyncio.run(fill(path, 1))
    assert len(list(read_journal(path))) == 51


async def test_a_second_process_is_refused() -> None:
    with reachable() as directory:
        path = directory / "journal"
        journal = await JournalWriter.open(path)
        path.chmod(0o666)
        (directory / "journal.lock").chmod(0o666)
        messages = await asyncio.to_thread(other_user, "OPEN", path)
        await journal.close()
    assert messages == [
        f"the journal {path} is in use by another process; wait for that process to end, or use another file"
    ]


async def test_a_journal_in_use_is_read_as_of_its_last_commit(tmp_path: Path) -> None:
    journal = await JournalWriter.open(tmp_path / "journal")
    await journal.record_start(LATEST, KEY, 1.0)
    assert [entry.request for entry in read_journal(tmp_path / "journal")] == [LATEST]
    await journal.record_start(UP_TO, KEY, 1.0)
    assert len(list(read_journal(tmp_path / "journal"))) == 2
    await journal.close()


async def test_an_empty_file_becomes_a_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.touch()
    await fill(path, 4)
    assert len(list(read_journal(path))) == 4


async def test_a_directory_is_refused(tmp_path: Path) -> None:
    assert await open_error(tmp_path) == f"the journal must be a file (got the directory {tmp_path})"
    with pytest.raises(JournalError, match="must be a file"):
        list(read_journal(tmp_path))


async def test_the_error_names_a_missing_directory(tmp_path: Path) -> None:
    assert await open_error(tmp_path / "no" / "journal") == (
        f"the directory {tmp_path / 'no'} of the journal journal does not exist"
    )


def test_reading_creates_no_journal(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="there is no journal"):
        list(read_journal(tmp_path / "journal"))
    assert list(tmp_path.iterdir()) == []


async def test_special_names_are_names_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (":memory:", "file:x?mode=memory", "a b%20c#d?e"):
        await fill(Path(name), 1)
    assert files(tmp_path) == {
        name + ending for name in (":memory:", "file:x?mode=memory", "a b%20c#d?e") for ending in ("", ".lock")
    }


async def test_a_file_that_is_not_a_journal_is_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("remember the milk\n" * 100)
    assert "is not a journal, or it is damaged" in await open_error(path)
    with pytest.raises(JournalError, match="is not a journal"):
        list(read_journal(path))
    assert path.read_text() == "remember the milk\n" * 100


async def test_another_database_is_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE milk (litres REAL)")
    other.close()
    before = path.read_bytes()
    assert await open_error(path) == f"{path} is a database, but not a journal; use another file"
    with pytest.raises(JournalError, match="but not a journal"):
        list(read_journal(path))
    assert path.read_bytes() == before


@pytest.mark.parametrize("version", [0, 2])
async def test_a_journal_of_another_version_is_not_changed(version: int, tmp_path: Path) -> None:
    path = tmp_path / "journal"
    await fill(path, 4)
    file = sqlite3.connect(path)
    file.execute(f"PRAGMA user_version = {version}")
    file.close()
    before = path.read_bytes()
    assert await open_error(path) == (
        f"the journal {path} must be of version 1 (got {version}); "
        "finish the run with the version of this library that wrote it, or use a new file"
    )
    with pytest.raises(JournalError, match=f"got {version}"):
        list(read_journal(path))
    assert path.read_bytes() == before


def test_a_changed_row_is_detected(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    asyncio.run(fill(path, 4))
    file = sqlite3.connect(path)
    file.execute("UPDATE syncs SET state = 'starting' WHERE state = 'running'")
    file.commit()
    file.close()
    assert "is damaged or incomplete" in asyncio.run(open_error(path))
    with pytest.raises(JournalError, match="damaged"):
        list(read_journal(path))


@pytest.mark.parametrize("how", ["missing", "older", "added"])
def test_valid_rows_that_are_not_those_of_the_last_commit_are_detected(how: str, tmp_path: Path) -> None:
    path, other = tmp_path / "journal", tmp_path / "other"
    asyncio.run(fill(path, 4))
    asyncio.run(fill(other, 5))
    file = sqlite3.connect(path)
    file.execute("ATTACH ? AS other", (str(other),))
    if how == "missing":
        file.execute("DELETE FROM syncs WHERE company_id = 'company 2'")
    else:
        name = "company 4" if how == "added" else "company 3"
        file.execute("DELETE FROM syncs WHERE company_id = ?", (name,))
        asyncio.run(add_start(other, SyncRequest(company_id=name)))
        file.execute("INSERT INTO syncs SELECT * FROM other.syncs WHERE company_id = ?", (name,))
    file.commit()
    file.close()
    assert "is damaged or incomplete (its entries are not those of one commit)" in asyncio.run(open_error(path))
    with pytest.raises(JournalError, match="not those of one commit"):
        list(read_journal(path))


async def add_start(path: Path, request: SyncRequest) -> None:
    journal = await JournalWriter.open(path)
    await journal.record_start(request, KEY, 1.0)
    await journal.close()


async def test_unfinished_syncs_come_in_slices_and_the_earliest_start_first(tmp_path: Path) -> None:
    journal = await JournalWriter.open(tmp_path / "journal")
    requests = [SyncRequest(company_id=f"company {number}") for number in range(1001)]
    await asyncio.gather(*(journal.record_start(each, KEY, float(-number)) for number, each in enumerate(requests)))
    slices = [[entry.request for entry in some] async for some in journal.unfinished()]
    await journal.close()
    assert [request for some in slices for request in some] == requests[::-1]
    assert max(map(len, slices)) <= 200


async def test_an_entry_has_the_offset_of_the_server_at_its_start(tmp_path: Path) -> None:
    journal = await JournalWriter.open(tmp_path / "journal")
    await journal.record_start(LATEST, KEY, 1000.0, -3600.25)
    await journal.record_running(LATEST, SyncHandle(company_id=LATEST.company_id))
    await journal.record_start(UP_TO, KEY, 1000.0)
    await journal.close()
    offsets = {entry.request: entry.server_offset for entry in read_journal(tmp_path / "journal")}
    assert offsets == {LATEST: -3600.25, UP_TO: None}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "journal"
    asyncio.run(fill(path, 60))
    return path


def damaged(sound: Path, damage: Callable[[bytearray], None]) -> None:
    """Check that the damage is reported in one line, or that no entry has changed."""
    before = list(read_journal(sound))
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "journal"
        content = bytearray(sound.read_bytes())
        damage(content)
        path.write_bytes(content)
        try:
            asyncio.run(open_and_close(path))
            assert list(read_journal(path)) == before
        except JournalError as error:
            assert "\n" not in str(error)  # noqa: PT017 - either is right


async def open_and_close(path: Path) -> None:
    await (await JournalWriter.open(path)).close()


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_a_flipped_bit_is_reported_or_harmless(sound: Path, data: st.DataObject) -> None:
    def damage(content: bytearray) -> None:
        # The first page describes the others, so it gets more of the attempts.
        last = data.draw(st.sampled_from([99, 4095, len(content) - 1]))
        at = data.draw(st.integers(0, last))
        content[at] ^= data.draw(st.sampled_from([1 << bit for bit in range(8)]))

    damaged(sound, damage)


@given(st.floats(0.0, 1.0, exclude_min=True, exclude_max=True))
@settings(max_examples=20, deadline=None)
def test_a_truncated_file_is_reported(sound: Path, share: float) -> None:
    def damage(content: bytearray) -> None:
        del content[max(1, int(len(content) * share)) :]

    damaged(sound, damage)


@given(start=st.integers(0, 20_000), length=st.integers(1, 8192), filling=st.integers(0, 255))
@settings(max_examples=20, deadline=None)
def test_overwritten_blocks_are_reported_or_harmless(sound: Path, start: int, length: int, filling: int) -> None:
    def damage(content: bytearray) -> None:
        content[start : start + length] = bytes([filling]) * len(content[start : start + length])

    damaged(sound, damage)


def test_a_file_without_write_permission_is_reported() -> None:
    with reachable() as directory:
        asyncio.run(fill(directory / "journal", 4))
        (directory / "journal").chmod(0o444)
        directory.chmod(0o555)
        opened, read = other_user("OPEN", directory / "journal", "READ", directory / "journal")
        assert opened == (
            f"the journal {directory / 'journal'} cannot be opened for writing: Permission denied; "
            "check its permissions and those of its directory"
        )
        assert read == "4 entries"


def test_a_file_or_directory_without_permission_is_reported() -> None:
    with reachable() as directory:
        asyncio.run(fill(directory / "journal", 4))
        (directory / "journal").chmod(0o600 if os.geteuid() == 0 else 0o000)
        directory.chmod(0o555)
        messages = other_user("OPEN", directory / "new", "OPEN", directory / "journal", "READ", directory / "journal")
    assert len(messages) == 3
    assert [message for message in messages if "check its permissions" not in message] == []


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    full_at = {tmp_path / str(limit): limit for limit in (8_192, 30_000)}
    for directory in full_at:
        directory.mkdir()
    printed = python(
        "-m", "tests.simulations.fanout_full_disk", *full_at, "--companies", 30, "--limits", *full_at.values()
    )
    for directory, line in zip(full_at, printed.splitlines(), strict=True):
        result = json.loads(line)
        assert result.pop("error").startswith(f"the journal {directory / 'journal'} c")
        assert result.pop("started") < 30
        assert result.pop("ended") < 30
        assert result == {"unaccounted": 0, "started_twice": 0, "reported_twice": 0, "unfinished": 0}
