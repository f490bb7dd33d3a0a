"""The API calls of a diagnosis, adapted to the protocol that `syncing` requires."""

from typing import Unpack

from codat_commerce_async._core.operation import Operation
from codat_commerce_async._core.pipeline import Pipeline
from codat_commerce_async._core.validation import page_query
from codat_commerce_async.models.configuration import Configuration
from codat_commerce_async.models.connections import Connections
from codat_commerce_async.models.pull_operations import PullOperations
from codat_commerce_async.models.push_operations import PushOperations
from codat_commerce_async.models.sync import CompanySyncStatus
from codat_commerce_async.policies import CallOptions
from codat_commerce_async.resources.advanced_controls import GET_CONFIGURATION
from codat_commerce_async.resources.connections import LIST as LIST_CONNECTIONS
from codat_commerce_async.resources.platform import GET_COMPANY_PUSH_HISTORY, LIST_PULL_OPERATIONS

__all__ = ["PipelineDiagnosisCalls"]

_PAGE_SIZE = 100


class PipelineDiagnosisCalls:
    """The calls of a diagnosis; with `spares_quota`, they are deferred like starts while the daily quota is short."""

    def __init__(
        self,
        pipeline: Pipeline,
        list_syncs: Operation[tuple[CompanySyncStatus, ...]],
        *,
        spares_quota: bool = False,
    ) -> None:
        self._pipeline = pipeline
        self._list_syncs = list_syncs
        self._spares_quota = spares_quota

    async def list_connections(self, company_id: str, **options: Unpack[CallOptions]) -> Connections:
        """Return the first page of the company's connections."""
        query = page_query(1, _PAGE_SIZE, None, None)
        return await self._pipeline.call(
            LIST_CONNECTIONS, company_id, query=query, starts_work=self._spares_quota, **options
        )

    async def get_configuration(self, company_id: str, **options: Unpack[CallOptions]) -> Configuration:
        """Return the company's configuration."""
        return await self._pipeline.call(GET_CONFIGURATION, company_id, starts_work=self._spares_quota, **options)

    async def list_push_operations(self, company_id: str, **options: Unpack[CallOptions]) -> PushOperations:
        """Return the first page of the company's push operations, the newest first."""
        query = page_query(1, _PAGE_SIZE, None, "-requestedOnUtc")
        return await self._pipeline.call(
            GET_COMPANY_PUSH_HISTORY, company_id, query=query, starts_work=self._spares_quota, **options
        )

    async def list_pull_operations(self, company_id: str, **options: Unpack[CallOptions]) -> PullOperations:
        """Return the first page of the company's pull operations, the newest first."""
        query = page_query(1, _PAGE_SIZE, None, "-requested")
        return await self._pipeline.call(
            LIST_PULL_OPERATIONS, company_id, query=query, starts_work=self._spares_quota, **options
        )

    async def list_syncs(self, company_id: str, **options: Unpack[CallOptions]) -> tuple[CompanySyncStatus, ...]:
        """Return the statuses of the company's syncs."""
        return await self._pipeline.call(self._list_syncs, company_id, starts_work=self._spares_quota, **options)
