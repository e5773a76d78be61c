"""Rows and columns of a convolution's matrix against unfold."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hasten.matmul.maddness.patches import Geometry, geometry_of, patch_columns, patch_rows

CONVS = [
    {"kernel_size": 3},
    {"kernel_size": 1},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": (3, 2), "stride": (1, 2), "padding": (2, 0), "dilation": (1, 2)},
    {"kernel_size": (2, 5), "padding": "same"},
    {"kernel_size": 3, "padding": "valid", "dilation": 2},
    {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
    {"kernel_size": 3, "padding": 2, "padding_mode": "circular", "stride": 3},
]


@pytest.mark.filterwarnings("ignore:Using padding=.same. with even kernel")  # torch says that it copies
@pytest.mark.parametrize("options", CONVS)
def test_rows_times_weight_is_the_convolution(options):
    torch.manual_seed(0)
    conv, x = nn.Conv2d(3, 4, dtype=torch.float64, **options), torch.randn(2, 3, 9, 11, dtype=torch.float64)
    geometry, expected = geometry_of(conv), conv(x)
    size = geometry.size(9, 11)
    assert size == tuple(expected.shape[2:])
    count = 2 * size[0] * size[1]
    rows = patch_rows(x, torch.arange(count), geometry)
    out = (rows @ conv.weight.flatten(1).t() + conv.bias).view(2, *size, 4).permute(0, 3, 1, 2)
    torch.testing.assert_close(out, expected)
    some = torch.tensor([count - 1, 0, count // 2])
    assert torch.equal(patch_rows(x, some, geometry), rows[some])
    columns = torch.tensor([rows.shape[1] - 1, 0, rows.shape[1] // 2, 0])
    assert torch.equal(patch_columns(geometry.pad(x), columns, geometry, size), rows[:, columns].t())


def test_order_is_that_of_unfold():
    x = torch.randn(2, 3, 5, 5)
    rows = patch_rows(x, torch.arange(18), Geometry((3, 3)))
    assert torch.equal(rows, F.unfold(x, 3).transpose(1, 2).reshape(18, -1))


def test_groups_and_other_layers_are_refused():
    with pytest.raises(ValueError, match=r"groups=1, got groups=2"):
        geometry_of(nn.Conv2d(4, 4, 3, groups=2))
    with pytest.raises(TypeError, match=r"an nn.Conv2d"):
        geometry_of(nn.Linear(3, 3))  # type: ignore[arg-type]
