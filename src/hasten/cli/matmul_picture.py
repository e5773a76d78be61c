"""The picture of `hasten matmul bench`: error against speed, as one SVG file that needs nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hasten._core.checks import missing_extra
from hasten.bench.durable import make_folder, write_atomically
from hasten.bench.report import theme
from hasten.bench.report.charts import vega_lite_version

from .matmul_data import wrong

if TYPE_CHECKING:
    from .matmul_bench import Result

__all__ = ["chart", "check_folder", "points", "write"]

WIDTH, HEIGHT = 680, 400
REFERENCE = "float32"  # the line at 1, and no point: its error is that of rounding
LOWEST = 1e-7  # smaller errors are those of float32 and are drawn here
TENS = tuple(10.0**k for k in range(-7, 3)) + tuple(3 * 10.0**k for k in range(-7, 3))
NUMBER = "datum.value < 0.0009 ? format(datum.value, '~e') : format(datum.value, '~g')"
SPEEDUPS = (1, 2, 5, 10, 20, 50, 100, 200, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 1.5, 3, 0.7)


def check_folder(out: Path) -> None:
    """Refuse before anything is measured: a file in the folder's place, packages that are missing."""
    if out.exists() and not out.is_dir():
        raise wrong("bench", "a folder for --out", f"the file {out}", "Pass another name.")
    try:
        import altair  # noqa: F401
        import vl_convert  # noqa: F401
    except ImportError:
        raise missing_extra("hasten matmul bench --out", "altair with vl-convert-python", "bench") from None


def write(out: Path, results: Sequence[Result], lines: Sequence[str], title: str) -> list[Path]:
    """Write `matmul.jsonl` and `matmul.svg` into a folder, which is made where it is missing."""
    import vl_convert

    alt = theme.altair()
    make_folder(out)
    paths = [out / "matmul.jsonl", out / "matmul.svg"]
    write_atomically(paths[0], "".join(f"{line}\n" for line in lines).encode())
    spec = {**chart(alt, results, title).to_dict(), "padding": 14}
    write_atomically(paths[1], vl_convert.vegalite_to_svg(spec, vl_version=vega_lite_version(alt)).encode())
    return paths


def points(results: Sequence[Result]) -> list[dict[str, Any]]:
    """A row for each method that has numbers, without float32."""
    return [
        {
            "arm": _series(result), "label": result.setting.split(" ")[0][2:], "nmse": max(result.nmse, LOWEST),
            "low": max(result.nmse_interval[0], LOWEST), "high": max(result.nmse_interval[1], LOWEST),
            "speedup": result.speedup, "slow": result.speedup_interval[0], "fast": result.speedup_interval[1],
            "order": order,
        }
        for order, result in enumerate(results)
        if result.problem is None and result.family != REFERENCE
    ]  # fmt: skip


def _series(result: Result) -> str:
    """The name in the legend: the method, of MADDNESS with its leaves."""
    return " ".join([result.title, *result.setting.split(" ")[1:]])


def chart(alt: Any, results: Sequence[Result], title: str) -> Any:
    """Error (down is better) against speed (right is better), both logarithmic, with their 95 % intervals."""
    rows = points(results)
    names = [REFERENCE, *dict.fromkeys(row["arm"] for row in rows)]
    color, shape = theme.arm_encoding(alt, names, baseline=False)
    across = theme.log_hull(itertools.chain.from_iterable((r["slow"], r["fast"]) for r in rows), include=[1.0])
    down = theme.log_hull(itertools.chain.from_iterable((r["low"], r["high"]) for r in rows), margin=0.08)
    x = alt.Scale(type="log", domain=across, nice=False)
    y = alt.Scale(type="log", domain=down, nice=False)
    ticks = {"values": theme.log_ticks(TENS, down, 8), "labelExpr": NUMBER}
    speed = {"values": theme.log_ticks(SPEEDUPS, across, 8), "labelExpr": "format(datum.value, '~g') + '\u00d7'"}

    def right(field: str) -> Any:
        return alt.X(f"{field}:Q", scale=x, title="speed-up against float32", axis=alt.Axis(grid=False, **speed))

    def up(field: str) -> Any:
        return alt.Y(f"{field}:Q", scale=y, title="NMSE on rows that were not learned from", axis=alt.Axis(**ticks))

    data = alt.Chart(alt.Data(values=rows))
    drawn = alt.layer(
        alt.Chart(alt.Data(values=[{"speedup": 1.0}])).mark_rule(strokeDash=[3, 3], color="#767676").encode(
            right("speedup")),
        data.mark_line(strokeWidth=1.2, opacity=0.5).encode(right("speedup"), up("nmse"), color, order="order:Q"),
        data.mark_rule(strokeWidth=2, opacity=0.5).encode(right("slow"), up("nmse"), color, x2="fast:Q"),
        data.mark_rule(strokeWidth=2, opacity=0.5).encode(right("speedup"), up("low"), color, y2="high:Q"),
        data.mark_point(size=70, filled=True, opacity=1).encode(right("speedup"), up("nmse"), color, shape),
        data.mark_text(dy=-10, fontSize=10, color="#444444").encode(right("speedup"), up("nmse"), text="label:N"),
    )  # fmt: skip
    sized = theme.themed(drawn, width=WIDTH, height=HEIGHT, entry=theme.entry_width(names), background="white")
    subtitle = (
        "Down: more exact. Right: faster. Lines: 95 % intervals. Dashed: float32. Numbers: codebooks or components."
    )
    heading = {"text": f"Error against speed: {title}", "subtitle": subtitle, "anchor": "start", "offset": 14}
    return sized.properties(title=heading, description=f"{heading['text']}. {subtitle}")
