"""What a delivery's body becomes."""

import json
import logging
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codat_commerce_async.models.call import RateLimit
from codat_commerce_async.models.enums import WebhookEventType
from codat_commerce_async.models.webhook_events import (
    CompanyEvent,
    CompanyProductEvent,
    ConnectionEvent,
    RateLimitEvent,
    ReadCompletedEvent,
    UnknownEvent,
    WebhookEvent,
    WriteEvent,
    event_class,
)
from codat_commerce_async.webhooks import company_id_of, parse_event
from codat_commerce_async.webhooks._events import rate_limit_from_event
from tests.support.cases import all_cases
from tests.support.deliveries import COMPANY, body_of
from tests.support.specification import specification

CLASSES: dict[str, type[WebhookEvent[object]]] = {
    "company.created": CompanyEvent,
    "company.deleted": CompanyEvent,
    "company.product.added": CompanyProductEvent,
    "company.product.removed": CompanyProductEvent,
    "connection.created": ConnectionEvent,
    "connection.connected": ConnectionEvent,
    "connection.failed": ConnectionEvent,
    "connection.disconnected": ConnectionEvent,
    "connection.reconnected": ConnectionEvent,
    "connection.deleted": ConnectionEvent,
    "read.completed": ReadCompletedEvent,
    "read.completed.initial": ReadCompletedEvent,
    "client.rateLimit.reached": RateLimitEvent,
    "client.rateLimit.reset": RateLimitEvent,
    "invoices.write.successful": WriteEvent,
    "journalEntries.write.unsuccessful": WriteEvent,
    "tea.brewed": UnknownEvent,
}


def test_every_type_that_has_a_name_is_among_these() -> None:
    assert {kind.value for kind in WebhookEventType} <= CLASSES.keys()


@all_cases(("event_type", "kind"), CLASSES.items())
def test_an_event_comes_as_the_class_of_its_type(event_type: str, kind: type[WebhookEvent[object]]) -> None:
    event = parse_event(body_of(event_type))
    assert type(event) is kind
    assert event.event_type == event_type
    assert event.id == "ba29118f-5406-4e59-b05c-ba307ca38d01"
    assert event.generated_date == datetime(2024, 1, 15, 8, tzinfo=UTC)


@all_cases("event_type", [name for name in CLASSES if not name.startswith("client.")])
def test_an_event_about_a_company_reports_which(event_type: str) -> None:
    assert company_id_of(parse_event(body_of(event_type))) == COMPANY


@all_cases(
    "body",
    [
        body_of("client.rateLimit.reached"),
        body_of("tea.brewed", {"referenceCompany": "x"}),
        body_of("tea.brewed", [1]),
        body_of("connection.created", {}),
        b'{"eventType": "tea.brewed"}',
    ],
)
def test_an_event_about_no_company_reports_none(body: bytes) -> None:
    assert company_id_of(parse_event(body)) is None


def test_an_unknown_events_payload_is_kept_as_it_was_received() -> None:
    event = parse_event(body_of("tea.brewed", {"leaves": ["green", 3, None]}))
    assert event.payload == {"leaves": ["green", 3, None]}


def test_a_known_type_with_a_strange_payload_is_not_lost(caplog: pytest.LogCaptureFixture) -> None:
    payload = {"referenceCompany": {"id": COMPANY}, "dataTypes": "a private thing"}
    with caplog.at_level(logging.WARNING, "codat_commerce_async"):
        event = parse_event(body_of("read.completed", payload))
    assert type(event) is UnknownEvent
    assert (event.event_type, event.payload) == ("read.completed", payload)
    assert company_id_of(event) == COMPANY
    assert "$.payload.dataTypes" in caplog.text
    assert [vars(record)["company_id"] for record in caplog.records] == [COMPANY]
    assert "private" not in caplog.text


@all_cases(
    ("body", "payload"),
    [
        (b"", ""),
        (b"{}", {}),
        (b"[1, 2]", [1, 2]),
        (b"null", None),
        (b"7", 7),
        (b"<html>", "<html>"),
        (b'{"eventType": 5, "id": 6}', {"eventType": 5, "id": 6}),
        (b'{"eventType": "a"', '{"eventType": "a"'),
        (b"\xff", "\\xff"),
        (b"[" * 100_000, "[" * 100_000),
    ],
)
def test_a_body_of_any_other_shape_is_an_unknown_event_with_all_of_it(body: bytes, payload: object) -> None:
    event = parse_event(body)
    assert event == UnknownEvent(event_type=WebhookEventType(""), payload=payload)
    assert company_id_of(event) is None


@all_cases("event_type", [kind.value for kind in WebhookEventType] + ["bills.write.successful"])
def test_the_type_of_an_event_may_be_called_type(event_type: str) -> None:
    envelope = json.loads(body_of(event_type))
    envelope["type"] = envelope.pop("eventType")
    assert parse_event(json.dumps(envelope).encode()) == parse_event(body_of(event_type))


def test_a_known_type_in_an_unknown_envelope_is_an_unknown_event() -> None:
    envelope = {"eventType": "company.created", "id": "evt", "name": "Toft stores"}
    event = parse_event(json.dumps(envelope).encode())
    assert type(event) is UnknownEvent
    assert (event.event_type, event.id, event.payload) == ("company.created", "evt", envelope)


