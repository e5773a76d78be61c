"""Strategies by name, and `compute`: from a model and a ratio to masks.

A strategy scores entries (larger is kept), or prunes layer by layer. What it looks at is said by `needs`: "weights"
only, "inputs" that the model is run on, or a "loss" with its gradient. A strategy of your own is a function
`(model, targets, data) -> {name: scores}`; to have a name it is put into a package's entry points, group
`hasten.prune.strategies`, as a `Strategy` or as a function that returns one.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

import torch
from torch import Tensor, nn

from .._core.checks import check, describe, near, refuse, refuse_type, whole
from .layerwise import Layerwise
from .scores import activations, flow, loss, weights
from .scores.data import Data
from .scores.sites import sites
from .targets import Targets

__all__ = [
    "GROUP", "Score", "Strategy", "ZeroScoresWarning", "get", "grasp", "movement", "names", "scores_of", "sparsegpt",
    "synflow", "wanda",
]  # fmt: skip

GROUP = "hasten.prune.strategies"
NEEDS = ("weights", "inputs", "loss")
SCOPES = ("global", "layer", "row")
Score = Callable[[nn.Module, Targets, Data], Mapping[str, Tensor]]


class ZeroScoresWarning(UserWarning):
    """All scores of a layer are 0: which of its entries are kept is decided by their order."""


@dataclass(frozen=True)
class Strategy:
    """How entries are compared.

    Args:
        name: what masks record.
        score: `(model, targets, data) -> {name: scores}` for all of `targets.names`; tensors of floats of the
            parameter's shape. It leaves the model as it was.
        needs: "weights", "inputs" (batches) or "loss" (batches with targets).
        scope: what is compared with each other: "global", "layer" (each tensor keeps the same share) or "row".
        rounds: density falls to what is asked for in so many steps of one ratio, with new scores for each;
            `data.masks` says what is left.
        layerwise: in place of `score`, for what prunes layer by layer.
    """

    name: str
    score: Score | None = None
    needs: str = "weights"
    scope: str = "global"
    rounds: int = 1
    layerwise: Layerwise | None = None

    def __post_init__(self) -> None:
        call = "prune.Strategy"
        check(self.needs in NEEDS, call, f"needs among {', '.join(NEEDS)}", self.needs)
        check(self.scope in SCOPES, call, f"scope among {', '.join(SCOPES)}", self.scope)
        whole(call, "rounds", self.rounds, low=1)
        one = (self.score is None) != (self.layerwise is None)
        check(one, call, "either score= or layerwise=", "both or neither")


def grasp(temperature: float = 1.0) -> Strategy:
    """GraSP: keeps what the norm of the gradient depends on. The published code divides logits by a temperature of 200.

    Source: arXiv 2002.07376.
    """
    return Strategy("grasp", lambda m, t, data: loss.grasp(m, t.parameters, data, temperature), "loss")


def synflow(rounds: int = 100) -> Strategy:
    """SynFlow: keeps what most of the flow of the network with positive weights passes through.

    Source: arXiv 2006.05467.
    """
    return Strategy("synflow", lambda m, t, data: flow.synflow(m, t.parameters, data), "inputs", rounds=rounds)


def movement() -> Strategy:
    """Movement at the weights as they are; to follow a training, sum `hasten.prune.scores.movement` over its steps.

    Source: arXiv 2005.07683.
    """
    return _by_gradient("movement", loss.movement)


def wanda(
    *,
    propagate: bool = True,
    stages: str | None = None,
    owl: bool = False,
    threshold: float = 5.0,
    spread: float = 0.08,
) -> Strategy:
    """Wanda: `|w_ij| ||x_j||`, compared within each output row; biases are kept.

    Args:
        propagate: layers see what pruned layers give; else all see the dense model.
        stages: pattern of module names whose layers are pruned together, "blocks.*"; None: one by one.
        owl: layers with more outliers are pruned less.
        threshold, spread: of OWL.

    Source: arXiv 2306.11695; OWL 2310.05175.
    """
    how = Layerwise(propagate=propagate, stages=stages, owl=owl, threshold=threshold, spread=spread)
    return Strategy("owl" if owl else "wanda", needs="inputs", scope="row", layerwise=how)


def sparsegpt(
    *,
    damping: float = 0.01,
    block: int = 128,
    propagate: bool = True,
    stages: str | None = None,
    owl: bool = False,
    threshold: float = 5.0,
    spread: float = 0.08,
) -> Strategy:
    """SparseGPT: drops what costs least once the others make up for it. `compute` gives its masks; `reconstruct` also
    changes the weights, which is what it is for.

    Args:
        damping: share of the mean of the diagonal of `X^T X` that is added to it.
        block: columns that are chosen together.
        propagate, stages, owl, threshold, spread: as for `wanda`.

    Source: arXiv 2301.00774.
    """
    how = Layerwise(
        mend=True, propagate=propagate, stages=stages, damping=damping, block=block, owl=owl, threshold=threshold,
        spread=spread,
    )  # fmt: skip
    return Strategy("sparsegpt", needs="inputs", scope="layer", layerwise=how)


def _by_weight(name: str, score: Callable[[Tensor], Tensor], scope: str) -> Strategy:
    def scores(_: nn.Module, targets: Targets, data: Data) -> dict[str, Tensor]:
        return {n: score(data.worn(n, p)) for n, p in targets.parameters.items()}

    return Strategy(name, scores, scope=scope)


def _by_gradient(name: str, score: Callable[[Tensor, Tensor], Tensor], scope: str = "global") -> Strategy:
    def scores(model: nn.Module, targets: Targets, data: Data) -> dict[str, Tensor]:
        gradients = loss.gradients(model, targets.parameters, data)
        return {n: score(targets.parameters[n], gradient) for n, gradient in gradients.items()}

    return Strategy(name, scores, "loss", scope)


def _random(_: nn.Module, targets: Targets, data: Data) -> dict[str, Tensor]:
    generator = data.draws()
    return {name: weights.uniform(p, generator) for name, p in targets.parameters.items()}


def _by_channel(name: str, power: int) -> Strategy:
    def scores(model: nn.Module, targets: Targets, data: Data) -> dict[str, Tensor]:
        found = sites(model, targets.parameters)
        norms = {s.name: weights.channel_norm(s.matrices(data.worn(s.name, s.weight)), power)[..., 0] for s in found}
        return activations.per_channel(targets, found, norms)

    return Strategy(name, scores, scope="layer")


_BUILT_IN: dict[str, Callable[..., Strategy]] = {
    "random": lambda: Strategy("random", _random, scope="layer"),
    "global_magnitude": lambda: _by_weight("global_magnitude", weights.magnitude, "global"),
    "layer_magnitude": lambda: _by_weight("layer_magnitude", weights.magnitude, "layer"),
    "global_gradient": lambda: _by_gradient("global_gradient", loss.saliency),
    "layer_gradient": lambda: _by_gradient("layer_gradient", loss.saliency, "layer"),
    "global_activation": lambda: Strategy("global_activation", activations.activation, "inputs"),
    "layer_activation": lambda: Strategy("layer_activation", activations.activation, "inputs", "layer"),
    "channel_l1": lambda: _by_channel("channel_l1", 1),
    "channel_l2": lambda: _by_channel("channel_l2", 2),
    "channel_activation": lambda: Strategy("channel_activation", activations.channel_activation, "inputs", "layer"),
    "lamp": lambda: _by_weight("lamp", weights.lamp, "global"),
    "snip": lambda: _by_gradient("snip", loss.saliency),
    "grasp": grasp,
    "synflow": synflow,
    "movement": movement,
    "wanda": wanda,
    "owl": lambda **options: wanda(owl=True, **options),
    "sparsegpt": sparsegpt,
}


def names() -> tuple[str, ...]:
    """Names of all strategies: the built-in ones, and those of installed packages.

    >>> "lamp" in names()
    True
    """
    return (*_BUILT_IN, *sorted(set(_plug_ins()) - set(_BUILT_IN)))


def _plug_ins() -> dict[str, Any]:
    return {point.name: point for point in entry_points(group=GROUP)}


def get(strategy: str | Strategy | Score, *, call: str = "prune.strategies.get") -> Strategy:
    """The strategy of a name, a name with options, or a function that scores.

    Args:
        strategy: "lamp", "wanda(propagate=False)" (options are literals), a `Strategy`, or a function of
            (model, targets, data), compared over all tensors.
        call: what an error calls the caller.

    Raises:
        ValueError: an unknown name or option. TypeError: none of these.

    >>> get("synflow(rounds=10)").rounds
    10
    """
    if isinstance(strategy, Strategy):
        return strategy
    if callable(strategy):
        return Strategy(getattr(strategy, "__name__", "own"), strategy, needs="weights")
    if not isinstance(strategy, str):
        raise refuse_type(call, "a strategy's name, a Strategy or a function", strategy)
    name, options = _parsed(strategy, call)
    make = _BUILT_IN.get(name)
    if make is None:
        plug_ins = _plug_ins()
        if name not in plug_ins:
            raise refuse(call, "a strategy that is known", repr(name), near(name, names()))
        make = plug_ins[name].load()
    try:
        made = make if isinstance(make, Strategy) and not options else make(**options)
    except TypeError as error:
        raise refuse(call, f"options that {name} has", repr(strategy), f"({error})") from error
    if not isinstance(made, Strategy):
        raise refuse_type(call, f"a Strategy from the entry point {name!r}", made, "Return prune.Strategy(...).")
    return made


def _parsed(text: str, call: str) -> tuple[str, dict[str, Any]]:
    """Name and options of `name(option=literal, ...)`."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        if isinstance(tree, ast.Name):
            return tree.id, {}
        if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and not tree.args:
            return tree.func.id, {str(k.arg): ast.literal_eval(k.value) for k in tree.keywords}
    except (SyntaxError, ValueError):
        pass
    raise refuse(call, "a strategy like lamp or wanda(propagate=False)", repr(text), near(text, names()))


