"""Importing the library brings in what a call needs, and starts and configures nothing."""

import json
import subprocess
import sys
from pathlib import Path
from typing import TypedDict

import pytest

CHECKOUT = Path(__file__).parents[1]

# aiohttp and attrs are there before: what they bring along is not ours to count.
PROBE = """
import asyncio, gc, json, logging, os, signal, sys, threading, warnings
import aiohttp, attrs

def state():
    return {
        "environment": dict(os.environ),
        "handlers": [repr(each) for each in logging.root.handlers],
        "level": logging.root.level,
        "loops": sum(isinstance(each, asyncio.AbstractEventLoop) for each in gc.get_objects()),
        "signals": [repr(signal.getsignal(each)) for each in sorted(signal.valid_signals())],
        "threads": threading.active_count(),
        "warnings": [repr(each) for each in warnings.filters],
    }

modules, before = set(sys.modules), state()
exec(sys.argv[1])
after = state()
print(json.dumps({
    "modules": sorted(set(sys.modules) - modules),
    "changed": sorted(name for name in before if before[name] != after[name]),
    "own_loggers": {
        name: {"level": each.level, "handlers": [type(handler).__name__ for handler in each.handlers]}
        for name, each in logging.root.manager.loggerDict.items()
        if name.startswith("codat_commerce_async") and isinstance(each, logging.Logger)
    },
}))
"""


class Logger(TypedDict):
    """How a logger is set up."""

    level: int
    handlers: list[str]


class Report(TypedDict):
    """What a statement did to a fresh interpreter."""

    modules: list[str]
    changed: list[str]
    own_loggers: dict[str, Logger]


def report(statement: str) -> Report:
    probe = subprocess.run(  # noqa: S603 - this interpreter, and what stands in this file
        [sys.executable, "-c", PROBE, statement], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    found: Report = json.loads(probe.stdout)
    return found


@pytest.fixture(scope="module")
def imported() -> Report:
    """What importing the library did."""
    return report("import codat_commerce_async")


def test_modules_built_on_the_client_are_not_imported(imported: Report) -> None:
    upper = {"simulator", "cli", "contrib", "webhooks", "__main__"}
    assert "codat_commerce_async" in imported["modules"]
    assert [name for name in imported["modules"] if upper & set(name.split("."))] == []


def test_no_foreign_library_is_imported_but_the_required_ones(imported: Report) -> None:
    required = {"cattr", "cattrs", "orjson", "tenacity", "typing_extensions"}
    tops = {name.partition(".")[0] for name in imported["modules"]}
    assert tops - set(sys.stdlib_module_names) - required == {"codat_commerce_async"}


def test_no_heavy_corner_of_the_standard_library_is_imported(imported: Report) -> None:
    heavy = {"multiprocessing", "sqlite3", "tkinter", "unittest", "xmlrpc"}
    assert heavy & {name.partition(".")[0] for name in imported["modules"]} == set()


def test_importing_starts_and_configures_nothing(imported: Report) -> None:
    assert imported["changed"] == []


def test_the_librarys_loggers_are_left_to_the_application(imported: Report) -> None:
    for logger in imported["own_loggers"].values():
        assert logger["level"] == 0
        assert set(logger["handlers"]) <= {"NullHandler"}


def test_the_check_finds_side_effects_of_an_import() -> None:
    bad_manners = [
        "import signal, threading, warnings",
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
        "os.environ['CODAT_PROBE'] = '1'",
        "loop = asyncio.new_event_loop()",
        "logging.basicConfig(level=10)",
        "logging.getLogger('codat_commerce_async.x').addHandler(logging.StreamHandler())",
        "threading.Thread(target=threading.Event().wait, daemon=True).start()",
        "warnings.simplefilter('error')",
        "import sqlite3",
    ]
    seen = report("; ".join(bad_manners))
    assert seen["changed"] == ["environment", "handlers", "level", "loops", "signals", "threads", "warnings"]
    assert seen["own_loggers"] == {"codat_commerce_async.x": {"level": 0, "handlers": ["StreamHandler"]}}
    assert "sqlite3" in seen["modules"]
