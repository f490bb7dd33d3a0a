"""Codat's Platform API: what is behind a sync, its companies, connections, reads and writes."""

from collections.abc import Iterable, Mapping
from types import NoneType
from typing import Unpack

from codat_commerce_async._core.operation import Operation
from codat_commerce_async._core.pages import Paginator
from codat_commerce_async._core.pipeline import Pipeline
from codat_commerce_async._core.validation import check_instance, check_str, check_str_list, check_url_text, page_query
from codat_commerce_async.models.base import UNSET
from codat_commerce_async.models.companies import Company, UpdateCompany
from codat_commerce_async.models.connections import Connection
from codat_commerce_async.models.enums import DataType, WebhookEventType
from codat_commerce_async.models.pull_operations import DataStatuses, PullOperation, PullOperations
from codat_commerce_async.models.push_operations import PushOperation, PushOperations
from codat_commerce_async.models.sync_settings import CompanySyncSettings, SyncSetting
from codat_commerce_async.models.webhook_consumers import CreateWebhookConsumer, WebhookConsumer, WebhookConsumers
from codat_commerce_async.policies import CallOptions
from codat_commerce_async.resources.advanced_controls import check_company_name, check_tags

__all__ = ["PlatformResource"]

GET_COMPANY = Operation("get-company", "GET", "/companies/{companyId}", Company)
UPDATE_COMPANY = Operation("update-company", "PATCH", "/companies/{companyId}", Company)
DELETE_COMPANY = Operation("delete-company", "DELETE", "/companies/{companyId}", NoneType)
GET_CONNECTION = Operation("get-connection", "GET", "/companies/{companyId}/connections/{connectionId}", Connection)
DELETE_CONNECTION = Operation(
    "delete-connection", "DELETE", "/companies/{companyId}/connections/{connectionId}", NoneType
)
REFRESH_COMPANY_DATA = Operation("refresh-company-data", "POST", "/companies/{companyId}/data/all", NoneType)
REFRESH_DATA_TYPE = Operation(
    "refresh-data-type", "POST", "/companies/{companyId}/data/queue/{dataType}", PullOperation
)
GET_COMPANY_DATA_STATUS = Operation("get-company-data-status", "GET", "/companies/{companyId}/dataStatus", DataStatuses)
LIST_PULL_OPERATIONS = Operation("list-pull-operations", "GET", "/companies/{companyId}/data/history", PullOperations)
GET_PULL_OPERATION = Operation(
    "get-pull-operation", "GET", "/companies/{companyId}/data/history/{datasetId}", PullOperation
)
GET_COMPANY_PUSH_HISTORY = Operation("get-company-push-history", "GET", "/companies/{companyId}/push", PushOperations)
GET_PUSH_OPERATION = Operation(
    "get-push-operation", "GET", "/companies/{companyId}/push/{pushOperationKey}", PushOperation
)
LIST_WEBHOOK_CONSUMERS = Operation("list-webhook-consumers", "GET", "/webhooks", WebhookConsumers)
CREATE_WEBHOOK_CONSUMER = Operation("create-webhook-consumer", "POST", "/webhooks", WebhookConsumer)
DELETE_WEBHOOK_CONSUMER = Operation("delete-webhook-consumer", "DELETE", "/webhooks/{webhookId}", NoneType)
GET_COMPANY_SYNC_SETTINGS = Operation(
    "get-company-syncSettings", "GET", "/companies/{companyId}/syncSettings", CompanySyncSettings
)
SET_COMPANY_SYNC_SETTINGS = Operation(
    "set-company-syncSettings", "POST", "/companies/{companyId}/syncSettings", NoneType
)


