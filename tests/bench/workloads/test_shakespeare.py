from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
import torch

from hasten.bench.workloads import shakespeare
from hasten.bench.workloads.download import DataFile

HERE = Path(os.environ.get("HASTEN_DATA", "")) / "tiny_shakespeare" / "input.txt"


@pytest.fixture
def text(tmp_path, monkeypatch) -> str:
    """A short text in place of the plays."""
    text = "".join(chr(65 + (k * k) % 26) for k in range(3000))
    (tmp_path / "tiny_shakespeare").mkdir()
    (tmp_path / "tiny_shakespeare" / "input.txt").write_text(text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    monkeypatch.setattr(shakespeare, "_FILE", DataFile(shakespeare._FILE.path, len(text), digest))
    monkeypatch.setenv("HASTEN_DATA", str(tmp_path))
    return text


def test_tokens_are_ranks_of_characters_and_the_first_90_percent_are_for_training(text):
    kinds = sorted(set(text))
    tokens = [kinds.index(character) for character in text]
    (x, y), (test_x, test_y) = shakespeare.data(0)
    assert x.flatten().tolist() == tokens[: x.numel()]
    assert y.flatten().tolist() == tokens[1 : y.numel() + 1]
    assert test_x.flatten().tolist() == tokens[2700 : 2700 + test_x.numel()]
    assert x.shape == (2699 // 64, 64)
    assert test_y.shape == (299 // 64, 64)


def test_the_four_functions(text):
    x, y = test = shakespeare.test_data()
    torch.manual_seed(0)
    model = shakespeare.model(width=16, depth=1, heads=2)
    assert shakespeare.loss(model(x), (x, y)).shape == (len(x),)
    assert shakespeare.metric(model, test) == pytest.approx(6.02, abs=0.15)  # log2(65): untrained


def test_another_text_is_refused(text, tmp_path):
    (tmp_path / "tiny_shakespeare" / "input.txt").write_text(text + "!")
    with pytest.raises(ValueError, match="input.txt: expected SHA-256"):
        shakespeare.train_data(0)


@pytest.mark.skipif(not HERE.is_file(), reason="HASTEN_DATA has no tiny_shakespeare/input.txt")
def test_the_real_text():
    (x, y), (test_x, _) = shakespeare.data(0)
    assert x.shape == y.shape == (15_685, 64)
    assert test_x.shape == (1_742, 64)
    assert int(x.max()) == 64
    assert x[0, :5].tolist() == [18, 47, 56, 57, 58]  # "First"
