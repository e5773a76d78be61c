from __future__ import annotations

import itertools
import re
from importlib import resources
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.bench.report.synthetic import study
from tests.bench.report.test_markup import read
from tests.bench.report.test_tables import cells
from tests.bench.report.test_theme import luminance

from hasten.bench.report.heat import DARKEST, PALEST, gain_unit, heat_key, heat_map, heat_reach, heat_style
from hasten.bench.report.words import VERDICTS


def effect(value: float | None, verdict: str = "not proven", kind: str = "budget") -> dict[str, Any]:
    return {"kind": kind, "value": value, "verdict": verdict, "low": None, "high": None, "bound": "", "reason": ""}


def test_cells_show_verdict_by_mark_word_and_class_and_gains_in_percentage_points() -> None:
    markup = heat_map(study(), "budgets", "gain") or ""
    head, blur, _, mixup = cells(markup)
    assert head == ["arm", "1 ep", "3 ep", "7 ep", "15 ep"]
    assert blur[-1] == "▲pays, +3.7"
    assert mixup[2] == "▼costs, \u22125.4"
    assert read(markup).text.startswith("gain, pp")
    classes = [a["class"].split()[0] for tag, a in read(markup).tags if tag == "td"]
    assert [classes.count(css) for css in ("pays", "costs", "open")] == [2, 1, 9]


def test_the_map_of_targets_names_bounds_and_shares_of_the_gain() -> None:
    head, blur, ls, _ = cells(heat_map(study(), "targets", "speedup"))
    assert head[1:] == ["0.561450 % of the gain", "0.760890 % of the gain", "0.8106100 % of the gain"]
    assert blur[3] == "○not proven, ≥ 2.22\u00d7"
    assert ls[3] == "○not proven, unknown"


def test_every_cell_says_its_interval_and_an_error_in_words_stays_in_metric_units() -> None:
    data = study()
    titles = [a["title"] for tag, a in read(heat_map(data, "budgets", "gain") or "").tags if tag == "td"]
    assert titles[3] == "pays; interval +3.5 … +3.9 pp"
    assert gain_unit(data).name == "pp"
    assert gain_unit(study(minimize=True)).name == ""  # "error" may be anything
    data["study"]["metric"] = "error rate"
    assert gain_unit(data).name == "pp"
    data["analysis"]["arms"][0]["curve"][0]["metric"] = 41.0  # per cent already
    assert gain_unit(data).name == ""


def test_colour_tells_direction_and_size_and_what_is_not_proven_is_hatched() -> None:
    reach = heat_reach([effect(0.02, "pays"), effect(-0.01, "costs"), effect(0.5)])
    assert reach == 0.02  # a large guess does not bleach what is proven
    assert heat_style(effect(0.02, "pays"), reach) == ("pays heat up", f"--heat:{DARKEST:.3f}")
    assert heat_style(effect(-0.01, "costs"), reach) == ("costs heat down", f"--heat:{(PALEST + DARKEST) / 2:.3f}")
    assert heat_style(effect(0.5), reach) == ("open heat up", f"--heat:{DARKEST:.3f}")
    assert heat_style(effect(None), reach) == ("open", None)
    assert heat_style(effect(0.0, "tie"), reach) == ("tie", None)
    style = resources.files("hasten.bench.report").joinpath("style.css").read_text(encoding="utf-8")
    assert re.search(r"\.glance td\.open\.heat \{[^}]*repeating-linear-gradient", style)


def test_without_a_proof_the_largest_guess_is_the_scale() -> None:
    assert heat_reach([effect(0.02), effect(-0.03), effect(None)]) == 0.03
    assert heat_reach([effect(None)]) == 0.0
    assert heat_style(effect(0.0), 0.0) == ("open", None)


