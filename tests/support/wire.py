"""A server on loopback that plays a script of responses, byte by byte, and records the requests."""

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Protocol, Self

__all__ = [
    "CLOSE_WITHOUT_RESPONSE",
    "ENDLESS",
    "KEEP_ALIVE_THEN_DROP",
    "NEVER_RESPOND",
    "RESET_BEFORE_RESPONSE",
    "RESET_MID_RESPONSE",
    "Act",
    "CutOff",
    "KeepAliveThenDrop",
    "Raw",
    "Response",
    "Slow",
    "WireRequest",
    "WireServer",
]

_LONGEST_HEAD = 2**20
_PIECE = b"0123456789abcdef" * 256
_REASONS = {status.value: status.phrase for status in HTTPStatus}


@dataclass(frozen=True)
class WireRequest:
    """One received request; `connection` counts from 1, `at` is the loop's time when it was whole."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    connection: int
    at: float

    def header(self, name: str) -> str | None:
        """The first header of that name, or None."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


class Connection:
    """One client's connection, from the server's api."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        number: int,
        write_down: Callable[[WireRequest], None],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._number = number
        self._write_down = write_down

    async def receive(self) -> WireRequest:
        """The next request, whole and written down."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        method, target, _ = line.split(" ")
        headers = [(name, value.strip()) for name, _, value in (each.partition(":") for each in fields)]
        framing = {name.lower(): value for name, value in headers}
        if "transfer-encoding" in framing:
            raise ValueError("it reads bodies by their Content-Length only")
        body = await self._reader.readexactly(int(framing.get("content-length", "0")))
        now = asyncio.get_running_loop().time()
        request = WireRequest(method, target, headers, body, self._number, now)
        self._write_down(request)
        return request

    async def send(self, data: bytes) -> None:
        """Hand the bytes to the network."""
        if self._writer.is_closing():  # writing then is a RuntimeError on uvloop
            raise ConnectionResetError
        self._writer.write(data)
        await self._writer.drain()

    async def client_leaves(self) -> None:
        """Wait for the client to hang up."""
        await self._reader.read()

    def reset(self) -> None:
        """End the connection with a RST, which is what lingering for no time at all means."""
        peer: socket.socket | None = self._writer.get_extra_info("socket")
        if peer is not None:  # uvloop has none any more once the client has hung up
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


class Act(Protocol):
    """What the server does about one request."""

    async def play(self, connection: Connection) -> bool:
        """Do it, and return whether the connection stays open."""
        ...


