from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from pathlib import Path

import pytest

from hasten.bench import durable

resource = pytest.importorskip("resource", reason="limits and folders of POSIX systems")


@contextmanager
def small_files():
    """No file can grow beyond 1000 bytes, as on a full disk. Not a fixture: pytest's own output may be such a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_is_written_replaces_what_was_there(tmp_path):
    path = tmp_path / "file"
    for data in (b"one", memoryview(b"two")):
        durable.write_atomically(path, data)
        assert path.read_bytes() == bytes(data)
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_keeps_the_old_file_and_leaves_no_other(tmp_path):
    path = tmp_path / "file"
    durable.write_atomically(path, b"old")
    with pytest.raises(OSError, match="File too large") as caught, small_files():
        durable.write_atomically(path, bytes(2000))
    assert durable.is_full(caught.value)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_every_new_folder_is_made_durable_in_its_parent(tmp_path, monkeypatch):
    synced: list[Path] = []
    monkeypatch.setattr(durable, "sync_folder", synced.append)
    durable.make_folder(tmp_path / "a" / "b")
    assert synced == [tmp_path, tmp_path / "a"]
    durable.make_folder(tmp_path / "a" / "b")
    assert len(synced) == 2


@pytest.mark.parametrize(
    ("number", "fix", "full"),
    [
        (errno.ENOSPC, "free some space and run the same command again", True),
        (errno.EDQUOT, "free some space", True),
        (errno.EACCES, "pass another one with --out", False),
        (errno.EROFS, "pass another one with --out", False),
        (errno.EIO, "Run the same command again", False),
    ],
)
def test_errors_are_explained_with_their_fix(number, fix, full):
    error = OSError(number, os.strerror(number), "runs/x")
    text = durable.explain(error)
    assert text.startswith(f"runs/x: {os.strerror(number)}. ")
    assert fix in text
    assert durable.is_full(error) is full


def test_other_errors_are_not_a_full_disk():
    assert not durable.is_full(ValueError("No space left on device"))
