"""Serve the simulator from an event loop in its own thread."""

import asyncio
from concurrent.futures import Future
from threading import Thread
from typing import Final

from codat_commerce_async.simulator._server import Server

__all__ = ["ServerThread"]


class ServerThread:
    """Runs a server in a daemon thread until `stop` is called."""

    def __init__(self, server: Server) -> None:
        self._server: Final = server
        self._running: tuple[Thread, asyncio.AbstractEventLoop, asyncio.Event] | None = None

    def start(self) -> None:
        """Start the server and return once it accepts connections; raise its error if it cannot start."""
        started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        thread = Thread(target=self._run, args=(started,), name="codat simulator", daemon=True)
        thread.start()
        self._running = thread, *started.result()

    def stop(self) -> None:
        """Stop the server and wait for its thread."""
        running, self._running = self._running, None
        if running is None:
            return
        thread, loop, stopping = running
        loop.call_soon_threadsafe(stopping.set)
        thread.join()

    def _run(self, started: "Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]") -> None:
        # Do not use the policy's loop: a test may have set one with virtual time.
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(self._serve(started))

    async def _serve(self, started: "Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]") -> None:
        stopping = asyncio.Event()
        try:
            await self._server.start()
        except BaseException as error:  # noqa: BLE001 - raised by `start`
            started.set_exception(error)
            return
        started.set_result((asyncio.get_running_loop(), stopping))
        try:
            await stopping.wait()
        finally:
            await self._server.stop()
