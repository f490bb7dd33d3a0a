"""Whatever the specification allows, and whatever is known to arrive beside it, is read, and nothing of it is lost."""

from datetime import datetime
from random import Random
from types import NoneType
from typing import Any

import orjson
import pytest
from hypothesis import settings

from codat_commerce_async._core.codec import decode
from codat_commerce_async._core.encoding import encode
from codat_commerce_async.models.companies import Company, UpdateCompany
from codat_commerce_async.models.configuration import Configuration
from codat_commerce_async.models.connections import Connection, Connections
from codat_commerce_async.models.integrations import Branding, Integration
from codat_commerce_async.models.sync import CompanySyncStatus, SyncStatus
from codat_commerce_async.models.sync_settings import CompanySyncSettings
from codat_commerce_async.models.webhook_consumers import CreateWebhookConsumer
from codat_commerce_async.models.webhook_events import event_class
from tests.strategies import ResponseMaker
from tests.support.specification import specification
from tests.test_contract import COMMERCE_METHODS, OPERATIONS, PLATFORM_METHODS

RESPONSES: dict[str, Any] = {
    name: operation.response_type for name, operation in OPERATIONS.items() if operation.response_type is not NoneType
}
MODELS = {name: model for name, model in RESPONSES.items() if name in COMMERCE_METHODS}
PLATFORM_MODELS = {name: model for name, model in RESPONSES.items() if name in PLATFORM_METHODS}
# What is sent, by the operation.
PLATFORM_BODIES: dict[str, Any] = {
    "create-webhook-consumer": CreateWebhookConsumer,
    "set-company-syncSettings": CompanySyncSettings,
    "update-company": UpdateCompany,
}


def response_schemas(document: dict[str, Any]) -> dict[str, Any]:
    """Return the response schema of each operation."""
    operations = [
        operation
        for path in document["paths"].values()
        for operation in path.values()
        if isinstance(operation, dict) and "operationId" in operation
    ]
    contents = {
        operation["operationId"]: response.get("content")
        for operation in operations
        for status, response in operation["responses"].items()
        if status in {"200", "201"}
    }
    return {name: content["application/json"]["schema"] for name, content in contents.items() if content}


def bodies(document: dict[str, Any]) -> dict[str, Any]:
    """The schema of what each operation is sent."""
    return {
        operation["operationId"]: operation["requestBody"]["content"]["application/json"]["schema"]
        for path in document["paths"].values()
        for operation in path.values()
        if isinstance(operation, dict) and "requestBody" in operation
    }


def test_every_operation_of_the_specification_has_its_model() -> None:
    assert set(response_schemas(specification())) == set(MODELS)


@pytest.mark.parametrize("odd", [False, True], ids=["as declared", "as it arrives"])
@pytest.mark.parametrize("operation", sorted(MODELS))
def test_a_response_is_read_and_nothing_of_it_is_lost(operation: str, *, odd: bool) -> None:
    document = specification()
    schema, maker = response_schemas(document)[operation], ResponseMaker(document, Random(operation), odd=odd)
    for _ in range(2 * settings().max_examples):
        response = maker.make(schema)
        written = orjson.loads(encode(decode(orjson.dumps(response), MODELS[operation])))
        assert losses(maker, schema, response, written) == []


@pytest.mark.parametrize("odd", [False, True], ids=["as declared", "as it arrives"])
@pytest.mark.parametrize("operation", sorted(PLATFORM_MODELS))
def test_a_response_of_the_platform_is_read_and_nothing_of_it_is_lost(operation: str, *, odd: bool) -> None:
    document = specification("Codat-Platform")
    schema, maker = response_schemas(document)[operation], ResponseMaker(document, Random(operation), odd=odd)
    for _ in range(50):
        response = maker.make(schema)
        written = orjson.loads(encode(decode(orjson.dumps(response), PLATFORM_MODELS[operation])))
        assert losses(maker, schema, response, written) == []


@pytest.mark.parametrize("operation", sorted(PLATFORM_BODIES))
def test_every_value_that_the_platform_accepts_can_be_sent(operation: str) -> None:
    document = specification("Codat-Platform")
    schema, maker = bodies(document)[operation], ResponseMaker(document, Random(operation), odd=False)
    for _ in range(50):
        body = {"url": "https://example.com", **maker.make(schema)}
        written = orjson.loads(encode(decode(orjson.dumps(body), PLATFORM_BODIES[operation])))
        assert losses(maker, schema, body, written) == []


