"""What the image workloads share: normalising, the loss, and reading arrays from files."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hasten._core.batch import get_targets
from hasten._core.checks import check, refuse

__all__ = ["check_labels", "normalise", "read_npz", "sample_cross_entropy"]


def sample_cross_entropy(outputs: Tensor, batch: Any) -> Tensor:
    """Cross-entropy in nats per sample, shape (batch,), of logits `outputs` (batch, classes)."""
    return F.cross_entropy(outputs, get_targets(batch), reduction="none")


def normalise(
    images: np.ndarray,  # (n, channels, height, width) uint8
    mean: Sequence[float],
    std: Sequence[float],
) -> Tensor:
    """`(images / 255 - mean) / std` in float32, `mean` and `std` per channel of images in [0, 1]."""
    result = torch.from_numpy(images).float()
    shape = (1, len(mean), 1, 1)
    # in place: a data set of images in float32 is large, so no second copy is made
    return result.sub_(255 * torch.tensor(mean).view(shape)).div_(255 * torch.tensor(std).view(shape))


def read_npz(path: Path, expected: Mapping[str, tuple[tuple[int, ...], type]]) -> dict[str, np.ndarray]:
    """Arrays of an npz file by name, each of the shape (-1: any) and dtype expected; nothing is unpickled.

    Raises:
        ValueError: not an npz file, or an array missing, of another shape or of another dtype.
    """
    fix = "Replace the file by the original."
    check(zipfile.is_zipfile(path), str(path), f"an npz file with {', '.join(expected)}", "no whole archive", fix)
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in expected}
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, ValueError) as error:
        raise refuse(str(path), f"an npz file with {', '.join(expected)}", str(error), fix) from error
    for name, (shape, dtype) in expected.items():
        array = arrays[name]
        fits = array.ndim == len(shape) and all(a in (-1, b) for a, b in zip(shape, array.shape, strict=True))
        check(fits and array.dtype == dtype, str(path), f"{name} {shape} of {np.dtype(dtype)}", array, fix)
    return arrays


def check_labels(call: str, labels: np.ndarray, per_class: int) -> None:
    """Refuse labels that are not ten classes of `per_class` samples each."""
    counts = np.bincount(labels, minlength=10)
    fits = len(counts) == 10 and bool((counts == per_class).all())
    check(fits, call, f"{per_class} samples of each of ten classes", counts.tolist(), "Replace the file.")
