"""benchmarks/maddness.py at a small size: its lines and their errors. Nothing here looks at how fast anything is."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.matmul.maddness.data import rows_like_activations

from hasten._core import dispatch
from hasten._native import ext

SCRIPTS = Path(__file__).parents[2] / "benchmarks"
pytestmark = pytest.mark.skipif(not SCRIPTS.is_dir(), reason="the benchmarks are not part of this distribution")

DENSE = ["f32", "bf16", "f32->bf16", "int8 oneDNN", "int8 _int_mm", "int8, A too"]
FIELDS = {"ms", "interval", "nmse", "speedup_vs_f32", "speedup_vs_bf16", "speedup_vs_int8", "runs", "shape", "isa"}


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module("maddness")


def lines(bench: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    monkeypatch.setattr(sys, "argv", ["maddness.py", "--json", *words])
    bench.main()
    return {line["arm"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}


def test_a_line_for_each_method(
    bench: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = lines(bench, monkeypatch, capsys, "--shape", "200,144,6", "--seconds", "0.001", "--alone", "--all")
    settings = ["8 16", "16 16", "32 16", "64 16", "16 16 avg", "16 64", "16 16 8 lines"]
    expected = [*DENSE, *(f"maddness {s} {layout}" for s in settings for layout in ("row", "col"))]
    assert list(found)[: len(expected)] == expected
    assert list(found)[-1] == "copy of A"
    assert len(found) == len(expected) + 4 + 1
    for line in found.values():
        assert set(line) >= FIELDS
        assert line["n"] == len(line["runs"]) >= 7
        assert 0 < line["interval"][0] <= line["ms"] <= line["interval"][1]
        assert line["shape"] == [200, 144, 6]
        assert (line["threads"], line["isa"], line["alone"]) == (1, dispatch.isa(), True)
        assert line["int8_is"] in DENSE[3:5]
    for name in ("f32", "bf16"):
        assert found[name][f"speedup_vs_{name}"] == 1
    errors = {name: line["nmse"] for name, line in found.items()}
    assert errors["f32"] < 1e-9 < errors["bf16"] < 1e-4
    assert errors["int8 oneDNN"] == errors["int8, A too"] < 1e-3
    assert errors["int8 _int_mm"] is errors["copy of A"] is None  # integers, and no product
    for setting in settings:
        assert errors[f"maddness {setting} row"] == errors[f"maddness {setting} col"] < 1
    assert errors["maddness 64 16 row"] < errors["maddness 16 16 row"] < errors["maddness 8 16 row"]


def test_errors_on_activations(bench: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    rows = rows_like_activations(160, 64, rank=6)
    factor = np.random.default_rng(0).standard_normal((64, 10)).astype(np.float32)
    classes = (rows[80:] @ factor).argmax(axis=1)
    made = bench.Rows(rows[:80], rows[80:], factor, np.zeros(10, np.float32), classes)
    monkeypatch.setattr(bench, "fashion", lambda seed: made)
    found = lines(bench, monkeypatch, capsys, "--accuracy")
    assert found["float32"]["seed"] == 0
    assert (found["float32"]["accuracy"], found["int8"]["accuracy"]) == (1.0, pytest.approx(1.0, abs=0.03))
    assert found["maddness 16 16 output"]["nmse"] < found["maddness 16 16 input no ridge"]["nmse"]
    assert {"maddness 16 16 output 8 lines", "maddness 16 64 output", "PCA(n_components=8)"} <= set(found)
    assert all(0 <= line["nmse"] < 2 for line in found.values())


@pytest.mark.skipif(ext is None, reason="no compiled kernels")
def test_rates_of_the_scan(bench: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(bench, "SCANS", ((16, 3, 16), (16, 2, 64)))
    isa = dispatch.isa()
    monkeypatch.setattr(bench.dispatch, "isas", lambda: [isa])
    found = lines(bench, monkeypatch, capsys, "--scan")
    sums = [f"{isa} C={c} M={m} K={k} {how}" for c, m, k in bench.SCANS for how in ("avg", "exact")]
    assert list(found) == [f"{isa} shuffles", *sums]
    for name in sums:
        line = found[name]
        assert line["interval"][0] <= line["value"] <= line["interval"][1]
        assert line["ratio"] == pytest.approx(line["value"] / found[f"{isa} shuffles"]["value"])
