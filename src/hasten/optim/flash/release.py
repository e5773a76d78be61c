"""Gradient release: step each parameter inside `backward()` and free its gradient at once.

A hook on every parameter fires when its gradient is complete, lets the optimizer step that one parameter and frees the
gradient. At most a few gradients are alive at a time: 2 to 4 bytes per parameter less at the peak.

Nothing of the optimizer is replaced. After such a backward pass no gradient is left, so `optimizer.step()` finds
nothing to do and `zero_grad()` nothing to clear; `step(closure)` runs its closure, whose backward pass does the work;
step hooks and learning-rate schedulers see the call. The training loop stays as it was, `step()` included: it also
steps the parameters that have no hook yet (thawed or added later), and marks the end of a step for `clip_norm`.

What the hook does, in this order: unscale (GradScaler), clip, ask `pre_step`, step, free.

**Clipping** by the norm of the whole gradient needs all of it, which never exists here. Instead
`g *= min(1, clip_norm / max(norm of the last step's whole gradient, norm of this one's so far))`: the delayed norm,
and beside it what is already known, so that neither the first step nor a sudden spike passes unclipped. No parameter's
clipped gradient is longer than `clip_norm`. Norms stay tensors on their device; nothing waits for a GPU.

**Impossible** with it: gradient accumulation (the second backward pass is a second step), `scaler.unscale_`, clipping
by the exact norm, SAM and other optimizers that call `backward` twice per step, reentrant checkpointing of layers that
share weights (each inner backward pass would be a step).

Differs from the published reference: `step(closure)` runs the closure, GradScaler and clipping work, a vetoed gradient
is freed, groups are looked up at each step (so a loaded state takes effect), a forgotten parameter is an error.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.amp.grad_scaler import OptState
from torch.optim import Optimizer
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from ..._core.checks import positive, refuse, refuse_type
from ..._core.wrappers import wrapper_of
from .._options import dense_gradient

__all__ = ["GradientRelease", "enable_gradient_release"]

_CALL = "enable_gradient_release"
PreStep = Callable[[nn.Parameter, dict[str, Any]], bool]


def whole_norm(gradient: Tensor) -> Tensor:
    """The L2 norm of a gradient, at least float32; of a sharded one, over all ranks that hold a shard.

    >>> whole_norm(torch.tensor([3.0, 4.0], dtype=torch.bfloat16))
    tensor(5.)
    """
    dtype = torch.promote_types(gradient.dtype, torch.float32)
    norm = torch.linalg.vector_norm(gradient, dtype=dtype)
    gather = getattr(norm, "full_tensor", None)
    return norm if gather is None else gather()


def unscale(gradient: Tensor, inverse_scale: Tensor) -> Tensor:
    """Multiply a gradient by `inverse_scale` in place; 1.0 if an entry is not finite, else 0.0, on its device."""
    found = torch.zeros((), device=gradient.device)
    factor = inverse_scale.to(gradient.device, non_blocking=True)
    torch._amp_foreach_non_finite_check_and_unscale_([gradient], found, factor)
    return found


class DelayedNorm:
    """Factors for clipping without the norm of the whole gradient: see the top of this file.

    Attributes:
        last: norm of the last step's whole gradient, None before the first step ends.
        running: norm of this step's gradients so far, None when there are none yet.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.last: Tensor | None = None
        self.running: Tensor | None = None

    def factor(self, norm: Tensor) -> Tensor:
        """Count the norm of one more gradient; what to multiply that gradient by.

        A norm that is not finite does not count: that gradient goes its way, and the others are not lost to it.

        >>> clipping = DelayedNorm(1.0)
        >>> [float(clipping.factor(torch.tensor(norm))) for norm in (0.5, 4.0)]
        [1.0, 0.248069...]
        """
        counted = torch.where(norm.isfinite(), norm, 0.0)
        self.running = counted if self.running is None else torch.hypot(self.running.to(norm.device), counted)
        known = self.running if self.last is None else torch.maximum(self.running, self.last.to(norm.device))
        return (self.limit / known).clamp(max=1.0)  # a norm of 0 gives inf, clamped to 1

    def end_of_step(self) -> None:
        """What ran up so far was a whole gradient."""
        if self.running is not None:
            self.last, self.running = self.running, None


