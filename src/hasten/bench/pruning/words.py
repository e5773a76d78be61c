"""What a pruning study says, in sentences: shared by page and terminal, so that they never disagree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..report.words import TIMES, UNKNOWN, decimals_of, fixed, joined, number, order, percent, ratio, signed
from ..stats.verdicts import MIN_SEEDS
from .fair import AXES, UNSURE
from .plan import SMALLER, UNPRUNED

__all__ = ["AXIS", "answer", "caveats", "decimals", "grounds", "level", "marks", "ratio_text", "reading", "span"]

AXIS = {"compression": "compression", "speedup": "theoretical speed-up", "latency": "measured speed-up"}
SHOWN = 3  # flips that are spelled out
MOST = 4  # decimals, however narrow an interval of few seeds happens to be

Data = Mapping[str, Any]


def decimals(data: Data) -> int:
    """Decimals that the metric deserves: one digit of the narrowest interval, and 1 % of the curves' range."""
    levels = [row["metric"] for row in data["rows"]]
    widths = [(one["high"] - one["low"]) / 2 for one in levels if one["low"] is not None]
    return min(decimals_of(widths, [one["mean"] for one in levels]), MOST)


def level(spread: Mapping[str, Any] | None, places: int) -> str:
    """A mean with the half width of its interval.

    >>> level({"mean": 0.91234, "low": 0.90, "high": 0.92468}, 3), level(None, 3)
    ('0.912 ± 0.012', '\\u2013')
    """
    if spread is None:
        return UNKNOWN
    text = fixed(spread["mean"], places)
    return text if spread["low"] is None else f"{text} ± {(spread['high'] - spread['low']) / 2:.{places}f}"


def span(one: Mapping[str, Any], places: int) -> str:
    """A difference with its interval."""
    text = signed(one["value"], places)
    return text if one["low"] is None else f"{text} ({signed(one['low'], places)} … {signed(one['high'], places)})"


def marks(data: Data) -> dict[tuple[str, int], str]:
    """(arm, point) -> its verdict against random pruning at the same compression."""
    return {(one["arm"], one["point"]): one["verdict"] for one in data["analysis"]["effects"]}


def answer(data: Data) -> list[str]:
    """What was found, the most important first."""
    return [*_ranking(data), *_flips(data), *_smaller(data), *_measured(data)]


def _ranking(data: Data) -> list[str]:
    groups, ratios = data["analysis"]["ranking"], data["study"]["ratios"]
    ranked = [arm for group in groups for arm in group]
    if not ranked:
        return ["No strategy has a whole curve yet."]
    where = f"on average up to {ratio_text(ratios[-1])}"
    if len(ranked) == 1:
        return [f"{ranked[0]} has a whole curve ({where}), and nothing to be compared with."]
    if len(groups) == 1:
        return [f"At equal compression ({where}) {joined(groups[0])} cannot be told apart."]
    if len(groups[0]) == 1:
        return [f"At equal compression ({where}) {groups[0][0]} keeps most: {order(groups)}."]
    return [f"At equal compression ({where}): {order(groups)}. Those joined by = cannot be told apart."]


def _flips(data: Data) -> list[str]:
    flips, places = data["analysis"]["flips"], decimals(data)
    sure = [flip for flip in flips if flip["resolved"]]
    found = [f"The ranking flips: {_flip(data, flip, places)}." for flip in sure[:SHOWN]]
    if len(sure) > SHOWN:
        found.append(f"{len(sure) - SHOWN} more pairs change places between the axes; the table of pairs has them.")
    if not sure and flips:
        flip, seeds = flips[0], len(data["study"]["seeds"])
        more = len(flips) - 1
        others = f", and {more} more pair{'s do' if more > 1 else ' does'}" if more else ""
        found.append(
            f"In the means {flip['better']} and {flip['worse']} change places between equal compression and equal "
            f"{AXIS[flip['axis']]}{others}, but {seeds} seeds do not resolve it."
        )
    return found


def _flip(data: Data, flip: Mapping[str, Any], places: int) -> str:
    pair = next(p for p in data["analysis"]["pairs"] if {p["one"], p["other"]} == {flip["better"], flip["worse"]})
    sign = 1 if pair["one"] == flip["better"] else -1
    first, other = pair[AXES[0]], pair[flip["axis"]]
    return (
        f"at equal compression {flip['better']} keeps more than {flip['worse']} "
        f"({signed(sign * first['value'], places)} on average), at equal {AXIS[flip['axis']]} less "
        f"({signed(sign * other['value'], places)}, up to {ratio_text(other['reach'])})"
    )


