"""What is found at Codat leads to the cause, who has to act, and concrete actions."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from attrs import evolve

from codat_commerce_async import errors
from codat_commerce_async.models.causes import FailureCause
from codat_commerce_async.models.configuration import Configuration
from codat_commerce_async.models.connections import Connection
from codat_commerce_async.models.failure_rules import rule_of
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.models.sync import SyncStatus
from codat_commerce_async.syncing._conclude import Facts, conclude, conclude_from_error
from codat_commerce_async.syncing.diagnosis import Diagnosis, Evidence, ItemProblem, Resolver, Retry
from tests.support.cases import all_cases

NOW = datetime(2026, 8, 1, tzinfo=UTC)
OPTIONS = [{"id": str(number)} for number in range(12)]


def a_connection(kind: str, status: str = "Linked", name: str = "Xero") -> Connection:
    data = {"id": f"{kind}-{status}", "sourceType": kind, "status": status, "platformName": name}
    return Connection.from_dict(data)


BOTH = (a_connection("Accounting"), a_connection("Commerce"))


def some_facts(code: int | None, message: str | None = None, **found: Any) -> Facts:
    status = SyncStatus(company_id="c", sync_id="s", sync_status_code=code, error_message=message, sync_utc=NOW)
    return Facts(company_id="c", sync_id="s", status=status, **found)


def an_operation(message: str | None, *items: str) -> Evidence:
    found = tuple(ItemProblem(item_id=str(number), message=item) for number, item in enumerate(items))
    return Evidence(kind="push_operation", id="p", status="Failed", message=message, items=found, requested_at=NOW)


def a_configuration(**sales: Any) -> Configuration:
    return Configuration.from_dict({"enable": True, "configuration": {"sales": {"syncSales": True, **sales}}})


def texts(diagnosis: Diagnosis) -> list[str]:
    return [str(action) for action in diagnosis.actions]


def test_an_unmapped_account_is_named_with_its_options() -> None:
    accounts = {"giftCards": {"required": True, "accountOptions": OPTIONS}}
    found = conclude(
        some_facts(
            4000,
            "Config contains required accounts without selections.",
            configuration=a_configuration(accounts=accounts),
        )
    )
    assert found.cause is FailureCause.UNMAPPED_ACCOUNT
    assert texts(found) == ["integrator: select an account for giftCards; 12 options available"]
    assert found.actions[0].path == "configuration.sales.accounts.giftCards.selectedAccountId"
    assert found.summary == "the sync failed with code 4000: a required account has no selection (giftCards)"
    assert [each.kind for each in found.evidence] == ["status", "configuration"]
    assert found.retry is Retry.AFTER_ACTION


CONNECTIONS: list[tuple[Sequence[Connection], list[str]]] = [
    ((), ["merchant: link a platform of the kind accounting in the Sync flow; there is no such connection",
          "merchant: link a platform of the kind commerce in the Sync flow; there is no such connection"]),
    ((BOTH[0], a_connection("Commerce", "Unlinked", "Shopify")),
     ["merchant: link Shopify again in the Sync flow; connection Commerce-Unlinked is Unlinked"]),
    ((*BOTH, evolve(BOTH[1], id="other")),
     ["integrator: unlink all but one of the 2 linked commerce connections (Commerce-Linked, other)"]),
]  # fmt: skip


@all_cases(("connections", "actions"), CONNECTIONS)
@all_cases("message", ["Company needs to have two valid data connections.", "", "something new"])
def test_connections_are_named_that_have_to_be_linked(
    message: str, connections: Sequence[Connection], actions: list[str]
) -> None:
    found = conclude(some_facts(4000, message, connections=tuple(connections)))
    assert found.cause is FailureCause.UNLINKED_CONNECTION
    assert texts(found) == actions


def test_a_disabled_sync_is_found_by_the_configuration() -> None:
    found = conclude(some_facts(4000, "new", configuration=Configuration(enable=False), connections=BOTH))
    assert (found.cause, found.resolvers) == (
        FailureCause.SYNC_DISABLED,
        (Resolver.MERCHANT, Resolver.INTEGRATOR),
    )


@pytest.mark.parametrize("code", [4040, 4220])
def test_both_codes_of_unavailable_companies_are_decided_by_the_connections(code: int) -> None:
    gone = conclude(some_facts(code, is_company_missing=True))
    assert (gone.cause, gone.resolver) == (FailureCause.DELETED_COMPANY, Resolver.INTEGRATOR)
    deauthorized = conclude(some_facts(code, connections=(BOTH[0], a_connection("Commerce", "Deauthorized", "Zettle"))))
    assert deauthorized.cause is FailureCause.DEAUTHORIZED_COMPANY
    expected = "merchant: link Zettle again in the Sync flow; connection Commerce-Deauthorized is Deauthorized"
    assert texts(deauthorized) == [expected]


def test_the_most_frequent_problem_of_items_is_the_cause_and_all_have_actions() -> None:
    operations = (
        an_operation("2 items failed", "Customer is not in an Active state."),
        an_operation("failed", "Customer is not in an Active state."),
        an_operation("Please reconcile manually"),
        an_operation("whatever else"),
    )
    found = conclude(some_facts(5130, "At least one item could not be written.", push_operations=operations))
    assert found.cause is FailureCause.INACTIVE_CUSTOMER
    causes = (FailureCause.INACTIVE_CUSTOMER, FailureCause.MANUAL_RECONCILIATION, FailureCause.ITEMS_NOT_WRITTEN)
    assert texts(found) == [f"{resolver}: {text}" for cause in causes for resolver, text in rule_of(cause).actions]
    assert found.evidence[1:] == operations


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        ("Date overlaps with a previous sync date range", FailureCause.OVERLAPPING_PERIOD),
        ("new", FailureCause.DUPLICATE_PERIOD),
        (None, FailureCause.DUPLICATE_PERIOD),
    ],
)
def test_a_period_that_is_covered_needs_no_new_sync(message: str | None, cause: FailureCause) -> None:
    found = conclude(some_facts(5080, message))
    assert (found.cause, found.resolvers, found.retry) == (cause, (Resolver.NOBODY,), Retry.NEVER)


@all_cases("code", [4000, 4200, 5999, None])
def test_an_unknown_message_is_reported_with_the_evidence(code: int | None) -> None:
    found = conclude(some_facts(code, "never seen before", connections=BOTH, push_operations=(an_operation("x"),)))
    assert found.cause is FailureCause.UNKNOWN
    assert [each.message for each in found.evidence] == ["never seen before", "x"]


def test_unchecked_sources_are_listed() -> None:
    assert conclude(some_facts(5130, unchecked=("connections: 503",))).unchecked == ("connections: 503",)


ERRORS: list[tuple[errors.CodatError, FailureCause, Resolver, Retry]] = [
    (errors.NotFoundError("no", None, 404), FailureCause.COMPANY_NOT_FOUND, Resolver.INTEGRATOR, Retry.AFTER_ACTION),
    (errors.ServerError("no", None, 500), FailureCause.UNKNOWN, Resolver.CODAT, Retry.LATER),
    (errors.OutcomeUnknownError("no"), FailureCause.UNKNOWN, Resolver.INTEGRATOR, Retry.AFTER_ACTION),
    (errors.QuotaExhaustedError("no", None, NOW), FailureCause.UNKNOWN, Resolver.NOBODY, Retry.LATER),
    (errors.CodatError("no"), FailureCause.UNKNOWN, Resolver.INTEGRATOR, Retry.AFTER_ACTION),
    # Whether a new start can succeed is a property of the error.
    (errors.ConflictError("no", None, 409), FailureCause.UNKNOWN, Resolver.NOBODY, Retry.LATER),
    (errors.StatusError("no", None, 425), FailureCause.UNKNOWN, Resolver.NOBODY, Retry.LATER),
    (errors.RateLimitError("no", None, 429), FailureCause.UNKNOWN, Resolver.NOBODY, Retry.LATER),
    (errors.TransportError("no"), FailureCause.UNKNOWN, Resolver.INTEGRATOR, Retry.LATER),
    (
        errors.TransportError("no", None, sent=False, retryable=False),
        FailureCause.UNKNOWN,
        Resolver.INTEGRATOR,
        Retry.AFTER_ACTION,
    ),
    (
        errors.SyncWaitTimeoutError("no", SyncHandle(company_id="c"), None, 1.0, 1),
        FailureCause.UNKNOWN,
        Resolver.INTEGRATOR,
        Retry.NEVER,
    ),
]


@all_cases(("error", "cause", "resolver", "retry"), ERRORS)
def test_a_sync_without_a_status_is_diagnosed_by_its_error(
    error: errors.CodatError, cause: FailureCause, resolver: Resolver, retry: Retry
) -> None:
    found = conclude_from_error("c", None, error)
    assert (found.cause, found.resolver, found.retry, found.requests) == (cause, resolver, retry, 0)
    assert found.retry_at == getattr(error, "reset_at", None)
    assert (found.evidence[0].status, found.evidence[0].message) == (type(error).__name__, "no")


def test_a_diagnosis_survives_json() -> None:
    found = conclude(some_facts(5130, "x", push_operations=(an_operation("y", "z"),), unchecked=("more",), requests=2))
    found = evolve(found, retry_at=NOW)
    assert Diagnosis.from_json(found.to_json()) == found
    assert Diagnosis.from_dict({**found.to_dict(), "added": "later"}) == found
    assert Diagnosis.from_dict({**found.to_dict(), "cause": "of_a_later_version"}).cause is FailureCause.UNKNOWN


@all_cases(
    ("name", "value"),
    [("cause", 7), ("retry", "soon"), ("retry_at", "noon"), ("actions", [1]), ("requests", True), ("company_id", None)],
)
def test_anything_else_is_no_diagnosis(name: str, value: object) -> None:
    data = {**conclude(some_facts(5000)).to_dict(), name: value}
    with pytest.raises(ValueError, match=f"{name} of a diagnosis must be"):
        Diagnosis.from_dict(data)
    with pytest.raises(ValueError, match="a diagnosis must be"):
        Diagnosis.from_json("[]" if name == "cause" else "{")
