"""Imports follow the layers of the architecture: none upward, none in a cycle, each external library in its modules."""

import ast
import sys
from collections.abc import Collection, Iterator, Mapping
from collections.abc import Set as AbstractSet
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parents[1] / "codat_commerce_async"
ANYWHERE = "*"


class Rules(NamedTuple):
    """The tables that a package is checked against; an entry that matches nothing is a fault too.

    A row of a package covers all of its modules, and the most specific row counts. The empty name is the package
    itself, whose `__init__` re-exports names of lower layers. An import under `if TYPE_CHECKING` happens in type
    checkers only: the pairs of `types_only` (importer, target; a library has a colon before its name) are exempt, all
    others are checked like real imports.
    """

    layers: Mapping[str, int]
    libraries: Mapping[str, Collection[str]]
    types_only: AbstractSet[tuple[str, str]]


RULES = Rules(
    layers={
        "_version": 0,
        "errors": 0,
        "hooks": 0,
        "models": 0,
        "policies": 0,
        "problems": 0,
        # What layer 0 needs itself.
        "_core.callbacks": 0,
        "_core.json_object": 0,
        "_core.lazy": 0,
        "_core.log": 0,
        "_core.validation": 0,
        "_core.operation": 0,
        "_core.secrecy": 0,
        "_core.text": 0,
        "_core": 1,
        "distributed": 2,
        "syncing": 2,
        "resources": 3,
        "client": 4,
        "": 4,
        "webhooks": 5,
        "contrib": 6,
        "simulator": 6,
        "cli": 7,
        "pytest_plugin": 7,
        "__main__": 7,
    },
    libraries={
        "aiohttp": {
            "_core.transport",
            "contrib.aiohttp_web",
            "simulator._post",
            "simulator._server",
            "webhooks._receiver",
        },
        "attrs": {ANYWHERE},
        "cattrs": {"_core.codec", "_core.decode_errors", "_core.encoding"},
        "fastapi": {"contrib.fastapi"},
        "opentelemetry": {"contrib.otel"},
        "orjson": {"_core.codec", "_core.encoding", "distributed.file"},
        "procrastinate": {"contrib.procrastinate"},
        "psycopg": {"distributed.postgres", "distributed.postgres_deliveries"},
        "pygal": {"cli._report_page.charts"},
        "pydantic": {"models._pydantic", "contrib.fastapi"},
        "pydantic_core": {"models._pydantic"},
        "pytest": {"pytest_plugin"},
        "pytest_asyncio": {"pytest_plugin"},
        "redis": {"contrib.taskiq_redis", "distributed.redis", "distributed.redis_deliveries"},
        "rich": {"cli._view"},
        "starlette": {"contrib.starlette", "contrib.fastapi"},
        "taskiq": {"contrib.taskiq", "contrib.taskiq_redis"},
        "taskiq_redis": {"contrib.taskiq_redis"},
        "tenacity": {"_core.retry"},
        "yarl": {"_core.transport"},  # the URLs of aiohttp
    },
    types_only={
        ("errors", "models"),
        ("models", "_core.codec"),  # what the methods of models need is loaded by their first call
        ("models", ":pydantic"),
        ("models", ":pydantic_core"),
        ("syncing", ":pydantic"),
        ("syncing", ":pydantic_core"),
    },
)


class Module(NamedTuple):
    """A module by its dotted name inside the package; relative imports are resolved from `home`."""

    name: str
    home: str
    tree: ast.Module


class Import(NamedTuple):
    """One module imports another; an external library has a colon before its name."""

    importer: str
    target: str
    types_only: bool = False


# The first tests read the whole package, and those after them small ones, which replace it here.
@lru_cache(maxsize=1)
def load(package: Path) -> list[Module]:
    """Return all modules of the package."""
    modules = []
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        name = ".".join(parts[:-1] if path.stem == "__init__" else parts)
        home = ".".join((package.name, *parts[:-1]))
        modules.append(Module(name, home, ast.parse(path.read_text(encoding="utf-8"))))
    return modules


def imports(module: Module, package: str, names: Collection[str]) -> Iterator[Import]:
    """Yield all imports of one module, inside of functions too."""
    for_checkers = set(guarded(module.tree))
    for node in statements(module.tree):
        for full_name in imported(node, module.home):
            yield Import(module.name, inside(full_name, package, names), node in for_checkers)


