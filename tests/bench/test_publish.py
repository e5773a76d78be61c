"""Studies gathered from wherever they lie, and published as files that any web host can serve."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.bench.made import contents, make
from tests.bench.report.synthetic import hostile, study
from tests.bench.report.test_together import other

from hasten.bench.archive import archive
from hasten.bench.publish import INDEX, gather, publish
from hasten.bench.report import page, several, to_json, validate
from hasten.bench.store import StoreError
from hasten.bench.study import open_study

GOLDEN = Path(__file__).parents[1] / "golden"
pytestmark = pytest.mark.usefixtures("figures_once")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_plan) -> Path:
    folder = tmp_path_factory.mktemp("acme") / "study"
    return make(folder, tiny_plan(seeds=3), notes=[f"a note (log: {folder}/logs/x.log)"])


# Gathering ------------------------------------------------------------------------------------------------------------


def test_folders_archives_and_json_of_any_version(folder, tmp_path):
    packed = archive(folder, tmp_path / "study.zip")
    report = tmp_path / "report.json"
    report.write_text(to_json(study()), encoding="utf-8")
    found = gather([folder, packed, report, GOLDEN / "report-version-1.json"]).reports
    assert found[0] == open_study(folder).data
    assert found[1] == open_study(packed).data
    assert found[2] == validate(study())
    assert found[3]["version"] == found[0]["version"]
    assert gather([folder], margin=0.01).reports[0]["analysis"]["margin"] == 0.01


def test_the_folder_of_a_robustness_run_is_all_its_studies(folder, tmp_path):
    both = tmp_path / "variants"
    for name in ("original", "width"):
        shutil.copytree(folder, both / name)
    index = {"version": 1, "workload": "tiny", "changes": {"width": "half as wide"}, "unavailable": {}, "notes": []}
    (both / "robustness.json").write_text(json.dumps(index))
    found = gather([both])
    assert len(found.reports) == 2
    assert found.robustness[0]["arms"][0]["variants"].keys() == {"width"}
    assert gather([both], margin=0.01).reports[1]["analysis"]["margin"] == 0.01


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("x.json", "{", "x.json: expected the JSON of a report, got Expecting"),
        ("x.json", "{}", "x.json: expected the JSON of a report, got report: expected the data of a report"),
        ("x.json", '{"version": 99}', "Update hasten to read a newer report"),
        ("x.json", "[" * 100_000, "x.json: expected the JSON of a report"),
        ("x.txt", "text", r"the folder of a study or its archive \(\.zip\)"),
    ],
)
def test_files_that_are_something_else(tmp_path, name, text, says):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=says):
        gather([tmp_path / name])


def test_what_is_not_there_and_a_margin_that_comes_too_late(tmp_path):
    with pytest.raises(StoreError, match=r"found no study\.sqlite"):
        gather([tmp_path / "absent"])
    with pytest.raises(ValueError, match="no margin for .*report-version-1.json, whose analysis is done"):
        gather([GOLDEN / "report-version-1.json"], margin=0.01)


@pytest.fixture
def plain_pages(monkeypatch):
    """Pages that hold the data and no charts, for tests of files: they take no time."""
    monkeypatch.setattr(page, "render", to_json)
    monkeypatch.setattr(several, "render_several", lambda reports, **options: json.dumps([len(reports), options]))


# Publishing -----------------------------------------------------------------------------------------------------------


def test_an_overview_and_three_files_for_each_study(tmp_path):
    site = tmp_path / "site"
    done = publish([study(), other()], site)
    names = {f"{name}.{kind}" for name in ("digits", "letters") for kind in ("html", "json", "csv")} | {"index.html"}
    assert set(contents(site)) == names | {INDEX}
    assert {path.name for path in done.written} == names
    assert (done.removed, done.kept) == ([], [])
    assert json.loads((site / "digits.json").read_text(encoding="utf-8")) == validate(study())
    with (site / "letters.csv").open(encoding="utf-8") as file:
        assert {row["workload"] for row in csv.DictReader(file)} == {"letters"}
    assert "Which of these pay on hard digits?" in (site / "digits.html").read_text(encoding="utf-8")


def test_every_link_is_relative_and_leads_to_a_file(tmp_path):
    publish([study(), other(), hostile()], tmp_path)
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    links = set(re.findall(r'<a href="([^"]*)"', text))
    assert len(links) == 9
    for link in links:
        assert re.fullmatch(r"[a-z0-9_-]+\.(html|json|csv)", link)
        assert (tmp_path / link).is_file()


def test_the_same_studies_give_the_same_bytes(tmp_path):
    publish([study()], tmp_path / "one")
    publish([study()], tmp_path / "two")
    publish([study()], tmp_path / "two")  # and a second time
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_no_path_of_this_machine_is_published(folder, tmp_path):
    publish([open_study(folder).data, study()], tmp_path)
    for name, data in contents(tmp_path).items():
        for private in ("acme", str(folder), str(Path.home())):
            assert private.encode() not in data, name
    found = json.loads((tmp_path / "tiny.json").read_text())
    assert found["study"]["command"] == "hasten compare tiny.py --out .../study"
    assert found["notes"] == ["a note (log: .../x.log)"]
    assert found["analysis"] == open_study(folder).data["analysis"]


def test_what_is_no_longer_wanted_goes_if_it_is_ours(plain_pages, tmp_path):
    publish([study(), other(), other("third")], tmp_path)
    (tmp_path / "notes.html").write_text("mine")
    (tmp_path / "third.csv").write_text("changed by hand")
    done = publish([study(), other()], tmp_path)
    assert {path.name for path in done.removed} == {"third.html", "third.json"}
    assert {path.name for path in done.kept} == {"third.csv"}
    left = contents(tmp_path)
    assert left["notes.html"] == b"mine"
    assert left["third.csv"] == b"changed by hand"
    assert "third.html" not in left
    assert publish([study(), other()], tmp_path).kept == []  # it is not ours any more
    with pytest.raises(ValueError, match=r"a folder without third\.csv"):
        publish([study(), other("third")], tmp_path)


def test_files_of_somebody_else_are_never_replaced(plain_pages, tmp_path):
    (tmp_path / "index.html").write_text("my home page")
    with pytest.raises(ValueError, match=r"a folder without index\.html, got .*Pass an empty folder with --publish"):
        publish([study()], tmp_path)
    assert contents(tmp_path) == {"index.html": b"my home page"}


@pytest.mark.parametrize(
    "index",
    [
        "no json",
        "[]",
        '{"format": "hasten pages", "version": 2, "files": {}}',
        '{"format": "photos", "version": 1, "files": {}}',
        '{"format": "hasten pages", "version": 1, "files": {"../../diary.html": "0"}}',
    ],
)
def test_an_index_that_is_not_ours_is_refused_and_nothing_is_written(plain_pages, tmp_path, index):
    site = tmp_path / "a" / "site"
    site.mkdir(parents=True)
    (tmp_path / "diary.html").write_text("dear diary")
    (site / INDEX).write_text(index)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="an index of ours"):
        publish([study()], site)
    assert contents(tmp_path) == before


KILLED = """
import json, os, signal, sys
from pathlib import Path
from tests.bench.report.synthetic import study
from tests.bench.report.test_together import other
from hasten.bench import durable, publish as module
from hasten.bench.report import page, several, to_json
page.render = to_json
several.render_several = lambda reports, **options: json.dumps([len(reports), options])
real = durable.write_atomically
def write(path, data):
    if path.name == "letters.html":
        os.kill(os.getpid(), signal.SIGKILL)
    real(path, data)
