"""The simulator's operations, responses and errors are those of Codat's specification, where that is at hand."""

import json
import re
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codat_commerce_async.simulator import PLATFORM_ROUTES, ROUTES, Fault, FaultKind, Request, Route, ScriptedSync
from codat_commerce_async.simulator._state.records import CODES
from tests.strategies import JSON, ResponseMaker
from tests.support.cases import all_cases
from tests.support.openapi import Document, problems
from tests.support.simulated import SimulatedApi, authorization
from tests.support.specification import specification

NOWHERE = "00000000-0000-4000-8000-000000000000"
RANGE = {"dateRange": {"start": "2023-01-01T00:00:00Z", "finish": "2023-01-02T00:00:00Z"}}
LOCALE = (("locale", "en-us"),)


class Good(NamedTuple):
    """What a request of one operation carries to go well."""

    body: Any = None
    query: tuple[tuple[str, str], ...] = ()


GOOD: dict[str, Good] = {
    "create-connection": Good({"platformKey": "ugxp"}),
    "update-connection-authorization": Good({"user": "u"}),
    "update-connection": Good({"status": "Unlinked"}),
    "request-sync": Good({"syncTo": "2023-11-15T11:00:00Z"}),
    "request-sync-for-date-range": Good(RANGE),
    "create-company": Good({"name": "Bank of Dave", "tags": {"region": "us"}}),
    "set-configuration": Good({"enable": True, "schedule": {"selectedFrequency": "Monthly"}}),
    "get-config-text-sync-flow": Good(query=LOCALE),
    "update-config-text-sync-flow": Good({"finishButton": {"text": "Done", "required": True}}, LOCALE),
    "update-visible-accounts-sync-flow": Good({"visibleAccounts": ["200", "260"]}),
    "update-company": Good({"name": "Bank of Dave", "description": "d", "tags": {"region": "us"}}),
    "create-webhook-consumer": Good({"url": "https://example.com/hook", "eventTypes": ["read.completed"]}),
    "set-company-syncSettings": Good({"companyId": NOWHERE, "settings": [], "overridesDefaults": True}),
}
EVERY = (*ROUTES, *PLATFORM_ROUTES)
PLATFORM = {route.name for route in PLATFORM_ROUTES}


class Stage(NamedTuple):
    """A simulator with a company that has synced, and what fills the placeholders of paths."""

    api: SimulatedApi
    values: dict[str, str]

    def path(self, route: Route, **changed: str) -> str:
        return route.path.format(**self.values | changed)

    def send(self, route: Route, **options: Any) -> tuple[int, Any]:
        good = GOOD.get(route.name, Good())
        sent: dict[str, Any] = {"body": good.body, **dict(good.query)} | options
        if route.name == "set-company-syncSettings" and sent["body"] == good.body:
            sent["body"] = {**good.body, "companyId": self.values["companyId"]}
        response = self.api.send(route.method, sent.pop("path", self.path(route)), **sent)
        return response.status, json.loads(response.body or "null")


def stage() -> Stage:
    api = SimulatedApi()
    company_id = api.simulator.add_linked_company()
    api.simulator.script_sync(company_id, ScriptedSync(2000, duration=5), ScriptedSync(5130, duration=5))
    for _ in range(2):
        api.request_sync(company_id)
        api.wait(60)
    values = {
        "companyId": company_id,
        "connectionId": api.request("GET", f"/companies/{company_id}/connections")["results"][0]["id"],
        "syncId": api.simulator.syncs(company_id)[0].sync_id,
        "clientId": api.simulator.client_id,
        "platformKey": "gbol",
        "commerceKey": "fztf",
        "accountingKey": "gbol",
        "dataType": "commerce-orders",
        "datasetId": api.request("GET", f"/companies/{company_id}/data/history")["results"][0]["id"],
        "pushOperationKey": api.request("GET", f"/companies/{company_id}/push")["results"][0]["pushOperationKey"],
        "webhookId": json.loads(api.send("POST", "/webhooks", {"url": "https://example.com"}).body)["id"],
    }
    return Stage(api, values)


def source(route: Route) -> Document:
    return specification("Codat-Platform" if route.name in PLATFORM else "Codat-Sync-Commerce")


def documented(route: Route) -> Document:
    found: Document = source(route)["paths"][route.path][route.method.lower()]
    return found


