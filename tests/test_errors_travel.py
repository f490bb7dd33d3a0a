"""Errors arrive with their message, their notes and no exception of their own, by pickle and by JSON."""

import copy
import json
import pickle
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from codat_commerce_async.errors import (
    CodatError,
    DecodeError,
    NotFoundError,
    OutcomeUnknownError,
    QuotaExhaustedError,
    RequestTimeoutError,
    StatusError,
    SyncFailedError,
    SyncWaitTimeoutError,
)
from codat_commerce_async.models.call import Call
from codat_commerce_async.models.error_message import ErrorMessage, ErrorValidation, ErrorValidationItem
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.models.sync import SyncStatus
from tests.support.cases import all_cases

CALL = Call(operation="request-sync", method="POST", path="/x", idempotency_key="k")
HANDLE = SyncHandle(company_id="c", commerce_sync_id="s", idempotency_key="k")
STATUS = SyncStatus(sync_status_code=5000, error_message="broken")
BODY = ErrorMessage(
    error="no such", correlation_id="id", validation=ErrorValidation(errors=(ErrorValidationItem(message="m"),))
)
NOON = datetime(2024, 1, 2, 12, tzinfo=UTC)


def all_classes(cls: type[CodatError] = CodatError) -> Iterator[type[CodatError]]:
    yield cls
    for below in cls.__subclasses__():
        yield from all_classes(below)


ARGUMENTS: tuple[tuple[type[CodatError], tuple[object, ...]], ...] = (
    (StatusError, (CALL, 404, BODY, 1.5, None)),
    (SyncFailedError, (HANDLE, STATUS)),
    (SyncWaitTimeoutError, (HANDLE, STATUS, 2.5, 3)),
    (OutcomeUnknownError, (CALL, NOON, "id", HANDLE, ("a", "b"))),
    (DecodeError, (CALL, "$.x", 200)),
    (QuotaExhaustedError, (CALL, NOON, 3.0)),
    (CodatError, (CALL,)),
)


def made(cls: type[CodatError]) -> CodatError:
    """One of the class, with everything that it can hold."""
    arguments: Any = next(arguments for base, arguments in ARGUMENTS if issubclass(cls, base))
    return cls("it broke", *arguments)


CLASSES = sorted(
    {cls for cls in all_classes() if cls.__module__ == CodatError.__module__}, key=lambda cls: cls.__name__
)


def read_everything(error: CodatError) -> None:
    for name in set(dir(error)) - set(dir(OSError)):
        getattr(error, name)


@all_cases("cls", CLASSES)
def test_a_pickled_error_keeps_its_notes_and_all_that_it_holds(cls: type[CodatError]) -> None:
    error = made(cls)
    error.add_note("a note")
    for arrived in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):  # noqa: S301 - ours
        assert type(arrived) is cls
        assert (str(arrived), arrived.args, arrived.__notes__) == (str(error), error.args, ["a note"])
        assert vars(arrived) == vars(error)


@all_cases("cls", CLASSES)
@all_cases("broken_down", [repr, str, lambda _: None, lambda _: {"operation": 7}, lambda _: 7])
def test_an_error_that_is_rebuilt_from_json_keeps_its_message(cls: type[CodatError], broken_down: object) -> None:
    assert callable(broken_down)
    error = made(cls)
    words = json.loads(json.dumps(error.args, default=broken_down))
    arrived = cls(*words)
    assert "it broke" in str(arrived)
    assert "it broke" in repr(arrived)
    assert arrived.message == "it broke"
    read_everything(arrived)
    assert "it broke" in str(pickle.loads(pickle.dumps(arrived)))  # noqa: S301 - ours


@all_cases("cls", CLASSES)
@all_cases("junk", [None, 7, ["x"], {"a": 1}, b"\xff", object(), "half a pair \ud83d"])
def test_arguments_of_any_type_can_be_shown(cls: type[CodatError], junk: object) -> None:
    arguments: list[Any] = [junk] * len(made(cls).args)
    error = cls(*arguments)
    assert str(error).isprintable()
    assert repr(error).startswith(f"{cls.__name__}(")
    read_everything(error)


class Unshowable:
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


def test_a_message_that_cannot_be_shown_is_named_by_its_type() -> None:
    assert "Unshowable" in str(CodatError(Unshowable()))  # type: ignore[arg-type]
    assert repr(CodatError("it broke", Unshowable())) == "CodatError('it broke')"  # type: ignore[arg-type]


def test_an_error_that_gets_its_call_is_rebuilt_with_it() -> None:
    for error in (
        SyncFailedError("it broke", HANDLE, STATUS),
        RequestTimeoutError("it broke"),
        NotFoundError("it broke", None, 404),
    ):
        arrived = pickle.loads(pickle.dumps(error.with_call(CALL)))  # noqa: S301 - ours
        assert (arrived.call, str(arrived)) == (CALL, "request-sync: it broke")
