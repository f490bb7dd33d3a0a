"""Text for people at terminals: how wide it is, made to fit, and seconds in words."""

import unicodedata

__all__ = ["cells", "fit", "span"]

_MINUTE, _HOUR = 60, 3600


def cells(text: str) -> int:
    """How many columns of a terminal the text takes."""
    return sum(map(_cells_of, text))


def fit(text: str, width: int) -> str:
    """The text in exactly so many columns: filled up with spaces, or cut with a `~` at its end."""
    taken = cells(text)
    if taken <= width:
        return text + " " * (width - taken)
    kept, room = "", width - 1
    for character in text:
        room -= _cells_of(character)
        if room < 0:
            break
        kept += character
    return f"{kept}~" + " " * (width - 1 - cells(kept))


def span(seconds: float, *, rough: bool = False) -> str:
    """So many seconds, in the two largest units that they have; in minutes at most where it is `rough`."""
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min" + ("" if rough else f" {whole % _MINUTE} s")
    return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"


def _cells_of(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
