"""Where a command's output goes, and what can be done there."""

import os
import shutil
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO

__all__ = ["Screen"]

_WIDE_ENOUGH = 40


@dataclass(frozen=True, slots=True)
class Screen:
    """A stream; `live` when lines can be redrawn in place, `color` when they can have colors."""

    stream: TextIO
    live: bool = False
    color: bool = False

    @classmethod
    def of(cls, stream: TextIO, environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> "Screen":
        """What a stream can do. NO_COLOR takes the colors away: https://no-color.org."""
        # A console of Windows obeys escape sequences only when it is asked to, in a way of its own.
        live = stream.isatty() and environ.get("TERM") != "dumb" and platform != "win32"
        return cls(stream, live=live, color=live and not environ.get("NO_COLOR"))

    @property
    def width(self) -> int | None:
        """The columns of a line, None when there is no bound; the last one stays free, as some terminals wrap there."""
        return max(_WIDE_ENOUGH, shutil.get_terminal_size().columns - 1) if self.live else None

    @property
    def height(self) -> int:
        """The lines that can be seen at once."""
        return shutil.get_terminal_size().lines

    def wrapped(self, text: str) -> list[str]:
        """The text as lines that fit, broken between words; ids and the like stay whole."""
        if self.width is None:
            return [text]
        return textwrap.wrap(
            text, self.width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        ) or [""]

    def paint(self, text: str, style: str) -> str:
        """The text in a style (the number of an SGR sequence), if there are colors."""
        return f"\x1b[{style}m{text}\x1b[0m" if self.color and style else text

    def write(self, text: str) -> None:
        """Write at once, so that nobody sees half of it."""
        self.stream.write(text)
        self.stream.flush()

    def say(self, *lines: str) -> None:
        """Write lines."""
        self.write("".join(f"{line}\n" for line in lines))
