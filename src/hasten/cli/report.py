"""`hasten report`: the page of a study, or of several, as far as they have come."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from . import UsageError

__all__ = ["report"]

SEVERAL = Path("studies.html")


def report(
    *studies: Path,
    out: Path | None = None,
    csv: Path | None = None,
    json: Path | None = None,
    charts: Path | None = None,
    publish: Path | None = None,
    margin: float | None = None,
) -> int:
    """Write the report of a study, or of several together: one self-contained HTML page, or a folder of static files.

    Nothing that a study names is imported.

    Parameters
    ----------
    studies
        Folders such as runs/demo, archives (.zip), reports as JSON. Several make one page with an overview.
    out
        The page (default: report.html in the folder; for several studies.html here).
    csv
        Also write every point that counts as CSV; of one study.
    json
        Also write everything as JSON; of one study.
    charts
        Also write the charts as PNG and SVG into this folder; of one study.
    publish
        Write static files into this folder instead: an overview, and a page, JSON and CSV of each study.
    margin
        The loss in the metric that you would accept.
    """
    from hasten.bench.pruning.study import is_prune_study
    from hasten.bench.publish import gather
    from hasten.bench.store import StoreError

    if not studies:
        raise UsageError("report: expected the folder of a study. For example: hasten report runs/demo")
    try:
        if len(studies) == 1 and studies[0].suffix != ".json" and is_prune_study(studies[0]):
            _refuse(
                "a study of hasten prune", "whose page this is", csv=csv, charts=charts, publish=publish, margin=margin
            )
            return _prune(studies[0], out, json)
        found = gather(studies, margin=margin)
    except (StoreError, ValueError) as error:
        raise UsageError(str(error)) from error
    if publish is not None:
        _refuse("--publish", "which writes these for every study", out=out, csv=csv, json=json, charts=charts)
        return _publish(found, publish)
    if len(found.reports) > 1 or found.robustness:
        _refuse("several studies", "use --publish, which writes these for each", csv=csv, json=json, charts=charts)
        return _several(found, SEVERAL if out is None else out)
    return _one(found.reports[0], _page(studies[0]) if out is None else out, csv=csv, json=json, charts=charts)


def _prune(folder: Path, out: Path | None, json: Path | None) -> int:
    """The page of a pruning study, and its data."""
    from hasten.bench.pruning import open_prune_study
    from hasten.bench.report.export import write_text

    study = open_prune_study(folder)
    print(study.report(out))
    if json is not None:
        print(write_text(json, study.json()))
    return 0


def _refuse(beside: str, why: str, **given: Any) -> None:
    """Options that cannot be followed are refused, not ignored."""
    for name, value in given.items():
        if value is not None:
            raise UsageError(f"report: expected no --{name} beside {beside}, {why}.")


def _page(study: Path) -> Path:
    """Where the page of one study goes."""
    return study / "report.html" if study.is_dir() else study.with_suffix(".html")


def _one(data: dict[str, Any], out: Path, *, csv: Path | None, json: Path | None, charts: Path | None) -> int:
    from hasten.bench.report import export

    print(export.write_report(data, out))
    if csv is not None:
        print(export.write_text(csv, export.to_csv(data)))
    if json is not None:
        print(export.write_text(json, export.to_json(data)))
    if charts is not None:
        for path in export.save_charts(data, charts):
            print(path)
    return 0


def _several(found: Any, out: Path) -> int:
    from hasten.bench.report.export import write_text
    from hasten.bench.report.several import render_several

    try:
        text = render_several(found.reports, robustness=found.robustness)
    except ValueError as error:  # a study twice
        raise UsageError(str(error)) from error
    print(write_text(out, text))
    return 0


def _publish(found: Any, folder: Path) -> int:
    from hasten.bench.publish import publish

    try:
        done = publish(found.reports, folder, robustness=found.robustness)
    except ValueError as error:
        raise UsageError(str(error)) from error
    for path in done.written:
        print(path)
    for path in done.removed:
        print(f"removed {path}", file=sys.stderr)
    for path in done.kept:
        print(f"kept {path}: of an earlier time, and changed since", file=sys.stderr)
    return 0
