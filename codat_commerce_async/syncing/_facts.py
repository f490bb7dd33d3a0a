"""Request what a diagnosis needs: one request for each source that the rule names, and at most five."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Protocol, TypeVar, Unpack

from codat_commerce_async._core.validation import as_utc
from codat_commerce_async.errors import ClientClosedError, CodatError, NotFoundError
from codat_commerce_async.models.configuration import Configuration
from codat_commerce_async.models.connections import Connections
from codat_commerce_async.models.failure_rules import Source
from codat_commerce_async.models.pull_operations import PullOperation, PullOperations
from codat_commerce_async.models.push_operations import PushOperation, PushOperations
from codat_commerce_async.models.sync import BaseSyncStatus, CompanySyncStatus
from codat_commerce_async.policies import CallOptions
from codat_commerce_async.syncing._conclude import Facts, rule_of_status
from codat_commerce_async.syncing.diagnosis import Evidence, ItemProblem

__all__ = ["DiagnosisCalls", "collect_facts"]

T = TypeVar("T")

_PULL_GOOD = frozenset({"Complete", "NotSupported"})
# The period of a sync is not reported; the syncs that may have the same one are the newest.
_MAX_SYNCS = 3


class DiagnosisCalls(Protocol):
    """The API calls of a diagnosis; each is one request, and lists return one page of 100, the newest first."""

    async def list_connections(self, company_id: str, **options: Unpack[CallOptions]) -> Connections:
        """Return the company's connections."""
        ...

    async def get_configuration(self, company_id: str, **options: Unpack[CallOptions]) -> Configuration:
        """Return the company's configuration."""
        ...

    async def list_push_operations(self, company_id: str, **options: Unpack[CallOptions]) -> PushOperations:
        """Return the company's push operations."""
        ...

    async def list_pull_operations(self, company_id: str, **options: Unpack[CallOptions]) -> PullOperations:
        """Return the company's pull operations."""
        ...

    async def list_syncs(self, company_id: str, **options: Unpack[CallOptions]) -> tuple[CompanySyncStatus, ...]:
        """Return the statuses of the company's syncs."""
        ...


async def collect_facts(
    calls: DiagnosisCalls, company_id: str, sync_id: str | None, status: BaseSyncStatus, options: CallOptions
) -> Facts:
    """Return the facts about a failed sync; a request that fails is named in `unchecked`."""
    collector = _Collector(calls, company_id, sync_id, status, options)
    for source in rule_of_status(status).sources:
        await collector.add(source)
        if collector.is_company_missing:  # every other request would be a 404 too
            break
    return collector.facts()


class _Collector:
    """Send the requests one after the other, and note what they find."""

    def __init__(
        self,
        calls: DiagnosisCalls,
        company_id: str,
        sync_id: str | None,
        status: BaseSyncStatus,
        options: CallOptions,
    ) -> None:
        self.is_company_missing = False
        self._calls = calls
        self._company_id = company_id
        self._sync_id = sync_id
        self._status = status
        self._options = options
        self._found: dict[str, Any] = {}
        self._unchecked: list[str] = []
        self._requests = 0

    async def add(self, source: Source) -> None:
        steps: Mapping[Source, Callable[[], Awaitable[None]]] = {
            Source.CONNECTIONS: self._add_connections,
            Source.CONFIGURATION: self._add_configuration,
            Source.PUSH_OPERATIONS: self._add_push_operations,
            Source.PULL_OPERATIONS: self._add_pull_operations,
            Source.SYNCS: self._add_syncs,
        }
        self._requests += 1
        try:
            await steps[source]()
        except ClientClosedError:
            raise
        except CodatError as error:
            self.is_company_missing = source is Source.CONNECTIONS and isinstance(error, NotFoundError)
            self._unchecked.append(f"{source.description}: {error.message}")

    def facts(self) -> Facts:
        return Facts(
            company_id=self._company_id,
            sync_id=self._sync_id,
            status=self._status,
            is_company_missing=self.is_company_missing,
            unchecked=tuple(self._unchecked),
            requests=self._requests,
            **self._found,
        )

    async def _add_connections(self) -> None:
        page = await self._calls.list_connections(self._company_id, **self._options)
        self._found["connections"] = page.results
        self._note_truncation(Source.CONNECTIONS, len(page.results), is_truncated=page.has_next)

    async def _add_configuration(self) -> None:
        self._found["configuration"] = await self._calls.get_configuration(self._company_id, **self._options)

    async def _add_push_operations(self) -> None:
        page = await self._calls.list_push_operations(self._company_id, **self._options)
        recent = [each for each in page.results if self._is_recent(each.requested_on_utc)]
        failed = [each for each in recent if each.failed]
        self._found["push_operations"] = tuple(map(_of_push, failed))
        is_truncated = page.has_next and len(recent) == len(page.results)
        self._note_truncation(Source.PUSH_OPERATIONS, len(page.results), is_truncated=is_truncated)

    async def _add_pull_operations(self) -> None:
        page = await self._calls.list_pull_operations(self._company_id, **self._options)
        recent = [each for each in page.results if self._is_recent(each.requested)]
        bad = [each for each in recent if each.status not in _PULL_GOOD]
        self._found["pull_operations"] = tuple(map(_of_pull, bad))
        is_truncated = page.has_next and len(recent) == len(page.results)
        self._note_truncation(Source.PULL_OPERATIONS, len(page.results), is_truncated=is_truncated)

    async def _add_syncs(self) -> None:
        syncs = await self._calls.list_syncs(self._company_id, **self._options)
        self._found["syncs"] = tuple(map(_of_sync, self._others(syncs)))

    def _others(self, syncs: Iterable[CompanySyncStatus]) -> list[CompanySyncStatus]:
        others = [each for each in syncs if each.sync_id != self._sync_id and not each.failed]
        return sorted(others, key=lambda each: str(each.sync_utc or ""), reverse=True)[:_MAX_SYNCS]

    def _is_recent(self, moment: datetime | None) -> bool:
        """Return whether it was requested since the sync began; True if either time is not known."""
        began = self._status.sync_utc
        return began is None or moment is None or as_utc(moment) >= as_utc(began)

    def _note_truncation(self, source: Source, count: int, *, is_truncated: bool) -> None:
        if is_truncated:
            self._unchecked.append(f"{source.description}: only the newest {count} were requested, there are more")


def _of_push(operation: PushOperation) -> Evidence:
    found = () if operation.validation is None else operation.validation.errors
    return Evidence(
        kind="push_operation",
        id=operation.push_operation_key,
        status=operation.status,
        message=operation.error_message,
        data_type=operation.data_type,
        requested_at=operation.requested_on_utc,
        completed_at=operation.completed_on_utc,
        items=tuple(
            ItemProblem(item_id=each.item_id, message=each.message, validator_name=each.validator_name)
            for each in found
        ),
    )


def _of_pull(operation: PullOperation) -> Evidence:
    return Evidence(
        kind="pull_operation",
        id=operation.id,
        status=operation.status,
        message=operation.error_message or operation.status_description,
        data_type=operation.data_type,
        requested_at=operation.requested,
        completed_at=operation.completed,
    )


def _of_sync(status: CompanySyncStatus) -> Evidence:
    code = None if status.sync_status_code is None else str(status.sync_status_code)
    return Evidence(kind="sync", id=status.sync_id, status=code, requested_at=status.sync_utc)
