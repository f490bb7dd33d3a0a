"""Use a client in an aiohttp.web application.

    app = web.Application(middlewares=[problem_middleware])
    setup(app, CodatCommerce.from_env)

    async def start(request: web.Request) -> web.Response:
        handle = await request.app[CODAT].sync.start(request.match_info["company_id"])
        return web.json_response({"token": handle.to_token()}, status=202)

    async def events(request: web.Request) -> web.StreamResponse:
        return await event_stream(request, handle_from(**request.match_info))  # company_id and token

Webhooks are received by `webhooks.WebhookReceiver`. No extra is needed.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing

from aiohttp import web

from codat_commerce_async.client import CodatCommerce
from codat_commerce_async.contrib._serving import serve
from codat_commerce_async.errors import CodatError
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.problems import NO_SUCH_SYNC, PROBLEM_MEDIA_TYPE, problem
from codat_commerce_async.syncing.watches import EVENT_STREAM_HEADERS, Watches
from codat_commerce_async.webhooks import WebhookReceiver

__all__ = [
    "CODAT",
    "WATCHES",
    "event_stream",
    "handle_from",
    "problem_middleware",
    "problem_response",
    "setup",
]

CODAT = web.AppKey("CODAT", CodatCommerce)
"""The key of the application's client."""

WATCHES = web.AppKey("WATCHES", Watches)
"""The key of the application's watches."""

# How soon a disconnected client is noticed, in seconds: aiohttp does not cancel the handler then.
_DISCONNECT_CHECK = 0.5


def setup(
    app: web.Application,
    make_client: Callable[[], CodatCommerce] = CodatCommerce.from_env,
    *receivers: WebhookReceiver,
) -> None:
    """Open one client when the application starts, and close it when it stops; the event streams end before.

    The events of `receivers` are passed to the client. Add a receiver to the application with its `add_to`, which also
    drains it.

    Args:
        app: The application.
        make_client: Returns the client; called when the application starts.
        *receivers: The receivers whose events are passed to the client.
    """

    async def open_client(app: web.Application) -> AsyncIterator[None]:
        # aiohttp's `on_shutdown` runs early enough to end the event streams.
        async with serve(make_client, end_on_signals=False) as serving:
            for receiver in receivers:
                receiver.attach(serving.client)
            app[CODAT], app[WATCHES] = serving.client, serving.watches
            yield

    async def end_streams(app: web.Application) -> None:
        app[WATCHES].end()

    app.cleanup_ctx.append(open_client)
    app.on_shutdown.append(end_streams)


def handle_from(company_id: str, token: str) -> SyncHandle:
    """Return the handle of a company's sync from its token in a URL; raise `HTTPNotFound` if it is none.

    The token is not signed: check that the caller may access the company.

    Args:
        company_id: The id of the company, from the URL.
        token: The token, from the URL.
    """
    try:
        return SyncHandle.from_token(token, company_id)
    except ValueError:
        text = json.dumps(NO_SUCH_SYNC.to_dict())
        raise web.HTTPNotFound(text=text, content_type=PROBLEM_MEDIA_TYPE) from None


def problem_response(error: CodatError) -> web.Response:
    """Return the response for an error, as problem details (RFC 9457).

    Args:
        error: The error.
    """
    found = problem(error)
    return web.json_response(
        found.to_dict(), status=found.status, headers=found.headers, content_type=PROBLEM_MEDIA_TYPE
    )


@web.middleware
async def problem_middleware(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Convert every CodatError into a response with problem details.

    Args:
        request: The request.
        handler: What handles the request.
    """
    try:
        return await handler(request)
    except CodatError as error:
        return problem_response(error)


async def event_stream(
    request: web.Request, handle: SyncHandle | str, sync_id: str | None = None
) -> web.StreamResponse:
    """Send the server-sent events of one sync: see `Watches.event_stream`.

    Return when the sync has ended, the application shuts down, or the client disconnects.

    Args:
        request: The request to respond to.
        handle: The handle of the sync, or the id of its company.
        sync_id: The id of the sync, with a company id.
    """
    response = web.StreamResponse(headers=EVENT_STREAM_HEADERS)
    await response.prepare(request)
    async with aclosing(request.app[WATCHES].event_stream(handle, sync_id)) as events:
        sending = asyncio.create_task(_send(response, events))
        try:
            while not sending.done() and request.transport is not None:
                await asyncio.wait((sending,), timeout=_DISCONNECT_CHECK)
        finally:
            sending.cancel()
            await asyncio.wait((sending,))
        if not sending.cancelled():
            sending.result()
    return response


async def _send(response: web.StreamResponse, events: AsyncGenerator[bytes, None]) -> None:
    try:
        async for event in events:
            await response.write(event)
        await response.write_eof()
    except ConnectionError:
        pass  # the client has disconnected
