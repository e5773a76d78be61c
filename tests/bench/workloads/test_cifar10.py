from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path
from urllib.request import pathname2url

import numpy as np
import pytest
import torch

from hasten.bench.workloads import cifar10
from hasten.bench.workloads.download import DataFile

COUNT = 20  # images per file of the small copies


@pytest.fixture(autouse=True)
def small(tmp_path, monkeypatch):
    for variable in ("HASTEN_DOWNLOAD", "HASTEN_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HASTEN_DATA", str(tmp_path))
    monkeypatch.setenv("HASTEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cifar10, "_IMAGES", COUNT)


def batch(seed: int) -> tuple[np.ndarray, np.ndarray]:
    images = np.random.default_rng(seed).integers(0, 256, (COUNT, 3, 32, 32), dtype=np.uint8)
    return images, (np.arange(COUNT) % 10).astype(np.uint8)


def write(folder: Path) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    names = [*cifar10._TRAIN_FILES, *cifar10._TEST_FILES]
    for seed, name in enumerate(names):
        images, labels = batch(seed)
        records = np.concatenate([labels[:, None], images.reshape(COUNT, -1)], axis=1)
        (folder / name).write_bytes(records.tobytes())
    return names


def test_reads_the_binary_files(tmp_path):
    write(tmp_path / "cifar10" / "cifar-10-batches-bin")
    (x, y), (test_x, test_y) = cifar10.data(0)
    assert (x.shape, test_x.shape) == ((5 * COUNT, 3, 32, 32), (COUNT, 3, 32, 32))
    assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
    for k in range(5):
        images, labels = batch(k)
        expected = (images / 255 - np.array(cifar10.MEAN)[:, None, None]) / np.array(cifar10.STD)[:, None, None]
        np.testing.assert_allclose(x[k * COUNT : (k + 1) * COUNT].numpy(), expected, atol=1e-5)
        assert y[k * COUNT : (k + 1) * COUNT].tolist() == labels.tolist()
    assert test_y.tolist() == batch(5)[1].tolist()


def test_unpacks_a_downloaded_archive_once(tmp_path, monkeypatch):
    names = write(tmp_path / "made")
    archive = tmp_path / "made.tar.gz"
    with tarfile.open(archive, "w:gz") as out:
        for name in names:
            out.add(tmp_path / "made" / name, arcname=f"cifar-10-batches-bin/{name}")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    url = f"file:{pathname2url(str(archive))}"
    file = DataFile("cifar10/cifar-10-binary.tar.gz", archive.stat().st_size, digest, url)
    monkeypatch.setattr(cifar10, "_ARCHIVE", file)
    with pytest.raises(FileNotFoundError, match="cifar10/cifar-10-binary.tar.gz"):
        cifar10.test_data()
    monkeypatch.setenv("HASTEN_DOWNLOAD", "1")
    expected = cifar10.data(0)
    assert expected[0][1].tolist() == (np.arange(5 * COUNT) % 10).tolist()
    (tmp_path / "cache" / "cifar10" / "cifar-10-binary.tar.gz").unlink()
    archive.unlink()
    again = cifar10.data(0)  # from the unpacked files
    assert torch.equal(again[0][0], expected[0][0])
    assert torch.equal(again[1][0], expected[1][0])


def test_refuses_files_of_another_size_or_with_wrong_labels(tmp_path):
    folder = tmp_path / "cifar10" / "cifar-10-batches-bin"
    write(folder)
    path = folder / "test_batch.bin"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match=f"test_batch.bin: expected {COUNT * 3073} bytes, got {COUNT * 3073 - 1}"):
        cifar10.test_data()
    path.write_bytes(b"\x0a" + whole[1:])
    with pytest.raises(ValueError, match="test_batch.bin: expected labels 0 to 9, got 10"):
        cifar10.test_data()
    path.write_bytes(b"\x01" + whole[1:])
    with pytest.raises(ValueError, match="cifar10: expected 2 samples of each of ten classes"):
        cifar10.test_data()


def test_archive_is_the_official_binary_version():
    assert cifar10._ARCHIVE.url.endswith("cifar-10-binary.tar.gz")
    assert len(cifar10._ARCHIVE.sha256) == 64
    assert cifar10._ARCHIVE.size == 170_052_171


def test_the_four_functions(tmp_path):
    write(tmp_path / "cifar10" / "cifar-10-batches-bin")
    x, y = test = cifar10.test_data()
    torch.manual_seed(0)
    model = cifar10.model()
    assert cifar10.loss(model(x), (x, y)).shape == (COUNT,)
    assert 0 <= cifar10.metric(model, test) <= 1
