"""How a command ends: its exit status, and the one line it gives up with."""

__all__ = ["BAD_USE", "BROKEN_PIPE", "FAILED", "INTERRUPTED", "TERMINATED", "WELL", "GiveUpError"]

WELL = 0
FAILED = 1
BAD_USE = 2
# As shells have it for a process that a signal ended: 128 and the signal's number.
INTERRUPTED = 130
BROKEN_PIPE = 141
TERMINATED = 143


class GiveUpError(Exception):
    """The command cannot go on; its message is for the person who typed it."""
