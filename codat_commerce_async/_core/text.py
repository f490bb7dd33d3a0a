"""Escape foreign text for messages, log lines, terminals and spreadsheets, and format numbers for people."""

__all__ = ["excerpt", "for_spreadsheet", "format_count", "format_duration", "is_same_text", "one_line", "shown"]

# The longest excerpt of a response in a message, in characters.
_LONGEST = 300

# https://owasp.org/www-community/attacks/CSV_Injection
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001 - Excel evaluates the full-width ones too
_MINUTE, _HOUR = 60, 3600


def one_line(text: str) -> str:
    """Return the text without line breaks and control sequences, for one line of a log or terminal.

    Line breaks and other whitespace become spaces; control characters and halves of surrogate pairs are escaped.
    """
    return text if text.isprintable() else "".join(map(_printable, text))


def excerpt(text: str) -> str:
    """Return the beginning of the text, without line breaks and control sequences."""
    return one_line(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}...")


def is_same_text(one: str, other: str) -> bool:
    """Return whether the texts are equal but for case, and for spaces and punctuation at the end."""
    return _bare(one) == _bare(other)


def _bare(text: str) -> str:
    return text.casefold().strip().rstrip(".! ")


def _printable(character: str) -> str:
    if character.isprintable():
        return character
    return " " if character.isspace() else character.encode("unicode_escape").decode()


def shown(value: object) -> str:
    """Return the value as text on one line, or the name of its type if `str` fails."""
    try:
        return one_line(str(value))
    except Exception:  # noqa: BLE001 - the value may be of any type
        return f"<{type(value).__name__}>"


def for_spreadsheet(text: str) -> str:
    """Return the text so that a spreadsheet shows it, and does not evaluate it as a formula."""
    safe = one_line(text)
    return f"'{safe}" if safe.lstrip().startswith(_FORMULA) or text.startswith(_FORMULA) else safe


def format_duration(seconds: float, *, rough: bool = False) -> str:
    """Return the seconds in their two largest units; with `rough`, in minutes at most."""
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min" + ("" if rough else f" {whole % _MINUTE} s")
    return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"


def format_count(number: int, singular: str, plural: str | None = None) -> str:
    """Return the number with the right form of its noun."""
    return f"{number} {singular if number == 1 else plural or f'{singular}s'}"
