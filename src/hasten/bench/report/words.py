"""Numbers and verdicts as a reader sees them: shared by page, terminal and charts, so that they never disagree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .data import Report, counted

__all__ = ["UNKNOWN", "VERDICTS", "Verdict", "amount", "answer", "bytes_", "capital", "chance", "decimals_of",
           "duration", "effect_text", "final_point", "fixed", "gain_decimals", "incomplete", "joined", "joules",
           "level", "metric_title", "number", "order", "p_value", "percent", "ratio", "reservation", "run_flags",
           "signed", "span_text", "time_ratio", "troubles"]  # fmt: skip

MINUS = "\u2212"  # the typographic minus sign: as wide as a plus
TIMES = "\u00d7"
UNKNOWN = "\u2013"  # an en dash


@dataclass(frozen=True)
class Verdict:
    """How one verdict looks: a mark that does not need colour, a colour (Okabe-Ito), and a class of the style sheet."""

    word: str
    mark: str
    color: str
    css: str


# arm verdicts, effect verdicts at equal time and quality, and (better, worse) at equal steps
VERDICTS = {
    verdict.word: verdict
    for verdict in (
        Verdict("pays", "▲", "#009E73", "pays"),
        Verdict("costs", "▼", "#D55E00", "costs"),
        Verdict("mixed", "◆", "#E69F00", "mixed"),
        Verdict("not proven", "○", "#767676", "open"),
        Verdict("tie", "=", "#56B4E9", "tie"),
        Verdict("better", "▲", "#009E73", "pays"),
        Verdict("worse", "▼", "#D55E00", "costs"),
        Verdict("baseline", "●", "#767676", "base"),
    )
}


def number(value: float | None, digits: int = 4) -> str:
    """A plain number with `digits` significant digits.

    >>> number(0.82345), number(1234567.0), number(None)
    ('0.8235', '1.235e+06', '–')
    """
    return UNKNOWN if value is None else f"{value:.{digits}g}".replace("-", MINUS)


def signed(value: float | None, decimals: int) -> str:
    """A difference with its sign; what rounds to zero has none.

    >>> signed(0.0213, 3), signed(-0.0001, 3)
    ('+0.021', '0.000')
    """
    if value is None:
        return UNKNOWN
    text = f"{value:+.{decimals}f}"
    return text[1:] if float(text) == 0 else text.replace("-", MINUS)


def fixed(value: float | None, decimals: int) -> str:
    """A level with so many decimals."""
    return UNKNOWN if value is None else f"{value:.{decimals}f}".replace("-", MINUS)


def level(point: dict[str, Any], decimals: int) -> str:
    """A point of a mean curve with the half width of its interval, of which at least one digit is shown."""
    text = fixed(point["metric"], decimals)
    if point["low"] is None or point["high"] is None:
        return text
    half = (point["high"] - point["low"]) / 2
    return f"{text} ± {number(half, 1) if 0 < half < 0.5 * 10**-decimals else fixed(half, decimals)}"


def gain_decimals(analysis: dict[str, Any] | None) -> int:
    """Decimals that the metric of a study deserves.

    Enough for the first digit of the narrowest of the gains' intervals, and for 1 % of the curves' range.
    """
    arms = (analysis or {"arms": []})["arms"]
    effects = [effect for arm in arms for effect in (*arm["budgets"], *arm["accuracy"])]
    widths = [(e["high"] - e["low"]) / 2 for e in effects if e["low"] is not None and e["high"] is not None]
    levels = [point["metric"] for arm in arms for point in arm["curve"]]
    return decimals_of(widths, levels)


def decimals_of(widths: Sequence[float], levels: Sequence[float]) -> int:
    """Decimals for the first digit of the narrowest of these half intervals, and for 1 % of the levels' range."""
    widths = [width for width in widths if width > 0]  # a tie has none
    scales = [min(widths)] if widths else []
    scales += [(max(levels) - min(levels)) / 100] if levels else []
    return min(max([-math.floor(math.log10(scale)) for scale in scales if scale > 0] + [0]), 9)


def ratio(value: float | None) -> str:
    """A factor.

    >>> ratio(1.3149), ratio(12.0)
    ('1.31×', '12×')
    """
    if value is None:
        return UNKNOWN
    return f"{value:.2f}{TIMES}" if 0.1 <= value < 9.995 else f"{value:.3g}{TIMES}"


def percent(share: float) -> str:
    """A share of one in percent.

    >>> percent(0.95)
    '95 %'
    """
    return f"{100 * share:g} %"


