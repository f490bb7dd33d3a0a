"""Codat's specification files, which tests need and a checkout does not contain."""

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest

__all__ = ["specification"]

# The variable lets `.ci/run` check how the tests are collected without the files.
_DIRECTORY = Path(
    os.environ.get("CODAT_TEST_SPECIFICATION") or Path(__file__).parents[3] / "shared" / "spec",
)


def specification(name: str = "Codat-Sync-Commerce") -> dict[str, Any]:
    """Return Codat's OpenAPI document, which must not be changed; skip the test if the file is missing."""
    if "PYTEST_CURRENT_TEST" not in os.environ:
        raise RuntimeError("read the specification in a test or fixture: a checkout without it must be collectable")
    path = _DIRECTORY / f"{name}.json"
    if not path.is_file():
        pytest.skip(f"{name}.json is missing: put Codat's specification files into ../shared/spec")
    return _read(path)


@cache
def _read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document
