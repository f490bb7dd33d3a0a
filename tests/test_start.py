"""Starting a sync at a simulated Codat: one sync, its handle, and an honest error if the result is ambiguous."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID, uuid4

import pytest
from hypothesis import event, example, given
from hypothesis import strategies as st

from codat_commerce_async import CodatCommerce
from codat_commerce_async._core.idempotency import FirstUse
from codat_commerce_async.errors import (
    BadRequestError,
    ClientClosedError,
    CodatError,
    IdempotencyMismatchError,
    OutcomeUnknownError,
    QuotaExhaustedError,
)
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.policies import Quota, RetryPolicy
from codat_commerce_async.simulator import Fault, FaultKind, RequestQuota, ScriptedSync, Simulator
from codat_commerce_async.simulator.in_memory import InMemoryTransport
from codat_commerce_async.simulator.virtual_time import loop_wall_clock, run_in_virtual_time
from codat_commerce_async.syncing._start import start
from codat_commerce_async.syncing.request import SyncRequest
from tests.support.scripted import client_of, respond

REQUEST, LIST = "request-sync", "list-syncs"


class Codat:
    """A simulated Codat with one company, and a client of it."""

    def __init__(self, *, simulator: Simulator, client: CodatCommerce, company_id: str) -> None:
        self.simulator = simulator
        self.client = client
        self.company_id = company_id

    @property
    def keys_sent(self) -> list[str | None]:
        """The keys of the requests for a sync, in order."""
        return [seen.idempotency_key for seen in self.simulator.requests if seen.operation == REQUEST]

    @property
    def polls(self) -> int:
        return sum(seen.operation == LIST for seen in self.simulator.requests)

    def is_its_own(self, handle: SyncHandle) -> bool:
        """Whether the handle speaks of the only sync that was started through the API."""
        (sync,) = [sync for sync in self.simulator.syncs(self.company_id) if sync.source == "api"]
        return sync.sync_id == handle.sync_id if handle.adopted else sync.commerce_sync_id == handle.commerce_sync_id

    def is_foreign(self, handle: SyncHandle) -> bool:
        """Whether the handle is marked as adopted, and its sync is another's."""
        foreign = {sync.sync_id for sync in self.simulator.syncs(self.company_id) if sync.source == "external"}
        return handle.adopted and handle.sync_id in foreign


@asynccontextmanager
async def codat(
    *,
    visibility_delay: float = 0.0,
    clock_skew: float = 0.0,
    quota: Quota | None = None,
    retry: RetryPolicy | None = None,
    latency: float = 0.1,
    seed: int = 1,
) -> AsyncIterator[Codat]:
    clock = loop_wall_clock()
    simulator = Simulator(
        now=clock, visibility_delay=visibility_delay, clock_skew=clock_skew, quota=RequestQuota(per_minute=None)
    )
    company_id = simulator.add_linked_company()
    transport = InMemoryTransport(simulator, latency=lambda: latency)
    async with CodatCommerce(
        "key", transport=transport, wall_clock=clock, random=Random(seed), quota=quota, retry=retry
    ) as client:
        yield Codat(simulator=simulator, client=client, company_id=company_id)


@pytest.mark.virtual_time
async def test_a_start_that_goes_well_is_one_request() -> None:
    async with codat() as scenario:
        handle = await scenario.client.sync.start(scenario.company_id)
        assert scenario.is_its_own(handle)
        assert scenario.keys_sent == [handle.idempotency_key]
        assert (scenario.polls, handle.sync_id, handle.adopted) == (0, None, False)


