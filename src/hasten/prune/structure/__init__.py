"""Structure: which channels and heads of a model go together, masks of them, and the model without them.

    fields     which channel each element of a tensor belongs to
    rules      how operations on elements and shapes move that; `reductions` and `products` have the others
    trace      the model's forward pass, watched
    groups     what goes together
    channels   masks of whole channels and heads
    cut        parameters, buffers and attributes of the smaller model
    materialize   the smaller model, checked against the one it comes from

The pass is watched at the level of ATen operations, of which there are few: no module has to be known by its class.
Understood are convolutions with groups, matrix products, attention, norms, residual sums, concatenation, splits into
equal parts, views, transposes, expansions, pooling, everything elementwise. What is not understood holds what reaches
it: a model is never cut wrongly, only less, and `Groups.fixed` names what holds.

Three things stay by choice. A layer norm takes statistics over the channels of its input, so the residual stream of a
transformer cannot lose one and compute the same; heads and hidden features can. A convolution with groups loses whole
groups if it has at least as many groups as channels in one, otherwise the same places of every group. Features of a
head stay, because the scale of attention depends on how many there are.
"""

from __future__ import annotations

from .attention import NarrowAttention
from .channels import channel_masks, head_masks
from .groups import Group, Groups, Slice, groups
from .materialize import Removed, materialize

__all__ = [
    "Group", "Groups", "NarrowAttention", "Removed", "Slice", "channel_masks", "groups", "head_masks", "materialize",
]  # fmt: skip
