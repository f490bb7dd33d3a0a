"""Annotations can be resolved at run time, as dependency injection frameworks, mocks and documentation tools do."""

import importlib
import inspect
import pkgutil
import subprocess
import sys
import traceback
import typing
from collections.abc import Iterator
from unittest.mock import AsyncMock, create_autospec

import pytest

import codat_commerce_async
from codat_commerce_async import CodatCommerce
from codat_commerce_async._core.lazy import LazyModule
from codat_commerce_async.client import Settings
from codat_commerce_async.resources.connections import ConnectionsResource
from codat_commerce_async.resources.sync import SyncResource
from tests.support.cases import all_cases

RESOURCES = ("advanced_controls", "connections", "integrations", "platform", "sync", "sync_flow_settings")


def modules() -> Iterator[str]:
    """Every module of the package that can be imported without running a program."""
    for found in pkgutil.walk_packages(codat_commerce_async.__path__, f"{codat_commerce_async.__name__}."):
        if not found.name.endswith("__main__"):
            yield found.name


def public(name: str) -> bool:
    return not name.startswith("_") or (name.startswith("__") and name.endswith("__"))


def functions_of(kind: type) -> Iterator[object]:
    """The functions that a class defines, below what decorators made of them."""
    for name, member in vars(kind).items():
        wrapped = (getattr(member, each, None) for each in ("__func__", "fget", "func"))
        function = next((each for each in wrapped if each is not None), member)
        if public(name) and inspect.isfunction(function):
            yield function


def public_callables(module: str) -> Iterator[object]:
    for name, value in vars(importlib.import_module(module)).items():
        if public(name) and callable(value) and getattr(value, "__module__", None) == module:
            yield value
            if inspect.isclass(value):
                yield from functions_of(value)


@all_cases("module", [*modules()])
def test_the_type_hints_of_everything_public_resolve(module: str) -> None:
    for each in public_callables(module):
        typing.get_type_hints(each)


# Made by the client, or an entry of a table: users do not call these.
NOT_CALLED = {"FanoutSettings", "Route", "SyncRun", "SyncStepper", "Watches"}


def exported() -> dict[int, object]:
    """Everything that a public module lists, by identity."""
    public_modules = [
        each for each in modules() if not any(part == "cli" or part.startswith("_") for part in each.split(".")[1:])
    ]
    loaded = [codat_commerce_async, *map(importlib.import_module, public_modules)]
    names = [(module, name) for module in loaded for name in getattr(module, "__all__", ())]
    return {id(value): value for value in (getattr(module, name) for module, name in names)}


def classes_in(hint: object) -> Iterator[type]:
    """The classes of this package that a type hint consists of."""
    inner = typing.get_args(hint) if typing.get_origin(hint) is not typing.Literal else ()
    for each in inner:
        for one in each if isinstance(each, list) else (each,):
            yield from classes_in(one)
    kind = typing.get_origin(hint) or hint
    if isinstance(kind, type) and kind.__module__.startswith(codat_commerce_async.__name__):
        yield kind


def test_public_parameters_and_results_have_public_types() -> None:
    public_values = exported()
    functions = [each for each in public_values.values() if inspect.isfunction(each)]
    for kind in (each for each in public_values.values() if inspect.isclass(each)):
        functions += [
            each
            for each in functions_of(kind)
            if inspect.isfunction(each)
            and each.__module__.startswith(codat_commerce_async.__name__)
            and not (
                each.__name__ == "__init__" and (kind.__name__ in NOT_CALLED or kind.__name__.endswith("Resource"))
            )
        ]
    private = {
        f"{function.__module__}.{function.__qualname__}: {name} is a {kind.__qualname__}"
        for function in functions
        for name, hint in typing.get_type_hints(function).items()
        for kind in classes_in(hint)
        if id(kind) not in public_values
    }
    assert private == set()


def test_the_type_hints_of_the_client_resolve_to_the_classes() -> None:
    hints = typing.get_type_hints(CodatCommerce.__init__)
    assert {each.__name__ for each in typing.get_args(hints["session"])} == {"ClientSession", "NoneType"}
    assert hints["session"] == typing.get_type_hints(Settings)["session"]
    assert typing.get_type_hints(SyncResource.run_many)["return"] is codat_commerce_async.SyncRun
    assert typing.get_type_hints(codat_commerce_async.SyncFailedError.__init__)["handle"] is (
        codat_commerce_async.SyncHandle
    )


def test_naming_a_type_loads_nothing() -> None:
    program = (
        "import sys; from codat_commerce_async import CodatCommerce, errors; CodatCommerce('key'); "
        "print(*(name for name in sys.modules if name.startswith('codat_commerce_async.')))"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()  # noqa: S603 - this interpreter
    assert "codat_commerce_async.client" in loaded
    assert [name for name in loaded if ".resources." in name or name.endswith((".models.sync", ".syncing.run"))] == []


def test_a_lazy_module_has_the_attributes_of_the_module_and_no_others() -> None:
    lazy = LazyModule("math")
    assert lazy.floor is importlib.import_module("math").floor
    assert not hasattr(lazy, "flour")
    assert repr(lazy) == "<lazy module 'math'>"


def test_a_resource_belongs_to_its_client_and_is_made_once() -> None:
    codat = CodatCommerce("key")
    for name in RESOURCES:
        assert getattr(codat, name) is getattr(codat, name)
        assert type(getattr(codat, name)) is getattr(CodatCommerce, name)
    assert codat.sync is not CodatCommerce("key").sync


async def test_a_mock_made_from_the_client_has_its_resources() -> None:
    for codat in (create_autospec(CodatCommerce, instance=True), create_autospec(CodatCommerce)("key")):
        assert isinstance(codat.sync.run, AsyncMock)
        codat.sync.run.return_value = "a status"
        assert await codat.sync.run("company", timeout=1.0) == "a status"
        codat.connections.list("company", page=1)
        with pytest.raises(TypeError):
            codat.connections.list()
        with pytest.raises(AttributeError):
            codat.sync.rum("company")
        assert isinstance(codat.connections, ConnectionsResource)


def test_a_client_that_was_never_constructed_can_be_shown() -> None:
    assert repr(CodatCommerce.__new__(CodatCommerce)) == "<CodatCommerce, not yet constructed>"
    with pytest.raises(ValueError, match="api_key") as caught:
        CodatCommerce("")
    shown = [repr(value) for frame, _ in traceback.walk_tb(caught.tb) for value in frame.f_locals.values()]
    assert not [text for text in shown if "CodatCommerce https" in text]