@pytest.mark.virtual_time
@pytest.mark.parametrize(
    "kind",
    [
        FaultKind.LOST_BEFORE,
        FaultKind.LOST_AFTER,
        FaultKind.RESET_BEFORE,
        FaultKind.RESET_AFTER,
        FaultKind.CUT_OFF,
        FaultKind.LATE,
        FaultKind.RATE_LIMITED,
        FaultKind.EMPTY,
        Fault(FaultKind.LOST_AFTER, seconds=60.0),
    ],
    ids=str,
)
async def test_a_repeat_goes_out_under_the_same_key(kind: Fault | FaultKind) -> None:
    async with codat() as scenario:
        scenario.simulator.set_fault(REQUEST, kind)
        handle = await scenario.client.sync.start(scenario.company_id)
        assert scenario.is_its_own(handle)
        assert (set(scenario.keys_sent), handle.adopted) == ({handle.idempotency_key}, False)
        assert len(scenario.keys_sent) > 1


@pytest.mark.virtual_time
@pytest.mark.parametrize("kind", [FaultKind.ERROR_BEFORE, FaultKind.UNAVAILABLE])
async def test_after_a_5xx_that_did_nothing_a_new_key_starts_it(kind: FaultKind) -> None:
    async with codat() as scenario:
        scenario.simulator.set_fault(REQUEST, kind)
        handle = await scenario.client.sync.start(scenario.company_id)
        assert scenario.is_its_own(handle)
        assert (len(set(scenario.keys_sent)), len(scenario.keys_sent), handle.idempotency_key) == (
            2,
            2,
            scenario.keys_sent[-1],
        )


@pytest.mark.virtual_time
@pytest.mark.parametrize("delay", [0.0, 3.0, 12.0])
async def test_a_sync_that_started_despite_a_5xx_is_adopted(delay: float) -> None:
    async with codat(visibility_delay=delay) as scenario:
        scenario.simulator.set_fault(REQUEST, FaultKind.ERROR_AFTER)
        handle = await scenario.client.sync.start(scenario.company_id)
        assert scenario.is_its_own(handle)
        assert (handle.adopted, len(scenario.keys_sent)) == (True, 1)
        status = await scenario.client.sync.wait(handle)
        assert status.succeeded


@pytest.mark.virtual_time
async def test_a_gateway_that_gives_up_after_the_work_is_requested_again() -> None:
    async with codat() as scenario:
        scenario.simulator.set_fault(REQUEST, *[FaultKind.GATEWAY_TIMEOUT_AFTER] * 3)
        handle = await scenario.client.sync.start(scenario.company_id)
        assert scenario.is_its_own(handle)
        assert (len(set(scenario.keys_sent)), handle.adopted) == (1, False)


@pytest.mark.virtual_time
async def test_a_sync_of_another_is_not_taken_for_one_that_a_lost_request_may_have_started() -> None:
    async with codat(retry=RetryPolicy.none()) as scenario:
        scenario.simulator.set_fault(REQUEST, FaultKind.LOST_BEFORE)
        asyncio.get_running_loop().call_later(
            0.5, lambda: scenario.simulator.start_external_sync(scenario.company_id, ScriptedSync(duration=1.0))
        )
        handle = await scenario.client.sync.start(scenario.company_id)
        assert scenario.is_its_own(handle)


@pytest.mark.virtual_time
async def test_a_sync_of_another_beside_ours_leaves_it_unknown_which_is_ours() -> None:
    async with codat() as scenario:
        scenario.simulator.set_fault(REQUEST, FaultKind.ERROR_AFTER)
        asyncio.get_running_loop().call_later(0.5, lambda: scenario.simulator.start_external_sync(scenario.company_id))
        with pytest.raises(OutcomeUnknownError) as raised:
            await scenario.client.sync.start(scenario.company_id)
        assert set(raised.value.candidates) == {sync.sync_id for sync in scenario.simulator.syncs(scenario.company_id)}
        assert raised.value.handle is not None
        assert raised.value.handle.idempotency_key == raised.value.idempotency_key == scenario.keys_sent[0]


@pytest.mark.virtual_time
async def test_the_handle_of_an_unknown_start_finds_the_sync_later() -> None:
    async with codat() as scenario:
        scenario.simulator.set_fault(REQUEST, FaultKind.ERROR_AFTER)
        scenario.simulator.set_fault(LIST, *[FaultKind.BAD_GATEWAY] * 20)
        with pytest.raises(OutcomeUnknownError) as raised:
            await scenario.client.sync.start(scenario.company_id)
        assert raised.value.handle is not None
        status = await scenario.client.sync.wait(raised.value.handle)
        assert status.sync_id == scenario.simulator.syncs(scenario.company_id)[0].sync_id


