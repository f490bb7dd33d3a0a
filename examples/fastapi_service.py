"""Start syncs from a FastAPI service, and stream their progress to the browser.

CODAT_API_KEY=... uvicorn --app-dir examples fastapi_service:app
"""

import logging

from fastapi import FastAPI

from codat_commerce_async import SyncStatus
from codat_commerce_async.contrib.fastapi import (
    Codat,
    CompanyId,
    EventStream,
    StartedSync,
    Watched,
    exception_handlers,
    handle_from,
    lifespan,
    problem_responses,
)

logging.basicConfig()  # shows warnings of this library, which no server does by itself
app = FastAPI(lifespan=lifespan(), exception_handlers=exception_handlers())


@app.post("/companies/{company_id}/syncs", status_code=202, responses=problem_responses())
async def start(company_id: CompanyId, codat: Codat) -> StartedSync:
    """Start a sync."""
    return StartedSync.of(await codat.sync.start(company_id))


@app.get("/companies/{company_id}/syncs/latest", responses=problem_responses())
async def latest(company_id: CompanyId, codat: Codat) -> SyncStatus:
    """Return the status of the newest sync."""
    return await codat.sync.get_status(company_id)


@app.get("/companies/{company_id}/syncs/{token}/events", response_class=EventStream)
async def events(company_id: CompanyId, token: str, watches: Watched) -> EventStream:
    """Stream the changes of a sync's status, until it has ended."""
    return EventStream(watches, handle_from(company_id, token))
