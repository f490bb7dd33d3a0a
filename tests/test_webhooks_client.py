"""What a client learns from webhooks, against the simulator and in virtual time."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from gc import collect
from weakref import ref

import pytest

from codat_commerce_async import CodatCommerce, PollPolicy, QuotaExhaustedError, RateLimit
from codat_commerce_async.hooks import Hooks, Paused
from codat_commerce_async.models.webhook_events import WebhookEvent
from codat_commerce_async.simulator import RequestQuota, ScriptedSync, Simulator
from codat_commerce_async.simulator.in_memory import InMemoryTransport
from codat_commerce_async.simulator.virtual_time import loop_wall_clock
from codat_commerce_async.webhooks import Webhooks, parse_event
from tests.support.deliveries import body_of, payload_of

pytestmark = pytest.mark.virtual_time

RARE_POLLS = PollPolicy(initial_delay=600, interval=600, max_interval=600, jitter=0)
MIDNIGHT = datetime(2024, 1, 16, tzinfo=UTC)
UNREPORTED = RequestQuota(per_day=None)


@pytest.fixture
def quota() -> RequestQuota:
    return UNREPORTED


@pytest.fixture
async def simulator(quota: RequestQuota) -> AsyncIterator[Simulator]:
    async with Simulator(now=loop_wall_clock(), quota=quota) as one:
        yield one


@pytest.fixture
def paused() -> list[Paused]:
    return []


@pytest.fixture
async def codat(simulator: Simulator, paused: list[Paused]) -> AsyncIterator[CodatCommerce]:
    async with CodatCommerce(
        simulator.api_key,
        base_url=simulator.url,
        poll=RARE_POLLS,
        hooks=Hooks(on_pause=paused.append),
        wall_clock=loop_wall_clock(),
    ) as client:
        yield client


@pytest.fixture
def hooks(codat: CodatCommerce) -> Webhooks:
    hooks = Webhooks()
    hooks.attach(codat)
    return hooks


def about(event_type: str, company_id: str) -> bytes:
    payload = payload_of(event_type)
    reference = {"id": company_id}
    return body_of(
        event_type, {**payload, **({"referenceCompany": reference} if "referenceCompany" in payload else reference)}
    )


def polls(simulator: Simulator) -> int:
    return sum(request.method == "GET" for request in simulator.requests)


@pytest.mark.parametrize(
    "event_type",
    [
        "read.completed",
        "journalEntries.write.successful",
        "connection.disconnected",
        "company.product.added",
        "tea.brewed",
    ],
)
async def test_an_event_about_a_company_makes_its_wait_poll_once(
    simulator: Simulator, codat: CodatCommerce, hooks: Webhooks, event_type: str
) -> None:
    company_id = simulator.add_linked_company()
    simulator.script_sync(company_id, ScriptedSync(duration=90))
    clock = asyncio.get_running_loop()
    began = clock.time()
    wait = asyncio.create_task(codat.sync.run(company_id))
    await asyncio.sleep(100)
    assert not wait.done()
    await hooks.dispatch(parse_event(about(event_type, company_id)))
    assert (await wait).succeeded
    assert clock.time() - began == pytest.approx(100, abs=1)


async def test_a_notification_does_not_decide_the_outcome(
    simulator: Simulator, codat: CodatCommerce, hooks: Webhooks
) -> None:
    company_id = simulator.add_linked_company()
    simulator.script_sync(company_id, ScriptedSync(duration=90))
    wait = asyncio.create_task(codat.sync.run(company_id))
    await asyncio.sleep(10)
    before = polls(simulator)
    await hooks.dispatch(parse_event(about("journalEntries.write.successful", company_id)))
    await asyncio.sleep(1)
    assert polls(simulator) > before
    assert not wait.done()
    assert (await wait).succeeded


async def test_an_event_about_another_company_wakes_none(
    simulator: Simulator, codat: CodatCommerce, hooks: Webhooks
) -> None:
    company_id = simulator.add_linked_company()
    simulator.script_sync(company_id, ScriptedSync(duration=90))
    wait = asyncio.create_task(codat.sync.run(company_id))
    await asyncio.sleep(100)
    before = polls(simulator)
    await hooks.dispatch(parse_event(about("read.completed", simulator.add_company())))
    await asyncio.sleep(100)
    assert polls(simulator) == before
    assert (await wait).succeeded


async def test_a_client_learns_before_a_slow_handler_is_done(
    simulator: Simulator, codat: CodatCommerce, hooks: Webhooks
) -> None:
    company_id = simulator.add_linked_company()
    simulator.script_sync(company_id, ScriptedSync(duration=90))
    never = asyncio.Event()

    @hooks.on(WebhookEvent)
    async def slow(_event: WebhookEvent[object]) -> None:
        await never.wait()

    wait = asyncio.create_task(codat.sync.run(company_id))
    await asyncio.sleep(100)
    dispatching = asyncio.create_task(hooks.dispatch(parse_event(about("read.completed", company_id))))
    await asyncio.sleep(5)
    assert wait.done()
    never.set()
    assert await dispatching


def reached(generated: str = "2024-01-15T08:00:00Z", until: str = "2024-01-16T00:00:00Z") -> bytes:
    return body_of("client.rateLimit.reached", {"quotaRemaining": 0, "expiryDate": until}, generated)


@pytest.mark.parametrize("times", [1, 2])
async def test_a_detached_client_is_not_notified(
    simulator: Simulator, codat: CodatCommerce, hooks: Webhooks, times: int
) -> None:
    for _ in range(times):
        hooks.attach(codat)
    for _ in range(2):
        hooks.detach(codat)
    assert await hooks.dispatch(parse_event(reached()))
    began = asyncio.get_running_loop().time()
    await codat.advanced_controls.list_companies()
    assert asyncio.get_running_loop().time() - began < 60


async def test_a_reached_limit_stops_requests_until_the_reset(
    simulator: Simulator, codat: CodatCommerce, hooks: Webhooks, paused: list[Paused]
) -> None:
    company_id = simulator.add_linked_company()
    await hooks.dispatch(parse_event(reached()))
    with pytest.raises(QuotaExhaustedError) as caught:
        await codat.connections.list(company_id)
    assert caught.value.reset_at == MIDNIGHT
    assert [pause.seconds for pause in paused] == [16 * 3600]
    assert simulator.requests == ()
    await asyncio.sleep(16 * 3600)
    assert (await codat.connections.list(company_id)).results


async def test_an_event_is_judged_by_the_time_of_the_server(simulator: Simulator, hooks: Webhooks) -> None:
    company_id = simulator.add_linked_company()
    transport = InMemoryTransport(simulator)
    ahead = loop_wall_clock(simulator.now() + 900 * 86_400)
    async with CodatCommerce(simulator.api_key, transport=transport, wall_clock=ahead) as codat:
        hooks.attach(codat)
        await codat.connections.list(company_id)
        await asyncio.sleep(60)
        await hooks.dispatch(parse_event(reached("2024-01-15T08:01:00Z")))
        with pytest.raises(QuotaExhaustedError) as caught:
            await codat.connections.list(company_id)
        assert caught.value.reset_at == MIDNIGHT
        assert caught.value.retry_after == pytest.approx(16 * 3600 - 60, abs=1)


async def test_a_reset_lets_requests_go_again(simulator: Simulator, codat: CodatCommerce, hooks: Webhooks) -> None:
    company_id = simulator.add_linked_company()
    await hooks.dispatch(parse_event(reached(until="2024-01-15T20:00:00Z")))
    await asyncio.sleep(3600)
    await hooks.dispatch(parse_event(body_of("client.rateLimit.reset", generated="2024-01-15T09:00:00Z")))
    assert (await codat.connections.list(company_id)).results


async def test_a_limit_that_was_reached_yesterday_means_nothing_today(
    simulator: Simulator, codat: CodatCommerce, hooks: Webhooks, paused: list[Paused]
) -> None:
    company_id = simulator.add_linked_company()
    await asyncio.sleep(24 * 3600)
    await hooks.dispatch(parse_event(reached("2024-01-15T20:00:00Z", "2024-01-16T00:00:00Z")))
    assert (await codat.connections.list(company_id)).results
    assert paused == []


@pytest.mark.parametrize("quota", [RequestQuota(per_day=100)])
async def test_a_later_response_is_believed_over_an_event(
    simulator: Simulator, codat: CodatCommerce, hooks: Webhooks
) -> None:
    company_id = simulator.add_linked_company()
    await asyncio.sleep(60)
    await codat.connections.list(company_id)
    await hooks.dispatch(parse_event(reached("2024-01-15T08:00:30Z")))
    assert (await codat.connections.list(company_id)).results
    await asyncio.sleep(60)
    await hooks.dispatch(parse_event(reached("2024-01-15T08:01:30Z")))
    with pytest.raises(QuotaExhaustedError):
        await codat.connections.list(company_id)


@pytest.mark.parametrize(
    "limit",
    [
        RateLimit(remaining=0, reset=None, observed_at=MIDNIGHT),
        RateLimit(remaining=None, reset=MIDNIGHT, observed_at=MIDNIGHT),
    ],
)
async def test_half_of_a_limit_is_none(simulator: Simulator, codat: CodatCommerce, limit: RateLimit) -> None:
    codat.update_rate_limit(limit)
    assert (await codat.connections.list(simulator.add_linked_company())).results


async def test_events_after_the_client_is_closed_do_no_harm(codat: CodatCommerce, hooks: Webhooks) -> None:
    await codat.aclose()
    assert await hooks.dispatch(parse_event(reached()))
    assert await hooks.dispatch(parse_event(body_of("read.completed")))


async def test_an_attached_client_is_not_kept_alive(simulator: Simulator) -> None:
    hooks = Webhooks()
    client = CodatCommerce(simulator.api_key, transport=InMemoryTransport(simulator))
    hooks.attach(client)
    forgotten = ref(client)
    await client.aclose()
    del client
    collect()
    assert forgotten() is None
