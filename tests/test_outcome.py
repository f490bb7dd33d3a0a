"""The report of a fan-out, and when to stop it."""

import json
from datetime import UTC, datetime

import pytest
from attrs import evolve

from codat_commerce_async.errors import CodatError, NotFoundError, OutcomeUnknownError, SyncWaitTimeoutError
from codat_commerce_async.models.call import Attempt, Call
from codat_commerce_async.models.error_message import ErrorMessage
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.models.sync import SyncStatus
from codat_commerce_async.syncing.outcome import (
    RunReport,
    SyncOutcome,
    stop_at_failure_rate,
    stop_at_first_failure,
)
from codat_commerce_async.syncing.request import SyncRequest
from tests.support.cases import all_cases


def outcome(code: int | None) -> SyncOutcome:
    return SyncOutcome(
        request=SyncRequest(company_id="a company"),
        handle=SyncHandle(company_id="a company"),
        status=SyncStatus(sync_status_code=code) if code is not None else None,
        error=None,
        polls=1,
        elapsed=1.0,
    )


@all_cases(("code", "ok"), [(2000, True), (2040, True), (5000, False), (1000, False), (None, False)])
def test_only_a_sync_that_ended_well_is_ok(code: int | None, ok: bool) -> None:  # noqa: FBT001 - a case's value
    assert outcome(code).ok is ok
    assert outcome(code).company_id == "a company"


def test_an_ended_entry_has_an_outcome() -> None:
    report = RunReport(started=9, running=3, succeeded=3, failed=2, errors=1, duplicates=5, resumed=4, polls=20)
    assert report.completed == 6


def test_a_report_is_one_line() -> None:
    report = RunReport(
        running=3, succeeded=3, failed=2, errors=1, duplicates=5, already_finished=7, polls=9, elapsed=61
    )
    assert str(report) == (
        "6 ended (3 succeeded, 2 failed, 1 errors), 3 running, 5 duplicates, 7 finished before, 9 polls in 61 s"
    )
    assert "7 finished before (4 failed), 9 polls" in str(evolve(report, already_failed=4))


@pytest.mark.parametrize(("failed", "errors", "stops"), [(0, 0, False), (1, 0, True), (0, 1, True)])
def test_the_first_failure_stops(failed: int, errors: int, stops: bool) -> None:  # noqa: FBT001 - a case's value
    assert stop_at_first_failure(RunReport(succeeded=9, failed=failed, errors=errors)) is stops


@all_cases(
    ("succeeded", "failed", "errors", "stops"),
    [(0, 9, 0, False), (8, 1, 1, False), (7, 2, 1, True), (0, 10, 0, True), (80, 20, 0, False), (79, 20, 1, True)],
)
def test_a_rate_stops_when_it_is_exceeded_by_enough_of_them(
    succeeded: int,
    failed: int,
    errors: int,
    stops: bool,  # noqa: FBT001 - a case's value
) -> None:
    stop = stop_at_failure_rate(0.2, after=10)
    assert stop(RunReport(succeeded=succeeded, failed=failed, errors=errors)) is stops


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_rate_is_a_share(share: float) -> None:
    with pytest.raises(ValueError, match="share must be between 0 and 1"):
        stop_at_failure_rate(share)


NOON = datetime(2024, 1, 2, 12, tzinfo=UTC)
HANDLE = SyncHandle(company_id="a company", sync_id="a sync", requested_at=NOON)
ATTEMPT = Attempt(number=1, started_at=NOON, quota_wait=0.5, elapsed=1.5, status=404, result="404")
CALL = Call(operation="request-sync", method="POST", path="/x", idempotency_key="k", attempts=(ATTEMPT,))
STATUS = SyncStatus(sync_id="a sync", sync_status_code=2000, sync_utc=NOON, error_message="none")
REQUEST = SyncRequest(company_id="a company", start=NOON, finish=NOON)


def test_an_outcome_with_a_status_survives_json() -> None:
    whole = SyncOutcome(
        request=REQUEST, handle=HANDLE, status=STATUS, error=None, polls=3, elapsed=2.5, ticket_id="a ticket"
    )
    assert SyncOutcome.from_json(whole.to_json()) == whole
    assert SyncOutcome.from_json(json.dumps({**json.loads(whole.to_json()), "later": [1]})) == whole


@all_cases(
    "error",
    [
        CodatError("broken"),
        NotFoundError("unknown", CALL, 404, ErrorMessage(error="no", correlation_id="id"), 1.5),
        OutcomeUnknownError("unknown", CALL, NOON, "id", HANDLE, ("a", "b")),
        SyncWaitTimeoutError("late", HANDLE, STATUS, 3.5, 4),
    ],
)
def test_the_error_of_an_outcome_survives_json(error: CodatError) -> None:
    whole = SyncOutcome(request=REQUEST, handle=None, status=None, error=error, polls=0, elapsed=1.0)
    read = SyncOutcome.from_json(whole.to_json()).error
    assert type(read) is type(error)
    assert vars(read) == vars(error)


def test_an_error_of_a_later_version_keeps_its_message() -> None:
    fields = json.loads(outcome(None).to_json())
    for later in ({"type": "LaterError", "args": ["broken"]}, {"type": "DecodeError", "args": ["broken", *range(9)]}):
        error = SyncOutcome.from_json(json.dumps({**fields, "error": later})).error
        assert str(error) == "broken"


@all_cases(
    ("change", "message"),
    [
        ({"version": 2}, "version of an outcome must be 1 (got 2)"),
        ({"polls": "3"}, "polls of an outcome must be an integer (got str)"),
        ({"request": None}, "request of an outcome must be an object (got NoneType)"),
        (
            {"request": {"company_id": "c", "sync_to": "soon"}},
            "sync_to of a sync request must be a time in ISO 8601 format (got 'soon')",
        ),
    ],
)
def test_another_text_is_not_an_outcome(change: dict[str, object], message: str) -> None:
    fields = json.loads(outcome(2000).to_json())
    with pytest.raises(ValueError, match=r"^an outcome must be JSON$"):
        SyncOutcome.from_json("{")
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - compared below
        SyncOutcome.from_json(json.dumps({**fields, **change}))
    assert str(caught.value) == message
