from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from hasten.bench.workloads import cifar10, cifar10_jpeg
from hasten.bench.workloads.cifar10_jpeg import decode

HERE = Path(os.environ.get("HASTEN_DATA", "")) / "cifar10_jpeg" / "cifar10_jpeg.npz"


def encode(images: list[np.ndarray], form: str = "JPEG") -> tuple[np.ndarray, np.ndarray]:
    pillow = pytest.importorskip("PIL.Image", reason="pillow is not installed")
    parts = []
    for image in images:
        out = io.BytesIO()
        pillow.fromarray(image).save(out, form, **({"quality": 95} if form == "JPEG" else {}))
        parts.append(out.getvalue())
    return np.frombuffer(b"".join(parts), np.uint8), np.cumsum([0, *map(len, parts)])


def gradient(channel: int) -> np.ndarray:
    image = np.full((32, 32, 3), 60, np.uint8)
    image[..., channel] = np.arange(32)[:, None] * 6
    return image


def test_needs_pillow_and_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match="cifar10_jpeg: needs pillow to decode images. .* pip install pillow"):
        decode(np.zeros(4, np.uint8), np.array([0, 4]))


def test_decodes_each_image_in_its_place():
    images = [gradient(channel) for channel in (0, 1, 2)]
    decoded = decode(*encode(images))
    assert decoded.shape == (3, 3, 32, 32)
    assert decoded.dtype == np.uint8
    for got, image in zip(decoded, images, strict=True):
        error = np.abs(got.transpose(1, 2, 0).astype(int) - image.astype(int))
        assert error.mean() < 6  # lossy


def test_grey_images_become_colour():
    decoded = decode(*encode([np.full((32, 32), 100, np.uint8)]))
    assert np.abs(decoded.astype(int) - 100).max() <= 1


def test_refuses_offsets_that_do_not_fit():
    content, offsets = encode([gradient(0), gradient(1)])
    for bad in (offsets + 1, offsets[:-1], offsets[[0, 2, 1]], np.array([0, 0, len(content)]), -offsets):
        with pytest.raises(ValueError, match="decode: expected rising offsets"):
            decode(content, bad)


def test_refuses_what_is_no_jpeg_of_that_size():
    with pytest.raises(ValueError, match="decode: expected images of 32x32, got \\(16, 16\\)"):
        decode(*encode([gradient(0)[:16, :16]]))
    with pytest.raises(ValueError, match="decode: expected a JPEG file as image 0"):
        decode(*encode([gradient(0)], "PNG"))
    content, offsets = encode([gradient(0), gradient(1)])
    damaged = content.copy()
    damaged[offsets[1] : offsets[1] + 4] = 0
    with pytest.raises(ValueError, match="decode: expected a JPEG file as image 1"):
        decode(damaged, offsets)


def test_is_a_set_of_its_own():
    assert cifar10_jpeg.NAME != cifar10.NAME
    assert cifar10_jpeg._FILE.url is None
    assert not cifar10_jpeg._FILE.path.startswith("cifar10/")


def test_says_that_it_cannot_be_downloaded(tmp_path, monkeypatch):
    monkeypatch.setenv("HASTEN_CACHE", str(tmp_path))
    monkeypatch.setenv("HASTEN_DATA", str(tmp_path))
    monkeypatch.setenv("HASTEN_DOWNLOAD", "1")
    with pytest.raises(FileNotFoundError, match="cifar10_jpeg/cifar10_jpeg.npz.*cannot be downloaded"):
        cifar10_jpeg.test_data()


@pytest.mark.skipif(not HERE.is_file(), reason="HASTEN_DATA has no cifar10_jpeg/cifar10_jpeg.npz")
def test_the_real_test_part():
    pytest.importorskip("PIL", reason="pillow is not installed")
    x, y = test = cifar10_jpeg.test_data()
    assert x.shape == (10_000, 3, 32, 32)
    assert y.bincount().tolist() == [1000] * 10
    assert x.mean((0, 2, 3)).tolist() == pytest.approx([0, 0, 0], abs=0.03)
    assert x.std((0, 2, 3)).tolist() == pytest.approx([1, 1, 1], abs=0.03)
    model = cifar10_jpeg.model()
    assert cifar10_jpeg.loss(model(x[:4]), (x[:4], y[:4])).shape == (4,)
    assert cifar10_jpeg.metric(model, (test[0][:200], test[1][:200])) < 0.5