def response_schema(route: Route, status: int) -> Document | None:
    """The schema of a response; None if it has no body."""
    response = documented(route)["responses"][str(status)]
    if "$ref" in response:
        response = source(route)["components"]["responses"][response["$ref"].rpartition("/")[2]]
    schema: Document | None = response["content"]["application/json"]["schema"] if "content" in response else None
    return schema


def wrong(route: Route, status: int, content: Any) -> list[str]:
    schema = response_schema(route, status)
    if schema is None:
        return [] if content is None else ["there has to be no body"]
    return list(problems(source(route), schema, content))


every_route = pytest.mark.parametrize("route", EVERY, ids=lambda route: route.name)


def test_the_routes_are_the_operations_of_the_specification() -> None:
    expected = {
        (operation["operationId"], method.upper(), path)
        for path, methods in specification()["paths"].items()
        for method, operation in methods.items()
        if method != "parameters"
    }
    assert {(route.name, route.method, route.path) for route in ROUTES} == expected
    assert [documented(route)["operationId"] for route in PLATFORM_ROUTES] == [route.name for route in PLATFORM_ROUTES]


@every_route
def test_a_good_request_gets_a_response_of_its_schema(route: Route) -> None:
    specification()
    status, content = stage().send(route)
    assert (status, wrong(route, route.status, content)) == (route.status, [])
    assert bool(content) is (response_schema(route, route.status) is not None)


def outdated(stage: Stage) -> None:
    stage.api.simulator.rotate_api_key("another")


def no_room(stage: Stage) -> None:
    stage.api.simulator.set_remaining_quota(0)


def forced(status: int) -> Callable[[Stage], None]:
    return lambda stage: stage.api.simulator.set_fault("*", Fault(FaultKind.ERROR_BEFORE, status=status))


PROVOKED: dict[int, Callable[[Stage], None]] = {
    400: forced(400),
    401: lambda _stage: None,
    402: forced(402),
    403: outdated,
    404: forced(404),
    409: forced(409),
    429: no_room,
    500: forced(500),
    503: lambda stage: stage.api.simulator.set_fault("*", FaultKind.UNAVAILABLE),
}


@every_route
def test_every_documented_error_has_the_documented_body(route: Route) -> None:
    for status in sorted(int(code) for code in documented(route)["responses"] if code >= "400"):
        scene = stage()
        PROVOKED[status](scene)
        key = "unknown" if status == 401 else "simulator-key"
        got, content = scene.send(route, headers=authorization(key))
        assert (got, wrong(route, status, content)) == (status, [])
        assert {"statusCode", "service", "error", "correlationId", "canBeRetried", "detailedErrorCode"} <= set(content)


BAD: dict[str, Document] = {
    "get-sync-flow-url": {},
    "list-connections": {"pageSize": "0"},
    "list-companies": {"query": "name>1"},
    "list-integrations": {"page": "0"},
    "create-company": {"body": {"name": ""}},
    "set-configuration": {"body": None},
    "request-sync": {"body": {"syncTo": "soon"}},
    "request-sync-for-date-range": {"body": {"dateRange": {"start": "2023-01-01", "end": "2023-01-02"}}},
    "update-config-text-sync-flow": {"locale": "de-de"},
    "update-visible-accounts-sync-flow": {"body": {"visibleAccounts": [7]}},
    "refresh-company-data": {},
    "refresh-data-type": {},
    "list-webhook-consumers": {},
    "list-pull-operations": {"query": "isCompleted=true"},
    "get-company-push-history": {"orderBy": "-nothing"},
    "create-webhook-consumer": {"body": {"url": "example"}},
    "set-company-syncSettings": {"body": {"companyId": NOWHERE, "settings": [], "overridesDefaults": True, "x": 1}},
}
# They have no parameters, or only ones in the path, where what is unknown is a 404.
WITHOUT_PARAMETERS = {"get-sync-flow-url", "refresh-company-data", "refresh-data-type", "list-webhook-consumers"}


@every_route
def test_a_bad_request_gets_a_400_where_that_is_documented(route: Route) -> None:
    if "400" not in documented(route)["responses"]:
        assert route.name not in BAD
        return
    if not BAD[route.name]:
        assert route.name in WITHOUT_PARAMETERS
        return
    status, content = stage().send(route, **BAD[route.name])
    assert (status, wrong(route, 400, content)) == (400, [])


@every_route
def test_an_unknown_id_gets_a_404_where_that_is_documented(route: Route) -> None:
    placeholders = [name for name in stage().values if f"{{{name}}}" in route.path]
    if not placeholders or "404" not in documented(route)["responses"]:
        assert not placeholders
        return
    for name in placeholders:
        scene = stage()
        status, content = scene.send(route, path=scene.path(route, **{name: NOWHERE}))
        assert (name, status, wrong(route, 404, content)) == (name, 404, [])


