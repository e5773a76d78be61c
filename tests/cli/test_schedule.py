from __future__ import annotations

import csv
import os
import subprocess
import sys

import numpy as np
import pytest

from hasten.cli import schedule as verb
from hasten.schedules import cosine, cyclic, linear, over, power


def test_it_prints_the_schedule_a_sketch_and_key_values(capsys):
    verb.schedule("warmup(cosine, 50)")
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "warmup(cosine(), 50), 1000 updates"
    rows = [line for line in out if "│" in line]
    assert len(rows) == 12
    assert max(len(row) for row in rows) <= 70
    table = dict(line.split(maxsplit=1) for line in out[out.index("   t  multiplier") + 1 :])
    assert table["0"] == "0"
    assert table["50"].split(maxsplit=1) == ["1", "first peak"]
    assert float(table["500"]) == pytest.approx(0.54129, abs=1e-5)
    assert table["999"].endswith("last update")
    assert table["1000"] == "0           end, used by no update"


def test_the_sketch_of_a_line():
    values = linear()(np.arange(9), 8)
    assert verb.sketch(values, rows=3, columns=9).splitlines() == [
        "1 │█▅▂",
        "  │███▇▄▁",
        "  │██████▆▃",
        "0 └─────────",
        "   0       8",
    ]


def test_values_above_one_widen_the_scale():
    lines = verb.sketch(np.array([12.5, 0.0]), rows=2, columns=2).splitlines()
    assert lines[0] == "12.5 │█"
    assert lines[2] == "   0 └──"


@pytest.mark.parametrize("steps", [1, 2, 3, 64, 65, 12345])
def test_any_number_of_steps(steps, capsys):
    verb.schedule("cosine", steps=steps)
    out = capsys.readouterr().out
    assert "last update" in out
    assert f"{steps}  0           end" in out


def test_key_times_are_inside_the_run_and_in_order():
    for steps in (1, 2, 7, 1000):
        times = list(verb.key_times(cyclic(8)(np.arange(steps))))
        assert times == sorted(times)
        assert times[0] == 0
        assert times[-1] == steps - 1


def test_the_table_file_holds_every_update_exactly(tmp_path, capsys):
    path = tmp_path / "s.csv"
    verb.schedule("cosine(0.1)", steps=100, csv=path)
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert [int(row["t"]) for row in rows] == list(range(100))
    assert [float(row["multiplier"]) for row in rows] == cosine(0.1)(np.arange(100), 100).tolist()
    assert f"wrote {path}" in capsys.readouterr().out


def test_the_clock_of_seconds(capsys, tmp_path):
    path = tmp_path / "s.csv"
    verb.schedule("over(warmup(cosine(0.1), 60), '10min')", length="12min", csv=path)
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "over(warmup(cosine(floor=0.1), 60), '10min'), 720 seconds"
    assert out[14] == "0 └" + 64 * "─"
    assert out[15] == "   0" + "720".rjust(63)
    table = [line.split(maxsplit=2) for line in out[out.index("  t  multiplier") + 1 : -1]]
    assert table[0] == ["0", "0"]
    assert table[2] == ["60", "1", "first peak"]
    assert table[-1] == ["720", "0.1", "end"]
    assert ["648", "0.1"] in table
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    times = [float(row["t"]) for row in rows]
    assert (len(times), times[0], times[-1]) == (3601, 0.0, 720.0)
    schedule = over(verb.parse("warmup(cosine(0.1), 60)"), 600)
    assert [float(row["multiplier"]) for row in rows] == schedule(np.array(times)).tolist()


def test_the_clock_of_tokens(capsys):
    verb.schedule("power(5.8e8, warmup=2e7, decay=0.1)", length="2e10tok")
    out = capsys.readouterr().out
    assert out.startswith("power(5.8e8, warmup=2e7, decay=0.1), 2e+10 tokens\n")
    half = power(5.8e8, warmup=2e7, decay=0.1)(1e10, 2e10)
    assert f"1e+10  {half:.6g}" in out
    assert out.rstrip().endswith("2e+10  0           end")


def test_a_length_in_updates_is_the_number_of_steps(capsys):
    verb.schedule("rex", length="50step")
    one = capsys.readouterr().out
    verb.schedule("rex", steps=50)
    assert capsys.readouterr().out == one
    assert one.startswith("rex(), 50 updates\n")


@pytest.mark.parametrize(
    ("spec", "arguments", "message"),
    [
        ("cosine", {"length": "12min"}, r"needs no T for the unit 'seconds', got Cosine.*over\(schedule, '10min'\)\.$"),
        ("over(cosine, '10min')", {}, "the unit 'seconds' for a schedule over a time span.* with --length, such as"),
        (
            "cosine",
            {"length": "5x"},
            "expected a length such as '500step', '10ep', '2e9tok', '90s' or '10min', got '5x'",
        ),
        ("cosine", {"length": "2.5step"}, "a whole number of updates, got '2.5step'"),
        ("cosine", {"length": "5ep", "steps": 5}, "expected --steps or --length, got both"),
    ],
)
def test_a_clock_that_does_not_fit(spec, arguments, message):
    with pytest.raises(ValueError, match=message):
        verb.schedule(spec, **arguments)


@pytest.mark.parametrize("length", ["20000step", "12min", "2e10tok"])
def test_a_chart_names_its_clock(length, tmp_path):
    pytest.importorskip("altair")
    pytest.importorskip("vl_convert")
    svg = tmp_path / "s.svg"
    verb.chart(over(cosine(), 600), verb.Clock.read(None, length), svg, "svg")
    text = svg.read_text(encoding="utf-8")
    assert {"20000step": ">updates<", "12min": ">seconds<", "2e10tok": ">tokens<"}[length] in text


def test_pictures(tmp_path):
    pytest.importorskip("altair")
    pytest.importorskip("vl_convert")
    png, svg = tmp_path / "s.png", tmp_path / "s.svg"
    verb.schedule("cyclic(8)", steps=20_000, png=png, svg=svg)
    assert png.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    text = svg.read_text(encoding="utf-8")
    assert text.startswith("<svg")
    assert "cyclic(8, warmup=8)" in text


def test_pictures_without_the_extra_name_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "altair", None)
    with pytest.raises(ImportError, match=r"needs altair.*hasten\[bench\]"):
        verb.schedule("cosine", png=tmp_path / "s.png")


def test_bad_input():
    with pytest.raises(ValueError, match="Did you mean cosine"):
        verb.schedule("cosin()")
    with pytest.raises(ValueError, match="schedule: expected steps >= 1, got 0"):
        verb.schedule("cosine", steps=0)
    with pytest.raises(ValueError, match="steps < T = 1000, got 2000"):
        verb.schedule("warmup(cosine, 2000)")


def test_no_torch_and_no_unicode_needed():
    code = "import sys; from hasten.cli.schedule import schedule; schedule('cosine'); assert 'torch' not in sys.modules"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "1 |" in done.stdout
    assert "+---" in done.stdout
