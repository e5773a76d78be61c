"""`render`: the whole study as one HTML page that needs no network and no other file.

The answer comes first (who pays, at which budgets), then how sure it is, then charts, tables and every run. A content
security policy admits only the two scripts by their digest and no connection at all, so a name from outside could do
nothing even if it were not escaped (it is: see `markup`).
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Iterable
from importlib import resources
from typing import Any

from ..._core.checks import missing_extra
from . import charts, tables, words
from .calibration import calibration_reading, calibration_table
from .data import Report, prepare
from .frontier import frontier_reading, frontier_sentence, frontier_table
from .heat import heat_key, heat_map
from .interactions import INTERACTIONS, interaction_lines, interactions_table
from .markup import Html, element, join, json_script
from .tables import badge, facts, scroll
from .words import duration, joined, number

__all__ = ["answer_parts", "detail_parts", "document", "figure_place", "render", "vega_bundle"]


def render(data: dict[str, Any] | Report) -> str:
    """The report page.

    Args:
        data: see `hasten.bench.report.data.Report`; it is validated here.

    Returns:
        A complete HTML document of about 1 MB, nearly all of it the chart library; the same data give the same bytes.

    Raises:
        ValueError: the data are not a report, or of another version.
        ImportError: altair or vl-convert is not installed (extra `bench`).
    """
    report = prepare(data)
    figures = charts.figures(report)
    main = element(
        "main",
        _header(report),
        _section("answer", "Which of these pay?", *answer_parts(report)),
        _sure(report),
        _charts(figures),
        _axes(figures),
        _frontier(report, figures),
        _interactions(report),
        _calibration(report, figures),
        _section("details", "All numbers", *detail_parts(report)),
        _reading(report),
    )
    return document(report["study"]["title"], main, {figure.name: figure.spec() for figure in figures})


def document(title: str, main: Html, specs: dict[str, Any], *, more: str = "") -> str:
    """A complete HTML page around `main`, with the charts that its `data-chart` places name.

    Args:
        title: of the window.
        main: the content.
        specs: name of a chart -> its Vega-Lite specification; without any the chart library is left out.
        more: name of a style sheet and a script of ours, `<more>.css` and `<more>.js`, that this page needs as well.
    """
    bundle, script = vega_bundle() if specs else "", _asset("page.js")
    own, style = (_asset(f"{more}.js"), _asset(f"{more}.css")) if more else ("", "")
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_policy(filter(None, [bundle, script, own]))),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="generator", content="hasten"),
        element("title", title),
        element("style", Html(_asset("style.css") + style)),
    )
    code = [element("script", Html(text)) for text in (bundle, script, own) if text]
    scripts = join((json_script("charts", specs), *code))
    return f"<!doctype html>\n{element('html', head, element('body', main, scripts), lang='en')}\n"


@functools.cache
def vega_bundle() -> str:
    """The chart library for the page, in the version that altair writes for; built once per process (about 1.5 s)."""
    alt = charts.theme.altair()
    try:
        import vl_convert
    except ImportError:
        raise missing_extra("hasten report", "vl-convert-python", "bench") from None
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=charts.vega_lite_version(alt))


def _asset(name: str) -> str:
    return resources.files("hasten.bench.report").joinpath(name).read_text(encoding="utf-8")


def _policy(scripts: Iterable[str]) -> str:
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:"


def _section(name: str, title: str, *content: object) -> Html:
    return element("section", element("h2", title, id=name), *content, aria_labelledby=name)


def _header(data: Report) -> Html:
    study, warning = data["study"], None
    if why := words.incomplete(data):
        strong = element("strong", "This study is not complete")
        warning = element("p", strong, f": {why}.", class_="warning", role="note")
    kicker = ("hasten compare", study["workload"], study["created"][:10])
    return element(
        "header",
        element("p", " · ".join(filter(None, kicker)), class_="kicker"),
        element("h1", study["title"]),
        element("p", study["summary"], class_="summary"),
        warning,
    )


def answer_parts(data: Report) -> list[object]:
    """The answer of a study: headline, cards of the arms, heat maps."""
    headline, rests = words.answer(data)
    parts: list[object] = [element("p", headline, class_="headline"), element("p", rests, class_="quiet")]
    analysis = data["analysis"]
    if analysis is not None:
        cards = [_card(data, analysis, arm) for arm in analysis["arms"] if arm["name"] != analysis["baseline"]]
        parts.append(element("ul", *cards, class_="cards"))
        headings = {
            "budgets": f"Gain in {data['study']['metric']} at equal training time",
            "targets": "Speedup to reach the same quality",
        }
        maps = [(title, heat_map(data, field, title)) for field, title in headings.items()]
        parts.append(element("div", *(scroll(title, made) for title, made in maps if made), class_="glances"))
        parts.append(heat_key(data))
    return parts


def _card(data: Report, analysis: dict[str, Any], arm: dict[str, Any]) -> Html:
    """One arm: its verdict, the sentence, and two numbers."""
    methods = next(item["methods"] for item in data["study"]["arms"] if item["name"] == arm["name"])
    final, pace = words.final_point(analysis, arm), words.time_ratio(analysis, arm)
    said = [f"{words.ratio(pace)} the time for the same steps"] if pace is not None else []
    if final is not None:
        level = words.level(final, words.gain_decimals(analysis))
        said.append(f"{data['study']['metric']} {level} at {analysis['budgets'][-1]['label']}")
    label = badge(arm["verdict"], more=words.reservation(arm))
    return element(
        "li",
        element("div", element("h3", arm["name"]), label, class_="card-head"),
        element("p", words.capital(arm["sentence"])),
        element("p", " · ".join(said), class_="quiet") if said else None,
        element("p", ", ".join(methods), class_="code quiet") if methods else None,
        class_=f"card {words.VERDICTS[arm['verdict']].css}",
    )


def _sure(data: Report) -> Html:
    """The box that says what the answer rests on."""
    items = element("ul", *(element("li", text) for text in _grounds(data)))
    analysis = data["analysis"]
    caveats = [*(analysis["notes"] if analysis else ()), *data["notes"]]
    notes = element("ul", *(element("li", text) for text in caveats))
    mind = element("div", element("h3", "Keep in mind"), notes) if caveats else None
    halves = element("div", items, mind, class_="halves")
    return element("aside", element("h2", "How sure is this?", id="sure"), halves, aria_labelledby="sure", class_="box")


def _grounds(data: Report) -> list[str]:
    study, analysis, power = data["study"], data["analysis"], data["power"]
    said = [f"{text}." for text in words.troubles(data)]
    if power is not None:
        said.append(power["text"])
    if analysis is not None:
        alpha, level = words.percent(analysis["alpha"]), words.percent(1 - analysis["alpha"])
        said.append(
            f"Verdicts are paired t tests over seeds, corrected (Holm) for the {analysis['questions']} questions of "
            f"this study: a false “pays” or “costs” anywhere in it has a chance of at most {alpha}. "
            f"Intervals are {level} for one question alone."
        )
        if analysis["margin"] is not None:
            margin = f"{number(analysis['margin'])} is excluded (margin: {analysis['margin_source']})"
            said.append(f"“No loss” means that a loss above {margin}.")
    if not data["runs"]:
        return [*said, "Made from logs: times, seeds and failures are taken as they were logged."]
    why = f" Chosen because {study['curve_reason']}." if study["curve_reason"] else ""
    return [*said, _CURVES[study["curve"]] + why]


_CURVES = {
    "cyclic": "Cyclic curve: one run per arm and seed gives all points, the learning rate completes one cycle per "
    "budget. Levels differ a little from separate runs; differences between arms carry over.",
    "separate": "Separate runs: every point is a complete training run with its own learning-rate schedule.",
    "branch": "Branch curve: one trunk at a constant learning rate, and for every budget its own decay from it; it "
    "is compared with branch curves only. On the clock of a point are the trunk and its own decay; the time of the "
    "other branches is counted as “branches”, off the clock.",
}


def _figures(figures: Iterable[charts.Figure], section: str) -> Html | None:
    """The figures of one section side by side; None without any."""
    made = [figure_place(figure, figure.name) for figure in figures if figure.section == section]
    return element("div", *made, class_=f"figures {section}") if made else None


def figure_place(figure: charts.Figure, name: str) -> Html:
    """Title, place and caption of a figure; `name` is that of its specification in the page."""
    return element(
        "figure",
        element("h3", figure.title),
        element("div", class_="chart", data_chart=name, role="img", aria_label=f"Chart: {figure.title}"),
        element("figcaption", figure.caption),
        class_="wide" if figure.wide else None,
    )


def _charts(figures: list[charts.Figure]) -> Html:
    hint = element("noscript", element("p", "The charts need JavaScript; the tables below do not."))
    return _section("charts-title", "Charts", hint, _figures(figures, "charts"))


def _axes(figures: list[charts.Figure]) -> Html | None:
    made = _figures(figures, "axes")
    hint = "Verdicts are about time. What else training takes explains them, and decides nothing."
    return made and _section("axes", "Other axes", element("p", hint, class_="quiet"), made)


def _frontier(data: Report, figures: list[charts.Figure]) -> Html | None:
    made = frontier_table(data)
    if made is None:
        return None
    reading = element("p", frontier_reading(data), class_="quiet after")
    parts = (element("p", frontier_sentence(data)), _figures(figures, "frontier"), made, reading)
    return _section("frontier", "Which arm for how much time?", *parts)


def _interactions(data: Report) -> Html | None:
    """One sentence per design; all readings are among the numbers."""
    lines = [element("li", line) for line in interaction_lines(data)]
    if not lines:
        return None
    reading = element("p", INTERACTIONS, class_="quiet")
    return _section("interactions", "Do the methods add up?", element("ul", *lines), reading)


def _calibration(data: Report, figures: list[charts.Figure]) -> Html | None:
    if data["calibration"] is None:
        return None
    reading = element("div", *(element("p", text) for text in calibration_reading(data)))
    halves = element("div", reading, _figures(figures, "calibration"), class_="halves")
    return _section("calibration", "What does the kind of curve change?", halves, calibration_table(data))


def detail_parts(data: Report) -> list[object]:
    """All numbers of a study: effects, costs, runs, arms, question, environment."""
    parts: list[object] = [*_effects(data)]
    if data["runs"]:
        parts += [element("h3", "Time and costs"), tables.phases_table(data), tables.costs_table(data), _energy(data)]
        parts += [element("h3", "Every run"), tables.runs_table(data)]
    parts += [element("h3", "Arms"), facts((arm["name"], _arm(arm)) for arm in data["study"]["arms"])]
    parts += [element("h3", "What was asked"), _asked(data)]
    if data["environment"]:
        parts += [
            element("h3", "Environment"),
            facts((key, _plain(value)) for key, value in data["environment"].items() if key != "energy"),
        ]
    return parts


_EFFECTS = {
    "budgets": "Gain at equal training time",
    "targets": "Speedup at equal quality",
    "accuracy": "Difference at equal steps (describes, decides nothing)",
}


def _effects(data: Report) -> list[Html | None]:
    analysis = data["analysis"]
    if analysis is None:
        return []
    hint = (
        "Arms joined by = cannot be told apart and are not ranked. This is quality per step, whatever a step costs: "
        "a second family of tests with an error rate of 5 % of its own, and no verdict."
    )
    order = [element("h3", "Order at equal steps"), element("p", hint, class_="quiet"), tables.order_list(analysis)]
    effects = (tables.effects_table(data, field, caption) for field, caption in _EFFECTS.items())
    return [*effects, *order, interactions_table(data)]


def _energy(data: Report) -> Html | None:
    """Where no run has energy, the one line that says why; reports before version 2 do not know."""
    told = data["environment"].get("energy")
    if told is None or any(run["energy"] is not None for run in data["runs"]):
        return None
    return element("p", str(told), class_="quiet after")


def _arm(arm: Any) -> Html:
    lines = (
        element("div", joined(arm["methods"]) or "the workload as it is", class_="code"),
        element("div", "; ".join(arm["differences"]) or "no difference", class_="quiet"),
        element("div", arm["fingerprint"][:16], class_="code quiet"),
    )
    return join(lines)


def _asked(data: Report) -> Html:
    study = data["study"]
    pairs = {
        "command": element("span", study["command"], class_="code"),
        "duration": study["duration"],
        "budgets": joined(study["budgets"]),
        "seeds": joined([str(seed) for seed in study["seeds"]]),
        "target": number(study["target"]) if study["target"] is not None else "none given",
        "status": study["status"],
        "created": study["created"],
    }
    return facts(pairs.items())


def _plain(value: Any) -> str:
    """A fact about the environment as text."""
    if isinstance(value, list):
        return joined([_plain(item) for item in value])
    return "unknown" if value is None else str(value)


def _reading(data: Report) -> Html:
    study = data["study"]
    excluded, total = joined(study["clock_excludes"]), sum(run["seconds"] for run in data["runs"])
    clock = (
        "The training clock runs through all that training needs, and through what a method adds: set-up, loading, "
        f"transforms, forward, backward, optimizer, hooks. It does not run during {excluded}. All runs together took "
        f"{duration(total)} on it."
    )
    text = [
        clock if excluded else "Training time is as it was logged.",
        "“Pays” at a budget: with the baseline's training time the arm reaches a better result. “Pays” at a target: "
        "the arm reaches that quality in less training time. “Costs” is the opposite. “Not proven” means this study "
        "cannot tell; it does not mean that there is no effect.",
        "A bound (≥ or ≤) stands where some runs never reached a target: the true factor is at least or at most that.",
        "Runs of two arms with the same seed start from the same weights where they have the same layers and see the "
        "same data in the same order. That is why they are compared in pairs.",
    ]
    return _section("reading", "How to read this page", *(element("p", paragraph) for paragraph in text))
