"""Data files: where they are looked for, and the one way to fetch a missing one.

A file such as `tiny_shakespeare/input.txt` is looked for in the folder named by the environment variable `HASTEN_DATA`,
then in the cache folder (`HASTEN_CACHE`, or `~/.cache/hasten`). Nothing touches the network unless the file is missing
AND a download was asked for: `download=True`, or `HASTEN_DOWNLOAD=1`. `offline=True` or `HASTEN_OFFLINE=1` forbids it
whatever else is set. What arrives is bounded in size, checked against a SHA-256 known beforehand, and only then gets
its name; no partial file is left behind.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import tempfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol
from urllib.parse import urlsplit

from hasten._core.checks import check, refuse
from hasten._core.machine import cache_folder

__all__ = [
    "DataFile", "cache_folder", "copy_bounded", "fetch", "find", "missing", "obtain", "replace_atomically", "safe_path",
]  # fmt: skip

_CHUNK = 1 << 20
_TIMEOUT = 60.0  # seconds without an answer


@dataclass(frozen=True)
class DataFile:
    """One file of a data set.

    Args:
        path: where it lies in a data folder, with `/` between parts.
        size: bytes; a download that grows beyond is stopped.
        sha256: digest of the content, in hex.
        url: where it can be fetched (https, or file for tests and mirrors); None if it cannot.
    """

    path: str
    size: int
    sha256: str
    url: str | None = None


class _Reader(Protocol):
    def read(self, size: int, /) -> bytes: ...


def find(path: str) -> Path | None:
    """The file `path` in `HASTEN_DATA` or the cache folder, whichever has it first; None if neither has.

    Raises:
        ValueError: `HASTEN_DATA` is set and is not a folder, or `path` leaves the folder.
    """
    folders = [cache_folder()]
    chosen = os.environ.get("HASTEN_DATA")
    if chosen:
        check(Path(chosen).is_dir(), "HASTEN_DATA", "an existing folder", chosen, "Correct the variable or unset it.")
        folders.insert(0, Path(chosen))
    candidates = [folder / safe_path(path) for folder in folders]
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def obtain(file: DataFile, *, download: bool | None = None, offline: bool | None = None) -> Path:
    """The verified local path of `file`, fetched first where it is missing and that was asked for.

    Args:
        file: what is needed.
        download: fetch it if it is missing; None means what `HASTEN_DOWNLOAD` says (default: no).
        offline: never touch the network, whatever `download` says; None means what `HASTEN_OFFLINE` says.

    Returns:
        The path of a file whose SHA-256 is `file.sha256`.

    Raises:
        FileNotFoundError: missing, and no download was asked for or possible; the message names every way out.
        ValueError: a file was found or fetched, and its content is not the one expected.
        ConnectionError: the download failed.
    """
    found = find(file.path)
    if found is not None:
        with found.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        fix = f"Delete it, or replace it by the original{f' from {file.url}' if file.url else ''}."
        check(digest == file.sha256, str(found), f"SHA-256 {file.sha256}", digest, fix)
        return found
    refused = _flag("HASTEN_OFFLINE") if offline is None else offline
    wanted = _flag("HASTEN_DOWNLOAD") if download is None else download
    if refused or not wanted or file.url is None:
        raise missing(file.path, file.url, offline=refused)
    target = cache_folder() / safe_path(file.path)
    fetch(file, target)
    return target


def missing(path: str, url: str | None, *, offline: bool = False) -> FileNotFoundError:
    """The error of a data file that is not there: what it is called, where to put it, where to get it."""
    chosen = os.environ.get("HASTEN_DATA")
    place = f"{chosen} (HASTEN_DATA)" if chosen else "a folder and name that folder in HASTEN_DATA"
    ways = [f"Put {path} into {place}, or into the cache folder {cache_folder()}."]
    if url is None:
        ways.append("This file cannot be downloaded.")
    elif offline:
        ways.append(f"It comes from {url}; downloads are forbidden now (offline).")
    else:
        ways.append(f"To download it from {url}, set HASTEN_DOWNLOAD=1.")
    return FileNotFoundError(f"data: expected the file {path}, got none. {' '.join(ways)}")


def fetch(file: DataFile, target: Path) -> None:
    """Download `file` to `target`: bounded, checked, then renamed into place; on any error nothing is left behind.

    Raises:
        ValueError: no usable URL, or content that is too large, too short or of another digest.
        ConnectionError: no connection, or it broke off.
    """
    url = file.url or ""
    check(urlsplit(url).scheme in ("https", "file"), "download", "an https or file URL", url, "Use https.")
    with replace_atomically(target) as out:
        try:
            with urllib.request.urlopen(url, timeout=_TIMEOUT) as response:
                copied, digest = copy_bounded(response, out, file.size, f"download of {url}")
        except (OSError, http.client.HTTPException) as error:
            fix = "Check the connection, or fetch it by other means and name its folder in HASTEN_DATA."
            raise ConnectionError(f"download: expected {url}, got {error!r}. {fix}") from error
        fix = "The transfer broke off: try again."
        check(copied == file.size, f"download of {url}", f"{file.size} bytes", copied, fix)
        fix = "The source has changed or was tampered with; nothing was kept."
        check(digest == file.sha256, f"download of {url}", f"SHA-256 {file.sha256}", digest, fix)


class replace_atomically:  # noqa: N801  # a context manager, used like a function
    """`with replace_atomically(path) as out:` writes a temporary file beside `path` and renames it at the end.

    If the body raises, the temporary file is removed and `path` is as before.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> BinaryIO:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}-", suffix=".part")
        self._temporary, self._out = Path(name), os.fdopen(handle, "wb")
        return self._out

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            with self._out:
                if kind is None:
                    self._out.flush()
                    os.fsync(self._out.fileno())
            if kind is None:
                os.replace(self._temporary, self.path)
        finally:
            self._temporary.unlink(missing_ok=True)


def copy_bounded(source: _Reader, out: BinaryIO, limit: int, call: str) -> tuple[int, str]:
    """Copy all of `source` to `out`; return the bytes copied and their SHA-256. Beyond `limit` bytes it is an error."""
    copied, digest = 0, hashlib.sha256()
    while chunk := source.read(_CHUNK):
        copied += len(chunk)
        if copied > limit:
            raise refuse(call, f"at most {limit} bytes", "more", "Nothing was kept.")
        digest.update(chunk)
        out.write(chunk)
    return copied, digest.hexdigest()


def safe_path(name: str) -> PurePosixPath:
    """`name` as a relative path that stays below the folder it is joined to, on every system.

    Raises:
        ValueError: an absolute path, a drive, a backslash, an empty name or a `..`.
    """
    path = PurePosixPath(name)
    safe = name and "\\" not in name and ":" not in name and "\0" not in name
    if not safe or path.is_absolute() or ".." in path.parts or not path.parts:
        raise refuse("path", "a relative path without '..', ':' or backslash", repr(name), "Nothing was written.")
    return path


def _flag(variable: str) -> bool:
    """The environment variable as a switch: 1 is on; 0, empty or unset is off."""
    value = os.environ.get(variable, "")
    check(value in ("", "0", "1"), variable, "1 or 0", value, f"Set {variable}=1, or unset it.")
    return value == "1"
