"""Use a client in a Starlette application.

    app = Starlette(routes=[...], lifespan=lifespan(CodatCommerce.from_env), exception_handlers=exception_handlers())

    async def events(request: Request) -> Response:
        return EventStream(watches_of(request), handle_from(**request.path_params))  # company_id and token

Needs the extra `starlette`.
"""

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias

from codat_commerce_async.client import CodatCommerce
from codat_commerce_async.contrib._serving import Serving, serve, serving_of
from codat_commerce_async.errors import CodatError
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.problems import NO_SUCH_SYNC, PROBLEM_MEDIA_TYPE, Problem, problem
from codat_commerce_async.syncing.watches import EVENT_STREAM_HEADERS, Watches
from codat_commerce_async.webhooks import WebhookEndpoint

try:
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import HTTPConnection, Request
    from starlette.responses import JSONResponse, Response, StreamingResponse
    from starlette.routing import Route
    from starlette.types import Receive, Scope, Send
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "Starlette needs an extra: pip install 'codat-commerce-async[starlette]'", name=error.name
    ) from error

__all__ = [
    "EventStream",
    "add_webhook_route",
    "client_of",
    "exception_handlers",
    "handle_from",
    "lifespan",
    "problem_response",
    "watches_of",
]

_ExceptionHandler: TypeAlias = Callable[[Request, Exception], Coroutine[None, None, Response]]
Lifespan: TypeAlias = Callable[[Starlette], AbstractAsyncContextManager[None]]


def lifespan(make_client: Callable[[], CodatCommerce] = CodatCommerce.from_env) -> Lifespan:
    """Return the lifespan of an application that opens one client, and closes it at the end.

    To combine it with a lifespan of your own, enter it there: `async with lifespan(make_client)(app): yield`. Event
    streams end on SIGTERM and SIGINT, because servers run the end of the lifespan only when all responses have ended.

    Args:
        make_client: Returns the client; called when the application starts.
    """

    @asynccontextmanager
    async def run(app: Starlette) -> AsyncIterator[None]:
        async with serve(make_client, _endpoints(app)) as serving:
            app.state.codat_serving = serving
            try:
                yield
            finally:
                del app.state.codat_serving

    return run


def client_of(connection: HTTPConnection) -> CodatCommerce:
    """Return the client of the application that a request or a WebSocket belongs to.

    Args:
        connection: The request or WebSocket.
    """
    return _serving(connection).client


def watches_of(connection: HTTPConnection) -> Watches:
    """Return the watches of the application that a request or a WebSocket belongs to.

    Args:
        connection: The request or WebSocket.
    """
    return _serving(connection).watches


def _serving(connection: HTTPConnection) -> Serving:
    return serving_of(getattr(connection.app.state, "codat_serving", None))


def handle_from(company_id: str, token: str) -> SyncHandle:
    """Return the handle of a company's sync from its token in a URL; raise HTTPException (404) if it is none.

    The token is not signed: check that the caller may access the company.

    Args:
        company_id: The id of the company, from the URL.
        token: The token, from the URL.
    """
    try:
        return SyncHandle.from_token(token, company_id)
    except ValueError:
        raise _NoSuchSyncError(NO_SUCH_SYNC.status, NO_SUCH_SYNC.detail) from None


class _NoSuchSyncError(HTTPException):
    pass


def problem_response(error: CodatError) -> Response:
    """Return the response for an error, as problem details (RFC 9457).

    Args:
        error: The error.
    """
    return _to_response(problem(error))


def _to_response(found: Problem) -> Response:
    return JSONResponse(found.to_dict(), found.status, found.headers, PROBLEM_MEDIA_TYPE)


async def _respond(_: Request, error: Exception) -> Response:
    if not isinstance(error, CodatError):
        raise error
    return problem_response(error)


async def _respond_no_such_sync(_request: Request, _error: Exception) -> Response:
    return _to_response(NO_SUCH_SYNC)


def exception_handlers() -> dict[int | type[Exception], _ExceptionHandler]:
    """Return the `exception_handlers` of an application: every CodatError becomes a response with problem details.

    So does the error of `handle_from`.
    """
    return {CodatError: _respond, _NoSuchSyncError: _respond_no_such_sync}


class EventStream(StreamingResponse):
    """A response with the server-sent events of one sync: see `Watches.event_stream`.

    It ends as soon as the client disconnects.

    Args:
        watches: The watches of the application.
        handle: The handle of the sync, or the id of its company.
        sync_id: The id of the sync, with a company id.
        status_code: The HTTP status of the response.
    """

    media_type = "text/event-stream"

    # FastAPI reads the default of `status_code` for its OpenAPI schema.
    def __init__(
        self, watches: Watches, handle: SyncHandle | str, sync_id: str | None = None, *, status_code: int = 200
    ) -> None:
        super().__init__(watches.event_stream(handle, sync_id), status_code, headers=EVENT_STREAM_HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events until the sync has ended, the server shuts down, or the client disconnects."""
        # Since ASGI 2.4, Starlette does not wait for the disconnect, but finds out when it sends the next event.
        asgi = {**scope.get("asgi", {}), "spec_version": "2.3"}
        await super().__call__({**scope, "asgi": asgi}, receive, send)


def add_webhook_route(app: Starlette, path: str, endpoint: WebhookEndpoint) -> None:
    """Receive Codat's webhooks at a path. The lifespan passes the events to the client, and drains the endpoint.

    A mounted endpoint would respond to a path without a final slash with a redirect, which loses the delivery.

    Args:
        app: The application.
        path: The path of the route.
        endpoint: What receives the deliveries.
    """
    app.router.routes.append(Route(path, endpoint, methods=["POST"], include_in_schema=False))
    _endpoints(app).append(endpoint)


def _endpoints(app: Starlette) -> list[WebhookEndpoint]:
    if not hasattr(app.state, "codat_webhook_endpoints"):
        app.state.codat_webhook_endpoints = []
    endpoints: list[WebhookEndpoint] = app.state.codat_webhook_endpoints
    return endpoints
