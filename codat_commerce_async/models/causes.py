"""Why a sync failed, as a stable word; `failure_rules.py` has the rule of each cause."""

from codat_commerce_async.models._described import DescribedEnum

__all__ = ["FailureCause"]


class FailureCause(DescribedEnum):
    """The cause of a failed sync: a stable word as the value, and a `description` for people.

    Sources: https://docs.codat.io/commerce/error-documentation and
    https://docs.codat.io/commerce/troubleshooting
    """

    # By the status code.
    DELETED_COMPANY = "deleted_company", "the company was deleted"
    DEAUTHORIZED_COMPANY = "deauthorized_company", "a connection of the company was de-authorized"
    SUBSCRIPTION_LAPSED = "subscription_lapsed", "the accounting software's subscription has lapsed"
    SERVER_ERROR = "server_error", "an internal error at Codat"
    DUPLICATE_PERIOD = "duplicate_period", "a sync of that period is running or has succeeded"
    DATA_PROCESSING_ERROR = "data_processing_error", "the data of the period could not be processed"
    ITEMS_NOT_WRITTEN = "items_not_written", "at least one item could not be written to the accounting software"

    # By the message about the configuration (code 4000).
    SYNC_DISABLED = "sync_disabled", "syncs are turned off in the configuration; 31 failed days turn them off too"
    UNLINKED_CONNECTION = "unlinked_connection", "there is not one linked accounting and one linked commerce connection"
    PAYMENTS_NOT_CONFIGURED = "payments_not_configured", "fees are on, but payments are not configured"
    SAME_PREPAID_ACCOUNT = "same_prepaid_account", "the prepaid account is also the prepaid payment account"
    SAME_PAYOUT_ACCOUNT = "same_payout_account", "the card account is also the payout account"
    INVALID_SALES_CUSTOMER = "invalid_sales_customer", "no sales customer is selected, or one that is not an option"
    INVALID_ACCOUNT = "invalid_account", "the selected account is not an option"
    INVALID_GROUPING = "invalid_grouping", "the grouping is missing or not from its options"
    PAYMENTS_ON_DRAFT_INVOICES = "payments_on_draft_invoices", "payments are on, but a draft invoice cannot have any"
    UNMAPPED_ACCOUNT = "unmapped_account", "a required account has no selection"
    NO_SALES_ACCOUNT = "no_sales_account", "the accounting software has no sales account"
    INVALID_SCHEDULE = "invalid_schedule", "the schedule's frequency is missing or not from its options"
    INVALID_INVOICE_STATUS = "invalid_invoice_status", "the invoice status is neither submitted nor draft"
    UNMAPPED_TAX_RATE = "unmapped_tax_rate", "a tax rate is not mapped, or not to one of its options"
    INVALID_FEES_SUPPLIER = "invalid_fees_supplier", "no fees supplier is selected, or one that is not an option"

    # By the message of the validation against the accounting software, at the start of a sync.
    ACCOUNT_NOT_FOUND = "account_not_found", "a selected account does not exist in the accounting software any more"
    INACTIVE_ACCOUNT = "inactive_account", "a selected account is not active in the accounting software"
    INACTIVE_CUSTOMER = "inactive_customer", "the sales customer is not active in the accounting software"
    INACTIVE_SUPPLIER = "inactive_supplier", "the fees supplier is not active in the accounting software"
    CUSTOMER_NOT_FOUND = "customer_not_found", "the sales customer does not exist in the accounting software any more"
    SUPPLIER_NOT_FOUND = "supplier_not_found", "the fees supplier does not exist in the accounting software any more"
    TAX_RATE_NOT_FOUND = "tax_rate_not_found", "a tax rate does not exist in the accounting software any more"
    COMPANY_NOT_FOUND = "company_not_found", "Codat found no company with the id"
    OVERLAPPING_PERIOD = "overlapping_period", "the period overlaps with that of an earlier sync"
    MANUAL_RECONCILIATION = "manual_reconciliation", "a changed order has no original in the accounting software"

    UNKNOWN = "unknown", "neither the code nor the message is a documented one"
