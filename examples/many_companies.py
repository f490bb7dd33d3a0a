"""Sync many companies; one that fails does not stop the others, and what was interrupted goes on.

CODAT_API_KEY=... python examples/many_companies.py JOURNAL COMPANY_ID...

Run it again with the same journal after a crash or ctrl-C: nothing is started twice.
"""

import asyncio
import sys

from codat_commerce_async import CodatCommerce, RunProgress


async def main(journal: str, company_ids: list[str]) -> int:
    """Return the exit status: 0 when every sync went well."""
    async with (
        CodatCommerce.from_env() as codat,
        codat.sync.run_many(company_ids, journal=journal, on_progress=show) as run,
    ):
        failed = 0
        async for outcome in run:
            if not outcome.ok:
                failed += 1
                print(f"{outcome.company_id}: {outcome.error or outcome.status}")
    print(run.report)
    return 1 if failed else 0


def show(progress: RunProgress) -> None:
    """Say how far it has got, after each outcome."""
    left = "" if progress.seconds_left is None else f", about {progress.seconds_left:.0f} s left"
    print(f"{progress.report.completed} of {progress.total}, {progress.per_minute:.0f} a minute{left}")


if __name__ == "__main__":
    if len(sys.argv) < 3:  # noqa: PLR2004 - the script, the journal and a company
        sys.exit(__doc__)
    sys.exit(asyncio.run(main(sys.argv[1], sys.argv[2:])))
