"""Codat's enumerations, which accept values that Codat adds later."""

from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

from codat_commerce_async._core.lazy import LazyModule

if TYPE_CHECKING:
    import pydantic
    import pydantic_core

    from codat_commerce_async.models import _pydantic
else:
    pydantic = LazyModule("pydantic")
    pydantic_core = LazyModule("pydantic_core")
    _pydantic = LazyModule("codat_commerce_async.models._pydantic")

__all__ = [
    "ConnectionStatus",
    "DataType",
    "ErrorStatus",
    "FeatureState",
    "FeatureType",
    "Locale",
    "OpenEnum",
    "OutputFormat",
    "PushChangeType",
    "ReadStatus",
    "SourceType",
    "SyncFrequency",
    "WebhookEventType",
    "WriteStatus",
    "WriteType",
]


class OpenEnum(StrEnum):
    """A string enumeration that accepts any text; `is_known` is True for the members in the specification.

    Known members are singletons (`status is ConnectionStatus.LINKED`). Unknown ones are created each time, so compare
    them with `==`, to each other or to plain text.
    """

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str):
            return None
        member = str.__new__(cls, value)
        member._name_ = member._value_ = str(value)
        return member

    @property
    def is_known(self) -> bool:
        """Whether the specification lists this member."""
        return type(self).__members__.get(self._name_) is self

    def __repr__(self) -> str:
        return f"{type(self).__name__}.{self._name_}" if self.is_known else f"{type(self).__name__}({self._value_!r})"

    def __reduce_ex__(self, _protocol: object) -> tuple[object, ...]:
        return type(self), (self._value_,)

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, _handler: object) -> "pydantic_core.CoreSchema":
        return _pydantic.enum_schema(cls)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: "pydantic_core.CoreSchema", handler: "pydantic.GetJsonSchemaHandler"
    ) -> dict[str, Any]:
        return _pydantic.enum_json_schema(cls, schema, handler)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: object) -> Self:
        return self


class ConnectionStatus(OpenEnum):
    """Whether a company's data connection is authorized now."""

    PENDING_AUTH = "PendingAuth"
    LINKED = "Linked"
    UNLINKED = "Unlinked"
    DEAUTHORIZED = "Deauthorized"


class SourceType(OpenEnum):
    """The kind of a connection's platform."""

    ACCOUNTING = "Accounting"
    BANKING = "Banking"
    BANK_FEED = "BankFeed"
    COMMERCE = "Commerce"
    EXPENSE = "Expense"
    OTHER = "Other"
    UNKNOWN = "Unknown"


class ErrorStatus(OpenEnum):
    """Whether a transient error of a connection lasts."""

    ACTIVE = "Active"
    RESOLVED = "Resolved"


class DataType(OpenEnum):
    """A kind of data that Codat reads or writes."""

    ACCOUNT_TRANSACTIONS = "accountTransactions"
    BALANCE_SHEET = "balanceSheet"
    BANK_ACCOUNTS = "bankAccounts"
    BANK_TRANSACTIONS = "bankTransactions"
    BILL_CREDIT_NOTES = "billCreditNotes"
    BILL_PAYMENTS = "billPayments"
    BILLS = "bills"
    CASH_FLOW_STATEMENT = "cashFlowStatement"
    CHART_OF_ACCOUNTS = "chartOfAccounts"
    COMPANY = "company"
    CREDIT_NOTES = "creditNotes"
    CUSTOMERS = "customers"
    DIRECT_COSTS = "directCosts"
    DIRECT_INCOMES = "directIncomes"
    INVOICES = "invoices"
    ITEM_RECEIPTS = "itemReceipts"
    ITEMS = "items"
    JOURNAL_ENTRIES = "journalEntries"
    JOURNALS = "journals"
    PAYMENT_METHODS = "paymentMethods"
    PAYMENTS = "payments"
    PROFIT_AND_LOSS = "profitAndLoss"
    PURCHASE_ORDERS = "purchaseOrders"
    SALES_ORDERS = "salesOrders"
    SUPPLIERS = "suppliers"
    TAX_RATES = "taxRates"
    TRACKING_CATEGORIES = "trackingCategories"
    TRANSFERS = "transfers"
    BANKING_ACCOUNT_BALANCES = "banking-accountBalances"
    BANKING_ACCOUNTS = "banking-accounts"
    BANKING_TRANSACTION_CATEGORIES = "banking-transactionCategories"
    BANKING_TRANSACTIONS = "banking-transactions"
    COMMERCE_COMPANY_INFO = "commerce-companyInfo"
    COMMERCE_CUSTOMERS = "commerce-customers"
    COMMERCE_DISPUTES = "commerce-disputes"
    COMMERCE_LOCATIONS = "commerce-locations"
    COMMERCE_ORDERS = "commerce-orders"
    COMMERCE_PAYMENT_METHODS = "commerce-paymentMethods"
    COMMERCE_PAYMENTS = "commerce-payments"
    COMMERCE_PRODUCT_CATEGORIES = "commerce-productCategories"
    COMMERCE_PRODUCTS = "commerce-products"
    COMMERCE_TAX_COMPONENTS = "commerce-taxComponents"
    COMMERCE_TRANSACTIONS = "commerce-transactions"


