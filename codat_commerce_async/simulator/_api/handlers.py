"""Handle each operation: change the store, and return the JSON value of the response."""

import re
from urllib.parse import quote

from codat_commerce_async.simulator._api.http import Call, time_field, validation_error
from codat_commerce_async.simulator._api.paging import paged
from codat_commerce_async.simulator._state.catalog import PLATFORMS, Platform, serialize_branding, serialize_integration
from codat_commerce_async.simulator._state.configuration import validation_errors
from codat_commerce_async.simulator._state.errors import ApiError
from codat_commerce_async.simulator._state.records import STATUSES, Company, Connection, Sync
from codat_commerce_async.simulator._state.serializers import (
    serialize_company,
    serialize_company_details,
    serialize_company_sync_status,
    serialize_connection,
    serialize_sync_status,
    serialize_sync_summary,
)
from codat_commerce_async.simulator._state.store import Store
from codat_commerce_async.simulator._state.syncs import NewSync, period_to_latest
from codat_commerce_async.simulator._state.texts import LOCALES

__all__ = [
    "check_name",
    "check_tags",
    "company_of",
    "connection_of",
    "create_company",
    "create_connection",
    "get_branding",
    "get_config_text",
    "get_configuration",
    "get_last_successful_sync",
    "get_latest_sync",
    "get_sync",
    "get_sync_flow_url",
    "get_sync_status",
    "get_visible_accounts",
    "list_companies",
    "list_connections",
    "list_integrations",
    "list_syncs",
    "request_sync",
    "request_sync_for_date_range",
    "set_configuration",
    "update_authorization",
    "update_config_text",
    "update_connection",
    "update_visible_accounts",
]

_NAME = re.compile(r"[A-Za-z0-9\s\-',&@.?!]+", re.ASCII)
_PLATFORM_KEY = re.compile(r"[a-z]{4}", re.ASCII)
_TAG = re.compile(r".{1,27}")
_MAX_TAGS, _MAX_TAG_VALUE = 10, 100
_COMPANY_FIELDS = frozenset({"id", "name", "description", "created", "lastSync", "redirect", "createdByUserName"})
_CONNECTION_FIELDS = frozenset(
    {
        "id",
        "integrationId",
        "integrationKey",
        "sourceId",
        "sourceType",
        "platformName",
        "status",
        "created",
        "lastSync",
    }
)
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


def company_of(store: Store, call: Call) -> Company:
    """Return the company of a call; raise a 404 if there is none."""
    company = store.companies.get(call.values[0])
    if company is None:
        raise ApiError(404, f"There is no company {call.values[0]}.", service="ClientsApi")
    return company


def platform_of(key: str, source_type: str | None = None) -> Platform:
    """Return the integration with this key; raise a 404 if there is none, or none of this type."""
    platform = PLATFORMS.get(key)
    if platform is None or source_type not in {None, platform.source_type}:
        raise ApiError(404, f"There is no integration {key}.")
    return platform


def list_companies(store: Store, call: Call) -> object:
    """Return a page of the companies."""
    return paged(
        call.path,
        call.parameters,
        store.companies.values(),
        serialize_company,
        _COMPANY_FIELDS,
        searchable=serialize_company_details,
    )


def create_company(store: Store, call: Call) -> object:
    """Create a company, unless the plan allows no more."""
    body = call.object_body()
    name, description, tags = body.get("name"), body.get("description"), body.get("tags")
    name = check_name(name)
    if not (description is None or isinstance(description, str)):
        raise validation_error("description", "description must be a string.")
    checked = check_tags(tags)
    if store.company_limit is not None and len(store.companies) >= store.company_limit:
        # In Codat's own example the body of this 402 has the status code 429.
        raise ApiError(402, f"The plan allows {store.company_limit} companies.", body_status=429)
    company = store.add_company(call.now, name)
    company.description, company.tags = description, checked
    return serialize_company(company)


def list_connections(store: Store, call: Call) -> object:
    """Return a page of the company's connections."""
    company = company_of(store, call)
    return paged(
        call.path,
        call.parameters,
        company.connections.values(),
        lambda connection: serialize_connection(company, connection),
        _CONNECTION_FIELDS,
    )


