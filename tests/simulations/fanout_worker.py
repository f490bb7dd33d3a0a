"""A process that runs a fan-out with a journal, writes each outcome to a file, and may be killed at any moment.

`python -m tests.simulations.fanout_worker URL SPEED ORIGIN JOURNAL OUTCOMES COMPANIES [RUN_ID]`; the clock runs
SPEED times as fast as the real one since ORIGIN, COMPANIES is a file of ids.
"""

import asyncio
import sys
import time
from pathlib import Path
from typing import TextIO

from codat_commerce_async import CodatCommerce
from tests.simulations.worker import FastLoop


async def main(
    url: str, speed: float, origin: float, journal: str, outcomes: TextIO, ids: list[str], run_id: str | None
) -> None:
    codat = CodatCommerce("simulator-key", base_url=url, wall_clock=lambda: origin + (time.time() - origin) * speed)
    async with codat, codat.sync.run_many(ids, journal=journal, run_id=run_id, timeout=None) as run:
        print("ready", flush=True)  # noqa: T201 - the parent process waits for this line
        async for outcome in run:
            result = type(outcome.error).__name__ if outcome.error else "ended"
            outcomes.write(f"{outcome.company_id} {result}\n")
            outcomes.flush()


if __name__ == "__main__":
    url, speed, origin, journal, outcomes, companies, *run_ids = sys.argv[1:]
    with (
        Path(outcomes).open("a") as file,
        asyncio.Runner(loop_factory=lambda: FastLoop(float(speed))) as runner,
    ):
        ids = Path(companies).read_text().split()
        runner.run(main(url, float(speed), float(origin), journal, file, ids, run_ids[0] if run_ids else None))
