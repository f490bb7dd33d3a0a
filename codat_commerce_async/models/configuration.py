"""How a company's sync is set up: read, changed, and written back whole.

Every class here keeps what it does not know and how it arrived (see `PreservesUnknownFields`), so that
`encode(attrs.evolve(configuration, ...))` differs from what was read in nothing but the change. Lists and
maps that Codat leaves out or sends as null are empty here, and go back as they came while nothing is put
into them.

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
    """When the scheduled sync runs: how often, from when (UTC), at which hour (0 to 23) of the time zone."""

    selected_frequency: SyncFrequency | None = None
    frequency_options: tuple[SyncFrequency, ...] = ()
    start_date: datetime | None = None
    sync_hour: int | None = None
    time_zone: str | None = None


@frozen(kw_only=True)
class ConfigurationMapSettings(PreservesUnknownFields):
    """The form that the data takes in the accounting software."""

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
    """A slot for one kind of money, and the account that it goes to.

    `selected_account_id` has to be one of the options' ids.
    """

    label_text: str | None = None
    description_text: str | None = None
    selected_account_id: str | None = None
    required: bool | None = None
    account_options: tuple[AccountConfigurationOption, ...] = ()


@frozen(kw_only=True)
class ConfigurationOption(PreservesUnknownFields):
    """Something of the merchant's software that can be selected: a customer, a supplier, a tax rate."""

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
    """The period whose sales make one invoice."""

    selected_grouping_period: str | None = None
    grouping_period_options: tuple[str, ...] = ()


@frozen(kw_only=True)
class InvoiceLevelSelection(PreservesUnknownFields):
    """What else makes sales go to different invoices."""

    selected_group_by_options: tuple[str, ...] = ()
    group_by_options: tuple[str, ...] = ()


@frozen(kw_only=True)
class InvoiceLineLevelSelection(PreservesUnknownFields):
    """What else makes sales go to different lines of an invoice."""

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
    """Where sales go; `tax_rates` has percentages as keys, such as `17.5`."""

    sync_sales: bool | None = None
    accounts: Mapping[str, AccountConfiguration] = field(factory=dict[str, AccountConfiguration], hash=False)
    invoice_status: InvoiceStatus | None = None
    sales_customer: SalesCustomer | None = None
    tax_rates: Mapping[str, TaxRateAmount] = field(factory=dict[str, TaxRateAmount], hash=False)
    new_tax_rates: NewTaxRates | None = None
    grouping: Grouping | None = None


@frozen(kw_only=True)
class PaymentsConfiguration(PreservesUnknownFields):
    """Where payments go, by the kind of payment."""

    sync_payments: bool | None = None
    accounts: Mapping[str, AccountConfiguration] = field(factory=dict[str, AccountConfiguration], hash=False)


@frozen(kw_only=True)
class NewPaymentsConfiguration(PreservesUnknownFields):
    """Where payments go, by the merchant's own payment methods."""

    sync_payments: bool | None = None
    accounts: Mapping[str, AccountConfiguration] = field(factory=dict[str, AccountConfiguration], hash=False)


@frozen(kw_only=True)
class FeesSupplier(PreservesUnknownFields):
    """The supplier that fees are paid to; the id has to be one of the options'."""

    selected_supplier_id: str | None = None
    supplier_options: tuple[ConfigurationOption, ...] = ()


@frozen(kw_only=True)
class FeesConfiguration(PreservesUnknownFields):
    """Where fees go, by their kind; they cannot be synced without payments."""

    fees_supplier: FeesSupplier | None = None
    sync_fees: bool | None = None
    accounts: Mapping[str, AccountConfiguration] = field(factory=dict[str, AccountConfiguration], hash=False)


@frozen(kw_only=True)
class CommerceConfiguration(PreservesUnknownFields):
    """What is synced, and to where in the accounting software."""

    country_code: str | None = None
    map_settings: ConfigurationMapSettings | None = None
    sales: SalesConfiguration | None = None
    payments: PaymentsConfiguration | None = None
    new_payments: NewPaymentsConfiguration | None = None
    fees: FeesConfiguration | None = None


@frozen(kw_only=True)
class Configuration(PreservesUnknownFields):
    """How a company's sync is set up.

    `enable` switches the sync on, `configured` says that the merchant has set it up. Change it with
    `attrs.evolve`, or with the functions of `codat_commerce_async.models.configuration_changes`, which
    check what they select.
    """

    company_id: str | None = None
    accounting_software_company_name: str | None = None
    enable: bool | None = None
    configured: bool | None = None
    schedule: SyncSchedule | None = None
    configuration: CommerceConfiguration | None = None
