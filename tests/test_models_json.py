"""Models go to Codat's JSON and back, and into FastAPI and pydantic, as types with a correct schema."""

import copy
import json
import pickle
import subprocess
import sys
from collections.abc import Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest
from fastapi import FastAPI
from fastapi.encoders import jsonable_encoder
from pydantic import BaseModel, TypeAdapter, ValidationError

from codat_commerce_async._core.codec import decode
from codat_commerce_async._core.encoding import encode
from codat_commerce_async.models.base import UNSET, Model
from codat_commerce_async.models.companies import Company, CreateCompany
from codat_commerce_async.models.configuration import Configuration
from codat_commerce_async.models.connections import Connection, Connections, UpdateConnection
from codat_commerce_async.models.enums import ConnectionStatus
from codat_commerce_async.models.integrations import Integration
from codat_commerce_async.models.sync import DateRange, SyncRange, SyncStatus, SyncToLatestArgs
from codat_commerce_async.models.sync_flow import LocalizationInfo, VisibleAccounts
from codat_commerce_async.models.webhook_events import CompanyEvent
from tests.support.cases import all_cases
from tests.support.public_models import PUBLIC
from tests.support.specification import specification

CLASSES = sorted(
    {value for value in PUBLIC.values() if isinstance(value, type) and issubclass(value, Model) and attrs.has(value)},
    key=lambda cls: cls.__name__,
)
CONCRETE = [
    cls for cls in CLASSES if cls.__name__ not in {"Page", "WebhookEvent", "PreservesUnknownFields", "LenientModel"}
]
CONNECTION = {"id": "x", "status": "New", "lastSync": "2024-01-02T03:04:05Z", "connectionInfo": {"a": [1, None]}}
STATUS = {
    "companyId": "c",
    "syncStatusCode": 2000,
    "syncUtc": "2024-01-02T03:04:05Z",
    "dataConnections": [CONNECTION],
}
CONFIGURATION = {"new": 1, "companyId": "c", "schedule": {"startDate": "2024-01-02T03:04:05.1234567Z", "more": None}}


def test_everything_that_codat_sends_or_takes_is_a_model() -> None:
    others = {"ApiResponse", "Attempt", "Call", "ConfigurationProblem", "RateLimit", "Rule", "SyncHandle"}
    classes = {name for name, value in PUBLIC.items() if isinstance(value, type) and attrs.has(value)}
    assert classes - others == {cls.__name__ for cls in CLASSES}


@all_cases("cls", CONCRETE)
def test_a_model_goes_to_json_and_back(cls: type[Model]) -> None:
    for model in (example(cls), example(cls, full=True)):
        values = model.to_dict()
        assert json.loads(json.dumps(values)) == values
        assert cls.from_dict(values) == model
        assert dict(model) == values or isinstance(model, Mapping)
        assert jsonable_encoder(model) == values


def example(cls: Any, *, full: bool = False) -> Any:
    """An object of the class: with the fewest fields, or read from JSON that has them all."""
    needed = {
        "id": "i", "key": "k", "name": "Dave", "platform_key": "gbol", "url": "u", "event_type": "company.created",
        "start": datetime(2024, 1, 2, tzinfo=UTC), "finish": datetime(2024, 1, 3, tzinfo=UTC),
    }  # fmt: skip
    arguments: dict[str, Any] = {}
    for field in attrs.fields(cls):
        if field.default is attrs.NOTHING or (full and field.name in needed):
            arguments[field.name] = needed[field.name] if field.name in needed else example(field.type)
    return cls(**arguments)


def test_names_are_codats_and_times_are_text() -> None:
    status = decode(json.dumps(STATUS).encode(), SyncStatus)
    values = status.to_dict()
    assert values["syncUtc"] == "2024-01-02T03:04:05Z"
    assert values["dataConnections"][0]["status"] == "New"  # type: ignore[index]
    assert type(values["dataConnections"][0]["status"]) is str  # type: ignore[index]
    assert "unparsed" not in values


def test_values_of_python_are_taken_too() -> None:
    noon = datetime(2024, 1, 2, 12, tzinfo=UTC)
    assert SyncRange.from_dict({"dateRange": {"start": noon, "finish": noon}}).date_range.start == noon
    assert Connection.from_dict({"id": "x", "status": ConnectionStatus.LINKED}).is_linked


def test_an_unset_field_has_no_key_and_null_stays_null() -> None:
    assert CreateCompany(name="x").to_dict() == {"name": "x"}
    assert CreateCompany.from_dict({"name": "x"}).description is UNSET
    assert SyncToLatestArgs(sync_to=None).to_dict() == {"syncTo": None}
    assert VisibleAccounts().to_dict() == {}
    assert LocalizationInfo.from_dict({"a": "text"}).to_dict() == {"a": {"text": "text"}}


