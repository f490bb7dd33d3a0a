"""The tables of the documentation say what the code says."""

import inspect
import re
from pathlib import Path

import pytest
from attrs import fields

from codat_commerce_async import CodatCommerce, errors, policies
from codat_commerce_async.cli._args import parse
from tests.support.cases import all_cases

DOCS = Path(__file__).parents[1] / "docs"
PAGES = {"error": "errors", "setting": "settings", "method": "operations", "command": "command-line"}
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
