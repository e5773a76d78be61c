"""The decision: for every arm, at which budgets and at which targets does it pay, cost, or is nothing proven?

Two kinds of confirmatory questions per arm, one family for the whole study:

- **budget**: gain at equal training time, dq(t) = metric of the arm - metric of the baseline at each budget of the
  baseline (`curves.gain`);
- **target**: speedup at equal quality, log S(q) = log t_base(q) - log t_arm(q) at 50 %, 90 % and 100 % of the
  baseline's final gain, or at qualities given beforehand (`curves.log_speedup`).

Each is a paired t test over seeds; Holm adjusts over arms x (budgets + targets) of the study. p_holm <= alpha with the
effect above zero is "pays", below zero "costs"; equal in every seed is a "tie"; the rest is "not proven". Fewer than
three seeds prove nothing. A second, descriptive family asks for accuracy: the gain at equal steps.

Censoring, and why it cannot fake a verdict
- A target is answered only if every run of both arms has reached it inside its curve; else a bound is reported and the
  question keeps its place in the family with p = 1. An answered question has the p-value it would have had without
  censoring, so P(answered and p <= a) <= P(p <= a): leaving questions out can lose power, never make an error.
- What it does bend is the estimate: near the plateau, "every run arrived" selects lucky arms, and as q comes from the
  baseline's own seeds, a lucky baseline asks for more. Simulated at 90 % of the gain, n = 5, where one study in
  four is answered: the interval covers 95 % of the answered ones, but 3.6 % of them lie wholly above the truth and
  1.4 % below; at n = 10, where one in twenty is answered, it covers 93 %. Effects so close to an end are marked
  (`near_end`); targets given beforehand do not lean. (Reading q from a seed's siblings does not help, and answering
  only far from the end selects harder still.) At 100 % of the gain about half of the baseline's runs never arrive:
  the gain at equal time at the last budget is the answer there, and `effects.mean_curves` the number to show.
- A gain at equal time is bounded where one run of a pair does not cover the budget. The bound is used on its safe
  side only: a lower bound above zero proves "pays" and never "costs".

Adding an arm changes another arm's verdict only through the size of the family; multiplying all times by a constant,
or reordering the seeds, changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import curves
from .curves import Bounds, Curves
from .intervals import Array, Paired, paired_t
from .multiplicity import holm

__all__ = ["MIN_SEEDS", "Readings", "Where", "ask", "describe_arm", "family", "near_end", "overall", "read",
           "verdicts"]  # fmt: skip

MIN_SEEDS = 3  # two differences have one degree of freedom: an interval of +-12.7 sd / sqrt(2)
INFERENCE_RISE = 1.02  # above this ratio of inference costs, "pays" is qualified; below, it is timing noise
WORDS = {"time": ("pays", "costs"), "metric": ("better", "worse")}


@dataclass(frozen=True)
class Readings:
    """The answers of one arm to several questions before multiplicity, one column per question.

    Args:
        bounds: what is known per seed, shape (seeds, questions).
        bound: per question "" (exact in every seed), ">=", "<=" (a bound in some seed) or "?" (nothing known).
        stats: the paired t on the exact values or on the bounds; zeros where nothing is known.
        p: what enters the family: the two-sided p, or 1 where there is no verdict.
    """

    bounds: Bounds
    bound: tuple[str, ...]
    stats: Paired
    p: Array


def read(bounds: Bounds, *, alpha: float, resolution: float = 0.0, bounds_decide: bool = False) -> Readings:
    """Paired statistics of per-seed values, some of which may be only bounds.

    Args:
        bounds: shape (seeds, questions).
        alpha: 1 - confidence of the intervals.
        resolution: the step in which the metric counts, see `intervals.paired_t`.
        bounds_decide: True lets a bound prove its safe side (gains at equal time); False gives no verdict (targets).
    """
    exact = (bounds.lower == bounds.upper).all(axis=0)
    above = np.isfinite(bounds.lower).all(axis=0)
    below = np.isfinite(bounds.upper).all(axis=0)
    bound = np.select([exact, above, below], ["", ">=", "<="], "?")
    values = np.where(above, bounds.lower, np.where(below, bounds.upper, 0.0))
    values = np.where(bound == "?", 0.0, values)
    stats = paired_t(values, alpha=alpha, resolution=resolution)
    safe = ((bound == ">=") & (stats.mean > 0)) | ((bound == "<=") & (stats.mean < 0))
    decided = exact | (safe & bounds_decide)
    p = np.where(decided & (stats.n >= MIN_SEEDS), stats.p, 1.0)
    return Readings(bounds, tuple(bound.tolist()), stats, p)


def ask(
    base: Curves, arm: Curves, *, points: Sequence[int], qualities: ArrayLike, alpha: float, resolution: float
) -> tuple[Readings, Readings]:
    """The budget and the target questions of one arm.

    Args:
        base: baseline curves, shape (seeds, points).
        arm: the arm's curves of the same seeds.
        points: indices of the baseline's points that are budgets.
        qualities: target qualities, metric units, higher is better.
        alpha: 1 - confidence of the intervals.
        resolution: the step in which the metric counts; 0 = continuous.

    Returns:
        (budgets, targets): gains in metric units, and log speedups.
    """
    gains = curves.gain(base, arm, curves.equal_times(base, arm, points))
    speedups = curves.log_speedup(base, arm, np.asarray(qualities, dtype=np.float64))
    return read(gains, alpha=alpha, resolution=resolution, bounds_decide=True), read(speedups, alpha=alpha)


def family(parts: Sequence[Array]) -> list[Array]:
    """Holm over all questions of a study, given and returned in parts (one array per arm and kind)."""
    adjusted = holm(np.concatenate(parts)) if parts else np.empty(0)
    return np.split(adjusted, np.cumsum([len(part) for part in parts])[:-1]) if parts else []


def verdicts(readings: Readings, p_holm: Array, *, alpha: float, kind: str = "time") -> list[str]:
    """One word per question: pays, costs, tie or not proven (better, worse for kind "metric")."""
    good, bad = WORDS[kind]
    tie = readings.stats.tie & (np.asarray(readings.bound) == "") & (readings.stats.n >= MIN_SEEDS)
    proven = (p_holm <= alpha) & ~tie
    mean = readings.stats.mean
    return np.select([tie, proven & (mean > 0), proven & (mean < 0)], ["tie", good, bad], "not proven").tolist()


def near_end(base: Curves, arm: Curves, qualities: ArrayLike) -> NDArray[np.bool_]:
    """Per target: is it within two sd (over seeds) of the mean final quality of either arm? Then S leans, see above."""
    q = np.asarray(qualities, dtype=np.float64)
    result = np.zeros(q.shape, dtype=bool)
    for side in (base, arm):
        final = side.best[:, -1]
        spread = float(final.std(ddof=1)) if len(final) > 1 else 0.0
        result |= q > float(final.mean()) - 2 * spread
    return result


def overall(answers: Sequence[str]) -> str:
    """One word for an arm: pays, costs, mixed, tie (all that could be answered) or not proven.

    Args:
        answers: verdicts of its questions; "" = censored, no answer.
    """
    pays, costs = "pays" in answers, "costs" in answers
    if pays or costs:
        return "mixed" if pays and costs else "pays" if pays else "costs"
    return "tie" if set(answers) - {""} == {"tie"} else "not proven"


@dataclass(frozen=True)
class Where:
    """One axis of questions in order from easy to hard, for the sentence of an arm.

    Args:
        name: singular noun, "target" or "budget".
        labels: short labels, easy to hard.
        answers: one verdict per label; "" = censored, no answer.
        descending: True where harder means a smaller number (a loss): the signs turn around.
    """

    name: str
    labels: tuple[str, ...]
    answers: tuple[str, ...]
    descending: bool = False

    def phrase(self, word: str) -> str:
        """Where `word` is the answer: "targets ≥ 0.82", "budget 7 epochs", "every target", or ""."""
        hits = [answer == word for answer in self.answers]
        count, size = sum(hits), len(hits)
        up, down = ("≤", "≥") if self.descending else ("≥", "≤")
        if not count:
            return ""
        if count == size:
            return f"every {self.name}" if size > 1 else f"the {self.name} {self.labels[0]}"
        if count > 1 and all(hits[-count:]):
            return f"{self.name}s {up} {self.labels[-count]}"
        if count > 1 and all(hits[:count]):
            return f"{self.name}s {down} {self.labels[count - 1]}"
        chosen = [label for label, hit in zip(self.labels, hits, strict=True) if hit]
        return f"{self.name} {chosen[0]}" if count == 1 else f"{self.name}s {', '.join(chosen[:-1])} and {chosen[-1]}"


def describe_arm(
    axes: Sequence[Where], *, seeds: int, failed: int = 0, inference_ratio: float | None = None
) -> tuple[str, bool, str]:
    """Verdict, whether it may stand alone, and the sentence that says where.

    Args:
        axes: targets and budgets with their answers.
        seeds: finished seed pairs.
        failed: runs of this arm that failed.
        inference_ratio: inference cost of the arm / of the baseline; None = not measured.

    Returns:
        (verdict, plain, sentence). `plain` is False where "pays" must not be shown without its sentence: inference
        got dearer, or runs failed.

    >>> where = Where("target", ("0.72", "0.82"), ("costs", "pays"))
    >>> describe_arm([where], seeds=5)[2]
    'pays at target 0.82; costs at target 0.72.'
    """
    if seeds < MIN_SEEDS:
        return "not proven", failed == 0, f"not proven (n = {seeds}): a verdict needs {MIN_SEEDS} seed pairs."
    answers = [answer for axis in axes for answer in axis.answers]
    verdict = overall(answers)
    dearer = inference_ratio is not None and inference_ratio > INFERENCE_RISE
    parts = []
    for word in ("pays", "costs"):
        places = [phrase for axis in axes if (phrase := axis.phrase(word))]
        training = " in training time" if word == "pays" and dearer else ""
        if places:
            parts.append(f"{word}{training} at {' and at '.join(places)}")
    if verdict == "tie":
        parts.append("tie: the same values in every run that could be compared")
    elif not parts:
        parts.append(f"not proven at any of {len(answers)} budgets and targets")
    elif not set(answers) <= {"pays", "costs"}:
        parts.append("elsewhere not proven")
    if dearer:
        parts.append(f"{'but ' if verdict in ('pays', 'mixed') else ''}inference costs {inference_ratio:.2f}x")
    if failed:
        parts.append(f"{failed} of its runs failed and {'is' if failed == 1 else 'are'} not in these numbers")
    return verdict, not (dearer or failed), "; ".join(parts).replace("; but ", ", but ") + "."