@given(st.floats(0.01, 100), st.floats(1.01, 100))
def test_twice_and_half_as_fast_have_the_same_strength(speedup: float, reach: float) -> None:
    fast, slow = (heat_style(effect(value, "pays", "target"), np.log(reach)) for value in (speedup, 1 / speedup))
    assert fast[1] == slow[1]
    if fast[1]:
        assert PALEST <= float(fast[1].split(":")[1]) <= DARKEST
        assert {fast[0].split()[-1], slow[0].split()[-1]} == {"up", "down"}


def test_there_is_one_key_and_none_without_effects() -> None:
    text = read(heat_key(study()) or "").text
    assert "the largest proven effect" in text
    assert "1 pp is 0.01" in text
    assert "pp" not in read(heat_key(study(minimize=True)) or "").text
    data = study()
    for arm in data["analysis"]["arms"]:
        arm["budgets"], arm["targets"] = [], []
    assert heat_key(data) is None
    assert heat_map(data, "budgets", "gain") is None
    data["analysis"] = None
    assert heat_key(data) is None


def themes() -> list[dict[str, str]]:
    """The colours of the light and of the dark page."""
    style = resources.files("hasten.bench.report").joinpath("style.css").read_text(encoding="utf-8")
    light, dark = (
        dict(re.findall(r"--([\w-]+): ([^;]+);", block)) for block in re.findall(r":root \{(.*?)\}", style, re.S)
    )
    return [light, light | dark]


def rgb(color: str) -> np.ndarray:
    if color.startswith("#"):
        digits = color[1:] if len(color) == 7 else "".join(2 * digit for digit in color[1:])
        return np.array([int(digits[i : i + 2], 16) for i in (0, 2, 4)], dtype=float)
    return np.array(color.split(), dtype=float)


def contrast(one: np.ndarray, two: np.ndarray) -> float:
    a, b = (luminance("#" + "".join(f"{round(part):02x}" for part in color)) + 0.05 for color in (one, two))
    return max(a, b) / min(a, b)


@pytest.mark.parametrize("theme", themes(), ids=["light", "dark"])
@pytest.mark.parametrize("side", ["better", "worse"])
def test_text_is_legible_on_the_strongest_colour(theme: dict[str, str], side: str) -> None:
    full = DARKEST * rgb(theme[side]) + (1 - DARKEST) * rgb(theme["paper"])
    assert contrast(full, rgb(theme["ink"])) > 4.5
    stripe = 0.4 * DARKEST * rgb(theme[side]) + (1 - 0.4 * DARKEST) * rgb(theme["panel"])
    assert contrast(stripe, rgb(theme["quiet"])) > 3.5  # on the stripes, a third of the surface
    assert contrast(rgb(theme["panel"]), rgb(theme["quiet"])) > 4.5


# Machado, Oliveira and Fernandes, "A Physiologically-based Model for Simulation of Color Vision Deficiency" (2009),
# severity 1, on linear RGB.
DEFICIENT = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def lab(color: np.ndarray, matrix: Any) -> np.ndarray:
    """CIELAB of a colour as somebody with that deficiency sees it."""
    part = color / 255
    linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(matrix) @ linear, 0, 1)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ seen
    f = np.cbrt(xyz / np.array([0.9505, 1.0, 1.089]))
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("name", DEFICIENT)
@pytest.mark.parametrize("theme", themes(), ids=["light", "dark"])
def test_better_and_worse_are_apart_with_every_colour_blindness(theme: dict[str, str], name: str) -> None:
    for strength, least in ((DARKEST, 40), (DARKEST / 2, 20)):
        seen = [
            lab(strength * rgb(theme[side]) + (1 - strength) * rgb(theme["paper"]), DEFICIENT[name])
            for side in ("better", "worse")
        ]
        assert all(np.linalg.norm(a - b) > least for a, b in itertools.combinations(seen, 2))


def test_marks_of_verdicts_differ() -> None:
    assert len({VERDICTS[word].mark for word in ("pays", "costs", "not proven", "tie")}) == 4
