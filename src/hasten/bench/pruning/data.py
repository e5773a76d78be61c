"""The training data of a pruning study in two: a part to learn from, and a part held out that chooses the epoch.

Which samples are held out does not depend on the seed: like the test data, they belong to the question. The test data
are looked at for the results alone, never to choose anything.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from hasten._core.batch import take
from hasten._core.checks import check, whole
from hasten._core.rng import fork, stream

from ..source import tensors_of

__all__ = ["MOST", "SHARE", "Part", "forget", "held_out_part", "learning_part", "same_form"]

SHARE = 0.1  # of the training samples that are held out
MOST = 4096  # but no more than these: the binomial error of an accuracy of 0.9 is then below half a point

_kept: dict[Any, tuple[Any, Any]] = {}  # the parts of the data that were asked for last


class Part:
    """Some samples of a map-style dataset, as a dataset.

    Args:
        dataset: the whole.
        index: which samples, in order.
    """

    def __init__(self, dataset: Any, index: list[int]) -> None:
        self.dataset, self.index = dataset, index

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, position: int) -> Any:
        return self.dataset[self.index[position]]


def learning_part(seed: int, *, source: Callable[[int], Any], share: float = SHARE, most: int = MOST) -> Any:
    """The training data without what is held out, for a program's `data` slot.

    Args:
        seed: handed on to `source`.
        source: `(seed) -> training data`.
        share: of the samples that are held out, in (0, 1).
        most: samples that are held out at most.
    """
    return _parts(source, seed, share, most)[0]


def held_out_part(seed: int, *, source: Callable[[int], Any], share: float = SHARE, most: int = MOST) -> Any:
    """What `learning_part` leaves out, in the same form."""
    return _parts(source, seed, share, most)[1]


def forget() -> None:
    """Let go of the data that were kept for whoever asks next."""
    _kept.clear()


def _parts(source: Callable[[int], Any], seed: int, share: float, most: int) -> tuple[Any, Any]:
    """(to learn from, held out). The last ones are kept: one run asks several times, and so does the next one."""
    key = (_identity(source), seed, share, most)
    if key not in _kept:
        with fork(seed, "data"):
            data = source(seed)
        found = _split(data, share, most)
        _kept.clear()  # not before: data that cannot be made cost nobody theirs
        _kept[key] = found
    return _kept[key]


def _identity(source: Any) -> Any:
    """Equal for equal partials, which are objects of their own each time they are built."""
    if isinstance(source, functools.partial):
        return source.func, tuple(map(_identity, source.args)), *((k, _identity(v)) for k, v in source.keywords.items())
    return source


def _split(data: Any, share: float, most: int) -> tuple[Any, Any]:
    tensors = tensors_of(data)
    n = len(data) if tensors is None else len(tensors[0])
    count = min(max(1, round(share * n)), whole("hasten prune", "most", most, low=1))
    check(count < n, "hasten prune", "training samples to learn from beside those held out", n, "Give more data.")
    order = torch.randperm(n, generator=stream(0, "held out"))
    learn, held = (part.sort().values for part in (order[count:], order[:count]))
    return _take(data, learn, tensors), _take(data, held, tensors)


def _take(data: Any, index: Tensor, tensors: list[Tensor] | None) -> Any:
    return take(data, index) if tensors is not None else Part(data, index.tolist())


def same_form(train: Any, test: Any) -> bool:
    """Whether a metric that is written for the test data can be asked of a part of the training data.

    >>> same_form((torch.ones(9, 2), torch.ones(9)), (torch.ones(4, 2), torch.ones(4))), same_form((), [])
    (True, False)
    """
    ours, theirs = tensors_of(train), tensors_of(test)
    if ours is None or theirs is None:
        inner = train.dataset if isinstance(train, Part) else train
        return ours is theirs and type(inner) is type(test) and hasattr(test, "__getitem__")
    keys = [list(data) if isinstance(data, Mapping) else len(data) for data in (train, test)]
    return keys[0] == keys[1] and all((a.dtype, a.ndim) == (b.dtype, b.ndim) for a, b in zip(ours, theirs, strict=True))
