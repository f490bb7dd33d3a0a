"""The simulator's faults: by rate, by script, and what each kind does."""

import json
from collections import Counter
from typing import Any

import pytest

from codat_commerce_async.simulator import TRANSIENT, Fault, FaultKind, FaultPlan, ScriptedSync
from tests.support.cases import all_cases
from tests.support.simulated import SimulatedApi


def faulty(kind: FaultKind | Fault) -> SimulatedApi:
    return SimulatedApi(faults=FaultPlan(script={"list-companies": [kind]}))


def test_without_faults_nothing_goes_wrong() -> None:
    api = SimulatedApi()
    assert {(api.send("GET", "/companies").status, api.send("GET", "/companies").fault) for _ in range(50)} == {
        (200, None)
    }


@all_cases("kind", [FaultKind.LOST_BEFORE, FaultKind.LOST_AFTER, FaultKind.RESET_BEFORE, FaultKind.RESET_AFTER])
def test_a_lost_response_is_marked_and_holds_nothing(kind: FaultKind) -> None:
    response = faulty(kind).send("GET", "/companies")
    assert (response.status, dict(response.headers), response.body, response.fault) == (0, {}, b"", kind)


def test_the_log_reports_what_codat_sent_although_it_was_lost() -> None:
    api = SimulatedApi(faults=FaultPlan(script={"*": ["lost_before", "lost_after", None]}))
    for _ in range(3):
        api.send("GET", "/companies")
    assert [(seen.status, seen.fault) for seen in api.simulator.requests] == [
        (None, FaultKind.LOST_BEFORE),
        (200, FaultKind.LOST_AFTER),
        (200, None),
    ]


def test_before_means_nothing_was_done_and_after_that_it_was() -> None:
    api = SimulatedApi()
    before = [FaultKind.LOST_BEFORE, FaultKind.RESET_BEFORE, FaultKind.ERROR_BEFORE, FaultKind.UNAVAILABLE]
    before += [FaultKind.BAD_GATEWAY, FaultKind.GATEWAY_TIMEOUT, FaultKind.REDIRECT, FaultKind.RATE_LIMITED]
    after = [FaultKind.LOST_AFTER, FaultKind.RESET_AFTER, FaultKind.ERROR_AFTER, FaultKind.GATEWAY_TIMEOUT_AFTER]
    after += [FaultKind.CUT_OFF, FaultKind.ENDLESS, FaultKind.LATE, FaultKind.EMPTY, FaultKind.WRONG_CONTENT_TYPE]
    done = {}
    for kind in before + after:
        api.simulator.set_fault("create-company", kind)
        known = len(api.simulator.company_ids())
        api.send("POST", "/companies", {"name": "A"})
        done[kind] = len(api.simulator.company_ids()) - known
    assert done == dict.fromkeys(before, 0) | dict.fromkeys(after, 1)


def test_a_cut_off_response_announces_more_than_it_holds() -> None:
    whole = SimulatedApi().send("GET", "/companies").body
    response = faulty(FaultKind.CUT_OFF).send("GET", "/companies")
    assert response.fault is FaultKind.CUT_OFF
    assert int(response.headers["Content-Length"]) == len(whole) > len(response.body) > 0


@all_cases(
    ("kind", "status", "content_type"),
    [
        (FaultKind.BAD_GATEWAY, 502, "text/html"),
        (FaultKind.GATEWAY_TIMEOUT, 504, "text/html"),
        (FaultKind.GATEWAY_TIMEOUT_AFTER, 504, "text/html"),
        (FaultKind.REDIRECT, 302, "text/html"),
        (FaultKind.WRONG_CONTENT_TYPE, 200, "text/html; charset=utf-8"),
        (FaultKind.UNAVAILABLE, 503, "application/json; charset=utf-8"),
        (FaultKind.RATE_LIMITED, 429, "application/json; charset=utf-8"),
    ],
)
def test_a_response_shows_who_gave_it(kind: FaultKind, status: int, content_type: str) -> None:
    response = faulty(kind).send("GET", "/companies")
    assert (response.status, response.headers["Content-Type"], response.fault) == (status, content_type, None)


def test_a_gateway_reports_nothing_of_the_quota() -> None:
    for kind in (FaultKind.BAD_GATEWAY, FaultKind.GATEWAY_TIMEOUT, FaultKind.GATEWAY_TIMEOUT_AFTER):
        assert "X-Rate-Limit-Limit" not in faulty(kind).send("GET", "/companies").headers


def test_an_empty_response_is_a_200_without_a_body() -> None:
    response = faulty(FaultKind.EMPTY).send("GET", "/companies")
    assert (response.status, response.body) == (200, b"")


def test_a_late_response_reports_how_late() -> None:
    assert faulty(FaultKind.LATE).send("GET", "/companies").delay == 120
    assert faulty(Fault(FaultKind.LATE, seconds=0.5)).send("GET", "/companies").delay == 0.5


@all_cases("kind", FaultKind)
def test_a_fault_of_every_kind_shows(kind: FaultKind) -> None:
    responses = []
    for api in (SimulatedApi(), faulty(kind)):
        api.simulator.add_linked_company()
        responses.append(api.send("GET", "/companies"))
    assert responses[0] != responses[1]


def test_the_maintenance_body_reports_500_under_a_503() -> None:
    assert faulty(FaultKind.UNAVAILABLE).error("GET", "/companies", status=503)["statusCode"] == 500


