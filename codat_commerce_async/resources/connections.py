"""Connections: what ties a company to its accounting and commerce platforms."""

from collections.abc import Mapping
from typing import Unpack

from codat_commerce_async._core.claims import Claims
from codat_commerce_async._core.operation import Operation
from codat_commerce_async._core.pages import Paginator
from codat_commerce_async._core.pipeline import Pipeline
from codat_commerce_async._core.reconcile import Candidate
from codat_commerce_async._core.validation import (
    as_utc,
    check_platform_key,
    check_str,
    check_str_mapping,
    check_url_text,
    page_query,
    require,
)
from codat_commerce_async.models.connections import (
    Connection,
    Connections,
    CreateConnection,
    UpdateConnection,
)
from codat_commerce_async.models.enums import ConnectionStatus
from codat_commerce_async.models.sync_flow import SyncFlowUrl
from codat_commerce_async.policies import CallOptions
from codat_commerce_async.resources._create import Search, create_exactly_once

__all__ = ["ConnectionsResource"]

CREATE = Operation("create-connection", "POST", "/companies/{companyId}/connections", Connection)
GET_SYNC_FLOW_URL = Operation(
    "get-sync-flow-url", "GET", "/config/sync/commerce/{commerceKey}/{accountingKey}/start", SyncFlowUrl
)
LIST = Operation("list-connections", "GET", "/companies/{companyId}/connections", Connections)
UPDATE_AUTHORIZATION = Operation(
    "update-connection-authorization",
    "PUT",
    "/companies/{companyId}/connections/{connectionId}/authorization",
    Connection,
)
UPDATE_CONNECTION = Operation(
    "update-connection", "PATCH", "/companies/{companyId}/connections/{connectionId}", Connection
)


class ConnectionsResource:
    """A company's connections. Every method also accepts the options of `CallOptions`."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._claims = Claims()

    async def create(self, company_id: str, *, platform_key: str, **options: Unpack[CallOptions]) -> Connection:
        """Create a connection of the company to a platform (`gbol` is Xero); its people have yet to authorize it.

        If the response is lost or is a 5xx, the one connection to the platform that was created since is
        adopted, with a warning in the log, unless another call of this client may have created it.

        POST /companies/{companyId}/connections.

        Args:
            company_id: The id of the company.
            platform_key: The platform's four letters.

        Raises:
            StatusError: 401, 402, 403, 404 or 429, each by its class.
            OutcomeUnknownError: It is not known whether the connection was created.
        """
        key = check_platform_key("platform_key", platform_key)

        async def find_candidates() -> list[Candidate[Connection]]:
            page = await self._pipeline.call(LIST, company_id, query={"pageSize": 5000})
            return [
                Candidate(one, one.id, one.created and as_utc(one.created))
                for one in page.results
                if one.integration_key == key
            ]

        return await create_exactly_once(
            self._pipeline,
            CREATE,
            company_id,
            body=CreateConnection(platform_key=key),
            search=Search(find_candidates, lambda connection: connection.id, self._claims, f"{company_id}/{key}"),
            options=options,
        )

    async def get_sync_flow_url(
        self,
        *,
        commerce_key: str,
        accounting_key: str,
        merchant_identifier: str | None = None,
        **options: Unpack[CallOptions],
    ) -> SyncFlowUrl:
        """Return a URL at which a merchant connects both platforms; this creates the company and its connections.

        The URL carries a one-time passcode that is good for 30 seconds: hand it on at once, keep it out of logs.

        GET /config/sync/commerce/{commerceKey}/{accountingKey}/start.

        Args:
            commerce_key: The four letters of the commerce platform.
            accounting_key: The four letters of the accounting platform.
            merchant_identifier: The merchant's name, or the id of an existing company.

        Raises:
            StatusError: 400, 401, 402, 403, 404, 429, 500 or 503, each by its class.

        Example:
            ```python
            flow = await codat.connections.get_sync_flow_url(
                commerce_key="fztf", accounting_key="gbol", merchant_identifier="Alder Bakery"
            )
            assert flow.url is not None  # redirect the merchant to it at once
            ```
        """
        commerce = check_platform_key("commerce_key", commerce_key)
        accounting = check_platform_key("accounting_key", accounting_key)
        merchant = None if merchant_identifier is None else check_url_text("merchant_identifier", merchant_identifier)
        query = {"merchantIdentifier": merchant}
        return await self._pipeline.call(GET_SYNC_FLOW_URL, commerce, accounting, query=query, **options)

    def list(
        self,
        company_id: str,
        *,
        page: int | None = None,
        page_size: int | None = None,
        query: str | None = None,
        order_by: str | None = None,
        **options: Unpack[CallOptions],
    ) -> Paginator[Connections, Connection]:
        """Return the company's connections: `await` one page, or iterate over all with `async for`.

        GET /companies/{companyId}/connections.

        Args:
            company_id: The id of the company.
            page: The number of the page to begin with, from 1.
            page_size: Results per page, 1 to 5,000; Codat's default is 100.
            query: A filter in Codat's query language.
            order_by: The field to order by, with `-` before it for descending order.

        Raises:
            StatusError: 400, 401, 402, 403, 404, 429, 500 or 503, each by its class.

        Example:
            ```python
            page = await codat.connections.list(company_id, page_size=50)
            async for connection in codat.connections.list(company_id):  # every item of every page
                print(connection.platform_name, connection.is_linked)
            ```
        """
        LIST.format_path((company_id,))
        first = page_query(page, page_size, query, order_by)
        return Paginator(lambda query: self._pipeline.call(LIST, company_id, query=query, **options), first)

    async def update_authorization(
        self,
        company_id: str,
        connection_id: str,
        authorization: Mapping[str, str],
        **options: Unpack[CallOptions],
    ) -> Connection:
        """Replace the credentials for the connection's platform, and return the connection.

        PUT /companies/{companyId}/connections/{connectionId}/authorization.

        Args:
            company_id: The id of the company.
            connection_id: The id of the connection.
            authorization: The credentials, by the platform's names for them.

        Raises:
            StatusError: 401, 402, 403, 404, 429, 500 or 503, each by its class.
        """
        body = check_str_mapping("authorization", authorization)
        return await self._pipeline.call(UPDATE_AUTHORIZATION, company_id, connection_id, body=body, **options)

    async def update_connection(
        self,
        company_id: str,
        connection_id: str,
        *,
        status: ConnectionStatus | str,
        **options: Unpack[CallOptions],
    ) -> Connection:
        """Change the connection's status, and return the connection; `Unlinked` stops reading and writing through it.

        PATCH /companies/{companyId}/connections/{connectionId}.

        Args:
            company_id: The id of the company.
            connection_id: The id of the connection.
            status: The new status.

        Raises:
            StatusError: 401, 402, 403, 404 or 429, each by its class.
            OutcomeUnknownError: The response was lost or is a 5xx.
        """
        body = UpdateConnection(status=_check_status("status", status))
        return await self._pipeline.call(UPDATE_CONNECTION, company_id, connection_id, body=body, **options)


def _check_status(name: str, value: ConnectionStatus | str) -> ConnectionStatus:
    status = ConnectionStatus(check_str(name, value))
    require(status.is_known, name, f"one of {', '.join(ConnectionStatus)}", str(value))
    return status
