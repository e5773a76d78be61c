"""Stochastic depth (arXiv 1603.09382): in training, leave out residual branches at random.

`shortcut(x) + branch(x)` becomes `shortcut(x) + mask * branch(x)` with `mask = Bernoulli(1 - rate) / (1 - rate)` in
training and 1 in evaluation, so the expectation over masks is what evaluation computes. (The paper leaves the mask
unscaled in training and multiplies by `1 - rate` in evaluation: the same up to the branch's scale.)

Nothing is drawn inside the forward pass: a generator cannot enter a compiled region, and a draw from the global one
would shift everybody else's. `draw_stochastic_depth(model, batch_size, generator)` draws for all branches before the
pass. A mask stays until the next draw, so the second pass of SAM, recomputation in activation checkpointing and further
microbatches of a step see the same one; a training pass before the first draw is an error.

`method="block"` draws once per branch and pass: in eager mode a dropped branch is not computed at all and returns a
zero of no dimensions, which broadcasts in the sum. Its parameters then have no gradient (`None`), its batch norms see
no batch. Under torch.compile the branch is computed and multiplied by 0: no time is saved, gradients are zero instead
of `None` (an optimizer then applies momentum and weight decay), and its batch norms do see the batch.
`method="sample"` draws once per sample: the branch is always computed; it regularises, it never saves time.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from .._core.checks import below_one, near, refuse, refuse_type, whole
from .._core.surgery import Report, parents_of, replace_modules

__all__ = ["StochasticDepth", "apply_stochastic_depth", "draw_stochastic_depth"]

METHODS = ("block", "sample")
DISTRIBUTIONS = ("linear", "uniform")


class StochasticDepth(nn.Module):
    """A residual branch that a mask can leave out in training; evaluation runs the plain branch.

    Args:
        branch: the module inside `shortcut(x) + branch(x)`; it must return one tensor.
        rate: probability that it is left out, in [0, 1); 0 never.
        method: "block" for one draw per pass, "sample" for one per sample.
    """

    mask: Tensor  # () for "block", (batch,) for "sample": 0 or 1 / (1 - rate)

    def __init__(self, branch: nn.Module, rate: float, method: str = "block") -> None:
        super().__init__()
        below_one("StochasticDepth", "rate", rate, "A branch that is always left out can be deleted.")
        _among("StochasticDepth", "method", method, METHODS)
        self.branch, self.rate, self.method = branch, float(rate), method
        device = next((p.device for p in branch.parameters()), None)
        shape = () if method == "block" else (0,)
        self.register_buffer("mask", torch.zeros(shape, device=device), persistent=False)
        self.drawn = False
        self.kept = True

    def set_mask(
        self,
        kept: Tensor,  # () or (batch,), bool, on the CPU
    ) -> None:
        """Use this mask from now on: which passes ("block") or samples ("sample") keep the branch."""
        scale = 1.0 / (1.0 - self.rate)
        if self.method == "block":
            self.kept = bool(kept)
            self.mask.fill_(scale if self.kept else 0.0)  # in place, and no copy from the host
        elif kept.shape == self.mask.shape:
            self.mask.copy_(kept * scale)
        else:
            self.mask = (kept * scale).to(self.mask.device, self.mask.dtype)
        self.drawn = True

    def forward(
        self,
        x: Tensor,  # (batch, ...)
        *others: Any,  # what else the branch takes, such as an attention mask
    ) -> Tensor:
        """`mask * branch(x)`; in eager block mode a zero of no dimensions where the branch is left out."""
        if not self.training or self.rate == 0:
            return self.branch(x, *others)
        if not self.drawn:
            fix = "Call draw_stochastic_depth(model, batch_size, generator) before the forward pass."
            raise RuntimeError(f"StochasticDepth: expected a mask drawn for this training pass, got none. {fix}")
        # Compiling is asked first, so that no compiled graph depends on `kept`, which changes with every draw.
        if self.method == "block" and not torch.compiler.is_compiling() and not self.kept:
            return x.new_zeros(())
        out = self.branch(x, *others)
        mask = self.mask.to(out.dtype)
        if self.method == "sample":
            if out.shape[0] != mask.shape[0]:
                fix = "Draw with the batch size of this forward pass."
                raise refuse("StochasticDepth", f"a batch of {mask.shape[0]}, as drawn", f"{out.shape[0]}", fix)
            mask = mask.view(-1, *[1] * (out.ndim - 1))
        return out * mask

    @property
    def flops_key(self) -> bool:
        """What the cost of the next pass depends on: whether the branch is computed."""
        return not self.training or self.kept

    def compute_all(self) -> None:
        """Compute the branch in the next pass, whatever was drawn, as a compiled graph does; for counting."""
        self.kept = True

    def extra_repr(self) -> str:
        """The layer's arguments."""
        return f"rate={self.rate:g}, method={self.method!r}"


