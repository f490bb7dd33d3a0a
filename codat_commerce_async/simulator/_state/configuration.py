"""Create a company's default configuration, and validate one that is set."""

import uuid
from collections.abc import Callable, Iterator

from codat_commerce_async.simulator._state.clock import DAY, parse_time, plain_timestamp
from codat_commerce_async.simulator._state.records import Company

__all__ = ["DEFAULT_SYNC_HOUR", "FIRST_PERIOD", "default_configuration", "validation_errors"]

DEFAULT_SYNC_HOUR = 2
FIRST_PERIOD = 30 * DAY
"""Seconds before its creation at which a company's first sync starts, unless the configuration has a start date."""

_FREQUENCIES = ("Daily", "Monthly")
_LAST_HOUR = 23

_ACCOUNTS = {
    "gbol": (
        ("Business Bank Account", "090", "Asset.Bank"),
        ("Sales", "200", "Income.Revenue"),
        ("Discounts", "260", "Income.Revenue"),
        ("Bank Fees", "404", "Expense.Overhead"),
        ("Gift Cards", "840", "Liability.Current"),
    ),
    "qhyg": (
        ("Checking", "1000", "Asset.Bank"),
        ("Sales of Product Income", "4000", "Income.Sales"),
        ("Discounts Given", "4100", "Income.Discounts"),
        ("Merchant Fees", "6100", "Expense.Bank Charges"),
        ("Gift Card Liability", "2200", "Liability.Other Current"),
    ),
}
_TAX_RATES = {
    "gbol": ("20% (VAT on Income)", "Zero Rated Income", "No VAT"),
    "qhyg": ("Automated Sales Tax", "Out of scope", "Exempt"),
}
_COMMERCE_TAXES = {
    "fztf": ("VAT", "Shipping tax"),
    "ugxp": ("Standard rate", "Reduced rate"),
    "lqai": ("Tax",),
}
_COUNTRIES = {"gbol": "GB", "qhyg": "US"}


def default_configuration(company: Company) -> dict[str, object]:
    """Return a `Configuration` with the options of the company's linked platforms."""
    accounting, commerce = company.platform("Accounting"), company.platform("Commerce")
    ready = accounting is not None and commerce is not None
    ledger = accounting.key if accounting else ""
    shop = commerce.key if commerce else ""
    return {
        "companyId": company.id,
        "accountingSoftwareCompanyName": company.name if accounting else "",
        "enable": True,
        "configured": ready,
        "schedule": {
            "selectedFrequency": "Daily",
            "frequencyOptions": list(_FREQUENCIES),
            "startDate": plain_timestamp(company.created - FIRST_PERIOD),
            "syncHour": DEFAULT_SYNC_HOUR,
            "timeZone": "Europe/London" if ledger == "gbol" else "UTC",
        },
        "configuration": {
            "countryCode": _COUNTRIES.get(ledger, "GB"),
            "mapSettings": {"outputFormat": "JournalEntry"},
            "sales": _sales(ledger, shop),
            "payments": {"syncPayments": True, "accounts": {"bank": _account(ledger, "Bank account", 0)}},
            "newPayments": {
                "syncPayments": True,
                "accounts": {"clearing": _account(ledger, "Clearing account", 0)},
            },
            "fees": {
                "syncFees": True,
                "accounts": {"fees": _account(ledger, "Fees", 3)},
                "feesSupplier": _choice("Supplier", _options(ledger, "supplier", ("Payment provider", "Other"))),
            },
        },
    }


