"""Data: batch transforms, the selection of samples, and the order in which they are visited.

A batch transform is `t(batch, *, generator, **args) -> batch` for a batch `(inputs, targets)` or a dict; it returns a
new batch and draws only from `generator`.
"""

from __future__ import annotations

from .._core.batch import MixedTargets
from .cutmix import cutmix, draw_boxes
from .mixup import mixup
from .order import in_order, shuffled
from .resizing import ResizingSchedule, resize, resizing_schedule, scaled_size
from .selection import select_by_loss, selection_active, selection_weights

__all__ = [
    "MixedTargets", "ResizingSchedule", "cutmix", "draw_boxes", "in_order", "mixup", "resize", "resizing_schedule",
    "scaled_size", "select_by_loss", "selection_active", "selection_weights", "shuffled",
]  # fmt: skip
