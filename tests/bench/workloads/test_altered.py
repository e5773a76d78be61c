"""What variants are made of: layers that are replaced under the same names, and labels that are noisy to the count."""

from __future__ import annotations

import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.contract import images, text
from torch import Tensor, nn

from hasten._core.rng import stream
from hasten.bench.workloads.altered import (
    NoisyLabels,
    noisy_labels,
    replace_activations,
    replace_norms,
    with_activation,
    with_label_noise,
    with_norm,
)


def kinds(model: nn.Module) -> list[str]:
    return [type(module).__name__ for module in model.modules()][1:]


def test_every_activation_has_another_in_its_place() -> None:
    smooth = nn.Sequential(nn.ReLU(inplace=True), nn.ReLU6(), nn.LeakyReLU(0.1))
    kin = [nn.Mish, nn.ELU, nn.CELU, nn.SELU, nn.Softplus, nn.Hardswish, nn.Tanh]
    others = nn.Sequential(nn.GELU(), nn.SiLU(inplace=True), *(kind() for kind in kin))
    assert kinds(with_activation(smooth)) == ["SiLU"] * 3
    assert kinds(with_activation(others)) == ["ReLU"] * 9
    assert (smooth[0].inplace, smooth[1].inplace, others[0].inplace, others[1].inplace) == (True, False, False, True)


def test_activations_with_parameters_and_gates_stay() -> None:
    model = nn.Sequential(nn.PReLU(), nn.Sigmoid(), nn.Softmax(dim=1), nn.Linear(2, 2))
    assert len(replace_activations(model)) == 0
    assert kinds(model) == ["PReLU", "Sigmoid", "Softmax", "Linear"]


def test_new_activations_keep_the_state_dict_and_can_be_taken_back() -> None:
    model = images.model()
    before = model.state_dict()
    report = replace_activations(model)
    assert len(report) == 4
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    report.undo()
    assert "SiLU" not in kinds(model)


def test_batch_norm_becomes_group_norm_with_the_same_parameters() -> None:
    model = nn.Sequential(nn.Conv2d(3, 24, 3), nn.BatchNorm2d(24, eps=1e-3))
    nn.init.uniform_(model[1].weight)
    weight, bias = model[1].weight, model[1].bias
    with_norm(model)
    made = model[1]
    assert isinstance(made, nn.GroupNorm)
    assert (made.num_groups, made.num_channels, made.eps) == (6, 24, 1e-3)
    assert made.weight is weight
    assert made.bias is bias
    assert list(model.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]


@pytest.mark.parametrize(
    ("norm", "shape"),
    [
        (nn.BatchNorm1d(8), (2, 8)),
        (nn.BatchNorm1d(8), (2, 8, 5)),
        (nn.BatchNorm3d(8), (2, 8, 2, 2, 2)),
        (nn.BatchNorm2d(8, affine=False), (2, 8, 2, 2)),
        (nn.LayerNorm(8, elementwise_affine=False), (2, 8)),
        (nn.LayerNorm((2, 8), bias=False), (3, 2, 8)),
    ],
)
def test_norms_of_every_shape(norm: nn.Module, shape: tuple[int, ...]) -> None:
    model = nn.Sequential(norm)
    assert replace_norms(model).changed == ("0",)
    assert model(torch.randn(shape)).shape == shape
    assert set(model.state_dict()) <= {"0.weight", "0.bias"}


def test_layer_norm_becomes_rms_norm() -> None:
    model = nn.Sequential(nn.LayerNorm(4, eps=1e-4))
    x = torch.randn(3, 4)
    with_norm(model)
    expected = x / (x.square().mean(1, keepdim=True) + 1e-4).sqrt()
    torch.testing.assert_close(model(x), expected)
    assert list(model.state_dict()) == ["0.weight"]


def test_a_norm_of_one_channel_would_become_nothing() -> None:
    model = nn.Sequential(nn.BatchNorm1d(1), nn.GroupNorm(2, 4))
    assert len(replace_norms(model)) == 0


