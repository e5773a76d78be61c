from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from hasten.bench.store import FILE, NotDeterministicError, RunKey, Store, StoreError
from hasten.bench.study import open_study

KEY = RunKey("base", "f" * 16, "e" * 16, 0, "cyclic:10,20", 0, 0)
POINT = {"point": 0, "step": 10, "seconds": 1.5, "metric": 0.1 + 0.2}


def attempt(number: int) -> RunKey:
    return RunKey(*KEY.values()[:-1], number)


@pytest.fixture
def store(tmp_path):
    opened = Store(tmp_path / "study")
    yield opened
    opened.close()


def reopened(store: Store) -> Store:
    store.close()
    return Store(store.folder, read_only=True)


def test_facts_points_and_runs_survive_closing(store):
    store.put("seeds", [1, 2])
    store.put("seeds", [1, 2, 3])
    store.put_run(KEY, "running", {})
    store.add_point(KEY, POINT)
    store.put_run(KEY, "done", {"weights": "abc"})
    again = reopened(store)
    assert again.get("seeds") == [1, 2, 3]
    assert again.get("unknown") is None
    assert again.runs() == [{"key": KEY, "status": "done", "data": {"weights": "abc"}, "points": [POINT]}]
    again.close()


@pytest.mark.parametrize("field", ["arm", "fingerprint", "environment", "seed", "curve", "first", "attempt"])
def test_every_field_of_the_key_tells_runs_apart(store, field):
    other = RunKey(**{**KEY.__dict__, field: 7 if field in ("seed", "first", "attempt") else "other"})
    for key in (KEY, other):
        store.put_run(key, "running", {})
        store.add_point(key, POINT)
    assert {run["key"]: len(run["points"]) for run in store.runs()} == {KEY: 1, other: 1}


def test_the_same_point_twice_is_stored_once(store):
    store.put_run(KEY, "running", {})
    store.add_point(KEY, POINT)
    store.add_point(KEY, {**POINT, "seconds": 99.0})
    assert store.runs()[0]["points"] == [POINT]


@pytest.mark.parametrize("number", [0, 1])
def test_a_point_that_changes_is_refused_in_this_and_in_another_attempt(store, number):
    store.add_point(KEY, POINT)
    with pytest.raises(NotDeterministicError, match=r"base, seed 0 was 0\.3.* in attempt 0 and is now 0\.3\. .*random"):
        store.add_point(attempt(number), {**POINT, "metric": 0.3})  # not equal to 0.1 + 0.2 in its last bit


def test_points_are_sorted_and_runs_keep_the_order_they_were_started_in(store):
    for number in (0, 1):
        store.put_run(attempt(number), "running", {})
        for point in (1, 0):
            store.add_point(attempt(number), {**POINT, "point": point})
    store.put_run(attempt(0), "done", {})
    runs = store.runs()
    assert [run["key"].attempt for run in runs] == [0, 1]
    assert [point["point"] for point in runs[0]["points"]] == [0, 1]


def test_a_whole_study_is_written_and_read_at_once(store, tmp_path):
    runs = [{"key": attempt(number), "status": "done", "data": {"n": number}, "points": [POINT]} for number in (1, 0)]
    store.fill({"seeds": [1, 2], "plan": None}, runs)
    assert store.facts() == {"plan": None, "seeds": [1, 2]}
    assert store.runs() == runs
    assert store.snapshot() == (store.facts(), runs)
    with pytest.raises(StoreError, match="UNIQUE"):
        store.fill({"more": 1, "seeds": []}, [])
    assert store.facts() == {"plan": None, "seeds": [1, 2]}
    copy = Store(tmp_path / "copy")
    copy.fill(*store.snapshot())
    assert copy.snapshot() == store.snapshot()
    copy.close()


def test_a_study_with_other_tables_is_refused(store):
    store.db.execute("CREATE TRIGGER later AFTER INSERT ON study BEGIN DELETE FROM run; END")
    store.close()
    for read_only in (True, False):
        with pytest.raises(StoreError, match="holds other tables than a study's"):
            Store(store.folder, read_only=read_only)


def test_a_write_that_fails_leaves_nothing_behind(store):
    store.put("fact", 1)
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.put("fact", float("nan"))
    assert store.get("fact") == 1
    store.put("fact", 2)  # and no transaction is left open
    assert store.get("fact") == 2


def test_a_disk_without_room_is_explained_and_nothing_is_lost(store):
    store.put("before", "kept")
    pages = store.db.execute("PRAGMA page_count").fetchone()[0]
    store.db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreError, match="full.*free some space and run the same command again"):
        store.put("much", "x" * 100_000)
    store.db.execute(f"PRAGMA max_page_count = {pages + 100}")
    store.put("after", "room again")
    again = reopened(store)
    assert (again.get("before"), again.get("much"), again.get("after")) == ("kept", None, "room again")
    again.close()


def test_only_one_process_writes(store, tmp_path):
    with pytest.raises(StoreError, match="locked.*Another process is writing this study: wait for it"):
        Store(store.folder)
    code = "import sys, pathlib; from hasten.bench.store import Store; Store(pathlib.Path(sys.argv[1]))"
    other = subprocess.run([sys.executable, "-c", code, str(store.folder)], capture_output=True, text=True, env=env())
    assert "Another process is writing this study" in other.stderr
    store.close()
    Store(store.folder).close()


