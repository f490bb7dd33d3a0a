"""The recipes for nightly runs and observability: units, jobs and commands parse, and the Python runs as printed."""

import configparser
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from codat_commerce_async import CodatCommerce
from codat_commerce_async.cli._args import PROGRAM, SyncOptions, parse
from codat_commerce_async.cli._exit import EXIT_FAILED, EXIT_NOTHING_STARTED, EXIT_TERMINATED, EXIT_USAGE
from codat_commerce_async.simulator import ScriptedSync, Simulator
from codat_commerce_async.simulator.virtual_time import loop_wall_clock
from tests.test_readme import CHECKOUT, Block, blocks_of
from tests.test_readme import run as run_block

NIGHTS, OBSERVABILITY = CHECKOUT / "docs" / "nightly-runs.md", CHECKOUT / "docs" / "observability.md"

# The client of the recipes is called against a simulator in its own process, as they change global state.
CALLS = """
import asyncio, base64, os
from codat_commerce_async import CodatCommerce, CodatError, RetryPolicy
from codat_commerce_async.contrib.otel import telemetry_hooks
from codat_commerce_async.simulator import FaultKind, Simulator

simulator = Simulator(seed=1)
company_id = simulator.add_linked_company()

async def call(text):  # Sentry leaves out variables by the name api_key
    client = CodatCommerce(
        text, base_url=simulator.url, hooks=telemetry_hooks(), retry=RetryPolicy(initial_backoff=0.0)
    )
    async with client as codat:
        await codat.sync.list(company_id)
"""


def code_with(page: Path, text: str) -> str:
    """Return the code of the page's block that contains the text."""
    [block] = [each for each in blocks_of(page) if text in each.code]
    return block.code


