from __future__ import annotations

import base64
import builtins
import hashlib
import itertools
import json
import re
from typing import Any

import pytest
from tests.bench.report.synthetic import HOSTILE, calibrated, designed, hostile, study
from tests.bench.report.test_markup import Reader, read

from hasten.bench.report import page
from hasten.bench.report.data import printable
from hasten.bench.report.page import render

pytestmark = pytest.mark.usefixtures("figures_once")  # that charts are always the same is shown in test_charts.py

OURS = {"html", "head", "meta", "title", "style", "body", "main", "header", "section", "aside", "figure", "figcaption"}
OURS |= {"h1", "h2", "h3", "p", "ul", "li", "div", "span", "small", "strong", "dl", "dt", "dd", "noscript", "script"}
OURS |= {"table", "caption", "thead", "tbody", "tr", "th", "td", "button"}


@pytest.fixture(scope="module")
def markup() -> str:
    return render(study())


def without_bundle(markup: str) -> str:
    return markup.replace(page.vega_bundle(), "")


def test_the_page_is_small_whole_and_always_the_same(markup: str) -> None:
    assert len(markup.encode()) < 1.5e6
    assert markup.startswith("<!doctype html>\n<html")
    assert markup == render(study())


def test_nothing_is_loaded_from_anywhere(markup: str) -> None:
    tags = read(markup).tags
    assert {tag for tag, _ in tags} <= OURS
    assert not [attributes for _, attributes in tags if attributes.keys() & {"src", "href", "srcset", "action"}]
    style = re.search(r"<style>(.*?)</style>", markup, re.DOTALL)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]