@all_cases("accounting", ["gbol", "qhyg"])
@all_cases("commerce", ["fztf", "ugxp", "lqai"])
def test_a_default_configuration_is_one_of_the_specification(commerce: str, accounting: str) -> None:
    api = SimulatedApi()
    company_id = api.simulator.add_linked_company(commerce=commerce, accounting=accounting)
    schema = {"$ref": "#/components/schemas/Configuration"}
    assert list(problems(specification(), schema, api.simulator.configuration(company_id))) == []


@all_cases("code", sorted(CODES))
def test_a_status_of_every_code_is_one_of_the_specification(code: int) -> None:
    api = SimulatedApi()
    company_id = api.simulator.add_linked_company()
    api.simulator.script_sync(company_id, ScriptedSync(code, duration=1))
    api.request_sync(company_id)
    api.wait(1)
    for schema, content in (("SyncStatus", api.status(company_id)), ("CompanySyncStatus", api.sync_status(company_id))):
        assert content["syncStatusCode"] == code
        assert list(problems(specification(), {"$ref": f"#/components/schemas/{schema}"}, content)) == []


def event_schema(event_type: str) -> Document:
    written = event_type.partition(".")[2].startswith("write.")
    name = "{dataType}" + event_type.removeprefix(event_type.partition(".")[0]) if written else event_type
    webhook = specification("Codat-Platform")["webhooks"][name]
    schema: Document = webhook["post"]["requestBody"]["content"]["application/json"]["schema"]
    return schema


def test_every_event_is_one_of_the_specification() -> None:
    api = stage().api
    company_id = api.simulator.company_ids()[0]
    connection_id = api.simulator.add_connection(company_id, "ugxp", status="PendingAuth")
    for status in ("Unlinked", "Linked", "Deauthorized", "Linked"):
        api.simulator.set_connection_status(company_id, connection_id, status)
    api.simulator.delete_connection(company_id, api.simulator.add_connection(company_id, "ugxp"))
    api.simulator.delete_connection(company_id, api.simulator.add_connection(company_id, "gbol", status="Unlinked"))
    api.simulator.set_remaining_quota(0)
    api.send("GET", "/companies")
    api.wait(86_400)
    api.send("GET", "/companies")
    api.simulator.delete_company(company_id)
    events = api.simulator.take_events()
    found = [
        (event["eventType"], problem)
        for event in events
        for problem in problems(specification("Codat-Platform"), event_schema(str(event["eventType"])), event)
    ]
    assert found == []
    assert len({event["eventType"] for event in events}) == 13


PLACEHOLDER = re.compile(r"{(\w+)}")
EXAMPLES = 5
UNDOCUMENTED = {400, 404, 415, 422}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
QUERIES: dict[str, st.SearchStrategy[str]] = {
    "page": st.sampled_from(["1", "2", "0", "-1", "one", "9" * 30]),
    "pageSize": st.sampled_from(["1", "100", "5000", "5001", "", "1.5"]),
    "query": st.sampled_from(["name=Alder", "id!=x&&name=y||name=z", "status = Linked", "a=b"]) | TEXT,
    "orderBy": st.sampled_from(["name", "-created", "nothing", "-"]) | TEXT,
    "locale": st.sampled_from(["en-us", "fr-fr"]) | TEXT,
    "merchantIdentifier": TEXT,
}
RAW = st.sampled_from([b"", b"{", b"null", b"[]", b'"text"', b"\xff\xfe", b"NaN", b'{"a": 1e999}', b"[" * 5000])


def body_schema(route: Route) -> Document | None:
    if route.name == "set-configuration":
        # It is declared without a body; it accepts what it returns.
        return {"$ref": "#/components/schemas/Configuration"}
    declared = documented(route).get("requestBody")
    return declared["content"]["application/json"]["schema"] if declared else None


def corrupted(body: Any, rng: Random, instead: Any) -> Any:
    """The body with something else in one of its places."""
    if isinstance(body, dict) and body and rng.random() < 0.8:
        name = rng.choice(sorted(body))
        return {**body, name: corrupted(body[name], rng, instead)}
    if isinstance(body, list) and body and rng.random() < 0.8:
        return [corrupted(body[0], rng, instead), *body[1:]]
    return instead


