"""Blocks of the documentation that are not run are at least parsed, each by a parser of its format."""

import ast
import configparser
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from tests.support.cases import all_cases

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# test_readme.py runs the `python` blocks, and mypy checks these and `py` in test_block_types.py; text has no format.
ELSEWHERE = {"python", "text"}


class Block(NamedTuple):
    """A fenced block of a page."""

    page: str
    language: str
    code: str


def commands(code: str) -> str:
    """Return what a console block types, without what the commands print."""
    joined = code.replace("\\\n", "\\\0")
    lines = [line.removeprefix("$ ") for line in joined.splitlines() if line.startswith("$ ")]
    return "\n".join(lines).replace("\\\0", "\\\n")


def parse_shell(code: str) -> None:
    assert commands(code), "a console block must have a line that begins with `$ `"
    done = subprocess.run(["bash", "-n"], input=commands(code), capture_output=True, text=True, check=False)  # noqa: S607
    assert not done.stderr, done.stderr


def parse_python(code: str) -> None:
    compile(code, "block", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST)


def parse_ini(code: str) -> None:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.read_string(code)
    assert parser.sections()


def parse_yaml(code: str) -> None:
    assert isinstance(yaml.safe_load(code), dict)


def parse_sql(code: str) -> None:
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("CREATE TABLE outcomes (ticket_id TEXT PRIMARY KEY, outcome TEXT, has_status BOOLEAN)")
        database.execute(f"EXPLAIN {code}", {"1": "", "2": "", "3": True})


def parse_javascript(code: str) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed: apt-get install nodejs")
    done = subprocess.run([node, "--check", "-"], input=code, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr


PARSERS: dict[str, Callable[[str], object]] = {
    "console": parse_shell,
    "ini": parse_ini,
    "js": parse_javascript,
    "py": parse_python,
    "sql": parse_sql,
    "yaml": parse_yaml,
}
BLOCKS = [
    Block(page.name, language, code)
    for page in PAGES
    for language, code in FENCE.findall(page.read_text(encoding="utf-8"))
    if language not in ELSEWHERE
]


def test_every_fence_is_one_of_a_block() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        fences = re.findall(r"^[ >]*(?:```|~~~).*$", text, re.MULTILINE)
        assert len(fences) == 2 * len(FENCE.findall(text)), f"{page.name}: write a fence without indent and options"


@all_cases("language", sorted({block.language for block in BLOCKS}))
def test_the_blocks_of_a_format_can_be_parsed(language: str) -> None:
    assert language in PARSERS, f"no parser for {[block.page for block in BLOCKS if block.language == language]}"
    for block in BLOCKS:
        if block.language == language:
            PARSERS[language](block.code)


@all_cases(
    ("language", "code"),
    [("console", "$ if then\n"), ("ini", "no section\n"), ("py", "def"), ("sql", "INSERT INTO"), ("yaml", "{a: [}")],
)
def test_a_block_with_an_error_is_found(language: str, code: str) -> None:
    with pytest.raises((AssertionError, SyntaxError, configparser.Error, sqlite3.Error, yaml.YAMLError)):
        PARSERS[language](code)
