"""Models in evaluation mode, and as they were afterwards."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hasten._core.evaluation import evaluation_mode


def test_every_flag_comes_back() -> None:
    first, second = nn.Sequential(nn.BatchNorm1d(2).eval(), nn.Dropout()), nn.Dropout()
    with evaluation_mode(first, second, torch.relu):
        assert not any(module.training for module in (first, *first, second))
        assert not torch.is_grad_enabled()
    assert [module.training for module in (first, *first, second)] == [True, False, True, True]
    assert torch.is_grad_enabled()


def test_after_an_error_too() -> None:
    model = nn.Dropout()
    with pytest.raises(RuntimeError, match="broken"), evaluation_mode(model):
        raise RuntimeError("broken")
    assert model.training
    assert torch.is_grad_enabled()
