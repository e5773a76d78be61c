"""Charts that are drawn once: for tests of pages, files and folders. What charts look like is in test_charts.py."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from hasten.bench.report import charts

_DRAWN: dict[str, list[charts.Figure]] = {}


class Drawn:
    """A chart whose specification is made at its first use."""

    def __init__(self, chart: Any) -> None:
        self.to_dict = functools.cache(chart.to_dict)


@contextmanager
def drawn_once() -> Iterator[None]:
    """Figures of the same data are made once: most of what a page takes is altair's copying and checking."""
    real = charts.figures

    def remembered(data: Any, **options: Any) -> list[charts.Figure]:
        key = json.dumps([data, options], sort_keys=True)
        if key not in _DRAWN:
            found = real(data, **options)
            _DRAWN[key] = [dataclasses.replace(figure, chart=Drawn(figure.chart)) for figure in found]
        return list(_DRAWN[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(charts, "figures", remembered)
        yield