def examples(document: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Codat's own examples: the model that each is of, by its schema's name, its schema, and itself."""
    found = []
    for name, schema in document["components"]["schemas"].items():
        given = [schema["example"]] if "example" in schema else schema.get("examples", schema.get("x-examples", []))
        found += [(name, schema, one) for one in (given.values() if isinstance(given, dict) else given)]
    for path in document["paths"].values():
        for operation in path.values():
            if not isinstance(operation, dict) or "operationId" not in operation:
                continue
            content = operation["responses"]["200"]["content"]["application/json"]
            found += [(operation["operationId"], content["schema"], one["value"])
                      for one in content.get("examples", {}).values()]  # fmt: skip
    return found


EXAMPLES: dict[str, Any] = MODELS | {
    "Branding": Branding,
    "Company": Company,
    "CompanySyncStatus": CompanySyncStatus,
    "Connection": Connection,
    "Integration": Integration,
    "PagingInfo": Connections,
    "SyncStatus": SyncStatus,
}


def test_codats_own_examples_are_read_and_nothing_of_them_is_lost() -> None:
    document = specification()
    maker = ResponseMaker(document, Random(0), odd=False)
    given = examples(document)
    assert len(given) >= 9
    for name, schema, example in given:
        written = orjson.loads(encode(decode(orjson.dumps(example), EXAMPLES[name])))
        assert losses(maker, schema, example, written) == [], name


@pytest.mark.parametrize("operation", ["get-configuration", "set-configuration"])
def test_a_configuration_comes_back_byte_for_byte(operation: str) -> None:
    document = specification()
    schema, maker = response_schemas(document)[operation], ResponseMaker(document, Random(operation), odd=True)
    for _ in range(2 * settings().max_examples):
        body = orjson.dumps(maker.make(schema))
        assert encode(decode(body, Configuration)) == body


def test_every_webhook_of_the_specification_is_read_as_its_type() -> None:
    document = specification("Codat-Platform")
    webhooks = document["webhooks"]
    assert len(webhooks) > 10
    for name, webhook in webhooks.items():
        content = webhook["post"]["requestBody"]["content"]["application/json"]
        for example in content["examples"].values():
            event = decode(orjson.dumps(example["value"]), event_class(name))
            assert type(event).__name__ != "UnknownEvent"
            assert losses(ResponseMaker(document, Random(0), odd=False), content["schema"], example["value"],
                          orjson.loads(encode(event))) == []  # fmt: skip


def losses(  # noqa: PLR0911 - one return for each way in which a value may come back
    maker: ResponseMaker, schema: Any, sent: Any, written: Any, path: str = "$"
) -> list[str]:
    """Where something of what was sent is not in what was written; undeclared keys may go."""
    whole = maker.schema(schema)
    if sent is None:
        return [] if written in (None, [], {}, {"text": None}) else [path]
    if whole.get("title") == "Date time":
        return [] if written == sent or as_time(sent) == as_time(written) else [path]
    if isinstance(sent, dict) and isinstance(written, dict):
        if whole.get("additionalProperties") is True:
            return [] if sent == written else [path]
        return [
            loss
            for key, value in sent.items()
            if (inner := inner_schema(whole, key)) is not None
            for loss in losses(maker, inner, value, written.get(key, written.get("datatype")),
                               f"{path}.{key}")
        ]  # fmt: skip
    if isinstance(sent, list) and isinstance(written, list) and len(sent) == len(written):
        return [
            loss
            for number, (one, other) in enumerate(zip(sent, written, strict=True))
            for loss in losses(maker, whole["items"], one, other, f"{path}[{number}]")
        ]
    if isinstance(sent, str) and isinstance(written, dict):
        return [] if written["text"] == sent else [path]
    if isinstance(sent, str) and isinstance(written, int):
        return [] if f"{written}," == sent else [path]
    return [] if sent == written and type(sent) is type(written) else [path]


def inner_schema(schema: dict[str, Any], key: str) -> Any:
    properties = schema.get("properties", {})
    if key in {"datatype", "dataType"}:
        return properties.get("dataType")
    values = schema.get("additionalProperties")
    return properties.get(key, values if isinstance(values, dict) else None)


def as_time(text: Any) -> datetime | None:
    """What a text means: nothing at all, never, or a time to the microsecond."""
    moment = datetime.fromisoformat(text) if text else None
    return moment if moment and moment.year > 1 else None
