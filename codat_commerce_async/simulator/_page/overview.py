"""Serialize the simulator's state for the page: counts, and the latest companies, syncs and requests."""

import math
from itertools import islice

from codat_commerce_async.simulator._api.api import Api
from codat_commerce_async.simulator._api.http import RecordedRequest
from codat_commerce_async.simulator._state.clock import SimulatedClock
from codat_commerce_async.simulator._state.quota import RequestQuotaState
from codat_commerce_async.simulator._state.records import Sync
from codat_commerce_async.simulator._state.statistics import CompanyState
from codat_commerce_async.simulator._state.store import Store

__all__ = ["serialize_state"]

_MAX_COMPANIES = 300
_MAX_SYNCS = 40
_MAX_REQUESTS = 40


def serialize_state(store: Store, quota: RequestQuotaState, api: Api, clock: SimulatedClock) -> dict[str, object]:
    """Return the state that the page shows; times are simulated epoch seconds, and lists are cut."""
    now = clock.now()
    return {
        "now": now,
        "speed": clock.speed,
        "companies": _companies(store),
        "syncs": _syncs(store, now),
        "quota": _quota(quota, now),
        "requests": _requests(api),
    }


def _companies(store: Store) -> dict[str, object]:
    statistics = store.statistics
    latest = [(store.companies[company_id], state) for company_id, state in statistics.latest_companies(_MAX_COMPANIES)]
    return {
        "total": len(store.companies),
        "linked": store.linked_companies,
        **{state.value: statistics.companies[state] for state in CompanyState},
        # A company keeps its position when others are added or removed.
        "latest": [
            {
                "id": company.id,
                "name": company.name,
                "state": state.value,
                "platforms": [one.platform.name for one in islice(company.connections.values(), 4) if one.linked],
            }
            for company, state in sorted(latest, key=lambda one: one[0].number)
        ],
    }


def _syncs(store: Store, now: float) -> dict[str, object]:
    statistics = store.statistics
    lists = {
        "latestRunning": statistics.latest_running(_MAX_SYNCS),
        "latestEnded": statistics.latest_ended(_MAX_SYNCS),
        "latestFailed": statistics.latest_failed(_MAX_SYNCS),
    }
    return {
        "running": statistics.running,
        "succeeded": statistics.succeeded,
        "failed": statistics.failed,
        **{name: [_sync(store, sync, now) for sync in syncs] for name, syncs in lists.items()},
    }


def _sync(store: Store, sync: Sync, now: float) -> dict[str, object]:
    company = store.companies.get(sync.company_id)
    return {
        "id": sync.sync_id,
        "companyId": sync.company_id,
        "company": None if company is None else company.name,
        "source": sync.source,
        "code": sync.code(now),
        "status": sync.status(now),
        "message": sync.message(now),
        "started": sync.started,
        "ended": sync.ends if now >= sync.ends else None,
    }


def _quota(quota: RequestQuotaState, now: float) -> dict[str, object]:
    remaining = quota.remaining(now)
    return {
        "perDay": quota.limit(),
        "leftToday": remaining if math.isfinite(remaining) else None,
        "resets": quota.reset(now),
        "perMinute": quota.per_minute,
        "lastMinute": quota.last_minute(now),
        "peakPerMinute": quota.peak_per_minute,
    }


def _requests(api: Api) -> dict[str, object]:
    newest = islice(reversed(api.requests), _MAX_REQUESTS)
    return {
        "total": api.request_count,
        "faulty": api.faulty,
        "byProcess": dict(api.requests_by_process),
        "latest": [_request(api.request_count - back, request) for back, request in enumerate(newest)],
    }


def _request(number: int, request: RecordedRequest) -> dict[str, object]:
    return {
        "number": number,
        "time": request.time,
        "method": request.method,
        "path": request.path,
        "operation": request.operation,
        "status": request.status,
        "fault": None if request.fault is None else request.fault.value,
        "replayed": request.replayed,
        "correlationId": request.correlation_id,
    }
