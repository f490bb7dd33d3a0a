"""Bytes become models and models bytes; what does not fit is named by its path and never shown."""

import json
import pickle
import traceback
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from types import MappingProxyType
from typing import Any
from uuid import UUID

import attrs
import orjson
import pytest
from attrs import field, frozen, validators
from hypothesis import given
from hypothesis import strategies as st

from codat_commerce_async._core.codec import decode
from codat_commerce_async._core.encoding import encode
from codat_commerce_async._core.responses import error_message
from codat_commerce_async.errors import DecodeError
from codat_commerce_async.models.base import UNSET
from codat_commerce_async.models.companies import Company, CreateCompany
from codat_commerce_async.models.configuration import Configuration
from codat_commerce_async.models.connections import Connection, Connections, UpdateConnection
from codat_commerce_async.models.enums import ConnectionStatus, SourceType, WriteType
from codat_commerce_async.models.error_message import ErrorMessage, ErrorValidation, ErrorValidationItem
from codat_commerce_async.models.integrations import Integration, Integrations
from codat_commerce_async.models.sync import (
    CompanySyncStatus,
    DateRange,
    SyncRange,
    SyncStatus,
    SyncSummary,
    SyncToLatestArgs,
)
from codat_commerce_async.models.sync_flow import Localization, LocalizationInfo, SyncFlowUrl, VisibleAccounts
from tests.strategies import JSON
from tests.support.cases import all_cases

CONNECTION = {
    "id": "0f3c",
    "integrationId": "7be1",
    "integrationKey": "gbol",
    "sourceId": "11aa",
    "platformName": "Xero",
    "linkUrl": "https://link.example/0f3c",
    "status": "Linked",
    "lastSync": "2023-05-04T03:02:01.7654321Z",
    "created": "2023-05-01T00:00:00",
    "sourceType": "Accounting",
    "dataConnectionErrors": [{"statusCode": "401", "erroredOnUtc": "2023-05-02T00:00:00Z", "status": "Active"}],
    "connectionInfo": {"tenant": {"name": "Toft"}},
}

RESPONSE_TYPES: list[Any] = [
    Connection,
    Connections,
    SyncStatus,
    SyncSummary,
    tuple[CompanySyncStatus, ...],
    Company,
    Configuration,
    Integrations,
    LocalizationInfo,
    VisibleAccounts,
]


def decode_error(body: bytes, response_type: Any) -> DecodeError | None:
    """The error that the body raises, if it does."""
    try:
        decode(body, response_type)
    except DecodeError as error:
        return error
    return None


def test_a_connection_is_read() -> None:
    connection = decode(orjson.dumps(CONNECTION), Connection)
    assert connection.id == "0f3c"
    assert connection.status is ConnectionStatus.LINKED
    assert connection.is_linked
    assert connection.source_type is SourceType.ACCOUNTING
    assert connection.last_sync == datetime(2023, 5, 4, 3, 2, 1, 765432, UTC)
    assert connection.created == datetime(2023, 5, 1)  # noqa: DTZ001 - Codat names no zone
    assert connection.data_connection_errors[0].status_code == "401"
    assert connection.connection_info == {"tenant": {"name": "Toft"}}
    assert connection.unparsed == ()


def test_a_connection_without_anything_but_its_id_is_read() -> None:
    assert decode(b'{"id":"0f3c"}', Connection) == Connection(id="0f3c")


def test_nulls_are_as_good_as_nothing() -> None:
    nothing = dict.fromkeys(CONNECTION) | {"id": "0f3c"}
    assert decode(orjson.dumps(nothing), Connection) == Connection(id="0f3c")


def test_unknown_fields_are_ignored() -> None:
    assert decode(b'{"id":"0f3c","status2":{"a":[1]},"":null}', Connection) == Connection(id="0f3c")


def test_a_decoded_model_equals_a_constructed_one() -> None:
    read = decode(orjson.dumps(CONNECTION), Connection)
    made = Connection(**{name: getattr(read, name) for name in attrs.fields_dict(Connection)})
    assert read == made
    assert hash(read) == hash(made)
    assert repr(read) == repr(made)
    assert pickle.loads(pickle.dumps(read)) == made  # noqa: S301 - our own bytes


def test_a_page_reports_whether_another_follows() -> None:
    body = orjson.dumps(
        {"results": [CONNECTION], "pageNumber": 0, "_links": {"self": {"href": "/x"}, "next": {"href": "/y"}}}
    )
    page = decode(body, Connections)
    assert page.links is not None
    assert page.links.this is not None
    assert page.links.this.href == "/x"
    assert page.page_number == 0
    assert page.has_next


