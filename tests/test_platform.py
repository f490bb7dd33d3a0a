"""The operations of the Platform API, from the client to the simulator and back."""

import logging
from collections.abc import AsyncIterator

import pytest
from attrs import evolve

from codat_commerce_async import CodatCommerce, Hooks, NotFoundError, OutcomeUnknownError, RetryPolicy
from codat_commerce_async.models.enums import DataType, ReadStatus, WriteStatus
from codat_commerce_async.simulator import Fault, FaultKind, Simulator
from codat_commerce_async.simulator.in_memory import InMemoryTransport
from codat_commerce_async.simulator.virtual_time import loop_wall_clock

pytestmark = pytest.mark.virtual_time

TOKEN = "the-token-of-the-endpoint"


@pytest.fixture
def simulator() -> Simulator:
    return Simulator(now=loop_wall_clock(1_705_305_600.0))


@pytest.fixture
async def codat(simulator: Simulator) -> AsyncIterator[CodatCommerce]:
    async with CodatCommerce(simulator.api_key, transport=InMemoryTransport(simulator)) as codat:
        yield codat


async def test_a_company_is_changed_and_deleted(simulator: Simulator, codat: CodatCommerce) -> None:
    company_id = simulator.add_linked_company("Tea")
    changed = await codat.platform.update_company(company_id, description="a shop", tags={"region": "uk"})
    assert (changed.name, changed.description, changed.tags) == ("Tea", "a shop", {"region": "uk"})
    assert await codat.platform.get_company(company_id) == changed
    connection = changed.data_connections[0]
    assert await codat.platform.get_connection(company_id, connection.id) == connection
    await codat.platform.delete_connection(company_id, connection.id)
    assert len((await codat.platform.get_company(company_id)).data_connections) == 1
    await codat.platform.delete_company(company_id)
    with pytest.raises(NotFoundError):
        await codat.platform.get_company(company_id)


@pytest.mark.parametrize("fault", [FaultKind.LOST_AFTER, FaultKind.ERROR_AFTER])
async def test_a_delete_is_never_sent_twice(simulator: Simulator, codat: CodatCommerce, fault: FaultKind) -> None:
    company_id = simulator.add_linked_company()
    simulator.set_fault("delete-company", Fault(fault))
    with pytest.raises(OutcomeUnknownError):
        await codat.platform.delete_company(company_id)
    assert [one.operation for one in simulator.requests] == ["delete-company"]
    assert simulator.company_ids() == ()


async def test_a_delete_that_was_not_carried_out_is_repeated(simulator: Simulator, codat: CodatCommerce) -> None:
    company_id = simulator.add_linked_company()
    simulator.set_fault("delete-company", FaultKind.RATE_LIMITED)
    await codat.platform.delete_company(company_id)
    assert simulator.company_ids() == ()


async def test_reads_are_queued_listed_and_end(simulator: Simulator, codat: CodatCommerce) -> None:
    company_id = simulator.add_linked_company()
    pull = await codat.platform.refresh_data_type(company_id, DataType.COMMERCE_ORDERS)
    assert pull.status is ReadStatus.FETCHING
    assert (await codat.platform.get_company_data_status(company_id))["commerce-orders"].latest_sync_id == pull.id
    await codat.platform.refresh_company_data(company_id)
    simulator.advance(60)
    pulls = [one async for one in codat.platform.list_pull_operations(company_id, page_size=5)]
    assert len(pulls) == 13
    assert {one.status for one in pulls} == {ReadStatus.COMPLETE}
    assert await codat.platform.get_pull_operation(company_id, pull.id) == pulls[0]
    with pytest.raises(NotFoundError):
        await codat.platform.refresh_data_type(company_id, "banking-accounts")


async def test_writes_are_listed_on_pages(simulator: Simulator, codat: CodatCommerce) -> None:
    company_id = simulator.add_linked_company()
    for number in range(5):
        simulator.add_push_operation(company_id, error="refused", items={f"item {number}": "no such tax rate"})
        simulator.advance(1)
    pushes = [one async for one in codat.platform.get_company_push_history(company_id, page_size=2)]
    assert [one.validation.errors[0].item_id for one in pushes if one.validation] == [f"item {n}" for n in range(5)]
    assert all(one.failed and one.status is WriteStatus.FAILED for one in pushes)
    key = pushes[3].push_operation_key
    assert key is not None
    assert await codat.platform.get_push_operation(company_id, key) == pushes[3]


async def test_sync_settings_are_read_changed_and_written(simulator: Simulator, codat: CodatCommerce) -> None:
    company_id = simulator.add_linked_company()
    before = await codat.platform.get_company_sync_settings(company_id)
    changed = [evolve(setting, sync_schedule=1) for setting in before.settings]
    await codat.platform.set_company_sync_settings(company_id, changed)
    after = await codat.platform.get_company_sync_settings(company_id)
    assert (after.overrides_defaults, {setting.sync_schedule for setting in after.settings}) == (True, {1})


async def test_the_url_of_a_webhook_consumer_stays_out_of_reprs_logs_and_hooks(
    simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    ended: list[object] = []
    hooks = Hooks(on_request_ended=ended.append)
    caplog.set_level(logging.DEBUG, "codat_commerce_async")
    url = f"https://example.com/{TOKEN}"
    async with CodatCommerce(
        simulator.api_key, transport=InMemoryTransport(simulator), hooks=hooks, retry=RetryPolicy.none()
    ) as codat:
        consumer = await codat.platform.create_webhook_consumer(url=url, event_types=["read.completed"])
        assert consumer.url == url
        listed = await codat.platform.list_webhook_consumers()
        assert listed.results == (consumer,)
        simulator.set_fault("create-webhook-consumer", Fault(FaultKind.LOST_AFTER))
        with pytest.raises(OutcomeUnknownError) as caught:
            await codat.platform.create_webhook_consumer(url=url)
        assert consumer.id is not None
        await codat.platform.delete_webhook_consumer(consumer.id)
        assert len((await codat.platform.list_webhook_consumers()).results) == 1
    assert len(ended) == 5
    assert TOKEN not in f"{consumer} {listed} {caught.value!r} {caught.value} {ended} {caplog.text}"
