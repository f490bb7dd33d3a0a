"""The house rule: imports run downward or sideways, never in a circle; foreign libraries have rooms."""

import ast
import sys
from collections.abc import Collection, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parents[1] / "codat_commerce_async"

# A package's line speaks for all of its modules. The empty name is the package's own face, which repeats
# names of every floor up to the client.
FLOORS = {
    "_core.callbacks": 0,
    "_core.moments": 0,
    "_core.numbers": 0,
    "_core.lazy": 0,
    "_core.log": 1,
    "_core.operation": 0,
    "_core.secrecy": 0,
    "_core.text": 0,
    "_version": 0,
    "errors": 0,
    "hooks": 0,
    "models": 0,
    "policies": 0,
    "_core.claims": 1,
    "_core.codec": 1,
    "_core": 1,
    "_core.headers": 1,
    "_core.lifecycle": 1,
    "_core.instrumentation": 1,
    "_core._structuring": 1,
    "_core.retry": 1,
    "_core._unstructuring": 1,
    "_core.transport": 2,
    "_core.pipeline": 3,
    "_core.responses": 3,
    "_core.request": 3,
    "_core.reconcile": 3,
    "_core.pages": 3,
    "syncing": 3,
    "resources": 4,
    "client": 5,
    "": 5,
    "__main__": 6,
    "cli": 6,
    "contrib": 6,
    "pytest_plugin": 6,
    "simulator": 6,
    "webhooks": 6,
}

ROOMS = {
    "attrs": {"models"},
    "cattrs": {"_core.codec"},
    "opentelemetry": {"contrib.otel"},
    "orjson": {"_core.codec"},
    "rich": {"cli._view"},
    "tenacity": {"_core.retry"},
    "pydantic": {"models._pydantic"},
    "pydantic_core": {"models._pydantic"},
    "pytest": {"pytest_plugin"},
    "pytest_asyncio": {"pytest_plugin"},
    "aiohttp": {"_core.transport", "simulator._server", "webhooks", "contrib", "cli"},
    "yarl": {"_core.transport"},  # the URLs of aiohttp
}

# A library that is an extra's own, which the list above leaves out, may be imported here.
EXTRAS = {"contrib"}

# An import under `if TYPE_CHECKING` happens only in type checkers. These pairs may point where a real one
# must not, all others are held to the rule like real ones.
TYPES_ONLY = {
    ("errors", "models"),
    ("models", "_core.codec"),  # what the methods of models need is loaded by their first call
    ("models", ":pydantic"),
    ("models", ":pydantic_core"),
    ("simulator", ":_typeshed"),  # the standard library's own stubs
}


class Module(NamedTuple):
    """A module by its dotted name inside the package; `home` is where its relative imports start from."""

    name: str
    home: str
    tree: ast.Module


class Arrow(NamedTuple):
    """One module imports another; a foreign library has a colon before its name."""

    importer: str
    target: str


def load(package: Path) -> list[Module]:
    """Every module of the package."""
    modules = []
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        name = ".".join(parts[:-1] if path.stem == "__init__" else parts)
        home = ".".join((package.name, *parts[:-1]))
        modules.append(Module(name, home, ast.parse(path.read_text(encoding="utf-8"))))
    return modules


def arrows(module: Module, package: str, names: Collection[str]) -> Iterator[Arrow]:
    """All that one module imports, wherever in it that stands."""
    for_checkers = set(guarded(module.tree))
    for node in ast.walk(module.tree):
        for full_name in imported(node, module.home):
            target = inside(full_name, package, names)
            if node not in for_checkers or not allowed_for_types(module.name, target):
                yield Arrow(module.name, target)


def guarded(tree: ast.Module) -> Iterator[ast.AST]:
    """What stands under `if TYPE_CHECKING`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            for statement in node.body:
                yield from ast.walk(statement)


def imported(node: ast.AST, home: str) -> Iterator[str]:
    """The full names that one statement imports."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = resolve_name("." * node.level + (node.module or ""), home)
        yield from (f"{base}.{alias.name}" for alias in node.names)


def inside(full_name: str, package: str, names: Collection[str]) -> str:
    """The module of the package that a full name leads to, or the foreign library with its colon."""
    top, _, rest = full_name.partition(".")
    if top != package:
        return f":{top}"
    while rest and rest not in names:
        rest = rest.rpartition(".")[0]
    return rest


def allowed_for_types(importer: str, target: str) -> bool:
    return any(is_in(importer, user) and is_in(target, used) for user, used in TYPES_ONLY)


def is_in(module: str, place: str) -> bool:
    return module == place or (place != "" and module.startswith(f"{place}."))


def floor(module: str) -> int | None:
    """The floor that the table gives a module, if it does."""
    return next((number for place, number in FLOORS.items() if is_in(module, place)), None)


def faults(package: Path) -> list[str]:
    """What breaks the house rule, in words."""
    modules = load(package)
    names = {module.name for module in modules}
    all_arrows = [arrow for module in modules for arrow in arrows(module, package.name, names)]
    homeless = [f"{name} has no floor" for name in sorted(names) if floor(name) is None]
    return homeless + [fault for arrow in all_arrows if (fault := wrong(arrow))] + circles(all_arrows)


