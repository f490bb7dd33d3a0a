"""What Codat says and is told, as frozen values; each module is loaded when the first of its names is asked for."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from codat_commerce_async.models.companies import (
        Companies,
        Company,
        CompanyLinks,
        CompanyReference,
        CreateCompany,
    )
    from codat_commerce_async.models.connections import (
        Connection,
        Connections,
        CreateConnection,
        DataConnectionError,
        UpdateConnection,
    )
    from codat_commerce_async.models.enums import (
        ConnectionStatus,
        DataType,
        ErrorStatus,
        FeatureState,
        FeatureType,
        Locale,
        OpenEnum,
        OutputFormat,
        ReadStatus,
        SourceType,
        SyncFrequency,
        WebhookEventType,
        WriteStatus,
        WriteType,
    )
    from codat_commerce_async.models.error_message import (
        ErrorMessage,
        ErrorValidation,
        ErrorValidationItem,
    )
    from codat_commerce_async.models.exchange import (
        Answer,
        Attempt,
        Call,
        RateLimit,
    )
    from codat_commerce_async.models.handle import SyncHandle
    from codat_commerce_async.models.integrations import (
        Branding,
        BrandingButton,
        BrandingImage,
        BrandingLogo,
        DataTypeFeature,
        ImageReference,
        Integration,
        Integrations,
        SupportedFeature,
    )
    from codat_commerce_async.models.kept import (
        KeepsUnknown,
        KeepsUnreadable,
        LooseInt,
    )
    from codat_commerce_async.models.paging import (
        HalRef,
        Links,
        Page,
    )
    from codat_commerce_async.models.sync import (
        CompanySyncStatus,
        DateRange,
        Outcome,
        SyncDateRange,
        SyncRange,
        SyncState,
        SyncStatus,
        SyncSummary,
        SyncToLatestArgs,
    )
    from codat_commerce_async.models.sync_flow import (
        Localization,
        LocalizationInfo,
        SyncFlowUrl,
        VisibleAccounts,
    )
    from codat_commerce_async.models.unset import (
        UNSET,
        Unset,
    )

__all__ = [
    "UNSET",
    "Answer",
    "Attempt",
    "Branding",
    "BrandingButton",
    "BrandingImage",
    "BrandingLogo",
    "Call",
    "Companies",
    "Company",
    "CompanyLinks",
    "CompanyReference",
    "CompanySyncStatus",
    "Connection",
    "ConnectionStatus",
    "Connections",
    "CreateCompany",
    "CreateConnection",
    "DataConnectionError",
    "DataType",
    "DataTypeFeature",
    "DateRange",
    "ErrorMessage",
    "ErrorStatus",
    "ErrorValidation",
    "ErrorValidationItem",
    "FeatureState",
    "FeatureType",
    "HalRef",
    "ImageReference",
    "Integration",
    "Integrations",
    "KeepsUnknown",
    "KeepsUnreadable",
    "Links",
    "Locale",
    "Localization",
    "LocalizationInfo",
    "LooseInt",
    "OpenEnum",
    "Outcome",
    "OutputFormat",
    "Page",
    "RateLimit",
    "ReadStatus",
    "SourceType",
    "SupportedFeature",
    "SyncDateRange",
    "SyncFlowUrl",
    "SyncFrequency",
    "SyncHandle",
    "SyncRange",
    "SyncState",
    "SyncStatus",
    "SyncSummary",
    "SyncToLatestArgs",
    "Unset",
    "UpdateConnection",
    "VisibleAccounts",
    "WebhookEventType",
    "WriteStatus",
    "WriteType",
]

_HOMES = {
    "companies": (
        "Companies",
        "Company",
        "CompanyLinks",
        "CompanyReference",
        "CreateCompany",
    ),
    "connections": (
        "Connection",
        "Connections",
        "CreateConnection",
        "DataConnectionError",
        "UpdateConnection",
    ),
    "enums": (
        "ConnectionStatus",
        "DataType",
        "ErrorStatus",
        "FeatureState",
        "FeatureType",
        "Locale",
        "OpenEnum",
        "OutputFormat",
        "ReadStatus",
        "SourceType",
        "SyncFrequency",
        "WebhookEventType",
        "WriteStatus",
        "WriteType",
    ),
    "error_message": (
        "ErrorMessage",
        "ErrorValidation",
        "ErrorValidationItem",
    ),
    "exchange": (
        "Answer",
        "Attempt",
        "Call",
        "RateLimit",
    ),
    "handle": ("SyncHandle",),
    "integrations": (
        "Branding",
        "BrandingButton",
        "BrandingImage",
        "BrandingLogo",
        "DataTypeFeature",
        "ImageReference",
        "Integration",
        "Integrations",
        "SupportedFeature",
    ),
    "kept": (
        "KeepsUnknown",
        "KeepsUnreadable",
        "LooseInt",
    ),
    "paging": (
        "HalRef",
        "Links",
        "Page",
    ),
    "sync": (
        "CompanySyncStatus",
        "DateRange",
        "Outcome",
        "SyncDateRange",
        "SyncRange",
        "SyncState",
        "SyncStatus",
        "SyncSummary",
        "SyncToLatestArgs",
    ),
    "sync_flow": (
        "Localization",
        "LocalizationInfo",
        "SyncFlowUrl",
        "VisibleAccounts",
    ),
    "unset": (
        "UNSET",
        "Unset",
    ),
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
