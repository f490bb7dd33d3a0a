"""Several periods per company, external syncs, and 20 % 5xx: each reported success must be ours, or be marked adopted.

Counted at an independent server. By hand, for 20 seeds: python -m tests.simulations.ours --seeds 20
"""

import argparse
import asyncio
import json
import logging
import sys
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random

from codat_commerce_async import CodatCommerce
from codat_commerce_async.errors import CodatError, OutcomeUnknownError
from codat_commerce_async.simulator.virtual_time import loop_wall_clock, run_in_virtual_time
from codat_commerce_async.syncing.request import SyncRequest
from tests.support.independent import IndependentServer, StartedSync

__all__ = ["Summary", "ours"]

_FIRST = datetime(2024, 1, 1, tzinfo=UTC)
_EXTERNAL_WITHIN = 900.0


@dataclass
class Summary:
    """What the outcomes of a run were, compared with the server; `wrong` lists what must not have happened."""

    seed: int
    outcomes: int = 0
    ok: int = 0
    adopted: int = 0
    unknown: int = 0
    other: int = 0
    not_ours: int = 0
    shared: int = 0
    wrong_range: int = 0
    doubled: int = 0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"seed {self.seed}: {self.outcomes} outcomes, {self.ok} ok, {self.adopted / self.outcomes:.2%} adopted, "
            f"{self.unknown / self.outcomes:.2%} unknown, {self.other} other; {self.not_ours} not ours, "
            f"{self.shared} shared, {self.wrong_range} adopted ranges, {self.doubled} doubled"
            + "".join(f"\n  {each}" for each in self.wrong)
        )


@dataclass
class _Result:
    """One outcome: `sync_id` is None when none was reported."""

    request: SyncRequest
    sync_id: str | None
    ok: bool
    adopted: bool
    error: CodatError | None


def ours(seed: int, companies: int, *, periods: int = 4, at_once: bool = False) -> Summary:
    """Sync that many periods of that many companies, by `run_many` or, `at_once`, all periods of a company together."""
    return run_in_virtual_time(_ours(seed, companies, periods, at_once=at_once))


async def _ours(seed: int, companies: int, periods: int, *, at_once: bool) -> Summary:
    random, clock = Random(seed), loop_wall_clock()
    server = IndependentServer(random, clock, fails=0.2, whole_seconds=seed % 2 == 1)
    ids = [f"company-{number}" for number in range(companies)]
    requests = [_request(company_id, number) for number in range(periods) for company_id in ids]
    loop = asyncio.get_running_loop()
    for company_id in ids:
        for _ in range(random.choice((0, 0, 1, 2))):
            loop.call_later(random.uniform(0.0, _EXTERNAL_WITHIN), server.start, company_id, None, None)
    log = _Adoptions()
    logger = logging.getLogger("codat_commerce_async")
    logger.addHandler(log)
    try:
        async with CodatCommerce("key", transport=server, wall_clock=clock, random=random) as codat:
            if at_once:
                results = await asyncio.gather(*(_start_and_wait(codat, request, log) for request in requests))
            else:
                results = await _run_many(codat, requests)
    finally:
        logger.removeHandler(log)
    return _check(seed, server, results)


def _request(company_id: str, number: int) -> SyncRequest:
    if number == 0:
        return SyncRequest(company_id=company_id)
    start = _FIRST + timedelta(days=number)
    return SyncRequest(company_id=company_id, start=start, finish=start + timedelta(days=1))


async def _run_many(codat: CodatCommerce, requests: list[SyncRequest]) -> list[_Result]:
    async with codat.sync.run_many(requests) as run:
        outcomes = await run.results()
    assert run.report.adopted == sum(outcome.adopted for outcome in outcomes)
    return [
        _Result(
            outcome.request,
            outcome.status.sync_id if outcome.status else None,
            outcome.ok,
            outcome.adopted,
            outcome.error,
        )
        for outcome in outcomes
    ]


async def _start_and_wait(codat: CodatCommerce, request: SyncRequest, log: "_Adoptions") -> _Result:
    try:
        handle = await codat.sync.start(request.company_id, date_range=request.date_range)
        status = await codat.sync.wait(handle)
    except CodatError as error:
        return _Result(request, None, False, False, error)
    return _Result(request, status.sync_id, status.succeeded, status.sync_id in log.sync_ids, None)


class _Adoptions(logging.Handler):
    """The sync ids that were logged as adopted."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.sync_ids: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        words = record.getMessage().split()
        if words[:2] == ["adopted", "sync"]:
            self.sync_ids.add(words[2])


def _check(seed: int, server: IndependentServer, results: list[_Result]) -> Summary:
    summary, syncs = Summary(seed, outcomes=len(results)), {sync.sync_id: sync for sync in server.syncs}
    for result in results:
        summary.ok += result.ok
        summary.adopted += result.adopted
        summary.unknown += isinstance(result.error, OutcomeUnknownError)
        summary.other += result.error is not None and not isinstance(result.error, OutcomeUnknownError)
        if result.sync_id is not None:
            _check_one(result, syncs[result.sync_id], summary)
    for sync_id, times in Counter(result.sync_id for result in results if result.sync_id).items():
        if times > 1:
            summary.shared += 1
            summary.wrong.append(f"{sync_id} was assigned to {times} requests")
    started = Counter((sync.company_id, sync.period) for sync in server.syncs if sync.key is not None)
    for (company_id, period), times in started.items():
        if times > 1:
            summary.doubled += 1
            summary.wrong.append(f"{company_id} was started {times} times for {period}")
    return summary


def _check_one(result: _Result, sync: StartedSync, summary: Summary) -> None:
    is_ours = sync.company_id == result.request.company_id and sync.key is not None and _covers(sync, result.request)
    if result.ok and not result.adopted and not is_ours:
        summary.not_ours += 1
        summary.wrong.append(f"{result.request} reports {sync}")
    if result.adopted and result.request.date_range is not None and not is_ours:
        summary.wrong_range += 1
        summary.wrong.append(f"{result.request} adopted {sync}")


def _covers(sync: StartedSync, request: SyncRequest) -> bool:
    period = json.loads(sync.period or "{}").get("dateRange")
    if period is None or request.date_range is None:
        return period is None and request.date_range is None
    return tuple(datetime.fromisoformat(period[name]) for name in ("start", "finish")) == request.date_range


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--companies", type=int, default=500)
    arguments = parser.parse_args()
    verdicts = []
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        for at_once in (False, True):
            summary = ours(seed, arguments.companies, at_once=at_once)
            verdicts.append(summary)
            sys.stdout.write(f"{'at once' if at_once else 'run_many'}, {summary}\n")
            sys.stdout.flush()
    outcomes = sum(summary.outcomes for summary in verdicts)
    wrong = sum(len(summary.wrong) for summary in verdicts)
    adopted = sum(summary.adopted for summary in verdicts) / outcomes
    unknown = sum(summary.unknown for summary in verdicts) / outcomes
    sys.stdout.write(f"in all: {outcomes} outcomes, {adopted:.2%} adopted, {unknown:.2%} unknown, {wrong} wrong\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
