"""Every public field and parameter is documented, in Google style; ruff checks the form of the docstrings."""

import ast
import builtins
import importlib
import inspect
import math
import pkgutil
import re
import textwrap
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import attrs
import pytest

import codat_commerce_async
from codat_commerce_async import CodatCommerce, errors
from codat_commerce_async.models.webhook_events import ConnectionEvent
from codat_commerce_async.simulator import ScriptedSync, Simulator
from codat_commerce_async.simulator.virtual_time import loop_wall_clock
from codat_commerce_async.syncing.ticket import TicketVersionError
from codat_commerce_async.webhooks import Webhooks

PACKAGE = codat_commerce_async.__name__
Function = ast.FunctionDef | ast.AsyncFunctionDef
# Users receive these from the client, and do not construct them.
NOT_CONSTRUCTED = {"Journal", "Paginator", "SyncRun", "SyncStepper", "Watches"}


def public_modules() -> Iterator[ModuleType]:
    yield codat_commerce_async
    for found in pkgutil.walk_packages(codat_commerce_async.__path__, f"{PACKAGE}."):
        parts = found.name.split(".")[1:]
        if not any(part.startswith("_") for part in parts) and parts[0] != "cli":
            yield importlib.import_module(found.name)


@cache
def definitions(module: str) -> dict[str, ast.ClassDef | Function]:
    """Return the classes and functions of a module by their names; of overloads, the implementation."""
    tree = ast.parse(inspect.getsource(importlib.import_module(module)))
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef | Function)}


def public_definitions() -> dict[str, ast.ClassDef | Function]:
    """Return the public classes and functions, by the names of their modules and their own."""
    found: dict[str, ast.ClassDef | Function] = {}
    for module in public_modules():
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            home = getattr(value, "__module__", None)
            is_ours = isinstance(home, str) and home.partition(".")[0] == PACKAGE
            if is_ours and (inspect.isclass(value) or inspect.isfunction(value)):
                found[f"{home}.{value.__name__}"] = definitions(home)[value.__name__]
    return found


PUBLIC = public_definitions()
CLASSES = {name: node for name, node in PUBLIC.items() if isinstance(node, ast.ClassDef)}


def is_protocol(node: ast.ClassDef) -> bool:
    return "Protocol" in map(ast.unparse, node.bases)


def methods(node: ast.ClassDef) -> Iterator[Function]:
    """Yield the public methods of a class; of a property, the getter."""
    for member in [each for each in node.body if isinstance(each, Function)]:
        decorators = " ".join(map(ast.unparse, member.decorator_list))
        if not member.name.startswith("_") and not re.search("overload|setter", decorators):
            yield member


def parameters(function: Function) -> list[str]:
    """Return the parameters to document. Options that a TypedDict types have their docstrings there."""
    arguments = function.args
    found = [*arguments.posonlyargs, *arguments.args]
    found += [arguments.vararg] if arguments.vararg else []
    found += arguments.kwonlyargs
    found += [arguments.kwarg] if arguments.kwarg and "Unpack" not in ast.unparse(arguments.kwarg) else []
    return [each.arg for each in found if each.arg not in {"self", "cls"} and not each.arg.startswith("_")]


def documented(node: ast.AST) -> list[str]:
    """Return the names in the section `Args` of a docstring, in order."""
    assert isinstance(node, ast.ClassDef | Function)
    section = re.search(r"^Args:\n((?:    .*\n?|\n)+)", ast.get_docstring(node) or "", re.MULTILINE)
    return re.findall(r"^    \*{0,2}(\w+): \S", section[1], re.MULTILINE) if section else []


def undocumented_fields(node: ast.ClassDef) -> list[str]:
    """Return the public fields of a class without a docstring below them."""
    found = []
    for member, below in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(member, ast.AnnAssign) and isinstance(member.target, ast.Name):
            is_documented = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
            if not member.target.id.startswith("_") and not is_documented:
                found.append(member.target.id)
    return found


# The implementation of a protocol need not repeat what the protocol documents.
OF_PROTOCOLS = {
    (method.name, name)
    for node in CLASSES.values()
    if is_protocol(node)
    for method in methods(node)
    for name in documented(method)
}


def functions() -> dict[str, tuple[ast.ClassDef | Function, Function, bool]]:
    """Return what has parameters: where it is documented, its signature, and whether a protocol may document it."""
    found: dict[str, tuple[ast.ClassDef | Function, Function, bool]] = {}
    for name, node in PUBLIC.items():
        if isinstance(node, Function):
            found[name] = node, node, False
            continue
        found |= {f"{name}.{method.name}": (method, method, not is_protocol(node)) for method in methods(node)}
        constructors = [each for each in node.body if isinstance(each, Function) and each.name == "__init__"]
        if constructors and node.name not in NOT_CONSTRUCTED and not node.name.endswith("Resource"):
            found[name] = node, constructors[0], False
    return found


FUNCTIONS = functions()

# What users meet first: their docstrings have examples.
MOST_USED = [
    "client.CodatCommerce",
    "client.CodatCommerce.call",
    "resources.sync.SyncResource.start",
    "resources.sync.SyncResource.wait",
    "resources.sync.SyncResource.poll",
    "resources.sync.SyncResource.watch",
    "resources.sync.SyncResource.run",
    "resources.sync.SyncResource.run_many",
    "resources.sync.SyncResource.diagnose",
    "resources.connections.ConnectionsResource.list",
    "resources.connections.ConnectionsResource.get_sync_flow_url",
    "resources.advanced_controls.AdvancedControlsResource.list_companies",
    "resources.advanced_controls.AdvancedControlsResource.create_company",
    "resources.advanced_controls.AdvancedControlsResource.set_configuration",
    "models.handle.SyncHandle",
    "syncing.journal.Journal",
    "hooks.Hooks",
    "_core.operation.Operation",
    "policies.RetryPolicy",
    "policies.PollPolicy",
    "policies.Quota",
    "_core.local_rate_limiter.LocalRateLimiter",
    "simulator._simulator.Simulator",
    "webhooks._dispatch.Webhooks.on",
    "problems.problem",
]
EXAMPLE = re.compile(r"^Example:\n    ```python\n(.*?)^    ```$", re.MULTILINE | re.DOTALL)


