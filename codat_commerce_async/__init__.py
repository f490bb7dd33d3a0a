"""Async-first client for Codat's Sync for Commerce API.

    async with CodatCommerce(api_key) as codat:
        status = await codat.sync.run(company_id)

A name is imported when it is first used, so a program loads only what it needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from codat_commerce_async._version import __version__ as __version__

# Type checkers take the public names from here; at run time `__getattr__` imports them, each when it is first used.
if TYPE_CHECKING:
    from codat_commerce_async._core.local_rate_limiter import LocalRateLimiter as LocalRateLimiter
    from codat_commerce_async._core.operation import Operation as Operation
    from codat_commerce_async._core.pages import Paginator as Paginator
    from codat_commerce_async._core.rate_limiter import RateLimiter as RateLimiter
    from codat_commerce_async._core.transport import Request as Request
    from codat_commerce_async._core.transport import Response as Response
    from codat_commerce_async._core.transport import Transport as Transport
    from codat_commerce_async.client import CodatCommerce as CodatCommerce
    from codat_commerce_async.errors import AuthenticationError as AuthenticationError
    from codat_commerce_async.errors import BadRequestError as BadRequestError
    from codat_commerce_async.errors import ClientClosedError as ClientClosedError
    from codat_commerce_async.errors import CodatError as CodatError
    from codat_commerce_async.errors import ConflictError as ConflictError
    from codat_commerce_async.errors import DecodeError as DecodeError
    from codat_commerce_async.errors import DeliveryStoreError as DeliveryStoreError
    from codat_commerce_async.errors import IdempotencyMismatchError as IdempotencyMismatchError
    from codat_commerce_async.errors import JournalError as JournalError
    from codat_commerce_async.errors import JournalInUseError as JournalInUseError
    from codat_commerce_async.errors import NotFoundError as NotFoundError
    from codat_commerce_async.errors import OutcomeUnknownError as OutcomeUnknownError
    from codat_commerce_async.errors import PaymentRequiredError as PaymentRequiredError
    from codat_commerce_async.errors import PermissionDeniedError as PermissionDeniedError
    from codat_commerce_async.errors import QuotaExhaustedError as QuotaExhaustedError
    from codat_commerce_async.errors import RateLimitError as RateLimitError
    from codat_commerce_async.errors import RequestTimeoutError as RequestTimeoutError
    from codat_commerce_async.errors import ServerError as ServerError
    from codat_commerce_async.errors import SharedQuotaError as SharedQuotaError
    from codat_commerce_async.errors import StatusError as StatusError
    from codat_commerce_async.errors import SyncFailedError as SyncFailedError
    from codat_commerce_async.errors import SyncWaitTimeoutError as SyncWaitTimeoutError
    from codat_commerce_async.errors import TransportError as TransportError
    from codat_commerce_async.errors import WebhookVerificationError as WebhookVerificationError
    from codat_commerce_async.errors import WrongEventLoopError as WrongEventLoopError
    from codat_commerce_async.hooks import Hooks as Hooks
    from codat_commerce_async.models.call import ApiResponse as ApiResponse
    from codat_commerce_async.models.call import RateLimit as RateLimit
    from codat_commerce_async.models.enums import ConnectionStatus as ConnectionStatus
    from codat_commerce_async.models.enums import SourceType as SourceType
    from codat_commerce_async.models.handle import SyncHandle as SyncHandle
    from codat_commerce_async.models.sync import CompanySyncStatus as CompanySyncStatus
    from codat_commerce_async.models.sync import SyncState as SyncState
    from codat_commerce_async.models.sync import SyncStatus as SyncStatus
    from codat_commerce_async.models.sync import SyncSummary as SyncSummary
    from codat_commerce_async.policies import CallOptions as CallOptions
    from codat_commerce_async.policies import PollOptions as PollOptions
    from codat_commerce_async.policies import PollPolicy as PollPolicy
    from codat_commerce_async.policies import Quota as Quota
    from codat_commerce_async.policies import RetryPolicy as RetryPolicy
    from codat_commerce_async.policies import Timeouts as Timeouts
    from codat_commerce_async.problems import Problem as Problem
    from codat_commerce_async.problems import problem as problem
    from codat_commerce_async.syncing.diagnosis import Action as Action
    from codat_commerce_async.syncing.diagnosis import Diagnosis as Diagnosis
    from codat_commerce_async.syncing.diagnosis import Evidence as Evidence
    from codat_commerce_async.syncing.diagnosis import FailureCause as FailureCause
    from codat_commerce_async.syncing.diagnosis import Resolver as Resolver
    from codat_commerce_async.syncing.diagnosis import Retry as Retry
    from codat_commerce_async.syncing.journal import Journal as Journal
    from codat_commerce_async.syncing.journal import JournalEntry as JournalEntry
    from codat_commerce_async.syncing.journal import JournalRun as JournalRun
    from codat_commerce_async.syncing.journal import MinuteCounts as MinuteCounts
    from codat_commerce_async.syncing.outcome import RunProgress as RunProgress
    from codat_commerce_async.syncing.outcome import RunReport as RunReport
    from codat_commerce_async.syncing.outcome import SyncOutcome as SyncOutcome
    from codat_commerce_async.syncing.outcome import stop_at_failure_rate as stop_at_failure_rate
    from codat_commerce_async.syncing.outcome import stop_at_first_failure as stop_at_first_failure
    from codat_commerce_async.syncing.request import SyncRequest as SyncRequest
    from codat_commerce_async.syncing.run import SyncRun as SyncRun
    from codat_commerce_async.syncing.stepper import SyncStepper as SyncStepper
    from codat_commerce_async.syncing.ticket import Reschedule as Reschedule
    from codat_commerce_async.syncing.ticket import SyncTicket as SyncTicket
    from codat_commerce_async.syncing.watches import Watches as Watches

_NAMES = {
    "_core.operation": "Operation",
    "_core.pages": "Paginator",
    "_core.local_rate_limiter": "LocalRateLimiter",
    "_core.rate_limiter": "RateLimiter",
    "_core.transport": "Request Response Transport",
    "client": "CodatCommerce",
    "errors": (
        "AuthenticationError BadRequestError ClientClosedError CodatError ConflictError DecodeError "
        "DeliveryStoreError IdempotencyMismatchError JournalError JournalInUseError NotFoundError OutcomeUnknownError "
        "PaymentRequiredError PermissionDeniedError QuotaExhaustedError RateLimitError RequestTimeoutError "
        "ServerError SharedQuotaError StatusError SyncFailedError SyncWaitTimeoutError TransportError "
        "WebhookVerificationError WrongEventLoopError"
    ),
    "hooks": "Hooks",
    "models.call": "ApiResponse RateLimit",
    "models.enums": "ConnectionStatus SourceType",
    "models.handle": "SyncHandle",
    "models.sync": "CompanySyncStatus SyncState SyncStatus SyncSummary",
    "policies": "CallOptions PollOptions PollPolicy Quota RetryPolicy Timeouts",
    "problems": "Problem problem",
    "syncing.diagnosis": "Action Diagnosis Evidence FailureCause Resolver Retry",
    "syncing.journal": "Journal JournalEntry JournalRun MinuteCounts",
    "syncing.outcome": "RunProgress RunReport SyncOutcome stop_at_failure_rate stop_at_first_failure",
    "syncing.request": "SyncRequest",
    "syncing.run": "SyncRun",
    "syncing.watches": "Watches",
    "syncing.stepper": "SyncStepper",
    "syncing.ticket": "Reschedule SyncTicket",
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names.split()}

# Type checkers export the imports above. They accept only a literal `__all__`, and any name with a `__getattr__`.
if not TYPE_CHECKING:
    __all__ = sorted(("__version__", *_MODULES), key=lambda name: (not name[0].isupper(), name))  # noqa: PLE0605

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value: object = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return ["__version__", *_MODULES]
