"""Route requests to the handlers of the operations."""

from collections.abc import Callable
from urllib.parse import unquote

from attrs import field, frozen

from codat_commerce_async.simulator._api import handlers
from codat_commerce_async.simulator._api import platform_handlers as platform
from codat_commerce_async.simulator._api.http import Call
from codat_commerce_async.simulator._state.store import Store

__all__ = ["OPERATIONS", "PLATFORM_ROUTES", "ROUTES", "Route", "match", "methods_of"]


@frozen
class Route:
    """An operation: `name` and `path` as in Codat's documentation, its handler, and the status of its success."""

    name: str
    """The name in Codat's reference."""

    method: str
    """The HTTP method."""

    path: str
    """The path as Codat writes it."""

    handler: Callable[[Store, Call], object] = field(repr=False, eq=False)
    """Returns the value of the response."""

    status: int = 200
    """The status of a success."""

    @property
    def segments(self) -> tuple[str, ...]:
        """The segments of the path."""
        return tuple(self.path.split("/")[1:])


_SYNCS = "/companies/{companyId}/sync/commerce/syncs"
_COMPANY = "/companies/{companyId}"

ROUTES: tuple[Route, ...] = (
    Route("create-connection", "POST", "/companies/{companyId}/connections", handlers.create_connection),
    Route(
        "get-sync-flow-url",
        "GET",
        "/config/sync/commerce/{commerceKey}/{accountingKey}/start",
        handlers.get_sync_flow_url,
    ),
    Route("list-connections", "GET", "/companies/{companyId}/connections", handlers.list_connections),
    Route(
        "update-connection-authorization",
        "PUT",
        "/companies/{companyId}/connections/{connectionId}/authorization",
        handlers.update_authorization,
    ),
    Route(
        "update-connection", "PATCH", "/companies/{companyId}/connections/{connectionId}", handlers.update_connection
    ),
    Route("request-sync", "POST", "/companies/{companyId}/sync/commerce/latest", handlers.request_sync),
    Route(
        "request-sync-for-date-range",
        "POST",
        "/meta/companies/{companyId}/sync/commerce/historic",
        handlers.request_sync_for_date_range,
    ),
    Route("get-sync-status", "GET", "/meta/companies/{companyId}/sync/commerce/status", handlers.get_sync_status),
    Route("get-last-successful-sync", "GET", f"{_SYNCS}/lastSuccessful/status", handlers.get_last_successful_sync),
    Route("get-latest-sync", "GET", f"{_SYNCS}/latest/status", handlers.get_latest_sync),
    Route("get-sync-by-id", "GET", f"{_SYNCS}/{{syncId}}/status", handlers.get_sync),
    Route("list-syncs", "GET", f"{_SYNCS}/list/status", handlers.list_syncs),
    Route("list-integrations", "GET", "/config/integrations", handlers.list_integrations),
    Route("get-integration-branding", "GET", "/config/integrations/{platformKey}/branding", handlers.get_branding),
    Route("list-companies", "GET", "/companies", handlers.list_companies),
    Route("create-company", "POST", "/companies", handlers.create_company),
    Route("get-configuration", "GET", "/config/companies/{companyId}/sync/commerce", handlers.get_configuration),
    Route("set-configuration", "POST", "/config/companies/{companyId}/sync/commerce", handlers.set_configuration),
    Route("get-config-text-sync-flow", "GET", "/sync/commerce/config/ui/text", handlers.get_config_text),
    Route("update-config-text-sync-flow", "PATCH", "/sync/commerce/config/ui/text", handlers.update_config_text),
    Route(
        "get-visible-accounts",
        "GET",
        "/clients/{clientId}/config/ui/accounts/platform/{platformKey}",
        handlers.get_visible_accounts,
    ),
    Route(
        "update-visible-accounts-sync-flow",
        "POST",
        "/sync/commerce/config/ui/accounts/platform/{platformKey}",
        handlers.update_visible_accounts,
    ),
)

PLATFORM_ROUTES: tuple[Route, ...] = (
    Route("get-company", "GET", _COMPANY, platform.get_company),
    Route("update-company", "PATCH", _COMPANY, platform.update_company),
    Route("delete-company", "DELETE", _COMPANY, platform.delete_company, 204),
    Route("get-connection", "GET", f"{_COMPANY}/connections/{{connectionId}}", platform.get_connection),
    Route("delete-connection", "DELETE", f"{_COMPANY}/connections/{{connectionId}}", platform.delete_connection),
    Route("refresh-company-data", "POST", f"{_COMPANY}/data/all", platform.refresh_all, 204),
    Route("refresh-data-type", "POST", f"{_COMPANY}/data/queue/{{dataType}}", platform.refresh_data_type),
    Route("get-company-data-status", "GET", f"{_COMPANY}/dataStatus", platform.get_data_status),
    Route("list-pull-operations", "GET", f"{_COMPANY}/data/history", platform.list_pull_operations),
    Route("get-pull-operation", "GET", f"{_COMPANY}/data/history/{{datasetId}}", platform.get_pull_operation),
    Route("get-company-push-history", "GET", f"{_COMPANY}/push", platform.get_push_history),
    Route("get-push-operation", "GET", f"{_COMPANY}/push/{{pushOperationKey}}", platform.get_push_operation),
    Route("list-webhook-consumers", "GET", "/webhooks", platform.list_webhook_consumers),
    Route("create-webhook-consumer", "POST", "/webhooks", platform.create_webhook_consumer, 201),
    Route("delete-webhook-consumer", "DELETE", "/webhooks/{webhookId}", platform.delete_webhook_consumer, 204),
    Route("get-company-syncSettings", "GET", f"{_COMPANY}/syncSettings", platform.get_sync_settings),
    Route("set-company-syncSettings", "POST", f"{_COMPANY}/syncSettings", platform.set_sync_settings, 204),
)
"""The operations of the Platform API; `ROUTES` are those of Sync for Commerce."""


OPERATIONS = frozenset(route.name for route in (*ROUTES, *PLATFORM_ROUTES))


def _by_length() -> dict[int, list[Route]]:
    lengths: dict[int, list[Route]] = {}
    # A literal segment matches before a placeholder: `latest` is not a sync id.
    for route in sorted((*ROUTES, *PLATFORM_ROUTES), key=lambda route: route.path.count("{")):
        lengths.setdefault(len(route.segments), []).append(route)
    return lengths


_BY_LENGTH = {length: [(route, route.segments) for route in routes] for length, routes in _by_length().items()}


def match(method: str, path: str) -> tuple[Route, tuple[str, ...]] | None:
    """Return the operation of a request and the unquoted path parameters; None if there is no such operation."""
    segments = path.split("/")[1:]
    for route, expected in _BY_LENGTH.get(len(segments), ()):
        if route.method == method and (values := _values(expected, segments)) is not None:
            return route, values
    return None


def methods_of(path: str) -> tuple[str, ...]:
    """Return the methods that are allowed at this path."""
    segments = path.split("/")[1:]
    candidates = _BY_LENGTH.get(len(segments), ())
    return tuple(route.method for route, expected in candidates if _values(expected, segments) is not None)


def _values(expected: tuple[str, ...], segments: list[str]) -> tuple[str, ...] | None:
    values = []
    for pattern, segment in zip(expected, segments, strict=True):
        if pattern[0] == "{":
            values.append(unquote(segment))
        elif pattern != segment:
            return None
    return tuple(values)
