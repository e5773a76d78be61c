"""Replacing a model's layers by tables: where it pays (`maddnessify`), or one after the other with training between.

`maddnessify` asks four questions of each `nn.Linear` and `nn.Conv2d`: can it be replaced at all, is it spared
(`skip`), are its tables faster than its dense form on this machine, and is their error on held-out rows within the
budget? Only layers that pay are learned. What is kept is kept for a reason, which the report's plan says.

`progressive` replaces from front to back and lets the caller fine-tune in between, so that each layer learns its trees
from what the replaced layers before it really give. Usually: `progressive(...)`, train a little more, `freeze(model)`,
`model.eval()`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..._core import rng
from ..._core.checks import check, refuse, refuse_type, whole
from ..._core.surgery import Report, replace_modules
from ..base import nmse
from .calibration import batches_of, collect
from .estimator import Maddness
from .fitting import new_estimator
from .layers import table_layer_of
from .planner import Budget, Candidate, Entry, Plan, as_budget, check_against, decide
from .selection import candidates_of, find_layers, follow, pays
from .trees import LEAVES

__all__ = ["MaddnessReport", "maddnessify", "progressive"]

NMSE = 0.05  # budget where the caller names neither budget nor ncodebooks
HELD_OUT = 5  # one row in so many is kept for the error

Setting = tuple[str, int, int]  # name, ncodebooks, leaves


@dataclass
class MaddnessReport(Report):
    """A report with the plan: what was decided about each layer, and why. `note` is the plan as text."""

    plan: Plan = field(default_factory=Plan)


@dataclass(frozen=True)
class _Fitted:
    estimator: Maddness
    rows: np.ndarray  # (R, D)
    nmse: float


def maddnessify(
    model: nn.Module,
    calibration: Any,
    *,
    budget: Budget | float | None = None,
    ncodebooks: int | None = None,
    leaves: int = 16,
    skip: Sequence[str] = ("first", "last"),
    force: bool = False,
    plan: Plan | None = None,
    against: str = "fastest",
    max_rows: int = 8192,
    seed: int = 0,
    **options: Any,
) -> MaddnessReport:
    """Replace layers of `model` by frozen tables, in place, where that is faster here and exact enough.

    Expect few replacements on a machine with fast 8-bit or bfloat16 products, and none is a good answer.

    Args:
        model: in evaluation mode. Only plain `nn.Linear` and `nn.Conv2d` are replaced, never the root.
        calibration: batches as the model is given them in use: a tensor, or an iterable of tensors, `(inputs, targets)`
            or dicts. Layers are timed for the size of the first batch.
        budget: largest NMSE of a layer on held-out rows, or a `Budget` (which may name a target of time). None: no
            limit for a given `ncodebooks`, else 0.05.
        ncodebooks: C of all layers; None: the fastest of 4, 8, ..., 128 that fits.
        leaves: K, 16, 32 or 64.
        skip: layers to spare: "first" and "last" by order of calls, or globs on names.
        force: replace whatever the clock says, and time nothing; a budget of error still holds.
        plan: from an earlier report: do what it says instead of timing and deciding; errors are not looked at again.
        against: dense form to beat: "fastest", "float32", "bfloat16" or "int8".
        max_rows: rows to learn from, of each layer; memory is `max_rows * D * 4` bytes for each layer that pays.
        seed: of the sample of rows.
        **options: of `hasten.matmul.Maddness`: ridge, lut_scale, accumulate, ...; `split_metric` is "output" here.

    Returns:
        The report: names, `plan` with all reasons, `note` with the plan as text, `undo()`.

    Raises:
        ValueError: a model in training mode, no calibration data, activations that are not finite, an argument out of
            range, a plan that does not fit the model.
        TypeError: calibration data or a budget of another kind.

    Warns:
        NoEffectWarning: nothing was replaced.

    >>> model = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4)).eval()
    >>> report = maddnessify(model, torch.randn(300, 16), ncodebooks=4, force=True)
    >>> report.changed, [entry.name for entry in report.plan.entries]
    (('2',), ['0', '2', '4'])

    Source: arXiv:2106.10860.
    """
    call = "maddnessify"
    limit = as_budget(call, NMSE if budget is None and ncodebooks is None and plan is None else budget)
    _check_arguments(call, ncodebooks, leaves, options)
    check_against(call, against)
    check(plan is None or not force, call, "plan or force=True", (plan, force), "Leave one out.")
    check(limit.time is None or not force, call, "a target of time or force=True", limit, "Leave one out.")
    batches = batches_of(call, calibration)
    first = next(batches)
    found = find_layers(call, model, first, skip)
    if plan is not None:
        every = wanted = follow(call, plan, found)
    else:
        summed = {name: options[name] for name in ("accumulate", "upcast_every") if name in options}
        every = candidates_of(found, ncodebooks, leaves, timed=not force, **summed)
        wanted = [candidate for candidate in every if force or pays(candidate, against)]
    fitted: dict[Setting, _Fitted] = {}
    if wanted:
        layers = {candidate.name: found.layers[candidate.name] for candidate in wanted}
        rows = collect(call, model, itertools.chain([first], batches), layers, max_rows=max_rows, seed=seed)
        # Without a target of time the fastest that fits is taken: what comes after it need not be learned.
        enough = limit.nmse if plan is None and limit.time is None else None
        fitted = _fit_all(call, wanted, layers, rows, enough, seed, options)
    if plan is None:
        left = [c for c in every if c not in wanted or _setting(c) in fitted]
        known = [replace(c, nmse=fitted[_setting(c)].nmse if _setting(c) in fitted else None) for c in left]
        plan = found.sort(decide(known, limit, against=against, force=force, refused=found.refused))
    report = _replace(call, model, found.layers, plan, fitted)
    report.warn_if_empty("nn.Linear or nn.Conv2d layers that pay" if not force else "nn.Linear or nn.Conv2d layers")
    return report


def progressive(
    model: nn.Module,
    calibration: Any,
    finetune: Callable[[nn.Module], Any],
    *,
    ncodebooks: int = 16,
    leaves: int = 16,
    skip: Sequence[str] = ("first", "last"),
    plan: Plan | None = None,
    per_stage: int = 1,
    max_rows: int = 8192,
    seed: int = 0,
    **options: Any,
) -> MaddnessReport:
    """Replace layers by trainable tables from front to back, fine-tuning after each.

    Args:
        model: in evaluation mode; it is in evaluation mode again at the end.
        calibration: as for `maddnessify`, read once for each stage (a list or a loader, no generator).
        finetune: called as `finetune(model)` after each stage; it trains as long as it likes and builds its own
            optimizer (parameters are new in each stage), best with `parameter_groups(model, lr)`.
        ncodebooks, leaves: C and K of all layers, where no plan says otherwise.
        skip: layers to spare, as for `maddnessify`.
        plan: which layers, with which C and K, as `maddnessify(...).plan` has decided.
        per_stage: layers replaced before each call of `finetune`.
        max_rows, seed, **options: as for `maddnessify`.

    Returns:
        The report; `undo()` puts the original layers back, with their old weights, into a model whose others have been
        trained since. If `finetune` raises, the layers replaced so far stay.

    Raises:
        ValueError, TypeError: as `maddnessify`; calibration data that can be read only once.

    Warns:
        NoEffectWarning: nothing was replaced.

    >>> model = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4)).eval()
    >>> progressive(model, torch.randn(300, 16), lambda model: None, ncodebooks=4, skip=()).changed
    ('0', '2', '4')
    >>> from hasten.matmul import freeze
    >>> freeze(model)
    ('0', '2', '4')

    Source: arXiv:2106.10860, arXiv:2311.10207.
    """
    call = "progressive"
    _check_arguments(call, ncodebooks, leaves, options)
    whole(call, "per_stage", per_stage, low=1)
    if not callable(finetune):
        raise refuse_type(call, "a function finetune(model)", finetune, "Pass lambda model: None to train later.")
    if isinstance(calibration, Iterator):
        raise refuse(call, "calibration data that can be read again", calibration, "Pass list(calibration).")
    first = next(batches_of(call, calibration))
    found = find_layers(call, model, first, skip)
    if plan is not None:
        candidates = follow(call, plan, found)
    else:
        candidates = candidates_of(found, ncodebooks, leaves, timed=False)
    reports: list[MaddnessReport] = []
    for start in range(0, len(candidates), per_stage):
        stage = candidates[start : start + per_stage]
        layers = {candidate.name: found.layers[candidate.name] for candidate in stage}
        rows = collect(call, model, batches_of(call, calibration), layers, max_rows=max_rows, seed=seed)
        fitted = _fit_all(call, stage, layers, rows, None, seed, options)
        entries = tuple(_staged(candidate, fitted[_setting(candidate)].nmse) for candidate in stage)
        reports.append(_replace(call, model, layers, Plan(entries), fitted, mode="finetune"))
        finetune(model)
        model.eval()
    converted = tuple(entry for report in reports for entry in report.plan.entries)
    done = found.sort(Plan(found.refusals() + converted))
    report = MaddnessReport(call, tuple(n for r in reports for n in r.changed), str(done), plan=done)
    report._undo = [undo for r in reports for undo in r._undo]
    report.warn_if_empty("nn.Linear or nn.Conv2d layers")
    return report


# Learning and replacing -----------------------------------------------------------------------------------------------


def _fit_all(
    call: str,
    candidates: Iterable[Candidate],
    layers: Mapping[str, nn.Module],
    rows: Mapping[str, Tensor],
    enough: float | None,
    seed: int,
    options: Mapping[str, Any],
) -> dict[Setting, _Fitted]:
    """Learn each candidate, fastest first; with `enough`, a layer's first one with at most that NMSE is its last."""
    found: dict[Setting, _Fitted] = {}
    done: set[str] = set()

    def speed(candidate: Candidate) -> tuple[float, int]:
        return candidate.timing.tables if candidate.timing else 0.0, candidate.ncodebooks

    for candidate in sorted(candidates, key=speed):
        name = candidate.name
        if name in done:
            continue
        fitted = _fit_one(call, layers[name], rows[name], candidate, seed, options)
        found[_setting(candidate)] = fitted
        if enough is not None and fitted.nmse <= enough:
            done.add(name)
    return found


