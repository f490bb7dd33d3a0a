"""`wait`: go on with syncs that were started before, by their handles."""

import sys
from pathlib import Path

from codat_commerce_async.cli.board import Row
from codat_commerce_async.cli.ending import GiveUpError
from codat_commerce_async.cli.parser import Options
from codat_commerce_async.cli.sync import sync_at_codat
from codat_commerce_async.models.handle import SyncHandle

__all__ = ["wait"]


async def wait(options: Options) -> int:
    """Wait for the syncs whose handles stand in a file."""
    return await sync_at_codat(_rows(_read(options.file)), options)


def _read(name: str) -> str:
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise GiveUpError(f"{name} is not a text file in UTF-8") from None


def _rows(text: str) -> list[Row]:
    rows = [
        _row(line, number) for number, line in enumerate(text.splitlines(), start=1) if line.lstrip().startswith("{")
    ]
    if not rows:
        raise GiveUpError("there is no handle in it: one is a line of JSON, as the sync command prints it")
    return rows


def _row(line: str, number: int) -> Row:
    try:
        handle = SyncHandle.from_json(line)
    except ValueError as error:
        raise GiveUpError(f"line {number}: {error}") from None
    return Row(handle.company_id, handle.company_id, handle)