def _among(call: str, name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise refuse(call, f"{name} among {', '.join(map(repr, known))}", repr(value), near(str(value), known))


def draw_stochastic_depth(model: nn.Module, batch_size: int, generator: torch.Generator) -> None:
    """Draw the masks of every `StochasticDepth` in `model` for the next training pass.

    Args:
        model: the raw model (not the compiled one; both share the buffers).
        batch_size: samples in the pass; only `method="sample"` uses it.
        generator: a CPU generator. Each branch takes one draw ("block") or `batch_size` draws ("sample"), in definition
            order, also at rate 0: changing a rate does not shift the others' draws.

    Raises:
        ValueError: `batch_size` below 1.
        TypeError: no generator.
    """
    whole("draw_stochastic_depth", "batch_size", batch_size, low=1)
    if not isinstance(generator, torch.Generator):
        raise refuse_type("draw_stochastic_depth", "a torch.Generator", generator, "Pass torch.Generator().")
    for module in model.modules():
        if isinstance(module, StochasticDepth):
            shape = () if module.method == "block" else (batch_size,)
            module.set_mask(torch.rand(shape, generator=generator) >= module.rate)


def apply_stochastic_depth(
    model: nn.Module,
    *,
    branches: str = "branch",
    drop_rate: float = 0.2,
    distribution: str = "linear",
    method: str = "block",
    generator: torch.Generator | None = None,
) -> Report:
    """Wrap the residual branches of `model` in `StochasticDepth`, in place.

    For deep residual models with the form `shortcut(x) + branch(x)`. Draw before every training pass
    (`draw_stochastic_depth`). While it is applied, state_dict keys below a branch have one more `branch.`; `undo()`
    gives the plain model and its keys back, for export. A branch inside a branch is not wrapped again.

    Args:
        model: the model.
        branches: which modules are branches: an attribute name, or a glob on the full module name
            (`"layer[34].*.branch"`).
        drop_rate: probability of leaving out the last branch ("linear") or each one ("uniform"), in [0, 1).
        distribution: "linear" gives branch `l` of `L` the rate `drop_rate * l / L`; "uniform" gives all the same.
        method: "block" (one draw per branch and pass, saves time in eager mode) or "sample" (one per sample).
        generator: not used (masks are drawn later); every surgery takes it.

    Returns:
        Report naming the wrapped branches.

    Raises:
        ValueError: an argument outside its range, or a branch that has stochastic depth already.

    Warns:
        NoEffectWarning: no module matched; the message lists candidates.

    Source: arXiv 1603.09382.
    """
    call = "apply_stochastic_depth"
    below_one(call, "drop_rate", drop_rate)
    _among(call, "distribution", distribution, DISTRIBUTIONS)
    _among(call, "method", method, METHODS)

    def matches(name: str) -> bool:
        return fnmatchcase(name.rpartition(".")[2], branches) or fnmatchcase(name, branches)

    for _, _, name, module in parents_of(model):
        if matches(name) and any(isinstance(inner, StochasticDepth) for inner in module.modules()):
            raise refuse(call, "branches without stochastic depth", f"{name!r}, which has it", "Call undo() first.")
    report = replace_modules(
        model,
        lambda name, module: StochasticDepth(module, 0.0, method) if matches(name) else None,
        surgery="stochastic_depth",
    )
    for position, name in enumerate(report.changed, start=1):
        share = position / len(report) if distribution == "linear" else 1.0
        module = model.get_submodule(name)
        assert isinstance(module, StochasticDepth)
        module.rate = drop_rate * share
    names = sorted({attribute for _, attribute, _, _ in parents_of(model) if not attribute.isdigit()})
    return report.warn_if_empty(f"modules that match branches={branches!r} (attributes here: {', '.join(names)})")