def create_connection(store: Store, call: Call) -> object:
    """Create a connection that waits for the merchant's authorization."""
    company = company_of(store, call)
    key = call.object_body().get("platformKey")
    if not isinstance(key, str) or not _PLATFORM_KEY.fullmatch(key):
        raise validation_error("platformKey", "platformKey must be four lower-case letters.")
    connection = store.add_connection(company, platform_of(key), call.now, "PendingAuth")
    return serialize_connection(company, connection)


def update_authorization(store: Store, call: Call) -> object:
    """Link the connection with the credentials in the body; they are not checked."""
    company, connection = connection_of(store, call)
    if not all(isinstance(value, str) for value in call.object_body().values()):
        raise validation_error("", "Every value of an authorization must be a string.")
    store.set_status(company, connection, "Linked", call.now)
    return serialize_connection(company, connection)


def update_connection(store: Store, call: Call) -> object:
    """Change the status of the connection."""
    company, connection = connection_of(store, call)
    body = call.object_body()
    if unknown := sorted(body.keys() - {"status"}):
        raise validation_error(unknown[0], "Only status can be changed.")
    status = body.get("status")
    if status is not None:
        if not isinstance(status, str) or status not in STATUSES:
            raise validation_error("status", f"status must be one of {', '.join(STATUSES)}.")
        store.set_status(company, connection, status, call.now)
    return serialize_connection(company, connection)


def get_configuration(store: Store, call: Call) -> object:
    """Return the company's configuration."""
    return store.configuration(company_of(store, call))


def set_configuration(store: Store, call: Call) -> object:
    """Replace the company's configuration by the body, including unknown fields."""
    company = company_of(store, call)
    body = call.object_body()
    if found := validation_errors(body):
        raise ApiError(400, "The request is not valid.", invalid=found)
    store.set_configuration(company, body, call.now)
    return store.configuration(company)


def connection_of(store: Store, call: Call) -> tuple[Company, Connection]:
    """Return the company and the connection of a call; raise a 404 if there is none."""
    company = company_of(store, call)
    connection = company.connections.get(call.values[1])
    if connection is None:
        raise ApiError(404, f"There is no connection {call.values[1]}.")
    return company, connection


