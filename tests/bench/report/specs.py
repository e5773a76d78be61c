"""Looking into Vega-Lite and Vega specifications."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import altair as alt
import vl_convert

from hasten.bench.report.charts import vega_lite_version

CODE = ("expr", "signal", "test", "update", "labelExpr", "calculate", "filter", "init")  # keys whose text Vega runs


def layers(chart: Any) -> list[dict[str, Any]]:
    """The layers of a chart as plain data, each with its data (altair hoists data that all layers share)."""
    spec = chart.to_dict()
    return [{"data": spec.get("data"), **layer} for layer in spec.get("layer", [spec])]


def of_mark(chart: Any, kind: str, **more: Any) -> list[dict[str, Any]]:
    """The layers with this mark whose mark has all these properties."""
    wanted = {"type": kind, **more}
    return [layer for layer in layers(chart) if wanted.items() <= layer["mark"].items()]


def rows(layer: dict[str, Any]) -> list[dict[str, Any]]:
    """The data of a layer."""
    return layer["data"]["values"]


def code(value: Any, key: str = "") -> Iterator[str]:
    """Every text that Vega would run as an expression."""
    if isinstance(value, dict):
        for name, item in value.items():
            if name not in ("values", "domain", "data_values"):
                yield from code(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from code(item, key)
    elif isinstance(value, str) and key in CODE:
        yield value


def compiled(spec: dict[str, Any]) -> dict[str, Any]:
    """The Vega specification, which a wrong Vega-Lite one does not become."""
    return vl_convert.vegalite_to_vega(spec, vl_version=vega_lite_version(alt))