def test_a_dictionary_shares_nothing_with_its_model() -> None:
    values: dict[str, Any] = copy.deepcopy(CONFIGURATION)
    configuration = Configuration.from_dict(values)
    values["schedule"]["more"] = 7
    configuration.to_dict()["schedule"]["more"] = 8  # type: ignore[index]
    assert configuration.to_dict() == CONFIGURATION


@all_cases("data", [None, [], "x", 7])
def test_a_value_that_is_no_mapping_is_a_type_error(data: Any) -> None:
    with pytest.raises(TypeError, match="must be a mapping"):
        Company.from_dict(data)


def test_data_that_does_not_fit_is_a_value_error_with_its_path() -> None:
    with pytest.raises(ValueError, match=r"does not fit SyncStatus at \$\.dataConnections\[0\]\.id: expected text"):
        SyncStatus.from_dict({"dataConnections": [{"id": 7}]})


def test_a_model_is_a_mapping_that_is_not_iterated_by_mistake() -> None:
    page = Connections(results=(Connection(id="x"),))
    with pytest.raises(TypeError, match="not iterable"):
        list(page)  # type: ignore[call-overload]
    with pytest.raises(KeyError):
        page["x"]
    assert page["results"] == [Connection(id="x").to_dict()]
    assert "_links" in page.keys()  # noqa: SIM118 - as far as type checkers know
    assert {**page} == page.to_dict()
    assert bool(VisibleAccounts())
    assert not LocalizationInfo()
    found: object = Connection(id="y")
    match found:
        case {"id": name, "status": status}:
            assert (name, status) == ("y", None)
        case _:
            raise AssertionError


def test_the_fields_of_a_configuration_hold_nothing_private() -> None:
    configuration = decode(json.dumps(CONFIGURATION).encode(), Configuration)
    assert not [field.name for field in attrs.fields(Configuration) if field.name.startswith("_")]
    shown = attrs.asdict(configuration)
    assert "1234567Z" not in repr(shown)
    assert shown["extra"] == {"new": 1}
    assert set(shown) == {field.name for field in attrs.fields(Configuration)}


def test_a_changed_copied_or_pickled_configuration_still_is_sent_back_as_it_was_received() -> None:
    configuration = decode(json.dumps(CONFIGURATION).encode(), Configuration)
    copies = [
        copy.deepcopy(configuration),
        copy.copy(configuration),
        pickle.loads(pickle.dumps(configuration)),  # noqa: S301 - ours
        attrs.evolve(attrs.evolve(configuration, enable=True), enable=None),
    ]
    for one in copies:
        assert list(json.loads(encode(one)))[:3] == list(CONFIGURATION)
        assert json.loads(encode(one))["schedule"] == CONFIGURATION["schedule"]
        assert one == configuration
        assert hash(one) == hash(configuration)


@all_cases("cls", CONCRETE)
def test_every_model_is_a_type_of_pydantics(cls: type[Model]) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(cls)
    model = example(cls)
    assert adapter.validate_python(model) is model
    assert adapter.validate_python(model.to_dict()) == model
    assert adapter.validate_json(json.dumps(model.to_dict())) == model
    assert json.loads(adapter.dump_json(model)) == adapter.dump_python(model) == model.to_dict()
    for mode in ("validation", "serialization"):
        schema = adapter.json_schema(mode=mode)
        assert schema["title"] == cls.__name__
        assert schema["type"] == "object"


def test_a_schema_has_every_property_of_the_specification() -> None:
    specified = specification()["components"]["schemas"]["SyncStatus"]["properties"]
    assert set(specified) <= set(TypeAdapter(SyncStatus).json_schema()["properties"])


def test_a_schema_has_codats_names_nullable_fields_open_enumerations_and_times() -> None:
    schema = TypeAdapter(SyncStatus).json_schema()
    properties = schema["properties"]
    assert properties["syncUtc"]["anyOf"] == [{"type": "string", "format": "date-time"}, {"type": "null"}]
    assert properties["syncStatusCode"]["anyOf"] == [{"type": "integer"}, {"type": "null"}]
    assert properties["dataConnections"]["items"] == {"$ref": "#/$defs/Connection"}
    assert "required" not in schema
    connection = schema["$defs"]["Connection"]
    assert connection["required"] == ["id"]
    status = schema["$defs"]["ConnectionStatus"]
    assert (status["type"], status["examples"]) == ("string", ["PendingAuth", "Linked", "Unlinked", "Deauthorized"])
    assert "enum" not in status
    assert TypeAdapter(Integration).json_schema()["$defs"]["DataTypeFeature"]["properties"]["datatype"]
    assert "_links" in TypeAdapter(Connections).json_schema()["properties"]
    assert TypeAdapter(Configuration).json_schema()["additionalProperties"] is True
    assert TypeAdapter(UpdateConnection).json_schema()["properties"]["status"]["anyOf"][1] == {"type": "null"}


