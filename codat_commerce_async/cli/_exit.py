"""How a command ends: its exit status, and the one line that says why it cannot go on."""

__all__ = [
    "EXIT_BROKEN_PIPE",
    "EXIT_FAILED",
    "EXIT_INTERRUPTED",
    "EXIT_OK",
    "EXIT_TERMINATED",
    "EXIT_USAGE",
    "CommandError",
]

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
# As shells have it for a process that a signal ended: 128 and the signal's number.
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
EXIT_TERMINATED = 143


class CommandError(Exception):
    """The command cannot go on; its message is for the person who typed it."""
