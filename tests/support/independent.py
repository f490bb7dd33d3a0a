"""A Codat that shares no code with the simulator: it starts syncs, fails at will, and counts what it started."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate
from random import Random
from typing import Any
from uuid import UUID

from multidict import CIMultiDict

from codat_commerce_async._core.transport import Request, Response
from codat_commerce_async.errors import TransportError
from codat_commerce_async.policies import Timeouts

__all__ = ["IndependentServer", "StartedSync"]

_KEY_MEMORY = 90 * 60.0


@dataclass
class StartedSync:
    """A sync at the server; `key` and `period` are those of the request, None for an external sync."""

    company_id: str
    sync_id: str
    commerce_sync_id: str
    began: float
    ends: float
    visible_from: float
    key: str | None
    period: str | None


class IndependentServer:
    """Respond as Codat documents; a share of `fails` of the requests gets a 5xx, and a share of `loses` no response.

    Half of these failures come after the work was done. `now` is the true time; `date_error` is added to the `Date`
    header, which None leaves out.
    """

    def __init__(
        self,
        random: Random,
        now: Callable[[], float],
        *,
        fails: float = 0.0,
        loses: float = 0.0,
        longest_delay: float = 5.0,
        whole_seconds: bool = False,
        date_error: float | None = 0.0,
    ) -> None:
        self.syncs: list[StartedSync] = []
        self.requests = 0
        self._random = random
        self._now = now
        self.fails = fails
        self.loses = loses
        self._longest_delay = longest_delay
        self._whole_seconds = whole_seconds
        self._date_error = date_error
        self._memory: dict[str, tuple[float, int, Any]] = {}

    async def send(self, request: Request, timeouts: Timeouts) -> Response:
        self.requests += 1
        await asyncio.sleep(self._random.uniform(0.02, 0.3))
        if request.before_send is not None:
            request.before_send()
        if self._random.random() < self.loses / 2:
            raise TransportError("the connection was lost")
        status, value = self.post(request) if request.method == "POST" else self._get(request.target)
        responded_at = self._now()
        await asyncio.sleep(self._random.uniform(0.02, 0.3))
        if self._random.random() < self.loses / 2:
            raise TransportError("the connection was lost")
        headers = CIMultiDict[str]()
        if self._date_error is not None:
            headers["Date"] = formatdate(responded_at + self._date_error, usegmt=True)
        return Response(status, headers, json.dumps(value).encode())

    async def aclose(self) -> None:
        pass

    def start(self, company_id: str, key: str | None, period: str | None) -> StartedSync:
        """Start a sync; without a key it is an external one."""
        now, random = self._now(), self._random
        sync = StartedSync(
            company_id,
            self._id(),
            self._id(),
            float(int(now)) if self._whole_seconds else now,
            now + random.uniform(0.2, 90.0),
            now + random.uniform(0.0, self._longest_delay),
            key,
            period,
        )
        self.syncs.append(sync)
        return sync

    def started_by(self, company_id: str, period: str) -> list[StartedSync]:
        """Return the syncs that requests of this period started."""
        return [sync for sync in self.syncs if (sync.company_id, sync.period) == (company_id, period)]

    def _id(self) -> str:
        return str(UUID(int=self._random.getrandbits(128), version=4))

    def post(self, request: Request) -> tuple[int, Any]:
        key, now = request.headers["Idempotency-Key"], self._now()
        remembered = self._memory.get(key)
        if remembered is not None and now - remembered[0] < _KEY_MEMORY:
            return remembered[1], remembered[2]
        rng = self._random.random()
        if rng < self.fails / 2:
            response = self._failure()
        else:
            company_id = next(part for part in request.target.split("/") if part.startswith("company-"))
            response = 200, self._summary(self.start(company_id, key, (request.body or b"").decode()))
            if rng < self.fails:
                response = self._failure()
        self._memory[key] = (now, response[0], response[1])
        return response

    def _get(self, target: str) -> tuple[int, Any]:
        if self._random.random() < self.fails:
            return self._failure()
        company_id = next(part for part in target.split("/") if part.startswith("company-"))
        now = self._now()
        visible = [sync for sync in self.syncs if sync.company_id == company_id and sync.visible_from <= now]
        visible.sort(key=lambda sync: sync.began)
        if target.endswith("/list/status"):
            return 200, [self._status(sync) for sync in visible]
        if target.startswith("/meta/"):
            return (200, self._newest(visible[-1])) if visible else _NOT_FOUND
        sync_id = target.split("/")[-2]
        found = [sync for sync in visible if sync.sync_id == sync_id]
        return (200, self._status(found[0])) if found else _NOT_FOUND

    def _failure(self) -> tuple[int, Any]:
        return 500, {"statusCode": 500, "service": "Sync", "error": "It broke.", "correlationId": self._id()}

    def _summary(self, sync: StartedSync) -> Any:
        return {**self._state(sync), "commerceSyncId": sync.commerce_sync_id}

    def _status(self, sync: StartedSync) -> Any:
        return {**self._state(sync), "syncId": sync.sync_id}

    def _newest(self, sync: StartedSync) -> Any:
        return {**self._status(sync), "commerceSyncId": sync.commerce_sync_id, "dataConnections": []}

    def _state(self, sync: StartedSync) -> Any:
        done = self._now() >= sync.ends
        moment = datetime.fromtimestamp(sync.began, UTC).isoformat().replace("+00:00", "Z")
        return {
            "companyId": sync.company_id,
            "syncStatusCode": 2000 if done else 1000,
            "syncStatus": "Complete" if done else "Started",
            "syncUtc": moment,
            "dataPushed": done,
        }


_NOT_FOUND: tuple[int, Any] = 404, {"statusCode": 404, "service": "Sync", "error": "Not found.", "correlationId": "404"}
