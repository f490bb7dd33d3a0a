"""One poll of a sync by its handle."""

import pytest

from codat_commerce_async import CodatCommerce, Quota, StatusError, SyncHandle
from codat_commerce_async.simulator import Simulator
from codat_commerce_async.simulator.in_memory import InMemoryTransport
from tests.support.scripted import KEY, client_of, respond


async def test_a_poll_returns_the_status_and_the_id_with_which_the_handle_is_completed() -> None:
    simulator = Simulator(seed=1)
    company_id = simulator.add_linked_company()
    async with CodatCommerce(KEY, transport=InMemoryTransport(simulator), quota=Quota.unlimited()) as codat:
        handle = await codat.sync.start(company_id)
        assert handle.sync_id is None
        first = await codat.sync.poll(handle)
        assert first is not None
        assert first.sync_id is not None
        assert first.commerce_sync_id == handle.commerce_sync_id
        learned = handle.with_sync_id(first.sync_id)
        before = len(simulator.requests)
        second = await codat.sync.poll(learned)
        assert second is not None
        assert second.sync_id == learned.sync_id
        assert len(simulator.requests) == before + 1


async def test_a_poll_raises_the_error_of_its_request_and_takes_handles_only() -> None:
    codat, _ = client_of(respond(403))
    with pytest.raises(TypeError, match="handle must be a SyncHandle"):
        await codat.sync.poll("company")  # type: ignore[arg-type]
    with pytest.raises(StatusError):
        await codat.sync.poll(SyncHandle(company_id="company-1", sync_id="sync-1"))
