from __future__ import annotations

import builtins
from typing import Any

import pytest
from tests.bench.report.specs import code, compiled
from tests.bench.report.synthetic import HOSTILE, hostile, study

from hasten.bench.report.charts import figures
from hasten.bench.report.data import printable

EVERY = ["curves", "budget", "target", "speedup", "accuracy", "time", "costs", "schedule"]


def test_figures_come_in_reading_order_and_all_compile() -> None:
    found = figures(study())
    assert [figure.name for figure in found] == EVERY
    for figure in found:
        spec = figure.spec()
        assert spec["width"] == "container"
        assert spec["description"].startswith(figure.title)
        assert compiled(spec)["marks"]


def test_a_study_without_verdicts_has_the_charts_of_its_runs() -> None:
    assert [figure.name for figure in figures(study({"base": "base"}, seeds=2))] == ["curves", "time", "schedule"]


def test_a_study_of_logs_has_the_charts_of_its_analysis() -> None:
    data = study()
    data["runs"], data["study"]["schedule"] = [], {}
    found = figures(data)
    assert [figure.name for figure in found] == EVERY[:5]
    assert "Solid" not in found[0].caption
    assert "Dashed" not in found[0].caption


def test_names_are_data_and_never_code() -> None:
    data = printable(hostile())
    specs = [figure.spec() for figure in figures(data)]
    for spec in specs:
        texts = [*code(spec), *code(compiled(spec))]
        assert not [text for text in texts if any(printable(name) in text for name in HOSTILE)]
        assert not [text for text in texts if "alert(1)" in text]
    assert any(list(code(spec)) for spec in specs)


def test_the_same_data_give_the_same_specification() -> None:
    first, second = ([figure.spec() for figure in figures(study())] for _ in range(2))
    assert first == second


def test_without_altair_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "altair":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"needs altair, .*pip install 'hasten\[bench\]'"):
        figures(study())
