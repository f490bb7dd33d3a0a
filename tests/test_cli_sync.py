"""`sync` and `wait` at a simulated Codat: outcomes, exit statuses, and what is left to continue with."""

import asyncio
import io
import json
import re
import shlex
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from codat_commerce_async import LocalRateLimiter, SyncHandle
from codat_commerce_async.cli._args import PROGRAM, DiagnoseOptions, SyncOptions, WaitOptions, parse
from codat_commerce_async.cli._exit import EXIT_NOTHING_STARTED, EXIT_TRY_LATER, EXIT_USAGE, CommandError
from codat_commerce_async.cli._state import DisplayState, Result, Row
from codat_commerce_async.cli._view import Output
from codat_commerce_async.cli.demo import compare
from codat_commerce_async.cli.diagnose import diagnose
from codat_commerce_async.cli.sync import sync
from codat_commerce_async.cli.wait import wait
from codat_commerce_async.models.sync import SyncStatus
from codat_commerce_async.simulator import Fault, FaultKind, ScriptedSync, Simulator
from codat_commerce_async.simulator.in_memory import InMemoryTransport
from codat_commerce_async.simulator.virtual_time import loop_wall_clock
from codat_commerce_async.syncing.journal import Journal, read_journal

pytestmark = pytest.mark.virtual_time

SERVER = "http://simulator.example"

Command = Callable[..., Awaitable[int]]
OptionsT = TypeVar("OptionsT")


@pytest.fixture
async def simulator(monkeypatch: pytest.MonkeyPatch) -> Simulator:
    monkeypatch.setenv("CODAT_API_KEY", "key")
    monkeypatch.setenv("CODAT_BASE_URL", SERVER)
    # It is not served: it is called in memory, so that virtual time has no sockets to wait for.
    return Simulator(seed=1, now=loop_wall_clock(time.time()))


@pytest.fixture
def run(simulator: Simulator) -> Command:
    """A command as it is typed, with a client that calls the simulator."""

    async def run(*arguments: str, api_key: str | None = None) -> int:
        options = parse(arguments)
        transport = InMemoryTransport(simulator, latency=lambda: 0.05, api_key=api_key)
        if isinstance(options, SyncOptions):
            return await sync(options, transport=transport, wall_clock=simulator.now)
        if isinstance(options, DiagnoseOptions):
            return await diagnose(options, transport=transport, wall_clock=simulator.now)
        assert isinstance(options, WaitOptions)
        return await wait(options, transport=transport, wall_clock=simulator.now)

    return run


def options_of(kind: type[OptionsT], *arguments: str) -> OptionsT:
    options = parse(arguments)
    assert isinstance(options, kind)
    return options


async def interrupt(work: Awaitable[int], *, after: float) -> None:
    """Let that many seconds pass, then do as ctrl-C does."""
    task = asyncio.ensure_future(work)
    await asyncio.sleep(after)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def handles_in(output: str) -> list[SyncHandle]:
    return [SyncHandle.from_json(line) for line in output.splitlines() if line.startswith("{")]


def states(journal: Path) -> dict[str, str]:
    return {entry.request.company_id: entry.state for entry in read_journal(journal)}


