"""The command line: what a newcomer tries first, and what an operator runs by hand."""

import asyncio
import contextlib
import io
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from importlib import import_module

from codat_commerce_async.cli.ending import BAD_USE, BROKEN_PIPE, INTERRUPTED, TERMINATED, GiveUpError
from codat_commerce_async.cli.parser import Options, parse

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status of one command; what it has to say goes to stdout, and why it gave up to stderr."""
    options = parse(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A company's name must not end the program on a terminal that cannot show it.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return _run(options)
    except KeyboardInterrupt:
        return _end(INTERRUPTED, "interrupted")
    except asyncio.CancelledError:
        return _end(TERMINATED, "terminated")
    except BrokenPipeError:
        _discard_output()
        return BROKEN_PIPE
    except (GiveUpError, OSError) as error:
        return _end(BAD_USE, str(error))


def _run(options: Options) -> int:
    # A command is loaded when it is asked for: the simulator, for one, is not there for who syncs.
    module = import_module(f"{__name__}.{options.command}")
    command: Callable[[Options], Coroutine[object, object, int]] = getattr(module, options.command)
    with asyncio.Runner(loop_factory=getattr(module, "LOOP", None)) as runner:
        return runner.run(_until_terminated(command(options)))


async def _until_terminated(work: Coroutine[object, object, int]) -> int:
    """What the work returns; SIGTERM cancels it, so that it ends in order."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - for the type checker: a runner runs tasks
    # Windows has no such handlers, and only a main thread may have them.
    with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await work


def _end(status: int, message: str) -> int:
    with contextlib.suppress(BrokenPipeError):
        print(f"codat_commerce_async: {message}", file=sys.stderr, flush=True)
    return status


def _discard_output() -> None:
    """Let the flush at exit find an open file: https://docs.python.org/3/library/signal.html#note-on-sigpipe."""
    with contextlib.suppress(OSError):  # a stdout that is no file has nothing to discard
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
