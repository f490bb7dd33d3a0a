"""One sync or company belongs to one request: nothing is adopted that another request may have created."""

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from codat_commerce_async import CodatCommerce
from codat_commerce_async._core.claims import Claim, Claims
from codat_commerce_async._core.transport import Request, Response
from codat_commerce_async.errors import CodatError, OutcomeUnknownError
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.policies import RetryPolicy, Timeouts
from codat_commerce_async.simulator.virtual_time import loop_wall_clock
from codat_commerce_async.syncing._journal.writer import JournalWriter
from codat_commerce_async.syncing.request import SyncRequest
from tests.support.independent import IndependentServer
from tests.support.reachable import reachable
from tests.support.scripted import client_of, respond

pytestmark = pytest.mark.virtual_time

JANUARY = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 31, tzinfo=UTC)
FEBRUARY = datetime(2024, 2, 1, tzinfo=UTC), datetime(2024, 2, 29, tzinfo=UTC)
COMPANY = "company-1"


class Server(IndependentServer):
    """An independent server whose POSTs go by a script: `executed` and `refused` end in 500, `ok` as they should."""

    def __init__(self, *script: str, longest_delay: float = 0.0, date_error: float | None = 0.0) -> None:
        self.clock = loop_wall_clock()
        super().__init__(Random(1), self.clock, longest_delay=longest_delay, date_error=date_error)
        self.script = list(script)
        self._clients = 0

    def post(self, request: Request) -> tuple[int, object]:
        key = request.headers["Idempotency-Key"]
        if key not in self._memory:
            step = self.script.pop(0) if self.script else "ok"
            self._random.random = lambda: {"executed": 0.9, "refused": 0.1, "ok": 1.0}[step]  # type: ignore[method-assign]
            self.fails = 0.0 if step == "ok" else 0.95 if step == "executed" else 1.0
        try:
            return super().post(request)
        finally:
            self.fails = 0.0

    def client(self, retry: RetryPolicy | None = None) -> CodatCommerce:
        self._clients += 1
        rng = Random(100 + self._clients)
        return CodatCommerce("key", transport=self, wall_clock=self.clock, random=rng, retry=retry)


async def result(starting: "asyncio.Future[SyncHandle] | object") -> SyncHandle | CodatError:
    try:
        return await starting  # type: ignore[misc,no-any-return]
    except CodatError as error:
        return error


async def both(client: CodatCommerce, *ranges: tuple[datetime, datetime] | None) -> list[SyncHandle | CodatError]:
    starts = [result(client.sync.start(COMPANY, date_range=date_range)) for date_range in ranges]
    return list(await asyncio.gather(*starts))


@pytest.mark.parametrize("ranges", [(JANUARY, FEBRUARY), (None, FEBRUARY), (None, None)])
async def test_of_two_requests_of_which_one_was_executed_neither_adopts(
    ranges: tuple[tuple[datetime, datetime] | None, ...],
) -> None:
    server = Server("executed", "refused")
    async with server.client() as client:
        results = await both(client, *ranges)
    (sync,) = server.syncs
    assert [type(each) for each in results] == [OutcomeUnknownError] * 2
    assert [each.candidates for each in results if isinstance(each, OutcomeUnknownError)] == [(sync.sync_id,)] * 2


async def test_an_open_request_with_an_ambiguous_end_still_stops_the_next_one_from_adopting() -> None:
    server = Server("executed", "refused")
    async with server.client() as client:
        first = asyncio.create_task(client.sync.start(COMPANY, date_range=JANUARY))
        await asyncio.sleep(0.2)
        second = await result(client.sync.start(COMPANY))
        with pytest.raises(OutcomeUnknownError):
            await first
    assert isinstance(second, OutcomeUnknownError)


async def test_a_sync_of_an_earlier_request_is_no_candidate() -> None:
    server = Server("ok", "refused", "ok")
    async with server.client() as client:
        handle = await client.sync.start(COMPANY, date_range=JANUARY)
        # Right after it, so that by time alone it may be this one's.
        second = await client.sync.start(COMPANY, date_range=FEBRUARY)
    assert (handle.adopted, second.adopted, len(server.syncs)) == (False, False, 2)
    assert handle.commerce_sync_id != second.commerce_sync_id


async def test_a_sync_that_a_wait_was_for_is_no_candidate() -> None:
    server = Server("refused", "ok")
    async with server.client() as client:
        starting = asyncio.create_task(client.sync.start(COMPANY))
        await asyncio.sleep(0.8)
        external = server.start(COMPANY, None, None)
        waiting = asyncio.create_task(client.sync.wait(COMPANY, external.sync_id))
        handle = await starting
        await waiting
    assert (handle.adopted, len(server.syncs)) == (False, 2)


