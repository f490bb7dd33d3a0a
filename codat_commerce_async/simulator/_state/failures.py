"""The causes of failed syncs: what each does to a company's configuration, and how its syncs end."""

import copy
from collections.abc import Callable, Iterator, Mapping
from enum import Enum

from attrs import frozen

from codat_commerce_async.models.causes import FailureCause

__all__ = ["FAILURES", "Condition", "Failure", "apply_failure", "undo"]

Configuration = dict[str, object]
Values = dict[str, object]


class _Missing(Enum):
    """The value of a setting that is not in the configuration; a copy of it is the same."""

    MISSING = "missing"


_MISSING = _Missing.MISSING
_NO_SUCH_ID = "00000000-0000-4000-8000-000000000000"
_SALES = "configuration.sales"
_PAYMENTS = "configuration.payments"
_NEW_PAYMENTS = "configuration.newPayments"
_SALES_ACCOUNT = f"{_SALES}.accounts.sales"
_GIFT_CARDS = f"{_SALES}.accounts.giftCards"
_CUSTOMER = f"{_SALES}.salesCustomer.selectedCustomerId"
_SUPPLIER = "configuration.fees.feesSupplier.selectedSupplierId"
_TAX_RATE = f"{_SALES}.taxRates.sales.selectedTaxRateId"
_INVOICE_STATUS = f"{_SALES}.invoiceStatus.selectedInvoiceStatus"
_NOT_WRITTEN = "At least one item could not be written."


def _nothing(_configuration: Configuration) -> Values:
    return {}


@frozen
class Failure:
    """How syncs end because of a cause; `values` returns the settings, by their path, that last as long as the cause.

    `item` is the message of the validation errors of the items that were not written.
    """

    code: int
    message: str
    values: Callable[[Configuration], Values] = _nothing
    item: str = "The record is locked in the accounting software."

    @property
    def is_early(self) -> bool:
        """Whether the sync fails before it reads and writes data."""
        return self.code // 1000 == 4  # noqa: PLR2004 - 4xxx is found by the validation


def _set(path: str, value: object) -> Callable[[Configuration], Values]:
    return lambda _configuration: {path: value}


def _keep(path: str) -> Callable[[Configuration], Values]:
    """Return the selection as it is: the record behind it has changed, not the configuration."""
    return lambda configuration: {path: _get(configuration, path)}


def _share_account(*paths: str) -> Callable[[Configuration], Values]:
    def values(configuration: Configuration) -> Values:
        account = _get(configuration, _GIFT_CARDS)
        return {path: copy.deepcopy(account) for path in paths}

    return values


def _without_payments(_configuration: Configuration) -> Values:
    return {
        f"{_PAYMENTS}.syncPayments": False,
        f"{_PAYMENTS}.accounts": {},
        f"{_NEW_PAYMENTS}.syncPayments": False,
        f"{_NEW_PAYMENTS}.accounts": {},
    }


def _without_options(configuration: Configuration) -> Values:
    account = _get(configuration, _SALES_ACCOUNT)
    known = account if isinstance(account, dict) else {}
    return {_SALES_ACCOUNT: {**known, "selectedAccountId": None, "accountOptions": []}}


