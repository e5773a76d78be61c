"""What the optimizers of this room share: options, the step over all parameters, and state that survives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..._core import dispatch
from ..._core.checks import check, refuse, refuse_type
from .._options import call_closure, check_learning_rate, check_not_negative, dense_gradient, number
from .._state import KeepsState
from . import backends, checkpoint
from .backends import Choice
from .companding import check_group_size
from .numerics import check_steps, largest_weights
from .plan import plan_for
from .report import MemoryReport, memory_report
from .slots import Slot, is_current, local, new_state

__all__ = ["FlashOptimizer"]

# Options of a group that are on or off.
_SWITCHES = ("quantize", "decouple_lr", "stochastic_rounding", "maximize", "capturable")
# What is no option of a group: how the optimizer behaves, not what it computes.
_BEHAVIOUR = ("backend", "compress_state_dict", "check_numerics", "skip_nonfinite")


class FlashOptimizer(KeepsState):
    """Base of `FlashAdamW`, `FlashAdam`, `FlashSGD`, `FlashSGDW` and `FlashLion`; see there.

    A subclass names its rule, checks the options of its own and says whether weight decay is decoupled.

    Args:
        params: parameters, or groups of them with options of their own.
        defaults: the options of the rule.
        master_weight_bits: bits of a 16-bit weight together with its correction: 24, 32, or None for no correction
            (then steps below half a place of the weight are lost, unless `stochastic_rounding`). Wider parameters
            need none.
        quantize: keep states in 8 bits; False keeps them in float32.
        group_size: elements that share a scale: 32, 64, 128, 256 or 512.
        decouple_lr: weight decay is a rate of its own: `weight_decay * lr / initial_lr` a step instead of
            `weight_decay * lr`.
        compress_state_dict: `state_dict` holds the codes (True), or float32 states under torch's names, which
            torch.optim loads (False). Both come back exactly.
        check_numerics: raise `NumericsError` where a learning rate is so small that typical steps are lost.
        skip_nonfinite: leave out a step in which any gradient is not finite.
        stochastic_rounding: without a correction, round weights at random so that the mean is exact.
        maximize: go up instead of down.
        foreach, fused: torch's options. `foreach=True` is refused, `fused=False` is the eager backend, `fused=True`
            demands a kernel.
        capturable: keep the counter of steps on the GPU, for CUDA graphs.
        differentiable: refused.
        backend: "auto", or "native", "triton", "compiled", "eager" (`explain` says what runs and why).
    """

    rule: ClassVar[str]
    decoupled: ClassVar[bool] = True

    def __init__(
        self,
        params: Any,
        defaults: dict[str, Any],
        *,
        master_weight_bits: int | None = 24,
        quantize: bool = True,
        group_size: int = 32,
        decouple_lr: bool = False,
        compress_state_dict: bool = True,
        check_numerics: bool = False,
        skip_nonfinite: bool = False,
        stochastic_rounding: bool = False,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        backend: str = "auto",
    ) -> None:
        call = type(self).__name__
        check(not foreach, call, "foreach=None or False", foreach, "Leave it out: one pass steps all parameters.")
        check(not differentiable, call, "differentiable=False", differentiable, "Use torch.optim for that.")
        self.backend = _backend(call, fused, backend)
        self.compress_state_dict, self.check_numerics = bool(compress_state_dict), bool(check_numerics)
        self.skip_nonfinite = bool(skip_nonfinite)
        options = {
            "master_weight_bits": master_weight_bits, "quantize": quantize, "group_size": group_size,
            "decouple_lr": decouple_lr, "stochastic_rounding": stochastic_rounding, "maximize": maximize,
            "capturable": capturable,
        }  # fmt: skip
        super().__init__(params, {**defaults, **options})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters; options that the group does not name are those of the constructor."""
        if isinstance(param_group, dict):
            self._check_group({**self.defaults, **param_group})
            _check_once(type(self).__name__, param_group)
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        if group["decouple_lr"]:
            lr = group["lr"]
            group.setdefault("initial_lr", lr.clone() if isinstance(lr, Tensor) else lr)
        self._forget_places()

    def _check_group(self, group: Mapping[str, Any]) -> None:
        """Refuse options that make no sense; subclasses check those of their rule and call this."""
        call = type(self).__name__
        check_learning_rate(call, group["lr"])
        check_not_negative(call, "weight_decay", group["weight_decay"])
        check_group_size(call, group["group_size"])
        for name in _SWITCHES:
            check(isinstance(group[name], bool), call, f"{name} as True or False", group[name], "Pass one of them.")
        bits, fix = group["master_weight_bits"], "Pass master_weight_bits=24, 32 or None."
        check(bits in (None, 24, 32), call, "master_weight_bits among 24, 32, None", bits, fix)
        if group["stochastic_rounding"] and bits is not None:
            fix = "Pass master_weight_bits=None with it."
            raise refuse(call, "stochastic_rounding only without a correction", f"master_weight_bits={bits}", fix)
        if group["decouple_lr"] and not self.decoupled:
            fix = f"Use {call}W, or decouple_lr=False."
            raise refuse(call, "decouple_lr with decoupled weight decay", "decouple_lr=True", fix)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Step every parameter that has a gradient.

        Args:
            closure: evaluates the model again and returns the loss; None: use the gradients that are there.

        Returns:
            What the closure returned, None without one.

        Raises:
            TypeError: a sparse gradient, a parameter that is complex or of integers, or one that was cast to another
                dtype than its correction belongs to. Nothing was changed.
            NumericsError: with `check_numerics`, see there. Nothing was changed.
        """
        loss = call_closure(closure)
        plan = self.__dict__.get("_plan")
        if plan is None or not plan.step(self, torch.get_num_threads()):
            slots = list(self._slots())
            self._run(slots)
            self.__dict__["_plan"] = plan_for(self, slots)
        return loss

    @torch.no_grad()
    def step_param(self, parameter: Tensor) -> None:
        """Step one parameter by the gradient it has (what gradient release calls); without one, do nothing.

        Raises:
            ValueError: the parameter is not one of the optimizer's. Else as `step`.
        """
        place = self._place(parameter)
        if place is None:
            fix = "Add it with add_param_group."
            raise refuse("step_param", "a parameter of this optimizer", parameter, fix)
        group, index = place
        self._run(list(self._slots_of(self.param_groups[group], [(index, parameter)])))

    @torch.no_grad()
    def zero_entries(self, parameter: Tensor, keep: Tensor) -> None:
        """Set a parameter and all of its state to exactly 0 where `keep` is False: what pruning masks ask for.

        A code of 0 is a state of 0, and a correction of 0 leaves a weight of 0, whatever their group's scale.

        Args:
            parameter: of this optimizer, stepped yet or not.
            keep: bool, of the parameter's shape.
        """
        parameter, state, gone = local(parameter), self.state.get(parameter, {}), keep.logical_not()
        for value in (parameter, *state.values()):
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                value.masked_fill_(gone, 0)

    def _run(self, slots: list[Slot]) -> None:
        if self.skip_nonfinite and not all(bool(slot.gradient.isfinite().all()) for slot in slots):
            return
        if self.check_numerics:
            check_steps(type(self).__name__, self.rule, slots)
        backends.run(slots, self.backend)

    def _slots(self) -> Iterator[Slot]:
        start = 0
        for group in self.param_groups:
            yield from self._slots_of(group, enumerate(group["params"], start))
            start += len(group["params"])

    def _slots_of(self, group: dict[str, Any], parameters: Iterable[tuple[int, Tensor]]) -> Iterator[Slot]:
        call, options = type(self).__name__, None
        rule = self._rule_of(group)
        for index, parameter in parameters:
            gradient = dense_gradient(call, parameter)
            if gradient is None:
                continue
            options = options or self._options(group)
            state = self.state[parameter]
            if not state:
                state.update(new_state(local(parameter), rule, group))
            elif not is_current(local(parameter), state, group, rule):
                checkpoint.adopt(call, state, parameter, group, rule, complete=False)
            # Kernels read memory, in which a negative view (of torch's complex numbers) has the other sign.
            yield Slot(parameter, local(gradient).resolve_neg(), state, group, options, rule, index)

    def _rule_of(self, group: Mapping[str, Any]) -> str:
        """The rule by which a group is stepped."""
        return self.rule

    def _options(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """A group's options as numbers, with what its weight decay amounts to in this step."""
        lr, weight_decay = _without_wait(group, "lr"), number(group["weight_decay"])
        decay: Any = 0.0
        if self.decoupled and group["decouple_lr"] and weight_decay:
            initial, fix = _without_wait(group, "initial_lr"), "Build the optimizer with the peak learning rate."
            if not isinstance(initial, Tensor):
                check(initial > 0, type(self).__name__, "initial_lr above 0 with decouple_lr", initial, fix)
            decay = weight_decay * lr / initial
        elif self.decoupled:
            decay = weight_decay * lr
        coupled = 0.0 if self.decoupled else weight_decay
        return {**group, "lr": lr, "decay": decay, "coupled": coupled}

    def _place(self, parameter: Tensor) -> tuple[int, int] | None:
        """(group, index among all parameters) of a parameter."""
        places = self.__dict__.get("_places")
        if places is None:
            places, index = {}, 0
            for position, group in enumerate(self.param_groups):
                for one in group["params"]:
                    places[id(one)] = (position, index)
                    index += 1
            self.__dict__["_places"] = places
        return places.get(id(parameter))

    def _forget_places(self) -> None:
        self.__dict__.pop("_places", None)
        self.__dict__.pop("_plan", None)

    def _state_of(self, parameter: Tensor) -> dict[str, Any]:
        """The state of a parameter, made if there is none yet."""
        place = self._place(parameter)
        assert place is not None
        group, state = self.param_groups[place[0]], self.state[parameter]
        if not state:
            state.update(new_state(local(parameter), self._rule_of(group), group))
        return state

    # What runs, and what it costs -----------------------------------------------------------------------------------

    def explain(self) -> dict[int, Choice]:
        """By which backend each parameter (by its place among all) with a gradient would be stepped, and why.

        Raises:
            ValueError: a backend was asked for that cannot step one of them.
        """
        found, call = {}, type(self).__name__
        parameters = ((group, parameter) for group in self.param_groups for parameter in group["params"])
        for index, (group, parameter) in enumerate(parameters):
            gradient = dense_gradient(call, parameter)
            if gradient is not None:  # a slot without its state, which is not made for a look
                slot = Slot(parameter, local(gradient), {}, group, group, self._rule_of(group), index)
                found[index] = backends.choose(slot, self.backend)
                if found[index].backend == "native":
                    found[index] = Choice("native", f"{found[index].why}, instruction set {dispatch.isa()}")
        return found

    def memory_report(self) -> MemoryReport:
        """Bytes of weights, gradients and state, counted from the live tensors, by kind."""
        return memory_report(self)

    def recompute_param_stats(self) -> None:
        """Forget the largest weights that `check_numerics` goes by; the next step looks again."""
        largest_weights(self.state, forget=True)

    # State ----------------------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), **{name: getattr(self, name) for name in _BEHAVIOUR}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._forget_places()
        call, weights = type(self).__name__, []
        for group in self.param_groups:  # of a checkpoint of torch.optim, or of an older version
            checkpoint.adopt_group(group)
            for name, default in self.defaults.items():
                if name != "differentiable":  # torch adds it to the defaults here
                    group.setdefault(name, default)
            if group["decouple_lr"]:
                group.setdefault("initial_lr", group["lr"])
            self._check_group(group)
            for parameter in group["params"]:
                if isinstance(parameter, Tensor) and self.state.get(parameter):
                    weight = checkpoint.adopt(call, self.state[parameter], parameter, group, self._rule_of(group))
                    weights.append((local(parameter), weight))
        for parameter, weight in weights:  # now that nothing can be refused any more
            if weight is not None:
                parameter.detach().copy_(weight)

    def state_dict(self) -> dict[str, Any]:
        """The state, exactly: what it is loaded into goes on with the same bits.

        With `compress_state_dict` (the default) it holds the codes, 2.125 bytes for each parameter of Adam and the
        correction; else float32 states under torch's names beside the correction.

        States of DTensors (FSDP2) are always float32 DTensors, which torch.distributed.checkpoint saves under one
        sharding and loads under another: 8 bytes for each parameter of Adam while the dictionary lives, and on disk.
        Under the same sharding they come back exactly. Under another one weights and corrections do, and those groups
        of states that no boundary cuts; the others are encoded again.
        """
        found = super().state_dict()
        return checkpoint.export(found, self, expand=not self.compress_state_dict)

    def torch_state_dict(self) -> dict[str, Any]:
        """The state for the optimizer of torch.optim of the same kind: float32 states, and its options alone.

        The low bits of weights are not in it; see `get_fp32_model_state_dict`. There is none for Lion.
        """
        return checkpoint.export_to_torch(super().state_dict(), self)

    def get_fp32_model_state_dict(self, model: torch.nn.Module) -> dict[str, Any]:
        """`model.state_dict()` with whole float32 weights: every 16-bit weight joined with its correction.

        Args:
            model: the model whose parameters this optimizer holds; names are those of the bare model, without what
                torch.compile and DistributedDataParallel put before them. Sharded parameters (FSDP2) give DTensors.
                float64 stays float64.
        """
        return checkpoint.get_fp32(model, self)

    def set_fp32_model_state_dict(self, model: torch.nn.Module, state_dict: Mapping[str, Tensor]) -> None:
        """Put float32 weights into a model of 16-bit weights and what they lose into the corrections.

        Call it after `cast_model` to start from float32 weights without a loss; where a state is loaded as well, after
        `load_state_dict`, which brings corrections of its own, or none.

        Args:
            model: as in `get_fp32_model_state_dict`.
            state_dict: of the model's names (or those of the wrapper that is passed) and shapes; for sharded
                parameters whole tensors, or DTensors.

        Weights without a correction are rounded: frozen ones, and those that the optimizer does not hold.

        Raises:
            ValueError, TypeError: names, shapes or kinds that differ. Nothing was changed.
        """
        checkpoint.set_fp32(model, self, state_dict)


def _without_wait(group: Mapping[str, Any], name: str) -> Any:
    """An option as a number; with `capturable`, what lies on a GPU stays there."""
    value = group[name]
    stays = group["capturable"] and isinstance(value, Tensor) and value.device.type != "cpu"
    return value if stays else number(value)


def _check_once(call: str, param_group: Mapping[str, Any]) -> None:
    """Refuse a parameter that is in its group twice: its two steps would run at the same time."""
    members = param_group.get("params", ())
    members = [members] if isinstance(members, Tensor) else list(members) if isinstance(members, (list, tuple)) else []
    if len({id(member) for member in members}) < len(members):
        fix = "Take each once; model.parameters() lists tied ones once."
        raise refuse(call, "every parameter once in its group", f"{len(members)} entries with repetitions", fix)


def _backend(call: str, fused: bool | None, backend: str) -> str:
    """The backend that `fused` and `backend` ask for together."""
    backends.check_backend(call, backend)
    if fused is None:
        return backend
    if backend != "auto":
        raise refuse_type(call, "fused or backend", f"fused={fused} and backend={backend!r}", "Leave out fused.")
    return "kernel" if fused else "eager"
