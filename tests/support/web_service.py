"""A service that real servers run: `app` for ASGI servers, and aiohttp.web as a script.

The client takes its settings from the environment. With `SERVICE_STORE` it receives webhooks too: its handler appends
lines with `started` or `ended`, the process and the event to the file `SERVICE_LOG`.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web
from fastapi import FastAPI
from fastapi.sse import EventSourceResponse, ServerSentEvent

from codat_commerce_async import CodatCommerce, LocalRateLimiter, Quota
from codat_commerce_async.contrib import aiohttp_web
from codat_commerce_async.contrib.fastapi import (
    Codat,
    EventStream,
    StartedSync,
    Watched,
    add_webhook_route,
    exception_handlers,
    handle_from,
    lifespan,
)
from codat_commerce_async.distributed import FileDeliveryStore, PostgresDeliveryStore, RedisDeliveryStore
from codat_commerce_async.models.webhook_events import WebhookEvent
from codat_commerce_async.webhooks import DeliveryStore, WebhookEndpoint, Webhooks, WebhookVerifier
from tests.support.deliveries import SECRET

__all__ = ["app", "make_client"]


def make_client() -> CodatCommerce:
    per_minute = os.environ.get("SERVICE_PER_MINUTE")
    return CodatCommerce.from_env(quota=Quota(per_minute=int(per_minute))) if per_minute else CodatCommerce.from_env()


@asynccontextmanager
async def _reporting(app: FastAPI) -> AsyncIterator[None]:
    async with lifespan(make_client)(app):
        yield
    print("lifespan completed", file=sys.stderr, flush=True)  # noqa: T201 - the tests read it


def _webhook_endpoint(store: str, log: Path) -> WebhookEndpoint:
    hooks = Webhooks()

    @hooks.on(WebhookEvent)
    async def handle(event: WebhookEvent[object]) -> None:
        _append(log, f"started {os.getpid()} {event.id}")
        await asyncio.sleep(float(os.environ["SERVICE_HANDLER_SECONDS"]))
        _append(log, f"ended {os.getpid()} {event.id}")

    return WebhookEndpoint(WebhookVerifier(SECRET), hooks, deduplicate=_delivery_store(store))


def _delivery_store(store: str) -> DeliveryStore:
    claim_for = float(os.environ["SERVICE_CLAIM_SECONDS"])
    if store.startswith("redis:"):
        return RedisDeliveryStore(store, claim_for=claim_for)
    if store.startswith("postgresql:"):
        return PostgresDeliveryStore(store, claim_for=claim_for)
    return FileDeliveryStore(store, claim_for=claim_for)


def _append(log: Path, line: str) -> None:
    with log.open("a", encoding="utf-8") as file:  # one write, so that lines of two processes do not mix
        file.write(f"{line}\n")


app = FastAPI(lifespan=_reporting, exception_handlers=exception_handlers())
if "SERVICE_STORE" in os.environ:
    endpoint = _webhook_endpoint(os.environ["SERVICE_STORE"], Path(os.environ["SERVICE_LOG"]))
    add_webhook_route(app, "/codat/webhooks", endpoint)


@app.post("/companies/{company_id}/syncs", status_code=202)
async def start(company_id: str, codat: Codat) -> StartedSync:
    return StartedSync.of(await codat.sync.start(company_id))


@app.get("/companies/{company_id}/syncs/{token}/events", response_class=EventStream)
async def events(company_id: str, token: str, watches: Watched) -> EventStream:
    return EventStream(watches, handle_from(company_id, token))


@app.get("/companies/{company_id}/syncs/{token}/sse", response_class=EventSourceResponse)
async def server_sent_events(company_id: str, token: str, watches: Watched) -> AsyncIterator[ServerSentEvent]:
    async for status in watches.watch(handle_from(company_id, token)):
        yield ServerSentEvent(data=status.to_dict(), event="status")


@app.get("/health")
async def health(watches: Watched, codat: Codat) -> dict[str, int]:
    limiter = codat.sync.context.rate_limiter
    return {
        "pid": os.getpid(),
        "syncs": watches.syncs,
        "listeners": watches.listeners,
        "tasks": len([task for task in asyncio.all_tasks() if task is not asyncio.current_task()]),
        "reserved": limiter.reserved if isinstance(limiter, LocalRateLimiter) else -1,
    }


@app.get("/companies/{company_id}")
async def company(company_id: str, codat: Codat) -> int:
    return len(await codat.sync.list(company_id))


async def _events(request: web.Request) -> web.StreamResponse:
    handle = aiohttp_web.handle_from(request.match_info["company_id"], request.match_info["token"])
    return await aiohttp_web.event_stream(request, handle)


async def _health(request: web.Request) -> web.Response:
    watches = request.app[aiohttp_web.WATCHES]
    return web.json_response({"pid": os.getpid(), "syncs": watches.syncs, "listeners": watches.listeners})


async def _report(_: web.Application) -> AsyncIterator[None]:
    yield
    print("lifespan completed", file=sys.stderr, flush=True)  # noqa: T201 - the tests read it


def _aiohttp_app() -> web.Application:
    application = web.Application(middlewares=[aiohttp_web.problem_middleware])
    application.cleanup_ctx.append(_report)
    aiohttp_web.setup(application, make_client)
    application.router.add_get("/companies/{company_id}/syncs/{token}/events", _events)
    application.router.add_get("/health", _health)
    return application


if __name__ == "__main__":
    web.run_app(_aiohttp_app(), host="127.0.0.1", port=int(sys.argv[1]))
