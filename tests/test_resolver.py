"""Which sync is ours: found by either id, past any other sync; another's is only taken if it is marked as adopted."""

import logging
from datetime import UTC, datetime, timedelta

import pytest
from attrs import evolve

from codat_commerce_async import CodatCommerce
from codat_commerce_async._core.validation import as_utc
from codat_commerce_async.errors import NotFoundError, OutcomeUnknownError, SyncFailedError, SyncWaitTimeoutError
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.models.sync import SyncStatus
from codat_commerce_async.simulator import ScriptedSync, Simulator
from codat_commerce_async.simulator.in_memory import InMemoryTransport
from codat_commerce_async.syncing._resolver import SyncResolver

pytestmark = pytest.mark.virtual_time

MONDAY = 1_705_305_600.0


class Codat:
    """A simulated Codat whose clock is moved by hand, a client of it, and a company with a sync from yesterday."""

    def __init__(self, **options: bool | float) -> None:
        self.wall = MONDAY
        self.simulator = Simulator(now=lambda: self.wall, **options)  # type: ignore[arg-type]
        self.company_id = self.simulator.add_linked_company()
        self.simulator.start_external_sync(self.company_id, ScriptedSync(duration=5.0))
        self.wall += 86_400.0
        self.client = CodatCommerce("key", transport=InMemoryTransport(self.simulator), wall_clock=lambda: self.wall)

    async def start(self) -> SyncHandle:
        self.simulator.script_sync(self.company_id, ScriptedSync(5130, duration=60.0))
        return await self.client.sync.start(self.company_id)

    def start_newer(self, *, after: float = 10.0) -> str:
        self.wall += after
        return self.simulator.start_external_sync(self.company_id, ScriptedSync(2000, duration=1.0))

    @property
    def ours(self) -> str:
        (sync,) = [sync for sync in self.simulator.syncs(self.company_id) if sync.source == "api"]
        return sync.sync_id

    def another_client(self) -> None:
        """Continue as another process would, which knows nothing but its handles."""
        transport = InMemoryTransport(self.simulator)
        self.client = CodatCommerce("key", transport=transport, wall_clock=lambda: self.wall)

    def wait_for(self, handle: SyncHandle) -> "Wait":
        return Wait(self.client, handle)

    @property
    def operations(self) -> list[str]:
        return [seen.operation for seen in self.simulator.requests]


class Wait:
    """Waits that end after one poll, each with the handle that the last one left."""

    def __init__(self, client: CodatCommerce, handle: SyncHandle) -> None:
        self.client = client
        self.handle = handle

    async def poll(self) -> SyncStatus | None:
        try:
            return await self.client.sync.wait(self.handle, timeout=0.001, raise_on_failure=False)
        except SyncWaitTimeoutError as error:
            self.handle = error.handle
            return error.last_status

    async def status(self) -> SyncStatus:
        status = await self.poll()
        assert status is not None
        return status


async def test_the_newest_sync_is_ours_when_it_has_our_commerce_id_and_its_id_is_learned() -> None:
    codat = Codat()
    wait = codat.wait_for(await codat.start())
    status = await wait.status()
    assert (status.sync_id, wait.handle.sync_id) == (codat.ours, codat.ours)


async def test_once_learned_the_id_is_all_that_is_requested() -> None:
    codat = Codat()
    wait = codat.wait_for(await codat.start())
    await wait.status()
    codat.start_newer()
    codat.wall += 60.0
    status = await wait.status()
    assert (status.sync_id, status.sync_status_code) == (codat.ours, 5130)
    assert status.commerce_sync_id == wait.handle.commerce_sync_id
    assert codat.operations[-1] == "get-sync-by-id"


async def test_a_sync_that_cannot_be_seen_yet_is_not_the_one_before_it() -> None:
    codat = Codat(visibility_delay=5.0)
    wait = codat.wait_for(await codat.start())
    assert await wait.poll() is None
    assert codat.operations == ["request-sync", "get-sync-status"]
    codat.wall += 5.0
    assert (await wait.status()).sync_id == codat.ours


async def test_a_sync_superseded_before_its_first_poll_is_found_by_its_commerce_id_where_codat_allows() -> None:
    codat = Codat(find_by_commerce_id=True)
    wait = codat.wait_for(await codat.start())
    codat.start_newer()
    status = await wait.status()
    assert (status.sync_id, wait.handle.sync_id) == (codat.ours, codat.ours)
    assert "list-syncs" not in codat.operations
    await wait.status()
    # Two requests for the first poll, which finds out the second id, and one for each further poll.
    assert codat.operations.count("get-sync-status") == 1


