"""How syncs start, what becomes of them, and which one an endpoint speaks of; no timers run."""

import math
import random
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from codat_commerce_async.simulator._state.clock import parse_time
from codat_commerce_async.simulator._state.configuration import FIRST_PERIOD
from codat_commerce_async.simulator._state.records import Company, ScriptedSync, Sync, SyncSource, succeeded

__all__ = ["NewSync", "SyncRules", "Syncs", "period_to_latest", "usual_duration"]

_QUICK = 1.0


def usual_duration(chance: random.Random) -> float:
    """Seconds that a sync takes: log-normal around 12, from 2 to 120."""
    return min(120.0, max(2.0, chance.lognormvariate(math.log(12.0), 0.7)))


def _usual_outcomes() -> dict[int, float]:
    return {2000: 0.9, 2040: 0.1}


@dataclass(frozen=True, slots=True)
class SyncRules:
    """How syncs behave where nothing was scripted.

    `durations` draws the simulated seconds that one takes, `outcomes` maps codes to their weights. A sync
    can be seen `visibility_delay` simulated seconds after its start; `find_by_commerce_id` lets the status
    endpoint take the commerce id too.
    """

    durations: Callable[[random.Random], float] = usual_duration
    outcomes: Mapping[int, float] = field(default_factory=_usual_outcomes)
    visibility_delay: float = 0.0
    find_by_commerce_id: bool = False

    def __post_init__(self) -> None:
        if not self.outcomes:
            raise ValueError("outcomes takes at least one code with its weight")
        if not self.visibility_delay >= 0:
            raise ValueError("visibility_delay takes seconds, 0 or more")


@dataclass(frozen=True, slots=True)
class NewSync:
    """What somebody wants synced: a period, who asks, under which idempotency key, and how it is to go."""

    period: tuple[float, float]
    source: SyncSource = "api"
    key: str | None = None
    outcome: ScriptedSync | None = None


class Syncs:
    """The syncs of all companies.

    What becomes of a sync depends on the seed, its company and its number there, never on what other
    companies do.
    """

    def __init__(self, seed: int, rules: SyncRules) -> None:
        self._seed = seed
        self._rules = rules
        self._by_id: dict[str, Sync] = {}

    def begin(self, company: Company, now: float, request: NewSync) -> Sync:
        """Start a sync; a given outcome goes before a scripted one, and both before the rules."""
        chance = random.Random(f"{self._seed}/{company.id}/{len(company.syncs)}")  # noqa: S311 - repeatable
        drawn = self._rules.durations(chance)
        outcome = request.outcome or self._next_outcome(company, request.period, chance, drawn)
        sync = Sync(
            company_id=company.id,
            sync_id=_uuid(chance),
            commerce_sync_id=_uuid(chance),
            source=request.source,
            idempotency_key=request.key,
            start=request.period[0],
            finish=request.period[1],
            started=now,
            ends=now + (drawn if outcome.duration is None else outcome.duration),
            final_code=outcome.code,
            final_message=outcome.text,
        )
        company.syncs.append(sync)
        company.active_syncs.append(sync)
        self._by_id[sync.sync_id] = sync
        if self._rules.find_by_commerce_id:
            self._by_id[sync.commerce_sync_id] = sync
        return sync

    def end(self, company: Company, sync: Sync) -> None:
        """Draw the conclusions from a sync that has ended."""
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
        """Whether the endpoints speak of this sync yet."""
        return now >= sync.started + self._rules.visibility_delay

    def find(self, company: Company, sync_id: str, now: float) -> Sync | None:
        """The company's sync with this id."""
        sync = self._by_id.get(sync_id)
        if sync is None or sync.company_id != company.id or not self.visible(sync, now):
            return None
        return sync

    def latest(self, company: Company, now: float) -> Sync | None:
        """The sync that started last."""
        return next((sync for sync in reversed(company.syncs) if self.visible(sync, now)), None)

    def last_successful(self, company: Company, now: float) -> Sync | None:
        """The sync that started last of those that went well."""
        newest = company.last_successful
        if newest is None or self.visible(newest, now):
            return newest
        earlier = (sync for sync in reversed(company.syncs) if sync.ends <= now and succeeded(sync.final_code))
        return next((sync for sync in earlier if self.visible(sync, now)), None)

    def forget(self, company: Company) -> None:
        """Drop the syncs of a company that was deleted."""
        for sync in company.syncs:
            self._by_id.pop(sync.sync_id, None)
            self._by_id.pop(sync.commerce_sync_id, None)

    def _next_outcome(
        self, company: Company, period: tuple[float, float], chance: random.Random, drawn: float
    ) -> ScriptedSync:
        if company.script:
            return company.script.popleft()
        quick = min(_QUICK, drawn)
        if company.deauthorized:
            return ScriptedSync(4220, duration=quick)
        if not (company.platform("Commerce") and company.platform("Accounting") and company.enabled):
            return ScriptedSync(4000, duration=quick)
        if _overlaps(company, period):
            return ScriptedSync.overlaps(duration=quick)
        if period[0] >= period[1]:
            return ScriptedSync(2040, duration=quick)
        codes, weights = tuple(self._rules.outcomes), tuple(self._rules.outcomes.values())
        return ScriptedSync(chance.choices(codes, weights)[0])


def period_to_latest(company: Company, until: float) -> tuple[float, float]:
    """From the last successful sync, or where the configuration says, up to a time."""
    if company.synced_to is not None:
        return company.synced_to, until
    schedule = (company.configuration or {}).get("schedule")
    start = schedule.get("startDate") if isinstance(schedule, dict) else None
    return (parse_time(start) if isinstance(start, str) else company.created - FIRST_PERIOD), until


def _overlaps(company: Company, period: tuple[float, float]) -> bool:
    taken = [*company.synced_periods, *((sync.start, sync.finish) for sync in company.active_syncs)]
    return any(start < period[1] and period[0] < finish for start, finish in taken)


def _merged(periods: list[tuple[float, float]]) -> list[tuple[float, float]]:
    merged: list[tuple[float, float]] = []
    for start, finish in sorted(periods):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(finish, merged[-1][1])
        elif start < finish:
            merged.append((start, finish))
    return merged


def _uuid(chance: random.Random) -> str:
    return str(uuid.UUID(int=chance.getrandbits(128), version=4))
