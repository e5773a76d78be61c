"""Methods: speedups as functions from programs to programs. Thin wrappers; the pieces work alone.

>>> from hasten.methods import catalogue
>>> catalogue()["blurpool"].card.component
<Component.FUNCTION: 'function'>
"""

from __future__ import annotations

from hasten._core.checks import near, refuse
from hasten.program import MethodFactory, plug_ins

from .data import cutmix, mixup, progressive_resizing, selective_backprop
from .function import blurpool, channels_last, gradual_pruning, layer_freezing, stochastic_depth
from .optimization import ema, flash_adamw, flash_lion, flash_sgd, gradient_clipping, label_smoothing, sam

__all__ = [
    "blurpool", "catalogue", "channels_last", "cutmix", "ema", "find", "flash_adamw", "flash_lion", "flash_sgd",
    "gradient_clipping", "gradual_pruning", "label_smoothing", "layer_freezing", "mixup", "progressive_resizing", "sam",
    "selective_backprop", "stochastic_depth",
]  # fmt: skip

OURS = (
    blurpool, channels_last, cutmix, ema, flash_adamw, flash_lion, flash_sgd, gradient_clipping, gradual_pruning,
    label_smoothing, layer_freezing, mixup, progressive_resizing, sam, selective_backprop, stochastic_depth,
)  # fmt: skip


def catalogue() -> dict[str, MethodFactory]:
    """Every method by name: ours, then those of installed packages (entry points of the group `hasten.methods`).

    Raises:
        ValueError: an entry point that cannot be loaded, is not a method, or takes a name that is taken.
    """
    found = {factory.name: factory for factory in OURS}
    for point in plug_ins():
        try:
            factory = point.load()
        except (ImportError, AttributeError) as error:
            fix = "Update or uninstall its package."
            raise refuse("methods", "a plug-in that can be loaded", f"{point.value} ({error})", fix) from error
        if not isinstance(factory, MethodFactory) or point.name != factory.name:
            raise refuse("methods", f"a method named {point.name!r} at {point.value}", factory)
        if point.name in found:
            raise refuse("methods", f"a name that is free, for {point.value}", repr(point.name))
        found[point.name] = factory
    return found


def find(name: str) -> MethodFactory:
    """The method of this name; near names if there is none."""
    known = catalogue()
    if name not in known:
        raise refuse("methods", "the name of a method", repr(name), near(name, known))
    return known[name]