def _smaller(data: Data) -> list[str]:
    if data["study"]["without_smaller"]:
        return [f"There is no smaller dense control: {data['study']['without_smaller']}."]
    said: dict[str, list[str]] = {"better": [], "worse": [], UNSURE: []}
    for pair in data["analysis"]["pairs"]:
        if SMALLER in (pair["one"], pair["other"]) and pair[AXES[0]] is not None:
            other = pair["one"] if pair["other"] == SMALLER else pair["other"]
            gap, turned = pair[AXES[0]], pair["other"] == SMALLER
            word = gap["verdict"]
            said[{"better": "worse", "worse": "better"}.get(word, word) if turned else word].append(other)
    links = {"better": "better than", "worse": "worse than", UNSURE: "not distinguishable from"}
    parts = [f"{links[word]} {joined(arms)}" for word, arms in said.items() if arms]
    if not parts:
        return []
    return [f"A narrower dense model with about as many parameters, trained for as long, is {'; '.join(parts)}."]


def _measured(data: Data) -> list[str]:
    """What the clock says about the pruned models."""
    rows = [row for row in data["rows"] if row["arm"] not in (SMALLER, UNPRUNED)]
    found = []
    if masked := [row["relative"]["mean"] for row in rows if not row["removed"]]:
        found.append(
            "Zeros are multiplied like other numbers: a masked model computes what the dense one does, and its "
            f"predictions were measured at {_between(masked)} the dense model's time."
        )
    if removed := [row["relative"]["mean"] for row in rows if row["removed"]]:
        found.append(f"With what is masked taken out, predictions take {_between(removed)} the dense model's time.")
    return found


def _between(values: list[float]) -> str:
    low, high = ratio(min(values)), ratio(max(values))
    return low if low == high else f"{low} to {high}"


def ratio_text(value: float) -> str:
    """A compression ratio or a speed-up.

    >>> ratio_text(32.0), ratio_text(4.53)
    ('32×', '4.5×')
    """
    return f"{value:.2g}{TIMES}" if value < 100 else f"{value:.0f}{TIMES}"


def grounds(data: Data) -> list[str]:
    """What the answer rests on."""
    study, analysis = data["study"], data["analysis"]
    steps, seeds = study["steps"], len(study["seeds"])
    chosen = f"{study['held_out']['samples']:,} held-out training samples by {study['held_out']['by']}"
    said = [
        f"{seeds} seed{'s' * (seeds > 1)}. Per seed one dense model is trained for {steps['train']:,} steps; every "
        f"strategy and ratio begins with its weights and trains on for {steps['finetune']:,} steps with the same "
        f"batches, at {number(study['rate'])} times the learning rate.",
        f"The epoch is chosen on {chosen}; results are on the test data, which choose nothing.",
        "Differences are paired over seeds and corrected (Holm) in families: at a place, or for the mean over an axis, "
        "the strategies against random pruning, against the smaller dense model and against each other are one each; "
        f"so are all flips. A family is wrong anywhere with a chance of at most {percent(analysis['alpha'])}.",
    ]
    if not study["classifier"]:
        said.append("No layer of the model is known as its classifier, so all of them were pruned, the last one too.")
    if seeds < MIN_SEEDS:
        said.append(f"Fewer than {MIN_SEEDS} seeds prove nothing: no difference is called distinguishable.")
    elif seeds < 5:
        said.append(f"{seeds} seeds resolve large differences only; what is not distinguishable may be so with more.")
    return said


def reading() -> tuple[str, ...]:
    """How to read the page."""
    return (
        "Compression is the number of all parameters divided by those that are left: at 8, one of eight is left. "
        "Theoretical speed-up is the number of multiply-adds of the dense model divided by those with a nonzero "
        "weight. Neither is a measured time: that is the third axis. On a CPU it is the processor time of one "
        "thread for a prediction of 32 samples, in turns with the dense model.",
        "“Not distinguishable” means that this study cannot tell two arms apart; it does not mean that they are equal. "
        "Arms joined by = are not ranked.",
        f"“{UNPRUNED}” is the dense model trained on for as long as the pruned ones. “{SMALLER}” are narrower dense "
        "models trained from scratch for both lengths together.",
    )


def caveats(data: Data) -> list[str]:
    """What a reader has to keep in mind: runs that failed, and notes, which name some of these runs again."""
    failed = [run for run in data["runs"] if run["counts"] and run["status"] == "failed"]
    said = [f"{run['arm']} at {ratio_text(run['ratio'])}, seed {run['seed']}, failed: {run['error']}" for run in failed]
    again = {f"{run['arm']}, seed {run['seed']}: failed: {run['error']}" for run in failed}
    return said + [note for note in data["notes"] if note not in again]
