from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.bench.report import theme

POSITIVE = st.floats(min_value=1e-3, max_value=1e5)


@given(POSITIVE, st.floats(min_value=1.01, max_value=1e6))
def test_time_ticks_lie_inside_and_apart(low: float, factor: float) -> None:
    domain = [low, low * factor]
    ticks = theme.log_ticks(theme._TIMES, domain, 6)
    assert ticks == sorted(set(ticks))
    assert len(ticks) <= 7
    if factor > 5 and domain[1] < 8e5:
        assert len(ticks) >= 3
    assert all(domain[0] <= tick <= domain[1] for tick in ticks)


def test_short_curves_get_finer_ticks() -> None:
    assert theme.log_ticks(theme._TIMES, [0.2, 0.7], 6) == pytest.approx([0.2, 0.3, 0.4, 0.5])
    assert theme.log_ticks(theme._TIMES, [0.9, 100], 6) == [1, 5, 20, 60]


def test_ratio_ticks_keep_one_and_prefer_round_factors() -> None:
    assert theme.log_ticks(theme._RATIOS, [0.7, 2.4], 7) == [0.8, 1.0, 1.25, 1.5, 2.0]
    assert theme.log_ticks(theme._RATIOS, [0.09, 11.0], 7) == [0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 10.0]


@given(st.lists(st.floats(-1e6, 1e6) | st.none(), max_size=8))
def test_the_hull_holds_every_known_value_with_room(values: list[float | None]) -> None:
    low, high = theme.hull(values, include=[0.0])
    assert low < high
    assert all(low <= value <= high for value in values if value is not None)


def test_a_logarithmic_hull_needs_positive_values_only() -> None:
    low, high = theme.log_hull([1.0, 10.0, None, -3.0], margin=0.1)
    assert (low, high) == pytest.approx((10**-0.1, 10**1.1))
    assert theme.log_hull([])[0] < 1 < theme.log_hull([])[1]


def test_thirty_arms_differ_in_colour_or_shape_and_the_baseline_is_grey() -> None:
    names = ["base", *map(str, range(30))]
    looks = list(zip(*theme.arm_scale(names), strict=True))
    assert len(set(looks)) == 31
    assert looks[0] == (theme.BASELINE, "circle")
    assert theme.arm_scale([]) == ([], [])


def luminance(color: str) -> float:
    parts = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(weight * p for weight, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("color", [theme.BASELINE, *theme.ARM_COLORS])
def test_arm_colours_show_on_light_and_dark_paper(color: str) -> None:
    for paper in ("#ffffff", "#14171a"):
        lighter, darker = sorted((luminance(color) + 0.05, luminance(paper) + 0.05), reverse=True)
        assert lighter / darker > 2, paper


def test_a_legend_entry_grows_with_its_label_up_to_the_limit() -> None:
    assert theme.entry_width(["ab"]) < theme.entry_width(["abcdef"]) < theme.entry_width(["a" * 99])
    assert theme.entry_width(["a" * 99]) == theme.entry_width(["a" * 999])
    assert math.isfinite(theme.entry_width([]))


@given(st.floats(1e-3, 1e18), st.floats(1.34, 1e5))
def test_an_axis_of_amounts_has_a_few_round_ticks_with_prefixes(low: float, factor: float) -> None:
    alt = theme.altair()
    found = theme.amount_axis(alt, "cost", [low, low * factor], "energy", "J").to_dict()
    ticks = found["axis"]["values"]
    assert 1 <= len(ticks) <= 6
    assert all(low <= tick <= low * factor for tick in ticks)
    assert found["axis"]["labelExpr"].endswith("+ 'J'")
    assert found["scale"]["type"] == "log"
