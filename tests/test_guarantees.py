"""`docs/guarantees.md` names tests that exist, for each guarantee at least one."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.support.cases import all_cases

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "guarantees.md"
REFERENCE = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
WITHOUT_TESTS = {"What the library relies on"}


def sections(text: str) -> dict[str, str]:
    """Return the text below each heading of the second level."""
    _, *parts = re.split(r"^## ", text, flags=re.MULTILINE)
    return {title.strip(): body for title, _, body in (part.partition("\n") for part in parts)}


@cache
def names_of_tests(file: Path) -> set[str]:
    """Return the names of the test functions of a module."""
    functions, body = (ast.FunctionDef, ast.AsyncFunctionDef), ast.parse(file.read_text(encoding="utf-8")).body
    return {node.name for node in body if isinstance(node, functions) and node.name[:5] == "test_"}


def unknown_tests(text: str, root: Path) -> list[str]:
    """Return the references that lead to no test."""
    unknown = []
    for path, name in REFERENCE.findall(text):
        file = root / path
        if not file.is_file() or name not in names_of_tests(file):
            unknown.append(f"{path}::{name}")
    return unknown


TEXT = PAGE.read_text(encoding="utf-8")


def test_every_named_test_exists() -> None:
    assert unknown_tests(TEXT, ROOT) == []


@all_cases("title", sorted(sections(TEXT).keys() - WITHOUT_TESTS))
def test_every_guarantee_names_a_test(title: str) -> None:
    assert REFERENCE.findall(sections(TEXT)[title])


def test_every_reference_has_the_form_that_is_checked() -> None:
    assert TEXT.count("::test_") == len(REFERENCE.findall(TEXT)) > 50


def test_the_readme_links_the_guarantees() -> None:
    assert "(docs/guarantees.md)" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("`tests/test_a.py::test_one`", []),
        ("`tests/test_a.py::test_two`", ["tests/test_a.py::test_two"]),
        ("`tests/test_a.py::helper`", ["tests/test_a.py::helper"]),
        ("`tests/test_b.py::test_one`", ["tests/test_b.py::test_one"]),
    ],
)
def test_a_reference_to_no_test_is_found(text: str, unknown: list[str], tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_a.py").write_text("async def test_one(): ...\ndef helper(): ...\n", encoding="utf-8")
    assert unknown_tests(text, tmp_path) == unknown
