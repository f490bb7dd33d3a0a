"""One rule for each cause, which recognizes Codat's codes and messages and names an action."""

from codat_commerce_async.models.causes import FailureCause
from codat_commerce_async.models.failure_rules import RULES, rule_for_code, rule_for_message, rule_of
from tests.support.cases import all_cases

MESSAGES = {
    "Company needs to have two valid data connections.": FailureCause.UNLINKED_CONNECTION,
    "To sync fees: Payments section needs to exist": FailureCause.PAYMENTS_NOT_CONFIGURED,
    "Payments account id needs to be set": FailureCause.PAYMENTS_NOT_CONFIGURED,
    "Payments config invalid. `Prepaid` should not match `x`.": FailureCause.SAME_PREPAID_ACCOUNT,
    "Prepaid account in Sales should not match PrepaidPayment in Payments": FailureCause.SAME_PREPAID_ACCOUNT,
    "Payments config invalid. `Card` should not match `Payout`.": FailureCause.SAME_PAYOUT_ACCOUNT,
    "No sales customer has been configured.": FailureCause.INVALID_SALES_CUSTOMER,
    "Selected customer not present in customer options.": FailureCause.INVALID_SALES_CUSTOMER,
    "Selected Account is not a valid option.": FailureCause.INVALID_ACCOUNT,
    "No grouping period selected.": FailureCause.INVALID_GROUPING,
    "Grouping period selected not from options.": FailureCause.INVALID_GROUPING,
    "Invalid invoice level grouping selected.": FailureCause.INVALID_GROUPING,
    "Invalid invoice line level grouping selected.": FailureCause.INVALID_GROUPING,
    "Payments cannot be enabled if invoice status is set to **draft**.": FailureCause.PAYMENTS_ON_DRAFT_INVOICES,
    "Config contains required accounts without selections.": FailureCause.UNMAPPED_ACCOUNT,
    "No Sales Account Present.": FailureCause.NO_SALES_ACCOUNT,
    "No schedule selected frequency.": FailureCause.INVALID_SCHEDULE,
    "Selected schedule frequency not present in options.": FailureCause.INVALID_SCHEDULE,
    "No selected invoice status.": FailureCause.INVALID_INVOICE_STATUS,
    "Invalid invoice status selected (must be submitted or draft).": FailureCause.INVALID_INVOICE_STATUS,
    "Tax rate is missing selected tax rate id.": FailureCause.UNMAPPED_TAX_RATE,
    "Selected tax rate id for `5% tax-rate` has no options.": FailureCause.UNMAPPED_TAX_RATE,
    "No fees supplier has been configured.": FailureCause.INVALID_FEES_SUPPLIER,
    "Selected supplier not present in supplier options.": FailureCause.INVALID_FEES_SUPPLIER,
    "The following account(s) were not found (Payment account - 7): `x`.": FailureCause.ACCOUNT_NOT_FOUND,
    "Account 7 is not in an **Active** state.": FailureCause.INACTIVE_ACCOUNT,
    "Customer is not in an Active state.": FailureCause.INACTIVE_CUSTOMER,
    "Supplier is not in an Active state.": FailureCause.INACTIVE_SUPPLIER,
    "Customer `7` does not exist.": FailureCause.CUSTOMER_NOT_FOUND,
    "Supplier does not exist.": FailureCause.SUPPLIER_NOT_FOUND,
    "Tax Rate `7` does not exist.": FailureCause.TAX_RATE_NOT_FOUND,
    "The following Tax Rates are invalid: 7.": FailureCause.TAX_RATE_NOT_FOUND,
    "No company was found with ID.": FailureCause.COMPANY_NOT_FOUND,
    "Date overlaps with a previous sync date range.": FailureCause.OVERLAPPING_PERIOD,
    "Please reconcile manually": FailureCause.MANUAL_RECONCILIATION,
}
CODES = {
    4040: FailureCause.DELETED_COMPANY,
    4220: FailureCause.DEAUTHORIZED_COMPANY,
    4260: FailureCause.SUBSCRIPTION_LAPSED,
    5000: FailureCause.SERVER_ERROR,
    5080: FailureCause.DUPLICATE_PERIOD,
    5120: FailureCause.DATA_PROCESSING_ERROR,
    5130: FailureCause.ITEMS_NOT_WRITTEN,
}


def test_each_cause_has_exactly_one_rule_with_actions() -> None:
    assert sorted(rule.cause for rule in RULES) == sorted(FailureCause)
    assert all(rule_of(cause).cause is cause and rule_of(cause).actions for cause in FailureCause)


@all_cases("message", MESSAGES)
def test_a_documented_message_has_its_cause(message: str) -> None:
    rule = rule_for_message(message)
    assert rule is not None
    assert rule.cause is MESSAGES[message]


def test_each_rule_with_a_pattern_has_a_documented_message_here() -> None:
    assert {rule.cause for rule in RULES if rule.pattern} == set(MESSAGES.values())


def test_a_code_that_stands_for_one_cause_has_its_rule() -> None:
    found = {code: rule.cause for code in range(1000, 6000) if (rule := rule_for_code(code))}
    assert found == CODES


@all_cases("message", [None, "", "Something new", "an account", "active"])
def test_any_other_message_has_none(message: str | None) -> None:
    assert rule_for_message(message) is None


def test_no_diagnosis_needs_more_than_five_requests() -> None:
    assert max(len(set(rule.sources)) for rule in RULES) <= 5
