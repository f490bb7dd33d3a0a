"""The configuration of a company's sync: read, changed and written back as a whole.

Every class here preserves unknown fields and the JSON that was received (see `PreservesUnknownFields`), so
`encode(attrs.evolve(configuration, ...))` differs from the received JSON only in the change. Lists and mappings that
Codat omits or sends as null are empty here, and are written back as they were received while they stay empty.

The names are those of Codat's reference: https://docs.codat.io/sync-for-commerce-api#/schemas/Configuration
"""

from collections.abc import Mapping
from datetime import datetime

from attrs import field, frozen

from codat_commerce_async.models.base import PreservesUnknownFields
from codat_commerce_async.models.enums import OutputFormat, SyncFrequency

__all__ = [
    "AccountConfiguration",
    "AccountConfigurationOption",
    "CommerceConfiguration",
    "Configuration",
    "ConfigurationMapSettings",
    "ConfigurationOption",
    "FeesConfiguration",
    "FeesSupplier",
    "Grouping",
    "GroupingLevels",
    "GroupingPeriod",
    "InvoiceLevelSelection",
    "InvoiceLineLevelSelection",
    "InvoiceStatus",
    "NewPaymentsConfiguration",
    "NewTaxRates",
    "PaymentsConfiguration",
    "SalesConfiguration",
    "SalesCustomer",
    "SyncSchedule",
    "TaxRateAmount",
    "TaxRateMapping",
]


@frozen(kw_only=True)
class SyncSchedule(PreservesUnknownFields):
    """The schedule: frequency, start (UTC) and hour (0 to 23) in the time zone."""

    selected_frequency: SyncFrequency | None = None
    frequency_options: tuple[SyncFrequency, ...] = ()
    start_date: datetime | None = None
    sync_hour: int | None = None
    time_zone: str | None = None


@frozen(kw_only=True)
class ConfigurationMapSettings(PreservesUnknownFields):
    """The form of the data in the accounting software."""

    output_format: OutputFormat | None = None


@frozen(kw_only=True)
class AccountConfigurationOption(PreservesUnknownFields):
    """A nominal or bank account of the merchant that can be selected."""

    id: str | None = None
    name: str | None = None
    nominal_code: str | None = None
    classification: str | None = None


@frozen(kw_only=True)
class AccountConfiguration(PreservesUnknownFields):
    """The account selected for one kind of amount, such as sales or refunds.

    `selected_account_id` has to be one of the options' ids.
    """

    label_text: str | None = None
    description_text: str | None = None
    selected_account_id: str | None = None
    required: bool | None = None
    account_options: tuple[AccountConfigurationOption, ...] = ()


@frozen(kw_only=True)
class ConfigurationOption(PreservesUnknownFields):
    """A record in the merchant's software that can be selected: a customer, a supplier, a tax rate."""

    id: str | None = None
    name: str | None = None


@frozen(kw_only=True)
class InvoiceStatus(PreservesUnknownFields):
    """The status that invoices are raised with; payments cannot be synced to drafts."""

    selected_invoice_status: str | None = None
    invoice_status_options: tuple[str, ...] = ()


@frozen(kw_only=True)
class SalesCustomer(PreservesUnknownFields):
    """The customer that invoices are raised against; the id has to be one of the options'."""

    selected_customer_id: str | None = None
    customer_options: tuple[ConfigurationOption, ...] = ()


@frozen(kw_only=True)
class TaxRateAmount(PreservesUnknownFields):
    """The accounting software's tax rate for one percentage; the id has to be one of the options'."""

    selected_tax_rate_id: str | None = None
    tax_rate_options: tuple[ConfigurationOption, ...] = ()


@frozen(kw_only=True)
class TaxRateMapping(PreservesUnknownFields):
    """Tax components of the commerce software that go to one tax rate of the accounting software."""

    selected_commerce_tax_rate_ids: tuple[str, ...] = ()
    selected_accounting_tax_rate_id: str | None = None


@frozen(kw_only=True)
class NewTaxRates(PreservesUnknownFields):
    """How the commerce software's tax components map to the accounting software's tax rates."""

    accounting_tax_rate_options: tuple[ConfigurationOption, ...] = ()
    commerce_tax_rate_options: tuple[ConfigurationOption, ...] = ()
    tax_rate_mappings: tuple[TaxRateMapping, ...] = ()
    selected_default_zero_tax_rate_id: str | None = None
    default_zero_tax_rate_options: tuple[ConfigurationOption, ...] = ()


