"""The command line."""

import asyncio
import contextlib
import io
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from importlib import import_module

from codat_commerce_async.cli._args import PROGRAM, Options, parse
from codat_commerce_async.cli._exit import (
    EXIT_BROKEN_PIPE,
    EXIT_INTERRUPTED,
    EXIT_TERMINATED,
    EXIT_USAGE,
    CommandError,
)

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; results go to stdout, and why it cannot go on to stderr."""
    options = parse(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A company's name must not end the program on a terminal that cannot show it.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return _run(options)
    except KeyboardInterrupt:
        return _end(EXIT_INTERRUPTED, "interrupted")
    except asyncio.CancelledError:
        return _end(EXIT_TERMINATED, "terminated")
    except BrokenPipeError:
        _discard_output()
        return EXIT_BROKEN_PIPE
    except CommandError as error:
        return _end(EXIT_USAGE, str(error))
    except OSError as error:
        return _end(EXIT_USAGE, _without_errno(error))


def _run(options: Options) -> int:
    # Only the command that runs is loaded: `sync` does not need the simulator.
    module = import_module(f"{__name__}.{options.command}")
    command: Callable[[Options], Coroutine[object, object, int]] = getattr(module, options.command)
    with asyncio.Runner(loop_factory=getattr(module, "LOOP", None)) as runner:
        return runner.run(_until_terminated(command(options)))


async def _until_terminated(work: Coroutine[object, object, int]) -> int:
    """Return what the work returns; SIGTERM cancels it, so that it ends in order."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - for the type checker: a runner runs tasks
    # Windows has no such handlers, and only a main thread may have them.
    with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await work


def _end(status: int, message: str) -> int:
    with contextlib.suppress(BrokenPipeError):
        print(f"{PROGRAM}: {message}", file=sys.stderr, flush=True)
    return status


def _without_errno(error: OSError) -> str:
    if error.strerror is None:
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror


def _discard_output() -> None:
    """Let the flush at exit find an open file: https://docs.python.org/3/library/signal.html#note-on-sigpipe."""
    with contextlib.suppress(OSError):  # a stdout that is no file has nothing to discard
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
