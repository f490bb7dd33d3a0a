"""The simulator at a glance: counts, and the latest of everything, as JSON can carry it."""

import math
from itertools import islice

from codat_commerce_async.simulator._clock import Clock
from codat_commerce_async.simulator._exchange import SeenRequest
from codat_commerce_async.simulator._quota import QuotaLedger
from codat_commerce_async.simulator._records import Sync
from codat_commerce_async.simulator._service import Service
from codat_commerce_async.simulator._tally import CompanyState
from codat_commerce_async.simulator._world import World

__all__ = ["present_state"]

_COMPANIES = 300
_SYNCS = 40
_REQUESTS = 40


def present_state(world: World, quota: QuotaLedger, service: Service, clock: Clock) -> dict[str, object]:
    """What the page shows; times are simulated epoch seconds, and no list is longer than some hundred items."""
    now = clock.now()
    return {
        "now": now,
        "speed": clock.speed,
        "companies": _companies(world),
        "syncs": _syncs(world, now),
        "quota": _quota(quota, now),
        "requests": _requests(service),
    }


def _companies(world: World) -> dict[str, object]:
    tally = world.tally
    latest = [(world.companies[company_id], state) for company_id, state in tally.latest_companies(_COMPANIES)]
    return {
        "total": len(world.companies),
        "linked": world.linked_companies,
        **{state.value: tally.companies[state] for state in CompanyState},
        # A company keeps its place while others come and go.
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


def _syncs(world: World, now: float) -> dict[str, object]:
    tally = world.tally
    lists = {
        "latestRunning": tally.latest_running(_SYNCS),
        "latestEnded": tally.latest_ended(_SYNCS),
        "latestFailed": tally.latest_failed(_SYNCS),
    }
    return {
        "running": tally.running,
        "succeeded": tally.succeeded,
        "failed": tally.failed,
        **{name: [_sync(world, sync, now) for sync in syncs] for name, syncs in lists.items()},
    }


def _sync(world: World, sync: Sync, now: float) -> dict[str, object]:
    company = world.companies.get(sync.company_id)
    return {
        "id": sync.sync_id,
        "companyId": sync.company_id,
        "company": None if company is None else company.name,
        "origin": sync.origin,
        "code": sync.code(now),
        "status": sync.status(now),
        "message": sync.message(now),
        "started": sync.started,
        "ended": sync.ends if now >= sync.ends else None,
    }


def _quota(quota: QuotaLedger, now: float) -> dict[str, object]:
    remaining = quota.remaining(now)
    return {
        "perDay": quota.limit(),
        "leftToday": remaining if math.isfinite(remaining) else None,
        "resets": quota.reset(now),
        "perMinute": quota.per_minute,
        "lastMinute": quota.last_minute(now),
        "busiestMinute": quota.busiest,
    }


def _requests(service: Service) -> dict[str, object]:
    newest = islice(reversed(service.requests), _REQUESTS)
    return {
        "total": service.seen,
        "faulty": service.faulty,
        "latest": [_request(service.seen - back, request) for back, request in enumerate(newest)],
    }


def _request(number: int, request: SeenRequest) -> dict[str, object]:
    return {
        "number": number,
        "time": request.time,
        "method": request.method,
        "path": request.path,
        "operation": request.operation,
        "status": request.status,
        "fault": None if request.fault is None else request.fault.value,
        "replayed": request.replayed,
    }
