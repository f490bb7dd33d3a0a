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


@frozen(kw_only=True, slots=False)
class SyncSchedule(PreservesUnknownFields):
    """The schedule: frequency, start (UTC) and hour (0 to 23) in the time zone."""

    selected_frequency: SyncFrequency | None = None
    """How often Codat starts a sync."""

    frequency_options: tuple[SyncFrequency, ...] = ()
    """The frequencies that can be selected."""

    start_date: datetime | None = None
    """When the schedule begins, in UTC."""

    sync_hour: int | None = None
    """The hour of a daily sync, 0 to 23, in the time zone."""

    time_zone: str | None = None
    """The time zone of the hour."""


@frozen(kw_only=True, slots=False)
class ConfigurationMapSettings(PreservesUnknownFields):
    """The form of the data in the accounting software."""

    output_format: OutputFormat | None = None
    """The kind of record that sales become."""


@frozen(kw_only=True, slots=False)
class AccountConfigurationOption(PreservesUnknownFields):
    """A nominal or bank account of the merchant that can be selected."""

    id: str | None = None
    """The id of the account."""

    name: str | None = None
    """The name of the account."""

    nominal_code: str | None = None
    """The code of the account in the chart of accounts."""

    classification: str | None = None
    """The category of the account."""


@frozen(kw_only=True, slots=False)
class AccountConfiguration(PreservesUnknownFields):
    """The account selected for one kind of amount, such as sales or refunds."""

    label_text: str | None = None
    """The label in the Sync flow."""

    description_text: str | None = None
    """The explanation in the Sync flow."""

    selected_account_id: str | None = None
    """The id of the selected account; one of those of the options."""

    required: bool | None = None
    """Whether an account must be selected."""

    account_options: tuple[AccountConfigurationOption, ...] = ()
    """The accounts that can be selected."""


@frozen(kw_only=True, slots=False)
class ConfigurationOption(PreservesUnknownFields):
    """A record in the merchant's software that can be selected: a customer, a supplier, a tax rate."""

    id: str | None = None
    """The id of the record."""

    name: str | None = None
    """The name of the record."""


@frozen(kw_only=True, slots=False)
class InvoiceStatus(PreservesUnknownFields):
    """The status that invoices are raised with; payments cannot be synced to drafts."""

    selected_invoice_status: str | None = None
    """The selected status, `Submitted` or `Draft`."""

    invoice_status_options: tuple[str, ...] = ()
    """The statuses that can be selected."""


@frozen(kw_only=True, slots=False)
class SalesCustomer(PreservesUnknownFields):
    """The customer that invoices are raised against; the id has to be one of the options'."""

    selected_customer_id: str | None = None
    """The id of the selected customer."""

    customer_options: tuple[ConfigurationOption, ...] = ()
    """The customers that can be selected."""


@frozen(kw_only=True, slots=False)
class TaxRateAmount(PreservesUnknownFields):
    """The accounting software's tax rate for one percentage; the id has to be one of the options'."""

    selected_tax_rate_id: str | None = None
    """The id of the selected tax rate."""

    tax_rate_options: tuple[ConfigurationOption, ...] = ()
    """The tax rates that can be selected."""


@frozen(kw_only=True, slots=False)
class TaxRateMapping(PreservesUnknownFields):
    """Tax components of the commerce software that go to one tax rate of the accounting software."""

    selected_commerce_tax_rate_ids: tuple[str, ...] = ()
    """The ids of the tax components in the commerce software."""

    selected_accounting_tax_rate_id: str | None = None
    """The id of the tax rate in the accounting software."""


@frozen(kw_only=True, slots=False)
class NewTaxRates(PreservesUnknownFields):
    """How the commerce software's tax components map to the accounting software's tax rates."""

    accounting_tax_rate_options: tuple[ConfigurationOption, ...] = ()
    """The tax rates of the accounting software."""

    commerce_tax_rate_options: tuple[ConfigurationOption, ...] = ()
    """The tax components of the commerce software."""

    tax_rate_mappings: tuple[TaxRateMapping, ...] = ()
    """Which components go to which tax rate."""

    selected_default_zero_tax_rate_id: str | None = None
    """The id of the tax rate for sales without tax."""

    default_zero_tax_rate_options: tuple[ConfigurationOption, ...] = ()
    """The tax rates that can be selected for sales without tax."""


@frozen(kw_only=True, slots=False)
class GroupingPeriod(PreservesUnknownFields):
    """The period whose sales are combined into one invoice."""

    selected_grouping_period: str | None = None
    """The selected period."""

    grouping_period_options: tuple[str, ...] = ()
    """The periods that can be selected."""


@frozen(kw_only=True, slots=False)
class InvoiceLevelSelection(PreservesUnknownFields):
    """Further criteria that split sales into different invoices."""

    selected_group_by_options: tuple[str, ...] = ()
    """The selected criteria."""

    group_by_options: tuple[str, ...] = ()
    """The criteria that can be selected."""


