"""`simulate`: serve a simulated Codat until ctrl-C or SIGTERM."""

import asyncio
import shlex
from collections.abc import Sequence
from contextlib import AsyncExitStack

from codat_commerce_async._core.text import format_count
from codat_commerce_async.cli._args import PROGRAM, SimulateOptions
from codat_commerce_async.cli._exit import EXIT_OK, EXIT_USAGE, CommandError
from codat_commerce_async.cli._files import write_text
from codat_commerce_async.simulator import FaultPlan, Simulator, WebhookSender
from codat_commerce_async.simulator._post import http_post

__all__ = ["deliver_webhooks", "simulate", "sync_arguments"]

_MAX_LISTED = 10
_WEBHOOK_INTERVAL = 0.5


async def simulate(options: SimulateOptions) -> int:
    """Serve the simulator until ctrl-C or SIGTERM, which is not a failure."""
    faults = FaultPlan(rate=options.faults, seed=options.seed)
    simulator = Simulator(
        seed=options.seed, speed=options.speed, port=options.port, faults=faults, outcomes=options.outcomes
    )
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(simulator)
        except OSError as error:
            raise CommandError(f"port {options.port} cannot be used: {error.strerror}", EXIT_USAGE) from None
        await _serve(simulator, options)
    return EXIT_OK


async def _serve(simulator: Simulator, options: SimulateOptions) -> None:
    """Add the companies, print how to use the simulator, and wait until cancelled."""
    company_ids = [simulator.add_linked_company() for _ in range(options.companies)]
    if options.list_to is not None:
        write_text(options.list_to, "".join(f"{company_id}\n" for company_id in company_ids))
    companies = format_count(options.companies, "company", "companies")
    _print(
        f"Serving a simulated Codat with {companies} until ctrl-C or SIGTERM. Overview: {simulator.url}/",
        "In another terminal:",
        "",
        f"export CODAT_BASE_URL={simulator.url}",
        f"export CODAT_API_KEY={simulator.api_key}",
        f"{PROGRAM} sync {sync_arguments(company_ids, options.list_to)}",
        "",
    )
    try:
        await deliver_webhooks(simulator, options)
    except asyncio.CancelledError:
        syncs = sum(simulator.syncs_started(company_id) for company_id in company_ids)
        _print(f"stopped after {format_count(syncs, 'sync')}")


async def deliver_webhooks(simulator: Simulator, options: SimulateOptions) -> None:
    """Post the simulator's webhooks, if there is a URL for them, until cancelled."""
    if options.webhooks is None or options.secret is None:
        await asyncio.get_running_loop().create_future()
        return
    async with http_post(options.webhooks) as post:
        sender = WebhookSender(simulator, post, options.secret)
        while True:
            await sender.deliver()
            await asyncio.sleep(_WEBHOOK_INTERVAL)


def sync_arguments(company_ids: Sequence[str], list_to: str | None) -> str:
    """Return the arguments of the sync command for these companies."""
    if list_to is not None:
        return f"--from {shlex.quote(list_to)}"
    more = len(company_ids) - _MAX_LISTED
    left_out = f"   # and {more} more; --list FILE writes all ids to a file" if more > 0 else ""
    return " ".join(company_ids[:_MAX_LISTED]) + left_out


def _print(*lines: str) -> None:
    print(*lines, sep="\n", flush=True)
