"""The same question, asked a little differently: variants of a workload, to see whether a verdict survives them.

AlgoPerf (arXiv 2306.07179) trained each submission on held-out variants of its workloads too, with another activation,
norm, width or loss, so that nobody could fit a method to the one workload that is published. Here the variants are made
from any workload, a user's file included, by changing one thing:

`width`        every width of the model is doubled. Not halved: twice a width is divided by whatever divided the width
               (heads, groups), a method that looks for layers of some size still finds them, and what people want to
               know is whether a saving holds when the model grows. It costs up to four times the operations.
`activation`   ReLU and its leaky kin become SiLU, every other one becomes ReLU. Only activations that are modules: a
               call such as `F.relu` inside a `forward` stays.
`norm`         batch norm becomes group norm, layer norm becomes RMS norm. Scales and shifts stay the same parameters.
`label_noise`  20 % of the training labels are replaced by another class: the same ones in every run of every arm.
`batch`        batches of twice the size, in as many epochs; the learning rate follows the usual rule for the optimizer.

The test part and the metric are never touched. A target that was chosen for the original is not carried over.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hasten._core.batch import get_inputs
from hasten._core.call import resolve
from hasten._core.checks import check, near, refuse
from hasten._core.clock import parse_duration
from hasten._core.rng import fork
from hasten._core.surgery import Report
from hasten.program import Call, Program, bind, call

from ..build import build_model
from .altered import SHARE, replace_activations, replace_norms, with_activation, with_label_noise, with_norm
from .base import FirstPass, Workload, first_pass, provides, warmed_up

__all__ = ["NAMES", "Variant", "names_of", "variants", "widths_of", "widths_text", "with_widths"]

WIDTHS = ("width", "widths", "hidden", "hidden_size", "hidden_dim", "d_model", "embed_dim")


@dataclass(frozen=True)
class Variant:
    """A workload with one thing changed, or why there is none.

    Args:
        name: "width", "activation", "norm", "label_noise" or "batch".
        workload: the changed workload, named such as "digits+width" and of an identity of its own; None if it cannot be
            made.
        change: what was changed, in words.
        reason: why it cannot be made; "" if it can.
    """

    name: str
    workload: Workload | None
    change: str = ""
    reason: str = ""


class _Unavailable(Exception):  # noqa: N818  (not an error: an answer)
    """This workload has no such variant; the message says why."""


def variants(workload: Workload, names: str | Sequence[str] | None = None) -> list[Variant]:
    """The variants of a workload, those that cannot be made included, with their reason.

    Nothing is trained. The baseline takes one forward pass on two samples, and every changed model as well.

    Args:
        workload: any workload.
        names: which ones, in any order; None or "all" for every one. "width,batch" is the same as ("width", "batch").

    Raises:
        ValueError: an unknown name, or one given twice.

    Example:
        >>> from hasten.bench.workloads import load
        >>> variants(load("charlm"), "batch")[0].change  # doctest: +SKIP
        'batches of 64 instead of 32, learning rate 0.00849 instead of 0.006 (square-root rule)'
    """
    chosen = names_of(names)
    seen = first_pass(workload)
    return [_variant(workload, name, seen) for name in chosen]


def names_of(names: str | Sequence[str] | None = None) -> tuple[str, ...]:
    """The names as a tuple, checked, in the order of `NAMES`; None, "all" and an empty list are all of them.

    >>> names_of("norm, width"), names_of(["norm", "width"])
    (('width', 'norm'), ('width', 'norm'))
    """
    given = [names] if isinstance(names, str) else list(names or ())
    asked = [part.strip() for text in given for part in str(text).split(",")]
    if asked in ([], ["all"]):
        return tuple(NAMES)
    for name in asked:
        if name not in NAMES:
            raise refuse("variants", f"names among {', '.join(NAMES)}", repr(name), near(name, NAMES))
    check(len(set(asked)) == len(asked), "variants", "each name once", asked)
    return tuple(name for name in NAMES if name in asked)


def _variant(workload: Workload, name: str, seen: FirstPass) -> Variant:
    try:
        change, made = NAMES[name](workload, seen)
    except _Unavailable as reason:
        return Variant(name, None, reason=str(reason))
    return Variant(name, _named(made, workload, name, change), change)


def _named(made: Workload, workload: Workload, name: str, change: str) -> Workload:
    """The changed workload under a name and an identity of its own, without what was measured on the original."""
    program = dataclasses.replace(_base(made), workload=f"{workload.program.workload}+{name}")
    return dataclasses.replace(
        made,
        name=f"{workload.name}+{name}",
        program=program.then(*made.program.methods),
        target=None,
        paired_sd=None,
        summary=f"{workload.summary or workload.name}; {change}",
    )


def _base(workload: Workload) -> Program:
    """The baseline program below the workload's own methods, if it has any."""
    program = workload.program
    return program if program.base is None else program.base


