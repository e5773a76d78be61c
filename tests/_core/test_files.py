"""Files that appear whole or not at all."""

from __future__ import annotations

import os

import pytest

from hasten._core import files


def test_a_new_file_replaces_the_old_one_when_it_is_whole(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    synced = []
    monkeypatch.setattr(files, "sync_folder", synced.append)
    with files.new_file(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
        assert synced == []
    assert path.read_bytes() == b"new"
    assert synced == [tmp_path]
    assert list(tmp_path.iterdir()) == [path]


def fail(path, error):
    with files.new_file(path) as file:
        file.write(b"half")
        raise error


@pytest.mark.parametrize("error", [OSError("full"), KeyboardInterrupt()])
def test_what_fails_half_way_leaves_the_old_one_and_nothing_else(tmp_path, error):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(type(error)):
        fail(path, error)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_without_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with files.replacing(type(tmp_path)("file")) as aside:
        aside.write_bytes(b"x")
    assert os.listdir(tmp_path) == ["file"]
