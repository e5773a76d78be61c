from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.bench.report.synthetic import study

from hasten.bench.report import words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (words.duration(None), "\u2013"),
        (words.duration(0.0004), "0.4 ms"),
        (words.duration(99.4), "99.4 s"),
        (words.duration(600), "10 min"),
        (words.duration(3 * 3600 + 59.9 * 60), "4 h"),
        (words.duration(86400), "24 h 0 min"),
        (words.amount(1.5e12), "1.5 T"),
        (words.amount(None), "\u2013"),
        (words.bytes_(5 * 2**20), "5 MiB"),
        (words.joules(None), "\u2013"),
        (words.joules(12.0), "12 J"),
        (words.joules(2.5e6), "2.5 MJ"),
        (words.chance(0.995), "> 99 %"),
        (words.chance(0.005), "< 1 %"),
        (words.chance(0.5), "50 %"),
        (words.p_value(None), "\u2013"),
        (words.p_value(1.0), "1"),
        (words.ratio(0.0123), "0.0123\u00d7"),
        (words.ratio(9.999), "10\u00d7"),
        (words.ratio(None), "\u2013"),
        (words.signed(-0.0004, 3), "0.000"),
        (words.signed(-12.0, 0), "\u221212"),
        (words.joined([]), ""),
        (words.joined(["a", "b"]), "a and b"),
        (words.order([]), "unknown"),
    ],
)
def test_numbers_read_like_a_person_writes_them(text: str, expected: str) -> None:
    assert text == expected


@given(st.floats(min_value=1e-9, max_value=1e9))
def test_a_duration_is_never_sixty_minutes_and_keeps_its_size(seconds: float) -> None:
    text = words.duration(seconds)
    factors = {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
    parts = text.split()
    value = sum(float(n) * factors[unit] for n, unit in zip(parts[::2], parts[1::2], strict=True))
    assert value == pytest.approx(seconds, rel=0.01)
    assert "60 min" not in text or " h " not in text


def effect(**change: Any) -> dict[str, Any]:
    return {"kind": "budget", "value": 0.0213, "low": 0.0102, "high": 0.0324, "bound": ""} | change


def test_effects_show_bounds_and_unknowns() -> None:
    assert words.effect_text(effect(), 3) == "+0.021"
    assert words.effect_text(effect(bound="<=", value=-0.01), 2) == "≤ \u22120.01"
    assert words.effect_text(effect(kind="target", bound=">=", value=2.2), 3) == "≥ 2.20\u00d7"
    assert words.effect_text(effect(value=None, bound="?"), 3) == "unknown"
    assert words.span_text(effect(), 3) == "+0.010 … +0.032"
    assert words.span_text(effect(high=None), 3) == "\u2013"


def test_the_headline_names_each_arm_once_with_its_verdict() -> None:
    headline, rests = words.answer(study())
    expected = (
        "blur pays, with reservations; mixup pays at some places and costs at others; nothing is proven about ls."
    )
    assert headline == expected
    assert rests == "Compared with base on digits, over 4 to 5 paired seeds, at budgets from 1 ep to 15 ep."


def test_one_seed_is_singular() -> None:
    assert ", over 1 paired seed, at budgets" in words.answer(study(seeds=1))[1]


def test_ties_and_costs_are_named_and_plain_verdicts_have_no_reservation() -> None:
    data = study()
    for arm, verdict in zip(data["analysis"]["arms"][1:], ("costs", "tie", "costs"), strict=True):
        arm["verdict"] = verdict
    assert words.answer(data)[0] == "blur and mixup cost; ls ties with the baseline."
    data["analysis"]["arms"][1].update(verdict="pays", plain=True)
    assert words.answer(data)[0].startswith("blur pays; ")


def test_many_arms_are_counted_instead_of_named() -> None:
    data = study()
    data["analysis"]["arms"] += [data["analysis"]["arms"][2] | {"name": f"x{i}"} for i in range(9)]
    assert words.answer(data)[0].endswith("nothing is proven about 10 arms.")


def test_without_a_pair_there_is_no_verdict() -> None:
    data = study()
    data["analysis"] = None
    assert words.answer(data)[0] == "No verdict yet."


def test_mishaps_are_told_in_words() -> None:
    assert words.troubles(study()) == [
        "19 of 20 runs finished: 1 failed: mixup (seed 4); 1 ran while the machine's speed drifted, 1 of them "
        "repeated; 1 resumed after a stop"
    ]
    assert words.troubles(study(curve="separate")) == ["80 of 80 runs finished"]
    data = study()
    for run in data["runs"]:
        if run["arm"] == "mixup" and run["seed"] > 2:
            run["status"] = "failed"
    assert "2 failed: mixup (seeds 3 and 4)" in words.troubles(data)[0]
    assert words.incomplete(study()) == ""
    assert (
        words.incomplete(study() | {"study": study()["study"] | {"status": "budget"}}) == "its time budget was used up"
    )


def test_decimals_follow_the_precision_of_the_study() -> None:
    analysis = study()["analysis"]
    assert words.gain_decimals(analysis) == 3
    for arm in analysis["arms"]:
        for point in arm["curve"]:
            point["metric"] *= 1000
        for found in (*arm["budgets"], *arm["accuracy"]):
            found.update({end: None if found[end] is None else 1000 * found[end] for end in ("low", "high")})
    assert words.gain_decimals(analysis) == 0
    assert words.gain_decimals(None) == 0


def test_a_level_shows_at_least_one_digit_of_its_interval() -> None:
    point = {"metric": 0.7612, "low": 0.7602, "high": 0.7622}
    assert words.level(point, 3) == "0.761 ± 0.001"
    assert words.level(point, 2) == "0.76 ± 0.001"
    assert words.level(point | {"low": None, "high": None}, 2) == "0.76"


def test_time_ratio_is_time_for_the_same_steps() -> None:
    analysis = study()["analysis"]
    base, blur = analysis["arms"][0], analysis["arms"][1]
    assert words.time_ratio(analysis, base) == 1
    assert words.time_ratio(analysis, blur) == pytest.approx(blur["curve"][-1]["time"] / base["curve"][-1]["time"])
    assert words.time_ratio(analysis, blur | {"curve": []}) is None


def test_the_direction_of_a_metric_stands_in_its_title_where_lower_is_better() -> None:
    assert words.metric_title(study()) == "accuracy"  # type: ignore[arg-type]
    assert words.metric_title(study(minimize=True)) == "error (lower is better)"  # type: ignore[arg-type]
