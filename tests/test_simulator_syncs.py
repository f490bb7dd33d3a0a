"""How syncs start, run and end in the simulator, and which of them an endpoint speaks of."""

import random
from typing import Any

import pytest

from codat_commerce_async.simulator import ScriptedSync
from tests.support.simulated import NOON, Side

DAY = 86_400.0


def linked(**options: Any) -> tuple[Side, str]:
    side = Side(**options)
    return side, side.simulator.add_linked_company()


def test_a_sync_has_two_ids_and_each_response_its_own_of_them() -> None:
    side, company_id = linked()
    summary, latest, status = side.request_sync(company_id), side.look(company_id), side.status(company_id)
    assert "syncId" not in summary
    assert "commerceSyncId" not in latest
    assert (status["commerceSyncId"], status["syncId"]) == (summary["commerceSyncId"], latest["syncId"])
    assert status["syncId"] != status["commerceSyncId"]


def test_the_commerce_id_is_a_404_by_default_and_works_where_it_is_enabled() -> None:
    side, company_id = linked()
    commerce_id = side.request_sync(company_id)["commerceSyncId"]
    side.refusal("GET", f"/companies/{company_id}/sync/commerce/syncs/{commerce_id}/status", status=404)
    side, company_id = linked(find_by_commerce_id=True)
    commerce_id = side.request_sync(company_id)["commerceSyncId"]
    assert side.look(company_id, commerce_id)["syncId"] == side.status(company_id)["syncId"]


def test_another_companys_sync_is_a_404() -> None:
    side, company_id = linked()
    other_id = side.simulator.add_linked_company()
    side.request_sync(company_id)
    sync_id = side.look(company_id)["syncId"]
    side.refusal("GET", f"/companies/{other_id}/sync/commerce/syncs/{sync_id}/status", status=404)


def test_codes_go_from_1000_over_1010_after_ten_minutes_to_the_end() -> None:
    side, company_id = linked()
    side.simulator.script_sync(company_id, ScriptedSync(5130, duration=900))
    assert side.request_sync(company_id)["syncStatusCode"] == 1000
    seen = {}
    for at in (0, 599, 600, 899, 900, 901):
        side.wall = NOON + at
        seen[at] = side.look(company_id)["syncStatusCode"]
    assert seen == {0: 1000, 599: 1000, 600: 1010, 899: 1010, 900: 5130, 901: 5130}


def test_an_ended_sync_reports_how_it_went() -> None:
    side, company_id = linked()
    side.simulator.script_sync(company_id, ScriptedSync(5130, duration=90, message="No such account."))
    side.request_sync(company_id)
    assert (side.look(company_id)["errorMessage"], side.look(company_id)["dataPushed"]) == ("", False)
    side.wait(90)
    assert side.look(company_id) == {
        "companyId": company_id,
        "syncId": side.simulator.syncs(company_id)[0].sync_id,
        "syncStatusCode": 5130,
        "syncStatus": "PushError",
        "errorMessage": "No such account.",
        "syncExceptionMessage": "No such account.",
        "syncUtc": "2023-11-15T12:00:00.0000000Z",
        "dataPushed": False,
    }


def test_times_carry_seven_fractional_digits() -> None:
    side, company_id = linked(start=NOON + 0.25)
    assert side.request_sync(company_id)["syncUtc"] == "2023-11-15T12:00:00.2500000Z"


def test_scripted_outcomes_are_used_up_in_order() -> None:
    side, company_id = linked()
    side.simulator.script_sync(company_id, 4260, ScriptedSync(4200, duration=5), ScriptedSync.never_ends())
    codes = []
    for _ in range(3):
        side.request_sync(company_id)
        side.wait(130)
        codes.append(side.look(company_id)["syncStatusCode"])
    side.wait(DAY * 365)
    assert [*codes, side.look(company_id)["syncStatusCode"]] == [4260, 4200, 1000, 1010]


