"""`diagnose` prints the cause of a failed sync, and a failed `sync` prints how to call it."""

import json
import time
from pathlib import Path

import pytest

from codat_commerce_async import Diagnosis, FailureCause
from codat_commerce_async.cli._args import DiagnoseOptions, SyncOptions, parse
from codat_commerce_async.cli._exit import (
    EXIT_FAILED,
    EXIT_NOTHING_STARTED,
    EXIT_OK,
    EXIT_TRY_LATER,
    EXIT_USAGE,
    CommandError,
)
from codat_commerce_async.cli.diagnose import diagnose
from codat_commerce_async.cli.sync import sync
from codat_commerce_async.simulator import Fault, FaultKind, Simulator
from codat_commerce_async.simulator.in_memory import InMemoryTransport
from codat_commerce_async.simulator.virtual_time import loop_wall_clock
from codat_commerce_async.syncing.journal import read_journal

pytestmark = pytest.mark.virtual_time


@pytest.fixture
async def simulator(monkeypatch: pytest.MonkeyPatch) -> Simulator:
    monkeypatch.setenv("CODAT_API_KEY", "key")
    monkeypatch.setenv("CODAT_BASE_URL", "http://simulator.example")
    return Simulator(seed=1, now=loop_wall_clock(time.time()))


async def run(simulator: Simulator, *arguments: str) -> int:
    options, transport = parse(arguments), InMemoryTransport(simulator)
    if isinstance(options, DiagnoseOptions):
        return await diagnose(options, transport=transport, wall_clock=simulator.now)
    assert isinstance(options, SyncOptions)
    return await sync(options, transport=transport, wall_clock=simulator.now)


async def test_a_failed_sync_prints_the_command_that_diagnoses_it(
    simulator: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    company_id = simulator.add_linked_company()
    simulator.script_sync(company_id, 4260)
    assert await run(simulator, "sync", company_id) == EXIT_FAILED
    (command,) = [line for line in capsys.readouterr().out.splitlines() if " diagnose " in line]
    assert command.split()[1:] == ["diagnose", company_id, simulator.syncs(company_id)[-1].sync_id]
    assert await run(simulator, *command.split()[1:]) == EXIT_OK
    lines = capsys.readouterr().out.splitlines()
    assert "cause:    subscription_lapsed: the sync failed with code 4260: " in "\n".join(lines)
    assert "action 1: merchant: renew the subscription of the accounting software" in lines
    assert "new sync: after the actions" in lines


async def test_without_a_sync_id_the_newest_is_diagnosed_and_json_is_readable(
    simulator: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    company_id = simulator.add_linked_company()
    simulator.script_sync(company_id, 5000)
    await run(simulator, "sync", company_id)
    capsys.readouterr()
    assert await run(simulator, "diagnose", company_id, "--json") == EXIT_OK
    found = Diagnosis.from_json(capsys.readouterr().out)
    assert (found.cause, found.company_id) == (FailureCause.SERVER_ERROR, company_id)


async def test_a_sync_that_succeeded_has_no_diagnosis(simulator: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
    company_id = simulator.add_linked_company()
    assert await run(simulator, "sync", company_id) == EXIT_OK
    assert " diagnose " not in capsys.readouterr().out
    assert await run(simulator, "diagnose", company_id) == EXIT_OK
    assert "the sync has not failed: completed" in capsys.readouterr().out
    await run(simulator, "diagnose", company_id, "--json")
    assert json.loads(capsys.readouterr().out) is None


async def test_a_company_without_a_sync_is_an_error(simulator: Simulator) -> None:
    with pytest.raises(CommandError, match="404") as error:
        await run(simulator, "diagnose", "no-such-company")
    assert error.value.exit_status == EXIT_FAILED


@pytest.mark.parametrize(
    ("status", "text", "exit_status"),
    [(401, "does not accept the API key in CODAT_API_KEY", EXIT_USAGE), (503, "Service Unavailable", EXIT_TRY_LATER)],
)
async def test_a_wrong_key_and_a_codat_that_is_not_available_differ_in_the_exit_status(
    simulator: Simulator, status: int, text: str, exit_status: int
) -> None:
    simulator.set_fault("get-sync-status", *[Fault(FaultKind.ERROR_BEFORE, status=status)] * 20)
    with pytest.raises(CommandError, match=text) as error:
        await run(simulator, "diagnose", simulator.add_linked_company())
    assert error.value.exit_status == exit_status


async def test_sync_prints_the_causes_that_it_finds_and_those_of_a_journal(
    simulator: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lapsed, other = simulator.add_linked_company(), simulator.add_linked_company()
    for companies, journal in (([lapsed], ()), ([lapsed, other], ("--journal", str(tmp_path / "j.db")))):
        simulator.script_sync(lapsed, 4260)
        assert await run(simulator, "sync", *companies, "--diagnose", *journal) == EXIT_FAILED
        printed = capsys.readouterr().out
        action = "renew the subscription of the accounting software"
        assert f"1 subscription_lapsed (merchant): {action}; for example {lapsed}\n" in printed
        assert "To find out why" not in printed
    assert await run(simulator, "sync", lapsed, other, "--diagnose", *journal) != EXIT_OK
    assert "1 subscription_lapsed (merchant)" in capsys.readouterr().out


@pytest.mark.parametrize("json_lines", [False, True])
async def test_a_call_with_diagnose_finds_the_causes_of_failures_that_ended_before(
    simulator: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str], *, json_lines: bool
) -> None:
    lapsed, good = simulator.add_linked_company(), simulator.add_linked_company()
    simulator.script_sync(lapsed, 4260)
    command = ("sync", lapsed, good, "--journal", str(tmp_path / "j.db"), *(["--json"] if json_lines else []))
    assert await run(simulator, *command) == EXIT_FAILED
    capsys.readouterr()
    assert await run(simulator, *command, "--diagnose") == EXIT_NOTHING_STARTED
    output, progress = capsys.readouterr()
    assert "1 subscription_lapsed (merchant): renew the subscription" in (progress if json_lines else output)
    if json_lines:
        records = {record["company_id"]: record for record in map(json.loads, output.splitlines())}
        assert len(output.splitlines()) == len(records)
        causes = {company_id: record["cause"] for company_id, record in records.items() if record["ended_before"]}
        assert causes == {lapsed: "subscription_lapsed", good: None}


async def test_sync_records_the_diagnoses_in_its_journal(simulator: Simulator, tmp_path: Path) -> None:
    company_id = simulator.add_linked_company()
    simulator.script_sync(company_id, 4260)
    assert await run(simulator, "sync", company_id, "--diagnose", "--journal", str(tmp_path / "j.db")) == EXIT_FAILED
    (entry,) = read_journal(tmp_path / "j.db")
    found = entry.to_outcome().diagnosis
    assert found is not None
    assert found.cause is FailureCause.SUBSCRIPTION_LAPSED