class GradientRelease:
    """The hooks of one `enable_gradient_release`; a context manager that removes them at its end."""

    def __init__(
        self, optimizer: Optimizer, scaler: GradScaler | None, pre_step: PreStep | None, clipping: DelayedNorm | None
    ) -> None:
        self._optimizer = weakref.ref(optimizer, lambda _: self.remove())
        self._scaler, self._pre_step, self._clipping = scaler, pre_step, clipping
        self._groups: dict[int, dict[str, Any]] = {}
        self._hooked: dict[int, Any] = {}
        self._seen: set[int] = set()
        self._step_hooks = [
            optimizer.register_step_pre_hook(lambda *_: self._step_what_is_left()),
            optimizer.register_step_post_hook(lambda *_: self._end_of_step()),
        ]

    @property
    def active(self) -> bool:
        """True until `remove()`, or until the optimizer is gone."""
        return bool(self._step_hooks)

    @property
    def gradient_norm(self) -> Tensor | None:
        """Norm of the last step's whole gradient before clipping (0-dim, on its device); None without `clip_norm`."""
        return None if self._clipping is None else self._clipping.last

    def remove(self) -> None:
        """Take the hooks away: gradients accumulate again, and `optimizer.step()` steps. A second call does nothing."""
        for hook in (*self._hooked.values(), *self._step_hooks):
            hook.remove()
        self._hooked.clear()
        self._step_hooks.clear()

    def __enter__(self) -> GradientRelease:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def _watch(self, parameter: nn.Parameter) -> None:
        self._hooked[id(parameter)] = parameter.register_post_accumulate_grad_hook(self._release)

    def _step_what_is_left(self) -> None:
        """Before `optimizer.step()`: step the parameters that have no hook yet, and give them one."""
        optimizer = self._optimizer()
        for parameter in () if optimizer is None else _trained(optimizer):
            if parameter.grad is not None:
                self._release(parameter)
            if id(parameter) not in self._hooked:
                self._watch(parameter)

    def _end_of_step(self) -> None:
        self._seen.clear()
        self._groups.clear()  # until the next step, a loaded state may replace them
        if self._clipping is not None:
            self._clipping.end_of_step()

    @torch.no_grad()
    def _release(self, parameter: nn.Parameter) -> None:
        """The hook: unscale, clip, ask, step, free."""
        optimizer = self._optimizer()
        if optimizer is None or parameter.grad is None:
            return
        if id(parameter) in self._seen:
            self._end_of_step()  # a second backward pass without optimizer.step() between
        self._seen.add(id(parameter))
        if self._prepare(optimizer, parameter) and self._allowed(optimizer, parameter):
            optimizer.step_param(parameter)  # type: ignore[attr-defined]
        parameter.grad = None

    def _prepare(self, optimizer: Optimizer, parameter: nn.Parameter) -> bool:
        """Unscale and clip the gradient; False if it is not to be used."""
        gradient = dense_gradient(_CALL, parameter)
        assert gradient is not None
        if self._scaler is not None:
            if gradient.dtype == torch.float16 and not is_traceable_wrapper_subclass(gradient):
                gradient.data = gradient.float()  # unscaled in float16, small gradients would be lost after all
            found = unscale(gradient, _inverse_scale(self._scaler))
            _report(self._scaler, optimizer, found)
            if found.item():
                return False
        if self._clipping is not None:
            gradient.mul_(self._clipping.factor(whole_norm(gradient)))
        return True

    def _allowed(self, optimizer: Optimizer, parameter: nn.Parameter) -> bool:
        if self._pre_step is None:
            return True
        if id(parameter) not in self._groups:
            self._groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
        answer = self._pre_step(parameter, self._groups[id(parameter)])
        if answer is None:
            raise refuse_type(_CALL, "True or False from pre_step", answer, "Return True to step, False to skip.")
        return bool(answer)


def _inverse_scale(scaler: GradScaler) -> Tensor:
    scale = scaler._scale
    if scale is None:
        raise refuse(_CALL, "a scaled loss", "an unscaled one", "Call grad_scaler.scale(loss).backward().")
    return scale.double().reciprocal().float() if scale.device.type != "mps" else scale.reciprocal()


def _report(scaler: GradScaler, optimizer: Optimizer, found: Tensor) -> None:
    """Tell the scaler that this optimizer's gradients are unscaled, and whether one was not finite.

    As after `scaler.unscale_(optimizer)`: `scaler.step` then unscales nothing, `scaler.update` adapts the scale.
    """
    state = scaler._per_optimizer_states[id(optimizer)]
    state["stage"] = OptState.UNSCALED
    devices = state["found_inf_per_device"]
    devices[found.device] = torch.maximum(devices[found.device], found) if found.device in devices else found


def _trained(optimizer: Optimizer) -> list[nn.Parameter]:
    return [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]


