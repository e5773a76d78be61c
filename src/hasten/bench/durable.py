"""Files that survive a crash or a power cut at any moment, and what to say when the disk will not have them."""

from __future__ import annotations

import errno
from pathlib import Path

from hasten._core.files import new_file, sync_folder

__all__ = ["explain", "is_full", "make_folder", "sync_folder", "write_atomically"]

# No space left; over quota; over the size that `ulimit -f` allows.
FULL = tuple(getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG") if hasattr(errno, name))
CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)

FREE_SPACE = "The disk is full: free some space and run the same command again, nothing finished is lost."
OTHER_FOLDER = "The folder cannot be written: pass another one with --out."


def write_atomically(path: Path, data: bytes | memoryview) -> None:
    """Write beside `path`, sync, rename over it, sync the folder: a reader sees the old or the new file, whole.

    Raises:
        OSError: the disk is full or the folder cannot be written; what was at `path` stays.
    """
    with new_file(path) as file:
        file.write(data)


def make_folder(folder: Path) -> None:
    """Create `folder` and its parents, durably."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def is_full(error: BaseException) -> bool:
    """Whether this error says that there is no room left."""
    return isinstance(error, OSError) and error.errno in FULL


def explain(error: OSError) -> str:
    """What went wrong and what to do about it."""
    fix = "Run the same command again; finished runs are kept."
    if error.errno in FULL:
        fix = FREE_SPACE
    elif error.errno in CLOSED:
        fix = OTHER_FOLDER
    return f"{error.filename or 'the study'}: {error.strerror or error}. {fix}"
