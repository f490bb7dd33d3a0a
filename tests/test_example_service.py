"""The example of a service with its tests: the tests pass on the library's own fixtures."""

import importlib.util
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from codat_commerce_async import CodatCommerce
from codat_commerce_async.simulator import Simulator

EXAMPLE = Path(__file__).parents[1] / "examples" / "service_with_tests.py"
Case = Callable[[Simulator, CodatCommerce], Awaitable[None]]


def cases() -> list[Case]:
    spec = importlib.util.spec_from_file_location("service_with_tests", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return [value for name, value in vars(module).items() if name.startswith("test_")]


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.__name__)
async def test_the_tests_of_the_service_pass(case: Case, codat_simulator: Simulator, codat: CodatCommerce) -> None:
    await case(codat_simulator, codat)


def test_the_service_has_tests() -> None:
    assert len(cases()) == 2
