"""The simulator's companies, connections, configurations, texts and accounts, and who may call."""

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codat_commerce_async.simulator import ROUTES, Request, RequestQuota, Simulator
from tests.support.cases import all_cases
from tests.support.simulated import NOON, SimulatedApi, authorization

FIELDS = st.sampled_from(
    [
        *("name", "description", "tags", "platformKey", "status", "syncTo", "dateRange", "start", "finish"),
        *("enable", "schedule", "syncHour", "startDate", "selectedFrequency", "configuration", "sales", "accounts"),
        *("accountOptions", "selectedAccountId", "text", "required", "visibleAccounts", "other"),
    ]
)
UNKNOWN_ID = "00000000-0000-4000-8000-000000000000"


def test_every_operation_has_a_handler_of_its_own() -> None:
    assert len(ROUTES) == 22
    assert len({route.name for route in ROUTES}) == len({route.handler for route in ROUTES}) == 22


@all_cases(
    "headers",
    [
        {"Authorization": ""},
        authorization("wrong"),
        {"Authorization": "Bearer simulator-key"},
        {"Authorization": "Basic simulator-key"},
        {"Authorization": "Basic é"},
        {"Authorization": "Basic \udcff"},
        {"Authorization": "\ud800 é"},
    ],
)
def test_a_wrong_key_is_a_401(headers: dict[str, str]) -> None:
    error = SimulatedApi().error("GET", "/companies", status=401, headers=headers)
    assert error == {
        "statusCode": 401,
        "service": "PublicApi",
        "error": "Unauthorized",
        "correlationId": error["correlationId"],
        "canBeRetried": "Unknown",
        "detailedErrorCode": 0,
    }
    assert re.fullmatch("[0-9a-f]{32}", error["correlationId"])


def test_an_outdated_key_is_a_403_and_the_new_one_works() -> None:
    api = SimulatedApi()
    api.simulator.rotate_api_key("another")
    api.error("GET", "/companies", status=403, headers=authorization("simulator-key"))
    assert api.request("GET", "/companies")["totalResults"] == 0


def test_a_refused_key_costs_no_quota() -> None:
    api = SimulatedApi()
    before = api.send("GET", "/companies").headers["X-Rate-Limit-Remaining"]
    api.send("GET", "/companies", headers=authorization("wrong"))
    assert int(api.send("GET", "/companies").headers["X-Rate-Limit-Remaining"]) == int(before) - 1


def test_an_unknown_address_is_a_404_and_a_wrong_method_a_405() -> None:
    api = SimulatedApi()
    api.error("GET", "/nothing/here", status=404)
    api.error("DELETE", "/companies", status=405)


@settings(deadline=None)
@given(path=st.text(max_size=60), method=st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE"]))
def test_no_path_breaks_it(path: str, method: str) -> None:
    simulator = Simulator(now=lambda: NOON)
    for prefix in ("/", "/companies/", "/config/integrations/"):
        response = simulator.handle(Request(method, prefix + path, "page=%zz&&=", authorization(), b"{}"))
        assert response.status in {200, 400, 404, 405, 415}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(content=st.dictionaries(FIELDS, JSON, max_size=4) | JSON, data=st.data())
def test_no_body_breaks_it(content: Any, data: st.DataObject) -> None:
    api = SimulatedApi()
    company_id = api.simulator.add_linked_company()
    connection_id = api.request("GET", f"/companies/{company_id}/connections")["results"][0]["id"]
    route = data.draw(st.sampled_from([route for route in ROUTES if route.method != "GET"]))
    path = route.path.format(companyId=company_id, connectionId=connection_id, platformKey="gbol")
    assert api.send(route.method, path, content, locale="en-us").status in {200, 400, 404}
    # Whatever was written can be read, and lived with.
    api.request_sync(company_id)
    api.simulator.advance(40 * 86_400)
    api.status(company_id)
    for read in ("/companies", f"/config/companies/{company_id}/sync/commerce"):
        api.request("GET", read)


def test_a_quoted_path_value_reaches_its_company() -> None:
    api = SimulatedApi()
    api.simulator.add_company("Odd", company_id="a/b c")
    assert api.request("GET", "/config/companies/a%2Fb%20c/sync/commerce")["companyId"] == "a/b c"


def test_a_created_company_is_listed_and_known_to_the_simulator() -> None:
    api = SimulatedApi()
    company = api.request("POST", "/companies", {"name": "Bank of Dave", "description": "d", "tags": {"region": "us"}})
    assert (company["name"], company["description"], company["tags"]) == ("Bank of Dave", "d", {"region": "us"})
    assert company["created"] == "2023-11-15T12:00:00Z"
    assert api.simulator.company_ids() == (company["id"],)
    assert api.request("GET", "/companies")["results"] == [company] == [api.simulator.company(company["id"])]


@all_cases(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "<script>"}, "name"),
        ({"name": 7}, "name"),
        ({"name": "A", "description": 7}, "description"),
        ({"name": "A", "tags": ["a"]}, "tags"),
        ({"name": "A", "tags": {"k" * 28: "v"}}, "tags"),
        ({"name": "A", "tags": {"k": "v" * 101}}, "tags"),
        ({"name": "A", "tags": {str(number): "v" for number in range(11)}}, "tags"),
    ],
)
def test_a_company_that_the_specification_forbids_is_a_400(body: dict[str, Any], field: str) -> None:
    api = SimulatedApi()
    error = api.error("POST", "/companies", body, status=400)
    assert [item["itemId"] for item in error["validation"]["errors"]] == [field]
    assert api.simulator.company_ids() == ()


