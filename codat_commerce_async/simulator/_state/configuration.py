"""What a company's configuration is until it is set."""

import uuid

from codat_commerce_async.simulator._state.clock import DAY, plain_timestamp
from codat_commerce_async.simulator._state.records import Company

__all__ = ["DEFAULT_SYNC_HOUR", "FIRST_PERIOD", "FREQUENCIES", "default_configuration"]

DEFAULT_SYNC_HOUR = 2
FIRST_PERIOD = 30 * DAY
"""How far back the first sync of a company reaches where no start date was set."""

FREQUENCIES = ("Daily", "Monthly")

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
    """A `Configuration` with the options that the company's linked platforms offer."""
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
            "frequencyOptions": list(FREQUENCIES),
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


def _choice(what: str, options: list[dict[str, str]]) -> dict[str, object]:
    return {f"selected{what}Id": options[0]["id"] if options else None, f"{what.lower()}Options": options}


def _options(platform: str, kind: str, names: tuple[str, ...]) -> list[dict[str, str]]:
    return [{"id": _id(platform, kind, name), "name": name} for name in names] if platform else []


def _id(platform: str, kind: str, name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{platform}/{kind}/{name}"))
