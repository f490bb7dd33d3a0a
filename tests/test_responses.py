"""The message of an error for every kind of body."""

import json

from hypothesis import given
from hypothesis import strategies as st

from codat_commerce_async._core.credentials import Credentials
from codat_commerce_async._core.responses import error_from_response
from codat_commerce_async._core.transport import Response
from codat_commerce_async.errors import BadRequestError, ServerError, StatusError
from tests.support.cases import all_cases

NO_REASON = "no reason given"
KEY_HINT = "the API key is not accepted; pass a valid one as api_key (from_env: CODAT_API_KEY) or in auth_header"
ACCESS_HINT = "the API key may be outdated, or may not give access to this resource"
KEY = "aB3+dEfGhIjKlMnOpQrStUvWxYz0123456789"


def error_of(body: bytes, status: int = 400, kind: str = "application/json") -> StatusError:
    error = error_from_response(Response(status, {"Content-Type": kind}, body), Credentials(KEY, None), 0.0)
    assert error.message.isprintable()
    assert len(error.message) < 1500
    return error


def invalid(count: int) -> bytes:
    items = [
        {"itemId": f"item-{number}", "message": f"field {number} is required: {'x' * 60}", "validatorName": "v"}
        for number in range(count)
    ]
    body = {"statusCode": 400, "error": "Bad.", "correlationId": "id-1", "validation": {"errors": items}}
    return json.dumps(body).encode()


def test_seven_hundred_validation_errors_are_counted_and_all_kept() -> None:
    error = error_of(invalid(700))
    assert len(invalid(700)) > 80_000
    assert error.message.startswith("400 Bad Request: Bad.; 700 validation errors: field 0 is required")
    assert error.message.endswith("; ... (correlation id id-1)")
    assert error.correlation_id == "id-1"
    assert len(error.validation_errors) == 700


def test_one_validation_error_is_reported_whole() -> None:
    assert "Bad.; 1 validation error: field 0 is required" in error_of(invalid(1)).message


def test_validation_errors_alone_report_why() -> None:
    body = b'{"validation": {"errors": [{"validatorName": "NotNull"}, {"itemId": "x"}, {}]}}'
    assert error_of(body).message == "400 Bad Request: 3 validation errors: NotNull; x; ?"


@all_cases(
    ("body", "expected_detail"),
    [
        (
            b'{"type": "about:blank", "title": "Not valid", "status": 400, "detail": "No such date."}',
            "Not valid: No such date.",
        ),
        (b'{"title": "One or more", "errors": {"name": ["required"]}}', "One or more"),
        (b'{"message": "Forbidden"}', "Forbidden"),
        (b'"too many requests"', "too many requests"),
        (b"upstream connect error\r\nor disconnect", "upstream connect error  or disconnect"),
        (b"x" * 5000, "x" * 300 + "..."),
        ("caf\u00e9".encode(), "caf\u00e9"),
        (b'{"error": "Caf\\ud83d"}', "Caf\ufffd"),
    ],
)
def test_error_messages_of_other_services_are_reported(body: bytes, expected_detail: str) -> None:
    assert error_of(body).message == f"400 Bad Request: {expected_detail}"
    assert type(error_of(body)) is BadRequestError


@all_cases("body", [b"", b" ", b"<html>502", b"[1]", b"7", b"{}", b'{"error', b"\xff\xfe", b'{"title": " "}'])
def test_a_body_that_reports_nothing_is_not_shown(body: bytes) -> None:
    error = error_of(body, 502)
    assert error.message == "502 Bad Gateway: no reason given"
    assert type(error) is ServerError


@all_cases(
    ("status", "body", "message"),
    [
        (401, b'{"error": "Unauthorized"}', f"401 Unauthorized: {KEY_HINT}"),
        (
            401,
            b'{"error": "Key expired.", "correlationId": "id-1"}',
            f"401 Unauthorized: Key expired; {KEY_HINT} (correlation id id-1)",
        ),
        (401, b"", f"401 Unauthorized: {KEY_HINT}"),
        (403, b'{"message": "Forbidden"}', f"403 Forbidden: {ACCESS_HINT}"),
        (403, b'{"error": "No access."}', "403 Forbidden: No access."),
        (404, b'{"title": "Not Found", "detail": "not found."}', f"404 Not Found: {NO_REASON}"),
        (400, b'{"title": "Bad Request", "detail": "No such date."}', "400 Bad Request: No such date."),
        (400, b'{"title": "Not valid", "message": "Not valid."}', "400 Bad Request: Not valid"),
        (500, b"Internal Server Error", f"500 Internal Server Error: {NO_REASON}"),
    ],
)
def test_a_body_that_repeats_the_status_is_replaced_by_what_to_do(status: int, body: bytes, message: str) -> None:
    assert error_of(body, status).message == message


@all_cases("shape", ['{"title": "%s"}', '"%s"', "you sent %s", '{"error": "%s"}'])
@all_cases("padding", [0, 200_000])
def test_an_echoed_key_is_reported_in_no_shape(shape: str, padding: int) -> None:
    header = Credentials(KEY, None).header
    for echo in (KEY, header, header.replace("+", "\\u002b")):
        error = error_of((shape % echo + " " * padding).encode())
        assert "***" in error.message
        assert KEY[4:] not in error.message
        assert header[10:] not in error.message


@given(st.binary(max_size=80), st.sampled_from([302, 400, 404, 429, 500, 503]))
def test_any_body_makes_an_error_of_one_line(body: bytes, status: int) -> None:
    assert error_of(body, status).status == status
