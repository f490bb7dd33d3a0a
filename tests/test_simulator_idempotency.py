"""What the simulator remembers under an idempotency key: https://docs.codat.io/using-the-api/idempotency"""

from typing import Any

from codat_commerce_async.simulator import Fault, FaultKind, ScriptedSync
from tests.support.cases import all_cases
from tests.support.simulated import SimulatedApi

KEY = "6f1c1a5e-3d5c-4b5e-9a39-0c9b7c6a1d11"


def post(api: SimulatedApi, company_id: str, body: Any = None, key: str = KEY) -> tuple[int, bytes]:
    response = api.send("POST", f"/companies/{company_id}/sync/commerce/latest", body, key=key)
    return response.status, response.body


def linked() -> tuple[SimulatedApi, str]:
    api = SimulatedApi()
    return api, api.simulator.add_linked_company()


def test_the_same_key_and_body_replay_the_first_response_and_do_nothing() -> None:
    api, company_id = linked()
    first = post(api, company_id)
    api.wait(60)
    assert post(api, company_id) == first
    assert api.simulator.syncs_started(company_id) == 1
    assert [seen.replayed for seen in api.simulator.requests] == [False, True]
    assert api.simulator.syncs(company_id)[0].idempotency_key == KEY


def test_a_replay_counts_against_the_quota_and_reports_the_time() -> None:
    api, company_id = linked()
    path = f"/companies/{company_id}/sync/commerce/latest"
    first = api.send("POST", path, key=KEY).headers
    api.wait(60)
    second = api.send("POST", path, key=KEY).headers
    assert int(second["X-Rate-Limit-Remaining"]) == int(first["X-Rate-Limit-Remaining"]) - 1
    assert second["Date"] != first["Date"]


def test_a_key_is_remembered_for_ninety_minutes() -> None:
    api, company_id = linked()
    post(api, company_id)
    api.wait(90 * 60 - 1)
    post(api, company_id)
    assert api.simulator.syncs_started(company_id) == 1
    api.wait(1)
    post(api, company_id)
    assert api.simulator.syncs_started(company_id) == 2


def test_the_same_key_with_another_body_is_a_422_and_the_first_response_stays() -> None:
    api, company_id = linked()
    first = post(api, company_id, {"syncTo": None})
    assert post(api, company_id, {"syncTo": "2023-11-01"})[0] == 422
    assert post(api, company_id, {"syncTo": None}) == first


def test_the_same_key_for_another_company_is_a_422() -> None:
    api, company_id = linked()
    post(api, company_id)
    assert post(api, api.simulator.add_linked_company())[0] == 422


def test_another_key_does_the_work_again() -> None:
    api, company_id = linked()
    post(api, company_id)
    post(api, company_id, key=KEY.replace("6", "7"))
    assert api.simulator.syncs_started(company_id) == 2


def test_a_key_is_the_same_in_every_spelling_of_the_guid() -> None:
    api, company_id = linked()
    first = post(api, company_id)
    assert post(api, company_id, key=KEY.upper()) == first
    assert post(api, company_id, key=KEY.replace("-", "")) == first


@all_cases("key", ["", "abc", "6f1c1a5e-3d5c-4b5e-9a39-0c9b7c6a1d1", f"{KEY}0", f"urn:uuid:{KEY}", "é" * 32])
def test_a_key_that_is_no_guid_is_a_400_and_nothing_is_done(key: str) -> None:
    api, company_id = linked()
    assert post(api, company_id, key=key)[0] == 400
    assert api.simulator.syncs_started(company_id) == 0


def test_a_key_means_nothing_on_get_and_put() -> None:
    api, company_id = linked()
    assert api.request("GET", "/companies", key=KEY)["totalResults"] == 1
    api.simulator.add_company()
    assert api.request("GET", "/companies", key=KEY)["totalResults"] == 2
    connection_id = api.simulator.add_connection(company_id, "ugxp", status="PendingAuth")
    path = f"/companies/{company_id}/connections/{connection_id}/authorization"
    api.request("PUT", path, {"a": "b"}, key=KEY)
    assert api.request("PUT", path, {"a": "c"}, key="no guid")["status"] == "Linked"


def test_a_patch_is_remembered_too() -> None:
    api, company_id = linked()
    connection_id = api.simulator.add_connection(company_id, "ugxp")
    path = f"/companies/{company_id}/connections/{connection_id}"
    api.request("PATCH", path, {"status": "Unlinked"}, key=KEY)
    api.simulator.set_connection_status(company_id, connection_id, "Linked")
    assert api.request("PATCH", path, {"status": "Unlinked"}, key=KEY)["status"] == "Unlinked"
    assert api.request("GET", f"/companies/{company_id}/connections")["results"][-1]["status"] == "Linked"


