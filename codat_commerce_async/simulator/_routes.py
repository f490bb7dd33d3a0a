"""The 22 operations as data, and which of them takes a request."""

from dataclasses import dataclass
from urllib.parse import unquote

__all__ = ["ROUTES", "Route", "match", "methods_of"]


@dataclass(frozen=True, slots=True)
class Route:
    """An operation: `name` and `path` as Codat writes them."""

    name: str
    method: str
    path: str

    @property
    def segments(self) -> tuple[str, ...]:
        """The path in pieces."""
        return tuple(self.path.split("/")[1:])


_SYNCS = "/companies/{companyId}/sync/commerce/syncs"

ROUTES: tuple[Route, ...] = (
    Route("create-connection", "POST", "/companies/{companyId}/connections"),
    Route("get-sync-flow-url", "GET", "/config/sync/commerce/{commerceKey}/{accountingKey}/start"),
    Route("list-connections", "GET", "/companies/{companyId}/connections"),
    Route(
        "update-connection-authorization",
        "PUT",
        "/companies/{companyId}/connections/{connectionId}/authorization",
    ),
    Route("update-connection", "PATCH", "/companies/{companyId}/connections/{connectionId}"),
    Route("request-sync", "POST", "/companies/{companyId}/sync/commerce/latest"),
    Route("request-sync-for-date-range", "POST", "/meta/companies/{companyId}/sync/commerce/historic"),
    Route("get-sync-status", "GET", "/meta/companies/{companyId}/sync/commerce/status"),
    Route("get-last-successful-sync", "GET", f"{_SYNCS}/lastSuccessful/status"),
    Route("get-latest-sync", "GET", f"{_SYNCS}/latest/status"),
    Route("get-sync-by-id", "GET", f"{_SYNCS}/{{syncId}}/status"),
    Route("list-syncs", "GET", f"{_SYNCS}/list/status"),
    Route("list-integrations", "GET", "/config/integrations"),
    Route("get-integration-branding", "GET", "/config/integrations/{platformKey}/branding"),
    Route("list-companies", "GET", "/companies"),
    Route("create-company", "POST", "/companies"),
    Route("get-configuration", "GET", "/config/companies/{companyId}/sync/commerce"),
    Route("set-configuration", "POST", "/config/companies/{companyId}/sync/commerce"),
    Route("get-config-text-sync-flow", "GET", "/sync/commerce/config/ui/text"),
    Route("update-config-text-sync-flow", "PATCH", "/sync/commerce/config/ui/text"),
    Route("get-visible-accounts", "GET", "/clients/{clientId}/config/ui/accounts/platform/{platformKey}"),
    Route(
        "update-visible-accounts-sync-flow",
        "POST",
        "/sync/commerce/config/ui/accounts/platform/{platformKey}",
    ),
)


def _by_length() -> dict[int, list[Route]]:
    lengths: dict[int, list[Route]] = {}
    # A literal segment goes before a placeholder: `latest` is no sync id.
    for route in sorted(ROUTES, key=lambda route: route.path.count("{")):
        lengths.setdefault(len(route.segments), []).append(route)
    return lengths


_BY_LENGTH = {length: [(route, route.segments) for route in routes] for length, routes in _by_length().items()}


def match(method: str, path: str) -> tuple[Route, tuple[str, ...]] | None:
    """The operation that takes a request, and the path's values, unquoted."""
    segments = path.split("/")[1:]
    for route, expected in _BY_LENGTH.get(len(segments), ()):
        if route.method == method and (values := _values(expected, segments)) is not None:
            return route, values
    return None


def methods_of(path: str) -> tuple[str, ...]:
    """The methods that some operation takes at this path."""
    segments = path.split("/")[1:]
    candidates = _BY_LENGTH.get(len(segments), ())
    return tuple(route.method for route, expected in candidates if _values(expected, segments) is not None)


def _values(expected: tuple[str, ...], segments: list[str]) -> tuple[str, ...] | None:
    values = []
    for wanted, segment in zip(expected, segments, strict=True):
        if wanted[0] == "{":
            values.append(unquote(segment))
        elif wanted != segment:
            return None
    return tuple(values)