def _check_arguments(model: nn.Module, optimizer: Optimizer, grad_scaler: GradScaler | None, pre_step: Any) -> None:
    if not isinstance(model, nn.Module):
        raise refuse_type(_CALL, "a torch module", model, "Pass the model whose parameters the optimizer holds.")
    wrapper = wrapper_of(model)
    if wrapper is not None:
        fix = "It hands gradients out after the hooks have run. Use FSDP2 (torch.distributed.fsdp.fully_shard)."
        raise refuse_type(_CALL, "a model that no wrapper synchronises", f"one inside {wrapper}", fix)
    if not isinstance(optimizer, Optimizer) or not callable(getattr(optimizer, "step_param", None)):
        fix = "Use an optimizer of hasten.optim.flash."
        raise refuse_type(_CALL, "an optimizer with step_param(parameter)", type(optimizer).__name__, fix)
    if grad_scaler is not None and not isinstance(grad_scaler, GradScaler):
        raise refuse_type(_CALL, "a torch.amp.GradScaler", grad_scaler, 'Pass torch.amp.GradScaler("cuda").')
    if pre_step is not None and not callable(pre_step):
        raise refuse_type(_CALL, "pre_step(parameter, group) -> bool", pre_step, "Pass a function.")


def enable_gradient_release(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    grad_scaler: GradScaler | None = None,
    pre_step: PreStep | None = None,
    clip_norm: float | None = None,
) -> GradientRelease:
    """Step every parameter of `optimizer` as soon as its gradient is complete, and free the gradient.

    For training at the limit of memory, one backward pass per step. Keep the loop as it is, with `optimizer.step()`
    and `zero_grad()`; do not accumulate gradients. The result equals the plain loop's bit for bit, clipping aside. A
    model compiled as one graph hands all its gradients out together at the end: compile it block by block instead.

    Args:
        model: bare, or sharded with FSDP2 (`fully_shard`, before the optimizer is built). Parameters that the
            optimizer does not hold are left alone: a second optimizer may have a release of its own.
        optimizer: has `step_param(parameter)`; held weakly, its end is the end of the release.
        grad_scaler: unscale each gradient by it. One that is not finite is dropped without a step, and `update()`
            lowers the scale; gradients that were finite have been stepped by then, a step is not skipped as a whole.
            Call `scale`, `step` and `update` as ever, but not `unscale_`. Costs a wait for the GPU per parameter.
            Gradients in float16 are handed to the optimizer in float32.
        pre_step: called as `pre_step(parameter, group)` with the gradient as it will be used; False drops it.
        clip_norm: above 0; scale gradients by `min(1, clip_norm / norm)` with the larger of the last whole gradient's
            norm and the norm of this one so far. With FSDP2 that is one small all-reduce per parameter.

    Returns:
        The release: `remove()` ends it, `active` tells, `gradient_norm` is the last norm; also a context manager.

    Raises:
        TypeError: a model in DDP, FSDP1 or DataParallel; an optimizer without `step_param`; wrong types.
        ValueError: a parameter of the optimizer is not the model's, or is released already; `clip_norm` not above 0.

    >>> class StepwiseSGD(torch.optim.SGD):
    ...     def step_param(self, parameter):
    ...         parameter.sub_(parameter.grad, alpha=self.param_groups[0]["lr"])
    >>> model = nn.Linear(2, 1, bias=False)
    >>> optimizer = StepwiseSGD(model.parameters(), lr=0.1)
    >>> with enable_gradient_release(model, optimizer):
    ...     model(torch.ones(1, 2)).sum().backward()
    >>> model.weight.grad is None
    True

    Source: arXiv 2602.23349.
    """
    _check_arguments(model, optimizer, grad_scaler, pre_step)
    limit = None if clip_norm is None else positive(_CALL, "clip_norm", clip_norm)
    parameters = _trained(optimizer)
    owned = {id(p) for p in model.parameters()}
    foreign = sum(id(p) not in owned for p in parameters)
    fix = "Pass the model that holds them, or freeze them with requires_grad_(False)."
    if foreign:
        raise refuse(_CALL, "an optimizer of this model's parameters", f"{foreign} that are not", fix)
    if any(_is_released(p) for p in parameters):
        raise refuse(_CALL, "parameters that are not released yet", "some that are", "Call remove() on the former.")

    scaler = grad_scaler if grad_scaler is not None and grad_scaler.is_enabled() else None
    release = GradientRelease(optimizer, scaler, pre_step, None if limit is None else DelayedNorm(limit))
    for parameter in parameters:
        release._watch(parameter)
    return release


def _is_released(parameter: nn.Parameter) -> bool:
    hooks = parameter._post_accumulate_grad_hooks or {}
    return any(isinstance(getattr(hook, "__self__", None), GradientRelease) for hook in hooks.values())
