"""Handle the operations of the Platform API; a handler returns None for a response without a body."""

from urllib.parse import urlsplit

from codat_commerce_async.simulator._api.handlers import check_name, check_tags, company_of, connection_of
from codat_commerce_async.simulator._api.http import Call, validation_error
from codat_commerce_async.simulator._api.paging import paged
from codat_commerce_async.simulator._state.errors import ApiError
from codat_commerce_async.simulator._state.operations import (
    data_statuses,
    pulls,
    pushes,
    serialize_pull,
    serialize_push,
)
from codat_commerce_async.simulator._state.records import Company, PullRecord
from codat_commerce_async.simulator._state.serializers import serialize_company, serialize_connection
from codat_commerce_async.simulator._state.store import Store

__all__ = [
    "create_webhook_consumer",
    "delete_company",
    "delete_connection",
    "delete_webhook_consumer",
    "get_company",
    "get_connection",
    "get_data_status",
    "get_pull_operation",
    "get_push_history",
    "get_push_operation",
    "get_sync_settings",
    "list_pull_operations",
    "list_webhook_consumers",
    "refresh_all",
    "refresh_data_type",
    "set_sync_settings",
    "update_company",
]

_REFRESH_SECONDS = 5.0
_MAX_CONSUMERS = 50
_MAX_COMPANY_TAGS, _MAX_COMPANY_TAG = 10, 128
_SCHEDULE_HOURS = 24
_PUSH_FIELDS = frozenset(
    {
        "pushOperationKey",
        "dataConnectionKey",
        "dataType",
        "status",
        "statusCode",
        "errorMessage",
        "requestedOnUtc",
        "completedOnUtc",
    }
)
# `isCompleted` cannot be queried: https://docs.codat.io/platform-api#/schemas/PullOperation
_PULL_FIELDS = frozenset(
    {"id", "connectionId", "dataType", "status", "errorMessage", "requested", "completed", "isErrored"}
)


def get_company(store: Store, call: Call) -> object:
    """Return the company with its connections."""
    return serialize_company(company_of(store, call))


def update_company(store: Store, call: Call) -> object:
    """Change the name, the description and the tags; null leaves them as they are."""
    company, body = company_of(store, call), call.object_body()
    name, description, tags = body.get("name"), body.get("description"), body.get("tags")
    if not (description is None or isinstance(description, str)):
        raise validation_error("description", "description must be a string.")
    new_name = company.name if name is None else check_name(name)
    new_tags = company.tags if tags is None else check_tags(tags)
    company.name, company.tags = new_name, new_tags
    company.description = company.description if description is None else description
    return serialize_company(company)


def delete_company(store: Store, call: Call) -> None:
    """Delete the company with its connections, configuration and syncs."""
    store.delete_company(company_of(store, call).id, call.now)


def get_connection(store: Store, call: Call) -> object:
    """Return the connection."""
    return serialize_connection(*connection_of(store, call))


def delete_connection(store: Store, call: Call) -> None:
    """Delete the connection."""
    store.delete_connection(*connection_of(store, call), call.now)


def refresh_all(store: Store, call: Call) -> None:
    """Queue a read of every data type of every connection."""
    company = company_of(store, call)
    for connection in company.connections.values():
        for data_type in connection.platform.data_types:
            _queue(store, call, company, connection.id, data_type)


def refresh_data_type(store: Store, call: Call) -> object:
    """Queue a read of one data type on the connections that have it, and return the first."""
    company, data_type = company_of(store, call), call.values[1]
    wanted = call.parameters.get("connectionId")
    found = [
        connection.id
        for connection in company.connections.values()
        if wanted in {None, connection.id} and data_type in connection.platform.data_types
    ]
    if not found:
        raise ApiError(404, f"No connection of the company supports the data type {data_type}.")
    queued = [_queue(store, call, company, connection_id, data_type) for connection_id in found]
    return serialize_pull(company, queued[0], call.now)


def get_data_status(store: Store, call: Call) -> object:
    """Return the status of each data type."""
    return data_statuses(company_of(store, call), call.now)


def list_pull_operations(store: Store, call: Call) -> object:
    """Return a page of the reads."""
    company = company_of(store, call)
    records = pulls(company, call.now)
    return paged(call.path, call.parameters, records, lambda one: serialize_pull(company, one, call.now), _PULL_FIELDS)


def get_pull_operation(store: Store, call: Call) -> object:
    """Return one read."""
    company = company_of(store, call)
    for pull in pulls(company, call.now):
        if pull.id == call.values[1]:
            return serialize_pull(company, pull, call.now)
    raise ApiError(404, f"There is no pull operation {call.values[1]}.", service="PullApi")


def get_push_history(store: Store, call: Call) -> object:
    """Return a page of the writes."""
    company = company_of(store, call)
    records = pushes(company, call.now)
    return paged(call.path, call.parameters, records, lambda one: serialize_push(company, one, call.now), _PUSH_FIELDS)


