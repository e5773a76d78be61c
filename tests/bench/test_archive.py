"""A study as one file: whole, the same bytes again, no path of this machine; and nothing trusted when it is read."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from tests.bench.made import contents, make

from hasten.bench import archive as module
from hasten.bench.archive import MANIFEST, archive, extract, is_archive, opened
from hasten.bench.store import FILE, Store, StoreError
from hasten.bench.study import open_study, run_study

pytestmark = pytest.mark.usefixtures("figures_once")


@pytest.fixture(scope="module")
def study(tmp_path_factory, tiny_plan) -> Path:
    folder = tmp_path_factory.mktemp("acme") / "study"
    notes = [f"base, seed 1: OSError: {folder.parent}/data.npz (log: {folder}/logs/base-1.log). It ends here."]
    make(folder, tiny_plan(seeds=3), notes=notes)
    source = folder / "sources" / ("a" * 16) / "tiny.py"
    source.parent.mkdir(parents=True)
    source.write_text("WIDTH = 3\n")
    (source.parent / "__pycache__").mkdir()
    (source.parent / "__pycache__" / "tiny.cpython-311.pyc").write_bytes(str(folder).encode())
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "base.pt").write_bytes(b"weights")
    return folder


@pytest.fixture(scope="module")
def packed(study, tmp_path_factory) -> Path:
    return archive(study, tmp_path_factory.mktemp("packed") / "study.zip")


def test_what_is_in_it(packed, study):
    with zipfile.ZipFile(packed) as file:
        names = file.namelist()
        manifest = json.loads(file.read(MANIFEST))
        assert {name: hashlib.sha256(file.read(name)).hexdigest() for name in names[1:]} == {
            name: entry["sha256"] for name, entry in manifest["files"].items()
        }
        assert {info.date_time for info in file.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    logs = {f"logs/{path.name}" for path in (study / "logs").iterdir()}
    assert names == [MANIFEST, *sorted({FILE, "report.html", f"sources/{'a' * 16}/tiny.py"} | logs)]
    assert (manifest["format"], manifest["version"], manifest["title"]) == ("hasten study", 1, "tiny: base, smooth")


def test_the_same_study_gives_the_same_bytes_wherever_it_lies(packed, study, tmp_path):
    before = contents(study)
    assert archive(study, tmp_path / "again.zip").read_bytes() == packed.read_bytes()
    assert contents(study) == before
    other = shutil.copytree(extract(packed, tmp_path / "moved"), tmp_path / "copied")
    assert archive(other, tmp_path / "third.zip").read_bytes() == packed.read_bytes()


def test_no_path_of_this_machine_leaves_it(packed, study):
    with zipfile.ZipFile(packed) as file:
        for name in file.namelist():
            data = file.read(name)
            for private in (str(study), str(study.parent), "acme", str(Path.home())):
                assert private.encode() not in data, name
    found = open_study(packed).data
    assert found["notes"] == ["base, seed 1: OSError: .../data.npz (log: logs/base-1.log). It ends here."]
    assert found["study"]["command"] == "hasten compare tiny.py --out .../study"


def test_it_says_what_the_study_says(packed, study):
    one, other = open_study(packed), open_study(study)
    assert one.verdicts() == other.verdicts()
    assert one.rows() == other.rows()
    assert one.folder == packed
    page = one.report()
    assert page == packed.with_name("study.html")
    with zipfile.ZipFile(packed) as file:
        assert file.read("report.html") == page.read_bytes()


def test_an_archive_comes_back_as_a_study_that_goes_on(tiny_plan, tmp_path, no_processes):
    plan = tiny_plan(seeds=1, duration="30step")
    first = run_study(plan, out=tmp_path / "study", workers=1, quiet=True, retry_drifted=False)
    folder = extract(archive(first.folder), tmp_path / "back")
    assert (folder / FILE).stat().st_mode & 0o777 == 0o666 & ~_umask()
    assert not list(tmp_path.glob(".*"))
    more = run_study(tiny_plan(seeds=2, duration="30step"), out=folder, workers=1, quiet=True, retry_drifted=False)
    rows = [row for row in more.rows() if row["seed"] == 0]
    assert rows == first.rows()  # not trained a second time
    assert more.status == "complete"
    assert len(more.rows()) == 2 * len(rows)


def test_the_senders_page_is_not_brought_along(packed, tmp_path):
    folder = extract(packed, tmp_path / "back")
    assert not (folder / "report.html").exists()
    assert open_study(folder).report() == folder / "report.html"


def _umask() -> int:
    found = os.umask(0)
    os.umask(found)
    return found


def test_a_study_that_is_being_written_is_read_at_one_moment(study, tmp_path, monkeypatch):
    """A driver that wants to write between the reading of facts and of runs has to wait."""
    folder = shutil.copytree(study, tmp_path / "study")
    driver, real, refused = Store(folder), Store.runs, []
    driver.db.execute("PRAGMA busy_timeout = 50")  # milliseconds; a driver waits longer

    def between(self):
        with pytest.raises(StoreError, match="locked"):
            driver.put("status", "running")
        refused.append(1)
        return real(self)

    monkeypatch.setattr(Store, "runs", between)
    reader = Store(folder, read_only=True)
    facts, runs = reader.snapshot()
    monkeypatch.undo()
    driver.put("status", "running")  # and now nobody reads any more
    assert (facts["status"], len(runs), refused) == ("complete", 6, [1])
    assert reader.snapshot()[0]["status"] == "running"
    reader.close()
    driver.close()
    assert open_study(archive(folder)).status == "running"


def test_where_it_goes(study, tmp_path, monkeypatch):
    folder = shutil.copytree(study, tmp_path / "deep" / "study")
    assert archive(folder) == (tmp_path / "deep" / "study.zip").resolve()
    monkeypatch.chdir(folder)
    assert archive(".").parent == (tmp_path / "deep").resolve()  # beside the folder, not in it
    assert is_archive(tmp_path / "deep" / "study.zip")


def test_somebody_elses_file_is_not_replaced(study, tmp_path):
    target = tmp_path / "photos.zip"
    with zipfile.ZipFile(target, "w") as file:
        file.writestr("photo", "x")
    for name in ("photo 2", MANIFEST):  # browser extensions, for one, have a manifest of this name
        with zipfile.ZipFile(target, "a") as file:
            file.writestr(name, "{}")
        before = target.read_bytes()
        with pytest.raises(ValueError, match="a new file, or an archive of a study, got .*photos.zip"):
            archive(study, target)
        assert target.read_bytes() == before


def test_a_folder_without_a_study_or_with_one_that_has_not_begun(tmp_path):
    with pytest.raises(StoreError, match=r"expected a study, found no study\.sqlite"):
        archive(tmp_path)
    Store(tmp_path).close()
    with pytest.raises(ValueError, match="a study that has begun"):
        archive(tmp_path)
    assert not tmp_path.with_name(f"{tmp_path.name}.zip").exists()


def test_links_are_not_followed(study, tmp_path):
    folder = shutil.copytree(study, tmp_path / "study")
    (tmp_path / "diary").write_text("dear diary")
    (folder / "logs" / "x.log").symlink_to(tmp_path / "diary")
    with pytest.raises(ValueError, match="regular files in the study's folder, got the link"):
        archive(folder)


def test_what_is_too_large_is_not_written(study, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LIMIT", 1000)
    with pytest.raises(ValueError, match="at most 1000 bytes"):
        archive(study, tmp_path / "x.zip")
    assert not list(tmp_path.iterdir())


# Reading what somebody sent -------------------------------------------------------------------------------------------


def rewritten(packed: Path, target: Path, change: Any) -> Path:
    """The archive with its entries and its manifest changed: `change(entries, manifest)`."""
    with zipfile.ZipFile(packed) as file:
        entries = {name: file.read(name) for name in file.namelist()}
    manifest = json.loads(entries.pop(MANIFEST))
    change(entries, manifest)
    if manifest is not None:
        entries = {MANIFEST: json.dumps(manifest).encode(), **entries}
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in entries.items():
            file.writestr(name, data)
    return target


def planted(name: str, data: bytes = b"x") -> Any:
    def change(entries: dict[str, bytes], manifest: dict[str, Any]) -> None:
        entries[name] = data
        manifest["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}

    return change


def hidden(entries: dict[str, bytes], manifest: dict[str, Any]) -> None:
    entries["logs/more.log"] = b"x"


def changed(entries: dict[str, bytes], manifest: dict[str, Any]) -> None:
    entries[FILE] = entries[FILE][:-1] + b"!"


def lost(entries: dict[str, bytes], manifest: dict[str, Any]) -> None:
    del entries["report.html"]


def without_study(entries: dict[str, bytes], manifest: dict[str, Any]) -> None:
    del entries[FILE], manifest["files"][FILE]


def newer(entries: dict[str, bytes], manifest: dict[str, Any]) -> None:
    manifest["version"] = 2


def foreign(entries: dict[str, bytes], manifest: dict[str, Any]) -> None:
    manifest["format"] = "photos"


def no_digest(entries: dict[str, bytes], manifest: dict[str, Any]) -> None:
    manifest["files"][FILE] = 3


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (planted("../outside.log"), "files of a study, got '../outside.log'"),
        (planted("logs/../../outside.log"), "files of a study"),
        (planted("/tmp/outside.log"), "files of a study"),
        (planted("logs\\outside.log"), "files of a study"),
        (planted("C:outside.log"), "files of a study"),
        (planted("sources/aaaaaaaaaaaaaaaa/../x.py"), "files of a study"),
        (planted("sources/aaaaaaaaaaaaaaaa/.ssh/x.py"), "files of a study"),
        (planted("study.lock"), "files of a study"),
        (planted("checkpoints/x.pt"), "files of a study"),
        (hidden, r"files that its manifest names, got \['logs/more.log'\]"),
        (changed, "SHA-256 .* of study.sqlite"),
        (lost, "one member 'report.html', got 0"),
        (without_study, "a study.sqlite in it"),
        (newer, "version 1, got 2. Update hasten"),
        (foreign, "the manifest of a hasten study"),
        (no_digest, "files of a study"),
    ],
)
def test_an_archive_that_was_changed_is_refused_and_nothing_is_kept(packed, tmp_path, change, says):
    sent = rewritten(packed, tmp_path / "sent.zip", change)
    with pytest.raises(ValueError, match=says):
        open_study(sent)
    (tmp_path / "here").mkdir()
    with pytest.raises(ValueError, match=says):
        extract(sent, tmp_path / "here" / "study")
    assert not list((tmp_path / "here").iterdir())
    assert {path.name for path in tmp_path.iterdir()} == {"sent.zip", "here"}


def test_files_packed_in_another_way_are_refused(packed, tmp_path):
    """Other ways have errors of their own for damaged bytes."""
    with zipfile.ZipFile(packed) as file, zipfile.ZipFile(tmp_path / "sent.zip", "w", zipfile.ZIP_BZIP2) as sent:
        for name in file.namelist():
            sent.writestr(name, file.read(name))
    with pytest.raises(ValueError, match="files packed by deflate"):
        extract(tmp_path / "sent.zip", tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_what_killed_processes_left_is_removed_and_nothing_else(packed, tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    gone = tmp_path / f".study.{ended.pid}.part"
    stay = [tmp_path / name for name in (f".study.{os.getppid()}.part", f".other.{ended.pid}.part", ".study.x.part")]
    for path in (gone, *stay):
        path.mkdir()
        (path / "file").write_text("x")
    extract(packed, tmp_path / "study")
    assert not gone.exists()
    assert all((path / "file").is_file() for path in stay)


def test_more_bytes_than_allowed_are_not_unpacked(packed, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LIMIT", 10_000)
    with pytest.raises(ValueError, match="at most"):
        extract(packed, tmp_path / "study")
    monkeypatch.setattr(module, "LIMIT", 1 << 30)
    monkeypatch.setattr(module, "MANIFEST_LIMIT", 10)
    with pytest.raises(ValueError, match="at most 10 bytes"):
        extract(packed, tmp_path / "study")
    assert not list(tmp_path.iterdir())


def test_a_link_in_an_archive_is_refused(packed, tmp_path):
    sent = rewritten(packed, tmp_path / "sent.zip", planted("logs/x.log"))
    with zipfile.ZipFile(sent) as file:
        entries = [(info, file.read(info)) for info in file.infolist()]
    with zipfile.ZipFile(sent, "w") as file:
        for info, data in entries:
            info.external_attr = (0o120777 if info.filename == "logs/x.log" else 0o100644) << 16
            file.writestr(info, data)
    with pytest.raises(ValueError, match="a regular file as 'logs/x.log'"):
        extract(sent, tmp_path / "study")


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "manifest"])
def test_files_that_are_no_archive(packed, tmp_path, damage):
    sent = tmp_path / "sent.zip"
    if damage == "cut":
        sent.write_bytes(packed.read_bytes()[:5000])
    elif damage == "manifest":
        with zipfile.ZipFile(sent, "w") as file:
            file.writestr(MANIFEST, "{")
    else:
        sent.write_text("no zip" if damage == "text" else "")
    says = "a manifest in JSON" if damage == "manifest" else r"the folder of a study or its archive \(\.zip\), got"
    with pytest.raises(ValueError, match=says):
        open_study(sent)


def test_a_study_with_a_view_is_refused(packed, tmp_path):
    """A view or a trigger would run somebody else's SQL when the study is read."""
    folder = extract(packed, tmp_path / "study")
    with sqlite3.connect(folder / FILE) as database:
        database.execute("ALTER TABLE study RENAME TO other")
        database.execute("CREATE VIEW study AS SELECT * FROM other")
    database.close()
    with pytest.raises(StoreError, match="holds other tables than a study's"):
        open_study(folder)


def test_a_folder_that_holds_something_is_left_alone(packed, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("mine")
    with pytest.raises(ValueError, match="a folder that does not exist yet, or an empty one"):
        extract(packed, tmp_path / "mine")
    assert contents(tmp_path) == {"mine/file": b"mine"}
    (tmp_path / "empty").mkdir()
    assert open_study(extract(packed, tmp_path / "empty")).status == "complete"


def test_opened_gives_a_folder_as_it_is_and_cleans_up_after_an_archive(study, packed):
    with opened(study) as folder:
        assert folder == study
    with opened(packed) as folder:
        assert (folder / FILE).is_file()
    assert not folder.exists()
