"""`render_several`: several studies on one page, an overview first and then each study in short.

Nothing is averaged that may not be: a study's verdicts stay its own, times of different studies never meet in one
number, and speedups, which are ratios within a study, are averaged only over studies that try the same methods.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..._core.checks import check, refuse
from . import charts, words
from .data import Report, prepare, printable
from .markup import Html, element, join
from .overview import every_arm, link_to, overview, section, survival, together
from .page import answer_parts, detail_parts, document, figure_place
from .tables import name_cell, table, text_cell
from .together import PASSING, differing_facts, labels_of, machine_of
from .words import joined

__all__ = ["render_several"]

PAGE = re.compile(r"[\w-][\w.-]*\.html")  # a file beside this page, and no other address
Reports = Sequence[dict[str, Any] | Report]


def render_several(
    reports: Reports, *, robustness: Sequence[Mapping[str, Any]] = (), pages: Sequence[str] | None = None
) -> str:
    """Several studies as one HTML page: a table of all verdicts, arms they share, and every study in short.

    Args:
        reports: see `hasten.bench.report.data.Report`; older versions are brought up to date.
        robustness: answers of `hasten.bench.robustness`, whose tables are shown as well.
        pages: file names of the studies' own pages, beside this one; None = their numbers stand on this page.

    Returns:
        A complete HTML document; the same data give the same bytes.

    Raises:
        ValueError: no report, a report twice, or data that are not a report.
        ImportError: altair or vl-convert is not installed (extra `bench`).

    Example:
        >>> page = render_several([one.data, other.data])  # doctest: +SKIP
    """
    check(len(reports) > 0, "render_several", "at least one report", "none", "Pass the data of a study.")
    fits = pages is None or (len(pages) == len(reports) and all(PAGE.fullmatch(page) for page in pages))
    check(fits, "render_several", "one file name such as digits.html per report", pages)
    prepared = [prepare(report) for report in reports]
    labels = labels_of(prepared)
    for position, report in enumerate(prepared):
        if report in prepared[:position]:
            raise refuse("report", "different studies", f"{report['study']['title']} twice", "Name each study once.")
    links = list(pages) if pages is not None else [f"#study-{number}" for number in range(1, len(prepared) + 1)]
    figures = [_figure(report) for report in prepared]
    title = f"{len(prepared)} studies: {joined(labels)}" if len(prepared) > 1 else prepared[0]["study"]["title"]
    sections = [
        _study(number, report, label, figure, None if pages is None else pages[number - 1])
        for number, (report, label, figure) in enumerate(zip(prepared, labels, figures, strict=True), start=1)
    ]
    main = element(
        "main",
        _header(title, prepared, labels, links),
        overview(prepared, labels, links),
        together(prepared, labels),
        every_arm(prepared, labels, links),
        *(survival(printable(dict(answer))) for answer in robustness),
        _measured(prepared, labels),
        *sections,
        _reading(),
    )
    specs = {f"curves-{number}": figure.spec() for number, figure in enumerate(figures, start=1) if figure}
    return document(title, main, specs, more="several")


def _figure(report: Report) -> charts.Figure | None:
    """The tradeoff chart; None as long as no run has a point."""
    return next((figure for figure in charts.figures(report) if figure.name == "curves"), None)


def _header(title: str, reports: Sequence[Report], labels: Sequence[str], links: Sequence[str]) -> Html:
    days = sorted({report["study"]["created"][:10] for report in reports})
    span = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    contents = [element("li", link_to(label, link)) for label, link in zip(labels, links, strict=True)]
    unfinished = [
        f"{label}: {why}" for label, report in zip(labels, reports, strict=True) if (why := words.incomplete(report))
    ]
    strong = element("strong", "Not complete")
    return element(
        "header",
        element(
            "p", f"hasten report · {len(reports)} stud{'ies' if len(reports) > 1 else 'y'} · {span}", class_="kicker"
        ),
        element("h1", title),
        element("p", strong, f": {'; '.join(unfinished)}.", class_="warning", role="note") if unfinished else None,
        element("ul", *contents, class_="contents"),
    )


# Where they were measured ---------------------------------------------------------------------------------------------


def _measured(reports: Sequence[Report], labels: Sequence[str]) -> Html | None:
    if len(reports) < 2:
        return None
    differing, machines = differing_facts(reports), {machine_of(report) for report in reports}
    common = {
        name: str(value)
        for name, value in reports[0]["environment"].items()
        if name not in differing
        and name not in PASSING
        and all(report["environment"].get(name) == value for report in reports)
    }
    if not differing:
        said = "All of them on one machine, with the same versions and settings."
        known = " · ".join(f"{name} {value}" for name, value in common.items())
        return section("measured", "Where they were measured", element("p", said), element("p", known, class_="quiet"))
    what = "on different machines" if len(machines) > 1 else "on one machine, with different versions or settings"
    warning = element(
        "p",
        element("strong", f"Measured {what}"),
        f": the studies differ in {joined(list(differing))}. Every number on this page compares runs of one study "
        "only; do not compare times of two studies.",
        class_="warning",
        role="note",
    )
    rows = [
        element("tr", name_cell(label), *(text_cell(values[position]) for values in differing.values()))
        for position, label in enumerate(labels)
    ]
    made = table(("study", *differing), rows, caption="What differs")
    return section("measured", "Where they were measured", warning, made)


# A study --------------------------------------------------------------------------------------------------------------


def _study(number: int, report: Report, label: str, figure: charts.Figure | None, page: str | None) -> Html:
    study, analysis = report["study"], report["analysis"]
    name, why = f"study-{number}", words.incomplete(report)
    kicker = (study["workload"], f"{study['curve']} curve" if report["runs"] else "", study["created"][:10])
    notes = [*(analysis["notes"] if analysis is not None else ()), *report["notes"]]
    rest = [f"{text}." for text in words.troubles(report)]
    if page is None:
        numbers = element("details", element("summary", "All numbers of this study"), *detail_parts(report))
    else:
        base = page.rsplit(".", 1)[0]
        links = [link_to("The whole study", page), link_to("JSON", f"{base}.json"), link_to("CSV", f"{base}.csv")]
        numbers = element("p", join(links, " · "), class_="after")
    warning = (
        element("p", element("strong", "Not complete"), f": {why}.", class_="warning", role="note") if why else None
    )
    said = element("ul", *(element("li", text) for text in (*rest, *notes)))
    return element(
        "section",
        element("p", " · ".join(filter(None, kicker)), class_="kicker"),
        element("h2", f"{label}: {study['title'].removeprefix(study['workload']).lstrip(': ')}", id=name),
        element("p", study["summary"], class_="summary"),
        warning,
        *answer_parts(report),
        element("div", figure_place(figure, f"curves-{number}"), class_="figures") if figure else None,
        element("div", element("h3", "Keep in mind"), said, class_="box mind") if rest or notes else None,
        numbers,
        aria_labelledby=name,
        class_="study",
    )


def _reading() -> Html:
    text = (
        "“Pays” at a budget: with the baseline's training time the arm reaches a better result. “Pays” at a target: "
        "the arm reaches that quality in less training time. “Costs” is the opposite. “Not proven” means that a study "
        "cannot tell; it does not mean that there is no effect.",
        "The speedup of an arm over a range of qualities is the geometric mean of its speedups to each of them. It "
        "exists where every run of the arm and of the baseline passes through that range.",
    )
    return section("reading", "How to read this page", *(element("p", paragraph) for paragraph in text))
