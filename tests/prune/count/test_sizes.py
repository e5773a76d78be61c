"""Parameters, nonzero ones and bytes of models, by hand and from what was packed."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.prune.networks import mnist_net
from torch import nn

from hasten.prune import apply, finalize
from hasten.prune.count import LAYOUTS, pack, sizes


def test_a_dense_model() -> None:
    found = sizes(mnist_net())
    assert (found.total, found.nonzero, found.compression) == (431_080, 431_080, 1.0)
    assert found.bytes_dense == 4 * 431_080
    assert found.bytes_24 is None
    assert found.smallest == ("dense", 4 * 431_080)
    assert found.bytes_bitmap > found.bytes_dense
    assert found.bytes_csr > 1.9 * found.bytes_dense


@pytest.mark.parametrize("compression", [2, 4, 10, 50])
def test_compression_is_of_the_whole_model(compression: int) -> None:
    """The classifier stays, so the rest keeps the fraction f = (T / c - N) / P of its entries."""
    model = mnist_net()
    for parameter in model.parameters():
        parameter.data.fill_(1.0)
    rest = torch.cat([p.data.flatten() for p in list(model.parameters())[:-2]])
    fraction = (431_080 / compression - 5010) / len(rest)
    rest[round(fraction * len(rest)) :] = 0
    torch.nn.utils.vector_to_parameters(rest, list(model.parameters())[:-2])
    found = sizes(model)
    assert found.compression == pytest.approx(compression, rel=1e-4)
    assert round(fraction, 6) == {2: 0.494121, 4: 0.241181, 10: 0.089417, 50: 0.008477}[compression]


@given(share=st.floats(0, 1), dtype=st.sampled_from([torch.float32, torch.bfloat16]))
def test_bytes_are_those_of_the_packed_parameters(share: float, dtype: torch.dtype) -> None:
    model = nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.Linear(6, 5)).to(dtype)
    for parameter in model.parameters():
        parameter.data[torch.rand(parameter.shape) < share] = 0
    found = sizes(model)
    vectors = sum(p.nbytes for p in model.parameters() if p.ndim < 2)
    for layout in LAYOUTS[:-1]:
        packed = sum(pack(p, layout).nbytes for p in model.parameters() if p.ndim > 1)
        assert found.bytes[layout] == packed + vectors
    assert found.nonzero == sum(int(p.count_nonzero()) for p in model.parameters())
    assert found.smallest[1] == min(size for size in found.bytes.values() if size is not None)


def test_two_of_four_where_it_is_and_dense_where_it_is_not() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 3))
    model[0].weight.data.view(-1, 4)[:, 1:3] = 0
    found = sizes(model)
    assert found.bytes_24 == 4 * 32 + 8 + 4 * 8 + 4 * (24 + 3)
    assert found.compression == pytest.approx(99 / 67)


def test_each_parameter_counts_in_its_own_dtype_and_once() -> None:
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False).half(), nn.Linear(4, 4, bias=False))
    model[2].weight = model[0].weight
    found = sizes(model)
    assert (found.total, found.bytes_dense) == (32, 16 * 4 + 16 * 2)


def test_extremes() -> None:
    empty = sizes(nn.ReLU())
    assert (empty.total, empty.compression, empty.smallest) == (0, 1.0, ("dense", 0))
    layer = nn.Linear(3, 3, bias=False)
    layer.weight.data.zero_()
    assert sizes(layer).compression == math.inf
    layer.weight.data[0, 0] = math.nan
    assert sizes(layer).nonzero == 1


def test_quantized_modules_hide_their_weights() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch is about to move them elsewhere
        layer = torch.ao.nn.quantized.dynamic.Linear(3, 4)
    with pytest.raises(ValueError, match="sizes: expected weights that are parameters, got 1, which is quantized"):
        sizes(nn.Sequential(nn.ReLU(), layer))


@pytest.mark.parametrize("mode", ["inplace", "parametrize"])
def test_masks_count_however_they_are_worn(mode: str) -> None:
    model = nn.Linear(8, 8)
    apply(model, {"weight": torch.arange(64).view(8, 8) % 4 == 0}, mode)
    found = sizes(model)
    assert (found.total, found.nonzero) == (72, 24)
    assert found == sizes(finalize(model))


def test_buffers_are_no_parameters() -> None:
    layer = nn.BatchNorm1d(4)
    assert sizes(layer).total == 8


def test_bad_input() -> None:
    with pytest.raises(TypeError, match="sizes: expected a torch.nn.Module, got"):
        sizes(torch.ones(3))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="sizes: expected parameters that have values, got weight on the meta device"):
        sizes(nn.Linear(2, 2, device="meta"))
    with pytest.raises(ValueError, match="sizes: expected parameters that have values, got 1.weight, which has no"):
        sizes(nn.Sequential(nn.ReLU(), nn.LazyLinear(2)))
