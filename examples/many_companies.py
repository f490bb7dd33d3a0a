"""Sync many companies: a failed company does not stop the run, and an interrupted run can be resumed.

CODAT_API_KEY=... python examples/many_companies.py JOURNAL COMPANY_ID...

After a crash or ctrl-C, run it again with the same journal: no sync is started twice.
"""

import asyncio
import sys

from codat_commerce_async import CodatCommerce, RunProgress


async def main(journal: str, company_ids: list[str]) -> int:
    """Return the exit status: 0 if every sync succeeded."""
    async with (
        CodatCommerce.from_env() as codat,
        codat.sync.run_many(company_ids, journal=journal, on_progress=show) as run,
    ):
        async for outcome in run:
            if not outcome.ok:
                print(f"{outcome.company_id}: {outcome.error or outcome.status}")
    report = run.report
    print(report)
    return 1 if report.failed + report.errors + report.already_failed else 0  # also what failed before a resume


def show(progress: RunProgress) -> None:
    """Print the progress after each outcome."""
    left = "" if progress.seconds_left is None else f", about {progress.seconds_left:.0f} s left"
    print(f"{progress.report.completed} of {progress.total}, {progress.per_minute:.0f} per minute{left}")


if __name__ == "__main__":
    if len(sys.argv) < 3:  # noqa: PLR2004 - the script, the journal and a company
        sys.exit(__doc__)
    sys.exit(asyncio.run(main(sys.argv[1], sys.argv[2:])))