def check_name(name: object) -> str:
    """Return the name of a company; raise a 400 if it is not valid."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise validation_error("name", "name must have letters, digits and simple punctuation, at least one character.")
    return name


def check_tags(tags: object) -> dict[str, str]:
    """Return the tags of a body; raise a 400 if they are not valid."""
    if tags is None:
        return {}
    if not isinstance(tags, dict) or len(tags) > _MAX_TAGS:
        raise validation_error("tags", f"tags must be an object of at most {_MAX_TAGS} fields.")
    for key, value in tags.items():
        if not _TAG.fullmatch(key) or not isinstance(value, str) or len(value) > _MAX_TAG_VALUE:
            raise validation_error(
                "tags", f"A tag must have at most 27 characters on one line, its value {_MAX_TAG_VALUE}."
            )
    return tags


def request_sync(store: Store, call: Call) -> object:
    """Sync from the last successful sync up to `syncTo`, or to now."""
    company = company_of(store, call)
    body = call.object_body() if call.has_body and call.body is not None else {}
    until = call.now if body.get("syncTo") is None else time_field(body, "syncTo")
    sync = store.start_sync(company, call.now, NewSync(period_to_latest(company, until), key=call.key))
    return serialize_sync_summary(company, sync, call.now)


def request_sync_for_date_range(store: Store, call: Call) -> object:
    """Sync the period of `dateRange`, which has a `start` and a `finish`."""
    company = company_of(store, call)
    period = call.object_body().get("dateRange")
    if not isinstance(period, dict):
        raise validation_error("dateRange", "dateRange must be an object with start and finish.")
    start, finish = (time_field(period, name, "dateRange.") for name in ("start", "finish"))
    if finish <= start:
        raise validation_error("dateRange.finish", "dateRange.finish must be later than dateRange.start.")
    sync = store.start_sync(company, call.now, NewSync((start, finish), key=call.key))
    return serialize_sync_summary(company, sync, call.now)


def get_sync_status(store: Store, call: Call) -> object:
    """Return the newest sync, with both of its ids."""
    company = company_of(store, call)
    sync = _require(company, store.syncs.latest(company, call.now))
    return serialize_sync_status(company, sync, call.now)


def get_last_successful_sync(store: Store, call: Call) -> object:
    """Return the newest successful sync."""
    company = company_of(store, call)
    sync = _require(company, store.syncs.last_successful(company, call.now))
    return serialize_company_sync_status(sync, call.now)


def get_latest_sync(store: Store, call: Call) -> object:
    """Return the newest sync."""
    company = company_of(store, call)
    return serialize_company_sync_status(_require(company, store.syncs.latest(company, call.now)), call.now)


def get_sync(store: Store, call: Call) -> object:
    """Return the sync with this id; a commerce id is accepted only if the rules allow it."""
    company = company_of(store, call)
    sync = store.syncs.find(company, call.values[1], call.now)
    return serialize_company_sync_status(_require(company, sync), call.now)


def list_syncs(store: Store, call: Call) -> object:
    """Return every sync of the company, newest first."""
    company = company_of(store, call)
    visible = [sync for sync in reversed(company.syncs) if store.syncs.visible(sync, call.now)]
    return [serialize_company_sync_status(sync, call.now) for sync in visible]


def _require(company: Company, sync: Sync | None) -> Sync:
    if sync is None:
        raise ApiError(404, f"There is no such sync of company {company.id}.")
    return sync


def list_integrations(_store: Store, call: Call) -> object:
    """Return a page of the integrations."""
    return paged(call.path, call.parameters, PLATFORMS.values(), serialize_integration, _INTEGRATION_FIELDS)


def get_branding(_store: Store, call: Call) -> object:
    """Return the branding of an integration."""
    return serialize_branding(platform_of(call.values[0]))


def get_sync_flow_url(store: Store, call: Call) -> object:
    """Return a Sync flow URL with a one-time passcode; create a company for a new merchant."""
    commerce, accounting = platform_of(call.values[0], "Commerce"), platform_of(call.values[1], "Accounting")
    company = _merchant(store, call)
    keys = {connection.platform.key for connection in company.connections.values()}
    for platform in (commerce, accounting):
        if platform.key not in keys:
            store.add_connection(company, platform, call.now, "PendingAuth")
    passcode = store.issue_passcode(company, call.now)
    path = "/".join(quote(part, safe="") for part in (company.id, commerce.key, accounting.key))
    return {"url": f"https://sync-flow-integration.codat.io/{path}/start?otp={passcode}"}


def get_config_text(store: Store, call: Call) -> object:
    """Return the texts of a locale."""
    return store.texts.serialize(_locale(call))


def update_config_text(store: Store, call: Call) -> object:
    """Change texts of a locale and return them all."""
    locale = _locale(call)
    try:
        store.texts.update(locale, call.object_body())
    except ValueError as error:
        raise validation_error(str(error), "A text must be a string, null, or an object with text.") from None
    return store.texts.serialize(locale)


def get_visible_accounts(store: Store, call: Call) -> object:
    """Return the accounts that this client shows for a platform."""
    client_id, key = call.values
    if client_id != store.client_id:
        raise ApiError(404, f"There is no client with the id {client_id}.", service="ClientsApi")
    return {"visibleAccounts": store.visible_accounts.get(platform_of(key).key, [])}


def update_visible_accounts(store: Store, call: Call) -> object:
    """Replace the accounts that this client shows for a platform."""
    platform = platform_of(call.values[0])
    accounts = call.object_body().get("visibleAccounts")
    if accounts is not None and not (
        isinstance(accounts, list) and all(isinstance(account, str) for account in accounts)
    ):
        raise validation_error("visibleAccounts", "visibleAccounts must be a list of strings.")
    store.visible_accounts[platform.key] = accounts
    return {"visibleAccounts": accounts}


def _locale(call: Call) -> str:
    locale = call.parameters.get("locale")
    if locale not in LOCALES:
        raise validation_error("locale", f"locale must be one of {', '.join(sorted(LOCALES))}.")
    return locale


def _merchant(store: Store, call: Call) -> Company:
    identifier = call.parameters.get("merchantIdentifier")
    company = store.companies.get(store.merchants.get(identifier, "")) if identifier else None
    if company is None:
        company = store.add_company(call.now, identifier or "Sync flow merchant")
        if identifier:
            store.merchants[identifier] = company.id
    return company
