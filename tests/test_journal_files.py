"""The file of a journal after moves, copies, truncation, damage and kills: it opens complete, or not at all."""

import asyncio
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random

import pytest
from attrs import evolve

from codat_commerce_async.errors import JournalError
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.syncing._journal import rows as entries
from codat_commerce_async.syncing._journal.entry import JournalEntry
from codat_commerce_async.syncing._journal.file import JournalFile
from codat_commerce_async.syncing._journal.lock import file_system
from codat_commerce_async.syncing._journal.rows import SyncKey
from codat_commerce_async.syncing._journal.writer import JournalWriter
from codat_commerce_async.syncing.journal import read_journal
from codat_commerce_async.syncing.request import SyncRequest

ROOT = Path(__file__).parents[1]
PAGE = 4096
ONE = SyncRequest(company_id="company 1")


def entry(number: int, state: str = "running") -> JournalEntry:
    request = SyncRequest(company_id=f"company {number}")
    handle = SyncHandle(company_id=request.company_id, commerce_sync_id=f"{number:036}")
    return JournalEntry(request, state, f"key {number}", 1000.0 + number, handle, server_offset=-0.5)


def opened(path: Path) -> JournalFile:
    """Open the journal for writing, with one run."""
    file = JournalFile.open(path)
    with file.transaction():
        assert file.begin_run("a night", 1000.0) == 1
    return file


def write(path: Path, numbers: range, state: str = "running") -> None:
    file = opened(path)
    for number in numbers:
        with file.transaction():
            file.write(entry(number, state))
    file.close()


def known(path: Path) -> dict[str, JournalEntry]:
    """Open the journal for writing, add an entry, and return the entries before it."""
    file = opened(path)
    try:
        keys = file.read(lambda rows: rows.execute("SELECT run, company_id, period FROM syncs").fetchall())
        found = {each.request.company_id: each for key in keys if (each := file.get(SyncKey(*key)))}
        with file.transaction():
            file.write(entry(999_999))
    finally:
        file.close()
    assert {each.request.company_id for each in read_journal(path)} == found.keys() | {"company 999999"}
    return found


def known_or_refused(path: Path) -> dict[str, JournalEntry] | None:
    """Return the same, or None if opening raises JournalError with a message of one line."""
    try:
        return known(path)
    except JournalError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either is right
        return None


def content(main: bytes, rollback: bytes | None, directory: Path) -> Path:
    """Write a journal with this content into a directory of its own."""
    directory.mkdir(exist_ok=True)
    for old in directory.iterdir():
        old.unlink()
    (directory / "journal").write_bytes(main)
    if rollback is not None:
        (directory / "journal-journal").write_bytes(rollback)
    return directory / "journal"


def interrupted(path: Path, numbers: range, state: str) -> tuple[bytes, bytes]:
    """Return the journal and its rollback journal as a writer leaves them that is killed during a commit."""
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        for setting in ("journal_mode = TRUNCATE", "cache_size = 1", "cache_spill = 1"):
            file.execute(f"PRAGMA {setting}")
        file.execute("BEGIN IMMEDIATE")
        summary = entries.read_summary(file)
        (run,) = entries.read_runs(file, summary)
        for number in numbers:
            run = entries.write(file, entry(number, state), run)
        entries.write_run(file, run)
        entries.write_summary(file, evolve(summary.of_runs([run]), commits=summary.commits + 1))
        # This makes SQLite write pages before the commit.
        file.execute("CREATE TABLE further AS SELECT * FROM syncs")
        file.execute("DROP TABLE further")
        return path.read_bytes(), path.with_name(f"{path.name}-journal").read_bytes()


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("night") / "journal"
    write(path, range(60))
    return path