@all_cases("raw", [b"", b"[]", b"null", b"{", b"\xff", b'{"a": NaN}', b'{"a": 1e999}', b"[" * 100_000])
def test_a_body_that_is_no_json_object_is_a_400(raw: bytes) -> None:
    SimulatedApi().error("POST", "/companies", raw=raw, status=400)


def test_a_body_that_is_not_declared_as_json_is_a_415() -> None:
    SimulatedApi().error("POST", "/companies", {"name": "A"}, status=415, headers={"Content-Type": "text/plain"})


def test_a_plan_that_is_full_is_a_402_whose_body_reports_429() -> None:
    api = SimulatedApi(company_limit=1)
    api.request("POST", "/companies", {"name": "A"})
    assert api.error("POST", "/companies", {"name": "B"}, status=402)["statusCode"] == 429


def test_a_connection_waits_for_authorization_and_is_linked_by_it() -> None:
    api = SimulatedApi()
    company_id = api.simulator.add_company()
    made = api.request("POST", f"/companies/{company_id}/connections", {"platformKey": "gbol"})
    assert (made["status"], made["platformName"], made["sourceType"]) == ("PendingAuth", "Xero", "Accounting")
    path = f"/companies/{company_id}/connections/{made['id']}"
    assert api.request("PUT", f"{path}/authorization", {"user": "u"})["status"] == "Linked"
    assert api.request("PATCH", path, {"status": "Unlinked"})["status"] == "Unlinked"
    assert api.request("PATCH", path, {"status": None})["status"] == "Unlinked"
    assert api.request("PATCH", path, {})["status"] == "Unlinked"
    assert api.request("GET", f"/companies/{company_id}/connections")["results"][0]["status"] == "Unlinked"


def test_connection_requests_that_the_specification_forbids_are_refused() -> None:
    api = SimulatedApi()
    company_id = api.simulator.add_company()
    connection_id = api.simulator.add_connection(company_id, "gbol")
    connections = f"/companies/{company_id}/connections"
    api.error("POST", connections, {"platformKey": "GBOL"}, status=400)
    api.error("POST", connections, {"platformKey": "zzzz"}, status=404)
    api.error("PATCH", f"{connections}/{connection_id}", {"status": "Happy"}, status=400)
    api.error("PATCH", f"{connections}/{connection_id}", {"state": "Linked"}, status=400)
    api.error("PUT", f"{connections}/{connection_id}/authorization", {"user": 7}, status=400)
    api.error("PATCH", f"{connections}/{UNKNOWN_ID}", {"status": "Linked"}, status=404)


@pytest.mark.parametrize(
    "route", [route for route in ROUTES if "{companyId}" in route.path], ids=lambda route: route.name
)
def test_an_unknown_company_is_a_404(route: Any) -> None:
    path = (
        route.path.replace("{companyId}", UNKNOWN_ID)
        .replace("{connectionId}", UNKNOWN_ID)
        .replace("{syncId}", UNKNOWN_ID)
    )
    error = SimulatedApi().error(route.method, path, {}, status=404)
    assert UNKNOWN_ID in error["error"]


