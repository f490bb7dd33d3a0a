"""The simulator produces each cause of a failed sync, shows it in its state, and lets it be repaired."""

import copy
from collections import Counter
from typing import Any

import pytest

from codat_commerce_async.models.causes import FailureCause
from codat_commerce_async.models.configuration import Configuration
from codat_commerce_async.models.configuration_changes import configuration_problems
from codat_commerce_async.models.failure_rules import rule_for_code, rule_for_message
from codat_commerce_async.simulator import ScriptedSync
from tests.support.cases import all_cases
from tests.support.simulated import SimulatedApi

# These are known by the configuration or by what the push operations report, not by the status.
SHOWN_ELSEWHERE = {FailureCause.SYNC_DISABLED, FailureCause.MANUAL_RECONCILIATION, FailureCause.UNKNOWN}
IN_CONFIGURATION = {
    FailureCause.PAYMENTS_NOT_CONFIGURED,
    FailureCause.SAME_PREPAID_ACCOUNT,
    FailureCause.SAME_PAYOUT_ACCOUNT,
    FailureCause.INVALID_SALES_CUSTOMER,
    FailureCause.INVALID_ACCOUNT,
    FailureCause.INVALID_GROUPING,
    FailureCause.PAYMENTS_ON_DRAFT_INVOICES,
    FailureCause.UNMAPPED_ACCOUNT,
    FailureCause.INVALID_SCHEDULE,
    FailureCause.INVALID_INVOICE_STATUS,
    FailureCause.UNMAPPED_TAX_RATE,
    FailureCause.INVALID_FEES_SUPPLIER,
}
NOT_LASTING = {FailureCause.DUPLICATE_PERIOD, FailureCause.OVERLAPPING_PERIOD}


def run(api: SimulatedApi, company_id: str) -> Any:
    api.request_sync(company_id)
    api.wait(300)
    return api.sync_status(company_id)


@all_cases("cause", FailureCause)
def test_a_cause_fails_the_syncs_until_it_is_repaired(cause: FailureCause) -> None:
    api = SimulatedApi()
    company_id = api.simulator.add_linked_company()
    before = copy.deepcopy(api.simulator.configuration(company_id))
    api.simulator.cause_failure(company_id, cause)
    for _ in range(1 if cause in NOT_LASTING else 2):
        failed = run(api, company_id)
        assert failed["syncStatusCode"] // 1000 in {4, 5}
        if cause not in SHOWN_ELSEWHERE:
            rule = rule_for_message(failed["errorMessage"]) or rule_for_code(failed["syncStatusCode"])
            assert rule is not None
            assert rule.cause == cause
    if cause not in NOT_LASTING:
        api.simulator.repair(company_id)
    assert run(api, company_id)["syncStatusCode"] in {2000, 2040}
    assert api.simulator.configuration(company_id) == before
    assert {one["status"] for one in api.simulator.company(company_id)["dataConnections"]} == {"Linked"}  # type: ignore[attr-defined]


@all_cases("cause", sorted(IN_CONFIGURATION))
def test_a_cause_in_the_configuration_is_seen_there(cause: FailureCause) -> None:
    api = SimulatedApi()
    company_id = api.simulator.add_linked_company()
    assert configuration_problems(Configuration.from_dict(api.simulator.configuration(company_id))) == ()
    api.simulator.cause_failure(company_id, cause)
    configuration = Configuration.from_dict(api.simulator.configuration(company_id))
    assert {problem.cause for problem in configuration_problems(configuration)} == {cause}


@pytest.mark.parametrize(
    ("cause", "account"),
    [(FailureCause.UNMAPPED_ACCOUNT, "giftCards"), (FailureCause.INACTIVE_ACCOUNT, "sales")],
)
def test_another_selection_through_the_api_ends_a_cause(cause: FailureCause, account: str) -> None:
    api = SimulatedApi()
    company_id = api.simulator.add_linked_company()
    api.simulator.cause_failure(company_id, cause)
    path = f"/config/companies/{company_id}/sync/commerce"
    configuration = api.request("GET", path)
    api.request("POST", path, configuration)
    assert run(api, company_id)["syncStatusCode"] == 4000
    slot = configuration["configuration"]["sales"]["accounts"][account]
    slot["selectedAccountId"] = slot["accountOptions"][2]["id"]
    api.request("POST", path, configuration)
    assert run(api, company_id)["syncStatusCode"] == 2000


def test_a_lapsed_subscription_and_a_withdrawn_authorization_show_at_the_connection() -> None:
    for cause, status in (
        (FailureCause.SUBSCRIPTION_LAPSED, "Linked"),
        (FailureCause.DEAUTHORIZED_COMPANY, "Deauthorized"),
        (FailureCause.UNLINKED_CONNECTION, "Unlinked"),
    ):
        api = SimulatedApi()
        company_id = api.simulator.add_linked_company()
        api.simulator.cause_failure(company_id, cause)
        connections = api.request("GET", f"/companies/{company_id}/connections")["results"]
        [broken] = [one for one in connections if one["dataConnectionErrors"]]
        assert (broken["sourceType"], broken["status"]) == ("Accounting", status)