@pytest.mark.virtual_time
async def test_a_day_that_is_spent_after_a_lost_response_leaves_it_unknown() -> None:
    async with codat() as scenario:
        scenario.simulator.set_fault(REQUEST, FaultKind.LOST_AFTER)
        scenario.simulator.set_remaining_quota(1)
        with pytest.raises(OutcomeUnknownError) as raised:
            await scenario.client.sync.start(scenario.company_id)
        assert raised.value.idempotency_key == scenario.keys_sent[0]


@pytest.mark.virtual_time
async def test_a_day_that_is_spent_before_anything_was_done_reports_it() -> None:
    async with codat() as scenario:
        scenario.simulator.set_remaining_quota(0)
        with pytest.raises(QuotaExhaustedError):
            await scenario.client.sync.start(scenario.company_id)


@pytest.mark.virtual_time
async def test_a_key_that_grows_old_while_the_day_is_spent_is_not_used_again() -> None:
    async with codat(quota=Quota(wait_for_reset=True), visibility_delay=7200.0) as scenario:
        # Nothing is seen, and the key is forgotten after the night: only its age keeps it from being used again.
        scenario.simulator.set_fault(REQUEST, FaultKind.LOST_AFTER)
        scenario.simulator.set_remaining_quota(1)
        handle = await scenario.client.sync.start(scenario.company_id)
        assert asyncio.get_running_loop().time() > 15 * 3600.0
        assert scenario.is_its_own(handle)
        assert (handle.adopted, len(scenario.keys_sent)) == (True, 2)


@pytest.mark.virtual_time
async def test_an_invalid_request_is_refused_as_such() -> None:
    async with codat() as scenario:
        early, late = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC)
        with pytest.raises(BadRequestError):
            await scenario.client.sync.start(scenario.company_id, date_range=(early, late))
        assert (scenario.simulator.syncs(scenario.company_id), scenario.polls) == ((), 0)


@pytest.mark.virtual_time
async def test_a_key_of_ones_own_starts_one_sync_however_often_it_is_given() -> None:
    async with codat() as scenario:
        key = str(uuid4())
        handles = []
        for _ in range(3):
            handles.append(await scenario.client.sync.start(scenario.company_id, idempotency_key=key))
            await asyncio.sleep(1200.0)
        assert {handle.commerce_sync_id for handle in handles} == {handles[0].commerce_sync_id}
        assert all(scenario.is_its_own(handle) for handle in handles)
        # Each speaks of the time at which the sync began, not of the replay.
        assert max(handle.requested_at for handle in handles if handle.requested_at) - min(
            handle.requested_at for handle in handles if handle.requested_at
        ) < timedelta(seconds=2)


@pytest.mark.virtual_time
async def test_a_key_that_is_known_to_be_too_old_is_not_sent_again() -> None:
    async with codat(latency=0.0) as scenario:
        now = loop_wall_clock()()
        await asyncio.sleep(7200.0)
        found = scenario.simulator.start_external_sync(scenario.company_id)
        await asyncio.sleep(60.0)
        handle = await start(
            scenario.client.sync.context,
            SyncRequest(company_id=scenario.company_id),
            {"idempotency_key": str(uuid4())},
            first_use=FirstUse(now, None, 0.0),
        )
        assert (handle.sync_id, handle.adopted, scenario.keys_sent) == (found, True, [])


@pytest.mark.virtual_time
async def test_a_key_that_was_too_old_to_be_sent_is_named_all_the_same() -> None:
    async with codat() as scenario:
        now, key = loop_wall_clock()(), str(uuid4())
        await asyncio.sleep(7200.0)
        for _ in range(2):
            scenario.simulator.start_external_sync(scenario.company_id)
        request = SyncRequest(company_id=scenario.company_id)
        with pytest.raises(OutcomeUnknownError) as raised:
            await start(
                scenario.client.sync.context, request, {"idempotency_key": key}, first_use=FirstUse(now, None, 0.0)
            )
        assert (raised.value.idempotency_key, len(raised.value.candidates)) == (key, 2)


