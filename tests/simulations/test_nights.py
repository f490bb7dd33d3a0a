"""Three nights on one journal, the second of which is killed, read by another process throughout."""

import asyncio
import sys
import time
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import pytest

from codat_commerce_async import Journal
from codat_commerce_async.simulator import RequestQuota, Simulator

ROOT = Path(__file__).parents[2]
SPEED = 30.0
COMPANIES = 60
READER = """
import asyncio, sys
from codat_commerce_async import Journal, JournalError

async def main():
    reads = 0
    while True:
        journal = Journal.open(sys.argv[1])
        try:
            counts = [len(await journal.entries(run.run_id)) for run in await journal.runs()]
        except JournalError as error:
            # The file does not exist before the first night.
            if reads:
                raise
            counts = []
        reads += bool(counts)
        print(reads, *counts, flush=True)
        await asyncio.sleep(0.02)

asyncio.run(main())
"""


async def start(*arguments: str) -> Process:
    return await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=PIPE, cwd=ROOT)


async def night(arguments: tuple[str, ...], run_id: str, *, killed_after: float | None = None) -> None:
    process = await start("-m", "tests.simulations.fanout_worker", *arguments, run_id)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    if killed_after is not None:
        await asyncio.sleep(killed_after)
        assert process.returncode is None, "the night had ended before it was killed"
        process.kill()
        await process.wait()
        return
    assert await process.wait() == 0


@pytest.mark.real
async def test_three_nights_on_one_journal_sync_each_company_once_per_night(tmp_path: Path) -> None:
    simulator = Simulator(
        seed=1,
        speed=SPEED,
        durations=lambda rng: rng.uniform(10.0, 90.0),
        outcomes={2000: 0.9, 5130: 0.1},
        quota=RequestQuota(per_day=None),
    )
    ids = [simulator.add_linked_company() for _ in range(COMPANIES)]
    path, names = tmp_path / "journal", tmp_path / "companies"
    names.write_text("\n".join(ids))
    started = []
    async with simulator:
        arguments = (simulator.url, str(SPEED), str(time.time()), str(path), str(tmp_path / "outcomes"), str(names))
        reader = await start("-c", READER, str(path))
        try:
            await night(arguments, "first")
            started.append([simulator.syncs_started(company_id) for company_id in ids])
            await night(arguments, "second", killed_after=1.5)
            async with Journal.open(path) as journal:
                unfinished = await journal.running("second")
                assert unfinished, "nothing was running when the process was killed"
            await night(arguments, "second")
            started.append([simulator.syncs_started(company_id) for company_id in ids])
            await night(arguments, "third")
            started.append([simulator.syncs_started(company_id) for company_id in ids])
            assert reader.returncode is None, "the reader failed"
        finally:
            reader.kill()
            output, _ = await reader.communicate()
    assert started == [[number] * COMPANIES for number in (1, 2, 3)]
    # Of each night, the reader has seen the beginning, some stages in between, and all syncs.
    reads = [[int(number) for number in line.split()[1:]] for line in output.splitlines()[:-1]]
    for number in range(3):
        seen = {counts[number] for counts in reads if len(counts) == number + 1}
        assert len(seen) > 5, f"night {number + 1} was read in these states only: {sorted(seen)}"
        assert max(seen) == COMPANIES
    assert reads == sorted(reads), "an entry has vanished"
    async with Journal.open(path) as journal:
        runs = await journal.runs()
        assert [(run.run_id, run.companies, run.has_ended) for run in runs] == [
            (name, COMPANIES, True) for name in ("first", "second", "third")
        ]
        for number, run in enumerate(runs):
            outcomes = await journal.outcomes(run.run_id)
            assert [one.company_id for one in outcomes] == ids
            codes = [one.status.sync_status_code for one in outcomes if one.status is not None]
            assert codes == [simulator.syncs(company_id)[number].final_code for company_id in ids]
            report = await journal.report(run.run_id)
            assert (report.started, report.completed, report.errors, report.running) == (COMPANIES, COMPANIES, 0, 0)
            assert sum(each.starts for each in await journal.per_minute(run.run_id)) >= COMPANIES * 0.5
