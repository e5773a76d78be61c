from __future__ import annotations

import gzip
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hasten.bench.models import count_parameters
from hasten.bench.workloads import fashion_mnist
from hasten.bench.workloads.fashion_mnist import canonical, read_idx

HERE = Path(os.environ.get("HASTEN_DATA", "")) / "fashion_mnist" / "fashion_mnist.npz"
needs_data = pytest.mark.skipif(not HERE.is_file(), reason="HASTEN_DATA has no fashion_mnist/fashion_mnist.npz")


def write_idx(path: Path, array: np.ndarray, *, magic: bytes | None = None, cut: int = 0) -> str:
    """Write a gzipped IDX file; return its SHA-256."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    content = (magic or header) + array.tobytes()
    path.write_bytes(gzip.compress(content[: len(content) - cut], compresslevel=1))
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A small data set of the same format, as IDX files; returns the images and labels of its test part."""
    folder = tmp_path / "fashion_mnist"
    folder.mkdir()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (50, 28, 28), dtype=np.uint8)
    labels = (np.arange(50) % 10).astype(np.uint8)
    original = {}
    for name, array in (("t10k-images-idx3-ubyte.gz", images), ("t10k-labels-idx1-ubyte.gz", labels)):
        digest = write_idx(folder / name, array)
        original[name] = ((folder / name).stat().st_size, digest)
    monkeypatch.setattr(fashion_mnist, "_ORIGINAL", original)
    monkeypatch.setattr(fashion_mnist, "_COUNT", {"test": 50})
    monkeypatch.setenv("HASTEN_DATA", str(tmp_path))
    monkeypatch.setenv("HASTEN_CACHE", str(tmp_path / "cache"))
    return images, labels


def test_reads_the_original_files(fake):
    images, labels = fake
    x, y = fashion_mnist.test_data()
    assert x.shape == (50, 1, 28, 28)
    assert x.dtype == torch.float32
    assert y.dtype == torch.int64
    pixels = (x * 0.3530 + 0.2860) * 255
    got = {(p.round().to(torch.uint8).numpy().tobytes(), int(label)) for p, label in zip(pixels, y, strict=True)}
    assert got == {(image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True)}


def test_an_npz_of_the_same_images_in_another_order_gives_the_same_tensors(fake, tmp_path, monkeypatch):
    images, labels = fake
    expected = fashion_mnist.test_data()
    order = np.random.default_rng(1).permutation(50)
    np.savez(tmp_path / "fashion_mnist" / "fashion_mnist.npz", x_test=images[order], y_test=labels[order])
    monkeypatch.setattr(fashion_mnist, "_CONTENT", {"test": canonical(images, labels)[2]})
    for file in (tmp_path / "fashion_mnist").glob("*.gz"):
        file.unlink()
    again = fashion_mnist.test_data()
    assert torch.equal(again[0], expected[0])
    assert torch.equal(again[1], expected[1])


def test_an_npz_of_other_images_is_refused(fake, tmp_path):
    np.savez(tmp_path / "fashion_mnist" / "fashion_mnist.npz", x_test=fake[0], y_test=fake[1])
    with pytest.raises(ValueError, match=r"fashion_mnist.npz: expected Fashion-MNIST \(content 8187"):
        fashion_mnist.test_data()


def test_says_where_missing_files_belong(fake, tmp_path):
    (tmp_path / "fashion_mnist" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match="expected the file fashion_mnist/t10k-labels-idx1-ubyte.gz") as error:
        fashion_mnist.test_data()
    assert "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/" in str(error.value)


@given(count=st.integers(1, 30), seed=st.integers(0, 99))
def test_canonical_order_does_not_depend_on_the_order_given(count, seed):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 2, (count, 2, 2), dtype=np.uint8)  # few values: duplicates are likely
    labels = rng.integers(0, 3, count, dtype=np.uint8)
    first = canonical(images, labels)
    order = rng.permutation(count)
    second = canonical(images[order], labels[order])
    assert np.array_equal(first[0], second[0])
    assert np.array_equal(first[1], second[1])
    assert first[2] == second[2]
    pairs = sorted(zip(images.reshape(count, -1).tolist(), labels.tolist(), strict=True))
    assert sorted(zip(first[0].reshape(count, -1).tolist(), first[1].tolist(), strict=True)) == pairs


def test_the_digest_sees_every_pixel_and_label():
    images, labels = np.zeros((4, 2, 2), np.uint8), np.arange(4, dtype=np.uint8)
    digest = canonical(images, labels)[2]
    changed = images.copy()
    changed[2, 1, 1] = 1
    assert canonical(changed, labels)[2] != digest
    assert canonical(images, labels[[0, 1, 2, 2]])[2] != digest


@pytest.mark.parametrize(
    "change",
    [
        {"magic": bytes([0, 0, 9, 2, 0, 0, 0, 3, 0, 0, 0, 4])},  # signed bytes
        {"magic": bytes([0, 0, 8, 2, 0, 0, 0, 4, 0, 0, 0, 3])},  # another shape
        {"magic": bytes([0, 0, 8, 2, 255, 255, 255, 255, 0, 0, 0, 4])},  # a claim of four billion rows
        {"cut": 1},
        {"cut": 20},
    ],
)
def test_read_idx_refuses_another_array(tmp_path, change):
    write_idx(tmp_path / "x.gz", np.ones((3, 4), np.uint8), **change)
    with pytest.raises(ValueError, match=r"x.gz: expected an IDX file of uint8 with shape \(3, 4\)"):
        read_idx(tmp_path / "x.gz", (3, 4))


def test_read_idx_unpacks_no_more_than_it_needs(tmp_path):
    write_idx(tmp_path / "x.gz", np.zeros(50_000_000, np.uint8), magic=bytes([0, 0, 8, 1, 0, 0, 0, 3]))
    with pytest.raises(ValueError, match="got 12 bytes"):
        read_idx(tmp_path / "x.gz", (3,))


def test_read_idx_refuses_damaged_gzip(tmp_path):
    write_idx(tmp_path / "x.gz", np.random.default_rng(0).integers(0, 256, 1000, dtype=np.uint8))
    whole = (tmp_path / "x.gz").read_bytes()
    for damaged in (whole[:500], b"plain text", whole[:100] + b"\xff" * 50 + whole[150:]):
        (tmp_path / "x.gz").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"x.gz: expected (a whole gzip file|an IDX file)"):
            read_idx(tmp_path / "x.gz", (1000,))


def test_model_size():
    assert count_parameters(fashion_mnist.model()) == 61_050


@needs_data
def test_the_real_test_part():
    x, y = fashion_mnist.test_data()
    assert x.shape == (10_000, 1, 28, 28)
    assert y.bincount().tolist() == [1000] * 10
    # Neighbouring samples are of mixed classes, so a slice of the data is a fair sample of them.
    assert min(y[:1000].bincount().tolist()) > 70
    assert fashion_mnist.metric(fashion_mnist.model(), (x[:500], y[:500])) < 0.5


@needs_data
def test_the_real_training_part_is_normalised():
    x, y = fashion_mnist.train_data(3)
    assert x.shape == (60_000, 1, 28, 28)
    assert x.mean().item() == pytest.approx(0.0, abs=1e-3)
    assert x.std().item() == pytest.approx(1.0, abs=1e-3)
    losses = fashion_mnist.loss(fashion_mnist.model()(x[:8]), (x[:8], y[:8]))
    assert losses.shape == (8,)