def get_push_operation(store: Store, call: Call) -> object:
    """Return one write."""
    company = company_of(store, call)
    for push in pushes(company, call.now):
        if push.key == call.values[1]:
            return serialize_push(company, push, call.now)
    raise ApiError(404, f"There is no push operation {call.values[1]}.", service="PushApi")


def list_webhook_consumers(store: Store, _call: Call) -> object:
    """Return all webhook consumers."""
    return {"results": list(store.webhook_consumers.values())}


def create_webhook_consumer(store: Store, call: Call) -> object:
    """Create a webhook consumer, of which there can be 50."""
    body = call.object_body()
    consumer: dict[str, object] = {
        "url": _address(body.get("url")),
        "disabled": _flag(body.get("disabled")),
        "eventTypes": _texts("eventTypes", body.get("eventTypes")),
        "companyTags": _company_tags(body.get("companyTags")),
    }
    if len(store.webhook_consumers) >= _MAX_CONSUMERS:
        raise ApiError(400, f"There are {_MAX_CONSUMERS} webhook consumers already.", service="WebhooksApi")
    consumer_id = store.new_id()
    store.webhook_consumers[consumer_id] = {"id": consumer_id, **consumer}
    return store.webhook_consumers[consumer_id]


def delete_webhook_consumer(store: Store, call: Call) -> None:
    """Delete a webhook consumer."""
    if store.webhook_consumers.pop(call.values[0], None) is None:
        raise ApiError(404, f"There is no webhook consumer {call.values[0]}.", service="WebhooksApi")


def get_sync_settings(store: Store, call: Call) -> object:
    """Return the company's sync settings, or the default ones."""
    company = company_of(store, call)
    return company.sync_settings or _default_settings(company)


def set_sync_settings(store: Store, call: Call) -> None:
    """Replace the company's sync settings."""
    company, body = company_of(store, call), call.object_body()
    if body.get("companyId") != company.id:
        raise validation_error("companyId", "companyId must be the id of the company.")
    if not isinstance(body.get("overridesDefaults"), bool):
        raise validation_error("overridesDefaults", "overridesDefaults must be true or false.")
    settings = body.get("settings")
    if not isinstance(settings, list):
        raise validation_error("settings", "settings must be a list.")
    for index, setting in enumerate(settings):
        _check_setting(f"settings[{index}]", setting)
    company.sync_settings = {name: body[name] for name in ("companyId", "settings", "overridesDefaults")}


def _queue(store: Store, call: Call, company: Company, connection_id: str, data_type: str) -> PullRecord:
    pull = PullRecord(store.new_id(), connection_id, data_type, call.now, call.now + _REFRESH_SECONDS)
    company.pulls.append(pull)
    return pull


def _default_settings(company: Company) -> dict[str, object]:
    kinds = [kind for connection in company.connections.values() for kind in connection.platform.data_types]
    settings = [
        {"dataType": kind, "fetchOnFirstLink": True, "syncSchedule": _SCHEDULE_HOURS, "syncOrder": order}
        for order, kind in enumerate(dict.fromkeys(kinds))
    ]
    return {"companyId": company.id, "settings": settings, "overridesDefaults": False}


_SETTING: dict[str, type] = {
    "dataType": str,
    "fetchOnFirstLink": bool,
    "syncSchedule": int,
    "syncOrder": int,
}
_OPTIONAL_SETTING: dict[str, type] = {
    "syncFromUtc": str,
    "syncFromWindow": int,
    "monthsToSync": int,
    "isLocked": bool,
}


def _check_setting(at: str, setting: object) -> None:
    if not isinstance(setting, dict):
        raise validation_error(at, f"{at} must be an object.")
    for name, kind in (_SETTING | _OPTIONAL_SETTING).items():
        if (name in _SETTING or setting.get(name) is not None) and type(setting.get(name)) is not kind:
            raise validation_error(f"{at}.{name}", f"{at}.{name} must be a {kind.__name__}.")


def _address(url: object) -> str:
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
    except ValueError:
        parts = None
    if not isinstance(url, str) or parts is None or parts.scheme not in {"http", "https"} or not parts.netloc:
        raise validation_error("url", "url must be the URL of your endpoint.")
    return url


def _flag(disabled: object) -> bool:
    if disabled is None:
        return False
    if not isinstance(disabled, bool):
        raise validation_error("disabled", "disabled must be true or false.")
    return disabled


def _texts(name: str, values: object) -> list[str]:
    if values is None:
        return []
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise validation_error(name, f"{name} must be a list of strings.")
    return values


def _company_tags(values: object) -> list[str]:
    tags = _texts("companyTags", values)
    if len(tags) > _MAX_COMPANY_TAGS or any(len(tag) > _MAX_COMPANY_TAG for tag in tags):
        raise validation_error("companyTags", "companyTags must be at most 10 tags of up to 128 characters.")
    return tags
