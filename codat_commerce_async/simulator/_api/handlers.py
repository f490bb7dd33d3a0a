"""One function per operation: what the simulated Codat does, and the JSON value that it returns."""

import re
from urllib.parse import quote

from codat_commerce_async.simulator._api.http import Call, time_field, validation_error
from codat_commerce_async.simulator._api.paging import paged
from codat_commerce_async.simulator._state.catalog import PLATFORMS, Platform, serialize_branding, serialize_integration
from codat_commerce_async.simulator._state.configuration_rules import validation_errors
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
_MOST_TAGS, _LONGEST_TAG_VALUE = 10, 100
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
    """The company that a call speaks of; refused with 404 when there is none."""
    company = store.companies.get(call.values[0])
    if company is None:
        raise ApiError(404, f"There is no company with the id {call.values[0]}.", service="ClientsApi")
    return company


def platform_of(key: str, source_type: str | None = None) -> Platform:
    """The integration under this key; refused with 404 when there is none, or none of this type."""
    platform = PLATFORMS.get(key)
    if platform is None or source_type not in {None, platform.source_type}:
        raise ApiError(404, f"There is no such integration: {key}.")
    return platform


def list_companies(store: Store, call: Call) -> object:
    """A page of the companies."""
    return paged(
        call.path,
        call.parameters,
        store.companies.values(),
        serialize_company,
        _COMPANY_FIELDS,
        look=serialize_company_details,
    )


def create_company(store: Store, call: Call) -> object:
    """A new company, unless the plan has no room for it."""
    body = call.object_body()
    name, description, tags = body.get("name"), body.get("description"), body.get("tags")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise validation_error("name", "name takes letters, digits and simple punctuation, at least one.")
    if not (description is None or isinstance(description, str)):
        raise validation_error("description", "description takes text.")
    checked = _tags(tags)
    if store.company_limit is not None and len(store.companies) >= store.company_limit:
        # Codat's own example of this body says 429 under the HTTP status 402.
        raise ApiError(402, f"The plan has room for {store.company_limit} companies.", body_status=429)
    company = store.add_company(call.now, name)
    company.description, company.tags = description, checked
    return serialize_company(company)


def list_connections(store: Store, call: Call) -> object:
    """A page of the company's connections."""
    company = company_of(store, call)
    return paged(
        call.path,
        call.parameters,
        company.connections.values(),
        lambda connection: serialize_connection(company, connection),
        _CONNECTION_FIELDS,
    )


def create_connection(store: Store, call: Call) -> object:
    """A new connection, which waits for the merchant's authorization."""
    company = company_of(store, call)
    key = call.object_body().get("platformKey")
    if not isinstance(key, str) or not _PLATFORM_KEY.fullmatch(key):
        raise validation_error("platformKey", "platformKey takes four lower-case letters.")
    connection = store.add_connection(company, platform_of(key), call.now, "PendingAuth")
    return serialize_connection(company, connection)


def update_authorization(store: Store, call: Call) -> object:
    """The connection, linked by the credentials in the body; which ones are needed is not checked."""
    company, connection = _connection_of(store, call)
    if not all(isinstance(value, str) for value in call.object_body().values()):
        raise validation_error("", "Every value of an authorization takes text.")
    store.set_status(company, connection, "Linked", call.now)
    return serialize_connection(company, connection)


def update_connection(store: Store, call: Call) -> object:
    """The connection with another status."""
    company, connection = _connection_of(store, call)
    body = call.object_body()
    if unknown := sorted(body.keys() - {"status"}):
        raise validation_error(unknown[0], "Only status can be changed.")
    status = body.get("status")
    if status is not None:
        if not isinstance(status, str) or status not in STATUSES:
            raise validation_error("status", f"status takes one of {', '.join(STATUSES)}.")
        store.set_status(company, connection, status, call.now)
    return serialize_connection(company, connection)


def get_configuration(store: Store, call: Call) -> object:
    """The company's configuration."""
    return store.configuration(company_of(store, call))


def set_configuration(store: Store, call: Call) -> object:
    """The configuration of the body, in place of the old one, fields that nobody knows included."""
    company = company_of(store, call)
    body = call.object_body()
    if found := validation_errors(body):
        raise ApiError(400, "The request is not valid.", invalid=found)
    store.set_configuration(company, body, call.now)
    return store.configuration(company)


def _connection_of(store: Store, call: Call) -> tuple[Company, Connection]:
    company = company_of(store, call)
    connection = company.connections.get(call.values[1])
    if connection is None:
        raise ApiError(404, f"There is no connection {call.values[1]}.")
    return company, connection


def _tags(tags: object) -> dict[str, str]:
    if tags is None:
        return {}
    if not isinstance(tags, dict) or len(tags) > _MOST_TAGS:
        raise validation_error("tags", f"tags takes an object of at most {_MOST_TAGS} fields.")
    for key, value in tags.items():
        if not _TAG.fullmatch(key) or not isinstance(value, str) or len(value) > _LONGEST_TAG_VALUE:
            raise validation_error("tags", f"A tag takes 27 characters on one line, its value {_LONGEST_TAG_VALUE}.")
    return tags


