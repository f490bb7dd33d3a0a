"""What is selected has to be among the options, and has to go together; what is refused is named."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from attrs import evolve

from codat_commerce_async._core.codec import decode
from codat_commerce_async._core.encoding import encode
from codat_commerce_async.models.configuration import Configuration
from codat_commerce_async.models.configuration_changes import (
    AccountSection,
    configuration_problems,
    map_tax_rates,
    select_account,
    select_customer,
    select_default_zero_tax_rate,
    select_frequency,
    select_grouping_period,
    select_invoice_grouping,
    select_invoice_line_grouping,
    select_invoice_status,
    select_supplier,
    select_tax_rate,
    unselected_accounts,
)
from tests.support.cases import all_cases

OPTIONS = [{"id": "a", "name": "A"}, {"id": "b", "name": "B"}, {"id": "c", "kept": {"as": "it is"}}]


def slot(selected: str | None = None, *, required: bool = False) -> dict[str, Any]:
    return {"required": required, "selectedAccountId": selected, "accountOptions": OPTIONS}


def a_configuration(**parts: Any) -> Configuration:
    body = {
        "schedule": {"selectedFrequency": "Daily", "frequencyOptions": ["Daily", "Monthly"]},
        "configuration": {
            "sales": {
                "syncSales": True,
                "accounts": {"sales": slot("a", required=True), "prepaid": slot("b"), "gift_card": slot()},
                "invoiceStatus": {
                    "selectedInvoiceStatus": "Submitted",
                    "invoiceStatusOptions": ["Submitted", "Draft", "Paid"],
                },
                "salesCustomer": {"selectedCustomerId": "a", "customerOptions": OPTIONS},
                "taxRates": {"17.5": {"selectedTaxRateId": "a", "taxRateOptions": OPTIONS}},
                "newTaxRates": {
                    "accountingTaxRateOptions": OPTIONS,
                    "commerceTaxRateOptions": [{"id": "x"}, {"id": "y"}, {"id": "z"}],
                    "taxRateMappings": [
                        {"selectedCommerceTaxRateIds": ["x", "y"], "selectedAccountingTaxRateId": "a", "since": 1}
                    ],
                    "selectedDefaultZeroTaxRateId": None,
                    "defaultZeroTaxRateOptions": OPTIONS,
                },
                "grouping": {
                    "groupingPeriod": {"selectedGroupingPeriod": "Daily", "groupingPeriodOptions": ["Daily"]},
                    "groupingLevels": {
                        "invoiceLevel": {"selectedGroupByOptions": [], "groupByOptions": ["Location", "Country"]},
                        "invoiceLineLevel": {"selectedGroupByOptions": None, "groupByOptions": ["Category"]},
                    },
                },
            },
            "payments": {"syncPayments": False, "accounts": {"card": slot(required=True)}},
            "newPayments": {
                "syncPayments": True,
                "accounts": {"card": slot("a"), "payout": slot("b"), "prepaidPayment": slot("c")},
            },
            "fees": {
                "syncFees": True,
                "feesSupplier": {"selectedSupplierId": "a", "supplierOptions": OPTIONS},
                "accounts": {"paymentFee": slot("c", required=True)},
            },
        }
        | parts,
    }
    return decode(orjson.dumps(body), Configuration)


def changed(before: Configuration, after: Configuration) -> dict[str, tuple[Any, Any]]:
    """The places where the JSON of two configurations differs."""
    one, other = flat(orjson.loads(encode(before))), flat(orjson.loads(encode(after)))
    return {path: (one.get(path), other.get(path)) for path in one | other if one.get(path) != other.get(path)}


def flat(body: Any, path: str = "") -> dict[str, Any]:
    if isinstance(body, dict):
        return {at: leaf for key, value in body.items() for at, leaf in flat(value, f"{path}.{key}").items()}
    return {path[1:]: body}


CHANGES: list[tuple[Callable[[Configuration], Configuration], str, Any]] = [
    (lambda c: select_account(c, "sales", "sales", "c"), "configuration.sales.accounts.sales.selectedAccountId", "c"),
    (lambda c: select_account(c, "sales", "gift_card", "c"), "configuration.sales.accounts.gift_card.selectedAccountId",
     "c"),
    (lambda c: select_account(c, "fees", "paymentFee", "b"), "configuration.fees.accounts.paymentFee.selectedAccountId",
     "b"),
    (lambda c: select_account(c, "payments", "card", "b"), "configuration.payments.accounts.card.selectedAccountId",
     "b"),
    (lambda c: select_tax_rate(c, "17.5", "b"), "configuration.sales.taxRates.17.5.selectedTaxRateId", "b"),
    (lambda c: select_default_zero_tax_rate(c, "b"),
     "configuration.sales.newTaxRates.selectedDefaultZeroTaxRateId", "b"),
    (lambda c: select_customer(c, "b"), "configuration.sales.salesCustomer.selectedCustomerId", "b"),
    (lambda c: select_supplier(c, "b"), "configuration.fees.feesSupplier.selectedSupplierId", "b"),
    (lambda c: select_frequency(c, "Monthly"), "schedule.selectedFrequency", "Monthly"),
    (lambda c: select_invoice_grouping(c, "Country", "Location"),
     "configuration.sales.grouping.groupingLevels.invoiceLevel.selectedGroupByOptions", ["Country", "Location"]),
    (lambda c: select_invoice_line_grouping(c, "Category"),
     "configuration.sales.grouping.groupingLevels.invoiceLineLevel.selectedGroupByOptions", ["Category"]),
]  # fmt: skip


@pytest.mark.parametrize(("change", "path", "value"), CHANGES, ids=[path for _, path, _ in CHANGES])
def test_a_selection_changes_one_place(change: Callable[[Configuration], Configuration], path: str, value: Any) -> None:
    before = a_configuration()
    after = change(before)
    assert {at: new for at, (_, new) in changed(before, after).items()} == {path: value}
    assert change(after) == after


REFUSALS: list[tuple[Callable[[Configuration], Configuration], str]] = [
    (lambda c: select_account(c, "sales", "sales", "q"),
     "'q' is not among the 3 options of configuration.sales.accounts.sales.accountOptions"),
    (lambda c: select_account(c, "sales", "gift_card", "A"),
     "'A' is not among the 3 options of configuration.sales.accounts.gift_card.accountOptions"),
    (lambda c: select_account(c, "sales", "refund", "a"),
     "the configuration has no configuration.sales.accounts.refund, only sales, prepaid, gift_card"),
    (lambda c: select_tax_rate(c, "20", "a"), "the configuration has no configuration.sales.taxRates.20, only 17.5"),
    (lambda c: select_tax_rate(c, "17.5", "q"),
     "'q' is not among the 3 options of configuration.sales.taxRates.17.5.taxRateOptions"),
    (lambda c: select_default_zero_tax_rate(c, "q"),
     "'q' is not among the 3 options of configuration.sales.newTaxRates.defaultZeroTaxRateOptions"),
    (lambda c: map_tax_rates(c, ["x", "q"], "a"),
     "'q' is not among the 3 options of configuration.sales.newTaxRates.commerceTaxRateOptions"),
    (lambda c: map_tax_rates(c, ["x"], "q"),
     "'q' is not among the 3 options of configuration.sales.newTaxRates.accountingTaxRateOptions"),
    (lambda c: select_customer(c, "q"),
     "'q' is not among the 3 options of configuration.sales.salesCustomer.customerOptions"),
    (lambda c: select_supplier(c, "q"),
     "'q' is not among the 3 options of configuration.fees.feesSupplier.supplierOptions"),
    (lambda c: select_grouping_period(c, "Weekly"),
     "'Weekly' is not among the 1 options of configuration.sales.grouping.groupingPeriod.groupingPeriodOptions"),
    (lambda c: select_invoice_grouping(c, "Country", "Planet"),
     ("'Planet' is not among the 2 options of "
      "configuration.sales.grouping.groupingLevels.invoiceLevel.groupByOptions")),
    (lambda c: select_frequency(c, "Hourly"), "'Hourly' is not among the 2 options of schedule.frequencyOptions"),
    (lambda c: select_invoice_status(c, "Sent"),
     "'Sent' is not among the 3 options of configuration.sales.invoiceStatus.invoiceStatusOptions"),
    (lambda c: select_invoice_status(c, "Paid"),
     "configuration.sales.invoiceStatus.selectedInvoiceStatus: the invoice status must be Submitted or Draft"),
    (lambda c: select_invoice_status(c, "Draft"),
     ("configuration.sales.invoiceStatus.selectedInvoiceStatus: the invoice status must not be Draft, "
      "because payments are synced (configuration.newPayments.accounts)")),
    (lambda c: select_account(c, "new_payments", "card", "b"),
     "configuration.newPayments.accounts: card and payout must have different accounts"),
    (lambda c: select_account(c, "new_payments", "prepaidPayment", "b"),
     "configuration.newPayments.accounts: prepaidPayment must have another account than prepaid of the sales"),
    (lambda c: select_account(c, "sales", "prepaid", "c"),
     "configuration.newPayments.accounts: prepaidPayment must have another account than prepaid of the sales"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "words"), REFUSALS, ids=[words for _, words in REFUSALS])
def test_a_configuration_that_would_fail_a_sync_is_refused(
    change: Callable[[Configuration], Configuration], words: str
) -> None:
    with pytest.raises(ValueError, match=r"^") as caught:
        change(a_configuration())
    assert str(caught.value) == words


@pytest.mark.parametrize("missing", ["sales", "fees"])
def test_an_option_that_is_not_in_the_configuration_cannot_be_selected(missing: str) -> None:
    configuration = a_configuration(**{missing: None})
    with pytest.raises(ValueError, match=rf"has no configuration\.{missing}"):
        (select_customer if missing == "sales" else select_supplier)(configuration, "a")
    with pytest.raises(ValueError, match="has no configuration"):
        select_customer(Configuration(), "a")


def test_a_problem_that_was_there_before_does_not_stand_in_the_way() -> None:
    payments = {"syncPayments": True, "accounts": {"card": slot("a"), "payout": slot("a"), "cash": slot()}}
    configuration = a_configuration(payments=payments)
    assert select_account(configuration, "payments", "cash", "b") != configuration


def test_a_section_that_is_switched_off_has_no_conflicts() -> None:
    payments = {"syncPayments": False, "accounts": {"card": slot("a"), "payout": slot("b")}}
    configuration = a_configuration(payments=payments, newPayments=None, fees=None)
    assert select_invoice_status(configuration, "Draft") != configuration
    assert select_account(configuration, "payments", "card", "b") != configuration


def test_tax_components_are_mapped_to_one_rate_each() -> None:
    configuration = map_tax_rates(a_configuration(), ["y", "z", "y"], "b")
    assert orjson.loads(encode(configuration))["configuration"]["sales"]["newTaxRates"]["taxRateMappings"] == [
        {"selectedCommerceTaxRateIds": ["x"], "selectedAccountingTaxRateId": "a", "since": 1},
        {"selectedCommerceTaxRateIds": ["y", "z"], "selectedAccountingTaxRateId": "b"},
    ]


def test_a_mapping_that_loses_all_its_components_goes() -> None:
    configuration = map_tax_rates(a_configuration(), ["x", "y"], "b")
    assert orjson.loads(encode(configuration))["configuration"]["sales"]["newTaxRates"]["taxRateMappings"] == [
        {"selectedCommerceTaxRateIds": ["x", "y"], "selectedAccountingTaxRateId": "b"},
    ]


def test_required_accounts_without_a_selection_are_found() -> None:
    sales = {"accounts": {"sales": slot(required=True), "refund": slot("", required=True), "tip": slot()}}
    payments = {"syncPayments": True, "accounts": {"cash": slot("a", required=True), "card": slot(required=True)}}
    assert unselected_accounts(a_configuration(sales=sales, payments=payments)) == (
        ("sales", "sales"),
        ("sales", "refund"),
        ("payments", "card"),
    )


def test_accounts_of_a_section_that_is_switched_off_are_not_missed() -> None:
    assert unselected_accounts(a_configuration()) == ()
    assert unselected_accounts(Configuration()) == ()


def test_a_sound_configuration_has_no_problems() -> None:
    assert configuration_problems(a_configuration()) == ()
    assert configuration_problems(Configuration()) == ()


ACCOUNT, CUSTOMER = "configuration.sales.accounts.sales", "configuration.sales.salesCustomer"
NOT_AMONG = "the selection is not among"
LEVELS = "configuration.sales.grouping.groupingLevels"
PROBLEMS: list[tuple[dict[str, Any], list[str]]] = [
    ({"sales": {"salesCustomer": {"customerOptions": OPTIONS}}},
     ["configuration.sales.salesCustomer.selectedCustomerId: nothing is selected"]),
    ({"sales": {"salesCustomer": {"selectedCustomerId": "q", "customerOptions": OPTIONS}}},
     [f"{CUSTOMER}.selectedCustomerId: {NOT_AMONG} {CUSTOMER}.customerOptions"]),
    ({"sales": {"accounts": {"sales": slot(required=True)}}},
     ["configuration.sales.accounts.sales.selectedAccountId: nothing is selected"]),
    ({"sales": {"accounts": {"sales": slot("q")}}},
     [f"{ACCOUNT}.selectedAccountId: {NOT_AMONG} {ACCOUNT}.accountOptions"]),
    ({"sales": {"taxRates": {"5": {"selectedTaxRateId": "a"}}}},
     [f"configuration.sales.taxRates.5.selectedTaxRateId: {NOT_AMONG} configuration.sales.taxRates.5.taxRateOptions"]),
    ({"sales": {"invoiceStatus": {"selectedInvoiceStatus": "Paid", "invoiceStatusOptions": ["Paid"]}}},
     ["configuration.sales.invoiceStatus.selectedInvoiceStatus: the invoice status must be Submitted or Draft"]),
    ({"sales": {"grouping": {"groupingPeriod": {"groupingPeriodOptions": ["Daily"]},
                             "groupingLevels": {"invoiceLevel": {"selectedGroupByOptions": ["x"]}}}}},
     ["configuration.sales.grouping.groupingPeriod.selectedGroupingPeriod: nothing is selected",
      f"{LEVELS}.invoiceLevel.selectedGroupByOptions: {NOT_AMONG} {LEVELS}.invoiceLevel.groupByOptions"]),
    ({"sales": {"syncSales": False, "salesCustomer": {}, "accounts": {"sales": slot(required=True)}}}, []),
    ({"fees": {"syncFees": True, "feesSupplier": {"supplierOptions": OPTIONS}}},
     ["configuration.fees.feesSupplier.selectedSupplierId: nothing is selected"]),
    ({"newPayments": None},
     ["configuration.fees.syncFees: an account for payments must be selected if fees are synced"]),
    ({"newPayments": {"syncPayments": True, "accounts": {"Card": slot("a"), "Payout": slot("a")}}},
     ["configuration.newPayments.accounts: card and payout must have different accounts"]),
]  # fmt: skip


@all_cases(("parts", "problems"), PROBLEMS)
def test_problems_are_found_before_a_sync_finds_them(parts: dict[str, Any], problems: list[str]) -> None:
    assert [str(problem) for problem in configuration_problems(a_configuration(**parts))] == problems


def test_a_schedule_without_a_frequency_is_a_problem() -> None:
    configuration = a_configuration()
    assert configuration.schedule is not None
    unset = evolve(configuration, schedule=evolve(configuration.schedule, selected_frequency=None))
    assert [problem.path for problem in configuration_problems(unset)] == ["schedule.selectedFrequency"]


@all_cases("section", ["sales", "payments", "new_payments", "fees"])
def test_every_section_with_accounts_can_be_requested(section: AccountSection) -> None:
    with pytest.raises(ValueError, match="has no configuration"):
        select_account(a_configuration(), section, "no such slot", "a")


def test_a_section_that_is_none_is_refused_by_its_name() -> None:
    with pytest.raises(ValueError, match="section must be one of sales, payments, new_payments, fees"):
        select_account(Configuration(), "nope", "sales", "1")  # type: ignore[arg-type]  # that is what is tested