@frozen(kw_only=True, slots=False)
class InvoiceLineLevelSelection(PreservesUnknownFields):
    """Further criteria that split sales into different lines of an invoice."""

    selected_group_by_options: tuple[str, ...] = ()
    """The selected criteria."""

    group_by_options: tuple[str, ...] = ()
    """The criteria that can be selected."""


@frozen(kw_only=True, slots=False)
class GroupingLevels(PreservesUnknownFields):
    """How sales are grouped, by invoice and by line."""

    invoice_level: InvoiceLevelSelection | None = None
    """What splits sales into different invoices."""

    invoice_line_level: InvoiceLineLevelSelection | None = None
    """What splits sales into different lines."""


@frozen(kw_only=True, slots=False)
class Grouping(PreservesUnknownFields):
    """How sales are grouped into invoices."""

    grouping_period: GroupingPeriod | None = None
    """The period whose sales are combined."""

    grouping_levels: GroupingLevels | None = None
    """Further criteria, by invoice and by line."""


@frozen(kw_only=True, slots=False)
class SalesConfiguration(PreservesUnknownFields):
    """The accounts and rules for sales; `tax_rates` has percentages as keys, such as `17.5`."""

    sync_sales: bool | None = None
    """Whether sales are synced."""

    accounts: Mapping[str, AccountConfiguration] = field(factory=dict[str, AccountConfiguration], hash=False)
    """The accounts, by the kind of amount."""

    invoice_status: InvoiceStatus | None = None
    """The status that invoices are raised with."""

    sales_customer: SalesCustomer | None = None
    """The customer that invoices are raised against."""

    tax_rates: Mapping[str, TaxRateAmount] = field(factory=dict[str, TaxRateAmount], hash=False)
    """The tax rates, by percentage such as `17.5`."""

    new_tax_rates: NewTaxRates | None = None
    """The mapping of tax components to tax rates."""

    grouping: Grouping | None = None
    """How sales are grouped into invoices."""


@frozen(kw_only=True, slots=False)
class PaymentsConfiguration(PreservesUnknownFields):
    """The accounts for payments, by the kind of payment."""

    sync_payments: bool | None = None
    """Whether payments are synced."""

    accounts: Mapping[str, AccountConfiguration] = field(factory=dict[str, AccountConfiguration], hash=False)
    """The accounts, by the kind of payment."""


@frozen(kw_only=True, slots=False)
class NewPaymentsConfiguration(PreservesUnknownFields):
    """The accounts for payments, by the merchant's own payment methods."""

    sync_payments: bool | None = None
    """Whether payments are synced."""

    accounts: Mapping[str, AccountConfiguration] = field(factory=dict[str, AccountConfiguration], hash=False)
    """The accounts, by the merchant's payment method."""


@frozen(kw_only=True, slots=False)
class FeesSupplier(PreservesUnknownFields):
    """The supplier that fees are paid to; the id has to be one of the options'."""

    selected_supplier_id: str | None = None
    """The id of the selected supplier."""

    supplier_options: tuple[ConfigurationOption, ...] = ()
    """The suppliers that can be selected."""


@frozen(kw_only=True, slots=False)
class FeesConfiguration(PreservesUnknownFields):
    """The accounts for fees, by their kind; fees cannot be synced without payments."""

    fees_supplier: FeesSupplier | None = None
    """The supplier that fees are paid to."""

    sync_fees: bool | None = None
    """Whether fees are synced."""

    accounts: Mapping[str, AccountConfiguration] = field(factory=dict[str, AccountConfiguration], hash=False)
    """The accounts, by the kind of fee."""


@frozen(kw_only=True, slots=False)
class CommerceConfiguration(PreservesUnknownFields):
    """The data that is synced, and its accounts in the accounting software."""

    country_code: str | None = None
    """The country of the accounting software."""

    map_settings: ConfigurationMapSettings | None = None
    """The form of the data in the accounting software."""

    sales: SalesConfiguration | None = None
    """The settings for sales."""

    payments: PaymentsConfiguration | None = None
    """The settings for payments, by the kind of payment."""

    new_payments: NewPaymentsConfiguration | None = None
    """The settings for payments, by payment method."""

    fees: FeesConfiguration | None = None
    """The settings for fees."""


@frozen(kw_only=True, slots=False)
class Configuration(PreservesUnknownFields):
    """The configuration of a company's sync.

    Change it with `attrs.evolve`, or with the functions of `codat_commerce_async.models.configuration_changes`, which
    validate the selections.
    """

    company_id: str | None = None
    """The id of the company."""

    accounting_software_company_name: str | None = None
    """The name of the company in the accounting software."""

    enable: bool | None = None
    """Whether the company is synced."""

    configured: bool | None = None
    """Whether the merchant has configured the sync."""

    schedule: SyncSchedule | None = None
    """When Codat starts syncs of its own."""

    configuration: CommerceConfiguration | None = None
    """What is synced, and to which accounts."""
