"""Change the common settings of a configuration, with the checks that Codat makes only when it syncs.

Each `select_...` returns a changed copy, to be written back with `set_configuration`. It raises ValueError for a
selection that would make a sync fail, and names the path of the options in the JSON.
Source: https://docs.codat.io/commerce/error-documentation#how-to-resolve-configuration-errors
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal, TypeAlias, cast

from attrs import evolve, frozen

from codat_commerce_async.models._fields import camel_case
from codat_commerce_async.models.base import Model
from codat_commerce_async.models.causes import FailureCause
from codat_commerce_async.models.configuration import (
    AccountConfiguration,
    CommerceConfiguration,
    Configuration,
    NewTaxRates,
    TaxRateMapping,
)
from codat_commerce_async.models.enums import SyncFrequency
from codat_commerce_async.models.failure_rules import rule_of

__all__ = [
    "AccountSection",
    "ConfigurationProblem",
    "configuration_problems",
    "map_tax_rates",
    "select_account",
    "select_customer",
    "select_default_zero_tax_rate",
    "select_frequency",
    "select_grouping_period",
    "select_invoice_grouping",
    "select_invoice_line_grouping",
    "select_invoice_status",
    "select_supplier",
    "select_tax_rate",
    "unselected_accounts",
]

AccountSection: TypeAlias = Literal["sales", "payments", "new_payments", "fees"]
"""The parts of a configuration that have accounts."""

Path: TypeAlias = tuple[str, ...]


@frozen
class ConfigurationProblem:
    """A setting that would make a sync fail; `path` is its path in the JSON.

    `cause` is that of the failed sync, `options` how many can be selected (None where this is not a selection).
    """

    path: str
    """The path of the setting in the JSON."""

    message: str
    """What is wrong."""

    cause: FailureCause = FailureCause.UNKNOWN
    """The cause that a sync would fail with."""

    options: int | None = None
    """How many options can be selected; None for a setting that is not a selection."""

    @property
    def name(self) -> str:
        """The name of the setting, such as `giftCards` for an account or `salesCustomer`."""
        steps = self.path.split(".")
        return steps[-2] if steps[-1].startswith("selected") else steps[-1]

    @property
    def action(self) -> str:
        """What has to be done, such as `select an account for giftCards; 12 options available`."""
        fix = rule_of(self.cause).fix
        if fix is None:
            return f"correct {self}"
        available = f"{self.options} {'option' if self.options == 1 else 'options'} available"
        name = self.path if self.options is None else self.name
        return fix.format(name=name, options=available if self.options is not None else "").removesuffix("; ")

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


@frozen
class _Selection:
    """A setting: its path, the names of the fields with the selection and with the options, and what it causes.

    A sync fails because of `cause_if_missing` (None: of `cause` too) if nothing is selected.
    """

    path: Path
    selected: str
    options: str
    cause: FailureCause
    cause_if_missing: FailureCause | None = None


_SALES = ("configuration", "sales")
_LEVELS = (*_SALES, "grouping", "grouping_levels")
_NEW_TAX_RATES = (*_SALES, "new_tax_rates")

_FREQUENCY = _Selection(("schedule",), "selected_frequency", "frequency_options", FailureCause.INVALID_SCHEDULE)
_CUSTOMER = _Selection(
    (*_SALES, "sales_customer"), "selected_customer_id", "customer_options", FailureCause.INVALID_SALES_CUSTOMER
)
_SUPPLIER = _Selection(
    ("configuration", "fees", "fees_supplier"),
    "selected_supplier_id",
    "supplier_options",
    FailureCause.INVALID_FEES_SUPPLIER,
)
_INVOICE_STATUS = _Selection(
    (*_SALES, "invoice_status"),
    "selected_invoice_status",
    "invoice_status_options",
    FailureCause.INVALID_INVOICE_STATUS,
)
_PERIOD = _Selection(
    (*_SALES, "grouping", "grouping_period"),
    "selected_grouping_period",
    "grouping_period_options",
    FailureCause.INVALID_GROUPING,
)
_INVOICE_LEVEL = _Selection(
    (*_LEVELS, "invoice_level"), "selected_group_by_options", "group_by_options", FailureCause.INVALID_GROUPING
)
_LINE_LEVEL = _Selection(
    (*_LEVELS, "invoice_line_level"), "selected_group_by_options", "group_by_options", FailureCause.INVALID_GROUPING
)
_ZERO_TAX_RATE = _Selection(
    _NEW_TAX_RATES, "selected_default_zero_tax_rate_id", "default_zero_tax_rate_options", FailureCause.UNMAPPED_TAX_RATE
)

_SECTIONS: Mapping[AccountSection, str] = {
    "sales": "sync_sales",
    "payments": "sync_payments",
    "new_payments": "sync_payments",
    "fees": "sync_fees",
}
"""The sections with accounts, and what switches each on."""


def _account(section: str, account: str) -> _Selection:
    path = ("configuration", section, "accounts", account)
    invalid, missing = FailureCause.INVALID_ACCOUNT, FailureCause.UNMAPPED_ACCOUNT
    return _Selection(path, "selected_account_id", "account_options", invalid, missing)


def _tax_rate(percentage: str) -> _Selection:
    path = (*_SALES, "tax_rates", percentage)
    return _Selection(path, "selected_tax_rate_id", "tax_rate_options", FailureCause.UNMAPPED_TAX_RATE)


def select_account(
    configuration: Configuration, section: AccountSection, account: str, account_id: str
) -> Configuration:
    """Return the configuration with an account selected for a slot, such as `refund` of `sales`.

    Prepaid sales and prepaid payments cannot share one, nor can cards and payouts.

    Args:
        configuration: The company's configuration.
        section: The section of the configuration, such as `sales`.
        account: The slot, such as `refund`.
        account_id: The id of one of the slot's options.
    """
    if section not in _SECTIONS:
        raise ValueError(f"section must be one of {', '.join(_SECTIONS)} (got {section!r})")
    return _select(configuration, _account(section, account), account_id)


def select_tax_rate(configuration: Configuration, percentage: str, tax_rate_id: str) -> Configuration:
    """Return the configuration with a tax rate selected for a percentage, such as `17.5`.

    Args:
        configuration: The company's configuration.
        percentage: The percentage as Codat writes it, such as `17.5`.
        tax_rate_id: The id of one of the options.
    """
    return _select(configuration, _tax_rate(percentage), tax_rate_id)


def select_default_zero_tax_rate(configuration: Configuration, tax_rate_id: str) -> Configuration:
    """Return the configuration with the tax rate for zero tax selected.

    Args:
        configuration: The company's configuration.
        tax_rate_id: The id of one of the options.
    """
    return _select(configuration, _ZERO_TAX_RATE, tax_rate_id)


def select_customer(configuration: Configuration, customer_id: str) -> Configuration:
    """Return the configuration with the customer selected that invoices are raised against.

    Args:
        configuration: The company's configuration.
        customer_id: The id of one of the options.
    """
    return _select(configuration, _CUSTOMER, customer_id)


def select_supplier(configuration: Configuration, supplier_id: str) -> Configuration:
    """Return the configuration with the supplier selected that fees are paid to.

    Args:
        configuration: The company's configuration.
        supplier_id: The id of one of the options.
    """
    return _select(configuration, _SUPPLIER, supplier_id)


def select_invoice_status(configuration: Configuration, status: str) -> Configuration:
    """Return the configuration with the status selected that invoices are raised with.

    It is `Submitted` or `Draft`, and not the latter while payments are synced.

    Args:
        configuration: The company's configuration.
        status: One of the options.
    """
    return _select(configuration, _INVOICE_STATUS, status)


def select_grouping_period(configuration: Configuration, period: str) -> Configuration:
    """Return the configuration with the period selected whose sales make one invoice.

    Args:
        configuration: The company's configuration.
        period: One of the options.
    """
    return _select(configuration, _PERIOD, period)


def select_invoice_grouping(configuration: Configuration, *options: str) -> Configuration:
    """Return the configuration with the options selected that split sales into different invoices.

    Args:
        configuration: The company's configuration.
        *options: Some of the options, or none.
    """
    return _select(configuration, _INVOICE_LEVEL, options)


def select_invoice_line_grouping(configuration: Configuration, *options: str) -> Configuration:
    """Return the configuration with the options selected that split sales into different invoice lines.

    Args:
        configuration: The company's configuration.
        *options: Some of the options, or none.
    """
    return _select(configuration, _LINE_LEVEL, options)


def select_frequency(configuration: Configuration, frequency: str) -> Configuration:
    """Return the configuration with the frequency of the scheduled sync.

    Args:
        configuration: The company's configuration.
        frequency: One of the options.
    """
    return _select(configuration, _FREQUENCY, SyncFrequency(frequency))


def map_tax_rates(
    configuration: Configuration, commerce_tax_rate_ids: Collection[str], accounting_tax_rate_id: str
) -> Configuration:
    """Return the configuration with tax components of the commerce software mapped to one accounting tax rate.

    A component that was mapped elsewhere is so no more.

    Args:
        configuration: The company's configuration.
        commerce_tax_rate_ids: The ids of the tax components.
        accounting_tax_rate_id: The id of the tax rate that they are mapped to.
    """
    rates = cast("NewTaxRates", _get_path(configuration, _NEW_TAX_RATES))
    ids = tuple(dict.fromkeys(commerce_tax_rate_ids))
    _require_options(ids, rates.commerce_tax_rate_options, (*_NEW_TAX_RATES, "commerce_tax_rate_options"))
    accounting_options = (*_NEW_TAX_RATES, "accounting_tax_rate_options")
    _require_options((accounting_tax_rate_id,), rates.accounting_tax_rate_options, accounting_options)
    mappings = tuple(_remap(rates.tax_rate_mappings, ids, accounting_tax_rate_id))
    return cast("Configuration", _set_path(configuration, (*_NEW_TAX_RATES, "tax_rate_mappings"), mappings))


def unselected_accounts(configuration: Configuration) -> tuple[tuple[AccountSection, str], ...]:
    """Return the section and the name of each account that is required and has no selection.

    Sections that are switched off are left out.

    Args:
        configuration: The company's configuration.
    """
    return tuple(
        (section, name)
        for section, name, account in _accounts(configuration)
        if account.required and not account.selected_account_id
    )


def configuration_problems(configuration: Configuration) -> tuple[ConfigurationProblem, ...]:
    """Return the settings that Codat documents as configuration errors, as far as the configuration shows them.

    What is not in the configuration, or belongs to a section that is switched off, is no problem.

    Args:
        configuration: The company's configuration.
    """
    return (
        *(problem for slot in _slots(configuration) for problem in _slot_problems(configuration, slot)),
        *_conflicts(configuration),
    )


def _slots(configuration: Configuration) -> Iterator[_Selection]:
    yield _FREQUENCY
    for section, name, account in _accounts(configuration):
        if account.required or account.selected_account_id:
            yield _account(section, name)
    commerce = configuration.configuration
    if commerce and commerce.sales and commerce.sales.sync_sales is not False:
        yield from (_CUSTOMER, _INVOICE_STATUS, _PERIOD, _INVOICE_LEVEL, _LINE_LEVEL)
        yield from map(_tax_rate, commerce.sales.tax_rates)
    if commerce and commerce.fees and commerce.fees.sync_fees is not False:
        yield _SUPPLIER


def _slot_problems(configuration: Configuration, slot: _Selection) -> Iterator[ConfigurationProblem]:
    try:
        holder = _get_path(configuration, slot.path)
    except ValueError:
        return
    selected, path = getattr(holder, slot.selected), (*slot.path, slot.selected)
    options, where = _ids(getattr(holder, slot.options)), _in_json((*slot.path, slot.options))
    if selected is None or selected == "":
        missing = slot.cause_if_missing or slot.cause
        yield ConfigurationProblem(_in_json(path), "nothing is selected", missing, len(options))
    elif not options.issuperset((selected,) if isinstance(selected, str) else selected):
        message = f"the selection is not among {where}"
        yield ConfigurationProblem(_in_json(path), message, slot.cause, len(options))


def _conflicts(configuration: Configuration) -> Iterator[ConfigurationProblem]:
    """Find selections that are valid individually, but not in combination."""
    commerce = configuration.configuration
    if commerce is None:
        return
    status = _invoice_status(commerce)
    if status not in {"", "submitted", "draft"}:
        message = "the invoice status must be Submitted or Draft"
        yield ConfigurationProblem(_STATUS_PATH, message, FailureCause.INVALID_INVOICE_STATUS)
    selected: dict[tuple[str, str], str] = {
        (section, name.lower()): account.selected_account_id
        for section, name, account in _accounts(configuration)
        if account.selected_account_id
    }
    for section in _payment_sections(commerce):
        path = _in_json(("configuration", section, "accounts"))
        if status == "draft":
            message = f"the invoice status must not be Draft, because payments are synced ({path})"
            yield ConfigurationProblem(_STATUS_PATH, message, FailureCause.PAYMENTS_ON_DRAFT_INVOICES)
        if _shared(selected, ("sales", "prepaid"), (section, "prepaidpayment")):
            message = "prepaidPayment must have another account than prepaid of the sales"
            yield ConfigurationProblem(path, message, FailureCause.SAME_PREPAID_ACCOUNT)
        if _shared(selected, (section, "card"), (section, "payout")):
            message = "card and payout must have different accounts"
            yield ConfigurationProblem(path, message, FailureCause.SAME_PAYOUT_ACCOUNT)
    if commerce.fees and commerce.fees.sync_fees and not _has_payment_account(commerce):
        message = "an account for payments must be selected if fees are synced"
        yield ConfigurationProblem("configuration.fees.syncFees", message, FailureCause.PAYMENTS_NOT_CONFIGURED)


def _invoice_status(commerce: CommerceConfiguration) -> str:
    invoice = commerce.sales.invoice_status if commerce.sales else None
    return (invoice.selected_invoice_status or "").lower() if invoice else ""


def _has_payment_account(commerce: CommerceConfiguration) -> bool:
    return any(
        account.selected_account_id
        for section in (commerce.payments, commerce.new_payments)
        if section
        for account in section.accounts.values()
    )


def _shared(selected: Mapping[tuple[str, str], str], one: tuple[str, str], other: tuple[str, str]) -> bool:
    return one in selected and selected[one] == selected.get(other)


def _payment_sections(commerce: CommerceConfiguration) -> Iterator[AccountSection]:
    if commerce.payments and commerce.payments.sync_payments:
        yield "payments"
    if commerce.new_payments and commerce.new_payments.sync_payments:
        yield "new_payments"


def _accounts(configuration: Configuration) -> Iterator[tuple[AccountSection, str, AccountConfiguration]]:
    """Find the accounts of the sections that are enabled."""
    for section, switch in _SECTIONS.items():
        part: Any = getattr(configuration.configuration, section, None)
        if part is not None and getattr(part, switch) is not False:
            for name, account in part.accounts.items():
                yield section, name, account


def _select(configuration: Configuration, slot: _Selection, value: str | tuple[str, ...]) -> Configuration:
    holder = _get_path(configuration, slot.path)
    values = (value,) if isinstance(value, str) else value
    _require_options(values, getattr(holder, slot.options), (*slot.path, slot.options))
    changed = cast("Configuration", _set_path(configuration, (*slot.path, slot.selected), value))
    before = set(_conflicts(configuration))
    for problem in _conflicts(changed):
        if problem not in before:
            raise ValueError(str(problem))
    return changed


def _require_options(values: Collection[str], options: Collection[object], path: Path) -> None:
    known = _ids(options)
    for value in values:
        if value not in known:
            raise ValueError(f"{str(value)!r} is not among the {len(options)} options of {_in_json(path)}")


def _ids(options: Collection[object]) -> set[object]:
    return {getattr(option, "id", option) for option in options}


def _remap(
    mappings: Collection[TaxRateMapping], ids: tuple[str, ...], accounting_tax_rate_id: str
) -> Iterator[TaxRateMapping]:
    mapping = TaxRateMapping(selected_commerce_tax_rate_ids=ids, selected_accounting_tax_rate_id=accounting_tax_rate_id)
    for each in mappings:
        rest = tuple(one for one in each.selected_commerce_tax_rate_ids if one not in ids)
        if rest == each.selected_commerce_tax_rate_ids:
            yield each
        elif rest:
            yield evolve(each, selected_commerce_tax_rate_ids=rest)
    yield mapping


def _get_path(holder: object, path: Path) -> object:
    """Follow the path; raises ValueError where it ends too early."""
    for number, step in enumerate(path):
        accounts = None if isinstance(holder, Model) else cast("Mapping[str, object]", holder)
        inner = getattr(holder, step) if accounts is None else accounts.get(step)
        if inner is None:
            names = "" if accounts is None else f", only {', '.join(accounts) or 'nothing'}"
            raise ValueError(f"the configuration has no {_in_json(path[: number + 1])}{names}")
        holder = inner
    return holder


def _set_path(holder: object, path: Path, value: object) -> object:
    """Return a copy of the holder with the value at the end of the path."""
    step, rest = path[0], path[1:]
    if isinstance(holder, Model):
        model: Any = holder
        return evolve(model, **{step: _set_path(getattr(model, step), rest, value) if rest else value})
    accounts = cast("Mapping[str, object]", holder)
    return {**accounts, step: _set_path(accounts[step], rest, value)}


def _in_json(path: Path) -> str:
    """Return the path in camelCase; the element after a mapping's name is a key and stays unchanged."""
    keys = {number + 1 for number, step in enumerate(path) if step in {"accounts", "tax_rates"}}
    return ".".join(step if number in keys else camel_case(step) for number, step in enumerate(path))


_STATUS_PATH = _in_json((*_INVOICE_STATUS.path, _INVOICE_STATUS.selected))
