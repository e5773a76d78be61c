from __future__ import annotations

import hashlib
import math
import sys

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F

from hasten.bench.models import count_parameters
from hasten.bench.workloads import digits


@pytest.fixture(scope="module")
def parts():
    return digits.data(0)


def test_shapes_and_types(parts):
    (x, y), (test_x, test_y) = parts
    assert (x.shape, test_x.shape) == ((2048, 1, 16, 16), (4096, 1, 16, 16))
    assert (y.shape, test_y.shape) == ((2048,), (4096,))
    assert {x.dtype, test_x.dtype} == {torch.float32}
    assert {y.dtype, test_y.dtype} == {torch.int64}
    assert sorted(set(y.tolist())) == sorted(set(test_y.tolist())) == list(range(10))


def test_the_images_are_these_and_will_stay_these(parts):
    digests = [hashlib.sha256(t.numpy().tobytes()).hexdigest()[:16] for part in parts for t in part]
    assert digests == ["4f1d2c4ce4725a77", "ca550c20e0316c28", "7957ba52e9903b55", "d4ebfe14e0ef5f2c"]


def test_no_part_depends_on_the_seed(parts):
    again = digits.train_data(7)
    assert torch.equal(again[0], parts[0][0])
    assert torch.equal(again[1], parts[0][1])
    assert torch.equal(digits.test_data()[0], parts[1][0])


def test_values_are_multiples_of_1_over_256(parts):
    for x, _ in parts:
        assert torch.equal(x * 256, (x * 256).round())


def test_base_images_are_split_once():
    (train, train_labels), (test, test_labels) = digits._base()
    assert (len(train), len(test)) == (1197, 600)
    both = np.concatenate([train, test]).reshape(1797, -1)
    expected = load_digits().data / 16
    assert np.array_equal(both[np.lexsort(both.T)], expected[np.lexsort(expected.T)])
    labels = np.concatenate([train_labels, test_labels])
    assert np.bincount(labels).tolist() == np.bincount(load_digits().target).tolist()
    # No image of the test part is in the training part.
    assert not {image.tobytes() for image in train} & {image.tobytes() for image in test}


def test_warp_equals_bilinear_sampling_of_torch():
    rng = np.random.default_rng(0)
    images, shift = rng.random((40, 8, 8)), rng.uniform(-1.5, 1.5, (40, 2))
    warped = digits._warp(images, shift, np.random.default_rng(1))
    draws = np.random.default_rng(1)
    angle, scale = draws.uniform(-0.4, 0.4, 40), draws.uniform(1.05, 1.55, 40)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]).transpose(2, 0, 1)
    theta = np.concatenate([scale[:, None, None] * rotation, shift[:, :, None]], axis=2)
    grid = F.affine_grid(torch.from_numpy(theta), [40, 1, 16, 16], align_corners=False)
    expected = F.grid_sample(torch.from_numpy(images[:, None]), grid, align_corners=False, padding_mode="zeros")
    np.testing.assert_allclose(warped, expected[:, 0].numpy(), atol=1e-12)


def test_render_adds_a_dim_piece_and_noise():
    black, white = np.zeros((50, 8, 8)), np.ones((50, 8, 8))
    labels = np.arange(50) % 10
    noise, _ = digits.render(black, labels, 400, np.random.default_rng(0))
    assert float(noise.std()) == pytest.approx(0.25, rel=0.01)
    assert float(noise.mean()) == pytest.approx(0.0, abs=0.003)
    bright, _ = digits.render(white, labels, 400, np.random.default_rng(0))
    clean = bright - noise  # the same draws: what is left is digit + .4 * piece, up to the rounding of both
    assert float(clean.max()) == pytest.approx(1.4, abs=1 / 256)
    assert float(clean.min()) == pytest.approx(0.0, abs=1 / 256)
    assert float(clean[:, 0, 7:9, 7:9].min()) > 0.95  # the centre is always covered by the digit
    corners = clean[:, 0, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert 0.05 < float((corners > 0.05).float().mean()) < 0.6  # the piece is there, and only a piece


def test_render_uses_base_images_equally_often():
    images = np.random.default_rng(0).random((7, 8, 8))
    _, labels = digits.render(images, np.arange(7), 24, np.random.default_rng(0))
    counts = np.bincount(labels.numpy())
    assert sorted(counts.tolist()) == [3, 3, 3, 3, 4, 4, 4]


def test_model_is_the_one_of_the_claim():
    assert count_parameters(digits.model()) == 17_890
    assert count_parameters(digits.model(width=4)) < 17_890 / 3


def test_loss_is_one_value_per_sample():
    outputs, targets = torch.tensor([[2.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 1])
    losses = digits.loss(outputs, (torch.zeros(2), targets))
    assert losses.tolist() == pytest.approx([np.log1p(np.exp(-2)), np.log(2)])


def test_seven_epochs_reach_about_80_percent(parts):
    train, test = parts
    torch.manual_seed(0)
    model = digits.model()
    before = digits.metric(model, test)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=digits.LEARNING_RATE, momentum=digits.MOMENTUM, nesterov=True,
        weight_decay=digits.WEIGHT_DECAY,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    batches = torch.cat([torch.randperm(2048, generator=generator).view(-1, digits.BATCH_SIZE) for _ in range(7)])
    for step, index in enumerate(batches):
        decay = 0.5 * (1 + math.cos(math.pi * (step - digits.WARMUP) / (len(batches) - digits.WARMUP)))
        multiplier = step / digits.WARMUP if step < digits.WARMUP else decay
        optimizer.param_groups[0]["lr"] = digits.LEARNING_RATE * multiplier
        batch = (train[0][index], train[1][index])
        optimizer.zero_grad()
        digits.loss(model(batch[0]), batch).mean().backward()
        optimizer.step()
    assert before < 0.25
    assert 0.77 < digits.metric(model, test) < 0.83  # five seeds measured: .797 to .810


def test_says_which_extra_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    digits._base.cache_clear()
    with pytest.raises(ImportError, match=r"digits: needs scikit-learn.*hasten\[bench\]"):
        digits.test_data()
