"""What a configuration that is set has to look like."""

from collections.abc import Callable, Iterator

from codat_commerce_async.simulator._state.clock import parse_time
from codat_commerce_async.simulator._state.configuration import FREQUENCIES

__all__ = ["validation_errors"]

_LAST_HOUR = 23


def validation_errors(configuration: object) -> list[tuple[str, str]]:
    """What the specification forbids in a configuration, as (field, message); new fields pass."""
    found = [(field, f"{field or 'The configuration'} {takes}") for field, takes in _CONFIGURATION(configuration, "")]
    return found or _unknown_accounts(configuration)


_Check = Callable[[object, str], Iterator[tuple[str, str]]]


def _check(holds: Callable[[object], bool], takes: str) -> _Check:
    def check(value: object, at: str) -> Iterator[tuple[str, str]]:
        if not holds(value):
            yield at, takes

    return check


def _object(**fields: _Check) -> _Check:
    """An object; a field may be missing, and one that nobody knows may be there."""

    def check(value: object, at: str) -> Iterator[tuple[str, str]]:
        if not isinstance(value, dict):
            yield at, "takes an object"
            return
        for name, inner in fields.items():
            if name in value:
                yield from inner(value[name], f"{at}.{name}".lstrip("."))

    return check


def _values(inner: _Check) -> _Check:
    def check(value: object, at: str) -> Iterator[tuple[str, str]]:
        if not isinstance(value, dict):
            yield at, "takes an object"
            return
        for name, one in value.items():
            yield from inner(one, f"{at}.{name}")

    return check


def _items(inner: _Check) -> _Check:
    def check(value: object, at: str) -> Iterator[tuple[str, str]]:
        if not isinstance(value, list):
            yield at, "takes a list"
            return
        for place, one in enumerate(value):
            yield from inner(one, f"{at}[{place}]")

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


_TEXT = _check(lambda value: isinstance(value, str), "takes text")
_FLAG = _check(lambda value: isinstance(value, bool), "takes true or false")
_FREQUENCY = _check(lambda value: value in FREQUENCIES, "takes Daily or Monthly")
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
        startDate=_check(_is_time, "takes a date"),
        syncHour=_check(_is_hour, "takes an hour, 0 to 23"),
        timeZone=_TEXT,
    ),
    configuration=_object(
        countryCode=_TEXT,
        mapSettings=_object(outputFormat=_check(lambda value: value == "JournalEntry", "takes JournalEntry")),
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
        (field, f"{field} is not one of the options.")
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