@pytest.mark.parametrize("options", [{"date_range": JANUARY}, {"sync_to": JANUARY[0]}, {"adopt": False}])
async def test_without_its_period_nothing_is_adopted(options: dict[str, object]) -> None:
    server = Server("executed")
    async with server.client() as client:
        with pytest.raises(OutcomeUnknownError) as raised:
            await client.sync.start(COMPANY, **options)  # type: ignore[arg-type]
    assert raised.value.candidates == (server.syncs[0].sync_id,)


async def test_a_run_that_may_not_adopt_reports_unknown() -> None:
    server = Server("executed")
    async with server.client() as client:
        with pytest.raises(OutcomeUnknownError):
            await client.sync.run(COMPANY, adopt=False)
        async with client.sync.run_many([COMPANY], adopt=False) as run:
            server.script.append("executed")
            (outcome,) = await run.results()
    assert (type(outcome.error), outcome.adopted, run.report.adopted) == (OutcomeUnknownError, False, 0)


async def test_an_adoption_is_visible_everywhere(caplog: pytest.LogCaptureFixture) -> None:
    server = Server("executed")
    with caplog.at_level(logging.WARNING, "codat_commerce_async"):
        async with server.client() as client, client.sync.run_many([COMPANY]) as run:
            (outcome,) = await run.results()
    assert outcome.ok
    assert outcome.handle is not None
    assert (outcome.adopted, outcome.handle.adopted, run.report.adopted) == (True, True, 1)
    assert "1 adopted" in str(run.report)
    assert server.syncs[0].sync_id in caplog.text


async def test_a_sync_that_began_just_before_the_request_is_not_adopted() -> None:
    server = Server("refused")
    server.start(COMPANY, None, None)
    async with server.client() as client:
        await client.sync.list(COMPANY)
        await asyncio.sleep(1.2)
        with pytest.raises(OutcomeUnknownError) as raised:
            await client.sync.start(COMPANY)
    assert raised.value.candidates == (server.syncs[0].sync_id,)


@pytest.mark.parametrize("delay", [15.5, 30.0, 59.0])
async def test_a_sync_that_becomes_visible_late_is_not_started_again(delay: float) -> None:
    server = Server("executed")
    async with server.client() as client:
        task = asyncio.create_task(client.sync.start(COMPANY))
        await asyncio.sleep(0.9)
        server.syncs[0].visible_from += delay
        await task
    assert len(server.syncs) == 1


async def test_the_visibility_delay_is_a_setting() -> None:
    server = Server("refused")
    async with server.client(RetryPolicy(max_visibility_delay=5.0)) as client:
        await client.sync.start(COMPANY)
        assert asyncio.get_running_loop().time() < 10.0
    server = Server("refused")
    async with server.client(RetryPolicy(max_visibility_delay=float("inf"))) as client:
        with pytest.raises(OutcomeUnknownError):
            await client.sync.start(COMPANY)


@pytest.mark.parametrize("date_error", [-3600.0, -60.0, 60.0, 3600.0, None])
async def test_a_date_header_that_is_wrong_or_missing_starts_nothing_twice(date_error: float | None) -> None:
    server = Server("executed", date_error=date_error)
    async with server.client() as client:
        await result(client.sync.start(COMPANY))
    assert len(server.syncs) == 1


@pytest.mark.parametrize("date_error", [-3600.0, -60.0, None])
async def test_a_date_header_that_is_wrong_or_missing_makes_nothing_ours(date_error: float | None) -> None:
    server = Server("refused", date_error=date_error)
    server.start(COMPANY, None, None)
    async with server.client() as client:
        await asyncio.sleep(30.0)
        assert isinstance(await result(client.sync.start(COMPANY)), OutcomeUnknownError)


async def test_without_a_date_header_the_local_clock_makes_nothing_ours() -> None:
    server = Server("refused", date_error=None)
    server.start(COMPANY, None, None)
    rng = Random(101)
    async with CodatCommerce("key", transport=server, wall_clock=lambda: server.clock() - 60.0, random=rng) as client:
        await asyncio.sleep(30.0)
        assert isinstance(await result(client.sync.start(COMPANY)), OutcomeUnknownError)


async def test_without_a_date_header_a_company_without_syncs_is_started_again() -> None:
    server = Server("refused", date_error=None)
    async with server.client() as client:
        handle = await client.sync.start(COMPANY)
    assert (handle.adopted, len(server.syncs)) == (False, 1)


async def test_the_syncs_of_a_journal_are_no_candidates(tmp_path: Path) -> None:
    server, path = Server("executed"), tmp_path / "journal"
    request = SyncRequest(company_id=COMPANY, start=JANUARY[0], finish=JANUARY[1])
    async with server.client() as client, client.sync.run_many([request], journal=path) as run:
        (unknown,) = await run.results()
    assert isinstance(unknown.error, OutcomeUnknownError)
    server.script.append("refused")
    other = SyncRequest(company_id=COMPANY)
    async with server.client() as client, client.sync.run_many([other], journal=path) as run:
        (outcome,) = await run.results()
    # The one sync may be that of the other request, which is ambiguous in the journal.
    assert isinstance(outcome.error, OutcomeUnknownError)
    assert outcome.error.candidates == (server.syncs[0].sync_id,)


