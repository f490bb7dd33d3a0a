"""What a sync's status code means, by the table, by its thousands, or by the text where there is none."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codat_commerce_async.models import CompanySyncStatus, Outcome, SyncStatus, SyncSummary

KINDS: list[Any] = [CompanySyncStatus, SyncStatus, SyncSummary]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("code", "outcome", "state"),
    [
        (1000, Outcome.IN_PROGRESS, "running"),
        (1010, Outcome.IN_PROGRESS_SLOW, "running"),
        (1999, Outcome.IN_PROGRESS, "running"),
        (2000, Outcome.SUCCEEDED, "succeeded"),
        (2040, Outcome.NOTHING_TO_WRITE, "succeeded"),
        (2999, Outcome.SUCCEEDED, "succeeded"),
        (4000, Outcome.CONFIGURATION_ERROR, "failed"),
        (4040, Outcome.COMPANY_UNAVAILABLE, "failed"),
        (4200, Outcome.OTHER_FAILURE, "failed"),
        (4220, Outcome.COMPANY_UNAVAILABLE, "failed"),
        (4260, Outcome.SUBSCRIPTION_LAPSED, "failed"),
        (5000, Outcome.SERVER_ERROR, "failed"),
        (5080, Outcome.DUPLICATE, "failed"),
        (5120, Outcome.DATA_PROCESSING_ERROR, "failed"),
        (5130, Outcome.DATA_WRITE_ERROR, "failed"),
        (5999, Outcome.OTHER_FAILURE, "failed"),
        (0, Outcome.UNKNOWN, "running"),
        (3000, Outcome.UNKNOWN, "running"),
        (6000, Outcome.UNKNOWN, "running"),
        (20000, Outcome.UNKNOWN, "running"),
        (-4000, Outcome.UNKNOWN, "running"),
    ],
)
def test_a_code_says_how_the_sync_stands(kind: Any, code: int, outcome: Outcome, state: str) -> None:
    status = kind(sync_status_code=code)
    assert status.outcome is outcome
    assert status.is_running == (state == "running")
    assert status.succeeded == (state == "succeeded")
    assert status.failed == (state == "failed")
    assert status.is_terminal == (state != "running")


@given(st.integers())
def test_a_sync_runs_or_has_ended_one_way_or_the_other(code: int) -> None:
    status = CompanySyncStatus(sync_status_code=code)
    assert [status.is_running, status.succeeded, status.failed].count(True) == 1
    assert status.is_terminal != status.is_running


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("Complete", Outcome.SUCCEEDED),
        ("success ", Outcome.SUCCEEDED),
        ("Started", Outcome.IN_PROGRESS),
        ("NotStarted", Outcome.IN_PROGRESS),
        ("Pushing", Outcome.IN_PROGRESS),
        ("PushError", Outcome.DATA_WRITE_ERROR),
        ("MapCoreError", Outcome.OTHER_FAILURE),
        ("ValidateError, Pending", Outcome.UNKNOWN),
        ("Incomplete", Outcome.UNKNOWN),
        ("", Outcome.UNKNOWN),
        (None, Outcome.UNKNOWN),
    ],
)
def test_without_a_code_a_text_that_leaves_no_doubt_decides(text: str | None, outcome: Outcome) -> None:
    assert CompanySyncStatus(sync_status=text).outcome is outcome


def test_a_code_outweighs_the_text() -> None:
    assert CompanySyncStatus(sync_status_code=1000, sync_status="Complete").is_running
    assert CompanySyncStatus(sync_status_code=2000, sync_status="PushError").succeeded
    assert CompanySyncStatus(sync_status_code=0, sync_status="Complete").is_running


@pytest.mark.parametrize("where", ["error_message", "sync_exception_message"])
def test_a_failure_for_an_overlap_is_a_duplicate(where: str) -> None:
    message = {where: "Oh: date overlaps with a previous sync Date Range."}
    assert CompanySyncStatus(sync_status_code=4000, **message).outcome is Outcome.DUPLICATE  # type: ignore[arg-type]
    assert CompanySyncStatus(sync_status_code=1000, **message).outcome is Outcome.IN_PROGRESS  # type: ignore[arg-type]
    assert CompanySyncStatus(sync_status_code=2000, **message).outcome is Outcome.SUCCEEDED  # type: ignore[arg-type]
