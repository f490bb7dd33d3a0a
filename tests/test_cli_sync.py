"""`sync` and `wait` at a simulated Codat: outcomes, exit statuses, and what is left to go on with."""

import asyncio
import io
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from codat_commerce_async import SyncHandle
from codat_commerce_async.cli.board import Board, Row
from codat_commerce_async.cli.demo import conclude
from codat_commerce_async.cli.ending import GiveUpError
from codat_commerce_async.cli.parser import parse
from codat_commerce_async.cli.screen import Screen
from codat_commerce_async.cli.sync import sync
from codat_commerce_async.cli.wait import wait
from codat_commerce_async.models.sync import SyncStatus
from codat_commerce_async.simulator import FaultKind, Outcome, Simulator
from codat_commerce_async.simulator.virtual_time import loop_wall_clock

pytestmark = pytest.mark.virtual_time


@pytest.fixture
async def simulator(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Simulator]:
    async with Simulator(seed=1, now=loop_wall_clock(time.time())) as simulator:
        monkeypatch.setenv("CODAT_API_KEY", simulator.api_key)
        monkeypatch.setenv("CODAT_BASE_URL", simulator.url)
        yield simulator


def handles_in(output: str) -> list[SyncHandle]:
    return [SyncHandle.from_json(line) for line in output.splitlines() if line.startswith("{")]


async def test_syncs_that_go_well_make_a_table_and_a_good_status(
    simulator: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    company_ids = [simulator.add_linked_company() for _ in range(3)]
    for company_id, outcome in zip(company_ids, (2000, 2040, 2000), strict=True):
        simulator.script_sync(company_id, outcome)
    assert await sync(parse(["sync", *company_ids])) == 0
    output = capsys.readouterr().out
    rows = re.findall(r"^(\S+)  (succeeded|nothing to write) +\d+\.\d s +(\d+)$", output, re.MULTILINE)
    assert [(row[0], row[1]) for row in rows] == list(
        zip(company_ids, ("succeeded", "nothing to write", "succeeded"), strict=True)
    )
    assert sum(int(row[2]) for row in rows) == len(simulator.requests)
    assert handles_in(output) == []


async def test_a_failed_sync_is_explained_and_makes_a_bad_status(
    simulator: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    company_id = simulator.add_linked_company()
    simulator.script_sync(company_id, Outcome(5130, message="No such\ntax rate."))
    assert await sync(parse(["sync", company_id])) == 1
    assert f"{company_id}: 5130, at least one item could not be written: No such tax rate." in capsys.readouterr().out


async def test_an_unknown_company_does_not_stop_the_others(
    simulator: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    company_id = simulator.add_linked_company()
    simulator.script_sync(company_id, 2000)
    assert await sync(parse(["sync", "nobody", company_id])) == 1
    output = capsys.readouterr().out
    assert re.search(r"^nobody +404 not found ", output, re.MULTILINE)
    assert re.search(rf"^{company_id}  succeeded ", output, re.MULTILINE)


async def test_a_company_that_is_named_twice_is_synced_once(simulator: Simulator) -> None:
    company_id = simulator.add_linked_company()
    assert await sync(parse(["sync", company_id, company_id])) == 0
    assert simulator.syncs_started(company_id) == 1


async def test_a_wrong_key_is_given_up_on_at_once(
    simulator: Simulator, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODAT_API_KEY", "wrong")
    with pytest.raises(GiveUpError, match=rf"^{simulator.url} does not accept the API key in CODAT_API_KEY$"):
        await sync(parse(["sync", *(simulator.add_linked_company() for _ in range(3))]))
    assert "not known" not in capsys.readouterr().out


async def test_a_server_that_cannot_be_reached_is_given_up_on(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Simulator() as other:
        gone = other.url
    monkeypatch.setenv("CODAT_BASE_URL", gone)
    with pytest.raises(GiveUpError, match=rf"^{gone}: the server cannot be reached$"):
        await sync(parse(["sync", "company"]))
    assert simulator.requests == ()


async def test_no_more_syncs_run_at_once_than_asked_for(simulator: Simulator) -> None:
    company_ids = [simulator.add_linked_company() for _ in range(7)]
    assert await sync(parse(["sync", *company_ids, "--at-once", "2"])) == 0
    syncs = [simulator.syncs(company_id)[0] for company_id in company_ids]
    beside = [sum(other.started <= one.started < other.ends for other in syncs) for one in syncs]
    assert max(beside) == 2


async def test_what_is_still_running_can_be_waited_for_later(
    simulator: Simulator, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    company_ids = [simulator.add_linked_company() for _ in range(2)]
    simulator.script_sync(company_ids[0], Outcome(2000, takes=40))
    simulator.script_sync(company_ids[1], Outcome(2000, takes=5))
    assert await sync(parse(["sync", *company_ids, "--timeout", "10"])) == 1
    saved = tmp_path / "output"
    saved.write_text(capsys.readouterr().out, encoding="utf-8")
    assert [handle.company_id for handle in handles_in(saved.read_text(encoding="utf-8"))] == company_ids[:1]
    assert await wait(parse(["wait", str(saved)])) == 0
    assert re.search(rf"^{company_ids[0]}  succeeded ", capsys.readouterr().out, re.MULTILINE)
    assert simulator.syncs_started(company_ids[0]) == 1


async def test_ctrl_c_leaves_the_handles_of_what_goes_on(
    simulator: Simulator, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    company_id = simulator.add_linked_company()
    simulator.script_sync(company_id, Outcome(2000, takes=30))
    task = asyncio.create_task(sync(parse(["sync", company_id])))
    await asyncio.sleep(8)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    output = capsys.readouterr().out
    [handle] = handles_in(output)
    assert handle.sync_id == simulator.syncs(company_id)[0].sync_id
    monkeypatch.setattr("sys.stdin", io.StringIO(output))
    assert await wait(parse(["wait"])) == 0


async def test_ctrl_c_names_what_was_being_asked_for(simulator: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
    company_id = simulator.add_linked_company()
    simulator.set_fault("request-sync", FaultKind.LATE)
    task = asyncio.create_task(sync(parse(["sync", company_id])))
    await asyncio.sleep(8)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert f"whether these began is not known: {company_id}\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "there is no handle in it"),
        ("company  succeeded\n", "there is no handle in it"),
        ("as printed:\n{}\n", "line 2: no sync handle of version 1"),
        ("{\n", "line 1: a sync handle is JSON"),
        (b"\xff\xfe{".decode("latin-1"), "there is no handle in it"),
    ],
)
async def test_what_holds_no_handle_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "handles"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(GiveUpError, match=complaint):
        await wait(parse(["wait", str(file)]))


async def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "handles"
    file.write_bytes(b"\xff{")
    with pytest.raises(GiveUpError, match="is not a text file in UTF-8"):
        await wait(parse(["wait", str(file)]))


@pytest.mark.parametrize(
    ("syncs", "code"), [(0, 2000), (2, 2000), (1, 2040)], ids=["never begun", "begun twice", "ended otherwise"]
)
async def test_the_demo_does_not_pass_over_a_sync_that_went_another_way(
    simulator: Simulator, syncs: int, code: int
) -> None:
    company_id = simulator.add_linked_company()
    for _ in range(syncs):
        simulator.start_foreign_sync(company_id, 2000)
    row = Row(company_id, "Alder", status=SyncStatus(sync_status_code=code), began=0.0, ended=1.0)
    stream = io.StringIO()
    assert conclude(Board([row], time.monotonic), simulator, Screen(stream)) == 1
    assert "Not as it should be: Alder" in stream.getvalue()
