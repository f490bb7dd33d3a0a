"""A worker of a task queue that is killed as soon as it has queued a ticket again, before it acknowledges the old one.

python -m tests.support.killed_worker ENGINE QUEUE_URL CODAT_URL
"""

import asyncio
import os
import signal
import sys

from codat_commerce_async import CodatCommerce, SyncTicket
from codat_commerce_async.contrib import procrastinate, taskiq
from examples import night_on_procrastinate, night_on_taskiq

__all__: list[str] = []


def _die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def _procrastinate(url: str, codat: CodatCommerce) -> None:
    app = night_on_procrastinate.new_app(url)

    class Tasks(procrastinate.SyncTasks):
        async def _defer(self, ticket: SyncTicket, seconds: float, connection: object | None) -> bool:
            await super()._defer(ticket, seconds, connection)
            _die()
            return True

    async with app.open_async():
        await Tasks(app, on_outcome=_die).run_worker(codat)


async def _taskiq(url: str, codat: CodatCommerce) -> None:
    class Tasks(taskiq.SyncTasks):
        async def enqueue(self, ticket: SyncTicket) -> None:
            await super().enqueue(ticket)
            _die()

    await Tasks(night_on_taskiq.new_broker(url), on_outcome=_die, slice_seconds=0.2).run_worker(codat)


async def main(engine: str, url: str, codat_url: str) -> None:
    """Run the worker until it is killed."""
    async with CodatCommerce("simulator-key", base_url=codat_url) as codat:
        await {"procrastinate": _procrastinate, "taskiq": _taskiq}[engine](url, codat)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