def test_a_sync_of_a_code_that_nobody_documented_ends_with_it() -> None:
    side, company_id = linked()
    side.simulator.script_sync(company_id, ScriptedSync(3999, duration=1))
    side.request_sync(company_id)
    side.wait(1)
    assert (side.look(company_id)["syncStatusCode"], side.look(company_id)["syncStatus"]) == (3999, "Unknown")


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        ([], 4000),
        ([("fztf", "Linked")], 4000),
        ([("gbol", "Linked")], 4000),
        ([("fztf", "Linked"), ("gbol", "PendingAuth")], 4000),
        ([("fztf", "Linked"), ("gbol", "Unlinked")], 4000),
        ([("fztf", "Linked"), ("gbol", "Deauthorized")], 4220),
        ([("fztf", "Linked"), ("gbol", "Linked")], 2000),
    ],
)
def test_a_sync_needs_one_linked_connection_of_either_side(statuses: list[tuple[str, str]], code: int) -> None:
    side = Side(outcomes={2000: 1})
    company_id = side.simulator.add_company()
    for key, status in statuses:
        side.simulator.add_connection(company_id, key, status=status)
    assert side.request_sync(company_id)["syncStatusCode"] == 1000
    side.wait(200)
    assert side.look(company_id)["syncStatusCode"] == code


def test_a_disabled_configuration_ends_a_sync_with_4000() -> None:
    side, company_id = linked()
    side.simulator.set_configuration(company_id, {"enable": False})
    side.request_sync(company_id)
    side.wait(1)
    assert side.look(company_id)["syncStatusCode"] == 4000


def test_a_sync_begins_where_the_last_successful_one_stopped() -> None:
    side, company_id = linked()
    side.simulator.set_configuration(company_id, {"schedule": {"startDate": "2023-01-01"}})
    side.simulator.script_sync(company_id, ScriptedSync(2000, duration=10), ScriptedSync(5000, duration=10))
    periods = []
    for _ in range(3):
        periods.append(side.request_sync(company_id)["syncDateRangeUtc"])
        side.wait(3600)
    starts, finishes = [one["start"][:13] for one in periods], [one["finish"][:13] for one in periods]
    assert starts == ["2023-01-01T00", "2023-11-15T12", "2023-11-15T12"]
    assert finishes == ["2023-11-15T12", "2023-11-15T13", "2023-11-15T14"]


def test_without_a_start_date_the_first_sync_reaches_thirty_days_back() -> None:
    side, company_id = linked()
    assert side.request_sync(company_id)["syncDateRangeUtc"]["start"] == "2023-10-16T12:00:00.0000000Z"


def test_a_sync_up_to_a_date_stops_there() -> None:
    side, company_id = linked()
    for to in ("2023-11-01T00:00:00", "2023-11-01T01:00:00+01:00", "2023-11-01", "2023-11-01T00:00:00.0000000Z"):
        side.simulator.script_sync(company_id, 5000)
        assert side.request_sync(company_id, {"syncTo": to})["syncDateRangeUtc"]["finish"] == (
            "2023-11-01T00:00:00.0000000Z"
        )
    assert side.request_sync(company_id, {"syncTo": None})["syncDateRangeUtc"]["finish"][:10] == "2023-11-15"


def test_nothing_to_write_since_the_last_sync_is_a_2040() -> None:
    side, company_id = linked(outcomes={2000: 1})
    side.request_sync(company_id)
    side.wait(200)
    side.request_sync(company_id, {"syncTo": "2023-11-01"})
    side.wait(1)
    assert side.look(company_id)["syncStatusCode"] == 2040


@pytest.mark.parametrize("body", [{"syncTo": 7}, {"syncTo": "soon"}, [], {"syncTo": "2023-13-01"}])
def test_a_sync_up_to_no_date_is_a_400_and_starts_nothing(body: Any) -> None:
    side, company_id = linked()
    side.refusal("POST", f"/companies/{company_id}/sync/commerce/latest", body, status=400)
    assert side.simulator.syncs_started(company_id) == 0


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"dateRange": None},
        {"dateRange": {"start": "2023-01-01"}},
        {"dateRange": {"start": "2023-01-01", "end": "2023-01-02"}},
        {"dateRange": {"start": "2023-01-02", "finish": "2023-01-01"}},
        {"dateRange": {"start": "2023-01-01", "finish": "2023-01-01"}},
        {"dateRange": {"start": "0001-01-01T00:00:00+14:00", "finish": "2023-01-01"}},
    ],
)
def test_a_range_that_is_none_is_a_400_and_starts_nothing(body: Any) -> None:
    side, company_id = linked()
    side.refusal("POST", f"/meta/companies/{company_id}/sync/commerce/historic", body, status=400)
    assert side.simulator.syncs_started(company_id) == 0