@all_cases("links", [None, {}, {"next": None}, {"next": {}}, {"next": {"href": ""}}])
def test_a_last_page_has_no_next(links: object) -> None:
    assert not decode(orjson.dumps({"results": None, "_links": links}), Connections).has_next


def test_both_spellings_of_a_data_type_are_read() -> None:
    body = b'{"key":"gbol","datatypeFeatures":[{"datatype":"bills"},{"dataType":"invoices"}]}'
    assert [feature.data_type for feature in decode(body, Integration).datatype_features] == ["bills", "invoices"]


def test_texts_are_read_as_objects_and_as_plain_text() -> None:
    texts = decode(b'{"a":{"text":"x","required":true},"b":"y","c":null}', LocalizationInfo)
    assert dict(texts) == {
        "a": Localization(text="x", required=True),
        "b": Localization(text="y"),
        "c": Localization(),
    }
    assert decode(b'{"text":"x"}', LocalizationInfo)["text"].text == "x"


def test_no_visible_accounts_and_all_of_them_are_reported_apart() -> None:
    assert decode(b'{"visibleAccounts":[]}', VisibleAccounts).visible_accounts == ()
    assert decode(b'{"visibleAccounts":null}', VisibleAccounts).visible_accounts is None
    assert encode(VisibleAccounts()) == b"{}"
    assert encode(VisibleAccounts(visible_accounts=())) == b'{"visibleAccounts":[]}'


def test_a_response_that_is_a_list_is_read() -> None:
    body = b'[{"syncId":"a","syncStatusCode":2000},{"syncId":"b"}]'
    assert [sync.sync_id for sync in decode(body, tuple[CompanySyncStatus, ...])] == ["a", "b"]
    assert decode(b"null", tuple[CompanySyncStatus, ...]) == ()


@all_cases("kind", [object, dict, Mapping, dict[str, object]])
def test_an_endpoint_without_a_model_gives_the_parsed_json(kind: Any) -> None:
    assert decode(b'{"a":[1,null,{"b":2.5}]}', kind) == {"a": [1, None, {"b": 2.5}]}


@all_cases(
    ("text", "code"),
    [("2000", "2000"), ('"4200,"', "4200"), ('" 5080 "', "5080"), ('"1010 running"', "1010"), ("null", "None")],
)
def test_a_status_code_may_be_text(text: str, code: str) -> None:
    assert str(decode(f'{{"syncStatusCode":{text}}}'.encode(), SyncStatus).sync_status_code) == code


@all_cases("text", ["Complete", "20.5", "٢٠٠٠", "99999999999999999999"])
def test_a_status_code_that_is_no_number_is_kept_as_text(text: str) -> None:
    status = decode(orjson.dumps({"syncStatusCode": text}), SyncStatus)
    assert status.sync_status_code is None
    assert status.unparsed == (("sync_status_code", text),)
    assert orjson.loads(encode(status))["syncStatusCode"] == text


SHAPE_ERRORS: list[tuple[str, Any, str, str]] = [
    ('{"results":[{"id":"a"},{"id":"b","status":7}]}', Connections, "$.results[1].status", "text"),
    ('{"id":"a","dataConnectionErrors":[{},{"statusCode":401}]}', Connection, "$.dataConnectionErrors[1].statusCode",
     "text"),
    ('{"id":"a","connectionInfo":"x"}', Connection, "$.connectionInfo", "an object"),
    ('{"id":"a","created":7}', Connection, "$.created", "a time as text"),
    ("{}", Connection, "$.id", "text"),
    ('{"id":null}', Connection, "$.id", "text"),
    ("[]", Connection, "$", "an object"),
    ("null", Connection, "$", "an object"),
    ('"text"', tuple[CompanySyncStatus, ...], "$", "a list"),
    ("[{},null]", tuple[CompanySyncStatus, ...], "$[1]", "an object"),
    ('[{"dataPushed":"false"}]', tuple[CompanySyncStatus, ...], "$[0].dataPushed", "true or false"),
    ('{"dataPushed":1}', SyncStatus, "$.dataPushed", "true or false"),
    ('{"syncStatusCode":true}', SyncStatus, "$.syncStatusCode", "a whole number"),
    ('{"syncStatusCode":2000.0}', SyncStatus, "$.syncStatusCode", "a whole number"),
    ('{"pageNumber":"1"}', Connections, "$.pageNumber", "a whole number"),
    ('{"_links":{"next":"/x"}}', Connections, "$._links.next", "an object"),
    ('{"id":"a","tags":{"region":7}}', Company, "$.tags.*", "text"),
    ('{"id":"a","products":["x",7]}', Company, "$.products[1]", "text"),
    ('{"visibleAccounts":"all"}', VisibleAccounts, "$.visibleAccounts", "a list"),
    ('{"a":{"text":7}}', LocalizationInfo, "$.*.text", "text"),
    ('{"a":7}', LocalizationInfo, "$.*", "an object"),
    ('{"configuration":{"sales":{"accounts":{"x":{"accountOptions":[{"id":7}]}}}}}', Configuration,
     "$.configuration.sales.accounts.*.accountOptions[0].id", "text"),
    ('{"schedule":{"frequencyOptions":[7]}}', Configuration, "$.schedule.frequencyOptions[0]", "text"),
]  # fmt: skip


