"""Tickets of a task queue: however they are delivered, each company is started once and has one outcome."""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from attrs import evolve

from codat_commerce_async import (
    CodatCommerce,
    LocalRateLimiter,
    Reschedule,
    SyncOutcome,
    SyncRequest,
    SyncStepper,
    SyncTicket,
)
from codat_commerce_async.errors import (
    AuthenticationError,
    NotFoundError,
    OutcomeUnknownError,
    PermissionDeniedError,
    SyncWaitTimeoutError,
)
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.simulator import Fault, FaultKind, FaultPlan, ScriptedSync
from codat_commerce_async.simulator.in_memory import InMemoryTransport
from codat_commerce_async.syncing.journal import JournalEntry
from codat_commerce_async.syncing.ticket import TicketVersionError
from tests.simulations.storm import STORM
from tests.support.fans import Codat

pytestmark = pytest.mark.virtual_time

NOON = datetime(2024, 1, 15, 12, tzinfo=UTC)


def tickets(codat: Codat, companies: Sequence[str | SyncRequest] | None = None) -> list[SyncTicket]:
    return list(SyncTicket.for_run("a run", codat.ids if companies is None else companies, wall_clock=codat.clock))


async def finish(stepper: SyncStepper, ticket: SyncTicket) -> SyncOutcome:
    """Step a ticket to its end, through JSON, as a queue does."""
    while isinstance(result := await stepper.step(SyncTicket.from_json(ticket.to_json())), Reschedule):
        await asyncio.sleep(result.seconds)
        ticket = result.ticket
    return result


async def test_each_company_is_started_once_and_has_one_outcome() -> None:
    codat = Codat(20)
    async with codat.client() as client:
        stepper = client.sync.stepper()
        outcomes = await asyncio.gather(*(finish(stepper, one) for one in tickets(codat)))
    assert [outcome.ok for outcome in outcomes] == [True] * 20
    assert codat.started == set(codat.ids)
    assert codat.started_twice == []
    assert [outcome.ticket_id for outcome in outcomes] == [ticket.id for ticket in tickets(codat)]


async def test_a_ticket_delivered_five_times_at_once_starts_one_sync() -> None:
    codat = Codat(1)
    [ticket] = tickets(codat)
    async with codat.client() as one, codat.client() as other:
        steppers = [client.sync.stepper() for client in (one, other, one, other, one)]
        outcomes = await asyncio.gather(*(finish(stepper, ticket) for stepper in steppers))
    assert {(outcome.ok, outcome.ticket_id) for outcome in outcomes} == {(True, ticket.id)}
    assert codat.simulator.syncs_started(codat.ids[0]) == 1


@pytest.mark.parametrize("hours", [1.0, 2.0])
@pytest.mark.parametrize("is_same_process", [True, False])
async def test_an_old_ticket_starts_nothing_again(*, hours: float, is_same_process: bool) -> None:
    codat = Codat(1)
    [ticket] = tickets(codat)
    async with codat.client() as client, codat.client() as other:
        stepper = client.sync.stepper()
        first = await finish(stepper, ticket)
        await asyncio.sleep(hours * 3600)
        later = await finish(stepper if is_same_process else other.sync.stepper(), ticket)
    assert codat.simulator.syncs_started(codat.ids[0]) == 1
    assert first.ok
    assert first.ticket_id == later.ticket_id
    if hours < 1.5:
        assert later.ok
    else:
        # Codat does not report whose sync it is, so it is not claimed.
        assert isinstance(later.error, OutcomeUnknownError)
        assert later.error.candidates == (codat.simulator.syncs(codat.ids[0])[0].sync_id,)


async def test_a_delivery_after_the_first_use_of_the_key_does_not_prolong_its_life() -> None:
    codat = Codat(1)
    [ticket] = tickets(codat)
    async with codat.client() as client, codat.client() as other:
        await client.sync.stepper().step(ticket)
        stepper = other.sync.stepper()
        await asyncio.sleep(84 * 60)
        assert isinstance(await stepper.step(ticket), Reschedule)
        await asyncio.sleep(16 * 60)
        await stepper.step(ticket)
    assert codat.simulator.syncs_started(codat.ids[0]) == 1


async def test_a_ticket_of_a_machine_whose_clock_is_ahead_is_not_sent_under_its_key() -> None:
    codat = Codat(1)
    [ticket] = tickets(codat)
    async with codat.client() as client:
        await client.sync.stepper().step(ticket)
        await asyncio.sleep(2 * 3600)
        ahead = evolve(ticket, created_at=ticket.created_at + timedelta(hours=4))
        await client.sync.stepper().step(ahead)
    assert codat.simulator.syncs_started(codat.ids[0]) == 1


