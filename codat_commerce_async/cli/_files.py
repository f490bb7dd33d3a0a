"""Read company ids and handles from a file or from standard input."""

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

from codat_commerce_async._core.text import one_line
from codat_commerce_async.cli._args import check_company_id
from codat_commerce_async.cli._exit import EXIT_USAGE, CommandError

__all__ = ["STANDARD_INPUT", "read_company_ids", "read_text"]

STANDARD_INPUT = "-"

_DELIMITERS = ",;\t"


def read_text(name: str) -> str:
    """Return the text of a file; raise CommandError if it cannot be read or is not text."""
    try:
        if name == STANDARD_INPUT:
            return sys.stdin.read().removeprefix("\ufeff")
        return Path(name).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise _invalid(f"{_display_name(name)} is not a text file in UTF-8") from None
    except (OSError, ValueError) as error:
        raise _invalid(f"{_display_name(name)}: {getattr(error, 'strerror', None) or error}") from None


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
