"""The push and pull operations behind a company's syncs: derived from the syncs, or added by themselves."""

import math
import uuid
from collections.abc import Iterator

from codat_commerce_async.simulator._state.clock import plain_timestamp, timestamp
from codat_commerce_async.simulator._state.failures import FAILURES
from codat_commerce_async.simulator._state.records import Company, Connection, PullRecord, PushRecord, Sync, succeeded

__all__ = ["data_statuses", "pulls", "pushes", "serialize_pull", "serialize_push"]

_WRITTEN = 2000
_PROCESSING_ERROR = 5120
_NOT_WRITTEN = 5130
_WRITTEN_TYPE = "journalEntries"
_READ_TYPE = "commerce-orders"
_READ_SHARE, _WRITE_SHARE = 0.5, 0.8
_FAILED_ITEMS = 2


def pushes(company: Company, now: float) -> list[PushRecord]:
    """Return the push operations that were requested by now, in the order of their request."""
    ledger = _connection(company, "Accounting")
    derived = (push for sync in company.syncs if ledger for push in _pushes_of(sync, ledger))
    return sorted(
        (push for push in (*derived, *company.pushes) if push.requested <= now), key=lambda one: one.requested
    )


def pulls(company: Company, now: float) -> list[PullRecord]:
    """Return the pull operations that were requested by now, in the order of their request."""
    shop = _connection(company, "Commerce")
    derived = (pull for sync in company.syncs if shop for pull in _pulls_of(sync, shop))
    return sorted((pull for pull in (*derived, *company.pulls) if pull.requested <= now), key=lambda one: one.requested)


def serialize_push(company: Company, push: PushRecord, now: float) -> dict[str, object]:
    """Return a `PushOperation`."""
    pending = now < push.completed
    status = "Pending" if pending else "Success" if push.error is None else "Failed"
    serialized: dict[str, object] = {
        "changes": [],
        "dataType": push.data_type,
        "companyId": company.id,
        "pushOperationKey": push.key,
        "dataConnectionKey": push.connection_id,
        "requestedOnUtc": timestamp(push.requested),
        "timeoutInMinutes": None,
        "status": status,
        "errorMessage": None if pending else push.error,
        "statusCode": {"Pending": 202, "Success": 200, "Failed": 400}[status],
    }
    if pending:
        return serialized
    serialized["completedOnUtc"] = timestamp(push.completed)
    if push.error is None:
        record = {"id": _id(push.key, "record"), "dataType": push.data_type}
        serialized["changes"] = [{"type": "Created", "recordRef": record}]
    errors = [{"itemId": item, "message": text, "validatorName": "PushValidator"} for item, text in push.items]
    return {**serialized, "validation": {"errors": errors, "warnings": []}}


def serialize_pull(company: Company, pull: PullRecord, now: float) -> dict[str, object]:
    """Return a `PullOperation`."""
    running = now < pull.completed
    status = "Fetching" if running else "Complete" if pull.error is None else "ProcessingError"
    serialized: dict[str, object] = {
        "id": pull.id,
        "companyId": company.id,
        "connectionId": pull.connection_id,
        "dataType": pull.data_type,
        "status": status,
        "statusDescription": None,
        "errorMessage": None if running else pull.error,
        "requested": timestamp(pull.requested),
        "progress": 50 if running else 100,
        "isCompleted": status == "Complete",
        "isErrored": status == "ProcessingError",
    }
    return serialized if running else {**serialized, "completed": timestamp(pull.completed)}


def data_statuses(company: Company, now: float) -> dict[str, object]:
    """Return `DataStatuses`; a linked connection was read once when it was created."""
    every = pulls(company, now)
    return {
        data_type: _data_status(connection, data_type, [pull for pull in every if pull.data_type == data_type], now)
        for connection in company.connections.values()
        for data_type in connection.platform.data_types
    }


def _data_status(connection: Connection, data_type: str, reads: list[PullRecord], now: float) -> dict[str, object]:
    done = [pull for pull in reads if pull.completed <= now and pull.error is None]
    first = "Complete" if connection.linked else "Initial"
    status: dict[str, object] = {"dataType": data_type, "currentStatus": first}
    if reads:
        running, failed = now < reads[-1].completed, reads[-1].error is not None
        status["currentStatus"] = "Fetching" if running else "ProcessingError" if failed else "Complete"
        status["latestSyncId"] = reads[-1].id
    if done:
        return {**status, "lastSuccessfulSync": timestamp(done[-1].completed), "latestSuccessfulSyncId": done[-1].id}
    return {**status, "lastSuccessfulSync": plain_timestamp(connection.created)} if connection.linked else status


def _connection(company: Company, source_type: str) -> Connection | None:
    found = (one for one in company.connections.values() if one.platform.source_type == source_type)
    return next(found, None)


def _pushes_of(sync: Sync, ledger: Connection) -> Iterator[PushRecord]:
    if sync.final_code not in {_WRITTEN, _NOT_WRITTEN} or math.isinf(sync.ends):
        return
    requested = sync.started + _WRITE_SHARE * (sync.ends - sync.started)
    key = _id(sync.sync_id, "push")
    yield PushRecord(key, ledger.id, _WRITTEN_TYPE, requested, sync.ends)
    if sync.final_code == _NOT_WRITTEN:
        failure = None if sync.cause is None else FAILURES[sync.cause]
        text = failure.item if failure else "The record is locked in the accounting software."
        items = tuple((_id(sync.sync_id, f"item/{number}"), text) for number in range(_FAILED_ITEMS))
        error = "The accounting software refused the record."
        yield PushRecord(_id(sync.sync_id, "failed push"), ledger.id, _WRITTEN_TYPE, requested, sync.ends, error, items)


def _pulls_of(sync: Sync, shop: Connection) -> Iterator[PullRecord]:
    reads = succeeded(sync.final_code) or sync.final_code in {_PROCESSING_ERROR, _NOT_WRITTEN}
    if not reads or math.isinf(sync.ends):
        return
    completed = sync.started + _READ_SHARE * (sync.ends - sync.started)
    error = "The orders could not be processed." if sync.final_code == _PROCESSING_ERROR else None
    yield PullRecord(_id(sync.sync_id, "pull"), shop.id, _READ_TYPE, sync.started, completed, error)


def _id(of: str, kind: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{of}/{kind}"))