class Wrapped(BaseModel):
    status: SyncStatus
    connections: list[Connection] = []
    kind: ConnectionStatus = ConnectionStatus.LINKED
    configuration: Configuration | None = None


def test_models_are_fields_of_pydantics_models() -> None:
    wrapped = Wrapped.model_validate({"status": STATUS, "connections": [CONNECTION], "kind": "Odd"})
    assert wrapped.status == SyncStatus.from_dict(STATUS)
    assert (type(wrapped.kind), wrapped.kind) == (ConnectionStatus, "Odd")
    assert Wrapped.model_validate_json(wrapped.model_dump_json()) == wrapped
    assert wrapped.model_dump(mode="json")["kind"] == "Odd"
    with pytest.raises(ValidationError) as caught:
        Wrapped.model_validate({"status": {"dataConnections": [{"id": 7}]}})
    [fault] = caught.value.errors()
    assert fault["loc"] == ("status", "dataConnections", 0, "id")
    assert fault["msg"] == "expected text, found a whole number"


app = FastAPI()


@app.get("/status")
async def get_status() -> SyncStatus:
    return SyncStatus.from_dict(STATUS)


@app.get("/plain", response_model=None)
async def get_plain() -> object:
    return {"page": Connections(results=(Connection.from_dict(CONNECTION),))}


@app.get("/connections")
async def get_connections(status: ConnectionStatus) -> list[Connection]:
    return [Connection(id="x", status=status)]


@app.post("/companies")
async def create(company: CreateCompany) -> Company:
    return Company(id="new", name=company.name)


@app.post("/ranges")
async def sync(sync_range: SyncRange, configuration: Configuration) -> DateRange:
    assert configuration.extra == {"new": 1}
    return sync_range.date_range


@app.post("/events")
async def event(event: CompanyEvent) -> str:
    return event.payload.id


async def request(method: str, target: str, body: object = None) -> tuple[int, Any]:
    """Return the status and the parsed body of the application's response, without a server."""
    path, _, query = target.partition("?")
    sent: list[MutableMapping[str, Any]] = []
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(b"content-type", b"application/json")],
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": json.dumps(body).encode()}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent[0]["status"], json.loads(b"".join(message.get("body", b"") for message in sent))


async def test_fastapi_responses_with_models() -> None:
    assert await request("GET", "/status") == (200, SyncStatus.from_dict(STATUS).to_dict())
    _, plain = await request("GET", "/plain")
    assert plain["page"]["results"][0]["lastSync"] == CONNECTION["lastSync"]
    _, [connection] = await request("GET", "/connections?status=Odd")
    assert connection["status"] == "Odd"


async def test_fastapi_takes_models() -> None:
    _, company = await request("POST", "/companies", {"name": "Dave", "tags": {"a": "b"}})
    assert company["name"] == "Dave"
    times = {"start": "2024-01-02T00:00:00Z", "finish": "2024-01-03T00:00:00"}
    sync_range = {"sync_range": {"dateRange": times}, "configuration": CONFIGURATION}
    assert await request("POST", "/ranges", sync_range) == (200, times)
    assert await request("POST", "/events", {"eventType": "company.created", "payload": {"id": "c"}}) == (200, "c")


async def test_fastapi_refuses_what_does_not_fit_and_reports_where() -> None:
    status, response = await request("POST", "/companies", {"name": 7})
    [fault] = response["detail"]
    assert (status, fault["loc"], fault["msg"]) == (422, ["body", "name"], "expected text, found a whole number")
    assert (await request("POST", "/companies", [1]))[0] == 422


def test_the_openapi_document_names_each_model_once() -> None:
    document = app.openapi()
    schemas = document["components"]["schemas"]
    assert {"SyncStatus", "Connection", "ConnectionStatus", "CreateCompany", "Company", "Configuration"} <= set(schemas)
    assert not [name for name in schemas if name.endswith(("-Input", "-Output"))]
    response = document["paths"]["/status"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert response == {"$ref": "#/components/schemas/SyncStatus"}
    assert schemas["CreateCompany"]["required"] == ["name"]


def test_importing_and_using_the_package_loads_neither_pydantic_nor_fastapi() -> None:
    script = (
        "import sys, codat_commerce_async; from codat_commerce_async.models.companies import Company;"
        "Company.from_dict(Company(id='c').to_dict());"
        "assert not {'pydantic', 'pydantic_core', 'fastapi'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)  # noqa: S603 - our own words
