"""The rules about failed syncs: what a code or a message means, who has to act, and whether a new sync helps.

One table, shared by `configuration_problems`, which finds the causes before a sync, and by the diagnosis after one, in
`syncing/_conclude.py`. `sync.py` has the state of each code.
Sources: https://docs.codat.io/commerce/error-documentation and https://docs.codat.io/commerce/troubleshooting
"""

import re
from collections.abc import Mapping

from attrs import field, frozen

from codat_commerce_async.models._described import DescribedEnum
from codat_commerce_async.models.causes import FailureCause

__all__ = ["RULES", "Resolver", "Retry", "Rule", "Source", "rule_for_code", "rule_for_message", "rule_of"]


class Resolver(DescribedEnum):
    """Who can remove the cause of a failure."""

    MERCHANT = "merchant", "the merchant, in the Sync flow or in the accounting software"
    INTEGRATOR = "integrator", "you, through this API"
    CODAT = "codat", "Codat's support"
    NOBODY = "nobody", "nothing has to be done"


class Retry(DescribedEnum):
    """When a new sync of the company can succeed."""

    NEVER = "never", "a new sync is not needed"
    AFTER_ACTION = "after_action", "after the actions"
    LATER = "later", "later, without an action of yours"


class Source(DescribedEnum):
    """What a diagnosis can request, one request each."""

    CONNECTIONS = "connections", "connections"
    CONFIGURATION = "configuration", "configuration"
    PUSH_OPERATIONS = "push_operations", "push operations"
    PULL_OPERATIONS = "pull_operations", "pull operations"
    SYNCS = "syncs", "syncs"


def _compiled(pattern: str | None) -> re.Pattern[str] | None:
    return re.compile(pattern) if pattern else None


@frozen
class Rule:
    """What is known about one cause.

    `actions` are in order. `fix` is the action for one setting of the configuration, with its `{name}` and its
    `{options}`. `codes` and `pattern` recognize the cause; the pattern is searched in a message in lower case without
    Markdown. `sources` are what the diagnosis requests.
    """

    cause: FailureCause
    """The cause that the rule is for."""

    retry: Retry
    """When a new sync can succeed."""

    actions: tuple[tuple[Resolver, str], ...]
    """Who has to do what, in order."""

    fix: str | None = None
    """The action for one setting, with the places `{name}` and `{options}`."""

    codes: tuple[int, ...] = ()
    """Status codes that stand for this cause alone."""

    pattern: re.Pattern[str] | None = field(default=None, converter=_compiled)
    """Searched in a message, in lower case and without Markdown."""

    sources: tuple[Source, ...] = (Source.CONNECTIONS, Source.CONFIGURATION)
    """What the diagnosis requests."""


_MERCHANT, _INTEGRATOR, _CODAT, _NOBODY = Resolver
_PUSHES = (Source.PUSH_OPERATIONS, Source.CONNECTIONS, Source.CONFIGURATION)
_CONFIGURE = "or let the merchant do it in the Sync flow"


def _setting(cause: FailureCause, pattern: str, fix: str, action: str) -> Rule:
    """Return the rule for a setting that the integrator can change, or the merchant in the Sync flow."""
    actions = ((_INTEGRATOR, f"{action}, {_CONFIGURE}"),)
    return Rule(cause, Retry.AFTER_ACTION, actions, fix=f"{fix}; {{options}}", pattern=pattern)


def _inactive(cause: FailureCause, pattern: str, record: str, select: str) -> Rule:
    actions = (
        (_MERCHANT, f"activate the {record} in the accounting software"),
        (_INTEGRATOR, f"or select another with {select}"),
    )
    return Rule(cause, Retry.AFTER_ACTION, actions, pattern=pattern)


def _gone(cause: FailureCause, pattern: str, record: str, select: str) -> Rule:
    actions = ((_INTEGRATOR, f"select another {record} with {select}, {_CONFIGURE}"),)
    return Rule(cause, Retry.AFTER_ACTION, actions, pattern=pattern)