@pytest.mark.virtual_time
async def test_a_company_without_a_list_of_syncs_has_none() -> None:
    broken = {"statusCode": 500, "error": "It broke.", "correlationId": "c0ffee"}
    client, wire = client_of(
        respond(500, broken), *[respond(404)] * 5, respond(200, {"commerceSyncId": "1"}), wall_clock=loop_wall_clock()
    )
    handle = await client.sync.start("company")
    assert (handle.commerce_sync_id, handle.adopted) == ("1", False)
    assert [sent.method for sent in wire.sent] == ["POST", *["GET"] * 5, "POST"]


@pytest.mark.virtual_time
async def test_a_key_that_was_used_for_another_request_is_refused() -> None:
    async with codat() as scenario:
        key = str(uuid4())
        await scenario.client.sync.start(scenario.company_id, idempotency_key=key)
        with pytest.raises(IdempotencyMismatchError):
            await scenario.client.sync.start(
                scenario.company_id, sync_to=datetime(2024, 1, 15, tzinfo=UTC), idempotency_key=key
            )


@pytest.mark.virtual_time
async def test_a_key_that_another_process_is_using_is_waited_for() -> None:
    async with codat() as scenario:
        key = str(uuid4())
        scenario.simulator.set_fault(REQUEST, Fault(FaultKind.LATE, seconds=60.0))
        first = asyncio.create_task(scenario.client.sync.start(scenario.company_id, idempotency_key=key))
        await asyncio.sleep(1.0)
        first.cancel()
        handle = await scenario.client.sync.start(scenario.company_id, idempotency_key=key)
        assert scenario.is_its_own(handle)
        assert asyncio.get_running_loop().time() > 60.0


@pytest.mark.virtual_time
async def test_the_keys_after_the_first_follow_from_it() -> None:
    keys = []
    for seed in range(2):
        async with codat(seed=seed) as scenario:
            scenario.simulator.set_fault(REQUEST, FaultKind.ERROR_BEFORE, FaultKind.UNAVAILABLE)
            key = str(UUID(int=7, version=4))
            await scenario.client.sync.start(scenario.company_id, idempotency_key=key)
            keys.append(scenario.keys_sent)
    # So a restarted process that has only the first key sends the same ones again.
    assert keys[0] == keys[1]
    assert len(set(keys[0])) == 3


@pytest.mark.virtual_time
@pytest.mark.parametrize("timeout", [0.5, 5.0, 12.0, 40.0])
@pytest.mark.parametrize("kind", [FaultKind.ERROR_BEFORE, FaultKind.LOST_BEFORE, FaultKind.LATE])
async def test_the_timeout_bounds_the_whole_start(timeout: float, kind: FaultKind) -> None:
    async with codat() as scenario:
        scenario.simulator.set_fault(REQUEST, *[kind] * 50)
        with pytest.raises(OutcomeUnknownError):
            await scenario.client.sync.start(scenario.company_id, timeout=timeout)
        assert asyncio.get_running_loop().time() <= timeout


@pytest.mark.virtual_time
async def test_closing_with_a_request_in_flight_leaves_it_unknown() -> None:
    async with codat() as scenario:
        scenario.simulator.set_fault(REQUEST, FaultKind.LATE)
        task = asyncio.create_task(scenario.client.sync.start(scenario.company_id))
        await asyncio.sleep(1.0)
        await scenario.client.aclose()
        with pytest.raises(OutcomeUnknownError) as raised:
            await task
        assert isinstance(raised.value.__cause__, ClientClosedError)
        assert (raised.value.idempotency_key, scenario.simulator.syncs_started(scenario.company_id)) == (
            scenario.keys_sent[0],
            1,
        )


