"""What the web server's processes share, in one SQLite file, and what remains after a restart."""

import json
import sqlite3
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

from codat_commerce_async import SyncHandle, SyncStatus
from codat_commerce_async.models.companies import Company
from codat_commerce_async.syncing.diagnosis import Diagnosis

# The index is what makes two clicks, on whichever processes, one sync.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS merchants (id TEXT PRIMARY KEY, name TEXT, connections TEXT);
CREATE TABLE IF NOT EXISTS syncs (
    number INTEGER PRIMARY KEY, company_id TEXT, key TEXT, source TEXT, requested_at REAL, owner INTEGER,
    handle TEXT, commerce_sync_id TEXT, sync_id TEXT, status TEXT, ended_at REAL, problem TEXT, diagnosis TEXT
);
CREATE UNIQUE INDEX IF NOT EXISTS one_running ON syncs (company_id) WHERE ended_at IS NULL;
CREATE INDEX IF NOT EXISTS newest ON syncs (company_id, number);
CREATE TABLE IF NOT EXISTS webhooks (number INTEGER PRIMARY KEY, type TEXT, company_id TEXT, received_at REAL);
CREATE TABLE IF NOT EXISTS processes (
    pid INTEGER PRIMARY KEY, seen REAL, requests INTEGER, syncs INTEGER, pages INTEGER
);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT);
"""
_NEWEST = "SELECT * FROM syncs WHERE number IN (SELECT max(number) FROM syncs GROUP BY company_id)"
_SAME = "company_id = ? AND (sync_id = ? OR commerce_sync_id = ?)"
_WEBHOOKS_SHOWN = 12
# Seconds after which a process that has not reported counts as ended.
_LIFETIME = 3.0


class PendingSync(NamedTuple):
    """A sync that a process has to start, or to follow if it has a handle."""

    number: int
    company_id: str
    key: str
    handle: SyncHandle | None


class Store:
    """The rows; every method is one short transaction."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._db = database

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the file, and create the tables unless they exist."""
        database = sqlite3.connect(path, timeout=10, isolation_level=None)
        database.row_factory = sqlite3.Row
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.executescript(_SCHEMA)
        return cls(database)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def version(self) -> tuple[int, int]:
        """Return a value that changes with every change of the file, by this process or another."""
        (others,) = self._db.execute("PRAGMA data_version").fetchone()
        return others, self._db.total_changes

    def set_merchants(self, companies: Sequence[Company]) -> None:
        """Replace the merchants."""
        rows = [(one.id, one.name, json.dumps(_connections(one))) for one in companies]
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("DELETE FROM merchants")
            self._db.executemany("INSERT INTO merchants VALUES (?, ?, ?)", rows)

    def merchant_ids(self) -> list[str]:
        """Return the ids of all merchants."""
        return [row["id"] for row in self._db.execute("SELECT id FROM merchants ORDER BY name")]

    def request_sync(self, company_id: str) -> bool:
        """Record a sync to be started; return False if one of the merchant is running, or there is no such merchant."""
        added = self._db.execute(
            "INSERT OR IGNORE INTO syncs (company_id, key, source, requested_at) "
            "SELECT id, ?, 'page', ? FROM merchants WHERE id = ?",
            (str(uuid.uuid4()), time.time(), company_id),
        )
        return added.rowcount == 1

    def claim(self, pid: int) -> PendingSync | None:
        """Take one sync that no living process has; None without one."""
        row = self._db.execute(
            "UPDATE syncs SET owner = ? WHERE number = (SELECT number FROM syncs WHERE ended_at IS NULL AND "
            "(owner IS NULL OR owner NOT IN (SELECT pid FROM processes WHERE seen > ?)) ORDER BY number LIMIT 1) "
            "RETURNING *",
            (pid, time.time() - _LIFETIME),
        ).fetchone()
        if row is None:
            return None
        handle = None if row["handle"] is None else SyncHandle.from_json(row["handle"])
        return PendingSync(row["number"], row["company_id"], row["key"], handle)

    def set_handle(self, number: int, handle: SyncHandle) -> None:
        """Record that a sync was started."""
        self._db.execute(
            "UPDATE syncs SET handle = ?, commerce_sync_id = ?, sync_id = ? WHERE number = ?",
            (handle.to_json(), handle.commerce_sync_id, handle.sync_id, number),
        )

    def set_status(self, number: int, status: SyncStatus) -> None:
        """Record the status of a sync, and its ids."""
        self._db.execute(
            "UPDATE syncs SET status = ?, sync_id = coalesce(?, sync_id), "
            "commerce_sync_id = coalesce(?, commerce_sync_id) WHERE number = ?",
            (json.dumps(status.to_dict()), status.sync_id, status.commerce_sync_id, number),
        )

    def end(self, number: int, *, diagnosis: Diagnosis | None = None, problem: dict[str, object] | None = None) -> None:
        """Record the end of a sync: why it failed, or the error because of which it cannot be followed."""
        self._db.execute(
            "UPDATE syncs SET ended_at = ?, diagnosis = ?, problem = ? WHERE number = ?",
            (time.time(), diagnosis and diagnosis.to_json(), problem and json.dumps(problem), number),
        )

    def found(self, company_id: str, status: SyncStatus) -> None:
        """Record a sync that Codat reports and this application did not request."""
        if status.sync_id is None or self.is_running(company_id):
            return
        same = (company_id, status.sync_id, status.commerce_sync_id)
        known = self._db.execute(
            f"SELECT number FROM syncs WHERE {_SAME} ORDER BY number DESC LIMIT 1",  # noqa: S608 - a constant
            same,
        ).fetchone()
        if known is not None:
            # One that could not be followed to its end, for example because the quota was exhausted.
            self._db.execute(
                "UPDATE syncs SET problem = NULL, ended_at = NULL, owner = NULL "
                "WHERE number = ? AND problem IS NOT NULL",
                (known["number"],),
            )
            return
        handle = SyncHandle(company_id=company_id, sync_id=status.sync_id, commerce_sync_id=status.commerce_sync_id)
        self._db.execute(
            "INSERT OR IGNORE INTO syncs (company_id, source, requested_at, handle, commerce_sync_id, sync_id, status) "
            "VALUES (?, 'elsewhere', ?, ?, ?, ?, ?)",
            (
                company_id,
                time.time() if status.sync_utc is None else status.sync_utc.timestamp(),
                handle.to_json(),
                status.commerce_sync_id,
                status.sync_id,
                json.dumps(status.to_dict()),
            ),
        )

    def is_running(self, company_id: str) -> bool:
        """Return whether a sync of the merchant is being started or followed."""
        query = "SELECT 1 FROM syncs WHERE company_id = ? AND ended_at IS NULL"
        return self._db.execute(query, (company_id,)).fetchone() is not None

    def add_webhook(self, event_type: str, company_id: str | None) -> None:
        """Record a webhook."""
        self._db.execute(
            "INSERT INTO webhooks (type, company_id, received_at) VALUES (?, ?, ?)",
            (event_type, company_id, time.time()),
        )

    def webhooks_after(self, number: int) -> list[tuple[int, str, str | None]]:
        """Return the number, type and company id of later webhooks, oldest first."""
        query = "SELECT number, type, company_id FROM webhooks WHERE number > ? ORDER BY number"
        return [tuple(row) for row in self._db.execute(query, (number,))]

    def newest_webhook(self) -> int:
        """Return the number of the newest webhook, or 0."""
        (number,) = self._db.execute("SELECT coalesce(max(number), 0) FROM webhooks").fetchone()
        return int(number)

    def report(self, pid: int, requests: int, syncs: int, pages: int) -> bool:
        """Record that a process lives, and what it has; return whether it is the first of all that do."""
        now = time.time()
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("DELETE FROM processes WHERE seen < ?", (now - _LIFETIME,))
            self._db.execute(
                "INSERT OR REPLACE INTO processes VALUES (?, ?, ?, ?, ?)", (pid, now, requests, syncs, pages)
            )
        (first,) = self._db.execute("SELECT min(pid) FROM processes").fetchone()
        return bool(first == pid)

    def has_open_page(self) -> bool:
        """Return whether a page is open, on whichever process."""
        return self._db.execute("SELECT 1 FROM processes WHERE pages > 0").fetchone() is not None

    def leave(self, pid: int) -> None:
        """Record the end of a process, so that others take its syncs at once."""
        self._db.execute("DELETE FROM processes WHERE pid = ?", (pid,))

    def set_fact(self, name: str, value: object) -> None:
        """Record a value, if it has changed."""
        self._db.execute(
            "INSERT INTO facts VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value "
            "WHERE value <> excluded.value",
            (name, json.dumps(value)),
        )

    def sections(self) -> dict[str, object]:
        """Return all that the page shows, by section."""
        facts = {row["name"]: json.loads(row["value"]) for row in self._db.execute("SELECT * FROM facts")}
        syncs = {row["company_id"]: _sync(row) for row in self._db.execute(_NEWEST)}
        names = {}
        merchants = []
        for row in self._db.execute("SELECT * FROM merchants ORDER BY name"):
            names[row["id"]] = row["name"]
            connections = json.loads(row["connections"])
            merchants.append(
                {"id": row["id"], "name": row["name"], "connections": connections, "sync": syncs.get(row["id"])}
            )
        webhooks = self._db.execute("SELECT * FROM webhooks ORDER BY number DESC LIMIT ?", (_WEBHOOKS_SHOWN,))
        processes = self._db.execute("SELECT pid, requests, syncs FROM processes ORDER BY pid")
        return {
            "merchants": {"loaded": "loaded" in facts, "problem": facts.get("problem"), "items": merchants},
            "webhooks": [
                {
                    "number": row["number"],
                    "type": row["type"],
                    "merchant": names.get(row["company_id"]),
                    "at": row["received_at"],
                }
                for row in webhooks
            ],
            "quota": {"processes": [dict(row) for row in processes], **(facts.get("quota") or {})},
        }


def _connections(company: Company) -> list[dict[str, object]]:
    return [
        {"platform": one.platform_name, "type": one.source_type, "status": one.status, "linked": one.is_linked}
        for one in company.data_connections
    ]


def _sync(row: sqlite3.Row) -> dict[str, object]:
    status = None if row["status"] is None else SyncStatus.from_dict(json.loads(row["status"]))
    diagnosis = None if row["diagnosis"] is None else json.loads(row["diagnosis"])
    return {
        "number": row["number"],
        "source": row["source"],
        "state": _state(row, status),
        "text": None if status is None else status.state.description,
        "message": None if status is None or not status.failed else status.error_message,
        "startedAt": row["requested_at"],
        "endedAt": row["ended_at"],
        "problem": None if row["problem"] is None else json.loads(row["problem"]),
        "diagnosis": diagnosis,
    }


def _state(row: sqlite3.Row, status: SyncStatus | None) -> str:
    if row["problem"] is not None:
        return "unknown" if row["handle"] is not None else "not-started"
    if row["ended_at"] is not None and status is not None:
        return "succeeded" if status.succeeded else "failed"
    if status is not None and status.failed:
        return "diagnosing"
    return "starting" if row["handle"] is None else "running"
