"""Studies from wherever they lie (`gather`), and several of them as a folder of static files (`publish`).

A folder of static files can be served by any web host, or opened from the disk: pages, and their data as JSON and CSV,
with relative links only. An index in it names the files that are ours; nothing else there is ever changed or removed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hasten._core.checks import check, refuse

from . import durable
from .private import without_places
from .store import FILE

__all__ = ["INDEX", "Gathered", "Published", "gather", "publish"]

INDEX = "hasten-pages.json"
FORMAT = "hasten pages"
VERSION = 1
TAKEN = frozenset({"index", "con", "prn", "aux", "nul"})  # our first page, and names that Windows keeps for itself


@dataclass(frozen=True)
class Gathered:
    """What was found: the data of each study, and the answers of robustness runs."""

    reports: list[dict[str, Any]]
    robustness: list[dict[str, Any]]


@dataclass(frozen=True)
class Published:
    """What `publish` did: files written; of those of an earlier time the ones removed, and the ones kept as changed."""

    written: list[Path]
    removed: list[Path]
    kept: list[Path]


def gather(paths: Iterable[str | Path], *, margin: float | None = None) -> Gathered:
    """The data of studies, of whatever kind each path is.

    Args:
        paths: folders of studies, archives (.zip), reports as JSON (of any version), folders of robustness runs.
        margin: the loss in the metric that you would accept; for studies only, a JSON holds its analysis already.

    Raises:
        StoreError: a folder without a study.
        ValueError: a file of another kind, or a damaged one.
    """
    from .robustness import INDEX as VARIANTS
    from .robustness import open_robustness
    from .study import open_study

    reports: list[dict[str, Any]] = []
    robustness: list[dict[str, Any]] = []
    for path in map(Path, paths):
        if path.is_file() and path.suffix == ".json":
            fix = "Leave --margin out, or pass the study's folder or archive."
            check(margin is None, "report", f"no margin for {path}, whose analysis is done", margin, fix)
            reports.append(_from_json(path))
        elif (path / VARIANTS).is_file() and not (path / FILE).exists():
            found = open_robustness(path)
            reports += [_with_margin(study.folder, study.data, margin) for study in found.studies.values()]
            robustness.append(found.data)
        else:
            reports.append(open_study(path, margin=margin).data)
    return Gathered(reports, robustness)


def _with_margin(folder: Path, data: dict[str, Any], margin: float | None) -> dict[str, Any]:
    from .study import open_study

    return data if margin is None else open_study(folder, margin=margin).data


def _from_json(path: Path) -> dict[str, Any]:
    from .report.export import from_json

    try:
        return dict(from_json(path.read_text(encoding="utf-8")))
    except (ValueError, RecursionError) as error:
        raise refuse(str(path), "the JSON of a report", str(error).rstrip("."), "Pass what --json wrote.") from error


def publish(
    reports: Sequence[dict[str, Any]], folder: str | Path, *, robustness: Sequence[Mapping[str, Any]] = ()
) -> Published:
    """Write studies as static files: `index.html` with the overview, and for each study a page, its JSON and its CSV.

    Paths of this machine are cut to their ends. Call it again with other studies: what is no longer wanted is removed,
    if it is ours and as we wrote it. The same studies give the same bytes.

    Args:
        reports: see `hasten.bench.report.data.Report`.
        folder: where the files go; made if it is missing.
        robustness: answers of `hasten.bench.robustness`, shown in the overview.

    Raises:
        ValueError: not reports; a file that is not ours has the name of one of these.
        OSError: the folder cannot be written.
    """
    folder = Path(folder)
    texts = _texts([_shown(report) for report in reports], robustness)
    before = _owned(folder)
    foreign = sorted(name for name in texts if (folder / name).exists() and name not in before)
    fix = "Pass an empty folder with --publish, or one that was published before."
    check(not foreign, "publish", f"a folder without {', '.join(foreign)}", str(folder), fix)
    durable.make_folder(folder.absolute())
    digests = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}
    _write_index(folder, {**before, **digests})  # first: after a kill the files are known as ours
    for name in sorted(texts, key=lambda name: (name == "index.html", name)):
        durable.write_atomically(folder / name, texts[name].encode())
    removed, kept = [], []
    for name in sorted(before.keys() - texts.keys()):
        path = folder / name
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == before[name]:
            path.unlink()
            removed.append(path)
        elif path.exists():
            kept.append(path)
    _write_index(folder, digests)
    return Published([folder / name for name in texts], removed, kept)


def _shown(report: dict[str, Any]) -> dict[str, Any]:
    """A report without the places of this machine; statistics name none."""
    from .report.data import validate

    data = dict(validate(report))
    return {**data, **{part: without_places(data[part]) for part in ("study", "runs", "notes", "environment")}}


def _texts(reports: list[dict[str, Any]], robustness: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """File name -> content, the overview first."""
    from .report.data import prepare
    from .report.export import to_csv, to_json
    from .report.page import render
    from .report.several import render_several

    studies = [prepare(report)["study"] for report in reports]
    names = _names([study["workload"] or study["title"] for study in studies])
    texts = {"index.html": render_several(reports, robustness=robustness, pages=[f"{name}.html" for name in names])}
    for name, report in zip(names, reports, strict=True):
        texts |= {f"{name}.html": render(report), f"{name}.json": to_json(report), f"{name}.csv": to_csv(report)}
    return texts


def _names(labels: Sequence[str]) -> list[str]:
    """A file name for each label, safe on every system, no two alike.

    >>> _names(["digits", "Digits", "my work (2)", "index", "\N{GREEK SMALL LETTER ALPHA}"])
    ['digits', 'digits-2', 'my-work-2', 'study-index', 'study']
    """
    found: list[str] = []
    for label in labels:
        plain = re.sub(r"[^a-z0-9_]+", "-", label.lower()).strip("-") or "study"
        plain = f"study-{plain}" if plain in TAKEN else plain[:60]
        number, name = 1, plain
        while name in found:
            number += 1
            name = f"{plain}-{number}"
        found.append(name)
    return found


def _owned(folder: Path) -> dict[str, str]:
    """The files in a folder that an earlier call wrote, with their digests."""
    path = folder / INDEX
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        known = found["format"] == FORMAT and found["version"] == VERSION
        files = {str(name): str(digest) for name, digest in found["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise refuse("publish", f"an index of ours in {path}", f"{type(error).__name__}: {error}") from error
    plain = known and all(re.fullmatch(r"[a-z0-9_-]+\.(html|json|csv)", name) for name in files)
    check(plain, "publish", f"an index of ours, version {VERSION}, in {path}", found, "Pass another folder.")
    return files


def _write_index(folder: Path, files: Mapping[str, str]) -> None:
    index = {"format": FORMAT, "version": VERSION, "files": dict(files)}
    durable.write_atomically(folder / INDEX, (json.dumps(index, indent=1, sort_keys=True) + "\n").encode())