durable.write_atomically = write
module.publish([study(), other()], sys.argv[1])
"""


def test_a_kill_in_the_middle_is_mended_by_the_next_call(plain_pages, tmp_path):
    site = tmp_path / "site"
    publish([study(), other("first")], site)
    root = Path(__file__).parents[2]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), *filter(None, sys.path)])}
    killed = subprocess.run([sys.executable, "-c", KILLED, str(site)], env=env, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert "first.html" in (site / "index.html").read_text(encoding="utf-8")  # the old overview, and all it links to
    assert (site / "first.html").is_file()
    publish([study(), other()], site)
    publish([study(), other()], tmp_path / "fresh")
    assert contents(site) == contents(tmp_path / "fresh")


def test_names_are_safe_and_no_two_alike(plain_pages, tmp_path):
    def named(workload: str, seeds: int) -> dict[str, Any]:
        return other(workload, seeds=seeds)

    done = publish(
        [named("CON", 3), named("con", 4), named("../my work", 3), named("index", 3), named("é", 3)], tmp_path
    )
    pages = [path.name for path in done.written if path.suffix == ".html"]
    assert pages == [
        "index.html",
        "study-con.html",
        "study-con-2.html",
        "my-work.html",
        "study-index.html",
        "study.html",
    ]


def test_robustness_is_part_of_the_overview(tmp_path):
    from tests.bench.report.test_several import ROBUSTNESS

    publish([study()], tmp_path, robustness=[ROBUSTNESS])
    assert "Does the verdict survive? Variants of digits" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_a_page_keeps_its_address_when_another_study_joins(plain_pages, tmp_path):
    publish([study()], tmp_path)
    before = {path.name for path in tmp_path.iterdir()}
    done = publish([study(), study(minimize=True), other()], tmp_path)
    assert before <= {path.name for path in tmp_path.iterdir()}
    assert done.removed == []
    assert (tmp_path / "digits-2.html").is_file()