def test_the_calendars_first_and_last_instants_are_a_range() -> None:
    side, company_id = linked()
    period = side.request_range(company_id, "0001-01-01T00:00:00", "9999-12-31T23:59:59.9999999Z")["syncDateRangeUtc"]
    assert (period["start"][:10], period["finish"][:10]) == ("0001-01-01", "9999-12-31")


def test_a_range_that_was_synced_before_ends_with_5080() -> None:
    side, company_id = linked(outcomes={2000: 1})
    side.request_range(company_id, "2023-01-10", "2023-01-20")
    side.wait(200)
    codes = {}
    for start, finish in [("01", "10"), ("20", "25"), ("19", "21"), ("05", "30"), ("12", "13"), ("10", "20")]:
        side.request_range(company_id, f"2023-01-{start}", f"2023-01-{finish}")
        side.wait(200)
        last = side.look(company_id)
        codes[start, finish] = (last["syncStatusCode"], last["errorMessage"])
    overlaps = (5080, "Date overlaps with a previous sync date range")
    assert codes == {
        ("01", "10"): (2000, ""),
        ("20", "25"): (2000, ""),
        ("19", "21"): overlaps,
        ("05", "30"): overlaps,
        ("12", "13"): overlaps,
        ("10", "20"): overlaps,
    }


def test_the_range_of_a_failed_sync_is_free_again() -> None:
    side, company_id = linked(outcomes={2000: 1})
    side.simulator.script_sync(company_id, 5120)
    for _ in range(2):
        side.request_range(company_id, "2023-01-10", "2023-01-20")
        side.wait(200)
    assert [sync.final_code for sync in side.simulator.syncs(company_id)] == [5120, 2000]


def test_a_second_sync_while_one_runs_is_duplication() -> None:
    side, company_id = linked()
    side.simulator.script_sync(company_id, ScriptedSync(2000, duration=60))
    side.request_sync(company_id)
    side.wait(1)
    side.request_sync(company_id)
    side.wait(1)
    assert side.look(company_id)["syncStatusCode"] == 5080


def test_a_foreign_sync_becomes_the_newest_and_is_not_counted_as_requested() -> None:
    side, company_id = linked()
    side.simulator.script_sync(company_id, ScriptedSync(2000, duration=60))
    summary = side.request_sync(company_id)
    side.wait(1)
    foreign_id = side.simulator.start_external_sync(company_id, 5080)
    assert side.status(company_id)["syncId"] == foreign_id == side.look(company_id)["syncId"]
    assert side.status(company_id)["commerceSyncId"] != summary["commerceSyncId"]
    assert side.simulator.syncs_started(company_id) == 1
    assert [sync.source for sync in side.simulator.syncs(company_id)] == ["api", "external"]


def test_the_last_successful_sync_is_the_newest_that_went_well() -> None:
    side, company_id = linked()
    side.simulator.script_sync(
        company_id, ScriptedSync(2000, duration=1), ScriptedSync(2040, duration=1), ScriptedSync(5000, duration=1)
    )
    path = f"/companies/{company_id}/sync/commerce/syncs/lastSuccessful/status"
    side.refusal("GET", path, status=404)
    for _ in range(3):
        side.request_sync(company_id)
        side.wait(60)
    second = side.simulator.syncs(company_id)[1]
    assert side.ask("GET", path)["syncId"] == second.sync_id


def test_syncs_are_listed_newest_first() -> None:
    side, company_id = linked()
    assert side.look(company_id, "list") == []
    for _ in range(3):
        side.request_sync(company_id)
        side.wait(300)
    listed = [one["syncId"] for one in side.look(company_id, "list")]
    assert listed == [sync.sync_id for sync in reversed(side.simulator.syncs(company_id))]


def test_a_company_without_syncs_has_no_newest() -> None:
    side, company_id = linked()
    side.refusal("GET", f"/meta/companies/{company_id}/sync/commerce/status", status=404)
    side.refusal("GET", f"/companies/{company_id}/sync/commerce/syncs/latest/status", status=404)


def test_a_sync_is_seen_only_after_the_visibility_delay() -> None:
    side, company_id = linked(visibility_delay=3)
    side.request_sync(company_id)
    sync_id = side.simulator.syncs(company_id)[0].sync_id
    path = f"/companies/{company_id}/sync/commerce/syncs/{sync_id}/status"
    side.wait(2.9)
    side.refusal("GET", path, status=404)
    assert side.look(company_id, "list") == []
    side.wait(0.1)
    assert side.ask("GET", path)["syncId"] == sync_id


