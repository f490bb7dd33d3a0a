"""Start and follow syncs from a web application; one client lives as long as the application.

CODAT_API_KEY=... python examples/aiohttp_app.py

POST /companies/{company_id}/syncs          starts a sync, answers 202 with its handle
GET  /companies/{company_id}/syncs/{key}    says where it has got to; the key is in the handle
"""

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web
from aiohttp.typedefs import Handler

from codat_commerce_async import CodatCommerce, CodatError, NotFoundError, SyncHandle, SyncStatus


class Syncs:
    """The syncs that this process started, each followed by a task of its own."""

    def __init__(self, codat: CodatCommerce) -> None:
        self._codat = codat
        self._handles: dict[str, SyncHandle] = {}
        self._statuses: dict[str, SyncStatus] = {}
        self._followers: dict[str, asyncio.Task[None]] = {}

    async def start(self, company_id: str) -> SyncHandle:
        """Start a sync, and follow it in the background."""
        handle = await self._codat.sync.start(company_id)
        key = handle.idempotency_key or ""
        self._handles[key] = handle
        follower = self._followers[key] = asyncio.create_task(self._follow(key, handle))
        follower.add_done_callback(lambda _: self._followers.pop(key, None))
        return handle

    def look(self, key: str) -> tuple[SyncHandle, SyncStatus | None] | None:
        """Return a sync's handle and what was last seen of it."""
        handle = self._handles.get(key)
        return None if handle is None else (handle, self._statuses.get(key))

    async def aclose(self) -> None:
        """Stop following; the syncs go on at Codat, so their handles are what to keep."""
        followers = dict(self._followers)
        for follower in followers.values():
            follower.cancel()
        await asyncio.gather(*followers.values(), return_exceptions=True)
        for key in followers:
            print(f"not seen to its end: {self._handles[key].to_json()}")

    async def _follow(self, key: str, handle: SyncHandle) -> None:
        try:
            async for status in self._codat.sync.watch(handle):
                self._statuses[key] = status
        except CodatError as error:
            print(f"no longer followed: {error}")


SYNCS = web.AppKey("syncs", Syncs)


async def live_with_codat(app: web.Application) -> AsyncIterator[None]:
    """Open the client when the application starts, and close it when it ends."""
    async with CodatCommerce.from_env() as codat:
        syncs = app[SYNCS] = Syncs(codat)
        yield
        await syncs.aclose()


async def start_sync(request: web.Request) -> web.Response:
    """Start a sync."""
    handle = await request.app[SYNCS].start(request.match_info["company_id"])
    where = request.path + f"/{handle.idempotency_key}"
    return web.Response(status=202, text=handle.to_json(), content_type="application/json", headers={"Location": where})


async def report_sync(request: web.Request) -> web.Response:
    """Say where a sync has got to."""
    found = request.app[SYNCS].look(request.match_info["key"])
    if found is None or found[0].company_id != request.match_info["company_id"]:
        raise web.HTTPNotFound
    _, status = found
    if status is None:
        return web.json_response({"ended": False, "outcome": None})
    return web.json_response({"ended": status.is_terminal, "outcome": status.state.value})


@web.middleware
async def answer_for_codat(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn what Codat would not do into an answer of our own."""
    try:
        return await handler(request)
    except NotFoundError:
        return web.json_response({"error": "Codat knows no such company"}, status=404)
    except CodatError as error:
        return web.json_response({"error": str(error)}, status=502)


def make_app() -> web.Application:
    """Put the application together."""
    app = web.Application(middlewares=[answer_for_codat])
    app.cleanup_ctx.append(live_with_codat)
    app.router.add_post("/companies/{company_id}/syncs", start_sync)
    app.router.add_get("/companies/{company_id}/syncs/{key}", report_sync)
    return app


if __name__ == "__main__":
    web.run_app(make_app(), host="127.0.0.1", port=8080)