def wrong(arrow: Arrow) -> str | None:
    """What is wrong with one import by itself."""
    if arrow.target.startswith(":"):
        return strayed(arrow.importer, arrow.target[1:])
    here, there = floor(arrow.importer), floor(arrow.target)
    if here is None or there is None or there <= here:
        return None
    return f"{arrow.importer} (floor {here}) imports {arrow.target or 'the face'} (floor {there})"


def strayed(importer: str, library: str) -> str | None:
    """What is wrong with the import of a foreign library there, if anything."""
    rooms = ROOMS.get(library, EXTRAS)
    if library in sys.stdlib_module_names or any(is_in(importer, place) for place in rooms):
        return None
    return f"{importer} imports {library}, whose rooms are {', '.join(sorted(rooms))}"


def circles(all_arrows: list[Arrow]) -> list[str]:
    """The first circle of the imports, if there is one."""
    graph: TopologicalSorter[str] = TopologicalSorter()
    for importer, target in all_arrows:
        graph.add(importer, target)
    try:
        graph.prepare()
    except CycleError as error:
        return [f"circle: {' <- '.join(error.args[1])}"]
    return []


def test_the_house_stands() -> None:
    assert faults(PACKAGE) == []


FOR_CHECKERS = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    "
EMPTY = ("__init__", "errors", "models/__init__", "models/sync", "_core.codec", "_core.transport", "client")


def build(root: Path, files: Mapping[str, str]) -> Path:
    """A small house of the given modules, beside the empty ones that they import."""
    package = root / "house"
    for name in {*EMPTY, *files}:
        path = package / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files.get(name, ""), encoding="utf-8")
    return package


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        ({"errors": "import house.client"}, "errors (floor 0) imports client (floor 5)"),
        ({"errors": "from house import client"}, "errors (floor 0) imports client (floor 5)"),
        ({"errors": "from house.client import Client"}, "errors (floor 0) imports client (floor 5)"),
        ({"_core.codec": "from house import Client"}, "_codec (floor 1) imports the face (floor 5)"),
        ({"_core.codec": "from . import client"}, "_codec (floor 1) imports client (floor 5)"),
        ({"models/sync": "from .._codec import a"}, "models.sync (floor 0) imports _codec (floor 1)"),
        (
            {"models/__init__": "from ._codec import a", "models/_codec": "import house.client"},
            "models._codec (floor 0) imports client (floor 5)",
        ),
        ({"_core.codec": "def late():\n    import house.client"}, "_codec (floor 1) imports client (floor 5)"),
        (
            {"models/sync": f"{FOR_CHECKERS}import house.client"},
            "models.sync (floor 0) imports client (floor 5)",
        ),
        ({"errors": f"{FOR_CHECKERS}import house.client"}, "errors (floor 0) imports client (floor 5)"),
        ({"_core.transport": "import orjson"}, "_transport imports orjson, whose rooms are _codec"),
        ({"client": "from attrs import frozen"}, "client imports attrs, whose rooms are models"),
        (
            {"resources/sync": f"{FOR_CHECKERS}import aiohttp.web"},
            "resources.sync imports aiohttp, whose rooms are _transport, cli, contrib, simulator._server, webhooks",
        ),
        ({"simulator/clock": "import yarl"}, "simulator.clock imports yarl, whose rooms are _transport"),
        ({"cli/sync": "from rich.table import Table"}, "cli.sync imports rich, whose rooms are cli._view"),
        ({"_core.codec": "import requests"}, "_codec imports requests, whose rooms are contrib"),
        ({"_helpers": ""}, "_helpers has no floor"),
        ({"clients": ""}, "clients has no floor"),
        (
            {"errors": "import house.models.sync", "models/sync": "import house.errors"},
            "circle: errors <- models.sync <- errors",
        ),
        (
            {
                "models/__init__": "from house.models.sync import A",
                "models/sync": "from house.models import B",
            },
            "circle: models <- models.sync <- models",
        ),
    ],
)
def test_a_fault_is_found(tmp_path: Path, files: dict[str, str], fault: str) -> None:
    assert faults(build(tmp_path, files)) == [fault]


def test_a_sound_house_has_no_faults(tmp_path: Path) -> None:
    files = {
        "__init__": "from house.client import Client",
        "errors": f"import re\n{FOR_CHECKERS}from house.models.sync import Status",
        "models/__init__": "from house.models.sync import Status",
        "models/sync": "from attrs import frozen\nfrom house.errors import Error",
        "_core.codec": "import orjson, cattrs.gen\nfrom house.models import Status",
        "_core.transport": "import aiohttp\nfrom house import _codec",
        "client": "from house._transport import send",
        "simulator/__init__": "from house import Client",
        "simulator/_server": "from aiohttp import web",
        "contrib/metrics": "import prometheus_client",
    }
    assert faults(build(tmp_path, files)) == []
