"""Ownership of a journal file: one writer at a time, enforced by a lock on a separate file that is never deleted."""

import errno
import os
import sys
from pathlib import Path
from typing import Final, Self

__all__ = ["Ownership", "file_system", "is_at"]

_PRIVATE: Final = 0o600
_MAX_NOTE_LENGTH = 64

if sys.platform == "win32":
    import msvcrt

    # Locked bytes cannot be read, so lock a byte behind the note.
    _LOCKED_BYTE = 1 << 20

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError(error.errno, "the lock file is locked") from None

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        # Unlike a POSIX lock, flock is not released when this process closes another descriptor of the same file.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


class Ownership:
    """The exclusive lock of the process that writes a journal, until `release`.

    `note` is the text that an owner wrote into the lock file.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        os.lseek(descriptor, 0, os.SEEK_SET)
        self.note = os.read(descriptor, _MAX_NOTE_LENGTH)

    @classmethod
    def acquire(cls, path: Path, mode: int = _PRIVATE) -> Self:
        """Lock the file, creating it if necessary. Raises BlockingIOError if it is locked, or another OSError."""
        while True:
            descriptor = _open(path, mode)
            try:
                _lock(descriptor)
                if is_at(path, os.fstat(descriptor)):
                    return cls(path, descriptor)
            except BaseException:
                os.close(descriptor)
                raise
            # Another process deleted it before it was locked.
            os.close(descriptor)

    @property
    def is_held(self) -> bool:
        """Whether the locked file is still at its path; otherwise another process could lock a second file."""
        return is_at(self._path, os.fstat(self._descriptor))

    def write_note(self, note: bytes) -> None:
        """Replace the note in the lock file."""
        if note != self.note:
            os.ftruncate(self._descriptor, 0)
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            os.write(self._descriptor, note)
            os.fsync(self._descriptor)
            self.note = note

    def release(self) -> None:
        """Unlock the file without deleting it: after a deletion two processes could lock two files."""
        os.close(self._descriptor)


def is_at(path: Path, file: os.stat_result) -> bool:
    """Return whether the path leads to this file."""
    try:
        return os.path.samestat(path.stat(), file)
    except OSError:
        return False


def _open(path: Path, mode: int) -> int:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        return os.open(path, os.O_RDWR)
    except OSError as error:
        # Windows and some file systems report the permissions of the directory even if the file exists.
        if error.errno in {errno.EACCES, errno.EROFS} and path.exists():
            return os.open(path, os.O_RDWR)
        raise
    if sys.platform != "win32":
        os.fchmod(descriptor, mode)
    return descriptor


def file_system(device: int) -> str | None:
    """Return the type of the file system with this device number, or None if the platform does not report it."""
    number = f"{os.major(device)}:{os.minor(device)}" if hasattr(os, "major") else ""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html
    lines = (line.partition(" - ") for line in mounts.splitlines())
    return next((right.split()[0] for left, _, right in lines if left.split()[2:3] == [number]), None)
