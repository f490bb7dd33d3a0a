"""The operations are those of Codat's specification, and the methods are those of its reference."""

import importlib
import inspect
import pkgutil
import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import NamedTuple

import pytest

from codat_commerce_async import errors, resources
from codat_commerce_async._core.operation import Operation
from codat_commerce_async.client import CodatCommerce
from codat_commerce_async.models.configuration import Configuration
from codat_commerce_async.policies import RetryPolicy
from tests.support.cases import all_cases
from tests.support.scripted import client_of, respond
from tests.support.specification import specification as read_specification
from tests.support.wire import Response, WireServer

# Resource and method by the operation's id: https://docs.codat.io/sync-for-commerce-api
COMMERCE_METHODS = {
    "create-connection": ("connections", "create"),
    "get-sync-flow-url": ("connections", "get_sync_flow_url"),
    "list-connections": ("connections", "list"),
    "update-connection-authorization": ("connections", "update_authorization"),
    "update-connection": ("connections", "update_connection"),
    "request-sync": ("sync", "request"),
    "request-sync-for-date-range": ("sync", "request_for_date_range"),
    "get-sync-status": ("sync", "get_status"),
    "get-last-successful-sync": ("sync", "get_last_successful_sync"),
    "get-latest-sync": ("sync", "get_latest_sync"),
    "get-sync-by-id": ("sync", "get"),
    "list-syncs": ("sync", "list"),
    "list-integrations": ("integrations", "list"),
    "get-integration-branding": ("integrations", "get_branding"),
    "list-companies": ("advanced_controls", "list_companies"),
    "create-company": ("advanced_controls", "create_company"),
    "get-configuration": ("advanced_controls", "get_configuration"),
    "set-configuration": ("advanced_controls", "set_configuration"),
    "get-config-text-sync-flow": ("sync_flow_settings", "get_config_text_sync_flow"),
    "update-config-text-sync-flow": ("sync_flow_settings", "update_config_text_sync_flow"),
    "get-visible-accounts": ("sync_flow_settings", "get_visible_accounts"),
    "update-visible-accounts-sync-flow": ("sync_flow_settings", "update_visible_accounts_sync_flow"),
}
# Those of the Platform API that are needed beside it: https://docs.codat.io/platform-api
PLATFORM_METHODS = {
    "get-company": ("platform", "get_company"),
    "update-company": ("platform", "update_company"),
    "delete-company": ("platform", "delete_company"),
    "get-connection": ("platform", "get_connection"),
    "delete-connection": ("platform", "delete_connection"),
    "refresh-company-data": ("platform", "refresh_company_data"),
    "refresh-data-type": ("platform", "refresh_data_type"),
    "get-company-data-status": ("platform", "get_company_data_status"),
    "list-pull-operations": ("platform", "list_pull_operations"),
    "get-pull-operation": ("platform", "get_pull_operation"),
    "get-company-push-history": ("platform", "get_company_push_history"),
    "get-push-operation": ("platform", "get_push_operation"),
    "list-webhook-consumers": ("platform", "list_webhook_consumers"),
    "create-webhook-consumer": ("platform", "create_webhook_consumer"),
    "delete-webhook-consumer": ("platform", "delete_webhook_consumer"),
    "get-company-syncSettings": ("platform", "get_company_sync_settings"),
    "set-company-syncSettings": ("platform", "set_company_sync_settings"),
}
METHODS = COMMERCE_METHODS | PLATFORM_METHODS

DOCUMENTED_CLASSES = {
    "400": errors.BadRequestError,
    "401": errors.AuthenticationError,
    "402": errors.PaymentRequiredError,
    "403": errors.PermissionDeniedError,
    "404": errors.NotFoundError,
    "409": errors.ConflictError,
    "429": errors.RateLimitError,
    "500": errors.ServerError,
    "503": errors.ServerError,
}


class Documented(NamedTuple):
    """One operation of the specification."""

    method: str
    path: str
    error_statuses: frozenset[str]


def operations(name: str) -> dict[str, Documented]:
    """The operations of one specification by their ids."""
    return {
        operation["operationId"]: Documented(
            method.upper(), path, frozenset(status for status in operation["responses"] if status >= "400")
        )
        for path, methods in read_specification(name)["paths"].items()
        for method, operation in methods.items()
        if "operationId" in operation
    }


@pytest.fixture(scope="module")
def commerce() -> dict[str, Documented]:
    return operations("Codat-Sync-Commerce")


@pytest.fixture(scope="module")
def specification(commerce: dict[str, Documented]) -> dict[str, Documented]:
    """The operations of this library by their ids, as their specification has them."""
    return commerce | {name: one for name, one in operations("Codat-Platform").items() if name in PLATFORM_METHODS}


def resource_modules() -> dict[str, ModuleType]:
    return {
        found.name: importlib.import_module(f"{resources.__name__}.{found.name}")
        for found in pkgutil.iter_modules(resources.__path__)
        if not found.name.startswith("_")
    }


MODULES = resource_modules()


def constants(module: ModuleType) -> dict[str, Operation[object]]:
    """A module's operations by the names that its code knows them by."""
    return {name: value for name, value in vars(module).items() if isinstance(value, Operation)}


OPERATIONS = {operation.name: operation for module in MODULES.values() for operation in constants(module).values()}


def method_of(operation: str) -> Callable[..., object]:
    """The method that the reference gives to an operation."""
    resource, method = METHODS[operation]
    [owner] = [name for name in MODULES[resource].__all__ if name.endswith("Resource")]
    found: Callable[..., object] = getattr(getattr(MODULES[resource], owner), method)
    return found


def test_every_resource_is_there() -> None:
    assert set(MODULES) == {resource for resource, _ in METHODS.values()}


