"""The commands as they are typed: what they print, how they end, and what ctrl-C and a closed pipe do to them."""

import asyncio
import contextlib
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from statistics import median

import pytest

from codat_commerce_async import CodatCommerce, Hooks, RateLimitError, RetryPolicy
from codat_commerce_async.cli import main
from codat_commerce_async.cli.simulate import sync_arguments
from codat_commerce_async.simulator import FaultPlan, Simulator
from codat_commerce_async.simulator._state.syncs import usual_duration, usual_outcomes

on_posix = pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")

FAST = ("--speed", "1000000")


@contextmanager
def running(*arguments: str, **environ: str) -> Iterator["subprocess.Popen[str]"]:
    """A command in a process of its own."""
    with subprocess.Popen(  # noqa: S603 - this interpreter, and what stands in this file
        [sys.executable, "-m", "codat_commerce_async", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environ},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def line_with(text: str, process: "subprocess.Popen[str]") -> str:
    """The next line of a process that has the text in it."""
    assert process.stdout is not None
    return next(line for line in process.stdout if text in line)


def demo_of(seed: int) -> str:
    """What the demo writes."""
    with contextlib.redirect_stdout(io.StringIO()) as output:
        assert main(["demo", *FAST, "--seed", str(seed)]) == 0
    return output.getvalue()


@pytest.fixture(scope="module")
def demo() -> str:
    return demo_of(3)


def table_of(output: str) -> dict[str, str]:
    """Each company's outcome in a table."""
    lines = output.splitlines()
    heading = next(line for line in lines if line.startswith("company "))
    assert heading.split() == ["company", "outcome", "duration", "polls"]
    rows = lines[lines.index(heading) + 1 :]
    matches = (re.fullmatch(r"(.+?)\s{2,}(.+?)\s{2,}\d+\.\d s\s+\d+", row) for row in rows[: rows.index("")])
    return {match[1]: match[2] for match in matches if match}


def test_the_demo_syncs_a_dozen_companies_and_shows_how_each_ended(demo: str) -> None:
    outcomes = table_of(demo)
    assert len(outcomes) == 12
    assert {"data write error", "configuration error"} < set(outcomes.values())
    assert "12 syncs requested, 12 started: none was lost or started twice" in demo
    assert "all times are simulated" in demo.splitlines()[0]


def test_the_demo_shows_what_goes_wrong_on_the_way(demo: str) -> None:
    assert "the connection was lost before the response; sending it again" in demo
    assert re.search(r"s  [A-Z][A-Za-z &]+: the response was lost.*: adopted, not requested again$", demo, re.MULTILINE)
    assert re.search(r"no requests of company [A-Z][A-Za-z &]+ for 1\.0 s: 429", demo)
    assert re.search(r"of company [0-9a-f]{8}-", demo) is None


def test_failures_on_purpose_are_no_bad_exit_status(demo: str) -> None:
    assert "2 failed, as planned." in demo


def test_the_same_seed_shows_the_same_demo(demo: str) -> None:
    again, other = demo_of(3), demo_of(4)
    assert demo == again
    assert table_of(demo) != table_of(other)


def test_without_a_key_one_line_reports_it(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CODAT_API_KEY", raising=False)
    assert main(["sync", "company"]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert re.fullmatch(r"codat-commerce-async: CODAT_API_KEY is not set; .*\n", output.err)


def test_a_bad_url_is_one_line_too(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODAT_API_KEY", "key")
    monkeypatch.setenv("CODAT_BASE_URL", "api.codat.io")
    assert main(["sync", "company"]) == 2
    error = capsys.readouterr().err
    assert error == "codat-commerce-async: CODAT_BASE_URL must be an http or https URL with a host\n"


def test_a_file_that_is_not_there_is_named_without_a_number_of_the_system(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sync", "--from", "nowhere.txt"]) == 2
    assert capsys.readouterr().err == "codat-commerce-async: nowhere.txt: No such file or directory\n"


def test_the_help_of_simulate_states_the_default_mix(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["simulate", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    shares, random = usual_outcomes(), Random(1)
    for code, meaning in ((2000, "write data"), (2040, "find nothing to write")):
        assert re.search(rf"{100 * shares.pop(code):.0f} % (of the syncs )?{meaning} \({code}\)", text)
    seconds = [usual_duration(random) for _ in range(10_000)]
    assert (
        f"{min(seconds):.0f} to {max(seconds):.0f} simulated seconds, half of them less than {median(seconds):.0f}."
        in text
    )
    assert (shares, FaultPlan().rate) == ({}, 0.0)
    assert "Without --faults, no request fails." in text


def test_without_rich_commands_for_people_report_what_to_install_and_the_others_work(tmp_path: Path) -> None:
    for_people = [["demo"], ["sync", "company"], ["wait", "handles"]]
    ended = without_rich(*for_people, ["--help"], ["report", str(tmp_path / "nothing.db"), "--json"])
    line = "codat-commerce-async: this command needs an extra: pip install 'codat-commerce-async[cli]'\n"
    assert ended.stdout.startswith("exit status 2\n" * 3)
    assert re.findall("exit status (.*)", ended.stdout) == ["2", "2", "2", "0", "2"]
    assert ended.stderr.startswith(line * 3)
    assert "needs an extra" not in ended.stderr.removeprefix(line * 3)
    assert "there is no journal" in ended.stderr


WITHOUT_RICH = """
import json, sys
sys.modules["rich"] = None
from codat_commerce_async.cli import main
for arguments in json.loads(sys.argv[1]):
    try:
        status = main(arguments)
    except SystemExit as ended:
        status = ended.code
    print("exit status", status)
"""


def without_rich(*commands: list[str]) -> "subprocess.CompletedProcess[str]":
    """Run the commands in one process, as its start takes longer than they do."""
    return subprocess.run(  # noqa: S603 - this interpreter, and what stands in this file
        [sys.executable, "-c", WITHOUT_RICH, json.dumps(commands)], capture_output=True, text=True, check=False
    )


@on_posix
def test_the_handles_are_left_on_stderr_when_the_reader_of_stdout_goes_away(tmp_path: Path) -> None:
    listed = tmp_path / "companies"
    with Simulator() as simulator:
        listed.write_text("\n".join(simulator.add_linked_company() for _ in range(9)), encoding="utf-8")
        environ = {"CODAT_BASE_URL": simulator.url, "CODAT_API_KEY": simulator.api_key}
        with running("sync", "--from", str(listed), **environ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            next(line for line in process.stderr if "running" in line)
            process.stdout.close()
            process.send_signal(signal.SIGINT)
            error = process.stderr.read()
            process.wait()
    assert process.returncode == 141
    assert '{"' in error


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        ([], "COMMAND"),
        (["frobnicate"], "frobnicate"),
        (["sync"], "COMPANY_ID"),
        (["sync", ".."], "company_id must be an id"),
        (["sync", "company", "--timeout", "nan"], "must be a number greater than 0 (got nan)"),
        (["sync", "company", "--timeout", "soon"], "must be a number greater than 0 (got soon)"),
        (["sync", "company", "--max-running", "0"], "must be an integer between 1 and 1000000 (got 0)"),
        (["sync", "company", "--objective", "chaos"], "chaos"),
        (["sync", "company", "--column", "id"], "--column requires --from"),
        (["report"], "JOURNAL"),
        (["report", "night.db", "--json", "--csv"], "not allowed with argument"),
        (["simulate", "--faults", "1.5"], "must be a number between 0 and 1 (got 1.5)"),
        (["demo", "--speed", "-1"], "must be a number greater than 0 (got -1)"),
        (["simulate", "--webhooks", "http://x/"], "--webhooks and --secret require each other"),
        (["simulate", "--webhooks", "x", "--secret", "whsec_YQ=="], "must be an http or https URL with a host (got x)"),
        (["simulate", "--webhooks", "http://x/", "--secret", "a"], "must be whsec_ followed by base64"),
        (["simulate", "--outcomes", "5130"], "must be KEY=SHARE, separated by commas (got '5130')"),
        (["simulate", "--outcomes", "5130=0.1,"], "must be KEY=SHARE, separated by commas (got '')"),
        (["simulate", "--outcomes", "5130=x"], "must be a number between 0 and 1 (got x)"),
        (["simulate", "--outcomes", "5130=nan"], "must be a number between 0 and 1 (got nan)"),
        (["simulate", "--outcomes", "5130=0.6,4000=0.6"], "must have shares that add up to 1 at most (got 1.2)"),
        (["simulate", "--outcomes", "5130=0.1,5130=0.1"], "must have each outcome once (got 5130 twice)"),
        (["simulate", "--outcomes", "1000=0.1"], "must have a final status code (2xxx, 4xxx, 5xxx) or one of"),
        (["simulate", "--outcomes", "unmaped_account=0.1"], "(got 'unmaped_account')"),
        (["simulate", "--port", "65536"], "must be an integer between 0 and 65535 (got 65536)"),
        (["simulate", "--companies", "\u0663.5"], "must be an integer between 1 and 1000000"),
    ],
)
def test_a_wrong_argument_is_refused_by_name(
    capsys: pytest.CaptureFixture[str], arguments: list[str], wrong: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    error = capsys.readouterr().err
    assert (ended.value.code, error.count("\n")) == (2, 1)
    assert wrong in error


@pytest.mark.parametrize("command", ["demo", "sync", "wait", "report", "simulate"])
def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str], command: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"usage: codat-commerce-async {command}" in capsys.readouterr().out


class Signaling(io.StringIO):
    """An output at which a signal comes as soon as the demo's syncs begin."""

    number = signal.SIGINT

    def write(self, text: str) -> int:
        if "Syncing:" in text:
            signal.raise_signal(self.number)
        return super().write(text)


@on_posix
@pytest.mark.parametrize(
    ("number", "exit_status", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_signal_ends_the_demo_with_one_line(
    capsys: pytest.CaptureFixture[str], number: signal.Signals, exit_status: int, word: str
) -> None:
    output = Signaling()
    output.number = number
    with contextlib.redirect_stdout(output):
        assert main(["demo"]) == exit_status
    assert capsys.readouterr().err == f"codat-commerce-async: {word}\n"


@on_posix
def test_a_reader_that_goes_away_ends_the_demo_without_a_word() -> None:
    with running("demo") as process:
        line_with("Syncing:", process)
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()
        process.wait()
    assert (process.returncode, errors) == (141, "")


@on_posix
async def test_the_simulator_alone_can_be_called_and_ends_well_on_ctrl_c(tmp_path: Path) -> None:
    listed = tmp_path / "companies.txt"
    with running("simulate", "--companies", "2", "--faults", "0.5", "--list", str(listed)) as process:
        url = line_with("CODAT_BASE_URL=", process).strip().partition("=")[2]
        api_key = line_with("CODAT_API_KEY=", process).strip().partition("=")[2]
        assert line_with(" sync ", process).endswith(f" sync --from {listed}\n")
        retried: list[object] = []
        async with CodatCommerce(
            api_key,
            base_url=url,
            hooks=Hooks(on_retry=retried.append),
            retry=RetryPolicy(attempts=20, initial_backoff=0, max_retry_after=0),
        ) as codat:
            with contextlib.suppress(RateLimitError):
                for _ in range(20):
                    companies = await codat.advanced_controls.list_companies()
                    assert [one.id for one in companies.results] == listed.read_text(encoding="utf-8").split()
        assert retried
        process.send_signal(signal.SIGINT)
        output, errors = await asyncio.to_thread(process.communicate)
    assert (process.returncode, errors, output.strip()) == (0, "", "stopped after 0 syncs")


def test_of_many_simulated_companies_a_few_are_named() -> None:
    company_ids = [f"company-{number}" for number in range(12)]
    named = sync_arguments(company_ids, None)
    assert named == f"{' '.join(company_ids[:10])}   # and 2 more; --list FILE writes all ids to a file"
    assert sync_arguments(company_ids[:3], None) == "company-0 company-1 company-2"


def test_a_port_that_is_taken_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["simulate", "--port", str(taken.getsockname()[1])]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert re.fullmatch(r"codat-commerce-async: .*address already in use.*\n", output.err)


@pytest.mark.real
def test_the_demo_with_processes_prints_their_requests_and_the_busiest_minute(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["demo", "--processes", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("  process ") for line in lines) == 3
    assert any(line.startswith("Killed process ") for line in lines)
    assert any("refused" in line and " 0 refused" in line for line in lines)
    assert any(line.startswith("Busiest 60 seconds at the simulator: ") for line in lines)
