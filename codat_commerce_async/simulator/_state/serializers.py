"""Serialize companies, connections and syncs as in Codat's responses."""

from codat_commerce_async.simulator._state.clock import plain_timestamp, timestamp
from codat_commerce_async.simulator._state.records import Company, Connection, Sync

__all__ = [
    "company_reference",
    "serialize_company",
    "serialize_company_details",
    "serialize_company_sync_status",
    "serialize_connection",
    "serialize_sync_status",
    "serialize_sync_summary",
]


def serialize_connection(company: Company, connection: Connection) -> dict[str, object]:
    """Return a `Connection`."""
    platform = connection.platform
    return {
        "id": connection.id,
        "integrationId": platform.integration_id,
        "integrationKey": platform.key,
        "sourceId": platform.source_id,
        "sourceType": platform.source_type,
        "platformName": platform.name,
        "linkUrl": f"https://link-api.codat.io/companies/{company.id}/connections/{connection.id}/start",
        "status": connection.status,
        "lastSync": None if connection.last_sync is None else timestamp(connection.last_sync),
        "created": plain_timestamp(connection.created),
        "dataConnectionErrors": connection.errors,
    }


def serialize_company_details(company: Company) -> dict[str, object]:
    """Return a company without its connections, as in the payloads of company events."""
    return {
        "id": company.id,
        "name": company.name,
        "description": company.description,
        "redirect": f"https://link.codat.io/company/{company.id}",
        "lastSync": None if company.last_sync is None else timestamp(company.last_sync),
        "created": plain_timestamp(company.created),
        "createdByUserName": None,
        "tags": company.tags,
    }


def serialize_company(company: Company) -> dict[str, object]:
    """Return a `Company`."""
    return {
        **serialize_company_details(company),
        "products": ["commerce"],
        "ownerUserIds": [],
        "dataConnections": _connections(company),
    }


def company_reference(company: Company) -> dict[str, object]:
    """Return the reference to a company in the payloads of other events."""
    return {
        "id": company.id,
        "name": company.name,
        "description": company.description,
        "links": {"portal": f"https://app.codat.io/companies/{company.id}/summary"},
        "tags": company.tags,
    }


def serialize_company_sync_status(sync: Sync, now: float) -> dict[str, object]:
    """Return a `CompanySyncStatus`, which has the sync id and no commerce sync id."""
    return {"companyId": sync.company_id, "syncId": sync.sync_id, **_progress(sync, now)}


def serialize_sync_status(company: Company, sync: Sync, now: float) -> dict[str, object]:
    """Return a `SyncStatus`, which has both ids."""
    return {
        "companyId": company.id,
        "commerceSyncId": sync.commerce_sync_id,
        "syncId": sync.sync_id,
        **_progress(sync, now),
        "dataConnections": _connections(company),
    }


def serialize_sync_summary(company: Company, sync: Sync, now: float) -> dict[str, object]:
    """Return a `SyncSummary`, which has the commerce sync id and no sync id."""
    return {
        "companyId": company.id,
        "commerceSyncId": sync.commerce_sync_id,
        "syncDateRangeUtc": {"start": timestamp(sync.start), "finish": timestamp(sync.finish)},
        **_progress(sync, now),
        "dataConnections": _connections(company),
    }


def _progress(sync: Sync, now: float) -> dict[str, object]:
    message = sync.message(now)
    return {
        "syncStatusCode": sync.code(now),
        "syncStatus": sync.status(now),
        "errorMessage": message,
        "syncExceptionMessage": message,
        "syncUtc": timestamp(sync.started),
        "dataPushed": sync.pushed(now),
    }


def _connections(company: Company) -> list[dict[str, object]]:
    return [serialize_connection(company, connection) for connection in company.connections.values()]
