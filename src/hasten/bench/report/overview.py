"""The overview of several studies: every verdict in one table, arms that they share, and what variants do to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..._core.checks import check
from . import words
from .data import Report
from .markup import Html, element
from .tables import badge, facts, name_cell, number_cell, scroll, table, text_cell
from .together import Shared, runs_in_common, shared_arms
from .words import UNKNOWN, VERDICTS, joined

__all__ = ["every_arm", "link_to", "overview", "section", "survival", "together"]

MANY = 8  # comparisons; more are counted in the headline, not named


def section(name: str, title: str, *content: object) -> Html:
    """A part of the page with a heading that others can point to."""
    return element("section", element("h2", title, id=name), *content, aria_labelledby=name)


def link_to(text: str, to: str) -> Html:
    """A link to a place of this page or to a page beside it."""
    return element("a", text, href=to)


# The overview ---------------------------------------------------------------------------------------------------------


def _others(report: Report) -> list[dict[str, Any]]:
    """The arms that were compared with the baseline."""
    analysis = report["analysis"]
    return [arm for arm in analysis["arms"] if arm["name"] != analysis["baseline"]] if analysis is not None else []


def overview(reports: Sequence[Report], labels: Sequence[str], links: Sequence[str]) -> Html:
    """Who pays where, in a sentence and in a table of studies by arms.

    Args:
        reports: prepared.
        labels: a short name for each.
        links: where its numbers are.
    """
    baselines = {report["study"]["baseline"] for report in reports}
    alphas = {words.percent(report["analysis"]["alpha"]) for report in reports if report["analysis"] is not None}
    compared = f"Compared with {baselines.pop()}" if len(baselines) == 1 else "Compared with the baseline of each study"
    errors = f" (in each, a false one has a chance of at most {joined(sorted(alphas))})" if alphas else ""
    hint = f"{compared}. Verdicts are corrected within a study{errors}, not over all studies of this page. "
    hint += "A speedup is the geometric mean over all qualities that both arms reach."
    return section(
        "answer",
        "Which of these pay, and where?",
        element("p", _headline(reports, labels), class_="headline"),
        element("p", hint, class_="quiet"),
        _matrix(reports, labels, links),
    )


def _headline(reports: Sequence[Report], labels: Sequence[str]) -> str:
    """Who pays and who costs, by name or, where there are many, by number."""
    found: dict[str, list[str]] = {"pays": [], "mixed": [], "costs": [], "tie": [], "not proven": []}
    for report, label in zip(reports, labels, strict=True):
        for arm in _others(report):
            reserved = " (with reservations)" if words.reservation(arm) and arm["verdict"] == "pays" else ""
            found[arm["verdict"]].append(f"{arm['name']} on {label}{reserved}")
    total = sum(map(len, found.values()))
    if not total:
        return "No verdict yet."
    phrases = {"pays": "Pays", "mixed": "Pays at some places and costs at others", "costs": "Costs", "tie": "Ties"}
    said = [
        f"{phrase}: {joined(found[word]) if total <= MANY else f'{len(found[word])} of {total} comparisons'}."
        for word, phrase in phrases.items()
        if found[word]
    ]
    open_ = len(found["not proven"])
    if open_ == total:
        return f"Nothing is proven in any of {total} comparisons." if total > 1 else "Nothing is proven."
    return " ".join([*said, *([f"Nothing is proven in {open_} of {total} comparisons."] if open_ else [])])


def _matrix(reports: Sequence[Report], labels: Sequence[str], links: Sequence[str]) -> Html:
    """Studies down, arms across."""
    compared = {arm["name"] for report in reports for arm in _others(report)}
    names = list(dict.fromkeys(arm["name"] for report in reports for arm in report["study"]["arms"]))
    names = [name for name in names if name in compared] or names  # a column of baselines says nothing
    head = [
        element("th", element("button", name, type="button"), scope="col", aria_sort="none")
        for name in ("study", *names)
    ]
    rows = []
    for report, label, link in zip(reports, labels, links, strict=True):
        analysis = report["analysis"]
        arms = {arm["name"]: arm for arm in analysis["arms"]} if analysis is not None else {}
        known = {arm["name"] for arm in report["study"]["arms"]}
        cells = [_matrix_cell(arms.get(name), name in known) for name in names]
        rows.append(element("tr", element("th", link_to(label, link), scope="row"), *cells))
    parts = (
        element("caption", "Verdict, and speedup with its 95 % interval for this question alone"),
        element("thead", element("tr", *head)),
        element("tbody", *rows),
    )
    return scroll("Verdicts of all studies", element("table", *parts, class_="sortable matrix"))


def _matrix_cell(arm: dict[str, Any] | None, known: bool) -> Html:
    if arm is None:
        return text_cell("no verdict yet" if known else UNKNOWN, class_="quiet")
    overall = arm["overall"]
    said = element("div", _speedup(overall), class_="quiet") if overall else None
    return text_cell(badge(arm["verdict"], more=words.reservation(arm)), said)


def _speedup(overall: Mapping[str, Any]) -> str:
    span = _span(overall["low"], overall["high"])
    return words.ratio(overall["speedup"]) + (f" ({span})" if span != UNKNOWN else "")


def _span(low: float | None, high: float | None) -> str:
    return UNKNOWN if low is None or high is None else f"{words.ratio(low)} … {words.ratio(high)}"


# Arms that studies share ----------------------------------------------------------------------------------------------

_SHARED_HEAD = ("arm", "studies", "verdicts", "#speedup", "#interval", "#range", "#IQM", "#faster in", "#pairs")


def together(reports: Sequence[Report], labels: Sequence[str]) -> Html | None:
    """One row for each arm that at least two studies have under the same methods; None without any."""
    shared = shared_arms(reports)
    if not shared:
        return None
    hint = (
        "Speedup: geometric mean over studies, each counts the same; with its 95 % interval, the range from the lowest "
        "to the highest study, and the interquartile mean (IQM) over all seed pairs. Faster in: share of seed pairs in "
        "which the arm is faster, averaged over studies. This describes; verdicts are those of the studies."
    )
    rows = [_shared_row(one, labels) for one in shared]
    notes = [element("p", text, class_="quiet after") for text in _shared_notes(shared, reports, labels)]
    made = table(_SHARED_HEAD, rows, caption="Arms with the same methods in several studies")
    written = [(" / ".join(one.names), element("span", joined(one.methods) or "none", class_="code")) for one in shared]
    parts = (element("p", hint, class_="quiet"), made, *notes, element("h3", "Their methods"), facts(written))
    return section("together", "The same methods in several studies", *parts)


def _shared_row(one: Shared, labels: Sequence[str]) -> Html:
    known = [value for value in one.speedups if value is not None]
    verdicts = [f"{VERDICTS[word].mark} {word}: {count}" for word, count in one.verdicts.items()]
    chance = UNKNOWN if one.chance is None else f"{100 * one.chance:.0f} %"
    return element(
        "tr",
        name_cell(" / ".join(one.names)),
        text_cell(joined([labels[position] for position in one.studies])),
        text_cell(", ".join(verdicts)),
        number_cell(words.ratio(one.mean), one.mean),
        number_cell(_span(one.low, one.high), one.low),
        number_cell(_span(min(known), max(known)) if len(known) > 1 else UNKNOWN, min(known, default=None)),
        number_cell(words.ratio(one.iqm), one.iqm),
        number_cell(chance, one.chance),
        number_cell(one.pairs, one.pairs),
    )


def _shared_notes(shared: Sequence[Shared], reports: Sequence[Report], labels: Sequence[str]) -> list[str]:
    said = []
    if any(one.machines > 1 for one in shared):
        names = joined([" / ".join(one.names) for one in shared if one.machines > 1])
        said.append(
            f"Averaged over studies of different machines: {names}. Each speedup compares times of one machine; on "
            "another machine it may differ."
        )
    if missing := [" / ".join(one.names) for one in shared if None in one.speedups]:
        said.append(
            f"Not in every study a speedup, because no quality is reached by all runs of both arms: {joined(missing)}. "
            "The means leave those studies out."
        )
    few = [" / ".join(one.names) for one in shared if one.mean is not None and len(one.studies) < 5]
    if few:
        said.append("With fewer than five studies the interval is about these studies, not about others like them.")
    for one, other, count in runs_in_common(reports):
        said.append(f"{labels[one]} and {labels[other]} hold {count} of the same runs: averages count them twice.")
    return said


# Every arm ------------------------------------------------------------------------------------------------------------

_ARM_HEAD = ("study", "arm", "verdict", "#speedup", "#interval", "#gain", "#step time", "#metric", "#pairs")


def every_arm(reports: Sequence[Report], labels: Sequence[str], links: Sequence[str]) -> Html:
    """One row for each arm of each study, to be sorted and filtered."""
    rows = [
        _arm_row(report, arm, label, link)
        for report, label, link in zip(reports, labels, links, strict=True)
        for arm in _others(report)
    ]
    box = element(
        "label",
        "Filter",
        element("input", type="search", data_filter="arms", placeholder="a study, an arm, a method, a verdict"),
        element("output"),
        class_="filter",
        hidden=True,
    )
    hint = (
        "Gain (at equal training time) and metric at the last budget of the study. Step time: training time for the "
        "same steps, over the baseline's."
    )
    made = table(_ARM_HEAD, rows, caption=f"{len(rows)} comparisons with a baseline")
    return section("every-arm", "Every arm", element("p", hint, class_="quiet"), box, element("div", made, id="arms"))


def _arm_row(report: Report, arm: dict[str, Any], label: str, link: str) -> Html:
    analysis = report["analysis"]
    assert analysis is not None
    methods = next(item["methods"] for item in report["study"]["arms"] if item["name"] == arm["name"])
    overall, final = arm["overall"] or {}, words.final_point(analysis, arm)
    decimals, pace = words.gain_decimals(analysis), words.time_ratio(analysis, arm)
    gain = arm["budgets"][-1] if arm["budgets"] else None
    return element(
        "tr",
        element("td", link_to(label, link)),
        name_cell(arm["name"]),
        text_cell(badge(arm["verdict"], more=words.reservation(arm))),
        number_cell(words.ratio(overall.get("speedup")), overall.get("speedup")),
        number_cell(_span(overall.get("low"), overall.get("high")), overall.get("low")),
        number_cell(words.effect_text(gain, decimals) if gain else UNKNOWN, gain["value"] if gain else None),
        number_cell(words.ratio(pace), pace),
        number_cell(words.level(final, decimals) if final else UNKNOWN, final["metric"] if final else None),
        number_cell(len(arm["seeds"]), len(arm["seeds"])),
        data_words=" ".join(methods),
    )


# Robustness -----------------------------------------------------------------------------------------------------------


def survival(answer: Mapping[str, Any]) -> Html:
    """What became of verdicts in variants of a workload: arms down, variants across.

    Args:
        answer: the data of `hasten.bench.robustness`, printable.

    Raises:
        ValueError: it lacks the workload, the arms or what is unavailable.
    """
    for key, kind in {"workload": str, "arms": list, "unavailable": dict}.items():
        fix, found = "Pass the data of hasten.bench.robustness.", answer.get(key)
        check(isinstance(found, kind), "render_several", f"robustness data with {key!r}", found, fix)
    variants = list(dict.fromkeys(name for arm in answer["arms"] for name in arm["variants"]))
    head = ("arm", "original", *variants, "#confirmed", "#unproven", "#contradicted")
    rows = [
        element(
            "tr",
            name_cell(arm["name"]),
            text_cell(badge(arm["original"])),
            *(text_cell(badge(arm["variants"][name]) if name in arm["variants"] else UNKNOWN) for name in variants),
            *(number_cell(arm[word], arm[word]) for word in ("confirmed", "unproven", "contradicted")),
        )
        for arm in answer["arms"]
    ]
    said = [element("li", element("strong", arm["name"]), f": {arm['sentence']}") for arm in answer["arms"]]
    changes = [element("li", f"{name}: {change}") for name, change in (answer.get("changes") or {}).items()]
    missing = [element("li", f"without {name}: {why}") for name, why in answer["unavailable"].items()]
    notes = [element("li", text) for text in answer.get("notes") or ()]
    caption = f"Verdicts on {answer['workload']} and on its variants"
    made = table(head, rows, caption=caption) if rows else element("p", "No verdict yet.", class_="quiet")
    parts = (
        element("ul", *said) if said else None,
        made,
        element("ul", *changes, *missing, *notes, class_="quiet after"),
    )
    return element("section", element("h2", f"Does the verdict survive? Variants of {answer['workload']}"), *parts)
