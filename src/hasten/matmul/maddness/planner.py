"""Which layers are worth replacing by tables: a decision from measured times and errors, with the reason in words.

`decide` is a pure function of candidates (a layer with one setting, its times and its error); nothing is timed here.
Where the times come from is `measuring.measure`. A layer is replaced only if its tables take less time than its dense
form and its error fits the budget. The dense form to beat is by default the fastest of float32, bfloat16 and int8 on
this machine: whoever accepts an approximation could have had that one, with less error.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..._core.checks import check, near, positive, refuse, refuse_type

__all__ = ["Budget", "Candidate", "Entry", "Plan", "Timing", "as_budget", "check_against", "decide"]

DTYPES = ("float32", "bfloat16", "int8")
AGAINST = ("fastest", *DTYPES)


@dataclass(frozen=True)
class Timing:
    """Seconds on this machine: the dense layer in each dtype that was measured, and encode + scan.

    >>> Timing(tables=0.2, dense={"float32": 0.8, "bfloat16": 0.3}).opponent("fastest")
    ('bfloat16', 0.3)
    """

    tables: float
    dense: Mapping[str, float]

    def opponent(self, against: str) -> tuple[str, float]:
        """The dense form to beat: its dtype and seconds.

        Args:
            against: "fastest", or one dtype that was measured.

        Raises:
            ValueError: it was not measured.
        """
        if against == "fastest" and self.dense:
            return min(self.dense.items(), key=lambda item: item[1])
        if against not in self.dense:
            fix = "Measure it, or pass against='fastest'."
            raise refuse("decide", f"a time of the dense layer in {against}", ", ".join(self.dense) or "none", fix)
        return against, self.dense[against]


@dataclass(frozen=True)
class Budget:
    """What a conversion may cost and shall save.

    Args:
        nmse: largest squared error of a layer's output on held-out rows, divided by the output's variance; > 0.
        time: wanted sum of the layers' times as a share of what they take dense, in (0, 1); the layers with the least
            error for the time they save go first, and no more are replaced than that needs. None: all that pay.
    """

    nmse: float = math.inf
    time: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.nmse, bool) or not isinstance(self.nmse, (int, float)) or not self.nmse > 0:
            raise refuse("Budget", "nmse > 0", self.nmse, "Pass an error such as nmse=0.02.")
        if self.time is not None:
            check(
                0 < positive("Budget", "time", self.time) < 1, "Budget", "time in (0, 1)", self.time, "0.5 halves it."
            )


def as_budget(call: str, budget: Budget | float | None) -> Budget:
    """`budget` as a `Budget`: a number is the largest NMSE of a layer, None is no limit.

    Raises:
        TypeError: neither.

    >>> as_budget("f", 0.02)
    Budget(nmse=0.02, time=None)
    """
    if budget is None:
        return Budget()
    if isinstance(budget, Budget):
        return budget
    if isinstance(budget, bool) or not isinstance(budget, (int, float)):
        raise refuse_type(call, "a number (largest NMSE of a layer) or a Budget", budget, "Pass budget=0.02.")
    return Budget(nmse=float(budget))


@dataclass(frozen=True)
class Candidate:
    """A layer with one setting of its tables.

    Args:
        name: the layer's name in the model.
        kind: "Linear" or "Conv2d".
        ncodebooks, leaves: the setting, C and K.
        timing: seconds of its calls in a forward pass; None where nothing was measured (only `force=True` converts it).
        nmse: held-out error; None where it was not fitted, which is no error only where it does not pay.
    """

    name: str
    kind: str
    ncodebooks: int
    leaves: int
    timing: Timing | None = None
    nmse: float | None = None


@dataclass(frozen=True)
class Entry:
    """What was decided about one layer, and why."""

    name: str
    convert: bool
    reason: str
    ncodebooks: int | None = None
    leaves: int | None = None
    nmse: float | None = None
    dense_seconds: float | None = None
    tables_seconds: float | None = None

    def __str__(self) -> str:
        return f"{self.name}: {'converted' if self.convert else 'kept'}, {self.reason}"


@dataclass(frozen=True)
class Plan:
    """Decisions in the order in which the layers are called; `print(plan)` gives one line for each.

    >>> print(Plan((Entry("fc", False, "it is the last layer"),)))
    fc: kept, it is the last layer
    """

    entries: tuple[Entry, ...] = ()
    note: str = ""

    @property
    def converted(self) -> tuple[str, ...]:
        """Names of the layers to convert."""
        return tuple(entry.name for entry in self.entries if entry.convert)

    def __getitem__(self, name: str) -> Entry:
        for entry in self.entries:
            if entry.name == name:
                return entry
        raise KeyError(f"Plan: no layer {name!r}. {near(name, [entry.name for entry in self.entries])}")

    def __str__(self) -> str:
        return "\n".join([*map(str, self.entries), *([self.note] if self.note else [])])


@dataclass
class _Choice:
    """A layer in the making of a plan."""

    options: list[Candidate]  # that pay and fit, fastest first
    kept: Entry  # what to say if it stays
    taken: Candidate | None = None
    dense: float = 0.0  # seconds


def decide(
    candidates: Iterable[Candidate],
    budget: Budget | float | None = None,
    *,
    against: str = "fastest",
    force: bool = False,
    refused: Mapping[str, str] | None = None,
) -> Plan:
    """Choose for each layer one of its candidates, or none, and say why.

    A candidate pays if its tables take less time than the dense layer; it fits if its error is within the budget. Of
    those that pay and fit, the fastest is taken. With `budget.time`, candidates are taken one after the other by error
    added per second saved until the target is met.

    Args:
        candidates: settings of all layers; those of a layer share its name. Layers keep their first appearance's order.
        budget: largest NMSE of a layer, or a `Budget`; None for no limit.
        against: dense form to beat: "fastest" of those measured, "float32", "bfloat16" or "int8".
        force: convert whatever the clock says; the error's limit still holds.
        refused: layers that cannot be converted and why; they come first in the plan.

    Returns:
        One entry for each layer; `note` says it when a target of time cannot be met.

    Raises:
        ValueError: a name of `against` that is not known or was not measured; `force` with a target of time; a
            candidate that pays without an error to compare with a limit, or that has no time without `force`.

    >>> slow, fast = Timing(1.1e-3, {"float32": 0.8e-3}), Timing(0.2e-3, {"float32": 0.8e-3})
    >>> print(decide([Candidate("a", "Linear", 64, 16, slow), Candidate("b", "Linear", 16, 16, fast, nmse=0.01)], 0.02))
    a: kept, float32 GEMM takes 0.8 ms, tables would take 1.1 ms (ncodebooks=64, leaves=16)
    b: converted, tables take 0.2 ms, float32 GEMM takes 0.8 ms, NMSE 0.01 (ncodebooks=16, leaves=16)
    """
    limit = as_budget("decide", budget)
    check_against("decide", against)
    if force and limit.time is not None:
        raise refuse("decide", "a target of time or force=True", "both", "Leave one out.")
    groups: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        groups.setdefault(candidate.name, []).append(candidate)
    choices = {name: _screen(group, limit, against, force) for name, group in groups.items()}
    note = ""
    if limit.time is None:
        for choice in choices.values():
            choice.taken = choice.options[0] if choice.options else None
    else:
        note = _meet(list(choices.values()), limit.time)
    entries = [Entry(name, False, reason) for name, reason in (refused or {}).items()]
    entries += [_entry(choice, against) for choice in choices.values()]
    return Plan(tuple(entries), note)


def check_against(call: str, against: str) -> None:
    """Refuse what is no dense form that could be beaten."""
    if against not in AGAINST:
        raise refuse(call, f"against among {', '.join(AGAINST)}", repr(against), near(str(against), AGAINST))


def _screen(group: Sequence[Candidate], limit: Budget, against: str, force: bool) -> _Choice:
    """Which candidates of one layer pay and fit."""
    paying = [candidate for candidate in group if force or _saving(candidate, against) > 0]
    if not paying:
        best = min(group, key=lambda candidate: _tables(candidate))
        dtype, seconds = _opponent(best, against)
        reason = f"{dtype} {_product(best)} takes {_ms(seconds)}, tables would take {_ms(_tables(best))}"
        return _Choice([], _kept(best, reason, against), dense=_dense(best, against))
    compared = limit.nmse < math.inf or limit.time is not None
    missing = [candidate for candidate in paying if candidate.nmse is None and compared]
    if missing:
        raise refuse("decide", f"an NMSE for {missing[0].name!r}, which pays", "none", "Fit it on held-out rows first.")
    fitting = [candidate for candidate in paying if candidate.nmse is None or candidate.nmse <= limit.nmse]
    best = min(paying, key=lambda candidate: math.inf if candidate.nmse is None else candidate.nmse)
    if not fitting:
        reason = f"NMSE {best.nmse:.3g} is above the budget of {limit.nmse:g}"
        return _Choice([], _kept(best, reason, against), dense=_dense(best, against))
    fitting.sort(key=lambda candidate: (_tables(candidate), candidate.ncodebooks))
    kept = _kept(fitting[0], "the target of time is met without it", against)
    return _Choice(fitting, kept, dense=_dense(best, against))


def _meet(choices: Sequence[_Choice], share: float) -> str:
    """Take candidates by error per second saved until the layers' total is `share` of what it was."""
    total = sum(choice.dense for choice in choices)

    def seconds(choice: _Choice) -> float:
        return choice.dense if choice.taken is None else _tables(choice.taken)

    while (now := sum(map(seconds, choices))) > share * total:
        best: tuple[float, _Choice, Candidate] | None = None
        for choice in choices:
            error = 0.0 if choice.taken is None else choice.taken.nmse or 0.0
            for option in choice.options:
                saved = seconds(choice) - _tables(option)
                if saved > 0:
                    price = max(0.0, (option.nmse or 0.0) - error) / saved
                    if best is None or price < best[0]:
                        best = (price, choice, option)
        if best is None:
            return f"target not met: the layers take {now / total:.0%} of their dense time, {share:.0%} was wanted"
        best[1].taken = best[2]
    return ""


