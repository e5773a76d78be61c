from __future__ import annotations

import hashlib
import math
import os
from pathlib import Path

import pytest
import torch

from hasten.bench.workloads import wikitext2_small
from hasten.bench.workloads.download import DataFile
from hasten.bench.workloads.wikitext2_small import split

HERE = Path(os.environ.get("HASTEN_DATA", "")) / "wikitext2_valid_test" / "valid.txt"
needs_data = pytest.mark.skipif(not HERE.is_file(), reason="HASTEN_DATA has no wikitext2_valid_test/valid.txt")


def article(title: str, lines: int) -> str:
    """An article of the data's form, with a section; each line has a rare word."""
    body = "".join(f" the cat saw the <unk> and rare{k} \n" for k in range(lines))
    return f" \n = {title} = \n \n{body} \n = = Life = = \n \n{body}"


FIRST, SECOND = article("Cat", 40) + article("Cats", 30), article("Tom", 12) + article("Kit", 8)


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Short texts in place of the data."""
    files = []
    for file, text in zip(wikitext2_small._FILES, (FIRST, SECOND), strict=True):
        path = tmp_path / file.path
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text.encode())
        files.append(DataFile(file.path, len(text), hashlib.sha256(text.encode()).hexdigest()))
    monkeypatch.setattr(wikitext2_small, "_FILES", tuple(files))
    monkeypatch.setattr(wikitext2_small, "VOCABULARY", 8)
    monkeypatch.setenv("HASTEN_DATA", str(tmp_path))
    return tmp_path


def test_the_test_is_the_articles_that_begin_in_the_last_tenth():
    text = FIRST + SECOND
    train, test = split(text)
    cut = text.index(" = Kit = ")
    assert text.index(" = Tom = ") < 0.9 * len(text) <= cut
    assert train == text[:cut].replace("\n", " <eos> ").split()
    assert test == text[cut:].replace("\n", " <eos> ").split()
    assert test[:8] == ["=", "Kit", "=", "<eos>", "<eos>", "the", "cat", "saw"]


def test_a_section_is_no_article():
    text = " \n = Cat = \n" + 99 * " the cat \n" + " = = Life = = \n" + 9 * " the cat \n"
    with pytest.raises(ValueError, match="wikitext2_small: expected an article's title in the last tenth of the text"):
        split(text)


def test_words_are_numbered_by_the_training_part_and_rare_ones_are_unknown(small):
    (x, y), (test_x, test_y) = wikitext2_small.data(0)
    # twice a line; once a line and more; once a line, so by the alphabet; then the titles' signs, a word of each body
    numbers = {"the": 0, "<eos>": 1, "<unk>": 2, "and": 3, "cat": 4, "saw": 5, "=": 6, "rare0": 7}
    train, test = split(FIRST + SECOND)
    tokens = [numbers.get(word, 2) for word in train]
    assert x.flatten().tolist() == tokens[: x.numel()]
    assert y.flatten().tolist() == tokens[1 : y.numel() + 1]
    assert x.shape == ((len(train) - 1) // 32, 32)
    assert test_x[0, :6].tolist() == [6, 2, 6, 1, 1, 0]  # "Kit" is unknown
    assert test_y.shape == ((len(test) - 1) // 32, 32)


def test_no_part_depends_on_the_seed(small):
    assert torch.equal(wikitext2_small.train_data(0)[0], wikitext2_small.train_data(5)[0])


def test_another_text_is_refused(small):
    path = small / "wikitext2_valid_test" / "test.txt"
    path.write_text(path.read_text() + "!")
    with pytest.raises(ValueError, match="test.txt: expected SHA-256"):
        wikitext2_small.train_data(0)


def test_says_where_missing_files_belong(small, monkeypatch):
    monkeypatch.setenv("HASTEN_CACHE", str(small / "cache"))
    (small / "wikitext2_valid_test" / "valid.txt").unlink()
    with pytest.raises(FileNotFoundError, match="expected the file wikitext2_valid_test/valid.txt"):
        wikitext2_small.test_data()


def test_the_four_functions():
    x = torch.arange(64).view(2, 32)
    torch.manual_seed(0)
    model = wikitext2_small.model(width=16, depth=1)
    assert wikitext2_small.loss(model(x), (x, x + 1)).shape == (2,)
    assert wikitext2_small.metric(model, (x, x + 1)) == pytest.approx(math.log2(4096), abs=0.3)  # untrained


def test_is_a_set_of_its_own():
    assert wikitext2_small.NAME == "wikitext2_small"
    for file in wikitext2_small._FILES:
        assert file.path.startswith("wikitext2_valid_test/")
        assert file.url is not None
        assert "/77f55b912142e11fcfdf5b530231fb9c52f181e8/" in file.url


@needs_data
def test_the_real_text():
    (x, y), (test_x, test_y) = wikitext2_small.data(0)
    assert x.shape == y.shape == (13_072, 32)
    assert test_x.shape == test_y.shape == (1_402, 32)
    assert (int(x.min()), int(x.max())) == (0, wikitext2_small.VOCABULARY - 1)
    digests = [hashlib.sha256(t.contiguous().numpy().tobytes()).hexdigest()[:16] for t in (x, test_x)]
    assert digests == ["083e347b56849fcc", "1d0504646227f2fd"]


@needs_data
def test_the_frequencies_alone_cost_more_than_the_target():
    """What a model can save by knowing how frequent the words are, and nothing else."""
    (_, y), (_, test_y) = wikitext2_small.data(0)
    share = (y.flatten().bincount(minlength=wikitext2_small.VOCABULARY) + 1.0) / (y.numel() + 4096)
    bits = -share[test_y].log2().mean().item()
    assert bits == pytest.approx(7.7, abs=0.2)
    assert bits - 1 > wikitext2_small.TARGET
