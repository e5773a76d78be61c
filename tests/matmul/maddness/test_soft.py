"""The differentiable path as its definition reads: codes, tables, and how much a row belongs to a leaf."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hasten.matmul.maddness import fused, soft


def case(
    leaves: int = 16, codebooks: int = 3, rows: int = 11, columns: int = 10, outputs: int = 4, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """x, split_dims, thresholds, tables, tau in float64; the last four floats require gradients."""
    g = torch.Generator().manual_seed(seed)
    levels = leaves.bit_length() - 1
    x = torch.randn(rows, columns, generator=g, dtype=torch.float64)
    dims = torch.randint(columns, (codebooks, levels), generator=g, dtype=torch.int32)
    thresholds = 0.5 * torch.randn(codebooks, leaves - 1, generator=g, dtype=torch.float64)
    tables = torch.randn(outputs, codebooks, leaves, generator=g, dtype=torch.float64)
    tau = 0.5 + torch.rand(codebooks, generator=g, dtype=torch.float64)
    return tuple(t.requires_grad_(t.is_floating_point()) for t in (x, dims, thresholds, tables, tau))  # type: ignore[return-value]


def walk(x: Tensor, dims: Tensor, thresholds: Tensor) -> Tensor:
    """Codes by walking each tree for each row."""
    codes = torch.zeros(len(x), len(dims), dtype=torch.int64)
    for n in range(len(x)):
        for c in range(len(dims)):
            node, code = 0, 0
            for level in range(dims.shape[1]):
                right = bool(x[n, dims[c, level]] > thresholds[c, node])
                code = 2 * code + right
                node = 2 * node + 1 + right
            codes[n, c] = code
    return codes


@pytest.mark.parametrize("leaves", [16, 32, 64])
def test_codes_are_the_leaves_that_a_walk_reaches(leaves):
    x, dims, thresholds, *_ = case(leaves, rows=40)
    assert torch.equal(soft.hard_encode(x, dims, thresholds), walk(x, dims, thresholds))


def test_the_hard_forward_pass_sums_the_reached_entries():
    x, dims, thresholds, tables, tau = case()
    codes = walk(x, dims, thresholds)
    expected = sum(tables[:, c, codes[:, c]].t() for c in range(3))
    torch.testing.assert_close(fused.soft_matmul(x, dims, thresholds, tables, tau), expected)
    assignment = soft.soft_assignment(x, dims, thresholds, tau)
    assert torch.equal(assignment.argmax(-1), codes)
    assert torch.equal(assignment, assignment.round())  # one-hot to the bit


def test_equality_and_nan_go_left():
    dims, thresholds = torch.zeros(1, 4, dtype=torch.int32), torch.zeros(1, 15)
    x = torch.tensor([[0.0], [float("nan")], [float("-inf")], [1e-45], [float("inf")]])
    assert soft.hard_encode(x, dims, thresholds).tolist() == [[0], [0], [0], [15], [15]]


def test_rounded_tables_are_near_and_pass_the_gradient():
    *_, tables, _ = case(outputs=5)
    rounded = soft.straight_through_tables(tables)
    low, high = tables.amin(2), tables.amax(2)
    step = (high - low).amax(1) / 255
    assert ((rounded - tables).abs() <= step[:, None, None] / 2 * (1 + 1e-9)).all()
    assert ((rounded - tables).abs().amax((1, 2)) > step / 10).all()
    assert torch.equal(torch.autograd.grad(rounded.sum(), tables)[0], torch.ones_like(tables))


def test_shared_rounding_has_one_step_and_constant_tables_are_kept():
    tables = torch.stack([torch.linspace(0, 1, 16), torch.linspace(0, 100, 16)])[:, None]
    rounded = soft.straight_through_tables(tables, shared=True)
    assert (rounded[0] * 255 / 100 % 1 < 1e-4).all()
    constant = torch.full((2, 3, 16), 1.25)
    assert torch.equal(soft.straight_through_tables(constant), constant)


def test_bad_number_of_leaves():
    with pytest.raises(ValueError, match="power of two"):
        soft.path_matrix(12)