def test_every_operation_of_a_resource_is_declared_once() -> None:
    declared = [each.name for module in MODULES.values() for each in constants(module).values()]
    assert sorted(declared) == sorted(METHODS)


def test_the_tables_name_all_operations_of_the_product_and_some_of_the_platform(
    commerce: dict[str, Documented], specification: dict[str, Documented]
) -> None:
    assert set(COMMERCE_METHODS) == set(commerce)
    assert set(METHODS) == set(specification)


@all_cases("name", OPERATIONS)
def test_an_operation_is_as_the_specification_reports(name: str, specification: dict[str, Documented]) -> None:
    operation, documented = OPERATIONS[name], specification[name]
    assert (operation.method, operation.path) == (documented.method, documented.path)


@all_cases("name", OPERATIONS)
def test_a_method_names_the_statuses_that_its_caller_must_expect(
    name: str, specification: dict[str, Documented]
) -> None:
    documentation = inspect.getdoc(method_of(name)) or ""
    named = set(re.findall(r"\b4\d\d\b", documentation))
    assert named >= {status for status in specification[name].error_statuses if status < "500"}


@all_cases("name", OPERATIONS)
def test_a_method_names_its_endpoint(name: str) -> None:
    documentation = " ".join((inspect.getdoc(method_of(name)) or "").split())
    assert f"{OPERATIONS[name].method} {OPERATIONS[name].path}." in documentation


@all_cases("name", OPERATIONS)
def test_ids_are_positional_and_come_in_the_order_of_the_path(name: str) -> None:
    parameters = inspect.signature(method_of(name)).parameters.values()
    in_path = [each for each in parameters if each.name in OPERATIONS[name].path_params]
    assert [each.name for each in in_path] == list(OPERATIONS[name].path_params)
    assert all(each.default is each.empty for each in in_path)
    ids = [each for each in in_path if each.name.endswith("_id")]
    assert all(each.kind is each.POSITIONAL_OR_KEYWORD for each in ids)


NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
# What a method is called with, where its signature demands something.
ARGUMENTS: dict[str, object] = {
    "accounting_key": "gbol",
    "authorization": {"token": "value"},
    "client_id": "client-1",
    "commerce_key": "fztf",
    "company_id": "company-1",
    "configuration": Configuration(),
    "connection_id": "connection-1",
    "data_type": "invoices",
    "dataset_id": "dataset-1",
    "finish": NOON,
    "locale": "en-us",
    "name": "A company",
    "platform_key": "gbol",
    "push_operation_key": "push-1",
    "settings": (),
    "start": NOON - timedelta(days=1),
    "status": "Unlinked",
    "sync_id": "sync-1",
    "texts": {"key": "text"},
    "url": "https://example.com/hook",
    "visible_accounts": ["account-1"],
    "webhook_id": "webhook-1",
}


async def call(codat: CodatCommerce, name: str, **replaced: object) -> object:
    """Call the method of an operation with its required arguments only, and return its result."""
    resource, method = METHODS[name]
    values = ARGUMENTS | replaced
    bound = getattr(getattr(codat, resource), method)
    demanded = [
        each
        for each in inspect.signature(bound).parameters.values()
        if each.default is each.empty and each.kind is not each.VAR_KEYWORD
    ]
    positional = [values[each.name] for each in demanded if each.kind is not each.KEYWORD_ONLY]
    by_name = {each.name: values[each.name] for each in demanded if each.kind is each.KEYWORD_ONLY}
    return await bound(*positional, **by_name)


IDS = [(name, each) for name, one in OPERATIONS.items() for each in one.path_params if each.endswith("_id")]


@pytest.mark.virtual_time
@pytest.mark.parametrize(
    ("error", "values"),
    [(ValueError, ("", " ", "\t", ".", "..", "a\ud800b")), (TypeError, (None, 7, b"c", uuid.UUID(int=7)))],
)
@all_cases(("name", "each"), IDS)
async def test_an_id_that_leads_elsewhere_or_is_no_string_is_refused(
    error: type[Exception], values: tuple[object, ...], name: str, each: str
) -> None:
    codat, transport = client_of(respond())
    for value in values:
        with pytest.raises(error, match=rf"\b{each}\b"):
            await call(codat, name, **{each: value})
    assert transport.sent == []


def expected_class(method: str, status: str) -> type[errors.CodatError]:
    # A write that ends in a 5xx may have happened.
    unknown = method in {"POST", "PATCH", "DELETE"} and status >= "500"
    return errors.OutcomeUnknownError if unknown else DOCUMENTED_CLASSES[status]


@pytest.mark.virtual_time
@pytest.mark.parametrize("name", OPERATIONS)
async def test_a_method_requests_its_endpoint_and_raises_the_class_of_a_documented_status(
    name: str, specification: dict[str, Documented]
) -> None:
    documented = specification[name]
    target = OPERATIONS[name].format_path(tuple(str(ARGUMENTS[each]) for each in OPERATIONS[name].path_params))
    assert documented.error_statuses >= {"401", "402", "403", "429", "500", "503"}
    for status in documented.error_statuses:
        # An ambiguous write is searched for, and may be sent again: as many responses as that may take.
        script = [Response.json({"statusCode": int(status), "error": "no"}, int(status))] * 100
        async with (
            WireServer(script) as server,
            CodatCommerce("key", base_url=server.url, retry=RetryPolicy.none()) as codat,
        ):
            with pytest.raises(errors.CodatError) as caught:
                await call(codat, name)
        assert caught.type is expected_class(documented.method, status)
        first = server.requests[0]
        assert (first.method, first.target.partition("?")[0]) == (documented.method, target)
