"""Start and end syncs, and find the one that an endpoint returns."""

import math
import random
import uuid
from collections.abc import Callable, Mapping

from attrs import field, frozen

from codat_commerce_async._core.callbacks import check_function
from codat_commerce_async._core.validation import check_mapping, check_number, check_seconds, require
from codat_commerce_async.models.causes import FailureCause
from codat_commerce_async.simulator._state.clock import parse_time
from codat_commerce_async.simulator._state.configuration import FIRST_PERIOD
from codat_commerce_async.simulator._state.failures import FAILURES
from codat_commerce_async.simulator._state.records import Company, ScriptedSync, Sync, SyncSource, succeeded

__all__ = ["NewSync", "SyncRules", "Syncs", "period_to_latest", "usual_duration", "usual_outcomes"]

_FAILS_AFTER = 1.0


def usual_duration(rng: random.Random) -> float:
    """Return the seconds that a sync takes: log-normal with a median of 12, from 2 to 120."""
    return min(120.0, max(2.0, rng.lognormvariate(math.log(12.0), 0.7)))


def usual_outcomes() -> dict[int | FailureCause, float]:
    """Return the default final codes of syncs with their weights."""
    return {2000: 0.9, 2040: 0.1}


@frozen
class SyncRules:
    """How syncs behave that are not scripted.

    `durations` returns the simulated seconds that a sync takes, `outcomes` maps final codes, and the causes
    of failures, to their weights. A sync
    becomes visible `visibility_delay` simulated seconds after its start. With `find_by_commerce_id` the status endpoint
    accepts the commerce sync id too.
    """

    durations: Callable[[random.Random], float] = usual_duration
    outcomes: Mapping[int | FailureCause, float] = field(factory=usual_outcomes)
    visibility_delay: float = 0.0
    find_by_commerce_id: bool = False

    def __attrs_post_init__(self) -> None:
        check_function("durations", self.durations)
        check_seconds("visibility_delay", self.visibility_delay)
        if not check_mapping("outcomes", self.outcomes):
            raise ValueError("outcomes must have at least one code with its weight")
        # A cause may be given as its word.
        known = {_outcome(end): check_number(f"outcomes[{end!r}]", each) for end, each in self.outcomes.items()}
        possible = sum(known.values()) > 0 and min(known.values()) >= 0
        require(possible, "outcomes", "mapped to weights of at least 0, not all of them 0", self.outcomes)
        object.__setattr__(self, "outcomes", known)


def _outcome(end: int | str) -> int | FailureCause:
    if isinstance(end, int):
        return end
    try:
        return FailureCause(end)
    except ValueError:
        raise ValueError(f"outcomes must have status codes and causes of failures as keys (got {end!r})") from None


@frozen
class NewSync:
    """A sync to start: its period, source and idempotency key, and its outcome if it is scripted."""

    period: tuple[float, float]
    source: SyncSource = "api"
    key: str | None = None
    outcome: ScriptedSync | None = None