@dataclass(frozen=True)
class Response:
    """A proper response; `Content-Length` is added unless the headers frame the body themselves."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @classmethod
    def json(cls, value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Self:
        """Return a response with the value as JSON."""
        fields = {"Content-Type": "application/json", **(headers or {})}
        return cls(status, fields, json.dumps(value).encode())

    def head(self) -> bytes:
        """The status line and the headers."""
        reason = _REASONS.get(self.status, "Unheard-of")
        fields = dict(self.headers)
        if not {name.lower() for name in fields} & {"content-length", "transfer-encoding"}:
            fields["Content-Length"] = str(len(self.body))
        lines = [f"HTTP/1.1 {self.status} {reason}", *(f"{name}: {value}" for name, value in fields.items())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    async def play(self, connection: Connection) -> bool:
        await connection.send(self.head() + self.body)
        return True


@dataclass(frozen=True)
class Raw:
    """These very bytes, then the end of the connection: for responses that are hardly HTTP."""

    data: bytes

    async def play(self, connection: Connection) -> bool:
        await connection.send(self.data)
        return False


@dataclass(frozen=True)
class CutOff:
    """A response that announces the whole body, stops after `at` bytes of it, and closes the connection."""

    status: int
    body: bytes
    at: int

    async def play(self, connection: Connection) -> bool:
        await connection.send(Response(self.status, body=self.body).head() + self.body[: self.at])
        return False


@dataclass(frozen=True)
class Slow:
    """A response that is delayed by that many seconds."""

    response: Act
    seconds: float

    async def play(self, connection: Connection) -> bool:
        await asyncio.sleep(self.seconds)
        return await self.response.play(connection)


@dataclass(frozen=True)
class KeepAliveThenDrop:
    """A proper response; the next request on its connection gets none, and takes nothing from the script."""

    response: Response = field(default_factory=Response)

    async def play(self, connection: Connection) -> bool:
        await self.response.play(connection)
        await connection.receive()
        return False


class _CloseWithoutResponse:
    async def play(self, connection: Connection) -> bool:
        return False


class _NeverRespond:
    async def play(self, connection: Connection) -> bool:
        await connection.client_leaves()
        return False


class _ResetBeforeResponse:
    async def play(self, connection: Connection) -> bool:
        connection.reset()
        return False


class _ResetMidResponse:
    async def play(self, connection: Connection) -> bool:
        response = Response(body=_PIECE)
        await connection.send(response.head() + response.body[: len(response.body) // 2])
        # A client on the same loop reads the first half before the reset arrives.
        for _ in range(3):
            await asyncio.sleep(0)
        connection.reset()
        return False


class _Endless:
    async def play(self, connection: Connection) -> bool:
        await connection.send(Response(headers={"Transfer-Encoding": "chunked"}).head())
        while True:
            await connection.send(b"%x\r\n%s\r\n" % (len(_PIECE), _PIECE))
            # Slow enough that a client's time is up before it has read too much, however busy the machine is.
            await asyncio.sleep(0.001)


CLOSE_WITHOUT_RESPONSE: Act = _CloseWithoutResponse()
NEVER_RESPOND: Act = _NeverRespond()
RESET_BEFORE_RESPONSE: Act = _ResetBeforeResponse()
RESET_MID_RESPONSE: Act = _ResetMidResponse()
ENDLESS: Act = _Endless()
KEEP_ALIVE_THEN_DROP: Act = KeepAliveThenDrop()


class WireServer:
    """Play the first act of the script for the first request, the second for the second, and so on.

    A request beyond the script, or one that it cannot read, fails the test on leaving.
    """

    def __init__(self, script: Sequence[Act]) -> None:
        self.requests: list[WireRequest] = []
        self.url = ""
        self._script = iter(list(script))
        self._writers: list[asyncio.StreamWriter] = []
        self._handlers: set[asyncio.Task[None]] = set()
        self._complaints: list[str] = []
        self._news = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=_LONGEST_HEAD)
        host, port = self._server.sockets[0].getsockname()
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        handlers = list(self._handlers)
        for handler in handlers:
            handler.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        await self._server.wait_closed()
        if self._complaints and (error is None or isinstance(error, Exception)):
            raise AssertionError("; ".join(self._complaints))

    @property
    def connections(self) -> int:
        """How many connections were made."""
        return len(self._writers)

    async def received(self, count: int) -> None:
        """Wait until that many requests were received."""
        while len(self.requests) < count:
            self._news.clear()
            await self._news.wait()

    def _write_down(self, request: WireRequest) -> None:
        self.requests.append(request)
        self._news.set()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        connection = Connection(reader, writer, len(self._writers), self._write_down)
        handler = asyncio.get_running_loop().create_task(self._serve(connection, writer))
        self._handlers.add(handler)
        handler.add_done_callback(self._handlers.discard)

    async def _serve(self, connection: Connection, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._act_on(await connection.receive(), connection):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client may hang up at any moment
        except Exception as error:  # noqa: BLE001 - whatever it is, it has to fail the test, not vanish in a task
            self._complaints.append(f"the wire server broke: {error!r}")
        finally:
            writer.close()

    async def _act_on(self, request: WireRequest, connection: Connection) -> bool:
        act = next(self._script, None)
        if act is None:
            received = f"{request.method} {request.target}"
            self._complaints.append(f"request {len(self.requests)} ({received}) is beyond the script")
            return False
        return await act.play(connection)
