"""Every example of the README and of docs/ runs as printed, against the simulator."""

import ast
import inspect
import re
import sys
import time
import traceback
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest

from codat_commerce_async import CodatCommerce
from codat_commerce_async.simulator import Simulator
from codat_commerce_async.simulator.virtual_time import loop_wall_clock

CHECKOUT = Path(__file__).parents[1]
README = CHECKOUT / "README.md"
PAGES = [path for path in (README, *sorted((CHECKOUT / "docs").rglob("*.md"))) if path.is_file()]

TRY_IT = "python -m pip install '.[cli]' && python -m codat_commerce_async demo"
TEST_IT = "python -m pip install '.[test]' && python -m pytest -n auto"

PRINTED = README.read_text(encoding="utf-8") if README.is_file() else ""
FENCE = re.compile(r"^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
SHELLS = {"bash", "console", "sh", "shell"}


class Block(NamedTuple):
    """A fenced block; `line` is the one of its fence, from 1, in the file of the name `page`."""

    line: int
    language: str
    code: str
    page: str = "README.md"


def blocks(text: str, page: str = "README.md") -> list[Block]:
    return [
        Block(text.count("\n", 0, fence.start()) + 1, fence["language"], fence["code"], page)
        for fence in FENCE.finditer(text)
    ]


def blocks_of(page: Path) -> list[Block]:
    return blocks(page.read_text(encoding="utf-8"), page.name)


def commands(text: str) -> list[str]:
    """Return the commands of the shell blocks."""
    lines = [line for block in blocks(text) if block.language in SHELLS for line in block.code.splitlines()]
    return [line.removeprefix("$ ") for line in lines if line and not line.startswith("#")]


class AwaitWhatRuns(ast.NodeTransformer):
    """Turns `asyncio.run(main())` into `await main()`, so that a script shares its loop with the simulator."""

    def visit_Call(self, node: ast.Call) -> ast.expr:
        if ast.unparse(node.func) == "asyncio.run":
            return ast.copy_location(ast.Await(node.args[0]), node)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        return node  # only the script's own level can await


async def run(block: Block, names: dict[str, object]) -> None:
    """Run a block as a script of its own, which may await, async with and async for wherever it likes.

    The tests that it defines as coroutine functions run too, unless they need fixtures.
    """
    above = "\n" * block.line  # so that a traceback shows the page's own line
    tree = AwaitWhatRuns().visit(ast.parse(above + block.code, block.page))
    code = compile(tree, block.page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    scope = {"__name__": "__main__", **names}
    outcome = eval(code, scope)  # noqa: S307 - the page's own code
    if inspect.iscoroutine(outcome):
        await outcome
    for name, value in scope.items():
        if name.startswith("test_") and inspect.iscoroutinefunction(value) and not inspect.signature(value).parameters:
            await value()


@pytest.fixture
async def names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[dict[str, object]]:
    """What the examples take for granted: the settings in the environment, some companies, and an open client."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CODAT_WEBHOOK_SECRET", "whsec_b2YgdGhlIGVuZHBvaW50")
    monkeypatch.setitem(sys.modules, "service", SimpleNamespace(app=None))  # the reader's, whose tests are only defined
    async with Simulator(seed=1, now=loop_wall_clock(time.time())) as simulator:
        monkeypatch.setenv("CODAT_API_KEY", simulator.api_key)
        monkeypatch.setenv("CODAT_BASE_URL", simulator.url)
        company_ids = [simulator.add_linked_company() for _ in range(3)]
        async with CodatCommerce.from_env() as codat:
            yield {"codat": codat, "company_id": company_ids[0], "company_ids": company_ids}


def test_the_readme_is_there_and_shows_python() -> None:
    assert [block for block in blocks(PRINTED) if block.language == "python"]


def test_the_readme_installs_in_these_two_ways() -> None:
    assert [line for line in commands(PRINTED) if "pip install" in line] == [TRY_IT, TEST_IT]


def test_the_readme_can_be_skimmed() -> None:
    assert len(PRINTED.splitlines()) <= 200


def test_every_page_installs_from_a_checkout_as_there_is_no_release() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    installed = re.findall(r"pip install ([^`\n]+)", text)
    assert installed
    assert [one for one in installed if re.search(r"codat-commerce-async", one)] == []


def test_the_checks_run_the_tests_as_the_readme_does() -> None:
    script = (CHECKOUT / ".ci" / "run").read_text(encoding="utf-8")
    install, _, test = TEST_IT.partition(" && ")
    assert f'"{install}"' in script
    assert f'"{test}"' in script
    assert '"python -X dev -W error -m pytest"' in script


@pytest.mark.virtual_time
@pytest.mark.filterwarnings("ignore:Using `httpx` with `starlette.testclient`")
@pytest.mark.parametrize(
    "block",
    [block for page in PAGES for block in blocks_of(page) if block.language == "python"],
    ids=lambda block: f"{block.page} line {block.line}",
)
async def test_an_example_runs_as_printed(block: Block, names: dict[str, object]) -> None:
    await run(block, names)


SYNTHETIC = """# A readme

```python
import asyncio
from codat_commerce_async import CodatCommerce

async def main() -> None:
    async with CodatCommerce.from_env() as codat:
        seen.append(await codat.sync.list(company_id))

if __name__ == "__main__":
    asyncio.run(main())
```

```console
$ python -m pip install '.[cli]' && python -m codat_commerce_async demo
# a comment
python -m pip install '.[test]' && python -m pytest -n auto
```

```python
async for connection in codat.connections.list(company_id):
    seen.append(connection)
```

```python
status = await codat.sync.run(company_ids[1], raise_on_failure=False)
seen.append(status)
```

```python
seen.append(
    undefined
)
```
"""


def test_the_blocks_of_a_readme_are_found() -> None:
    assert [(block.line, block.language) for block in blocks(SYNTHETIC)] == [
        (3, "python"),
        (15, "console"),
        (21, "python"),
        (26, "python"),
        (31, "python"),
    ]
    assert commands(SYNTHETIC) == [TRY_IT, TEST_IT]


@pytest.mark.virtual_time
@pytest.mark.parametrize(("number", "found"), [(0, 1), (2, 2), (3, 1)])
async def test_scripts_and_bare_awaits_run(number: int, found: int, names: dict[str, object]) -> None:
    seen: list[object] = []
    await run(blocks(SYNTHETIC)[number], {**names, "seen": seen})
    assert len(seen) == found


def test_the_blocks_of_docs_run_too() -> None:
    assert [block for page in PAGES if page != README for block in blocks_of(page)]


async def test_a_broken_example_fails_at_its_own_line() -> None:
    with pytest.raises(NameError, match="undefined") as caught:
        await run(blocks(SYNTHETIC)[4], {"seen": []})
    last = traceback.extract_tb(caught.tb)[-1]
    assert (last.filename, last.lineno) == ("README.md", 33)
    with pytest.raises(NameError, match="undefined") as caught:
        await run(blocks(SYNTHETIC, "guide.md")[4], {"seen": []})
    assert traceback.extract_tb(caught.tb)[-1].filename == "guide.md"


async def test_a_test_of_an_example_runs() -> None:
    with pytest.raises(AssertionError, match="it ran"):
        await run(Block(1, "python", 'async def test_one():\n    raise AssertionError("it ran")\n'), {})


@pytest.mark.virtual_time
async def test_a_wait_in_an_example_takes_no_time(names: dict[str, object]) -> None:
    started = time.monotonic()
    await run(Block(1, "python", "import asyncio\nasyncio.run(asyncio.sleep(3600))\n"), names)
    assert time.monotonic() - started < 60
