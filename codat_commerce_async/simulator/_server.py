"""Serve the simulator on a loopback socket, including responses that are lost, reset, cut off, late or endless."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohttp import web

from codat_commerce_async.simulator._api.faults import FAULTS, Break
from codat_commerce_async.simulator._api.http import Request, Response

__all__ = ["Server"]

_LOOPBACK = "127.0.0.1"
_NO_WAIT = 0.001  # aiohttp waits without end for 0
_MISDIRECTED = 421
_NO_LINGER = struct.pack("ii", 1, 0)


class Server:
    """Serves a function from requests to responses on 127.0.0.1; port 0 selects a free one.

    A request whose `Host` is not a loopback name or address is refused, so that no web page can reach it by DNS
    rebinding.
    """

    def __init__(self, handle: Callable[[Request], Response], port: int) -> None:
        self._handle = handle
        self._port = port
        self._runner: web.ServerRunner | None = None

    @property
    def url(self) -> str:
        """The base URL, while the server is running; otherwise a RuntimeError is raised."""
        if self._runner is None:
            raise RuntimeError("the simulator is not served; enter it with `async with` or `with` first")
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}"

    async def start(self) -> None:
        """Start serving."""
        if self._runner is not None:
            raise RuntimeError("the simulator is served already")
        runner = web.ServerRunner(web.Server(self._serve), shutdown_timeout=_NO_WAIT)
        await runner.setup()
        try:
            await web.TCPSite(runner, _LOOPBACK, self._port).start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner

    async def stop(self) -> None:
        """Stop serving; responses that are not complete are dropped."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        if not all(map(_is_loopback, request.headers.getall("Host", [""]))):
            return web.Response(status=_MISDIRECTED, text="The Host header must name a loopback address.")
        response = self._handle(await _to_request(request))
        if response.delay:
            await asyncio.sleep(response.delay)
        send = None if response.fault is None else _BREAKS.get(FAULTS[response.fault].connection)
        if send is not None:
            return await send(request, response)
        return web.Response(status=response.status, headers=response.headers, body=response.body)


async def _to_request(request: web.BaseRequest) -> Request:
    path, _, query = request.raw_path.partition("?")
    return Request(request.method, path, query, dict(request.headers), await request.read())


def _is_loopback(host: str) -> bool:
    """Return whether a `Host` header is a loopback name or address; after DNS rebinding it is another name."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False


async def _send_close(request: web.BaseRequest, _response: Response) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.close()
    return web.Response()


async def _send_reset(request: web.BaseRequest, _response: Response) -> web.StreamResponse:
    if request.transport is not None:
        connection = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        request.transport.abort()
    return web.Response()


async def _send_cut_off(request: web.BaseRequest, response: Response) -> web.StreamResponse:
    stream = web.StreamResponse(status=response.status, headers=response.headers)
    await stream.prepare(request)
    await stream.write(response.body)
    return await _send_close(request, response)


async def _send_endless(request: web.BaseRequest, response: Response) -> web.StreamResponse:
    stream = web.StreamResponse(status=response.status, headers=response.headers)
    stream.enable_chunked_encoding()
    await stream.prepare(request)
    # It ends when the client closes the connection.
    with contextlib.suppress(ConnectionResetError):
        while True:
            await stream.write(response.body)
            await asyncio.sleep(0)
    return stream


_BREAKS: Mapping[Break | None, Callable[[web.BaseRequest, Response], Awaitable[web.StreamResponse]]] = {
    Break.CLOSE: _send_close,
    Break.RESET: _send_reset,
    Break.CUT_OFF: _send_cut_off,
    Break.ENDLESS: _send_endless,
}
