"""A transport that calls a simulator in the same process, without a socket."""

import asyncio
import base64
from collections.abc import Callable, Iterator, Mapping

from codat_commerce_async._core import transport as wire
from codat_commerce_async._core.callbacks import check_function
from codat_commerce_async.errors import ClientClosedError, RequestTimeoutError, TransportError
from codat_commerce_async.policies import Timeouts
from codat_commerce_async.simulator._api.faults import FAULTS, Break
from codat_commerce_async.simulator._api.http import Request, Response
from codat_commerce_async.simulator._simulator import Simulator

__all__ = ["InMemoryTransport"]

_LOST = ("the connection was lost before the response", True)
# The message of the real transport for each, and whether a retry is worthwhile.
_BREAKS = {
    Break.CLOSE: _LOST,
    Break.RESET: _LOST,
    Break.CUT_OFF: ("the response was cut off", True),
    Break.ENDLESS: ("the response is too large", False),
}


class InMemoryTransport:
    """Sends requests to a simulator by calling it, for `CodatCommerce(transport=...)`.

    Each request takes `latency()` seconds of the loop's time, half of them before the simulator handles it. Faults of
    the connection raise the same errors as the real transport. With a VirtualTimeLoop, and its `loop_wall_clock` for
    the simulator and the client, an hour of calls takes no time but that of the computation. `api_key` is sent instead
    of the client's (None: the simulator's).

    Args:
        simulator: The simulator to call.
        latency: Returns the seconds that a request takes.
        api_key: The key to send; None for the simulator's.
    """

    def __init__(
        self, simulator: Simulator, *, latency: Callable[[], float] = lambda: 0.0, api_key: str | None = None
    ) -> None:
        self._simulator = simulator
        check_function("latency", latency)
        self._latency = latency
        self._api_key = api_key
        self._closed = False

    async def send(self, request: wire.Request, timeouts: Timeouts) -> wire.Response:
        """Send one request and return its response; raises TransportError as the real transport does."""
        if self._closed:
            raise ClientClosedError("the client is closed")
        one_way = self._latency() / 2
        remaining = await _transit(one_way, min(timeouts.read, timeouts.total))
        response = self._simulator.handle(self._addressed(request))
        await _transit(response.delay + one_way, remaining)
        return _to_response(response)

    async def aclose(self) -> None:
        """Refuse further requests."""
        self._closed = True

    def _addressed(self, request: wire.Request) -> Request:
        path, _, query = request.target.partition("?")
        key = self._simulator.api_key if self._api_key is None else self._api_key
        authorization = f"Basic {base64.b64encode(key.encode()).decode()}"
        return Request(
            request.method, path, query, {**request.headers, "Authorization": authorization}, request.body or b""
        )


async def _transit(seconds: float, longest: float) -> float:
    """Sleep, and return the remaining seconds; raise RequestTimeoutError if none remain."""
    await asyncio.sleep(min(seconds, longest))
    if seconds >= longest:
        raise RequestTimeoutError("the response took too long")
    return longest - seconds


def _to_response(response: Response) -> wire.Response:
    broken = None if response.fault is None else FAULTS[response.fault].connection
    if broken is not None:
        message, retryable = _BREAKS[broken]
        raise TransportError(message, None, sent=True, retryable=retryable)
    return wire.Response(response.status, _Headers(response.headers), response.body)


class _Headers(Mapping[str, str]):
    """Headers whose names are not case-sensitive."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = {name.lower(): value for name, value in headers.items()}

    def __getitem__(self, name: str) -> str:
        return self._headers[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._headers)

    def __len__(self) -> int:
        return len(self._headers)
