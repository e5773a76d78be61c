"""Tensors with zeros, packed and unpacked: to the bit, in as many bytes as were foretold."""

from __future__ import annotations

import io

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hasten.prune.count import LAYOUTS, pack, packed_bytes, unpack

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int8)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Of two to four dimensions, some empty, with any share of zeros."""
    shape = draw(st.lists(st.integers(0, 5), min_size=2, max_size=4))
    numbers = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    values = torch.randn(shape, generator=numbers) * 50
    keep = torch.rand(shape, generator=numbers) < draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    return (values * keep).to(draw(st.sampled_from(DTYPES)))


def bits(tensor: Tensor) -> list[int]:
    return tensor.contiguous().view(-1).view(torch.uint8).tolist()


@given(tensor=tensors(), layout=st.sampled_from(LAYOUTS))
def test_what_is_packed_comes_back_to_the_bit(tensor: Tensor, layout: str) -> None:
    tensor = torch.where(tensor == 0, torch.zeros_like(tensor), tensor)  # zeros lose their sign
    size = packed_bytes(tensor, layout)
    if size is None:
        with pytest.raises(ValueError, match="pack: expected at most two nonzeros of each four along dimension 1"):
            pack(tensor, layout)
        return
    packed = pack(tensor, layout)
    back = unpack(packed)
    assert (back.shape, back.dtype, bits(back)) == (tensor.shape, tensor.dtype, bits(tensor))
    assert packed.nbytes == size


@given(data=st.data())
def test_two_of_four(data: st.DataObject) -> None:
    """The pattern runs along dimension 1, and groups with fewer than two nonzeros are patterns, too."""
    rows, groups, sides = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
    numbers = torch.Generator().manual_seed(data.draw(st.integers(0, 999)))
    weight = torch.randn(rows, sides, groups, 4, generator=numbers)
    places = torch.rand(weight.shape, generator=numbers).argsort(-1)
    weight[places >= torch.randint(0, 3, (rows, sides, groups, 1), generator=numbers)] = 0
    weight = weight.view(rows, sides, 4 * groups).movedim(-1, 1)
    packed = pack(weight, "2:4")
    assert torch.equal(unpack(packed), weight)
    n = weight.numel()
    assert packed.nbytes == packed_bytes(weight, "2:4") == n // 2 * 4 + -(-n // 8)
    weight[0, :3, 0] = 1
    assert packed_bytes(weight, "2:4") is None


def test_a_matrix_of_half_precision_by_hand() -> None:
    weight = torch.zeros(16, 64, dtype=torch.bfloat16)
    weight[:, ::16] = 1.0
    n, z = 1024, 64
    assert {layout: packed_bytes(weight, layout) for layout in LAYOUTS} == {
        "dense": 2 * n,
        "csr": 2 * z + 4 * z + 4 * 17,
        "csr_narrow": 2 * z + z + 17,
        "bitmap": n // 8 + 2 * z,
        "2:4": n + n // 8,
    }


def test_narrow_indices_are_as_wide_as_they_must_be() -> None:
    for columns, width in ((256, 1), (257, 2), (65536, 2), (65537, 4)):
        weight = torch.zeros(2, columns)
        weight[1, -1] = 5.0
        packed = pack(weight, "csr_narrow")
        assert packed.parts["columns"].element_size() == width
        assert packed.nbytes == packed_bytes(weight, "csr_narrow") == 4 + width + 3
        assert torch.equal(unpack(packed), weight)
    full = pack(torch.ones(300, 1), "csr_narrow")
    assert (full.parts["columns"].element_size(), full.parts["starts"].element_size()) == (1, 2)
    assert torch.equal(unpack(full), torch.ones(300, 1))


def test_csr_takes_the_bytes_of_the_layout_of_torch() -> None:
    weight = torch.randn(7, 9).relu_()
    packed = pack(weight, "csr")
    rows, columns = weight.nonzero(as_tuple=True)
    assert packed.parts["columns"].tolist() == columns.tolist()
    assert packed.parts["starts"].diff().tolist() == torch.bincount(rows, minlength=7).tolist()
    assert packed.nbytes == len(rows) * 8 + 8 * 4


def test_bytes_in_a_file() -> None:
    """What is written has the foretold size, and what an archive adds does not grow with the tensor."""
    extra = []
    for n in (64, 512):
        weight = torch.randn(n, n)
        weight[torch.rand(n, n) < 0.9] = 0
        packed, file = pack(weight, "bitmap"), io.BytesIO()
        torch.save(dict(packed.parts), file)
        extra.append(file.tell() - packed.nbytes)
    assert abs(extra[1] - extra[0]) <= 64  # alignment
    assert max(extra) < 4096


def test_values_that_are_no_numbers_are_kept_and_negative_zeros_are_zeros() -> None:
    weight = torch.tensor([[float("nan"), float("inf"), -0.0, 1e-45]])
    for layout in ("csr", "csr_narrow", "bitmap"):
        back = unpack(pack(weight, layout))
        assert torch.equal(back.isnan(), weight.isnan())
        assert back[0, 1:].tolist() == [float("inf"), 0.0, weight[0, 3].item()]
        assert len(pack(weight, layout).parts["values"]) == 3


def test_views_are_packed_as_they_look_and_nothing_is_shared() -> None:
    weight = torch.randn(6, 8).relu_().T
    for layout in ("dense", "csr", "bitmap"):
        packed = pack(weight, layout)
        packed.parts["values"].mul_(1)
        assert torch.equal(unpack(packed), weight)
        assert packed.parts["values"].data_ptr() != weight.data_ptr()


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="pack: expected layout one of dense, csr, .*, got 'crs'. Did you mean csr"):
        pack(torch.ones(2, 2), "crs")
    with pytest.raises(ValueError, match="packed_bytes: expected a strided tensor of at least two dimensions"):
        packed_bytes(torch.ones(3), "csr")
    with pytest.raises(ValueError, match="pack: expected a strided tensor of at least two dimensions"):
        pack(torch.eye(3).to_sparse(), "csr")