@st.composite
def bodies(draw: st.DrawFn, route: Route) -> bytes:
    schema = body_schema(route)
    if schema is None or draw(st.integers(0, 9)) == 0:
        return draw(RAW) if draw(st.booleans()) else json.dumps(draw(JSON)).encode()
    rng = Random(draw(st.integers(0, 2**32)))
    good = GOOD[route.name].body
    body = ResponseMaker(source(route), rng, odd=draw(st.booleans())).make(schema) if draw(st.booleans()) else good
    return json.dumps(corrupted(body, rng, draw(JSON)) if draw(st.booleans()) else body).encode()


@st.composite
def requests(draw: st.DrawFn, route: Route, values: dict[str, str]) -> Request:
    def value(name: str) -> str:
        odd = draw(st.integers(0, 7))
        return values[name] if odd > 1 else NOWHERE if odd else draw(TEXT)

    path = PLACEHOLDER.sub(lambda found: quote(value(found[1]), safe=""), route.path)
    query = draw(st.fixed_dictionaries({}, optional=QUERIES))
    headers = {**authorization(), "Content-Type": "application/json"}
    headers |= draw(st.sampled_from([{}, {}, {"Idempotency-Key": NOWHERE}, {"Idempotency-Key": "x"}]))
    headers |= draw(st.sampled_from([{}, {}, {}, {"Content-Type": "text/plain"}]))
    return Request(route.method, path, urlencode(query), headers, draw(bodies(route)))


EXCUSED = {
    # Unknown fields are returned as they were sent.
    "get-configuration": "is not allowed",
    "set-configuration": "is not allowed",
    # A request may have pages of 5000; a response may not report that size.
    **dict.fromkeys(
        ("list-companies", "list-connections", "list-integrations", "list-pull-operations", "get-company-push-history"),
        "$.pageSize: 5000 is against maximum 2000",
    ),
}


def unlike_the_specification(route: Route, status: int, content: Any) -> list[str]:
    if str(status) in documented(route)["responses"]:
        found = wrong(route, status, content)
    else:
        assert status in UNDOCUMENTED
        found = list(problems(specification(), {"$ref": "#/components/schemas/ErrorMessage"}, content))
    return [one for one in found if not one.endswith(EXCUSED.get(route.name, "never"))]


@every_route
def test_every_request_gets_a_response_of_the_specification(route: Route) -> None:
    specification()

    @settings(deadline=None, max_examples=EXAMPLES, database=None)
    @given(st.data())
    def fuzz(data: st.DataObject) -> None:
        scene = stage()
        for _ in range(3):
            request = data.draw(requests(route, scene.values))
            response = scene.api.simulator.handle(request)
            content = json.loads(response.body or "null")
            assert (response.status < 500, unlike_the_specification(route, response.status, content)) == (True, [])

    fuzz()


def test_a_mutated_response_is_not_of_its_schema() -> None:
    route = next(route for route in ROUTES if route.name == "get-sync-status")
    found = {}
    for kind in (FaultKind.NUMBERS_AS_TEXT, FaultKind.NEW_ENUM_VALUES, FaultKind.NEW_FIELDS):
        scene = stage()
        scene.api.simulator.set_fault(route.name, kind)
        found[kind] = wrong(route, 200, scene.send(route)[1])
    assert all(found.values())


def test_the_validator_sees_what_is_wrong() -> None:
    document = {"components": {"schemas": {"Name": {"type": "string", "minLength": 2}}}}
    schema = {
        "type": "object",
        "required": ["id", "name"],
        "additionalProperties": False,
        "properties": {
            "id": {"type": "string", "format": "uuid"},
            "name": {"$ref": "#/components/schemas/Name", "nullable": True},
            "kind": {"enum": ["a"]},
            "list": {"type": "array", "items": {"type": "integer"}},
        },
    }
    value = {"id": "x", "kind": "b", "list": [1, True], "more": 1}
    assert list(problems(document, schema, value)) == [
        "$: name is missing",
        "$: more is not allowed",
        "$.id: 'x' is no uuid",
        "$.kind: 'b' is against enum ['a']",
        "$.list[1]: True is no integer",
    ]
    assert list(problems(document, schema, {"id": NOWHERE, "name": "n"})) == ["$.name: 'n' is against minLength 2"]
    assert list(problems(document, schema, {"id": NOWHERE, "name": None})) == []
    with pytest.raises(KeyError, match="oneOf"):
        list(problems(document, {"oneOf": []}, 1))