class PlatformResource:
    """Companies, connections, reads, writes and webhook consumers. Every method accepts the options of `CallOptions`.

    A delete is not repeated after a lost response or a 5xx, because Codat has no idempotency keys for it: it raises
    OutcomeUnknownError, and a 404 of the next one means that it had happened.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    async def get_company(self, company_id: str, **options: Unpack[CallOptions]) -> Company:
        """Return the company with its connections.

        GET /companies/{companyId}.

        Args:
            company_id: The id of the company.

        Raises:
            StatusError: 401, 402, 403, 404, 429, 500 or 503, each by its class.
        """
        return await self._pipeline.call(GET_COMPANY, company_id, **options)

    async def update_company(
        self,
        company_id: str,
        *,
        name: str | None = None,
        description: str | None = None,
        tags: Mapping[str, str] | None = None,
        **options: Unpack[CallOptions],
    ) -> Company:
        """Change the company's name, description or tags, and return it; what is None stays as it is.

        `tags` replace all tags. The limits are those of `advanced_controls.create_company`.

        PATCH /companies/{companyId}.

        Args:
            company_id: The id of the company.
            name: The new name.
            description: The new description.
            tags: The new tags, which replace all others.

        Raises:
            StatusError: 401, 402, 403, 404 or 429, each by its class.
            OutcomeUnknownError: The response was lost or is a 5xx.
        """
        body = UpdateCompany(
            name=UNSET if name is None else check_company_name("name", name),
            description=UNSET if description is None else check_str("description", description),
            tags=UNSET if tags is None else check_tags("tags", tags),
        )
        return await self._pipeline.call(UPDATE_COMPANY, company_id, body=body, **options)

    async def delete_company(self, company_id: str, **options: Unpack[CallOptions]) -> None:
        """Delete the company permanently, with its connections, its configuration, its syncs and its cached data.

        This cannot be undone: to sync again, create a company and let its merchant link it. What was written to the
        accounting software stays there.

        DELETE /companies/{companyId}.

        Args:
            company_id: The id of the company.

        Raises:
            StatusError: 401, 402, 403, 404 or 429, each by its class.
            OutcomeUnknownError: The response was lost or is a 5xx.
        """
        await self._pipeline.call(DELETE_COMPANY, company_id, **options)

    async def get_connection(self, company_id: str, connection_id: str, **options: Unpack[CallOptions]) -> Connection:
        """Return one connection of the company.

        GET /companies/{companyId}/connections/{connectionId}.

        Args:
            company_id: The id of the company.
            connection_id: The id of the connection.

        Raises:
            StatusError: 401, 402, 403, 404, 429, 500 or 503, each by its class.
        """
        return await self._pipeline.call(GET_CONNECTION, company_id, connection_id, **options)

    async def delete_connection(self, company_id: str, connection_id: str, **options: Unpack[CallOptions]) -> None:
        """Delete the connection permanently, with its authorization: Codat cannot read or write through it again.

        The company stays, and its syncs fail until its merchant has authorized a new connection. To stop a connection
        for a time, use `connections.update_connection` with `Unlinked`.

        DELETE /companies/{companyId}/connections/{connectionId}.

        Args:
            company_id: The id of the company.
            connection_id: The id of the connection.

        Raises:
            StatusError: 401, 402, 403, 404 or 429, each by its class.
            OutcomeUnknownError: The response was lost or is a 5xx.
        """
        await self._pipeline.call(DELETE_CONNECTION, company_id, connection_id, **options)

    async def refresh_company_data(self, company_id: str, **options: Unpack[CallOptions]) -> None:
        """Queue a read of every data type of the company that is read on the first link; `dataStatus` shows the result.

        POST /companies/{companyId}/data/all.

        Args:
            company_id: The id of the company.

        Raises:
            StatusError: 400, 401, 402, 403, 404 or 429, each by its class.
            OutcomeUnknownError: The response was lost or is a 5xx.
        """
        await self._pipeline.call(REFRESH_COMPANY_DATA, company_id, **options)

    async def refresh_data_type(
        self,
        company_id: str,
        data_type: DataType | str,
        *,
        connection_id: str | None = None,
        **options: Unpack[CallOptions],
    ) -> PullOperation:
        """Queue a read of one data type, and return the pull operation; of one connection if `connection_id` is given.

        POST /companies/{companyId}/data/queue/{dataType}.

        Args:
            company_id: The id of the company.
            data_type: The data type to read.
            connection_id: The connection to read from; None for all.

        Raises:
            StatusError: 400, 401, 402, 403, 404 or 429, each by its class.
            OutcomeUnknownError: The response was lost or is a 5xx.
        """
        kind = str(check_str("data_type", data_type))
        query = {"connectionId": None if connection_id is None else check_url_text("connection_id", connection_id)}
        return await self._pipeline.call(REFRESH_DATA_TYPE, company_id, kind, query=query, **options)

    async def get_company_data_status(self, company_id: str, **options: Unpack[CallOptions]) -> DataStatuses:
        """Return the status of each data type of the company, by its name.

        GET /companies/{companyId}/dataStatus.

        Args:
            company_id: The id of the company.

        Raises:
            StatusError: 401, 402, 403, 404, 429, 500 or 503, each by its class.
        """
        return await self._pipeline.call(GET_COMPANY_DATA_STATUS, company_id, **options)

    def list_pull_operations(
        self,
        company_id: str,
        *,
        page: int | None = None,
        page_size: int | None = None,
        query: str | None = None,
        order_by: str | None = None,
        **options: Unpack[CallOptions],
    ) -> Paginator[PullOperations, PullOperation]:
        """Return the reads of the company's data: `await` one page, or iterate over all with `async for`.

        `query="status!=Complete"` leaves out those that succeeded.

        GET /companies/{companyId}/data/history.

        Args:
            company_id: The id of the company.
            page: The number of the page to begin with, from 1.
            page_size: Results per page, 1 to 5,000; Codat's default is 100.
            query: A filter in Codat's query language.
            order_by: The field to order by, with `-` before it for descending order.

        Raises:
            StatusError: 400, 401, 402, 403, 404, 429, 500 or 503, each by its class.
        """
        LIST_PULL_OPERATIONS.format_path((company_id,))
        first = page_query(page, page_size, query, order_by)
        return Paginator(
            lambda query: self._pipeline.call(LIST_PULL_OPERATIONS, company_id, query=query, **options), first
        )

    async def get_pull_operation(
        self, company_id: str, dataset_id: str, **options: Unpack[CallOptions]
    ) -> PullOperation:
        """Return one read of the company's data; its id is also called a dataset id.

        GET /companies/{companyId}/data/history/{datasetId}.

        Args:
            company_id: The id of the company.
            dataset_id: The id of the pull operation.

        Raises:
            StatusError: 401, 402, 403, 404, 429, 500 or 503, each by its class.
        """
        return await self._pipeline.call(GET_PULL_OPERATION, company_id, dataset_id, **options)

    def get_company_push_history(
        self,
        company_id: str,
        *,
        page: int | None = None,
        page_size: int | None = None,
        query: str | None = None,
        order_by: str | None = None,
        **options: Unpack[CallOptions],
    ) -> Paginator[PushOperations, PushOperation]:
        """Return the writes to the accounting software: `await` one page, or iterate over all with `async for`.

        The newest are first with `order_by="-requestedOnUtc"`.

        GET /companies/{companyId}/push.

        Args:
            company_id: The id of the company.
            page: The number of the page to begin with, from 1.
            page_size: Results per page, 1 to 5,000; Codat's default is 100.
            query: A filter in Codat's query language.
            order_by: The field to order by, with `-` before it for descending order.

        Raises:
            StatusError: 400, 401, 402, 403, 404, 429, 500 or 503, each by its class.
        """
        GET_COMPANY_PUSH_HISTORY.format_path((company_id,))
        first = page_query(page, page_size, query, order_by)
        return Paginator(
            lambda query: self._pipeline.call(GET_COMPANY_PUSH_HISTORY, company_id, query=query, **options), first
        )

    async def get_push_operation(
        self, company_id: str, push_operation_key: str, **options: Unpack[CallOptions]
    ) -> PushOperation:
        """Return one write to the company's accounting software.

        GET /companies/{companyId}/push/{pushOperationKey}.

        Args:
            company_id: The id of the company.
            push_operation_key: The id of the push operation.

        Raises:
            StatusError: 401, 402, 403, 404, 429, 500 or 503, each by its class.
        """
        return await self._pipeline.call(GET_PUSH_OPERATION, company_id, push_operation_key, **options)

    async def list_webhook_consumers(self, **options: Unpack[CallOptions]) -> WebhookConsumers:
        """Return all webhook consumers of your client; this is not paged, as there are at most 50.

        GET /webhooks.

        Raises:
            StatusError: 400, 401, 402, 403, 429, 500 or 503, each by its class.
        """
        return await self._pipeline.call(LIST_WEBHOOK_CONSUMERS, **options)

    async def create_webhook_consumer(
        self,
        *,
        url: str,
        event_types: Iterable[WebhookEventType | str] | None = None,
        company_tags: Iterable[str] | None = None,
        disabled: bool | None = None,
        **options: Unpack[CallOptions],
    ) -> WebhookConsumer:
        """Create a webhook consumer: Codat sends events to `url` from now on. The signing secret is in the portal.

        None for `event_types` subscribes to all events; `company_tags` are up to 10 tags such as `"region:uk"`, of
        which a company must have one. There can be 50 consumers.

        POST /webhooks.

        Args:
            url: The URL that receives the events.
            event_types: The events to send; None for all.
            company_tags: The tags of the companies whose events are sent; None for all companies.
            disabled: Whether to send no events for now.

        Raises:
            StatusError: 400, 401, 402, 403 or 429, each by its class.
            OutcomeUnknownError: The response was lost or is a 5xx: `list_webhook_consumers` shows whether it was
                created.
        """
        body = CreateWebhookConsumer(
            url=check_url_text("url", url),
            disabled=UNSET if disabled is None else check_instance("disabled", disabled, bool),
            event_types=UNSET if event_types is None else _event_types("event_types", event_types),
            company_tags=UNSET if company_tags is None else tuple(check_str_list("company_tags", company_tags)),
        )
        return await self._pipeline.call(CREATE_WEBHOOK_CONSUMER, body=body, **options)

    async def delete_webhook_consumer(self, webhook_id: str, **options: Unpack[CallOptions]) -> None:
        """Delete the webhook consumer permanently, with its subscriptions; its URL receives no more events.

        DELETE /webhooks/{webhookId}.

        Args:
            webhook_id: The id of the webhook consumer.

        Raises:
            StatusError: 401, 402, 403, 404 or 429, each by its class.
            OutcomeUnknownError: The response was lost or is a 5xx.
        """
        await self._pipeline.call(DELETE_WEBHOOK_CONSUMER, webhook_id, **options)

    async def get_company_sync_settings(self, company_id: str, **options: Unpack[CallOptions]) -> CompanySyncSettings:
        """Return how often Codat reads each data type of the company, and how far back.

        GET /companies/{companyId}/syncSettings.

        Args:
            company_id: The id of the company.

        Raises:
            StatusError: 401, 402, 403, 404, 429, 500 or 503, each by its class.
        """
        return await self._pipeline.call(GET_COMPANY_SYNC_SETTINGS, company_id, **options)

    async def set_company_sync_settings(
        self,
        company_id: str,
        settings: Iterable[SyncSetting],
        *,
        overrides_defaults: bool = True,
        **options: Unpack[CallOptions],
    ) -> None:
        """Replace the company's sync settings; with `overrides_defaults` they take precedence over your client's.

        Read the settings, change them with `attrs.evolve`, and write them back.

        POST /companies/{companyId}/syncSettings.

        Args:
            company_id: The id of the company.
            settings: The settings, one for each data type.
            overrides_defaults: Whether the settings replace those of the client.

        Raises:
            StatusError: 400, 401, 402, 403, 404 or 429, each by its class.
            OutcomeUnknownError: The response was lost or is a 5xx.
        """
        body = {
            "companyId": company_id,
            "settings": [check_instance("settings", one, SyncSetting) for one in settings],
            "overridesDefaults": check_instance("overrides_defaults", overrides_defaults, bool),
        }
        await self._pipeline.call(SET_COMPANY_SYNC_SETTINGS, company_id, body=body, **options)


def _event_types(name: str, event_types: Iterable[WebhookEventType | str]) -> tuple[WebhookEventType, ...]:
    return tuple(map(WebhookEventType, check_str_list(name, event_types)))
