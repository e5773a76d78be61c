"""Several studies on one page: what it says, what it links to, and that it stays as safe as the page of one."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.bench.report.browser import Page, started
from tests.bench.report.synthetic import HOSTILE, hostile, study
from tests.bench.report.test_markup import Reader, read
from tests.bench.report.test_page import OURS
from tests.bench.report.test_together import other

from hasten.bench.report import page as page_module
from hasten.bench.report.several import render_several
from hasten.bench.report.words import TIMES, UNKNOWN

pytestmark = pytest.mark.usefixtures("figures_once")

ROBUSTNESS: dict[str, Any] = {
    "workload": "digits",
    "arms": [
        {"name": "blur", "original": "pays", "variants": {"width": "pays", "norm": "not proven"}, "confirmed": 1,
         "unproven": 1, "contradicted": 0, "sentence": "pays; survives in 1 of 2 variants: not proven with norm."},
    ],
    "unavailable": {"activation": "the model has no activation"},
    "changes": {"width": "half as many channels"},
    "notes": ["Not proven is neither survival nor refutation."],
}  # fmt: skip


def three() -> list[dict[str, Any]]:
    third = other("letters", arms={"plain": "base", "soft": "ls"})
    return [study(), other(), third]


@pytest.fixture(scope="module")
def markup() -> str:
    return render_several(three(), robustness=[ROBUSTNESS])


def shown(markup: str) -> Reader:
    return read(markup.replace(page_module.vega_bundle(), ""))


def test_it_is_whole_and_always_the_same(markup: str) -> None:
    assert markup.startswith("<!doctype html>\n<html")
    assert "<title>3 studies: digits, letters (1) and letters (2)</title>" in markup
    assert markup == render_several(three(), robustness=[ROBUSTNESS])
    assert len(markup) < 1.8e6


def test_the_policy_admits_exactly_the_scripts_of_the_page(markup: str) -> None:
    policy = next(a["content"] for tag, a in read(markup).tags if a.get("http-equiv") == "Content-Security-Policy")
    scripts = re.findall(r"<script>(.*?)</script>", markup, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert len(scripts) == 3
    assert re.findall(r"'sha256-(.+?)'", policy) == digests


def test_the_answer_comes_first(markup: str) -> None:
    text = shown(markup).text
    places = [
        text.index(words)
        for words in (
            "hasten report · 3 studies · 2026-01-31",
            "Which of these pay, and where?",
            "Pays: blur on digits (with reservations)",
            "The same methods in several studies",
            "7 comparisons with a baseline",
            "Does the verdict survive? Variants of digits",
            "Where they were measured",
            "Keep in mind",
            "All numbers of this study",
            "How to read this page",
        )
    ]
    assert places == sorted(places)


def test_links_lead_to_places_of_the_page_and_nothing_is_loaded(markup: str) -> None:
    tags = shown(markup).tags
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = {attributes["href"] for tag, attributes in tags if tag == "a"}
    assert links == {"#study-1", "#study-2", "#study-3"}
    assert {link[1:] for link in links} <= set(ids)
    assert {tag for tag, _ in tags} <= OURS | {"a", "label", "input", "output", "details", "summary"}
    assert not [a for _, a in tags if a.keys() & {"src", "srcset", "action", "onclick"}]


def test_headings_and_sections_are_labelled(markup: str) -> None:
    tags = shown(markup).tags
    levels = [int(tag[1]) for tag, _ in tags if re.fullmatch(r"h\d", tag)]
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    ids = {attributes["id"] for _, attributes in tags if "id" in attributes}
    assert {a["aria-labelledby"] for _, a in tags if "aria-labelledby" in a} <= ids


def rows_of(markup: str, caption: str) -> list[list[str]]:
    """The rows of the table with this caption, as texts."""
    made = next(found for found in re.findall(r"<table.*?</table>", markup, re.DOTALL) if caption in read(found).text)
    return [
        [read(cell).text for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL)]
        for row in re.findall(r"<tr.*?</tr>", made, re.DOTALL)
    ]


def test_the_table_of_studies_and_arms(markup: str) -> None:
    head, *rows = rows_of(markup, "Verdict, and speedup")
    assert head == ["study", "blur", "ls", "mixup", "soft"]  # nobody's baseline has a column
    assert [row[0] for row in rows] == ["digits", "letters (1)", "letters (2)"]
    assert rows[0][1].startswith("▲ pays, but …1.")
    assert rows[0][4] == rows[2][1] == UNKNOWN
    assert rows[2][4].startswith("○ not proven")


def test_an_arm_of_several_studies_has_one_row_of_means(markup: str) -> None:
    head, *rows = rows_of(markup, "Arms with the same methods")
    assert head[:4] == ["arm", "studies", "verdicts", "speedup"]
    assert [row[:2] for row in rows] == [
        ["blur", "digits and letters (1)"],
        ["ls / soft", "digits, letters (1) and letters (2)"],
        ["mixup", "digits and letters (1)"],
    ]
    assert re.fullmatch(rf"\d\.\d\d{TIMES}", rows[0][3])
    assert "With fewer than five studies the interval is about these studies" in shown(markup).text


def test_studies_of_one_machine_and_of_several() -> None:
    same = shown(render_several([study(), other()])).text
    assert "All of them on one machine, with the same versions and settings." in same
    assert "an example processor" in same
    assert "different machines" not in same
    mixed = other()
    mixed["environment"].update({"processor": "another processor", "torch": "2.6.0"})
    text = shown(render_several([study(), mixed])).text
    assert "Measured on different machines: the studies differ in torch and processor." in text
    assert "do not compare times of two studies" in text
    assert "Averaged over studies of different machines: blur, ls and mixup." in text
    versions = other()
    versions["environment"]["torch"] = "2.6.0"
    text = shown(render_several([study(), versions])).text
    assert "Measured on one machine, with different versions or settings: the studies differ in torch." in text
    assert "Averaged over studies of different machines" not in text


def test_measurements_that_are_counted_twice_are_named() -> None:
    part = study()
    part["study"]["workload"], part["runs"] = "part", part["runs"][:6]
    assert "digits and part hold 5 of the same runs: averages count them twice." in (
        shown(render_several([study(), part])).text
    )


def test_what_variants_did_to_the_verdict(markup: str) -> None:
    head, row = rows_of(markup, "Verdicts on digits and on its variants")
    assert head == ["arm", "original", "width", "norm", "confirmed", "unproven", "contradicted"]
    assert row == ["blur", "▲ pays", "▲ pays", "○ not proven", "1", "1", "0"]
    text = shown(markup).text
    for said in ("survives in 1 of 2 variants", "width: half as many channels", "without activation: the model has no"):
        assert said in text
    none = {**ROBUSTNESS, "arms": []}
    assert "No verdict yet." in shown(render_several([study()], robustness=[none])).text


def test_a_study_that_is_not_complete_or_has_no_verdict_yet() -> None:
    begun = other()
    begun["study"]["status"], begun["analysis"], begun["runs"] = "interrupted", None, begun["runs"][:1]
    text = shown(render_several([study(), begun])).text
    assert "Not complete: letters: it was interrupted." in text
    assert "no verdict yet" in text
    assert "No verdict yet." in text
    assert shown(render_several([begun])).text.count("No verdict yet.") == 2


def test_a_study_whose_first_runs_have_no_point_yet() -> None:
    """What `hasten report` meets right after `hasten compare` began."""
    begun = other()
    begun["study"]["status"], begun["analysis"] = "running", None
    begun["runs"] = [{**run, "status": "running", "counts": False, "points": []} for run in begun["runs"][:1]]
    for runs in (begun["runs"], []):
        markup = render_several([study(), {**begun, "runs": runs}])
        assert "no verdict yet" in shown(markup).text
        assert 'data-chart="curves-1"' in markup
        assert 'data-chart="curves-2"' not in markup


def test_many_comparisons_are_counted_not_named() -> None:
    text = shown(render_several([other(f"w{n}", seeds=3 + n) for n in range(3)])).text
    assert re.search(r"Pays: \d of 9 comparisons\.", text)


def test_one_study_is_a_page_too() -> None:
    markup = render_several([study()])
    text = shown(markup).text
    assert "hasten report · 1 study" in text
    assert "Which of these pay on hard digits?" in text
    assert "Where they were measured" not in text
    assert "The same methods in several studies" not in text


def test_own_pages_are_linked_instead_of_the_numbers() -> None:
    markup = render_several(three()[:2], pages=["digits.html", "letters.html"])
    tags = shown(markup).tags
    links = {attributes["href"] for tag, attributes in tags if tag == "a"}
    assert links == {f"{name}.{kind}" for name in ("digits", "letters") for kind in ("html", "json", "csv")}
    assert "details" not in {tag for tag, _ in tags}
    assert "All numbers of this study" not in shown(markup).text


@pytest.mark.parametrize(
    ("reports", "options", "says"),
    [
        ([], {}, "at least one report, got 'none'"),
        ([study(), study()], {}, "different studies, got Which of these pay on hard digits\\? twice"),
        ([study()], {"pages": []}, "one file name such as digits.html per report"),
        ([study()], {"pages": ["javascript:alert(1)//.html"]}, "one file name such as digits.html per report"),
        ([study()], {"pages": ["../x.html"]}, "one file name"),
        ([study()], {"robustness": [{"workload": "digits"}]}, "robustness data with 'arms', got None"),
        ([{"version": 99}], {}, "version"),
    ],
)
def test_bad_input(reports: list[Any], options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        render_several(reports, **options)


def test_nothing_from_outside_becomes_markup() -> None:
    data = [hostile(), hostile()]
    data[1]["study"]["created"] = "<b>now</b>"
    nasty = json.loads(json.dumps(ROBUSTNESS).replace("blur", HOSTILE[0].replace('"', "'")))
    nasty["workload"] = HOSTILE[1]
    reader = shown(render_several(data, robustness=[nasty]))
    assert "img" not in {tag for tag, _ in reader.tags}
    assert "b" not in {tag for tag, _ in reader.tags}
    assert not [a for _, a in reader.tags if any(name.startswith("on") for name in a)]
    assert {a["href"] for tag, a in reader.tags if tag == "a"} == {"#study-1", "#study-2"}
    assert HOSTILE[0] in reader.text
    assert "\u202e" not in reader.text


# In a browser ---------------------------------------------------------------------------------------------------------

ARMS = "[...document.querySelectorAll('#arms tbody tr')]"
BOX = "document.querySelector('input[data-filter]')"


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    chromium = next(path for path in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if path)
    with started(chromium, tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture(scope="module")
def path(markup: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("page") / "studies.html"
    file.write_text(markup, encoding="utf-8")
    return file


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_and_draws_without_complaint_or_request(tab: Page, path: Path, width: int, dark: bool) -> None:
    tab.problems.clear()
    tab.requests.clear()
    tab.open(path, width=width, dark=dark)
    assert tab.js("document.querySelectorAll('[data-chart] svg').length") == 3
    assert tab.js("document.documentElement.scrollWidth") == width
    assert tab.problems == []
    assert tab.requests == [path.as_uri()]


@pytest.mark.browser
def test_rows_can_be_filtered_by_words_and_by_methods(tab: Page, path: Path) -> None:
    tab.open(path)

    def left(words: str) -> list[str]:
        tab.js(f"{BOX}.value = {json.dumps(words)}; {BOX}.dispatchEvent(new Event('input'))")
        return tab.js(
            f"{ARMS}.filter(row => !row.hidden).map(row => row.cells[0].textContent + ' ' + row.cells[1].textContent)"
        )

    assert len(left("")) == 7
    assert left("BLUR") == ["digits blur", "letters (1) blur"]
    assert left("letters label_smoothing") == ["letters (1) ls", "letters (2) soft"]
    assert tab.js("document.querySelector('.filter output').textContent") == "2 of 7"
    assert left("nothing like it") == []
    assert tab.js(f"{BOX}.getBoundingClientRect().height") > 20


@pytest.mark.browser
def test_studies_can_be_sorted_by_the_verdict_of_an_arm(tab: Page, path: Path) -> None:
    tab.open(path)
    tab.click("document.querySelectorAll('.matrix thead button')[3]")  # mixup
    order = tab.js("[...document.querySelectorAll('.matrix tbody tr')].map(row => row.cells[3].textContent)")
    assert order[-1] == UNKNOWN
    assert len(order) == 3


@pytest.mark.browser
def test_the_numbers_of_a_study_unfold(tab: Page, path: Path) -> None:
    tab.open(path)
    tables = "document.querySelectorAll('details')[0].querySelectorAll('table')"
    assert not tab.js(f"{tables}[0].checkVisibility()")
    tab.click("document.querySelectorAll('summary')[0]")
    assert tab.js(f"{tables}[0].checkVisibility()")
