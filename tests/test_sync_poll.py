"""One poll of a sync by its handle."""

from collections.abc import Callable
from typing import Any

import pytest

from codat_commerce_async import CodatCommerce, Quota, StatusError, SyncHandle
from codat_commerce_async.resources.sync import SyncResource
from codat_commerce_async.simulator import Simulator
from codat_commerce_async.simulator.in_memory import InMemoryTransport
from tests.support.scripted import KEY, client_of, respond

HANDLE = SyncHandle(company_id="company-1", sync_id="sync-1")


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


async def test_a_poll_raises_the_error_of_its_request() -> None:
    codat, _ = client_of(respond(403))
    with pytest.raises(StatusError):
        await codat.sync.poll(HANDLE)


HOW_TO_MAKE_ONE = (
    r"; use that of sync\.start, or SyncHandle\(company_id=\.\.\., sync_id=\.\.\.\), "
    r"SyncHandle\.from_json\(text\) or SyncHandle\.from_token\(token, company_id\)$"
)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda sync: sync.poll("company"), r"^handle must be a SyncHandle \(got str\)" + HOW_TO_MAKE_ONE),
        (lambda sync: sync.wait(7), r"^handle must be a SyncHandle \(got int\)" + HOW_TO_MAKE_ONE),
        (
            lambda sync: sync.wait("company"),
            r"^sync_id must be passed with a company id, or a SyncHandle alone" + HOW_TO_MAKE_ONE,
        ),
        (
            lambda sync: sync.watch("company"),
            r"^sync_id must be passed with a company id, or a SyncHandle alone" + HOW_TO_MAKE_ONE,
        ),
        (lambda sync: sync.watches().watch("company"), r"^sync_id must be passed .*" + HOW_TO_MAKE_ONE),
        (
            lambda sync: sync.diagnose("company"),
            r"^failed must be a status, a handle or an outcome \(got str\)" + HOW_TO_MAKE_ONE,
        ),
        (
            lambda sync: sync.poll_now(HANDLE),
            r"^company_id must be a string \(got SyncHandle\); pass handle\.company_id$",
        ),
    ],
)
async def test_a_value_that_is_no_handle_is_refused_with_a_hint(
    call: Callable[[SyncResource], Any], words: str
) -> None:
    codat, transport = client_of(respond(200))
    with pytest.raises(TypeError, match=words):
        await call(codat.sync)
    assert transport.sent == []
