from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from hasten.bench.workloads.images import check_labels, normalise, read_npz, sample_cross_entropy


def test_normalise_per_channel():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 2, 4, 4), dtype=np.uint8)
    kept = images.copy()
    result = normalise(images, (0.25, 0.5), (0.5, 0.125))
    expected = (images / 255 - np.array([0.25, 0.5])[:, None, None]) / np.array([0.5, 0.125])[:, None, None]
    assert result.dtype == torch.float32
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-5)
    assert np.array_equal(images, kept)


def test_cross_entropy_is_unreduced():
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([0, 1, 2, 1])
    losses = sample_cross_entropy(logits, (None, targets))
    assert losses.shape == (4,)
    for i in range(4):
        assert losses[i].item() == pytest.approx(F.cross_entropy(logits[i : i + 1], targets[i : i + 1]).item())


def test_reads_what_is_expected(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, x=np.zeros((3, 2), np.uint8), y=np.arange(3), more=np.zeros(1))
    arrays = read_npz(path, {"x": ((3, 2), np.uint8), "y": ((-1,), np.int64)})
    assert list(arrays) == ["x", "y"]
    assert arrays["y"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ({"z": ((3,), np.uint8)}, "an npz file with z"),
        ({"x": ((3, 3), np.uint8)}, r"expected x \(3, 3\) of uint8, got ndarray of shape \(3, 2\)"),
        ({"x": ((6,), np.uint8)}, r"expected x \(6,\)"),
        ({"x": ((3, 2), np.int64)}, "of int64, got ndarray of shape .* dtype uint8"),
    ],
)
def test_refuses_other_arrays(tmp_path, expected, message):
    path = tmp_path / "x.npz"
    np.savez(path, x=np.zeros((3, 2), np.uint8))
    with pytest.raises(ValueError, match=message):
        read_npz(path, expected)


def test_never_unpickles(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="expected an npz file with x, got .*allow_pickle=False"):
        read_npz(path, {"x": ((1,), np.uint8)})


def test_refuses_a_damaged_file(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, x=np.zeros((3, 2), np.uint8))
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ValueError, match="expected an npz file with x"):
        read_npz(path, {"x": ((3, 2), np.uint8)})
    path.write_bytes(b"no archive at all")
    with pytest.raises(ValueError, match="expected an npz file with x"):
        read_npz(path, {"x": ((3, 2), np.uint8)})


@pytest.mark.parametrize("labels", [[0] * 20, list(range(9)) * 2, [*range(10), *range(9), 10]])
def test_refuses_unbalanced_labels(labels):
    check_labels("set", np.array(list(range(10)) * 2), 2)
    with pytest.raises(ValueError, match="set: expected 2 samples of each of ten classes"):
        check_labels("set", np.array(labels), 2)
