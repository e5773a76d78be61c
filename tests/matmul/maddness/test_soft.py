"""The differentiable path: hard forward, soft backward, fused against naive."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hasten.matmul.maddness import soft


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


def gradients(function, inputs, weight: Tensor, hard: bool) -> list[Tensor]:
    out = function(*inputs, hard=hard)
    leaves = [t for t in inputs if t.requires_grad]
    return [out.detach(), *torch.autograd.grad((out * weight).sum(), leaves)]


@pytest.mark.parametrize("leaves", [16, 32, 64])
def test_codes_are_the_leaves_that_a_walk_reaches(leaves):
    x, dims, thresholds, *_ = case(leaves, rows=40)
    assert torch.equal(soft.hard_encode(x, dims, thresholds), walk(x, dims, thresholds))


@pytest.mark.parametrize("leaves", [16, 32, 64])
@pytest.mark.parametrize("hard", [True, False])
def test_fused_equals_naive(leaves, hard):
    inputs = case(leaves)
    weight = torch.randn(11, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    fused = gradients(soft.soft_matmul, inputs, weight, hard)
    naive = gradients(soft.soft_matmul_naive, inputs, weight, hard)
    for a, b in zip(fused, naive, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert all(g.abs().max() > 0 for g in fused[1:])


@given(
    leaves=st.sampled_from([16, 32, 64]),
    codebooks=st.integers(1, 5),
    rows=st.integers(0, 9),
    columns=st.integers(1, 6),
    outputs=st.integers(1, 4),
    seed=st.integers(0, 1000),
    hard=st.booleans(),
)
def test_fused_equals_naive_for_all_sizes(hard, **sizes):
    inputs = case(**sizes)
    weight = torch.ones(sizes["rows"], sizes["outputs"], dtype=torch.float64)
    fused = gradients(soft.soft_matmul, inputs, weight, hard)
    for a, b in zip(fused, gradients(soft.soft_matmul_naive, inputs, weight, hard), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("leaves", [16, 32, 64])
@pytest.mark.parametrize("function", [soft.soft_matmul, soft.soft_matmul_naive])
def test_gradcheck_of_the_smooth_function(leaves, function):
    x, dims, thresholds, tables, tau = case(leaves, codebooks=2, rows=2, columns=4, outputs=2)
    assert torch.autograd.gradcheck(
        lambda x, t, w, s: function(x, dims, t, w, s, hard=False), (x, thresholds, tables, tau), fast_mode=leaves > 16
    )


def test_one_width_for_all_codebooks():
    x, dims, thresholds, tables, _ = case()
    tau = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    weight = torch.ones(11, 4, dtype=torch.float64)
    fused = gradients(soft.soft_matmul, (x, dims, thresholds, tables, tau), weight, True)
    naive = gradients(soft.soft_matmul_naive, (x, dims, thresholds, tables, tau), weight, True)
    for a, b in zip(fused, naive, strict=True):
        torch.testing.assert_close(a, b)
    assert fused[-1].shape == ()


def test_the_hard_forward_pass_sums_the_reached_entries():
    x, dims, thresholds, tables, tau = case()
    codes = walk(x, dims, thresholds)
    expected = sum(tables[:, c, codes[:, c]].t() for c in range(3))
    torch.testing.assert_close(soft.soft_matmul(x, dims, thresholds, tables, tau), expected)
    assignment = soft.soft_assignment(x, dims, thresholds, tau)
    assert torch.equal(assignment.argmax(-1), codes)
    assert torch.equal(assignment, assignment.round())  # one-hot to the bit


def test_blocks_of_rows_change_nothing(monkeypatch):
    inputs = case(rows=37)
    weight = torch.ones(37, 4, dtype=torch.float64)
    whole = gradients(soft.soft_matmul, inputs, weight, True)
    monkeypatch.setattr(soft, "BLOCK", 16 * 3 * 5)
    assert len(soft._blocks(37, inputs[2])) == 8
    for a, b in zip(gradients(soft.soft_matmul, inputs, weight, True), whole, strict=True):
        torch.testing.assert_close(a, b)


def test_the_path_matrix_expands_the_tree():
    g = torch.Generator().manual_seed(0)
    for leaves in (16, 32, 64):
        sign = torch.randn(3, 2, leaves - 1, generator=g, dtype=torch.float64)
        matrix = soft.path_matrix(leaves, torch.float64)
        torch.testing.assert_close(soft._soft_leaves(sign.mT).mT, torch.softmax(sign @ matrix.t(), -1))
        grad = torch.randn(3, 2, leaves, generator=g, dtype=torch.float64)
        torch.testing.assert_close(soft._nodes_from_leaves(grad.mT).mT, grad @ matrix)
        assert (matrix.abs().sum(1) == leaves.bit_length() - 1).all()


def test_only_codes_are_kept_for_the_backward_pass():
    x, dims, thresholds, tables, tau = case(rows=50)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        soft.soft_matmul(x, dims, thresholds, tables, tau)
    others = [t for t in kept if t.shape not in {x.shape, dims.shape, thresholds.shape, tables.shape, tau.shape}]
    assert [(tuple(t.shape), t.dtype) for t in others] == [((50, 3), torch.uint8)]


def test_equality_and_nan_go_left():
    dims, thresholds = torch.zeros(1, 4, dtype=torch.int32), torch.zeros(1, 15)
    x = torch.tensor([[0.0], [float("nan")], [float("-inf")], [1e-45], [float("inf")]])
    assert soft.hard_encode(x, dims, thresholds).tolist() == [[0], [0], [0], [15], [15]]


def test_a_nan_is_seen_in_the_gradient():
    x, dims, thresholds, tables, tau = case()
    with torch.no_grad():
        x[0, dims[0, 0]] = float("nan")
    out = soft.soft_matmul(x, dims, thresholds, tables, tau)
    assert out.isfinite().all()
    out.sum().backward()
    assert thresholds.grad is not None
    assert thresholds.grad.isnan().any()


@pytest.mark.parametrize("hard", [True, False])
def test_no_rows(hard):
    x, dims, thresholds, tables, tau = case(rows=0)
    out = soft.soft_matmul(x, dims, thresholds, tables, tau, hard=hard)
    assert out.shape == (0, 4)
    out.sum().backward()
    assert tables.grad is not None
    assert not tables.grad.any()


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


def test_training_reduces_the_error_of_a_product():
    g = torch.Generator().manual_seed(0)
    x, weight = torch.randn(256, 6, generator=g), torch.randn(6, 3, generator=g)
    dims = torch.tensor([[0, 1, 2, 0], [3, 4, 5, 3]])
    thresholds, tables = torch.zeros(2, 15), torch.zeros(3, 2, 16)
    tau = torch.ones(2)
    parameters = [t.requires_grad_() for t in (thresholds, tables, tau)]
    optimizer = torch.optim.Adam(parameters, lr=0.05)
    losses = []
    for _ in range(60):
        loss = (soft.soft_matmul(x, dims, thresholds, tables, tau) - x @ weight).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.45 * losses[0]
    assert thresholds.abs().max() > 0.05  # they moved


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({0: lambda t: t[0]}, ValueError, r"x of shape \(N, D\)"),
        ({0: lambda t: t.float()}, TypeError, "one floating-point dtype"),
        ({1: lambda t: t.double()}, ValueError, "integer split_dims"),
        ({1: lambda t: t[:, :3]}, ValueError, "K = 2"),
        ({2: lambda t: t[:, :7]}, ValueError, r"thresholds \(3, K - 1\)"),
        ({3: lambda t: t[:, :2]}, ValueError, r"tables \(M, 3, K\)"),
        ({4: lambda t: t[:2]}, ValueError, r"tau of shape"),
    ],
)
def test_bad_input(change, error, message):
    inputs = list(case())
    for position, function in change.items():
        inputs[position] = function(inputs[position].detach())
    with pytest.raises(error, match=message):
        soft.soft_matmul(*inputs)


def test_bad_number_of_leaves():
    with pytest.raises(ValueError, match="power of two"):
        soft.path_matrix(12)