@all_cases(("body", "response_type", "path", "expected"), SHAPE_ERRORS)
def test_a_value_of_the_wrong_type_is_reported_by_its_path(
    body: str, response_type: Any, path: str, expected: str
) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(body.encode(), response_type)
    assert caught.value.path == path
    assert path in str(caught.value)
    assert f"expected {expected}, found " in str(caught.value)


@all_cases(
    "body",
    [
        b"",
        b" \n",
        b"<html><body>502 Bad Gateway</body></html>",
        b'{"id":"a"',
        b'{"id":"a"}{"id":"b"}',
        b'{"id":"\xff"}',
        b"[" * 100_000,
        b"[" * 1_000 + b"]" * 1_000,
        b'{"id":' * 2_000,
        b"\x00",
    ],
)
@all_cases("response_type", [Connection, Configuration, tuple[CompanySyncStatus, ...], SyncStatus])
def test_a_connection_without_a_response_is_a_transport_error(body: bytes, response_type: Any) -> None:
    with pytest.raises(DecodeError):
        decode(body, response_type)


def test_an_empty_response_and_a_page_of_html_are_called_so() -> None:
    with pytest.raises(DecodeError, match="empty"):
        decode(b"", Connection)
    with pytest.raises(DecodeError, match="HTML"):
        decode(b"<!DOCTYPE html>", Connection)


def test_a_configuration_of_depths_and_lengths_beyond_reason_is_an_error_of_ours() -> None:
    with pytest.raises(DecodeError):
        decode(b'{"x":' + b"9" * 5_000 + b"}", Configuration)


@given(st.sampled_from(RESPONSE_TYPES), st.binary(max_size=60) | JSON.map(orjson.dumps))
def test_no_bytes_raise_anything_but_our_error(response_type: Any, body: bytes) -> None:
    error = decode_error(body, response_type)
    if error:
        assert error.path is None or error.path.startswith("$")
        assert error.path is None or ": expected " in str(error)  # so no hook of ours raised what it should not


@given(st.data())
def test_a_value_of_a_wrong_kind_anywhere_is_an_error_of_ours(data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(CONNECTION)))
    error = decode_error(orjson.dumps(CONNECTION | {key: data.draw(JSON)}), Connection)
    if error:
        assert error.path is not None
        assert error.path.startswith(f"$.{key}")


SECRET = "merchant-secret-4711"


@all_cases(
    ("body", "response_type"),
    [
        (f'{{"id":"a","status":["{SECRET}"]}}', Connection),
        (f'{{"id":"a","tags":{{"{SECRET}":7}}}}', Company),
        (f'["{SECRET}"]', tuple[CompanySyncStatus, ...]),
        (f'{{"id":"{SECRET}"', Connection),
        (f"<html>{SECRET}</html>", Connection),
        (f'{{"{SECRET}":{{"text":7}}}}', LocalizationInfo),
    ],
)
def test_an_error_holds_nothing_of_the_response(body: str, response_type: Any) -> None:
    error = decode_error(body.encode(), response_type)
    assert error is not None
    assert error.__cause__ is None
    assert error.__context__ is None
    assert error.__traceback__ is not None
    inner = error.__traceback__.tb_next  # the first frame is of this file
    shown = "".join(traceback.format_exception(error)) + repr(error) + repr(pickle.dumps(error))
    while inner:
        shown += repr({name: value for name, value in inner.tb_frame.f_locals.items() if name != "error"})
        inner = inner.tb_next
    assert SECRET not in shown


def test_a_response_of_a_type_that_cannot_be_read_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(TypeError, match="cannot be decoded to"):
        decode(b"{}", int | str)  # type: ignore[arg-type]


@frozen(kw_only=True)
class Invoice:
    """A model of someone else's, for an endpoint that this library has none for."""

    invoice_number: str
    total_amount: float = 0.0
    issue_dates: list[datetime] = field(factory=list[datetime])
    _secret: str = field(default="x", alias="hidden")
    line_count: int = field(default=1, validator=validators.ge(0))


