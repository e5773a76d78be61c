"""A study for other programs: JSON, CSV, charts as files, and the page on disk. Nothing is written elsewhere."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..._core.checks import check, missing_extra
from ..durable import write_atomically
from . import charts
from .data import Report, Run, Study, prepare, validate
from .page import render

__all__ = ["FORMATS", "from_json", "save_charts", "to_csv", "to_json", "write_report", "write_text"]

FORMATS = ("png", "svg")
WIDTH = 720  # pixels of an exported chart; PNG files have twice as many
COLUMNS = ("arm", "workload", "seed", "point", "step", "epoch", "time", "metric", "flops", "memory", "energy",
           "attempt", "status", "flags")  # fmt: skip


def to_json(data: dict[str, Any] | Report) -> str:
    """The whole report as JSON; `from_json` reads it back, and the same data give the same text."""
    return json.dumps(validate(data), indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"


def from_json(text: str) -> Report:
    """The report that `to_json` wrote.

    Raises:
        ValueError: it is not JSON, not a report, or of another version.
    """
    return validate(json.loads(text))


def to_csv(data: dict[str, Any] | Report) -> str:
    """One line per arm, seed and point of the runs that count; `hasten.bench.stats.Table.from_csv` reads it.

    The metric has the user's sign: pass `minimize=True` to the reader if the workload minimizes. FLOPs, peak bytes of
    memory and joules of energy are those up to the point, empty where they are unknown; reports of version 1 know the
    peak of the whole run only, and have that. A run that failed ends with a line whose metric is nan. Repeated attempts
    are in the JSON only.
    """
    report = validate(data)
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n", restval="")
    writer.writeheader()
    for run in report["runs"]:
        if run["counts"]:
            writer.writerows(_csv_rows(run, report["study"]))
    return out.getvalue()


def _csv_rows(run: Run, study: Study) -> Iterator[dict[str, Any]]:
    common = {"arm": run["arm"], "workload": study["workload"], "seed": run["seed"], "attempt": run["attempt"],
              "status": run["status"], "flags": " ".join(run["flags"])}  # fmt: skip
    last, number = 0.0, 0
    for point in run["points"]:
        memory = run["memory"] if point["memory"] is None else point["memory"]
        metric = "nan" if point["metric"] is None else point["metric"]
        last, number = point["seconds"], point["point"] + 1
        yield {**common, "point": point["point"], "step": point["step"], "epoch": point["epoch"], "time": last,
               "metric": metric, "flops": point["flops"], "memory": memory, "energy": point["energy"]}  # fmt: skip
    if run["status"] == "failed":  # times increase along a run; nobody reads this one
        step = study["ends"][number] if number < len(study["ends"]) else None
        yield {
            **common,
            "point": number,
            "step": step,
            "time": max(run["seconds"], last * (1 + 1e-6) + 1e-6),
            "metric": "nan",
        }


def save_charts(data: dict[str, Any] | Report, folder: str | Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Every chart of the report as a file `<name>.<format>` in `folder`, which is made if it is missing.

    The same data give the same bytes on one machine (PNG and SVG use its fonts).

    Args:
        data: see `hasten.bench.report.data.Report`.
        folder: where the files go.
        formats: among "png" and "svg".

    Returns:
        The files, in the order of the page.

    Raises:
        ValueError: not a report, or an unknown format.
        ImportError: altair or vl-convert is not installed (extra `bench`).
    """
    report = prepare(data)
    folder = Path(folder)
    for name in formats:
        check(name in FORMATS, "save_charts", f"formats among {', '.join(FORMATS)}", name)
    try:
        import vl_convert
    except ImportError:
        raise missing_extra("save_charts", "vl-convert-python", "bench") from None
    version = charts.vega_lite_version(charts.theme.altair())
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for figure in charts.figures(report, width=WIDTH, background="white"):
        spec = {**figure.spec(), "title": {"text": figure.title, "anchor": "start", "offset": 14}, "padding": 14}
        for name in formats:
            path = folder / f"{figure.name}.{name}"
            if name == "png":
                write_atomically(path, vl_convert.vegalite_to_png(spec, vl_version=version, scale=2))
            else:
                write_atomically(path, _stable(vl_convert.vegalite_to_svg(spec, vl_version=version)).encode())
            written.append(path)
    return written


_CLIP = re.compile(r'(<clipPath id="clip|clip-path="url\(#clip)(\d+)')


def _stable(svg: str) -> str:
    """Clip paths numbered from 1: Vega counts them through the life of the process."""
    numbers: dict[str, int] = {}
    return _CLIP.sub(lambda found: found[1] + str(numbers.setdefault(found[2], len(numbers) + 1)), svg)


def write_report(data: dict[str, Any] | Report, path: str | Path) -> Path:
    """The page as a file; a reader sees the old page or the new one, never half of one.

    Raises:
        ValueError: the data are not a report, or of another version.
        ImportError: altair or vl-convert is not installed (extra `bench`).
        OSError: the file cannot be written.
    """
    return write_text(path, render(data))


def write_text(path: str | Path, text: str) -> Path:
    """The text as a UTF-8 file, written as a whole or not at all."""
    path = Path(path)
    write_atomically(path, text.encode())
    return path
