"""Start and watch syncs from a web application that has one client.

CODAT_API_KEY=... python examples/aiohttp_app.py

POST /companies/{company_id}/syncs          starts a sync, responds with 202 and its handle
GET  /companies/{company_id}/syncs/{key}    returns the sync's state; the key is in the handle
"""

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web
from aiohttp.typedefs import Handler

from codat_commerce_async import CodatCommerce, CodatError, NotFoundError, SyncHandle, SyncStatus


class Syncs:
    """The syncs that this process started, each watched by its own task."""

    def __init__(self, codat: CodatCommerce) -> None:
        self._codat = codat
        self._handles: dict[str, SyncHandle] = {}
        self._statuses: dict[str, SyncStatus] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def start(self, company_id: str) -> SyncHandle:
        """Start a sync and watch it in the background."""
        handle = await self._codat.sync.start(company_id)
        key = handle.idempotency_key or ""
        self._handles[key] = handle
        task = self._tasks[key] = asyncio.create_task(self._watch(key, handle))
        task.add_done_callback(lambda _: self._tasks.pop(key, None))
        return handle

    def get(self, key: str) -> tuple[SyncHandle, SyncStatus | None] | None:
        """Return a sync's handle and its last known status."""
        handle = self._handles.get(key)
        return None if handle is None else (handle, self._statuses.get(key))

    async def aclose(self) -> None:
        """Stop watching. The syncs continue at Codat; keep their handles to wait for them later."""
        tasks = dict(self._tasks)
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        for key in tasks:
            print(f"still running: {self._handles[key].to_json()}")

    async def _watch(self, key: str, handle: SyncHandle) -> None:
        try:
            async for status in self._codat.sync.watch(handle):
                self._statuses[key] = status
        except CodatError as error:
            print(f"no longer watched: {error}")


SYNCS = web.AppKey("syncs", Syncs)


async def open_client(app: web.Application) -> AsyncIterator[None]:
    """Open the client when the application starts, and close it when it stops."""
    async with CodatCommerce.from_env() as codat:
        syncs = app[SYNCS] = Syncs(codat)
        yield
        await syncs.aclose()


async def start_sync(request: web.Request) -> web.Response:
    """Start a sync and respond with its handle."""
    handle = await request.app[SYNCS].start(request.match_info["company_id"])
    url = f"{request.path}/{handle.idempotency_key}"
    return web.Response(status=202, text=handle.to_json(), content_type="application/json", headers={"Location": url})


async def report_sync(request: web.Request) -> web.Response:
    """Respond with the last known state of a sync."""
    found = request.app[SYNCS].get(request.match_info["key"])
    if found is None or found[0].company_id != request.match_info["company_id"]:
        raise web.HTTPNotFound
    _, status = found
    if status is None:
        return web.json_response({"ended": False, "outcome": None})
    return web.json_response({"ended": status.is_terminal, "outcome": status.state.value})


@web.middleware
async def convert_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Convert an error of Codat into a response."""
    try:
        return await handler(request)
    except NotFoundError:
        return web.json_response({"error": "company not found"}, status=404)
    except CodatError as error:
        return web.json_response({"error": str(error)}, status=502)


def make_app() -> web.Application:
    """Return the application."""
    app = web.Application(middlewares=[convert_errors])
    app.cleanup_ctx.append(open_client)
    app.router.add_post("/companies/{company_id}/syncs", start_sync)
    app.router.add_get("/companies/{company_id}/syncs/{key}", report_sync)
    return app


if __name__ == "__main__":
    web.run_app(make_app(), host="127.0.0.1", port=8080)
