from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from hasten.bench.workloads.archive import extract

FILES = {"set/a.bin": b"a" * 1000, "set/b.bin": b"b" * 2000}


def make_tar(path: Path, files: dict[str, bytes], *, extra: list[tarfile.TarInfo] | None = None) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in extra or []:
            archive.addfile(info)
    return path


def make_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


MAKERS = {"tar": make_tar, "zip": make_zip}


def entry(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def files_below(folder: Path) -> list[str]:
    paths = folder.rglob("*") if folder.exists() else ()
    return sorted(path.relative_to(folder).as_posix() for path in paths if not path.is_dir())


@pytest.mark.parametrize("kind", MAKERS)
def test_takes_the_named_members_and_nothing_else(tmp_path, kind):
    archive = MAKERS[kind](tmp_path / "x", {**FILES, "other": b"o", "../evil": b"e"})
    paths = extract(archive, tmp_path / "out", ["set/b.bin", "set/a.bin"], limit=3000)
    assert [p.read_bytes() for p in paths] == [FILES["set/b.bin"], FILES["set/a.bin"]]
    assert files_below(tmp_path / "out") == ["set/a.bin", "set/b.bin"]
    assert not (tmp_path / "evil").exists()


def test_a_leading_dot_in_a_tar_is_the_same_name(tmp_path):
    archive = make_tar(tmp_path / "x.tar.gz", {"./set/a.bin": b"a"})
    assert extract(archive, tmp_path / "out", ["set/a.bin"], limit=1)[0].read_bytes() == b"a"


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("name", ["../evil", "/evil", "set/../../evil", "..\\evil"])
def test_names_that_leave_the_folder_are_refused(tmp_path, kind, name):
    archive = MAKERS[kind](tmp_path / "x", {name: b"e"})
    with pytest.raises(ValueError, match="path: expected a relative path"):
        extract(archive, tmp_path / "out", [name], limit=100)
    assert files_below(tmp_path / "out") == []


@pytest.mark.parametrize(
    "bad",
    [
        entry("bad", tarfile.SYMTYPE, "/etc/passwd"),
        entry("bad", tarfile.LNKTYPE, "set/a.bin"),
        entry("bad", tarfile.DIRTYPE),
        entry("bad", tarfile.FIFOTYPE),
        entry("bad", tarfile.CHRTYPE),
    ],
    ids=["symlink", "hard link", "folder", "pipe", "device"],
)
def test_only_regular_files_of_a_tar(tmp_path, bad):
    archive = make_tar(tmp_path / "x.tar.gz", FILES, extra=[bad])
    with pytest.raises(ValueError, match="a regular file as 'bad', got a link, folder or device"):
        extract(archive, tmp_path / "out", ["set/a.bin", "bad"], limit=10_000)
    assert files_below(tmp_path / "out") == []


def test_no_link_of_a_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        link = zipfile.ZipInfo("bad")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(ValueError, match="a regular file as 'bad'"):
        extract(tmp_path / "x.zip", tmp_path / "out", ["bad"], limit=100)


@pytest.mark.parametrize("kind", MAKERS)
def test_sizes_are_bounded_over_all_members(tmp_path, kind):
    archive = MAKERS[kind](tmp_path / "x", {"bomb": bytes(5_000_000), "small": b"s"})
    assert archive.stat().st_size < 50_000
    with pytest.raises(ValueError, match="expected at most 999999 bytes, got more"):
        extract(archive, tmp_path / "out", ["small", "bomb"], limit=1_000_000)
    assert files_below(tmp_path / "out") == ["small"]  # complete members stay, no partial one does


@pytest.mark.parametrize("kind", MAKERS)
def test_a_missing_member(tmp_path, kind):
    archive = MAKERS[kind](tmp_path / "x", FILES)
    with pytest.raises(ValueError, match="one member 'set/c.bin', got 0"):
        extract(archive, tmp_path / "out", ["set/a.bin", "set/c.bin"], limit=10_000)
    assert files_below(tmp_path / "out") == []


def test_a_member_that_is_there_twice(tmp_path):
    twice = tarfile.TarInfo("set/a.bin")
    archive = make_tar(tmp_path / "x.tar.gz", FILES, extra=[twice])
    with pytest.raises(ValueError, match="one member 'set/a.bin', got 2"):
        extract(archive, tmp_path / "out", ["set/a.bin"], limit=10_000)


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("keep", [0, 1, 40, 200])
def test_a_truncated_archive(tmp_path, kind, keep):
    noise = bytes(pow(3, k, 257) % 256 for k in range(5000)) * 4  # hardly compressible
    whole = MAKERS[kind](tmp_path / "x", {"set/a.bin": noise}).read_bytes()
    (tmp_path / "cut").write_bytes(whole[:keep])
    with pytest.raises(ValueError, match=r"extract\(cut\): expected"):
        extract(tmp_path / "cut", tmp_path / "out", ["set/a.bin"], limit=100_000)
    assert files_below(tmp_path / "out") == []


def test_what_is_no_archive(tmp_path):
    (tmp_path / "text").write_text("hello" * 500)
    with pytest.raises(ValueError, match=r"extract\(text\): expected a whole tar or zip archive"):
        extract(tmp_path / "text", tmp_path / "out", ["a"], limit=10)