def examples() -> dict[str, str]:
    """Return the code of the examples, by the names whose docstrings have one."""
    nodes: dict[str, ast.ClassDef | Function] = {name: where for name, (where, _, _) in FUNCTIONS.items()} | PUBLIC
    found = {name: EXAMPLE.search(ast.get_docstring(node) or "") for name, node in nodes.items()}
    return {name.removeprefix(f"{PACKAGE}."): textwrap.dedent(match[1]) for name, match in found.items() if match}


EXAMPLES = examples()


def test_the_most_used_have_an_example() -> None:
    assert [name for name in MOST_USED if name not in EXAMPLES] == []


@pytest.mark.virtual_time
@pytest.mark.parametrize("name", sorted(EXAMPLES))
async def test_an_example_of_a_docstring_runs(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    async with Simulator(seed=1, now=loop_wall_clock(time.time())) as simulator:
        monkeypatch.setenv("CODAT_API_KEY", simulator.api_key)
        monkeypatch.setenv("CODAT_BASE_URL", simulator.url)
        company_ids = [simulator.add_linked_company() for _ in range(3)]
        async with CodatCommerce.from_env() as codat:
            names = {**imported(), "codat": codat, "company_id": company_ids[0], "company_ids": company_ids}
            code = compile(EXAMPLES[name], name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            result = eval(code, names)  # noqa: S307 - our own
            if inspect.iscoroutine(result):
                await result


def imported() -> dict[str, object]:
    """Return what the examples use without importing it."""
    names = {name: getattr(codat_commerce_async, name) for name in importlib.import_module(PACKAGE).__all__}
    return {
        **names,
        "attrs": attrs,
        "math": math,
        "ConnectionEvent": ConnectionEvent,
        "ScriptedSync": ScriptedSync,
        "Simulator": Simulator,
        "Webhooks": Webhooks,
    }


def test_public_classes_and_functions_are_found() -> None:
    assert {f"{PACKAGE}.client.CodatCommerce", f"{PACKAGE}.simulator._simulator.Simulator"} <= set(CLASSES)
    assert len(CLASSES) > 150
    assert len(FUNCTIONS) > 300


def test_every_public_field_is_documented() -> None:
    missing = {name: undocumented_fields(node) for name, node in CLASSES.items()}
    assert {name: fields for name, fields in missing.items() if fields} == {}


def test_every_parameter_is_documented_in_order() -> None:
    wrong = {}
    for name, (where, function, may_inherit) in FUNCTIONS.items():
        expected, found = parameters(function), documented(where)
        if may_inherit and not found:
            expected = [each for each in expected if (function.name, each) not in OF_PROTOCOLS]
        if found != expected:
            wrong[name] = f"documents {found}, has {expected}"
    assert wrong == {}


DOCUMENTED = {name: where for name, (where, _, _) in FUNCTIONS.items()} | PUBLIC
SECTIONS = ["Args", "Yields", "Raises", "Example"]


def errors_in_prose(docstring: str) -> list[str]:
    """Return the sentences that should be in the section `Raises`."""
    return re.findall(r"(?:^|[.;] )(Raises [^.]*)", " ".join(docstring.split()))


def test_errors_are_in_a_section() -> None:
    found = {name: errors_in_prose(ast.get_docstring(node) or "") for name, node in DOCUMENTED.items()}
    assert {name: sentences for name, sentences in found.items() if sentences} == {}
    assert errors_in_prose("Do it. Raises ValueError for\nnothing.\n\nRaises:\n    TypeError: Never.") == [
        "Raises ValueError for nothing"
    ]


def test_a_section_of_errors_names_exceptions() -> None:
    known = {**vars(builtins), **vars(errors), "TicketVersionError": TicketVersionError}
    sections = 0
    for name, node in DOCUMENTED.items():
        docstring = ast.get_docstring(node) or ""
        order = [SECTIONS.index(each) for each in re.findall(r"^(\w+):$", docstring, re.MULTILINE) if each in SECTIONS]
        assert order == sorted(set(order)), f"{name}: the order of sections must be {SECTIONS}"
        for section in re.findall(r"^Raises:\n((?:    .+\n?)+)", docstring, re.MULTILINE):
            sections += 1
            entries = re.findall(r"^    (\S.*)$", section, re.MULTILINE)
            named = [re.match(r"(\w+): [A-Z0-9`]", entry) for entry in entries]
            assert all(each and issubclass(known[each[1]], Exception) for each in named), f"{name}: {entries}"
    assert sections > 60


def test_the_check_finds_missing_docstrings() -> None:
    source = '''
class One:
    first: int
    """Documented."""
    second: int

    def method(self, one: int, *more: int, **options: Unpack[Options]) -> None:
        """Do something.

        Args:
            one: What
                is done.
        """
'''
    (node,) = ast.parse(source).body
    assert isinstance(node, ast.ClassDef)
    (method,) = methods(node)
    assert undocumented_fields(node) == ["second"]
    assert (documented(method), parameters(method)) == (["one"], ["one", "more"])
