from __future__ import annotations

import pytest
import torch

from hasten.losses._per_sample import per_sample


def test_one_value_per_sample_passes_and_the_rest_says_what_to_do() -> None:
    losses = torch.zeros(3)
    assert per_sample("loss", losses) is losses
    assert per_sample("loss", losses, 3) is losses
    with pytest.raises(ValueError, match=r"shape \(batch = 4,\), got Tensor of shape \(3,\).*Do not reduce"):
        per_sample("loss", losses, 4)
    with pytest.raises(ValueError, match=r"got Tensor of shape \(3, 2\)"):
        per_sample("loss", torch.zeros(3, 2))
    with pytest.raises(TypeError, match="a loss that returns a tensor, got None"):
        per_sample("loss", None)