FAILURES: Mapping[FailureCause, Failure] = {
    FailureCause.DELETED_COMPANY: Failure(4040, "The company was deleted."),
    FailureCause.DEAUTHORIZED_COMPANY: Failure(4220, "A connection of the company was de-authorized."),
    FailureCause.SUBSCRIPTION_LAPSED: Failure(4260, "The accounting software's subscription has lapsed."),
    FailureCause.SERVER_ERROR: Failure(5000, "An internal error occurred."),
    FailureCause.DUPLICATE_PERIOD: Failure(5080, "A sync of this period is running or has succeeded already."),
    FailureCause.DATA_PROCESSING_ERROR: Failure(5120, "The data could not be processed."),
    FailureCause.ITEMS_NOT_WRITTEN: Failure(5130, _NOT_WRITTEN),
    FailureCause.SYNC_DISABLED: Failure(4000, "The sync is turned off for the company.", _set("enable", value=False)),
    FailureCause.UNLINKED_CONNECTION: Failure(4000, "The company needs to have two valid data connections."),
    FailureCause.PAYMENTS_NOT_CONFIGURED: Failure(
        4000, "Fees are turned on, so the payments section needs to be configured.", _without_payments
    ),
    FailureCause.SAME_PREPAID_ACCOUNT: Failure(
        4000,
        "The prepaid account must not match the prepaid payment account.",
        _share_account(f"{_SALES}.accounts.prepaid", f"{_PAYMENTS}.accounts.prepaidPayment"),
    ),
    FailureCause.SAME_PAYOUT_ACCOUNT: Failure(
        4000,
        "Payments config invalid: the card account must not match the payout account.",
        _share_account(f"{_NEW_PAYMENTS}.accounts.card", f"{_NEW_PAYMENTS}.accounts.payout"),
    ),
    FailureCause.INVALID_SALES_CUSTOMER: Failure(4000, "No sales customer is selected.", _set(_CUSTOMER, None)),
    FailureCause.INVALID_ACCOUNT: Failure(
        4000,
        "The selected account is not a valid option for sales.",
        _set(f"{_SALES_ACCOUNT}.selectedAccountId", _NO_SUCH_ID),
    ),
    FailureCause.INVALID_GROUPING: Failure(
        4000,
        "No grouping period selected.",
        _set(f"{_SALES}.grouping.groupingPeriod.selectedGroupingPeriod", None),
    ),
    FailureCause.PAYMENTS_ON_DRAFT_INVOICES: Failure(
        4000, "Payments cannot be synced while the invoice status is draft.", _set(_INVOICE_STATUS, "Draft")
    ),
    FailureCause.UNMAPPED_ACCOUNT: Failure(
        4000,
        "There are required accounts without selections: giftCards.",
        _set(f"{_GIFT_CARDS}.selectedAccountId", None),
    ),
    FailureCause.NO_SALES_ACCOUNT: Failure(
        4000, "There is no sales account present in the accounting software.", _without_options
    ),
    FailureCause.INVALID_SCHEDULE: Failure(
        4000, "No schedule frequency is selected.", _set("schedule.selectedFrequency", None)
    ),
    FailureCause.INVALID_INVOICE_STATUS: Failure(4000, "No invoice status is selected.", _set(_INVOICE_STATUS, None)),
    FailureCause.UNMAPPED_TAX_RATE: Failure(4000, "Missing selected tax rate id for sales.", _set(_TAX_RATE, None)),
    FailureCause.INVALID_FEES_SUPPLIER: Failure(4000, "No fees supplier is selected.", _set(_SUPPLIER, None)),
    FailureCause.ACCOUNT_NOT_FOUND: Failure(
        4000, "Accounts not found: sales.", _keep(f"{_SALES_ACCOUNT}.selectedAccountId")
    ),
    FailureCause.INACTIVE_ACCOUNT: Failure(
        4000, "The account for sales is not active.", _keep(f"{_SALES_ACCOUNT}.selectedAccountId")
    ),
    FailureCause.INACTIVE_CUSTOMER: Failure(4000, "The customer is not active.", _keep(_CUSTOMER)),
    FailureCause.INACTIVE_SUPPLIER: Failure(4000, "The supplier is not active.", _keep(_SUPPLIER)),
    FailureCause.CUSTOMER_NOT_FOUND: Failure(4000, "The customer of the sales does not exist.", _keep(_CUSTOMER)),
    FailureCause.SUPPLIER_NOT_FOUND: Failure(4000, "The supplier of the fees does not exist.", _keep(_SUPPLIER)),
    FailureCause.TAX_RATE_NOT_FOUND: Failure(4000, "The tax rate of the sales does not exist.", _keep(_TAX_RATE)),
    FailureCause.COMPANY_NOT_FOUND: Failure(4000, "No company was found with the id."),
    FailureCause.OVERLAPPING_PERIOD: Failure(5080, "Date overlaps with a previous sync date range"),
    FailureCause.MANUAL_RECONCILIATION: Failure(
        5130, _NOT_WRITTEN, item="The changed order has no original to adjust, please reconcile manually."
    ),
    FailureCause.UNKNOWN: Failure(4000, "The sync was refused for a reason that has no documentation."),
}


@frozen(eq=False)
class Condition:
    """A cause that lasts until the settings at `after` have other values, or `undo` restores those of `before`."""

    cause: FailureCause
    before: Values
    after: Values

    def lasts(self, configuration: Configuration) -> bool:
        """Return whether the settings are still those of the cause."""
        return all(_get(configuration, path) == value for path, value in self.after.items())


def apply_failure(configuration: Configuration, cause: FailureCause) -> Condition:
    """Change the configuration in place so that its syncs fail because of the cause, and return the condition."""
    after = FAILURES[cause].values(configuration)
    before = {path: copy.deepcopy(_get(configuration, path)) for path in after}
    for path, value in after.items():
        _put(configuration, path, copy.deepcopy(value))
    return Condition(cause, before, after)


def undo(configuration: Configuration, condition: Condition) -> None:
    """Restore the settings from before the cause, in place, unless others were set since."""
    for path, value in condition.before.items():
        if _get(configuration, path) == condition.after[path]:
            _put(configuration, path, copy.deepcopy(value))


def _get(configuration: Configuration, path: str) -> object:
    value: object = configuration
    for name in path.split("."):
        if not isinstance(value, dict) or name not in value:
            return _MISSING
        value = value[name]
    return value


def _put(configuration: Configuration, path: str, value: object) -> None:
    *names, last = path.split(".")
    holder = configuration
    for inner in _inner(holder, names):
        holder = inner
    if value is _MISSING:
        holder.pop(last, None)
    else:
        holder[last] = value


def _inner(holder: Configuration, names: list[str]) -> Iterator[Configuration]:
    for name in names:
        inner = holder.get(name)
        if not isinstance(inner, dict):
            inner = holder[name] = {}
        holder = inner
        yield holder
