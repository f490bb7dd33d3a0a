"""The tables of the documentation agree with the code."""

import inspect
import re
import tomllib
from pathlib import Path
from typing import get_type_hints

import pytest
from attrs import fields

from codat_commerce_async import CodatCommerce, errors, policies
from codat_commerce_async.cli._args import parse
from codat_commerce_async.cli._records import FIELDS, record_of_outcome
from codat_commerce_async.client import BASE_URL, Settings
from codat_commerce_async.errors import CodatError
from codat_commerce_async.models import webhook_events
from codat_commerce_async.models.failure_rules import RULES
from codat_commerce_async.models.sync import SyncState, SyncStatus
from codat_commerce_async.simulator import FaultKind
from codat_commerce_async.syncing.diagnosis import Diagnosis
from codat_commerce_async.syncing.journal import JournalEntry
from codat_commerce_async.syncing.outcome import SyncOutcome
from codat_commerce_async.syncing.request import SyncRequest
from codat_commerce_async.webhooks import _dispatch
from tests.support.cases import all_cases

DOCS = Path(__file__).parents[1] / "docs"
PAGES = {"error": "errors", "method": "operations", "command": "command-line"}
PAGES |= dict.fromkeys(("field of a sync", "state"), "command-line")
PAGES |= {
    "event": "webhooks",
    "what happens": "testing",
    "field": "diagnosis",
    "extra": "requirements",
    "needs": "requirements",
}
PAGES |= dict.fromkeys(("setting", "argument", "option", "variable"), "settings")
POLICIES = (policies.RetryPolicy, policies.PollPolicy, policies.Timeouts, policies.Quota)


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under this first heading."""
    lines = (DOCS / f"{PAGES[heading]}.md").read_text(encoding="utf-8").splitlines()
    below = lines[next(number for number, line in enumerate(lines) if line.startswith(f"| {heading} |")) + 2 :]
    table = below[: below.index("") if "" in below else len(below)]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def test_every_error_has_its_line() -> None:
    named = [row[0].strip("`") for row in rows("error")]
    classes = [name for name in errors.__all__ if name.endswith("Error")]
    assert sorted(named) == sorted(set(classes) - {"CodatError"})


@all_cases("row", rows("error"))
def test_an_error_is_what_its_line_reports(row: list[str]) -> None:
    kind = getattr(errors, row[0].strip("`"))
    if status := re.match(r"\d{3}", row[1]):
        assert errors.status_error_class(int(status[0])) is kind
    also = re.search(r"also a `(\w+)`", row[1])
    builtins = {base.__name__ for base in (TimeoutError, RuntimeError) if issubclass(kind, base)}
    assert builtins == ({also[1]} if also else set())


def test_every_setting_has_its_line_with_its_default() -> None:
    defaults = {f"{policy.__name__}.{each.name}": each.default for policy in POLICIES for each in fields(policy)}
    assert {row[0].strip("`"): row[1] for row in rows("setting")} == {
        name: f"{default:g}" if isinstance(default, float) else str(default) for name, default in defaults.items()
    }


def test_every_argument_of_the_client_has_its_line_with_its_default() -> None:
    parameters = inspect.signature(CodatCommerce).parameters
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    # A policy that is not passed is created in the constructor.
    created = re.findall(r"(\w+) or (\w+)\(\)", inspect.getsource(CodatCommerce.__init__))
    shown = {name: f"`{policy}()`" for name, policy in created if hasattr(policies, policy)}
    shown |= {"base_url": f"`{BASE_URL}`", "wall_clock": "`time.time`"}
    assert len(shown) == 6
    assert {row[0].strip("`"): row[1] for row in rows("argument")} == {
        name: shown.get(name, str(default)) for name, default in defaults.items()
    }


def test_from_env_accepts_the_arguments_that_the_page_lists() -> None:
    text = " ".join((DOCS / "settings.md").read_text(encoding="utf-8").split())
    (sentence,) = re.findall(r"It accepts the settings below except ([^;]+);", text)
    excluded = set(re.findall(r"`(\w+)`", sentence))
    assert set(Settings.__annotations__) | excluded == set(inspect.signature(CodatCommerce).parameters)
    assert not set(Settings.__annotations__) & excluded


def test_every_variable_has_its_line() -> None:
    read = set(re.findall(r"environ\W+(?:get\W+)?(CODAT_\w+)", inspect.getsource(CodatCommerce.from_env)))
    assert {row[0].strip("`") for row in rows("variable")} == read


def test_every_option_of_a_call_has_its_line() -> None:
    of_calls = get_type_hints(policies.CallOptions)
    of_waits = get_type_hints(policies.PollOptions)
    assert {row[0].strip("`"): "waits" in row[1] for row in rows("option")} == {
        name: name in of_waits for name in of_calls
    }


def test_all_operations_have_their_line() -> None:
    assert len({row[0] for row in rows("method")}) == 39


@all_cases("row", rows("method"))
def test_an_operation_is_where_its_line_reports(row: list[str]) -> None:
    resource, method = row[0].strip("`").split(".")
    documented = inspect.getdoc(getattr(getattr(CodatCommerce("key"), resource), method))
    assert re.search(rf"^{re.escape(row[2])}\.", documented or "", re.MULTILINE)


@pytest.mark.parametrize("row", rows("command"), ids=lambda row: row[0])
def test_a_command_can_be_typed_as_its_line_reports(row: list[str]) -> None:
    typed = row[0].strip("`").replace("...", "").split()
    options = parse(typed)
    assert options.command == typed[0]
    for option in re.findall(r"`(--\w+)`", row[1]):
        assert parse([*typed, option]).command == typed[0]


def test_every_field_of_a_record_is_listed_in_order_with_where_it_is() -> None:
    listed = {name: row[1] for row in rows("field of a sync") for name in re.findall(r"`(\w+)`", row[0])}
    outcome = SyncOutcome(
        request=SyncRequest(company_id="c"), handle=None, status=None, error=CodatError("no"), polls=0, elapsed=0.0
    )
    of_sync = record_of_outcome(outcome, ended_before=False).keys()
    assert set(listed) == {*FIELDS, *of_sync}
    assert {name for name, where in listed.items() if where == "reports"} == {*FIELDS} - of_sync
    assert {name for name, where in listed.items() if where == "`sync`"} == of_sync - {*FIELDS}
    text = (DOCS / "command-line.md").read_text(encoding="utf-8")
    assert set(re.findall(r"select\(\.(\w+)", text)) <= set(FIELDS)


def test_every_state_and_outcome_of_a_record_is_listed() -> None:
    listed = {row[0].strip("`"): set(re.findall(r"`([A-Z_]+)`", row[2])) for row in rows("state")}
    assert set(listed) == set(re.findall(r"`(\w+)`", documented_members(JournalEntry)["state"]))
    of_codes = {}
    for code in (*range(1000, 6000), None):
        status = SyncStatus(company_id="c", sync_status_code=code)
        is_of = (("running", status.is_running), ("failed", status.failed), ("succeeded", status.succeeded))
        of_codes[status.state.name] = next(name for name, is_it in is_of if is_it)
    assert of_codes.keys() == set(SyncState.__members__)
    for state in ("succeeded", "failed"):
        assert listed[state] == {name for name, of_code in of_codes.items() if of_code == state}


def documented_members(kind: type[object]) -> dict[str, str]:
    """Return the docstrings of the fields of a class, by their names."""
    found = re.findall(r'^    (\w+): [^\n]+\n    """(.*?)"""', inspect.getsource(kind), re.MULTILINE | re.DOTALL)
    return dict(found)


def help_options(*command: str, capsys: pytest.CaptureFixture[str]) -> set[str]:
    """Return the options that a command prints with `--help`."""
    with pytest.raises(SystemExit):
        parse([*command, "--help"])
    printed = capsys.readouterr().out.split("options:\n", maxsplit=1)[1]
    return set(re.findall(r"^  (?:-h, )?(--[\w-]+)", printed, re.MULTILINE)) - {"--help"}


def commands(capsys: pytest.CaptureFixture[str]) -> list[str]:
    with pytest.raises(SystemExit):
        parse(["--help"])
    return re.findall(r"^    (\w+)  ", capsys.readouterr().out, re.MULTILINE)


def test_every_event_has_its_line_with_its_class() -> None:
    listed = {name: row[1].strip("`") for row in rows("event") for name in re.findall(r"`([\w.]+)`", row[0])}
    assert listed == {name: webhook_events.event_class(name).__name__ for name in listed}
    subscribable = re.findall(r'"((?:company|connection|read|client)\.[\w.]+)"', inspect.getsource(_dispatch))
    assert set(subscribable) <= set(listed)
    classes = {name for name in webhook_events.__all__ if name.endswith("Event")}
    assert {row[1].strip("`") for row in rows("event")} == classes


def test_every_fault_has_its_place() -> None:
    listed = [name for row in rows("what happens") for name in re.findall(r"`(\w+)`", row[1])]
    assert sorted(listed) == sorted(kind.value for kind in FaultKind)


def test_every_code_of_a_cause_is_on_its_page() -> None:
    page = (DOCS / "diagnosis.md").read_text(encoding="utf-8")
    sections = {part.partition("`")[0]: part for part in page.split("\n### `")[1:]}
    missing = [
        (rule.cause.value, code) for rule in RULES for code in rule.codes if str(code) not in sections[rule.cause.value]
    ]
    assert missing == []


def test_every_field_of_a_diagnosis_that_is_listed_exists() -> None:
    listed = [name for row in rows("field") for name in re.findall(r"`(\w+)`", row[0])]
    assert set(listed) <= {each.name for each in fields(Diagnosis)}


PROJECT = tomllib.loads((DOCS.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_every_extra_has_its_line() -> None:
    assert {row[0].strip("`") for row in rows("extra")} == set(PROJECT["optional-dependencies"])


def test_the_supported_versions_are_those_of_the_project() -> None:
    required = [re.match(r"([\w-]+)(.*)", each) for each in PROJECT["dependencies"]]
    versions = {match[1]: match[2] for match in required if match} | {"Python": PROJECT["requires-python"]}
    assert {row[0]: row[1].strip("`") for row in rows("needs")} == versions


def test_every_command_and_option_of_the_command_line_has_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    names = commands(capsys)
    assert {row[0].strip("`").split()[0] for row in rows("command")} == set(names)
    text = (DOCS / "command-line.md").read_text(encoding="utf-8")
    for name in names:
        (table,) = re.findall(rf"^\| option \| of `{name}` \|\n\|.*\n((?:\|.*\n)+)", text, re.MULTILINE)
        listed = re.findall(r"^\| `(--[\w-]+)", table, re.MULTILINE)
        assert set(listed) == help_options(name, capsys=capsys)
        assert len(listed) == len(set(listed))