def test_a_configuration_offers_what_the_linked_platforms_have() -> None:
    api = SimulatedApi()
    bare, linked = api.simulator.add_company(), api.simulator.add_linked_company(accounting="qhyg")
    assert api.request("GET", f"/config/companies/{bare}/sync/commerce")["configured"] is False
    configuration = api.request("GET", f"/config/companies/{linked}/sync/commerce")
    assert (configuration["configured"], configuration["enable"]) == (True, True)
    sales = configuration["configuration"]["sales"]["accounts"]["sales"]
    chosen = next(one for one in sales["accountOptions"] if one["id"] == sales["selectedAccountId"])
    assert chosen["nominalCode"] == "4000"


def test_a_configuration_read_changed_and_written_back_is_kept_with_unknown_fields() -> None:
    api = SimulatedApi()
    company_id = api.simulator.add_linked_company()
    path = f"/config/companies/{company_id}/sync/commerce"
    configuration = api.request("GET", path)
    configuration["schedule"]["syncHour"] = 5
    configuration["addedIn2031"] = {"a": [1]}
    assert api.request("POST", path, configuration) == configuration
    assert api.request("GET", path) == configuration == api.simulator.configuration(company_id)


def test_fields_that_a_written_configuration_leaves_out_are_removed() -> None:
    api = SimulatedApi()
    company_id = api.simulator.add_linked_company()
    path = f"/config/companies/{company_id}/sync/commerce"
    assert api.request("POST", path, {"enable": False}) == {"enable": False, "companyId": company_id}
    assert api.request("GET", path) == {"enable": False, "companyId": company_id}


@all_cases(
    ("configuration", "field"),
    [
        ({"enable": "yes"}, "enable"),
        ({"schedule": {"selectedFrequency": "Hourly"}}, "schedule.selectedFrequency"),
        ({"schedule": {"syncHour": 24}}, "schedule.syncHour"),
        ({"schedule": {"startDate": "soon"}}, "schedule.startDate"),
        ({"schedule": None}, "schedule"),
        ({"configuration": {"mapSettings": {"outputFormat": "Invoice"}}}, "configuration.mapSettings.outputFormat"),
        (
            {"configuration": {"fees": {"accounts": {"f": {"selectedAccountId": "x", "accountOptions": []}}}}},
            "configuration.fees.accounts.f.selectedAccountId",
        ),
    ],
)
def test_a_configuration_that_the_specification_forbids_is_refused(configuration: dict[str, Any], field: str) -> None:
    api = SimulatedApi()
    company_id = api.simulator.add_linked_company()
    before = api.simulator.configuration(company_id)
    error = api.error("POST", f"/config/companies/{company_id}/sync/commerce", configuration, status=400)
    assert [item["itemId"] for item in error["validation"]["errors"]] == [field]
    assert api.simulator.configuration(company_id) == before
    with pytest.raises(ValueError, match=re.escape(field)):
        api.simulator.set_configuration(company_id, configuration)


def test_setting_a_configuration_takes_a_body() -> None:
    api = SimulatedApi()
    company_id = api.simulator.add_linked_company()
    api.error("POST", f"/config/companies/{company_id}/sync/commerce", status=400)


def test_texts_are_set_blanked_and_restored_per_locale() -> None:
    api = SimulatedApi()
    path = "/sync/commerce/config/ui/text"
    original = api.request("GET", path, locale="en-us")
    changed = api.request("PATCH", path, {"finishButton": "Done", "salesSubtitle": {"text": ""}}, locale="en-us")
    assert changed == original | {
        "finishButton": {"text": "Done", "required": True},
        "salesSubtitle": {"text": "", "required": False},
    }
    assert api.request("GET", path, locale="en-us") == changed
    assert (
        api.request("PATCH", path, {"finishButton": None, "salesSubtitle": {"text": None}}, locale="en-us") == original
    )
    assert api.request("GET", path, locale="fr-fr")["finishButton"]["text"] == "Terminer"


def test_texts_that_the_specification_forbids_are_refused_whole() -> None:
    api = SimulatedApi()
    path = "/sync/commerce/config/ui/text"
    original = api.request("GET", path, locale="en-us")
    error = api.error("PATCH", path, {"finishButton": "Done", "salesSubtitle": 7}, status=400, locale="en-us")
    assert error["validation"]["errors"][0]["itemId"] == "salesSubtitle"
    assert api.request("GET", path, locale="en-us") == original
    api.error("GET", path, status=400)
    api.error("GET", path, status=400, locale="de-de")


