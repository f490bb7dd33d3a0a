"""Moments around a clock change, and at the ends of the calendar: compared, hashed, kept and sent in UTC."""

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.syncing.journal import read_journal
from codat_commerce_async.syncing.request import SyncRequest
from tests.support.fans import Codat
from tests.support.scripted import client_of, respond

ZONES = {
    "Europe/London": "2023-10-29T01:30",
    "America/New_York": "2023-11-05T01:30",
    "Australia/Lord_Howe": "2023-04-02T01:45",
}


def twice(zone: str) -> tuple[datetime, datetime]:
    """The first and the second time that the clocks of a zone show the same."""
    local = datetime.fromisoformat(ZONES[zone]).replace(tzinfo=ZoneInfo(zone))
    return local.replace(fold=0), local.replace(fold=1)


@pytest.mark.parametrize("zone", ZONES)
def test_two_moments_that_a_clock_shows_alike_are_two_requests(zone: str) -> None:
    first, second = twice(zone)
    one, other = (SyncRequest(company_id="c", sync_to=moment) for moment in (first, second))
    assert one != other
    assert len({one, other}) == 2
    assert one == SyncRequest(company_id="c", sync_to=first.astimezone(UTC))
    assert hash(one) == hash(SyncRequest(company_id="c", sync_to=first.astimezone(timezone(timedelta(hours=5)))))


@pytest.mark.parametrize("zone", ZONES)
def test_a_period_over_a_clock_change_runs_forward(zone: str) -> None:
    first, second = twice(zone)
    request = SyncRequest(company_id="c", start=first, finish=second)
    assert request.date_range == (first.astimezone(UTC), second.astimezone(UTC))
    with pytest.raises(ValueError, match="finish"):
        SyncRequest(company_id="c", start=second, finish=first)
    # By the wall clock, the second half-hour ends before it begins.
    SyncRequest(company_id="c", start=first + timedelta(minutes=10), finish=second)


@pytest.mark.virtual_time
@pytest.mark.parametrize("zone", ZONES)
async def test_both_half_hours_of_a_clock_change_are_synced_and_kept(zone: str, tmp_path: Path) -> None:
    codat = Codat(1)
    first, second = twice(zone)
    requests = [SyncRequest(company_id=codat.ids[0], sync_to=moment) for moment in (first, second, first)]
    async with codat.client() as client:
        async with client.sync.run_many(requests, journal=tmp_path / "journal") as run:
            outcomes = await run.results()
        async with client.sync.run_many(requests, journal=tmp_path / "journal") as again:
            assert await again.results() == []
    assert [outcome.request for outcome in outcomes] == requests[:2]
    assert run.report.duplicates == 1
    assert {entry.request for entry in read_journal(tmp_path / "journal")} == set(requests)


@pytest.mark.virtual_time
async def test_a_period_over_a_clock_change_is_sent_in_utc() -> None:
    first, second = twice("Europe/London")
    client, wire = client_of(respond(200, {"commerceSyncId": "s"}))
    handle = await client.sync.start("c", date_range=(first, second))
    await client.sync.request_for_date_range("c", start=first, finish=second)
    for sent in wire.sent:
        period = json.loads(sent.body or b"")["dateRange"]
        assert period == {"start": "2023-10-29T00:30:00Z", "finish": "2023-10-29T01:30:00Z"}
    assert handle.date_range == (first.astimezone(UTC), second.astimezone(UTC))
    assert SyncHandle.from_json(handle.to_json()) == handle


@pytest.mark.parametrize("name", ["requested_at", "sync_utc"])
def test_handles_of_two_moments_that_a_clock_shows_alike_differ(name: str) -> None:
    first, second = twice("Europe/London")
    assert SyncHandle(company_id="c", **{name: first}) != SyncHandle(company_id="c", **{name: second})  # type: ignore[arg-type]
    assert SyncHandle(company_id="c", date_range=(first, first)) != SyncHandle(
        company_id="c", date_range=(first, second)
    )


BEYOND = [
    datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))),
    datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
]


@pytest.mark.parametrize("moment", BEYOND)
def test_a_moment_beyond_the_calendar_in_utc_is_refused_by_name(moment: datetime) -> None:
    with pytest.raises(ValueError, match=r"sync_to must be .* calendar"):
        SyncRequest(company_id="c", sync_to=moment)
    with pytest.raises(ValueError, match="calendar"):
        SyncRequest(company_id="c", start=moment, finish=moment)
    with pytest.raises(ValueError, match=r"date_range.* must be .* calendar"):
        SyncHandle(company_id="c", date_range=(moment, moment))


@pytest.mark.virtual_time
async def test_the_ends_of_the_calendar_are_periods_like_others(tmp_path: Path) -> None:
    codat = Codat(1)
    ends = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
    request = SyncRequest(company_id=codat.ids[0], start=ends[0], finish=ends[1])
    async with codat.client() as client, client.sync.run_many([request], journal=tmp_path / "journal") as run:
        (outcome,) = await run.results()
    assert outcome.request == request
    (entry,) = read_journal(tmp_path / "journal")
    assert entry.request.date_range == ends