async def test_a_finished_sync_of_a_journal_is_no_candidate(tmp_path: Path) -> None:
    server, path = Server("ok", "refused", "ok"), tmp_path / "journal"
    journal = await JournalWriter.open(path)
    async with server.client() as client:
        handle = await client.sync.start(COMPANY, date_range=JANUARY)
        await journal.record_running(SyncRequest(company_id=COMPANY, start=JANUARY[0], finish=JANUARY[1]), handle)
        await journal.close()
    server.syncs[0].ends = 0.0
    async with server.client() as client, client.sync.run_many([], journal=path) as run:
        assert [outcome.ok for outcome in await run.results()] == [True]
    async with (
        server.client() as client,
        client.sync.run_many([SyncRequest(company_id=COMPANY)], journal=path) as run,
    ):
        (outcome,) = await run.results()
    assert (outcome.ok, outcome.adopted, len(server.syncs)) == (True, False, 2), outcome


async def test_a_handle_without_an_id_does_not_get_the_sync_of_another_request() -> None:
    server = Server("executed", "ok")
    async with server.client() as client:
        with pytest.raises(OutcomeUnknownError) as raised:
            await client.sync.start(COMPANY, date_range=JANUARY)
        assert raised.value.handle is not None
        with pytest.raises(OutcomeUnknownError) as waiting:
            await client.sync.wait(raised.value.handle)
    # A period is never adopted, not later either.
    assert waiting.value.candidates == (server.syncs[0].sync_id,)


async def test_two_ambiguous_handles_do_not_get_the_same_sync() -> None:
    server = Server("executed", "refused")
    async with server.client() as client:
        results = await both(client, None, None)
        handles = [each.handle for each in results if isinstance(each, OutcomeUnknownError)]
        assert len(handles) == 2
        for handle in handles:
            assert handle is not None
            with pytest.raises(OutcomeUnknownError):
                await client.sync.wait(handle)


async def test_the_grace_for_a_404_begins_when_the_request_was_accepted() -> None:
    server = Server("ok", longest_delay=0.0)
    async with server.client() as client:
        sending, server.send = server.send, _slow(server.send, 55.0)  # type: ignore[method-assign, assignment]
        handle = await client.sync.start(COMPANY)
        server.send = sending  # type: ignore[method-assign]
        server.syncs[0].visible_from = server.clock() + 20.0
        status = await client.sync.wait(handle)
    assert status.sync_id == server.syncs[0].sync_id
    assert SyncHandle.from_json(handle.to_json()).accepted_at == handle.accepted_at


def _slow(send: Callable[[Request, Timeouts], object], seconds: float) -> Callable[[Request, Timeouts], object]:
    async def slowly(request: Request, timeouts: Timeouts) -> Response:
        await asyncio.sleep(seconds)
        response: Response = await send(request, timeouts)  # type: ignore[misc]
        return response

    return slowly


BROKEN = {"statusCode": 500, "error": "It broke.", "correlationId": "c0ffee"}
DATED = {"Date": "Mon, 15 Jan 2024 08:00:00 GMT"}


def companies(*created: float) -> dict[str, object]:
    epoch = datetime(2024, 1, 15, 8, tzinfo=UTC)
    results = [
        {
            "id": f"c{number}",
            "name": "A",
            "created": (epoch + timedelta(seconds=seconds)).isoformat(),
            "redirect": "https://link.example",
        }
        for number, seconds in enumerate(created)
    ]
    return {"results": results, "pageNumber": 1, "pageSize": 100, "totalResults": len(results), "_links": {}}


class Directory:
    """Companies by name; a POST creates or not by a script, and always ends in a 500."""

    def __init__(self, creates: Sequence[bool]) -> None:
        self.creates = list(creates)
        self.created: list[float] = []

    async def send(self, request: Request, timeouts: Timeouts) -> Response:
        now = asyncio.get_running_loop().time()
        date = {"Date": f"Mon, 15 Jan 2024 08:00:{int(now) % 60:02} GMT"}
        await asyncio.sleep(0.1)
        if request.method == "GET":
            return respond(200, companies(*self.created), date)
        if self.creates.pop(0):
            self.created.append(now)
        return respond(500, BROKEN, date)

    async def aclose(self) -> None:
        pass