def _with(workload: Workload, **slots: Any) -> Workload:
    return dataclasses.replace(workload, program=workload.program.replace(**slots))


# Width ----------------------------------------------------------------------------------------------------------------


def _wider(workload: Workload, seen: FirstPass) -> tuple[str, Workload]:
    factory = workload.program.model
    before = widths_of(factory)
    if not before:
        taken = ", ".join(name for name, _ in factory.args) or "nothing"
        raise _Unavailable(f"its model takes no whole number under a name such as width (it takes {taken})")
    after = {name: _twice(value) for name, value in before.items()}
    wider = _with(workload, model=with_widths(factory, after))
    small, large = _size(workload.program), _size(_run(wider, seen).program)
    if large <= small:
        raise _Unavailable(f"{' and '.join(before)} twice as large gives a model that is no larger")
    return widths_text(before, after), wider


def widths_text(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """What was changed, in words."""
    return " and ".join(f"{name} {_show(after[name])} instead of {_show(before[name])}" for name in before)


def widths_of(factory: Call) -> dict[str, Any]:
    """The arguments of a model's factory that say how wide it is: whole numbers, or tuples of them."""
    return {name: value for name, value in factory.args if name in WIDTHS and _is_width(value)}


def with_widths(factory: Call, widths: Mapping[str, Any]) -> Call:
    """The factory with these arguments instead."""
    return dataclasses.replace(factory, args=tuple(sorted({**dict(factory.args), **widths}.items())))


def _is_width(value: Any) -> bool:
    if isinstance(value, tuple):
        return bool(value) and all(map(_is_width, value))
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _twice(value: Any) -> Any:
    return tuple(map(_twice, value)) if isinstance(value, tuple) else 2 * value


def _show(value: Any) -> str:
    return "-".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _size(program: Program) -> int:
    return sum(parameter.numel() for parameter in build_model(program, 0)[0].parameters())


def _run(workload: Workload, seen: FirstPass) -> Workload:
    """The workload, if its changed model takes a batch."""
    try:
        model, _ = build_model(workload.program, 0)
        with fork(0, "probe"), torch.no_grad():
            model.eval()(get_inputs(seen.batch))
    except Exception as error:  # whatever a user's model says to sizes or layers that it was not written for
        first = (str(error).strip() or "no message").splitlines()[0]
        raise _Unavailable(f"the changed model does not work: {type(error).__name__}: {first}") from error
    return workload


# Activations and norms ------------------------------------------------------------------------------------------------


def _other_activation(workload: Workload, seen: FirstPass) -> tuple[str, Workload]:
    change = _swaps(workload, replace_activations)
    if not change:
        raise _Unavailable("its model has no activation modules; calls inside a forward function cannot be replaced")
    return change, _run(_with(workload, model=call(with_activation, model=workload.program.model)), seen)


def _other_norm(workload: Workload, seen: FirstPass) -> tuple[str, Workload]:
    change = _swaps(workload, replace_norms)
    if not change:
        raise _Unavailable("its model has no batch norm and no layer norm modules")
    return change, _run(_with(workload, model=call(with_norm, model=workload.program.model)), seen)


def _swaps(workload: Workload, replace: Callable[[nn.Module], Report]) -> str:
    """What a replacement does to the workload's model, in words; "" for nothing."""
    with fork(0, "model"):
        model = workload.program.model.build()
    before = {name: type(module).__name__ for name, module in model.named_modules(remove_duplicate=False)}
    changed = replace(model).changed
    pairs = Counter((before[name], type(model.get_submodule(name)).__name__) for name in changed)
    return ", ".join(f"{new} instead of {old} ({count})" for (old, new), count in pairs.items())


# Label noise ----------------------------------------------------------------------------------------------------------


def _with_noise(workload: Workload, seen: FirstPass) -> tuple[str, Workload]:
    if "logits" not in provides(seen.batch, seen.outputs, seen.losses):
        raise _Unavailable("its targets are not class indices of the model's outputs")
    classes = seen.outputs.shape[-1]
    if classes < 2:
        raise _Unavailable("it has one class only")
    data = bind(with_label_noise, source=workload.program.data, classes=classes)
    return f"{100 * SHARE:g} % of the training labels are another class", _with(workload, data=data)


# Batches --------------------------------------------------------------------------------------------------------------

# How the learning rate follows the batch. SGD: in proportion (arXiv 1706.02677). Adam and RMSprop: with the square root
# (arXiv 2205.10287, whose rule also moves the betas; here they stay, as most people leave them).
_LINEAR = (torch.optim.SGD,)
_ROOT = (torch.optim.Adam, torch.optim.AdamW, torch.optim.NAdam, torch.optim.RAdam, torch.optim.RMSprop)


def _larger_batches(workload: Workload, seen: FirstPass) -> tuple[str, Workload]:
    program = workload.program
    optimizer = resolve(program.optimizer.target)
    rate = dict(program.optimizer.args).get("lr")
    known = isinstance(optimizer, type) and isinstance(rate, float)
    if not known or not issubclass(optimizer, (*_LINEAR, *_ROOT)):
        name = program.optimizer.target.rpartition(":")[2]
        raise _Unavailable(
            f"how the learning rate of {name} should follow the batch is not known (SGD and Adam's kin are)"
        )
    size = 2 * program.batch_size
    if seen.samples < size:
        raise _Unavailable(f"it has {seen.samples} training samples, fewer than a batch of {size}")
    rule, factor = ("linear", 2.0) if issubclass(optimizer, _LINEAR) else ("square-root", math.sqrt(2))
    args = {**dict(program.optimizer.args), "lr": rate * factor}
    slots: dict[str, Any] = {
        "batch_size": size,
        "optimizer": dataclasses.replace(program.optimizer, args=tuple(sorted(args.items()))),
        "duration": _same_samples(program.duration, program.batch_size),
    }
    steps = -(-workload.warmup // 2)  # the warm-up, too, is as long in epochs as it was
    if program.schedule == warmed_up(workload.warmup):
        slots["schedule"] = warmed_up(steps)
    change = (
        f"batches of {size} instead of {program.batch_size}, "
        f"learning rate {rate * factor:.3g} instead of {rate:g} ({rule} rule)"
    )
    return change, dataclasses.replace(_with(workload, **slots), warmup=steps)


def _same_samples(duration: str, batch_size: int) -> str:
    """A training length that does not depend on the batch: steps become samples, the others are what they are.

    >>> _same_samples("600step", 32), _same_samples("15ep", 32)
    ('19200sample', '15ep')
    """
    length = parse_duration(duration)
    return f"{length.value * batch_size:.0f}sample" if length.unit == "step" else duration


NAMES: Mapping[str, Callable[[Workload, FirstPass], tuple[str, Workload]]] = {
    "width": _wider,
    "activation": _other_activation,
    "norm": _other_norm,
    "label_noise": _with_noise,
    "batch": _larger_batches,
}
