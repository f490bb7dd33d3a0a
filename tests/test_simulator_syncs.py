"""How syncs start, run and end in the simulator, and which of them an endpoint speaks of."""

import random
from typing import Any

import pytest

from codat_commerce_async.simulator import ScriptedSync
from tests.support.cases import all_cases
from tests.support.simulated import NOON, SimulatedApi

DAY = 86_400.0


def linked(**options: Any) -> tuple[SimulatedApi, str]:
    api = SimulatedApi(**options)
    return api, api.simulator.add_linked_company()


def test_a_sync_has_two_ids_and_each_response_its_own_of_them() -> None:
    api, company_id = linked()
    summary, latest, status = api.request_sync(company_id), api.sync_status(company_id), api.status(company_id)
    assert "syncId" not in summary
    assert "commerceSyncId" not in latest
    assert (status["commerceSyncId"], status["syncId"]) == (summary["commerceSyncId"], latest["syncId"])
    assert status["syncId"] != status["commerceSyncId"]


def test_the_commerce_id_is_a_404_by_default_and_works_where_it_is_enabled() -> None:
    api, company_id = linked()
    commerce_id = api.request_sync(company_id)["commerceSyncId"]
    api.error("GET", f"/companies/{company_id}/sync/commerce/syncs/{commerce_id}/status", status=404)
    api, company_id = linked(find_by_commerce_id=True)
    commerce_id = api.request_sync(company_id)["commerceSyncId"]
    assert api.sync_status(company_id, commerce_id)["syncId"] == api.status(company_id)["syncId"]


def test_another_companys_sync_is_a_404() -> None:
    api, company_id = linked()
    other_id = api.simulator.add_linked_company()
    api.request_sync(company_id)
    sync_id = api.sync_status(company_id)["syncId"]
    api.error("GET", f"/companies/{other_id}/sync/commerce/syncs/{sync_id}/status", status=404)


def test_codes_go_from_1000_over_1010_after_ten_minutes_to_the_end() -> None:
    api, company_id = linked()
    api.simulator.script_sync(company_id, ScriptedSync(5130, duration=900))
    assert api.request_sync(company_id)["syncStatusCode"] == 1000
    seen = {}
    for at in (0, 599, 600, 899, 900, 901):
        api.wall = NOON + at
        seen[at] = api.sync_status(company_id)["syncStatusCode"]
    assert seen == {0: 1000, 599: 1000, 600: 1010, 899: 1010, 900: 5130, 901: 5130}


def test_an_ended_sync_reports_how_it_went() -> None:
    api, company_id = linked()
    api.simulator.script_sync(company_id, ScriptedSync(5130, duration=90, message="No such account."))
    api.request_sync(company_id)
    assert (api.sync_status(company_id)["errorMessage"], api.sync_status(company_id)["dataPushed"]) == ("", False)
    api.wait(90)
    assert api.sync_status(company_id) == {
        "companyId": company_id,
        "syncId": api.simulator.syncs(company_id)[0].sync_id,
        "syncStatusCode": 5130,
        "syncStatus": "PushError",
        "errorMessage": "No such account.",
        "syncExceptionMessage": "No such account.",
        "syncUtc": "2023-11-15T12:00:00.0000000Z",
        "dataPushed": False,
    }


def test_times_carry_seven_fractional_digits() -> None:
    api, company_id = linked(start=NOON + 0.25)
    assert api.request_sync(company_id)["syncUtc"] == "2023-11-15T12:00:00.2500000Z"


def test_scripted_outcomes_are_used_up_in_order() -> None:
    api, company_id = linked()
    api.simulator.script_sync(company_id, 4260, ScriptedSync(4200, duration=5), ScriptedSync.never_ends())
    codes = []
    for _ in range(3):
        api.request_sync(company_id)
        api.wait(130)
        codes.append(api.sync_status(company_id)["syncStatusCode"])
    api.wait(DAY * 365)
    assert [*codes, api.sync_status(company_id)["syncStatusCode"]] == [4260, 4200, 1000, 1010]


