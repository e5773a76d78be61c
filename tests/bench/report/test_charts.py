from __future__ import annotations

import builtins
from typing import Any

import pytest
from tests.bench.report.specs import code, compiled
from tests.bench.report.synthetic import HOSTILE, calibrated, hostile, study

from hasten.bench.report.charts import figures
from hasten.bench.report.data import printable

MEASURED = ["curves", "budget", "target", "speedup", "accuracy", "time", "costs", "schedule"]
EVERY = [*MEASURED, "flops", "energy", "memory", "frontier"]


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
    assert [figure.name for figure in found] == [*EVERY[:5], "frontier"]
    assert "Solid" not in found[0].caption
    assert "Dashed" not in found[0].caption


def test_every_part_of_the_page_gets_its_figures() -> None:
    sections: dict[str, list[str]] = {}
    for figure in figures(calibrated()):
        sections.setdefault(figure.section, []).append(figure.name)
        assert compiled(figure.spec())["marks"]
    assert sections == {
        "charts": MEASURED,
        "axes": ["flops", "energy", "memory"],
        "frontier": ["frontier"],
        "calibration": ["calibration"],
    }


@pytest.mark.parametrize(
    ("curve", "line", "schedule"),
    [("cyclic", "Dashed: all points", "Dotted lines"), ("separate", "Solid: every point", "Of the longest run"),
     ("branch", "branches of one trunk", "The trunk and the decay of the longest budget")],
)  # fmt: skip
def test_captions_tell_the_kind_of_curve(curve: str, line: str, schedule: str) -> None:
    found = {figure.name: figure.caption for figure in figures(study(curve=curve))}
    assert line in found["curves"]
    assert found["schedule"].startswith(schedule)


def test_names_are_data_and_never_code() -> None:
    data = printable(hostile())
    data["calibration"] = calibrated()["calibration"]
    data["calibration"]["budgets"] = [*printable(list(HOSTILE)), "x"]
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