def chance(share: float | None) -> str:
    """A probability that was counted in random draws: never a certainty.

    >>> chance(0.731), chance(1.0), chance(0.0), chance(None)
    ('73 %', '> 99 %', '< 1 %', '–')
    """
    if share is None:
        return UNKNOWN
    return "< 1 %" if share < 0.01 else "> 99 %" if share > 0.99 else f"{100 * share:.0f} %"


def joules(energy: float | None) -> str:
    """Energy in joules with a decimal prefix.

    >>> joules(81_300.0)
    '81.3 kJ'
    """
    if energy is None:
        return UNKNOWN
    text = amount(energy)
    return f"{text}J" if " " in text else f"{text} J"


def duration(seconds: float | None) -> str:
    """Seconds in the unit a person would use.

    >>> duration(0.0123), duration(4.13), duration(75.0), duration(9000.0)
    ('12.3 ms', '4.13 s', '75 s', '2 h 30 min')
    """
    if seconds is None:
        return UNKNOWN
    if seconds < 1:
        return f"{1000 * seconds:.3g} ms"
    if seconds < 100:
        return f"{seconds:.3g} s"
    minutes = seconds / 60
    if minutes < 100:
        return f"{minutes:.3g} min"
    return f"{int(minutes // 60)} h {round(minutes % 60)} min" if round(minutes % 60) < 60 else f"{minutes / 60:.3g} h"


def amount(value: float | None) -> str:
    """A count with a decimal prefix.

    >>> amount(1.234e9), amount(960)
    ('1.23 G', '960')
    """
    if value is None:
        return UNKNOWN
    for factor, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.3g} {prefix}"
    return f"{value:.3g}"


def bytes_(value: float | None) -> str:
    """Bytes in MiB or GiB.

    >>> bytes_(3 * 2**30)
    '3 GiB'
    """
    if value is None:
        return UNKNOWN
    return f"{value / 2**30:.3g} GiB" if value >= 2**30 else f"{value / 2**20:.3g} MiB"


def p_value(value: float | None) -> str:
    """A p-value; small ones as a bound.

    >>> p_value(0.0123), p_value(0.0001)
    ('0.012', '< 0.001')
    """
    if value is None:
        return UNKNOWN
    return "< 0.001" if value < 0.001 else f"{value:.2g}"


def joined(items: Sequence[str], word: str = "and") -> str:
    """An enumeration.

    >>> joined(["a", "b", "c"])
    'a, b and c'
    """
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {word} {items[-1]}" if items else ""


def capital(text: str) -> str:
    """The same text with a capital at the start."""
    return text[:1].upper() + text[1:]


def metric_title(data: Report) -> str:
    """The metric as the title of an axis, with its direction where that is not the usual one."""
    return data["study"]["metric"] + (" (lower is better)" if data["study"]["minimize"] else "")


def effect_text(effect: dict[str, Any], decimals: int) -> str:
    """The estimate of an effect, with the direction of its bound where the runs only bound it."""
    if effect["value"] is None:
        return "unknown"
    text = ratio(effect["value"]) if effect["kind"] == "target" else signed(effect["value"], decimals)
    bound = {">=": "≥ ", "<=": "≤ "}.get(effect["bound"], "")
    return bound + text


def span_text(effect: dict[str, Any], decimals: int, low: str = "low", high: str = "high") -> str:
    """The confidence interval of an effect (or its smallest and largest seed), or "–" where an end is unknown."""
    ends = effect[low], effect[high]
    if None in ends:
        return UNKNOWN
    if effect["kind"] == "target":
        return " … ".join(map(ratio, ends))
    return " … ".join(signed(end, decimals) for end in ends)


def reservation(arm: dict[str, Any]) -> str:
    """What follows a verdict that must not stand without its sentence."""
    return ", but …" if arm["verdict"] in ("pays", "mixed") and not arm["plain"] else ""


def order(groups: Sequence[Sequence[str]]) -> str:
    """Arms from best to worst, never a rank among those that cannot be told apart.

    >>> order([["blur"], ["base", "ls"]]), order([["blur", "base"]])
    ('blur > base = ls', 'no order is proven')
    """
    if not groups:
        return "unknown"
    return " > ".join(" = ".join(group) for group in groups) if len(groups) > 1 else "no order is proven"


def final_point(analysis: dict[str, Any], arm: dict[str, Any]) -> dict[str, Any] | None:
    """The arm's curve at the last budget, or None if it has no point there."""
    last = analysis["budgets"][-1]["point"] if analysis["budgets"] else None
    return next((point for point in arm["curve"] if point["point"] == last), None)


