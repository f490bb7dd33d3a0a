"""A process that opens a journal (OPEN), reads it (READ), or is killed during a write (DIE).

`python -m tests.support.journaling ACTION PATH [ACTION PATH ...]` prints the result or the error of each action.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from codat_commerce_async.errors import JournalError
from codat_commerce_async.models.sync import SyncStatus
from codat_commerce_async.syncing._journal.writer import JournalWriter
from codat_commerce_async.syncing.journal import read_journal
from codat_commerce_async.syncing.request import SyncRequest

OTHER_USER = 65534


async def open_and_close(path: str) -> None:
    journal = await JournalWriter.open(path)
    await journal.close()


async def write_and_die(path: str) -> None:
    """Write fifty entries, and kill this process during the next write."""
    journal = await JournalWriter.open(path)
    for number in range(50):
        await journal.record_start(SyncRequest(company_id=str(number)), "a key", 1.0)
    writing = asyncio.ensure_future(journal.record_start(SyncRequest(company_id="the last"), "a key", 1.0))
    os.kill(os.getpid(), signal.SIGKILL)
    await writing


def main(*arguments: str) -> None:
    # Load the modules now: only root may be able to read them.
    Path("/").as_uri()
    SyncStatus.from_dict({})
    # Root has all permissions.
    if "DIE" not in arguments and os.geteuid() == 0:
        os.setgroups([])
        os.setgid(OTHER_USER)
        os.setuid(OTHER_USER)
    for action, path in zip(arguments[::2], arguments[1::2], strict=True):
        act(action, path)


def act(action: str, path: str) -> None:
    try:
        if action == "OPEN":
            asyncio.run(open_and_close(path))
        elif action == "DIE":
            asyncio.run(write_and_die(path))
        else:
            sys.stdout.write(f"{len(list(read_journal(path)))} entries\n")
    except JournalError as error:
        sys.stdout.write(f"{error}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
