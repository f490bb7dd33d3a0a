"""Each model is imported from the module of its topic, and only what is imported is loaded."""

import subprocess
import sys
from collections import Counter

import attrs
import pytest

from codat_commerce_async import models
from codat_commerce_async.models._fields import fields
from codat_commerce_async.models.base import LenientModel
from tests.support.cases import all_cases
from tests.support.public_models import MODULES, PUBLIC


def test_a_name_has_one_module() -> None:
    names = Counter(name for module in MODULES.values() for name in module.__all__)
    assert [name for name, count in names.items() if count > 1] == []


def test_a_class_is_public_in_the_module_that_defines_it() -> None:
    defined = {name: value.__module__ for name, value in PUBLIC.items() if isinstance(value, type)}
    assert {name for name, module in defined.items() if name not in sys.modules[module].__all__} == set()


def test_one_model_does_not_load_the_others() -> None:
    script = (
        "import sys, types; sys.modules['codat_commerce_async'] = package = types.ModuleType('codat_commerce_async');"
        f"package.__path__ = {[models.__path__[0].rsplit('/', 1)[0]]!r};"
        "from codat_commerce_async.models.connections import Connection;"
        "assert 'codat_commerce_async.models.configuration' not in sys.modules;"
        "assert not {'cattrs', 'orjson', 'aiohttp'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)  # noqa: S603 - our own words


CLASSES = [
    value
    for name, value in PUBLIC.items()
    if isinstance(value, type) and attrs.has(value) and name not in {"ApiResponse", "Page"}
]


@all_cases("cls", CLASSES)
def test_models_are_frozen_and_keep_unparsed_times(cls: type) -> None:
    model: object = object.__new__(cls)
    for name in (attrs.fields(cls)[0].name, "unknown"):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(model, name, None)
    module = cls.__module__.rpartition(".")[2]
    times = [field.name for field in fields(cls) if "datetime" in str(field.kind)]
    is_response = module not in {"call", "handle"} and cls.__name__ not in {"DateRange", "SyncToLatestArgs"}
    if times and is_response:
        assert issubclass(cls, LenientModel)
