"""Async-first client for Codat's Sync for Commerce API.

async with CodatCommerce(api_key) as codat:
    status = await codat.sync.run(company_id)
"""

from codat_commerce_async._operation import Operation
from codat_commerce_async._pages import Pages
from codat_commerce_async._version import __version__
from codat_commerce_async.client import CodatCommerce
from codat_commerce_async.errors import (
    AuthenticationError,
    BadRequestError,
    ClientClosedError,
    CodatError,
    ConflictError,
    DecodeError,
    IdempotencyMismatchError,
    NotFoundError,
    OutcomeUnknownError,
    PaymentRequiredError,
    PermissionDeniedError,
    QuotaExhaustedError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
    StatusError,
    SyncFailedError,
    SyncWaitTimeoutError,
    TransportError,
    WebhookVerificationError,
    WrongEventLoopError,
)
from codat_commerce_async.hooks import Hooks
from codat_commerce_async.models.enums import ConnectionStatus, SourceType
from codat_commerce_async.models.exchange import Answer, RateLimit
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.models.sync import CompanySyncStatus, Outcome, SyncStatus, SyncSummary
from codat_commerce_async.policies import CallOptions, LookOptions, PollPolicy, Quota, RetryPolicy, Timeouts

__all__ = [
    "Answer",
    "AuthenticationError",
    "BadRequestError",
    "CallOptions",
    "ClientClosedError",
    "CodatCommerce",
    "CodatError",
    "CompanySyncStatus",
    "ConflictError",
    "ConnectionStatus",
    "DecodeError",
    "Hooks",
    "IdempotencyMismatchError",
    "LookOptions",
    "NotFoundError",
    "Operation",
    "Outcome",
    "OutcomeUnknownError",
    "Pages",
    "PaymentRequiredError",
    "PermissionDeniedError",
    "PollPolicy",
    "Quota",
    "QuotaExhaustedError",
    "RateLimit",
    "RateLimitError",
    "RequestTimeoutError",
    "RetryPolicy",
    "ServerError",
    "SourceType",
    "StatusError",
    "SyncFailedError",
    "SyncHandle",
    "SyncStatus",
    "SyncSummary",
    "SyncWaitTimeoutError",
    "Timeouts",
    "TransportError",
    "WebhookVerificationError",
    "WrongEventLoopError",
    "__version__",
]