def test_visible_accounts_are_kept_per_platform() -> None:
    api = SimulatedApi()
    read = f"/clients/{api.simulator.client_id}/config/ui/accounts/platform"
    write = "/sync/commerce/config/ui/accounts/platform"
    assert api.request("GET", f"{read}/gbol") == {"visibleAccounts": []}
    assert api.request("POST", f"{write}/gbol", {"visibleAccounts": ["200"]}) == {"visibleAccounts": ["200"]}
    assert api.request("GET", f"{read}/gbol") == {"visibleAccounts": ["200"]}
    assert api.request("GET", f"{read}/qhyg") == {"visibleAccounts": []}
    api.error("POST", f"{write}/gbol", {"visibleAccounts": "200"}, status=400)
    api.error("POST", f"{write}/zzzz", {"visibleAccounts": []}, status=404)
    api.error("GET", f"/clients/{UNKNOWN_ID}/config/ui/accounts/platform/gbol", status=404)


def test_a_sync_flow_url_opens_once_and_for_thirty_seconds() -> None:
    api = SimulatedApi()
    path = "/config/sync/commerce/fztf/gbol/start"
    used = api.request("GET", path, merchantIdentifier="shop-1")["url"]
    assert api.simulator.complete_sync_flow(used)
    assert not api.simulator.complete_sync_flow(used)
    late = api.request("GET", path, merchantIdentifier="shop-1")["url"]
    assert late != used
    api.wait(31)
    assert not api.simulator.complete_sync_flow(late)
    (company_id,) = api.simulator.company_ids()
    assert {one["status"] for one in api.request("GET", f"/companies/{company_id}/connections")["results"]} == {
        "Linked"
    }


def test_a_sync_flow_without_an_identifier_makes_a_company_each_time() -> None:
    api = SimulatedApi()
    for _ in range(2):
        api.request("GET", "/config/sync/commerce/fztf/gbol/start")
    assert len(api.simulator.company_ids()) == 2
    api.error("GET", "/config/sync/commerce/gbol/fztf/start", status=404)


def test_branding_is_there_for_every_integration_and_no_other() -> None:
    api = SimulatedApi()
    for integration in api.request("GET", "/config/integrations")["results"]:
        branding = api.request("GET", f"/config/integrations/{integration['key']}/branding")
        assert branding["sourceId"] == integration["sourceId"]
    api.error("GET", "/config/integrations/zzzz/branding", status=404)


def test_a_deleted_company_is_unknown() -> None:
    api = SimulatedApi()
    company_id = api.simulator.add_linked_company()
    api.request_sync(company_id)
    api.simulator.delete_company(company_id)
    api.wait(3600)
    api.error("GET", f"/meta/companies/{company_id}/sync/commerce/status", status=404)
    with pytest.raises(KeyError, match="has no company"):
        api.simulator.syncs(company_id)
    assert api.send("GET", "/companies").headers["X-Rate-Limit-Limit"] == "1000"


def test_the_log_reports_what_was_requested_and_holds_no_credentials() -> None:
    api = SimulatedApi()
    key = "6f1c1a5e-3d5c-4b5e-9a39-0c9b7c6a1d11"
    api.send("POST", "/companies", {"name": "A"}, key=key)
    api.send("GET", "/companies", page=1)
    first, second = api.simulator.requests
    assert (first.time, first.operation, first.method, first.path, first.idempotency_key, first.status) == (
        NOON,
        "create-company",
        "POST",
        "/companies",
        key,
        200,
    )
    assert first.body_hash is not None
    assert (second.query, second.body_hash, second.idempotency_key) == ("page=1", None, None)
    secret = authorization()["Authorization"].removeprefix("Basic ")
    assert secret not in repr(api.simulator.requests)
    assert secret not in repr(Request("GET", "/companies", "", authorization()))


def test_the_log_is_bounded() -> None:
    api = SimulatedApi(log_size=3)
    for page in range(1, 6):
        api.send("GET", "/companies", page=page)
    assert [seen.query for seen in api.simulator.requests] == ["page=3", "page=4", "page=5"]


def test_the_same_seed_and_calls_give_the_same_responses() -> None:
    def play(seed: int) -> list[bytes]:
        api = SimulatedApi(seed=seed)
        company_id = api.simulator.add_linked_company()
        api.request_sync(company_id)
        api.wait(3600)
        return [api.send("GET", "/companies").body, json.dumps(api.status(company_id)).encode()]

    assert play(1) == play(1)
    assert play(1) != play(2)