def run(*scripts: str) -> str:
    done = subprocess.run(  # noqa: S603 - this interpreter, the page and this file
        [sys.executable, "-c", "\n".join(scripts)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def options_of(words: list[str]) -> SyncOptions:
    program, *arguments = words
    assert Path(program).name == PROGRAM
    options = parse(arguments)
    assert isinstance(options, SyncOptions)
    return options


def test_the_cron_line_is_a_schedule_and_a_command() -> None:
    [line] = [line for line in code_with(NIGHTS, "mail -s").splitlines() if line.startswith("30 1")]
    fields = line.split(maxsplit=5)
    assert all(re.fullmatch(r"[\d*,/-]+", field) for field in fields[:5])
    # cron treats a percent sign as a line break.
    assert "%" not in fields[5]
    assert subprocess.run(["sh", "-n", "-c", fields[5]], check=False).returncode == 0  # noqa: S603, S607 - parses only
    words = shlex.split(fields[5])
    options = options_of(words[words.index(PROGRAM) : words.index("||")])
    assert (options.source, options.journal) == ("companies.txt", "nightly.db")


def units() -> dict[str, str]:
    codes = [block.code for block in blocks_of(NIGHTS) if block.language == "ini"]
    return {Path(code.splitlines()[0].removeprefix("# ")).name: code for code in codes}


def settings_of(unit: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=True, interpolation=None)
    parser.read_string(units()[unit])
    return parser


def test_the_systemd_units_are_complete() -> None:
    service, timer = settings_of("codat-sync.service"), settings_of("codat-sync.timer")
    assert options_of(shlex.split(service["Service"]["ExecStart"])).journal == "nightly.db"
    # Failed syncs and invalid input would be the same again; a connection may return, but is not waited for all night.
    assert service["Service"]["RestartPreventExitStatus"].split() == [str(EXIT_FAILED), str(EXIT_USAGE)]
    assert service["Service"]["SuccessExitStatus"].split() == [str(EXIT_NOTHING_STARTED), str(EXIT_TERMINATED)]
    assert dict(service["Unit"]) == {"startlimitintervalsec": "1h", "startlimitburst": "6"}
    assert timer["Install"]["WantedBy"] == "timers.target"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    for name, code in units().items():
        (tmp_path / name).write_text(code.replace("/usr/local/bin/codat-commerce-async", sys.executable))
    done = subprocess.run(  # noqa: S603
        ["systemd-analyze", "verify", *map(str, tmp_path.iterdir())],  # noqa: S607 - as it is installed
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, [line for line in done.stderr.splitlines() if str(tmp_path) in line]) == (0, [])


def test_the_kubernetes_job_keeps_its_journal_and_stops_in_time() -> None:
    job = yaml.safe_load(code_with(NIGHTS, "kind: CronJob"))
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    specification = job["spec"]["jobTemplate"]["spec"]
    [rule] = specification["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"]["values"] == [EXIT_FAILED, EXIT_USAGE, EXIT_NOTHING_STARTED]
    pod = specification["template"]["spec"]
    # A failure policy requires it.
    assert pod["restartPolicy"] == "Never"
    assert pod["terminationGracePeriodSeconds"] >= 30
    [container] = pod["containers"]
    options = options_of(container["command"])
    mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert options.journal is not None
    assert options.source is not None
    assert "persistentVolumeClaim" in volumes[mounted[str(Path(options.journal).parent)]]
    assert "configMap" in volumes[mounted[str(Path(options.source).parent)]]


@pytest.mark.virtual_time
async def test_the_job_fails_also_if_the_syncs_failed_before_it_was_interrupted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    async with Simulator(seed=1, now=loop_wall_clock(time.time())) as simulator:
        monkeypatch.setenv("CODAT_API_KEY", simulator.api_key)
        monkeypatch.setenv("CODAT_BASE_URL", simulator.url)
        failed, other = (simulator.add_linked_company() for _ in range(2))
        simulator.script_sync(failed, ScriptedSync(5000, duration=2))
        simulator.script_sync(other, ScriptedSync(2000, duration=60))
        async with CodatCommerce.from_env() as codat, codat.sync.run_many([failed, other], journal="nightly.db") as run:
            assert (await anext(run)).company_id == failed
        with pytest.raises(SystemExit) as ended:
            await run_block(Block(1, "python", code_with(NIGHTS, "async def night")), {})
    assert ended.value.code == 1
    output = capsys.readouterr().out
    assert output.startswith(f"{failed} ")
    assert "1 ended (1 succeeded, 0 failed, 0 errors)" in output
    assert "1 finished before (1 failed)" in output


def test_the_json_logging_recipe_writes_lines_with_fields() -> None:
    warn = "logging.getLogger('codat_commerce_async.quota').warning('a pause', extra={'pause': 2.0})"
    read = "handler.stream = __import__('sys').stdout"
    assert '"pause": 2.0' in run(code_with(OBSERVABILITY, "JsonFormatter("), read, warn)


@pytest.mark.real
def test_prometheus_shows_the_metrics_of_the_recipe(tmp_path: Path) -> None:
    recipe = code_with(OBSERVABILITY, "PrometheusMetricReader").replace("9464", "0")
    assert recipe.count("start_http_server(0") == 1
    written = code_with(OBSERVABILITY, "write_to_textfile").replace("codat.prom", str(tmp_path / "codat.prom"))
    calls = """
async def main():
    async with simulator:
        simulator.set_fault("list-syncs", FaultKind.UNAVAILABLE)
        await call(simulator.api_key)
asyncio.run(main())
"""
    run(recipe, CALLS, calls, written)
    text = (tmp_path / "codat.prom").read_text(encoding="utf-8")
    assert re.search(r"^http_client_request_duration_seconds_count\{.*\} 1", text, re.MULTILINE)
    assert re.search(r"^codat_client_retries_total\{.*\} 1", text, re.MULTILINE)


@pytest.mark.real
def test_sentry_gets_no_secret_of_the_library() -> None:
    recipe = code_with(OBSERVABILITY, "sentry_sdk.init(")
    before = "import os; os.environ['SENTRY_DSN'] = 'http://public@127.0.0.1:9/1'"
    calls = """
envelopes = []
sentry_sdk.get_client().transport.capture_envelope = envelopes.append
os.environ["SECRET_KEY"] = "the-secret-key-of-codat"

async def main():
    async with simulator:
        try:
            await call(os.environ["SECRET_KEY"])
        except CodatError as error:
            sentry_sdk.capture_exception(error)
asyncio.run(main())
text = b"".join(each.serialize() for each in envelopes).decode()
assert "AuthenticationError" in text, text[:500]
frames = text.count("codat_commerce_async")
# The frame of the recipe's caller holds the key in a variable; the frames of the library must not.
print(frames, text.count(os.environ["SECRET_KEY"]))
print(text.count(base64.b64encode(os.environ["SECRET_KEY"].encode()).decode()))
"""
    frames, keys, encoded = map(int, run(before, recipe, CALLS, calls).split())
    assert frames > 5
    # Only `call` of this test, which holds the key in its argument.
    assert (keys, encoded) == (1, 0)
