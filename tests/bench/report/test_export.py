from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from tests.bench.report.synthetic import hostile, study

from hasten.bench.report import export, from_json, save_charts, to_csv, to_json, write_report
from hasten.bench.stats import Table, analyse

pytestmark = pytest.mark.usefixtures("figures_once")


def test_json_is_exact_sorted_and_read_back() -> None:
    data = hostile()
    assert from_json(to_json(data)) == data
    assert to_json(from_json(to_json(data))) == to_json(data)
    with pytest.raises(ValueError, match="expected version 2"):
        from_json(to_json(data).replace('"version": 2\n', '"version": 3\n'))


def written(data: dict[str, Any], folder: Path) -> Path:
    path = folder / "study.csv"
    path.write_text(to_csv(data), encoding="utf-8")
    return path


@pytest.mark.parametrize("minimize", [False, True])
def test_the_statistics_of_the_csv_are_those_of_the_study(tmp_path: Path, minimize: bool) -> None:
    data = study(minimize=minimize)
    table = Table.from_csv(written(data, tmp_path), minimize=minimize)
    inference = {"blur": 1.12, "ls": 1.0, "mixup": 1.0}
    found = analyse(
        table, baseline="base", minimize=minimize, inference=inference, budgets_labels=data["study"]["budgets"]
    )
    expected = data["analysis"]
    for ours, theirs in zip(found.to_json()["arms"], expected["arms"], strict=True):
        for field in ("verdict", "sentence", "budgets", "targets", "accuracy", "speedup_curve", "runs", "failed"):
            assert ours[field] == theirs[field]


def test_the_csv_has_one_line_per_arm_seed_and_point_that_counts(tmp_path: Path) -> None:
    data = study()
    lines = list(csv.DictReader(io.StringIO(to_csv(data))))
    assert tuple(lines[0]) == export.COLUMNS
    assert len(lines) == 19 * 4 + 3
    keys = [(line["arm"], line["seed"], line["point"]) for line in lines]
    assert len(set(keys)) == len(keys)
    failed = [line for line in lines if line["status"] == "failed"]
    assert [(line["point"], line["step"], line["metric"]) for line in failed][1:] == [
        ("1", "96", failed[1]["metric"]),
        ("2", "224", "nan"),
    ]
    assert {line["attempt"] for line in lines if line["arm"] == "base" and line["seed"] == "2"} == {"1"}
    assert {line["flags"] for line in lines if line["arm"] == "ls" and line["seed"] == "1"} == {"resumed"}
    assert Table.from_csv(written(data, tmp_path)).rows[0].step == 32


def test_memory_and_energy_are_those_up_to_the_point() -> None:
    data = study()
    data["runs"][0]["points"][1]["memory"] = None  # a report of version 1 knows the peak of the run only
    first, second, *_ = csv.DictReader(io.StringIO(to_csv(data)))
    points = data["runs"][0]["points"]
    assert (first["memory"], first["energy"]) == (str(points[0]["memory"]), str(points[0]["energy"]))
    assert (second["memory"], second["energy"]) == (str(data["runs"][0]["memory"]), str(points[1]["energy"]))
    assert first["memory"] != second["memory"]
    points[0]["energy"] = None
    assert next(csv.DictReader(io.StringIO(to_csv(data))))["energy"] == ""


def test_a_run_that_failed_before_its_first_point_is_in_the_csv(tmp_path: Path) -> None:
    data = study()
    failed = next(run for run in data["runs"] if run["status"] == "failed")
    failed.update(points=[], seconds=0.0)
    rows = Table.from_csv(written(data, tmp_path)).rows
    (row,) = [row for row in rows if (row.arm, row.seed) == ("mixup", 4)]
    assert row.time > 0
    assert row.metric != row.metric  # not a number


def test_names_with_commas_and_quotes_survive_the_csv(tmp_path: Path) -> None:
    data = study({'a "b", c': "base", "=1+1": "blur"})
    assert Table.from_csv(written(data, tmp_path)).arms == ('a "b", c', "=1+1")


def test_the_same_charts_are_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two = export.charts.figures(study(), width=export.WIDTH)[:2]  # enough: each conversion takes a quarter of a second
    monkeypatch.setattr(export.charts, "figures", lambda *_, **__: two)
    first = save_charts(study(), tmp_path / "a", ("png", "svg"))
    second = save_charts(study(), tmp_path / "b")
    assert [path.name for path in first] == [path.name for path in second]
    assert len(first) == 4
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert all(path.read_bytes().startswith(b"\x89PNG" if path.suffix == ".png" else b"<svg") for path in first)


def test_every_chart_becomes_a_titled_file_and_nothing_else_is_written(tmp_path: Path) -> None:
    found = save_charts(study(), tmp_path / "new" / "folder", ["svg"])
    assert len(found) == 12
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(found)
    assert "Accuracy against training time" in found[0].read_text(encoding="utf-8")


def test_charts_of_a_hostile_study_are_plain_drawings(tmp_path: Path) -> None:
    for path in save_charts(hostile(), tmp_path, ["svg"]):
        text = path.read_text(encoding="utf-8")
        assert "<script" not in text
        assert "<img" not in text


def test_an_unknown_format_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"save_charts: expected formats among png, svg, got 'gif'"):
        save_charts(study(), tmp_path / "x", ["png", "gif"])
    assert not list(tmp_path.iterdir())


def test_the_page_replaces_the_old_one_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    assert write_report(study(), path) == path
    before = path.read_bytes()
    assert before.endswith(b"</html>\n")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_report(study({"base": "base", "blur": "blur"}), path)
    with pytest.raises(ValueError, match="expected version 2"):
        write_report({"version": 3}, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_text_is_written_with_unix_line_ends_and_ordinary_permissions(tmp_path: Path) -> None:
    path, plain = tmp_path / "a.csv", tmp_path / "plain"
    plain.touch()
    export.write_text(path, "a\nü\n")
    assert path.read_bytes() == b"a\n\xc3\xbc\n"
    assert path.stat().st_mode == plain.stat().st_mode
