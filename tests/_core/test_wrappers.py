"""What is put around a model, and what is inside."""

from __future__ import annotations

import torch
from torch import nn

from hasten._core.wrappers import unwrapped, wrapper_of


def test_wrappers_are_looked_through_in_any_order() -> None:
    model = nn.Linear(2, 2)
    assert unwrapped(model) is model
    assert unwrapped(torch.compile(model)) is model  # type: ignore[arg-type]
    assert unwrapped(nn.DataParallel(model)) is model
    assert unwrapped(nn.DataParallel(torch.compile(nn.DataParallel(model)))) is model  # type: ignore[arg-type]


def test_a_wrapper_around_a_part_is_found_and_none_is_made_up() -> None:
    assert wrapper_of(nn.Sequential(nn.Linear(2, 2), nn.DataParallel(nn.Linear(2, 2)))) == "DataParallel"
    assert wrapper_of(torch.compile(nn.Linear(2, 2))) is None  # type: ignore[arg-type]
