from __future__ import annotations

import functools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import TensorDataset

from hasten.bench.pruning import data
from hasten.bench.pruning.data import Part, forget, held_out_part, learning_part, same_form


def tensors(seed: int, count: int = 50) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples that know their number; the seed only moves them."""
    return torch.arange(count) + 1000.0 * seed, torch.arange(count)


@given(count=st.integers(2, 200), share=st.floats(0.01, 0.99), most=st.integers(1, 300))
def test_the_parts_are_disjoint_and_whole(count: int, share: float, most: int) -> None:
    source = functools.partial(tensors, count=count)
    expected = min(max(1, round(share * count)), most)
    if expected >= count:
        return
    learn, held = (part(0, source=source, share=share, most=most)[1] for part in (learning_part, held_out_part))
    assert len(held) == expected
    assert sorted([*learn.tolist(), *held.tolist()]) == list(range(count))
    assert held.tolist() == sorted(held.tolist())


def test_what_is_held_out_does_not_depend_on_the_seed() -> None:
    one, two = (held_out_part(seed, source=tensors) for seed in (0, 1))
    assert torch.equal(one[1], two[1])
    assert torch.equal(one[0] + 1000, two[0])


def test_the_data_are_made_once_for_those_who_ask_in_turn() -> None:
    calls = []

    def source(seed: int, *, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
        calls.append(seed)
        return tensors(seed)

    forget()
    for _ in range(2):  # another partial of the same function is the same source
        learning_part(0, source=functools.partial(source, scale=1.0))
        held_out_part(0, source=functools.partial(source, scale=1.0))
    assert calls == [0]
    learning_part(0, source=functools.partial(source, scale=2.0))
    learning_part(1, source=functools.partial(source, scale=2.0))
    assert calls == [0, 0, 1]
    assert len(data._kept) == 1
    forget()
    assert not data._kept


def test_draws_of_the_data_are_those_of_a_run() -> None:
    """A user's `data` may draw from the global generators: the loop seeds them, and so does the split."""
    from hasten._core.rng import fork

    def source(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.rand(20), torch.arange(20)

    with fork(3, "data"):
        expected = source(3)[0]
    before = torch.get_rng_state()
    learn = learning_part(3, source=source)
    assert torch.equal(learn[0], expected[learn[1]])
    assert torch.equal(torch.get_rng_state(), before)


def test_datasets_are_split_without_being_read() -> None:
    class Numbers:
        def __len__(self) -> int:
            return 30

        def __getitem__(self, index: int) -> int:
            return index

    learn, held = (part(0, source=lambda seed: Numbers()) for part in (learning_part, held_out_part))
    assert isinstance(learn, Part)
    assert (len(learn), len(held)) == (27, 3)
    assert sorted([*(learn[i] for i in range(27)), *(held[i] for i in range(3))]) == list(range(30))


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="expected training samples to learn from beside those held out, got 1"):
        learning_part(0, source=functools.partial(tensors, count=1))


@pytest.mark.parametrize(
    ("train", "test", "expected"),
    [
        ((torch.ones(9, 2), torch.ones(9)), (torch.ones(4, 2), torch.ones(4)), True),
        ((torch.ones(9, 2), torch.ones(9)), (torch.ones(4, 2), torch.ones(4), torch.ones(4)), False),
        ((torch.ones(9, 2), torch.ones(9)), (torch.ones(4, 2), torch.ones(4).long()), False),
        ({"x": torch.ones(9), "y": torch.ones(9)}, {"x": torch.ones(2), "y": torch.ones(2)}, True),
        ({"x": torch.ones(9), "y": torch.ones(9)}, {"x": torch.ones(2), "z": torch.ones(2)}, False),
        ((torch.ones(9), torch.ones(9)), "test.csv", False),
        (Part(TensorDataset(torch.ones(3)), [0]), TensorDataset(torch.ones(2)), True),
        (Part(TensorDataset(torch.ones(3)), [0]), [1, 2], False),
    ],
)
def test_when_the_metric_can_be_asked_of_the_held_out_part(train: object, test: object, expected: bool) -> None:
    assert same_form(train, test) is expected
