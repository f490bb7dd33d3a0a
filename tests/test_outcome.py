"""What comes of a fan-out, in counts and in words, and when to stop it."""

import pytest

from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.models.sync import SyncStatus
from codat_commerce_async.syncing.outcome import (
    RunReport,
    SyncOutcome,
    stop_at_failure_rate,
    stop_at_first_failure,
)
from codat_commerce_async.syncing.request import SyncRequest


def outcome(code: int | None) -> SyncOutcome:
    return SyncOutcome(
        request=SyncRequest(company_id="a company"),
        handle=SyncHandle(company_id="a company"),
        status=SyncStatus(sync_status_code=code) if code is not None else None,
        error=None,
        polls=1,
        elapsed=1.0,
    )


@pytest.mark.parametrize(("code", "ok"), [(2000, True), (2040, True), (5000, False), (1000, False), (None, False)])
def test_only_a_sync_that_ended_well_is_ok(code: int | None, ok: bool) -> None:  # noqa: FBT001 - a case's value
    assert outcome(code).ok is ok
    assert outcome(code).company_id == "a company"


def test_what_ended_is_what_has_an_outcome() -> None:
    report = RunReport(started=9, running=3, succeeded=3, failed=2, errors=1, duplicates=5, resumed=4, polls=20)
    assert report.completed == 6


def test_a_report_is_one_line() -> None:
    report = RunReport(
        running=3, succeeded=3, failed=2, errors=1, duplicates=5, already_finished=7, polls=9, elapsed=61
    )
    assert str(report) == (
        "6 ended (3 succeeded, 2 failed, 1 errors), 3 running, 5 duplicates, 7 finished before, 9 polls in 61 s"
    )


@pytest.mark.parametrize(("failed", "errors", "stops"), [(0, 0, False), (1, 0, True), (0, 1, True)])
def test_the_first_failure_stops(failed: int, errors: int, stops: bool) -> None:  # noqa: FBT001 - a case's value
    assert stop_at_first_failure(RunReport(succeeded=9, failed=failed, errors=errors)) is stops


@pytest.mark.parametrize(
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
