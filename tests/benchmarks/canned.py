"""A server that responds to every request with bytes made beforehand, so that next to all the time is the client's.

python -m tests.benchmarks.canned       prints its port, and serves until its standard input ends
"""

# ruff: noqa: T201 - it prints for who started it

import asyncio
import json
import os
import sys
from importlib import import_module
from importlib.util import find_spec
from typing import cast

__all__ = ["COMPANY_ID", "PAGE", "STATUS", "SYNC_ID"]

COMPANY_ID = "20803807-4e9a-4cb7-b67b-9f889a3916e1"
SYNC_ID = "aa4c9dfd-e945-4424-9628-9e724f14c267"

# 1 kB, as the status of a failed sync.
STATUS = json.dumps(
    {
        "companyId": COMPANY_ID,
        "syncId": SYNC_ID,
        "syncStatusCode": 5130,
        "syncStatus": "PushError",
        "errorMessage": "One of the transactions could not be written. " * 8,
        "syncExceptionMessage": "The account that is mapped to payments no longer exists. " * 7,
        "syncUtc": "2026-10-27T10:22:43.6464237Z",
        "dataPushed": True,
    }
).encode()


def _connection(number: int) -> dict[str, object]:
    linked = number % 10 != 0
    error = {
        "statusCode": "401",
        "statusText": "Unauthorized",
        "errorMessage": "The merchant has revoked the authorization.",
        "erroredOnUtc": "2026-10-26T04:11:09.2041Z",
    }
    return {
        "id": f"ee2eb431-c0fa-4dc9-93fa-{number:012d}",
        "integrationId": "fd321cb6-7963-4506-b873-e99593a45e30",
        "integrationKey": "gbol",
        "sourceId": "8a156a5a-39cb-4f9d-856e-76ef9b9a9607",
        "sourceType": "Accounting",
        "platformName": "Xero",
        "linkUrl": f"https://link.codat.io/companies/{COMPANY_ID}/connections/ee2eb431-c0fa-4dc9-93fa-{number:012d}",
        "status": "Linked" if linked else "Deauthorized",
        "lastSync": "2026-10-27T10:22:43.6464237Z",
        "created": "2026-01-24T14:15:22Z",
        "dataConnectionErrors": [] if linked else [error],
        "connectionInfo": {"organisationId": f"org-{number:06d}", "region": "GB"},
    }


# 60 kB.
PAGE = json.dumps(
    {
        "results": [_connection(number) for number in range(100)],
        "pageNumber": 1,
        "pageSize": 100,
        "totalResults": 100,
        "_links": {
            "self": {"href": f"/companies/{COMPANY_ID}/connections"},
            "current": {"href": f"/companies/{COMPANY_ID}/connections?page=1&pageSize=100"},
        },
    }
).encode()


def _response(body: bytes) -> bytes:
    head = (
        "HTTP/1.1 200 OK\r\n"
        "Content-Type: application/json; charset=utf-8\r\n"
        "Date: Sun, 22 Nov 2026 17:00:00 GMT\r\n"
        "X-Rate-Limit-Limit: 1000000\r\n"
        "X-Rate-Limit-Remaining: 999999\r\n"
        "X-Rate-Limit-Reset: 1795392000\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


_STATUS, _PAGE, _NOTHING = _response(STATUS), _response(PAGE), _response(b"{}")
_FULL = 1000


class _Connection(asyncio.Protocol):
    """Respond by path: a page, a status, or a response that is held until all are released."""

    # Of all connections together: requests that wait for a response, and waiters for enough of them.
    held: list[asyncio.Transport] = []  # noqa: RUF012 - one server, one list
    watching: list[asyncio.Transport] = []  # noqa: RUF012 - likewise

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is none of asyncio's classes, though it does the same.
        self._transport = cast("asyncio.Transport", transport)
        self._unread = b""

    def data_received(self, data: bytes) -> None:
        *requests, self._unread = (self._unread + data).split(b"\r\n\r\n")
        for request in requests:
            path = request.split(b" ", 2)[1]
            if path.endswith(b"/full"):
                self.watching.append(self._transport)
            elif path.startswith(b"/companies/held"):
                self.held.append(self._transport)
            elif path.endswith(b"/release"):
                self._release()
            else:
                self._transport.write(_PAGE if b"/connections" in path else _STATUS)
            if self.watching and len(self.held) >= _FULL:
                self.watching.pop().write(_NOTHING)

    def _release(self) -> None:
        for transport in self.held:
            transport.write(_STATUS)
        self.held.clear()
        self._transport.write(_NOTHING)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Connection, "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


def main() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    if find_spec("uvloop"):
        import_module("uvloop").run(_serve())
    else:
        asyncio.run(_serve())


if __name__ == "__main__":
    main()