def env() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def test_a_study_is_read_while_it_is_written(store):
    store.put("status", "running")
    reader = Store(store.folder, read_only=True)
    store.put("status", "complete")
    assert reader.get("status") == "complete"
    with pytest.raises(StoreError, match="readonly"):
        reader.put("status", "changed")
    reader.close()


def test_a_reader_finishes_what_a_killed_driver_left_half_done(store):
    """A commit cut short leaves a hot journal; opening rolls it back, also for a reader."""
    store.put("fact", "old")
    store.db.execute("PRAGMA cache_spill = 1")
    store.db.execute("PRAGMA cache_size = 1")
    store.db.execute("BEGIN IMMEDIATE")
    store.db.execute("UPDATE study SET value = '\"new\"'")
    for number in range(50):  # more than the cache holds: pages reach the file before the commit
        store.db.execute("INSERT INTO study VALUES (?, ?)", (f"fact {number}", "x" * 4000))
    copy = store.folder.with_name("killed")
    shutil.copytree(store.folder, copy)
    assert (copy / f"{FILE}-journal").stat().st_size
    reader = Store(copy, read_only=True)
    assert reader.get("fact") == "old"
    reader.close()


def test_the_folder_is_created_with_its_parents(tmp_path):
    Store(tmp_path / "a" / "b").close()
    assert (tmp_path / "a" / "b" / FILE).is_file()


def test_a_study_that_is_not_there_or_has_not_begun(tmp_path):
    with pytest.raises(StoreError, match=r"expected a study, found no study\.sqlite"):
        Store(tmp_path, read_only=True)
    (tmp_path / FILE).touch()
    with pytest.raises(StoreError, match="has not begun"):
        Store(tmp_path, read_only=True)
    Store(tmp_path).close()  # an empty file is what a power cut may leave of a creation


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file: File exists\. The folder cannot be written: pass another"):
        Store(tmp_path / "file")
    with pytest.raises(StoreError, match="The folder cannot be written: pass another"):
        Store(tmp_path / "file" / "study")


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize("damage", ["random", "cut", "page"])
def test_a_damaged_file_is_refused_at_once(store, damage, read_only):
    for number in range(100):
        store.put_run(attempt(number), "done", {"text": "x" * 500})
    store.close()
    data = bytearray(store.path.read_bytes())
    if damage == "random":
        data = bytearray(os.urandom(len(data)))
    elif damage == "cut":
        del data[len(data) // 2 :]
    else:
        data[3 * 4096 : 4 * 4096] = b"\x05" * 4096
    store.path.write_bytes(data)
    with pytest.raises(StoreError, match="damaged or not a study: move it away and run the same command again"):
        Store(store.folder, read_only=read_only)
    assert store.path.read_bytes() == data  # and left as it was


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize("version", [0, 1, 99])
def test_somebody_elses_database_is_refused_and_left_alone(tmp_path, version, read_only):
    with sqlite3.connect(tmp_path / FILE) as foreign:
        foreign.execute("CREATE TABLE run (x)")
        foreign.execute(f"PRAGMA user_version = {version}")
    foreign.close()
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(StoreError, match="not a study of hasten's. Pass another folder"):
        Store(tmp_path, read_only=read_only)
    assert (tmp_path / FILE).read_bytes() == before


@pytest.mark.parametrize("read_only", [True, False])
def test_a_newer_schema_is_refused(store, read_only):
    store.db.execute("PRAGMA user_version = 2")
    store.close()
    with pytest.raises(StoreError, match=r"newer hasten \(schema 2\)\. Update hasten"):
        Store(store.folder, read_only=read_only)


def test_an_error_while_opening_leaves_the_folder_unlocked(store):
    store.db.execute("PRAGMA user_version = 2")
    store.close()
    for _ in range(2):  # the second time the lock is free again: the same error
        with pytest.raises(StoreError, match="newer"):
            Store(store.folder)


GOLDEN = Path(__file__).parents[1] / "golden" / "study-schema-1"


def test_a_study_of_schema_1_is_readable_for_ever(tmp_path):
    folder = tmp_path / "old"
    shutil.copytree(GOLDEN, folder)
    before = (folder / FILE).read_bytes()
    expected = json.loads((GOLDEN / "expected.json").read_text())
    opened = Store(folder, read_only=True)
    found = [{**run, "key": list(run["key"].values())} for run in opened.runs()]
    facts = {name: opened.get(name) for name in expected["facts"]}
    opened.close()
    assert found == expected["runs"]
    assert facts == expected["facts"]
    study = open_study(folder)
    assert study.status == "complete"
    assert len(study.rows()) == 7 * 3 + 1
    assert [run["flags"] for run in study.data["runs"] if run["flags"]] == [["resumed"], ["drifted"]]
    assert study.verdicts()["smooth"].startswith("pays")
    assert (folder / FILE).read_bytes() == before


def test_a_study_of_schema_1_can_still_be_written(tmp_path):
    shutil.copytree(GOLDEN, tmp_path / "old")
    store = Store(tmp_path / "old")
    runs = store.runs()
    store.put_run(runs[0]["key"], "done", {})
    store.add_point(attempt(0), POINT)
    assert len(store.runs()) == len(runs)
    store.close()