def test_changes_of_connections_are_reported_as_events() -> None:
    api = SimulatedApi()
    company_id = api.simulator.add_company()
    connection_id = api.simulator.add_connection(company_id, "gbol", status="PendingAuth")
    for status in ("Linked", "Deauthorized", "Linked", "Linked"):
        api.simulator.set_connection_status(company_id, connection_id, status)
    api.simulator.delete_company(company_id)
    assert [event["eventType"] for event in api.simulator.events] == [
        "company.created",
        "connection.created",
        "connection.connected",
        "connection.disconnected",
        "connection.reconnected",
        "company.deleted",
    ]


def test_a_connection_that_never_linked_failed_and_one_that_is_deleted_is_gone() -> None:
    api = SimulatedApi()
    company_id = api.simulator.add_linked_company()
    pending = api.simulator.add_connection(company_id, "ugxp", status="PendingAuth")
    api.simulator.take_events()
    api.simulator.set_connection_status(company_id, pending, "Unlinked")
    limit = int(api.send("GET", "/companies").headers["X-Rate-Limit-Limit"])
    for connection in api.request("GET", f"/companies/{company_id}/connections")["results"]:
        api.simulator.delete_connection(company_id, connection["id"])
    assert [event["eventType"] for event in api.simulator.events] == ["connection.failed"] + 3 * ["connection.deleted"]
    assert api.request("GET", f"/companies/{company_id}/connections")["results"] == []
    assert int(api.send("GET", "/companies").headers["X-Rate-Limit-Limit"]) == limit - 1000


def test_an_expired_account_is_a_402_everywhere_until_it_is_renewed() -> None:
    api = SimulatedApi()
    company_id = api.simulator.add_linked_company()
    api.simulator.expire_account()
    for method, path in (("GET", "/companies"), ("POST", f"/companies/{company_id}/sync/commerce/latest")):
        assert api.error(method, path, status=402)["statusCode"] == 429
    assert api.simulator.syncs(company_id) == ()
    api.simulator.renew_account()
    api.request_sync(company_id)


def test_bad_arguments_are_refused() -> None:
    api = SimulatedApi()
    company_id = api.simulator.add_company()
    with pytest.raises(ValueError, match="platform_key"):
        api.simulator.add_connection(company_id, "zzzz")
    with pytest.raises(ValueError, match="status"):
        api.simulator.add_connection(company_id, "gbol", status="linked")
    with pytest.raises(ValueError, match="already"):
        api.simulator.add_company(company_id=company_id)
    with pytest.raises(ValueError, match="seconds must be at least 0"):
        api.simulator.advance(-1)
    with pytest.raises(RuntimeError, match="async with"):
        _ = api.simulator.url


@all_cases(
    "arguments, message",
    [
        ({"api_key": None}, "api_key must be a string"),
        ({"api_key": ""}, "api_key must be a key"),
        ({"seed": "x"}, "seed must be an integer"),
        ({"speed": 0}, "speed must be more than 0"),
        ({"speed": "2"}, "speed must be a number"),
        ({"port": 70_000}, "port must be an integer between 0 and 65,535"),
        ({"now": 1.0}, "now must be a function"),
        ({"faults": 0.5}, "faults must be a FaultPlan"),
        ({"quota": 1000}, "quota must be a RequestQuota"),
        ({"durations": 5.0}, "durations must be a function"),
        ({"outcomes": 2000}, "outcomes must be a mapping"),
        ({"outcomes": {}}, "outcomes must have at least one code"),
        ({"outcomes": {"no cause": 1.0}}, "outcomes must have status codes and causes"),
        ({"outcomes": {2000: -1.0}}, "outcomes must be mapped to weights of at least 0"),
        ({"outcomes": {2000: "1"}}, r"outcomes\[2000\] must be a number"),
        ({"visibility_delay": -1.0}, "visibility_delay must be at least 0"),
        ({"company_limit": -1}, "company_limit must be an integer of at least 0"),
        ({"clock_skew": None}, "clock_skew must be a number"),
        ({"log_size": -1}, "log_size must be an integer of at least 0"),
    ],
)
def test_bad_settings_are_refused_at_once(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        Simulator(**arguments)


def test_a_quota_has_counts() -> None:
    with pytest.raises(TypeError, match="per_minute must be an integer"):
        RequestQuota(per_minute="1000")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="per_day must be an integer of at least 0"):
        RequestQuota(per_day=-1)
