"""One bad company is one outcome of a fan-out: whatever the input holds for it, and whatever the server sends of it."""

import asyncio
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from codat_commerce_async import CodatCommerce, errors
from codat_commerce_async._core.transport import Request, Response
from codat_commerce_async.errors import AuthenticationError, CodatError
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.policies import Timeouts
from codat_commerce_async.simulator import ScriptedSync
from codat_commerce_async.simulator.in_memory import InMemoryTransport
from codat_commerce_async.syncing.outcome import SyncOutcome
from codat_commerce_async.syncing.request import SyncRequest
from codat_commerce_async.syncing.run import SyncRun
from tests.support.fans import Codat

pytestmark = pytest.mark.virtual_time

Change = Callable[[Request, Response], Response]


class Altering:
    """A transport that changes every response that concerns one of these companies."""

    def __init__(self, codat: Codat, changes: Mapping[str, Change]) -> None:
        self._inner = InMemoryTransport(codat.simulator, latency=lambda: 0.1)
        self._changes = changes

    async def send(self, request: Request, timeouts: Timeouts) -> Response:
        response = await self._inner.send(request, timeouts)
        change = next((change for company_id, change in self._changes.items() if company_id in request.target), None)
        return response if change is None else change(request, response)

    async def aclose(self) -> None:
        await self._inner.aclose()


def with_fields(**fields: object) -> Change:
    """Replace fields of every JSON object."""

    def change(request: Request, response: Response) -> Response:
        value = json.loads(response.body)
        for one in value if isinstance(value, list) else [value]:
            one.update({name: new for name, new in fields.items() if name in one})
        return Response(response.status, response.headers, json.dumps(value).encode())

    return change


def raising(make: Callable[[], Exception], method: str) -> Change:
    def change(request: Request, response: Response) -> Response:
        if request.method == method:
            raise make()
        return response

    return change


def client_of(codat: Codat, company_id: str, change: Change) -> CodatCommerce:
    return client_with(codat, {company_id: change})


def client_with(codat: Codat, changes: Mapping[str, Change]) -> CodatCommerce:
    return CodatCommerce("key", transport=Altering(codat, changes), wall_clock=codat.clock, random=codat.random)


def by_company(outcomes: list[SyncOutcome]) -> dict[str, SyncOutcome]:
    named = {outcome.company_id: outcome for outcome in outcomes}
    assert len(named) == len(outcomes)
    return named


async def results(run: SyncRun) -> dict[str, SyncOutcome]:
    async with run:
        return by_company(await run.results())


VALUES: list[object] = ["", " ", "..", ".", "a/b\r\n", "0001-01-01T00:00:00+14:00", None, 10**400, [[]]]


@pytest.mark.parametrize("name", ["syncId", "commerceSyncId", "companyId", "syncUtc", "syncStatusCode", "errorMessage"])
async def test_any_response_about_one_company_is_that_companys_outcome(name: str) -> None:
    codat = Codat(4 + len(VALUES))
    bad, good = codat.ids[: len(VALUES)], codat.ids[len(VALUES) :]
    changes = {company_id: with_fields(**{name: value}) for company_id, value in zip(bad, VALUES, strict=True)}
    async with client_with(codat, changes) as client:
        outcomes = await results(client.sync.run_many(codat.ids, timeout=150.0))
    assert set(outcomes) == set(codat.ids)
    assert all(outcomes[company_id].ok for company_id in good)
    assert codat.started_twice == []


@pytest.mark.parametrize("sync_id", ["", " ", "..", "."])
async def test_a_sync_without_a_usable_id_is_followed_all_the_same_also_when_resumed(
    sync_id: str, tmp_path: Path
) -> None:
    codat = Codat(3, durations=lambda rng: 300.0)
    bad = codat.ids[0]
    async with client_of(codat, bad, with_fields(syncId=sync_id)) as client:
        async with client.sync.run_many(codat.ids, journal=tmp_path / "journal"):
            await asyncio.sleep(100.0)
        outcomes = await results(client.sync.run_many(codat.ids, journal=tmp_path / "journal"))
    assert all(outcome.ok for outcome in outcomes.values())
    assert (set(outcomes), codat.started_twice) == (set(codat.ids), [])


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("kind", [ValueError, TypeError, KeyError, RuntimeError, OverflowError, RecursionError])
async def test_an_exception_of_any_type_is_an_outcome_also_when_resumed(
    method: str, kind: type[Exception], tmp_path: Path
) -> None:
    codat = Codat(4)
    bad = codat.ids[1]
    async with client_of(codat, bad, raising(lambda: kind("a defect"), method)) as client:
        for expected in (set(codat.ids), {bad}):
            outcomes = await results(client.sync.run_many(codat.ids, journal=tmp_path / "journal"))
            assert set(outcomes) == expected
            assert {company_id for company_id, outcome in outcomes.items() if not outcome.ok} == {bad}
            error = outcomes[bad].error
            assert isinstance(error, CodatError)
            assert isinstance(error.__cause__, kind)
            assert kind.__name__ in str(error)