async def test_a_first_delivery_after_the_life_of_the_key_starts_the_sync() -> None:
    codat = Codat(1)
    [ticket] = tickets(codat)
    await asyncio.sleep(3 * 3600)
    async with codat.client() as client:
        assert (await finish(client.sync.stepper(), ticket)).ok
    assert codat.simulator.syncs_started(codat.ids[0]) == 1


async def test_a_step_never_sleeps_until_the_next_poll() -> None:
    codat = Codat(1)
    async with codat.client() as client:
        stepper, loop = client.sync.stepper(), asyncio.get_running_loop()
        result = await stepper.step(tickets(codat)[0])
        assert isinstance(result, Reschedule)
        began = loop.time()
        assert isinstance(await stepper.step(result.ticket), Reschedule)
    assert loop.time() - began < 1.0


async def test_duplicates_that_a_kill_leaves_behind_change_nothing() -> None:
    """A worker that is killed between re-enqueue and acknowledgement leaves two tickets after every step."""
    codat = Codat(5, faults=FaultPlan(rate=0.1))
    queue: list[tuple[float, int, SyncTicket]] = [(0.0, n, one) for n, one in enumerate(tickets(codat))]
    outcomes: dict[str | None, list[SyncOutcome]] = {}
    deliveries = 0
    async with codat.client() as client, codat.client() as other:
        steppers, loop = (client.sync.stepper(), other.sync.stepper()), asyncio.get_running_loop()
        while queue:
            queue.sort(key=lambda item: item[:2])
            due, number, ticket = queue.pop(0)
            await asyncio.sleep(max(0.0, due - loop.time()))
            deliveries += 1
            result = await steppers[deliveries % 2].step(ticket)
            if deliveries % 3 == 0 and deliveries < 60:
                queue.append((loop.time(), number, ticket))
            if isinstance(result, Reschedule):
                queue.append((loop.time() + result.seconds, number, result.ticket))
            else:
                outcomes.setdefault(result.ticket_id, []).append(result)
    assert set(outcomes) == {ticket.id for ticket in tickets(codat)}
    assert all(outcome.ok for each in outcomes.values() for outcome in each)
    assert codat.started_twice == []


async def test_under_faults_each_company_is_started_once() -> None:
    codat = Codat(20, faults=FaultPlan(rate=0.25, kinds=STORM))
    async with codat.client() as client, codat.client() as other:
        steppers = (client.sync.stepper(), other.sync.stepper())
        outcomes = await asyncio.gather(*(finish(steppers[n % 2], one) for n, one in enumerate(tickets(codat))))
    assert codat.started_twice == []
    assert len({outcome.ticket_id for outcome in outcomes}) == 20
    assert all(outcome.ok or isinstance(outcome.error, OutcomeUnknownError) for outcome in outcomes)


async def test_polls_cost_about_as_many_requests_as_in_one_run() -> None:
    async def requests(*, in_steps: bool) -> int:
        codat = Codat(60)
        async with codat.client() as client:
            if in_steps:
                stepper = client.sync.stepper()
                await asyncio.gather(*(finish(stepper, one) for one in tickets(codat)))
            else:
                async with client.sync.run_many(codat.ids) as run:
                    await run.results()
        return codat.requests

    assert await requests(in_steps=True) < 1.25 * await requests(in_steps=False)


async def test_a_sync_that_was_seen_long_ago_survives_one_404() -> None:
    codat = Codat(1, durations=lambda _: 600.0)
    async with codat.client() as client:
        stepper = client.sync.stepper()
        started = await stepper.step(tickets(codat)[0])
        assert isinstance(started, Reschedule)
        await asyncio.sleep(100)
        seen = await stepper.step(started.ticket)
        assert isinstance(seen, Reschedule)
        await asyncio.sleep(30)
        codat.simulator.set_fault("get-sync-by-id", Fault(FaultKind.ERROR_BEFORE, status=404))
        assert isinstance(await stepper.step(seen.ticket), Reschedule)
        await asyncio.sleep(100)
        codat.simulator.set_fault("get-sync-by-id", Fault(FaultKind.ERROR_BEFORE, status=404))
        lost = await stepper.step(seen.ticket)
    assert isinstance(lost, SyncOutcome)
    assert isinstance(lost.error, NotFoundError)


async def test_a_sync_that_does_not_end_in_time_is_an_outcome() -> None:
    codat = Codat(1, durations=lambda _: 9999.0)
    async with codat.client() as client:
        outcome = await finish(client.sync.stepper(timeout=300.0), tickets(codat)[0])
    assert isinstance(outcome.error, SyncWaitTimeoutError)
    assert 300.0 <= outcome.error.elapsed < 320.0
    assert outcome.error.polls == outcome.polls > 1


