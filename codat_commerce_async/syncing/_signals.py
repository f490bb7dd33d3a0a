"""Call a function on SIGTERM and SIGINT, before the handlers that the server has installed."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["before_signal_handlers"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

Handler = Callable[[int, FrameType | None], object]


@contextmanager
def before_signal_handlers(callback: Callable[[], object]) -> Iterator[None]:
    """Call `callback` in the signal handler of SIGTERM and SIGINT while the block runs, then the present handler.

    A signal without a Python handler is left alone: it ends the process at once, or is ignored. Only the main thread
    can have handlers; in any other thread, nothing happens.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    present = ((number, signal.getsignal(number)) for number in _SIGNALS)
    chained = [_ChainedHandler(number, handler, callback) for number, handler in present if callable(handler)]
    for each in chained:
        each.install()
    try:
        yield
    finally:
        for each in reversed(chained):
            each.remove()


class _ChainedHandler:
    """A signal handler that calls the callback, and then the previous handler."""

    def __init__(self, number: signal.Signals, previous: Handler, callback: Callable[[], object]) -> None:
        self._number = number
        self._previous = previous
        self._callback: Callable[[], object] | None = callback

    def install(self) -> None:
        _set_handler(self._number, self)

    def remove(self) -> None:
        """Restore the previous handler, unless another one was installed since: that one may call this one."""
        self._callback = None
        present: object = signal.getsignal(self._number)
        if present is self:
            _set_handler(self._number, self._previous)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self._callback is not None:
            self._callback()
        self._previous(number, frame)


def _set_handler(number: signal.Signals, handler: Handler) -> None:
    signal.signal(number, handler)
    if hasattr(signal, "siginterrupt"):
        # As asyncio's own handlers: system calls are restarted.
        signal.siginterrupt(number, False)
