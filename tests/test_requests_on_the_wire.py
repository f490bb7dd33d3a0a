"""The shape of each request: method, address, headers and body, as aiohttp is given them."""

import base64
import json
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from yarl import URL

from codat_commerce_async import CodatCommerce, Operation
from codat_commerce_async.models.configuration import Configuration
from codat_commerce_async.models.enums import DataType
from codat_commerce_async.models.sync_flow import Localization
from codat_commerce_async.models.sync_settings import SyncSetting
from tests.conftest import StrictResponses
from tests.support.cases import all_cases
from tests.support.scripted import KEY
from tests.support.wire import Response, WireServer

HEADER = "Basic " + base64.b64encode(KEY.encode()).decode()
BASE = "https://api.codat.io"
NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
IN_PARIS = datetime(2026, 7, 1, 14, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
KEYED = {"POST", "PATCH"}

Call = Callable[[CodatCommerce], Awaitable[object]]

# The call, then the request that it makes: method, path and query, and body (None for none).
REQUESTS: dict[str, tuple[Call, str, str, Any]] = {
    "connections.create": (
        lambda c: c.connections.create("c", platform_key="gbol"),
        "POST",
        "/companies/c/connections",
        {"platformKey": "gbol"},
    ),
    "connections.get_sync_flow_url": (
        lambda c: c.connections.get_sync_flow_url(
            commerce_key="fztf", accounting_key="gbol", merchant_identifier="Tea & Co"
        ),
        "GET",
        "/config/sync/commerce/fztf/gbol/start?merchantIdentifier=Tea%20%26%20Co",
        None,
    ),
    "connections.get_sync_flow_url, without a merchant": (
        lambda c: c.connections.get_sync_flow_url(commerce_key="fztf", accounting_key="gbol"),
        "GET",
        "/config/sync/commerce/fztf/gbol/start",
        None,
    ),
    "connections.list": (
        lambda c: c.connections.list("c", page=2, page_size=50, query="status=Linked&&id!=x", order_by="-created"),
        "GET",
        "/companies/c/connections?page=2&pageSize=50&query=status%3DLinked%26%26id%21%3Dx&orderBy=-created",
        None,
    ),
    "connections.update_authorization": (
        lambda c: c.connections.update_authorization("c", "k", {"user": "me", "word": "ünïcode"}),
        "PUT",
        "/companies/c/connections/k/authorization",
        {"user": "me", "word": "ünïcode"},
    ),
    "connections.update_connection": (
        lambda c: c.connections.update_connection("c", "k", status="Unlinked"),
        "PATCH",
        "/companies/c/connections/k",
        {"status": "Unlinked"},
    ),
    "sync.request": (lambda c: c.sync.request("c"), "POST", "/companies/c/sync/commerce/latest", {}),
    "sync.request, up to a time": (
        lambda c: c.sync.request("c", sync_to=NOON),
        "POST",
        "/companies/c/sync/commerce/latest",
        {"syncTo": "2026-07-01T12:00:00Z"},
    ),
    "sync.request_for_date_range": (
        lambda c: c.sync.request_for_date_range("c", start=NOON, finish=IN_PARIS),
        "POST",
        "/meta/companies/c/sync/commerce/historic",
        {"dateRange": {"start": "2026-07-01T12:00:00Z", "finish": "2026-07-01T12:00:00.123456Z"}},
    ),
    "sync.get_status": (lambda c: c.sync.get_status("c"), "GET", "/meta/companies/c/sync/commerce/status", None),
    "sync.get_last_successful_sync": (
        lambda c: c.sync.get_last_successful_sync("c"),
        "GET",
        "/companies/c/sync/commerce/syncs/lastSuccessful/status",
        None,
    ),
    "sync.get_latest_sync": (
        lambda c: c.sync.get_latest_sync("c"),
        "GET",
        "/companies/c/sync/commerce/syncs/latest/status",
        None,
    ),
    "sync.get": (
        lambda c: c.sync.get("a/b", "../x"),
        "GET",
        "/companies/a%2Fb/sync/commerce/syncs/..%2Fx/status",
        None,
    ),
    "sync.list": (lambda c: c.sync.list("c"), "GET", "/companies/c/sync/commerce/syncs/list/status", None),
    "integrations.list": (lambda c: c.integrations.list(page=1), "GET", "/config/integrations?page=1", None),
    "integrations.get_branding": (
        lambda c: c.integrations.get_branding("gbol"),
        "GET",
        "/config/integrations/gbol/branding",
        None,
    ),
    "advanced_controls.list_companies": (
        lambda c: c.advanced_controls.list_companies(),
        "GET",
        "/companies",
        None,
    ),
    "advanced_controls.create_company": (
        lambda c: c.advanced_controls.create_company(name="Tea & Co", description="d", tags={"a": "b"}),
        "POST",
        "/companies",
        {"name": "Tea & Co", "description": "d", "tags": {"a": "b"}},
    ),
    "advanced_controls.create_company, with a name alone": (
        lambda c: c.advanced_controls.create_company(name="Tea"),
        "POST",
        "/companies",
        {"name": "Tea"},
    ),
    "advanced_controls.get_configuration": (
        lambda c: c.advanced_controls.get_configuration("c"),
        "GET",
        "/config/companies/c/sync/commerce",
        None,
    ),
    "advanced_controls.set_configuration": (
        lambda c: c.advanced_controls.set_configuration("c", Configuration(company_id="c", enable=True)),
        "POST",
        "/config/companies/c/sync/commerce",
        {"companyId": "c", "enable": True},
    ),
    "sync_flow_settings.get_config_text_sync_flow": (
        lambda c: c.sync_flow_settings.get_config_text_sync_flow(locale="en-us"),
        "GET",
        "/sync/commerce/config/ui/text?locale=en-us",
        None,
    ),
    "sync_flow_settings.update_config_text_sync_flow": (
        lambda c: c.sync_flow_settings.update_config_text_sync_flow(
            {"set": "x", "blank": "", "restored": None, "kept": Localization(text="y", required=True)}, locale="fr-fr"
        ),
        "PATCH",
        "/sync/commerce/config/ui/text?locale=fr-fr",
        {
            "set": {"text": "x"},
            "blank": {"text": ""},
            "restored": {"text": None},
            "kept": {"text": "y", "required": True},
        },
    ),
    "sync_flow_settings.get_visible_accounts": (
        lambda c: c.sync_flow_settings.get_visible_accounts("client", "gbol"),
        "GET",
        "/clients/client/config/ui/accounts/platform/gbol",
        None,
    ),
    "sync_flow_settings.update_visible_accounts_sync_flow": (
        lambda c: c.sync_flow_settings.update_visible_accounts_sync_flow("gbol", ("a", "b")),
        "POST",
        "/sync/commerce/config/ui/accounts/platform/gbol",
        {"visibleAccounts": ["a", "b"]},
    ),
    "sync_flow_settings.update_visible_accounts_sync_flow, all": (
        lambda c: c.sync_flow_settings.update_visible_accounts_sync_flow("gbol", None),
        "POST",
        "/sync/commerce/config/ui/accounts/platform/gbol",
        {"visibleAccounts": None},
    ),
    "platform.get_company": (
        lambda c: c.platform.get_company("c"),
        "GET",
        "/companies/c",
        None,
    ),
    "platform.update_company": (
        lambda c: c.platform.update_company("c", name="Tea & Co", tags={}),
        "PATCH",
        "/companies/c",
        {"name": "Tea & Co", "tags": {}},
    ),
    "platform.delete_company": (
        lambda c: c.platform.delete_company("a/b"),
        "DELETE",
        "/companies/a%2Fb",
        None,
    ),
    "platform.get_connection": (
        lambda c: c.platform.get_connection("c", "k"),
        "GET",
        "/companies/c/connections/k",
        None,
    ),
    "platform.delete_connection": (
        lambda c: c.platform.delete_connection("c", "k"),
        "DELETE",
        "/companies/c/connections/k",
        None,
    ),
    "platform.refresh_company_data": (
        lambda c: c.platform.refresh_company_data("c"),
        "POST",
        "/companies/c/data/all",
        None,
    ),
    "platform.refresh_data_type": (
        lambda c: c.platform.refresh_data_type("c", DataType.COMMERCE_ORDERS, connection_id="k"),
        "POST",
        "/companies/c/data/queue/commerce-orders?connectionId=k",
        None,
    ),
    "platform.get_company_data_status": (
        lambda c: c.platform.get_company_data_status("c"),
        "GET",
        "/companies/c/dataStatus",
        None,
    ),
    "platform.list_pull_operations": (
        lambda c: c.platform.list_pull_operations("c", query="status!=Complete"),
        "GET",
        "/companies/c/data/history?query=status%21%3DComplete",
        None,
    ),
    "platform.get_pull_operation": (
        lambda c: c.platform.get_pull_operation("c", "d"),
        "GET",
        "/companies/c/data/history/d",
        None,
    ),
    "platform.get_company_push_history": (
        lambda c: c.platform.get_company_push_history("c", page_size=100, order_by="-requestedOnUtc"),
        "GET",
        "/companies/c/push?pageSize=100&orderBy=-requestedOnUtc",
        None,
    ),
    "platform.get_push_operation": (
        lambda c: c.platform.get_push_operation("c", "p"),
        "GET",
        "/companies/c/push/p",
        None,
    ),
    "platform.list_webhook_consumers": (
        lambda c: c.platform.list_webhook_consumers(),
        "GET",
        "/webhooks",
        None,
    ),
    "platform.create_webhook_consumer": (
        lambda c: c.platform.create_webhook_consumer(
            url="https://h/x", event_types=["read.completed"], company_tags=("a:b",), disabled=False
        ),
        "POST",
        "/webhooks",
        {"url": "https://h/x", "disabled": False, "eventTypes": ["read.completed"], "companyTags": ["a:b"]},
    ),
    "platform.create_webhook_consumer, for all events": (
        lambda c: c.platform.create_webhook_consumer(url="https://h/x"),
        "POST",
        "/webhooks",
        {"url": "https://h/x"},
    ),
    "platform.delete_webhook_consumer": (
        lambda c: c.platform.delete_webhook_consumer("w"),
        "DELETE",
        "/webhooks/w",
        None,
    ),
    "platform.get_company_sync_settings": (
        lambda c: c.platform.get_company_sync_settings("c"),
        "GET",
        "/companies/c/syncSettings",
        None,
    ),
    "platform.set_company_sync_settings": (
        lambda c: c.platform.set_company_sync_settings("c", [SyncSetting(data_type=DataType.BILLS, sync_order=0)]),
        "POST",
        "/companies/c/syncSettings",
        {"companyId": "c", "settings": [{"dataType": "bills", "syncOrder": 0}], "overridesDefaults": True},
    ),
    "call": (
        lambda c: c.call(
            Operation("delete-connection", "DELETE", "/companies/{companyId}/connections/{connectionId}", object),
            "c",
            "k",
        ),
        "DELETE",
        "/companies/c/connections/k",
        None,
    ),
}
# Requests are checked here; the response only has to be decodable.
RESPONSES = {
    "sync.list": "[]",
    "integrations.get_branding": '{"sourceId": "s"}',
    "sync_flow_settings.get_config_text_sync_flow": "{}",
    "sync_flow_settings.update_config_text_sync_flow": "{}",
    "platform.get_company_data_status": "{}",
    **dict.fromkeys(("platform.delete_company", "platform.delete_connection", "platform.delete_webhook_consumer"), ""),
}
NEEDED = '{"id": "i", "name": "n", "results": [], "companyId": "c"}'


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_call_makes_the_documented_request(name: str, mocked: StrictResponses) -> None:
    call, method, target, body = REQUESTS[name]
    url = URL(BASE + target, encoded=True)
    mocked.add(url, method, body=RESPONSES.get(name, NEEDED))
    async with CodatCommerce(KEY) as codat:
        await call(codat)
    [((method_sent, url_sent), [request])] = mocked.requests.items()
    assert (method_sent, str(url_sent)) == (method, str(mocked_url(url)))
    options = request.kwargs
    headers = options["headers"]
    assert headers["Accept"] == "application/json"
    assert re.fullmatch(r"codat-commerce-async/\S+ Python/\S+", headers["User-Agent"])
    assert ("Idempotency-Key" in headers) is (method in KEYED)
    if method in KEYED:
        assert UUID(headers["Idempotency-Key"]).version == 4
    assert (options["data"] is None) is (body is None)
    assert ("Content-Type" in headers) is (body is not None)
    if body is not None:
        assert headers["Content-Type"] == "application/json"
        assert json.loads(options["data"]) == body
    assert options["allow_redirects"] is False
    assert options["timeout"].total == 60.0


@all_cases("name", REQUESTS)
async def test_a_call_authorizes_itself_on_the_wire(name: str) -> None:
    """A middleware sets the header on the way to the socket, past what aioresponses sees."""
    call, method, target, _ = REQUESTS[name]
    body = RESPONSES.get(name, NEEDED).encode()
    async with (
        WireServer([Response(body=body, headers={"Content-Type": "application/json"})]) as server,
        CodatCommerce(KEY, base_url=server.url) as codat,
    ):
        await call(codat)
    [request] = server.requests
    assert (request.method, request.target) == (method, target)
    assert [value for header, value in request.headers if header.lower() == "authorization"] == [HEADER]


def mocked_url(url: URL) -> URL:
    """The URL as aioresponses keeps it, with its query in order."""
    return url.with_query(sorted(url.query.items())) if url.query else url


def test_every_operation_is_here() -> None:
    public = {
        f"{resource}.{method}"
        for resource in ("connections", "sync", "integrations", "advanced_controls", "sync_flow_settings", "platform")
        for part in [getattr(CodatCommerce(KEY), resource)]
        for method in dir(part)
        if not method.startswith("_") and callable(getattr(part, method))
    }
    built_on_them = {"start", "wait", "watch", "watches", "run", "run_many", "poll", "poll_now", "diagnose", "stepper"}
    operations = {name.partition(",")[0] for name in REQUESTS} - {"call"}
    assert public - {f"sync.{method}" for method in built_on_them} == operations
