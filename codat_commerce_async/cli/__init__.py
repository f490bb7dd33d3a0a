"""Command line interface: parses the arguments, runs one command and returns its exit status."""

import asyncio
import contextlib
import io
import os
import signal
import sys
from collections.abc import Coroutine, Sequence

from codat_commerce_async.cli._args import PROGRAM, Options, parse
from codat_commerce_async.cli._exit import (
    EXIT_BROKEN_PIPE,
    EXIT_INTERRUPTED,
    EXIT_NOTHING_STARTED,
    EXIT_TERMINATED,
    CommandError,
)

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; results are written to stdout, errors to stderr."""
    options = parse(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A company name that the terminal's encoding lacks must not end the program.
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
        return _end(error.exit_status, str(error))
    except OSError as error:
        return _end(EXIT_NOTHING_STARTED, _without_errno(error))


def _run(options: Options) -> int:
    function, loop_factory = options.run.load()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(_until_terminated(function(options)))


async def _until_terminated(work: Coroutine[object, object, int]) -> int:
    """Return what the coroutine returns. SIGTERM cancels it, so that it cleans up."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - for the type checker: a runner runs tasks
    # Windows has no such handlers, and they can only be set in the main thread.
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
    """Redirect stdout to the null device, so that the flush at exit succeeds: https://docs.python.org/3/library/signal.html#note-on-sigpipe."""
    with contextlib.suppress(OSError):  # a stdout that is not a file has nothing to discard
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
