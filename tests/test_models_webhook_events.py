"""Events are distinguished by their type."""

import orjson
import pytest

from codat_commerce_async._core.codec import decode
from codat_commerce_async.errors import DecodeError
from codat_commerce_async.models.enums import ConnectionStatus, DataType, WebhookEventType, WriteStatus
from codat_commerce_async.models.webhook_events import (
    CompanyEvent,
    CompanyProductEvent,
    ConnectionEvent,
    RateLimitEvent,
    ReadCompletedEvent,
    UnknownEvent,
    WriteEvent,
    event_class,
)
from tests.support.cases import all_cases


@all_cases(
    ("event_type", "cls"),
    [
        ("company.created", CompanyEvent),
        ("company.product.removed", CompanyProductEvent),
        ("connection.failed", ConnectionEvent),
        ("read.completed", ReadCompletedEvent),
        ("read.completed.initial", ReadCompletedEvent),
        ("bills.write.successful", WriteEvent),
        ("commerce-orders.write.unsuccessful", WriteEvent),
        ("client.rateLimit.reached", RateLimitEvent),
        ("bills.write.delayed", UnknownEvent),
        ("", UnknownEvent),
    ],
)
def test_each_type_has_its_class(event_type: str, cls: type) -> None:
    assert event_class(event_type) is cls


@all_cases("event_type", list(WebhookEventType))
def test_every_event_with_a_fixed_name_has_a_class(event_type: WebhookEventType) -> None:
    assert event_class(event_type) is not UnknownEvent


def test_a_connection_event_carries_the_connection() -> None:
    body = {
        "id": "e",
        "eventType": "connection.disconnected",
        "generatedDate": "2024-08-08T17:10:34.015Z",
        "payload": {
            "referenceCompany": {"id": "c", "links": {"portal": "https://portal.example"}},
            "connection": {"id": "a", "status": "Unlinked"},
        },
    }
    event = decode(orjson.dumps(body), ConnectionEvent)
    assert event.event_type is WebhookEventType.CONNECTION_DISCONNECTED
    assert event.payload.connection is not None
    assert event.payload.connection.status is ConnectionStatus.UNLINKED
    assert event.payload.reference_company is not None
    assert event.payload.reference_company.links is not None
    assert event.payload.reference_company.links.portal == "https://portal.example"


@pytest.mark.parametrize(("ending", "succeeded"), [("successful", True), ("unsuccessful", False)])
def test_a_write_event_reports_of_what_and_whether(ending: str, *, succeeded: bool) -> None:
    body = {"eventType": f"bills.write.{ending}", "payload": {"id": "p", "status": "TimedOut", "record": None}}
    event = decode(orjson.dumps(body), WriteEvent)
    assert event.data_type is DataType.BILLS
    assert event.succeeded is succeeded
    assert event.payload.status is WriteStatus.TIMED_OUT


def test_a_quota_with_an_impossible_end_is_read() -> None:
    body = b'{"eventType":"client.rateLimit.reset","payload":{"dailyQuota":9,"expiryDate":"2024-09-01T23:59:99Z"}}'
    payload = decode(body, RateLimitEvent).payload
    assert payload.daily_quota == 9
    assert payload.expiry_date is None
    assert payload.unparsed == (("expiry_date", "2024-09-01T23:59:99Z"),)


@all_cases("payload", [None, {"a": [1]}, "text", 7])
def test_an_unknown_event_keeps_its_payload(payload: object) -> None:
    event = decode(orjson.dumps({"eventType": "company.renamed", "payload": payload}), UnknownEvent)
    assert event.payload == payload
    assert not event.event_type.is_known


def test_an_event_without_a_payload_is_none() -> None:
    with pytest.raises(DecodeError, match=r"\$\.payload"):
        decode(b'{"eventType":"company.created"}', CompanyEvent)