def test_the_policy_admits_exactly_the_scripts_of_the_page(markup: str) -> None:
    policy = next(a["content"] for tag, a in read(markup).tags if a.get("http-equiv") == "Content-Security-Policy")
    scripts = re.findall(r"<script>(.*?)</script>", markup, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert len(scripts) == 2
    assert re.findall(r"'sha256-(.+?)'", policy) == digests
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy
    assert "unsafe-inline" not in policy.split("style-src")[0]


def test_the_answer_comes_before_everything_else(markup: str) -> None:
    text = read(without_bundle(markup)).text
    places = [
        text.index(words)
        for words in (
            "blur pays, with reservations; mixup pays at some places and costs at others; nothing is proven about ls.",
            "Pays at budget 15 ep; costs at budget 3 ep",
            "How sure is this?",
            "19 of 20 runs finished: 1 failed: mixup (seed 4)",
            "With 5 seeds a gain of 0.009",
            "corrected (Holm) for the 21 questions",
            "Accuracy against training time",
            "Other axes",
            "Which arm for how much time?",
            "21 runs, of which 20 count",
            "blurpool(min_channels=16)",
            "How to read this page",
            "It does not run during data preparation, evaluation, checkpoints and FLOP counting.",
        )
    ]
    assert places == sorted(places[:10]) + places[10:]
    assert places[-1] == max(places)


def test_headings_have_one_order_and_sections_are_labelled(markup: str) -> None:
    tags = read(markup).tags
    levels = [int(tag[1]) for tag, _ in tags if re.fullmatch(r"h\d", tag)]
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    ids = {attributes["id"] for _, attributes in tags if "id" in attributes}
    labels = [attributes["aria-labelledby"] for _, attributes in tags if "aria-labelledby" in attributes]
    assert set(labels) <= ids
    assert len(labels) == len(set(labels)) == 7
    assert all(a["aria-label"].startswith("Chart: ") for _, a in tags if "data-chart" in a)


def everything() -> dict[str, Any]:
    """A study with every section a page can have."""
    data = designed("branch")
    data["calibration"] = calibrated()["calibration"]
    return data


def test_sections_of_a_study_with_designs_and_a_calibration() -> None:
    markup = render(everything())
    titles = re.findall(r"<h2[^>]*>([^<]+)</h2>", without_bundle(markup))
    assert titles == [
        "Which of these pay?",
        "How sure is this?",
        "Charts",
        "Other axes",
        "Which arm for how much time?",
        "Do the methods add up?",
        "What does the kind of curve change?",
        "All numbers",
        "How to read this page",
    ]
    text = read(without_bundle(markup)).text
    assert "Branch curve: one trunk at a constant learning rate, and for every budget its own decay" in text
    assert "It does not run during data preparation, evaluation, checkpoints, FLOP counting and branches." in text
    assert "blurpool inside both, at 15 ep: 0.0" in text
    assert "The arm base was trained in every kind of curve" in text
    assert "On the frontier of the means: " in text


def test_what_was_not_measured_leaves_no_trace_but_one_line_about_energy(markup: str) -> None:
    told = "Energy is not measured: no counter."
    data = study()
    data["environment"]["energy"] = told
    assert told not in render(data)
    data["analysis"]["frontier"] = None
    for run in data["runs"]:
        run["energy"] = None
        for point in run["points"]:
            point["energy"] = None
    text = read(without_bundle(render(data))).text
    assert text.count(told) == 1
    assert text.lower().count("energy") == 1
    assert "Which arm for how much time?" not in text


def test_styles_in_the_markup_hold_numbers_only() -> None:
    styles = {
        attributes["style"] for _, attributes in read(without_bundle(render(hostile()))).tags if "style" in attributes
    }
    assert styles
    assert all(re.fullmatch(r"--heat:0\.\d{3}", style) for style in styles)


def test_hostile_text_stays_text() -> None:
    data = hostile()
    data["calibration"] = calibrated()["calibration"]
    data["calibration"].update(arm=HOSTILE[0], budgets=[*HOSTILE, "x"])
    data["analysis"]["interactions"] = [{
        "kind": "left_out", "arm": HOSTILE[0], "parts": [HOSTILE[1]], "method": HOSTILE[0], "axis": "budget",
        "index": 0, "label": HOSTILE[1], "value": 0.1, "low": 0.0, "high": 0.2, "bound": "", "n": 3, "p": 0.1,
        "reason": HOSTILE[0],
    }]  # fmt: skip
    markup = render(data)
    reader = Reader()
    reader.feed(without_bundle(markup))
    reader.close()
    assert {tag for tag, _ in reader.tags} <= OURS
    assert not [a for _, a in reader.tags if any(key.startswith("on") for key in a)]
    assert HOSTILE[0] in reader.text
    assert "\u202e" not in markup
    assert "\u2028" not in without_bundle(markup)
    assert "\x1b" not in markup


def test_the_charts_of_a_hostile_study_hold_its_names_as_data() -> None:
    markup = render(hostile())
    (script,) = re.findall(r'<script type="application/json" id="charts">(.*?)</script>', markup, re.DOTALL)
    assert "<" not in script
    specs = json.loads(script)
    domain = specs["curves"]["layer"][-1]["encoding"]["color"]["scale"]["domain"]
    assert domain == [printable(name) for name in HOSTILE]


@pytest.mark.parametrize("status", ["budget", "interrupted", "the disk was full"])
def test_an_incomplete_study_says_so_at_the_top(status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page.charts, "figures", lambda report: [])  # they take a second and say nothing of it
    data = study()
    data["study"]["status"] = status
    text = read(without_bundle(render(data))).text
    assert text.index("This study is not complete") < text.index("Which of these pay?")


def test_studies_without_verdicts_or_runs_are_shown_too() -> None:
    text = read(without_bundle(render(study({"base": "base"}, seeds=2)))).text
    assert "No verdict yet." in text
    assert "Every run" in text
    data = study()
    data.update(runs=[], power=None, environment={}, notes=[])
    data["study"].update(schedule={}, clock_excludes=[], workload="")
    text = read(without_bundle(render(data))).text
    assert "Made from logs" in text
    assert "Every run" not in text
    assert "Environment" not in text
    assert "Compared with base, over" in text


def test_foreign_data_are_refused() -> None:
    with pytest.raises(ValueError, match="expected version 2, got 3"):
        render(study() | {"version": 3})


def test_without_vl_convert_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "vl_convert":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    page.vega_bundle.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"needs vl-convert-python, .*pip install 'hasten\[bench\]'"):
        render(study())