def test_during_the_visibility_delay_the_one_before_is_the_newest() -> None:
    side, company_id = linked(visibility_delay=3)
    side.request_sync(company_id)
    side.wait(300)
    side.request_sync(company_id)
    assert side.status(company_id)["syncId"] == side.simulator.syncs(company_id)[0].sync_id


def test_during_the_visibility_delay_the_last_success_is_the_one_before_too() -> None:
    side, company_id = linked(visibility_delay=3)
    side.simulator.script_sync(company_id, ScriptedSync(2000, duration=1), ScriptedSync(2000, duration=1))
    for _ in range(2):
        side.request_sync(company_id)
        side.wait(2)
    newest_but_one = side.simulator.syncs(company_id)[0].sync_id
    side.wait(0.9)
    assert side.look(company_id, "lastSuccessful")["syncId"] == newest_but_one
    side.wait(0.1)
    assert side.look(company_id, "lastSuccessful")["syncId"] == side.simulator.syncs(company_id)[1].sync_id


def test_connections_remember_when_they_were_synced() -> None:
    side, company_id = linked()
    side.simulator.script_sync(company_id, ScriptedSync(2000, duration=10))
    side.request_sync(company_id)
    side.wait(20)
    assert {one["lastSync"] for one in side.status(company_id)["dataConnections"]} == {"2023-11-15T12:00:10.0000000Z"}
    assert side.ask("GET", "/companies")["results"][0]["lastSync"] == "2023-11-15T12:00:10.0000000Z"


def test_a_sync_that_takes_no_time_is_over_in_its_own_response() -> None:
    side, company_id = linked()
    side.simulator.script_sync(company_id, ScriptedSync(2000, duration=0))
    assert side.request_sync(company_id)["syncStatusCode"] == 2000


def test_usual_durations_are_between_two_seconds_and_two_minutes() -> None:
    side = Side(quota=None)
    ended = []
    for _ in range(200):
        company_id = side.simulator.add_linked_company()
        side.request_sync(company_id)
        ended.append(side.simulator.syncs(company_id)[0].ends - NOON)
    assert 2 <= min(ended) < 10
    assert 30 < max(ended) <= 120


def test_durations_and_outcomes_can_be_chosen() -> None:
    def half_a_minute(_chance: random.Random) -> float:
        return 30

    side, company_id = linked(durations=half_a_minute, outcomes={5000: 1})
    side.request_sync(company_id)
    side.wait(29.9)
    assert side.look(company_id)["syncStatusCode"] == 1000
    side.wait(0.1)
    assert side.look(company_id)["syncStatusCode"] == 5000


def test_what_becomes_of_a_companys_sync_does_not_depend_on_other_companies() -> None:
    def fate(others: int) -> tuple[str, float, int]:
        side = Side(seed=3)
        company_id = side.simulator.add_linked_company(company_id="c")
        for number in range(others):
            side.request_sync(side.simulator.add_linked_company(company_id=f"other-{number}"))
        side.request_sync(company_id)
        (sync,) = side.simulator.syncs(company_id)
        return sync.sync_id, sync.ends, sync.final_code

    assert fate(0) == fate(20)


def test_speed_makes_simulated_time_run_faster() -> None:
    side, company_id = linked(speed=60)
    side.simulator.script_sync(company_id, ScriptedSync(2000, duration=600))
    side.request_sync(company_id)
    side.wait(9.9)
    assert side.look(company_id)["syncStatusCode"] == 1000
    side.wait(0.2)
    assert side.look(company_id)["syncStatusCode"] == 2000


def test_advancing_moves_the_simulated_time_and_the_date_header() -> None:
    side, company_id = linked()
    side.simulator.script_sync(company_id, ScriptedSync(2000, duration=600))
    side.request_sync(company_id)
    assert side.simulator.next_due() == NOON + 600
    side.simulator.advance(600)
    assert side.simulator.next_due() is None
    assert side.look(company_id)["syncStatusCode"] == 2000
    assert side.send("GET", "/companies").headers["Date"] == "Wed, 15 Nov 2023 12:10:00 GMT"


