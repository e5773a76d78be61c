"""What variants of a workload are made of: other activations, other norms, noise in the labels.

Programs of variants name these functions, so they work in every process, from the record alone (see `variants`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from hasten._core.batch import get_targets, replace_parts
from hasten._core.checks import check, fraction, whole
from hasten._core.rng import stream
from hasten._core.surgery import Report, replace_modules

from ..source import tensors_of

__all__ = [
    "SHARE", "NoisyLabels", "noisy_labels", "replace_activations", "replace_norms", "with_activation",
    "with_label_noise", "with_norm",
]  # fmt: skip

SHARE = 0.2  # of the labels that noise replaces: well above what an annotated data set has, far from hiding the classes
_SMOOTH = (nn.ReLU, nn.ReLU6, nn.LeakyReLU)  # become SiLU
_OTHERS = (nn.GELU, nn.SiLU, nn.Mish, nn.ELU, nn.CELU, nn.SELU, nn.Softplus, nn.Hardswish, nn.Tanh)  # become ReLU
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
GROUPS, GROUP = 32, 4  # of group norm: at most its paper's 32 groups (arXiv 1803.08494), at least 4 channels in each


def replace_activations(model: nn.Module) -> Report:
    """Replace activation modules in place: ReLU and its leaky kin by SiLU, the others by ReLU.

    None of them has parameters, so the state dict keeps its names. PReLU, which has one, and Sigmoid, which is a gate
    or an output as often as an activation, stay.
    """

    def make(name: str, module: nn.Module) -> nn.Module | None:
        inplace = bool(getattr(module, "inplace", False))
        if type(module) in _SMOOTH:
            return nn.SiLU(inplace)
        return nn.ReLU(inplace) if type(module) in _OTHERS else None

    return replace_modules(model, make, surgery="replace_activations")


def replace_norms(model: nn.Module) -> Report:
    """Replace norms in place: batch norm by group norm, layer norm by RMS norm.

    Scales and shifts stay the same parameters under the same names; running statistics, and the shifts of layer norms,
    which RMS norm (arXiv 1910.07467) does not have, go. A batch norm of one channel stays: alone in its group a channel
    of one value would always become 0.
    """

    def make(name: str, module: nn.Module) -> nn.Module | None:
        if isinstance(module, _BATCH_NORMS) and type(module) in _BATCH_NORMS and module.num_features > 1:
            groups = _groups(module.num_features)
            made: nn.Module = nn.GroupNorm(groups, module.num_features, eps=module.eps, affine=module.affine)
            made.weight, made.bias = module.weight, module.bias
            return made
        if type(module) is nn.LayerNorm:
            shape = list(module.normalized_shape)
            root = nn.RMSNorm(shape, eps=module.eps, elementwise_affine=module.elementwise_affine)
            root.weight = module.weight
            return root
        return None

    return replace_modules(model, make, surgery="replace_norms")


def _groups(channels: int) -> int:
    """The most groups that divide the channels, within the limits; 1 where none does.

    >>> [_groups(channels) for channels in (2, 7, 8, 24, 64, 512)]
    [1, 1, 2, 6, 16, 32]
    """
    return max((n for n in range(1, GROUPS + 1) if channels % n == 0 and channels // n >= GROUP), default=1)


def with_activation(model: nn.Module) -> nn.Module:
    """`model` with other activations, for a program's `model` slot (see `replace_activations`)."""
    replace_activations(model)
    return model


def with_norm(model: nn.Module) -> nn.Module:
    """`model` with other norms, for a program's `model` slot (see `replace_norms`)."""
    replace_norms(model)
    return model


def noisy_labels(
    labels: Tensor,  # any shape, whole numbers below `classes`; negative ones are no labels and stay
    classes: int,
    *,
    share: float = SHARE,
    generator: torch.Generator,
) -> Tensor:
    """A copy of `labels` in which `share` of them, rounded, are another class: each other one equally likely.

    Args:
        labels: class indices.
        classes: how many there are, at least 2.
        share: in [0, 1].
        generator: where every draw comes from.

    Returns:
        Labels of the same shape and dtype.

    Raises:
        ValueError: fewer than two classes, a share out of range, or a label that is no class.

    >>> noisy_labels(torch.tensor([0, 1, 0, -100]), 2, share=1.0, generator=torch.Generator().manual_seed(0)).tolist()
    [1, 0, 1, -100]
    """
    whole("noisy_labels", "classes", classes, low=2)
    fraction("noisy_labels", "share", share)
    flat = labels.flatten().long()
    places = (flat >= 0).nonzero().flatten()
    highest = int(flat.max()) if len(flat) else 0
    check(highest < classes, "noisy_labels", f"labels below {classes}", highest, "Pass the number of classes.")
    chosen = places[torch.randperm(len(places), generator=generator)[: _count(share, len(places))]]
    flat = flat.clone()
    flat[chosen] = (flat[chosen] + torch.randint(1, classes, (len(chosen),), generator=generator)) % classes
    return flat.view(labels.shape).to(labels.dtype)


def _count(share: float, n: int) -> int:
    return math.floor(share * n + 0.5)


class NoisyLabels:
    """A map-style dataset with noise in its labels: a share of the samples, or of each sample's labels if it has many.

    Args:
        dataset: samples `(inputs, label)` or dicts.
        classes: how many there are, at least 2.
        share: in [0, 1].
    """

    def __init__(self, dataset: Any, classes: int, share: float = SHARE) -> None:
        self.dataset, self.classes, self.share = dataset, classes, share
        generator = stream(0, "label_noise")
        chosen = torch.randperm(len(dataset), generator=generator)[: _count(share, len(dataset))]
        self.shift = torch.zeros(len(dataset), dtype=torch.long)
        self.shift[chosen] = torch.randint(1, classes, (len(chosen),), generator=generator)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        sample = self.dataset[index]
        label = get_targets(sample)
        if isinstance(label, Tensor) and label.ndim:
            generator = stream(0, "label_noise", index)
            return replace_parts(
                sample, targets=noisy_labels(label, self.classes, share=self.share, generator=generator)
            )
        return sample if label < 0 else replace_parts(sample, targets=(label + int(self.shift[index])) % self.classes)


def with_label_noise(seed: int, *, source: Callable[[int], Any], classes: int, share: float = SHARE) -> Any:
    """Training data with noise in the labels, for a program's `data` slot.

    Which labels are replaced, and by what, does not depend on the seed: it belongs to the question, so all runs of all
    arms learn from the same labels.

    Args:
        seed: handed on to `source`.
        source: `(seed) -> training data`.
        classes: how many there are.
        share: of the labels that are replaced, in [0, 1].
    """
    data = source(seed)
    if tensors_of(data) is None:
        return NoisyLabels(data, classes, share)
    generator = stream(0, "label_noise")
    return replace_parts(data, targets=noisy_labels(get_targets(data), classes, share=share, generator=generator))