def test_the_errors_that_end_a_run_report_so_themselves() -> None:
    every = [getattr(errors, name) for name in errors.__all__]
    fatal = {one.__name__ for one in every if isinstance(one, type) and getattr(one, "fatal_for_run", False)}
    assert fatal == {
        "AuthenticationError",
        "ClientClosedError",
        "JournalError",
        "JournalInUseError",
        "SharedQuotaError",
        "WrongEventLoopError",
    }


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_a_user_defined_error_ends_the_run_if_it_reports_it(method: str) -> None:
    class RevokedError(CodatError):
        fatal_for_run = True

    codat = Codat(3)
    async with client_of(codat, codat.ids[0], raising(lambda: RevokedError("no more"), method)) as client:
        with pytest.raises(RevokedError):
            await results(client.sync.run_many(codat.ids))


async def test_a_401_of_one_company_ends_the_run() -> None:
    codat = Codat(3)
    client = client_of(codat, codat.ids[2], lambda request, response: Response(401, response.headers, b"{}"))
    async with client:
        with pytest.raises(AuthenticationError):
            await results(client.sync.run_many(codat.ids))


class Unprintable:
    def __repr__(self) -> str:
        raise LookupError("no text")


INVALID = [None, 7, b"bytes", 1.5, ["a list"], {}, object(), Unprintable(), SyncRequest, "", " ", "..", "\ud800"]


# Position 39 comes after the companies that are started at once.
@pytest.mark.parametrize(
    ("companies", "invalid"),
    [
        (3, [(1, value) for value in INVALID]),
        (39, [(0, Unprintable()), (20, "..")]),
        (39, [(20, Unprintable()), (40, "..")]),
        (39, [(0, ".."), (40, Unprintable())]),
    ],
    ids=["every type", "begin and middle", "middle and end", "begin and end"],
)
async def test_an_invalid_id_of_any_type_at_any_position_is_one_outcome(
    companies: int, invalid: list[tuple[int, object]], tmp_path: Path
) -> None:
    codat = Codat(companies)
    source: list[object] = [*codat.ids]
    for position, value in invalid:
        source.insert(position, value)
    async with codat.client() as client:
        run = client.sync.run_many(source, journal=tmp_path / "journal")  # type: ignore[arg-type]
        outcomes = await results(run)
    assert {company_id for company_id, outcome in outcomes.items() if outcome.ok} == set(codat.ids)
    assert len(outcomes) == companies + len(invalid)
    assert run.report.errors == len(invalid)
    assert codat.started_twice == []


@pytest.mark.parametrize("invalid", [None, 7, [], b"id"])
async def test_a_request_with_an_id_of_a_wrong_type_is_one_outcome(invalid: object) -> None:
    codat = Codat(2)
    requests = [SyncRequest(company_id=one) for one in (codat.ids[0], invalid, codat.ids[1])]  # type: ignore[arg-type]
    async with codat.client() as client:
        outcomes = await results(client.sync.run_many(requests))
    (error,) = [outcome.error for outcome in outcomes.values() if outcome.error]
    assert type(invalid).__name__ in str(error)
    assert len(outcomes) == 3


async def test_an_invalid_id_reports_what_it_was() -> None:
    codat = Codat(1)
    async with codat.client() as client:
        outcomes = await results(client.sync.run_many([*codat.ids, None]))  # type: ignore[list-item]
    error = outcomes["None"].error
    assert isinstance(error, CodatError)
    assert "got NoneType" in str(error)


@pytest.mark.parametrize("companies", [None, 7, SyncRequest(company_id="a")])
def test_companies_that_are_not_iterable_are_refused_at_once(companies: object) -> None:
    with pytest.raises(TypeError, match=r"companies must be iterable \(got"):
        CodatCommerce("key").sync.run_many(companies)  # type: ignore[arg-type]


async def test_a_failed_sync_without_a_usable_id_is_a_failure_of_the_sync() -> None:
    codat = Codat(1)
    (company_id,) = codat.ids
    codat.simulator.script_sync(company_id, ScriptedSync(5130, duration=5.0))
    async with client_of(codat, company_id, with_fields(syncId="..")) as client:
        with pytest.raises(errors.SyncFailedError):
            await client.sync.run(company_id)


@pytest.mark.parametrize("name", ["company_id", "commerce_sync_id", "sync_id"])
@pytest.mark.parametrize("value", ["", " ", ".", "..", "\ud800"])
def test_a_handle_with_an_id_that_cannot_be_is_refused_on_construction(name: str, value: str) -> None:
    fields = {"company_id": "c", name: value}
    with pytest.raises(ValueError, match=name):
        SyncHandle(**fields)  # type: ignore[arg-type]
    text = json.dumps(json.loads(SyncHandle(company_id="c").to_json()) | {name: value})
    with pytest.raises(ValueError, match=name):
        SyncHandle.from_json(text)


@pytest.mark.parametrize(
    "name",
    ["company_id", "sync_id", "requested_at", "sync_utc", "sync_to", "accepted_at", "date_range", "idempotency_key"],
)
def test_a_handle_with_a_value_of_a_wrong_type_is_refused_on_construction(name: str) -> None:
    fields = {"company_id": "c", name: 7}
    with pytest.raises(TypeError, match=name):
        SyncHandle(**fields)  # type: ignore[arg-type]
