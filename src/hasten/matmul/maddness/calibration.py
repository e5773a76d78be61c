"""What layers are given in use: a bounded, fair sample of their input rows, seen by running the model.

All calls of a layer count, those of one forward pass too. Each row gets a random key, and the rows with the smallest
keys are kept: a uniform sample without replacement of all rows, in memory for `max_rows` of them, whatever the number
of batches. The draw depends on the seed, the layer's name and the rows' order, on nothing else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..._core import rng
from ..._core.batch import get_inputs
from ..._core.checks import refuse, refuse_type, whole
from .patches import geometry_of, patch_rows

__all__ = ["Reservoir", "batches_of", "collect", "trace_calls"]


class Reservoir:
    """At most `max_rows` rows out of all that were offered, each with the same chance.

    Args:
        max_rows: at least 1.
        generator: of the draw.
    """

    def __init__(self, max_rows: int, generator: torch.Generator) -> None:
        self.max_rows = whole("Reservoir", "max_rows", max_rows, low=1)
        self.seen, self._generator = 0, generator
        self._keys = torch.zeros(0, dtype=torch.float64)
        self._rows: Tensor | None = None

    def offer(self, count: int, take: Callable[[Tensor], Tensor]) -> None:
        """Offer `count` rows; `take` makes those (R, D) whose indices it is given, and only they are made."""
        keys = torch.rand(count, generator=self._generator, dtype=torch.float64)
        self.seen += count
        held = len(self._keys)
        every = torch.cat([self._keys, keys])
        kept = every.topk(min(self.max_rows, len(every)), largest=False).indices.sort().values
        new = take(kept[kept >= held] - held).detach().float().cpu()
        old = new[:0] if self._rows is None else self._rows[kept[kept < held]]
        self._keys, self._rows = every[kept], torch.cat([old, new])

    @property
    def rows(self) -> Tensor:
        """(R, D) float32: the rows that are held, in the order in which they came."""
        if self._rows is None:
            raise refuse("Reservoir", "rows", "none", "Offer some first.")
        return self._rows


def batches_of(call: str, calibration: Any) -> Iterator[Any]:
    """What the model is called with, batch by batch.

    Args:
        call: who asks, for the message.
        calibration: one batch as a tensor, or an iterable of batches: tensors, `(inputs, targets)` or dicts.

    Raises:
        TypeError: neither.
        ValueError: no batch in it.
    """
    if isinstance(calibration, Tensor):
        calibration = [calibration]
    if isinstance(calibration, (str, Mapping, np.ndarray)) or not isinstance(calibration, Iterable):
        array = isinstance(calibration, np.ndarray)
        fix = "Pass torch.from_numpy(array)." if array else "Pass [batch] for a single batch that is not a tensor."
        raise refuse_type(call, "a tensor or an iterable of batches", calibration, fix)
    count = 0
    for batch in calibration:
        count += 1
        yield batch if isinstance(batch, Tensor) else get_inputs(batch)
    if not count:
        raise refuse(call, "at least one batch of calibration data", "none", "A generator is empty when read again.")


def trace_calls(
    call: str, model: nn.Module, inputs: Any, layers: Mapping[str, nn.Module]
) -> dict[str, list[tuple[tuple[int, ...], torch.dtype]]]:
    """Which layers one forward pass calls, in which order, with inputs of which shape and dtype.

    Args:
        call: who asks, for messages.
        model: in evaluation mode.
        inputs: what it is called with.
        layers: by name.

    Returns:
        By name, in the order of the first calls: (shape, dtype) of each call. Layers that were not called are left out.

    Raises:
        ValueError: a model in training mode.
    """
    found: dict[str, list[tuple[tuple[int, ...], torch.dtype]]] = {}

    def note(name: str, x: Tensor) -> None:
        found.setdefault(name, []).append((tuple(x.shape), x.dtype))

    _watch(call, model, [inputs], layers, note)
    return found


def collect(
    call: str,
    model: nn.Module,
    batches: Iterable[Any],
    layers: Mapping[str, nn.Module],
    *,
    max_rows: int = 8192,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Run the model and sample the inputs of some of its layers.

    Args:
        call: who asks, for messages.
        model: in evaluation mode; it is not changed.
        batches: from `batches_of`.
        layers: `nn.Linear`, or `nn.Conv2d` with one group, by name.
        max_rows: rows kept of each layer; memory is `max_rows * D * 4` bytes for each.
        seed: of the draw.

    Returns:
        By name, in the order of the first calls: (R, D) float32; layers that were never called are left out.

    Raises:
        ValueError: a model in training mode, or an input with NaN or infinity (the message names the layer).
    """
    whole(call, "max_rows", max_rows, low=1)
    found: dict[str, Reservoir] = {}

    def sample(name: str, x: Tensor) -> None:
        if not bool(x.isfinite().all()):
            fix = "Look for the layer before that makes them."
            raise refuse(call, f"finite inputs of {name!r}", "NaN or infinity", fix)
        if name not in found:
            found[name] = Reservoir(max_rows, rng.stream(seed, name))
        _offer(found[name], layers[name], x.detach())

    _watch(call, model, batches, layers, sample)
    return {name: reservoir.rows for name, reservoir in found.items()}


def _watch(
    call: str,
    model: nn.Module,
    batches: Iterable[Any],
    layers: Mapping[str, nn.Module],
    see: Callable[[str, Tensor], None],
) -> None:
    """Run the model on each batch and show `see` the input of each call of each layer."""
    training = [name or type(model).__name__ for name, module in model.named_modules() if module.training]
    if training:
        raise refuse(call, "a model in evaluation mode", f"{training[0]!r} in training mode", "Call model.eval().")

    def hook_of(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
            see(name, args[0] if args else kwargs["input"])

        return hook

    with contextlib.ExitStack() as stack, torch.no_grad():
        for name, module in layers.items():
            stack.callback(module.register_forward_pre_hook(hook_of(name), with_kwargs=True).remove)
        for inputs in batches:
            model(inputs)


def _offer(reservoir: Reservoir, module: nn.Module, x: Tensor) -> None:
    if isinstance(module, nn.Conv2d):
        geometry, images = geometry_of(module), x if x.ndim == 4 else x[None]
        high, wide = geometry.size(images.shape[2], images.shape[3])
        reservoir.offer(images.shape[0] * high * wide, lambda index: patch_rows(images, index, geometry))
        return
    rows = x.reshape(-1, x.shape[-1])
    reservoir.offer(len(rows), lambda index: rows[index])