@frozen(kw_only=True)
class GroupingPeriod(PreservesUnknownFields):
    """The period whose sales are combined into one invoice."""

    selected_grouping_period: str | None = None
    grouping_period_options: tuple[str, ...] = ()


@frozen(kw_only=True)
class InvoiceLevelSelection(PreservesUnknownFields):
    """Further criteria that split sales into different invoices."""

    selected_group_by_options: tuple[str, ...] = ()
    group_by_options: tuple[str, ...] = ()


@frozen(kw_only=True)
class InvoiceLineLevelSelection(PreservesUnknownFields):
    """Further criteria that split sales into different lines of an invoice."""

    selected_group_by_options: tuple[str, ...] = ()
    group_by_options: tuple[str, ...] = ()


@frozen(kw_only=True)
class GroupingLevels(PreservesUnknownFields):
    """How sales are grouped, by invoice and by line."""

    invoice_level: InvoiceLevelSelection | None = None
    invoice_line_level: InvoiceLineLevelSelection | None = None


@frozen(kw_only=True)
class Grouping(PreservesUnknownFields):
    """How sales are grouped into invoices."""

    grouping_period: GroupingPeriod | None = None
    grouping_levels: GroupingLevels | None = None


@frozen(kw_only=True)
class SalesConfiguration(PreservesUnknownFields):
    """The accounts and rules for sales; `tax_rates` has percentages as keys, such as `17.5`."""

    sync_sales: bool | None = None
    accounts: Mapping[str, AccountConfiguration] = field(factory=dict[str, AccountConfiguration], hash=False)
    invoice_status: InvoiceStatus | None = None
    sales_customer: SalesCustomer | None = None
    tax_rates: Mapping[str, TaxRateAmount] = field(factory=dict[str, TaxRateAmount], hash=False)
    new_tax_rates: NewTaxRates | None = None
    grouping: Grouping | None = None


@frozen(kw_only=True)
class PaymentsConfiguration(PreservesUnknownFields):
    """The accounts for payments, by the kind of payment."""

    sync_payments: bool | None = None
    accounts: Mapping[str, AccountConfiguration] = field(factory=dict[str, AccountConfiguration], hash=False)


@frozen(kw_only=True)
class NewPaymentsConfiguration(PreservesUnknownFields):
    """The accounts for payments, by the merchant's own payment methods."""

    sync_payments: bool | None = None
    accounts: Mapping[str, AccountConfiguration] = field(factory=dict[str, AccountConfiguration], hash=False)


@frozen(kw_only=True)
class FeesSupplier(PreservesUnknownFields):
    """The supplier that fees are paid to; the id has to be one of the options'."""

    selected_supplier_id: str | None = None
    supplier_options: tuple[ConfigurationOption, ...] = ()


@frozen(kw_only=True)
class FeesConfiguration(PreservesUnknownFields):
    """The accounts for fees, by their kind; fees cannot be synced without payments."""

    fees_supplier: FeesSupplier | None = None
    sync_fees: bool | None = None
    accounts: Mapping[str, AccountConfiguration] = field(factory=dict[str, AccountConfiguration], hash=False)


@frozen(kw_only=True)
class CommerceConfiguration(PreservesUnknownFields):
    """The data that is synced, and its accounts in the accounting software."""

    country_code: str | None = None
    map_settings: ConfigurationMapSettings | None = None
    sales: SalesConfiguration | None = None
    payments: PaymentsConfiguration | None = None
    new_payments: NewPaymentsConfiguration | None = None
    fees: FeesConfiguration | None = None


@frozen(kw_only=True)
class Configuration(PreservesUnknownFields):
    """The configuration of a company's sync.

    `enable` turns the sync on, `configured` is True if the merchant has configured it. Change it with
    `attrs.evolve`, or with the functions of `codat_commerce_async.models.configuration_changes`, which
    validate the selections.
    """

    company_id: str | None = None
    accounting_software_company_name: str | None = None
    enable: bool | None = None
    configured: bool | None = None
    schedule: SyncSchedule | None = None
    configuration: CommerceConfiguration | None = None
