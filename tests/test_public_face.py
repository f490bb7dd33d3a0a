"""The public names and their docstrings, the settings, and errors that survive pickling and copying."""

import ast
import copy
import importlib
import inspect
import pickle
import pkgutil
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache, cached_property
from types import ModuleType
from typing import Any

import pytest
from attrs import NOTHING, fields

import codat_commerce_async
from codat_commerce_async import errors, policies
from codat_commerce_async.models.call import Attempt, Call, RateLimit
from codat_commerce_async.models.error_message import ErrorMessage
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.models.sync import SyncStatus
from tests.support.cases import all_cases

PACKAGE = codat_commerce_async.__name__


def public_modules() -> Iterator[ModuleType]:
    yield codat_commerce_async
    for found in pkgutil.walk_packages(codat_commerce_async.__path__, f"{PACKAGE}."):
        if not any(part.startswith("_") for part in found.name.split(".")):
            yield importlib.import_module(found.name)


MODULES = {module.__name__: module for module in public_modules()}


def has_code(module: ModuleType) -> bool:
    """Whether there is more in it than a docstring, as in the `__init__` of a folder."""
    return len(ast.parse(inspect.getsource(module)).body) > 1


def public_objects() -> dict[str, object]:
    return {
        f"{name}.{each}": getattr(module, each)
        for name, module in MODULES.items()
        for each in getattr(module, "__all__", ())
        if hasattr(module, each)
    }


def ours(value: object) -> bool:
    module = getattr(value, "__module__", None)
    return isinstance(module, str) and module.partition(".")[0] == PACKAGE


@cache
def public_callables() -> dict[str, Callable[..., object]]:
    """Public classes and functions, and the public methods and properties of those classes."""
    found: dict[str, Callable[..., object]] = {}
    for name, value in public_objects().items():
        if inspect.isclass(value) and ours(value):
            found[name] = value
            found |= {f"{name}.{each}": member for each, member in members(value)}
        elif inspect.isfunction(value) and ours(value):
            found[name] = value
    return found


def members(owner: type) -> Iterator[tuple[str, Callable[..., object]]]:
    for attribute in inspect.classify_class_attrs(owner):
        if attribute.name.startswith("_") or not ours(attribute.defining_class):
            continue
        if isinstance(attribute.object, cached_property):
            yield attribute.name, attribute.object.func
        elif attribute.kind in {"method", "class method", "static method"}:
            yield attribute.name, getattr(owner, attribute.name)
        elif isinstance(attribute.object, property) and attribute.object.fget:
            yield attribute.name, attribute.object.fget


@all_cases("name", MODULES)
def test_a_public_module_reports_what_is_public_in_order(name: str) -> None:
    module = MODULES[name]
    if not has_code(module):
        return
    names = list(module.__all__)
    assert names == sorted(set(names), key=ruffs_order)
    assert [each for each in names if not hasattr(module, each)] == []


def ruffs_order(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest: https://docs.astral.sh/ruff/rules/unsorted-dunder-all"""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


def test_type_checkers_import_the_exported_names_from_the_same_modules() -> None:
    tree = ast.parse(inspect.getsource(codat_commerce_async))
    [block] = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    found = {(alias.name, alias.asname, node.module) for node in imports for alias in node.names}
    assert {name for name, _, _ in found} == set(MODULES[PACKAGE].__all__) - {"__version__"}
    for name, exported, module in found:
        assert exported == name
        assert module is not None
        assert getattr(codat_commerce_async, name) is getattr(importlib.import_module(module), name)


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="CodatComerce"):
        getattr(codat_commerce_async, "CodatComerce")  # noqa: B009 - a type checker would refuse it
    assert set(MODULES[PACKAGE].__all__) <= set(dir(codat_commerce_async))


def test_the_face_has_the_client_the_settings_and_every_error() -> None:
    names = {"CodatCommerce", "Operation", *policies.__all__, *errors.__all__} - {"status_error_class"}
    assert names - set(MODULES[PACKAGE].__all__) == set()


def test_public_names_are_documented() -> None:
    # A dataclass without a docstring gets its signature for one.
    bare = [
        name
        for name, value in public_callables().items()
        if not (doc := inspect.getdoc(value)) or doc.startswith(f"{name.rpartition('.')[2]}(")
    ]
    assert bare == []


def test_no_public_signature_reports_any() -> None:
    found = {name for name, value in public_callables().items() if re.search(r"\bAny\b", signature(value))}
    assert (
        found - {"codat_commerce_async.contrib.taskiq_redis.StreamBroker"} == set()
    )  # it takes what taskiq-redis takes


def signature(value: Callable[..., object]) -> str:
    try:
        return str(inspect.signature(value))
    except ValueError:  # an enum's or an exception's C-made constructor has none
        return ""


def test_a_signature_that_reports_any_would_be_found() -> None:
    def one(value: "dict[str, Any]") -> None: ...

    assert re.search(r"\bAny\b", signature(one))


SETTINGS = {
    policies.RetryPolicy: ["attempts", "initial_backoff", "max_backoff", "max_retry_after", "deadline"],
    policies.PollPolicy: ["initial_delay", "interval", "factor", "max_interval", "jitter"],
    policies.Timeouts: ["connect", "read", "total"],
    policies.Quota: ["per_minute", "concurrent", "per_company"],
}


