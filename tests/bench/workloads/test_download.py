from __future__ import annotations

import hashlib
import io
from pathlib import Path, PurePosixPath
from urllib.request import pathname2url

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.bench.workloads import download
from hasten.bench.workloads.download import DataFile, cache_folder, copy_bounded, find, obtain, safe_path

CONTENT = bytes(range(256)) * 5000  # 1.28 MB: more than one chunk


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """A cache of its own, and no setting from outside."""
    for variable in ("HASTEN_DATA", "HASTEN_DOWNLOAD", "HASTEN_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HASTEN_CACHE", str(tmp_path / "cache"))


def served(folder: Path, **change: object) -> DataFile:
    """A data file whose URL is a local one."""
    folder.mkdir(exist_ok=True)
    source = folder / "served.bin"
    source.write_bytes(CONTENT)
    usual = {
        "path": "set/file.bin",
        "size": len(CONTENT),
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "url": f"file:{pathname2url(str(source))}",
    }
    return DataFile(**{**usual, **change})


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()] if folder.exists() else []


def test_downloads_when_asked_and_only_once(tmp_path):
    file = served(tmp_path / "source")
    path = obtain(file, download=True)
    assert path == tmp_path / "cache" / "set" / "file.bin"
    assert path.read_bytes() == CONTENT
    assert leftovers(tmp_path / "cache") == [path]
    (tmp_path / "source" / "served.bin").unlink()
    assert obtain(file) == path  # found: no download needed, none tried
    assert obtain(file, offline=True) == path


def test_the_environment_can_ask_for_it(tmp_path, monkeypatch):
    file = served(tmp_path / "source")
    monkeypatch.setenv("HASTEN_DOWNLOAD", "1")
    assert obtain(file).read_bytes() == CONTENT


def test_nothing_is_fetched_unless_asked(tmp_path, monkeypatch):
    def never(*_: object, **__: object) -> None:
        raise AssertionError("the network was touched")

    monkeypatch.setattr(download.urllib.request, "urlopen", never)
    file = served(tmp_path / "source")
    with pytest.raises(FileNotFoundError) as error:
        obtain(file)
    message = str(error.value)
    for part in ("set/file.bin", "HASTEN_DATA", str(tmp_path / "cache"), file.url, "HASTEN_DOWNLOAD=1"):
        assert part in message
    for download_asked in (None, True):
        with pytest.raises(FileNotFoundError, match=r"downloads are forbidden now \(offline\)"):
            obtain(file, download=download_asked, offline=True)
    monkeypatch.setenv("HASTEN_OFFLINE", "1")
    monkeypatch.setenv("HASTEN_DOWNLOAD", "1")
    with pytest.raises(FileNotFoundError, match="offline"):
        obtain(file, download=True)


def test_a_file_without_url_cannot_be_downloaded(tmp_path):
    with pytest.raises(FileNotFoundError, match="This file cannot be downloaded"):
        obtain(served(tmp_path / "source", url=None), download=True)


