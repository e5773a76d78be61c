from __future__ import annotations

import hashlib
import os
from pathlib import Path
from urllib.request import pathname2url

import pytest
import torch

from hasten.bench.workloads import sst2
from hasten.bench.workloads.download import DataFile

HERE = Path(os.environ.get("HASTEN_DATA", "")) / "sst2" / "train.tsv"

TRAIN = "label\tsentence\n1\ta good good film\n0\ta bad film\n0\tbad , \xa0bad\n1\tgood\n"
TEST = "label\tcontent\n1\tgood fun\n0\tbad\n"
KNOWN = {"bad": 3, "good": 4, "a": 5, "film": 6}  # by frequency, then by the alphabet; "," is one too many


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Short files in place of the data; returns their folder."""
    files = {}
    for part, text in (("train", TRAIN), ("test", TEST)):
        path = tmp_path / sst2._FILES[part].path
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text.encode())
        size, digest = len(text.encode()), hashlib.sha256(text.encode()).hexdigest()
        files[part] = DataFile(sst2._FILES[part].path, size, digest, f"file:{pathname2url(str(path))}")
    monkeypatch.setattr(sst2, "_FILES", files)
    monkeypatch.setattr(sst2, "VOCABULARY", 7)
    for variable in ("HASTEN_DOWNLOAD", "HASTEN_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HASTEN_DATA", str(tmp_path))
    monkeypatch.setenv("HASTEN_CACHE", str(tmp_path / "cache"))
    return tmp_path


def expected(*rows: list[int]) -> list[list[int]]:
    return [row + [0] * (48 - len(row)) for row in rows]


def test_texts_are_the_class_token_numbered_words_and_padding(small):
    (x, y), (test_x, test_y) = sst2.data(0)
    assert x.tolist() == expected([1, 5, 4, 4, 6], [1, 5, 3, 6], [1, 3, 2, 3], [1, 4])
    assert y.tolist() == [1, 0, 0, 1]
    assert test_x.tolist() == expected([1, 4, 2], [1, 3])  # "fun" is unknown, and the test does not number words
    assert test_y.tolist() == [1, 0]
    assert {t.dtype for t in (x, y, test_x, test_y)} == {torch.int64}


def test_no_part_depends_on_the_seed(small):
    assert torch.equal(sst2.train_data(0)[0], sst2.train_data(5)[0])


def test_long_texts_are_cut(small):
    (row,) = sst2.encode([["good"] * 60], KNOWN).tolist()
    assert row == [1] + [4] * 47


def test_missing_files_are_named_and_downloaded_where_asked_for(small, monkeypatch):
    monkeypatch.setenv("HASTEN_DATA", str(small / "cache"))
    (small / "cache").mkdir()
    with pytest.raises(FileNotFoundError, match="expected the file sst2/train.tsv, .* set HASTEN_DOWNLOAD=1"):
        sst2.train_data(0)
    monkeypatch.setenv("HASTEN_DOWNLOAD", "1")
    assert sst2.test_data()[1].tolist() == [1, 0]
    assert (small / "cache" / "sst2" / "dev.tsv").read_bytes() == TEST.encode()


def test_other_content_is_refused(small):
    (small / "sst2" / "dev.tsv").write_text(TEST.replace("fun", "fan"))
    with pytest.raises(ValueError, match=r"dev.tsv: expected SHA-256 .* replace it by the original from file:"):
        sst2.test_data()


@pytest.mark.parametrize("line", ["2\tgood", "good\t1", "1 good", "1\t", "1\t  ", ""])
def test_lines_of_another_form_are_refused(line):
    with pytest.raises(ValueError, match="sst2, line 3: expected 0 or 1, a tab and a text, got"):
        sst2.read_tsv(f"label\tsentence\n1\tgood\n{line}\n0\tbad\n".encode())


def test_the_four_functions(small, monkeypatch):
    monkeypatch.undo()  # the vocabulary of the model is the real one
    x = sst2.encode([["good", "film"], ["bad"]], KNOWN)
    y = torch.tensor([1, 0])
    torch.manual_seed(0)
    model = sst2.model(width=8, depth=1)
    assert model(x).shape == (2, 2)
    assert sst2.loss(model(x), (x, y)).shape == (2,)
    assert sst2.metric(model, (x, y)) in (0.0, 0.5, 1.0)


def test_files_come_from_a_fixed_version():
    for file in sst2._FILES.values():
        assert file.url is not None
        assert "/9f573468d63730ec394391837dc02d94583eec8b/" in file.url


@pytest.mark.skipif(not HERE.is_file(), reason="HASTEN_DATA has no sst2/train.tsv")
def test_the_real_data():
    (x, y), (test_x, test_y) = sst2.data(0)
    assert (x.shape, test_x.shape) == ((67_349, 48), (872, 48))
    assert (y.bincount().tolist(), test_y.bincount().tolist()) == ([29_780, 37_569], [428, 444])
    assert (int(x.min()), int(x.max())) == (0, sst2.VOCABULARY - 1)
    assert bool((test_x[:, -1] != 0).any())  # the longest test sentence has just enough places
    assert not {tuple(row) for row in x.tolist()} & {tuple(row) for row in test_x.tolist()}
    digests = [hashlib.sha256(t.numpy().tobytes()).hexdigest()[:16] for t in (x, y, test_x, test_y)]
    assert digests == ["9ba5ed7d58e3186d", "c4842e7ec802003e", "b6ea630cd2220a6c", "82f36fcdb0357c5a"]


@pytest.mark.skipif(not HERE.is_file(), reason="HASTEN_DATA has no sst2/train.tsv")
def test_sixty_steps_beat_guessing():
    (x, y), (test_x, test_y) = sst2.data(0)
    torch.manual_seed(0)
    model = sst2.model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=sst2.LEARNING_RATE)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    for step in range(60):
        index = order[step * 64 : step * 64 + 64]
        optimizer.zero_grad()
        sst2.loss(model(x[index]), (x[index], y[index])).mean().backward()
        optimizer.step()
    assert sst2.metric(model, (test_x, test_y)) > 0.6  # guessing: .509