def test_a_covered_period_is_synced_by_the_other_sync() -> None:
    api = SimulatedApi(outcomes={2000: 1})
    company_id = api.simulator.add_linked_company()
    api.simulator.cause_failure(company_id, FailureCause.DUPLICATE_PERIOD)
    assert run(api, company_id)["syncStatusCode"] == 5080
    assert [sync.final_code for sync in api.simulator.syncs(company_id)] == [2000, 5080]


def test_a_write_error_has_a_failed_push_operation_with_a_message_per_item() -> None:
    api = SimulatedApi()
    company_id = api.simulator.add_linked_company()
    api.simulator.script_sync(company_id, FailureCause.MANUAL_RECONCILIATION)
    failed = run(api, company_id)
    pushes = api.request("GET", f"/companies/{company_id}/push", orderBy="-requestedOnUtc")["results"]
    assert Counter(push["status"] for push in pushes) == {"Success": 1, "Failed": 1}
    [refused] = [push for push in pushes if push["status"] == "Failed"]
    assert refused["requestedOnUtc"] >= failed["syncUtc"]
    assert [error["message"].endswith("please reconcile manually.") for error in refused["validation"]["errors"]] == [
        True,
        True,
    ]
    assert api.request("GET", f"/companies/{company_id}/push/{refused['pushOperationKey']}") == refused


def test_a_processing_error_has_a_failed_pull_operation() -> None:
    api = SimulatedApi()
    company_id = api.simulator.add_linked_company()
    api.simulator.script_sync(company_id, ScriptedSync(5120, duration=60))
    api.request_sync(company_id)
    assert api.request("GET", f"/companies/{company_id}/dataStatus")["commerce-orders"]["currentStatus"] == "Fetching"
    api.wait(60)
    status = api.request("GET", f"/companies/{company_id}/dataStatus")["commerce-orders"]
    pull = api.request("GET", f"/companies/{company_id}/data/history/{status['latestSyncId']}")
    assert (status["currentStatus"], pull["status"], pull["isErrored"]) == ("ProcessingError", "ProcessingError", True)


def test_a_push_operation_can_be_added() -> None:
    api = SimulatedApi()
    company_id = api.simulator.add_linked_company()
    key = api.simulator.add_push_operation(company_id, error="refused", items={"invoice-7": "no such tax rate"})
    [push] = api.request("GET", f"/companies/{company_id}/push", query="status=Failed")["results"]
    assert (push["pushOperationKey"], push["errorMessage"]) == (key, "refused")
    assert [(one["itemId"], one["message"]) for one in push["validation"]["errors"]] == [
        ("invoice-7", "no such tax rate")
    ]
    with pytest.raises(ValueError, match="must be that of a company with an accounting connection"):
        api.simulator.add_push_operation(api.simulator.add_company())


def test_outcomes_may_be_causes() -> None:
    api = SimulatedApi(outcomes={2000: 0.5, FailureCause.UNMAPPED_ACCOUNT: 0.25, "items_not_written": 0.25})
    codes = Counter(run(api, api.simulator.add_linked_company())["syncStatusCode"] for _ in range(200))
    assert set(codes) == {2000, 4000, 5130}
    assert codes[2000] > codes[4000] > 20 < codes[5130]


def test_an_unknown_cause_is_refused() -> None:
    api = SimulatedApi()
    company_id = api.simulator.add_linked_company()
    with pytest.raises(ValueError, match="no_luck"):
        api.simulator.cause_failure(company_id, "no_luck")
    with pytest.raises(ValueError, match="no_luck"):
        SimulatedApi(outcomes={"no_luck": 1.0})


def test_a_refresh_is_a_read_that_ends() -> None:
    api = SimulatedApi()
    company_id = api.simulator.add_linked_company()
    assert api.send("POST", f"/companies/{company_id}/data/all").status == 204
    history = f"/companies/{company_id}/data/history"
    assert api.request("GET", history, query="status=Fetching", pageSize=1)["totalResults"] == 12
    api.wait(60)
    assert api.request("GET", history, query="status=Complete", pageSize=1)["totalResults"] == 12


def test_a_deleted_company_is_gone() -> None:
    api = SimulatedApi()
    company_id = api.simulator.add_linked_company()
    response = api.send("DELETE", f"/companies/{company_id}")
    assert (response.status, response.body) == (204, b"")
    assert api.simulator.company_ids() == ()
    api.error("GET", f"/companies/{company_id}", status=404)
