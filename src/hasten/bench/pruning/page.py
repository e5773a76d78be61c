"""`render`: a pruning study as one HTML page that needs no network and no other file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..report.data import printable
from ..report.markup import Html, element, join
from ..report.overview import section
from ..report.page import document, figure_place
from ..report.tables import facts, name_cell, number_cell, table, text_cell
from ..report.words import UNKNOWN, amount, duration, joined, number, order, p_value, ratio
from . import words
from .charts import figures
from .fair import AXES, UNSURE

__all__ = ["render"]

Data = Mapping[str, Any]

BADGES = {"better": ("▲", "pays"), "worse": ("▼", "costs"), UNSURE: ("=", "tie")}
COUNTS = ("parameters", "nonzero", "macs", "macs_nonzero")
LAYOUTS = {"dense": "dense", "csr": "CSR", "bitmap": "bitmap", "2:4": "2:4"}


def render(data: dict[str, Any]) -> str:
    """The report page.

    Args:
        data: `PruneStudy.data`.

    Returns:
        A complete HTML document; the same data give the same bytes.

    Raises:
        ImportError: altair or vl-convert is not installed (extra `bench`).
    """
    data = printable(data)
    drawn = figures(data)
    hint = element("noscript", element("p", "The charts need JavaScript; the tables below do not."))
    places = element("div", *(figure_place(figure, figure.name) for figure in drawn), class_="figures charts")
    main = element(
        "main",
        _header(data),
        section("answer", "What survives pruning?", *_answer(data)),
        _sure(data),
        section("charts-title", "Three axes", hint, places) if drawn else None,
        section("order", "Who keeps most?", *_order(data)) if data["rows"] else None,
        section("details", "All numbers", *_details(data)),
        section("reading", "How to read this page", *(element("p", text) for text in words.reading())),
    )
    return document(data["study"]["title"], main, {figure.name: figure.spec() for figure in drawn})


def _header(data: Data) -> Html:
    study, warning = data["study"], None
    if study["status"] != "complete":
        strong = element("strong", "This study is not complete")
        why = f" ({study['status']}): the same command goes on."
        warning = element("p", strong, why, class_="warning", role="note")
    kicker = ("hasten prune", study["workload"], (study["created"] or "")[:10])
    return element(
        "header",
        element("p", " · ".join(filter(None, kicker)), class_="kicker"),
        element("h1", study["title"]),
        element("p", study["summary"], class_="summary"),
        warning,
    )


def _answer(data: Data) -> list[object]:
    """The first sentence large, the others below it, and the metric by strategy and ratio."""
    first, *rest = words.answer(data)
    parts: list[object] = [element("p", first, class_="headline"), *(element("p", text) for text in rest)]
    return [*parts, _levels(data)] if data["rows"] else parts


def _levels(data: Data) -> Html:
    """Arms down, ratios across: the metric after training on, with the verdict against random pruning."""
    study, places, marks = data["study"], words.decimals(data), words.marks(data)
    rows = {(row["arm"], row["point"]): row for row in data["rows"]}
    head = ["arm", *(f"#{words.ratio_text(asked)}" for asked in study["ratios"])]
    body = []
    for arm in dict.fromkeys(arm for arm, _ in rows):
        cells = [
            _level_cell(rows.get((arm, point)), marks.get((arm, point)), places)
            for point in range(len(study["ratios"]))
        ]
        body.append(element("tr", name_cell(arm), *cells))
    caption = (
        f"{study['metric']} on the test data by compression, mean and half of the 95 % interval. Against random "
        "pruning at the same compression: ▲ better, ▼ worse, = not distinguishable"
    )
    return table(head, body, caption=caption)


def _level_cell(row: Data | None, verdict: str | None, places: int) -> Html:
    if row is None:
        return text_cell("")
    mark, css = BADGES.get(verdict or "", ("", ""))
    badge = element("span", mark, class_=f"badge {css}", title=verdict) if mark else None
    return number_cell(join(filter(None, [badge, words.level(row["metric"], places)]), " "), row["metric"]["mean"])


def _sure(data: Data) -> Html:
    """The box that says what the answer rests on."""
    items = element("ul", *(element("li", text) for text in words.grounds(data)))
    caveats = words.caveats(data)
    notes = element("ul", *(element("li", text) for text in caveats))
    mind = element("div", element("h3", "Keep in mind"), notes) if caveats else None
    halves = element("div", items, mind, class_="halves")
    return element("aside", element("h2", "How sure is this?", id="sure"), halves, aria_labelledby="sure", class_="box")


def _order(data: Data) -> list[object]:
    """Orders on each axis: where two arms change places, it is seen here."""
    hint = "Arms joined by = cannot be told apart and are not ranked. An arm stands only where its curve reaches."
    parts: list[object] = [element("p", hint, class_="quiet")]
    for axis, places in data["analysis"]["orders"].items():
        if places:
            parts.append(element("h3", f"At equal {words.AXIS[axis]}"))
            parts.append(facts((words.ratio_text(place["at"]), order(place["groups"])) for place in places))
    return parts


def _details(data: Data) -> list[object]:
    parts: list[object] = []
    if data["rows"]:
        parts += [element("h3", "Quality, size, work and time"), _rows(data), element("h3", "Bytes"), _bytes(data)]
        parts += [element("h3", "Against random pruning"), _effects(data), element("h3", "Pairs"), _pairs(data)]
        parts += [element("h3", "Every run"), _runs(data)]
    parts += [element("h3", "What was asked"), facts(_asked(data).items())]
    if data["environment"]:
        parts += [element("h3", "Environment"), facts((k, _plain(v)) for k, v in data["environment"].items())]
    return parts


def _rows(data: Data) -> Html:
    places, study = words.decimals(data), data["study"]
    head = ("arm", "#asked", "#before", "#after", "#change", "#compression", "#parameters", "#nonzero", "#MACs",
            "#nonzero MACs", "#speed-up", "#time", "#time / dense", "#n")  # fmt: skip
    body = [
        element(
            "tr",
            name_cell(row["arm"]),
            number_cell(words.ratio_text(row["ratio"]), row["ratio"]),
            number_cell(words.level(row["before"], places), row["before"] and row["before"]["mean"]),
            number_cell(words.level(row["metric"], places), row["metric"]["mean"]),
            number_cell(words.span(row["change"], places) if row["change"] else UNKNOWN,
                        row["change"] and row["change"]["value"]),
            number_cell(ratio(row["compression"]), row["compression"]),
            *(number_cell(f"{row[name]:,.0f}", row[name]) for name in COUNTS),
            number_cell(ratio(row["speedup"]), row["speedup"]),
            number_cell(f"{words.level(row['ms'], 2)}\u00a0ms", row["ms"]["mean"]),
            number_cell(words.level(row["relative"], 2), row["relative"]["mean"]),
            number_cell(row["n"], row["n"]),
        )
        for row in data["rows"]
    ]  # fmt: skip
    caption = (
        f"Means over seeds. Before and after training on: {study['metric']} on the test data. Change: against the "
        "unpruned model trained on for as long, above 0 is better. Time: of a prediction for 32 samples"
    )
    return table(head, body, caption=caption)


def _bytes(data: Data) -> Html:
    head = ("arm", "#asked", *(f"#{name}" for name in LAYOUTS.values()))
    body = [
        element(
            "tr",
            name_cell(row["arm"]),
            number_cell(words.ratio_text(row["ratio"]), row["ratio"]),
            *(number_cell(UNKNOWN if (size := row["bytes"].get(key)) is None else f"{size:,.0f}", size)
              for key in LAYOUTS),
        )
        for row in data["rows"]
    ]  # fmt: skip
    return table(head, body, caption="Bytes of all parameters as they are, as sparse rows, with a bit for each entry")


def _effects(data: Data) -> Html:
    places, ratios = words.decimals(data), data["study"]["ratios"]
    head = ("arm", "#at", "#difference (95 % interval)", "#p\u00a0(Holm)", "verdict", "#n")
    body = [
        element(
            "tr",
            name_cell(one["arm"]),
            number_cell(words.ratio_text(ratios[one["point"]]), ratios[one["point"]]),
            number_cell(words.span(one, places), one["value"]),
            number_cell(p_value(one["p_holm"]), one["p_holm"]),
            text_cell(one["verdict"]),
            number_cell(one["n"], one["n"]),
        )
        for one in data["analysis"]["effects"]
    ]
    return table(head, body, caption="Paired differences from random pruning at equal compression, above 0 is better")


def _pairs(data: Data) -> Html:
    """Two arms over the range that both cover, on each axis."""
    places = words.decimals(data)
    head = ("one", "other", *(f"#at equal {words.AXIS[axis]}" for axis in AXES))
    body = [
        element("tr", name_cell(pair["one"]), text_cell(pair["other"]),
                *(_gap_cell(pair[axis], places) for axis in AXES))
        for pair in data["analysis"]["pairs"]
    ]  # fmt: skip
    caption = "Mean difference of the first from the second over the range that both curves cover, above 0 is better"
    return table(head, body, caption=caption)


def _gap_cell(gap: Data | None, places: int) -> Html:
    if gap is None:
        return number_cell(UNKNOWN, None)
    below = f"up to {words.ratio_text(gap['reach'])}; {gap['verdict']}"
    return number_cell(join([words.span(gap, places), element("div", below, class_="below")]), gap["value"])


def _runs(data: Data) -> Html:
    head = ("arm", "#at", "#seed", "status", "#before", "#after", "#train time", "#off the clock", "weights")
    show: Callable[[float | None], str] = number
    body = [
        element(
            "tr",
            name_cell(run["arm"]),
            number_cell(words.ratio_text(run["ratio"]), run["ratio"]),
            number_cell(run["seed"], run["seed"]),
            text_cell(join([run["status"], *run["flags"]], " "), element("div", run["error"], class_="remark")
                      if run["error"] else None),
            number_cell(show(run["before"]), run["before"]),
            number_cell(show(run["metric"]), run["metric"]),
            number_cell(duration(run["seconds"]), run["seconds"]),
            number_cell(duration(run["off"]), run["off"]),
            text_cell((run["weights"] or UNKNOWN)[:8], class_="code"),
            class_=None if run["counts"] else "discounted",
        )
        for run in data["runs"]
    ]  # fmt: skip
    return table(head, body, caption=f"{len(data['runs'])} runs; the start of a seed is the dense model it begins with")


def _asked(data: Data) -> dict[str, object]:
    study, parameters = data["study"], data["study"]["parameters"]
    narrow = joined([f"{one['change']} ({one['parameters']:,} parameters)" for one in study["smaller"]])
    return {
        "command": element("span", study["command"], class_="code"),
        "strategies": joined(study["strategies"]),
        "ratios": joined([words.ratio_text(asked) for asked in study["ratios"]]),
        "pattern": study["pattern"],
        "seeds": joined([str(seed) for seed in study["seeds"]]),
        "steps": f"{study['steps']['train']:,} of training, {study['steps']['finetune']:,} of training on",
        "learning rate of training on": f"{number(study['rate'])} of the training's, falling to 0 along a cosine",
        "parameters": f"{parameters['total']:,}, of which {amount(parameters['prunable'])} are prunable",
        "smaller dense models": narrow or study["without_smaller"],
        "status": study["status"],
        "created": study["created"],
    }


def _plain(value: Any) -> str:
    return "unknown" if value is None else str(value)
