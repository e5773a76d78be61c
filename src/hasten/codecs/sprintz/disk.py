"""A file that one writer at a time changes, and what it takes for the changes to survive a crash."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["Disk"]


class Disk:
    """An open file under an exclusive lock (where the system has such locks).

    Raises:
        BlockingIOError: Another writer has the file open. OSError: It cannot be opened.
    """

    def __init__(self, path: Path, *, create: bool) -> None:
        flags = os.O_RDWR | (os.O_CREAT if create else 0) | getattr(os, "O_BINARY", 0)
        self.path = path
        self._file: Any = os.fdopen(os.open(path, flags, 0o666), "r+b", buffering=0)
        try:
            self._lock()
        except BaseException:
            self._file.close()
            raise

    def _lock(self) -> None:
        if fcntl is None:
            return
        message = f"Writer: expected a file that nobody else writes, got {self.path}, which another writer has open."
        try:
            fcntl.flock(self._file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(error.errno, f"{message} Close that one first.") from None
        if not os.path.samestat(os.fstat(self._file.fileno()), os.stat(self.path)):
            raise BlockingIOError(0, f"{message} It was just replaced: open it again.")

    def write(self, at: int, data: bytes) -> None:
        """Write all of `data` at byte `at`; durable after the next `sync`."""
        view = memoryview(data)
        try:
            self._file.seek(at)
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from None

    def truncate(self, size: int) -> None:
        """Cut the file; durable after the next `sync`."""
        self._file.truncate(size)

    def sync(self) -> None:
        """Return when everything written so far survives a power cut."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file and let the next writer in."""
        self._file.close()
