"""A transport that plays a script instead of a network, and writes down what it was given to send."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Unpack

from multidict import CIMultiDict

from codat_commerce_async import CodatCommerce
from codat_commerce_async._core.transport import Request, Response
from codat_commerce_async.client import Settings
from codat_commerce_async.policies import Quota, Timeouts

__all__ = ["KEY", "ScriptedTransport", "Sent", "Step", "client_of", "failing", "forever", "respond"]

# It opens nothing, and is long enough to be found wherever it leaks to.
KEY = "a-raw-api-key+of/the?tests"

Act = Callable[[Request], Awaitable[Response]]
Step = Response | Act


@dataclass(frozen=True)
class Sent:
    """One request as it was handed over; `at` is the loop's time."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes | None
    at: float

    @property
    def key(self) -> str | None:
        return self.headers.get("Idempotency-Key")


def respond(status: int = 200, value: object = None, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response whose body is the value as JSON, or the value itself when it is bytes; `{}` for none."""
    body = value if isinstance(value, bytes) else json.dumps({} if value is None else value).encode()
    return Response(status, CIMultiDict(headers or {}), body)


async def forever(request: Request) -> Response:
    """Never respond."""
    await asyncio.get_running_loop().create_future()
    raise AssertionError("nothing sets that future")


def failing(make: Callable[[], Exception]) -> Act:
    """Raise a new exception for each request."""

    async def fail(request: Request) -> Response:
        raise make()

    return fail


class ScriptedTransport:
    """Performs one step of the script for each request, and repeats the last one."""

    def __init__(self, script: Sequence[Step]) -> None:
        self.sent: list[Sent] = []
        self.in_flight = 0
        self.closed = 0
        self._script = script

    async def send(self, request: Request, timeouts: Timeouts) -> Response:
        now = asyncio.get_running_loop().time()
        self.sent.append(Sent(request.method, request.target, dict(request.headers), request.body, now))
        step = self._script[min(len(self.sent), len(self._script)) - 1]
        if isinstance(step, Response):
            return step
        self.in_flight += 1
        try:
            return await step(request)
        finally:
            self.in_flight -= 1

    async def aclose(self) -> None:
        self.closed += 1

    @property
    def pauses(self) -> list[float]:
        """The seconds between one request and the next."""
        return [later.at - sooner.at for sooner, later in zip(self.sent, self.sent[1:], strict=False)]


def client_of(*script: Step, **settings: Unpack[Settings]) -> tuple[CodatCommerce, ScriptedTransport]:
    """A client that talks to a script, without bounds unless they are given; and that script."""
    transport = ScriptedTransport(script)
    settings["transport"] = transport
    if "rate_limiter" not in settings:
        settings.setdefault("quota", Quota.unlimited())
    return CodatCommerce(KEY, **settings), transport