class FeatureState(OpenEnum):
    """The state of an integration's support for a feature."""

    RELEASE = "Release"
    ALPHA = "Alpha"
    BETA = "Beta"
    DEPRECATED = "Deprecated"
    NOT_SUPPORTED = "NotSupported"
    NOT_IMPLEMENTED = "NotImplemented"


class FeatureType(OpenEnum):
    """An operation that an integration supports for a data type."""

    GET = "Get"
    POST = "Post"
    CATEGORIZATION = "Categorization"
    DELETE = "Delete"
    PUT = "Put"
    GET_AS_PDF = "GetAsPdf"
    DOWNLOAD_ATTACHMENT = "DownloadAttachment"
    GET_ATTACHMENT = "GetAttachment"
    GET_ATTACHMENTS = "GetAttachments"
    UPLOAD_ATTACHMENT = "UploadAttachment"


class SyncFrequency(OpenEnum):
    """How often the scheduled sync runs."""

    DAILY = "Daily"
    MONTHLY = "Monthly"


class OutputFormat(OpenEnum):
    """The form of commerce data in the accounting software."""

    JOURNAL_ENTRY = "JournalEntry"


class Locale(OpenEnum):
    """A language of the Sync flow."""

    EN_US = "en-us"
    FR_FR = "fr-fr"


class ReadStatus(OpenEnum):
    """The status of a read of one data type."""

    INITIAL = "Initial"
    QUEUED = "Queued"
    FETCHING = "Fetching"
    MAP_QUEUED = "MapQueued"
    MAPPING = "Mapping"
    COMPLETE = "Complete"
    FETCH_ERROR = "FetchError"
    MAP_ERROR = "MapError"
    INTERNAL_ERROR = "InternalError"
    PROCESSING_QUEUED = "ProcessingQueued"
    PROCESSING = "Processing"
    PROCESSING_ERROR = "ProcessingError"
    VALIDATION_QUEUED = "ValidationQueued"
    VALIDATING = "Validating"
    VALIDATION_ERROR = "ValidationError"
    AUTH_ERROR = "AuthError"
    CANCELLED = "Cancelled"
    NOT_SUPPORTED = "NotSupported"
    RATE_LIMIT_ERROR = "RateLimitError"
    PERMISSIONS_ERROR = "PermissionsError"
    PREREQUISITE_NOT_MET = "PrerequisiteNotMet"


class WriteType(OpenEnum):
    """The kind of a write request."""

    CREATE = "Create"
    UPDATE = "Update"
    DELETE = "Delete"
    UPLOAD_ATTACHMENT = "UploadAttachment"


class WriteStatus(OpenEnum):
    """The status of a write request."""

    PENDING = "Pending"
    FAILED = "Failed"
    SUCCESS = "Success"
    TIMED_OUT = "TimedOut"


class PushChangeType(OpenEnum):
    """What a push operation did to a record."""

    UNKNOWN = "Unknown"
    CREATED = "Created"
    MODIFIED = "Modified"
    DELETED = "Deleted"
    ATTACHMENT_UPLOADED = "AttachmentUploaded"


class WebhookEventType(OpenEnum):
    """The events with fixed names; the names of write events contain the data type and are not listed."""

    COMPANY_CREATED = "company.created"
    COMPANY_DELETED = "company.deleted"
    COMPANY_PRODUCT_ADDED = "company.product.added"
    COMPANY_PRODUCT_REMOVED = "company.product.removed"
    CONNECTION_CREATED = "connection.created"
    CONNECTION_CONNECTED = "connection.connected"
    CONNECTION_FAILED = "connection.failed"
    CONNECTION_DISCONNECTED = "connection.disconnected"
    CONNECTION_RECONNECTED = "connection.reconnected"
    CONNECTION_DELETED = "connection.deleted"
    READ_COMPLETED = "read.completed"
    READ_COMPLETED_INITIAL = "read.completed.initial"
    RATE_LIMIT_REACHED = "client.rateLimit.reached"
    RATE_LIMIT_RESET = "client.rateLimit.reset"
