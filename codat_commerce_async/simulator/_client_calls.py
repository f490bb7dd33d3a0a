"""What Codat does and says about integrations and the settings of the Sync flow."""

from urllib.parse import quote

from codat_commerce_async.simulator._calls import Call, invalid
from codat_commerce_async.simulator._catalog import PLATFORMS, present_branding, present_integration
from codat_commerce_async.simulator._company_calls import platform_of
from codat_commerce_async.simulator._exchange import Refusal
from codat_commerce_async.simulator._paging import paged
from codat_commerce_async.simulator._records import Company
from codat_commerce_async.simulator._texts import LOCALES
from codat_commerce_async.simulator._world import World

__all__ = [
    "get_branding",
    "get_config_text",
    "get_sync_flow_url",
    "get_visible_accounts",
    "list_integrations",
    "update_config_text",
    "update_visible_accounts",
]

_INTEGRATION_FIELDS = frozenset(
    {
        "key",
        "name",
        "enabled",
        "sourceId",
        "sourceType",
        "integrationId",
        "isOfflineConnector",
        "isBeta",
        "dataProvidedBy",
    }
)


def list_integrations(_world: World, call: Call) -> object:
    """A page of the integrations."""
    return paged(call.path, call.parameters, PLATFORMS.values(), present_integration, _INTEGRATION_FIELDS)


def get_branding(_world: World, call: Call) -> object:
    """An integration's pictures."""
    return present_branding(platform_of(call.values[0]))


def get_sync_flow_url(world: World, call: Call) -> object:
    """A URL with a one-time passcode; a new merchant gets a company."""
    commerce, accounting = platform_of(call.values[0], "Commerce"), platform_of(call.values[1], "Accounting")
    company = _merchant(world, call)
    keys = {connection.platform.key for connection in company.connections.values()}
    for platform in (commerce, accounting):
        if platform.key not in keys:
            world.add_connection(company, platform, call.now, "PendingAuth")
    passcode = world.issue_passcode(company, call.now)
    path = "/".join(quote(part, safe="") for part in (company.id, commerce.key, accounting.key))
    return {"url": f"https://sync-flow-integration.codat.io/{path}/start?otp={passcode}"}


def get_config_text(world: World, call: Call) -> object:
    """The texts in one locale."""
    return world.texts.present(_locale(call))


def update_config_text(world: World, call: Call) -> object:
    """The texts in one locale, changed."""
    locale = _locale(call)
    try:
        world.texts.update(locale, call.object_body())
    except ValueError as error:
        raise invalid(str(error), "A text takes a string, null, or an object with text.") from None
    return world.texts.present(locale)


def get_visible_accounts(world: World, call: Call) -> object:
    """The accounts that this client shows for a platform."""
    client_id, key = call.values
    if client_id != world.client_id:
        raise Refusal(404, f"There is no client with the id {client_id}.", service="ClientsApi")
    return {"visibleAccounts": world.visible_accounts.get(platform_of(key).key, [])}


def update_visible_accounts(world: World, call: Call) -> object:
    """The accounts that this client shows for a platform, changed."""
    platform = platform_of(call.values[0])
    accounts = call.object_body().get("visibleAccounts")
    if accounts is not None and not (
        isinstance(accounts, list) and all(isinstance(account, str) for account in accounts)
    ):
        raise invalid("visibleAccounts", "visibleAccounts takes a list of texts.")
    world.visible_accounts[platform.key] = accounts
    return {"visibleAccounts": accounts}


def _locale(call: Call) -> str:
    locale = call.parameters.get("locale")
    if locale not in LOCALES:
        raise invalid("locale", f"locale takes one of {', '.join(sorted(LOCALES))}.")
    return locale


def _merchant(world: World, call: Call) -> Company:
    identifier = call.parameters.get("merchantIdentifier")
    company = world.companies.get(world.merchants.get(identifier, "")) if identifier else None
    if company is None:
        company = world.add_company(call.now, identifier or "Sync flow merchant")
        if identifier:
            world.merchants[identifier] = company.id
    return company
