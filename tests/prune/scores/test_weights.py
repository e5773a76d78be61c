from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.prune import reference

from hasten.prune.scores import channel_norm, lamp, magnitude, uniform


@given(st.lists(st.integers(-4, 4), max_size=20), st.sampled_from([1.0, 1e-25, 1e18]))
def test_lamp_is_the_papers(values: list[int], scale: float) -> None:
    weight = torch.tensor(values, dtype=torch.float32) * scale
    torch.testing.assert_close(lamp(weight).double(), reference.lamp(weight), rtol=1e-5, atol=0)


def test_lamp_by_hand() -> None:
    assert lamp(torch.tensor([[3.0, -4.0], [0.0, 0.0]])).tolist() == [[pytest.approx(9 / 25), 1.0], [0.0, 0.0]]
    assert lamp(torch.ones(2)).tolist() == [1.0, 0.5], "of equal entries the earlier has more"
    assert lamp(torch.ones(3, dtype=torch.bfloat16)).dtype == torch.float32
    assert lamp(torch.zeros(3)).tolist() == [0, 0, 0]


@given(st.integers(0, 2**31))
def test_lamp_orders_a_tensor_as_magnitudes_do(seed: int) -> None:
    weight = torch.randn(50, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(lamp(weight).argsort(), magnitude(weight).argsort())


def test_channel_norms_by_hand() -> None:
    matrices = torch.tensor([[[3.0, -4.0], [1.0, 1.0]]])
    assert channel_norm(matrices, 1)[0, :, 1].tolist() == [3.5, 1]
    assert channel_norm(matrices, 2)[0, :, 1].tolist() == [pytest.approx(12.5**0.5), 1]
    with pytest.raises(ValueError, match=r"prune\.channel_norm: expected power=1 or 2, got 3"):
        channel_norm(matrices, 3)


def test_draws_depend_on_the_generator_alone() -> None:
    drawn = [
        uniform(torch.zeros(3, dtype=dtype), torch.Generator().manual_seed(5)) for dtype in (torch.float64, torch.half)
    ]
    assert torch.equal(*drawn)
    assert not torch.equal(drawn[0], uniform(torch.zeros(3), torch.Generator().manual_seed(6)))
