"""Store companies, connections, configurations and syncs, and change them as simulated time passes."""

import copy
import heapq
import random
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from codat_commerce_async.models.causes import FailureCause
from codat_commerce_async.simulator._state.catalog import Platform
from codat_commerce_async.simulator._state.clock import DAY, timestamp
from codat_commerce_async.simulator._state.configuration import DEFAULT_SYNC_HOUR, default_configuration
from codat_commerce_async.simulator._state.failures import apply_failure, undo
from codat_commerce_async.simulator._state.records import Company, Connection, ScriptedSync, Sync, succeeded
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
_MAX_FAILED_DAYS = 31
_PASSCODE_SECONDS = 30.0
_MAX_EVENTS = 10_000
_WRITTEN_TYPE = "journalEntries"
_CONNECTION_ERRORS = {
    FailureCause.UNLINKED_CONNECTION: ("Unlinked", "403", "The connection was unlinked."),
    FailureCause.DEAUTHORIZED_COMPANY: ("Deauthorized", "401", "The authorization was withdrawn."),
    FailureCause.SUBSCRIPTION_LAPSED: ("Linked", "402", "The subscription has lapsed."),
}
_BY_CONNECTION = {FailureCause.UNLINKED_CONNECTION, FailureCause.DEAUTHORIZED_COMPANY}
_COVERED = {FailureCause.DUPLICATE_PERIOD, FailureCause.OVERLAPPING_PERIOD}


