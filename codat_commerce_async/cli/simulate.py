"""`simulate`: a Codat of one's own, served until ctrl-C."""

import asyncio
import sys

from codat_commerce_async.cli.ending import WELL
from codat_commerce_async.cli.parser import PROGRAM, Options
from codat_commerce_async.cli.screen import Screen
from codat_commerce_async.simulator import Simulator

__all__ = ["simulate"]


async def simulate(options: Options) -> int:
    """Serve the simulator; ctrl-C is how it is meant to end, and so no failure."""
    screen = Screen.of(sys.stdout)
    async with Simulator(seed=options.seed, speed=options.speed, port=options.port) as simulator:
        company_ids = [simulator.add_linked_company() for _ in range(options.companies)]
        screen.say(
            f"A simulated Codat with {options.companies} companies, until ctrl-C. In another terminal:",
            "",
            f"export CODAT_BASE_URL={simulator.url}",
            f"export CODAT_API_KEY={simulator.api_key}",
            f"{PROGRAM} sync {' '.join(company_ids)}",
            "",
        )
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            screen.say(f"stopped after {len(simulator.requests)} requests")
    return WELL
