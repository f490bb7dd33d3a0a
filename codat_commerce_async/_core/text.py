"""Foreign text made fit for messages, log lines, terminals and spreadsheets."""

__all__ = ["excerpt", "for_spreadsheet", "one_line", "shown"]

# What a server says goes into a message, but not a whole page of it.
_LONGEST = 300

# https://owasp.org/www-community/attacks/CSV_Injection
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001 - Excel takes the wide ones too


def one_line(text: str) -> str:
    """Return the text as a part of one line: it ends no line of a log, and moves and colors no terminal.

    Line breaks and other space become spaces; control characters and halves of surrogate pairs are escaped.
    """
    return text if text.isprintable() else "".join(map(_printable, text))


def excerpt(text: str) -> str:
    """Return the beginning of the text as a part of one line."""
    return one_line(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}...")


def _printable(character: str) -> str:
    if character.isprintable():
        return character
    return " " if character.isspace() else character.encode("unicode_escape").decode()


def shown(value: object) -> str:
    """Return the value as text on one line, or the name of its type if it cannot be shown."""
    try:
        return one_line(str(value))
    except Exception:  # noqa: BLE001 - the value may be of anybody's type
        return f"<{type(value).__name__}>"


def for_spreadsheet(text: str) -> str:
    """Return the text as a spreadsheet shows it and does not execute it: no formula, no control characters."""
    safe = one_line(text)
    return f"'{safe}" if safe.lstrip().startswith(_FORMULA) or text.startswith(_FORMULA) else safe