@all_cases("policy", SETTINGS)
def test_settings_have_the_names_of_the_design_and_defaults(policy: type) -> None:
    assert [each.name for each in fields(policy)][: len(SETTINGS[policy])] == SETTINGS[policy]
    assert [each.name for each in fields(policy) if each.default is NOTHING] == []


def test_the_client_takes_the_settings_by_name() -> None:
    parameters = inspect.signature(codat_commerce_async.CodatCommerce).parameters
    names = ["api_key", "auth_header", "base_url", "session", "retry", "poll", "timeouts", "quota"]
    assert [name for name in names if name not in parameters] == []
    keyword_only = {name for name, each in parameters.items() if each.kind is each.KEYWORD_ONLY}
    assert set(parameters) - keyword_only == {"api_key"}
    assert all(each.default is not each.empty for each in parameters.values())


def all_errors(base: type[errors.CodatError] = errors.CodatError) -> Iterator[type[errors.CodatError]]:
    yield base
    for each in base.__subclasses__():
        if ours(each):
            yield from all_errors(each)


ERRORS = list(all_errors())


def real_tree() -> set[tuple[str, str]]:
    return {
        (each.__name__, base.__name__)
        for each in ERRORS
        for base in each.__bases__
        if issubclass(base, errors.CodatError)
    }


BRANCH = re.compile(r"(?P<trunk>(?:│   |    )*)[├└]── (?P<name>\w+)\s+(?P<comment>.*)")


def drawn_branches() -> Iterator[tuple[str, str, str]]:
    """Each class in the drawing with its parent and its comment."""
    path = ["CodatError"]
    for branch in BRANCH.finditer(errors.__doc__ or ""):
        depth = len(branch["trunk"]) // 4 + 1
        path[depth:] = [branch["name"]]
        yield branch["name"], path[depth - 1], branch["comment"]


def test_the_tree_is_drawn_as_it_is() -> None:
    assert {(name, parent) for name, parent, _ in drawn_branches()} == real_tree()


def test_the_comments_in_the_tree_are_true() -> None:
    statuses = {}
    for name, _, comment in drawn_branches():
        if re.fullmatch(r"(\d)(\d\d|xx)", comment):
            statuses[name] = errors.status_error_class(int(comment.replace("xx", "00"))).__name__
        if also := re.search(r"\(also a (\w+)\)", comment):
            assert issubclass(getattr(errors, name), {"TimeoutError": TimeoutError}[also[1]])
    assert statuses == {name: name for name in statuses}
    assert len(statuses) == 9


NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
ATTEMPT = Attempt(number=1, started_at=NOON, quota_wait=0.1, elapsed=0.2, status=503, result="503")
SAMPLES: dict[str, Any] = {
    "call": Call(operation="request-sync", method="POST", path="/a/{b}", idempotency_key="k", attempts=(ATTEMPT,)),
    "candidates": ("sync-1", "sync-2"),
    "correlation_id": "correlation",
    "elapsed": 12.5,
    "errno": 111,
    "error": ErrorMessage(status_code=503, error="down", correlation_id="correlation"),
    "handle": SyncHandle(company_id="company", sync_id="sync"),
    "host": "api.example.com",
    "last_status": SyncStatus(company_id="company", sync_id="sync", sync_status_code=1000),
    "polls": 3,
    "message": "it broke",
    "path": "$.results[3].status",
    "rate_limit": RateLimit(limit=1000, remaining=0, reset=NOON, observed_at=NOON),
    "reason": "Connection refused",
    "retryable": False,
    "requested_at": NOON,
    "reset_at": NOON,
    "retry_after": 2.5,
    "sent": False,
    "status": 503,
}
SAMPLES_OF_ITS_OWN: dict[type[errors.CodatError], dict[str, Any]] = {
    errors.SyncFailedError: {"status": SAMPLES["last_status"]}
}


def make(kind: type[errors.CodatError], *, whole: bool) -> errors.CodatError:
    """An error with everything it can carry, or with no more than it must."""
    known = SAMPLES | SAMPLES_OF_ITS_OWN.get(kind, {})
    return kind(
        *(
            known[each.name]
            for each in inspect.signature(kind).parameters.values()
            if each.kind is not each.VAR_POSITIONAL and (whole or each.default is each.empty)
        )
    )


TRANSFERS: dict[str, Callable[[errors.CodatError], errors.CodatError]] = {
    "pickle": lambda error: pickle.loads(pickle.dumps(error)),  # noqa: S301 - it is our own
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@all_cases("whole", [True, False])
@all_cases("transfer", TRANSFERS)
@all_cases("kind", ERRORS)
def test_an_error_comes_through_whole(kind: type[errors.CodatError], transfer: str, *, whole: bool) -> None:
    error = make(kind, whole=whole)
    arrived = TRANSFERS[transfer](error)
    assert type(arrived) is kind
    assert vars(arrived) == vars(error)
    assert str(arrived) == str(error)
    assert arrived.args == error.args


@all_cases("kind", ERRORS)
def test_an_error_keeps_what_it_was_given(kind: type[errors.CodatError]) -> None:
    error = make(kind, whole=True)
    given = SAMPLES | SAMPLES_OF_ITS_OWN.get(kind, {})
    names = set(inspect.signature(kind).parameters) - {"more"}
    assert {name: getattr(error, name) for name in names} == {name: given[name] for name in names}
    assert "it broke" in str(error)