async def test_syncs_that_go_well_make_a_table_and_a_good_status(
    simulator: Simulator, run: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    company_ids = [simulator.add_linked_company() for _ in range(3)]
    for company_id, outcome in zip(company_ids, (2000, 2040, 2000), strict=True):
        simulator.script_sync(company_id, outcome)
    assert await run("sync", *company_ids) == 0
    output = capsys.readouterr().out
    rows = re.findall(r"^(\S+)  (succeeded|nothing to write) +\d+\.\d s +(\d+)$", output, re.MULTILINE)
    assert [(row[0], row[1]) for row in rows] == list(
        zip(company_ids, ("succeeded", "nothing to write", "succeeded"), strict=True)
    )
    polls = sum("status" in request.path for request in simulator.requests)
    assert sum(int(row[2]) for row in rows) == polls
    assert f"2 succeeded, 1 nothing to write; {len(simulator.requests)} requests in " in output
    assert handles_in(output) == []


async def test_a_failed_sync_is_explained_and_makes_a_bad_status(
    simulator: Simulator, run: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    company_id = simulator.add_linked_company()
    simulator.script_sync(company_id, ScriptedSync(5130, message="No such\ntax rate."))
    assert await run("sync", company_id) == 1
    assert f"{company_id}: 5130, at least one item could not be written: No such tax rate." in capsys.readouterr().out


async def test_a_message_that_only_repeats_the_meaning_of_its_code_is_not_printed(
    simulator: Simulator, run: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    company_id = simulator.add_linked_company()
    simulator.script_sync(company_id, ScriptedSync(5130, message="At least one item could not be written."))
    assert await run("sync", company_id) == 1
    assert f"{company_id}: 5130, at least one item could not be written\n" in capsys.readouterr().out


async def test_an_unknown_company_does_not_stop_the_others(
    simulator: Simulator, run: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    company_id = simulator.add_linked_company()
    simulator.script_sync(company_id, 2000)
    assert await run("sync", "missing", company_id) == 1
    output = capsys.readouterr().out
    assert re.search(r"^missing +not found ", output, re.MULTILINE)
    assert re.search(r"^missing: request-sync: 404 Not Found", output, re.MULTILINE)
    assert re.search(rf"^{company_id}  succeeded ", output, re.MULTILINE)


async def test_a_company_that_is_named_twice_is_synced_once_and_that_is_reported(
    simulator: Simulator, run: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    company_id = simulator.add_linked_company()
    simulator.script_sync(company_id, 2000)
    assert await run("sync", company_id, company_id) == 0
    assert simulator.syncs_started(company_id) == 1
    assert f"given more than once, synced once: {company_id}\n" in capsys.readouterr().err


async def test_a_sync_that_was_taken_over_is_remarked(
    simulator: Simulator, run: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    company_id = simulator.add_linked_company()
    simulator.script_sync(company_id, 2000)
    simulator.set_fault("request-sync", FaultKind.ERROR_AFTER)
    assert await run("sync", company_id) == 0
    assert f"{company_id}: the response was lost, but the sync was found at Codat" in capsys.readouterr().err
    assert simulator.syncs_started(company_id) == 1


@pytest.mark.parametrize("journal", [False, True])
async def test_a_wrong_key_is_given_up_on_at_once(
    simulator: Simulator, run: Command, capsys: pytest.CaptureFixture[str], tmp_path: Path, *, journal: bool
) -> None:
    options = ["--journal", str(tmp_path / "night.db")] if journal else []
    company_ids = [simulator.add_linked_company() for _ in range(3)]
    with pytest.raises(CommandError, match=rf"^{SERVER} does not accept the API key in CODAT_API_KEY; put ") as ended:
        await run("sync", *company_ids, *options, api_key="wrong")
    assert ended.value.exit_status == EXIT_USAGE
    output = capsys.readouterr().out
    for text in ("Still running", "may or may not be running", "to resume it"):
        assert text not in output


async def test_a_key_that_is_revoked_while_syncs_run_is_invalid_input(
    simulator: Simulator, run: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    company_id = simulator.add_linked_company()
    simulator.script_sync(company_id, ScriptedSync(2000, duration=60))
    simulator.set_fault("get-sync-by-id", None, Fault(FaultKind.ERROR_BEFORE, status=401))
    with pytest.raises(CommandError, match="does not accept the API key") as ended:
        await run("sync", company_id)
    assert ended.value.exit_status == EXIT_USAGE
    assert [handle.company_id for handle in handles_in(capsys.readouterr().out)] == [company_id]


async def test_a_server_that_cannot_be_reached_is_given_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Simulator() as other:
        gone = other.url
    monkeypatch.setenv("CODAT_API_KEY", "key")
    monkeypatch.setenv("CODAT_BASE_URL", gone)
    with pytest.raises(CommandError, match=rf"^{gone}: the server cannot be reached \(.*\): .*refused$") as ended:
        await sync(options_of(SyncOptions, "sync", "company"))
    assert ended.value.exit_status == EXIT_TRY_LATER


@pytest.mark.parametrize("command", ["sync", "wait", "diagnose"])
async def test_a_shared_quota_in_a_missing_folder_is_invalid_input(
    simulator: Simulator, run: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str
) -> None:
    monkeypatch.setenv("CODAT_SHARED_QUOTA", str(tmp_path / "missing" / "quota.db"))
    company_id, handles = simulator.add_linked_company(), tmp_path / "handles"
    handles.write_text(SyncHandle(company_id=company_id, sync_id="1").to_json(), encoding="utf-8")
    message = r"^CODAT_SHARED_QUOTA: .*: the folder .*missing does not exist; create it, or use another path$"
    with pytest.raises(CommandError, match=message) as ended:
        await run(command, str(handles) if command == "wait" else company_id)
    assert ended.value.exit_status == EXIT_USAGE
    assert simulator.syncs_started(company_id) == 0


async def test_no_more_syncs_run_at_once_than_requested(simulator: Simulator, run: Command) -> None:
    company_ids = [simulator.add_linked_company() for _ in range(7)]
    for company_id in company_ids:
        simulator.script_sync(company_id, ScriptedSync(2000, duration=10))
    assert await run("sync", *company_ids, "--max-running", "2") == 0
    syncs = [simulator.syncs(company_id)[0] for company_id in company_ids]
    beside = [sum(other.started <= one.started < other.ends for other in syncs) for one in syncs]
    assert max(beside) == 2


async def test_running_syncs_can_be_waited_for_later(
    simulator: Simulator, run: Command, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    company_ids = [simulator.add_linked_company() for _ in range(2)]
    simulator.script_sync(company_ids[0], ScriptedSync(2000, duration=40))
    simulator.script_sync(company_ids[1], ScriptedSync(2000, duration=5))
    assert await run("sync", *company_ids, "--timeout", "10") == 1
    saved = tmp_path / "output"
    saved.write_text(capsys.readouterr().out, encoding="utf-8")
    assert [handle.company_id for handle in handles_in(saved.read_text(encoding="utf-8"))] == company_ids[:1]
    assert await run("wait", str(saved)) == 0
    assert re.search(rf"^{company_ids[0]}  succeeded ", capsys.readouterr().out, re.MULTILINE)
    assert simulator.syncs_started(company_ids[0]) == 1


async def test_ctrl_c_leaves_the_handles_of_what_continues(
    simulator: Simulator, run: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    company_id = simulator.add_linked_company()
    simulator.script_sync(company_id, ScriptedSync(2000, duration=30))
    await interrupt(run("sync", company_id), after=8)
    output = capsys.readouterr().out
    [handle] = handles_in(output)
    assert handle.sync_id == simulator.syncs(company_id)[0].sync_id
    monkeypatch.setattr("sys.stdin", io.StringIO(output))
    assert await run("wait") == 0


async def test_ctrl_c_names_what_was_being_requested(
    simulator: Simulator, run: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    company_id = simulator.add_linked_company()
    simulator.set_fault("request-sync", FaultKind.LATE)
    await interrupt(run("sync", company_id), after=8)
    assert f"Interrupted while starting; these may or may not be running: {company_id}\n" in capsys.readouterr().out


async def test_ctrl_c_names_what_was_certainly_not_started(
    simulator: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    company_ids, limiter = [simulator.add_linked_company() for _ in range(2)], LocalRateLimiter()
    limiter.pause(60.0)
    options = options_of(SyncOptions, "sync", *company_ids, "--max-running", "1")
    await interrupt(sync(options, transport=InMemoryTransport(simulator), rate_limiter=limiter), after=8)
    output = capsys.readouterr().out
    assert f"Not started: {' '.join(company_ids)}\n" in output
    assert "may or may not" not in output


async def test_ctrl_c_with_a_journal_reports_the_command_that_continues_and_it_does(
    simulator: Simulator, run: Command, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    company_ids = [simulator.add_linked_company() for _ in range(3)]
    for company_id, seconds in zip(company_ids, (2, 30, 30), strict=True):
        simulator.script_sync(company_id, ScriptedSync(2000, duration=seconds))
    journal = tmp_path / "the night.db"
    await interrupt(run("sync", *company_ids, "--journal", str(journal)), after=12)
    *_, before, command = capsys.readouterr().out.splitlines()
    assert before.startswith("Syncs still running: 2. ")
    assert sorted(states(journal).values()) == ["running", "running", "succeeded"]
    assert command.startswith(f"{PROGRAM} sync ")
    assert await run(*shlex.split(command.removeprefix(PROGRAM))) == 0
    output = capsys.readouterr().out
    assert re.search(rf"^{company_ids[0]}  succeeded \(before\) ", output, re.MULTILINE)
    assert re.search(rf"^{company_ids[1]}  succeeded  ", output, re.MULTILINE)
    assert "3 succeeded, 1 of them before this call; " in output
    assert [simulator.syncs_started(company_id) for company_id in company_ids] == [1, 1, 1]
    assert set(states(journal).values()) == {"succeeded"}


async def test_ctrl_c_reports_that_standard_input_is_needed_again(
    simulator: Simulator,
    run: Command,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    company_id = simulator.add_linked_company()
    simulator.script_sync(company_id, ScriptedSync.never_ends())
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{company_id}\n"))
    await interrupt(run("sync", "--from", "-", "--journal", str(tmp_path / "night.db")), after=8)
    assert capsys.readouterr().out.endswith("night.db   # with the same standard input\n")


async def test_a_journal_in_which_all_has_ended_is_not_synced_again(
    simulator: Simulator, run: Command, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    company_ids = [simulator.add_linked_company() for _ in range(2)]
    simulator.script_sync(company_ids[0], 2000)
    simulator.script_sync(company_ids[1], 5130)
    arguments = ("sync", *company_ids, "--journal", str(tmp_path / "night.db"))
    assert await run(*arguments) == 1
    sent_before = len(simulator.requests)
    capsys.readouterr()
    assert await run(*arguments) == EXIT_NOTHING_STARTED
    assert len(simulator.requests) == sent_before
    output, progress = capsys.readouterr()
    assert re.search(rf"^{company_ids[0]}  succeeded \(before\) ", output, re.MULTILINE)
    assert re.search(rf"^{company_ids[1]}  data write error \(before\) ", output, re.MULTILINE)
    assert f"{company_ids[1]}: ended before: 5130, at least one item could not be written" in output
    assert "1 succeeded, 1 data write error, all of them before this call; 0 requests" in output
    assert re.search(
        r"^To sync them again, name another run with --run; this one is \d{4}-\d\d-\d\d$", output, re.MULTILINE
    )
    assert "run_id" not in output + progress
    assert not any(company_id in progress for company_id in company_ids), "nothing ended now"


async def test_a_run_with_a_name_of_its_own_syncs_again_and_old_runs_are_deleted(
    simulator: Simulator, run: Command, tmp_path: Path
) -> None:
    company_id = simulator.add_linked_company()
    command = ("sync", company_id, "--journal", str(tmp_path / "night.db"))
    assert [await run(*command, "--run", name) for name in ("first", "first", "second")] == [0, 3, 0]
    assert await run(*command, "--run", "third", "--keep-runs", "2") == 0
    assert simulator.syncs_started(company_id) == 3
    async with Journal.open(tmp_path / "night.db") as journal:
        assert [each.run_id for each in await journal.runs()] == ["second", "third"]


async def test_a_file_that_is_no_journal_is_one_line(run: Command, tmp_path: Path) -> None:
    file = tmp_path / "companies.txt"
    file.write_text("company\n" * 1000, encoding="utf-8")
    with pytest.raises(CommandError, match=r"^.*companies.txt is not a journal"):
        await run("sync", "company", "--journal", str(file))


async def test_of_many_companies_the_failures_are_reported_and_the_sums(
    simulator: Simulator, run: Command, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    company_ids = [simulator.add_linked_company() for _ in range(60)]
    for number, company_id in enumerate(company_ids):
        simulator.script_sync(company_id, ScriptedSync(2000 if number >= 10 else 5130, duration=30))
    journal = tmp_path / "night.db"
    assert await run("sync", *company_ids, "--journal", str(journal), "--objective", "latency") == 1
    output, progress = capsys.readouterr()
    assert "succeeded\n" not in progress, "no line for each that went well"
    assert len(re.findall(r"s  \S+: data write error$", progress, re.MULTILINE)) == 10
    assert re.search(r"\d+ of 60 ended(, | \(\d failed\), )\d+ running; \d+ of 900 requests/min; 10 s so far", progress)
    assert len(re.findall(r"^\S+: 5130, ", output, re.MULTILINE)) == 3
    assert f"... and 7 more; all of them:\n{PROGRAM} report {journal} --failed\n" in output
    assert "50 succeeded, 10 data write error; " in output


async def test_json_is_one_line_per_outcome_also_of_those_that_ended_before(
    simulator: Simulator, run: Command, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    good, bad = (simulator.add_linked_company() for _ in range(2))
    simulator.script_sync(good, 2000)
    simulator.script_sync(bad, ScriptedSync(5130, message="No such tax rate."))
    command = ("sync", good, bad, "unknown", "--json", "--journal", str(tmp_path / "night.db"))
    assert await run(*command) == 1
    output, progress = capsys.readouterr()
    records = {record["company_id"]: record for record in map(json.loads, output.splitlines())}
    assert {company_id: record["state"] for company_id, record in records.items()} == {
        good: "succeeded",
        bad: "failed",
        "unknown": "error",
    }
    assert (records[bad]["code"], records[bad]["message"]) == (5130, "No such tax rate.")
    assert records[good]["sync_id"] == simulator.syncs(good)[0].sync_id
    assert all(count in progress for count in ("1 succeeded", "1 data write error", "1 not found"))
    await run(*command)
    again = {record["company_id"]: record for record in map(json.loads, capsys.readouterr().out.splitlines())}
    assert sorted(again) == sorted(records)
    assert not any(record["ended_before"] for record in records.values())
    # An error is tried again.
    assert {company_id for company_id, record in again.items() if record["ended_before"]} == {good, bad}
    assert simulator.syncs_started(good) == 1


@pytest.mark.parametrize(("options", "lines"), [(["--quiet"], 3), (["--quiet", "--json"], 1)])
async def test_quiet_shows_results_and_no_progress(
    simulator: Simulator, run: Command, capsys: pytest.CaptureFixture[str], options: list[str], lines: int
) -> None:
    company_id = simulator.add_linked_company()
    simulator.script_sync(company_id, 2000)
    assert await run("sync", company_id, *options) == 0
    output, progress = capsys.readouterr()
    assert (len([line for line in output.splitlines() if line]), progress) == (lines, "")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "the input contains no handle"),
        ("company  succeeded\n", "the input contains no handle"),
        ("as printed:\n{}\n", "line 2: version of a sync handle must be 1"),
        ("{\n", "line 1: a sync handle must be JSON"),
        (b"\xff\xfe{".decode("latin-1"), "the input contains no handle"),
    ],
)
async def test_a_file_without_handles_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "handles"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(CommandError, match=complaint):
        await wait(options_of(WaitOptions, "wait", str(file)))


@pytest.mark.parametrize(
    ("syncs", "code"), [(0, 2000), (2, 2000), (1, 2040)], ids=["never started", "started twice", "ended otherwise"]
)
async def test_the_demo_does_not_pass_over_a_sync_that_went_another_way(
    simulator: Simulator, syncs: int, code: int
) -> None:
    company_id = simulator.add_linked_company()
    for _ in range(syncs):
        simulator.start_external_sync(company_id, 2000)
    state, stream = DisplayState([], time.monotonic), io.StringIO()
    state.add(Row(company_id, "Alder"))
    state.end(state.rows[0], Result.of_status(SyncStatus(sync_status_code=code)))
    assert compare(state, simulator, Output.to(stream)) == 1
    assert "Unexpected results: Alder" in stream.getvalue()