def _fit_one(
    call: str, module: nn.Module, rows: Tensor, candidate: Candidate, seed: int, options: Mapping[str, Any]
) -> _Fitted:
    """Learn from most rows and look at the error on the others."""
    name = candidate.name
    check(len(rows) > 1, call, f"at least 2 rows for {name!r}", rows, "Pass more calibration data.")
    order = torch.randperm(len(rows), generator=rng.stream(seed, f"{name}/held out"))
    held = max(1, len(rows) // HELD_OUT)
    matrix = module.weight
    assert isinstance(matrix, Tensor)
    factor = matrix.detach().flatten(1).float().cpu().numpy().T
    learn, test = rows[order[held:]].numpy(), rows[order[:held]].numpy()
    estimator = new_estimator(candidate.ncodebooks, candidate.leaves, options).fit(learn, factor)
    error = nmse(test.astype(np.float64) @ factor.astype(np.float64), estimator.matmul(test))
    return _Fitted(estimator, learn, error)


def _setting(candidate: Candidate) -> Setting:
    return candidate.name, candidate.ncodebooks, candidate.leaves


def _staged(candidate: Candidate, error: float) -> Entry:
    setting = f"(ncodebooks={candidate.ncodebooks}, leaves={candidate.leaves})"
    reason = f"NMSE {error:.3g} before fine-tuning {setting}"
    return Entry(candidate.name, True, reason, candidate.ncodebooks, candidate.leaves, error)


def _replace(
    call: str,
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    plan: Plan,
    fitted: Mapping[Setting, _Fitted],
    mode: str = "frozen",
) -> MaddnessReport:
    """Put the planned layers into the model."""
    names = {id(layers[name]): name for name in plan.converted}

    def make(_: str, module: nn.Module) -> nn.Module | None:
        if id(module) not in names:
            return None
        entry = plan[names[id(module)]]
        assert entry.ncodebooks is not None
        assert entry.leaves is not None
        found = fitted[entry.name, entry.ncodebooks, entry.leaves]
        assert isinstance(module, (nn.Linear, nn.Conv2d))
        return table_layer_of(module).from_estimator(module, found.estimator, found.rows, mode=mode)

    done = replace_modules(model, make, surgery=call)
    return MaddnessReport(call, done.changed, str(plan), done._undo, plan)


def _check_arguments(call: str, ncodebooks: int | None, leaves: int, options: Mapping[str, Any]) -> None:
    if ncodebooks is not None:
        whole(call, "ncodebooks", ncodebooks, low=1)
    check(leaves in LEAVES, call, f"leaves among {LEAVES}", leaves, "Pass leaves=16.")
    estimator = new_estimator(1, leaves, options)  # refuses what it does not take, before anything is timed
    check(estimator.lut_bits == 8, call, "lut_bits=8", estimator.lut_bits, "Layers hold tables of 8 bits.")
