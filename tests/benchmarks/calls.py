"""What a call costs: bare aiohttp, this library, and the official SDK if it is installed, api by api.

python tests/benchmarks/calls.py                    five rounds, as Markdown: three minutes, nine with the SDK
python tests/benchmarks/calls.py --rounds 2         ... and quicker

A server in a process of its own sends canned responses, on the first core; each variant has a process on the last
one. In each round every variant takes several short turns at a load, in alternation, before any continues with the next
load, as the speed of a machine changes from second to second. Medians of all turns are shown. Where a process lies in
memory changes its figures too, by up to 15 %: every round has new processes, and more rounds make up for it.

`pip install '.[bench]'` adds uvloop, for the server; without it the server takes more of its core.
"""

# ruff: noqa: T201 - it prints for people

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import NamedTuple, Self

ROOT = Path(__file__).parents[2]

NAMES = {
    "bare": "aiohttp and orjson, to dicts",
    "ours": "this library",
    "watched": "this library, paced and with all hooks",
    "official": "official SDK",
}


class Load(NamedTuple):
    """What is requested, by how many callers at once, and how often.

    The SDK takes so long that it is called less often, but at 500 not much: there its queue has to be full for a while.
    """

    what: str
    concurrent: int
    calls: int
    calls_of_official: int


LOADS = (
    Load("status", 1, 1000, 100),
    Load("status", 50, 4000, 300),
    Load("status", 500, 4000, 3000),
    Load("page", 1, 300, 100),
    Load("page", 50, 600, 300),
    Load("page", 500, 1000, 1500),
)
# How often the variants alternate at one load.
TURNS = 3
WHAT = {"status": "a sync's status, 1 kB", "page": "a page of 100 connections, 58 kB"}

Figures = dict[str, float]

START = """
import json, time
began = time.perf_counter()
{before}
imported_before = time.perf_counter()
{imports}
imported = time.perf_counter()
{makes}
made = time.perf_counter()
{calls}
called = time.perf_counter()
print(json.dumps({{
    "import": imported - imported_before, "make": made - imported,
    "call": called - began, "before": imported_before - began,
}}))
"""
# What each imports, makes and calls first, in a fresh interpreter.
STARTS: dict[str, Mapping[str, str]] = {
    "bare": {
        "before": "import asyncio, aiohttp",
        "imports": "import orjson",
        "makes": "",
        "calls": """
async def first():
    async with aiohttp.ClientSession(headers={"Authorization": "Basic a2V5"}) as session:
        async with session.get("BASE/companies/c/sync/commerce/syncs/s/status") as response:
            return orjson.loads(await response.read())
asyncio.run(first())""",
    },
    "ours": {
        "before": "import asyncio, aiohttp",
        "imports": "from codat_commerce_async import CodatCommerce",
        "makes": 'codat = CodatCommerce("a2V5", base_url="BASE")',
        "calls": """
async def first():
    async with codat:
        return await codat.sync.get("c", "s")
asyncio.run(first())""",
    },
    "official": {
        "before": "import asyncio, httpx",
        "imports": """
from codat_sync_for_commerce import CodatSyncCommerce
from codat_sync_for_commerce.models.shared import Security""",
        "makes": 'codat = CodatSyncCommerce(security=Security(auth_header="Basic a2V5"), server_url="BASE")',
        "calls": """
async def first():
    async with codat:
        return await codat.sync.get_async(request={"company_id": "c", "sync_id": "s"})
asyncio.run(first())""",
    },
}
FIRST_DECODING = """
import contextlib, json, time
import cattrs
from codat_commerce_async import DecodeError
from codat_commerce_async._core import codec as _codec
from codat_commerce_async.models.MODULE import MODEL as model
began = time.perf_counter()
with contextlib.suppress(DecodeError):
    _codec.decode(b"{}", model)
print(json.dumps({"decode": time.perf_counter() - began}))
"""
MODELS = {
    "Branding": "integrations",
    "Companies": "companies",
    "Company": "companies",
    "CompanySyncStatus": "sync",
    "Configuration": "configuration",
    "Connection": "connections",
    "Connections": "connections",
    "Integrations": "integrations",
    "LocalizationInfo": "sync_flow",
    "SyncFlowUrl": "sync_flow",
    "SyncStatus": "sync",
    "SyncSummary": "sync",
    "VisibleAccounts": "sync_flow",
}


