"""The page on migrating names each of the official SDK's calls, and calls that this library accepts."""

import ast
import inspect
import re
from pathlib import Path

import pytest

from codat_commerce_async import CodatCommerce

PAGE = (Path(__file__).parents[1] / "docs" / "migrating.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `s\.(\w+\.\w+)\(request=\.\.\.\)` \| `await (codat\.[^`]+)`", PAGE, re.MULTILINE)


def test_all_operations_of_sync_for_commerce_are_there() -> None:
    assert len({name for name, _ in ROWS}) == len(ROWS) == 22


@pytest.mark.parametrize(("name", "call"), ROWS, ids=[name for name, _ in ROWS])
def test_a_call_of_the_page_has_the_arguments_of_its_method(name: str, call: str) -> None:
    tree = ast.parse(call, mode="eval").body
    assert isinstance(tree, ast.Call)
    resource, method = ast.unparse(tree.func).removeprefix("codat.").split(".")
    assert resource == name.partition(".")[0]
    signature = inspect.signature(getattr(getattr(CodatCommerce("key"), resource), method))
    values = {keyword.arg: ... for keyword in tree.keywords if keyword.arg}
    signature.bind(*tree.args, **values)
