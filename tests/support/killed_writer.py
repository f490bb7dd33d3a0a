"""A process that writes a journal until it is killed, and prints the number of each committed entry.

`python -m tests.support.killed_writer PATH FIRST`
"""

import asyncio
import sys

from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.syncing._journal.writer import JournalWriter, RunOptions
from codat_commerce_async.syncing.request import SyncRequest


async def write(path: str, first: int) -> None:
    journal, number = await JournalWriter.open(path, RunOptions(run_id="a night")), first

    async def one(number: int) -> None:
        request = SyncRequest(company_id=f"company {number}")
        await journal.record_start(request, f"key {number}", 1.0)
        await journal.record_running(request, SyncHandle(company_id=request.company_id, sync_id=f"sync {number}"))
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()

    while True:
        await asyncio.gather(*(one(number + further) for further in range(7)))
        number += 7


if __name__ == "__main__":
    asyncio.run(write(sys.argv[1], int(sys.argv[2])))
