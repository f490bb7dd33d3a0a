"""`demo`: the library at work on a simulated Codat that does not make it easy."""

import asyncio
import math
import sys
import time
from collections.abc import Callable
from random import Random

from codat_commerce_async.cli._args import PROGRAM, DemoOptions
from codat_commerce_async.cli._exit import EXIT_FAILED, EXIT_OK
from codat_commerce_async.cli._state import Row, RunState, Status
from codat_commerce_async.cli._summary import print_summary
from codat_commerce_async.cli._view import Output, run_with_view, view_for
from codat_commerce_async.cli.sync import follow
from codat_commerce_async.client import CodatCommerce
from codat_commerce_async.models.enums import ConnectionStatus
from codat_commerce_async.simulator import FaultKind, ScriptedSync, Simulator
from codat_commerce_async.simulator.virtual_time import VirtualTimeLoop, loop_wall_clock

__all__ = ["LOOP", "compare", "demo"]

# Its time is simulated too, so that the same seed shows the same picture on any machine.
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
# What befalls the requests for syncs, in the order in which they arrive.
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
    """Set up a dozen companies, sync them all at once, and hold what the client saw against what happened.

    Two syncs fail on purpose, so failures are no reason for a bad exit status here: what is, is a sync that ended
    otherwise than the simulator had it in mind, or began twice.
    """
    output, chance = Output.to(sys.stdout), Random(options.seed)  # noqa: S311 - repeatable chance, no secret
    async with Simulator(seed=options.seed, now=loop_wall_clock(), durations=_duration) as simulator:
        state = RunState([], asyncio.get_running_loop().time, simulated=True)
        client = CodatCommerce(
            simulator.api_key, base_url=simulator.url, hooks=state.hooks, wall_clock=simulator.now, random=chance
        )
        output.print(f"A simulated Codat, for which time goes {options.speed:g} times as fast. Setting up ...")
        with state.capture_log():
            async with client as codat:
                company_ids = await _set_up(codat, state)
                await _make_it_hard(codat, simulator, chance.sample(company_ids, 2))
                number = len(company_ids)
                output.print(f"{number} companies with {2 * number} connections, {state.requests} requests. Go:")
                work = follow(state, codat.sync.run_many(company_ids, timeout=_TIMEOUT))
                interval = options.speed / _FRAMES_PER_SECOND
                await run_with_view(work, view_for(state, output), interval, after_draw=_pace(options.speed))
        print_summary(state, output)
        return compare(state, simulator, output)


async def _set_up(codat: CodatCommerce, state: RunState) -> list[str]:
    # One after the other, as the simulator's chances hang on a company's place in the order.
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


async def _make_it_hard(codat: CodatCommerce, simulator: Simulator, unlucky: list[str]) -> None:
    unwritten, unlinked = unlucky
    simulator.script_sync(unwritten, ScriptedSync(_WRITE_ERROR))
    [ledger] = [one async for one in codat.connections.list(unlinked) if one.integration_key == _LEDGER]
    await codat.connections.update_connection(unlinked, ledger.id, status=ConnectionStatus.UNLINKED)
    simulator.set_fault("request-sync", *_FAULTS)
    simulator.set_fault("get-sync-by-id", *[None] * 7, FaultKind.UNAVAILABLE)


def _duration(chance: Random) -> float:
    """Seconds that a sync takes: log-normal, but not so long that the demo would drag."""
    return min(45.0, max(4.0, chance.lognormvariate(math.log(14.0), 0.6)))


def _pace(speed: float) -> Callable[[], None]:
    """A function that waits until the real time has caught up with the loop's, which jumps.

    It holds the loop up on purpose: nothing may happen in the simulated world meanwhile.
    """
    loop_began, really_began = asyncio.get_running_loop().time(), time.monotonic()

    def catch_up() -> None:
        due = really_began + (asyncio.get_running_loop().time() - loop_began) / speed
        time.sleep(max(0.0, due - time.monotonic()))

    return catch_up


def compare(state: RunState, simulator: Simulator, output: Output) -> int:
    """Say whether what the client saw is what happened at the simulator; the exit status says so too."""
    wrong = [row.name for row in state.rows if not _as_it_was(row, simulator)]
    begun = sum(simulator.syncs_started(row.company_id) for row in state.rows)
    failed = sum(row.status is Status.FAILED for row in state.rows)
    total = len(state.rows)
    if wrong:
        lines = [f"Not as it should be: {', '.join(wrong)}; {begun} syncs began for {total} asked for."]
    else:
        lines = [
            f"{total} syncs asked for, {begun} begun: none lost and none twice, whatever went wrong on the way.",
            f"{failed} failed, as they were meant to. The same at Codat, with CODAT_API_KEY set:",
            f"{PROGRAM} sync COMPANY_ID...",
        ]
    output.print("", *lines)
    return EXIT_FAILED if wrong else EXIT_OK


def _as_it_was(row: Row, simulator: Simulator) -> bool:
    syncs = simulator.syncs(row.company_id)
    return len(syncs) == 1 and row.result is not None and row.result.code == syncs[0].final_code
