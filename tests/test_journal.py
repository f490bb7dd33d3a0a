"""The journal: what is written is there after a crash, and whatever is wrong with its file is one clear line."""

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codat_commerce_async.errors import JournalError, OutcomeUnknownError
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.models.sync import SyncStatus
from codat_commerce_async.syncing.journal import Journal, JournalEntry, NullJournal, RunJournal, read_journal
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


async def keep(path: Path, companies: int) -> None:
    """A journal with so many companies, in every state."""
    journal = await Journal.open(path)
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
    """A directory that others may enter."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o777)
        yield directory
        directory.chmod(0o777)


def python(*arguments: object, status: int = 0) -> str:
    """What a process says that runs beside this one."""
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    assert done.returncode == status, done.stderr
    return done.stdout.strip()


def beside(action: str, path: Path) -> str:
    """What another process of anybody else's is told."""
    return python("-m", "tests.support.journaling", action, path)


def files(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


async def opening(path: Path) -> str:
    """What is said when the journal cannot be opened."""
    with pytest.raises(JournalError) as caught:
        await Journal.open(path)
    assert own_threads() == []
    return str(caught.value)


@pytest.mark.parametrize("request_", [LATEST, UP_TO, RANGE])
async def test_a_sync_is_known_in_each_of_its_states(request_: SyncRequest, tmp_path: Path) -> None:
    handle = SyncHandle(company_id=request_.company_id, commerce_sync_id="c", requested_at=datetime.now(UTC))
    journal = await Journal.open(tmp_path / "journal")
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
    assert entry.is_finished
    assert (entry.state, entry.ended_at, entry.polls, entry.elapsed, entry.code) == ("succeeded", 2000.0, 3, 45.5, 2000)
    assert (entry.idempotency_key, entry.sent_at, entry.outcome, entry.run) == (KEY, 1000.0, "SUCCEEDED", 1)
    assert [entry async for some in journal.unfinished() for entry in some] == []
    assert await journal.durations() == [45.5]
    await journal.close()
    assert list(read_journal(tmp_path / "journal")) == [entry]


async def test_an_error_says_what_it_was_and_keeps_the_handle(tmp_path: Path) -> None:
    handle = SyncHandle(company_id="latest", sync_id="an id")
    error = OutcomeUnknownError("the answer was lost")
    ended = SyncOutcome(request=LATEST, handle=None, status=None, error=error, polls=0, elapsed=1.0)
    journal = await Journal.open(tmp_path / "journal")
    await journal.record_start(LATEST, KEY, 1000.0)
    await journal.record_running(LATEST, handle)
    await journal.record_outcome(ended, 2000.0)
    entry = await journal.get(LATEST)
    await journal.close()
    assert entry is not None
    assert (entry.state, entry.outcome, entry.message) == ("error", "OutcomeUnknownError", "the answer was lost")
    assert (entry.handle, entry.is_finished) == (handle, False)


async def test_a_run_without_a_file_uses_a_journal_that_keeps_nothing() -> None:
    journal: RunJournal = NullJournal()
    await journal.record_start(LATEST, KEY, 1000.0, 0.5)
    await journal.record_running(LATEST, SyncHandle(company_id="latest", sync_id="an id"))
    await journal.record_outcome(outcome(LATEST), 2000.0)
    assert (await journal.get(LATEST), await journal.of_company("latest"), await journal.durations()) == (None, [], [])
    assert [entries async for entries in journal.unfinished()] == []
    assert (journal.run, journal.is_persistent) == (1, False)
    await journal.close()


async def test_a_journal_in_a_file_has_the_same_interface(tmp_path: Path) -> None:
    journal: RunJournal = await Journal.open(tmp_path / "journal")
    assert (journal.run, journal.is_persistent) == (1, True)
    await journal.close()


async def test_each_opening_is_another_run(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        journal = await Journal.open(tmp_path / "journal")
        assert journal.run == number
        await journal.record_outcome(outcome(SyncRequest(company_id=f"company {number}")), 2000.0)
        await journal.close()
    assert [entry.run for entry in read_journal(tmp_path / "journal")] == [1, 2, 3]


@given(text=st.text(st.characters(codec=None), max_size=20), code=st.integers())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_codat_says_can_be_kept(text: str, code: int, tmp_path: Path) -> None:
    async def work() -> JournalEntry | None:
        path = tmp_path / "journal"
        path.unlink(missing_ok=True)
        journal = await Journal.open(path)
        await journal.record_outcome(outcome(LATEST, code, text), 1.0)
        entry = await journal.get(LATEST)
        await journal.close()
        return entry

    entry = asyncio.run(work())
    assert entry is not None
    assert entry.code == (code if abs(code) < 2**63 else None)


async def test_many_writers_share_their_commits(tmp_path: Path) -> None:
    journal = await Journal.open(tmp_path / "journal")
    requests = [SyncRequest(company_id=f"company {number}") for number in range(2000)]
    commits = 0
    commit_next = journal._commit_batch

    def counted() -> None:
        nonlocal commits
        commits += 1
        commit_next()

    journal._commit_batch = counted  # type: ignore[method-assign]
    await asyncio.gather(*(journal.record_start(request, KEY, 1.0) for request in requests))
    await journal.close()
    assert commits <= 6
    assert len(list(read_journal(tmp_path / "journal"))) == 2000


async def test_the_loop_goes_on_while_the_disk_works(tmp_path: Path) -> None:
    journal, turns = await Journal.open(tmp_path / "journal"), 0
    writing = asyncio.ensure_future(journal.record_start(LATEST, KEY, 1.0))
    while not writing.done():
        turns += 1
        await asyncio.sleep(0)
    await journal.close()
    assert turns > 2


async def test_a_writer_that_is_cancelled_has_written_all_the_same(tmp_path: Path) -> None:
    journal = await Journal.open(tmp_path / "journal")
    # The first is being committed, the others wait for the next commit.
    writing = [asyncio.ensure_future(journal.record_start(request, KEY, 1.0)) for request in (LATEST, UP_TO, RANGE)]
    await asyncio.sleep(0)
    for task in writing:
        task.cancel()
    await journal.close()
    assert [entry.state for entry in read_journal(tmp_path / "journal")] == ["starting"] * 3


async def test_what_cannot_be_written_leaves_the_rest_as_it_was(tmp_path: Path) -> None:
    journal = await Journal.open(tmp_path / "journal")
    await journal.record_start(LATEST, KEY, 1.0)
    with pytest.raises(JournalError, match="could not be written"):
        await journal.record_start(SyncRequest(company_id="\ud800"), KEY, 1.0)
    await journal.record_start(UP_TO, KEY, 1.0)
    await journal.close()
    assert {entry.request for entry in read_journal(tmp_path / "journal")} == {LATEST, UP_TO}


@pytest.mark.parametrize("turns", range(8))
async def test_opening_and_closing_can_be_cancelled_at_any_turn(turns: int, tmp_path: Path) -> None:
    async def work() -> None:
        journal = await Journal.open(tmp_path / "journal")
        try:
            await journal.record_start(LATEST, KEY, 1.0)
        finally:
            await journal.close()

    task = asyncio.create_task(work())
    for _ in range(turns):
        await asyncio.sleep(0)
    # Whoever is impatient cancels again, while it is being closed.
    for _ in range(4):
        task.cancel()
        await asyncio.sleep(0)
    await asyncio.wait((task,))
    assert task.cancelled()
    assert (own_tasks(), own_threads()) == (set(), [])
    # And so nobody holds the file any more.
    await (await Journal.open(tmp_path / "journal")).close()


@pytest.mark.parametrize("turns", [1, 2, 3, 5])
async def test_closing_goes_to_its_end_whoever_is_cancelled(turns: int, tmp_path: Path) -> None:
    journal = await Journal.open(tmp_path / "journal")
    writing = asyncio.ensure_future(journal.record_start(LATEST, KEY, 1.0))
    closing = asyncio.create_task(journal.close())
    for _ in range(turns):
        await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait((closing, writing))
    assert closing.cancelled()
    assert (own_tasks(), own_threads()) == (set(), [])
    assert [entry.state for entry in read_journal(tmp_path / "journal")] == ["starting"]


async def test_a_closed_journal_is_one_file_beside_its_lock(tmp_path: Path) -> None:
    await keep(tmp_path / "journal", 20)
    assert files(tmp_path) == {"journal", "journal.lock"}
    assert len(list(read_journal(tmp_path / "journal"))) == 20
    assert files(tmp_path) == {"journal", "journal.lock"}


def test_a_killed_process_leaves_what_it_had_written(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    python("-m", "tests.support.journaling", "DIE", path, status=-9)
    assert len(list(read_journal(path))) == 50
    asyncio.run(keep(path, 1))
    assert len(list(read_journal(path))) == 51


async def test_a_second_process_is_told_so() -> None:
    with reachable() as directory:
        path = directory / "journal"
        journal = await Journal.open(path)
        path.chmod(0o666)
        (directory / "journal.lock").chmod(0o666)
        said = await asyncio.to_thread(beside, "OPEN", path)
        await journal.close()
    assert said == (
        f"the journal {path} is in use by another process; wait for it to end, or give the name of another file"
    )


async def test_a_journal_in_use_is_read_as_of_its_last_commit(tmp_path: Path) -> None:
    journal = await Journal.open(tmp_path / "journal")
    await journal.record_start(LATEST, KEY, 1.0)
    assert [entry.request for entry in read_journal(tmp_path / "journal")] == [LATEST]
    await journal.record_start(UP_TO, KEY, 1.0)
    assert len(list(read_journal(tmp_path / "journal"))) == 2
    await journal.close()


async def test_an_empty_file_becomes_a_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.touch()
    await keep(path, 4)
    assert len(list(read_journal(path))) == 4


async def test_a_directory_is_no_journal(tmp_path: Path) -> None:
    assert await opening(tmp_path) == f"{tmp_path} is a directory; give the name of a file"
    with pytest.raises(JournalError, match="is a directory"):
        list(read_journal(tmp_path))


async def test_a_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    assert await opening(tmp_path / "no" / "journal") == (
        f"there is no directory {tmp_path / 'no'} for the journal journal"
    )


def test_reading_makes_no_journal(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="there is no journal"):
        list(read_journal(tmp_path / "journal"))
    assert list(tmp_path.iterdir()) == []


async def test_special_names_are_names_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (":memory:", "file:x?mode=memory", "a b%20c#d?e"):
        await keep(Path(name), 1)
    assert files(tmp_path) == {
        name + ending for name in (":memory:", "file:x?mode=memory", "a b%20c#d?e") for ending in ("", ".lock")
    }


async def test_another_file_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("remember the milk\n" * 100)
    assert "is no journal, or a damaged one" in await opening(path)
    with pytest.raises(JournalError, match="is no journal"):
        list(read_journal(path))
    assert path.read_text() == "remember the milk\n" * 100


async def test_another_database_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE milk (litres REAL)")
    other.close()
    before = path.read_bytes()
    assert await opening(path) == f"{path} is a database, but no journal; give the name of another file"
    with pytest.raises(JournalError, match="but no journal"):
        list(read_journal(path))
    assert path.read_bytes() == before


async def test_a_journal_of_another_version_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    await keep(path, 4)
    file = sqlite3.connect(path)
    file.execute("PRAGMA user_version = 4")
    file.close()
    before = path.read_bytes()
    assert await opening(path) == (
        f"the journal {path} is of version 4, this library reads version 3; "
        "finish it with the library that wrote it, or give the name of a new file"
    )
    with pytest.raises(JournalError, match="version 4"):
        list(read_journal(path))
    assert path.read_bytes() == before


def test_a_changed_row_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    asyncio.run(keep(path, 4))
    file = sqlite3.connect(path)
    file.execute("UPDATE syncs SET state = 'starting' WHERE state = 'running'")
    file.commit()
    file.close()
    assert "is damaged or incomplete" in asyncio.run(opening(path))
    with pytest.raises(JournalError, match="damaged"):
        list(read_journal(path))


@pytest.mark.parametrize("how", ["missing", "older", "added"])
def test_rows_that_are_sound_but_not_those_of_the_last_commit_are_noticed(how: str, tmp_path: Path) -> None:
    path, other = tmp_path / "journal", tmp_path / "other"
    asyncio.run(keep(path, 4))
    asyncio.run(keep(other, 5))
    file = sqlite3.connect(path)
    file.execute("ATTACH ? AS other", (str(other),))
    if how == "missing":
        file.execute("DELETE FROM syncs WHERE company_id = 'company 2'")
    else:
        name = "company 4" if how == "added" else "company 3"
        file.execute("DELETE FROM syncs WHERE company_id = ?", (name,))
        asyncio.run(note_asking(other, SyncRequest(company_id=name)))
        file.execute("INSERT INTO syncs SELECT * FROM other.syncs WHERE company_id = ?", (name,))
    file.commit()
    file.close()
    assert "is damaged or incomplete (its entries are not of one moment)" in asyncio.run(opening(path))
    with pytest.raises(JournalError, match="not of one moment"):
        list(read_journal(path))


async def note_asking(path: Path, request: SyncRequest) -> None:
    journal = await Journal.open(path)
    await journal.record_start(request, KEY, 1.0)
    await journal.close()


async def test_unfinished_syncs_come_in_slices_and_the_first_one_first(tmp_path: Path) -> None:
    journal = await Journal.open(tmp_path / "journal")
    requests = [SyncRequest(company_id=f"company {number}") for number in range(1001)]
    await asyncio.gather(*(journal.record_start(each, KEY, float(-number)) for number, each in enumerate(requests)))
    slices = [[entry.request for entry in some] async for some in journal.unfinished()]
    await journal.close()
    assert [request for some in slices for request in some] == requests[::-1]
    assert max(map(len, slices)) <= 200


async def test_a_journal_is_told_by_its_entries_which_offset_the_server_had(tmp_path: Path) -> None:
    journal = await Journal.open(tmp_path / "journal")
    await journal.record_start(LATEST, KEY, 1000.0, -3600.25)
    await journal.record_running(LATEST, SyncHandle(company_id=LATEST.company_id))
    await journal.record_start(UP_TO, KEY, 1000.0)
    await journal.close()
    offsets = {entry.request: entry.server_offset for entry in read_journal(tmp_path / "journal")}
    assert offsets == {LATEST: -3600.25, UP_TO: None}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "journal"
    asyncio.run(keep(path, 60))
    return path


def damaged(sound: Path, damage: Callable[[bytearray], None]) -> None:
    """Either the damage is told in one line, or nothing of what the journal says has changed."""
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
    await (await Journal.open(path)).close()


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_a_flipped_bit_is_told_or_harmless(sound: Path, data: st.DataObject) -> None:
    def damage(content: bytearray) -> None:
        # The first page says what is where; it deserves more of the tries.
        last = data.draw(st.sampled_from([99, 4095, len(content) - 1]))
        at = data.draw(st.integers(0, last))
        content[at] ^= data.draw(st.sampled_from([1 << bit for bit in range(8)]))

    damaged(sound, damage)


@given(st.floats(0.0, 1.0, exclude_min=True, exclude_max=True))
@settings(max_examples=20, deadline=None)
def test_a_file_that_was_cut_off_is_told(sound: Path, share: float) -> None:
    def damage(content: bytearray) -> None:
        del content[max(1, int(len(content) * share)) :]

    damaged(sound, damage)


@given(start=st.integers(0, 20_000), length=st.integers(1, 8192), filling=st.integers(0, 255))
@settings(max_examples=20, deadline=None)
def test_overwritten_blocks_are_told_or_harmless(sound: Path, start: int, length: int, filling: int) -> None:
    def damage(content: bytearray) -> None:
        content[start : start + length] = bytes([filling]) * len(content[start : start + length])

    damaged(sound, damage)


def test_no_permission_to_write_is_told() -> None:
    with reachable() as directory:
        asyncio.run(keep(directory / "journal", 4))
        (directory / "journal").chmod(0o444)
        directory.chmod(0o555)
        assert beside("OPEN", directory / "journal") == (
            f"the journal {directory / 'journal'} cannot be opened for writing: Permission denied; "
            "see to its permissions and its directory's"
        )
        assert beside("READ", directory / "journal") == "4 entries"


def test_no_permission_for_the_file_or_its_directory_is_told() -> None:
    with reachable() as directory:
        directory.chmod(0o555)
        assert "see to its permissions" in beside("OPEN", directory / "new")
        asyncio.run(keep(directory / "journal", 4))
        (directory / "journal").chmod(0o600 if os.geteuid() == 0 else 0o000)
        for action in ("OPEN", "READ"):
            assert "see to its permissions" in beside(action, directory / "journal")


@pytest.mark.parametrize("limit", [8_192, 30_000])
def test_a_full_disk_loses_nothing(limit: int, tmp_path: Path) -> None:
    said = json.loads(python("-m", "tests.simulations.fanout_full_disk", tmp_path, "--companies", 60, "--limit", limit))
    assert said.pop("error").startswith(f"the journal {tmp_path / 'journal'} c")
    assert said.pop("started") < 60
    assert said.pop("ended") < 60
    assert said == {"unaccounted": 0, "started_twice": 0, "told_twice": 0, "unfinished": 0}