@given(
    labels=st.lists(st.integers(-1, 4), max_size=60),
    share=st.floats(0, 1),
    seed=st.integers(0, 9),
)
def test_a_share_of_the_labels_and_no_other(labels: list[int], share: float, seed: int) -> None:
    before = torch.tensor(labels, dtype=torch.int32)
    after = noisy_labels(before, 5, share=share, generator=torch.Generator().manual_seed(seed))
    assert (after.dtype, after.shape) == (before.dtype, before.shape)
    assert int((after != before).sum()) == int(share * int((before >= 0).sum()) + 0.5)
    assert torch.equal(after[before < 0], before[before < 0])
    assert bool(((after >= 0) & (after < 5))[before >= 0].all())


def test_every_other_class_is_as_likely() -> None:
    before = torch.full((30_000,), 2)
    after = noisy_labels(before, 4, share=0.5, generator=torch.Generator().manual_seed(0))
    counts = torch.bincount(after, minlength=4).tolist()
    assert counts[2] == 15_000
    assert all(abs(counts[other] - 5_000) < 250 for other in (0, 1, 3))  # 4 standard deviations of a binomial


def test_labels_that_are_no_classes_are_refused() -> None:
    generator = torch.Generator()
    with pytest.raises(ValueError, match="noisy_labels: expected labels below 3, got 7. Pass the number of classes"):
        noisy_labels(torch.tensor([0, 7]), 3, generator=generator)
    with pytest.raises(ValueError, match="a whole number of at least 2 for classes, got 1"):
        noisy_labels(torch.tensor([0]), 1, generator=generator)
    with pytest.raises(ValueError, match="share in"):
        noisy_labels(torch.tensor([0]), 2, share=1.5, generator=generator)


def test_the_noise_belongs_to_the_question_and_not_to_the_seed() -> None:
    clean = images.train_data(0)
    one, two = (with_label_noise(seed, source=images.train_data, classes=3) for seed in (0, 1))
    assert torch.equal(one[1], two[1])
    assert torch.equal(one[0], clean[0])
    assert int((one[1] != clean[1]).sum()) == 10  # 20 % of 48, rounded
    assert torch.equal(images.train_data(0)[1], clean[1])


def test_noise_draws_from_no_global_generator() -> None:
    state = torch.get_rng_state()
    with_label_noise(0, source=images.train_data, classes=3)
    NoisyLabels(images.Augmented(), 3)
    assert torch.equal(torch.get_rng_state(), state)


def text_data(seed: int) -> dict[str, Tensor]:
    return {**text.sample(48, 0), "lengths": torch.arange(48)}


def test_labels_of_sequences_in_a_dict() -> None:
    clean, noisy = text_data(0), with_label_noise(0, source=text_data, classes=text.VOCABULARY)
    assert set(noisy) == set(clean)
    assert all(torch.equal(noisy[name], clean[name]) for name in ("input_ids", "lengths"))
    changed = noisy["labels"] != clean["labels"]
    assert int(changed.sum()) == round(0.2 * clean["labels"].numel())


class Pairs:
    """A dataset whose labels are numbers, one of them no label."""

    labels = (0, 1, 2, -1, 0, 1, 2, 0, 1, 2)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[int, int]:
        return index, self.labels[index]


class Sequences(Pairs):
    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"x": torch.tensor(index), "y": torch.arange(10) % 3}


def test_a_dataset() -> None:
    noisy = with_label_noise(0, source=lambda seed: Pairs(), classes=3, share=0.5)
    assert len(noisy) == 10
    samples = [noisy[i] for i in range(10)]
    assert [x for x, _ in samples] == list(range(10))
    changed = [i for i, (_, y) in enumerate(samples) if y != Pairs.labels[i]]
    assert changed == [i for i in range(10) if noisy.shift[i] and i != 3]
    assert int((noisy.shift > 0).sum()) == 5
    assert samples[3][1] == -1
    again = pickle.loads(pickle.dumps(noisy))  # as loader processes get it
    assert [again[i] for i in range(10)] == samples


def test_a_dataset_of_sequences() -> None:
    noisy = NoisyLabels(Sequences(), 3, 0.3)
    first, second = noisy[0]["y"], noisy[1]["y"]
    assert int((first != torch.arange(10) % 3).sum()) == 3
    assert not torch.equal(first, second)
    expected = noisy_labels(torch.arange(10) % 3, 3, share=0.3, generator=stream(0, "label_noise", 1))
    assert torch.equal(noisy[1]["y"], expected)
