"""Use a client in a FastAPI application.

    app = FastAPI(lifespan=lifespan(CodatCommerce.from_env), exception_handlers=exception_handlers())

    @app.post("/companies/{company_id}/syncs", status_code=202, responses=problem_responses())
    async def start(company_id: CompanyId, codat: Codat) -> StartedSync:
        return StartedSync.of(await codat.sync.start(company_id))

    @app.get("/companies/{company_id}/syncs/{token}/events", response_class=EventStream)
    async def events(company_id: CompanyId, token: str, watches: Watched) -> EventStream:
        return EventStream(watches, handle_from(company_id, token))

The models of this library can be returned, and be parameters of a request's body. Needs the extra `fastapi`.
"""

from datetime import datetime
from typing import Annotated, Self

from codat_commerce_async._core.operation import check_id
from codat_commerce_async.client import CodatCommerce
from codat_commerce_async.contrib.starlette import (
    EventStream,
    add_webhook_route,
    client_of,
    exception_handlers,
    handle_from,
    lifespan,
    problem_response,
    watches_of,
)
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.problems import PROBLEM_MEDIA_TYPE
from codat_commerce_async.syncing.watches import Watches

try:
    from fastapi import Depends
    from pydantic import AfterValidator, BaseModel, ConfigDict
    from starlette.requests import HTTPConnection
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "FastAPI needs an extra: pip install 'codat-commerce-async[fastapi]'", name=error.name
    ) from error

__all__ = [
    "Codat",
    "CompanyId",
    "EventStream",
    "ProblemDetails",
    "StartedSync",
    "Watched",
    "add_webhook_route",
    "exception_handlers",
    "handle_from",
    "lifespan",
    "problem_response",
    "problem_responses",
]


# Coroutine functions, because FastAPI runs plain functions in a thread.
async def _client_dependency(connection: HTTPConnection) -> CodatCommerce:
    return client_of(connection)


async def _watches_dependency(connection: HTTPConnection) -> Watches:
    return watches_of(connection)


Codat = Annotated[CodatCommerce, Depends(_client_dependency)]
"""The type of a parameter that receives the client of the application."""

Watched = Annotated[Watches, Depends(_watches_dependency)]
"""The type of a parameter that receives the watches of the application, for event streams."""


def _check_company_id(company_id: str) -> str:
    check_id("company_id", company_id)
    return company_id


CompanyId = Annotated[str, AfterValidator(_check_company_id)]
"""The type of a path parameter with the id of a company. What cannot be an id, such as `..`, gets a 422."""


class StartedSync(BaseModel):
    """A sync that was started.

    `token` goes into the URLs about it, and comes back as a handle by `SyncHandle.from_token`.
    """

    company_id: str
    """The id of the company."""

    token: str
    """The handle of the sync as text for URLs."""

    requested_at: datetime | None = None
    """When the sync was requested, in UTC."""

    adopted: bool = False
    """Whether the sync was found at Codat rather than named in a response."""

    @classmethod
    def of(cls, handle: SyncHandle) -> Self:
        """Return the response for a handle.

        Args:
            handle: The handle of the sync.
        """
        return cls(
            company_id=handle.company_id,
            token=handle.to_token(),
            requested_at=handle.requested_at,
            adopted=handle.adopted,
        )


class ProblemDetails(BaseModel):
    """The body of a response for an error (RFC 9457)."""

    model_config = ConfigDict(json_schema_extra={"additionalProperties": True})

    type: str
    """A URI that identifies the kind of problem."""

    title: str
    """The kind of problem in a few words."""

    status: int
    """The HTTP status."""

    detail: str
    """What happened this time."""

    company_id: str | None = None
    """The id of the company whose sync the problem is about."""

    sync_token: str | None = None
    """The handle of that sync as text, for `SyncHandle.from_token`."""

    correlation_id: str | None = None
    """The id that Codat's support needs."""


def _documented(description: str, **more: object) -> dict[str, object]:
    # Not as a `model`, which FastAPI would document as application/json.
    schema = {"schema": ProblemDetails.model_json_schema()}
    return {"description": description, "content": {PROBLEM_MEDIA_TYPE: schema, **more}}


def problem_responses() -> dict[int | str, dict[str, object]]:
    """Return the `responses` of a route that calls Codat, for its OpenAPI schema."""
    return {
        404: _documented("Not found at Codat"),
        409: _documented("The sync failed, or Codat is not ready for the request"),
        422: _documented("The request is not valid, for Codat or for this service", **{"application/json": {}}),
        502: _documented("Codat failed, or it is not known whether it carried out the request"),
        503: _documented("The quota is exhausted; `Retry-After` has the seconds until its reset"),
        504: _documented("No response or no end of the sync in time"),
    }