def test_a_skewed_clock_shows_in_the_date_alone() -> None:
    response = faulty(Fault(FaultKind.CLOCK_SKEW, seconds=90)).send("GET", "/companies")
    assert response.headers["Date"] == "Wed, 15 Nov 2023 12:01:30 GMT"
    api = SimulatedApi(clock_skew=-60)
    assert api.send("GET", "/companies").headers["Date"] == "Wed, 15 Nov 2023 11:59:00 GMT"
    api.simulator.set_fault("*", Fault(FaultKind.CLOCK_SKEW, seconds=90))
    assert api.send("GET", "/companies").headers["Date"] == "Wed, 15 Nov 2023 12:00:30 GMT"
    assert api.simulator.requests[0].time == api.wall


def values(content: Any, name: str) -> list[Any]:
    """Every value under this name, at any depth."""
    if isinstance(content, list):
        return [value for one in content for value in values(one, name)]
    if not isinstance(content, dict):
        return []
    found = [content[name]] if name in content else []
    return found + [value for one in content.values() for value in values(one, name)]


def mutated(kind: FaultKind) -> Any:
    api = SimulatedApi()
    company_id = api.simulator.add_linked_company()
    api.simulator.script_sync(company_id, ScriptedSync(2000, duration=0))
    api.request_sync(company_id)
    api.simulator.set_fault("get-sync-status", kind)
    return api.status(company_id)


def test_new_enum_values_arrive_where_known_ones_were() -> None:
    content = mutated(FaultKind.NEW_ENUM_VALUES)
    assert set(values(content, "sourceType")) | set(values(content, "status")) == {"Reimagined"}
    assert content["syncStatusCode"] == 2000


def test_new_fields_arrive_in_every_object() -> None:
    content = mutated(FaultKind.NEW_FIELDS)
    assert len(values(content, "introducedLater")) == 3
    assert content["syncStatusCode"] == 2000


def test_numbers_arrive_as_text() -> None:
    content = mutated(FaultKind.NUMBERS_AS_TEXT)
    assert (content["syncStatusCode"], content["dataPushed"]) == ("2000,", True)


def test_a_rate_hits_as_often_as_it_reports_and_the_same_way_every_time() -> None:
    def play(seed: int) -> list[FaultKind | None]:
        api = SimulatedApi(faults=FaultPlan(rate=0.2, seed=seed))
        for _ in range(900):
            api.send("GET", "/companies")
        return [seen.fault for seen in api.simulator.requests]

    faults = play(1)
    assert 130 < sum(fault is not None for fault in faults) < 230
    assert {fault for fault in faults if fault} == set(TRANSIENT)
    assert faults == play(1) != play(2)


def test_a_kind_named_twice_comes_twice_as_often() -> None:
    api = SimulatedApi(faults=FaultPlan(rate=1, kinds=["empty", "empty", Fault(FaultKind.LATE, seconds=1)]))
    for _ in range(900):
        api.send("GET", "/companies")
    counts = Counter(seen.fault for seen in api.simulator.requests)
    assert 1.5 < counts[FaultKind.EMPTY] / counts[FaultKind.LATE] < 2.7


def test_faults_can_be_kept_to_some_operations() -> None:
    api = SimulatedApi(faults=FaultPlan(rate=1, kinds=[FaultKind.EMPTY], operations=["list-integrations"]))
    assert api.send("GET", "/companies").body
    assert not api.send("GET", "/config/integrations").body


def test_a_script_is_used_up_in_order_and_goes_before_the_rate() -> None:
    faults = FaultPlan(rate=1, kinds=["empty"], script={"list-companies": ["bad_gateway", None, FaultKind.UNAVAILABLE]})
    api = SimulatedApi(faults=faults)
    responses = [api.send("GET", "/companies") for _ in range(4)]
    assert [(one.status, bool(one.body)) for one in responses] == [(502, True), (200, True), (503, True), (200, False)]


def test_an_operations_own_script_goes_before_that_for_any() -> None:
    api = SimulatedApi(faults=FaultPlan(script={"*": ["bad_gateway"], "list-companies": ["unavailable"]}))
    assert [api.send("GET", "/companies").status for _ in range(3)] == [503, 502, 200]


def test_faults_can_be_replaced_while_it_runs() -> None:
    api = SimulatedApi(faults=FaultPlan(rate=1, kinds=["empty"]))
    assert not api.send("GET", "/companies").body
    api.simulator.set_faults(FaultPlan())
    assert json.loads(api.send("GET", "/companies").body)["totalResults"] == 0


@all_cases(
    "arguments",
    [{"rate": -0.1}, {"rate": 1.1}, {"rate": float("nan")}, {"rate": 0.5, "kinds": []}],
)
def test_faults_that_make_no_sense_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        FaultPlan(**arguments)


def test_a_fault_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="status"):
        Fault(FaultKind.ERROR_BEFORE, status=200)
    with pytest.raises(ValueError, match="seconds"):
        Fault(FaultKind.LATE, seconds=float("inf"))
    with pytest.raises(ValueError, match="lost"):
        SimulatedApi(faults=FaultPlan(script={"*": ["lost"]}))
    with pytest.raises(ValueError, match="list-company"):
        SimulatedApi().simulator.set_fault("list-company", FaultKind.EMPTY)
