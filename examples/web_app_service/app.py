"""The routes: the page, one event stream for all of it, starting syncs, and Codat's webhooks."""

import asyncio
import json
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, StreamingResponse

from codat_commerce_async import CodatCommerce, Hooks, PollPolicy
from codat_commerce_async.contrib.fastapi import Watched, add_webhook_route, exception_handlers, lifespan
from codat_commerce_async.contrib.starlette import client_of, watches_of
from codat_commerce_async.distributed import FileDeliveryStore, FileQuotaStore, SharedRateLimiter
from codat_commerce_async.models.webhook_events import WebhookEvent
from codat_commerce_async.syncing.watches import EVENT_STREAM_HEADERS, Watches
from codat_commerce_async.webhooks import (
    WebhookEndpoint,
    Webhooks,
    WebhookVerifier,
    company_id_of,
)

from .store import Store
from .worker import RequestCounter, SyncWorker

PAGE = Path(__file__).parent / "page"
DIRECTORY = Path(os.environ["WEB_APP_DIRECTORY"])
SECURITY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}
_STEP = 0.15
# The page connects again if it receives nothing for three times as long.
_HEARTBEAT = 2.0


@asynccontextmanager
async def own_lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the client, which shares its quota with the other processes, and the worker that performs syncs."""
    counter = RequestCounter()
    limiter = SharedRateLimiter(FileQuotaStore(DIRECTORY / "quota.db"))

    def make_client() -> CodatCommerce:
        return CodatCommerce.from_env(
            rate_limiter=limiter,
            poll=PollPolicy(initial_delay=0.5, interval=1.0, factor=1.1, max_interval=5.0),
            hooks=Hooks(on_request_started=counter),
            user_agent=f"process/web-{os.getpid()}",
        )

    store = app.state.store = Store.open(DIRECTORY / "web_app.db")
    async with limiter, lifespan(make_client)(app):
        request = Request({"type": "http", "app": app})
        worker = app.state.worker = SyncWorker(store, client_of(request), watches_of(request), limiter, counter)
        task = asyncio.create_task(worker.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
    store.close()


hooks = Webhooks()
app = FastAPI(title="Commerce syncs", lifespan=own_lifespan, exception_handlers=exception_handlers())
add_webhook_route(
    app,
    "/codat/webhooks",
    WebhookEndpoint(
        WebhookVerifier(os.environ["CODAT_WEBHOOK_SECRET"]),
        hooks,
        deduplicate=FileDeliveryStore(DIRECTORY / "deliveries.db"),
    ),
)


@hooks.on(WebhookEvent)
async def record(event: WebhookEvent[object]) -> None:
    """Record an event for the page."""
    store_of(app).add_webhook(event.event_type, company_id_of(event))


def store_of(application: FastAPI) -> Store:
    """Return the store that the lifespan has opened."""
    store: Store = application.state.store
    return store


@app.get("/", include_in_schema=False)
async def index() -> FileResponse:
    """Return the page."""
    return FileResponse(PAGE / "index.html", headers=SECURITY)


@app.get("/app.css", include_in_schema=False)
async def styles() -> FileResponse:
    """Return the styles of the page."""
    return FileResponse(PAGE / "app.css", headers=SECURITY)


@app.get("/app.js", include_in_schema=False)
async def script() -> FileResponse:
    """Return the script of the page."""
    return FileResponse(PAGE / "app.js", headers=SECURITY, media_type="text/javascript")


@app.get("/health")
async def health(watches: Watched) -> dict[str, int]:
    """Return this process's id and its number of polled syncs, without a request to Codat."""
    return {"pid": os.getpid(), "syncs": watches.syncs}


async def same_site(request: Request) -> None:
    """Refuse what a page of another site sends: browsers let it post here, and name that site in a header."""
    if request.headers.get("Sec-Fetch-Site", "none") not in {"same-origin", "none"}:
        raise HTTPException(403, "Other sites may not start syncs.")


@app.post("/merchants/{company_id}/syncs", status_code=202, dependencies=[Depends(same_site)])
async def start(company_id: str) -> dict[str, bool]:
    """Start a sync, unless one of the merchant is running."""
    store = store_of(app)
    started = store.request_sync(company_id)
    if not started and not store.is_running(company_id):
        raise HTTPException(404, "There is no such merchant.")
    return {"started": started}


@app.post("/syncs", status_code=202, dependencies=[Depends(same_site)])
async def start_all() -> dict[str, int]:
    """Start a sync of every merchant of which none is running."""
    store = store_of(app)
    return {"started": sum([store.request_sync(company_id) for company_id in store.merchant_ids()])}


@app.get("/events")
async def stream_events(watches: Watched) -> StreamingResponse:
    """Stream every change of what the page shows, until the client disconnects or the server shuts down."""
    return StreamingResponse(_counted(_stream(store_of(app), watches)), headers=dict(EVENT_STREAM_HEADERS))


async def _counted(stream: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    """Count a stream while it is open: only then are syncs checked that were started elsewhere."""
    worker: SyncWorker = app.state.worker
    worker.pages += 1
    try:
        async with aclosing(stream) as events:
            async for event in events:
                yield event
    finally:
        worker.pages -= 1


async def _stream(store: Store, watches: Watches) -> AsyncGenerator[bytes, None]:
    yield b"retry: 500\n\n"
    loop = asyncio.get_running_loop()
    sent: dict[str, str] = {}
    version: tuple[int, int] | None = None
    heartbeat_at = loop.time() + _HEARTBEAT
    # A stream that outlives the shutdown signal would keep the server from ending.
    while not watches.ended:
        if version != (version := store.version()):
            for name, value in store.sections().items():
                data = json.dumps(value)
                if sent.get(name) != data:
                    sent[name] = data
                    yield f"event: {name}\ndata: {data}\n\n".encode()
        if loop.time() >= heartbeat_at:
            heartbeat_at = loop.time() + _HEARTBEAT
            yield b"event: alive\ndata: {}\n\n"
        await asyncio.sleep(_STEP)