@pytest.fixture(scope="module")
def killed_commit(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    path = tmp_path_factory.mktemp("torn") / "journal"
    write(path, range(60))
    return interrupted(path, range(20, 80), "succeeded")


BEFORE = {f"company {number}": entry(number) for number in range(60)}


def test_a_killed_commit_is_rolled_back(killed_commit: tuple[bytes, bytes], tmp_path: Path) -> None:
    path = content(*killed_commit, tmp_path / "there")
    assert {each.request.company_id: each for each in read_journal(path)} == BEFORE
    # Reading recovers only a copy.
    assert (path.read_bytes(), path.with_name("journal-journal").read_bytes()) == killed_commit
    assert known(path) == BEFORE


def test_a_killed_commit_without_its_rollback_journal_is_refused(
    killed_commit: tuple[bytes, bytes], tmp_path: Path
) -> None:
    path = content(killed_commit[0], None, tmp_path / "moved")
    assert known_or_refused(path) is None
    assert path.read_bytes() == killed_commit[0]
    with pytest.raises(JournalError, match=r"damaged or incomplete|not a journal, or it is damaged"):
        list(read_journal(path))


def test_pages_of_two_commits_are_refused_or_one_of_them(night: Path, tmp_path: Path) -> None:
    later = tmp_path / "later"
    shutil.copy(night, later)
    file = opened(later)
    with file.transaction():
        for number in range(5, 70, 6):
            file.write(entry(number, "succeeded"))
    file.close()
    after = {each.request.company_id: each for each in read_journal(later)}
    old, new = night.read_bytes(), later.read_bytes()
    rng, results = Random(1), []
    for _ in range(60):
        pages = [rng.choice((old, new))[at : at + PAGE] for at in range(0, len(new), PAGE)]
        results.append(known_or_refused(content(b"".join(pages), None, tmp_path / "mixed")))
    assert all(result is None or result in (BEFORE, after) for result in results)
    assert None in results


def test_a_damaged_rollback_journal_is_refused_or_harmless(killed_commit: tuple[bytes, bytes], tmp_path: Path) -> None:
    rng, (main, rollback) = Random(2), killed_commit
    for number in range(80):
        damaged = bytearray(rollback)
        damaged[number if number < 32 else rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        assert known_or_refused(content(main, bytes(damaged), tmp_path / "damaged")) in (None, BEFORE)


def test_a_truncated_rollback_journal_is_refused_or_harmless(
    killed_commit: tuple[bytes, bytes], tmp_path: Path
) -> None:
    rng, (main, rollback) = Random(3), killed_commit
    for length in (0, 1, 8, 28, 511, 512, 513, *(rng.randrange(len(rollback)) for _ in range(20))):
        assert known_or_refused(content(main, rollback[:length], tmp_path / "cut")) in (None, BEFORE)


def test_a_rollback_journal_of_another_commit_is_refused_and_kept(
    night: Path, killed_commit: tuple[bytes, bytes], tmp_path: Path
) -> None:
    later = tmp_path / "later"
    shutil.copy(night, later)
    write(later, range(100, 103))
    path = content(later.read_bytes(), killed_commit[1], tmp_path / "mixed")
    for _ in range(2):
        assert known_or_refused(path) is None
    assert (path.read_bytes(), path.with_name("journal-journal").read_bytes()) == (later.read_bytes(), killed_commit[1])


def test_a_rollback_journal_whose_journal_was_moved_away_is_kept(
    killed_commit: tuple[bytes, bytes], tmp_path: Path
) -> None:
    path = content(*killed_commit, tmp_path / "there")
    moved = tmp_path / "moved"
    path.rename(moved)
    with pytest.raises(JournalError, match="its journal was deleted or moved without it"):
        JournalFile.open(path)
    path.with_name("journal-journal").rename(tmp_path / "moved-journal")
    assert known(moved) == BEFORE


def test_a_truncated_file_is_refused(night: Path, tmp_path: Path) -> None:
    whole, rng = night.read_bytes(), Random(4)
    lengths = {1, 99, 100, 511, 512, 513, *range(PAGE, len(whole), PAGE), len(whole) - 1}
    for length in lengths | {rng.randrange(1, len(whole)) for _ in range(40)}:
        assert known_or_refused(content(whole[:length], None, tmp_path / "cut")) is None, length


def test_a_journal_that_was_emptied_is_refused_until_it_is_deleted(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    write(path, range(3))
    os.truncate(path, 0)
    with pytest.raises(JournalError, match="is empty, but was a journal before"):
        JournalFile.open(path)
    path.unlink()
    write(path, range(2))
    assert known(path).keys() == {"company 0", "company 1"}


def flips(whole: bytes, bits: Iterator[int], directory: Path, expected: dict[str, JournalEntry]) -> int:
    """Return how many flipped bits are refused; check that all others change nothing."""
    refused = 0
    for bit in bits:
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        found = known_or_refused(content(bytes(damaged), None, directory))
        assert found in (None, expected), f"bit {bit % 8} of byte {bit // 8}"
        refused += found is None
    return refused


def test_no_flipped_bit_loses_or_changes_an_entry(night: Path, tmp_path: Path) -> None:
    whole, rng = night.read_bytes(), Random(5)
    bits = [*(rng.randrange(8 * 100) for _ in range(60)), *(rng.randrange(8 * len(whole)) for _ in range(140))]
    assert flips(whole, iter(bits), tmp_path / "flipped", BEFORE) > 50


def small_pages(path: Path) -> None:
    """Create an empty database with the smallest page size of SQLite."""
    with closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA page_size = 512")
        file.execute("CREATE TABLE first (number INTEGER)")
        file.execute("DROP TABLE first")
        file.execute("VACUUM")


@pytest.mark.real
@pytest.mark.parametrize("part", range(2))
def test_no_flipped_byte_of_a_small_journal_is_missed(part: int, tmp_path: Path) -> None:
    path = tmp_path / "journal"
    small_pages(path)
    write(path, range(3))
    whole, expected = path.read_bytes(), {f"company {number}": entry(number) for number in range(3)}
    assert len(whole) <= 2 * PAGE  # so that each bit can be tried
    # One bit of each byte, another one in each part. All bits take six minutes.
    bits = [8 * byte + (5 * byte + 3 * part) % 8 for byte in range(len(whole))]
    memory = Path("/dev/shm")  # noqa: S108 - temporary, and faster than a disk
    directory = (memory if memory.is_dir() else tmp_path) / f"codat-flips-{os.getpid()}-{part}"
    try:
        assert flips(whole, iter(bits), directory, expected) > len(bits) // 4
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def test_a_commit_waits_for_a_reader(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = await JournalWriter.open(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM syncs").fetchall()
        writing = asyncio.ensure_future(journal.record_start(ONE, "a key", 1.0, 0.25))
        for _ in range(200):
            await asyncio.sleep(0)
        assert not writing.done()
        reader.execute("COMMIT")
        await writing
    await journal.close()
    assert [each.server_offset for each in read_journal(path)] == [0.25]


def run_process(code: str, *arguments: object) -> str:
    """Run code in another process and return what it prints."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603


OPEN = """
import sys
from pathlib import Path
from codat_commerce_async.errors import JournalError
from codat_commerce_async.syncing._journal.file import JournalFile
for path in sys.argv[1:]:
    try:
        JournalFile.open(Path(path)).close()
    except JournalError as error:
        print(error)
"""
LOCK = """
import sqlite3, sys
file = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)
try:
    file.execute("BEGIN IMMEDIATE")
except sqlite3.OperationalError as error:
    print(error)
"""


def test_a_second_process_is_refused_after_a_backup_in_this_one(tmp_path: Path) -> None:
    path, link = tmp_path / "journal", tmp_path / "another name"
    file = opened(path)
    link.symlink_to(path)
    with file.transaction():
        file.write(entry(1))
        shutil.copy(path, tmp_path / "backup")
    shutil.copy(path, tmp_path / "backup")
    assert ["in use by another process" in line for line in run_process(OPEN, link, path).splitlines()] == [True] * 2
    assert len(known(tmp_path / "backup")) == 1
    file.close()
    assert run_process(OPEN, path) == ""


def test_a_second_writer_in_this_process_is_refused_and_the_first_continues(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    file = opened(path)
    with pytest.raises(JournalError, match="in use"):
        JournalFile.open(path)
    assert "in use" in run_process(OPEN, path)
    with file.transaction():
        file.write(entry(1))
    file.close()


def test_a_reader_in_this_process_does_not_release_the_locks_of_a_commit(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    file = opened(path)
    with file.transaction():
        file.write(entry(1))
        assert list(read_journal(path)) == []
        assert run_process(LOCK, path) == "database is locked"
    file.close()
    assert len(list(read_journal(path))) == 1


def commit(file: JournalFile) -> None:
    with file.transaction():
        file.write(entry(2))


@pytest.mark.parametrize("how", ["deleted", "moved", "replaced", "unlocked", "written"])
def test_a_journal_taken_away_during_a_run_is_reported_at_the_next_commit(how: str, tmp_path: Path) -> None:
    path = tmp_path / "journal"
    write(path, range(2))
    shutil.copy(path, tmp_path / "copy")
    file = opened(path)
    commit(file)
    if how == "deleted":
        path.unlink()
    elif how == "moved":
        path.rename(tmp_path / "moved")
    elif how == "replaced":
        (tmp_path / "copy").replace(path)
    elif how == "unlocked":
        (tmp_path / "journal.lock").unlink()
    else:
        (tmp_path / "journal.lock").unlink()
        assert run_process(OPEN, path) == ""
    with pytest.raises(JournalError, match="while it was in use"):
        commit(file)
    file.close()


def test_a_hard_link_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    write(path, range(2))
    (tmp_path / "second").hardlink_to(path)
    with pytest.raises(JournalError, match="hard link"):
        JournalFile.open(tmp_path / "second")
    assert len(list(read_journal(path))) == 2


def test_only_the_owner_can_read_the_files(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        file = opened(tmp_path / "journal")
        with file.transaction():
            file.write(entry(1))
            modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()}
        file.close()
    finally:
        os.umask(old)
    assert modes == dict.fromkeys(("journal", "journal-journal", "journal.lock"), 0o600)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists the types of file systems")
def test_the_type_of_a_file_system_is_known() -> None:
    assert file_system(Path("/proc").stat().st_dev) == "proc"
    assert file_system(0xFFFFFF) is None


def test_a_journal_on_a_network_file_system_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    device = tmp_path.stat().st_dev
    for systems in ({device: "ext4"}, {}):
        JournalFile.open(tmp_path / "local", file_system_of=systems.get).close()
    assert caplog.messages == []
    JournalFile.open(tmp_path / "remote", file_system_of={device: "nfs4"}.get).close()
    (message,) = caplog.messages
    assert ("(nfs4)" in message, "use a local disk" in message) == (True, True)


def writer(path: Path, first: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.support.killed_writer", str(path), str(first)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)  # noqa: S603


def committed(process: "subprocess.Popen[str]", lines: int) -> int:
    """Read that many lines and return the highest number, which is committed."""
    assert process.stdout is not None
    return max(int(process.stdout.readline()) for _ in range(lines))


@pytest.mark.real
def test_a_killed_writer_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    path, rng, count, refused = tmp_path / "journal", Random(6), 0, 0
    for round_ in range(25):
        process = writer(path, count)
        committed(process, rng.randrange(1, 120))
        process.kill()
        rest, _ = process.communicate()
        count = max([count, *(int(line) + 1 for line in rest.split("\n")[:-1])])
        alone = tmp_path / f"alone {round_}"
        shutil.copy(path, alone)
        try:
            assert len(list(read_journal(alone))) >= count
        except JournalError:
            refused += 1
        found = list(read_journal(path))
        assert {f"company {number}" for number in range(count)} <= {each.request.company_id for each in found}
        count = len(found)
    assert refused < 25


@pytest.mark.real
@pytest.mark.parametrize("companions", [("",), ("", "-journal"), ("-journal", "")])
def test_a_copy_of_a_journal_in_use_has_all_that_was_committed_before(
    companions: tuple[str, ...], tmp_path: Path
) -> None:
    path, process = tmp_path / "journal", writer(tmp_path / "journal", 0)
    try:
        opened, number, last = 0, 0, committed(process, 50)
        # On a slow disk most of the copies are of an unfinished commit.
        while number < 25 or (opened == 0 and number < 500):
            last = max(last, committed(process, 20))
            number, copy = number + 1, tmp_path / f"copy {number}"
            for ending in companions:
                whole = path.with_name(f"journal{ending}")
                if whole.exists():
                    shutil.copy(whole, copy.with_name(f"{copy.name}{ending}"))
            found = known_or_refused(copy)
            if found is not None:
                opened += 1
                # Seven are written concurrently, and the next seven after all of these.
                assert {f"company {each}" for each in range(last - last % 7)} <= found.keys()
        assert opened > 0
    finally:
        process.kill()
        process.communicate()


@pytest.mark.real
def test_a_journal_is_read_while_it_is_written(tmp_path: Path) -> None:
    path, process = tmp_path / "journal", writer(tmp_path / "journal", 0)
    try:
        for _ in range(30):
            last = committed(process, 15)
            found = {each.request.company_id for each in read_journal(path)}
            assert {f"company {each}" for each in range(last - last % 7)} <= found
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate()
