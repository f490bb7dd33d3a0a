"""The models are found in one place, and only what is asked for is loaded."""

import importlib
import pkgutil
import subprocess
import sys

import attrs
import pytest

from codat_commerce_async import models
from codat_commerce_async.models._fields import fields
from codat_commerce_async.models.base import LenientModel

INNER = {"_fields", "_genuine", "_pydantic"}

MODULES = {
    info.name: importlib.import_module(f"{models.__name__}.{info.name}")
    for info in pkgutil.iter_modules(models.__path__)
    if info.name not in INNER
}


def test_every_public_name_of_every_module_is_exported() -> None:
    assert sorted(name for module in MODULES.values() for name in module.__all__) == sorted(models.__all__)


@pytest.mark.parametrize("module", MODULES)
def test_the_names_lead_to_their_modules(module: str) -> None:
    for name in MODULES[module].__all__:
        assert getattr(models, name) is getattr(MODULES[module], name)


def test_a_name_that_is_none_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Connectoin"):
        getattr(models, "Connectoin")  # noqa: B009 - a type checker would not let it
    assert set(dir(models)) >= set(models.__all__)


def test_one_model_does_not_load_the_others() -> None:
    script = (
        "import sys, types; sys.modules['codat_commerce_async'] = package = types.ModuleType('codat_commerce_async');"
        f"package.__path__ = {[models.__path__[0].rsplit('/', 1)[0]]!r};"
        "from codat_commerce_async.models import Connection;"
        "assert 'codat_commerce_async.models.configuration' not in sys.modules;"
        "assert not {'cattrs', 'orjson', 'aiohttp'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)  # noqa: S603 - our own words


CLASSES = [
    value
    for name in models.__all__
    if isinstance(value := getattr(models, name), type) and attrs.has(value) and name not in {"ApiResponse", "Page"}
]


@pytest.mark.parametrize("cls", CLASSES)
def test_models_are_frozen_and_keep_unreadable_times(cls: type) -> None:
    assert "__setattr__" in vars(cls)
    assert "__slots__" in vars(cls)
    module = cls.__module__.rpartition(".")[2]
    times = [field.name for field in fields(cls) if "datetime" in str(field.kind)]
    is_answer = module not in {"call", "handle"} and cls.__name__ not in {"DateRange", "SyncToLatestArgs"}
    if times and is_answer:
        assert issubclass(cls, LenientModel)
