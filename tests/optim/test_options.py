"""What every optimizer checks before it changes anything."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from hasten.optim import _options


@pytest.mark.parametrize("lr", [0, 0.0, 1e-3, 10])
def test_learning_rates_come_back_as_they_are(lr: float) -> None:
    assert _options.check_learning_rate("f", lr) is lr
    tensor = torch.tensor([lr])
    assert _options.check_learning_rate("f", tensor) is tensor
    assert _options.number(lr) == lr
    assert _options.number(tensor) == tensor.item()


@pytest.mark.parametrize("lr", [-1e-3, float("nan"), float("inf"), "1e-3", None, True, torch.ones(2)])
def test_what_is_no_learning_rate(lr: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=r"^f: expected .*lr.*Pass lr="):
        _options.check_learning_rate("f", lr)


def test_numbers_that_are_not_negative() -> None:
    assert _options.check_not_negative("f", "eps", 0) == 0.0
    with pytest.raises(ValueError, match=r"f: expected eps >= 0, got -1"):
        _options.check_not_negative("f", "eps", -1)


@pytest.mark.parametrize("betas", [0.9, (0.9,), (0.9, 1.0), (-0.1, 0.9), (0.9, float("nan")), ("a", 0.9), (True, 0.9)])
def test_what_are_no_betas(betas: Any) -> None:
    assert _options.check_betas("f", [0, 0.5]) == (0.0, 0.5)
    with pytest.raises(ValueError, match=r"f: expected .*betas.*Pass betas=\(0\.9, 0\.999\)"):
        _options.check_betas("f", betas)


def test_gradients() -> None:
    weight = nn.Parameter(torch.ones(2, 2))
    assert _options.dense_gradient("f", weight) is None
    weight.grad = torch.ones(2, 2)
    assert _options.dense_gradient("f", weight) is weight.grad
    weight.grad = torch.ones(2, 2).to_sparse()
    with pytest.raises(TypeError, match=r"f: expected dense gradients, got one of layout torch\.sparse_coo"):
        _options.dense_gradient("f", weight)
    complex_one = nn.Parameter(torch.ones(2, dtype=torch.complex64))
    complex_one.grad = torch.ones_like(complex_one)
    with pytest.raises(TypeError, match=r"real floating-point parameters, got dtype torch\.complex64"):
        _options.dense_gradient("f", complex_one)


def test_a_closure_runs_with_gradients() -> None:
    with torch.no_grad():
        assert _options.call_closure(torch.is_grad_enabled) is True
        assert _options.call_closure(None) is None