@all_cases(
    ("fault", "status"),
    [
        (Fault(FaultKind.ERROR_BEFORE), 500),
        (Fault(FaultKind.ERROR_AFTER), 500),
        (Fault(FaultKind.UNAVAILABLE), 503),
        (Fault(FaultKind.ERROR_BEFORE, status=409), 409),
        (Fault(FaultKind.ERROR_BEFORE, status=422), 422),
        (Fault(FaultKind.ERROR_BEFORE, status=402), 402),
    ],
)
def test_an_error_status_is_remembered_and_replayed(fault: Fault, status: int) -> None:
    api, company_id = linked()
    api.simulator.set_fault("request-sync", fault)
    first = post(api, company_id)
    assert first[0] == status
    assert post(api, company_id) == first
    assert api.simulator.syncs_started(company_id) == (fault.kind is FaultKind.ERROR_AFTER)


def test_a_400_and_a_404_are_remembered_although_their_cause_is_gone() -> None:
    api = SimulatedApi()
    path = "/companies/later/sync/commerce/latest"
    assert api.send("POST", path, key=KEY).status == 404
    api.simulator.add_company(company_id="later")
    assert api.send("POST", path, key=KEY).status == 404
    assert api.send("POST", path, raw=b"{", key=KEY.replace("6", "7")).status == 400
    assert api.send("POST", path, raw=b"{", key=KEY.replace("6", "7")).status == 400
    assert api.simulator.requests[-1].replayed


def test_a_429_is_forgotten_and_the_key_is_free() -> None:
    api, company_id = linked()
    api.simulator.set_fault("request-sync", Fault(FaultKind.RATE_LIMITED, seconds=7))
    response = api.send("POST", f"/companies/{company_id}/sync/commerce/latest", key=KEY)
    assert (response.status, response.headers["Retry-After"]) == (429, "7")
    assert post(api, company_id)[0] == 200
    assert api.simulator.syncs_started(company_id) == 1


def test_a_repeat_while_the_first_is_in_progress_is_a_409_and_then_its_response() -> None:
    api, company_id = linked()
    api.simulator.script_sync(company_id, ScriptedSync(2000, duration=600))
    api.simulator.set_fault("request-sync", Fault(FaultKind.LATE, seconds=120))
    late = api.send("POST", f"/companies/{company_id}/sync/commerce/latest", key=KEY)
    assert (late.status, late.delay, late.fault) == (200, 120, None)
    api.wait(119)
    assert post(api, company_id)[0] == 409
    api.wait(1)
    assert post(api, company_id) == (200, late.body)
    assert api.simulator.syncs_started(company_id) == 1


def test_codat_continues_to_work_after_a_connection_is_lost() -> None:
    api, company_id = linked()
    api.simulator.set_fault("request-sync", Fault(FaultKind.LOST_AFTER, seconds=10))
    assert post(api, company_id)[0] == 0
    assert post(api, company_id)[0] == 409
    api.wait(10)
    assert post(api, company_id)[0] == 200
    assert api.simulator.syncs_started(company_id) == 1


def test_seconds_of_a_fault_are_real_ones() -> None:
    api = SimulatedApi(speed=60)
    company_id = api.simulator.add_linked_company()
    api.simulator.set_fault("request-sync", Fault(FaultKind.LOST_AFTER, seconds=10))
    post(api, company_id)
    api.wait(9)
    assert post(api, company_id)[0] == 409
    api.wait(1.5)
    assert post(api, company_id)[0] == 200


@all_cases("kind", [FaultKind.LOST_BEFORE, FaultKind.BAD_GATEWAY, FaultKind.GATEWAY_TIMEOUT, FaultKind.REDIRECT])
def test_a_request_that_never_reached_codat_is_not_stored_under_its_key(kind: FaultKind) -> None:
    api, company_id = linked()
    api.simulator.set_fault("request-sync", kind)
    post(api, company_id)
    assert api.simulator.syncs_started(company_id) == 0
    assert post(api, company_id)[0] == 200
    assert api.simulator.syncs_started(company_id) == 1


@all_cases(
    "kind",
    [
        FaultKind.LOST_AFTER,
        FaultKind.RESET_AFTER,
        FaultKind.CUT_OFF,
        FaultKind.ENDLESS,
        FaultKind.GATEWAY_TIMEOUT_AFTER,
        FaultKind.EMPTY,
        FaultKind.WRONG_CONTENT_TYPE,
    ],
)
def test_a_lost_response_is_replayed(kind: FaultKind) -> None:
    api, company_id = linked()
    api.simulator.set_fault("request-sync", kind)
    post(api, company_id)
    assert api.simulator.syncs_started(company_id) == 1
    assert post(api, company_id)[0] == 200
    assert api.simulator.syncs_started(company_id) == 1


def test_an_error_meant_for_the_work_does_not_affect_a_replay() -> None:
    api, company_id = linked()
    api.simulator.set_fault("request-sync", None, FaultKind.ERROR_AFTER)
    first = post(api, company_id)
    assert post(api, company_id) == first
