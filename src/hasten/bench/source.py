"""Training data as batches that are a function of (seed, step): tensors, dicts of tensors, or any map-style dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from hasten._core.batch import get_inputs, get_targets, map_tensors
from hasten._core.checks import check, refuse, refuse_type
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
        check(self.n >= batch_size, "data", f"at least batch_size = {batch_size} samples", self.n)
        self.in_memory = tensors is not None
        self.data = map_tensors(lambda tensor: tensor.to(device), data) if self.in_memory else data
        self.order, self.batch_size, self.seed = order, batch_size, seed
        self.device, self.workers = device, workers
        self.steps_per_epoch = self.n // batch_size

    def batches(self, first: int) -> Iterator[Any]:
        """Batches of step `first`, `first + 1`, ... without end; starting later is a seek, not a replay."""
        step = first
        while True:
            epoch, offset = divmod(step, self.steps_per_epoch)
            order = self._order(epoch)
            rest = [order[k * self.batch_size : (k + 1) * self.batch_size] for k in range(offset, self.steps_per_epoch)]
            for batch in self._fetch_all(step, rest):
                yield map_tensors(lambda tensor: tensor.to(self.device, non_blocking=True), batch)
            step += len(rest)

    def _order(self, epoch: int) -> Tensor:
        order = self.order(self.n, epoch, seed=self.seed)
        if order.shape != (self.n,) or order.dtype != torch.long:
            raise refuse("sampler", f"a LongTensor of shape ({self.n},)", order)
        return order.to(self.device) if self.in_memory else order

    def _fetch_all(self, step: int, indices: list[Tensor]) -> Iterator[Any]:
        if self.in_memory:
            for index in indices:
                yield map_tensors(lambda tensor, index=index: tensor[index], self.data)
            return
        fetcher = _Fetcher(self.data, self.seed, step, indices)
        if not self.workers:
            for position in range(len(indices)):
                yield fetcher[position]
            return
        from torch.utils.data import DataLoader

        # A map-style dataset is anything with __len__ and __getitem__; the class torch annotates is not needed.
        dataset: Any = fetcher
        yield from DataLoader(dataset, batch_size=None, num_workers=self.workers, multiprocessing_context="spawn")


class _Fetcher:
    """A dataset of whole batches: item k is batch `step + k`, drawn under its own seeds wherever it is made."""

    def __init__(self, dataset: Any, seed: int, step: int, indices: list[Tensor]) -> None:
        self.dataset, self.seed, self.step, self.indices = dataset, seed, step, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> Any:
        if position >= len(self.indices):
            raise IndexError(position)
        with fork(self.seed, "data", self.step + position):
            samples = [self.dataset[i] for i in self.indices[position].tolist()]
        batch = default_collate(samples)
        return tuple(batch) if isinstance(batch, list) else batch


def _length(data: Any, tensors: list[Tensor] | None) -> int:
    if tensors is not None:
        lengths = {len(tensor) for tensor in tensors}
        if len(lengths) != 1:
            raise refuse("data", "tensors of one length", f"lengths {sorted(lengths)}")
        get_inputs(data), get_targets(data)
        return lengths.pop()
    if hasattr(data, "__len__") and hasattr(data, "__getitem__") and not isinstance(data, (tuple, list, Mapping)):
        return len(data)
    fix = "Return (inputs, targets) tensors, a dict of tensors, or a torch Dataset."
    raise refuse_type("data", "tensors or a map-style dataset", type(data).__name__, fix)
