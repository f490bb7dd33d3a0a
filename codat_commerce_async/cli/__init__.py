"""Command line interface: parses the arguments, runs one command and returns its exit status."""

import asyncio
import contextlib
import io
import os
import signal
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import TextIO

from codat_commerce_async._core.text import one_line
from codat_commerce_async.cli._args import PROGRAM, Options, parse
from codat_commerce_async.cli._exit import (
    EXIT_BROKEN_PIPE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_TERMINATED,
    CommandError,
)

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; results are written to stdout, errors to stderr."""
    _prepare_streams()
    options = parse(arguments)
    try:
        status = _run(options)
        sys.stdout.flush()
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
        # Such as a full disk at which the output is written.
        return _end(EXIT_FAILED, _without_errno(error))
    return status


def _prepare_streams() -> None:
    """Replace standard streams that were closed, and make stdout write any text."""
    # In this order, so that each gets its own descriptor, and not a file that is opened later.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - until the process ends
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A company name that the terminal's encoding lacks must not end the program.
        sys.stdout.reconfigure(errors="backslashreplace")


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
    if _is_unwritable(sys.stdout):
        _discard_output()
    with contextlib.suppress(OSError):
        print(f"{PROGRAM}: {one_line(message)}", file=sys.stderr, flush=True)
    return status


def _is_unwritable(stream: TextIO) -> bool:
    try:
        stream.flush()
    except OSError:
        return True
    return False


def _without_errno(error: OSError) -> str:
    if error.strerror is None:
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror


def _discard_output() -> None:
    """Redirect stdout to the null device, so that the flush at exit succeeds: https://docs.python.org/3/library/signal.html#note-on-sigpipe."""
    with contextlib.suppress(OSError):  # a stdout that is not a file has nothing to discard
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
