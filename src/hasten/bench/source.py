"""Training data as batches that are a function of (seed, step): tensors, dicts of tensors, or any map-style dataset."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hasten._core import sources
from hasten._core.batch import get_inputs, get_targets, map_tensors
from hasten._core.checks import check, describe, refuse, refuse_type
from hasten._core.rng import fork

__all__ = ["BatchSource", "default_collate", "tensors_of"]


def tensors_of(data: Any) -> list[Tensor] | None:
    """The tensors of in-memory data, or None for a dataset object."""
    if isinstance(data, Mapping):
        values = list(data.values())
    elif isinstance(data, (tuple, list)) and all(isinstance(part, Tensor) for part in data):
        values = list(data)
    else:
        return None
    return values if values and all(isinstance(part, Tensor) for part in values) else None


def default_collate(samples: list[Any]) -> Any:
    """torch's own collation of a list of samples."""
    from torch.utils.data import default_collate as collate

    return collate(samples)


class BatchSource:
    """Batches of training data by step; every batch is full, the rest of an epoch is dropped.

    Args:
        data: a tuple `(inputs, targets)` or a dict of tensors with one first dimension, or a dataset with `__len__`
            and `__getitem__`.
        order: `(n, epoch, *, seed) -> LongTensor`, the sampler.
        batch_size: samples per step.
        seed: the run's seed.
        device: where in-memory data is kept and batches arrive.
        workers: loader processes for datasets; the batches are the same with any number.

    Raises:
        TypeError: data of another kind.
        ValueError: tensors of different lengths, or fewer samples than a batch.
    """

    def __init__(
        self,
        data: Any,
        order: Callable[..., Tensor],
        *,
        batch_size: int,
        seed: int,
        device: torch.device,
        workers: int = 0,
    ) -> None:
        tensors = tensors_of(data)
        self.n = _length(data, tensors)
        fix = "Lower BATCH_SIZE, or give more data."
        check(self.n >= batch_size, "data", f"at least batch_size = {batch_size} samples", self.n, fix)
        self.in_memory = tensors is not None
        self.data = map_tensors(lambda tensor: tensor.to(device), data) if self.in_memory else data
        self.order, self.batch_size, self.seed = order, batch_size, seed
        self.device, self.workers = device, workers
        self.steps_per_epoch = self.n // batch_size

    def batches(self, first: int) -> Iterator[Any]:
        """Batches of step `first`, `first + 1`, ... without end; starting later is a seek, not a replay."""
        for batch in self._fetched(first):
            yield map_tensors(lambda tensor: tensor.to(self.device, non_blocking=True), batch)

    def _fetched(self, first: int) -> Iterator[Any]:
        if self.in_memory:
            for _, index in self._indices(first):
                yield map_tensors(lambda tensor, index=index: tensor[index], self.data)
            return
        fetcher = _Fetcher(self.data, self.seed)
        chosen = ((step, index.tolist()) for step, index in self._indices(first))
        yield from _loader(fetcher, chosen, self.workers) if self.workers else map(fetcher.__getitem__, chosen)

    def _indices(self, first: int) -> Iterator[tuple[int, Tensor]]:
        """(step, the samples of its batch) of step `first`, `first + 1`, ..."""
        order = self._order(first // self.steps_per_epoch)
        for step in itertools.count(first):
            epoch, place = divmod(step, self.steps_per_epoch)
            if place == 0 and step > first:
                order = self._order(epoch)
            yield step, order[place * self.batch_size : (place + 1) * self.batch_size]

    def _order(self, epoch: int) -> Tensor:
        order = self.order(self.n, epoch, seed=self.seed)
        if not isinstance(order, Tensor) or order.shape != (self.n,) or order.dtype != torch.long:
            raise refuse("sampler", f"a LongTensor of shape ({self.n},)", describe(order))
        low, high = (int(end) for end in order.aminmax())
        if low < 0 or high >= self.n:
            raise refuse("sampler", f"sample indices from 0 to {self.n - 1}", f"{low} to {high}")
        return order.to(self.device) if self.in_memory else order


class _Fetcher:
    """A dataset of whole batches, each drawn under its own seeds wherever it is made."""

    def __init__(self, dataset: Any, seed: int) -> None:
        self.dataset, self.seed = dataset, seed

    def __getitem__(self, chosen: tuple[int, list[int]]) -> Any:
        step, index = chosen
        with fork(self.seed, "samples", step):
            samples = [self.dataset[i] for i in index]
        batch = default_collate(samples)
        return tuple(batch) if isinstance(batch, list) else batch

    def __reduce__(self) -> Any:
        # Another process finds a user's classes only after it has loaded the user's files.
        return _fetcher, (sources.entries(), pickle.dumps((self.dataset, self.seed)))


def _fetcher(entries: list[tuple[sources.Source, Path]], state: bytes) -> _Fetcher:
    for source, entry in entries:
        sources.load(source, entry)
    return _Fetcher(*pickle.loads(state))


def _loader(fetcher: Any, chosen: Iterator[Any], workers: int) -> Iterator[Any]:
    """The batches of `fetcher` in order, made ahead by loader processes, which start once a run."""
    from torch.utils.data import DataLoader

    return iter(
        DataLoader(
            fetcher,
            batch_size=None,
            sampler=chosen,
            num_workers=workers,
            multiprocessing_context="spawn",
            generator=torch.Generator(),  # else it would draw from the global one
        )
    )


def _length(data: Any, tensors: list[Tensor] | None) -> int:
    if tensors is not None:
        lengths = {tensor.shape[:1] for tensor in tensors}
        if len(lengths) != 1 or lengths == {()}:
            got = ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
            raise refuse("data", "tensors with one first dimension, the samples", f"shapes {got}")
        get_inputs(data), get_targets(data)
        return len(tensors[0])
    if hasattr(data, "__len__") and hasattr(data, "__getitem__") and not isinstance(data, (tuple, list, Mapping)):
        return len(data)
    fix = "Return (inputs, targets) tensors, a dict of tensors, or a torch Dataset."
    raise refuse_type("data", "tensors or a map-style dataset", type(data).__name__, fix)