def test_a_model_of_the_callers_own_is_read_and_written() -> None:
    invoice = decode(
        b'{"invoiceNumber":"7","totalAmount":3,"issueDates":["2023-01-01"],"lineCount":2,"Secret":"s"}', Invoice
    )
    assert invoice == Invoice(
        invoice_number="7",
        total_amount=3,
        issue_dates=[datetime(2023, 1, 1)],  # noqa: DTZ001 - Codat names no zone
        line_count=2,
        hidden="s",
    )
    assert orjson.loads(encode(invoice))["invoiceNumber"] == "7"


def test_a_validator_of_the_callers_own_refuses_with_our_error() -> None:
    with pytest.raises(DecodeError, match="does not fit"):
        decode(b'{"invoiceNumber":"7","lineCount":-1}', Invoice)


@all_cases(
    ("value", "body"),
    [
        (UpdateConnection(), b"{}"),
        (UpdateConnection(status=None), b'{"status":null}'),
        (UpdateConnection(status=ConnectionStatus.UNLINKED), b'{"status":"Unlinked"}'),
        (UpdateConnection(status=ConnectionStatus("Paused")), b'{"status":"Paused"}'),
        (SyncToLatestArgs(), b"{}"),
        (SyncToLatestArgs(sync_to=None), b'{"syncTo":null}'),
        (CreateCompany(name="Dave"), b'{"name":"Dave"}'),
        (CreateCompany(name="Dave", tags={"a": "b"}), b'{"name":"Dave","tags":{"a":"b"}}'),
        (
            SyncRange(date_range=DateRange(start=datetime(2023, 1, 1, tzinfo=UTC), finish=datetime(2023, 1, 2))),  # noqa: DTZ001 - as the merchant's clock
            b'{"dateRange":{"start":"2023-01-01T00:00:00Z","finish":"2023-01-02T00:00:00"}}',
        ),
        ({"a": "x", "b": None, "c": Localization(text="y"), "d": UNSET}, b'{"a":"x","b":null,"c":{"text":"y"}}'),
        (MappingProxyType({"a": ("b", SourceType.OTHER)}), b'{"a":["b","Other"]}'),
        ([date(2023, 1, 2), UUID(int=7)], b'["2023-01-02","00000000-0000-0000-0000-000000000007"]'),
        ([Decimal("1.10"), Decimal("1E+3"), 2**70, -(2**70), 1.5], None),
        (datetime(2023, 1, 1, 1, tzinfo=timezone(timedelta(hours=-5))), b'"2023-01-01T01:00:00-05:00"'),
        ({"empty": ()}, b'{"empty":[]}'),
    ],
)  # fmt: skip
def test_values_are_written_as_codat_takes_them(value: object, body: bytes | None) -> None:
    assert encode(value) == (body or b"[1.10,1E+3,1180591620717411303424,-1180591620717411303424,1.5]")


@all_cases("number", [float("nan"), float("inf"), Decimal("NaN"), Decimal("-Infinity")])
def test_numbers_that_are_none_are_refused(number: object) -> None:
    with pytest.raises(ValueError, match="no NaN"):
        encode({"a": [number]})


@all_cases("value", [{1: "a"}, [UNSET], object(), {"a": "\ud800"}, b"bytes", {"a": {1, 2}}])
def test_values_that_json_cannot_represent_are_refused(value: object) -> None:
    with pytest.raises(TypeError):
        encode(value)


class Plain(Enum):
    ONE = 1


def test_enumerations_are_written_by_their_values() -> None:
    assert encode([Plain.ONE, WriteType("any"), WriteType.CREATE]) == b'[1,"any","Create"]'


def test_the_address_of_the_sync_flow_is_not_shown() -> None:
    flow = decode(b'{"url":"https://flow.example/start?otp=123456"}', SyncFlowUrl)
    assert flow.url == "https://flow.example/start?otp=123456"
    assert "123456" not in repr(flow)


def test_requests_are_read_too() -> None:
    assert decode(b"{}", UpdateConnection).status is UNSET
    assert decode(b'{"status":null}', UpdateConnection).status is None
    assert decode(b'{"status":"Unlinked"}', UpdateConnection).status is ConnectionStatus.UNLINKED
    assert decode(b'{"name":"Dave","description":"x"}', CreateCompany) == CreateCompany(name="Dave", description="x")


