"""Training data as batches: a function of (seed, step); wrong data and wrong samplers are refused with the fix."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.contract import images

from hasten.bench.source import BatchSource, tensors_of
from hasten.data.order import in_order, shuffled

CPU = torch.device("cpu")


def source(data: Any, order: Any = shuffled, **more: Any) -> BatchSource:
    return BatchSource(data, order, **{"batch_size": 4, "seed": 0, "device": CPU, **more})


def numbers(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.arange(count).float(), torch.arange(count)


def first(count: int, of: BatchSource, start: int = 0) -> list[Any]:
    return list(itertools.islice(of.batches(start), count))


def test_an_epoch_visits_full_batches_of_a_permutation() -> None:
    made = source(numbers(11))
    assert (made.n, made.steps_per_epoch) == (11, 2)
    batches = first(4, made)
    assert all(batch[0].shape == (4,) and torch.equal(batch[0].long(), batch[1]) for batch in batches)
    epochs = [torch.cat([batches[k][1], batches[k + 1][1]]).tolist() for k in (0, 2)]
    assert [len(set(epoch)) for epoch in epochs] == [8, 8]
    assert epochs[0] != epochs[1]
    assert torch.equal(batches[2][1], shuffled(11, 1, seed=0)[:4])


@given(st.integers(4, 30), st.integers(0, 20), st.integers(0, 3))
def test_starting_later_is_a_seek(samples: int, start: int, seed: int) -> None:
    made = source(numbers(samples), seed=seed)
    straight = [batch[1].tolist() for batch in first(start + 3, made)]
    assert [batch[1].tolist() for batch in first(3, made, start)] == straight[start:]


def test_dicts_keep_their_keys_and_lists_become_tuples() -> None:
    inputs, targets = numbers(8)
    (batch,) = first(1, source({"x": inputs, "y": targets, "weight": inputs}, in_order))
    assert {name: value.tolist() for name, value in batch.items()} == {
        "x": [0.0, 1.0, 2.0, 3.0], "y": [0, 1, 2, 3], "weight": [0.0, 1.0, 2.0, 3.0],
    }  # fmt: skip
    assert isinstance(first(1, source([inputs, targets]))[0], tuple)


class Rows:
    """A dataset by its two methods alone."""

    def __init__(self, count: int, sample: Any = None) -> None:
        self.count, self.sample = count, sample

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        assert type(index) is int
        return (float(index), index) if self.sample is None else self.sample(index)


def test_a_dataset_is_collated() -> None:
    made = source(Rows(9), in_order)
    assert not made.in_memory
    assert [batch[1].tolist() for batch in first(3, made)] == [[0, 1, 2, 3], [4, 5, 6, 7], [0, 1, 2, 3]]
    (batch,) = first(1, source(Rows(9, lambda i: {"x": torch.full((2,), i), "y": i}), in_order))
    assert batch["x"].shape == (4, 2)


def test_augmentation_is_a_function_of_seed_and_step() -> None:
    one, two = first(3, source(images.Augmented())), first(3, source(images.Augmented()))
    other = first(3, source(images.Augmented(), seed=1))
    for a, b, c in zip(one, two, other, strict=True):
        assert torch.equal(a[0], b[0])
        assert not torch.equal(a[0], c[0])


@pytest.mark.parametrize(
    ("data", "error", "reason"),
    [
        ((torch.zeros(5, 2), torch.zeros(4)), ValueError, r"data: .*one first dimension.*got shapes \(5, 2\), \(4,\)"),
        ((torch.tensor(1.0), torch.tensor(2)), ValueError, r"one first dimension, the samples, got shapes \(\), \(\)"),
        ({"x": torch.zeros(5), "y": torch.tensor(1)}, ValueError, r"got shapes \(5,\), \(\)"),
        (numbers(3), ValueError, "at least batch_size = 4 samples, got 3. Lower BATCH_SIZE, or give more data"),
        (Rows(3), ValueError, "at least batch_size = 4 samples, got 3"),
        ((torch.zeros(8),) * 3, TypeError, r"batch: expected \(inputs, targets\) or a dict, got tuple"),
        ({"a": torch.zeros(8), "y": torch.zeros(8)}, ValueError, "a dict with inputs under one of inputs, input_ids"),
        ({"x": torch.zeros(8), "b": torch.zeros(8)}, ValueError, "a dict with targets under one of targets, labels"),
        (([1, 2], [3, 4]), TypeError, r"tensors or a map-style dataset, got tuple\. Return \(inputs, targets\)"),
        ({"x": torch.zeros(8), "y": [1] * 8}, TypeError, "expected tensors or a map-style dataset, got dict"),
        (iter([1]), TypeError, "expected tensors or a map-style dataset, got list_iterator"),
        (None, TypeError, "expected tensors or a map-style dataset, got NoneType"),
        ((), TypeError, "expected tensors or a map-style dataset, got tuple"),
    ],
)
def test_bad_data(data: Any, error: type[Exception], reason: str) -> None:
    with pytest.raises(error, match=reason):
        source(data)


def wrong_dtype(n: int, epoch: int, *, seed: int) -> Any:
    return torch.arange(n, dtype=torch.int32)


def too_short(n: int, epoch: int, *, seed: int) -> Any:
    return torch.arange(n - 1)


def out_of_range(n: int, epoch: int, *, seed: int) -> Any:
    return torch.arange(1, n + 1)


def negative(n: int, epoch: int, *, seed: int) -> Any:
    return torch.arange(n) - 1


def a_list(n: int, epoch: int, *, seed: int) -> Any:
    return list(range(n))


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        (wrong_dtype, r"sampler: expected a LongTensor of shape \(8,\), got Tensor .* dtype torch\.int32"),
        (too_short, r"a LongTensor of shape \(8,\), got Tensor of shape \(7,\)"),
        (out_of_range, "expected sample indices from 0 to 7, got 1 to 8"),
        (negative, "expected sample indices from 0 to 7, got -1 to 6"),
        (a_list, r"a LongTensor of shape \(8,\), got \[0, 1, 2"),
    ],
)
def test_bad_samplers(order: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        first(1, source(numbers(8), order))


def test_a_sampler_may_repeat_samples() -> None:
    def twice(n: int, epoch: int, *, seed: int) -> torch.Tensor:
        return torch.arange(n) // 2

    assert [batch[1].tolist() for batch in first(2, source(numbers(8), twice))] == [[0, 0, 1, 1], [2, 2, 3, 3]]


def test_what_is_in_memory() -> None:
    x = torch.zeros(2)
    assert tensors_of((x, x)) == [x, x]
    assert tensors_of({"x": x}) == [x]
    assert [tensors_of(data) for data in ((x, 1), {"x": 1}, {}, (), [], Rows(2), None, x)] == [None] * 8
