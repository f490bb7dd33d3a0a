"""Every example works as it describes, against the simulator."""

import asyncio
import base64
import importlib.util
import itertools
import json
import re
import runpy
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from codat_commerce_async import OutcomeUnknownError, Resolver, SyncHandle
from codat_commerce_async.simulator import FaultPlan, ScriptedSync, Simulator, WebhookSender
from codat_commerce_async.simulator.virtual_time import loop_wall_clock
from codat_commerce_async.syncing.journal import read_journal

EXAMPLES = Path(__file__).parents[1] / "examples"
pytestmark = pytest.mark.virtual_time


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
async def simulator(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Simulator]:
    async with Simulator(seed=1, now=loop_wall_clock(time.time())) as simulator:
        monkeypatch.setenv("CODAT_API_KEY", simulator.api_key)
        monkeypatch.setenv("CODAT_BASE_URL", simulator.url)
        yield simulator


def test_no_example_is_without_a_test() -> None:
    tested = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    examples = {path.stem for path in EXAMPLES.glob("*.py")}
    assert examples >= {"start_and_wait", "many_companies", "aiohttp_app"}
    assert {name for name in examples if name not in tested} == set()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("backfill", "COMPANY_ID YEAR"),
        ("change_configuration", "COMPANY_ID SECTION ACCOUNT NAME"),
        ("diagnose_failures", "JOURNAL"),
        ("many_companies", "JOURNAL COMPANY_ID..."),
        ("request_metrics", "COMPANY_ID"),
        ("shared_quota", "QUOTA_FILE COMPANY_ID..."),
        ("start_and_wait", "COMPANY_ID"),
        ("start_exactly_once", "REQUEST_ID COMPANY_ID"),
        ("watch_sync", "COMPANY_ID"),
    ],
)
def test_a_script_without_a_company_reports_how_to_call_it(
    name: str, arguments: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", [f"{name}.py"])
    with pytest.raises(SystemExit, match=rf"python examples/{name}.py {re.escape(arguments)}"):
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")


@pytest.mark.parametrize(
    ("outcome", "exit_status", "last"),
    [
        (ScriptedSync(2000, duration=40), 0, "done: completed, data was written"),
        (ScriptedSync(5130, duration=40), 1, "failed: the sync of company"),
        (ScriptedSync.never_ends(), 1, "still running: {"),
    ],
)
async def test_one_sync_is_started_and_awaited(
    simulator: Simulator, capsys: pytest.CaptureFixture[str], outcome: ScriptedSync, exit_status: int, last: str
) -> None:
    company_id = simulator.add_linked_company()
    simulator.script_sync(company_id, outcome)
    assert await load("start_and_wait").main(company_id) == exit_status
    first, second = capsys.readouterr().out.splitlines()
    assert SyncHandle.from_json(first.removeprefix("started: ")).company_id == company_id
    assert second.startswith(last)


async def test_many_companies_are_synced_whatever_happens_to_one(
    simulator: Simulator, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    company_ids = [simulator.add_linked_company() for _ in range(20)]
    simulator.script_sync(company_ids[3], 5130)
    journal = tmp_path / "night.db"
    assert await load("many_companies").main(str(journal), [*company_ids, "unknown"]) == 1
    *lines, last = capsys.readouterr().out.splitlines()
    assert last.startswith("21 ended (19 succeeded, 1 failed, 1 errors), 0 running")
    assert {line.partition(":")[0] for line in lines if ": " in line} == {company_ids[3], "unknown"}
    assert sum(line.startswith("21 of 21, ") for line in lines) == 1
    assert [simulator.syncs_started(company_id) for company_id in company_ids] == [1] * 20
    states = {entry.request.company_id: entry.state for entry in read_journal(journal)}
    assert states == {**dict.fromkeys(company_ids, "succeeded"), company_ids[3]: "failed", "unknown": "error"}


@pytest.mark.parametrize(("first", "exit_status"), [(2000, 0), (5130, 1)])
async def test_many_companies_continue_from_their_journal(
    simulator: Simulator, capsys: pytest.CaptureFixture[str], tmp_path: Path, first: int, exit_status: int
) -> None:
    company_ids = [simulator.add_linked_company() for _ in range(3)]
    for company_id, code, seconds in zip(company_ids, (first, 2000, 2000), (2, 60, 60), strict=True):
        simulator.script_sync(company_id, ScriptedSync(code, duration=seconds))
    main, journal = load("many_companies").main, str(tmp_path / "night.db")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(20):
            await main(journal, company_ids)
    assert "1 of 3, " in capsys.readouterr().out
    assert await main(journal, company_ids) == exit_status
    assert capsys.readouterr().out.splitlines()[-1].startswith("2 ended (2 succeeded, ")
    assert [simulator.syncs_started(company_id) for company_id in company_ids] == [1, 1, 1]


@pytest.fixture
async def web(simulator: Simulator) -> AsyncIterator["TestClient[Any, Any]"]:
    async with TestClient(TestServer(load("aiohttp_app").make_app())) as client:
        yield client


async def test_the_application_starts_a_sync_and_reports_it(simulator: Simulator, web: "TestClient[Any, Any]") -> None:
    company_id = simulator.add_linked_company()
    simulator.script_sync(company_id, ScriptedSync(2000, duration=30))
    started = await web.post(f"/companies/{company_id}/syncs")
    assert started.status == 202
    assert SyncHandle.from_json(await started.text()).company_id == company_id
    reports = [await (await web.get(started.headers["Location"])).json()]
    while not reports[-1]["ended"]:
        await asyncio.sleep(1)
        reports.append(await (await web.get(started.headers["Location"])).json())
    assert reports[0] == {"ended": False, "outcome": None}
    assert {"ended": False, "outcome": "in_progress"} in reports
    assert reports[-1] == {"ended": True, "outcome": "succeeded"}


async def test_the_application_handles_what_codat_does_not_know(
    simulator: Simulator, web: "TestClient[Any, Any]"
) -> None:
    company_id = simulator.add_linked_company()
    assert (await web.post("/companies/unknown/syncs")).status == 404
    assert (await web.get(f"/companies/{company_id}/syncs/unknown")).status == 404
    simulator.rotate_api_key("another")
    refused = await web.post(f"/companies/{company_id}/syncs")
    assert refused.status == 502
    assert "403" in (await refused.json())["error"]


async def test_the_application_ends_in_order_and_leaves_the_handles(
    simulator: Simulator, web: "TestClient[Any, Any]", capsys: pytest.CaptureFixture[str]
) -> None:
    company_id = simulator.add_linked_company()
    simulator.script_sync(company_id, ScriptedSync.never_ends())
    started = SyncHandle.from_json(await (await web.post(f"/companies/{company_id}/syncs")).text())
    await web.close()
    left = capsys.readouterr().out.removeprefix("still running: ")
    assert json.loads(left) == json.loads(started.to_json())


async def test_the_receiver_takes_the_simulators_webhooks(
    simulator: Simulator, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "whsec_" + base64.b64encode(b"of the endpoint").decode()
    monkeypatch.setenv("CODAT_WEBHOOK_SECRET", secret)
    company_id = simulator.add_company("Alder")
    connection_id = simulator.add_connection(company_id, "fztf")
    simulator.set_connection_status(company_id, connection_id, "Unlinked")
    async with TestClient(TestServer(load("webhook_receiver").application())) as web:

        async def post(headers: Mapping[str, str], body: bytes) -> int:
            return (await web.post("/codat/webhooks", headers=headers, data=body)).status

        assert await WebhookSender(simulator, post, secret).deliver() == 0
        assert (await web.post("/codat/webhooks", data=b"{}")).status == 401
    assert capsys.readouterr().out == "Alder has to connect again\n"


async def test_a_request_of_ones_own_starts_one_sync_however_often_it_is_repeated(simulator: Simulator) -> None:
    company_id = simulator.add_linked_company()
    main = load("start_exactly_once").main
    simulator.set_fault("request-sync", "lost_after")
    first = await main("order 17", company_id)
    again = await main("order 17", company_id)
    assert again.commerce_sync_id == first.commerce_sync_id is not None
    assert simulator.syncs_started(company_id) == 1


async def test_a_start_that_is_not_known_is_settled_by_the_same_request(
    simulator: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    company_id = simulator.add_linked_company()
    main = load("start_exactly_once").main
    simulator.set_fault("request-sync", *["lost_after"] * 20)
    simulator.set_fault("get-sync-status", *["lost_after"] * 20)
    simulator.set_fault("list-syncs", *["lost_after"] * 20)
    with pytest.raises(OutcomeUnknownError):
        await main("order 17", company_id)
    assert capsys.readouterr().out.startswith("not known yet, try again: ")
    simulator.set_faults(FaultPlan())
    await main("order 17", company_id)
    assert simulator.syncs_started(company_id) == 1


async def test_every_change_of_a_sync_is_printed(simulator: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
    company_id = simulator.add_linked_company()
    simulator.script_sync(company_id, ScriptedSync(2000, duration=900))
    assert await load("watch_sync").main(company_id) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["1000", "1010", "2000"]


async def test_the_failures_of_a_night_are_grouped_by_who_has_to_act(
    simulator: Simulator, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    fine, customer, lapsed = [simulator.add_linked_company() for _ in range(3)]
    simulator.cause_failure(customer, "inactive_customer")
    simulator.cause_failure(lapsed, "subscription_lapsed")
    journal = str(tmp_path / "night.db")
    assert await load("many_companies").main(journal, [fine, customer, lapsed]) == 1
    found = await load("diagnose_failures").main(journal)
    assert {resolver: [each.company_id for each in diagnoses] for resolver, diagnoses in found.items()} == {
        Resolver.MERCHANT: [customer, lapsed]
    }
    assert f"  {lapsed}: subscription_lapsed" in capsys.readouterr().out


async def test_a_quota_is_shared_by_a_file(
    simulator: Simulator, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    linked, alone = simulator.add_linked_company(), simulator.add_company()
    assert await load("shared_quota").main(str(tmp_path / "quota.db"), [linked, alone]) == 1
    assert re.match(r"1 linked; \d+ processes, \d+ requests left", capsys.readouterr().out)
    assert simulator.peak_per_minute == 2


async def test_the_requests_of_a_sync_are_counted(simulator: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
    company_id = simulator.add_linked_company()
    simulator.set_fault("request-sync", "lost_after")
    metrics = await load("request_metrics").main(company_id)
    assert metrics.requests["request-sync", None] == 1
    assert metrics.requests["request-sync", 200] + metrics.requests["request-sync", 202] == 1
    assert metrics.requests.total() == len(simulator.requests)
    assert metrics.retries.total() == 1
    assert " s on the wire, 1 retries, " in capsys.readouterr().out


async def test_one_account_is_changed_and_nothing_else(simulator: Simulator) -> None:
    company_id = simulator.add_linked_company()
    before = dict(simulator.configuration(company_id))
    slot = before["configuration"]["sales"]["accounts"]["sales"]  # type: ignore[index]
    option = next(one for one in slot["accountOptions"] if one["id"] != slot["selectedAccountId"])
    expected = json.loads(json.dumps(before))
    expected["configuration"]["sales"]["accounts"]["sales"]["selectedAccountId"] = option["id"]
    assert await load("change_configuration").main(company_id, "sales", "sales", option["name"]) == 0
    assert simulator.configuration(company_id) == expected
    assert await load("change_configuration").main(company_id, "sales", "sales", "no such account") == 1
    assert simulator.configuration(company_id) == expected


async def test_the_months_of_a_year_are_synced_in_order(simulator: Simulator) -> None:
    company_id = simulator.add_linked_company()
    simulator.script_sync(company_id, *[2000] * 3, 5130, *[2000] * 12)
    main = load("backfill").main
    assert await main(company_id, 2025) == 1
    assert await main(company_id, 2024) == 0
    syncs = simulator.syncs(company_id)
    assert len(syncs) == 4 + 12
    for earlier, later in itertools.pairwise(syncs[4:]):
        assert later.start == earlier.finish


def test_every_example_is_listed_in_the_documentation() -> None:
    page = (EXAMPLES.parent / "docs" / "examples.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+\.py)` \|", page, re.MULTILINE)) == {path.name for path in EXAMPLES.glob("*.py")}
