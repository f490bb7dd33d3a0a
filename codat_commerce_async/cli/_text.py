"""Format durations and counts for users."""

__all__ = ["format_count", "format_duration"]

_MINUTE, _HOUR = 60, 3600


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
