"""A whole study as one file, to keep or to send: `archive` writes it, `extract` brings it back, `opened` reads it.

The file is a zip that holds the study as it was at one moment (also while a driver writes it), the users' files, the
logs, the report and a manifest with the SHA-256 of each. Checkpoints stay behind: a run that has not ended starts
again. Paths of this machine are cut to their ends (see `private`). The same study gives the same bytes.

Whoever reads an archive trusts nothing in it: only names that we write, only regular files, sizes counted while
unpacking, every digest compared, and a study appears under its name when all of it is there.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hasten._core.checks import check, describe, refuse

from . import durable
from .private import without_places
from .store import FILE, LOCK, Store

__all__ = ["LIMIT", "MANIFEST", "appearing", "archive", "check_free", "extract", "is_archive", "opened"]

MANIFEST = "manifest.json"
FORMAT = "hasten study"
VERSION = 1  # of the manifest and of what lies beside it
LIMIT = 1 << 30  # most bytes of all files together: thousands of runs with their logs
MANIFEST_LIMIT = 1 << 24
_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # the first moment that a zip can name

# The whole of what an archive may hold.
_KNOWN = re.compile(
    r"study\.sqlite|report\.html|logs/[^/\\:\x00-\x1f]+\.log"
    r"|sources/[0-9a-f]{16}/(?:[^/\\:.\x00-\x1f][^/\\:\x00-\x1f]*/)*[^/\\:.\x00-\x1f][^/\\:\x00-\x1f]*\.py"
)


def archive(folder: str | Path, out: str | Path | None = None) -> Path:
    """Write the study in `folder` as one zip file.

    Args:
        folder: a study, finished or not.
        out: the file; default: the folder's name with `.zip`, beside the folder. An archive that is there is replaced.

    Returns:
        The file.

    Raises:
        StoreError: the folder holds no study, or cannot be read.
        ValueError: `out` is something else than an archive, or the study is larger than `LIMIT`.
        ImportError: the report needs altair and vl-convert (extra `bench`).
    """
    folder = Path(folder)
    store = Store(folder, read_only=True)
    try:
        facts, runs = store.snapshot()
    finally:
        store.close()
    check("plan" in facts, "archive", "a study that has begun", str(folder), "Run `hasten compare` first.")
    target = Path(out) if out is not None else folder.resolve().with_name(f"{folder.resolve().name}.zip")
    free = not target.exists() or {MANIFEST, FILE} <= _names(target)  # other programs' zips hold a manifest.json too
    check(free, "archive", "a new file, or an archive of a study", str(target), "Pass another file with --out.")
    facts = without_places(facts, folder)
    runs = [{**run, "data": without_places(run["data"], folder)} for run in runs]
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place)
        _fill(copy, facts, runs)
        _take_files(folder, copy)
        files = _described(copy, facts["title"])
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as file:
            for name in [MANIFEST, *sorted(files)]:
                file.writestr(_entry(name), (copy / name).read_bytes(), zipfile.ZIP_DEFLATED)
        durable.write_atomically(target, packed.getbuffer())
    return target


def _fill(copy: Path, facts: dict[str, Any], runs: list[dict[str, Any]]) -> None:
    """Write the study anew, so that no page of the old file with an overwritten text comes along, and its report."""
    from .report.export import write_report
    from .results import study_data

    store = Store(copy)
    store.fill(facts, runs)
    try:
        write_report(study_data(store), copy / "report.html")
    finally:
        store.close()
    (copy / LOCK).unlink()


def _take_files(folder: Path, copy: Path) -> None:
    """The users' files as they are (their digest names them), and logs without places."""
    for path in sorted((folder / "sources").rglob("*.py")):
        _copy(path, copy / path.relative_to(folder), path.read_bytes())
    for path in sorted((folder / "logs").glob("*.log")):
        text = path.read_text(encoding="utf-8", errors="replace")
        _copy(path, copy / path.relative_to(folder), without_places(text, folder).encode())


def _copy(path: Path, target: Path, data: bytes) -> None:
    if path.is_symlink():
        raise refuse("archive", "regular files in the study's folder", f"the link {path}", "Remove it.")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)


def _described(copy: Path, title: str) -> dict[str, Any]:
    """Write the manifest; returns its list of files."""
    import hasten

    paths = [path for path in copy.rglob("*") if path.is_file()]
    odd = [name for name in (path.relative_to(copy).as_posix() for path in paths) if not _KNOWN.fullmatch(name)]
    check(not odd, "archive", "names of files that every system takes", odd[:3], "Rename the workload's file.")
    size = sum(path.stat().st_size for path in paths)
    check(size <= LIMIT, "archive", f"at most {LIMIT} bytes", size, "Remove what you do not need from its logs.")
    files = {
        path.relative_to(copy).as_posix(): {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "size": path.stat().st_size,
        }
        for path in paths
    }
    manifest = {"format": FORMAT, "version": VERSION, "hasten": hasten.__version__, "title": title, "files": files}
    text = json.dumps(manifest, indent=1, sort_keys=True) + "\n"
    (copy / MANIFEST).write_text(text, encoding="utf-8", newline="\n")
    return files


def _entry(name: str) -> zipfile.ZipInfo:
    """The head of an entry without anything that the moment or the machine decides."""
    info = zipfile.ZipInfo(name, _EARLIEST)
    info.create_system, info.external_attr = 3, 0o100644 << 16  # Unix, a regular file
    return info


def is_archive(path: str | Path) -> bool:
    """Whether a file looks like an archive of a study; whether it is whole, `extract` says."""
    return MANIFEST in _names(path)


