"""The public names of the models' modules."""

import importlib
import pkgutil

from codat_commerce_async import models

MODULES = {
    info.name: importlib.import_module(f"{models.__name__}.{info.name}")
    for info in pkgutil.iter_modules(models.__path__)
    if not info.name.startswith("_")
}

PUBLIC: dict[str, object] = {name: getattr(module, name) for module in MODULES.values() for name in module.__all__}
