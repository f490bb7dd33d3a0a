"""A simulated Codat that tests call without a socket, on a clock that they move."""

import base64
import json
from typing import Any
from urllib.parse import urlencode

from codat_commerce_async.simulator import Request, Response, Simulator

__all__ = ["NOON", "SimulatedApi", "authorization"]

NOON = 1_700_049_600.0  # 2023-11-15T12:00:00Z


def authorization(api_key: str = "simulator-key") -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(api_key.encode()).decode()}"}


class SimulatedApi:
    """A simulator whose wall clock stands still until the test advances it."""

    def __init__(self, **options: Any) -> None:
        self.wall = options.pop("start", NOON)
        self.simulator = Simulator(now=lambda: self.wall, **options)

    def wait(self, seconds: float) -> None:
        self.wall += seconds

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = None,
        raw: bytes | None = None,
        headers: dict[str, str] | None = None,
        **parameters: object,
    ) -> Response:
        """Send one request; what is given beyond the named is the query."""
        sent = {**authorization(self.simulator.api_key), "Content-Type": "application/json", **(headers or {})}
        if key is not None:
            sent["Idempotency-Key"] = key
        payload = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        return self.simulator.handle(Request(method, path, urlencode(parameters), sent, payload))

    def request(self, method: str, path: str, body: Any = None, **rest: Any) -> Any:
        """Send one request that must succeed, and return its decoded body."""
        response = self.send(method, path, body, **rest)
        assert (response.status, response.fault) == (200, None), response
        return json.loads(response.body)

    def error(self, method: str, path: str, body: Any = None, *, status: int, **rest: Any) -> dict[str, Any]:
        """Send one request that has to be refused, and return the error's body."""
        response = self.send(method, path, body, **rest)
        assert response.status == status, response
        content = json.loads(response.body)
        assert isinstance(content, dict)
        return content

    def request_sync(self, company_id: str, body: Any = None, **rest: Any) -> Any:
        return self.request("POST", f"/companies/{company_id}/sync/commerce/latest", body, **rest)

    def request_range(self, company_id: str, start: str, finish: str) -> Any:
        path = f"/meta/companies/{company_id}/sync/commerce/historic"
        return self.request("POST", path, {"dateRange": {"start": start, "finish": finish}})

    def status(self, company_id: str) -> Any:
        return self.request("GET", f"/meta/companies/{company_id}/sync/commerce/status")

    def sync_status(self, company_id: str, which: str = "latest") -> Any:
        return self.request("GET", f"/companies/{company_id}/sync/commerce/syncs/{which}/status")