async def test_of_two_companies_of_one_name_of_which_one_was_created_neither_is_reported() -> None:
    directory = Directory([True, False])
    client = CodatCommerce("key", transport=directory, wall_clock=loop_wall_clock(), random=Random(1))
    async with client:
        results = await asyncio.gather(
            *(client.advanced_controls.create_company(name="A") for _ in range(2)), return_exceptions=True
        )
    assert [type(each) for each in results] == [OutcomeUnknownError] * 2


async def test_a_company_that_one_call_returned_is_not_that_of_another() -> None:
    client, _ = client_of(
        respond(200, {"id": "c0", "name": "A", "redirect": "https://link.example"}, DATED),
        respond(500, BROKEN, DATED),
        *[respond(200, companies(0.0), DATED)] * 5,
        respond(200, {"id": "c1", "name": "A", "redirect": "https://link.example"}, DATED),
        wall_clock=loop_wall_clock(),
    )
    first = await client.advanced_controls.create_company(name="A")
    second = await client.advanced_controls.create_company(name="A")
    assert (first.id, second.id) == ("c0", "c1")


async def test_a_company_of_another_description_is_not_adopted() -> None:
    directory = Directory([True])
    client = CodatCommerce("key", transport=directory, wall_clock=loop_wall_clock(), random=Random(1))
    async with client:
        with pytest.raises(OutcomeUnknownError):
            await client.advanced_controls.create_company(name="A", description="mine")


def test_a_resource_has_one_owner_unless_another_proves_it() -> None:
    claims = Claims()
    one, other = claims.claim("group", "key 1"), claims.claim("group", "key 2")
    assert claims.assign(one, "sync")
    assert not claims.assign(other, "sync")
    assert claims.is_others(other, "sync")
    assert claims.assign(other, "sync", proven=True)
    assert claims.is_others(one, "sync")


def test_the_independent_server_remembers_keys_for_ninety_minutes() -> None:
    now = 1_705_305_600.0
    server = IndependentServer(Random(1), lambda: now)
    request = Request("POST", "/companies/company-1/sync/commerce/latest", {"Idempotency-Key": "k"}, b"{}")
    first = json.dumps(server.post(request))
    now += 89 * 60.0
    assert json.dumps(server.post(request)) == first
    now += 2 * 60.0
    server.post(request)
    assert len(server.syncs) == 2


NOON = datetime(2024, 1, 15, 12, tzinfo=UTC)


def minutes(number: float) -> datetime:
    return NOON + timedelta(minutes=number)


def may_have_created(claim: Claim, *moments: float) -> list[bool]:
    return [claim.may_have_created(minutes(each)) for each in moments]


def test_a_request_may_have_created_what_began_from_its_first_sending_until_its_key_was_forgotten() -> None:
    claims, claim = Claims(), Claim(COMPANY)
    assert (claim.may_have_created(None), claim.may_have_created(NOON)) == (True, True)
    claims.mark_sent(claim, "key", minutes(10))
    claims.mark_sent(claim, "key", minutes(20))
    claims.mark_sent(claim, "key", minutes(5))
    assert claim.may_have_created(None)
    assert may_have_created(claim, 0, 5, 1000) == [False, True, True]
    claims.sending_ended(claim, minutes(30))
    assert may_have_created(claim, 0, 5, 119, 121) == [False, True, True, False]
    # It is sent once more.
    claims.mark_sent(claim, "key", minutes(40))
    assert may_have_created(claim, 5, 1000) == [True, True]
    claims.record_response(claim, "an alias", minutes(41), minutes(42))
    assert may_have_created(claim, 43, 45) == [True, False]


def test_a_request_is_open_until_its_resource_is_known_or_it_created_nothing() -> None:
    claims, own = Claims(), Claim(COMPANY)
    first, second, third = (claims.claim(COMPANY, name) for name in ("first", "second", "third"))
    for number, each in enumerate((own, first, second, third)):
        claims.mark_sent(each, f"key {number}", NOON)
    assert claims.others(own) == [first, second, third]
    claims.remove(first)
    claims.record_response(second, "an alias", NOON, NOON)
    assert claims.others(own) == [second, third]
    assert (claims.is_others(own, "an alias"), claims.is_others(second, "an alias")) == (True, False)
    assert claims.assign(third, "a sync")
    assert (claims.others(own), third.id) == ([second], "a sync")
    # The resource of a response that is repeated is known.
    claims.record_response(third, None, NOON, NOON)
    assert claims.others(own) == [second]
    for each in (own, second):
        claims.remove(each)
    assert not any(isinstance(each, list) for each in reachable(claims))


def test_the_name_that_was_used_last_is_kept_longest() -> None:
    claims, kept = Claims(), Claim(COMPANY)
    claims.record(kept, None, "kept")
    for number in range(99_999):
        claims.record(kept, None, f"{number}")
    claims.record(kept, None, "kept")
    claims.record(kept, None, "one more")
    assert claims.claim(COMPANY, "kept") is kept
    assert claims.claim(COMPANY, "0") is not kept
