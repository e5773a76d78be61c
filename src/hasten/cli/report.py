"""`hasten report`: the page of a study, as far as it has come."""

from __future__ import annotations

from pathlib import Path

from . import UsageError

__all__ = ["report"]


def report(
    folder: Path,
    *,
    out: Path | None = None,
    csv: Path | None = None,
    json: Path | None = None,
    charts: Path | None = None,
    margin: float | None = None,
) -> int:
    """Write the report of a study: one self-contained HTML page. Nothing that the study names is imported.

    Parameters
    ----------
    folder
        The study's folder, such as runs/demo.
    out
        The page (default: report.html in the folder).
    csv
        Also write every point that counts as CSV.
    json
        Also write everything as JSON.
    charts
        Also write the charts as PNG and SVG into this folder.
    margin
        The loss in the metric that you would accept.
    """
    from hasten.bench.report import export
    from hasten.bench.store import StoreError
    from hasten.bench.study import open_study

    try:
        study = open_study(folder, margin=margin)
    except (StoreError, ValueError) as error:
        raise UsageError(str(error)) from error
    print(study.report(out))
    if csv is not None:
        export.write_text(csv, export.to_csv(study.data))
        print(csv)
    if json is not None:
        export.write_text(json, export.to_json(study.data))
        print(json)
    if charts is not None:
        for path in export.save_charts(study.data, charts):
            print(path)
    return 0
