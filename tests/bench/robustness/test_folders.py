"""Folders that cannot be used, and commands that make no sense: one clear line, an exit status, nothing changed."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hasten.bench.store import FILE, Store, StoreError
from hasten.cli import main

ARMS = "base,smooth=label_smoothing(0.1)"


@pytest.fixture
def study(tmp_path, tiny_plan) -> Path:
    """The folder of a study that has begun: the plan that `command` asks for, no run."""
    store = Store(tmp_path / "study")
    store.put("identity", tiny_plan().identity())
    store.put("title", "tiny: base, smooth")
    store.close()
    return store.folder


def command(folder: Path, tiny: Path, *more: str, arms: str = ARMS) -> list[str]:
    return ["compare", str(tiny), "--arms", arms, "--seeds", "2", "--out", str(folder), *more]


def refused(capsys, words: list[str], status: int) -> str:
    """Run a command that fails; returns the one line in which it says so."""
    assert main(words) == status
    err = capsys.readouterr().err
    assert "Traceback" not in err
    line = err.strip().splitlines()[-1]
    assert line.startswith("hasten: ")
    return line


def random_bytes(path: Path) -> None:
    path.write_bytes(os.urandom(5000))


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def foreign(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE guests (name TEXT)")
    database.close()


def newer(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 7")
    database.close()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (random_bytes, "The file is damaged or not a study: move it away and run the same command again."),
        (cut_short, "The file is damaged or not a study: move it away and run the same command again."),
        (foreign, "a database, but not a study of hasten's. Pass another folder with --out."),
        (newer, "written by a newer hasten (schema 7). Update hasten to read it."),
    ],
)
def test_a_file_that_is_no_study_of_ours(capsys, tiny, study, change, says):
    path = study / FILE
    change(path)
    before = path.read_bytes()
    assert refused(capsys, command(study, tiny), 1).endswith(says)
    assert refused(capsys, ["report", str(study)], 2).endswith(says)
    assert path.read_bytes() == before


def test_debug_shows_where_it_came_from(tiny, study):
    random_bytes(study / FILE)
    with pytest.raises(StoreError):
        main([*command(study, tiny), "--debug"])


def test_another_studys_folder(capsys, tiny, study):
    line = refused(capsys, command(study, tiny, arms="base,other=label_smoothing(0.2)"), 1)
    assert line.endswith(
        "holds another study (tiny: base, smooth). Pass another folder with --out, or delete this one."
    )


def test_two_drivers_at_once(capsys, tiny, study):
    store = Store(study)
    line = refused(capsys, command(study, tiny), 1)
    assert line.endswith("Another process is writing this study: wait for it, or pass another folder with --out.")
    store.close()


def test_a_folder_that_is_no_folder(capsys, tiny, tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "study"):
        assert refused(capsys, command(folder, tiny), 1).endswith("cannot be written: pass another one with --out.")
    assert "expected a study, found no study.sqlite" in refused(capsys, ["report", str(tmp_path)], 2)


@pytest.mark.parametrize(
    ("arms", "says"),
    [
        ("base,smoth=label_smothing(0.1)", "Did you mean label_smoothing?"),
        ("base,both=sam+sam", "'sam' twice"),
        ("base,bad=layer_freezing(0.1)+layer_freezing(0.2)", "'layer_freezing' twice"),
        ("base,blur=blurpool", "expected a workload with images"),
        ("base,smooth=label_smoothing(much=7)", "label_smoothing"),
        ("base,smooth=label_smoothing(open('x'))", "expected literals as arguments"),
    ],
)
def test_arms_that_cannot_be_compared(capsys, tiny, tmp_path, arms, says):
    assert says in refused(capsys, command(tmp_path / "study", tiny, arms=arms), 2)
    assert not (tmp_path / "study").exists()


def test_a_workload_that_is_not_there(capsys, tmp_path):
    words = ["compare", str(tmp_path / "none.py"), "--arms", "base"]
    assert "expected a Python file that exists" in refused(capsys, words, 2)
    assert "Did you mean digits?" in refused(capsys, ["compare", "digit", "--arms", "base"], 2)


def test_data_that_are_not_there(capsys, tiny, tmp_path):
    text = tiny.read_text().replace("return part(64, 0), part(64, 1)", "return torch.load('/nowhere/data.pt'), None")
    (tmp_path / "missing.py").write_text(text)
    line = refused(capsys, command(tmp_path / "study", tmp_path / "missing.py"), 1)
    assert "No such file or directory: '/nowhere/data.pt'" in line
    assert not (tmp_path / "study").exists()


@pytest.fixture
def closed(study) -> Iterator[Path]:
    """A study in a folder that this process may read and not write, also where it is root."""
    if not hasattr(os, "seteuid"):
        pytest.skip("permissions of POSIX systems")
    parent = Path(tempfile.mkdtemp())
    shutil.copytree(study, parent / "study")
    (parent / "study" / FILE).chmod(0o444)
    for folder in (parent / "study", parent):
        folder.chmod(0o555)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # nobody
    yield parent / "study"
    os.seteuid(user)
    for folder in (parent, parent / "study"):
        folder.chmod(stat.S_IRWXU)
    shutil.rmtree(parent)


def test_a_folder_without_permission_to_write(closed):
    with pytest.raises(StoreError, match=r"new: Permission denied\. The folder cannot be written: pass another one"):
        Store(closed.parent / "new")
    store = Store(closed)
    with pytest.raises(StoreError, match="readonly database. The folder cannot be written: pass another one"):
        store.put("status", "running")
    store.close()


def test_a_study_without_permission_to_write_is_readable(closed):
    store = Store(closed, read_only=True)
    assert store.get("title") == "tiny: base, smooth"
    store.close()
