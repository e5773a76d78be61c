"""Taking named files out of a tar or zip archive from outside, safely."""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from hasten._core.checks import check, refuse

from .download import copy_bounded, replace_atomically, safe_path

__all__ = ["extract"]


def extract(archive: Path, folder: Path, members: Sequence[str], *, limit: int) -> list[Path]:
    """Extract the named members, and nothing else, below `folder`.

    Only regular files are taken: never a link, a device or a folder. Names that would leave `folder` are refused, sizes
    are counted while unpacking (a header may lie), and each file gets its name only when it is complete.

    Args:
        archive: a tar file, compressed or not, or a zip file.
        folder: where to put them; made if absent.
        members: exact names inside the archive.
        limit: most bytes to unpack, over all members.

    Returns:
        The paths written, in the order of `members`.

    Raises:
        ValueError: not an archive, or a damaged one; a member missing, twice there, not a regular file, with an unsafe
            name; or more bytes than `limit`.
    """
    paths = [folder / safe_path(name) for name in members]
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                entries = [(i.filename, _is_plain(i), i) for i in opened.infolist()]
                chosen = _choose(archive, members, entries)
                _write(archive, paths, (lambda info: opened.open(info)), chosen, limit)
        else:
            with tarfile.open(archive) as opened:
                entries = [(m.name.removeprefix("./"), m.isreg() and not m.issparse(), m) for m in opened]
                chosen = _choose(archive, members, entries)
                _write(archive, paths, opened.extractfile, chosen, limit)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise refuse(f"extract({archive.name})", "a whole tar or zip archive", str(error), "Fetch it again.") from error
    return paths


def _is_plain(info: zipfile.ZipInfo) -> bool:
    """Whether a zip entry is a regular, unencrypted file; the upper half of `external_attr` is its Unix mode."""
    kind = (info.external_attr >> 16) & 0o170000
    return not info.is_dir() and not info.flag_bits & 1 and kind in (0, 0o100000)


def _choose(archive: Path, members: Sequence[str], entries: list) -> list:
    """The archive's entry of each member."""
    chosen = []
    for name in members:
        found = [(plain, entry) for entry_name, plain, entry in entries if entry_name == name]
        call = f"extract({archive.name})"
        check(len(found) == 1, call, f"one member {name!r}", len(found), "It is another archive than expected.")
        if not found[0][0]:
            raise refuse(call, f"a regular file as {name!r}", "a link, folder or device", "Nothing was written.")
        chosen.append(found[0][1])
    return chosen


def _write(archive: Path, paths: list[Path], opener, entries: list, limit: int) -> None:
    left = limit
    for path, entry in zip(paths, entries, strict=True):
        source: IO[bytes]
        with opener(entry) as source, replace_atomically(path) as out:
            left -= copy_bounded(source, out, left, f"extract({archive.name})")[0]
