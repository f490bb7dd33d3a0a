"""mypy agrees with the Python blocks of the README and of docs/: those that run, and those that need a service."""

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.test_readme import CHECKOUT, PAGES, Block, blocks_of

# The stage after mypy in .ci/run runs these, as mypy has read most of the packages then.
pytestmark = [pytest.mark.real, pytest.mark.xdist_group("types of blocks")]

BLOCKS = [block for page in PAGES for block in blocks_of(page) if block.language in {"py", "python"}]
# Modules that the blocks use besides installed ones: what `names` of test_readme.py gives, and the reader's service.
MODULES = {
    "given": """
from codat_commerce_async import CodatCommerce as CodatCommerce
from codat_commerce_async.simulator import Simulator as Simulator

codat: CodatCommerce
company_id: str
company_ids: list[str]
""",
    "service": "from fastapi import FastAPI\n\napp = FastAPI()\n",
}
FIXTURES = {"codat": "given.CodatCommerce", "codat_simulator": "given.Simulator"}
TEST = re.compile(r"^(?P<name>(async )?def test_\w+)\((?P<parameters>[\w, ]*)\):$", re.MULTILINE)
# Celery has no types.
SETTINGS = "[mypy]\nstrict = True\ndisallow_untyped_decorators = False\nfollow_imports = silent\n"
# Each has one mistake, in its last line, which a parser does not find.
WRONG = [
    ("from codat_commerce_async import CodatComerce\n", "attr-defined"),
    ("from codat_commerce_async.distributed import Quota\n", "attr-defined"),
    ("import codat_commerce_async.contrib.celery\n", "import-not-found"),
    ("async def run() -> None:\n    await codat.sync.run(company_id, time_out=5)\n", "call-arg"),
    ("await codat.sync.run(7)\n", "arg-type"),
    ("async with codat.sync.run_many(company_ids) as run:\n    await run.result()\n", "attr-defined"),
    ("async for status in codat.sync.watch(company_id):\n    print(sync)\n", "name-defined"),
    ("(await codat.advanced_controls.get_configuration(company_id)).configuration.sales\n", "union-attr"),
    ("async def test_it(codat_simulator, codat):\n    codat_simulator.add_shop()\n", "attr-defined"),
]


class Finding(NamedTuple):
    """An error that mypy reports; `line` is the one of the page."""

    page: str
    line: int
    code: str
    message: str


def typed(definition: re.Match[str]) -> str:
    """Return the first line of a test with the types of its fixtures, which tests need not name."""
    parameters = [f"{name}: {FIXTURES[name]}" for name in definition["parameters"].split(", ") if name]
    return f"{definition['name']}({', '.join(parameters)}) -> None:"


def module(block: Block) -> str:
    """Return a module with the block at the lines of its page."""
    code = TEST.sub(typed, block.code)
    given = "import given; from given import codat, company_id, company_ids"
    return given + "\n" * block.line + code


def packages(code: str) -> set[str]:
    """Return the packages of others that the code imports."""
    nodes = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    ours = {"codat_commerce_async", *MODULES, *sys.stdlib_module_names}
    return {name.partition(".")[0] for name in names} - ours


IMPORTED = sorted(set().union(*[packages(block.code) for block in BLOCKS]))


def is_allowed(message: str) -> bool:
    """Return whether an error is only about a block that is no `async def`; test_readme.py runs such blocks."""
    return re.fullmatch(r'"(await|async with|async for)" outside (async )?function', message) is not None


def check(blocks: dict[str, Block], folder: Path) -> Iterator[Finding]:
    """Yield what one run of mypy finds wrong in the blocks, which have the names of their modules."""
    for name, code in {**MODULES, **{name: module(block) for name, block in blocks.items()}}.items():
        (folder / f"{name}.py").write_text(code, encoding="utf-8")
    without_types = "".join(f"[mypy-{name}.*]\nignore_missing_imports = True\n" for name in IMPORTED)
    (folder / "mypy.ini").write_text(SETTINGS + without_types, encoding="utf-8")
    options = ["--config-file", "mypy.ini", "--output", "json", "--no-incremental"]
    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", "mypy", *options, *(f"{name}.py" for name in blocks)],
        cwd=folder,
        env={**os.environ, "MYPYPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    for found in map(json.loads, done.stdout.splitlines()):
        if found["severity"] == "error" and not is_allowed(found["message"]):
            page = blocks[Path(found["file"]).stem].page
            yield Finding(page, found["line"], found["code"], found["message"])


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> list[Finding]:
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed: pip install '.[lint]'")
    blocks = {f"block_{number}": block for number, block in enumerate(BLOCKS)}
    blocks |= {f"wrong_{number}": Block(9, "py", code, f"wrong {number}") for number, (code, _) in enumerate(WRONG)}
    return list(check(blocks, tmp_path_factory.mktemp("blocks")))


def test_the_python_blocks_of_every_page_have_no_type_errors(findings: list[Finding]) -> None:
    wrong = [found for found in findings if not found.page.startswith("wrong ")]
    assert not wrong, "\n".join(f"{page}:{line}: {message} [{code}]" for page, line, code, message in wrong)
    missing = [name for name in IMPORTED if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"blocks were checked without the types of {', '.join(missing)}, which are not installed")


def test_a_mistake_in_a_block_is_found_at_its_line(findings: list[Finding]) -> None:
    found = sorted((each.page, each.line, each.code) for each in findings if each.page.startswith("wrong "))
    assert found == [(f"wrong {number}", 9 + code.count("\n"), kind) for number, (code, kind) in enumerate(WRONG)]


def test_blocks_that_need_a_service_are_among_them() -> None:
    assert {"celery", "dbos", "procrastinate", "prometheus_client", "sentry_sdk", "temporalio"} < set(IMPORTED)
