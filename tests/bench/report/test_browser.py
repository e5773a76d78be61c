"""The page in a real browser: it draws, it answers to clicks, and it touches nothing outside itself."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.bench.report.browser import Page, started
from tests.bench.report.synthetic import HOSTILE, hostile, study
from tests.bench.report.test_page import everything

from hasten.bench.report import write_report

pytestmark = pytest.mark.browser

CHARTS = "[...document.querySelectorAll('[data-chart]')]"
CURVES = "document.querySelector('[data-chart=curves]')"
# Opacity of the thick lines and of the labels in the legend, in the order of the legend.
LINES = f"[...{CURVES}.querySelectorAll('.mark-line path')].filter(p => p.getAttribute('stroke-width') === '2.5')"
LINES += ".map(p => Number(p.getAttribute('opacity')))"
LABELS = (
    f"[...{CURVES}.querySelectorAll('.role-legend-label text')].map(t => [t.textContent, t.getAttribute('opacity')])"
)

RUNS = "[...document.querySelectorAll('table')].find(table => table.caption.textContent.includes('of which'))"


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    chromium = next(path for path in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if path)
    with started(chromium, tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(study(), tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture(scope="module")
def hostile_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(hostile(), tmp_path_factory.mktemp("page") / "hostile.html")


@pytest.fixture(scope="module")
def full_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(everything(), tmp_path_factory.mktemp("page") / "full.html")


def opened(tab: Page, path: Path, **options: Any) -> Page:
    tab.problems.clear()
    tab.requests.clear()
    tab.open(path, **options)
    return tab


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_every_chart_is_drawn_without_complaint_or_request(tab: Page, page: Path, width: int, dark: bool) -> None:
    opened(tab, page, width=width, dark=dark)
    counts = tab.js(f"{CHARTS}.map(chart => chart.querySelectorAll('svg path').length)")
    assert len(counts) == 12
    assert min(counts) > 5
    assert tab.problems == []
    assert set(tab.requests) == {page.resolve().as_uri()}
    assert tab.js("document.documentElement.scrollWidth") == width  # nothing sticks out sideways


@pytest.mark.parametrize("width", [390, 1280])
def test_a_page_with_every_section_fits_too(tab: Page, full_page: Path, width: int) -> None:
    opened(tab, full_page, width=width)
    counts = tab.js(f"{CHARTS}.map(chart => chart.querySelectorAll('svg path').length)")
    assert len(counts) == 13
    assert min(counts) > 5
    assert tab.problems == []
    assert tab.js("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("dark", [False, True])
def test_cells_of_the_heat_map_have_the_colour_of_their_effect(tab: Page, page: Path, dark: bool) -> None:
    opened(tab, page, dark=dark)
    cell = "[...document.querySelectorAll('.glance')][0].tBodies[0].rows[{}].cells[{}]"
    look = "(c => [getComputedStyle(c).backgroundColor, getComputedStyle(c).backgroundImage])(" + cell + ")"
    pays, costs, open_ = (tab.js(look.format(*place)) for place in ((0, 4), (2, 2), (1, 3)))
    assert pays[1] == costs[1] == "none"
    assert "repeating-linear-gradient" in open_[1]
    red, _, blue = (float(part) for part in costs[0].removeprefix("rgba(").split(",")[:3])
    assert red > blue
    red, _, blue = (float(part) for part in pays[0].removeprefix("rgba(").split(",")[:3])
    assert blue > red


def test_charts_fit_their_column_after_the_window_changed(tab: Page, page: Path) -> None:
    opened(tab, page, width=1280)
    tab.call("Emulation.setDeviceMetricsOverride", width=600, height=900, deviceScaleFactor=1, mobile=False)
    tab.wait(f"{CHARTS}.every(c => c.querySelector('svg').getBoundingClientRect().width <= c.clientWidth + 1)")
    assert tab.js("document.documentElement.scrollWidth") == 600
    assert tab.problems == []


def test_a_click_in_the_legend_switches_an_arm_off_and_on(tab: Page, page: Path) -> None:
    opened(tab, page)
    assert tab.js(LINES) == [1, 1, 1, 1]
    assert [label for label, _ in tab.js(LABELS)] == ["base", "blur", "ls", "mixup"]
    legend = f"[...{CURVES}.querySelectorAll('.role-legend-label text')].find(t => t.textContent === 'blur')"
    tab.click(legend)
    tab.wait(f"{LINES}[1] < 0.1")
    assert tab.js(LINES) == [1, 0.04, 1, 1]
    shown = dict(tab.js(LABELS))
    assert float(shown["blur"]) < float(shown["ls"] or 1)
    tab.click(legend)
    tab.wait(f"{LINES}[1] === 1")
    assert tab.js(LINES) == [1, 1, 1, 1]
    assert tab.problems == []


def test_pointing_at_a_mark_tells_its_numbers(tab: Page, page: Path) -> None:
    opened(tab, page)
    tab.point(f"[...{CURVES}.querySelectorAll('.mark-symbol.role-mark path')].at(-1)")
    tab.wait("document.querySelector('#vg-tooltip-element.visible') !== null")
    text = tab.js("document.querySelector('#vg-tooltip-element').innerText")
    assert "mixup" in text
    assert "15 ep" in text
    assert "(95 %)" in text
    assert tab.problems == []


def test_a_click_on_a_heading_sorts_by_number_and_again_backwards(tab: Page, page: Path) -> None:
    opened(tab, page)
    tab.js(f"window.table = {RUNS}")
    heading = "[...table.tHead.querySelectorAll('th')].find(h => h.textContent === 'train time')"
    values = "[...table.tBodies[0].rows].map(row => Number(row.cells[6].dataset.sort))"
    before = tab.js(values)
    assert before != sorted(before)
    tab.click(f"{heading}.querySelector('button')")
    assert tab.js(values) == sorted(before)
    assert tab.js(f"{heading}.getAttribute('aria-sort')") == "ascending"
    tab.click(f"{heading}.querySelector('button')")
    assert tab.js(values) == sorted(before, reverse=True)
    assert tab.js(f"{heading}.getAttribute('aria-sort')") == "descending"
    assert tab.js("[...table.tHead.querySelectorAll('th')].filter(h => h.ariaSort !== 'none').length") == 1


def test_unknown_values_are_last_in_both_directions_and_text_is_sorted_as_text(tab: Page, page: Path) -> None:
    opened(tab, page)
    tab.js(f"window.table = {RUNS}")
    last = "[...table.tBodies[0].rows].at(-1).cells[5].textContent"
    for _ in range(2):
        tab.click("[...table.tHead.querySelectorAll('button')].find(b => b.textContent === 'final metric')")
        assert tab.js(last) == "\u2013"
    tab.click("[...table.tHead.querySelectorAll('button')].find(b => b.textContent === 'arm')")
    arms = tab.js("[...table.tBodies[0].rows].map(row => row.cells[0].textContent)")
    assert arms == sorted(arms)


def test_the_page_fits_on_paper(tab: Page, page: Path) -> None:
    opened(tab, page, width=800, dark=True)
    tab.call("Emulation.setEmulatedMedia", media="print")
    try:
        assert tab.js("document.documentElement.scrollWidth") == 800
        assert tab.js("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    finally:
        tab.call("Emulation.setEmulatedMedia", media="")


def test_a_hostile_study_runs_nothing(tab: Page, hostile_page: Path) -> None:
    opened(tab, hostile_page)
    assert tab.js("document.querySelectorAll('img, iframe, object, embed, link').length") == 0
    assert tab.js("document.querySelector('h1').textContent").endswith(HOSTILE[1])
    assert HOSTILE[0][:10] in tab.js(LABELS)[0][0]
    tab.point(f"[...{CURVES}.querySelectorAll('.mark-symbol.role-mark path')].at(0)")
    tab.wait("document.querySelector('#vg-tooltip-element.visible') !== null")
    assert HOSTILE[0] in tab.js("document.querySelector('#vg-tooltip-element').innerText")
    assert tab.js("document.querySelectorAll('img').length") == 0
    assert tab.problems == []


def test_even_unescaped_code_would_not_run(tab: Page, page: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.html"
    attack = (
        "<script>window.pwned = 1</script><p id='x' onclick='window.pwned = 2'>x</p><img src='http://127.0.0.1:9/x'>"
    )
    broken.write_text(page.read_text(encoding="utf-8").replace("<main>", f"<main>{attack}"), encoding="utf-8")
    opened(tab, broken)
    tab.click("document.getElementById('x')")
    assert tab.js("window.pwned") is None
    assert any("Content Security Policy" in problem for problem in tab.problems)


def test_without_javascript_the_page_still_answers(tab: Page, page: Path) -> None:
    tab.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        tab.call("Page.navigate", url=page.resolve().as_uri())
        tab.wait("document.readyState === 'complete' && document.querySelectorAll('table').length > 5")
        assert tab.js("document.querySelector('.headline').textContent").startswith("blur pays")
        assert "need JavaScript" in tab.js("document.querySelector('noscript').textContent")
    finally:
        tab.call("Emulation.setScriptExecutionDisabled", value=False)