def request_sync(store: Store, call: Call) -> object:
    """Sync from the last successful sync up to `syncTo`, or to now."""
    company = company_of(store, call)
    body = call.object_body() if call.has_body and call.body is not None else {}
    until = call.now if body.get("syncTo") is None else time_field(body, "syncTo")
    sync = store.start_sync(company, call.now, NewSync(period_to_latest(company, until), key=call.key))
    return serialize_sync_summary(company, sync, call.now)


def request_sync_for_date_range(store: Store, call: Call) -> object:
    """Sync the period of `dateRange`, whose end is called `finish`."""
    company = company_of(store, call)
    period = call.object_body().get("dateRange")
    if not isinstance(period, dict):
        raise validation_error("dateRange", "dateRange takes an object with start and finish.")
    start, finish = (time_field(period, name, "dateRange.") for name in ("start", "finish"))
    if finish <= start:
        raise validation_error("dateRange.finish", "dateRange.finish has to be later than dateRange.start.")
    sync = store.start_sync(company, call.now, NewSync((start, finish), key=call.key))
    return serialize_sync_summary(company, sync, call.now)


def get_sync_status(store: Store, call: Call) -> object:
    """The newest sync, with both of its ids."""
    company = company_of(store, call)
    sync = _found(company, store.syncs.latest(company, call.now))
    return serialize_sync_status(company, sync, call.now)


def get_last_successful_sync(store: Store, call: Call) -> object:
    """The newest sync of those that went well."""
    company = company_of(store, call)
    sync = _found(company, store.syncs.last_successful(company, call.now))
    return serialize_company_sync_status(sync, call.now)


def get_latest_sync(store: Store, call: Call) -> object:
    """The newest sync."""
    company = company_of(store, call)
    return serialize_company_sync_status(_found(company, store.syncs.latest(company, call.now)), call.now)


def get_sync(store: Store, call: Call) -> object:
    """The sync with this id; a commerce id is none, unless the rules say so."""
    company = company_of(store, call)
    sync = store.syncs.find(company, call.values[1], call.now)
    return serialize_company_sync_status(_found(company, sync), call.now)


def list_syncs(store: Store, call: Call) -> object:
    """Every sync of the company, newest first."""
    company = company_of(store, call)
    seen = [sync for sync in reversed(company.syncs) if store.syncs.visible(sync, call.now)]
    return [serialize_company_sync_status(sync, call.now) for sync in seen]


def _found(company: Company, sync: Sync | None) -> Sync:
    if sync is None:
        raise ApiError(404, f"There is no such sync of company {company.id}.")
    return sync


def list_integrations(_world: Store, call: Call) -> object:
    """A page of the integrations."""
    return paged(call.path, call.parameters, PLATFORMS.values(), serialize_integration, _INTEGRATION_FIELDS)


def get_branding(_world: Store, call: Call) -> object:
    """An integration's pictures."""
    return serialize_branding(platform_of(call.values[0]))


def get_sync_flow_url(store: Store, call: Call) -> object:
    """A URL with a one-time passcode; a new merchant gets a company."""
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
    """The texts in one locale."""
    return store.texts.present(_locale(call))


def update_config_text(store: Store, call: Call) -> object:
    """The texts in one locale, changed."""
    locale = _locale(call)
    try:
        store.texts.update(locale, call.object_body())
    except ValueError as error:
        raise validation_error(str(error), "A text takes a string, null, or an object with text.") from None
    return store.texts.present(locale)


def get_visible_accounts(store: Store, call: Call) -> object:
    """The accounts that this client shows for a platform."""
    client_id, key = call.values
    if client_id != store.client_id:
        raise ApiError(404, f"There is no client with the id {client_id}.", service="ClientsApi")
    return {"visibleAccounts": store.visible_accounts.get(platform_of(key).key, [])}


def update_visible_accounts(store: Store, call: Call) -> object:
    """The accounts that this client shows for a platform, changed."""
    platform = platform_of(call.values[0])
    accounts = call.object_body().get("visibleAccounts")
    if accounts is not None and not (
        isinstance(accounts, list) and all(isinstance(account, str) for account in accounts)
    ):
        raise validation_error("visibleAccounts", "visibleAccounts takes a list of texts.")
    store.visible_accounts[platform.key] = accounts
    return {"visibleAccounts": accounts}


def _locale(call: Call) -> str:
    locale = call.parameters.get("locale")
    if locale not in LOCALES:
        raise validation_error("locale", f"locale takes one of {', '.join(sorted(LOCALES))}.")
    return locale


def _merchant(store: Store, call: Call) -> Company:
    identifier = call.parameters.get("merchantIdentifier")
    company = store.companies.get(store.merchants.get(identifier, "")) if identifier else None
    if company is None:
        company = store.add_company(call.now, identifier or "Sync flow merchant")
        if identifier:
            store.merchants[identifier] = company.id
    return company