async def test_an_invalid_id_is_an_outcome_and_a_failed_sync_too() -> None:
    codat = Codat(1)
    codat.simulator.script_sync(codat.ids[0], ScriptedSync(5000, duration=5.0))
    wrong: list[str] = ["..", "", None]  # type: ignore[list-item]
    async with codat.client() as client:
        outcomes = [await finish(client.sync.stepper(), one) for one in tickets(codat, [*wrong, codat.ids[0]])]
    assert [outcome.error is not None for outcome in outcomes] == [True, True, True, False]
    assert outcomes[-1].status is not None
    assert outcomes[-1].status.failed


async def test_an_error_that_concerns_all_companies_is_raised() -> None:
    codat = Codat(2)
    codat.simulator.set_fault("request-sync", Fault(FaultKind.ERROR_BEFORE, status=401))
    first, second = tickets(codat)
    async with codat.client() as client:
        stepper = client.sync.stepper()
        with pytest.raises(AuthenticationError):
            await stepper.step(first)
        assert (await finish(stepper, second)).ok


async def test_an_exhausted_quota_reschedules_the_ticket_beyond_the_reset() -> None:
    codat = Codat(2, per_day=1000)
    first, second = tickets(codat)
    async with codat.client() as client:
        stepper = client.sync.stepper()
        started = await stepper.step(first)
        assert isinstance(started, Reschedule)
        codat.simulator.set_remaining_quota(0)
        began = asyncio.get_running_loop().time()
        delayed = [await stepper.step(one) for _ in range(2) for one in (started.ticket, second)]
        for result in delayed[2:]:
            assert isinstance(result, Reschedule)
            assert result.seconds > 3600
        assert asyncio.get_running_loop().time() - began < 5.0
        for result in delayed[2:]:
            assert isinstance(result, Reschedule)
            assert stepper.seconds_until_due(result.ticket) == pytest.approx(result.seconds, abs=1.0)
        await asyncio.sleep(24 * 3600)
        assert (await finish(stepper, second)).ok
        assert (await finish(stepper, started.ticket)).ok
    assert codat.started_twice == []


def test_the_id_follows_from_run_company_and_period() -> None:
    request = SyncRequest(company_id="one", start=NOON, finish=NOON + timedelta(days=1))
    companies: list[str | SyncRequest] = ["one", "two", request]
    ids = [ticket.id for ticket in SyncTicket.for_run("a run", companies)]
    assert ids == [ticket.id for ticket in SyncTicket.for_run("a run", iter(companies))]
    assert len({*ids, *(ticket.id for ticket in SyncTicket.for_run("another", companies))}) == 6


def test_a_ticket_is_created_when_it_is_taken() -> None:
    moments = iter([1.0, 2.0])
    feed = SyncTicket.for_run("a run", ["one", "two"], wall_clock=lambda: next(moments))
    assert [ticket.created_at.timestamp() for ticket in feed] == [1.0, 2.0]


async def test_a_run_that_is_queued_again_after_hours_starts_nothing_again_if_it_has_its_first_time() -> None:
    codat = Codat(2)
    first_queued_at = datetime.fromtimestamp(codat.clock(), UTC)
    async with codat.client() as client:
        stepper = client.sync.stepper()
        assert (await finish(stepper, tickets(codat, codat.ids[:1])[0])).ok
        await asyncio.sleep(3 * 3600)
        again = SyncTicket.for_run("a run", codat.ids, first_queued_at=first_queued_at, wall_clock=codat.clock)
        known, new = [await finish(stepper, ticket) for ticket in again]
    assert isinstance(known.error, OutcomeUnknownError)
    assert new.ok
    assert codat.started_twice == []


def test_the_log_has_the_time_with_which_a_run_is_queued_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "codat_commerce_async.sync")
    feed = SyncTicket.for_run("a run", ["one", "two"], wall_clock=NOON.timestamp)
    assert caplog.records == []
    assert len(list(feed)) == 2
    (record,) = caplog.records
    assert (record.levelname, getattr(record, "run_id", None)) == ("INFO", "a run")
    first = datetime.fromisoformat(record.getMessage().partition("first_queued_at=")[2])
    assert first == NOON
    caplog.clear()
    later = (NOON + timedelta(hours=3)).timestamp
    assert len(list(SyncTicket.for_run("a run", ["one", "two"], first_queued_at=first, wall_clock=later))) == 2
    assert caplog.records == []