def test_running_syncs_can_be_brought_to_their_ends() -> None:
    side, company_id = linked()
    endless = side.simulator.add_linked_company()
    side.simulator.script_sync(company_id, ScriptedSync(2000, duration=7200.1))
    side.simulator.script_sync(endless, ScriptedSync.never_ends())
    for each in (company_id, endless):
        side.request_sync(each)
    before = side.simulator.now()
    side.simulator.finish_syncs()
    assert side.simulator.now() - before == pytest.approx(7200.1, abs=0.01)
    assert [side.look(each)["syncStatusCode"] for each in (company_id, endless)] == [2000, 1010]
    before = side.simulator.now()
    side.simulator.finish_syncs()
    assert side.simulator.now() == before


def test_daily_syncs_run_at_their_hour_and_only_where_they_are_wanted() -> None:
    side = Side(daily_schedule=True, durations=lambda _: 5.0)
    linked_id, bare_id = side.simulator.add_linked_company(), side.simulator.add_company()
    side.simulator.advance(3 * DAY)
    started = [(sync.started - NOON) / 3600 for sync in side.simulator.syncs(linked_id)]
    assert started == [14, 38, 62]
    assert {sync.source for sync in side.simulator.syncs(linked_id)} == {"schedule"}
    assert side.simulator.syncs(bare_id) == ()
    assert side.simulator.syncs_started(linked_id) == 0


def test_a_new_hour_holds_from_the_next_daily_sync_on_and_no_day_has_two() -> None:
    side = Side(daily_schedule=True, durations=lambda _: 5.0)
    company_id = side.simulator.add_linked_company()
    for hour in (20, 5, 5):
        configuration = {**side.simulator.configuration(company_id), "schedule": {"syncHour": hour}}
        side.ask("POST", f"/config/companies/{company_id}/sync/commerce", configuration)
        side.simulator.advance(DAY)
    started = [(sync.started - NOON) / 3600 for sync in side.simulator.syncs(company_id)]
    assert started == [8, 41, 65]


def test_without_a_daily_schedule_nothing_starts_by_itself() -> None:
    side, company_id = linked()
    side.simulator.advance(30 * DAY)
    assert side.simulator.syncs(company_id) == ()


def test_thirty_one_failed_days_in_a_row_switch_the_daily_sync_off() -> None:
    side = Side(daily_schedule=True, outcomes={5000: 1})
    company_id = side.simulator.add_linked_company()
    side.simulator.advance(20 * DAY)
    side.simulator.script_sync(company_id, 2000)
    side.simulator.advance(60 * DAY)
    assert len(side.simulator.syncs(company_id)) == 20 + 1 + 31
    assert side.simulator.configuration(company_id)["enable"] is False


def test_a_monthly_schedule_runs_on_the_first_of_the_month() -> None:
    side = Side(daily_schedule=True)
    company_id = side.simulator.add_linked_company()
    side.simulator.set_configuration(company_id, {"schedule": {"selectedFrequency": "Monthly", "syncHour": 6}})
    side.simulator.advance(60 * DAY)
    started = [sync.started for sync in side.simulator.syncs(company_id)]
    assert [(at - NOON + 12 * 3600) / DAY for at in started] == [16.25, 47.25]


def test_the_end_of_a_sync_leaves_events_that_are_hints() -> None:
    side, company_id = linked()
    side.simulator.script_sync(
        company_id, ScriptedSync(2000, duration=10), ScriptedSync(5130, duration=10), ScriptedSync(2040, duration=1)
    )
    side.simulator.take_events()
    for _ in range(3):
        side.request_sync(company_id)
        side.wait(60)
    events = side.simulator.take_events()
    assert [(event["eventType"], str(event["generatedDate"])[11:19]) for event in events] == [
        ("read.completed", "12:00:10"),
        ("journalEntries.write.successful", "12:00:10"),
        ("read.completed", "12:01:10"),
        ("journalEntries.write.unsuccessful", "12:01:10"),
    ]
    assert side.simulator.take_events() == ()


def test_thousands_of_syncs_end_when_they_are_next_polled() -> None:
    side = Side(quota=None, log_size=1)
    ids = [side.simulator.add_linked_company() for _ in range(2000)]
    for company_id in ids:
        side.simulator.start_external_sync(company_id, ScriptedSync(2000, duration=60))
    side.wait(3600)
    assert side.simulator.next_due() is None
    assert all(side.simulator.syncs(company_id)[0].code(side.wall) == 2000 for company_id in ids)


@pytest.mark.parametrize("duration", [-1.0, float("nan")])
def test_a_duration_that_is_none_is_refused(duration: float) -> None:
    with pytest.raises(ValueError, match="duration must"):
        ScriptedSync(2000, duration=duration)