def _names(path: str | Path) -> set[str]:
    """The names in a zip; none of a file that is no zip."""
    try:
        with zipfile.ZipFile(path) as packed:
            return set(packed.namelist())
    except (OSError, zipfile.BadZipFile, NotImplementedError):
        return set()


def extract(path: str | Path, folder: str | Path) -> Path:
    """Bring the study in an archive back as a folder, which the same `hasten compare` resumes.

    Args:
        path: a file that `archive` wrote.
        folder: where to put it; it must not exist, or be empty.

    Returns:
        The folder. It appears when everything in it is whole and checked.

    Raises:
        ValueError: not an archive, of a newer version, damaged, or larger than `LIMIT`; a folder that holds something.
        OSError: the folder cannot be written.
    """
    folder = Path(folder)
    check_free(folder, "archive --extract")
    with appearing(folder) as aside:
        _unpack(Path(path), aside)
        # The page is its sender's and may hold any script; `hasten report` writes one from the numbers.
        (aside / "report.html").unlink(missing_ok=True)
    return folder


@contextlib.contextmanager
def opened(path: str | Path) -> Iterator[Path]:
    """The folder of a study: `path` itself, or for an archive a temporary one that is gone afterwards.

    Raises:
        ValueError: a file that is no archive, or a damaged one.
    """
    path = Path(path)
    if not path.is_file():
        yield path  # whoever opens it says what is missing there
        return
    with tempfile.TemporaryDirectory() as place:
        _unpack(path, Path(place))
        yield Path(place)


def _unpack(path: Path, folder: Path) -> None:
    """Everything that the manifest names into `folder`, checked."""
    from .workloads.archive import extract as take

    fix = "Pass what `hasten archive` wrote; if it is that, it is damaged: get it again."
    check(is_archive(path), "archive", "the folder of a study or its archive (.zip)", str(path), fix)
    take(path, folder, [MANIFEST], limit=MANIFEST_LIMIT)
    files = _manifest(path, (folder / MANIFEST).read_bytes())
    (folder / MANIFEST).unlink()
    with zipfile.ZipFile(path) as packed:
        others = sorted(set(packed.namelist()) - {MANIFEST, *files})
        odd = [info.filename for info in packed.infolist() if info.compress_type not in _PACKED]
    check(not others, f"archive {path.name}", "files that its manifest names", others[:3], "Nothing was kept.")
    check(not odd, f"archive {path.name}", "files packed by deflate, as we do it", odd[:3], "Nothing was kept.")
    take(path, folder, sorted(files), limit=LIMIT)
    for name, known in files.items():
        with (folder / name).open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        fix = "The file is damaged or was changed: get it again."
        check(digest == known, f"archive {path.name}", f"SHA-256 {known} of {name}", digest, fix)


def _manifest(path: Path, data: bytes) -> dict[str, str]:
    """Name -> SHA-256, of a manifest that we understand."""
    call = f"archive {path.name}"
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise refuse(call, "a manifest in JSON", str(error), "The file is damaged: get it again.") from error
    known = isinstance(found, dict) and found.get("format") == FORMAT and isinstance(found.get("files"), dict)
    check(known, call, f"the manifest of a {FORMAT}", found, "Pass what `hasten archive` wrote.")
    version = found.get("version")
    check(version == VERSION, call, f"version {VERSION}", version, "Update hasten to read a newer archive.")
    files = {}
    for name, entry in found["files"].items():
        digest = entry.get("sha256") if isinstance(entry, dict) else None
        if not _KNOWN.fullmatch(name) or not isinstance(digest, str):
            raise refuse(call, "files of a study", describe(name), "Nothing was kept.")
        files[name] = digest
    check(FILE in files, call, f"a {FILE} in it", sorted(files)[:3], "The file is damaged: get it again.")
    return files


def check_free(folder: Path, call: str) -> None:
    """Refuse a folder that holds something."""
    free = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    check(free, call, "a folder that does not exist yet, or an empty one", str(folder), "Pass another one.")


@contextlib.contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """A folder aside that gets the name `folder` at the end, durably; after an error it is gone.

    A kill leaves at most `.<name>.<process>.part`, which nobody takes for a study: its name says what it is. The next
    call for the same name removes it.
    """
    place = folder.absolute()
    durable.make_folder(place.parent)
    aside = place.with_name(f".{place.name}.{os.getpid()}.part")
    _clean_up(place)
    shutil.rmtree(aside, ignore_errors=True)  # of a process with our number that was killed
    aside.mkdir()
    try:
        yield aside
        mode = aside.stat().st_mode & 0o666  # what new files get here; temporary ones were for us alone
        for path in [*aside.rglob("*"), aside]:
            if path.is_dir():
                durable.sync_folder(path)
            else:
                path.chmod(mode)
        if place.is_dir():
            place.rmdir()  # an empty one makes room
        aside.rename(place)
        durable.sync_folder(place.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _clean_up(place: Path) -> None:
    """Remove what killed processes left of a folder of this name."""
    pattern = re.compile(rf"\.{re.escape(place.name)}\.(\d+)\.part")
    for path in place.parent.iterdir():
        found = pattern.fullmatch(path.name)
        if found and not path.is_symlink() and _has_ended(int(found[1])):
            shutil.rmtree(path, ignore_errors=True)


def _has_ended(process: int) -> bool:
    """Whether no process has this number; not known on Windows, where signal 0 is no question."""
    if os.name != "posix":
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        pass
    return False