@pytest.mark.parametrize(
    ("first_queued_at", "words"),
    [
        (NOON.replace(tzinfo=None), "first_queued_at must be a datetime with a time zone"),
        (
            NOON + timedelta(hours=1),
            "first_queued_at must be in the past, as the time at which the run was first queued",
        ),
    ],
)
def test_a_time_of_the_first_queuing_that_cannot_be_one_is_refused_at_the_call(
    first_queued_at: datetime, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        SyncTicket.for_run("a run", ["one"], first_queued_at=first_queued_at, wall_clock=NOON.timestamp)


def test_one_string_is_no_list_of_companies() -> None:
    with pytest.raises(TypeError, match="companies must be an iterable of company ids"):
        SyncTicket.for_run("a run", "company")


def test_clocks_may_differ_by_seconds_and_no_ticket_is_created_in_the_future() -> None:
    for seconds, expected in ((30.0, NOON), (-30.0, NOON - timedelta(seconds=30))):
        first = NOON + timedelta(seconds=seconds)
        [ticket] = SyncTicket.for_run("a run", ["one"], first_queued_at=first, wall_clock=NOON.timestamp)
        assert ticket.created_at == expected


def whole() -> SyncTicket:
    [ticket] = SyncTicket.for_run("a run", [SyncRequest(company_id="one", sync_to=NOON)], server_offset=1.5)
    return evolve(ticket, polls=3, last_age=12.5, last_seen_at=NOON, not_before=NOON)


def test_a_ticket_survives_json_and_unknown_fields_are_ignored() -> None:
    text = whole().to_json()
    assert SyncTicket.from_json(text) == whole().__class__.from_json(json.dumps({**json.loads(text), "later": 1}))
    assert SyncTicket.from_json(text).to_json() == text


def test_a_ticket_of_a_later_version_is_distinguished_from_a_broken_one() -> None:
    fields = json.loads(whole().to_json())
    with pytest.raises(TicketVersionError, match=r"version of a ticket must be 1 at most \(got 2\)"):
        SyncTicket.from_json(json.dumps({**fields, "version": 2, "request": "of another shape"}))
    for broken in ("", "[]", json.dumps({**fields, "created_at": None}), json.dumps({**fields, "polls": "3"})):
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - the class matters
            SyncTicket.from_json(broken)
        assert type(caught.value) is ValueError


class MemoryStore:
    """A `JournalStore` of the application, in memory."""

    is_persistent = True
    run = 1
    run_id: str | None = None

    def __init__(self) -> None:
        self.session = 1
        self.entries: dict[SyncRequest, JournalEntry] = {}
        self.is_closed = False

    async def get(self, request: SyncRequest) -> JournalEntry | None:
        return self.entries.get(request)

    async def of_company(self, company_id: str) -> list[JournalEntry]:
        return [entry for entry in self.entries.values() if entry.request.company_id == company_id]

    async def unfinished(self) -> AsyncIterator[list[JournalEntry]]:
        yield [entry for entry in self.entries.values() if not entry.has_status and entry.state != "error"]

    async def durations(self) -> list[float]:
        return []

    def count_poll(self, now: float) -> None:
        pass

    async def record_end(self, now: float) -> None:
        pass

    async def record_start(
        self,
        request: SyncRequest,
        key: str,
        sent_at: float,
        server_offset: float | None = None,
        position: int | None = None,
    ) -> None:
        self.entries[request] = JournalEntry(
            request, "starting", idempotency_key=key, sent_at=sent_at, server_offset=server_offset
        )

    async def record_not_started(self, request: SyncRequest, key: str) -> None:
        del self.entries[request]

    async def record_running(self, request: SyncRequest, handle: SyncHandle, run: int | None = None) -> None:
        self.entries[request] = evolve(self.entries[request], state="running", handle=handle)

    async def record_outcome(
        self, outcome: SyncOutcome, now: float, *, run: int | None = None, position: int | None = None
    ) -> None:
        state = "succeeded" if outcome.ok else "failed"
        self.entries[outcome.request] = evolve(self.entries[outcome.request], state=state, session=self.session)

    async def close(self) -> None:
        self.is_closed = True


async def test_a_run_resumes_from_a_journal_object_and_leaves_it_open() -> None:
    codat, store = Codat(10), MemoryStore()
    async with codat.client() as client, client.sync.run_many(codat.ids, journal=store) as run:
        first = [await anext(run) for _ in range(3)]
    store.session += 1
    async with codat.client() as client, client.sync.run_many(codat.ids, journal=store) as run:
        rest = await run.results()
    assert len(first) + len(rest) == 10
    assert codat.started_twice == []
    assert not store.is_closed
    with pytest.raises(TypeError, match=r"journal must be a path or a JournalStore \(got int\)"):
        client.sync.run_many(codat.ids, journal=3)  # type: ignore[arg-type]


class FleetLimiter(LocalRateLimiter):
    """A rate limiter with the reservations of runs, as one that several processes share."""

    fleet_min_interval = 0.06

    def __init__(self) -> None:
        super().__init__()
        self.reserved_of: Counter[str] = Counter()

    def reserve(self, requests: int, *, run: str | None = None) -> None:
        self.reserved_of[run or ""] += requests


async def test_a_running_sync_has_polls_reserved_in_its_run_until_it_ends() -> None:
    codat, limiter = Codat(2), FleetLimiter()
    async with codat.client(rate_limiter=limiter) as client:
        stepper = client.sync.stepper()
        started = [await stepper.step(each) for each in tickets(codat)]
        assert limiter.reserved_of == {"a run": 4}
        for each in started:
            assert isinstance(each, Reschedule)
            await finish(stepper, each.ticket)
    assert limiter.reserved_of == {"a run": 0}


async def test_a_worker_whose_clock_is_slow_starts_a_sync_under_the_key_of_its_ticket() -> None:
    codat = Codat(1)
    [ticket] = tickets(codat)
    slow = CodatCommerce(
        "key", transport=InMemoryTransport(codat.simulator), wall_clock=lambda: codat.clock() - 2 * 3600.0
    )
    async with slow:
        assert isinstance(await slow.sync.stepper().step(ticket), Reschedule)
    keys = [each.idempotency_key for each in codat.simulator.requests if each.operation == "request-sync"]
    assert keys == [ticket.id]


async def test_running_syncs_are_polled_more_often_once_all_tickets_of_the_run_were_taken() -> None:
    codat = Codat(100, durations=lambda rng: 600.0)
    first, *_, last = tickets(codat)
    async with codat.client() as client:
        stepper = client.sync.stepper()
        started = await stepper.step(first)
        assert isinstance(started, Reschedule)
        while_starting = stepper.seconds_until_due(started.ticket)
        await stepper.step(last)
        assert stepper.seconds_until_due(started.ticket) < while_starting / 2


@pytest.mark.parametrize(("timeout", "least", "most"), [(2000.0, 2000.0, 2003.0), (None, 5000.0, 5050.0)])
async def test_a_sync_is_polled_until_its_timeout_and_no_longer(
    timeout: float | None, least: float, most: float
) -> None:
    codat = Codat(1, durations=lambda rng: 5000.0)
    async with codat.client() as client:
        outcome = await finish(client.sync.stepper(timeout=timeout), tickets(codat)[0])
    assert outcome.ok is (timeout is None)
    assert least <= outcome.elapsed < most


async def test_steps_learn_when_syncs_end() -> None:
    codat = Codat(25, durations=lambda rng: 300.0)
    async with codat.client() as client:
        stepper = client.sync.stepper()
        *others, before_last, _ = [await finish(stepper, each) for each in tickets(codat)]
    # Fewer polls, as none is made when no sync ends, but the end is detected as soon as before.
    assert before_last.polls <= others[0].polls - 10
    assert sum(each.elapsed - 300.0 for each in others[10:]) / len(others[10:]) < 5.0


async def test_a_poll_with_a_refused_key_is_not_an_outcome() -> None:
    codat, limiter = Codat(1), FleetLimiter()
    async with codat.client(rate_limiter=limiter) as client:
        stepper = client.sync.stepper()
        started = await stepper.step(tickets(codat)[0])
        assert isinstance(started, Reschedule)
        codat.simulator.set_fault("get-sync-status", Fault(FaultKind.ERROR_BEFORE, status=401))
        with pytest.raises(AuthenticationError):
            await stepper.step(started.ticket)
        assert limiter.reserved_of == {"a run": 2}
        codat.simulator.set_fault("get-sync-status", Fault(FaultKind.ERROR_BEFORE, status=403))
        outcome = await stepper.step(started.ticket)
    assert isinstance(outcome, SyncOutcome)
    assert isinstance(outcome.error, PermissionDeniedError)
    assert limiter.reserved_of == {"a run": 0}


async def test_a_ticket_with_an_invalid_id_is_an_outcome_without_a_request() -> None:
    codat = Codat(1)
    [ticket] = tickets(codat)
    async with codat.client() as client:
        outcome = await client.sync.stepper().step(evolve(ticket, request=SyncRequest(company_id="..")))
    assert isinstance(outcome, SyncOutcome)
    assert str(outcome.error).startswith("company_id must be an id other than")
    assert codat.requests == 0
