"""A fan-out whose disk fills up during the run, and which resumes when there is room again; nothing must be lost.

By hand, as root, on a disk that is really full:
mount -t tmpfs -o size=256k none DIRECTORY && python -m tests.simulations.fanout_full_disk DIRECTORY --grow
"""

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path

from codat_commerce_async.errors import JournalError
from codat_commerce_async.simulator.virtual_time import run_in_virtual_time
from codat_commerce_async.syncing.journal import read_journal
from tests.support.fans import Codat


async def fan_out(directory: Path, companies: int, limit: int | None, *, grow: bool) -> dict[str, object]:
    """Return the error, the counts at that time, and the faults after the resumed run."""
    codat, journal = Codat(companies), directory / "journal"
    error = ""
    if limit is not None:
        # A module that is imported under the limit would leave a truncated .pyc file.
        sys.dont_write_bytecode = True
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    async with codat.client() as client:
        run = client.sync.run_many(codat.ids, journal=journal)
        outcomes = []
        try:
            async with run:
                async for outcome in run:
                    outcomes.append(outcome)  # noqa: PERF401 - the outcomes before the error count
        except JournalError as raised:
            error = str(raised)
        unaccounted = codat.unaccounted(run, outcomes)
        started, ended = len(codat.started), len(outcomes)
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        if grow:
            subprocess.run(["mount", "-o", "remount,size=64m", str(directory)], check=True)  # noqa: ASYNC221, S603, S607 - by hand
        async with client.sync.run_many(codat.ids, journal=journal) as run:
            outcomes += await run.results()
    finished = {entry.request.company_id for entry in read_journal(journal) if entry.has_status}
    reported = [outcome.company_id for outcome in outcomes]
    return {
        "error": error,
        "started": started,
        "ended": ended,
        "unaccounted": len(unaccounted),
        "started_twice": len(codat.started_twice),
        "reported_twice": len(reported) - len(set(reported)),
        "unfinished": len(set(codat.ids) - finished),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("directories", type=Path, nargs="+", help="one for each fan-out")
    parser.add_argument("--companies", type=int, default=1000)
    parser.add_argument("--limits", type=int, nargs="+", help="bytes that a file of each may have, at first")
    parser.add_argument("--grow", action="store_true", help="the directory is a tmpfs; make it larger in the end")
    arguments = parser.parse_args()
    limits = arguments.limits or [None] * len(arguments.directories)
    for directory, limit in zip(arguments.directories, limits, strict=True):
        work = fan_out(directory, arguments.companies, limit, grow=arguments.grow)
        sys.stdout.write(json.dumps(run_in_virtual_time(work)) + "\n")


if __name__ == "__main__":
    main()
