"""What follows from each error is declared by its class."""

from codat_commerce_async import errors
from codat_commerce_async.errors import (
    BadRequestError,
    CodatError,
    StatusError,
    TransportError,
    error_class,
    is_retryable_status,
    status_error_class,
)
from codat_commerce_async.models.error_message import ErrorMessage
from tests.support.cases import all_cases

# retryable, ambiguous, fatal_for_run
NATURES: dict[str, tuple[bool, bool, bool]] = {
    "CodatError": (False, False, False),
    "TransportError": (False, False, False),  # the instance has values of its own
    "RequestTimeoutError": (False, False, False),  # likewise
    "StatusError": (False, False, False),
    "BadRequestError": (False, False, False),
    "AuthenticationError": (False, False, True),
    "PaymentRequiredError": (False, False, False),
    "PermissionDeniedError": (False, False, False),
    "NotFoundError": (False, False, False),
    "ConflictError": (True, False, False),
    "IdempotencyMismatchError": (False, False, False),
    "RateLimitError": (True, False, False),
    "ServerError": (True, True, False),
    "DecodeError": (False, True, False),
    "OutcomeUnknownError": (False, True, False),
    "QuotaExhaustedError": (True, False, False),
    "SyncFailedError": (False, False, False),
    "SyncWaitTimeoutError": (False, False, False),
    "JournalError": (False, False, True),
    "JournalInUseError": (False, False, True),
    "SharedQuotaError": (False, False, True),
    "DeliveryStoreError": (False, False, False),
    "ClientClosedError": (False, False, True),
    "WrongEventLoopError": (False, False, True),
    "WebhookVerificationError": (False, False, False),
}


def test_each_class_declares_its_nature() -> None:
    classes = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, CodatError)]
    assert {each.__name__: (each.retryable, each.ambiguous, each.fatal_for_run) for each in classes} == NATURES


@all_cases(("sent", "retryable"), [(True, True), (True, False), (False, True), (False, False)])
def test_a_transport_error_knows_whether_the_request_was_sent(*, sent: bool, retryable: bool) -> None:
    error = TransportError("lost", None, sent, retryable)
    assert (error.ambiguous, error.retryable) == (sent, retryable)


@all_cases(
    ("status", "retryable"),
    [
        *((status, False) for status in (302, 400, 401, 404, 418, 422)),
        *((status, True) for status in (408, 409, 421, 425, 429, 500, 503)),
    ],
)
def test_a_status_decides_whether_sending_again_can_help(status: int, *, retryable: bool) -> None:
    assert status_error_class(status)("no", None, status).retryable is retryable
    assert is_retryable_status(status) is retryable


@all_cases("status", [302, 400, 401, 402, 403, 404, 409, 418, 422, 429, 500])
@all_cases("has_error_body", [True, False])
def test_only_codats_own_refusals_of_a_request_are_conclusive(status: int, *, has_error_body: bool) -> None:
    words = ErrorMessage(status_code=status, error="no") if has_error_body else None
    error = status_error_class(status)("no", None, status, words)
    assert isinstance(error, StatusError)
    assert error.conclusive is (has_error_body and status in {400, 404, 422})


def test_a_class_is_found_by_its_name() -> None:
    assert error_class("BadRequestError") is BadRequestError
    for name in ("", "datetime", "COMPLETE", "NoSuchError"):
        assert error_class(name) is CodatError
