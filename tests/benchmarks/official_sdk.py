"""Compare what this library and Codat's official SDK do, on the simulator.

pip install codat-sync-for-commerce==6.1.0
python tests/benchmarks/official_sdk.py
"""

# ruff: noqa: T201 - it prints for people
import asyncio
import base64
import importlib
import statistics
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from codat_commerce_async import CodatCommerce
from codat_commerce_async.simulator import Fault, FaultKind, FaultPlan, Simulator

STARTS = 20
IMPORTS = 9
# Up to the resource whose methods start syncs, because this library imports most of its modules on first use.
OUR_CLIENT = "from codat_commerce_async import CodatCommerce; CodatCommerce('key').sync"
OFFICIAL_CLIENT = (
    "from codat_sync_for_commerce import CodatSyncCommerce; "
    "from codat_sync_for_commerce.models.shared import Security; "
    "CodatSyncCommerce(security=Security(auth_header='Basic a2V5')).sync"
)
FAULTS = {
    "the connection is lost after the start": Fault(FaultKind.LOST_AFTER),
    "a 503 after the start": Fault(FaultKind.ERROR_AFTER, status=503),
}

Start = Callable[[str], Awaitable[object]]


def official(simulator: Simulator) -> Any:
    """Return a client of the official SDK, with retries."""
    sdk = importlib.import_module("codat_sync_for_commerce")
    retries = importlib.import_module("codat_sync_for_commerce.utils.retries")
    shared = importlib.import_module("codat_sync_for_commerce.models.shared")
    backoff = retries.BackoffStrategy(10, 50, 1.5, 5_000)
    return sdk.CodatSyncCommerce(
        security=shared.Security(auth_header=f"Basic {base64.b64encode(simulator.api_key.encode()).decode()}"),
        server_url=simulator.url,
        retry_config=retries.RetryConfig("backoff", backoff, retry_connection_errors=True),
    )


async def start_all(simulator: Simulator, start: Start, fault: Fault) -> tuple[int, int]:
    """Start a sync of each company; the first requests end with the fault, after Codat has started the sync.

    Return how many starts were reported as such, and how many companies got two syncs.
    """
    simulator.set_faults(FaultPlan())
    companies = [simulator.add_linked_company() for _ in range(STARTS)]
    simulator.set_fault("request-sync", *[fault] * STARTS)
    results = await asyncio.gather(*map(start, companies), return_exceptions=True)
    reported = sum(not isinstance(result, BaseException) for result in results)
    return reported, sum(simulator.syncs_started(company_id) > 1 for company_id in companies)


def time_to_client(statements: str) -> float:
    """Return the median CPU time in milliseconds in which a new process imports and creates a client."""
    code = f"import time; {statements}; print(time.process_time())"
    times = [
        float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)  # noqa: S603
        for _ in range(IMPORTS)
    ]
    return statistics.median(times) * 1000


async def unknown_value(simulator: Simulator, read: Start) -> str:
    """Return the result of a response with enum values that are not in the specification."""
    company_id = simulator.add_linked_company()
    simulator.set_fault("list-connections", FaultKind.NEW_ENUM_VALUES)
    try:
        await read(company_id)
    except Exception as error:  # noqa: BLE001 - its class is the result
        return f"raises {type(error).__name__}"
    return "read"


async def body_of_set_configuration(simulator: Simulator, write: Start) -> str:
    """Return whether the request that sets a configuration has a body."""
    company_id = simulator.add_linked_company()
    try:
        await write(company_id)
    except Exception as error:  # noqa: BLE001 - without a body, Codat refuses the request
        print(f"  set_configuration raised {type(error).__name__}: {str(error)[:60]}")
    request = next(one for one in reversed(simulator.requests) if one.operation == "set-configuration")
    return "sent" if request.body_hash else "not sent"


async def main() -> None:
    """Print the figures."""
    async with (
        Simulator(seed=1) as simulator,
        CodatCommerce(simulator.api_key, base_url=simulator.url) as codat,
    ):
        sdk = official(simulator)

        async def write_ours(company_id: str) -> None:
            configuration = await codat.advanced_controls.get_configuration(company_id)
            await codat.advanced_controls.set_configuration(company_id, configuration)

        async def read_ours(company_id: str) -> object:
            return await codat.connections.list(company_id)

        variants: dict[str, tuple[str, Start, Start, Start]] = {
            "this library": (OUR_CLIENT, codat.sync.start, write_ours, read_ours),
            "official SDK": (
                OFFICIAL_CLIENT,
                lambda company_id: sdk.sync.request_async(request={"company_id": company_id}),
                lambda company_id: sdk.advanced_controls.set_configuration_async(request={"company_id": company_id}),
                lambda company_id: sdk.connections.list_async(request={"company_id": company_id}),
            ),
        }
        for name, (statements, start, write, read) in variants.items():
            print(name)
            print(f"  CPU time to import and create a client: {time_to_client(statements):.0f} ms")
            print(f"  body of set_configuration: {await body_of_set_configuration(simulator, write)}")
            print(f"  unknown enum values: {await unknown_value(simulator, read)}")
            for label, fault in FAULTS.items():
                reported, twice = await start_all(simulator, start, fault)
                print(f"  {label}: {reported} of {STARTS} starts reported, {twice} companies with two syncs")


if __name__ == "__main__":
    asyncio.run(main())