def guarded(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield the nodes under `if TYPE_CHECKING`."""
    for node in statements(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            yield from node.body
            for statement in node.body:
                yield from statements(statement)


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the statements in a node, at any depth; expressions, which are most of a tree, contain none."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
            yield child
            yield from statements(child)


def imported(node: ast.AST, home: str) -> Iterator[str]:
    """Yield the full names that one statement imports."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = resolve_name("." * node.level + (node.module or ""), home)
        yield from (f"{base}.{alias.name}" for alias in node.names)


def inside(full_name: str, package: str, names: Collection[str]) -> str:
    """Return the module of the package that a full name belongs to, or the external library with its colon."""
    top, _, rest = full_name.partition(".")
    if top != package:
        return f":{top}"
    while rest and rest not in names:
        rest = rest.rpartition(".")[0]
    return rest


def is_in(module: str, place: str) -> bool:
    return place in {module, ANYWHERE} or (place != "" and module.startswith(f"{place}."))


def row_of(module: str, rules: Rules) -> str | None:
    """Return the most specific row for a module."""
    return max((row for row in rules.layers if is_in(module, row)), key=len, default=None)


def exemption(one: Import, rules: Rules) -> tuple[str, str] | None:
    """Return the pair that allows an import for types only."""
    pairs = (pair for pair in rules.types_only if is_in(one.importer, pair[0]) and is_in(one.target, pair[1]))
    return next(pairs, None) if one.types_only else None


def faults(package: Path, rules: Rules) -> list[str]:
    """Return a message for each violation of the rules."""
    modules = load(package)
    names = {module.name for module in modules}
    every = [one for module in modules for one in imports(module, package.name, names)]
    real = [one for one in every if exemption(one, rules) is None]
    return [
        *(f"{name} has no layer" for name in sorted(names) if row_of(name, rules) is None),
        *(fault for one in real if (fault := violation(one, rules))),
        *cycles(real),
        *unused(names, every, rules),
    ]


def violation(one: Import, rules: Rules) -> str | None:
    """Return what is wrong with one import by itself."""
    if one.target.startswith(":"):
        return misplaced(one.importer, one.target[1:], rules)
    here, there = row_of(one.importer, rules), row_of(one.target, rules)
    if here is None or there is None or rules.layers[there] <= rules.layers[here]:
        return None
    target = one.target or "the package"
    return f"{one.importer} (layer {rules.layers[here]}) imports {target} (layer {rules.layers[there]})"


def misplaced(importer: str, library: str, rules: Rules) -> str | None:
    """Return what is wrong with the import of an external library there."""
    places = rules.libraries.get(library, ())
    if library in sys.stdlib_module_names or any(is_in(importer, place) for place in places):
        return None
    return f"{importer} imports {library}, which is allowed in: {', '.join(sorted(places)) or 'nothing'}"


def cycles(every: list[Import]) -> list[str]:
    """Return the first cycle of the imports, if there is one."""
    graph: TopologicalSorter[str] = TopologicalSorter()
    for one in every:
        graph.add(one.importer, one.target)
    try:
        graph.prepare()
    except CycleError as error:
        return [f"cycle: {' <- '.join(error.args[1])}"]
    return []


def unused(names: Collection[str], every: Collection[Import], rules: Rules) -> Iterator[str]:
    """Yield the entries of the tables that match nothing."""
    used_rows = {row_of(name, rules) for name in names}
    yield from (
        f"the layer of {row or 'the package'} matches no module" for row in rules.layers if row not in used_rows
    )
    for library, places in rules.libraries.items():
        importers = {one.importer for one in every if one.target == f":{library}"}
        for place in sorted(places):
            if not any(is_in(importer, place) for importer in importers):
                yield f"{library} is not imported in {place}"
    used_pairs = {exemption(one, rules) for one in every}
    yield from (f"{user} imports nothing of {used} for types only" for user, used in rules.types_only - used_pairs)


def test_the_package_follows_the_rules() -> None:
    assert faults(PACKAGE, RULES) == []


# What the simulator may share with the client: a mistake in anything else would hide itself from the tests.
SHARED = {"_core.callbacks", "_core.validation", "models.causes"}
CONNECTING = {"simulator.in_memory": {"_core.transport", "errors", "policies"}}


def test_the_simulator_shares_no_code_with_the_client() -> None:
    modules = load(PACKAGE)
    names = {module.name for module in modules}
    found = {
        (one.importer, one.target)
        for module in modules
        if is_in(module.name, "simulator")
        for one in imports(module, PACKAGE.name, names)
        if not one.target.startswith(":") and not is_in(one.target, "simulator")
    }
    assert {target for _, target in found} >= SHARED
    assert [pair for pair in found if pair[1] not in SHARED | CONNECTING.get(pair[0], set())] == []


# attrs is the one way to write a value class.
OTHER_VALUE_CLASSES = {"collections.namedtuple", "dataclasses.dataclass", "typing.NamedTuple"}


def other_value_classes(package: Path) -> list[tuple[str, str]]:
    """Return the modules that import another way to write value classes, with its name."""
    return [
        (module.name, name)
        for module in load(package)
        for node in statements(module.tree)
        for name in imported(node, module.home)
        if name in OTHER_VALUE_CLASSES or name == "dataclasses"
    ]


def test_value_classes_are_attrs_classes(tmp_path: Path) -> None:
    assert other_value_classes(PACKAGE) == []
    package = build(tmp_path, {"errors": "from typing import NamedTuple", "client": "import dataclasses"})
    assert other_value_classes(package) == [("client", "dataclasses"), ("errors", "typing.NamedTuple")]


SMALL = Rules(
    layers={"errors": 0, "models": 0, "_core.text": 0, "_core": 1, "client": 4, "": 4},
    libraries={"orjson": {"_core.codec"}, "aiohttp": {"_core.transport", "client"}, "attrs": {ANYWHERE}},
    types_only={("errors", "models"), ("models", ":pydantic")},
)
FOR_TYPES = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    "
# Sound, and uses each entry of the tables.
SOUND = {
    "__init__": "from package.client import Client",
    "errors": f"import re\n{FOR_TYPES}from package.models.sync import Status",
    "models/__init__": "from package.models.sync import Status",
    "models/sync": f"from attrs import frozen\nfrom package.errors import Error\n{FOR_TYPES}import pydantic",
    "_core/__init__": "",
    "_core/text": "",
    "_core/codec": "import orjson\nfrom package.models import Status",
    "_core/transport": "import aiohttp\nfrom . import codec",
    "client": "import aiohttp.web\nfrom package._core.transport import send",
}


def build(root: Path, files: Mapping[str, str]) -> Path:
    """Write a small package: the sound one, with some of its modules replaced."""
    package = root / "package"
    for name, text in {**SOUND, **files}.items():
        path = package / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return package


def test_a_sound_package_has_no_faults(tmp_path: Path) -> None:
    assert faults(build(tmp_path, {}), SMALL) == []


@pytest.mark.parametrize(
    ("name", "extra", "fault"),
    [
        ("_core/text", "import package.client", "_core.text (layer 0) imports client (layer 4)"),
        ("_core/text", "from package import client", "_core.text (layer 0) imports client (layer 4)"),
        ("_core/text", "from package.client import Client", "_core.text (layer 0) imports client (layer 4)"),
        ("_core/text", "from package import Client", "_core.text (layer 0) imports the package (layer 4)"),
        ("_core/text", "from .. import client", "_core.text (layer 0) imports client (layer 4)"),
        ("_core/text", "from .transport import send", "_core.text (layer 0) imports _core.transport (layer 1)"),
        ("_core/text", "def late():\n    import package.client", "_core.text (layer 0) imports client (layer 4)"),
        ("models/later", f"{FOR_TYPES}import package.client", "models.later (layer 0) imports client (layer 4)"),
        ("_core/transport", "import orjson", "_core.transport imports orjson, which is allowed in: _core.codec"),
        (
            "_core/text",
            f"{FOR_TYPES}import aiohttp.web",
            "_core.text imports aiohttp, which is allowed in: _core.transport, client",
        ),
        ("_core/codec", "import requests", "_core.codec imports requests, which is allowed in: nothing"),
        ("_core/codec", "import pydantic", "_core.codec imports pydantic, which is allowed in: nothing"),
        ("_core/codecs", "import orjson", "_core.codecs imports orjson, which is allowed in: _core.codec"),
        ("_helpers", "", "_helpers has no layer"),
        ("clients", "", "clients has no layer"),
        ("errors", "import package.models.sync", "cycle: errors <- models.sync <- errors"),
        ("models/sync", "from package.models import B", "cycle: models <- models.sync <- models"),
    ],
)
def test_a_fault_is_found(tmp_path: Path, name: str, extra: str, fault: str) -> None:
    assert faults(build(tmp_path, {name: f"{SOUND.get(name, '')}\n{extra}"}), SMALL) == [fault]


@pytest.mark.parametrize(
    ("rules", "fault"),
    [
        (SMALL._replace(layers={**SMALL.layers, "syncing": 2}), "the layer of syncing matches no module"),
        (SMALL._replace(layers={**SMALL.layers, "_core.texts": 0}), "the layer of _core.texts matches no module"),
        (SMALL._replace(libraries={**SMALL.libraries, "yarl": {ANYWHERE}}), "yarl is not imported in *"),
        (
            SMALL._replace(libraries={**SMALL.libraries, "orjson": {"_core.codec", "models"}}),
            "orjson is not imported in models",
        ),
        (
            SMALL._replace(types_only={*SMALL.types_only, ("client", "errors")}),
            "client imports nothing of errors for types only",
        ),
        # A real import needs no exemption.
        (
            SMALL._replace(types_only={*SMALL.types_only, ("_core", ":orjson")}),
            "_core imports nothing of :orjson for types only",
        ),
    ],
)
def test_an_entry_that_matches_nothing_is_a_fault(tmp_path: Path, rules: Rules, fault: str) -> None:
    assert faults(build(tmp_path, {}), rules) == [fault]


def test_a_row_whose_modules_all_have_rows_of_their_own_is_a_fault(tmp_path: Path) -> None:
    layers = {**SMALL.layers, "models.sync": 0, "_core.codec": 1, "_core.transport": 1}
    package = build(tmp_path, {})
    (package / "_core" / "__init__.py").unlink()
    assert faults(package, SMALL._replace(layers=layers)) == ["the layer of _core matches no module"]
