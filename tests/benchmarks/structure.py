"""Count what one call runs through, and how the package is built.

    python tests/benchmarks/structure.py

prints, for one warm GET and one `sync.start` on a local server, how many frames, functions and files of the package it
enters, then the package's lines of code, its imports between packages, and what importing it costs.
"""

# ruff: noqa: T201 - it prints for people

import ast
import asyncio
import gc
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import CodeType, FrameType

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
PACKAGE = ROOT / "codat_commerce_async"
COMPANY = "8a210b68-6988-11ed-a1eb-0242ac120002"


@contextmanager
def server() -> Iterator[str]:
    """Run a server that responds to every request with the same status; yield its URL."""
    command = [sys.executable, "-m", "tests.benchmarks.canned"]
    with subprocess.Popen(  # noqa: S603 - this interpreter
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.communicate()


async def traced(run: Callable[[], Awaitable[object]]) -> list[CodeType]:
    """Return the package's functions in the order in which a call enters them, resumed coroutines not counted twice."""
    entered: list[CodeType] = []
    seen: set[int] = set()
    frames: list[FrameType] = []

    def profile(frame: FrameType, event: str, _arg: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(str(PACKAGE)) and id(frame) not in seen:
            frames.append(frame)
            seen.add(id(frame))
            entered.append(frame.f_code)

    await run()
    gc.collect()  # what earlier callers left would be finalized in between, and counted
    gc.disable()
    sys.setprofile(profile)
    try:
        await run()
    finally:
        sys.setprofile(None)
        gc.enable()
    return entered


def files(entered: Iterable[CodeType]) -> list[str]:
    """Return the files of functions, each once, in order."""
    return list(dict.fromkeys(str(Path(code.co_filename).relative_to(PACKAGE)) for code in entered))


def sources() -> Iterator[Path]:
    """Yield the package's modules."""
    return (path for path in PACKAGE.rglob("*.py"))


def code_lines() -> int:
    """Count lines that are neither blank nor a comment alone."""
    lines = (line.strip() for path in sources() for line in path.read_text().splitlines())
    return sum(bool(line) and not line.startswith("#") for line in lines)


def package_of(module: str) -> str:
    """Return the subpackage, or the root module, that a module belongs to."""
    parts = module.split(".")[1:]
    return parts[0] if parts else "the root"


def package_imports() -> Counter[tuple[str, str]]:
    """Count the imports from one subpackage (or root module) to another."""
    edges: Counter[tuple[str, str]] = Counter()
    for path in sources():
        own = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("codat_commerce_async"):
                target = package_of(node.module or "")
                if target == "the root":
                    targets = [alias.name for alias in node.names if (PACKAGE / f"{alias.name}.py").exists()]
                else:
                    targets = [target]
                edges.update((package_of(own), one) for one in targets if one != package_of(own))
    return edges


def import_milliseconds(statement: str) -> float:
    """Return the best of seven imports in a new process, above that of aiohttp alone."""

    def once(text: str) -> float:
        code = f"import time; t = time.perf_counter(); {text}; print(time.perf_counter() - t)"
        return min(
            float(
                subprocess.run(  # noqa: S603 - this interpreter
                    [sys.executable, "-c", code], check=True, capture_output=True, cwd=ROOT
                ).stdout
            )
            for _ in range(7)
        )

    return 1000 * (once(f"import aiohttp, {statement}") - once("import aiohttp"))


async def print_calls(base_url: str) -> None:
    """Print what a warm GET and a warm start of a sync enter."""
    from codat_commerce_async import CodatCommerce  # noqa: PLC0415 - the import itself is measured too

    async with CodatCommerce("key", base_url=base_url) as codat:
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "sync.get": lambda: codat.sync.get(COMPANY, "s"),
            "sync.start": lambda: codat.sync.start(COMPANY),
        }
        for name, call in calls.items():
            entered = await traced(call)
            changes = sum(one.co_filename != other.co_filename for one, other in pairwise(entered))
            print(
                f"{name}: {len(entered)} frames, {len(set(entered))} functions, {len(files(entered))} files, "
                f"{changes} changes of file: {' '.join(files(entered))}"
            )


def main() -> None:
    """Print all of it."""
    started = time.perf_counter()
    with server() as base_url:
        asyncio.run(print_calls(base_url))
    edges = package_imports()
    print(f"modules: {len(list(sources()))}, lines of code: {code_lines()}")
    print(f"imports between packages and root modules: {len(edges)} pairs, {sum(edges.values())} imports")
    print(f"import codat_commerce_async: {import_milliseconds('codat_commerce_async'):.1f} ms above aiohttp's")
    loaded = "codat_commerce_async; codat_commerce_async.CodatCommerce"
    print(f"  with CodatCommerce: {import_milliseconds(loaded):.1f} ms")
    print(f"measured in {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
