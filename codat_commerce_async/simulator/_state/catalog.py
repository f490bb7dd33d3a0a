"""The integrations of the simulated client."""

import uuid

from attrs import field, frozen

__all__ = ["PLATFORMS", "Platform", "serialize_branding", "serialize_integration"]

_STATIC = "https://static.codat.io/simulated"


@frozen
class Platform:
    """Software that a company can connect; its ids are the same in every run."""

    key: str
    name: str
    source_type: str
    data_types: tuple[str, ...]
    enabled: bool = True
    beta: bool = False
    integration_id: str = field(init=False)
    source_id: str = field(init=False)

    def __attrs_post_init__(self) -> None:
        for kind in ("integration", "source"):
            object.__setattr__(self, f"{kind}_id", str(uuid.uuid5(uuid.NAMESPACE_URL, f"{kind}/{self.key}")))


_LEDGER = ("chartOfAccounts", "customers", "invoices", "journalEntries", "payments", "suppliers", "taxRates")
_SHOP = (
    "commerce-companyInfo",
    "commerce-orders",
    "commerce-payments",
    "commerce-products",
    "commerce-transactions",
)

PLATFORMS: dict[str, Platform] = {
    platform.key: platform
    for platform in (
        Platform("gbol", "Xero", "Accounting", _LEDGER),
        Platform("qhyg", "QuickBooks Online", "Accounting", _LEDGER),
        Platform("fztf", "Shopify", "Commerce", _SHOP),
        Platform("ugxp", "Zettle", "Commerce", _SHOP),
        Platform("lqai", "Partner Commerce", "Commerce", _SHOP, beta=True),
        Platform("dfxm", "Basiq", "Banking", ("banking-accounts", "banking-transactions"), enabled=False),
    )
}


def serialize_integration(platform: Platform) -> dict[str, object]:
    """Return an `Integration`; its features have `datatype`, as in Codat's responses, not `dataType`, as declared."""
    feature = {"featureType": "Get", "featureState": "Beta" if platform.beta else "Release"}
    return {
        "key": platform.key,
        "logoUrl": f"{_STATIC}/{platform.key}/logo.png",
        "name": platform.name,
        "enabled": platform.enabled,
        "sourceId": platform.source_id,
        "sourceType": platform.source_type,
        "integrationId": platform.integration_id,
        "isOfflineConnector": False,
        "isBeta": platform.beta,
        "dataProvidedBy": platform.name,
        "datatypeFeatures": [
            {"datatype": data_type, "supportedFeatures": [feature]} for data_type in platform.data_types
        ],
    }


def serialize_branding(platform: Platform) -> dict[str, object]:
    """Return a `Branding`."""
    return {
        "logo": {"full": _image(platform, "full logo"), "square": _image(platform, "square logo")},
        "button": {"default": _image(platform, "button"), "hover": _image(platform, "hovered button")},
        "sourceId": platform.source_id,
    }


def _image(platform: Platform, name: str) -> dict[str, object]:
    source = f"{_STATIC}/{platform.key}/{name.replace(' ', '-')}.png"
    return {"image": {"src": source, "alt": f"{platform.name} {name}"}}
