"""Studies and reports of every version that was ever written, from the file to the page.

`expected-report.json` was written by the version that the study is from. What was measured, and what was said about it,
must be read the same for ever; a later version may say more.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from hasten.bench.archive import archive, extract
from hasten.bench.merge import merge
from hasten.bench.publish import gather, publish
from hasten.bench.report import from_json, render, table, to_csv, to_json
from hasten.bench.report.several import render_several
from hasten.bench.store import FILE, SCHEMA
from hasten.bench.study import open_study

pytestmark = pytest.mark.usefixtures("figures_once")
GOLDEN = Path(__file__).parents[1] / "golden"
SCHEMAS = range(1, SCHEMA + 1)
VERSIONS = [1]


@pytest.fixture(params=SCHEMAS, ids="schema {}".format)
def old(request, tmp_path) -> Path:
    """A copy of the study of a schema."""
    return shutil.copytree(GOLDEN / f"study-schema-{request.param}", tmp_path / "old")


@pytest.fixture
def expected(old) -> dict[str, Any]:
    return json.loads((old / "expected-report.json").read_text())


def rows_of(text: str, columns: list[str]) -> list[list[str]]:
    return [[row[column] for column in columns] for row in csv.DictReader(io.StringIO(text))]


def agrees(data: dict[str, Any], expected: dict[str, Any]) -> None:
    """The statistics of a report are those that were found when the study was made."""
    arms = {arm["name"]: arm for arm in data["analysis"]["arms"]}
    effects = {name: [*arm["budgets"], *arm["targets"]] for name, arm in arms.items()}
    assert {name: arm["sentence"] for name, arm in arms.items()} == expected["sentences"]
    assert {name: [one["verdict"] for one in found] for name, found in effects.items()} == expected["verdicts"]
    for name, found in effects.items():
        assert [one["value"] for one in found] == pytest.approx(expected["effects"][name], rel=1e-9)
        assert [one["p_holm"] for one in found] == pytest.approx(expected["p_holm"][name], rel=1e-6)
        assert [point["metric"] for point in arms[name]["curve"]] == pytest.approx(expected["levels"][name], rel=1e-12)
        if expected["overall"][name] is None:
            assert arms[name]["overall"] is None
        else:
            assert arms[name]["overall"] == pytest.approx(expected["overall"][name], rel=1e-9)
    assert expected["notes"] == data["notes"]


def test_a_study_of_an_old_schema_goes_all_the_way(old, expected):
    before = (old / FILE).read_bytes()
    study = open_study(old)
    agrees(study.data, expected)
    assert rows_of(to_csv(study.data), expected["csv_columns"]) == expected["csv"]
    assert from_json(to_json(study.data)) == study.data
    page, text = study.report().read_text(encoding="utf-8"), study.table()
    for sentence in expected["sentences"].values():
        if sentence != "baseline":
            assert sentence[0].upper() + sentence[1:] in page
            assert sentence[:30] in text.lower()
    assert "the training loss became nan at step 40" in page
    assert (old / FILE).read_bytes() == before


def test_it_can_be_archived_merged_published_and_shown_beside_others(old, expected, tmp_path):
    packed = archive(old, tmp_path / "old.zip")
    agrees(open_study(packed).data, expected)
    back = extract(packed, tmp_path / "back")
    merged = open_study(merge([old, back], tmp_path / "merged"))
    assert merged.verdicts() == expected["sentences"]
    found = gather([old, GOLDEN / "report-version-1.json"])
    assert expected["sentences"]["smooth"][1:] in render_several([found.reports[0], merged.data])
    done = publish([merged.data, *gather([packed]).reports], tmp_path / "site")
    assert len(done.written) == 1 + 2 * 3


@pytest.mark.parametrize("version", VERSIONS)
def test_a_report_of_an_old_version_goes_all_the_way(version, tmp_path):
    path = GOLDEN / f"report-version-{version}.json"
    written = json.loads(path.read_text(encoding="utf-8"))
    assert written["version"] == version
    expected = json.loads((GOLDEN / "study-schema-1" / "expected-report.json").read_text())
    (data,) = gather([path]).reports
    agrees(data, expected)
    assert rows_of(to_csv(data), expected["csv_columns"]) == expected["csv"]
    assert from_json(to_json(data)) == data
    sentence = expected["sentences"]["smooth"]
    assert sentence[1:] in render(data)
    assert sentence[:20] in table(data, width=100, color=False, unicode=True).lower()
    for key, value in written["study"].items():
        assert data["study"][key] == value, key
    for run, was in zip(data["runs"], written["runs"], strict=True):
        assert {key: run[key] for key in was if key != "points"} == {k: v for k, v in was.items() if k != "points"}
        assert [{key: point[key] for key in one} for point, one in zip(run["points"], was["points"], strict=True)] == (
            was["points"]
        )
    assert publish([data], tmp_path / "site").written


def test_every_version_has_its_golden_files():
    """Whoever raises a version adds a file of the old one, and its number here."""
    from hasten.bench.report.upgrade import VERSION

    assert list(range(1, VERSION)) == VERSIONS
    for schema in SCHEMAS:
        assert (GOLDEN / f"study-schema-{schema}" / FILE).is_file()