def _sales(ledger: str, shop: str) -> dict[str, object]:
    rates = _options(ledger, "tax", _TAX_RATES.get(ledger, ()))
    default_rate = rates[0]["id"] if rates else None
    taxes = _options(shop, "tax", _COMMERCE_TAXES.get(shop, ()))
    return {
        "syncSales": True,
        "accounts": {
            "sales": _account(ledger, "Sales", 1),
            "discounts": _account(ledger, "Discounts", 2),
            "giftCards": _account(ledger, "Gift cards", 4),
        },
        "invoiceStatus": {
            "selectedInvoiceStatus": "Submitted",
            "invoiceStatusOptions": ["Draft", "Submitted"],
        },
        "salesCustomer": _choice("Customer", _options(ledger, "customer", ("Shop customer", "Walk-in customer"))),
        "taxRates": {"sales": {"selectedTaxRateId": default_rate, "taxRateOptions": rates}},
        "newTaxRates": {
            "accountingTaxRateOptions": rates,
            "commerceTaxRateOptions": taxes,
            "taxRateMappings": [
                {"selectedCommerceTaxRateIds": [tax["id"]], "selectedAccountingTaxRateId": default_rate}
                for tax in taxes
            ],
            "selectedDefaultZeroTaxRateId": rates[-1]["id"] if rates else None,
            "defaultZeroTaxRateOptions": rates,
        },
        "grouping": {
            "groupingPeriod": {
                "selectedGroupingPeriod": "Daily sales",
                "groupingPeriodOptions": ["Daily sales"],
            },
            "groupingLevels": {
                "invoiceLevel": {
                    "selectedGroupByOptions": ["Location"],
                    "groupByOptions": ["Location", "Currency"],
                },
                "invoiceLineLevel": {
                    "selectedGroupByOptions": ["Product"],
                    "groupByOptions": ["Product", "Tax"],
                },
            },
        },
    }


def _account(ledger: str, label: str, selected: int) -> dict[str, object]:
    options = [
        {
            "id": _id(ledger, "account", name),
            "name": name,
            "nominalCode": code,
            "classification": classification,
        }
        for name, code, classification in _ACCOUNTS.get(ledger, ())
    ]
    return {
        "labelText": label,
        "descriptionText": None,
        "selectedAccountId": options[selected]["id"] if options else None,
        "required": True,
        "accountOptions": options,
    }


def _choice(name: str, options: list[dict[str, str]]) -> dict[str, object]:
    return {f"selected{name}Id": options[0]["id"] if options else None, f"{name.lower()}Options": options}


def _options(platform: str, kind: str, names: tuple[str, ...]) -> list[dict[str, str]]:
    return [{"id": _id(platform, kind, name), "name": name} for name in names] if platform else []


