"""The transport without a socket does what the real one does at the same simulator, fault by fault."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from codat_commerce_async import CodatCommerce
from codat_commerce_async._core.credentials import Credentials
from codat_commerce_async._core.transport import AiohttpTransport, Request, Response, Transport
from codat_commerce_async.errors import (
    AuthenticationError,
    ClientClosedError,
    CodatError,
    RequestTimeoutError,
    TransportError,
)
from codat_commerce_async.policies import Timeouts
from codat_commerce_async.simulator import Fault, FaultKind, Simulator
from codat_commerce_async.simulator.in_memory import InMemoryTransport
from codat_commerce_async.simulator.virtual_time import loop_wall_clock

KEY = "4f5a3c1e-4f5a-4c1e-8f5a-4f5a3c1e4f5a"
TIMEOUTS = Timeouts(read=0.2)
FAULTS = [None, *(Fault(kind, seconds=0.5) for kind in FaultKind)]


async def result_of(sending: Awaitable[Response]) -> object:
    """Return the result of a request, in values that can be compared."""
    try:
        response = await sending
    except TransportError as error:
        return type(error), error.message, error.sent, error.retryable
    headers = {name: response.headers.get(name) for name in ("content-type", "RETRY-AFTER", "Location")}
    return response.status, response.body, headers


async def exchange(
    fault: Fault | None, transport_to: Callable[[Simulator], Transport], *, times: int = 2
) -> tuple[list[object], list[int | None], int]:
    """Return the results of the same request, sent so often, and what the simulator recorded."""
    async with Simulator(seed=3, now=lambda: 1_705_305_600.0) as simulator:
        company_id = simulator.add_linked_company()
        simulator.set_fault("*", fault)
        transport = transport_to(simulator)
        request = Request(
            "POST",
            f"/companies/{company_id}/sync/commerce/latest",
            {"Content-Type": "application/json", "Idempotency-Key": KEY},
            b"{}",
        )
        outcomes = [await result_of(transport.send(request, TIMEOUTS)) for _ in range(times)]
        await transport.aclose()
        return outcomes, [seen.status for seen in simulator.requests], simulator.syncs_started(company_id)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.kind.value if fault else "none")
async def test_a_fault_shows_as_it_does_on_a_connection(fault: Fault | None) -> None:
    credentials = Credentials("simulator-key", None)
    real = await exchange(fault, lambda simulator: AiohttpTransport(simulator.url, credentials))
    assert await exchange(fault, InMemoryTransport) == real


@pytest.mark.virtual_time
@pytest.mark.parametrize(("latency", "acted"), [(0.3, 0), (0.21, 0), (0.19, 1)])
async def test_a_request_that_times_out_was_processed_if_it_had_arrived(latency: float, acted: int) -> None:
    simulator = Simulator(now=loop_wall_clock())
    company_id = simulator.add_linked_company()
    transport = InMemoryTransport(simulator, latency=lambda: 2 * latency)
    request = Request("POST", f"/companies/{company_id}/sync/commerce/latest", {}, None)
    with pytest.raises(RequestTimeoutError):
        await transport.send(request, TIMEOUTS)
    # The way in takes half of it: one that times out on the way has not been acted on.
    assert simulator.syncs_started(company_id) == acted
    assert asyncio.get_running_loop().time() == pytest.approx(0.2)


@pytest.mark.virtual_time
async def test_an_exchange_takes_its_latency() -> None:
    simulator = Simulator(now=loop_wall_clock())
    simulator.add_linked_company()
    async with CodatCommerce("key", transport=InMemoryTransport(simulator, latency=lambda: 1.5)) as codat:
        await codat.advanced_controls.list_companies()
    assert asyncio.get_running_loop().time() == 1.5


@pytest.mark.virtual_time
async def test_another_key_is_refused() -> None:
    transport = InMemoryTransport(Simulator(now=loop_wall_clock()), api_key="another")
    async with CodatCommerce("key", transport=transport) as codat:
        with pytest.raises(AuthenticationError):
            await codat.advanced_controls.list_companies()


@pytest.mark.virtual_time
async def test_a_closed_transport_sends_nothing() -> None:
    simulator = Simulator(now=loop_wall_clock())
    transport = InMemoryTransport(simulator)
    await transport.aclose()
    with pytest.raises(ClientClosedError) as raised:
        await transport.send(Request("GET", "/companies", {}, None), TIMEOUTS)
    assert isinstance(raised.value, CodatError)
    assert simulator.requests == ()
