"""What a sync's status code means, by the table, by its thousands, or by the text where there is none."""

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codat_commerce_async.models.sync import (
    CompanySyncStatus,
    DateRange,
    SyncState,
    SyncStatus,
    SyncSummary,
    SyncToLatestArgs,
)
from codat_commerce_async.simulator._state.records import CODES
from tests.support.cases import all_cases

KINDS: list[Any] = [CompanySyncStatus, SyncStatus, SyncSummary]


STATES = {
    1000: (SyncState.IN_PROGRESS, "running"),
    1010: (SyncState.IN_PROGRESS_SLOW, "running"),
    1999: (SyncState.IN_PROGRESS, "running"),
    2000: (SyncState.SUCCEEDED, "succeeded"),
    2040: (SyncState.NOTHING_TO_WRITE, "succeeded"),
    2999: (SyncState.SUCCEEDED, "succeeded"),
    4000: (SyncState.CONFIGURATION_ERROR, "failed"),
    4040: (SyncState.COMPANY_UNAVAILABLE, "failed"),
    4200: (SyncState.OTHER_FAILURE, "failed"),
    4220: (SyncState.COMPANY_UNAVAILABLE, "failed"),
    4260: (SyncState.SUBSCRIPTION_LAPSED, "failed"),
    5000: (SyncState.SERVER_ERROR, "failed"),
    5080: (SyncState.DUPLICATE, "failed"),
    5120: (SyncState.DATA_PROCESSING_ERROR, "failed"),
    5130: (SyncState.DATA_WRITE_ERROR, "failed"),
    5999: (SyncState.OTHER_FAILURE, "failed"),
    0: (SyncState.UNKNOWN, "running"),
    3000: (SyncState.UNKNOWN, "running"),
    6000: (SyncState.UNKNOWN, "running"),
    20000: (SyncState.UNKNOWN, "running"),
    -4000: (SyncState.UNKNOWN, "running"),
}


@all_cases("kind", KINDS)
@all_cases("code", STATES)
def test_a_code_reports_how_the_sync_stands(kind: Any, code: int) -> None:
    outcome, state = STATES[code]
    status = kind(sync_status_code=code)
    assert status.state is outcome
    assert status.is_running == (state == "running")
    assert status.succeeded == (state == "succeeded")
    assert status.failed == (state == "failed")
    assert status.is_terminal == (state != "running")


def test_each_code_with_a_state_of_its_own_has_a_text_in_the_simulator_and_a_case_above() -> None:
    states = {code: SyncStatus(sync_status_code=code).state for code in range(1000, 6000)}
    own = {code for code, state in states.items() if state is not states[code // 1000 * 1000 + 999]}
    # 1000 and 2000 mean what all others of their thousand mean, and 4200 is in no table of Codat's.
    assert own == set(CODES) - {1000, 2000, 4200}
    assert own < set(STATES)


@given(st.integers())
def test_a_sync_runs_or_has_ended_one_way_or_the_other(code: int) -> None:
    status = CompanySyncStatus(sync_status_code=code)
    assert [status.is_running, status.succeeded, status.failed].count(True) == 1
    assert status.is_terminal != status.is_running


@all_cases(
    ("text", "outcome"),
    [
        ("Complete", SyncState.SUCCEEDED),
        ("success ", SyncState.SUCCEEDED),
        ("Started", SyncState.IN_PROGRESS),
        ("NotStarted", SyncState.IN_PROGRESS),
        ("Pushing", SyncState.IN_PROGRESS),
        ("PushError", SyncState.DATA_WRITE_ERROR),
        ("MapCoreError", SyncState.OTHER_FAILURE),
        ("ValidateError, Pending", SyncState.UNKNOWN),
        ("Incomplete", SyncState.UNKNOWN),
        ("", SyncState.UNKNOWN),
        (None, SyncState.UNKNOWN),
    ],
)
def test_without_a_code_an_unambiguous_text_decides(text: str | None, outcome: SyncState) -> None:
    assert CompanySyncStatus(sync_status=text).state is outcome


def test_a_code_outweighs_the_text() -> None:
    assert CompanySyncStatus(sync_status_code=1000, sync_status="Complete").is_running
    assert CompanySyncStatus(sync_status_code=2000, sync_status="PushError").succeeded
    assert CompanySyncStatus(sync_status_code=0, sync_status="Complete").is_running


@pytest.mark.parametrize("where", ["error_message", "sync_exception_message"])
def test_a_failure_for_an_overlap_is_a_duplicate(where: str) -> None:
    message = {where: "Oh: date overlaps with a previous sync Date Range."}
    assert CompanySyncStatus(sync_status_code=4000, **message).state is SyncState.DUPLICATE  # type: ignore[arg-type]
    assert CompanySyncStatus(sync_status_code=1000, **message).state is SyncState.IN_PROGRESS  # type: ignore[arg-type]
    assert CompanySyncStatus(sync_status_code=2000, **message).state is SyncState.SUCCEEDED  # type: ignore[arg-type]


@pytest.mark.parametrize("first", [0, 1])
def test_periods_compare_by_the_moments_they_name_also_where_a_clock_change_repeats_an_hour(first: int) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    early, late = (datetime(2024, 10, 27, 2, 30, tzinfo=berlin, fold=fold) for fold in (first, 1 - first))
    finish = datetime(2024, 11, 1, tzinfo=UTC)
    assert DateRange(start=early, finish=finish) != DateRange(start=late, finish=finish)
    assert SyncToLatestArgs(sync_to=early) != SyncToLatestArgs(sync_to=late)
    same = DateRange(start=early.astimezone(UTC), finish=finish)
    assert (DateRange(start=early, finish=finish), hash(DateRange(start=early, finish=finish))) == (same, hash(same))


def test_a_time_without_a_zone_stays_as_it_is_in_a_period() -> None:
    naive = datetime(2023, 1, 2)  # noqa: DTZ001 - as the merchant's clock
    assert DateRange(start=naive, finish=naive).start == naive
