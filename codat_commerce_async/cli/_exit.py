"""Exit statuses of the commands, and the error that ends a command with one line."""

__all__ = [
    "EXIT_BROKEN_PIPE",
    "EXIT_FAILED",
    "EXIT_INTERRUPTED",
    "EXIT_NOTHING_STARTED",
    "EXIT_OK",
    "EXIT_TERMINATED",
    "EXIT_TRY_LATER",
    "EXIT_USAGE",
    "CommandError",
]

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2  # what argparse uses
EXIT_NOTHING_STARTED = 3
# EX_TEMPFAIL of sysexits.h, which invites to try again later; os.EX_TEMPFAIL is missing on Windows.
EXIT_TRY_LATER = 75
# The convention of shells for a process that a signal ended: 128 and the signal's number.
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
EXIT_TERMINATED = 143


class CommandError(Exception):
    """A command cannot continue. The message is for the user; `exit_status` is the status of the process."""

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status
