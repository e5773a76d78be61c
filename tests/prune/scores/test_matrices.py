from __future__ import annotations

import pytest
import torch
from torch import nn

from hasten.prune.scores.matrices import from_matrices, rows, to_matrices

LAYERS = [
    (nn.Linear(5, 3), (4, 5)),
    (nn.Linear(5, 3), (2, 4, 5)),
    (nn.Linear(5, 3), (5,)),
    (nn.Conv1d(4, 6, 3, stride=2, padding=1), (2, 4, 11)),
    (nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(2, 1), dilation=(1, 2), groups=2), (2, 4, 9, 8)),
    (nn.Conv2d(4, 6, 3, padding="same", dilation=2), (2, 4, 7, 7)),
    (nn.Conv2d(4, 6, 4, padding="same"), (2, 4, 7, 7)),
    (nn.Conv2d(4, 6, 3, padding="valid"), (2, 4, 7, 7)),
    (nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), (2, 4, 7, 7)),
    (nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"), (2, 4, 7, 7)),
    (nn.Conv2d(4, 4, 3, groups=4), (4, 7, 7)),  # without a batch dimension
    (nn.Conv3d(2, 3, 2, stride=2), (2, 2, 4, 5, 6)),
    (nn.ConvTranspose1d(4, 6, 3, stride=2, padding=1), (2, 4, 6)),
    (nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2), (2, 4, 5, 6)),
    (nn.ConvTranspose2d(4, 6, (2, 3), stride=(1, 3), padding=(2, 0), dilation=(1, 2)), (2, 4, 5, 6)),
    (nn.ConvTranspose3d(2, 3, 2), (1, 2, 3, 3, 3)),
]


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=lambda value: str(value))
def test_rows_times_matrices_are_the_layer(layer: nn.Module, shape: tuple[int, ...]) -> None:
    layer, x = layer.double(), torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    blocks, matrices = rows(layer, x), to_matrices(layer, layer.weight)
    assert len(blocks) == len(matrices)
    product = torch.cat([block @ matrix.T for block, matrix in zip(blocks, matrices, strict=True)], dim=1)
    layer.bias.data.zero_()
    y = layer(x)
    if not isinstance(layer, nn.Linear):
        y = (y if y.ndim == len(layer.kernel_size) + 2 else y.unsqueeze(0)).movedim(1, -1)
    torch.testing.assert_close(product, y.reshape(product.shape))


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=lambda value: str(value))
def test_matrices_go_back(layer: nn.Module, shape: tuple[int, ...]) -> None:
    weight = layer.weight.detach()
    assert torch.equal(from_matrices(layer, to_matrices(layer, weight), weight), weight)


def test_channels_come_last_in_a_window() -> None:
    weight = torch.arange(2 * 3 * 2 * 2).view(2, 3, 2, 2)
    assert to_matrices(nn.Conv2d(3, 2, 2), weight)[0, 0, :3].tolist() == weight[0, :, 0, 0].tolist()
