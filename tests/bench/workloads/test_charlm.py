from __future__ import annotations

import hashlib
import math
import sysconfig
from pathlib import Path

import pytest
import torch

from hasten.bench.workloads import charlm


@pytest.fixture(scope="module")
def parts():
    return charlm.data(0)


def test_shapes_and_sizes(parts):
    (x, y), (test_x, test_y) = parts
    assert x.shape == y.shape
    assert test_x.shape == test_y.shape
    assert x.shape[1] == test_x.shape[1] == charlm.CONTEXT
    assert 0.8e6 < x.numel() < 1.6e6  # about 1 MB; the modules grow from one Python to the next
    assert 0.1e6 < test_x.numel() < 0.25e6
    assert int(x.min()) >= 0
    assert int(x.max()) <= 255


def test_the_text_is_the_source_of_the_listed_modules(parts):
    (x, y), (test_x, _) = parts
    folder = Path(sysconfig.get_path("stdlib"))
    first = (folder / "argparse.py").read_bytes().replace(b"\r\n", b"\n")
    text = bytes(x.flatten().tolist())
    assert text.startswith(first)
    assert bytes(y[0].tolist()) == first[1 : charlm.CONTEXT + 1]
    assert bytes(test_x.flatten().tolist()).startswith((folder / "csv.py").read_bytes().replace(b"\r\n", b"\n"))


def test_no_test_module_is_a_training_module():
    assert not set(charlm._TRAIN_MODULES) & set(charlm._TEST_MODULES)
    assert list(charlm._TRAIN_MODULES) == sorted(charlm._TRAIN_MODULES)
    assert list(charlm._TEST_MODULES) == sorted(charlm._TEST_MODULES)


def test_no_part_depends_on_the_seed(parts):
    assert torch.equal(charlm.train_data(5)[0], parts[0][0])
    assert torch.equal(charlm.test_data()[1], parts[1][1])


def test_identity_is_the_digest_of_the_text(monkeypatch, tmp_path):
    for name in charlm._TRAIN_MODULES + charlm._TEST_MODULES:
        (tmp_path / f"{name}.py").write_bytes(f"# {name}\r\n".encode())
    monkeypatch.setattr(charlm.sysconfig, "get_path", lambda _: str(tmp_path))
    train = "".join(f"# {name}\n" for name in charlm._TRAIN_MODULES)
    test = "".join(f"# {name}\n" for name in charlm._TEST_MODULES)
    digest = hashlib.sha256(train.encode() + bytes(1) + test.encode()).hexdigest()
    first = charlm.identity()
    assert first == f"charlm:{digest[:16]}"
    (tmp_path / "csv.py").write_bytes(b"# csv!\n")
    assert charlm.identity() != first


def test_says_when_the_source_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setattr(charlm.sysconfig, "get_path", lambda _: str(tmp_path))
    with pytest.raises(ValueError, match="charlm: expected the standard library's source files in .* got .*csv"):
        charlm.test_data()


def test_an_untrained_model_pays_about_eight_bits(parts):
    torch.manual_seed(0)
    few = (parts[1][0][:50], parts[1][1][:50])
    assert charlm.metric(charlm.model(), few) == pytest.approx(8.0, abs=0.15)


def test_a_few_steps_lower_the_loss(parts):
    torch.manual_seed(0)
    model = charlm.model(width=32, depth=1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=charlm.LEARNING_RATE)
    inputs, targets = parts[0]
    losses = []
    for step in range(30):
        index = torch.arange(16) * 101 + step
        batch = (inputs[index], targets[index])
        values = charlm.loss(model(batch[0]), batch)
        assert values.shape == (16,)
        losses.append(values.mean().item())
        optimizer.zero_grad()
        values.mean().backward()
        optimizer.step()
    assert losses[0] == pytest.approx(math.log(256), abs=0.2)
    assert losses[-1] < 0.75 * losses[0]