def test_a_sync_of_an_undocumented_code_ends_with_it() -> None:
    api, company_id = linked()
    api.simulator.script_sync(company_id, ScriptedSync(3999, duration=1))
    api.request_sync(company_id)
    api.wait(1)
    assert (api.sync_status(company_id)["syncStatusCode"], api.sync_status(company_id)["syncStatus"]) == (
        3999,
        "Unknown",
    )


@all_cases(
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
    api = SimulatedApi(outcomes={2000: 1})
    company_id = api.simulator.add_company()
    for key, status in statuses:
        api.simulator.add_connection(company_id, key, status=status)
    assert api.request_sync(company_id)["syncStatusCode"] == 1000
    api.wait(200)
    assert api.sync_status(company_id)["syncStatusCode"] == code


def test_a_disabled_configuration_ends_a_sync_with_4000() -> None:
    api, company_id = linked()
    api.simulator.set_configuration(company_id, {"enable": False})
    api.request_sync(company_id)
    api.wait(1)
    assert api.sync_status(company_id)["syncStatusCode"] == 4000


def test_a_sync_begins_where_the_last_successful_one_stopped() -> None:
    api, company_id = linked()
    api.simulator.set_configuration(company_id, {"schedule": {"startDate": "2023-01-01"}})
    api.simulator.script_sync(company_id, ScriptedSync(2000, duration=10), ScriptedSync(5000, duration=10))
    periods = []
    for _ in range(3):
        periods.append(api.request_sync(company_id)["syncDateRangeUtc"])
        api.wait(3600)
    starts, finishes = [one["start"][:13] for one in periods], [one["finish"][:13] for one in periods]
    assert starts == ["2023-01-01T00", "2023-11-15T12", "2023-11-15T12"]
    assert finishes == ["2023-11-15T12", "2023-11-15T13", "2023-11-15T14"]


def test_without_a_start_date_the_first_sync_reaches_thirty_days_back() -> None:
    api, company_id = linked()
    assert api.request_sync(company_id)["syncDateRangeUtc"]["start"] == "2023-10-16T12:00:00.0000000Z"


def test_a_sync_up_to_a_date_stops_there() -> None:
    api, company_id = linked()
    for to in ("2023-11-01T00:00:00", "2023-11-01T01:00:00+01:00", "2023-11-01", "2023-11-01T00:00:00.0000000Z"):
        api.simulator.script_sync(company_id, 5000)
        assert api.request_sync(company_id, {"syncTo": to})["syncDateRangeUtc"]["finish"] == (
            "2023-11-01T00:00:00.0000000Z"
        )
    assert api.request_sync(company_id, {"syncTo": None})["syncDateRangeUtc"]["finish"][:10] == "2023-11-15"


def test_nothing_to_write_since_the_last_sync_is_a_2040() -> None:
    api, company_id = linked(outcomes={2000: 1})
    api.request_sync(company_id)
    api.wait(200)
    api.request_sync(company_id, {"syncTo": "2023-11-01"})
    api.wait(1)
    assert api.sync_status(company_id)["syncStatusCode"] == 2040


@all_cases("body", [{"syncTo": 7}, {"syncTo": "soon"}, [], {"syncTo": "2023-13-01"}])
def test_a_sync_up_to_no_date_is_a_400_and_starts_nothing(body: Any) -> None:
    api, company_id = linked()
    api.error("POST", f"/companies/{company_id}/sync/commerce/latest", body, status=400)
    assert api.simulator.syncs_started(company_id) == 0


@all_cases(
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
    api, company_id = linked()
    api.error("POST", f"/meta/companies/{company_id}/sync/commerce/historic", body, status=400)
    assert api.simulator.syncs_started(company_id) == 0


def test_the_calendars_first_and_last_instants_are_a_range() -> None:
    api, company_id = linked()
    period = api.request_range(company_id, "0001-01-01T00:00:00", "9999-12-31T23:59:59.9999999Z")["syncDateRangeUtc"]
    assert (period["start"][:10], period["finish"][:10]) == ("0001-01-01", "9999-12-31")


def test_a_range_that_was_synced_before_ends_with_5080() -> None:
    api, company_id = linked(outcomes={2000: 1})
    api.request_range(company_id, "2023-01-10", "2023-01-20")
    api.wait(200)
    codes = {}
    for start, finish in [("01", "10"), ("20", "25"), ("19", "21"), ("05", "30"), ("12", "13"), ("10", "20")]:
        api.request_range(company_id, f"2023-01-{start}", f"2023-01-{finish}")
        api.wait(200)
        last = api.sync_status(company_id)
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
    api, company_id = linked(outcomes={2000: 1})
    api.simulator.script_sync(company_id, 5120)
    for _ in range(2):
        api.request_range(company_id, "2023-01-10", "2023-01-20")
        api.wait(200)
    assert [sync.final_code for sync in api.simulator.syncs(company_id)] == [5120, 2000]


def test_a_second_sync_while_one_runs_is_duplication() -> None:
    api, company_id = linked()
    api.simulator.script_sync(company_id, ScriptedSync(2000, duration=60))
    api.request_sync(company_id)
    api.wait(1)
    api.request_sync(company_id)
    api.wait(1)
    assert api.sync_status(company_id)["syncStatusCode"] == 5080


def test_a_foreign_sync_becomes_the_newest_and_is_not_counted_as_requested() -> None:
    api, company_id = linked()
    api.simulator.script_sync(company_id, ScriptedSync(2000, duration=60))
    summary = api.request_sync(company_id)
    api.wait(1)
    foreign_id = api.simulator.start_external_sync(company_id, 5080)
    assert api.status(company_id)["syncId"] == foreign_id == api.sync_status(company_id)["syncId"]
    assert api.status(company_id)["commerceSyncId"] != summary["commerceSyncId"]
    assert api.simulator.syncs_started(company_id) == 1
    assert [sync.source for sync in api.simulator.syncs(company_id)] == ["api", "external"]


def test_the_last_successful_sync_is_the_newest_that_went_well() -> None:
    api, company_id = linked()
    api.simulator.script_sync(
        company_id, ScriptedSync(2000, duration=1), ScriptedSync(2040, duration=1), ScriptedSync(5000, duration=1)
    )
    path = f"/companies/{company_id}/sync/commerce/syncs/lastSuccessful/status"
    api.error("GET", path, status=404)
    for _ in range(3):
        api.request_sync(company_id)
        api.wait(60)
    second = api.simulator.syncs(company_id)[1]
    assert api.request("GET", path)["syncId"] == second.sync_id


def test_syncs_are_listed_newest_first() -> None:
    api, company_id = linked()
    assert api.sync_status(company_id, "list") == []
    for _ in range(3):
        api.request_sync(company_id)
        api.wait(300)
    listed = [one["syncId"] for one in api.sync_status(company_id, "list")]
    assert listed == [sync.sync_id for sync in reversed(api.simulator.syncs(company_id))]


def test_a_company_without_syncs_has_no_newest() -> None:
    api, company_id = linked()
    api.error("GET", f"/meta/companies/{company_id}/sync/commerce/status", status=404)
    api.error("GET", f"/companies/{company_id}/sync/commerce/syncs/latest/status", status=404)


def test_a_sync_is_seen_only_after_the_visibility_delay() -> None:
    api, company_id = linked(visibility_delay=3)
    api.request_sync(company_id)
    sync_id = api.simulator.syncs(company_id)[0].sync_id
    path = f"/companies/{company_id}/sync/commerce/syncs/{sync_id}/status"
    api.wait(2.9)
    api.error("GET", path, status=404)
    assert api.sync_status(company_id, "list") == []
    api.wait(0.1)
    assert api.request("GET", path)["syncId"] == sync_id


def test_during_the_visibility_delay_the_one_before_is_the_newest() -> None:
    api, company_id = linked(visibility_delay=3)
    api.request_sync(company_id)
    api.wait(300)
    api.request_sync(company_id)
    assert api.status(company_id)["syncId"] == api.simulator.syncs(company_id)[0].sync_id


def test_during_the_visibility_delay_the_last_success_is_the_one_before_too() -> None:
    api, company_id = linked(visibility_delay=3)
    api.simulator.script_sync(company_id, ScriptedSync(2000, duration=1), ScriptedSync(2000, duration=1))
    for _ in range(2):
        api.request_sync(company_id)
        api.wait(2)
    newest_but_one = api.simulator.syncs(company_id)[0].sync_id
    api.wait(0.9)
    assert api.sync_status(company_id, "lastSuccessful")["syncId"] == newest_but_one
    api.wait(0.1)
    assert api.sync_status(company_id, "lastSuccessful")["syncId"] == api.simulator.syncs(company_id)[1].sync_id


def test_connections_remember_when_they_were_synced() -> None:
    api, company_id = linked()
    api.simulator.script_sync(company_id, ScriptedSync(2000, duration=10))
    api.request_sync(company_id)
    api.wait(20)
    assert {one["lastSync"] for one in api.status(company_id)["dataConnections"]} == {"2023-11-15T12:00:10.0000000Z"}
    assert api.request("GET", "/companies")["results"][0]["lastSync"] == "2023-11-15T12:00:10.0000000Z"


def test_a_sync_that_takes_no_time_is_over_in_its_own_response() -> None:
    api, company_id = linked()
    api.simulator.script_sync(company_id, ScriptedSync(2000, duration=0))
    assert api.request_sync(company_id)["syncStatusCode"] == 2000


def test_usual_durations_are_between_two_seconds_and_two_minutes() -> None:
    api = SimulatedApi(quota=None)
    ended = []
    for _ in range(200):
        company_id = api.simulator.add_linked_company()
        api.request_sync(company_id)
        ended.append(api.simulator.syncs(company_id)[0].ends - NOON)
    assert 2 <= min(ended) < 10
    assert 30 < max(ended) <= 120


def test_durations_and_outcomes_can_be_chosen() -> None:
    def half_a_minute(_random: random.Random) -> float:
        return 30

    api, company_id = linked(durations=half_a_minute, outcomes={5000: 1})
    api.request_sync(company_id)
    api.wait(29.9)
    assert api.sync_status(company_id)["syncStatusCode"] == 1000
    api.wait(0.1)
    assert api.sync_status(company_id)["syncStatusCode"] == 5000


def test_the_result_of_a_companys_sync_does_not_depend_on_other_companies() -> None:
    def progress_of(others: int) -> tuple[str, float, int]:
        api = SimulatedApi(seed=3)
        company_id = api.simulator.add_linked_company(company_id="c")
        for number in range(others):
            api.request_sync(api.simulator.add_linked_company(company_id=f"other-{number}"))
        api.request_sync(company_id)
        (sync,) = api.simulator.syncs(company_id)
        return sync.sync_id, sync.ends, sync.final_code

    assert progress_of(0) == progress_of(20)


def test_speed_makes_simulated_time_run_faster() -> None:
    api, company_id = linked(speed=60)
    api.simulator.script_sync(company_id, ScriptedSync(2000, duration=600))
    api.request_sync(company_id)
    api.wait(9.9)
    assert api.sync_status(company_id)["syncStatusCode"] == 1000
    api.wait(0.2)
    assert api.sync_status(company_id)["syncStatusCode"] == 2000


def test_advancing_moves_the_simulated_time_and_the_date_header() -> None:
    api, company_id = linked()
    api.simulator.script_sync(company_id, ScriptedSync(2000, duration=600))
    api.request_sync(company_id)
    assert api.simulator.next_due() == NOON + 600
    api.simulator.advance(600)
    assert api.simulator.next_due() is None
    assert api.sync_status(company_id)["syncStatusCode"] == 2000
    assert api.send("GET", "/companies").headers["Date"] == "Wed, 15 Nov 2023 12:10:00 GMT"


def test_running_syncs_can_be_brought_to_their_ends() -> None:
    api, company_id = linked()
    endless = api.simulator.add_linked_company()
    api.simulator.script_sync(company_id, ScriptedSync(2000, duration=7200.1))
    api.simulator.script_sync(endless, ScriptedSync.never_ends())
    for each in (company_id, endless):
        api.request_sync(each)
    before = api.simulator.now()
    api.simulator.finish_syncs()
    assert api.simulator.now() - before == pytest.approx(7200.1, abs=0.01)
    assert [api.sync_status(each)["syncStatusCode"] for each in (company_id, endless)] == [2000, 1010]
    before = api.simulator.now()
    api.simulator.finish_syncs()
    assert api.simulator.now() == before


def test_daily_syncs_run_at_their_hour_and_only_where_they_are_wanted() -> None:
    api = SimulatedApi(daily_schedule=True, durations=lambda _: 5.0)
    linked_id, bare_id = api.simulator.add_linked_company(), api.simulator.add_company()
    api.simulator.advance(3 * DAY)
    started = [(sync.started - NOON) / 3600 for sync in api.simulator.syncs(linked_id)]
    assert started == [14, 38, 62]
    assert {sync.source for sync in api.simulator.syncs(linked_id)} == {"schedule"}
    assert api.simulator.syncs(bare_id) == ()
    assert api.simulator.syncs_started(linked_id) == 0


def test_a_new_hour_holds_from_the_next_daily_sync_on_and_no_day_has_two() -> None:
    api = SimulatedApi(daily_schedule=True, durations=lambda _: 5.0)
    company_id = api.simulator.add_linked_company()
    for hour in (20, 5, 5):
        configuration = {**api.simulator.configuration(company_id), "schedule": {"syncHour": hour}}
        api.request("POST", f"/config/companies/{company_id}/sync/commerce", configuration)
        api.simulator.advance(DAY)
    started = [(sync.started - NOON) / 3600 for sync in api.simulator.syncs(company_id)]
    assert started == [8, 41, 65]


def test_without_a_daily_schedule_nothing_starts_by_itself() -> None:
    api, company_id = linked()
    api.simulator.advance(30 * DAY)
    assert api.simulator.syncs(company_id) == ()


def test_thirty_one_failed_days_in_a_row_switch_the_daily_sync_off() -> None:
    api = SimulatedApi(daily_schedule=True, outcomes={5000: 1})
    company_id = api.simulator.add_linked_company()
    api.simulator.advance(20 * DAY)
    api.simulator.script_sync(company_id, 2000)
    api.simulator.advance(60 * DAY)
    assert len(api.simulator.syncs(company_id)) == 20 + 1 + 31
    assert api.simulator.configuration(company_id)["enable"] is False


def test_a_monthly_schedule_runs_on_the_first_of_the_month() -> None:
    api = SimulatedApi(daily_schedule=True)
    company_id = api.simulator.add_linked_company()
    api.simulator.set_configuration(company_id, {"schedule": {"selectedFrequency": "Monthly", "syncHour": 6}})
    api.simulator.advance(60 * DAY)
    started = [sync.started for sync in api.simulator.syncs(company_id)]
    assert [(at - NOON + 12 * 3600) / DAY for at in started] == [16.25, 47.25]


def test_the_end_of_a_sync_leaves_events_that_are_notifications() -> None:
    api, company_id = linked()
    api.simulator.script_sync(
        company_id, ScriptedSync(2000, duration=10), ScriptedSync(5130, duration=10), ScriptedSync(2040, duration=1)
    )
    api.simulator.take_events()
    for _ in range(3):
        api.request_sync(company_id)
        api.wait(60)
    events = api.simulator.take_events()
    assert [(event["eventType"], str(event["generatedDate"])[11:19]) for event in events] == [
        ("read.completed", "12:00:10"),
        ("journalEntries.write.successful", "12:00:10"),
        ("read.completed", "12:01:10"),
        ("journalEntries.write.unsuccessful", "12:01:10"),
    ]
    assert api.simulator.take_events() == ()


def test_thousands_of_syncs_end_when_they_are_next_polled() -> None:
    api = SimulatedApi(quota=None, log_size=1)
    ids = [api.simulator.add_linked_company() for _ in range(2000)]
    for company_id in ids:
        api.simulator.start_external_sync(company_id, ScriptedSync(2000, duration=60))
    api.wait(3600)
    assert api.simulator.next_due() is None
    assert all(api.simulator.syncs(company_id)[0].code(api.wall) == 2000 for company_id in ids)


@pytest.mark.parametrize("duration", [-1.0, float("nan")])
def test_a_duration_that_is_none_is_refused(duration: float) -> None:
    with pytest.raises(ValueError, match="duration must"):
        ScriptedSync(2000, duration=duration)