def _entry(choice: _Choice, against: str) -> Entry:
    taken = choice.taken
    if taken is None:
        return choice.kept
    words = [f"tables take {_ms(_tables(taken))}"] if taken.timing else ["forced, nothing was timed"]
    if taken.timing:
        dtype, seconds = _opponent(taken, against)
        words.append(f"{dtype} {_product(taken)} takes {_ms(seconds)}")
    words += [] if taken.nmse is None else [f"NMSE {taken.nmse:.3g}"]
    reason = ", ".join(words)
    return dataclasses.replace(_kept(taken, reason, against), convert=True)


def _kept(candidate: Candidate, reason: str, against: str) -> Entry:
    setting = f" (ncodebooks={candidate.ncodebooks}, leaves={candidate.leaves})"
    dense = _dense(candidate, against) if candidate.timing else None
    tables = candidate.timing.tables if candidate.timing else None
    return Entry(
        candidate.name, False, reason + setting, candidate.ncodebooks, candidate.leaves, candidate.nmse, dense, tables
    )


def _opponent(candidate: Candidate, against: str) -> tuple[str, float]:
    if candidate.timing is None:
        fix = "Measure it, or pass force=True."
        raise refuse("decide", f"times of {candidate.name!r}", "none", fix)
    return candidate.timing.opponent(against)


def _tables(candidate: Candidate) -> float:
    """Seconds; without times, fewer codebooks count as faster."""
    return candidate.timing.tables if candidate.timing else float(candidate.ncodebooks)


def _saving(candidate: Candidate, against: str) -> float:
    return _opponent(candidate, against)[1] - _tables(candidate)


def _dense(candidate: Candidate, against: str) -> float:
    return _opponent(candidate, against)[1] if candidate.timing else 0.0


def _product(candidate: Candidate) -> str:
    return "GEMM" if candidate.kind == "Linear" else "convolution"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms"