@pytest.mark.virtual_time
async def test_closing_during_a_start_wakes_it_and_leaves_it_unknown() -> None:
    async with codat() as scenario:
        scenario.simulator.set_fault(REQUEST, FaultKind.ERROR_AFTER)
        scenario.simulator.set_fault(LIST, FaultKind.LATE)
        task = asyncio.create_task(scenario.client.sync.start(scenario.company_id))
        await asyncio.sleep(2.0)
        await scenario.client.aclose()
        with pytest.raises(OutcomeUnknownError) as raised:
            await task
        assert isinstance(raised.value.__cause__, ClientClosedError)
        assert asyncio.get_running_loop().time() == pytest.approx(2.0)


ANY_FAULT = st.one_of(
    st.sampled_from([kind for kind in FaultKind if kind is not FaultKind.CLOCK_SKEW]),
    st.builds(Fault, st.just(FaultKind.CLOCK_SKEW), st.sampled_from([-3600.0, -20.0, -3.0, 3.0, 20.0, 3600.0])),
    st.builds(Fault, st.sampled_from([FaultKind.LATE, FaultKind.LOST_AFTER]), st.sampled_from([1.0, 40.0, 200.0])),
    st.none(),
)


async def result_of(scenario: Codat) -> SyncHandle | CodatError:
    try:
        return await scenario.client.sync.start(scenario.company_id)
    except CodatError as error:
        return error


def error_from_response(scenario: Codat, result: SyncHandle | CodatError) -> str:
    """Compare what was reported with what happened, and return which of the cases it was."""
    started = scenario.simulator.syncs_started(scenario.company_id)
    if isinstance(result, OutcomeUnknownError):
        assert result.idempotency_key in scenario.keys_sent
        assert started <= 1
        return "unknown"
    if isinstance(result, CodatError):
        assert started == 0
        return type(result).__name__
    assert started <= 1
    # A sync whose response was lost is marked as adopted.
    assert scenario.is_foreign(result) or scenario.is_its_own(result)
    return "adopted" if result.adopted else "started"


@given(
    requests=st.lists(ANY_FAULT, max_size=12),
    polls=st.lists(ANY_FAULT, max_size=6),
    visibility_delay=st.sampled_from([0.0, 0.9, 9.0]),
    clock_skew=st.sampled_from([-30.0, 0.0, 30.0]),
    foreign=st.sampled_from([None, -40.0, -1.0, 0.5, 8.0]),
    attempts=st.integers(1, 4),
)
@example([FaultKind.ERROR_AFTER], [Fault(FaultKind.CLOCK_SKEW, 3600.0)], 0.0, 0.0, None, 4)
@example([FaultKind.LOST_AFTER, FaultKind.REDIRECT], [], 0.0, 0.0, None, 4)
@example([FaultKind.ERROR_AFTER], [], 9.0, 30.0, None, 4)
@example([FaultKind.ERROR_AFTER], [], 0.0, 0.0, 0.5, 4)
@example([Fault(FaultKind.LOST_AFTER, 200.0)], [], 0.0, 0.0, None, 4)
def test_under_any_faults_nothing_is_started_twice_and_nothing_is_made_up(
    requests: Sequence[Fault | FaultKind | None],
    polls: Sequence[Fault | FaultKind | None],
    visibility_delay: float,
    clock_skew: float,
    foreign: float | None,
    attempts: int,
) -> None:
    async def go() -> None:
        async with codat(
            visibility_delay=visibility_delay, clock_skew=clock_skew, retry=RetryPolicy(attempts=attempts)
        ) as scenario:
            simulator, company_id, loop = scenario.simulator, scenario.company_id, asyncio.get_running_loop()
            await asyncio.sleep(60.0)
            if foreign is not None:
                loop.call_later(60.0 + foreign, simulator.start_external_sync, company_id, ScriptedSync(duration=5.0))
            await asyncio.sleep(60.0)
            simulator.set_fault(REQUEST, *requests)
            simulator.set_fault(LIST, *polls)
            event(error_from_response(scenario, await result_of(scenario)))

    run_in_virtual_time(go())
