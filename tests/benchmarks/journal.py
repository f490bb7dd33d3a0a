"""The speed of the journal: commits per second, the delay by readers, and the time to resume and to report.

python tests/benchmarks/journal.py [--rows 40000] [--directory DIRECTORY]
"""

# ruff: noqa: T201 - a command that prints
import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from codat_commerce_async.cli import main as command_line
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.syncing._journal.file import JournalFile
from codat_commerce_async.syncing._journal.writer import JournalWriter
from codat_commerce_async.syncing._queue import WorkQueue
from codat_commerce_async.syncing.journal import JournalEntry
from codat_commerce_async.syncing.request import SyncRequest

__all__ = ["commits_per_second", "report", "resume", "seconds_per_commit"]

READER = """
import sys
from codat_commerce_async.syncing.journal import read_journal

while True:
    print(sum(1 for _ in read_journal(sys.argv[1])), flush=True)
"""
KEY = "6d3f4b0e-5a3c-4a52-8f0c-0b1f3a1c0001"


async def commits_per_second(path: Path, at_once: int, entries: int) -> float:
    """Commit that many entries with that many tasks, each of which awaits one before the next."""
    journal, numbers = await JournalWriter.open(path), iter(range(entries))

    async def write() -> None:
        for number in numbers:
            await journal.record_start(SyncRequest(company_id=f"company {number:08}"), KEY, float(number))

    began = time.perf_counter()
    await asyncio.gather(*(write() for _ in range(at_once)))
    seconds = time.perf_counter() - began
    await journal.close()
    return entries / seconds


def seconds_per_commit(path: Path, commits: int, *, while_read: bool) -> list[float]:
    """Return how long each of that many commits takes, from the shortest to the longest.

    With `while_read`, another process reads all entries and the counts again and again meanwhile.
    """
    file = JournalFile.open(path)
    reader = _start_reader(path) if while_read else None
    seconds = []
    try:
        for number in range(commits):
            began = time.perf_counter()
            with file.transaction():
                file.write(JournalEntry(SyncRequest(company_id=f"company {number:08}"), "starting", KEY, float(number)))
            seconds.append(time.perf_counter() - began)
            # A run commits when something has happened. A writer without a pause would leave the reader no time.
            time.sleep(0.005)
    finally:
        file.close()
        if reader is not None:
            assert reader.poll() is None, "the journal was not read during all commits"
            reader.kill()
            reader.communicate()
    return sorted(seconds)


def _start_reader(path: Path) -> "subprocess.Popen[bytes]":
    reader = subprocess.Popen([sys.executable, "-c", READER, str(path)], stdout=subprocess.PIPE)  # noqa: S603 - this interpreter and this file
    assert reader.stdout is not None
    reader.stdout.readline()
    return reader


def fill(path: Path, rows: int) -> None:
    """Write that many entries of running syncs."""
    file = JournalFile.open(path)
    with file.transaction():
        file.begin_run("a night", 0.0)
    for start in range(0, rows, 1000):
        with file.transaction():
            for number in range(start, min(start + 1000, rows)):
                request = SyncRequest(company_id=f"company {number:08}")
                handle = SyncHandle(company_id=request.company_id, commerce_sync_id=f"{number:036}")
                file.write(JournalEntry(request, "running", KEY, float(number), handle))
    file.close()


async def resume(path: Path) -> tuple[float, float, float]:
    """Return the seconds to open the journal, to resume all entries, and the longest block of the event loop."""
    began = time.perf_counter()
    journal = await JournalWriter.open(path)
    opened = time.perf_counter()
    queue, longest = WorkQueue([], lambda company_id: None, lambda: None), 0.0

    async def beat() -> None:
        nonlocal longest
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - before - 0.001)

    beating = asyncio.create_task(beat())
    await asyncio.sleep(0)
    async for entries in journal.unfinished():
        for entry in entries:
            queue.resume(entry)
    seconds = time.perf_counter() - opened
    await asyncio.sleep(0)
    beating.cancel()
    await journal.close()
    return opened - began, seconds, longest


def report(path: Path) -> float:
    """Return the seconds of the processor that it takes to report all entries as a page."""
    began = time.process_time()
    exit_status = command_line(["report", str(path), "--run", "a night", "--html", str(path.with_suffix(".html"))])
    assert exit_status == 0
    return time.process_time() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--directory", type=Path, help="directory of the journals (default: the temporary directory)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as name:
        for at_once, entries in ((1, 300), (16, 1000), (300, 6000)):
            rate = asyncio.run(commits_per_second(Path(name) / f"commits {at_once}", at_once, entries))
            print(f"{at_once} at once: {rate:.0f} entries per second")
        for rows in (arguments.rows // 4, arguments.rows):
            fill(Path(name) / f"resume {rows}", rows)
            opening, resuming, longest = asyncio.run(resume(Path(name) / f"resume {rows}"))
            for while_read in (False, True):
                seconds = seconds_per_commit(Path(name) / f"resume {rows}", 300, while_read=while_read)
                shown = f"median {seconds[150] * 1e3:.1f} ms, 99 % {seconds[297] * 1e3:.1f} ms"
                reading = "read by another process" if while_read else "not read"
                print(f"{rows} rows, {reading}: a commit takes {shown}, at most {seconds[-1] * 1e3:.1f} ms")
            print(f"{rows} rows: opened in {opening:.2f} s, resumed in {resuming:.2f} s, loop busy {longest:.3f} s")
            print(f"{rows} rows: reported as a page in {report(Path(name) / f'resume {rows}'):.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
