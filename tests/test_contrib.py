"""The adapters stay thin: what they have in common is in the core."""

import ast
from pathlib import Path

import pytest

import codat_commerce_async.contrib

MODULES = sorted(Path(codat_commerce_async.contrib.__path__[0]).glob("*.py"))
# otel is no adapter: it describes all calls and syncs as spans and metrics.
MAX_STATEMENTS = {"otel": 160}


def statements(module: Path) -> int:
    """Count the statements, without docstrings."""
    nodes = ast.walk(ast.parse(module.read_text(encoding="utf-8")))
    return sum(isinstance(node, ast.stmt) and not _is_docstring(node) for node in nodes)


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.stem)
def test_an_adapter_has_at_most_120_statements(module: Path) -> None:
    assert statements(module) <= MAX_STATEMENTS.get(module.stem, 120)


def test_statements_are_counted() -> None:
    assert {module.stem for module in MODULES} >= {"procrastinate", "taskiq", "otel"}
    assert all(statements(module) > 20 for module in MODULES if module.stem != "__init__")
