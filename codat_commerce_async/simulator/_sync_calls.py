"""What Codat does and says when it is asked to sync, or how a sync does."""

from codat_commerce_async.simulator._calls import Call, invalid, time_field
from codat_commerce_async.simulator._company_calls import company_of
from codat_commerce_async.simulator._exchange import Refusal
from codat_commerce_async.simulator._present import (
    present_company_sync_status,
    present_sync_status,
    present_sync_summary,
)
from codat_commerce_async.simulator._records import Company, Sync
from codat_commerce_async.simulator._syncs import Asked, period_to_latest
from codat_commerce_async.simulator._world import World

__all__ = [
    "get_last_successful_sync",
    "get_latest_sync",
    "get_sync",
    "get_sync_status",
    "list_syncs",
    "request_sync",
    "request_sync_for_date_range",
]


def request_sync(world: World, call: Call) -> object:
    """Sync from the last successful sync up to `syncTo`, or to now."""
    company = company_of(world, call)
    body = call.object_body() if call.has_body and call.body is not None else {}
    until = call.now if body.get("syncTo") is None else time_field(body, "syncTo")
    sync = world.start_sync(company, call.now, Asked(period_to_latest(company, until), key=call.key))
    return present_sync_summary(company, sync, call.now)


def request_sync_for_date_range(world: World, call: Call) -> object:
    """Sync the period of `dateRange`, whose end is called `finish`."""
    company = company_of(world, call)
    period = call.object_body().get("dateRange")
    if not isinstance(period, dict):
        raise invalid("dateRange", "dateRange takes an object with start and finish.")
    start, finish = (time_field(period, name, "dateRange.") for name in ("start", "finish"))
    if finish <= start:
        raise invalid("dateRange.finish", "dateRange.finish has to be later than dateRange.start.")
    sync = world.start_sync(company, call.now, Asked((start, finish), key=call.key))
    return present_sync_summary(company, sync, call.now)


def get_sync_status(world: World, call: Call) -> object:
    """The newest sync, with both of its ids."""
    company = company_of(world, call)
    sync = _found(company, world.syncs.latest(company, call.now))
    return present_sync_status(company, sync, call.now)


def get_last_successful_sync(world: World, call: Call) -> object:
    """The newest sync of those that went well."""
    company = company_of(world, call)
    sync = _found(company, world.syncs.last_successful(company, call.now))
    return present_company_sync_status(sync, call.now)


def get_latest_sync(world: World, call: Call) -> object:
    """The newest sync."""
    company = company_of(world, call)
    return present_company_sync_status(_found(company, world.syncs.latest(company, call.now)), call.now)


def get_sync(world: World, call: Call) -> object:
    """The sync with this id; a commerce id is none, unless the rules say so."""
    company = company_of(world, call)
    sync = world.syncs.find(company, call.values[1], call.now)
    return present_company_sync_status(_found(company, sync), call.now)


def list_syncs(world: World, call: Call) -> object:
    """Every sync of the company, newest first."""
    company = company_of(world, call)
    seen = [sync for sync in reversed(company.syncs) if world.syncs.visible(sync, call.now)]
    return [present_company_sync_status(sync, call.now) for sync in seen]


def _found(company: Company, sync: Sync | None) -> Sync:
    if sync is None:
        raise Refusal(404, f"There is no such sync of company {company.id}.")
    return sync
