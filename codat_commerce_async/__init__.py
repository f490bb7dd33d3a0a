"""Async-first client for Codat's Sync for Commerce API.

    async with CodatCommerce(api_key) as codat:
        status = await codat.sync.run(company_id)

Each name is loaded when it is first asked for, so that a program pays for what it uses.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from codat_commerce_async._version import __version__

if TYPE_CHECKING:
    from codat_commerce_async._core.operation import (
        Operation,
    )
    from codat_commerce_async._core.pages import (
        Paginator,
    )
    from codat_commerce_async._core.rate_limiter import (
        LocalRateLimiter,
        RateLimiter,
    )
    from codat_commerce_async._core.transport import (
        Request,
        Response,
        Transport,
    )
    from codat_commerce_async.client import (
        CodatCommerce,
    )
    from codat_commerce_async.errors import (
        AuthenticationError,
        BadRequestError,
        ClientClosedError,
        CodatError,
        ConflictError,
        DecodeError,
        IdempotencyMismatchError,
        JournalError,
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
    from codat_commerce_async.hooks import (
        Hooks,
    )
    from codat_commerce_async.models.call import (
        ApiResponse,
        RateLimit,
    )
    from codat_commerce_async.models.enums import (
        ConnectionStatus,
        SourceType,
    )
    from codat_commerce_async.models.handle import (
        SyncHandle,
    )
    from codat_commerce_async.models.sync import (
        CompanySyncStatus,
        SyncState,
        SyncStatus,
        SyncSummary,
    )
    from codat_commerce_async.policies import (
        CallOptions,
        PollOptions,
        PollPolicy,
        Quota,
        RetryPolicy,
        Timeouts,
    )
    from codat_commerce_async.syncing.outcome import (
        RunProgress,
        RunReport,
        SyncOutcome,
        stop_at_failure_rate,
        stop_at_first_failure,
    )
    from codat_commerce_async.syncing.request import (
        SyncRequest,
    )
    from codat_commerce_async.syncing.run import (
        SyncRun,
    )

__all__ = [
    "ApiResponse",
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
    "JournalError",
    "LocalRateLimiter",
    "NotFoundError",
    "Operation",
    "OutcomeUnknownError",
    "Paginator",
    "PaymentRequiredError",
    "PermissionDeniedError",
    "PollOptions",
    "PollPolicy",
    "Quota",
    "QuotaExhaustedError",
    "RateLimit",
    "RateLimitError",
    "RateLimiter",
    "Request",
    "RequestTimeoutError",
    "Response",
    "RetryPolicy",
    "RunProgress",
    "RunReport",
    "ServerError",
    "SourceType",
    "StatusError",
    "SyncFailedError",
    "SyncHandle",
    "SyncOutcome",
    "SyncRequest",
    "SyncRun",
    "SyncState",
    "SyncStatus",
    "SyncSummary",
    "SyncWaitTimeoutError",
    "Timeouts",
    "Transport",
    "TransportError",
    "WebhookVerificationError",
    "WrongEventLoopError",
    "__version__",
    "stop_at_failure_rate",
    "stop_at_first_failure",
]

_HOMES = {
    "_core.rate_limiter": (
        "LocalRateLimiter",
        "RateLimiter",
    ),
    "_core.operation": ("Operation",),
    "_core.pages": ("Paginator",),
    "_core.transport": (
        "Request",
        "Response",
        "Transport",
    ),
    "client": ("CodatCommerce",),
    "errors": (
        "AuthenticationError",
        "BadRequestError",
        "ClientClosedError",
        "CodatError",
        "ConflictError",
        "DecodeError",
        "IdempotencyMismatchError",
        "JournalError",
        "NotFoundError",
        "OutcomeUnknownError",
        "PaymentRequiredError",
        "PermissionDeniedError",
        "QuotaExhaustedError",
        "RateLimitError",
        "RequestTimeoutError",
        "ServerError",
        "StatusError",
        "SyncFailedError",
        "SyncWaitTimeoutError",
        "TransportError",
        "WebhookVerificationError",
        "WrongEventLoopError",
    ),
    "hooks": ("Hooks",),
    "models.enums": (
        "ConnectionStatus",
        "SourceType",
    ),
    "models.call": (
        "ApiResponse",
        "RateLimit",
    ),
    "models.handle": ("SyncHandle",),
    "models.sync": (
        "CompanySyncStatus",
        "SyncState",
        "SyncStatus",
        "SyncSummary",
    ),
    "policies": (
        "CallOptions",
        "PollOptions",
        "PollPolicy",
        "Quota",
        "RetryPolicy",
        "Timeouts",
    ),
    "syncing.run": ("SyncRun",),
    "syncing.outcome": (
        "RunProgress",
        "RunReport",
        "SyncOutcome",
        "stop_at_failure_rate",
        "stop_at_first_failure",
    ),
    "syncing.request": ("SyncRequest",),
}


def __getattr__(name: str) -> object:
    for module, names in _HOMES.items():
        if name in names:
            value: object = getattr(import_module(f"{__name__}.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
