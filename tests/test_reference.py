"""The reference of the documentation has every public name, and the site's navigation every page."""

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from types import ModuleType

import codat_commerce_async

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PACKAGE = codat_commerce_async.__name__
DIRECTIVE = re.compile(rf"^::: {PACKAGE}\.(\S+)$", re.MULTILINE)
# Programs rather than modules to import from.
PROGRAMS = {"__main__", "cli"}


def documented() -> list[str]:
    """Return the modules and names that the pages of the reference are generated from."""
    pages = sorted((DOCS / "reference").glob("*.md"))
    return [name for page in pages for name in DIRECTIVE.findall(page.read_text(encoding="utf-8"))]


def public_modules() -> list[str]:
    names = [
        info.name.removeprefix(f"{PACKAGE}.") for info in walk_packages(codat_commerce_async.__path__, f"{PACKAGE}.")
    ]
    return [name for name in names if not re.search(r"(^|\.)_", name) and name.split(".")[0] not in PROGRAMS]


def documented_objects() -> Iterator[object]:
    """Yield what the entries of the pages show: an object, or all that a module lists as public."""
    for entry in documented():
        module, _, name = f"{PACKAGE}.{entry}".rpartition(".")
        shown = getattr(import_module(module), name, None)
        if shown is None or isinstance(shown, ModuleType):
            shown = import_module(f"{PACKAGE}.{entry}")
            yield from (getattr(shown, each) for each in shown.__all__)
        else:
            yield shown


def test_no_entry_of_the_reference_is_listed_twice() -> None:
    assert sorted(documented()) == sorted(set(documented()))


def test_every_exported_name_is_in_the_reference() -> None:
    shown = {id(each) for each in documented_objects()}
    names = set(import_module(PACKAGE).__all__) - {"__version__"}
    assert {name for name in names if id(getattr(codat_commerce_async, name)) not in shown} == set()


def test_every_public_module_is_in_the_reference() -> None:
    modules = [name for name in public_modules() if getattr(import_module(f"{PACKAGE}.{name}"), "__all__", ())]
    listed = documented()
    missing = [name for name in modules if not any(f"{one}.".startswith(f"{name}.") for one in listed)]
    assert missing == []


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}
    assert {page for page in pages if not re.search(rf": {re.escape(page)}$", navigation, re.MULTILINE)} == set()
