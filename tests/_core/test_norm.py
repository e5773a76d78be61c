from __future__ import annotations

import pytest
import torch
from torch import nn

from hasten._core.norm import frozen_batch_norm_statistics, running_norms

CASES = [
    (nn.BatchNorm1d(4), (6, 4)),
    (nn.BatchNorm2d(4, momentum=None), (3, 4, 5, 5)),
    (nn.BatchNorm3d(4), (2, 4, 3, 3, 3)),
    (nn.InstanceNorm2d(4, affine=True, track_running_stats=True), (3, 4, 5, 5)),
]


def state_of(norm: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in norm.state_dict().items()}


@pytest.mark.parametrize(("norm", "shape"), CASES, ids=lambda value: type(value).__name__)
def test_statistics_keep_their_bits_and_the_output_is_that_of_the_batch(
    norm: nn.Module, shape: tuple[int, ...]
) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 3 + 1
    norm.train()
    norm(x)  # statistics that are not the defaults
    before, normal = state_of(norm), norm(x * 2)
    norm.load_state_dict(before)
    with frozen_batch_norm_statistics(nn.Sequential(norm)):
        inside = norm(x * 2)
    assert torch.equal(inside, normal)
    after = norm.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    norm(x * 2)
    assert not torch.equal(norm.state_dict()["running_mean"], before["running_mean"]), "tracking goes on afterwards"


def test_evaluation_mode_is_unaffected() -> None:
    norm = nn.BatchNorm1d(2)
    norm(torch.randn(8, 2, generator=torch.Generator().manual_seed(0)))
    norm.eval()
    x = torch.ones(3, 2)
    expected = norm(x)
    with frozen_batch_norm_statistics(norm):
        assert torch.equal(norm(x), expected)


def test_flags_come_back_after_an_exception() -> None:
    norm = nn.BatchNorm1d(2)

    def fail() -> None:
        with frozen_batch_norm_statistics(norm):
            assert not norm.track_running_stats
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert norm.track_running_stats


def test_norms_without_statistics_are_left_alone() -> None:
    model = nn.Sequential(nn.BatchNorm1d(2, track_running_stats=False), nn.LayerNorm(2), nn.InstanceNorm1d(2))
    assert running_norms(model) == []
    with frozen_batch_norm_statistics(model):
        pass
    assert not model[0].track_running_stats
    assert not model[2].track_running_stats


def test_gradients_flow_inside() -> None:
    norm, x = nn.BatchNorm1d(2), torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
    norm(x).square().sum().backward()
    expected, norm.weight.grad = norm.weight.grad, None
    with frozen_batch_norm_statistics(norm):
        norm(x).square().sum().backward()
    assert torch.equal(norm.weight.grad, expected)


def test_compiled_models_obey() -> None:
    norm = nn.BatchNorm1d(2)
    compiled = torch.compile(norm, backend="aot_eager", fullgraph=True)
    x = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
    compiled(x)
    before = state_of(norm)
    with frozen_batch_norm_statistics(norm):
        compiled(x)
    assert all(torch.equal(norm.state_dict()[name], value) for name, value in before.items())
    compiled(x)
    assert int(norm.num_batches_tracked) == 2