def scores_of(model: nn.Module, strategy: Strategy, targets: Targets, data: Data) -> dict[str, Tensor]:
    """The scores of a strategy, checked: one tensor of floats for each target, of its shape.

    Raises:
        ValueError: a score is missing, has another shape, or is NaN.

    Warns:
        ZeroScoresWarning: all scores of a weight are 0, though the strategy looks at data.
    """
    assert strategy.score is not None
    found = strategy.score(model, targets, data)
    if not isinstance(found, Mapping):
        raise refuse_type(data.call, f"a dict of scores from {strategy.name}", found)
    for name, parameter in targets.parameters.items():
        score = found.get(name)
        if not isinstance(score, Tensor) or score.shape != parameter.shape or not score.is_floating_point():
            what = f"scores of floats of shape {tuple(parameter.shape)} for {name} from {strategy.name}"
            raise refuse(data.call, what, describe(score))
    scores = {name: found[name].detach() for name in targets.names}
    if strategy.needs != "weights":
        _warn_of_zeros(scores, strategy.name, data)
    return scores


def _warn_of_zeros(scores: Mapping[str, Tensor], strategy: str, data: Data) -> None:
    empty = [name for name, score in scores.items() if score.ndim > 1 and not torch.any(score)]
    if empty:
        shown = ", ".join(empty[:5]) + (f" and {len(empty) - 5} more" if len(empty) > 5 else "")
        message = f"{data.call}: the scores of {strategy} are all 0 in {shown}: their entries are kept by their order."
        warnings.warn(f"{message} Does the batch reach them?", ZeroScoresWarning, stacklevel=5)
