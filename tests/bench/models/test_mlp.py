from __future__ import annotations

import doctest

import pytest
import torch

from hasten.bench.models import MLP, mlp


def test_no_hidden_layer_is_a_linear_model():
    torch.manual_seed(0)
    model = MLP(6, 3, widths=())
    x = torch.randn(5, 6)
    torch.testing.assert_close(model(x), x @ model.head.weight.T + model.head.bias)


def test_equals_the_layers_by_hand():
    torch.manual_seed(0)
    model = MLP(4, 2, widths=(7, 5))
    x = torch.randn(3, 2, 2)
    hidden = x.flatten(1)
    for layer in (model.features[1], model.features[3]):
        hidden = (hidden @ layer.weight.T + layer.bias).clamp(min=0)
    torch.testing.assert_close(model(x), model.head(hidden))
    assert [layer.out_features for layer in (model.features[1], model.features[3])] == [7, 5]


@pytest.mark.parametrize("sizes", [(0, 2, (3,)), (2, 0, (3,)), (2, 2, (0,))])
def test_refuses_empty_layers(sizes):
    with pytest.raises(ValueError, match="MLP: expected in_features, classes and widths of at least 1"):
        MLP(*sizes)


def test_example():
    assert doctest.testmod(mlp).failed == 0
