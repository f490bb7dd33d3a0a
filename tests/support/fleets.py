"""Real processes that share a quota; see `tests.support.fleet`.

async with fleet(store, simulator.url, ["w1", "w2"], 950) as processes:
    start(processes)
"""

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

__all__ = ["fleet", "start"]

_ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def fleet(
    store: str, base_url: str, names: Sequence[str], per_minute: int, environment: Mapping[str, str] | None = None
) -> AsyncIterator[list[Process]]:
    """Processes that are ready, and start to send when a line is written to them; they are killed at the end."""
    command = [sys.executable, "-m", "tests.support.fleet", store, base_url]
    processes = [
        await asyncio.create_subprocess_exec(
            *command,
            name,
            str(per_minute),
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            cwd=_ROOT,
            env={**os.environ, **(environment or {})},
        )
        for name in names
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert await process.stdout.readline() == b"ready\n"
        yield processes
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
            await process.wait()


def start(processes: list[Process]) -> None:
    """Let the processes send."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"start\n")