async def test_a_sync_superseded_before_its_first_poll_is_found_by_its_time_at_codat(
    caplog: pytest.LogCaptureFixture,
) -> None:
    codat = Codat()
    wait = codat.wait_for(await codat.start())
    codat.start_newer()
    codat.start_newer(after=1.0)
    with caplog.at_level(logging.INFO, "codat_commerce_async"):
        status = await wait.status()
    assert (status.sync_id, wait.handle.sync_id) == (codat.ours, codat.ours)
    assert codat.ours in caplog.text


async def test_the_only_possible_sync_is_adopted() -> None:
    codat = Codat()
    wait = codat.wait_for(evolve(await codat.start(), sync_utc=None))
    codat.start_newer()
    assert (await wait.status()).sync_id == codat.ours


async def test_the_only_one_it_can_be_is_not_taken_where_that_is_turned_off() -> None:
    codat = Codat()
    handle = evolve(await codat.start(), sync_utc=None)
    codat.start_newer()
    with pytest.raises(OutcomeUnknownError) as raised:
        await SyncResolver(codat.client.sync.context, handle, adopt=False).poll({})
    assert raised.value.candidates == (codat.ours,)


async def test_the_error_of_a_failed_sync_reports_that_it_was_adopted() -> None:
    codat = Codat()
    handle = evolve(await codat.start(), sync_utc=None)
    codat.start_newer()
    codat.wall += 60.0
    with pytest.raises(SyncFailedError) as raised:
        await codat.client.sync.wait(handle)
    assert (raised.value.handle.sync_id, raised.value.handle.adopted) == (codat.ours, True)


async def test_several_that_it_can_be_are_named_and_none_is_taken() -> None:
    codat = Codat()
    handle = evolve(await codat.start(), sync_utc=None)
    second = codat.start_newer()
    newest = codat.start_newer()
    with pytest.raises(OutcomeUnknownError) as raised:
        await codat.wait_for(handle).poll()
    # The newest is another's, as its commerce id shows.
    assert set(raised.value.candidates) == {codat.ours, second} != {newest}
    assert raised.value.handle == handle


async def test_a_candidate_that_was_named_can_be_waited_for() -> None:
    codat = Codat()
    handle = evolve(await codat.start(), sync_utc=None)
    codat.start_newer()
    codat.start_newer()
    with pytest.raises(OutcomeUnknownError) as raised:
        await codat.wait_for(handle).poll()
    for candidate in raised.value.candidates:
        assert (await codat.wait_for(handle.with_sync_id(candidate)).status()).sync_id == candidate


async def test_a_handle_without_any_id_finds_the_only_sync_since() -> None:
    codat = Codat()
    handle = await codat.start()
    bare = SyncHandle(company_id=codat.company_id, requested_at=handle.requested_at)
    codat.another_client()
    assert (await codat.wait_for(bare).status()).sync_id == codat.ours


async def test_a_handle_without_any_id_does_not_choose_among_several() -> None:
    codat = Codat()
    handle = await codat.start()
    other = codat.start_newer()
    bare = SyncHandle(company_id=codat.company_id, requested_at=handle.requested_at)
    with pytest.raises(OutcomeUnknownError) as raised:
        await codat.wait_for(bare).poll()
    assert set(raised.value.candidates) == {codat.ours, other}


async def test_a_company_without_any_sync_reports_that_there_is_none() -> None:
    codat = Codat()
    empty = SyncHandle(company_id=codat.simulator.add_linked_company(), commerce_sync_id="none")
    with pytest.raises(NotFoundError):
        await codat.wait_for(empty).poll()


async def test_an_unknown_sync_id_reports_that_there_is_none() -> None:
    codat = Codat()
    with pytest.raises(NotFoundError):
        await codat.wait_for(SyncHandle(company_id=codat.company_id, sync_id="none")).poll()


@pytest.mark.parametrize("skew", [-30.0, 30.0])
async def test_a_clock_that_is_off_does_not_hide_a_superseded_sync(skew: float) -> None:
    codat = Codat(clock_skew=skew)
    wait = codat.wait_for(await codat.start())
    codat.start_newer()
    assert (await wait.status()).sync_id == codat.ours


def test_a_time_without_a_zone_is_in_utc() -> None:
    naive = datetime(2024, 1, 15, 8, 0)  # noqa: DTZ001 - as Codat writes it
    assert as_utc(naive) == datetime(2024, 1, 15, 8, 0, tzinfo=UTC)
    aware = datetime(2024, 1, 15, 8, 0, tzinfo=UTC) + timedelta(hours=1)
    assert as_utc(aware) is aware