class Process:
    """A module of the benchmark in a process of its own, which is talked to by lines."""

    def __init__(self, module: str, *arguments: str) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter, and what stands beside this file
            [sys.executable, "-m", f"tests.benchmarks.{module}", *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def read(self) -> str:
        """The next line of what it prints."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("a process of the benchmark has ended early")
        return line.strip()

    def measure(self, **order: object) -> Figures:
        """Return what the process measured."""
        assert self._process.stdin is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)
        figures: Figures = json.loads(self.read())
        return figures


@contextmanager
def variants(names: list[str], base: str) -> Iterator[dict[str, Process]]:
    """A new process for each."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(Process("variants", name, base)) for name in names}


def fresh(code: str, cache: str) -> Figures:
    """What a new interpreter prints, with the bytecode of everything at hand as after an installation."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-X", f"pycache_prefix={cache}", "-c", code]
    done = subprocess.run(  # noqa: S603 - this interpreter, and what stands in this file
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    figures: Figures = json.loads(done.stdout)
    return figures


class Measurements:
    """All figures of all rounds, by variant and by what was measured."""

    def __init__(self) -> None:
        self._all: dict[tuple[str, ...], list[Figures]] = {}

    def add(self, figures: Figures, *key: object) -> None:
        """Keep what one round gave."""
        self._all.setdefault(tuple(map(str, key)), []).append(figures)

    def median(self, figure: str, *key: object) -> float:
        """The median of all turns."""
        return median(figures[figure] for figures in self._all[tuple(map(str, key))])

    def ratio(self, figure: str, name: str, to: str, *key: object) -> float:
        """The median of one variant's multiple of another's in the same turn, which outlasts a busy machine."""
        ours, theirs = (self._all[tuple(map(str, (each, *key)))] for each in (name, to))
        return median(one[figure] / other[figure] for one, other in zip(ours, theirs, strict=True))


def run(rounds: int, names: list[str]) -> Measurements:
    measured = Measurements()
    with Process("canned") as server, tempfile.TemporaryDirectory() as cache:
        base = f"http://127.0.0.1:{server.read()}"
        for number in range(rounds + 1):
            # The first round only fills the cache of bytecode.
            if number:
                print(f"round {number} of {rounds}", file=sys.stderr)
                turn = names[number % len(names) :] + names[: number % len(names)]
                with variants(turn, base) as processes:
                    measure_calls(processes, measured)
            kept = measured if number else Measurements()
            measure_starts([name for name in names if name in STARTS], base, cache, kept)
    return measured


def measure_calls(processes: Mapping[str, Process], measured: Measurements) -> None:
    for load in LOADS:
        for _ in range(TURNS):
            for name, process in processes.items():
                calls = load.calls_of_official if name == "official" else load.calls
                order = {"what": load.what, "concurrent": load.concurrent, "calls": calls // 2}
                measured.add(process.measure(do="calls", **order), name, load.what, load.concurrent)
    for what, times in (("status", 2000), ("page", 50)):
        for name, process in processes.items():
            if name != "watched":
                measured.add(process.measure(do="decode", what=what, times=times), name, "decode", what)
    for name, process in processes.items():
        # The SDK has 100 connections, so never a thousand calls in flight.
        if name != "official":
            measured.add(process.measure(do="memory", calls=1000), name, "memory")


def measure_starts(names: list[str], base: str, cache: str, measured: Measurements) -> None:
    for name in names:
        code = START.format(**{part: text.replace("BASE", base) for part, text in STARTS[name].items()})
        measured.add(fresh(code, cache), name, "start")
    for model, module in MODELS.items():
        code = FIRST_DECODING.replace("MODULE", module).replace("MODEL", model)
        measured.add(fresh(code, cache), model, "first decoding")


def table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> None:
    print("", "| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|", sep="\n")
    for row in rows:
        print("| " + " | ".join(row) + " |")


def report(measured: Measurements, names: list[str]) -> None:
    for what, in_words in WHAT.items():
        loads = [load.concurrent for load in LOADS if load.what == what]
        head = tuple(f"{figure}, {each}" for each in loads for figure in ("CPU", "times bare", "calls/s", "99 %"))
        table((f"{in_words}; at once:", *head), (call_row(measured, name, what, loads) for name in names))
    print()
    for ours in ("ours", "watched"):
        for what, in_words in WHAT.items():
            rate = measured.median("rate", ours, what, 500) / measured.median("rate", ours, what, 50)
            print(f"- {NAMES[ours]}, {in_words}: calls per second at 500 are {rate:.2f} of those at 50")
    for what, in_words in WHAT.items():
        on_top = [measured.ratio("cpu", "watched", "ours", what, concurrent) for concurrent in (1, 50, 500)]
        listed = ", ".join(f"{100 * (each - 1):+.0f} %" for each in on_top)
        print(f"- {in_words}: pacing and hooks change the CPU time by {listed} at 1, 50, 500")
    if "official" in names:
        for what, in_words in WHAT.items():
            times = [measured.ratio("rate", "ours", "official", what, concurrent) for concurrent in (1, 50, 500)]
            print(f"- {in_words}: {', '.join(f'{each:.0f} x' for each in times)} the SDK's calls/s at 1, 50, 500")
    plain = [name for name in names if name != "watched"]
    head = (
        "",
        "decode a status",
        "decode a page",
        "memory in flight",
        "import",
        "make",
        "to the first response",
    )
    table(head, (other_row(measured, name) for name in plain))
    slowest = sorted(MODELS, key=lambda model: -measured.median("decode", model, "first decoding"))[:3]
    listed = ", ".join(
        f"{model} {1e3 * measured.median('decode', model, 'first decoding'):.1f} ms" for model in slowest
    )
    print(f"\nThe slowest first decodings of a model, when cattrs is loaded: {listed}.")


def call_row(measured: Measurements, name: str, what: str, loads: list[int]) -> tuple[str, ...]:
    row = [NAMES[name]]
    for concurrent in loads:
        key = (what, concurrent)
        row += [
            f"{1e6 * measured.median('cpu', name, *key):.0f} us",
            f"{measured.ratio('cpu', name, 'bare', *key):.2f}",
            f"{measured.median('rate', name, *key):,.0f}",
            f"{1e3 * measured.median('p99', name, *key):.1f} ms",
        ]
    return tuple(row)


def other_row(measured: Measurements, name: str) -> tuple[str, ...]:
    def ms(figure: str) -> str:
        return f"{1e3 * measured.median(figure, name, 'start'):.1f} ms"

    in_flight = "-" if name == "official" else f"{measured.median('bytes', name, 'memory') / 1024:.1f} KiB"
    return (
        NAMES[name],
        f"{1e6 * measured.median('cpu', name, 'decode', 'status'):.1f} us",
        f"{1e6 * measured.median('cpu', name, 'decode', 'page'):.0f} us",
        in_flight,
        f"{ms('import')} over {ms('before')}",
        ms("make"),
        ms("call"),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--without-sdk", action="store_true")
    arguments = parser.parse_args()
    names = [name for name in NAMES if name != "official"]
    if find_spec("codat_sync_for_commerce") and not arguments.without_sdk:
        names.append("official")
    report(run(arguments.rounds, names), names)


if __name__ == "__main__":
    main()