def _id(platform: str, kind: str, name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{platform}/{kind}/{name}"))


def validation_errors(configuration: object) -> list[tuple[str, str]]:
    """Return the violations of the specification as (field, message); unknown fields are valid."""
    found = [
        (field, f"{field or 'The configuration'} must be {expected}")
        for field, expected in _CONFIGURATION(configuration, "")
    ]
    return found or _unknown_accounts(configuration)


_Check = Callable[[object, str], Iterator[tuple[str, str]]]


def _check(is_valid: Callable[[object], bool], expected: str) -> _Check:
    def check(value: object, at: str) -> Iterator[tuple[str, str]]:
        if not is_valid(value):
            yield at, expected

    return check


def _object(**fields: _Check) -> _Check:
    """Return a check of an object, in which fields may be missing and unknown fields are ignored."""

    def check(value: object, at: str) -> Iterator[tuple[str, str]]:
        if not isinstance(value, dict):
            yield at, "an object"
            return
        for name, inner in fields.items():
            if name in value:
                yield from inner(value[name], f"{at}.{name}".lstrip("."))

    return check


def _values(inner: _Check) -> _Check:
    def check(value: object, at: str) -> Iterator[tuple[str, str]]:
        if not isinstance(value, dict):
            yield at, "an object"
            return
        for name, item in value.items():
            yield from inner(item, f"{at}.{name}")

    return check


def _items(inner: _Check) -> _Check:
    def check(value: object, at: str) -> Iterator[tuple[str, str]]:
        if not isinstance(value, list):
            yield at, "a list"
            return
        for index, item in enumerate(value):
            yield from inner(item, f"{at}[{index}]")

    return check


def _nullable(inner: _Check) -> _Check:
    return lambda value, at: iter(()) if value is None else inner(value, at)


def _is_hour(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LAST_HOUR


def _is_time(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        parse_time(value)
    except ValueError:
        return False
    return True


_TEXT = _check(lambda value: isinstance(value, str), "a string")
_FLAG = _check(lambda value: isinstance(value, bool), "true or false")
_FREQUENCY = _check(lambda value: value in _FREQUENCIES, "Daily or Monthly")
_TEXT_OR_NULL = _nullable(_TEXT)
_TEXTS = _nullable(_items(_TEXT))
_OPTIONS = _nullable(_items(_object(id=_TEXT, name=_TEXT_OR_NULL)))
_GROUPING_LEVEL = _object(selectedGroupByOptions=_TEXTS, groupByOptions=_TEXTS)
_ACCOUNTS_OR_NULL = _nullable(
    _values(
        _object(
            labelText=_TEXT_OR_NULL,
            descriptionText=_TEXT_OR_NULL,
            selectedAccountId=_TEXT_OR_NULL,
            required=_FLAG,
            accountOptions=_nullable(
                _items(
                    _object(
                        id=_TEXT_OR_NULL,
                        name=_TEXT_OR_NULL,
                        nominalCode=_TEXT_OR_NULL,
                        classification=_TEXT_OR_NULL,
                    )
                )
            ),
        )
    )
)
_PAYMENTS = _object(syncPayments=_FLAG, accounts=_ACCOUNTS_OR_NULL)
_SALES = _object(
    syncSales=_FLAG,
    accounts=_ACCOUNTS_OR_NULL,
    invoiceStatus=_object(selectedInvoiceStatus=_TEXT_OR_NULL, invoiceStatusOptions=_TEXTS),
    salesCustomer=_object(selectedCustomerId=_TEXT_OR_NULL, customerOptions=_OPTIONS),
    taxRates=_nullable(_values(_object(selectedTaxRateId=_TEXT_OR_NULL, taxRateOptions=_OPTIONS))),
    newTaxRates=_object(
        accountingTaxRateOptions=_OPTIONS,
        commerceTaxRateOptions=_OPTIONS,
        taxRateMappings=_nullable(
            _items(_object(selectedCommerceTaxRateIds=_TEXTS, selectedAccountingTaxRateId=_TEXT_OR_NULL))
        ),
        selectedDefaultZeroTaxRateId=_TEXT_OR_NULL,
        defaultZeroTaxRateOptions=_OPTIONS,
    ),
    grouping=_object(
        groupingPeriod=_object(selectedGroupingPeriod=_TEXT_OR_NULL, groupingPeriodOptions=_TEXTS),
        groupingLevels=_object(invoiceLevel=_GROUPING_LEVEL, invoiceLineLevel=_GROUPING_LEVEL),
    ),
)
_CONFIGURATION = _object(
    accountingSoftwareCompanyName=_TEXT,
    enable=_FLAG,
    configured=_FLAG,
    schedule=_object(
        selectedFrequency=_FREQUENCY,
        frequencyOptions=_items(_FREQUENCY),
        startDate=_check(_is_time, "a date"),
        syncHour=_check(_is_hour, "an hour between 0 and 23"),
        timeZone=_TEXT,
    ),
    configuration=_object(
        countryCode=_TEXT,
        mapSettings=_object(outputFormat=_check(lambda value: value == "JournalEntry", "JournalEntry")),
        sales=_SALES,
        payments=_PAYMENTS,
        newPayments=_PAYMENTS,
        fees=_object(
            feesSupplier=_object(selectedSupplierId=_TEXT_OR_NULL, supplierOptions=_OPTIONS),
            syncFees=_FLAG,
            accounts=_ACCOUNTS_OR_NULL,
        ),
    ),
)


def _unknown_accounts(configuration: object) -> list[tuple[str, str]]:
    inner = configuration.get("configuration") if isinstance(configuration, dict) else None
    sections = inner.items() if isinstance(inner, dict) else ()
    return [
        (field, f"{field} must be one of the account options.")
        for section, settings in sections
        if isinstance(settings, dict) and isinstance(settings.get("accounts"), dict)
        for name, account in settings["accounts"].items()
        if isinstance(account, dict) and not _is_an_option(account)
        for field in (f"configuration.{section}.accounts.{name}.selectedAccountId",)
    ]


def _is_an_option(account: dict[str, object]) -> bool:
    selected, options = account.get("selectedAccountId"), account.get("accountOptions")
    if selected is None or not isinstance(options, list):
        return True
    return any(isinstance(option, dict) and option.get("id") == selected for option in options)
