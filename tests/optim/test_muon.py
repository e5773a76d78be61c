from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.optim import reference
from tests.optim.test_lamb import problem, walk
from torch import nn

from hasten.optim import Muon
from hasten.optim.muon import orthogonalize


@given(
    seed=st.integers(0, 99),
    shape=st.sampled_from([(4, 3), (3, 4), (3, 3), (5, 2, 2), (4, 1, 3, 3)]),
    nesterov=st.booleans(),
    matched=st.booleans(),
    weight_decay=st.sampled_from([0.0, 0.1]),
)
def test_equals_the_slow_reference(
    seed: int, shape: tuple[int, ...], nesterov: bool, matched: bool, weight_decay: float
) -> None:
    x, gradients = problem(seed, shape)
    options = {"lr": 0.1, "weight_decay": weight_decay, "momentum": 0.8, "nesterov": nesterov}
    how = "match_rms_adamw" if matched else "original"
    mine = Muon([nn.Parameter(x.clone())], **options, adjust_lr_fn=how, ns_dtype=torch.float64)
    slow = reference.muon(x, gradients, **options, matched=matched)
    torch.testing.assert_close(walk(mine, gradients), slow, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("how", ["original", "match_rms_adamw"])
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)])
def test_matrices_have_the_bits_of_torch(shape: tuple[int, int], nesterov: bool, how: str) -> None:
    x, gradients = problem(0, shape, steps=20)
    x, gradients = x.float(), [g.float() for g in gradients]
    options = {"lr": 0.02, "weight_decay": 0.1, "momentum": 0.9, "nesterov": nesterov, "adjust_lr_fn": how}
    theirs = walk(torch.optim.Muon([nn.Parameter(x.clone())], **options), gradients)
    for mine, other in zip(walk(Muon([nn.Parameter(x.clone())], **options), gradients), theirs, strict=True):
        assert torch.equal(mine, other)


@pytest.mark.parametrize(("shape", "own"), [((5,), {}), ((), {}), ((4, 3), {"use_muon": False})])
def test_the_rest_has_the_bits_of_torch_adamw(shape: tuple[int, ...], own: dict) -> None:
    x, gradients = problem(0, shape, steps=20)
    x, gradients = x.float(), [g.float() for g in gradients]
    options = {"lr": 0.02, "weight_decay": 0.1, "betas": (0.9, 0.95)}
    theirs = walk(torch.optim.AdamW([nn.Parameter(x.clone())], **options, foreach=False), gradients)
    for mine, other in zip(walk(Muon([nn.Parameter(x.clone())], **options, **own), gradients), theirs, strict=True):
        assert torch.equal(mine, other)


@given(seed=st.integers(0, 99), shape=st.sampled_from([(8, 5), (5, 8), (6, 6), (1, 4)]), power=st.integers(-40, 40))
def test_orthogonalize(seed: int, shape: tuple[int, int], power: int) -> None:
    matrix = problem(seed, shape)[0]
    found = orthogonalize(matrix, dtype=torch.float64)
    assert found.shape == matrix.shape
    U, S, V = torch.linalg.svd(matrix, full_matrices=False)
    arrived = 0.003 * matrix.norm() < S
    values = torch.linalg.svdvals(found).sort().values[(~arrived).sum() :]
    assert ((values > 0.68) & (values < 1.21)).all()
    core = U.T @ found @ V.T
    torch.testing.assert_close(core, torch.diag(core.diagonal()), rtol=0, atol=1e-9)
    torch.testing.assert_close(orthogonalize(2.0**power * matrix, dtype=torch.float64, eps=1e-30), found)
    torch.testing.assert_close(orthogonalize(matrix.T, dtype=torch.float64), found.T)


def test_orthogonalize_in_bfloat16_and_at_the_edges() -> None:
    matrix = problem(0, (16, 8))[0].float()
    rounded, exact = orthogonalize(matrix), orthogonalize(matrix, dtype=torch.float32)
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), exact, rtol=0, atol=0.05)
    before = matrix.clone()
    orthogonalize(matrix, dtype=torch.float32)
    assert torch.equal(matrix, before)
    assert not orthogonalize(torch.zeros(3, 2)).any()
    assert orthogonalize(torch.full((2, 2), torch.nan)).isnan().all()


def test_a_step_is_about_as_large_as_one_of_adamw() -> None:
    x, gradients = problem(0, (64, 32), steps=1)
    (after,) = walk(Muon([nn.Parameter(x.clone())], lr=1.0, weight_decay=0.0), gradients)
    root_mean_square = (after - x).square().mean().sqrt().item()
    assert root_mean_square == pytest.approx(0.2, rel=0.25)


def test_bad_options() -> None:
    params = [nn.Parameter(torch.ones(1))]
    cases = [
        ({"momentum": 1.0}, ValueError, "momentum < 1"), ({"ns_steps": 0}, ValueError, "at least 1 for ns_steps"),
        ({"adjust_lr_fn": None}, ValueError, "adjust_lr_fn as one of match_rms_adamw, original, got None"),
        ({"ns_coefficients": (1.0, 2.0)}, ValueError, "three numbers for ns_coefficients"),
        ({"ns_coefficients": (1.0, 2.0, "3")}, ValueError, "a finite number for ns_coefficients"),
        ({"ns_dtype": torch.int8}, TypeError, "a floating-point dtype for ns_dtype"),
        ({"ns_dtype": "bfloat16"}, TypeError, "a floating-point dtype"),
        ({"adamw_eps": -1.0}, ValueError, "adamw_eps >= 0"),
        ({"use_muon": None}, TypeError, "True or False for use_muon"),
        ({"nesterov": 0}, TypeError, "True or False for nesterov"),
    ]  # fmt: skip
    for options, error, text in cases:
        with pytest.raises(error, match=rf"^Muon: expected .*{text}"):
            Muon(params, **options)
