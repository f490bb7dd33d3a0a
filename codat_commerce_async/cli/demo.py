"""`demo`: sync a dozen companies of a simulated Codat that injects faults."""

import asyncio
import math
import sys
import time
from collections.abc import Callable
from random import Random

from codat_commerce_async.cli._args import PROGRAM, DemoOptions
from codat_commerce_async.cli._exit import EXIT_FAILED, EXIT_OK
from codat_commerce_async.cli._state import DisplayState, Row, Status
from codat_commerce_async.cli._summary import print_summary
from codat_commerce_async.cli._view import Output, run_with_view, view_for
from codat_commerce_async.cli.sync import follow
from codat_commerce_async.client import CodatCommerce
from codat_commerce_async.models.enums import ConnectionStatus
from codat_commerce_async.simulator import FaultKind, ScriptedSync, Simulator
from codat_commerce_async.simulator.virtual_time import VirtualTimeLoop, loop_wall_clock

__all__ = ["LOOP", "compare", "demo"]

# Virtual time, so that the same seed prints the same output on any machine.
LOOP = VirtualTimeLoop

_NAMES = (
    "Alder Bakery",
    "Birch Street Books",
    "Cedar & Sons",
    "Dogwood Cycles",
    "Elm Coffee Roasters",
    "Fir Tree Toys",
    "Ginkgo Ceramics",
    "Hazel Yarns",
    "Ivy Garden Supplies",
    "Juniper Outdoor",
    "Katsura Stationery",
    "Larch Furniture",
)
_SHOP, _LEDGER = "fztf", "gbol"
_WRITE_ERROR = 5130
# The faults of the requests for syncs, in the order of arrival.
_FAULTS = (
    None,
    FaultKind.LOST_AFTER,
    None,
    FaultKind.ERROR_AFTER,
    None,
    FaultKind.BAD_GATEWAY,
    None,
    FaultKind.RATE_LIMITED,
)
_TIMEOUT = 600.0
_FRAMES_PER_SECOND = 10


async def demo(options: DemoOptions) -> int:
    """Set up a dozen companies, sync them all at once, and compare the results with the simulator.

    Two syncs fail on purpose, which does not fail the demo. The exit status is 1 if a sync ended differently than the
    simulator planned, or was started twice.
    """
    output, rng = Output.to(sys.stdout), Random(options.seed)  # noqa: S311 - repeatable, no secret
    async with Simulator(seed=options.seed, now=loop_wall_clock(), durations=_duration) as simulator:
        state = DisplayState([], asyncio.get_running_loop().time, simulated=True)
        client = CodatCommerce(
            simulator.api_key, base_url=simulator.url, hooks=state.hooks, wall_clock=simulator.now, random=rng
        )
        output.print(
            f"A simulated Codat, at {options.speed:g} times the speed of real time; all times are simulated. "
            "Setting up ..."
        )
        with state.capture_log():
            async with client as codat:
                company_ids = await _set_up(codat, state)
                await _plan_failures(codat, simulator, rng.sample(company_ids, 2))
                number = len(company_ids)
                output.print(f"{number} companies with {2 * number} connections, {state.requests} requests. Syncing:")
                work = follow(state, codat.sync.run_many(company_ids, timeout=_TIMEOUT))
                interval = options.speed / _FRAMES_PER_SECOND
                await run_with_view(work, view_for(state, output), interval, after_draw=_catch_up_with(options.speed))
        print_summary(state, output)
        return compare(state, simulator, output)


async def _set_up(codat: CodatCommerce, state: DisplayState) -> list[str]:
    # One after the other: the simulator's random numbers depend on the order of the companies.
    for name in _NAMES:
        company = await codat.advanced_controls.create_company(name=name)
        state.add(Row(company.id, name))
    company_ids = [row.company_id for row in state.rows]
    async with asyncio.TaskGroup() as group:
        for company_id in company_ids:
            group.create_task(_connect(codat, company_id))
    return company_ids


async def _connect(codat: CodatCommerce, company_id: str) -> None:
    for platform_key in (_SHOP, _LEDGER):
        connection = await codat.connections.create(company_id, platform_key=platform_key)
        await codat.connections.update_authorization(company_id, connection.id, {"token": "of the merchant"})


async def _plan_failures(codat: CodatCommerce, simulator: Simulator, failing: list[str]) -> None:
    unwritten, unlinked = failing
    simulator.script_sync(unwritten, ScriptedSync(_WRITE_ERROR))
    [ledger] = [one async for one in codat.connections.list(unlinked) if one.integration_key == _LEDGER]
    await codat.connections.update_connection(unlinked, ledger.id, status=ConnectionStatus.UNLINKED)
    simulator.set_fault("request-sync", *_FAULTS)
    simulator.set_fault("get-sync-by-id", *[None] * 7, FaultKind.UNAVAILABLE)


def _duration(rng: Random) -> float:
    """Return the seconds that a sync takes: log-normal, with an upper bound to keep the demo short."""
    return min(45.0, max(4.0, rng.lognormvariate(math.log(14.0), 0.6)))


def _catch_up_with(speed: float) -> Callable[[], None]:
    """Return a function that sleeps until real time has caught up with virtual time.

    It blocks the loop on purpose: virtual time must not advance meanwhile.
    """
    virtual_start, real_start = asyncio.get_running_loop().time(), time.monotonic()

    def catch_up() -> None:
        due = real_start + (asyncio.get_running_loop().time() - virtual_start) / speed
        time.sleep(max(0.0, due - time.monotonic()))

    return catch_up


def compare(state: DisplayState, simulator: Simulator, output: Output) -> int:
    """Print whether the client's results are those of the simulator, and return the exit status."""
    mismatches = [row.name for row in state.rows if not _matches(row, simulator)]
    started = sum(simulator.syncs_started(row.company_id) for row in state.rows)
    failed = sum(row.status is Status.FAILED for row in state.rows)
    total = len(state.rows)
    if mismatches:
        lines = [f"Unexpected results: {', '.join(mismatches)}; {started} syncs were started for {total} companies."]
    else:
        lines = [
            f"{total} syncs requested, {started} started: none was lost or started twice, despite the faults.",
            f"{failed} failed, as planned. To do the same at Codat, set CODAT_API_KEY and run:",
            f"{PROGRAM} sync COMPANY_ID...",
        ]
    output.print("", *lines)
    return EXIT_FAILED if mismatches else EXIT_OK


def _matches(row: Row, simulator: Simulator) -> bool:
    syncs = simulator.syncs(row.company_id)
    return len(syncs) == 1 and row.result is not None and row.result.code == syncs[0].final_code
