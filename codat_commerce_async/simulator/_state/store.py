"""All that the simulated Codat holds, as a function of calls and of the time they come at."""

import heapq
import random
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from codat_commerce_async.simulator._state.catalog import Platform
from codat_commerce_async.simulator._state.clock import DAY, timestamp
from codat_commerce_async.simulator._state.configuration import DEFAULT_SYNC_HOUR, default_configuration
from codat_commerce_async.simulator._state.records import Company, Connection, Sync, succeeded
from codat_commerce_async.simulator._state.serializers import (
    company_reference,
    serialize_company_details,
    serialize_connection,
)
from codat_commerce_async.simulator._state.statistics import Statistics
from codat_commerce_async.simulator._state.syncs import NewSync, SyncRules, Syncs, period_to_latest
from codat_commerce_async.simulator._state.texts import Texts

__all__ = ["Store"]

_HOUR = 3600.0
_FAILED_DAYS_ALLOWED = 31
_PASSCODE_SECONDS = 30.0
_EVENTS_KEPT = 10_000
_WRITTEN = "journalEntries"


class Store:
    """Companies, connections, configurations, syncs, texts and accounts of one Codat client.

    What is to happen by itself (a sync's end, a daily sync) waits in an agenda, and happens when `run_due_events`
    is next called: no timer runs.
    """

    def __init__(self, *, seed: int, rules: SyncRules, daily_schedule: bool, company_limit: int | None) -> None:
        self.random = random.Random(seed)  # noqa: S311 - repeatable chance, no secret
        self.client_id = self.new_id()
        self.companies: dict[str, Company] = {}
        self.syncs = Syncs(seed, rules)
        self.statistics = Statistics()
        self.texts = Texts()
        self.visible_accounts: dict[str, list[str] | None] = {}
        self.events: deque[dict[str, object]] = deque(maxlen=_EVENTS_KEPT)
        self.linked_companies = 0
        self.merchants: dict[str, str] = {}
        self._passcodes: dict[tuple[str, str], float] = {}
        self.company_limit = company_limit
        self._daily_schedule = daily_schedule
        self._scheduled: list[tuple[float, int, Callable[[float], None]]] = []
        self._numbered = 0
        self._created = 0

    def new_id(self) -> str:
        """An id that nothing had before."""
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))

    def run_due_events(self, now: float) -> None:
        """Let everything happen that was due by now, in order."""
        while self._scheduled and self._scheduled[0][0] <= now:
            at, _, happen = heapq.heappop(self._scheduled)
            happen(at)

    def next_due(self) -> float | None:
        """When something happens by itself next."""
        return self._scheduled[0][0] if self._scheduled else None

    def emit(self, event_type: str, at: float, payload: dict[str, object]) -> None:
        """Note an event that webhooks would tell of."""
        event: dict[str, object] = {
            "id": self.new_id(),
            "eventType": event_type,
            "generatedDate": timestamp(at),
            "payload": payload,
        }
        self.events.append(event)

    def add_company(self, now: float, name: str, company_id: str | None = None) -> Company:
        """Create a company."""
        company = Company(self.new_id() if company_id is None else company_id, name, now, self._created)
        if company.id in self.companies:
            raise ValueError(f"there is a company {company.id} already")
        self._created += 1
        self.companies[company.id] = company
        self.statistics.update(company)
        self.emit("company.created", now, serialize_company_details(company))
        self._schedule_daily(company, now)
        return company

    def delete_company(self, company_id: str, now: float) -> None:
        """Delete a company with everything it has."""
        company = self.companies.pop(company_id)
        self.linked_companies -= company.linked
        self.statistics.remove(company)
        self.syncs.forget(company)
        self.emit("company.deleted", now, serialize_company_details(company))

    def add_connection(self, company: Company, platform: Platform, now: float, status: str) -> Connection:
        """Connect a company to a platform."""
        connection = Connection(self.new_id(), platform, now, "PendingAuth")
        company.connections[connection.id] = connection
        self._emit_connection("connection.created", company, connection, now)
        self.set_status(company, connection, status, now)
        return connection

    def delete_connection(self, company: Company, connection: Connection, now: float) -> None:
        """Delete a connection."""
        was_linked = company.linked
        del company.connections[connection.id]
        self.linked_companies += company.linked - was_linked
        self._emit_connection("connection.deleted", company, connection, now)

    def set_status(self, company: Company, connection: Connection, status: str, now: float) -> None:
        """Change a connection's status."""
        before, was_linked = connection.status, company.linked
        connection.status = status
        self.linked_companies += company.linked - was_linked
        if status == before:
            return
        if status == "Linked":
            happened = "connected" if before == "PendingAuth" else "reconnected"
            self._emit_connection(f"connection.{happened}", company, connection, now)
        elif before in {"Linked", "PendingAuth"}:
            happened = "disconnected" if before == "Linked" else "failed"
            self._emit_connection(f"connection.{happened}", company, connection, now)

    def configuration(self, company: Company) -> dict[str, object]:
        """A company's configuration; until one was set, what its connections suggest."""
        return default_configuration(company) if company.configuration is None else company.configuration

    def set_configuration(self, company: Company, configuration: Mapping[str, object], now: float) -> None:
        """Replace a company's configuration; its next daily sync comes at the hour that it says."""
        company.configuration = {**configuration, "companyId": company.id}
        self._schedule_daily(company, now)

    def start_sync(
        self,
        company: Company,
        now: float,
        request: NewSync,
    ) -> Sync:
        """Start a sync."""
        sync = self.syncs.begin(company, now, request)
        self.statistics.begin(sync)
        self.statistics.update(company)
        if sync.ends <= now:
            self._end(sync, now)
        elif sync.ends < float("inf"):
            self._schedule(sync.ends, lambda at: self._end(sync, at))
        return sync

    def issue_passcode(self, company: Company, now: float) -> str:
        """A one-time passcode for a company's Sync flow."""
        passcode = f"{self.random.randrange(1_000_000):06d}"
        self._passcodes[company.id, passcode] = now
        return passcode

    def redeem_passcode(self, company_id: str, passcode: str, now: float) -> bool:
        """Use a passcode up; False for one that is unknown, used or older than 30 seconds."""
        issued = self._passcodes.pop((company_id, passcode), None)
        return issued is not None and now - issued <= _PASSCODE_SECONDS

    def _schedule(self, at: float, happen: Callable[[float], None]) -> None:
        self._numbered += 1
        heapq.heappush(self._scheduled, (at, self._numbered, happen))

    def _end(self, sync: Sync, at: float) -> None:
        company = self.companies.get(sync.company_id)
        if company is None or sync not in company.active_syncs:
            return
        self.syncs.end(company, sync)
        self.statistics.end(sync)
        self.statistics.update(company)
        if sync.source == "schedule":
            self._count_failed_day(company, sync)
        self._emit_end(company, sync, at)

    def _emit_end(self, company: Company, sync: Sync, at: float) -> None:
        if sync.pushed(at):
            self._emit_write(company, sync, at, "successful", "Success")
        elif not succeeded(sync.final_code):
            self._emit_write(company, sync, at, "unsuccessful", "Failed")

    def _emit_write(self, company: Company, sync: Sync, at: float, result: str, status: str) -> None:
        ledger = next((one for one in company.connections.values() if one.platform.source_type == "Accounting"), None)
        if ledger is None:
            return
        reference = company_reference(company)
        read = {
            "connectionId": ledger.id,
            "dataType": _WRITTEN,
            "recordsModified": True,
            "status": "Complete",
        }
        self.emit("read.completed", at, {"referenceCompany": reference, "dataTypes": [read]})
        written: dict[str, object] = {
            "id": self.new_id(),
            "type": "Create",
            "referenceCompany": reference,
            "connectionId": ledger.id,
            "requestedOnDate": timestamp(sync.started),
            "completedOnDate": timestamp(at),
            "status": status,
        }
        self.emit(f"{_WRITTEN}.write.{result}", at, written)

    def _emit_connection(self, event_type: str, company: Company, connection: Connection, now: float) -> None:
        payload: dict[str, object] = {
            "referenceCompany": company_reference(company),
            "connection": serialize_connection(company, connection),
        }
        self.emit(event_type, now, payload)

    def _schedule_daily(self, company: Company, now: float) -> None:
        if not self._daily_schedule:
            return
        hour = _schedule(company).get("syncHour")
        due = now // DAY * DAY + (hour if isinstance(hour, int) else DEFAULT_SYNC_HOUR) * _HOUR
        due += 0 if due > now else DAY
        if due != company.daily_due:
            company.daily_due = due
            self._schedule(due, lambda at: self._run_daily(company, at))

    def _run_daily(self, company: Company, at: float) -> None:
        # What was planned before the hour changed is still in the agenda.
        if self.companies.get(company.id) is not company or company.daily_due != at:
            return
        self._schedule_daily(company, at)
        monthly = _schedule(company).get("selectedFrequency") == "Monthly"
        if company.linked and company.enabled and not (monthly and datetime.fromtimestamp(at, UTC).day > 1):
            self.start_sync(company, at, NewSync(period_to_latest(company, at), source="schedule"))

    def _count_failed_day(self, company: Company, sync: Sync) -> None:
        company.failed_days = 0 if succeeded(sync.final_code) else company.failed_days + 1
        if company.failed_days >= _FAILED_DAYS_ALLOWED:
            company.configuration = {**self.configuration(company), "enable": False}


def _schedule(company: Company) -> Mapping[str, object]:
    schedule = (company.configuration or {}).get("schedule")
    return schedule if isinstance(schedule, dict) else {}