class Store:
    """Companies, connections, configurations, syncs, texts and accounts of one Codat client.

    Future events (the end of a sync, a daily sync) are scheduled, and happen when `run_due_events` is next called.
    There are no timers.
    """

    def __init__(self, *, seed: int, rules: SyncRules, daily_schedule: bool, company_limit: int | None) -> None:
        self.random = random.Random(seed)  # noqa: S311 - repeatable, no secret
        self.client_id = self.new_id()
        self.companies: dict[str, Company] = {}
        self.syncs = Syncs(seed, rules)
        self.statistics = Statistics()
        self.texts = Texts()
        self.visible_accounts: dict[str, list[str] | None] = {}
        self.events: deque[dict[str, object]] = deque(maxlen=_MAX_EVENTS)
        self.linked_companies = 0
        self.merchants: dict[str, str] = {}
        self.webhook_consumers: dict[str, dict[str, object]] = {}
        self._passcodes: dict[tuple[str, str], float] = {}
        self.company_limit = company_limit
        self._daily_schedule = daily_schedule
        self._scheduled: list[tuple[float, int, Callable[[float], None]]] = []
        self._sequence = 0
        self._companies_created = 0

    def new_id(self) -> str:
        """Return a new id."""
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))

    def run_due_events(self, now: float) -> None:
        """Run the scheduled events that are due by now, in order."""
        while self._scheduled and self._scheduled[0][0] <= now:
            at, _, callback = heapq.heappop(self._scheduled)
            callback(at)

    def next_due(self) -> float | None:
        """Return the time of the next scheduled event; None without one."""
        return self._scheduled[0][0] if self._scheduled else None

    def emit(self, event_type: str, at: float, payload: dict[str, object]) -> None:
        """Append an event for webhooks."""
        event: dict[str, object] = {
            "id": self.new_id(),
            "eventType": event_type,
            "generatedDate": timestamp(at),
            "payload": payload,
        }
        self.events.append(event)

    def add_company(self, now: float, name: str, company_id: str | None = None) -> Company:
        """Create a company."""
        company = Company(self.new_id() if company_id is None else company_id, name, now, self._companies_created)
        if company.id in self.companies:
            raise ValueError(f"company_id must be unique ({company.id!r} exists already)")
        self._companies_created += 1
        self.companies[company.id] = company
        self.statistics.update(company)
        self.emit("company.created", now, serialize_company_details(company))
        self._schedule_daily(company, now)
        return company

    def delete_company(self, company_id: str, now: float) -> None:
        """Delete a company with its connections, configuration and syncs."""
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
            event = "connected" if before == "PendingAuth" else "reconnected"
            self._emit_connection(f"connection.{event}", company, connection, now)
        elif before in {"Linked", "PendingAuth"}:
            event = "disconnected" if before == "Linked" else "failed"
            self._emit_connection(f"connection.{event}", company, connection, now)

    def configuration(self, company: Company) -> dict[str, object]:
        """Return a company's configuration, or the default one if none was set."""
        return default_configuration(company) if company.configuration is None else company.configuration

    def set_configuration(self, company: Company, configuration: Mapping[str, object], now: float) -> None:
        """Replace a company's configuration, and schedule its next daily sync accordingly."""
        company.configuration = {**configuration, "companyId": company.id}
        self._schedule_daily(company, now)

    def cause_failure(self, company: Company, cause: FailureCause, now: float) -> None:
        """Bring a company into a state in which its syncs fail because of the cause."""
        if cause in _CONNECTION_ERRORS:
            status, code, text = _CONNECTION_ERRORS[cause]
            self._set_ledger_status(company, status, (code, text), now)
        if cause in _COVERED:
            # Another sync covers the period, so the next one fails; that does not last.
            if not company.active_syncs:
                self.start_sync(company, now, NewSync(period_to_latest(company, now), source="external"))
            company.script.appendleft(ScriptedSync.failing(cause, 1.0))
        elif cause not in _BY_CONNECTION:
            company.configuration = copy.deepcopy(self.configuration(company))
            company.conditions.append(apply_failure(company.configuration, cause))

    def repair(self, company: Company, now: float) -> None:
        """Remove the causes of failures: relink the connections, and restore the configuration."""
        for connection in company.connections.values():
            connection.errors.clear()
            self.set_status(company, connection, "Linked", now)
        while company.conditions:
            company.configuration = copy.deepcopy(self.configuration(company))
            undo(company.configuration, company.conditions.pop())
        company.failed_days = 0
        self._schedule_daily(company, now)

    def _set_ledger_status(self, company: Company, status: str, error: tuple[str, str], now: float) -> None:
        for connection in company.connections.values():
            if connection.platform.source_type == "Accounting":
                self.set_status(company, connection, status, now)
                connection.errors.append(_connection_error(*error, now))

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
        """Return a one-time passcode for a company's Sync flow."""
        passcode = f"{self.random.randrange(1_000_000):06d}"
        self._passcodes[company.id, passcode] = now
        return passcode

    def redeem_passcode(self, company_id: str, passcode: str, now: float) -> bool:
        """Use a passcode; return False if it is unknown, used or older than 30 seconds."""
        issued = self._passcodes.pop((company_id, passcode), None)
        return issued is not None and now - issued <= _PASSCODE_SECONDS

    def _schedule(self, at: float, callback: Callable[[float], None]) -> None:
        self._sequence += 1
        heapq.heappush(self._scheduled, (at, self._sequence, callback))

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
            "dataType": _WRITTEN_TYPE,
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
        self.emit(f"{_WRITTEN_TYPE}.write.{result}", at, written)

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
        # An event that was scheduled before the hour changed is still there.
        if self.companies.get(company.id) is not company or company.daily_due != at:
            return
        self._schedule_daily(company, at)
        monthly = _schedule(company).get("selectedFrequency") == "Monthly"
        if company.linked and company.enabled and not (monthly and datetime.fromtimestamp(at, UTC).day > 1):
            self.start_sync(company, at, NewSync(period_to_latest(company, at), source="schedule"))

    def _count_failed_day(self, company: Company, sync: Sync) -> None:
        company.failed_days = 0 if succeeded(sync.final_code) else company.failed_days + 1
        if company.failed_days >= _MAX_FAILED_DAYS:
            company.configuration = {**self.configuration(company), "enable": False}


def _connection_error(code: str, text: str, now: float) -> dict[str, object]:
    return {
        "statusCode": code,
        "statusText": text,
        "errorMessage": text,
        "erroredOnUtc": timestamp(now),
        "status": "Active",
    }


def _schedule(company: Company) -> Mapping[str, object]:
    schedule = (company.configuration or {}).get("schedule")
    return schedule if isinstance(schedule, dict) else {}