def time_ratio(analysis: dict[str, Any], arm: dict[str, Any]) -> float | None:
    """Training time of the arm over the baseline's for the same steps, at the last budget."""
    baseline = next(other for other in analysis["arms"] if other["name"] == analysis["baseline"])
    ours, theirs = final_point(analysis, arm), final_point(analysis, baseline)
    return ours["time"] / theirs["time"] if ours and theirs else None


def run_flags(run: Any) -> list[str]:
    """Everything unusual about a run, in words."""
    return ([] if run["counts"] else ["does not count"]) + list(run["flags"])


def incomplete(data: Report) -> str:
    """Why a study is not complete, as the rest of a sentence; "" when it is."""
    status = data["study"]["status"]
    known = {
        "complete": "",
        "budget": "its time budget was used up",
        "interrupted": "it was interrupted",
        "running": "it is still running, or was stopped while it ran",
    }
    return known.get(status, status)


def troubles(data: Report) -> list[str]:
    """Sentences about runs that failed, drifted, were resumed or are missing."""
    runs, said = data["runs"], []
    if not runs:
        return []
    failed: dict[str, list[str]] = {}
    for run in counted(data):
        if run["status"] == "failed":
            failed.setdefault(run["arm"], []).append(str(run["seed"]))
    if failed:
        named = [f"{arm} (seed{'s' * (len(seeds) > 1)} {joined(seeds)})" for arm, seeds in failed.items()]
        said.append(f"{sum(map(len, failed.values()))} failed: {joined(named)}")
    for flag, text in (("drifted", "ran while the machine's speed drifted"), ("resumed", "resumed after a stop")):
        hits = [run for run in runs if flag in run["flags"]]
        if hits:
            repeated = sum(not run["counts"] for run in hits)
            said.append(f"{len(hits)} {text}" + (f", {repeated} of them repeated" if repeated else ""))
    study = data["study"]
    planned = len(study["seeds"]) * len(study["arms"]) * (len(study["budgets"]) if study["curve"] == "separate" else 1)
    done = sum(run["status"] == "done" for run in counted(data))
    head = f"{done} of {planned} runs finished"
    return [head + (": " + "; ".join(said) if said else "")]


MOST_NAMES = 7  # arms named in the headline; of more it gives numbers
_PHRASES = {  # verdict -> what one arm does, what several do
    "pays": ("{} pays", "{} pay"),
    "reserved": ("{} pays, with reservations", "{} pay, with reservations"),
    "mixed": ("{} pays at some places and costs at others", "{} pay at some places and cost at others"),
    "costs": ("{} costs", "{} cost"),
    "tie": ("{} ties with the baseline", "{} tie with the baseline"),
    "not proven": ("nothing is proven about {}", "nothing is proven about {}"),
}


def answer(data: Report) -> tuple[str, str]:
    """The study in two sentences: who pays, who costs and about whom nothing is proven; and what that rests on."""
    study, analysis = data["study"], data["analysis"]
    baseline = study["baseline"]
    if analysis is None:
        return "No verdict yet.", f"No arm has a finished pair of runs with the baseline {baseline}."
    others = [arm for arm in analysis["arms"] if arm["name"] != baseline]
    groups: dict[str, list[str]] = {word: [] for word in _PHRASES}
    for arm in others:
        groups["reserved" if arm["verdict"] == "pays" and not arm["plain"] else arm["verdict"]].append(arm["name"])
    if not others:
        return "Nothing to compare.", f"There is only the baseline {baseline}: add an arm."
    if len(others) > MOST_NAMES:
        groups = {word: [f"{len(names)} arms"] * len(names) for word, names in groups.items()}
    parts = [
        _PHRASES[word][len(names) > 1].format(joined(list(dict.fromkeys(names))))
        for word, names in groups.items()
        if names
    ]
    if parts[0].startswith("nothing"):
        parts[0] = "N" + parts[0][1:]
    pairs = sorted({len(arm["seeds"]) for arm in others})
    seeds = f"{pairs[0]}" if len(pairs) == 1 else f"{pairs[0]} to {pairs[-1]}"
    labels = [budget["label"] for budget in analysis["budgets"]]
    span = f", at budgets from {labels[0]} to {labels[-1]}" if len(labels) > 1 else ""
    where = f" on {study['workload']}" if study["workload"] else ""
    return (
        f"{'; '.join(parts)}.",
        f"Compared with {baseline}{where}, over {seeds} paired seed{'s' * (seeds != '1')}{span}.",
    )