def test_an_error_is_read_with_all_that_codat_reports() -> None:
    body = {
        "statusCode": 400,
        "service": "PublicApi",
        "error": "No such name.",
        "correlationId": "c-1",
        "validation": {"errors": [{"itemId": "i", "message": "m", "validatorName": "v"}], "warnings": None},
        "canBeRetried": "False",
        "detailedErrorCode": 7,
        "more": True,
    }
    assert error_message(orjson.dumps(body)) == ErrorMessage(
        status_code=400,
        service="PublicApi",
        error="No such name.",
        correlation_id="c-1",
        validation=ErrorValidation(errors=(ErrorValidationItem(item_id="i", message="m", validator_name="v"),)),
        can_be_retried="False",
        detailed_error_code=7,
    )


@all_cases(
    "body", [b"", b"<html>", b"null", b"[]", b'"x"', b"{}", b'{"message":"of a gateway"}', b'{"error":7}', b"\xff"]
)
def test_a_body_that_is_not_an_error_message_of_codat_is_none(body: bytes) -> None:
    assert error_message(body) is None


def test_an_error_loses_only_what_is_of_a_wrong_kind() -> None:
    body = b'{"statusCode":"400","error":"x","validation":{"errors":[7,{"message":"m","itemId":7}],"warnings":"w"}}'
    assert error_message(body) == ErrorMessage(
        error="x", validation=ErrorValidation(errors=(ErrorValidationItem(message="m"),))
    )


@given(st.binary(max_size=40) | JSON.map(orjson.dumps))
def test_no_bytes_keep_an_error_from_being_reported(body: bytes) -> None:
    message = error_message(body)
    assert message is None or message != ErrorMessage()


ERROR_KEYS = ["statusCode", "service", "error", "correlationId", "validation", "canBeRetried", "detailedErrorCode"]


@given(st.dictionaries(st.sampled_from(ERROR_KEYS), JSON | st.just({"errors": [{}]})))
def test_an_error_of_any_shape_is_reported(body: dict[str, object]) -> None:
    message = error_message(orjson.dumps(body))
    assert message is None or message.error == (body.get("error") if isinstance(body.get("error"), str) else None)


def test_reading_makes_nothing_grow() -> None:
    before = len(ConnectionStatus._value2member_map_)
    for number in range(100):
        decode(orjson.dumps({"id": "a", "status": f"New{number}"}), Connection)
    assert len(ConnectionStatus._value2member_map_) == before


HALVES = [b'"Caf\\ud83d"', b'"\\ud83d\\ud83d"', b'"\\ude00\\ud83d"', b'"\xed\xa0\xbd"', b'{"a\\ud83d": ["\\udfff"]}']


@all_cases("half", HALVES)
def test_half_a_pair_is_replaced_and_the_rest_is_read(half: bytes) -> None:
    read = decode(b'{"connectionInfo": {"x": %b}, "id": "c", "platformName": "\\ud83d\\ude00"}' % half, Connection)
    assert (read.id, read.platform_name) == ("c", "\N{GRINNING FACE}")
    assert "\ufffd" in repr(read.connection_info)
    encode(read)


@pytest.mark.parametrize("kind", [Connection, Configuration, Company])
def test_one_bad_name_does_not_invalidate_its_object(kind: type[object]) -> None:
    decode(b'{"id": "c", "companyId": "c", "more": "Caf\\ud83d"}', kind)


def test_half_a_pair_in_a_configuration_is_written_back_as_what_it_was_read_as() -> None:
    body = b'{"companyId":"c","new":{"name":"Caf\\ud83d","amount":123456789012345678901234567890,"none":NaN}}'
    read = decode(body, Configuration)
    assert json.loads(encode(read)) == {
        "companyId": "c",
        "new": {"name": "Caf\ufffd", "amount": 123456789012345678901234567890, "none": None},
    }


@all_cases("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
def test_a_number_that_json_does_not_have_is_nothing(number: bytes) -> None:
    assert decode(b"[1, %b]" % number, object) == [1, None]


@pytest.mark.parametrize("body", [b'{"error": "Caf\\ud83d"}', '\ufeff{"error": "Caf\\ud83d"}'.encode()])
def test_an_error_with_half_a_pair_is_reported(body: bytes) -> None:
    assert error_message(body) == ErrorMessage(error="Caf\ufffd")


ANY_TEXT = st.text(st.characters(), max_size=8)
WILD = st.recursive(
    st.floats() | st.integers() | st.booleans() | st.none() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=12,
)


@given(st.builds(json.dumps, WILD, ensure_ascii=st.booleans()))
def test_json_that_the_standard_library_parses_is_parsed(text: str) -> None:
    encode(decode(text.encode(errors="surrogatepass"), object))