def test_message_names_the_chosen_data_folder(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("HASTEN_DATA", str(tmp_path / "data"))
    with pytest.raises(FileNotFoundError) as error:
        obtain(served(tmp_path / "source"))
    assert f"Put set/file.bin into {tmp_path / 'data'} (HASTEN_DATA)" in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": len(CONTENT) - 1}, "at most 1279999 bytes, got more"),
        ({"size": 10}, "at most 10 bytes, got more"),
        ({"size": len(CONTENT) + 1}, "expected 1280001 bytes, got 1280000. The transfer broke off"),
        ({"sha256": "0" * 64}, "expected SHA-256 0000.* got .*nothing was kept"),
        ({"url": "http://example.invalid/file"}, "an https or file URL"),
        ({"url": "ftp://example.invalid/file"}, "an https or file URL"),
    ],
)
def test_a_bad_download_leaves_nothing(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        obtain(served(tmp_path / "source", **change), download=True)
    assert leftovers(tmp_path / "cache") == []


def test_no_connection(tmp_path):
    file = served(tmp_path / "source")
    (tmp_path / "source" / "served.bin").unlink()
    with pytest.raises(ConnectionError, match="download: expected file:.*HASTEN_DATA"):
        obtain(file, download=True)
    assert leftovers(tmp_path / "cache") == []


def test_a_connection_that_breaks_off(tmp_path, monkeypatch):
    class Broken(io.BytesIO):
        def read(self, size: int = -1, /) -> bytes:
            if self.tell() > 0:
                raise ConnectionResetError("reset by peer")
            return super().read(size)

    monkeypatch.setattr(download.urllib.request, "urlopen", lambda *_, **__: Broken(CONTENT))
    with pytest.raises(ConnectionError, match="reset by peer"):
        obtain(served(tmp_path / "source"), download=True)
    assert leftovers(tmp_path / "cache") == []


def test_a_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    with pytest.raises(TypeError), download.replace_atomically(path) as out:
        out.writelines([b"new", None])
    assert path.read_bytes() == b"old"
    assert leftovers(tmp_path) == [path]
    with download.replace_atomically(path) as out:
        out.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


def test_a_local_file_is_verified(tmp_path, monkeypatch):
    file = served(tmp_path / "source")
    path = tmp_path / "data" / "set" / "file.bin"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT[:-1] + b"x")
    monkeypatch.setenv("HASTEN_DATA", str(tmp_path / "data"))
    with pytest.raises(ValueError, match="file.bin: expected SHA-256") as error:
        obtain(file, download=True)
    assert file.url in str(error.value)
    path.write_bytes(CONTENT)
    assert obtain(file) == path


def test_the_data_folder_comes_before_the_cache(tmp_path, monkeypatch):
    for folder in ("data", "cache"):
        (tmp_path / folder / "set").mkdir(parents=True)
        (tmp_path / folder / "set" / "a").write_text(folder)
    assert find("set/a").read_text() == "cache"
    monkeypatch.setenv("HASTEN_DATA", str(tmp_path / "data"))
    assert find("set/a").read_text() == "data"
    assert find("set/b") is None


def test_a_data_folder_that_is_not_there_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("HASTEN_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="HASTEN_DATA: expected an existing folder"):
        find("set/a")


def test_default_cache_is_in_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("HASTEN_CACHE")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert cache_folder() == tmp_path / ".cache" / "hasten"


@pytest.mark.parametrize("value", ["yes", "true", "2"])
def test_switches_are_one_or_zero(tmp_path, monkeypatch, value):
    monkeypatch.setenv("HASTEN_DOWNLOAD", value)
    with pytest.raises(ValueError, match=f"HASTEN_DOWNLOAD: expected 1 or 0, got '{value}'"):
        obtain(served(tmp_path / "source"))


def test_copy_stops_at_the_limit():
    out = io.BytesIO()
    assert copy_bounded(io.BytesIO(b"abc"), out, 3, "copy") == (3, hashlib.sha256(b"abc").hexdigest())
    assert out.getvalue() == b"abc"
    with pytest.raises(ValueError, match="copy: expected at most 2 bytes"):
        copy_bounded(io.BytesIO(b"abc"), io.BytesIO(), 2, "copy")


@pytest.mark.parametrize("name", ["", ".", "/etc/passwd", "../a", "a/../../b", "a\\b", "C:/a", "C:a", "a\0b", "//a/b"])
def test_unsafe_paths(name):
    with pytest.raises(ValueError, match=r"path: expected a relative path without '\.\.'"):
        safe_path(name)


@given(st.text(alphabet="ab./\\:\0-", max_size=12))
def test_what_is_accepted_stays_below_its_folder(name):
    try:
        path = safe_path(name)
    except ValueError:
        return
    parts: list[str] = []
    for part in (PurePosixPath("/folder") / path).parts:
        parts = parts[:-1] if part == ".." else [*parts, part]
    assert parts[:2] == ["/", "folder"]
    assert len(parts) > 2
