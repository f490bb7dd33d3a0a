"""Imports as they are where a library is not installed."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

__all__ = ["missing"]


@contextmanager
def missing(library: str, module: str) -> Iterator[None]:
    """Let imports of the library fail, and let the module that needs it be imported again."""
    loaded = [name for name in sys.modules if name.startswith(f"{library}.")]
    with pytest.MonkeyPatch.context() as patch:
        for name in (library, *loaded):
            patch.setitem(sys.modules, name, None)
        patch.delitem(sys.modules, module, raising=False)
        yield
