"""Read company ids and handles from a file or from standard input, and write files."""

import csv
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from codat_commerce_async._core.text import one_line
from codat_commerce_async.cli._args import check_company_id
from codat_commerce_async.cli._exit import EXIT_USAGE, CommandError

__all__ = ["STANDARD_INPUT", "read_company_ids", "read_text", "write_text"]

STANDARD_INPUT = "-"

_MAX_CHARACTERS = 100_000_000
_DELIMITERS = ",;\t"


def read_text(name: str) -> str:
    """Return the text of a file; raise CommandError if it cannot be read or is not text."""
    try:
        text = _read(name)
    except UnicodeDecodeError:
        raise _invalid(f"{_display_name(name)} is not a text file in UTF-8") from None
    except (OSError, ValueError) as error:
        raise _invalid(f"{_display_name(name)}: {getattr(error, 'strerror', None) or error}") from None
    if len(text) > _MAX_CHARACTERS:
        raise _invalid(f"{_display_name(name)} must have at most {_MAX_CHARACTERS:,} characters")
    return text


def _read(name: str) -> str:
    # A device such as /dev/zero has no end.
    if name == STANDARD_INPUT:
        return sys.stdin.read(_MAX_CHARACTERS + 1).removeprefix("\ufeff")
    with Path(name).open(encoding="utf-8-sig") as file:
        return file.read(_MAX_CHARACTERS + 1)


def write_text(name: str, text: str) -> None:
    """Write the text to a file, which a reader never sees half written; raise CommandError if that is not possible."""
    try:
        if Path(name).exists() and not Path(name).is_file():
            # A device or a pipe, such as /dev/stdout.
            Path(name).write_text(text, encoding="utf-8")
        else:
            _replace(Path(name).resolve(), text)
    except (OSError, RuntimeError, ValueError) as error:
        raise _invalid(f"{name!r} cannot be written: {getattr(error, 'strerror', None) or error}") from None


def _replace(path: Path, text: str) -> None:
    # Not the name with a suffix, which may be too long.
    unfinished = path.with_name(f".codat-{os.getpid()}.tmp")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def read_company_ids(name: str, column: str | None) -> list[str]:
    """Return the company ids of a file: one per line, or those in a column of a CSV file."""
    text = read_text(name)
    found = _in_lines(name, text) if column is None else _in_column(name, text, column)
    ids = [_checked(company_id, name, line) for line, company_id in found if company_id]
    if not ids:
        raise _invalid(f"{_display_name(name)} contains no company id")
    return ids


def _in_lines(name: str, text: str) -> Iterator[tuple[int, str]]:
    if name.lower().endswith(".csv"):
        names = ", ".join(_columns(text.splitlines()))
        raise _invalid(f"--column must name the column of {name} that contains the company ids (one of: {names})")
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        comment = next((at for at, word in enumerate(words) if word.startswith("#")), len(words))
        yield number, " ".join(words[:comment])


def _in_column(name: str, text: str, column: str) -> Iterator[tuple[int, str]]:
    lines = text.splitlines()
    names = _columns(lines)
    if column not in names:
        raise _invalid(f"--column must be a column of {_display_name(name)}: {', '.join(names)} (got {column!r})")
    at = names.index(column)
    rows = csv.reader(text.splitlines(keepends=True), delimiter=_delimiter(lines))
    try:
        next(rows)
        for row in rows:
            yield rows.line_num, row[at].strip() if at < len(row) else ""
    except csv.Error as error:
        raise _invalid(f"{_display_name(name)}, line {rows.line_num}: {error}") from None


def _columns(lines: list[str]) -> list[str]:
    try:
        return [name.strip() for name in next(csv.reader(lines[:1], delimiter=_delimiter(lines)), [])]
    except csv.Error:
        return []


def _delimiter(lines: list[str]) -> str:
    return max(_DELIMITERS, key=lines[0].count) if lines else ","


def _checked(company_id: str, name: str, line: int) -> str:
    try:
        return check_company_id(company_id)
    except ValueError as error:
        raise _invalid(f"{_display_name(name)}, line {line}: {error}") from None


def _invalid(message: str) -> CommandError:
    return CommandError(one_line(message), EXIT_USAGE)


def _display_name(name: str) -> str:
    return "standard input" if name == STANDARD_INPUT else name