class Syncs:
    """The syncs of all companies.

    The outcome of a sync depends on the seed, its company and its number there, not on other companies.
    """

    def __init__(self, seed: int, rules: SyncRules) -> None:
        self._seed = seed
        self._rules = rules
        self._by_id: dict[str, Sync] = {}

    def begin(self, company: Company, now: float, request: NewSync) -> Sync:
        """Start a sync; its own outcome takes precedence over the company's script, and both over the rules."""
        rng = random.Random(f"{self._seed}/{company.id}/{len(company.syncs)}")  # noqa: S311 - repeatable
        duration = self._rules.durations(rng)
        outcome = request.outcome or self._next_outcome(company, request.period, rng, duration)
        sync = Sync(
            company_id=company.id,
            sync_id=_uuid(rng),
            commerce_sync_id=_uuid(rng),
            source=request.source,
            idempotency_key=request.key,
            start=request.period[0],
            finish=request.period[1],
            started=now,
            ends=now + (duration if outcome.duration is None else outcome.duration),
            final_code=outcome.code,
            final_message=outcome.text,
            cause=outcome.cause,
        )
        company.syncs.append(sync)
        company.active_syncs.append(sync)
        self._by_id[sync.sync_id] = sync
        if self._rules.find_by_commerce_id:
            self._by_id[sync.commerce_sync_id] = sync
        return sync

    def end(self, company: Company, sync: Sync) -> None:
        """Update the company after one of its syncs has ended."""
        company.active_syncs.remove(sync)
        if not succeeded(sync.final_code):
            return
        if company.last_successful is None or company.last_successful.started <= sync.started:
            company.last_successful = sync
        company.synced_to = sync.finish if company.synced_to is None else max(company.synced_to, sync.finish)
        company.synced_periods = _merged([*company.synced_periods, (sync.start, sync.finish)])
        for connection in company.connections.values():
            if connection.linked:
                connection.last_sync = sync.ends

    def visible(self, sync: Sync, now: float) -> bool:
        """Return whether the endpoints return this sync yet."""
        return now >= sync.started + self._rules.visibility_delay

    def find(self, company: Company, sync_id: str, now: float) -> Sync | None:
        """Return the company's sync with this id; None if there is none, or it is not visible yet."""
        sync = self._by_id.get(sync_id)
        if sync is None or sync.company_id != company.id or not self.visible(sync, now):
            return None
        return sync

    def latest(self, company: Company, now: float) -> Sync | None:
        """Return the visible sync that started last; None without one."""
        return next((sync for sync in reversed(company.syncs) if self.visible(sync, now)), None)

    def last_successful(self, company: Company, now: float) -> Sync | None:
        """Return the visible successful sync that started last; None without one."""
        newest = company.last_successful
        if newest is None or self.visible(newest, now):
            return newest
        earlier = (sync for sync in reversed(company.syncs) if sync.ends <= now and succeeded(sync.final_code))
        return next((sync for sync in earlier if self.visible(sync, now)), None)

    def forget(self, company: Company) -> None:
        """Remove the syncs of a deleted company."""
        for sync in company.syncs:
            self._by_id.pop(sync.sync_id, None)
            self._by_id.pop(sync.commerce_sync_id, None)

    def _next_outcome(
        self, company: Company, period: tuple[float, float], rng: random.Random, duration: float
    ) -> ScriptedSync:
        if company.script:
            return company.script.popleft()
        soon = min(_FAILS_AFTER, duration)
        if (cause := _cause(company)) is not None:
            return _failing(cause, soon)
        if _overlaps(company, period):
            return ScriptedSync.overlaps(duration=soon)
        if period[0] >= period[1]:
            return ScriptedSync(2040, duration=soon)
        ends, weights = tuple(self._rules.outcomes), tuple(self._rules.outcomes.values())
        end = rng.choices(ends, weights)[0]
        return ScriptedSync(end) if isinstance(end, int) else _failing(end, soon)


def _failing(cause: FailureCause, soon: float) -> ScriptedSync:
    return ScriptedSync.failing(cause, soon if FAILURES[cause].is_early else None)


def _cause(company: Company) -> FailureCause | None:
    """Return why the company's syncs fail; None if they do not."""
    if (cause := _lasting_cause(company)) is not None:
        return cause
    if company.deauthorized:
        return FailureCause.DEAUTHORIZED_COMPANY
    if not (company.platform("Commerce") and company.platform("Accounting")):
        return FailureCause.UNLINKED_CONNECTION
    return None if company.enabled else FailureCause.SYNC_DISABLED


def _lasting_cause(company: Company) -> FailureCause | None:
    company.conditions = [one for one in company.conditions if one.lasts(company.configuration or {})]
    return company.conditions[0].cause if company.conditions else None


def period_to_latest(company: Company, until: float) -> tuple[float, float]:
    """Return the period from the last successful sync, or from the configured start, up to a time."""
    if company.synced_to is not None:
        return company.synced_to, until
    schedule = (company.configuration or {}).get("schedule")
    start = schedule.get("startDate") if isinstance(schedule, dict) else None
    return (parse_time(start) if isinstance(start, str) else company.created - FIRST_PERIOD), until


def _overlaps(company: Company, period: tuple[float, float]) -> bool:
    used = [*company.synced_periods, *((sync.start, sync.finish) for sync in company.active_syncs)]
    return any(start < period[1] and period[0] < finish for start, finish in used)


def _merged(periods: list[tuple[float, float]]) -> list[tuple[float, float]]:
    merged: list[tuple[float, float]] = []
    for start, finish in sorted(periods):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(finish, merged[-1][1])
        elif start < finish:
            merged.append((start, finish))
    return merged


def _uuid(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))
