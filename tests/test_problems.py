"""Every error has a response of your own API, and none contains what is no concern of its caller."""

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from codat_commerce_async import Problem, SyncHandle, SyncStatus, errors, problem
from codat_commerce_async.models.call import Call
from codat_commerce_async.models.error_message import ErrorMessage, ErrorValidation, ErrorValidationItem
from tests.support.cases import all_cases

KEY = "the-idempotency-key"
SECRET = "the-text-of-codat"
CALL = Call(operation="request-sync", method="POST", path="/x", idempotency_key=KEY)
HANDLE = SyncHandle(company_id="company", commerce_sync_id="sync", idempotency_key=KEY)
STATUS = SyncStatus(company_id="company", sync_status_code=5130)
BODY = ErrorMessage(
    error="no such",
    correlation_id="correlation",
    validation=ErrorValidation(errors=(ErrorValidationItem(item_id="syncTo", message="is in the future"),)),
)
RESET = datetime(2024, 1, 3, tzinfo=UTC)

# The arguments after the message, by class; and the status that the table of the design has for it.
ARGUMENTS: dict[type[errors.CodatError], tuple[Any, ...]] = {
    errors.StatusError: (CALL, 418, BODY),
    errors.SyncFailedError: (HANDLE, STATUS),
    errors.SyncWaitTimeoutError: (HANDLE, STATUS, 2.5, 3),
    errors.OutcomeUnknownError: (CALL, RESET, "correlation", HANDLE, ("a",)),
    errors.QuotaExhaustedError: (CALL, RESET, 3.2),
    errors.CodatError: (CALL,),
}
STATUSES = {
    "AuthenticationError": 500,
    "BadRequestError": 422,
    "ClientClosedError": 503,
    "CodatError": 500,
    "ConflictError": 409,
    "DecodeError": 502,
    "IdempotencyMismatchError": 409,
    "JournalError": 500,
    "JournalInUseError": 503,
    "NotFoundError": 404,
    "OutcomeUnknownError": 502,
    "PaymentRequiredError": 503,
    "PermissionDeniedError": 500,
    "QuotaExhaustedError": 503,
    "RateLimitError": 503,
    "RequestTimeoutError": 504,
    "ServerError": 502,
    "SharedQuotaError": 500,
    "DeliveryStoreError": 500,
    "StatusError": 502,
    "SyncFailedError": 409,
    "SyncWaitTimeoutError": 504,
    "TransportError": 502,
    "WebhookVerificationError": 401,
    "WrongEventLoopError": 500,
}


def tree(cls: type[errors.CodatError] = errors.CodatError) -> Iterator[type[errors.CodatError]]:
    yield cls
    for below in cls.__subclasses__():
        if below.__module__ == errors.__name__:
            yield from tree(below)


CLASSES = sorted(set(tree()), key=lambda cls: cls.__name__)


def made(cls: type[errors.CodatError], message: str = SECRET) -> errors.CodatError:
    arguments = next(ARGUMENTS[base] for base in cls.__mro__ if base in ARGUMENTS)
    return cls(message, *arguments)


@all_cases("cls", CLASSES)
def test_every_class_of_the_tree_has_a_response(cls: type[errors.CodatError]) -> None:
    found = problem(made(cls))
    assert found.status == STATUSES[cls.__name__]
    assert found.type.startswith("urn:codat-commerce-async:problem:")
    body = json.loads(json.dumps(found.to_dict()))
    assert body["status"] == found.status
    assert all(body[name] for name in ("type", "title", "detail"))
    assert KEY not in json.dumps(body)


@all_cases("cls", CLASSES)
def test_problems_of_the_service_itself_are_logged(
    cls: type[errors.CodatError], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.clear()
    found = problem(made(cls))
    messages = [(record.levelno, record.getMessage()) for record in caplog.records]
    assert messages == ([(logging.ERROR, f"{found.title}: {SECRET}")] if found.status == 500 else [])
    assert all(vars(record)["operation"] == made(cls).operation for record in caplog.records)


@pytest.mark.parametrize(
    ("sent", "detail"),
    [(False, "Codat could not be reached, so the request was not sent."), (True, "Codat sent no complete response.")],
)
def test_a_missing_response_is_explained_without_a_contradiction(detail: str, *, sent: bool) -> None:
    found = problem(errors.TransportError(SECRET, CALL, sent))
    assert (found.title, found.detail) == ("No response from Codat", detail)


def test_every_kind_of_problem_has_its_own_type() -> None:
    assert len({problem(made(cls)).type for cls in CLASSES}) == len(CLASSES)


@all_cases("cls", CLASSES)
def test_only_what_concerns_the_caller_is_reported(cls: type[errors.CodatError]) -> None:
    found = problem(made(cls))
    concerns_caller = found.status < 500 or cls is errors.SyncWaitTimeoutError
    assert (SECRET in json.dumps(found.to_dict())) == concerns_caller


@all_cases("cls", CLASSES)
def test_unavailable_is_sent_with_retry_after(cls: type[errors.CodatError]) -> None:
    found = problem(made(cls))
    assert ("Retry-After" in found.headers) == (found.status == 503)


@all_cases(
    ("seconds", "header"), [(0, "0"), (2.1, "3"), (-1.0, "60"), (float("nan"), "60"), (None, "60"), ("soon", "60")]
)
def test_retry_after_is_in_whole_seconds(seconds: Any, header: str) -> None:
    assert problem(errors.RateLimitError("", None, 429, None, seconds)).headers == {"Retry-After": header}


def test_the_extensions_report_what_can_be_done() -> None:
    assert problem(made(errors.BadRequestError)).extensions == {
        "correlation_id": "correlation",
        "validation_errors": [{"itemId": "syncTo", "message": "is in the future", "validatorName": None}],
    }
    assert problem(made(errors.QuotaExhaustedError)).extensions == {"reset_at": "2024-01-03T00:00:00+00:00"}
    for cls, code in ((errors.SyncFailedError, 5130), (errors.SyncWaitTimeoutError, 5130)):
        found = problem(made(cls)).extensions
        assert (found["sync_status_code"], found["sync_state"]) == (code, "data_write_error")
        assert SyncHandle.from_token(str(found["sync_token"]), str(found["company_id"])).commerce_sync_id == "sync"
    unknown = problem(made(errors.OutcomeUnknownError)).extensions
    assert (unknown["correlation_id"], unknown["company_id"]) == ("correlation", "company")


@all_cases("junk", [None, 7, ["x"], {"a": 1}, object(), "text"])
@all_cases("cls", CLASSES)
def test_an_error_that_was_rebuilt_from_json_has_a_response(cls: type[errors.CodatError], junk: Any) -> None:
    arguments = [junk] * (len(made(cls).args) - 1)
    assert json.dumps(problem(cls("message", *arguments)).to_dict())


def test_an_error_of_your_own_has_the_response_of_its_base() -> None:
    class OwnError(errors.NotFoundError):
        pass

    assert problem(OwnError("gone", None, 404)).status == 404


def test_another_exception_has_no_response() -> None:
    with pytest.raises(TypeError, match="CodatError"):
        problem(KeyError("x"))  # type: ignore[arg-type]


def test_members_of_the_problem_take_precedence_over_extensions() -> None:
    one = Problem(status=409, type="t", title="a", detail="b", extensions={"status": 1, "more": 2})
    assert one.to_dict() == {"status": 409, "type": "t", "title": "a", "detail": "b", "more": 2}