@all_cases(("field", "value"), [("id", 7), ("id", None), ("generatedDate", 1_700_000_000), ("generatedDate", {})])
def test_an_envelope_with_one_strange_field_keeps_the_rest(field: str, value: object) -> None:
    envelope = {**json.loads(body_of("read.completed")), field: value}
    event = parse_event(json.dumps(envelope).encode())
    assert type(event) is ReadCompletedEvent
    assert company_id_of(event) == COMPANY
    assert (event.id is None, event.generated_date is None) == (field == "id", field == "generatedDate")


RULE_EVENTS = [
    "SyncConnectionDeleted",
    "DataConnectionStatusChanged",
    "AccountCategoriesUpdated",
    "SyncCompleted",
    "SyncFailed",
    "NewCompanySynchronized",
    "a rule that Codat adds later",
]


@all_cases("rule_type", RULE_EVENTS)
def test_the_older_rule_events_are_unknown_events_that_report_their_company(rule_type: str) -> None:
    body = {
        "AlertId": "a9367074-b5c3-42c4-9be4-be129f43577e",
        "RuleId": "70af3071-65d9-4ec3-b3cb-5283e8d55dac",
        "RuleType": rule_type,
        "CompanyId": COMPANY,
        "ClientId": "bae71d36-ff47-420a-b4a6-f8c9ddf41140",
        "Message": "something happened",
        "Data": {"dataConnectionId": "2e9d2c44-f675-40ba-8049-353bfcb5e171"},
    }
    event = parse_event(json.dumps(body).encode())
    assert type(event) is UnknownEvent
    assert (event.event_type, event.id, event.payload) == (rule_type, body["AlertId"], body)
    assert company_id_of(event) == COMPANY


def examples_of_the_specification() -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (name, title, example["value"])
        for name, webhook in specification("Codat-Webhooks")["webhooks"].items()
        for title, example in webhook["post"]["requestBody"]["content"]["application/json"].get("examples", {}).items()
    ]


def test_every_example_of_the_specification_is_an_event() -> None:
    examples = examples_of_the_specification()
    assert len(examples) > 80
    for event_type, title, example in examples:
        event = parse_event(json.dumps(example).encode())
        payload = example["payload"]
        company = payload["referenceCompany"]["id"] if "referenceCompany" in payload else payload.get("id")
        found = (type(event), event.event_type, event.id, event.generated_date is not None, company_id_of(event))
        assert found == (event_class(event_type), event_type, example["id"], True, company), title


@given(st.binary())
def test_any_bytes_are_an_event(body: bytes) -> None:
    assert isinstance(parse_event(body), WebhookEvent)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(["id", "referenceCompany", "connection", "dataTypes", "status", "expiryDate", "record"])


@given(st.sampled_from(sorted(CLASSES)), st.dictionaries(KEYS, JSON) | JSON)
def test_any_payload_of_any_type_is_an_event(event_type: str, payload: object) -> None:
    body = json.dumps({"eventType": event_type, "payload": payload}).encode()
    event = parse_event(body)
    assert event.event_type == event_type
    assert isinstance(company_id_of(event), str | None)


MIDNIGHT = datetime(2024, 1, 16, tzinfo=UTC)
GENERATED_AT = datetime(2024, 1, 15, 8, tzinfo=UTC)


def rate_limit_from(
    event_type: str, payload: object = None, generated: str = "2024-01-15T08:00:00Z"
) -> RateLimit | None:
    event = parse_event(body_of(f"client.rateLimit.{event_type}", payload, generated))
    assert isinstance(event, RateLimitEvent)
    return rate_limit_from_event(event)


def test_a_reached_limit_leaves_nothing_until_the_reset() -> None:
    payload = {"dailyQuota": 12000, "quotaRemaining": 0, "expiryDate": "2024-01-15T12:14:14Z"}
    until = datetime(2024, 1, 15, 12, 14, 14, tzinfo=UTC)
    assert rate_limit_from("reached", payload) == RateLimit(
        limit=12000, remaining=0, reset=until, observed_at=GENERATED_AT
    )
    without_count = rate_limit_from("reached", {"expiryDate": "2024-01-15T12:14:14"})
    assert without_count == RateLimit(remaining=0, reset=until, observed_at=GENERATED_AT)


def test_a_reset_reports_what_there_is_now() -> None:
    assert rate_limit_from("reset") == RateLimit(limit=12000, remaining=11993, reset=MIDNIGHT, observed_at=GENERATED_AT)


@all_cases("expiry", ["2024-01-15T23:59:99Z", "", None, "2024-01-14T00:00:00Z", "9999-12-31T00:00:00Z"])
def test_a_reset_that_cannot_be_is_at_midnight(expiry: str | None) -> None:
    limit = rate_limit_from("reset", {"quotaRemaining": 5, "expiryDate": expiry})
    assert limit is not None
    assert limit.reset == MIDNIGHT


def test_an_event_that_does_not_report_when_it_was_reports_nothing_of_the_quota() -> None:
    assert rate_limit_from("reached", generated="soon") is None