RULES: tuple[Rule, ...] = (
    # Causes with a message. The first pattern that matches counts, so the more specific ones come first.
    Rule(
        FailureCause.OVERLAPPING_PERIOD,
        Retry.NEVER,
        ((_NOBODY, "start no new sync: an earlier one covers the period"),),
        pattern=r"date overlaps with a previous sync",
        sources=(Source.SYNCS,),
    ),
    Rule(
        FailureCause.MANUAL_RECONCILIATION,
        Retry.AFTER_ACTION,
        ((_MERCHANT, "correct the changed orders in the accounting software by hand"),),
        pattern=r"reconcile (it |them |this )?manually",
        sources=_PUSHES,
    ),
    Rule(
        FailureCause.COMPANY_NOT_FOUND,
        Retry.AFTER_ACTION,
        (
            (_INTEGRATOR, "check the company id; if the company was created again, use the new id"),
            (_CODAT, "if the id is right, write to support about the company"),
        ),
        pattern=r"no company was found",
        sources=(Source.CONNECTIONS,),
    ),
    Rule(
        FailureCause.UNLINKED_CONNECTION,
        Retry.AFTER_ACTION,
        (
            (_MERCHANT, "link one accounting and one commerce connection in the Sync flow"),
            (_INTEGRATOR, "unlink or delete the connections beyond these two"),
        ),
        pattern=r"two valid data connections",
    ),
    _setting(
        FailureCause.PAYMENTS_NOT_CONFIGURED,
        r"payments? section needs|payments? account id needs",
        "select an account for payments, or switch {name} off",
        "select an account for payments, or switch the fees off",
    ),
    _setting(
        FailureCause.SAME_PREPAID_ACCOUNT,
        r"prepaid.* not match|not match.*prepaid",
        "select different accounts for prepaid sales and prepaid payments in {name}",
        "select different accounts for prepaid sales and prepaid payments",
    ),
    _setting(
        FailureCause.SAME_PAYOUT_ACCOUNT,
        r"payments config invalid.* not match|card.* not match.*payout",
        "select different accounts for card and payout in {name}",
        "select different accounts for card and payout",
    ),
    _setting(
        FailureCause.INVALID_SALES_CUSTOMER,
        r"no sales customer|selected customer not present",
        "select a customer for {name}",
        "select one of the customer options with select_customer",
    ),
    _setting(
        FailureCause.INVALID_ACCOUNT,
        r"selected account is not a valid option",
        "select another account for {name}",
        "select one of the account options with select_account",
    ),
    _setting(
        FailureCause.INVALID_GROUPING,
        r"grouping period selected|invalid invoice (line )?level grouping",
        "select from the options of {name}",
        "select the grouping from its options with select_grouping_period, select_invoice_grouping and "
        "select_invoice_line_grouping",
    ),
    _setting(
        FailureCause.PAYMENTS_ON_DRAFT_INVOICES,
        r"payments? cannot be .*draft|draft.* payments?",
        "select Submitted for {name}",
        "select the invoice status Submitted with select_invoice_status",
    ),
    _setting(
        FailureCause.UNMAPPED_ACCOUNT,
        r"required accounts? without selections?",
        "select an account for {name}",
        "select an account for every required one with select_account",
    ),
    Rule(
        FailureCause.NO_SALES_ACCOUNT,
        Retry.AFTER_ACTION,
        (
            (_MERCHANT, "create an account of the category sales in the accounting software"),
            (_INTEGRATOR, "then select it with select_account"),
        ),
        pattern=r"no sales account present",
    ),
    _setting(
        FailureCause.INVALID_SCHEDULE,
        r"no schedule selected frequency|no schedule frequency|schedule frequency not present",
        "select a frequency for {name}",
        "select one of the frequencies with select_frequency",
    ),
    _setting(
        FailureCause.INVALID_INVOICE_STATUS,
        r"no selected invoice status|no invoice status|invalid invoice status",
        "select Submitted or Draft for {name}",
        "select the invoice status Submitted or Draft with select_invoice_status",
    ),
    _setting(
        FailureCause.UNMAPPED_TAX_RATE,
        r"missing selected tax rate id|tax rate id .*no options",
        "select a tax rate for {name}",
        "select a tax rate for every percentage with select_tax_rate",
    ),
    _setting(
        FailureCause.INVALID_FEES_SUPPLIER,
        r"no fees supplier|selected supplier not present",
        "select a supplier for {name}",
        "select one of the supplier options with select_supplier",
    ),
    _inactive(FailureCause.INACTIVE_CUSTOMER, r"customer.* not (in an )?active", "customer", "select_customer"),
    _inactive(FailureCause.INACTIVE_SUPPLIER, r"supplier.* not (in an )?active", "supplier", "select_supplier"),
    _inactive(FailureCause.INACTIVE_ACCOUNT, r"account.* not (in an )?active", "account", "select_account"),
    _gone(FailureCause.CUSTOMER_NOT_FOUND, r"customer .*does not exist", "customer", "select_customer"),
    _gone(FailureCause.SUPPLIER_NOT_FOUND, r"supplier .*does not exist", "supplier", "select_supplier"),
    _gone(
        FailureCause.TAX_RATE_NOT_FOUND,
        r"tax rate .*does not exist|tax rates are invalid",
        "tax rate",
        "select_tax_rate or map_tax_rates",
    ),
    _gone(FailureCause.ACCOUNT_NOT_FOUND, r"account\S* .*not found|account\S* not found", "account", "select_account"),
    # Causes without a message of their own: by the configuration, or by the code.
    Rule(
        FailureCause.SYNC_DISABLED,
        Retry.AFTER_ACTION,
        ((_MERCHANT, "turn the sync on in the Sync flow"), (_INTEGRATOR, "or set `enable` with set_configuration")),
    ),
    Rule(
        FailureCause.DELETED_COMPANY,
        Retry.AFTER_ACTION,
        (
            (_INTEGRATOR, "create a new company, and use its id"),
            (_MERCHANT, "link the new company through the Sync flow"),
        ),
        codes=(4040,),
        sources=(Source.CONNECTIONS,),
    ),
    Rule(
        FailureCause.DEAUTHORIZED_COMPANY,
        Retry.AFTER_ACTION,
        ((_MERCHANT, "authorize the connection again through the Sync flow"),),
        codes=(4220,),
        sources=(Source.CONNECTIONS,),
    ),
    Rule(
        FailureCause.SUBSCRIPTION_LAPSED,
        Retry.AFTER_ACTION,
        ((_MERCHANT, "renew the subscription of the accounting software"),),
        codes=(4260,),
        sources=(Source.CONNECTIONS,),
    ),
    Rule(
        FailureCause.SERVER_ERROR,
        Retry.LATER,
        ((_CODAT, "if it fails again, give support the ids of the company and of the sync"),),
        codes=(5000,),
        sources=(),
    ),
    Rule(
        FailureCause.DUPLICATE_PERIOD,
        Retry.NEVER,
        ((_NOBODY, "start no new sync: one of the period is running or has succeeded"),),
        codes=(5080,),
        sources=(Source.SYNCS,),
    ),
    Rule(
        FailureCause.DATA_PROCESSING_ERROR,
        Retry.AFTER_ACTION,
        ((_CODAT, "give support the ids of the company, of the sync and of the operations that failed"),),
        codes=(5120,),
        sources=(Source.PULL_OPERATIONS, Source.PUSH_OPERATIONS, Source.CONNECTIONS),
    ),
    Rule(
        FailureCause.ITEMS_NOT_WRITTEN,
        Retry.AFTER_ACTION,
        ((_MERCHANT, "correct in the accounting software what the failed push operations report"),),
        codes=(5130,),
        sources=_PUSHES,
    ),
    Rule(
        FailureCause.UNKNOWN,
        Retry.AFTER_ACTION,
        (
            (_INTEGRATOR, "read the evidence"),
            (_CODAT, "if it shows no cause, give support the ids of the company and of the sync"),
        ),
        sources=(Source.CONNECTIONS, Source.CONFIGURATION, Source.PUSH_OPERATIONS, Source.PULL_OPERATIONS),
    ),
)
"""A rule for each cause; every sync fails with one of these."""

_BY_CAUSE: Mapping[FailureCause, Rule] = {rule.cause: rule for rule in RULES}
_BY_CODE: Mapping[int, Rule] = {code: rule for rule in RULES for code in rule.codes}

_MARKDOWN = re.compile(r"[*`]+|\s+")


def rule_of(cause: FailureCause) -> Rule:
    """Return the rule for a cause.

    Args:
        cause: The cause.
    """
    return _BY_CAUSE[cause]


def rule_for_code(code: int | None) -> Rule | None:
    """Return the rule for a status code that stands for one cause; None for any other.

    Args:
        code: The status code of a sync.
    """
    return None if code is None else _BY_CODE.get(code)


def rule_for_message(message: str | None) -> Rule | None:
    """Return the rule for a message of Codat; None if no rule fits it.

    Args:
        message: The error message of a sync.
    """
    text = " ".join(_MARKDOWN.sub(" ", message or "").lower().split())
    return next((rule for rule in RULES if rule.pattern is not None and rule.pattern.search(text)), None)
